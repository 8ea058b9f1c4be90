//! Layers by content: `ROOT/layers/KEY/` holds `layer.json` (what is known of it), `tree` (a directory in the format
//! of the kernel's overlayfs) and `frame` (what its archive has besides the content of files, see
//! [`crate::oci`]).
//!
//! Invariants: a layer is complete and on disk before it has its name, and never changes afterwards, but that a damaged
//! one may be replaced as a whole (see `repair.rs`); whoever is about to refer to it holds a shared lock on its
//! `layer.json` (a pin) until the reference is written, and gc, which takes that lock exclusively, leaves it alone.

use super::lock::Locked;
use super::repair::{Standing, standing};
use super::{Building, Store, at, disk, file, gc, make_private, must_be_dir, sync_dir};
use crate::oci::Digest;
use crate::{
    DirLayer, DirScratch, Error, ErrorKind, LayerOptions, Namespace, Ownership, Result, ScratchOptions,
};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version of `layer.json` that is written; the only one that is read.
const VERSION: u32 = 1;
/// How often a layer may vanish or appear between two looks before that is an error.
const TRIES: usize = 100;

pub(super) const RECORD: &str = "layer.json";
const TREE: &str = "tree";
const FRAME: &str = "frame";
const WORK: &str = "work";

/// Under which name a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum LayerKey {
    /// By its diff id: it was unpacked without looking at the layers below, so every image that has it shares it.
    Diff(Digest),
    /// By its chain id: what it unpacked to depends on the layers below.
    Chain(Digest),
}

impl LayerKey {
    const DIFF: &str = "sha256-";
    const CHAIN: &str = "chain-";
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diff(digest) => write!(f, "{}{}", Self::DIFF, digest.hex()),
            Self::Chain(digest) => write!(f, "{}{}", Self::CHAIN, digest.hex()),
        }
    }
}

impl FromStr for LayerKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>();
        match (text.strip_prefix(Self::DIFF), text.strip_prefix(Self::CHAIN)) {
            (Some(hex), _) => digest(hex).map(Self::Diff),
            (None, Some(hex)) => digest(hex).map(Self::Chain),
            (None, None) => Err(Error::new(ErrorKind::InvalidInput, "read layer key")
                .about(text)
                .because("sha256- or chain- and 64 hexadecimal digits are needed")),
        }
    }
}

impl TryFrom<String> for LayerKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<LayerKey> for String {
    fn from(key: LayerKey) -> Self {
        key.to_string()
    }
}

/// What unpacking a layer found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFacts {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// Bytes of the content of regular files.
    pub bytes: u64,
    /// Bytes of the archive, uncompressed.
    pub archive_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// The archive says what its root directory is like. Where it does not, the root of `tree` has no meaning.
    pub says_root: bool,
}

/// What is known of a stored layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// What unpacking it found out.
    pub facts: LayerFacts,
    /// Under which prefix `tree` keeps overlayfs's attributes.
    pub namespace: Namespace,
    /// Owners are stored in attributes, not applied.
    pub stashed: bool,
    /// When it was stored, in whole seconds.
    pub created: SystemTime,
    /// Bytes that it takes on disk, hard links once.
    pub allocated: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    diff_id: Digest,
    bytes: u64,
    archive_bytes: u64,
    entries: u64,
    says_root: bool,
    trusted: bool,
    stashed: bool,
    /// Seconds since 1970 UTC.
    created: u64,
    allocated: u64,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl LayerRecord {
    pub(super) fn parse(text: &[u8], path: &Path) -> Result<Self> {
        const OPERATION: &str = "read layer";
        let corrupt = |why: String| file::corrupt(path, OPERATION, why);
        let not_one = |e: serde_json::Error| corrupt(format!("not the record of a layer: {e}"));
        let Version { version } = serde_json::from_slice(text).map_err(not_one)?;
        if version != VERSION {
            return Err(corrupt(format!("format version {version}, this program reads {VERSION}")));
        }
        let stored: Stored = serde_json::from_slice(text).map_err(not_one)?;
        let created = UNIX_EPOCH
            .checked_add(Duration::from_secs(stored.created))
            .ok_or_else(|| corrupt("the time of creation is out of range".into()))?;
        Ok(Self {
            facts: LayerFacts {
                diff_id: stored.diff_id,
                bytes: stored.bytes,
                archive_bytes: stored.archive_bytes,
                entries: stored.entries,
                says_root: stored.says_root,
            },
            namespace: if stored.trusted { Namespace::Trusted } else { Namespace::User },
            stashed: stored.stashed,
            created,
            allocated: stored.allocated,
        })
    }

    fn text(&self) -> Result<Vec<u8>> {
        let LayerFacts { diff_id, bytes, archive_bytes, entries, says_root } = self.facts;
        let stored = Stored {
            version: VERSION,
            diff_id,
            bytes,
            archive_bytes,
            entries,
            says_root,
            trusted: self.namespace == Namespace::Trusted,
            stashed: self.stashed,
            created: self.created.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            allocated: self.allocated,
        };
        let mut text = serde_json::to_vec_pretty(&stored).map_err(|e| Error::io(e.into(), "write layer"))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// A complete layer that gc leaves alone while this lives.
#[derive(Debug)]
pub struct PinnedLayer {
    key: LayerKey,
    pub(super) dir: PathBuf,
    pub(super) record: LayerRecord,
    pub(super) lock: Locked,
}

impl PinnedLayer {
    /// Under which name it is stored.
    #[must_use]
    pub fn key(&self) -> LayerKey {
        self.key
    }

    /// What is known of it.
    #[must_use]
    pub fn record(&self) -> &LayerRecord {
        &self.record
    }

    /// The directory that is the layer.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.dir.join(TREE)
    }

    /// What its archive has besides the content of files.
    #[must_use]
    pub fn frame(&self) -> PathBuf {
        self.dir.join(FRAME)
    }

    /// Opens its frame for reading.
    ///
    /// # Errors
    /// `Corrupt` when it is missing or no file.
    pub fn open_frame(&self) -> Result<File> {
        let path = self.frame();
        file::open(&path, "read layer")?
            .ok_or_else(|| file::corrupt(&path, "read layer", "the file is missing"))
    }

    /// Opens it as a layer of a stack.
    ///
    /// # Errors
    /// What the host says of its directory.
    pub fn open(&self) -> Result<DirLayer> {
        let options = LayerOptions {
            namespace: self.record.namespace,
            stashed_ownership: self.record.stashed,
            ..LayerOptions::default()
        };
        DirLayer::open(self.tree(), &options)
    }
}

/// A layer that is being made: nobody sees it, and it goes when this is dropped.
#[derive(Debug)]
pub struct StagedLayer {
    pub(super) building: Building,
    pub(super) store: Store,
}

impl StagedLayer {
    /// Opens what becomes the layer's tree, for writing; drop it before [`StagedLayer::publish`].
    ///
    /// # Errors
    /// What the host says of the directory; `Busy` when it is open already.
    pub fn scratch(&self) -> Result<DirScratch> {
        DirScratch::open(self.path(TREE), self.path(WORK), &staging_options())
    }

    /// Where its frame has to be written. Nothing is there yet.
    #[must_use]
    pub fn frame_path(&self) -> PathBuf {
        self.path(FRAME)
    }

    /// Makes everything durable and gives the layer its name. When another process was faster, that one's is given
    /// and this one goes, unless that one cannot be used: then this one takes its place.
    ///
    /// # Errors
    /// `InvalidInput` when no frame was written; what the host says. Nothing is left of it then.
    pub fn publish(self, key: LayerKey, facts: LayerFacts) -> Result<PinnedLayer> {
        self.publish_over(key, facts, false)
    }

    /// As [`StagedLayer::publish`]; with `verify` one that is stored already is good only if it is what its frame says.
    pub(super) fn publish_over(self, key: LayerKey, facts: LayerFacts, verify: bool) -> Result<PinnedLayer> {
        let (tree, frame) = (self.path(TREE), self.path(FRAME));
        let scratch = self.scratch()?;
        let (namespace, stashed) = (scratch.namespace(), scratch.stashes_ownership());
        drop(scratch);
        super::discard(&self.path(WORK))?;
        if !fs::symlink_metadata(&frame).is_ok_and(|meta| meta.is_file()) {
            return Err(Error::new(ErrorKind::InvalidInput, "store layer")
                .about(frame.as_os_str().as_bytes())
                .because("a layer needs its frame"));
        }
        // One sync for all of it: before the name, or a crash could leave a complete name and empty files.
        let root = File::open(&tree).map_err(at(&tree, "sync layer"))?;
        let measure = || disk::allocated([tree.as_path(), frame.as_path()]);
        let allocated = thread::scope(|scope| {
            // Meanwhile: while the disk works, the inodes are in memory.
            let measured = thread::Builder::new().name("strata-measure".into()).spawn_scoped(scope, measure);
            rustix::fs::syncfs(&root).map_err(|e| at(&tree, "sync layer")(e.into()))?;
            let measured = measured.ok().and_then(|measured| measured.join().ok());
            measured.unwrap_or_else(measure)
        })?;
        let record = LayerRecord { facts, namespace, stashed, created: super::now(), allocated };
        let path = self.path(RECORD);
        file::write_new(&path, &record.text()?)?;
        sync_dir(&self.building.0)?;
        // From its first moment on it is pinned.
        let lock = File::open(&path).map_err(at(&path, "lock layer"))?;
        lock.lock_shared().map_err(at(&path, "lock layer"))?;
        let mut pinned =
            PinnedLayer { key, dir: self.store.layers().join(key.to_string()), record, lock: Locked(lock) };
        for _ in 0..TRIES {
            let (from, to) = (&self.building.0, &pinned.dir);
            match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    sync_dir(&self.store.layers())?;
                    return Ok(pinned);
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(at(&pinned.dir, "store layer")(e.into())),
            }
            match standing(&self.store, key, &pinned.record.facts.diff_id, verify)? {
                Standing::Nothing => {}
                Standing::Usable(other) => return Ok(other),
                Standing::Damaged(which) => {
                    if self.replace(&mut pinned, which)? {
                        self.building.leave();
                        sync_dir(&self.store.layers())?;
                        return Ok(pinned);
                    }
                }
            }
        }
        Err(unsteady(&pinned.dir))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.building.0.join(name)
    }
}

/// How a tree is opened that becomes a layer: it needs no marks but opaque, and no index.
fn staging_options() -> ScratchOptions {
    ScratchOptions {
        redirect: false,
        metacopy: Some(false),
        index: false,
        ownership: Ownership::Auto,
        ..ScratchOptions::default()
    }
}

fn unsteady(dir: &Path) -> Error {
    Error::new(ErrorKind::Busy, "open layer")
        .about(dir.as_os_str().as_bytes())
        .because("other processes make and remove it again and again")
}

/// Pins the layer `key` of the directory `layers`.
fn pin(layers: &Path, key: LayerKey) -> Result<Option<PinnedLayer>> {
    const OPERATION: &str = "open layer";
    let dir = layers.join(key.to_string());
    let path = dir.join(RECORD);
    for _ in 0..TRIES {
        match fs::symlink_metadata(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(at(&dir, OPERATION)(e)),
            Ok(_) => must_be_dir(&dir)?,
        }
        let Some(lock) = file::open(&path, OPERATION)? else {
            if dir.exists() {
                return Err(file::corrupt(&path, OPERATION, "the file is missing"));
            }
            continue;
        };
        // gc holds it exclusively for as long as a rename takes.
        lock.lock_shared().map_err(at(&path, OPERATION))?;
        let lock = Locked(lock);
        let held = lock.0.metadata().map_err(at(&path, OPERATION))?;
        match fs::symlink_metadata(&path) {
            Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {}
            _ => continue,
        }
        let record = LayerRecord::parse(&file::content(&lock.0, &path, OPERATION)?, &path)?;
        must_be_dir(&dir.join(TREE))?;
        return Ok(Some(PinnedLayer { key, dir, record, lock }));
    }
    Err(unsteady(&dir))
}

/// Holds the layer at `dir` as a pin does, good or damaged, as far as it can be held.
pub(super) fn hold(dir: &Path) -> Option<Locked> {
    let lock = file::open(&dir.join(RECORD), "open layer").ok()??;
    lock.lock_shared().ok()?;
    Some(Locked(lock))
}

/// True while somebody holds the layer at `dir`, or may hold it.
pub(super) fn is_held(dir: &Path) -> bool {
    let lock = match file::open(&dir.join(RECORD), "open layer") {
        Ok(Some(lock)) => Locked(lock),
        Ok(None) => return false,
        Err(e) => return !gc::is_no_record(e.kind()),
    };
    !matches!(lock.0.try_lock(), Ok(()))
}

impl Store {
    /// The layer `key`, if it is stored, kept from gc while the answer lives.
    ///
    /// # Errors
    /// `Corrupt` when it is there and damaged, naming the file; what the host says.
    pub fn pin_layer(&self, key: &LayerKey) -> Result<Option<PinnedLayer>> {
        pin(&self.layers(), *key)
    }

    /// Begins a layer, in a place of its own that nobody sees.
    ///
    /// # Errors
    /// What the host says.
    pub fn stage_layer(&self) -> Result<StagedLayer> {
        let building = Building::new(&self.trash())?;
        let tree = building.0.join(TREE);
        // What a root is like that nobody described.
        DirBuilder::new().mode(0o755).create(&tree).map_err(at(&tree, "create"))?;
        make_private(&building.0.join(WORK))?;
        Ok(StagedLayer { building, store: self.clone() })
    }

    /// The directory that is the layer `key`, whether it is there or not.
    #[must_use]
    pub fn layer_tree(&self, key: &LayerKey) -> PathBuf {
        tree(&self.root, key)
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }
}

/// The directory that is the layer `key` of the store at `root`.
pub(super) fn tree(root: &Path, key: &LayerKey) -> PathBuf {
    root.join("layers").join(key.to_string()).join(TREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_of_directories_and_read_back() {
        let digest = Digest::of(b"x");
        for key in [LayerKey::Diff(digest), LayerKey::Chain(digest)] {
            assert_eq!(key.to_string().parse::<LayerKey>().unwrap(), key);
            assert!(!key.to_string().contains(['/', ':']));
        }
        for bad in ["", "sha256-", "chain-00", "..", &digest.to_string(), "md5-00"] {
            assert!(bad.parse::<LayerKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_reads_back_and_another_version_is_refused_by_name() {
        let record = LayerRecord {
            facts: LayerFacts {
                diff_id: Digest::of(b"x"),
                bytes: 1,
                archive_bytes: 2,
                entries: 3,
                says_root: true,
            },
            namespace: Namespace::User,
            stashed: true,
            created: UNIX_EPOCH + Duration::from_secs(7),
            allocated: 4096,
        };
        let text = record.text().unwrap();
        assert_eq!(LayerRecord::parse(&text, Path::new("x")).unwrap(), record);
        let other = String::from_utf8(text).unwrap().replace("\"version\": 1", "\"version\": 9");
        let e = LayerRecord::parse(other.as_bytes(), Path::new("x")).unwrap_err();
        assert!(e.to_string().contains("version 9"), "{e}");
    }
}
