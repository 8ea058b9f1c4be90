#![allow(clippy::unwrap_used, reason = "tests say what they expect")]
//! What callers without privilege must not keep or gain, by the rules that Linux applies (each was tried there).

use std::sync::atomic::{AtomicBool, Ordering};
use stratafs_core::{
    Access, Caller, Config, Inode, Name, New, RenameFlags, SetAttr, SetXattr, Stack, View, acl,
};
use stratafs_mem::{MemLayer, MemScratch};

type MemView = View<MemLayer, MemScratch>;
type MemInode = Inode<MemLayer, MemScratch>;

/// A group that the user is not in.
const FOREIGN: u32 = 5;

fn user() -> Caller {
    Caller::user(1000, 1000)
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn view() -> MemView {
    let layer = MemLayer::builder()
        .file("own", "x")
        .owner("own", 1000, 1000)
        .file("foreign", "x")
        .owner("foreign", 1000, FOREIGN)
        .dir("dir", 0o755)
        .owner("dir", 1000, FOREIGN)
        .dir("closed", 0o755)
        .file("closed/a", "x")
        .hard_link("closed/b", "closed/a")
        .build()
        .unwrap();
    View::new(Stack { layers: vec![layer], scratch: Some(MemScratch::new()) }, Config::default()).unwrap()
}

fn at(view: &MemView, path: &str) -> MemInode {
    view.resolve(&view.root(), path.as_bytes(), stratafs_core::Follow::No, &Caller::root()).unwrap()
}

fn mode(view: &MemView, path: &str) -> u32 {
    view.attr(&at(view, path)).unwrap().mode
}

fn chmod(view: &MemView, path: &str, mode: u32, caller: &Caller) {
    view.set_attr(&at(view, path), &SetAttr { mode: Some(mode), ..SetAttr::default() }, caller).unwrap();
}

const WRITE: Access = Access { read: false, write: true, append: false, truncate: false };

#[test]
fn every_write_clears_setuid_not_just_the_first_of_a_handle() {
    let view = view();
    let handle = view.open(&at(&view, "own"), WRITE, &user()).unwrap();
    handle.write_at(b"1", 0).unwrap();
    chmod(&view, "own", 0o6755, &user());
    handle.write_at(b"2", 0).unwrap();
    assert_eq!(mode(&view, "own"), 0o755);
    chmod(&view, "own", 0o4755, &user());
    handle.set_len(7).unwrap();
    assert_eq!(mode(&view, "own"), 0o755);
}

#[test]
fn every_write_drops_capabilities() {
    let view = view();
    let own = at(&view, "own");
    let handle = view.open(&own, WRITE, &user()).unwrap();
    handle.write_at(b"1", 0).unwrap();
    view.set_xattr(&own, b"security.capability", b"cap", SetXattr::Any, &Caller::root()).unwrap();
    handle.write_at(b"2", 0).unwrap();
    assert_eq!(view.xattr(&own, b"security.capability").unwrap(), None);
}

#[test]
fn setgid_of_a_foreign_group_does_not_outlive_a_write() {
    let view = view();
    chmod(&view, "foreign", 0o2644, &Caller::root());
    view.open(&at(&view, "foreign"), WRITE, &user()).unwrap().write_at(b"1", 0).unwrap();
    assert_eq!(mode(&view, "foreign"), 0o644);
    chmod(&view, "own", 0o2644, &Caller::root());
    view.open(&at(&view, "own"), WRITE, &user()).unwrap().write_at(b"1", 0).unwrap();
    assert_eq!(
        mode(&view, "own"),
        0o2644,
        "without group execution it is no privilege, and the group is the caller's"
    );
}

#[test]
fn setgid_of_a_foreign_group_is_not_given_to_directories() {
    let view = view();
    chmod(&view, "dir", 0o2755, &user());
    assert_eq!(mode(&view, "dir"), 0o755);
}

#[test]
fn an_access_list_clears_setgid_of_a_foreign_group() {
    let view = view();
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes()[..], &id.to_le_bytes()[..]].concat()
    };
    let entries = [entry(1, 7, !0), entry(2, 7, 8), entry(4, 5, !0), entry(0x10, 5, !0), entry(0x20, 5, !0)];
    let list = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
    for (path, after) in [("foreign", 0o755), ("own", 0o2755)] {
        chmod(&view, path, 0o2755, &Caller::root());
        view.set_xattr(&at(&view, path), acl::ACCESS, &list, SetXattr::Any, &user()).unwrap();
        assert_eq!(mode(&view, path), after, "{path}");
    }
}

#[test]
fn a_rename_between_names_of_one_object_asks_for_no_rights() {
    let view = view();
    let closed = at(&view, "closed");
    view.rename(&closed, name("a"), &closed, name("b"), RenameFlags::empty(), &user()).unwrap();
    let refused = view.rename(&closed, name("a"), &closed, name("c"), RenameFlags::empty(), &user());
    assert_eq!(refused.unwrap_err().errno(), 13);
    assert_eq!(view.make(&closed, name("c"), &New::file(0o644), &user()).unwrap_err().errno(), 13);
}

#[test]
fn a_check_of_the_owner_does_not_outlive_the_ownership() {
    let view = view();
    let own = at(&view, "own");
    let owner = |uid| SetAttr { uid: Some(uid), ..SetAttr::default() };
    let setuid = SetAttr { mode: Some(0o4755), ..SetAttr::default() };
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = view.set_attr(&own, &setuid, &user());
                }
            });
        }
        let mut stolen = 0;
        for _ in 0..20_000 {
            view.set_attr(&own, &owner(1000), &Caller::root()).unwrap();
            view.set_attr(&own, &owner(0), &Caller::root()).unwrap();
            let made = (0..3).any(|_| view.attr(&own).unwrap().mode & 0o4000 != 0);
            stolen += u32::from(made);
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(stolen, 0, "a user made setuid files of root's");
    });
}

#[test]
fn attributes_are_shown_to_those_who_may_see_them() {
    let view = view();
    let own = at(&view, "own");
    let root = Caller::root();
    for name in [&b"trusted.t"[..], b"user.u"] {
        view.set_xattr(&own, name, b"1", SetXattr::Any, &root).unwrap();
    }
    assert_eq!(view.xattr_as(&own, b"trusted.t", &root).unwrap().unwrap(), b"1");
    assert_eq!(view.xattr_as(&own, b"trusted.t", &user()).unwrap(), None);
    assert_eq!(view.xattrs_as(&own, &user()).unwrap(), [b"user.u"]);
    assert_eq!(view.xattr_as(&own, b"user.u", &user()).unwrap().unwrap(), b"1");
    chmod(&view, "own", 0o200, &root);
    assert_eq!(view.xattr_as(&own, b"user.u", &user()).unwrap_err().errno(), 13);
}
