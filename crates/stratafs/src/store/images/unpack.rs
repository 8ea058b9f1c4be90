//! The layers of an image, unpacked several at a time.
//!
//! Layers are begun from the bottom up, and a layer waits only for those below it, so nothing waits for itself. The first
//! failure stops the others: who works sees it at the next entry, who waits is woken. What was not published goes with
//! its [`StagedLayer`](crate::store::StagedLayer); what was is a whole layer, for the next attempt or for gc.

use crate::oci::apply::{Applied, ApplyOptions, apply};
use crate::oci::compress::decode;
use crate::oci::source::LayerBlob;
use crate::oci::{Digest, Limits, Progress};
use crate::store::repair::{Standing, standing};
use crate::store::{LayerFacts, LayerKey, PinnedLayer, StagedLayer, Store, at};
use crate::{Config, DirLayer, DirScratch, Error, ErrorKind, Result, Stack, View};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often who waits looks whether the caller wants to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The view of the layers below one that is being unpacked.
pub(super) type Below = View<DirLayer, DirScratch>;

/// What unpacking needs to know of all layers.
pub(super) struct Unpacking<'a> {
    pub(super) store: &'a Store,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a dyn Progress,
    /// Layers at a time; `None` is as many as there are processors.
    pub(super) threads: Option<NonZero<usize>>,
    /// Whether layers that are stored already are verified.
    pub(super) verify: bool,
}

/// What the threads share.
struct Shared {
    next: usize,
    done: Vec<Option<Arc<PinnedLayer>>>,
    failed: Option<Error>,
}

struct Run<'a> {
    with: &'a Unpacking<'a>,
    blobs: &'a [LayerBlob],
    diff_ids: &'a [Digest],
    chain_ids: Vec<Digest>,
    shared: Mutex<Shared>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// Unpacks the layers `blobs`, the lowest first, whose archives are `diff_ids`; what is stored already is not read.
pub(super) fn unpack(
    with: &Unpacking<'_>,
    blobs: &[LayerBlob],
    diff_ids: &[Digest],
) -> Result<Vec<Arc<PinnedLayer>>> {
    let mut chain_ids: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain_ids.push(Digest::chain(chain_ids.last(), diff_id));
    }
    let shared = Shared { next: 0, done: vec![None; blobs.len()], failed: None };
    let run = Run {
        with,
        blobs,
        diff_ids,
        chain_ids,
        shared: Mutex::new(shared),
        changed: Condvar::new(),
        stopped: AtomicBool::new(false),
    };
    let threads = with.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    thread::scope(|scope| {
        let mut others = Vec::new();
        for _ in 1..threads.min(blobs.len()) {
            // With fewer threads it takes longer.
            let other = thread::Builder::new().name("strata-layer".into());
            others.extend(other.spawn_scoped(scope, || run.work()));
        }
        run.work();
        // One that died has said so; the rest is an error and no second death.
        others.into_iter().for_each(|other| drop(other.join()));
    });
    let shared = run.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = shared.failed {
        return Err(error);
    }
    shared.done.into_iter().map(|layer| layer.ok_or_else(died)).collect()
}

fn died() -> Error {
    Error::io(io::Error::other("a thread died"), "unpack")
}

/// Wakes those who wait for a layer whose maker dies.
struct Making<'a>(&'a Run<'a>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(died());
        }
    }
}

impl Run<'_> {
    /// Makes everybody stop.
    fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        self.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        loop {
            let i = {
                let mut shared = self.lock();
                if shared.failed.is_some() || shared.next == self.blobs.len() {
                    return;
                }
                shared.next += 1;
                shared.next - 1
            };
            let making = Making(self);
            let layer = self.layer(i);
            drop(making);
            match layer {
                Ok(layer) => {
                    if let Some(done) = self.lock().done.get_mut(i) {
                        *done = Some(Arc::new(layer));
                    }
                    self.changed.notify_all();
                }
                Err(e) => self.fail(e),
            }
        }
    }

    fn layer(&self, i: usize) -> Result<PinnedLayer> {
        let (Some(blob), Some(diff_id), Some(chain_id)) =
            (self.blobs.get(i), self.diff_ids.get(i), self.chain_ids.get(i))
        else {
            return Err(Error::new(ErrorKind::InvalidInput, "unpack").because("no such layer"));
        };
        // The same layer twice in one image is unpacked once.
        if let Some(same) = self.diff_ids.get(..i).and_then(|below| below.iter().position(|id| id == diff_id))
        {
            self.wait_for(same)?;
        }
        let what = diff_id.to_string();
        let mut note = None;
        for key in [LayerKey::Diff(*diff_id), LayerKey::Chain(*chain_id)] {
            match standing(self.with.store, key, diff_id, self.with.verify)? {
                Standing::Nothing => {}
                Standing::Usable(layer) => {
                    self.with.progress.begin(&what, Some(blob.size));
                    self.with.progress.finish(&what, Some("already there"));
                    return Ok(layer);
                }
                Standing::Damaged(_) => note = Some("was damaged, made anew"),
            }
        }
        let below = || self.below(i);
        let watch = Watch { progress: self.with.progress, stopped: &self.stopped };
        let staged = self.with.store.stage_layer()?;
        self.with.progress.begin(&what, Some(blob.size));
        let applied = read_blob(blob, &staged, &below, self.with.limits, &watch, &what)?;
        if applied.diff_id != *diff_id {
            let why = format!("the archive is {}, the image's configuration says {diff_id}", applied.diff_id);
            return Err(Error::new(ErrorKind::Corrupt, "unpack").in_layer(&blob.label).because(why));
        }
        let layer = publish(staged, &applied, *chain_id, self.with.verify)?;
        self.with.progress.finish(&what, note);
        Ok(layer)
    }

    /// Waits until the layer `i`, which was begun, is done.
    fn wait_for(&self, i: usize) -> Result<Arc<PinnedLayer>> {
        let mut shared = self.lock();
        loop {
            if let Some(Some(layer)) = shared.done.get(i) {
                return Ok(Arc::clone(layer));
            }
            if shared.failed.is_some() || self.with.progress.cancelled() {
                return Err(Error::new(ErrorKind::Io(stratafs_core::error::errno::EINTR), "unpack")
                    .because("a layer below failed, or it was cancelled"));
            }
            shared = self.changed.wait_timeout(shared, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The layers below the layer `i`, as one tree.
    fn below(&self, i: usize) -> Result<Option<Below>> {
        let mut layers = (0..i).rev().map(|j| self.wait_for(j)?.open()).collect::<Result<Vec<_>>>()?;
        if layers.is_empty() {
            return Ok(None);
        }
        layers.shrink_to_fit();
        View::new(Stack { layers, scratch: None }, Config::default()).map(Some)
    }
}

/// Unpacks one blob.
pub(super) fn read_blob(
    blob: &LayerBlob,
    staged: &StagedLayer,
    below: &dyn Fn() -> Result<Option<Below>>,
    limits: &Limits,
    progress: &dyn Progress,
    what: &str,
) -> Result<Applied> {
    let ended = AtomicBool::new(false);
    let input = Counted { inner: blob.open()?, progress, what, ended: &ended };
    let archive = decode(input, limits).map_err(|e| e.in_layer(&blob.label))?;
    let applied = apply_staged(archive, staged, below, limits, &blob.label, progress)?;
    // The end is where the digest is compared.
    if !ended.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Corrupt, "unpack")
            .in_layer(&blob.label)
            .because("the blob goes on after the archive"));
    }
    Ok(applied)
}

/// Unpacks an archive into a layer that is being made, frame and all.
pub(super) fn apply_staged(
    archive: impl Read + Send,
    staged: &StagedLayer,
    below: &dyn Fn() -> Result<Option<Below>>,
    limits: &Limits,
    label: &str,
    progress: &dyn Progress,
) -> Result<Applied> {
    let path = staged.frame_path();
    let frame = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let frame = BufWriter::with_capacity(1 << 16, frame.map_err(at(&path, "store layer"))?);
    let scratch = staged.scratch()?;
    let mut options = ApplyOptions::new(label);
    options.limits = limits.clone();
    options.frame = Some(Box::new(frame));
    options.escaped = Some(scratch.namespace().prefix());
    options.stashed = scratch.stashes_ownership();
    apply(archive, &scratch, below, options, progress)
}

/// Gives a layer its name: by its own content where it depends on nothing else. With `verify` one that has the name is
/// good only if it is what its frame says.
pub(super) fn publish(
    staged: StagedLayer,
    applied: &Applied,
    chain_id: Digest,
    verify: bool,
) -> Result<PinnedLayer> {
    let key = match applied.asked_below {
        false => LayerKey::Diff(applied.diff_id),
        true => LayerKey::Chain(chain_id),
    };
    let facts = LayerFacts {
        diff_id: applied.diff_id,
        bytes: applied.content_bytes,
        archive_bytes: applied.archive_bytes,
        entries: applied.entries,
        says_root: applied.says_root,
    };
    staged.publish_over(key, facts, verify)
}

/// Tells of what passes, and notes the end.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
    what: &'a str,
    ended: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match n {
            0 if !buf.is_empty() => self.ended.store(true, Ordering::Relaxed),
            n => self.progress.advance(self.what, n as u64),
        }
        Ok(n)
    }
}

/// A caller's progress that also ends when another layer failed.
struct Watch<'a> {
    progress: &'a dyn Progress,
    stopped: &'a AtomicBool,
}

impl Progress for Watch<'_> {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        self.progress.begin(what, bytes);
    }

    fn advance(&self, what: &str, bytes: u64) {
        self.progress.advance(what, bytes);
    }

    fn finish(&self, what: &str, note: Option<&str>) {
        self.progress.finish(what, note);
    }

    fn cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.progress.cancelled()
    }
}
