//! What went wrong in systems of this kind, each as a test that would have caught it: nothing of a layer or of a
//! caller leads outside.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rustix::fs::{CWD, FileType, Mode, RenameFlags as Host, mknodat, renameat_with};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stratafs_core::error::errno::*;
use stratafs_core::{
    Access, Caller, Config, Follow, Inode, Kind, Name, New, RenameFlags, Result, SetAttr, SetXattr, Stack,
    View, Want,
};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Namespace, Resolver, ScratchOptions};
use stratafs_testkit::view::{contents, entries, write};
use stratafs_tests::need;
use stratafs_tests::outside::{INSIDE, Place, SECRET, descriptors, in_time};

type Dirs = View<DirLayer, DirScratch>;
type Node = Inode<DirLayer, DirScratch>;

const WATCHDOG: Duration = Duration::from_secs(60);
const STACK: usize = 2 << 20;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn resolve(view: &Dirs, path: &str) -> Result<Node> {
    view.resolve(&view.root(), path.as_bytes(), Follow::Yes, &Caller::root())
}

fn mknod(path: impl AsRef<Path>, kind: FileType, device: u64) {
    mknodat(CWD, path.as_ref(), kind, Mode::from_raw_mode(0o666), device).unwrap();
}

/// Fails when what was read is from outside.
#[track_caller]
fn no_secret(bytes: &[u8]) {
    assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET), "something outside was read");
}

/// One question or change, chosen by its number, on a path that a symbolic link replaces now and then. What it
/// says does not matter; what it reads and where it writes does.
fn poke(view: &Dirs, n: usize) -> Result<()> {
    let caller = Caller::root();
    let root = view.root();
    let file = || view.resolve(&root, b"d/sub/f", Follow::Yes, &caller);
    let dir = || view.resolve(&root, b"d/sub", Follow::No, &caller);
    match n % 64 {
        0 => view.set_attr(&file()?, &SetAttr { mode: Some(0o640), ..SetAttr::default() }, &caller),
        1 => view.truncate(&file()?, 3, &caller),
        2 => view.make(&dir()?, name("made"), &New::file(0o600), &caller).map(drop),
        3 => view.unlink(&dir()?, name("f"), &caller),
        4 => view.rename(&dir()?, name("f"), &root, name("moved"), RenameFlags::empty(), &caller),
        5 => view.link(&file()?, &dir()?, name("linked"), &caller),
        6 => view.set_xattr(&file()?, b"user.x", b"1", SetXattr::Any, &caller),
        7 => write(&view.open(&file()?, Access::read_write(), &caller)?, 0, b"changed"),
        8 => view.make(&dir()?, name("dir"), &New::dir(0o700), &caller).map(drop),
        9 => view.rmdir(&dir()?, name("empty"), &caller),
        10 => view.tmpfile(&dir()?, 0o600, &caller).map(drop),
        11 => view.changes().map(drop),
        _ => match n % 8 {
            0 => file().and_then(|node| contents(view, &node)).map(|bytes| no_secret(&bytes)),
            1 => view.xattrs(&file()?).map(drop),
            2 => entries(view, &dir()?).map(drop),
            3 => view.attr(&dir()?).map(drop),
            4 => view.resolve_parent(&root, b"d/sub/f", &caller).map(drop),
            5 => {
                let link = view.resolve(&root, b"d/link", Follow::No, &caller)?;
                view.read_link(&link).map(|target| assert_eq!(target, b"target"))
            }
            6 => view.access(&file()?, Want::READ, &caller),
            _ => file().and_then(|node| view.xattr(&node, b"user.layer")).map(|value| {
                assert_ne!(value.as_deref(), Some(SECRET), "an attribute from outside");
            }),
        },
    }
}

/// docker cp CVE-2018-15664, runc CVE-2021-30465: a symbolic link was swapped in between the check of a path and
/// its use. Here a thread swaps a directory of the layer with a link to the tree outside, all the time.
fn symlink_swap(resolver: Resolver) {
    const ROUNDS: usize = 12;
    const POKES: usize = 15_000;
    let place = Place::new();
    for dir in ["layer/d/sub/empty", "layer/d/deep/er"] {
        fs::create_dir_all(place.at(dir)).unwrap();
    }
    fs::write(place.at("layer/d/sub/f"), INSIDE).unwrap();
    symlink("target", place.at("layer/d/link")).unwrap();
    symlink("../outside", place.at("layer/s")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut swaps, mut worked) = (0_usize, 0_usize);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, place.at("layer/d"), CWD, place.at("layer/s"), Host::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let poking = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..ROUNDS {
                let view = place.view(resolver, &format!("scratch{round}"));
                for n in 0..POKES {
                    // What is seldom done comes late, so that the layer is asked for most of the round.
                    let n = if n < POKES / 8 * 7 && n % 64 < 12 { n + 12 } else { n };
                    worked += usize::from(poke(&view, n).is_ok());
                    if n % 4 == 0 {
                        view.drop_caches();
                    }
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        swaps = swapping.join().unwrap();
        if let Err(panic) = poking {
            std::panic::resume_unwind(panic);
        }
    });
    place.assert_untouched();
    println!("containment: {} walks against {swaps} swaps, {worked} worked, {resolver:?}", ROUNDS * POKES);
    assert!(swaps > 1000 && worked > 1000, "both sides had their turn");
}

#[test]
fn cve_2018_15664_symlink_swapped_between_check_and_use_openat2() {
    symlink_swap(Resolver::Openat2);
}

#[test]
fn cve_2018_15664_symlink_swapped_between_check_and_use_step_by_step() {
    symlink_swap(Resolver::StepByStep);
}

/// The same from inside: a directory moves while others walk through it with `..`.
#[test]
fn directories_that_move_during_a_walk_lead_nowhere_else() {
    let place = Place::new();
    for dir in ["layer/a/b/c", "layer/x/y/z"] {
        fs::create_dir_all(place.at(dir)).unwrap();
    }
    fs::write(place.at("layer/secret"), INSIDE).unwrap();
    fs::write(place.at("secret"), SECRET).unwrap();
    let view = place.view(Resolver::Auto, "scratch");
    let stop = AtomicBool::new(false);
    let (mut read, mut moves) = (0, 0);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let (from, to) = (resolve(&view, "a").unwrap(), resolve(&view, "x/y").unwrap());
            let mut moves = 0;
            while !stop.load(Ordering::Relaxed) {
                let caller = Caller::root();
                view.rename(&from, name("b"), &to, name("b"), RenameFlags::empty(), &caller).unwrap();
                view.rename(&to, name("b"), &from, name("b"), RenameFlags::empty(), &caller).unwrap();
                moves += 2;
            }
            moves
        });
        for n in 0..30_000 {
            let path =
                ["a/b/c/../../../secret", "x/y/b/c/../../../../secret", "a/b/../../../../../secret"][n % 3];
            match resolve(&view, path) {
                Ok(node) => {
                    assert_eq!(contents(&view, &node).unwrap(), INSIDE);
                    read += 1;
                }
                Err(e) => assert!(matches!(e.errno(), ENOENT | ESTALE), "{path}: {e}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        moves = mover.join().unwrap();
    });
    println!("containment: {read} walks against {moves} moves");
    assert!(read > 100 && moves > 100, "both sides had their turn: {read} {moves}");
}

/// go-archive CVE-2026-17106, podman CVE-2025-11395: a path was checked as text and then resolved by the host.
/// Every change through a link to the outside happens inside or not at all.
#[test]
fn cve_2025_11395_changes_through_links_stay_inside() {
    let place = Place::new();
    let outside = place.outside();
    fs::create_dir(place.at("layer/real")).unwrap();
    fs::write(place.at("layer/real/f"), INSIDE).unwrap();
    symlink(&outside, place.at("layer/absolute")).unwrap();
    symlink("../outside", place.at("layer/relative")).unwrap();
    symlink("/../../../../../..", place.at("layer/up")).unwrap();
    symlink("absolute/sub", place.at("layer/twice")).unwrap();
    let view = place.view(Resolver::Auto, "scratch");
    let caller = Caller::root();
    let root = view.root();
    let inside = format!("up{}/f", outside.display());
    for path in ["absolute/f", "relative/f", "relative/../outside/f", "twice/f", inside.as_str()] {
        assert_eq!(resolve(&view, path).unwrap_err().errno(), ENOENT, "{path}");
        for made in [New::file(0o600), New::dir(0o700), New::symlink(b"x")] {
            let entry = view.resolve_parent(&root, path.as_bytes(), &caller);
            let done = entry.and_then(|at| view.make(&at.dir, at.name.as_name(), &made, &caller));
            assert_eq!(done.unwrap_err().errno(), ENOENT, "{path}");
        }
    }
    // With a directory of that name inside, that is where it goes.
    let entry = view.resolve_parent(&root, b"up/outside", &caller).unwrap();
    view.make(&entry.dir, entry.name.as_name(), &New::dir(0o700), &caller).unwrap();
    let entry = view.resolve_parent(&root, b"relative/f", &caller).unwrap();
    view.make(&entry.dir, entry.name.as_name(), &New::file(0o600), &caller).unwrap();
    let real = resolve(&view, "real/f").unwrap();
    view.link(&real, &entry.dir, name("linked"), &caller).unwrap();
    view.rename(&entry.dir, name("f"), &root, name("taken"), RenameFlags::empty(), &caller).unwrap();
    view.unlink(&entry.dir, name("linked"), &caller).unwrap();
    place.assert_untouched();
    assert!(place.at("scratch/upper/outside").exists());
}

/// runc CVE-2025-52881 and CVE-2024-21626: links of `/proc` that lead where no path leads. A layer's own
/// `proc/self/root` is a link like any other, and the host's is not reached.
#[test]
fn cve_2024_21626_magic_links_of_a_layer_are_plain_links() {
    let place = Place::new();
    fs::create_dir_all(place.at("layer/proc/self")).unwrap();
    fs::create_dir_all(place.at("layer/etc")).unwrap();
    fs::write(place.at("layer/etc/passwd"), INSIDE).unwrap();
    symlink("/", place.at("layer/proc/self/root")).unwrap();
    symlink("/proc/self/root/etc/passwd", place.at("layer/passwd")).unwrap();
    let here = fs::File::open(place.outside()).unwrap();
    let fd = format!("/proc/self/fd/{}/f", std::os::fd::AsRawFd::as_raw_fd(&here));
    symlink(&fd, place.at("layer/leak")).unwrap();
    symlink("/proc/self/cwd", place.at("layer/cwd")).unwrap();
    let view = place.view(Resolver::Auto, "scratch");
    assert_eq!(contents(&view, &resolve(&view, "passwd").unwrap()).unwrap(), INSIDE);
    for path in ["leak", "cwd", "proc/self/exe", fd.as_str()] {
        assert_eq!(resolve(&view, path).unwrap_err().errno(), ENOENT, "{path}");
    }
}

/// runc CVE-2026-41579 and its kin: a file of a fixed name was opened by path in a tree that somebody else had
/// filled. Every fixed name of a scratch is planted with everything that could stand there.
#[test]
fn cve_2026_41579_fixed_names_of_a_scratch_are_planted() {
    if !need::root() {
        return;
    }
    in_time(WATCHDOG, STACK, || {
        for fixed in [
            "work",
            "index",
            "work/incompat",
            "work/incompat/volatile",
            "work/incompat/volatile/dirty",
            "work/incompat/strata-redirect",
            "work/#0",
            "work/#1",
        ] {
            for what in ["link", "link to a file", "dangling", "fifo", "device", "file", "directory"] {
                for volatile in [false, true] {
                    planted(fixed, what, volatile);
                }
            }
        }
    });
}

fn plant(at: &Path, what: &str, outside: &Path) {
    match what {
        "link" => symlink(outside, at).unwrap(),
        "link to a file" => symlink(outside.join("f"), at).unwrap(),
        "dangling" => symlink(outside.join("none"), at).unwrap(),
        "fifo" => mknod(at, FileType::Fifo, 0),
        // /dev/zero.
        "device" => mknod(at, FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
        "file" => fs::write(at, b"planted").unwrap(),
        _ => fs::create_dir(at).unwrap(),
    }
}

fn planted(fixed: &str, what: &str, volatile: bool) {
    let place = Place::new();
    fs::create_dir(place.at("layer/d")).unwrap();
    fs::write(place.at("layer/d/f"), INSIDE).unwrap();
    let at = place.at("work").join(fixed);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    plant(&at, what, &place.outside());
    let options = ScratchOptions {
        namespace: Some(Namespace::User),
        volatile,
        accept_volatile: true,
        ..ScratchOptions::default()
    };
    let said = format!("{what} at {fixed}");
    match DirScratch::create(place.at("upper"), place.at("work"), &options) {
        Err(e) => {
            let text = e.to_string();
            assert!(text.contains(place.at("").to_str().unwrap()), "{said}: {text}");
        }
        Ok(scratch) => {
            let layer = DirLayer::open(place.at("layer"), &LayerOptions::default()).unwrap();
            let stack = Stack { layers: vec![layer], scratch: Some(scratch) };
            let view = View::new(stack, Config::default()).unwrap();
            let (caller, root) = (Caller::root(), view.root());
            let file = resolve(&view, "d/f").unwrap();
            // May fail, in the mark that it needs, but nowhere else.
            let _ = view.rename(&root, name("d"), &root, name("moved"), RenameFlags::empty(), &caller);
            let _ = view.open(&file, Access::read_write(), &caller);
            let _ = view.unlink(&root, name("moved"), &caller);
            view.make(&root, name("made"), &New::dir(0o700), &caller)
                .unwrap_or_else(|e| panic!("{said}: {e}"));
            drop((file, root));
            let scratch = view.into_scratch().unwrap().unwrap();
            let _ = scratch.close();
        }
    }
    place.assert_untouched();
}

/// The same while the scratch is open: names of the staging directory are taken before they are used.
#[test]
fn cve_2026_41579_staging_names_are_taken_by_others() {
    let place = Place::new();
    fs::create_dir_all(place.at("layer/d/e")).unwrap();
    let view = place.view(Resolver::Auto, "scratch");
    for n in 0..40 {
        let what = ["link", "dangling", "file", "directory", "fifo"][n % 5];
        plant(&place.at(&format!("scratch/work/work/#{n:x}")), what, &place.outside());
    }
    let (caller, root) = (Caller::root(), view.root());
    let d = resolve(&view, "d").unwrap();
    view.make(&d, name("dir"), &New::dir(0o700), &caller).unwrap();
    view.make(&d, name("link"), &New::symlink(b"x"), &caller).unwrap();
    view.make(&d, name("file"), &New::file(0o600), &caller).unwrap();
    view.rmdir(&d, name("e"), &caller).unwrap();
    view.make(&d, name("e"), &New::dir(0o700), &caller).unwrap();
    view.rename(&root, name("d"), &root, name("moved"), RenameFlags::empty(), &caller).unwrap();
    place.assert_untouched();
    drop((d, root, view));
    let view = place.view(Resolver::Auto, "scratch");
    let left = fs::read_dir(place.at("scratch/work/work")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| name == "incompat"), "leftovers go");
    assert_eq!(entries(&view, &resolve(&view, "moved").unwrap()).unwrap().len(), 4);
    place.assert_untouched();
}

/// runc CVE-2019-5736 and CVE-2024-21626: a descriptor reached a program that was started. Every one of ours is
/// closed by exec, during and between operations, and there are not more and more of them.
#[test]
fn cve_2019_5736_descriptors_are_closed_by_exec_and_bounded() {
    const DIRS: usize = 50;
    let place = Place::new();
    for n in 0..DIRS {
        fs::create_dir_all(place.at(&format!("layer/{n}/sub"))).unwrap();
        fs::write(place.at(&format!("layer/{n}/sub/f")), INSIDE).unwrap();
    }
    let layer = DirLayer::open(place.at("layer"), &LayerOptions { fd_limit: 16, ..LayerOptions::default() });
    let options = ScratchOptions { fd_limit: 16, ..ScratchOptions::default() };
    let scratch = DirScratch::create(place.at("upper"), place.at("work"), &options).unwrap();
    let stack = Stack { layers: vec![layer.unwrap()], scratch: Some(scratch) };
    let view = View::new(stack, Config::default()).unwrap();
    let caller = Caller::root();
    let work = |n: usize| {
        let sub = resolve(&view, &format!("{}/sub", n % DIRS)).unwrap();
        let file = resolve(&view, &format!("{}/sub/f", n % DIRS));
        let file = match file {
            Ok(file) => file,
            Err(_) => view.make(&sub, name("f"), &New::file(0o600), &caller).unwrap(),
        };
        let open = match n % 7 {
            0 => Some(view.open(&file, Access::read_write(), &caller).unwrap()),
            1 => Some(view.tmpfile(&sub, 0o600, &caller).unwrap()),
            2 => {
                view.rename(&sub, name("f"), &sub, name("g"), RenameFlags::empty(), &caller).unwrap();
                None
            }
            3 => {
                let held = view.open(&file, Access::read(), &caller).unwrap();
                view.unlink(&sub, name("f"), &caller).unwrap();
                Some(held)
            }
            4 => {
                view.set_attr(&file, &SetAttr { mode: Some(0o640), ..SetAttr::default() }, &caller).unwrap();
                None
            }
            5 => {
                entries(&view, &sub).unwrap();
                None
            }
            _ => Some(view.open(&file, Access::read(), &caller).unwrap()),
        };
        if n.is_multiple_of(97) || n < 20 {
            for (path, closed) in descriptors(&place.at("")) {
                assert!(closed, "{} stays open over exec", path.display());
            }
        }
        drop(open);
    };
    (0..2000).for_each(&work);
    let before = descriptors(&place.at("")).len();
    (2000..12_000).for_each(&work);
    let after = descriptors(&place.at("")).len();
    println!("containment: {before} descriptors after 2,000 operations, {after} after 12,000");
    assert!(after <= before.max(48), "{before} descriptors became {after}");
    drop(view);
    assert_eq!(descriptors(&place.at("")), []);
}

/// containers/storage CVE-2024-9676: opening what a layer's link led to waited for ever at a fifo of the host.
#[test]
fn cve_2024_9676_fifos_do_not_block() {
    in_time(WATCHDOG, STACK, || {
        let place = Place::new();
        mknod(place.at("fifo"), FileType::Fifo, 0);
        mknod(place.at("layer/pipe"), FileType::Fifo, 0);
        symlink("../fifo", place.at("layer/link")).unwrap();
        fs::write(place.at("layer/f"), INSIDE).unwrap();
        let view = place.view(Resolver::Auto, "scratch");
        assert_eq!(resolve(&view, "link").unwrap_err().errno(), ENOENT);
        let caller = Caller::root();
        let pipe = resolve(&view, "pipe").unwrap();
        assert_eq!(
            (pipe.kind(), view.open(&pipe, Access::read(), &caller).unwrap_err().errno()),
            (Kind::Fifo, ENXIO)
        );
        // A fifo takes the place of a file that was looked up.
        let file = resolve(&view, "f").unwrap();
        let devices = rustix::process::geteuid().is_root();
        for planted in ["fifo", "link", "directory", "device"] {
            if planted == "device" && !devices {
                continue;
            }
            let at = place.at("layer/f");
            fs::remove_file(&at).or_else(|_| fs::remove_dir(&at)).unwrap();
            plant(&at, planted, &place.outside());
            for access in [Access::read(), Access::read_write()] {
                let error = view.open(&file, access, &caller).err();
                assert!(error.is_some(), "{planted}: this was a file");
            }
        }
        place.assert_untouched();
    });
}
