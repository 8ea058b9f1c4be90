//! Faults seen in other union file systems, each as a test that would have caught it. Those that need the
//! kernel's overlayfs for an answer are not here.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{READ, WRITE, errno};
use super::{Bed, open_world};
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::{read, write};
use stratafs_core::error::errno::*;
use stratafs_core::{Caller, New, Time};

pub fn fault_01_copied_up_and_removed_stays_gone<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("f", "x").dir("d").file("d/g", "y")]);
    for path in ["f", "d/g"] {
        w.add(path, "!");
        w.unlink(path).unwrap();
    }
    w.reopen();
    assert!(!w.exists("f") && !w.exists("d/g"));
    assert_eq!((w.ls("/").as_str(), w.ls("d").as_str()), ("d", ""));
}

pub fn fault_02_lower_handle_and_writer<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "image")]);
    let before = crate::view::dump(&w.below()).unwrap();
    let reader = w.open_file("f", READ).unwrap();
    read(&reader, 0, 5).unwrap();
    let writer = w.open_file("f", WRITE).unwrap();
    write(&writer, 0, b"IMAGE").unwrap();
    let again = w.open_file("f", WRITE).unwrap();
    write(&again, 4, b"!").unwrap();
    assert_eq!(read(&reader, 0, 9).unwrap(), b"IMAG!");
    before.assert_same(&crate::view::dump(&w.below()).unwrap(), "the image changed");
}

pub fn fault_03_directory_made_anew_is_empty<B: Bed>() {
    let mut w =
        open_world!(B, [TreeSpec::new().dir("d").file("d/old", "").dir("d/sub").file("d/sub/old", "")]);
    w.unlink("d/old").unwrap();
    w.unlink("d/sub/old").unwrap();
    w.rmdir("d/sub").unwrap();
    w.rmdir("d").unwrap();
    w.mkdir("d");
    w.mkdir("d/sub");
    for _ in 0..2 {
        assert_eq!((w.ls("d").as_str(), w.ls("d/sub").as_str()), ("sub", ""));
        w.reopen();
    }
}

pub fn fault_04_rmdir_of_a_merged_directory_that_is_not_empty<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new().dir("d").whiteout("d/a"), TreeSpec::new().dir("d").file("d/a", "").file("d/b", ""),]
    );
    assert_eq!(errno(w.rmdir("d")), ENOTEMPTY);
    w.unlink("d/b").unwrap();
    w.rmdir("d").unwrap();
    w.mkdir("d");
    w.reopen();
    assert_eq!(w.ls("d"), "");
}

pub fn fault_05_copy_up_keeps_attributes<B: Bed>() {
    let data = Data { len: 1 << 20, seed: 1, hole: Some((65_536, 900_000)), literal: None };
    let entry = Entry::new("f", What::File(data.clone())).mode(0o4751).owner(11, 12).time(99, 999_999_999);
    let unread = Entry::new("unread", What::File(data)).time(99, 999_999_999);
    let entry = entry.xattr("user.a", "b").xattr("security.capability", super::attrs::CAPABILITY);
    let mut w = open_world!(B, [TreeSpec::new().with(entry).with(unread)]);
    let before = w.dump();
    let blocks = w.attr("f").blocks;
    drop(w.open_file("f", WRITE).unwrap());
    w.reopen();
    before.assert_same(&w.dump(), "after copy-up");
    // The dump has read `f`, which is an access.
    drop(w.open_file("unread", WRITE).unwrap());
    assert_eq!(w.attr("unread").atime, Time { secs: 99, nanos: 999_999_999 });
    assert!(w.attr("f").blocks <= blocks + 64, "the hole was filled");
}

pub fn fault_06_renamed_lower_directory<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().dir("d").file("d/a", "1").dir("d/s").file("d/s/b", "2")]);
    w.mv("d", "e");
    w.put("e/later", "3");
    w.put("e/s/later", "4");
    w.reopen();
    assert_eq!(
        (w.ls("e").as_str(), w.ls("e/s").as_str(), w.text("e/s/b").as_str()),
        ("a later s", "b later", "2")
    );
}

pub fn fault_09_many_files_open_and_close<B: Bed>() {
    const FILES: usize = 3000;
    let mut tree = TreeSpec::new().dir("d");
    for n in 0..FILES {
        tree = tree.with(Entry::new(format!("d/{n}"), What::File(Data::literal(b"x"))));
    }
    let w = open_world!(B, [tree]);
    let nodes: Vec<_> = (0..FILES).map(|n| w.node(&format!("d/{n}"))).collect();
    for (n, node) in nodes.iter().enumerate() {
        let access = if n % 3 == 0 { WRITE } else { READ };
        drop(w.view().open(node, access, &Caller::root()).unwrap());
    }
    assert_eq!(w.list("d").len(), FILES);
}

pub fn fault_10_names_and_depth<B: Bed>() {
    const DEPTH: usize = 40;
    let mut tree = TreeSpec::new();
    let mut path = Vec::new();
    for n in 0..DEPTH {
        path.extend_from_slice(if n == 0 { b"" } else { b"/" });
        path.extend_from_slice(&[b'0' + (n % 10) as u8; 200]);
        tree = tree.dir(&path);
    }
    assert!(path.len() > 4096);
    let mut w = open_world!(B, [tree.file([&path[..], b"/f"].concat(), "deep")]);
    let deep = crate::path::Path::of([&path[..], b"/f"].concat());
    let node = crate::view::find(w.view(), &deep).unwrap();
    let handle = w.view().open(&node, WRITE, &Caller::root()).unwrap();
    write(&handle, 0, b"DEEP").unwrap();
    let dir = crate::view::walk(w.view(), &deep.parent().0).unwrap();
    w.view().make(&dir, super::world::name(".wh.x"), &New::file(0o600), &Caller::root()).unwrap();
    drop((node, handle, dir));
    w.reopen();
    let node = crate::view::find(w.view(), &deep).unwrap();
    assert_eq!(crate::view::contents(w.view(), &node).unwrap(), b"DEEP");
    assert_eq!(w.dump().paths().len(), DEPTH + 2);
}

pub fn fault_11_permission_before_copy_up<B: Bed>() {
    let w =
        open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(Data::literal(b"x"))).mode(0o644))]);
    assert_eq!(errno(w.view().open(&w.node("f"), WRITE, &Caller::user(5, 5))), EACCES);
    assert_eq!(errno(w.view().truncate(&w.node("f"), 0, &Caller::user(5, 5))), EACCES);
    assert_eq!(w.changes(), [""; 0]);
}

pub fn fault_12_three_names_of_one_lower_file<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("a", "1").hard_link("b", "a").hard_link("c", "a")]);
    w.add("b", "2");
    assert_eq!((w.text("a").as_str(), w.text("c").as_str()), ("12", "12"));
    w.unlink("a").unwrap();
    w.reopen();
    assert_eq!((w.attr("b").nlink, w.attr("c").nlink, w.text("c").as_str()), (2, 2, "12"));
}
