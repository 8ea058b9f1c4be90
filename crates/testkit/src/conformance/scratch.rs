//! Every verb of [`Scratch`] by itself, without a view.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::Bed;
use super::world::{errno, name};
use crate::spec::{StackSpec, TreeSpec};
use std::ops::ControlFlow;
use stratafs_core::error::errno::*;
use stratafs_core::{
    Allocate, At, Attr, Copied, Device, Found, Hit, Kind, Layer, Leave, Mark, NlinkBase, Origin, Over,
    ReadAt, Redirect, Scratch, Seed, SetAttr, SetTime, SetXattr, Sync, Time, Whole, WriteAt,
};

const FILE: Seed<'static> =
    Seed { kind: Kind::File, mode: 0o640, uid: 1, gid: 2, rdev: Device { major: 0, minor: 0 }, target: b"" };
const DIR: Seed<'static> = Seed { kind: Kind::Dir, mode: 0o750, ..FILE };

/// A node of a bed's scratch.
type S<B> = <<B as Bed>::S as Layer>::Node;

fn root<S: Scratch>(s: &S) -> S::Node {
    s.root().unwrap().node
}

fn make<S: Scratch>(s: &S, dir: &S::Node, path: &str, seed: &Seed<'_>) -> S::Node {
    s.publish(s.stage(seed).unwrap(), At { dir, name: name(path) }, Over::Nothing).unwrap()
}

fn hit<S: Scratch>(s: &S, dir: &S::Node, path: &str) -> Hit<S::Node> {
    match s.lookup(dir, name(path)).unwrap() {
        Found::Node(hit) => hit,
        other => panic!("{path}: {other:?}"),
    }
}

fn attr<S: Scratch>(s: &S, dir: &S::Node, path: &str) -> Attr {
    hit(s, dir, path).attr
}

fn is_whiteout<S: Scratch>(s: &S, dir: &S::Node, path: &str) -> bool {
    matches!(s.lookup(dir, name(path)).unwrap(), Found::Whiteout)
}

fn is_absent<S: Scratch>(s: &S, dir: &S::Node, path: &str) -> bool {
    matches!(s.lookup(dir, name(path)).unwrap(), Found::Absent)
}

fn ls<S: Scratch>(s: &S, dir: &S::Node) -> String {
    let mut names = Vec::new();
    s.read_dir(dir, &mut |entry| {
        let mark = if entry.kind.is_none() { "!" } else { "" };
        names.push(format!("{mark}{}", entry.name.as_bytes().escape_ascii()));
        ControlFlow::Continue(())
    })
    .unwrap();
    names.sort();
    names.join(" ")
}

fn put<S: Scratch>(s: &S, node: &S::Node, text: &[u8]) {
    let file = s.open_write(node).unwrap();
    assert_eq!(file.write_at(text, 0).unwrap(), text.len());
}

fn text<S: Scratch>(s: &S, node: &S::Node) -> String {
    let mut buf = [0; 64];
    let n = s.open(node).unwrap().read_at(&mut buf, 0).unwrap();
    String::from_utf8_lossy(&buf[..n]).into_owned()
}

/// Opens a scratch, or returns from the test.
macro_rules! scratch {
    ($bed:ty) => {
        match <$bed>::new(&StackSpec::one(TreeSpec::new())) {
            Some(bed) => bed,
            None => return,
        }
    };
}

pub fn staged_objects_are_published_or_gone<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let dir = root(&s);
    let device = Device { major: 1, minor: 3 };
    let seeds = [
        ("file", FILE),
        ("dir", DIR),
        ("link", Seed { kind: Kind::Symlink, target: b"some/where", ..FILE }),
        ("fifo", Seed { kind: Kind::Fifo, ..FILE }),
        ("socket", Seed { kind: Kind::Socket, ..FILE }),
        ("null", Seed { kind: Kind::Char, rdev: device, ..FILE }),
        ("loop", Seed { kind: Kind::Block, rdev: Device { major: 7, minor: 1 }, ..FILE }),
    ];
    for (path, seed) in &seeds {
        drop(s.stage(seed).unwrap());
        let staged = s.stage(seed).unwrap();
        let node = s.staged(&staged).clone();
        assert_eq!(s.attr(&node).unwrap().kind, seed.kind);
        s.publish(staged, At { dir: &dir, name: name(path) }, Over::Nothing).unwrap();
        let attr = attr(&s, &dir, path);
        assert_eq!((attr.kind, attr.uid, attr.gid), (seed.kind, 1, 2), "{path}");
        if seed.kind != Kind::Symlink {
            assert_eq!(attr.mode, seed.mode, "{path}: exactly, no umask");
        }
    }
    assert_eq!(ls(&s, &dir), "dir fifo file link loop null socket");
    assert_eq!(
        (attr(&s, &dir, "null").rdev, s.read_link(&hit(&s, &dir, "link").node).unwrap()),
        (device, b"some/where".to_vec())
    );
    drop((dir, s));
    let s = bed.scratch();
    assert_eq!(ls(&s, &root(&s)), "dir fifo file link loop null socket", "after opening again");
}

/// An access list: the owner, a group (7) and all others may read, `mask` limits the group.
fn acl(mask: u8) -> Vec<u8> {
    let entry = |tag: u8, rights: u8, id: u32| {
        let mut entry = vec![tag, 0, rights, 0];
        entry.extend(id.to_le_bytes());
        entry
    };
    let nobody = u32::MAX;
    let entries = [
        entry(1, 6, nobody),
        entry(4, 4, nobody),
        entry(8, 4, 7),
        entry(0x10, mask, nobody),
        entry(0x20, 4, nobody),
    ];
    [2, 0, 0, 0].into_iter().chain(entries.concat()).collect()
}

pub fn whole_objects_are_put<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let mtime = Time { secs: -7, nanos: 123_456_789 };
    let xattrs = [
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.x".to_vec(), vec![0, 255, 10]),
        (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    let (dir, rdev) = (Seed { mode: 0o1777, ..DIR }, Device { major: 1, minor: 3 });
    let seeds = [
        ("plain", Seed { mode: 0o644, uid: 0, gid: 0, ..FILE }, 0),
        ("file", Seed { mode: 0o4755, ..FILE }, 3),
        ("shut", Seed { mode: 0, ..FILE }, 1),
        ("dir", dir, 2),
        ("link", Seed { kind: Kind::Symlink, target: b"some/where", ..FILE }, 0),
        ("fifo", Seed { kind: Kind::Fifo, mode: 0o666, ..FILE }, 0),
        ("null", Seed { kind: Kind::Char, mode: 0o666, rdev, ..FILE }, 0),
    ];
    for (path, seed, marks) in &seeds {
        let at = At { dir: &top, name: name(path) };
        let whole = Whole { seed: *seed, mtime, xattrs: &xattrs[..*marks] };
        let mut filled = 0;
        let node = s
            .put(at, &whole, &mut |file| {
                filled += 1;
                file.write_at(b"content", 0).map(drop)
            })
            .unwrap();
        assert_eq!(filled, u32::from(seed.kind == Kind::File), "{path}");
        let found = hit(&s, &top, path);
        let is = found.attr;
        assert_eq!((is.kind, is.uid, is.gid, is.mtime), (seed.kind, seed.uid, seed.gid, mtime), "{path}");
        if seed.kind != Kind::Symlink {
            assert_eq!(is.mode, seed.mode, "{path}: exactly, whatever the data and the owner did to it");
        }
        assert_eq!((s.attr(&node).unwrap().id, found.marks.opaque), (is.id, false), "{path}");
        assert_eq!(s.xattrs(&node).unwrap().len(), *marks, "{path}");
        for (name, value) in &xattrs[..*marks] {
            assert_eq!(s.xattr(&node, name).unwrap().as_ref(), Some(value), "{path}");
        }
        let again = s.put(at, &whole, &mut |_| panic!("{path}: the content is asked for in vain"));
        assert_eq!(errno(again), EEXIST, "{path}: nothing is replaced");
    }
    assert_eq!(text(&s, &hit(&s, &top, "file").node), "content");
    assert_eq!(s.read_link(&hit(&s, &top, "link").node).unwrap(), b"some/where");
    assert_eq!(attr(&s, &top, "null").rdev, rdev);
    let inner = hit(&s, &top, "dir").node;
    let whole = Whole { seed: FILE, mtime, xattrs: &[] };
    s.put(At { dir: &inner, name: name("f") }, &whole, &mut |_| Ok(())).unwrap();
    assert_eq!((ls(&s, &inner), ls(&s, &top)), ("f".into(), "dir fifo file link null plain shut".into()));
    let taken = s.put(At { dir: &inner, name: name("g") }, &whole, &mut |file| file.set_len(u64::MAX));
    assert!(taken.is_err(), "what goes wrong with the content is said");
}

pub fn what_is_put_inherits_nothing<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let put = |dir: &S<B>, path: &str, seed, xattrs: &[(Vec<u8>, Vec<u8>)]| {
        let whole = Whole { seed, mtime: Time { secs: 5, nanos: 0 }, xattrs };
        s.put(At { dir, name: name(path) }, &whole, &mut |_| Ok(())).unwrap()
    };
    let (access, default) = (b"system.posix_acl_access".to_vec(), b"system.posix_acl_default".to_vec());
    let passing = put(&top, "passing", Seed { mode: 0o2755, ..DIR }, &[(default.clone(), acl(4))]);
    let marked = put(&top, "marked", Seed { mode: 0o2755, ..DIR }, &[]);
    put(&marked, "before", Seed { mode: 0o664, ..FILE }, &[]);
    s.set_xattr(&marked, &default, &acl(4), SetXattr::Any).unwrap();
    for dir in [&passing, &marked] {
        for (path, kind) in [("f", Kind::File), ("d", Kind::Dir), ("p", Kind::Fifo)] {
            let node = put(dir, path, Seed { kind, mode: 0o664, ..FILE }, &[]);
            let is = s.attr(&node).unwrap();
            assert_eq!((is.mode, is.uid, is.gid), (0o664, 1, 2), "{path}");
            assert_eq!(s.xattrs(&node).unwrap(), Vec::<Vec<u8>>::new(), "{path}");
        }
    }
    s.remove_xattr(&marked, &default).unwrap();
    let own = put(&marked, "own", Seed { mode: 0o644, ..FILE }, &[(access.clone(), acl(4))]);
    assert_eq!(s.attr(&own).unwrap().mode, 0o644);
    assert_eq!(s.xattr(&own, &access).unwrap(), Some(acl(4)));
}

pub fn publishing_over_what_is_there<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let dir = root(&s);
    let publish = |path: &str, seed: &Seed<'_>, over| {
        s.publish(s.stage(seed).unwrap(), At { dir: &dir, name: name(path) }, over)
    };
    publish("f", &FILE, Over::Nothing).unwrap();
    assert_eq!(errno(publish("f", &FILE, Over::Nothing)), EEXIST);
    s.whiteout(At { dir: &dir, name: name("w") }).unwrap();
    assert!(is_whiteout(&s, &dir, "w"));
    assert_eq!(errno(publish("w", &FILE, Over::Nothing)), EEXIST);
    publish("w", &DIR, Over::Whiteout).unwrap();
    s.whiteout(At { dir: &dir, name: name("w2") }).unwrap();
    publish("w2", &FILE, Over::Whiteout).unwrap();
    let ino = attr(&s, &dir, "f").id;
    publish("f", &FILE, Over::Object).unwrap();
    assert_ne!(attr(&s, &dir, "f").id, ino);
    assert_eq!(ls(&s, &dir), "f w w2");
    assert_eq!(attr(&s, &dir, "w").kind, Kind::Dir);
}

pub fn whiteouts_and_clear<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let dir = make(&s, &top, "d", &DIR);
    for path in ["a", "b"] {
        s.whiteout(At { dir: &dir, name: name(path) }).unwrap();
    }
    assert_eq!(errno(s.whiteout(At { dir: &dir, name: name("a") })), EEXIST);
    assert_eq!(ls(&s, &dir), "!a !b");
    s.set_attr(&dir, &SetAttr { mode: Some(0o711), ..SetAttr::default() }).unwrap();
    let clear = s.clear(&dir, At { dir: &top, name: name("d") }).unwrap();
    assert_eq!(ls(&s, &clear), "");
    let now = hit(&s, &top, "d");
    assert!(now.marks.opaque && now.attr.mode == 0o711);
    let other = make(&s, &top, "other", &DIR);
    s.whiteout(At { dir: &other, name: name("x") }).unwrap();
    s.remove(&other, At { dir: &top, name: name("other") }, Leave::Nothing).unwrap();
    s.remove(&clear, At { dir: &top, name: name("d") }, Leave::Whiteout).unwrap();
    assert!(is_absent(&s, &top, "other") && is_whiteout(&s, &top, "d"));
    let file = make(&s, &top, "f", &FILE);
    s.remove(&file, At { dir: &top, name: name("f") }, Leave::Whiteout).unwrap();
    assert!(is_whiteout(&s, &top, "f"));
    let full = make(&s, &top, "full", &DIR);
    make(&s, &full, "x", &FILE);
    assert_eq!(errno(s.remove(&full, At { dir: &top, name: name("full") }, Leave::Nothing)), ENOTEMPTY);
}

pub fn links_and_renames<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let dir = make(&s, &top, "d", &DIR);
    let file = make(&s, &top, "f", &FILE);
    put(&s, &file, b"text");
    let linked = s.link(&file, At { dir: &dir, name: name("g") }, Over::Nothing).unwrap();
    assert_eq!((attr(&s, &dir, "g").nlink, text(&s, &linked)), (2, "text".into()));
    assert_eq!(errno(s.link(&file, At { dir: &dir, name: name("g") }, Over::Nothing)), EEXIST);
    let from = At { dir: &dir, name: name("g") };
    let moved =
        s.rename(&linked, from, At { dir: &top, name: name("h") }, Leave::Whiteout, Over::Nothing).unwrap();
    assert!(is_whiteout(&s, &dir, "g") && text(&s, &moved) == "text");
    let to = At { dir: &dir, name: name("g") };
    let back =
        s.rename(&moved, At { dir: &top, name: name("h") }, to, Leave::Nothing, Over::Whiteout).unwrap();
    assert!(is_absent(&s, &top, "h") && text(&s, &back) == "text");
    let victim = make(&s, &top, "victim", &FILE);
    put(&s, &victim, b"gone");
    let over = At { dir: &top, name: name("victim") };
    assert_eq!(errno(s.rename(&back, to, over, Leave::Nothing, Over::Nothing)), EEXIST);
    let renamed = s.rename(&back, to, over, Leave::Whiteout, Over::Object).unwrap();
    assert_eq!((text(&s, &renamed), ls(&s, &dir)), ("text".into(), "!g".into()));
    let from = At { dir: &top, name: name("d") };
    let dir =
        s.rename(&dir, from, At { dir: &top, name: name("e") }, Leave::Whiteout, Over::Nothing).unwrap();
    let inner = make(&s, &dir, "inner", &FILE);
    put(&s, &inner, b"x");
    assert_eq!(ls(&s, &top), "!d e f victim");
    assert_eq!(ls(&s, &hit(&s, &top, "e").node), "!g inner");
}

pub fn exchange_keeps_both<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let (dir, file) = (make(&s, &top, "d", &DIR), make(&s, &top, "f", &FILE));
    make(&s, &dir, "child", &FILE);
    let (a, b) = (At { dir: &top, name: name("d") }, At { dir: &top, name: name("f") });
    let (now_d, now_f) = s.exchange((&dir, a), (&file, b)).unwrap();
    assert_eq!((s.attr(&now_d).unwrap().kind, s.attr(&now_f).unwrap().kind), (Kind::File, Kind::Dir));
    assert_eq!((attr(&s, &top, "d").kind, ls(&s, &hit(&s, &top, "f").node)), (Kind::File, "child".into()));
}

pub fn marks_are_kept<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let (dir, file) = (make(&s, &top, "d", &DIR), make(&s, &top, "f", &FILE));
    let origin = s.origin(&file).unwrap();
    let redirect = Redirect::parse(b"/other/place").unwrap();
    s.mark(&dir, Mark::Redirect(&redirect)).unwrap();
    s.mark(&dir, Mark::Impure).unwrap();
    s.mark(&file, Mark::Origin(&origin)).unwrap();
    let features = s.features();
    if features.metacopy {
        s.mark(&file, Mark::Metacopy).unwrap();
    }
    if features.index {
        s.mark(&file, Mark::Nlink(NlinkBase::Lower(-1))).unwrap();
    }
    drop((top, dir, file, s));
    let s = bed.scratch();
    let top = root(&s);
    let (d, f) = (hit(&s, &top, "d"), hit(&s, &top, "f"));
    assert_eq!((d.marks.redirect.as_ref(), d.marks.impure, d.marks.opaque), (Some(&redirect), true, false));
    assert_eq!((f.marks.origin, f.marks.metacopy), (Some(origin), features.metacopy));
    assert_eq!(f.marks.nlink, features.index.then_some(NlinkBase::Lower(-1)));
    assert_eq!(
        (s.xattrs(&d.node).unwrap().len(), s.xattrs(&f.node).unwrap().len()),
        (0, 0),
        "marks are no xattrs"
    );
    s.mark(&d.node, Mark::Opaque).unwrap();
    s.mark(&f.node, Mark::OwnData).unwrap();
    assert!(s.marks(&d.node).unwrap().opaque && !s.marks(&f.node).unwrap().metacopy);
}

pub fn the_index<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    if !s.features().index {
        return;
    }
    let top = root(&s);
    let layer = bed.layers().remove(0);
    let origin: Origin = layer.origin(&layer.root().unwrap().node).unwrap();
    assert!(s.indexed(&origin).unwrap().is_none());
    let node = s.publish_indexed(s.stage(&FILE).unwrap(), &origin).unwrap();
    put(&s, &node, b"indexed");
    assert_eq!(ls(&s, &top), "");
    s.link(&node, At { dir: &top, name: name("f") }, Over::Nothing).unwrap();
    drop((top, node, s));
    let s = bed.scratch();
    let found = s.indexed(&origin).unwrap().expect("it is in the index");
    assert_eq!(text(&s, &found.node), "indexed");
    assert_eq!(found.attr.id, attr(&s, &root(&s), "f").id);
    s.drop_indexed(&origin).unwrap();
    s.drop_indexed(&origin).unwrap();
    assert!(s.indexed(&origin).unwrap().is_none());
    assert_eq!(text(&s, &hit(&s, &root(&s), "f").node), "indexed");
}

pub fn kept_and_pinned_objects<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let kept = s.keep(s.stage(&FILE).unwrap()).unwrap();
    put(&s, &kept, b"kept");
    let file = make(&s, &top, "f", &FILE);
    put(&s, &file, b"file");
    let pinned = s.pin(&file).unwrap();
    s.remove(&file, At { dir: &top, name: name("f") }, Leave::Nothing).unwrap();
    assert_eq!(
        (text(&s, &kept), text(&s, &pinned), ls(&s, &top)),
        ("kept".into(), "file".into(), String::new())
    );
    s.set_attr(&pinned, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    assert_eq!((s.attr(&pinned).unwrap().mode, s.attr(&pinned).unwrap().nlink), (0o600, 0));
}

pub fn file_data<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let (from, to) = (make(&s, &top, "from", &FILE), make(&s, &top, "to", &FILE));
    let source = s.open_write(&from).unwrap();
    source.write_at(b"head", 0).unwrap();
    source.set_len(1 << 20).unwrap();
    source.write_at(b"tail", (1 << 20) - 4).unwrap();
    assert_eq!(
        (source.size().unwrap(), source.seek_data(65_536).unwrap().unwrap() > 65_536),
        (1 << 20, true)
    );
    let target = s.open_write(&to).unwrap();
    assert_ne!(target.fill(&source, (1 << 20) - 2).unwrap(), Copied::Empty);
    assert_eq!(target.size().unwrap(), (1 << 20) - 2);
    let mut buf = [9; 8];
    assert_eq!(target.read_at(&mut buf, (1 << 20) - 6).unwrap(), 4);
    assert_eq!(&buf[..4], b"\0\0ta");
    assert!(target.seek_hole(0).unwrap().unwrap() < 1 << 19, "holes are kept");
    target.allocate(Allocate::PunchHole, 0, 2).unwrap();
    assert_eq!(target.copy_range(&source, 2, 0, 1).unwrap(), 1);
    assert_eq!(target.read_at(&mut buf[..4], 0).unwrap(), 4);
    assert_eq!(&buf[..4], b"a\0ad");
    let empty = s.open_write(&make(&s, &top, "empty", &FILE)).unwrap();
    assert_eq!(empty.fill(&source, 0).unwrap(), Copied::Empty);
    assert_eq!(empty.size().unwrap(), 0);
}

pub fn attributes_and_xattrs<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let node = make(&s, &top, "f", &FILE);
    let (a, m) = (Time { secs: 7, nanos: 1 }, Time { secs: 8, nanos: 999_999_999 });
    let set = SetAttr {
        mode: Some(0o6711),
        uid: Some(100),
        gid: Some(200),
        atime: Some(SetTime::At(a)),
        mtime: Some(SetTime::At(m)),
    };
    s.set_attr(&node, &set).unwrap();
    let got = s.attr(&node).unwrap();
    assert_eq!(
        (got.mode, got.uid, got.gid, got.atime, got.mtime),
        (0o6711, 100, 200, a, m),
        "owner first, mode after"
    );
    s.set_xattr(&node, b"user.a", b"1", SetXattr::Create).unwrap();
    assert_eq!(errno(s.set_xattr(&node, b"user.a", b"1", SetXattr::Create)), EEXIST);
    assert_eq!(errno(s.set_xattr(&node, b"user.b", b"1", SetXattr::Replace)), ENODATA);
    s.set_xattr(&node, b"trusted.overlay.opaque", b"y", SetXattr::Any).unwrap();
    assert!(!s.marks(&node).unwrap().opaque, "a user's attribute is no mark");
    let mut names = s.xattrs(&node).unwrap();
    names.sort();
    assert_eq!(names, [b"trusted.overlay.opaque".to_vec(), b"user.a".to_vec()]);
    s.remove_xattr(&node, b"user.a").unwrap();
    assert_eq!(errno(s.remove_xattr(&node, b"user.a")), ENODATA);
    assert_eq!(s.xattr(&node, b"user.a").unwrap(), None);
}

pub fn durability_and_space<B: Bed>() {
    let bed = scratch!(B);
    let s = bed.scratch();
    let top = root(&s);
    let node = make(&s, &top, "f", &FILE);
    for how in [Sync::Data, Sync::All] {
        s.open_write(&node).unwrap().sync(how).unwrap();
        s.sync(&node, how).unwrap();
        s.sync(&top, how).unwrap();
    }
    s.sync_all().unwrap();
    let space = s.stat_fs().unwrap();
    assert!(space.block_size > 0 && space.name_max >= 255);
}
