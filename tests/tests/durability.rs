//! The promises about crashes, on file systems that lose their power at a random moment: `ordered` never shows an
//! empty or torn file, `strict` keeps what was acknowledged, fsync keeps data. A run without any of that must lose
//! something, or this test could not fail.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stratafs_core::{
    Access, Caller, Config, Durability, Name, New, RenameFlags, Result, SetAttr, SetXattr, Stack, Sync, View,
};
use stratafs_dir::{DirLayer, DirScratch, ScratchOptions};
use stratafs_testkit::rng::{Rng, Source};
use stratafs_testkit::view::{contents, find, write};
use stratafs_testkit::{Data, Path as TreePath};
use stratafs_tests::disk::Disk;
use stratafs_tests::need;

const FILES: usize = 160;
const ROUNDS: usize = 10;

type Dirs = View<DirLayer, DirScratch>;

/// File `n` of the layer: from one byte to a mebibyte.
fn old(n: usize) -> Data {
    Data::seeded(1 << (n * 7 % 21), n as u64)
}

fn new(n: usize) -> Data {
    Data::seeded(5000, !(n as u64))
}

/// A layer that is not on the disk that loses its power, so that data has to be copied.
fn layer() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for n in 0..FILES {
        std::fs::write(dir.path().join(format!("f{n}")), old(n).bytes()).unwrap();
    }
    dir
}

fn open(lower: &Path, at: &Path, durability: Durability) -> Dirs {
    let layer = DirLayer::open(lower, &stratafs_dir::LayerOptions::default()).unwrap();
    let scratch = DirScratch::create(at.join("upper"), at.join("work"), &ScratchOptions::default()).unwrap();
    let stack = Stack { layers: vec![layer], scratch: Some(scratch) };
    View::new(stack, Config { durability, ..Config::default() }).unwrap()
}

fn with_name<T>(name: &str, f: impl FnOnce(Name<'_>) -> Result<T>) -> Result<T> {
    f(Name::new(name.as_bytes())?)
}

/// What is done to a file; the number of the file decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    CopyUp,
    WriteAndSync,
    Replace,
    Chmod,
    Unlink,
    Rename,
    Create,
    Mkdir,
    SetXattr,
}

fn deed(n: usize, durability: Durability) -> Deed {
    let ordered = [Deed::CopyUp, Deed::WriteAndSync, Deed::CopyUp, Deed::Replace];
    let strict =
        [Deed::CopyUp, Deed::Chmod, Deed::Unlink, Deed::Rename, Deed::Create, Deed::Mkdir, Deed::SetXattr];
    match durability {
        Durability::Strict => strict[n % strict.len()],
        Durability::Ordered => ordered[n % ordered.len()],
        Durability::Volatile => Deed::CopyUp,
    }
}

fn act(view: &Dirs, n: usize, durability: Durability) -> Result<()> {
    let (root, caller) = (view.root(), Caller::root());
    let file = || find(view, &TreePath::of(format!("f{n}")));
    match deed(n, durability) {
        Deed::CopyUp => view.open(&file()?, Access::read_write(), &caller).map(drop),
        Deed::WriteAndSync => {
            let handle = view.open(&file()?, Access { truncate: true, ..Access::read_write() }, &caller)?;
            write(&handle, 0, &new(n).bytes())?;
            handle.sync(Sync::All)
        }
        Deed::Replace => {
            let made =
                with_name(&format!("t{n}"), |name| view.make(&root, name, &New::file(0o644), &caller))?;
            let handle = view.open(&made, Access::read_write(), &caller)?;
            write(&handle, 0, &new(n).bytes())?;
            handle.sync(Sync::All)?;
            let (from, to) = (format!("t{n}"), format!("f{n}"));
            let (from, to) = (Name::new(from.as_bytes())?, Name::new(to.as_bytes())?);
            view.rename(&root, from, &root, to, RenameFlags::empty(), &caller)
        }
        Deed::Chmod => {
            let set = SetAttr { mode: Some(0o611), ..SetAttr::default() };
            view.set_attr(&file()?, &set, &caller).map(drop)
        }
        Deed::Unlink => with_name(&format!("f{n}"), |name| view.unlink(&root, name, &caller)),
        Deed::Rename => {
            let (from, to) = (format!("f{n}"), format!("r{n}"));
            let (from, to) = (Name::new(from.as_bytes())?, Name::new(to.as_bytes())?);
            view.rename(&root, from, &root, to, RenameFlags::empty(), &caller)
        }
        Deed::Create => {
            with_name(&format!("c{n}"), |name| view.make(&root, name, &New::file(0o604), &caller)).map(drop)
        }
        Deed::Mkdir => {
            with_name(&format!("d{n}"), |name| view.make(&root, name, &New::dir(0o705), &caller)).map(drop)
        }
        Deed::SetXattr => view.set_xattr(&file()?, b"user.kept", b"1", SetXattr::Any, &caller),
    }
}

/// What a file holds; `None` when it is not there.
fn read(view: &Dirs, path: &str) -> Option<Vec<u8>> {
    let node = find(view, &TreePath::of(path)).ok()?;
    Some(contents(view, &node).unwrap_or_else(|e| panic!("{path}: {e}")))
}

/// Checks one file after the crash.
fn check(
    view: &Dirs,
    at: &Path,
    n: usize,
    durability: Durability,
    acknowledged: bool,
) -> std::result::Result<(), String> {
    let path = format!("f{n}");
    let is = |path: &str, data: &Data| read(view, path).is_some_and(|bytes| bytes == data.bytes());
    let node = |path: &str| find(view, &TreePath::of(path));
    let whole = is(&path, &old(n));
    let good = match (deed(n, durability), acknowledged) {
        (Deed::CopyUp, true) if durability == Durability::Strict => {
            whole && at.join("upper").join(&path).exists()
        }
        (Deed::CopyUp, _) => whole,
        (Deed::WriteAndSync, true) => is(&path, &new(n)),
        // Cut off in the midst of writing: the caller has not heard yet that it is safe.
        (Deed::WriteAndSync, false) => true,
        (Deed::Replace, _) => whole || is(&path, &new(n)),
        (Deed::Chmod, true) => whole && view.attr(&node(&path).unwrap()).unwrap().mode == 0o611,
        (Deed::Chmod | Deed::SetXattr, false) => whole,
        (Deed::Unlink, true) => node(&path).is_err(),
        (Deed::Unlink, false) => whole || node(&path).is_err(),
        (Deed::Rename, true) => node(&path).is_err() && is(&format!("r{n}"), &old(n)),
        (Deed::Rename, false) => whole != is(&format!("r{n}"), &old(n)),
        (Deed::Create | Deed::Mkdir, false) => true,
        (Deed::Create, true) => node(&format!("c{n}")).is_ok(),
        (Deed::Mkdir, true) => node(&format!("d{n}")).is_ok(),
        (Deed::SetXattr, true) => {
            whole && view.xattr(&node(&path).unwrap(), b"user.kept").unwrap() == Some(b"1".to_vec())
        }
    };
    let len = read(view, &path).map(|bytes| bytes.len());
    let said = || {
        format!(
            "{:?} of {path}: {len:?} bytes of {}, said done: {acknowledged}",
            deed(n, durability),
            old(n).len
        )
    };
    if good { Ok(()) } else { Err(said()) }
}

/// Works until the power goes, after about `pause`; returns what was acknowledged.
fn crash(disk: &Disk, lower: &Path, at: &Path, durability: Durability, pause: Duration) -> Vec<usize> {
    let view = open(lower, at, durability);
    disk.settle();
    let off = AtomicBool::new(false);
    let noise = std::fs::File::create(disk.path().join("noise")).unwrap();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (view, off) = (&view, &off);
                scope.spawn(move || {
                    let mine = (worker..FILES).step_by(2);
                    let done = |n: &usize| act(view, *n, durability).is_ok() && !off.load(Ordering::SeqCst);
                    mine.take_while(done).collect::<Vec<_>>()
                })
            })
            .collect();
        // Commits the journal again and again: names get to the disk before data that nobody synced.
        scope.spawn(|| {
            while !off.load(Ordering::SeqCst) && noise.sync_all().is_ok() {
                let _ = rustix::io::pwrite(&noise, b"x", 0);
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        std::thread::sleep(pause);
        off.store(true, Ordering::SeqCst);
        Disk::lose_power(&disk.path());
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Crashes again and again; returns files checked and what was wrong with some.
fn rounds(kind: &str, durability: Durability, rounds: usize, rng: &mut Rng) -> Option<(usize, Vec<String>)> {
    let mut disk = Disk::new(kind)?;
    let lower = layer();
    let (mut checked, mut wrong) = (0, Vec::new());
    for round in 0..rounds {
        let at: PathBuf = disk.path().join(format!("container{round}"));
        std::fs::create_dir(&at).unwrap();
        let pause = Duration::from_millis(20 + u64::from(rng.below(180)));
        let acknowledged = crash(&disk, lower.path(), &at, durability, pause);
        disk.restart();
        let view = open(lower.path(), &at, durability);
        for n in 0..FILES {
            let said = check(&view, &at, n, durability, acknowledged.contains(&n));
            wrong.extend(said.err().map(|e| format!("{kind}, round {round}, after {pause:?}: {e}")));
        }
        checked += acknowledged.len();
    }
    Some((checked, wrong))
}

fn promise(durability: Durability) {
    let seed = need::seed();
    let mut rng = Rng::new(seed);
    for kind in ["ext4", "xfs"] {
        let Some((acknowledged, wrong)) = rounds(kind, durability, ROUNDS, &mut rng) else { continue };
        println!(
            "durability: {kind} {durability:?}: {ROUNDS} crashes, {acknowledged} acknowledged, seed {seed}"
        );
        assert!(wrong.is_empty(), "seed {seed}: {} of {}: {wrong:#?}", wrong.len(), ROUNDS * FILES);
        assert!(acknowledged > ROUNDS, "the power went before anything was done");
    }
}

#[test]
fn ordered_shows_each_file_before_or_after() {
    promise(Durability::Ordered);
}

#[test]
fn strict_keeps_what_was_acknowledged() {
    promise(Durability::Strict);
}

/// The control: without syncs something is lost, so the tests above can fail.
#[test]
fn without_syncs_files_are_lost() {
    let mut rng = Rng::new(need::seed());
    let (mut ran, mut lost) = (false, 0);
    for kind in ["ext4", "xfs"] {
        let Some((_, wrong)) = rounds(kind, Durability::Volatile, 2, &mut rng) else { continue };
        println!("durability: {kind} without syncs: {} files lost or torn", wrong.len());
        ran = true;
        lost += wrong.len();
    }
    assert!(!ran || lost > 0, "nothing was lost without a sync: this machine's disks prove nothing");
}
