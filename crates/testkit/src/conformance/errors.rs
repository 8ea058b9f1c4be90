//! Everything that must fail, with the errno that Linux gives.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{READ, WRITE, errno, name};
use super::{Bed, open_world};
use crate::spec::TreeSpec;
use stratafs_core::error::errno::*;
use stratafs_core::{Access, Caller, Device, Kind, New, RenameFlags, Result, SetAttr, SetXattr};

fn tree() -> TreeSpec {
    TreeSpec::new().dir("d").file("d/f", "x").dir("empty").file("file", "y").symlink("s", "file")
}

pub fn names_in_the_way<B: Bed>() {
    let w = open_world!(B, [tree()]);
    w.put("up", "");
    for path in ["d", "file", "s", "up"] {
        for new in [
            New::file(0o644),
            New::dir(0o755),
            New::symlink(b"t"),
            New::node(Kind::Fifo, 0o600, Device::default()),
        ] {
            assert_eq!(errno(w.make(path, &new)), EEXIST, "{path}");
        }
        assert_eq!(errno(w.link("file", path)), EEXIST, "{path}");
        assert_eq!(errno(w.rename("empty", path, RenameFlags::NO_REPLACE)), EEXIST, "{path}");
    }
    assert!(w.changes().iter().all(|c| c == "A up"), "{:?}", w.changes());
}

pub fn kinds_in_the_way<B: Bed>() {
    let w = open_world!(B, [tree()]);
    assert_eq!(errno(w.unlink("d")), EISDIR);
    assert_eq!(errno(w.rmdir("file")), ENOTDIR);
    assert_eq!(errno(w.rmdir("s")), ENOTDIR);
    assert_eq!(errno(w.rmdir("d")), ENOTEMPTY);
    assert_eq!(errno(w.unlink("none")), ENOENT);
    assert_eq!(errno(w.rmdir("none")), ENOENT);
    assert_eq!(errno(w.open_file("d", READ)), EISDIR);
    let file = w.node("file");
    assert_eq!(errno(w.view().lookup(&file, name("x"))), ENOTDIR);
    assert_eq!(errno(w.view().open_dir(&file, &Caller::root())), ENOTDIR);
    assert_eq!(errno(w.view().make(&file, name("x"), &New::file(0o644), &Caller::root())), ENOTDIR);
    assert_eq!(errno(w.view().read_link(&file)), EINVAL);
    assert_eq!(errno(w.view().truncate(&w.node("d"), 0, &Caller::root())), EISDIR);
    assert_eq!(w.changes(), [""; 0]);
}

pub fn renames_that_must_fail<B: Bed>() {
    let w = open_world!(B, [tree()]);
    let none = RenameFlags::empty();
    assert_eq!(errno(w.rename("none", "x", none)), ENOENT);
    assert_eq!(errno(w.rename("d", "file", none)), ENOTDIR);
    assert_eq!(errno(w.rename("file", "d", none)), EISDIR);
    assert_eq!(errno(w.rename("file", "empty", none)), EISDIR);
    assert_eq!(errno(w.rename("empty", "d", none)), ENOTEMPTY);
    assert_eq!(errno(w.rename("empty", "s", none)), ENOTDIR);
    assert_eq!(w.changes(), [""; 0]);
    assert_eq!(w.ls("/"), "d empty file s");
}

pub fn attributes_that_must_fail<B: Bed>() {
    let w = open_world!(B, [tree()]);
    let (view, file, root) = (w.view(), w.node("file"), Caller::root());
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(errno(view.set_attr(&w.node("s"), &chmod, &root)), EOPNOTSUPP);
    assert_eq!(errno(view.remove_xattr(&file, b"user.none", &root)), ENODATA);
    assert_eq!(errno(view.set_xattr(&file, b"user.none", b"", SetXattr::Replace, &root)), ENODATA);
    assert_eq!(errno(view.set_xattr(&file, b"nonsense", b"", SetXattr::Any, &root)), EOPNOTSUPP);
    assert_eq!(view.xattr(&file, b"user.none").unwrap(), None);
    assert_eq!(w.changes(), [""; 0], "what fails copies nothing up");
}

pub fn read_only_views_refuse_every_change<B: Bed>() {
    let w = open_world!(B, [tree()]);
    let (view, caller) = (w.below(), Caller::root());
    let root = view.root();
    let find = |path: &str| crate::view::find(&view, &crate::path::Path::of(path)).unwrap();
    let (file, dir) = (find("file"), find("d"));
    let refused: Vec<Result<()>> = vec![
        view.make(&root, name("n"), &New::file(0o644), &caller).map(drop),
        view.link(&file, &root, name("n"), &caller),
        view.unlink(&root, name("file"), &caller),
        view.rmdir(&root, name("empty"), &caller),
        view.rename(&root, name("file"), &dir, name("n"), RenameFlags::empty(), &caller),
        view.set_attr(&file, &SetAttr { mode: Some(0), ..SetAttr::default() }, &caller),
        view.truncate(&file, 0, &caller),
        view.set_xattr(&file, b"user.a", b"", SetXattr::Any, &caller),
        view.open(&file, WRITE, &caller).map(drop),
        view.open(&file, Access { truncate: true, ..WRITE }, &caller).map(drop),
        view.tmpfile(&root, 0o600, &caller).map(drop),
    ];
    for (n, result) in refused.into_iter().enumerate() {
        assert_eq!(errno(result), EROFS, "change {n}");
    }
    assert_eq!(crate::view::contents(&view, &file).unwrap(), b"y");
    assert_eq!(view.changes().unwrap().len(), 0);
    view.sync().unwrap();
}

pub fn bad_arguments<B: Bed>() {
    let w = open_world!(B, [tree()]);
    let handle = w.open_file("file", super::world::BOTH).unwrap();
    assert!([EINVAL, EFBIG].contains(&errno(handle.set_len(u64::MAX))));
    assert!([EINVAL, EFBIG].contains(&errno(handle.write_at(b"x", i64::MAX as u64))));
    assert!([EINVAL, EFBIG].contains(&errno(handle.allocate(stratafs_core::Allocate::Reserve, u64::MAX, 2))));
    assert_eq!(handle.read_at(&mut [0; 4], i64::MAX as u64 - 8).unwrap(), 0);
    let none = w.open_file("file", Access { read: false, write: false, append: false, truncate: false });
    assert!(none.is_err() || none.unwrap().read_at(&mut [0; 1], 0).is_err());
    assert_eq!(w.text("file"), "y");
}
