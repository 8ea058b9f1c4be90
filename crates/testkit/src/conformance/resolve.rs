//! Paths: symbolic links, `..`, slashes, and the root that nothing leaves.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{errno, name};
use super::{Bed, open_world};
use crate::spec::TreeSpec;
use stratafs_core::error::errno::*;
use stratafs_core::{Caller, Follow, Kind};

pub fn links_are_followed_inside<B: Bed>() {
    let w = open_world!(
        B,
        [
            TreeSpec::new()
                .symlink("abs", "/d/sub")
                .symlink("d", "real")
                .dir("d2")
                .symlink("d2/up", "../real/f"),
            TreeSpec::new().dir("real").file("real/f", "x").dir("real/sub").file("real/sub/g", "y").dir("d"),
        ]
    );
    for (path, target) in [
        ("abs/g", "real/sub/g"),
        ("/abs/../f", "real/f"),
        ("d/f", "real/f"),
        ("d2/up", "real/f"),
        ("./d//sub/./g", "real/sub/g"),
        ("d/", "real"),
        ("/", "/"),
        ("d2/..", "/"),
        ("abs/..", "real"),
    ] {
        assert_eq!(w.resolve(path).unwrap(), w.node(target), "{path}");
    }
    let base = w.node("real/sub");
    let from = |path: &str| w.view().resolve(&base, path.as_bytes(), Follow::Yes, &Caller::root()).unwrap();
    assert_eq!(
        (from("g"), from("../f"), from("/d2")),
        (w.node("real/sub/g"), w.node("real/f"), w.node("d2"))
    );
}

pub fn nothing_leaves_the_root<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new()
            .dir("d")
            .file("d/passwd", "inside")
            .dir("etc")
            .file("etc/passwd", "ours")
            .symlink("d/out", "../../../../../etc/passwd")
            .symlink("d/abs", "/etc/passwd")
            .symlink("d/proc", "/proc/self/root/etc/passwd")]
    );
    for path in ["../../etc/passwd", "d/out", "d/abs", "d/../../../etc/passwd", "/../etc/passwd"] {
        assert_eq!(w.resolve(path).unwrap(), w.node("etc/passwd"), "{path}");
    }
    assert_eq!(errno(w.resolve("d/proc")), ENOENT);
}

pub fn link_loops_end<B: Bed>() {
    let mut tree =
        TreeSpec::new().symlink("self", "self").symlink("a", "b").symlink("b", "a").file("end", "");
    for n in 0..60 {
        tree = tree.symlink(format!("l{n}"), if n == 0 { "end".into() } else { format!("l{}", n - 1) });
    }
    let w = open_world!(B, [tree.symlink("x", "x/x")]);
    for path in ["self", "a", "a/b", "x", "l59"] {
        assert_eq!(errno(w.resolve(path)), ELOOP, "{path}");
    }
    assert_eq!(w.resolve("l39").unwrap(), w.node("end"), "40 links are allowed, as on Linux");
    assert_eq!(errno(w.resolve("l40")), ELOOP);
}

pub fn last_links_and_slashes<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new()
            .dir("d")
            .file("f", "x")
            .symlink("s", "f")
            .symlink("t", "d")
            .symlink("dangling", "no")]
    );
    let view = w.view();
    let kind = |path: &str, follow| {
        view.resolve(&view.root(), path.as_bytes(), follow, &Caller::root())
            .map(|n| n.kind())
            .map_err(|e| e.errno())
    };
    assert_eq!(kind("s", Follow::No), Ok(Kind::Symlink));
    assert_eq!(kind("s", Follow::Yes), Ok(Kind::File));
    assert_eq!(kind("t/", Follow::No), Ok(Kind::Dir), "a trailing slash follows");
    assert_eq!(kind("t/.", Follow::No), Ok(Kind::Dir));
    assert_eq!(kind("f/", Follow::Yes), Err(ENOTDIR));
    assert_eq!(kind("s/", Follow::No), Err(ENOTDIR));
    assert_eq!(kind("f/x", Follow::Yes), Err(ENOTDIR));
    assert_eq!(kind("dangling", Follow::Yes), Err(ENOENT));
    assert_eq!(kind("dangling", Follow::No), Ok(Kind::Symlink));
    assert_eq!(kind("", Follow::Yes), Err(ENOENT));
    assert_eq!(kind("none/..", Follow::Yes), Err(ENOENT));
    assert_eq!(kind("f/..", Follow::Yes), Err(ENOTDIR));
    assert_eq!(kind(&"d/../".repeat(1000), Follow::Yes), Err(ENAMETOOLONG));
    assert_eq!(kind(&"x".repeat(256), Follow::Yes), Err(ENAMETOOLONG));
}

pub fn parents_for_new_names<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("d").file("f", "").symlink("t", "d")]);
    let view = w.view();
    let parent = |path: &str| view.resolve_parent(&view.root(), path.as_bytes(), &Caller::root());
    let entry = parent("t/new").unwrap();
    assert_eq!((entry.dir, entry.name.as_name(), entry.must_be_dir), (w.node("d"), name("new"), false));
    let entry = parent("new//").unwrap();
    assert_eq!((entry.dir, entry.name.as_name(), entry.must_be_dir), (view.root(), name("new"), true));
    assert_eq!(parent("t").unwrap().name.as_name(), name("t"), "the last link is not followed");
    assert_eq!(errno(parent("f/new")), ENOTDIR);
    assert_eq!(errno(parent("none/new")), ENOENT);
    for path in ["/", "d/..", "..", "d/."] {
        assert!([EBUSY, EINVAL, ENOTEMPTY, EEXIST].contains(&errno(parent(path))), "{path}");
    }
}
