//! Attributes: what copy-up keeps, what changes touch, modes, groups, access lists and extended attributes.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{WRITE, errno};
use super::{Bed, World, open_world};
use crate::dump::PRESENT;
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::write;
use stratafs_core::error::errno::*;
use stratafs_core::{Caller, Kind, New, SetAttr, SetTime, SetXattr, Time};

/// `security.capability`, version 2: cap_net_raw permitted and effective.
pub(super) const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access list in the kernel's form, from (tag, permissions, id).
pub(super) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

const NO_ID: u32 = u32::MAX;

pub fn copy_up_keeps_everything<B: Bed>() {
    let dressed = |path: &str, what: What| {
        let file = matches!(what, What::File(_));
        let entry = Entry::new(path, what).mode(0o2751).owner(1001, 1002).time(1_234_567_890, 987_654_321);
        let entry = entry.xattr("user.a", "1").xattr("trusted.b", [0, 255]);
        if file { entry.xattr("security.capability", CAPABILITY) } else { entry }
    };
    let mut w = open_world!(
        B,
        [TreeSpec::new()
            .with(dressed("f", What::File(Data::seeded(5000, 1))))
            .with(dressed("d", What::Dir { opaque: false }))]
    );
    let before = w.dump();
    // Linking copies up and changes nothing that a dump shows but the link count.
    w.mv("f", "g");
    w.mv("g", "f");
    w.mv("d", "e");
    w.mv("e", "d");
    before.assert_same(&w.dump(), "after copy-up");
    drop(w.open_file("f", WRITE).unwrap());
    before.assert_same(&w.dump(), "after the data's copy-up");
    w.reopen();
    before.assert_same(&w.dump(), "after reopening");
}

pub fn times_are_exact<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("f", "x").dir("d").symlink("s", "t")]);
    let (early, late) = (Time { secs: 1, nanos: 999_999_999 }, Time { secs: 4_000_000_000, nanos: 1 });
    for path in ["f", "d", "s"] {
        w.set(
            path,
            SetAttr { atime: Some(SetTime::At(early)), mtime: Some(SetTime::At(late)), ..SetAttr::default() },
        );
    }
    w.reopen();
    for path in ["f", "d", "s"] {
        assert_eq!((w.attr(path).atime, w.attr(path).mtime), (early, late), "{path}");
    }
    w.set("f", SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() });
    let attr = w.attr("f");
    assert!(attr.mtime.secs >= PRESENT && attr.atime == early);
}

pub fn changes_touch_the_right_times<B: Bed>() {
    let old = Time { secs: 1_000_000_000, nanos: 5 };
    let tree = |path: &str, what| Entry::new(path, what).time(old.secs, old.nanos);
    let w = open_world!(
        B,
        [TreeSpec::new()
            .with(tree("d", What::Dir { opaque: false }))
            .with(tree("d/f", What::File(Data::literal(b"x"))))
            .with(tree("d/g", What::File(Data::literal(b"y"))))]
    );
    w.chmod("d/f", 0o600);
    assert_eq!((w.attr("d/f").mtime, w.attr("d").mtime), (old, old), "chmod copies up and touches no mtime");
    assert!(w.attr("d/f").ctime.secs >= PRESENT);
    w.add("d/f", "1");
    assert!(w.attr("d/f").mtime.secs >= PRESENT);
    assert_eq!(w.attr("d").mtime, old, "writing a file does not touch its directory");
    w.unlink("d/g").unwrap();
    assert!(w.attr("d").mtime.secs >= PRESENT, "removing a name does");
    w.touch("d", old.secs, old.nanos);
    w.put("d/new", "");
    assert!(w.attr("d").mtime.secs >= PRESENT, "adding a name does");
}

pub fn chown_clears_setid<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new()
            .with(
                Entry::new("f", What::File(Data::default()))
                    .mode(0o6755)
                    .xattr("security.capability", CAPABILITY)
            )
            .with(Entry::new("d", What::Dir { opaque: false }).mode(0o6755))]
    );
    w.make("fifo", &New::node(Kind::Fifo, 0o6777, stratafs_core::Device::default())).unwrap();
    for path in ["f", "d", "fifo"] {
        w.chown(path, 1, 1);
    }
    w.reopen();
    assert_eq!(w.attr("fifo").mode, 0o777, "not only files");
    assert_eq!((w.attr("f").mode, w.attr("d").mode), (0o755, 0o6755));
    assert_eq!(w.view().xattr(&w.node("f"), b"security.capability").unwrap(), None);
}

pub fn setgid_directories_pass_on_their_group<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new().with(Entry::new("d", What::Dir { opaque: false }).mode(0o2775).owner(0, 77))]
    );
    w.put("d/f", "");
    w.mkdir("d/sub");
    w.make("d/s", &New::symlink(b"t")).unwrap();
    w.mkdir("d/sub/deeper");
    assert_eq!((w.attr("d/f").gid, w.attr("d/f").mode), (77, 0o644));
    assert_eq!((w.attr("d/sub").gid, w.attr("d/sub").mode), (77, 0o2755));
    assert_eq!((w.attr("d/s").gid, w.attr("d/sub/deeper").mode), (77, 0o2755));
}

pub fn umask_applies_without_default_acl<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("d")]);
    w.make("d/f", &New { umask: 0o027, ..New::file(0o666) }).unwrap();
    w.make("d/sub", &New { umask: 0o077, ..New::dir(0o777) }).unwrap();
    assert_eq!((w.attr("d/f").mode, w.attr("d/sub").mode), (0o640, 0o700));
}

pub fn default_acls_are_inherited<B: Bed>() {
    // user::rwx, user:1000:rw-, group::r-x, mask::rwx, other::---
    let default = acl(&[(1, 7, NO_ID), (2, 6, 1000), (4, 5, NO_ID), (16, 7, NO_ID), (32, 0, NO_ID)]);
    let mut w = open_world!(B, [TreeSpec::new().dir("d")]);
    let set = w.view().set_xattr(
        &w.node("d"),
        b"system.posix_acl_default",
        &default,
        SetXattr::Any,
        &Caller::root(),
    );
    if set.as_ref().is_err_and(|e| e.errno() == EOPNOTSUPP) {
        return;
    }
    set.unwrap();
    w.make("d/f", &New { umask: 0o077, ..New::file(0o664) }).unwrap();
    w.make("d/sub", &New { umask: 0o077, ..New::dir(0o777) }).unwrap();
    for _ in 0..2 {
        assert_eq!(w.attr("d/f").mode, 0o660, "the umask does not apply, the list does");
        assert_eq!(w.attr("d/sub").mode, 0o770);
        let access = acl(&[(1, 6, NO_ID), (2, 6, 1000), (4, 5, NO_ID), (16, 6, NO_ID), (32, 0, NO_ID)]);
        let got = |path: &str, which: &[u8]| w.view().xattr(&w.node(path), which).unwrap();
        assert_eq!(got("d/f", b"system.posix_acl_access"), Some(access));
        assert_eq!(got("d/f", b"system.posix_acl_default"), None);
        assert_eq!(got("d/sub", b"system.posix_acl_default"), Some(default.clone()));
        w.reopen();
    }
}

pub fn xattrs_come_and_go<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new().with(
            Entry::new("f", What::File(Data::default())).xattr("user.low", "1").xattr("user.kept", "2")
        )]
    );
    let root = Caller::root();
    let set = |w: &World<B>, key: &str, value: &[u8], how| {
        w.view().set_xattr(&w.node("f"), key.as_bytes(), value, how, &root)
    };
    set(&w, "user.new", b"\0\xff", SetXattr::Create).unwrap();
    set(&w, "user.empty", b"", SetXattr::Any).unwrap();
    assert_eq!(errno(set(&w, "user.new", b"", SetXattr::Create)), EEXIST);
    set(&w, "user.new", b"3", SetXattr::Replace).unwrap();
    w.view().remove_xattr(&w.node("f"), b"user.low", &root).unwrap();
    for _ in 0..2 {
        let mut names = w.view().xattrs(&w.node("f")).unwrap();
        names.sort();
        assert_eq!(names, [b"user.empty".to_vec(), b"user.kept".to_vec(), b"user.new".to_vec()]);
        let get = |key: &[u8]| w.view().xattr(&w.node("f"), key).unwrap();
        assert_eq!(
            (get(b"user.new"), get(b"user.empty"), get(b"user.low")),
            (Some(b"3".to_vec()), Some(vec![]), None)
        );
        w.reopen();
    }
}

pub fn user_xattrs_only_where_linux_has_them<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().symlink("s", "t")]);
    w.make("fifo", &New::node(Kind::Fifo, 0o600, stratafs_core::Device::default())).unwrap();
    for path in ["s", "fifo"] {
        let node = w.node(path);
        assert_eq!(errno(w.view().set_xattr(&node, b"user.a", b"", SetXattr::Any, &Caller::root())), EPERM);
        assert_eq!(w.view().xattr(&node, b"user.a").unwrap(), None);
        w.view().set_xattr(&node, b"trusted.a", b"1", SetXattr::Any, &Caller::root()).unwrap();
        assert_eq!(w.view().xattr(&node, b"trusted.a").unwrap(), Some(b"1".to_vec()));
    }
}

pub fn private_xattrs_are_hidden_and_escaped<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().dir("d").file("d/f", "").file("f", "x")]);
    w.mv("d", "moved");
    w.chmod("f", 0o600);
    w.unlink("moved/f").unwrap();
    for path in ["moved", "f", "/"] {
        assert_eq!(w.view().xattrs(&w.node(path)).unwrap(), Vec::<Vec<u8>>::new(), "{path}");
    }
    let root = Caller::root();
    for key in [&b"trusted.overlay.opaque"[..], b"trusted.overlay.redirect", b"trusted.overlay.x"] {
        assert_eq!(w.view().xattr(&w.node("moved"), key).unwrap(), None);
        w.view().set_xattr(&w.node("moved"), key, b"y", SetXattr::Any, &root).unwrap();
    }
    w.reopen();
    w.put("moved/new", "");
    assert_eq!(w.ls("moved"), "new");
    let mut names = w.view().xattrs(&w.node("moved")).unwrap();
    names.sort();
    assert_eq!(names[0], b"trusted.overlay.opaque");
    assert_eq!(names.len(), 3);
    assert_eq!(w.view().xattr(&w.node("moved"), b"trusted.overlay.opaque").unwrap(), Some(b"y".to_vec()));
}

pub fn writes_clear_capabilities<B: Bed>() {
    let capable = |path: &str| {
        Entry::new(path, What::File(Data::literal(b"x"))).xattr("security.capability", CAPABILITY)
    };
    let w =
        open_world!(B, [TreeSpec::new().with(capable("written")).with(capable("cut")).with(capable("kept"))]);
    let handle = w.open_file("written", WRITE).unwrap();
    write(&handle, 0, b"y").unwrap();
    w.view().truncate(&w.node("cut"), 0, &Caller::root()).unwrap();
    w.chmod("kept", 0o700);
    let get = |path: &str| w.view().xattr(&w.node(path), b"security.capability").unwrap();
    assert_eq!((get("written"), get("cut")), (None, None));
    assert_eq!(get("kept"), Some(CAPABILITY.to_vec()));
}
