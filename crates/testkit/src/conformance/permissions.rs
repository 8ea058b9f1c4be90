//! Callers without privilege: checked on the merged object, before anything is copied up.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::attrs::CAPABILITY;
use super::world::{Node, READ, WRITE, errno, name};
use super::{Bed, World, open_world};
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::write;
use stratafs_core::error::errno::*;
use stratafs_core::{
    Access, Caller, Config, Device, Follow, Kind, New, RenameFlags, Result, SetAttr, SetTime, SetXattr, Time,
    Untrusted, Want,
};

fn user() -> Caller {
    Caller::user(1000, 1000)
}

fn dir(path: &str, mode: u32, uid: u32) -> Entry {
    Entry::new(path, What::Dir { opaque: false }).mode(mode).owner(uid, uid)
}

fn file(path: &str, mode: u32, uid: u32) -> Entry {
    Entry::new(path, What::File(Data::literal(b"text"))).mode(mode).owner(uid, uid)
}

fn resolve<B: Bed>(w: &World<B>, path: &str) -> Result<Node<B>> {
    w.view().resolve(&w.view().root(), path.as_bytes(), Follow::Yes, &user())
}

pub fn searching_and_reading_need_permission<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new()
            .with(dir("closed", 0o700, 0))
            .with(file("closed/f", 0o644, 0))
            .with(dir("blind", 0o711, 0))
            .with(file("blind/f", 0o644, 0))
            .with(file("secret", 0o600, 0))
            .with(file("group", 0o640, 7))
            .with(file("own", 0o400, 1000))]
    );
    w.chmod("/", 0o755);
    let view = w.view();
    assert_eq!(errno(resolve(&w, "closed/f")), EACCES);
    assert!(resolve(&w, "blind/f").is_ok());
    assert_eq!(errno(view.open_dir(&w.node("blind"), &user())), EACCES);
    assert_eq!(errno(view.open_dir(&w.node("closed"), &user())), EACCES);
    assert_eq!(errno(view.open(&w.node("secret"), READ, &user())), EACCES);
    assert_eq!(errno(view.open(&w.node("group"), READ, &user())), EACCES);
    let member = Caller { groups: vec![3, 7], ..user() };
    assert!(view.open(&w.node("group"), READ, &member).is_ok());
    assert!(view.open(&w.node("own"), READ, &user()).is_ok());
    assert_eq!(errno(view.open(&w.node("own"), WRITE, &user())), EACCES);
    assert!(view.access(&w.node("own"), Want::READ, &user()).is_ok());
    assert_eq!(errno(view.access(&w.node("own"), Want::READ | Want::WRITE, &user())), EACCES);
    assert_eq!(errno(view.access(&w.node("own"), Want::EXEC, &Caller::root())), EACCES);
}

pub fn changes_need_permission<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new()
            .with(dir("theirs", 0o755, 0))
            .with(file("theirs/f", 0o666, 0))
            .with(dir("mine", 0o755, 1000))
            .with(file("mine/f", 0o644, 0))]
    );
    let (view, theirs, mine) = (w.view(), w.node("theirs"), w.node("mine"));
    let none = RenameFlags::empty();
    let refused: Vec<Result<()>> = vec![
        view.make(&theirs, name("n"), &New::file(0o644), &user()).map(drop),
        view.make(&theirs, name("n"), &New::dir(0o755), &user()).map(drop),
        view.unlink(&theirs, name("f"), &user()),
        view.rename(&theirs, name("f"), &mine, name("n"), none, &user()),
        view.rename(&mine, name("f"), &theirs, name("n"), none, &user()),
        view.link(&w.node("theirs/f"), &theirs, name("n"), &user()),
        view.truncate(&w.node("mine/f"), 0, &user()),
    ];
    for (n, result) in refused.into_iter().enumerate() {
        assert_eq!(errno(result), EACCES, "change {n}");
    }
    assert_eq!(w.changes(), [""; 0], "nothing was copied up");
    view.make(&mine, name("n"), &New::file(0o644), &user()).unwrap();
    view.unlink(&mine, name("f"), &user()).unwrap();
    let device = New::node(Kind::Char, 0o600, Device { major: 1, minor: 3 });
    assert_eq!(errno(view.make(&mine, name("null"), &device, &user())), EPERM);
}

pub fn refused_opens_copy_nothing_up<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().with(file("f", 0o444, 0))]);
    for access in [WRITE, Access { truncate: true, ..WRITE }, Access { append: true, ..WRITE }] {
        assert_eq!(errno(w.view().open(&w.node("f"), access, &user())), EACCES);
    }
    assert_eq!((w.changes().len(), w.text("f").as_str()), (0, "text"));
}

pub fn sticky_directories_protect_names<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new()
            .with(dir("tmp", 0o1777, 0))
            .with(file("tmp/theirs", 0o666, 2))
            .with(file("tmp/mine", 0o666, 1000))]
    );
    let (view, tmp) = (w.view(), w.node("tmp"));
    let none = RenameFlags::empty();
    assert_eq!(errno(view.unlink(&tmp, name("theirs"), &user())), EPERM);
    assert_eq!(errno(view.rename(&tmp, name("theirs"), &tmp, name("x"), none, &user())), EPERM);
    assert_eq!(errno(view.rename(&tmp, name("mine"), &tmp, name("theirs"), none, &user())), EPERM);
    view.rename(&tmp, name("mine"), &tmp, name("moved"), none, &user()).unwrap();
    view.unlink(&tmp, name("moved"), &user()).unwrap();
    assert_eq!(w.ls("tmp"), "theirs");
}

pub fn owners_and_modes<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().with(file("theirs", 0o666, 0)).with(file("mine", 0o644, 1000))]);
    let view = w.view();
    let set = |path: &str, set: SetAttr| view.set_attr(&w.node(path), &set, &user());
    let mode = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    let owner = |uid, gid| SetAttr { uid, gid, ..SetAttr::default() };
    assert_eq!(errno(set("theirs", mode(0o777))), EPERM);
    assert_eq!(errno(set("theirs", owner(Some(1000), None))), EPERM);
    assert_eq!(errno(set("mine", owner(Some(0), None))), EPERM);
    assert_eq!(errno(set("mine", owner(None, Some(5)))), EPERM);
    let at = Some(SetTime::At(Time { secs: 1, nanos: 0 }));
    assert_eq!(errno(set("theirs", SetAttr { mtime: at, ..SetAttr::default() })), EPERM);
    let now = SetAttr { mtime: Some(SetTime::Now), atime: Some(SetTime::Now), ..SetAttr::default() };
    assert_eq!(w.changes(), [""; 0]);
    set("theirs", now).unwrap();
    set("mine", mode(0o2600)).unwrap();
    set("mine", SetAttr { mtime: at, ..SetAttr::default() }).unwrap();
    assert_eq!(w.attr("mine").mode, 0o2600);
    let member = Caller { groups: vec![5], ..user() };
    view.set_attr(&w.node("mine"), &owner(None, Some(5)), &member).unwrap();
    assert_eq!(w.attr("mine").gid, 5);
    // A group that the caller is not in takes setgid away (chmod(2)).
    w.chown("mine", 1000, 6);
    set("mine", mode(0o2755)).unwrap();
    assert_eq!(w.attr("mine").mode, 0o755);
}

pub fn xattr_namespaces_are_guarded<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().with(file("mine", 0o644, 1000)).with(file("theirs", 0o644, 0))]);
    let view = w.view();
    let set =
        |path: &str, key: &str| view.set_xattr(&w.node(path), key.as_bytes(), b"y", SetXattr::Any, &user());
    for key in [
        "trusted.x",
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "security.capability",
        "security.other",
    ] {
        assert_eq!(errno(set("mine", key)), EPERM, "{key}");
        assert_eq!(errno(view.remove_xattr(&w.node("mine"), key.as_bytes(), &user())), EPERM, "{key}");
    }
    assert_eq!(errno(set("theirs", "user.x")), EACCES);
    assert_eq!(w.changes(), [""; 0]);
    set("mine", "user.x").unwrap();
}

pub fn writes_by_users_clear_setid<B: Bed>() {
    let w = open_world!(
        B,
        [TreeSpec::new().with(file("w", 0o6777, 0)).with(file("t", 0o6777, 0)).with(file("o", 0o6777, 0))]
    );
    let handle = w.view().open(&w.node("w"), WRITE, &user()).unwrap();
    write(&handle, 0, b"x").unwrap();
    w.view().truncate(&w.node("t"), 1, &user()).unwrap();
    drop(w.view().open(&w.node("o"), Access { truncate: true, ..WRITE }, &user()).unwrap());
    for path in ["w", "t", "o"] {
        assert_eq!(w.attr(path).mode, 0o777, "{path}");
    }
}

pub fn new_objects_belong_to_their_maker<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().with(dir("d", 0o777, 0))]);
    let d = w.node("d");
    for (path, new) in [("f", New::file(0o600)), ("sub", New::dir(0o700)), ("s", New::symlink(b"t"))] {
        w.view().make(&d, name(path), &new, &user()).unwrap();
        let attr = w.attr(&format!("d/{path}"));
        assert_eq!((attr.uid, attr.gid), (1000, 1000), "{path}");
    }
}

pub fn untrusted_layers_are_stripped<B: Bed>() {
    let mut w = open_world!(
        B,
        [TreeSpec::new()
            .with(file("f", 0o6755, 0).xattr("security.capability", CAPABILITY))
            .with(Entry::new("null", What::Node(Kind::Char, Device { major: 1, minor: 3 })))]
    );
    w.reopen_with(Config { untrusted: Untrusted::STRIP, ..Config::default() });
    w.touch("f", 5, 5);
    assert_eq!(w.attr("f").mode, 0o755, "setuid does not come up");
    assert_eq!(w.view().xattr(&w.node("f"), b"security.capability").unwrap(), None);
    let chmod = SetAttr { mode: Some(0o666), ..SetAttr::default() };
    assert_eq!(errno(w.view().set_attr(&w.node("null"), &chmod, &Caller::root())), EPERM);
    assert_eq!(w.changes().len(), 1);
}
