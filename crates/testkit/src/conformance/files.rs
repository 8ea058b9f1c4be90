//! Regular files and other objects that are not directories.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{BOTH, READ, WRITE, errno};
use super::{Bed, open_world};
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::{contents, read, write};
use stratafs_core::error::errno::*;
use stratafs_core::{Access, Allocate, Caller, Device, Kind, New};

pub fn create_write_read_reopen<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().dir("d")]);
    w.put("f", "hello");
    w.put("d/g", "world");
    w.add("f", " there");
    for _ in 0..2 {
        assert_eq!((w.text("f").as_str(), w.text("d/g").as_str()), ("hello there", "world"));
        assert_eq!(w.attr("f").size, 11);
        assert_eq!(w.attr("f").mode, 0o644);
        assert_eq!((w.ls("/"), w.ls("d")), ("d f".into(), "g".into()));
        w.reopen();
    }
}

pub fn copy_up_leaves_the_layer_alone<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("d").file("d/f", "below")]);
    let before = crate::view::dump(&w.below()).unwrap();
    w.add("d/f", " and above");
    w.chmod("d", 0o700);
    w.put("d/new", "x");
    assert_eq!(w.text("d/f"), "below and above");
    before.assert_same(&crate::view::dump(&w.below()).unwrap(), "the layer changed");
}

pub fn opening_with_truncate_starts_empty<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new().with(Entry::new("f", What::File(Data::seeded(100_000, 1))).mode(0o640))]
    );
    let handle = w.open_file("f", Access { truncate: true, ..BOTH }).unwrap();
    assert_eq!(handle.size().unwrap(), 0);
    write(&handle, 3, b"x").unwrap();
    drop(handle);
    w.reopen();
    assert_eq!(w.text("f"), "\0\0\0x");
    assert_eq!(w.attr("f").mode, 0o640);
}

pub fn truncate_keeps_what_stays<B: Bed>() {
    let data = Data::seeded(70_000, 5);
    let mut w = open_world!(
        B,
        [TreeSpec::new()
            .with(Entry::new("short", What::File(data.clone())))
            .with(Entry::new("long", What::File(data.clone())))]
    );
    w.view().truncate(&w.node("short"), 33_333, &Caller::root()).unwrap();
    w.view().truncate(&w.node("long"), 100_000, &Caller::root()).unwrap();
    w.reopen();
    let mut want = data.bytes();
    want.resize(100_000, 0);
    assert!(contents(w.view(), &w.node("short")).unwrap() == want[..33_333]);
    assert!(contents(w.view(), &w.node("long")).unwrap() == want);
}

pub fn writing_past_the_end_leaves_zeros<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("f", "abc")]);
    let handle = w.open_file("f", BOTH).unwrap();
    write(&handle, 10_000, b"z").unwrap();
    let all = read(&handle, 0, 20_000).unwrap();
    assert_eq!(all.len(), 10_001);
    assert_eq!((&all[..3], all[10_000]), (&b"abc"[..], b'z'));
    assert!(all[3..10_000].iter().all(|b| *b == 0));
    assert_eq!(read(&handle, 20_000, 5).unwrap(), b"");
}

pub fn holes_survive_copy_up<B: Bed>() {
    let data = Data { len: 8 << 20, seed: 3, hole: Some((64 << 10, 7 << 20)), literal: None };
    let w = open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(data.clone())))]);
    let handle = w.open_file("f", BOTH).unwrap();
    write(&handle, 0, b"!").unwrap();
    let mut want = data.bytes();
    want[0] = b'!';
    assert!(read(&handle, 0, 9 << 20).unwrap() == want);
    let hole = handle.seek_hole(0).unwrap();
    assert_eq!(hole, Some(64 << 10), "the hole is still one");
    assert_eq!(handle.seek_data(64 << 10).unwrap(), Some((64 << 10) + (7 << 20)));
    assert_eq!(handle.seek_data(8 << 20).unwrap(), None);
    assert!(w.attr("f").blocks * 512 < 2 << 20, "blocks in use: {}", w.attr("f").blocks);
}

pub fn blocks_can_be_reserved_and_punched<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(Data::seeded(16_384, 9))))]);
    let handle = w.open_file("f", BOTH).unwrap();
    handle.allocate(Allocate::PunchHole, 4096, 4096).unwrap();
    let mut want = Data::seeded(16_384, 9).bytes();
    want[4096..8192].fill(0);
    assert!(read(&handle, 0, 20_000).unwrap() == want);
    handle.allocate(Allocate::ReserveKeepSize, 16_384, 4096).unwrap();
    assert_eq!(handle.size().unwrap(), 16_384);
    handle.allocate(Allocate::Reserve, 16_384, 4096).unwrap();
    assert_eq!(handle.size().unwrap(), 20_480);
    assert_eq!(errno(handle.allocate(Allocate::Reserve, 0, 0)), EINVAL);
}

pub fn copies_between_handles<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().file("from", "0123456789").file("to", "abc")]);
    let from = w.open_file("from", READ).unwrap();
    let to = w.open_file("to", BOTH).unwrap();
    assert_eq!(to.copy_range(&from, 2, 1, 5).unwrap(), 5);
    assert_eq!(read(&to, 0, 99).unwrap(), b"a23456");
    assert_eq!(to.copy_range(&from, 8, 6, 99).unwrap(), 2);
    assert_eq!(to.copy_range(&from, 10, 0, 5).unwrap(), 0);
    assert_eq!(w.text("to"), "a2345689");
    assert_eq!(errno(from.copy_range(&to, 0, 0, 1)), EBADF);
    assert_eq!(errno(from.copy_range(&from, 0, 1, 5)), EBADF, "before the ranges are looked at");
    assert_eq!(errno(to.copy_range(&to, 0, 2, 5)), EINVAL);
    assert_eq!(to.copy_range(&to, 6, 2, 99).unwrap(), 2, "up to the end there is no overlap");
}

pub fn large_files_copy_up_whole<B: Bed>() {
    let data = Data::seeded((5 << 20) + 17, 11);
    let mut w = open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(data.clone())))]);
    w.add("f", "end");
    w.reopen();
    let all = contents(w.view(), &w.node("f")).unwrap();
    assert!(all.ends_with(b"end") && all[..all.len() - 3] == data.bytes());
}

pub fn temporary_files_have_no_name<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("d")]);
    let handle = w.view().tmpfile(&w.node("d"), 0o600, &Caller::root()).unwrap();
    write(&handle, 0, b"secret").unwrap();
    assert_eq!(read(&handle, 0, 99).unwrap(), b"secret");
    assert_eq!(w.ls("d"), "");
    assert_eq!(w.view().attr(handle.inode()).unwrap().nlink, 0);
    let (dir, name) = w.at("d/named");
    w.view().link(handle.inode(), &dir, name, &Caller::root()).unwrap();
    assert_eq!(w.text("d/named"), "secret");
}

pub fn special_nodes_are_made_and_kept<B: Bed>() {
    let null = Device { major: 1, minor: 3 };
    let mut w = open_world!(
        B,
        [TreeSpec::new()
            .with(Entry::new("lower-fifo", What::Node(Kind::Fifo, Device::default())))
            .with(Entry::new("lower-null", What::Node(Kind::Char, null)).mode(0o666))]
    );
    w.make("fifo", &New::node(Kind::Fifo, 0o600, Device::default())).unwrap();
    w.make("socket", &New::node(Kind::Socket, 0o600, Device::default())).unwrap();
    w.make("null", &New::node(Kind::Char, 0o666, null)).unwrap();
    w.make("link", &New::symlink(b"some/where")).unwrap();
    w.chmod("lower-fifo", 0o611);
    w.chown("lower-null", 7, 8);
    let whiteout = New::node(Kind::Char, 0o600, Device::default());
    assert_eq!(errno(w.make("zero", &whiteout)), EPERM, "0/0 is the whiteout");
    w.reopen();
    let kind = |path: &str| w.node(path).kind();
    assert_eq!((kind("fifo"), kind("socket"), kind("link")), (Kind::Fifo, Kind::Socket, Kind::Symlink));
    assert_eq!((w.attr("null").rdev, w.attr("lower-null").rdev), (null, null));
    assert_eq!((w.attr("lower-fifo").mode, w.attr("lower-null").uid), (0o611, 7));
    assert_eq!(w.target("link"), "some/where");
    assert_eq!(w.attr("link").size, 10);
}

pub fn removed_names_stay_removed<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new().file("a", "1"), TreeSpec::new().file("a", "2").file("b", "3").dir("d")]
    );
    w.unlink("a").unwrap();
    w.unlink("b").unwrap();
    w.rmdir("d").unwrap();
    for _ in 0..2 {
        assert_eq!(w.ls("/"), "");
        assert_eq!(errno(w.unlink("a")), ENOENT);
        w.reopen();
    }
    w.put("a", "new");
    assert_eq!(errno(w.open_file("a", WRITE).unwrap().read_at(&mut [0; 4], 0)), EBADF);
    w.reopen();
    assert_eq!((w.ls("/"), w.text("a")), ("a".into(), "new".into()));
}
