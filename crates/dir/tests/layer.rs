//! [`DirLayer`]: what it reads, and what it refuses, with both resolvers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use rustix::fs::FileType;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use stratafs_core::{ErrorKind, Found, Kind, Layer, Name, NlinkBase, ReadAt, Redirect};
use stratafs_dir::{DirLayer, Formats, LayerOptions, Namespace, Resolver};
use tempfile::tempdir;

const RESOLVERS: [Resolver; 3] = [Resolver::Auto, Resolver::Openat2, Resolver::StepByStep];

fn open(path: &std::path::Path) -> DirLayer {
    DirLayer::open(path, &LayerOptions::default()).unwrap()
}

fn user() -> LayerOptions {
    LayerOptions { namespace: Namespace::User, ..LayerOptions::default() }
}

#[test]
fn reads_a_plain_tree() {
    let dir = tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/f"), b"hello").unwrap();
    fs::set_permissions(dir.path().join("a/b/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("../elsewhere", dir.path().join("a/l")).unwrap();
    mknod(dir.path().join("a/p"), FileType::Fifo, 0);
    for resolver in RESOLVERS {
        let layer = DirLayer::open(dir.path(), &LayerOptions { resolver, ..Default::default() }).unwrap();
        let f = hit(&layer, "a/b/f");
        assert_eq!((f.attr.kind, f.attr.mode, f.attr.size), (Kind::File, 0o4751, 5));
        assert!(f.attr.btime.is_some());
        assert_eq!(f.marks, stratafs_core::Marks::default());
        assert_eq!(layer.attr(&f.node).unwrap(), f.attr);
        assert_eq!(read(&layer, "a/b/f"), b"hello");
        assert_eq!(layer.read_link(&hit(&layer, "a/l").node).unwrap(), b"../elsewhere");
        assert!(is_absent(&layer, "a/b/none"));
        let listed = [("b", Kind::Dir), ("l", Kind::Symlink), ("p", Kind::Fifo)];
        assert_eq!(list(&layer, "a"), listed.map(|(n, k)| (n.to_string(), Some(k))));
        assert_eq!(layer.lookup(&f.node, name("x")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert!(layer.caps().xattrs && layer.caps().name_max == 255);
    }
}

#[test]
fn says_what_is_wrong_with_a_layer() {
    let dir = tempdir().unwrap();
    let missing = DirLayer::open(dir.path().join("none"), &LayerOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("none"), "{missing}");
    fs::write(dir.path().join("file"), b"").unwrap();
    let file = DirLayer::open(dir.path().join("file"), &LayerOptions::default()).unwrap_err();
    assert_eq!(file.kind(), ErrorKind::NotADirectory);
}

#[test]
fn planted_objects_are_never_opened_or_followed() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/x"), b"inside").unwrap();
    fs::write(&path, b"data").unwrap();
    let outside = tempdir().unwrap();
    fs::write(outside.path().join("x"), b"secret").unwrap();
    for resolver in RESOLVERS {
        let options = LayerOptions { resolver, fd_limit: 1, ..Default::default() };
        let layer = DirLayer::open(dir.path(), &options).unwrap();
        let node = hit(&layer, "f").node;
        let d = hit(&layer, "d").node;
        let replace = |make: &dyn Fn()| {
            fs::remove_file(&path).unwrap();
            make();
            assert_eq!(layer.open(&node).unwrap_err().kind(), ErrorKind::InvalidInput, "{resolver:?}");
        };
        replace(&|| mknod(&path, FileType::Fifo, 0));
        replace(&|| mknod(&path, FileType::Socket, 0));
        replace(&|| symlink(outside.path().join("x"), &path).unwrap());
        if is_root() {
            replace(&|| mknod(&path, FileType::CharacterDevice, rustix::fs::makedev(1, 5)));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(layer.open(&node).unwrap_err().kind(), ErrorKind::InvalidInput);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, b"data").unwrap();

        fs::rename(dir.path().join("d"), dir.path().join("d2")).unwrap();
        symlink(outside.path(), dir.path().join("d")).unwrap();
        assert_eq!(layer.lookup(&d, name("x")).unwrap_err().kind(), ErrorKind::Stale, "{resolver:?}");
        fs::remove_file(dir.path().join("d")).unwrap();
        fs::rename(dir.path().join("d2"), dir.path().join("d")).unwrap();
    }
}

#[test]
fn overlay_marks_and_whiteouts() {
    let dir = tempdir().unwrap();
    let p = |name: &str| dir.path().join(name);
    for d in ["opaque", "moved", "impure", "xdir", "plain"] {
        fs::create_dir(p(d)).unwrap();
    }
    set(p("opaque"), "user.overlay.opaque", b"y");
    set(p("moved"), "user.overlay.redirect", b"/old/place");
    set(p("impure"), "user.overlay.impure", b"y");
    set(p("xdir"), "user.overlay.opaque", b"x");
    for d in ["xdir", "plain"] {
        fs::write(p(&format!("{d}/gone")), b"").unwrap();
        set(p(&format!("{d}/gone")), "user.overlay.whiteout", b"");
        fs::write(p(&format!("{d}/full")), b"x").unwrap();
        set(p(&format!("{d}/full")), "user.overlay.whiteout", b"");
        whiteout(p(&format!("{d}/dev")));
    }
    fs::write(p("meta"), b"").unwrap();
    set(p("meta"), "user.overlay.metacopy", b"");
    set(p("meta"), "user.overlay.redirect", b"was");
    set(p("meta"), "user.overlay.nlink", b"U-1");
    set(p("meta"), "user.overlay.origin", b"");
    let layer = DirLayer::open(dir.path(), &user()).unwrap();
    assert!(hit(&layer, "opaque").marks.opaque);
    assert!(!hit(&layer, "xdir").marks.opaque);
    assert!(hit(&layer, "impure").marks.impure);
    assert_eq!(hit(&layer, "moved").marks.redirect, Some(Redirect::parse(b"/old/place").unwrap()));
    let meta = hit(&layer, "meta").marks;
    assert!(meta.metacopy && meta.origin.is_some_and(|o| o.is_unknown()));
    assert_eq!(meta.nlink, Some(NlinkBase::Upper(-1)));
    assert_eq!(
        layer.marks(&hit(&layer, "meta").node).unwrap().redirect,
        Some(Redirect::parse(b"was").unwrap())
    );
    for d in ["xdir", "plain"] {
        assert!(is_whiteout(&layer, &format!("{d}/gone")));
        assert!(is_whiteout(&layer, &format!("{d}/dev")));
        assert_eq!(hit(&layer, &format!("{d}/full")).attr.size, 1);
    }
    let kinds = |d| list(&layer, d).into_iter().map(|(n, k)| (n, k.is_some())).collect::<Vec<_>>();
    let want = |gone| vec![("dev".into(), false), ("full".into(), true), ("gone".into(), gone)];
    assert_eq!(kinds("xdir"), want(false));
    assert_eq!(kinds("plain"), want(true));
    for (attribute, value) in [("metacopy", &b"z"[..]), ("redirect", b"/../x"), ("nlink", b"?")] {
        fs::write(p("bad"), b"").unwrap();
        set(p("bad"), &format!("user.overlay.{attribute}"), value);
        let e = layer.lookup(&layer.root().unwrap().node, name("bad")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.to_string().contains("bad"), "{e}");
        fs::remove_file(p("bad")).unwrap();
    }
    let off = Formats { overlay: false, ..Formats::default() };
    let layer = DirLayer::open(dir.path(), &LayerOptions { formats: off, ..user() }).unwrap();
    assert!(!hit(&layer, "opaque").marks.opaque);
    assert_eq!(layer.xattrs(&hit(&layer, "opaque").node).unwrap(), [b"user.overlay.opaque"]);
    assert!(is_whiteout(&layer, "plain/dev"));
}

#[test]
fn own_attributes_are_hidden_and_escaped_ones_shown() {
    let dir = tempdir().unwrap();
    let f = dir.path().join("f");
    fs::write(&f, b"").unwrap();
    set(&f, "user.overlay.origin", b"");
    set(&f, "user.overlay.overlay.mine", b"1");
    set(&f, "user.x", b"2");
    set(&f, "user.big", &[7; 3000]);
    let layer = DirLayer::open(dir.path(), &user()).unwrap();
    let node = hit(&layer, "f").node;
    let mut names = layer.xattrs(&node).unwrap();
    names.sort();
    names.retain(|n| n.starts_with(b"user."));
    assert_eq!(names, [&b"user.big"[..], b"user.overlay.mine", b"user.x"]);
    assert_eq!(layer.xattr(&node, b"user.overlay.mine").unwrap().unwrap(), b"1");
    assert_eq!(layer.xattr(&node, b"user.overlay.origin").unwrap(), None);
    assert_eq!(layer.xattr(&node, b"user.big").unwrap().unwrap(), [7; 3000]);
    assert_eq!(layer.xattr(&node, b"user.none").unwrap(), None);
}

#[test]
fn wh_names_where_they_have_a_meaning() {
    let dir = tempdir().unwrap();
    let p = |name: &str| dir.path().join(name);
    fs::create_dir(p("d")).unwrap();
    let names =
        ["d/.wh..wh..opq", "d/.wh.a", "d/b", "d/.wh.b", "d/.wh.", "d/.wh..", "d/.wh...", "d/.wh..wh.plnk"];
    for n in names {
        fs::write(p(n), b"").unwrap();
    }
    let plain = open(dir.path());
    assert!(!hit(&plain, "d").marks.opaque);
    assert_eq!(list(&plain, "d").len(), names.len());
    for formats in
        [Formats { aufs: true, ..Formats::default() }, Formats { fuse_overlayfs: true, ..Formats::default() }]
    {
        let layer = DirLayer::open(dir.path(), &LayerOptions { formats, ..LayerOptions::default() }).unwrap();
        assert!(hit(&layer, "d").marks.opaque);
        assert!(is_whiteout(&layer, "d/a"));
        assert_eq!(hit(&layer, "d/b").attr.kind, Kind::File);
        for odd in [".wh.", ".wh..", ".wh...", ".wh.a", ".wh..wh..opq"] {
            assert!(is_absent(&layer, &format!("d/{odd}")), "{odd}");
        }
        assert_eq!(list(&layer, "d"), [("a".into(), None), ("b".into(), Some(Kind::File))]);
        let long = "x".repeat(255);
        assert!(is_absent(&layer, &long));
    }
}

#[test]
fn stored_ownership_is_believed_when_asked() {
    let dir = tempdir().unwrap();
    let (f, d) = (dir.path().join("f"), dir.path().join("dev"));
    fs::write(&f, b"x").unwrap();
    fs::write(&d, b"").unwrap();
    set(&f, "user.containers.override_stat", b"1000:1001:04755");
    set(&d, "user.containers.override_stat", b"0:6:0660:block-8-1");
    let options = LayerOptions { stashed_ownership: true, ..LayerOptions::default() };
    let layer = DirLayer::open(dir.path(), &options).unwrap();
    let node = hit(&layer, "f");
    assert_eq!((node.attr.uid, node.attr.gid, node.attr.mode), (1000, 1001, 0o4755));
    assert_eq!(layer.attr(&node.node).unwrap(), node.attr);
    assert!(!layer.xattrs(&node.node).unwrap().contains(&b"user.containers.override_stat".to_vec()));
    let device = hit(&layer, "dev").attr;
    assert_eq!((device.kind, device.rdev.major, device.rdev.minor), (Kind::Block, 8, 1));
    assert_eq!(list(&layer, "").first().unwrap(), &("dev".to_string(), Some(Kind::Block)));
    assert_eq!(hit(&open(dir.path()), "dev").attr.kind, Kind::File);
}

#[test]
fn twenty_thousand_directories_keep_few_descriptors() {
    let dir = fast_dir();
    for i in 0..200 {
        for j in 0..100 {
            fs::create_dir_all(dir.path().join(format!("{i}/{j}"))).unwrap();
        }
    }
    for resolver in RESOLVERS {
        let limit = 32;
        let options = LayerOptions { resolver, fd_limit: limit, ..Default::default() };
        let layer = DirLayer::open(dir.path(), &options).unwrap();
        let mut nodes = Vec::new();
        for i in 0..200 {
            for j in 0..100 {
                nodes.push(hit(&layer, &format!("{i}/{j}")).node);
                assert!(is_absent_in(&layer, nodes.last().unwrap()));
            }
        }
        // Other tests of this process hold some too.
        let held = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|e| fs::read_link(e.unwrap().path()).ok())
            .filter(|p| p.starts_with(dir.path()))
            .count();
        assert!(held <= limit + 2, "{held} descriptors");
        for node in nodes.iter().rev().step_by(97) {
            assert!(is_absent_in(&layer, node));
        }
    }
}

fn is_absent_in(layer: &DirLayer, node: &stratafs_dir::Node) -> bool {
    matches!(layer.lookup(node, name("none")).unwrap(), Found::Absent)
}

#[test]
fn a_very_deep_tree_needs_no_deep_stack() {
    const DEPTH: usize = 100_000;
    let dir = fast_dir();
    let root = dir.path().to_path_buf();
    let work = move || {
        use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat};
        let how = OFlags::PATH | OFlags::DIRECTORY;
        let mut at = openat(rustix::fs::CWD, &root, how, Mode::empty()).unwrap();
        for _ in 0..DEPTH {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", how, Mode::empty()).unwrap();
        }
        for resolver in [Resolver::Auto, Resolver::StepByStep] {
            let layer =
                DirLayer::open(&root, &LayerOptions { resolver, fd_limit: 4, ..Default::default() }).unwrap();
            let mut nodes = vec![layer.root().unwrap().node];
            for _ in 0..DEPTH {
                let Found::Node(hit) = layer.lookup(nodes.last().unwrap(), name("d")).unwrap() else {
                    panic!("not there")
                };
                nodes.push(hit.node);
            }
            let top = nodes[10].clone();
            assert!(matches!(layer.lookup(&top, name("d")).unwrap(), Found::Node(_)));
            let bottom = nodes.pop().unwrap();
            drop(nodes);
            assert!(is_absent_in(&layer, &bottom));
            let error = layer.lookup(&bottom, Name::new(&[b'n'; 255]).unwrap());
            assert!(matches!(error, Ok(Found::Absent)));
        }
        // Taken apart by hand from the bottom, since remove_dir_all is recursive.
        for _ in 0..DEPTH {
            let up = openat(&at, "..", how, Mode::empty()).unwrap();
            rustix::fs::unlinkat(&up, "d", AtFlags::REMOVEDIR).unwrap();
            at = up;
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap().join().unwrap();
}

#[test]
fn holes_are_seen() {
    let dir = tempdir().unwrap();
    let f = fs::File::create(dir.path().join("f")).unwrap();
    f.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&f, b"x", 1 << 20).unwrap();
    let layer = open(dir.path());
    let file = layer.open(&hit(&layer, "f").node).unwrap();
    assert_eq!(file.size().unwrap(), 3 << 20);
    let data = file.seek_data(0).unwrap().unwrap();
    assert!(data > 0 && data <= 1 << 20);
    assert!(file.seek_hole(data).unwrap().unwrap() < 3 << 20);
    assert_eq!(file.seek_data(2 << 20).unwrap(), None);
    assert_eq!(file.seek_hole(3 << 20).unwrap(), None);
}

#[test]
fn names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempdir().unwrap();
    let layer = open(dir.path());
    for bytes in [&b"\xff\xfe"[..], b"new\nline", b" ", b".wh.x", &[b'n'; 255]] {
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(bytes)), bytes).unwrap();
        let Found::Node(hit) = layer.lookup(&layer.root().unwrap().node, Name::new(bytes).unwrap()).unwrap()
        else {
            panic!("not found")
        };
        assert_eq!(read_all(&layer.open(&hit.node).unwrap()), bytes);
    }
}

#[test]
fn a_link_swapped_in_between_is_never_followed() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};
    let (dir, outside) = (tempdir().unwrap(), tempdir().unwrap());
    let p = |name: &str| dir.path().join(name);
    fs::create_dir_all(p("d/sub")).unwrap();
    fs::create_dir(p("other")).unwrap();
    fs::write(p("d/sub/f"), b"inside").unwrap();
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("sub/f"), b"secret").unwrap();
    symlink(outside.path(), p("s")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, p("d"), CWD, p("s"), RenameFlags::EXCHANGE).unwrap();
            }
        });
        let mut reads = 0;
        for resolver in RESOLVERS {
            let options = LayerOptions { resolver, fd_limit: 1, ..Default::default() };
            let layer = DirLayer::open(dir.path(), &options).unwrap();
            let root = layer.root().unwrap().node;
            let below = |node: &stratafs_dir::Node, n| match layer.lookup(node, name(n)) {
                Ok(Found::Node(hit)) => Some(hit.node),
                _ => None,
            };
            for _ in 0..20_000 {
                let sub = below(&root, "d").and_then(|d| below(&d, "sub"));
                // Takes the only descriptor, so that "sub" is reached anew.
                let _ = below(&root, "other").and_then(|other| below(&other, "none"));
                let Some(f) = sub.and_then(|sub| below(&sub, "f")) else { continue };
                if let Ok(file) = layer.open(&f) {
                    assert_eq!(read_all(&file), b"inside", "{resolver:?}");
                    reads += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reads > 0, "the race was never won");
    });
}
