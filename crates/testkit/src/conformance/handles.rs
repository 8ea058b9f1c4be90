//! Open handles: coherent over copy-up, alive after their names are gone.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{BOTH, READ, WRITE, errno};
use super::{Bed, open_world};
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::{read, write};
use std::ops::ControlFlow;
use stratafs_core::error::errno::*;
use stratafs_core::{Access, Caller};

pub fn readers_see_writes_after_copy_up<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "old")]);
    let reader = w.open_file("f", READ).unwrap();
    assert_eq!(read(&reader, 0, 9).unwrap(), b"old");
    let writer = w.open_file("f", WRITE).unwrap();
    write(&writer, 0, b"NEWER").unwrap();
    assert_eq!(read(&reader, 0, 9).unwrap(), b"NEWER");
    assert_eq!(reader.size().unwrap(), 5);
    w.view().truncate(&w.node("f"), 1, &Caller::root()).unwrap();
    assert_eq!(read(&reader, 0, 9).unwrap(), b"N");
    let below = w.below();
    let node = crate::view::find(&below, &crate::path::Path::of("f")).unwrap();
    assert_eq!(crate::view::contents(&below, &node).unwrap(), b"old");
}

pub fn files_outlive_their_names<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("low", "lower").file("low2", "lower")]);
    let reader = w.open_file("low", READ).unwrap();
    w.unlink("low").unwrap();
    assert_eq!(read(&reader, 0, 9).unwrap(), b"lower");
    assert_eq!(w.view().attr(reader.inode()).unwrap().nlink, 0);
    let both = w.open_file("low2", BOTH).unwrap();
    w.unlink("low2").unwrap();
    write(&both, 5, b"!").unwrap();
    assert_eq!(read(&both, 0, 9).unwrap(), b"lower!");
    w.put("up", "upper");
    let both = w.open_file("up", BOTH).unwrap();
    w.unlink("up").unwrap();
    w.put("up", "other");
    write(&both, 0, b"U").unwrap();
    both.set_len(3).unwrap();
    assert_eq!((read(&both, 0, 9).unwrap(), w.text("up")), (b"Upp".to_vec(), "other".into()));
    assert_eq!(w.ls("/"), "up");
}

pub fn replaced_files_stay_readable<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "first").file("g", "second")]);
    let old = w.open_file("f", BOTH).unwrap();
    w.mv("g", "f");
    assert_eq!((read(&old, 0, 9).unwrap(), w.text("f")), (b"first".to_vec(), "second".into()));
    write(&old, 0, b"F").unwrap();
    assert_eq!((read(&old, 0, 9).unwrap(), w.text("f")), (b"First".to_vec(), "second".into()));
}

pub fn handles_follow_renames<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().dir("d").file("d/f", "x").dir("e")]);
    let handle = w.open_file("d/f", READ).unwrap();
    let node = w.node("d/f");
    w.mv("d", "moved");
    w.mv("moved/f", "e/g");
    let writer = w.view().open(&node, WRITE, &Caller::root()).unwrap();
    write(&writer, 1, b"y").unwrap();
    assert_eq!((read(&handle, 0, 9).unwrap(), w.text("e/g")), (b"xy".to_vec(), "xy".into()));
    drop((handle, writer, node));
    w.reopen();
    assert_eq!(w.text("e/g"), "xy");
}

pub fn access_modes_are_kept<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "x")]);
    let reader = w.open_file("f", READ).unwrap();
    let writer = w.open_file("f", WRITE).unwrap();
    assert_eq!(errno(reader.write_at(b"y", 0)), EBADF);
    assert_eq!(errno(reader.append(b"y")), EBADF);
    assert_eq!(errno(reader.set_len(0)), EINVAL);
    assert_eq!(errno(writer.read_at(&mut [0; 4], 0)), EBADF);
    assert_eq!(w.text("f"), "x");
}

pub fn appends_go_to_the_end<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "abc")]);
    let handle = w.open_file("f", Access { append: true, ..BOTH }).unwrap();
    assert_eq!(handle.append(b"d").unwrap(), (3, 1));
    w.add("f", "e");
    assert_eq!(handle.append(b"fg").unwrap(), (5, 2));
    assert_eq!(w.text("f"), "abcdefg");
}

pub fn metadata_copy_up_keeps_data<B: Bed>() {
    let data = Data::seeded(300_000, 4);
    let mut w = open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(data.clone())))]);
    let reader = w.open_file("f", READ).unwrap();
    w.chmod("f", 0o600);
    w.chown("f", 5, 6);
    assert!(read(&reader, 0, 400_000).unwrap() == data.bytes());
    drop(reader);
    w.reopen();
    assert_eq!((w.attr("f").mode, w.attr("f").uid, w.attr("f").size), (0o600, 5, 300_000));
    w.mv("f", "g");
    w.reopen();
    assert!(crate::view::contents(w.view(), &w.node("g")).unwrap() == data.bytes());
    let writer = w.open_file("g", WRITE).unwrap();
    write(&writer, 299_999, b"zz").unwrap();
    drop(writer);
    w.reopen();
    let mut want = data.bytes();
    want.truncate(299_999);
    want.extend(b"zz");
    assert!(crate::view::contents(w.view(), &w.node("g")).unwrap() == want);
    assert_eq!(w.attr("g").mode, 0o600);
}

pub fn directories_outlive_their_names<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("d")]);
    let dir = w.node("d");
    let handle = w.view().open_dir(&dir, &Caller::root()).unwrap();
    w.rmdir("d").unwrap();
    handle.read(0, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(
        errno(w.view().make(
            &dir,
            super::world::name("x"),
            &stratafs_core::New::file(0o644),
            &Caller::root()
        )),
        ENOENT
    );
    w.mkdir("d");
    assert_eq!(w.ls("d"), "");
    assert_ne!(w.node("d"), dir);
}

pub fn numbers_do_not_change_at_copy_up<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("f", "x").dir("d").file("d/g", "y").symlink("s", "t")]);
    let paths = ["f", "d", "d/g", "s"];
    let numbers = |w: &super::World<B>| paths.map(|p| w.node(p).ino());
    let before = numbers(&w);
    w.add("f", "1");
    w.chmod("d", 0o700);
    w.add("d/g", "1");
    w.chown("s", 1, 1);
    assert_eq!(numbers(&w), before);
    w.reopen();
    assert_eq!(numbers(&w), before, "after reopening");
    let distinct: std::collections::HashSet<_> = before.iter().collect();
    assert_eq!(distinct.len(), 4);
}
