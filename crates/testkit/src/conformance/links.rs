//! Hard links, which stay one object over copy-up and reopening.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::errno;
use super::{Bed, open_world};
use crate::spec::TreeSpec;
use stratafs_core::New;
use stratafs_core::error::errno::*;

fn three() -> TreeSpec {
    TreeSpec::new().file("a", "1").hard_link("b", "a").dir("d").hard_link("d/c", "a")
}

pub fn hard_links_survive_copy_up_and_reopening<B: Bed>() {
    let mut w = open_world!(B, [three()]);
    let ino = w.node("a").ino();
    w.add("b", "2");
    for _ in 0..2 {
        for path in ["a", "b", "d/c"] {
            assert_eq!(w.text(path), "12", "{path}");
            assert_eq!((w.attr(path).nlink, w.node(path).ino()), (3, ino), "{path}");
        }
        w.reopen();
    }
    w.add("d/c", "3");
    w.chmod("a", 0o600);
    w.reopen();
    for path in ["a", "b", "d/c"] {
        assert_eq!((w.text(path).as_str(), w.attr(path).mode), ("123", 0o600), "{path}");
    }
}

pub fn link_counts_follow_the_names<B: Bed>() {
    let mut w = open_world!(B, [three()]);
    let nlink = |w: &super::World<B>, path: &str| w.attr(path).nlink;
    w.unlink("a").unwrap();
    assert_eq!(nlink(&w, "b"), 2);
    w.link("b", "e").unwrap();
    assert_eq!(nlink(&w, "d/c"), 3);
    w.reopen();
    assert_eq!((nlink(&w, "b"), nlink(&w, "d/c"), nlink(&w, "e")), (3, 3, 3));
    w.unlink("b").unwrap();
    w.unlink("e").unwrap();
    w.reopen();
    assert_eq!((nlink(&w, "d/c"), w.text("d/c")), (1, "1".into()));
    w.unlink("d/c").unwrap();
    w.reopen();
    assert_eq!((w.ls("/"), w.ls("d")), ("d".into(), String::new()));
}

pub fn new_names_of_lower_files<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("f", "x")]);
    let ino = w.node("f").ino();
    w.link("f", "g").unwrap();
    w.reopen();
    assert_eq!((w.attr("f").nlink, w.attr("g").nlink), (2, 2));
    assert_eq!(w.node("f").ino(), w.node("g").ino());
    assert_eq!(w.node("g").ino(), ino, "the number stays the lower file's");
    w.add("g", "y");
    assert_eq!(w.text("f"), "xy");
    w.unlink("f").unwrap();
    w.reopen();
    assert_eq!((w.ls("/"), w.text("g"), w.attr("g").nlink), ("g".into(), "xy".into(), 1));
}

pub fn links_across_directories_and_renames<B: Bed>() {
    let mut w = open_world!(B, [three()]);
    w.mv("d", "e");
    w.mv("a", "e/a");
    w.add("e/a", "2");
    w.reopen();
    for path in ["b", "e/c", "e/a"] {
        assert_eq!((w.text(path).as_str(), w.attr(path).nlink), ("12", 3), "{path}");
    }
    w.put("other", "o");
    w.mv("other", "b");
    assert_eq!((w.text("b").as_str(), w.attr("e/a").nlink), ("o", 2));
    w.reopen();
    assert_eq!((w.attr("b").nlink, w.attr("e/c").nlink), (1, 2));
}

pub fn renaming_onto_the_same_object_does_nothing<B: Bed>() {
    let w = open_world!(B, [three()]);
    w.mv("a", "b");
    assert_eq!((w.ls("/").as_str(), w.attr("a").nlink), ("a b d", 3));
    w.mv("a", "a");
    assert_eq!(w.text("a"), "1");
}

pub fn symbolic_links_can_be_linked<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().symlink("s", "t")]);
    w.link("s", "s2").unwrap();
    w.make("n", &New::symlink(b"m")).unwrap();
    w.link("n", "n2").unwrap();
    w.reopen();
    assert_eq!((w.target("s2").as_str(), w.target("n2").as_str()), ("t", "m"));
    assert_eq!((w.attr("s").nlink, w.attr("n").nlink), (2, 2));
    w.mkdir("d");
    assert_eq!(errno(w.link("d", "d2")), EPERM);
}

pub fn linked_and_removed_in_one_session<B: Bed>() {
    let mut w = open_world!(B, [three()]);
    for path in ["a", "b", "d/c"] {
        w.unlink(path).unwrap();
    }
    w.put("a", "fresh");
    w.reopen();
    assert_eq!((w.text("a").as_str(), w.attr("a").nlink, w.ls("d").as_str()), ("fresh", 1, ""));
}
