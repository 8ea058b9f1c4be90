//! Layers: the builder, sealing, identity, and many threads at once.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::{at, errno, hit, is_whiteout, list, name, nlink, put, put_bytes, root, seed};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use stratafs_core::error::errno::{EEXIST, EINVAL, ENOENT, ENOTDIR, EROFS, EUCLEAN};
use stratafs_core::{
    At, Device, Found, Kind, Layer, Leave, Mark, Origin, Over, ReadAt, Redirect, Scratch, SetAttr, SetXattr,
    Time, WriteAt,
};
use stratafs_mem::{MemLayer, MemScratch, Options, PAGE};

#[test]
fn the_builder_makes_every_kind_of_entry() {
    let origin = Origin::new(*b"o");
    let time = Time { secs: 5, nanos: 6 };
    let layer = MemLayer::builder()
        .dir("", 0o700)
        .file("a/f", b"bytes")
        .dir("a", 0o711)
        .sparse("a/s", 4 * PAGE, &[(PAGE, b"x")])
        .symlink("l", "a/f")
        .hard_link("a/h", "a/f")
        .whiteout("a/w")
        .opaque("o/p")
        .dir("moved", 0o755)
        .redirect("moved", "/x/y")
        .metacopy("meta", 99)
        .origin("meta", &origin)
        .node("null", Kind::Char, Device { major: 1, minor: 3 })
        .xattr("a/f", "user.x", "1")
        .owner("a/f", 3, 4)
        .mode("a/f", 0o4755)
        .times("a", time)
        .build()
        .unwrap();
    let root = root(&layer);
    let a = hit(&layer, &root, "a");
    assert_eq!(
        (layer.attr(&root).unwrap().mode, a.attr.mode, a.attr.mtime, a.attr.atime),
        (0o700, 0o711, time, time)
    );
    let names: Vec<_> = list(&layer, &a.node).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["f", "h", "s", "w"]);
    let f = hit(&layer, &a.node, "f");
    assert_eq!((f.attr.mode, f.attr.uid, f.attr.gid, f.attr.nlink), (0o4755, 3, 4, 2));
    assert_eq!(layer.xattr(&f.node, b"user.x").unwrap().unwrap(), b"1");
    assert_eq!(hit(&layer, &a.node, "h").node, f.node);
    let s = hit(&layer, &a.node, "s");
    assert_eq!((s.attr.size, s.attr.blocks), (4 * PAGE, 8));
    assert_eq!(layer.open(&s.node).unwrap().seek_data(0).unwrap(), Some(PAGE));
    assert!(is_whiteout(&layer, &a.node, "w"));
    let o = hit(&layer, &root, "o");
    assert!(!o.marks.opaque && hit(&layer, &o.node, "p").marks.opaque);
    assert_eq!(hit(&layer, &root, "moved").marks.redirect, Some(Redirect::parse(b"/x/y").unwrap()));
    let meta = hit(&layer, &root, "meta");
    assert!(meta.marks.metacopy && meta.attr.size == 99 && meta.marks.origin == Some(origin));
    assert_eq!(hit(&layer, &root, "null").attr.rdev, Device { major: 1, minor: 3 });
    assert_eq!(layer.read_link(&hit(&layer, &root, "l").node).unwrap(), b"a/f");
}

#[test]
fn the_builder_reports_its_first_failure() {
    let b = MemLayer::builder;
    for (builder, wanted) in [
        (b().file("f", "").file("f", ""), EEXIST),
        (b().dir("d", 0o755).dir("d", 0o700), EEXIST),
        (b().file("f", "").dir("f", 0o755), EEXIST),
        (b().whiteout("w").file("w/x", ""), EEXIST),
        (b().file("f", "").file("f/x", ""), ENOTDIR),
        (b().mode("nothing", 0), ENOENT),
        (b().hard_link("l", "nothing"), ENOENT),
        (b().file("a//b", ""), EINVAL),
        (b().file("../b", ""), EINVAL),
        (b().file("", ""), EINVAL),
        (b().file("f", "").redirect("f", "../x"), EUCLEAN),
    ] {
        assert_eq!(builder.build().unwrap_err().errno(), wanted);
    }
    let error = b().mode("no", 0).file("f", "").file("f", "").build().unwrap_err();
    assert_eq!(error.path(), Some(&b"no"[..]));
}

#[test]
fn errors_name_operation_name_and_layer() {
    let s = Options::default().label("scratch of c1").scratch();
    put(&s, &root(&s), "f", Kind::File);
    let error = s.whiteout(at(&root(&s), "f")).unwrap_err();
    assert_eq!(error.to_string(), "whiteout \"f\" in scratch of c1: already exists");
}

#[test]
fn sealing_freezes_every_handle() {
    let s = MemScratch::new();
    let top = root(&s);
    let node = put_bytes(&s, &top, "f", b"x");
    let dir = put(&s, &top, "d", Kind::Dir);
    s.mark(&dir, Mark::Opaque).unwrap();
    s.whiteout(at(&top, "w")).unwrap();
    let (file, staged) = (s.open_write(&node).unwrap(), s.stage(&seed(Kind::File)).unwrap());
    let layer = s.clone().seal();
    assert_eq!(errno(file.write_at(b"y", 0)), EROFS);
    assert_eq!(errno(file.set_len(0)), EROFS);
    assert_eq!(errno(s.publish(staged, at(&top, "g"), Over::Nothing)), EROFS);
    assert_eq!(errno(s.stage(&seed(Kind::File)).map(drop)), EROFS);
    assert_eq!(errno(s.open_write(&node)), EROFS);
    assert_eq!(errno(s.remove(&node, at(&top, "f"), Leave::Nothing)), EROFS);
    assert_eq!(errno(s.whiteout(at(&top, "g"))), EROFS);
    assert_eq!(errno(s.set_attr(&node, &SetAttr { uid: Some(1), ..SetAttr::default() })), EROFS);
    assert_eq!(errno(s.set_xattr(&node, b"user.x", b"", SetXattr::Any)), EROFS);
    assert_eq!(errno(s.mark(&dir, Mark::Impure)), EROFS);
    assert_eq!(errno(s.drop_indexed(&Origin::new(*b"o"))), EROFS);

    assert!(is_whiteout(&layer, &root(&layer), "w"));
    assert!(hit(&layer, &root(&layer), "d").marks.opaque);
    let mut buf = [0; 2];
    assert_eq!(layer.open(&node).unwrap().read_at(&mut buf, 0).unwrap(), 1);
    assert_eq!(buf[0], b'x');
}

#[test]
fn another_handle_is_the_same_scratch() {
    let s = MemScratch::new();
    let again = s.clone();
    let node = put(&s, &root(&s), "f", Kind::File);
    drop(s);
    assert_eq!(hit(&again, &root(&again), "f").node, node);
}

#[test]
fn origins_name_objects_of_their_own_file_system_only() {
    let (s, other) = (MemScratch::new(), MemScratch::new());
    let node = put(&s, &root(&s), "f", Kind::File);
    let origin = s.origin(&node).unwrap();
    assert_eq!(s.locate(&origin), Some(s.attr(&node).unwrap().id));
    assert_eq!(other.locate(&origin), None);
    assert_ne!(s.attr(&root(&s)).unwrap().id.dev, other.attr(&root(&other)).unwrap().id.dev);
    let bytes = origin.as_bytes().to_vec();
    for cut in 0..bytes.len() {
        assert_eq!(s.locate(&Origin::new(&bytes[..cut])), None);
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        s.locate(&Origin::new(bytes))
    };
    assert_eq!(with(0, 0xfb), None, "another magic");
    assert_eq!(with(9, 0), None, "no object has number 0");
    assert_eq!(with(16, 1), None, "a number that was never given");
    assert_eq!(s.clone().seal().locate(&origin), s.locate(&origin));
}

#[test]
fn a_listing_can_stop_and_call_back() {
    let s = MemScratch::new();
    let top = root(&s);
    for text in ["c", "a", "b"] {
        put(&s, &top, text, Kind::File);
    }
    let mut seen = Vec::new();
    s.read_dir(&top, &mut |entry| {
        let Found::Node(found) = s.lookup(&top, entry.name).unwrap() else { panic!("listed but not there") };
        assert_eq!(found.attr.id.ino, entry.ino);
        s.remove(&found.node, At { dir: &top, name: entry.name }, Leave::Nothing).unwrap();
        seen.push(entry.name.to_buf());
        if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen.iter().map(|n| n.as_bytes()).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(list(&s, &top).len(), 1);
    let file = hit(&s, &top, "c").node;
    assert_eq!(errno(s.read_dir(&file, &mut |_| ControlFlow::Continue(()))), ENOTDIR);
    assert_eq!(errno(s.lookup(&file, name("x"))), ENOTDIR);
}

/// Two threads swap and move names while others read: a name that always exists is always found, and the
/// counts are right in the end.
#[test]
fn many_threads_see_whole_verbs() {
    const ROUNDS: usize = 3000;
    let s = MemScratch::new();
    let top = root(&s);
    let (a, b) = (put(&s, &top, "a", Kind::Dir), put(&s, &top, "b", Kind::Dir));
    let (x, y) = (put_bytes(&s, &a, "x", b"x"), put_bytes(&s, &b, "y", b"y"));
    let free = s.stat_fs().unwrap();
    let shared = Arc::new((s, a, b));
    thread::scope(|scope| {
        let (s, a, b) = &*shared;
        scope.spawn(|| {
            for i in 0..ROUNDS {
                let (n, m) = if i % 2 == 0 { (&x, &y) } else { (&y, &x) };
                s.exchange((n, at(a, "x")), (m, at(b, "y"))).unwrap();
            }
        });
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                let d = put(s, a, "d", Kind::Dir);
                s.rename(&d, at(a, "d"), at(b, "d"), Leave::Nothing, Over::Nothing).unwrap();
                s.remove(&d, at(b, "d"), Leave::Nothing).unwrap();
            }
        });
        scope.spawn(|| {
            for i in 0..ROUNDS {
                let file = s.open_write(if i % 2 == 0 { &x } else { &y }).unwrap();
                file.write_at(&[1; 100], PAGE).unwrap();
                file.set_len(1).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            let (x_hit, y_hit) = (hit(s, a, "x"), hit(s, b, "y"));
            assert_eq!((x_hit.attr.nlink, y_hit.attr.nlink), (1, 1));
            s.open(&x_hit.node).unwrap().read_at(&mut [0; 64], 0).unwrap();
        }
    });
    let (s, a, b) = &*shared;
    assert_eq!((nlink(s, a), nlink(s, b), nlink(s, &x), nlink(s, &y)), (2, 2, 1, 1));
    assert_eq!(s.stat_fs().unwrap(), free);
}
