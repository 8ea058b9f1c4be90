//! The change list: exact, sorted, the same after reopening.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::{Bed, World, open_world};
use crate::spec::TreeSpec;
use stratafs_core::{Caller, SetXattr};

fn tree() -> TreeSpec {
    TreeSpec::new()
        .dir("d")
        .file("d/f", "1")
        .dir("d/sub")
        .file("d/sub/g", "2")
        .file("file", "3")
        .symlink("s", "t")
}

/// The list, before and after reopening.
#[track_caller]
fn check<B: Bed>(w: &mut World<B>, want: &[&str]) {
    assert_eq!(w.changes(), want);
    w.reopen();
    assert_eq!(w.changes(), want, "after reopening");
}

pub fn nothing_changed<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.ls("d");
    w.text("file");
    check(&mut w, &[]);
}

pub fn additions<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.put("d/new", "x");
    w.mkdir("dir");
    w.put("dir/inner", "");
    w.link("dir/inner", "linked").unwrap();
    check(&mut w, &["A d/new", "A dir/", "A dir/inner", "A linked"]);
}

pub fn modifications_say_what<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.add("d/f", "x");
    w.chmod("file", 0o600);
    w.view().set_xattr(&w.node("d"), b"user.a", b"1", SetXattr::Any, &Caller::root()).unwrap();
    w.touch("d/sub/g", 5, 5);
    w.chown("s", 3, 3);
    check(&mut w, &["M d/ xattrs", "M d/f data", "M d/sub/g times", "M file metadata", "M s metadata"]);
}

pub fn deletions<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.unlink("file").unwrap();
    w.unlink("d/sub/g").unwrap();
    w.rmdir("d/sub").unwrap();
    w.put("gone", "");
    w.unlink("gone").unwrap();
    let list = w.changes();
    assert!(list.contains(&"D file".into()) && list.contains(&"D d/sub/".into()), "{list:?}");
    assert!(!list.iter().any(|line| line.contains("gone")), "{list:?}");
    w.reopen();
    assert_eq!(w.changes(), list);
}

pub fn renames<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.mv("d", "e");
    check(&mut w, &["R d -> e/"]);
    w.put("e/new", "");
    w.add("e/sub/g", "x");
    check(&mut w, &["R d -> e/", "A e/new", "M e/sub/g data"]);
}

pub fn kind_changes<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.unlink("file").unwrap();
    w.mkdir("file");
    w.unlink("s").unwrap();
    w.put("s", "now a file");
    check(&mut w, &["D file", "A file/", "D s", "A s"]);
}

pub fn taken_back<B: Bed>() {
    let mut w = open_world!(B, [tree()]);
    w.put("new", "");
    w.mkdir("dir");
    w.unlink("new").unwrap();
    w.rmdir("dir").unwrap();
    check(&mut w, &[]);
}

pub fn changes_survive_reopening<B: Bed>() {
    let mut w = open_world!(B, [tree(), TreeSpec::new().file("low", "x").dir("d").file("d/low", "y")]);
    w.unlink("d/low").unwrap();
    w.mkdir("d/low");
    w.put("d/low/x", "");
    w.mv("file", "low");
    let list = w.changes();
    for _ in 0..3 {
        w.reopen();
        assert_eq!(w.changes(), list);
    }
    let mut paths: Vec<_> = w.view().changes().unwrap().into_iter().map(|c| c.path).collect();
    let listed = paths.clone();
    paths.sort();
    assert_eq!(paths, listed, "sorted by path");
}
