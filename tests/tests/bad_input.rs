//! Bad input: each is a clear error that names the thing; nothing is half done, nothing outside is touched, and
//! nothing panics.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use stratafs_core::error::errno::*;
use stratafs_core::{Access, Caller, Config, Error, ErrorKind, Follow, Name, New, RenameFlags, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Resolver, ScratchOptions};
use stratafs_mem::{MemLayer, MemScratch};
use stratafs_testkit::op::{Mode as OpenAs, Op, RenameHow};
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::view::{contents, dump, entries, find, object, write};
use stratafs_testkit::{Dump, Path as TreePath, Subject};
use stratafs_tests::outside::{INSIDE, Place};
use stratafs_tests::{Mounted, cuts, need};

type Dirs = View<DirLayer, DirScratch>;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn open_layer(at: &Path) -> Result<DirLayer, Error> {
    DirLayer::open(at, &LayerOptions::default())
}

fn open_scratch(at: &Path) -> Result<DirScratch, Error> {
    DirScratch::create(at.join("upper"), at.join("work"), &ScratchOptions::default())
}

/// The error is of this kind and its text names the thing.
#[track_caller]
fn names<T: std::fmt::Debug>(done: Result<T, Error>, kind: ErrorKind, thing: &Path) {
    let error = done.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(thing.to_str().unwrap()), "{text} does not name {}", thing.display());
}

#[test]
fn a_layer_that_is_missing_or_no_directory() {
    let place = Place::new();
    names(open_layer(&place.at("none")), ErrorKind::NotFound, &place.at("none"));
    fs::write(place.at("file"), b"").unwrap();
    names(open_layer(&place.at("file")), ErrorKind::NotADirectory, &place.at("file"));
    names(open_layer(&place.at("file/below")), ErrorKind::NotADirectory, &place.at("file/below"));
    symlink("loop", place.at("loop")).unwrap();
    names(open_layer(&place.at("loop")), ErrorKind::Loop, &place.at("loop"));
    mknodat(CWD, place.at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    names(open_layer(&place.at("fifo")), ErrorKind::NotADirectory, &place.at("fifo"));
}

#[test]
fn a_scratch_that_is_missing_or_no_directory() {
    let place = Place::new();
    let (upper, work) = (place.at("upper"), place.at("work"));
    let open = || DirScratch::open(&upper, &work, &ScratchOptions::default());
    names(open(), ErrorKind::NotFound, &upper);
    fs::create_dir(&upper).unwrap();
    names(open(), ErrorKind::NotFound, &work);
    fs::write(&work, b"").unwrap();
    names(open(), ErrorKind::NotADirectory, &work);
    fs::remove_file(&work).unwrap();
    names(DirScratch::open(&upper, &upper, &ScratchOptions::default()), ErrorKind::InvalidInput, &upper);
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
}

#[test]
fn an_upper_that_another_container_uses() {
    let place = Place::new();
    let first = open_scratch(&place.at("a")).unwrap();
    names(open_scratch(&place.at("a")), ErrorKind::Busy, &place.at("a/upper"));
    let shared = DirScratch::create(place.at("b/upper"), place.at("a/work"), &ScratchOptions::default());
    names(shared, ErrorKind::Busy, &place.at("a/work"));
    drop(first);
    open_scratch(&place.at("a")).unwrap();
}

#[test]
fn an_upper_that_a_kernel_overlay_uses() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    for dir in ["upper", "work", "merged"] {
        fs::create_dir(place.at(dir)).unwrap();
    }
    let (upper, work) = (place.at("upper"), place.at("work"));
    let mounted = Mounted::overlay(&place.at("merged"), &[place.at("layer")], Some((&upper, &work)), "");
    let Ok(mounted) = mounted else { return need::skip("overlayfs") };
    names(open_scratch(&place.at("")), ErrorKind::Busy, &upper);
    mounted.unmount().unwrap();
    open_scratch(&place.at("")).unwrap();
}

#[test]
fn an_upper_on_a_file_system_that_does_not_suit() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    for dir in ["merged", "upper", "work", "fs"] {
        fs::create_dir(place.at(dir)).unwrap();
    }
    let upper = Some((place.at("upper"), place.at("work")));
    let upper = upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
    match Mounted::overlay(&place.at("merged"), &[place.at("layer")], upper, "") {
        Err(_) => need::skip("overlayfs"),
        Ok(mounted) => {
            names(open_scratch(&place.at("merged")), ErrorKind::Unsupported, &place.at("merged/upper"));
            mounted.unmount().unwrap();
        }
    }
    // Neither attributes nor devices.
    match Mounted::ramfs(&place.at("fs")) {
        Err(_) => need::skip("ramfs"),
        Ok(mounted) => {
            names(open_scratch(&place.at("fs")), ErrorKind::Unsupported, &place.at("fs/upper"));
            mounted.unmount().unwrap();
        }
    }
    let other = Mounted::tmpfs(&place.at("fs"), "").unwrap();
    let apart = DirScratch::create(place.at("upper"), place.at("fs/work"), &ScratchOptions::default());
    names(apart, ErrorKind::CrossDevice, &place.at("upper"));
    other.unmount().unwrap();
    place.assert_untouched();
}

fn set(at: &Path, mark: &str, value: &[u8]) {
    lsetxattr(at, format!("trusted.overlay.{mark}").as_str(), value, XattrFlags::empty()).unwrap();
}

/// Everything that can be read of a view, errors left aside: it must come to an end and not panic.
fn read_everything(view: &Dirs) -> (usize, Vec<Error>) {
    let (mut seen, mut errors) = (0, Vec::new());
    let mut dirs = vec![view.root()];
    while let Some(dir) = dirs.pop() {
        let listed = entries(view, &dir).unwrap_or_else(|e| {
            errors.push(e);
            Vec::new()
        });
        for (entry, ..) in listed {
            match view.lookup(&dir, Name::new(&entry).unwrap()) {
                Ok(Some(node)) => {
                    seen += 1;
                    errors.extend(object(view, &node).err());
                    if node.is_dir() && seen < 10_000 {
                        dirs.push(node);
                    }
                }
                Ok(None) => {}
                Err(e) => errors.push(e),
            }
        }
    }
    errors.extend(view.changes().err());
    (seen, errors)
}

/// A foreign or damaged upper: what is wrong is said where it is, and the rest can be read.
#[test]
fn a_damaged_upper() {
    if !need::root() {
        return;
    }
    type Damage = fn(&Path);
    let damages: [(&str, Option<i32>, Damage); 14] = [
        ("bad", Some(EUCLEAN), |at| set(at, "redirect", b"/../../etc")),
        ("bad", Some(EUCLEAN), |at| set(at, "redirect", b"a/b")),
        ("bad", None, |at| set(at, "redirect", b"/bad/bad/bad")),
        ("bad", None, |at| set(at, "redirect", b"bad")),
        ("bad", None, |at| {
            mknodat(CWD, at.join("sub"), FileType::CharacterDevice, Mode::empty(), makedev(1, 3)).unwrap();
        }),
        ("bad", None, |at| set(at, "opaque", b"neither")),
        ("bad", None, |at| set(at, "origin", &[0xff; 200])),
        ("bad/file", None, |at| set(at, "origin", b"short")),
        ("bad/file", Some(EUCLEAN), |at| set(at, "nlink", b"nonsense")),
        ("bad/file", None, |at| set(at, "nlink", b"U-99")),
        ("bad/file", Some(EUCLEAN), |at| set(at, "metacopy", b"")),
        ("bad/file", Some(EUCLEAN), |at| {
            set(at, "metacopy", b"");
            set(at, "redirect", b"/nowhere");
        }),
        ("bad/file", Some(EUCLEAN), |at| {
            set(at, "metacopy", b"");
            set(at, "redirect", b"/good");
        }),
        ("bad/file", None, |at| set(at, "metacopy", &[7; 3])),
    ];
    for (n, (at, code, damage)) in damages.iter().enumerate() {
        let place = Place::new();
        for dir in ["c/upper/bad", "c/upper/good", "layer/bad/sub", "layer/good"] {
            fs::create_dir_all(place.at(dir)).unwrap();
        }
        fs::write(place.at("c/upper/bad/file"), b"").unwrap();
        for file in ["layer/good/f", "c/upper/good/g", "layer/bad/f"] {
            fs::write(place.at(file), INSIDE).unwrap();
        }
        damage(&place.at("c/upper").join(at));
        let view = place.usual_view("c");
        let (seen, errors) = read_everything(&view);
        assert!((3..1000).contains(&seen), "damage {n}: {seen} objects seen");
        for error in &errors {
            let text = error.to_string();
            assert!(
                Some(error.errno()) == *code || matches!(error.errno(), EUCLEAN | ESTALE),
                "damage {n}: {text}"
            );
        }
        if code.is_some() {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let thing = at.rsplit('/').next().unwrap();
            assert!(text.iter().any(|text| text.contains(thing)), "damage {n} is named: {text:?}");
        }
        for file in ["good/f", "good/g"] {
            let node = find(&view, &TreePath::of(file)).unwrap();
            assert_eq!(contents(&view, &node).unwrap(), INSIDE, "damage {n}");
        }
        // Writing next to it works as well.
        let (caller, good) = (Caller::root(), find(&view, &TreePath::of("good")).unwrap());
        view.make(&good, name("new"), &New::file(0o600), &caller).unwrap();
        // Whatever these say, they come back.
        let root = view.root();
        let _ = view.rename(&root, name("bad"), &good, name("moved"), RenameFlags::empty(), &caller);
        for path in ["bad/file", "good/moved/file", "bad/sub"] {
            if let Ok(node) = find(&view, &TreePath::of(path)) {
                let _ = view.open(&node, Access::read_write(), &caller);
                let _ = view.truncate(&node, 1, &caller);
            }
        }
        let _ = view.rmdir(&good, name("moved"), &caller);
        let _ = view.unlink(&good, name("f"), &caller);
        drop((good, root, view));
        let view = place.usual_view("c");
        read_everything(&view);
        place.assert_untouched();
    }
}

/// A file that says its data is below, and no layer has it.
#[test]
fn metacopy_without_data_below() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    fs::create_dir_all(place.at("c/upper")).unwrap();
    fs::write(place.at("c/upper/orphan"), b"").unwrap();
    set(&place.at("c/upper/orphan"), "metacopy", b"");
    let view = place.usual_view("c");
    let node = find(&view, &TreePath::of("orphan")).unwrap();
    let caller = Caller::root();
    for access in [Access::read(), Access::read_write()] {
        let done = view.open(&node, access, &caller).and_then(|handle| handle.read_at(&mut [0; 4], 0));
        if let Err(e) = done {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
            assert!(e.to_string().contains("lower layer"), "{e}");
        } else {
            assert_eq!(view.attr(&node).unwrap().size, 0, "an empty file has all its data");
        }
    }
}

#[test]
fn names_and_paths_that_are_too_long() {
    let view: View<MemLayer, MemScratch> =
        View::new(Stack { layers: Vec::new(), scratch: Some(MemScratch::new()) }, Config::default()).unwrap();
    let (root, caller) = (view.root(), Caller::root());
    let resolve = |path: &[u8]| view.resolve(&root, path, Follow::Yes, &caller);
    let long = vec![b'n'; 256];
    let error = resolve(&long).unwrap_err();
    assert_eq!(error.errno(), ENAMETOOLONG);
    assert!(error.to_string().contains("nnnnnnnn"), "{error}");
    assert_eq!(view.resolve_parent(&root, &long, &caller).unwrap_err().errno(), ENAMETOOLONG);
    assert_eq!(resolve(&vec![b'n'; 255]).unwrap_err().errno(), ENOENT);
    let path = |len: usize| b"/.".repeat(len / 2);
    assert_eq!(resolve(&path(4094)).unwrap(), root);
    assert_eq!(resolve(&path(4096)).unwrap_err().errno(), ENAMETOOLONG);
    assert_eq!(resolve(&path(100_000)).unwrap_err().errno(), ENAMETOOLONG);
    assert_eq!(resolve(b"").unwrap_err().errno(), ENOENT);
    assert_eq!(resolve(b"a\0b").unwrap_err().errno(), EINVAL);
    let target = vec![b't'; 4096];
    let made = view.make(&root, name("link"), &New::symlink(&target), &caller);
    assert_eq!(made.unwrap_err().errno(), ENAMETOOLONG);
    assert_eq!(entries(&view, &root).unwrap(), []);
}

#[test]
fn stacks_that_make_no_sense() {
    let none: Stack<MemLayer, MemScratch> = Stack { layers: Vec::new(), scratch: None };
    assert_eq!(View::new(none, Config::default()).unwrap_err().errno(), EINVAL);
    let layer = MemLayer::builder().build().unwrap();
    for (count, good) in [(500, true), (501, false)] {
        let stack: Stack<_, MemScratch> = Stack { layers: vec![layer.clone(); count], scratch: None };
        assert_eq!(View::new(stack, Config::default()).is_ok(), good);
    }
}

/// Applies one operation on a scratch with so much room left, and again with a little more until it works; each
/// failure says that there is no room and leaves the tree as it was.
fn with_little_room(before: &[Op], op: &Op, options: &str, fill: &dyn Fn(&Path, usize)) -> usize {
    let place = Place::new();
    for (n, layer) in cuts::stack().layers.iter().enumerate() {
        let at = place.at(&format!("l{n}"));
        fs::create_dir(&at).unwrap();
        let root = fs::File::open(&at).unwrap();
        stratafs_testkit::host::materialise(layer, root, stratafs_testkit::host::Whiteouts::Trusted).unwrap();
    }
    fs::create_dir(place.at("c")).unwrap();
    let mut full = 0;
    for left in 0..40 {
        let tmpfs = Mounted::tmpfs(&place.at("c"), options).unwrap();
        let layers = [place.at("l0"), place.at("l1")];
        let scratch = place.at("c");
        let mut subject = ViewSubject::new(move || {
            let layers = layers.iter().map(|at| open_layer(at).unwrap()).collect();
            let stack = Stack { layers, scratch: Some(open_scratch(&scratch).unwrap()) };
            View::new(stack, Config::default()).unwrap()
        });
        for op in before {
            subject.apply(op).unwrap();
        }
        let old = subject.dump();
        let staged = |at: &Path| fs::read_dir(at.join("work/work")).map_or(0, Iterator::count);
        fill(&place.at("c"), left);
        let outcome = subject.apply(op);
        let what = format!("{op:?} after {before:?} with {left} left");
        match outcome {
            Ok(_) => {
                subject.close();
                drop(tmpfs);
                return full;
            }
            Err(code) => {
                assert_eq!(code, ENOSPC, "{what}");
                full += 1;
                same(&old, &dump(subject.view()).unwrap(), &what);
                assert!(staged(&place.at("c")) <= 1, "{what}: something is left in the work directory");
                // Room again: the same operation, on the same view.
                fs::remove_file(place.at("c/filling")).unwrap();
                fs::remove_dir_all(place.at("c/inodes")).unwrap();
                subject.apply(op).unwrap_or_else(|e| panic!("{what}: with room again: errno {e}"));
            }
        }
        subject.close();
        drop(tmpfs);
    }
    panic!("{op:?} after {before:?} never finds enough room");
}

#[track_caller]
fn same(old: &Dump, now: &Dump, what: &str) {
    assert!(now.diff_but(old, &cuts::same).is_none(), "{what}: half done\n{:?}", old.diff(now));
}

fn operations_without_failures() -> Vec<(Vec<Op>, Op)> {
    // Not those that must fail anyway, nor those that write into the file itself, where a part may be written.
    let writes = |op: &Op| matches!(op, Op::Write { .. } | Op::Append { .. });
    let mut model = stratafs_testkit::Model::from_stack(&cuts::stack());
    let works = |before: &[Op], op: &Op| {
        model = stratafs_testkit::Model::from_stack(&cuts::stack());
        before.iter().for_each(|op| drop(model.apply(op)));
        model.apply(op).is_ok()
    };
    let mut works = works;
    let mut cases = cuts::cases();
    cases.retain(|(before, op)| works(before, op) && !writes(op));
    let path = |text: &str| TreePath::of(text);
    cases.push((Vec::new(), Op::Open { slot: 0, path: path("sparse"), mode: OpenAs::Both }));
    let (from, to) = (path("d"), path("elsewhere"));
    cases.push((Vec::new(), Op::Rename { from, to, how: RenameHow::NoReplace }));
    cases
}

/// Fills a file system with one file but for so many pages, and makes inodes until there are only so many left.
fn fill(at: &Path, pages: usize, inodes: Option<usize>) {
    fs::create_dir_all(at.join("inodes")).unwrap();
    let space = rustix::fs::statvfs(at).unwrap();
    let bytes = (space.f_bavail * space.f_frsize).saturating_sub(pages as u64 * 4096);
    let filling = fs::File::create(at.join("filling")).unwrap();
    rustix::fs::fallocate(&filling, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1)).unwrap();
    if let Some(inodes) = inodes {
        while rustix::fs::statvfs(at).unwrap().f_favail > inodes as u64 {
            let n = rustix::fs::statvfs(at).unwrap().f_favail;
            fs::write(at.join("inodes").join(n.to_string()), b"").unwrap();
        }
    }
}

/// A full disk at any step of any operation: no inode, then one, and so on.
#[test]
fn a_disk_without_inodes() {
    if !need::root() {
        return;
    }
    let mut full = 0;
    for (before, op) in operations_without_failures() {
        let options = "mode=755,size=16m,nr_inodes=100";
        full += with_little_room(&before, &op, options, &|at, left| fill(at, 3000, Some(left)));
    }
    println!("bad input: {full} operations without inodes");
    assert!(full > 50, "it was full now and then: {full}");
}

#[test]
fn a_disk_without_blocks() {
    if !need::root() {
        return;
    }
    let mut full = 0;
    for (before, op) in operations_without_failures() {
        let options = "mode=755,size=16m,nr_inodes=1000";
        // Enough for the largest file in the end.
        full += with_little_room(&before, &op, options, &|at, left| fill(at, left * left, None));
    }
    println!("bad input: {full} operations without blocks");
    assert!(full > 5, "it was full now and then: {full}");
}

/// On a full disk lower versions stay visible, and names of the scratch's own objects can be removed.
#[test]
fn on_a_full_disk_what_is_there_can_be_read_and_removed() {
    if !need::root() {
        return;
    }
    let place = Place::new();
    fs::write(place.at("layer/f"), INSIDE).unwrap();
    fs::write(place.at("layer/gone"), INSIDE).unwrap();
    fs::create_dir(place.at("c")).unwrap();
    let tmpfs = Mounted::tmpfs(&place.at("c"), "mode=755,size=1m,nr_inodes=60").unwrap();
    let view = place.view(Resolver::Auto, "c");
    let (root, caller) = (view.root(), Caller::root());
    // The whiteout that others are linked from.
    view.unlink(&root, name("gone"), &caller).unwrap();
    let mine = view.make(&root, name("mine"), &New::file(0o600), &caller).unwrap();
    write(&view.open(&mine, Access::read_write(), &caller).unwrap(), 0, &[1; 8192]).unwrap();
    drop(mine);
    fill(&place.at("c"), 0, Some(0));
    let file = find(&view, &TreePath::of("f")).unwrap();
    let error = view.open(&file, Access::read_write(), &caller).unwrap_err();
    assert_eq!(error.errno(), ENOSPC);
    let text = error.to_string();
    assert!(text.contains(place.at("c/upper").to_str().unwrap()) || text.contains('f'), "{text}");
    assert_eq!(contents(&view, &file).unwrap(), INSIDE);
    view.unlink(&root, name("mine"), &caller).unwrap();
    let file_gone = view.unlink(&root, name("f"), &caller);
    assert!(file_gone.as_ref().map_or_else(|e| e.errno() == ENOSPC, |()| true), "{file_gone:?}");
    drop((file, root, view));
    tmpfs.unmount().unwrap();
    place.assert_untouched();
}
