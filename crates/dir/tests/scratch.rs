//! [`DirScratch`]: every verb, on the disk it leaves behind, with both resolvers.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::bed::*;
use common::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use stratafs_core::*;
use stratafs_dir::{DirLayer, LayerOptions, Ownership, Resolver, ScratchOptions};
use tempfile::tempdir;

/// All tests of this file once more, as nobody.
#[test]
fn everything_works_without_privilege() {
    again_as_nobody();
}

#[test]
fn every_kind_is_staged_exactly_and_published() {
    let bed = bed();
    let old = unsafe_umask(0o077);
    for (i, kind) in [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Socket].into_iter().enumerate()
    {
        let n = format!("o{i}");
        let staged = bed.scratch.stage(&seed(kind, 0o4757)).unwrap();
        assert!(bed.scratch.attr(bed.scratch.staged(&staged)).unwrap().kind == kind);
        let node =
            bed.scratch.publish(staged, At { dir: &bed.root(), name: name(&n) }, Over::Nothing).unwrap();
        let attr = bed.scratch.attr(&node).unwrap();
        assert_eq!(attr.kind, kind);
        if kind == Kind::Symlink {
            assert_eq!(bed.scratch.read_link(&node).unwrap(), b"to");
        } else {
            assert_eq!(attr.mode, 0o4757, "{kind:?}");
        }
        let again = bed.put(&bed.root(), &n, kind, Over::Nothing).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        drop(bed.scratch.stage(&seed(kind, 0o700)).unwrap());
    }
    unsafe_umask(old);
    assert_eq!(bed.leftovers(), Vec::<String>::new());
    let mut device = seed(Kind::Char, 0o600);
    assert_eq!(bed.scratch.stage(&device).unwrap_err().kind(), ErrorKind::NotPermitted);
    device.rdev = Device { major: 1, minor: 3 };
    if is_root() {
        let staged = bed.scratch.stage(&device).unwrap();
        assert_eq!(bed.scratch.attr(bed.scratch.staged(&staged)).unwrap().rdev, device.rdev);
    }
}

fn unsafe_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

#[test]
fn objects_are_published_over_whiteouts_and_objects() {
    let bed = bed();
    let root = bed.root();
    for kind in [Kind::File, Kind::Dir, Kind::Symlink] {
        let at = At { dir: &root, name: name("x") };
        bed.scratch.whiteout(at).unwrap();
        assert!(bed.is_whiteout("x") && is_whiteout(&bed.scratch, "x"));
        assert_eq!(bed.scratch.whiteout(at).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let node = bed.put(&root, "x", kind, Over::Whiteout).unwrap();
        assert_eq!(bed.scratch.attr(&node).unwrap().kind, kind);
        assert_eq!(bed.put(&root, "x", kind, Over::Whiteout).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let node = bed.put(&root, "x", kind, Over::Object).unwrap();
        if kind == Kind::Dir {
            bed.put(&node, "in", Kind::File, Over::Nothing).unwrap();
            let full = bed.put(&root, "x", kind, Over::Object).unwrap_err();
            assert_eq!(full.kind(), ErrorKind::NotEmpty);
            let inner = hit(&bed.scratch, "x/in").node;
            bed.scratch.remove(&inner, At { dir: &node, name: name("in") }, Leave::Whiteout).unwrap();
            bed.put(&root, "x", kind, Over::Object).unwrap();
            assert!(is_absent(&bed.scratch, "x/in"));
        }
        let node = hit(&bed.scratch, "x").node;
        bed.scratch.remove(&node, at, Leave::Nothing).unwrap();
        assert!(is_absent(&bed.scratch, "x"));
    }
    assert_eq!(bed.leftovers(), Vec::<String>::new());
}

#[test]
fn an_xattr_whiteout_of_a_foreign_upper_is_replaced_too() {
    let bed = bed();
    for n in ["a", "b"] {
        fs::write(bed.upper(n), b"").unwrap();
        set(bed.upper(n), "user.overlay.whiteout", b"");
        assert!(is_whiteout(&bed.scratch, n));
    }
    let node = bed.put(&bed.root(), "a", Kind::Dir, Over::Whiteout).unwrap();
    let root = bed.root();
    let (from, to) = (At { dir: &root, name: name("a") }, At { dir: &root, name: name("b") });
    bed.scratch.rename(&node, from, to, Leave::Whiteout, Over::Whiteout).unwrap();
    assert!(bed.is_whiteout("a") && bed.upper("b").is_dir());
}

#[test]
fn whiteouts_share_one_inode() {
    let bed = bed();
    for i in 0..10 {
        bed.scratch.whiteout(At { dir: &bed.root(), name: name(&format!("w{i}")) }).unwrap();
    }
    assert_eq!(fs::symlink_metadata(bed.upper("w0")).unwrap().nlink(), 11);
    fs::remove_file(fs::read_dir(bed.dir.path().join("work/work")).unwrap().next().unwrap().unwrap().path())
        .unwrap();
    bed.scratch.whiteout(At { dir: &bed.root(), name: name("after") }).unwrap();
    assert!(bed.is_whiteout("after"));
}

#[test]
fn removal_leaves_nothing_or_a_whiteout() {
    let bed = bed();
    let root = bed.root();
    let f = bed.file("f");
    let d = bed.mkdir("d");
    bed.scratch.whiteout(At { dir: &d, name: name("w") }).unwrap();
    let inner = bed.put(&d, "in", Kind::File, Over::Nothing).unwrap();
    for leave in [Leave::Nothing, Leave::Whiteout] {
        let full = bed.scratch.remove(&d, At { dir: &root, name: name("d") }, leave).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::NotEmpty);
        assert!(bed.upper("d/in").exists() && bed.is_whiteout("d/w"));
    }
    bed.scratch.remove(&inner, At { dir: &d, name: name("in") }, Leave::Nothing).unwrap();
    bed.scratch.remove(&f, At { dir: &root, name: name("f") }, Leave::Whiteout).unwrap();
    bed.scratch.remove(&d, At { dir: &root, name: name("d") }, Leave::Whiteout).unwrap();
    assert!(bed.is_whiteout("f") && bed.is_whiteout("d"));
    assert_eq!(bed.scratch.lookup(&d, name("x")).unwrap_err().kind(), ErrorKind::Stale);
    let e = bed.mkdir("e");
    bed.scratch.whiteout(At { dir: &e, name: name("w") }).unwrap();
    bed.scratch.remove(&e, At { dir: &root, name: name("e") }, Leave::Nothing).unwrap();
    assert!(is_absent(&bed.scratch, "e"));
    assert_eq!(bed.leftovers(), Vec::<String>::new());
}

#[test]
fn a_renamed_directory_takes_everyone_along() {
    for resolver in [Resolver::Auto, Resolver::StepByStep] {
        let bed = bed_with(&ScratchOptions { resolver, fd_limit: 1, ..options() });
        let root = bed.root();
        let a = bed.mkdir("a");
        let deep = bed.put(&a, "deep", Kind::Dir, Over::Nothing).unwrap();
        let f = bed.put(&deep, "f", Kind::File, Over::Nothing).unwrap();
        let other = hit(&bed.scratch, "a/deep").node;
        bed.scratch.whiteout(At { dir: &root, name: name("w") }).unwrap();
        let at = |n| At { dir: &root, name: name(n) };
        let mut now = a.clone();
        let steps = [("a", "b", Leave::Nothing, Over::Nothing), ("b", "w", Leave::Whiteout, Over::Whiteout)];
        for (from, to, leave, over) in steps {
            now = bed.scratch.rename(&now, at(from), at(to), leave, over).unwrap();
            for dir in [&deep, &other] {
                assert!(matches!(bed.scratch.lookup(dir, name("f")).unwrap(), Found::Node(_)));
            }
            assert_eq!(bed.scratch.attr(&f).unwrap().kind, Kind::File);
        }
        assert!(bed.is_whiteout("b") && bed.upper("w/deep/f").exists());
        let taken = bed.scratch.rename(&now, at("w"), at("b"), Leave::Nothing, Over::Nothing).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        now = bed.scratch.rename(&now, at("w"), at("b"), Leave::Nothing, Over::Whiteout).unwrap();
        assert!(is_absent(&bed.scratch, "w"));
        // Over a directory that holds whiteouts.
        let t = bed.mkdir("t");
        bed.scratch.whiteout(At { dir: &t, name: name("hidden") }).unwrap();
        bed.scratch.rename(&now, at("b"), at("t"), Leave::Whiteout, Over::Object).unwrap();
        assert!(bed.is_whiteout("b") && bed.upper("t/deep/f").exists() && !bed.upper("t/hidden").exists());
        assert_eq!(bed.scratch.lookup(&t, name("x")).unwrap_err().kind(), ErrorKind::Stale);
        bed.put(&deep, "g", Kind::File, Over::Nothing).unwrap();
        assert!(bed.upper("t/deep/g").exists());
        assert_eq!(bed.leftovers(), Vec::<String>::new());
    }
}

#[test]
fn files_are_renamed_linked_and_exchanged() {
    let bed = bed();
    let root = bed.root();
    let at = |n| At { dir: &root, name: name(n) };
    let a = bed.file("a");
    bed.scratch.open_write(&a).unwrap().write_at(b"A", 0).unwrap();
    let b = bed.scratch.rename(&a, at("a"), at("b"), Leave::Whiteout, Over::Nothing).unwrap();
    assert!(bed.is_whiteout("a"));
    let a = bed.scratch.rename(&b, at("b"), at("a"), Leave::Nothing, Over::Whiteout).unwrap();
    let c = bed.scratch.link(&a, at("c"), Over::Nothing).unwrap();
    assert_eq!(bed.scratch.attr(&c).unwrap().nlink, 2);
    assert_eq!(bed.scratch.link(&a, at("c"), Over::Nothing).unwrap_err().kind(), ErrorKind::AlreadyExists);
    bed.scratch.link(&a, at("c"), Over::Object).unwrap();
    assert_eq!(bed.scratch.attr(&c).unwrap().nlink, 2);
    bed.scratch.whiteout(at("w")).unwrap();
    let w = bed.scratch.link(&a, at("w"), Over::Whiteout).unwrap();
    assert_eq!(bed.scratch.attr(&w).unwrap().nlink, 3);
    // Moving one name of an object over another one.
    bed.scratch.rename(&w, at("w"), at("c"), Leave::Whiteout, Over::Object).unwrap();
    assert!(bed.is_whiteout("w"));
    assert_eq!(bed.scratch.attr(&c).unwrap().nlink, 2);
    let d = bed.mkdir("d");
    let inner = bed.put(&d, "in", Kind::Dir, Over::Nothing).unwrap();
    let (now_a, now_d) = bed.scratch.exchange((&a, at("a")), (&d, at("d"))).unwrap();
    assert_eq!(bed.scratch.attr(&now_a).unwrap().kind, Kind::Dir);
    assert_eq!(bed.scratch.attr(&now_d).unwrap().kind, Kind::File);
    bed.put(&inner, "x", Kind::File, Over::Nothing).unwrap();
    assert!(bed.upper("a/in/x").exists());
    let dir_link = bed.scratch.link(&now_a, at("no"), Over::Nothing).unwrap_err();
    assert_eq!(dir_link.kind(), ErrorKind::NotPermitted);
    assert_eq!(bed.leftovers(), Vec::<String>::new());
}

#[test]
fn clearing_swaps_in_an_empty_opaque_directory() {
    let bed = bed();
    let root = bed.root();
    let d = bed.mkdir("d");
    let at = At { dir: &root, name: name("d") };
    let time = Time { secs: 1_000, nanos: 5 };
    bed.scratch.set_xattr(&d, b"user.mine", b"1", SetXattr::Any).unwrap();
    bed.scratch.mark(&d, Mark::Impure).unwrap();
    bed.scratch.whiteout(At { dir: &d, name: name("w") }).unwrap();
    let inner = bed.put(&d, "in", Kind::File, Over::Nothing).unwrap();
    assert_eq!(bed.scratch.clear(&d, at).unwrap_err().kind(), ErrorKind::NotEmpty);
    bed.scratch.remove(&inner, At { dir: &d, name: name("in") }, Leave::Nothing).unwrap();
    let set = SetAttr { mode: Some(0o1701), mtime: Some(SetTime::At(time)), ..SetAttr::default() };
    bed.scratch.set_attr(&d, &set).unwrap();
    let node = bed.scratch.clear(&d, at).unwrap();
    let attr = bed.scratch.attr(&node).unwrap();
    assert_eq!((attr.mode, attr.mtime), (0o1701, time));
    let marks = bed.scratch.marks(&node).unwrap();
    assert!(marks.opaque && !marks.impure);
    assert_eq!(bed.scratch.xattr(&node, b"user.mine").unwrap().unwrap(), b"1");
    assert_eq!(list(&bed.scratch, "d"), []);
    bed.put(&d, "new", Kind::File, Over::Nothing).unwrap();
    assert!(bed.upper("d/new").exists());
    assert_eq!(bed.leftovers(), Vec::<String>::new());
}

#[test]
fn pinned_and_kept_objects_outlive_their_names() {
    let bed = bed();
    let root = bed.root();
    let f = bed.file("f");
    bed.scratch.open_write(&f).unwrap().write_at(b"data", 0).unwrap();
    let d = bed.mkdir("d");
    let (pin_f, pin_d) = (bed.scratch.pin(&f).unwrap(), bed.scratch.pin(&d).unwrap());
    bed.scratch.remove(&f, At { dir: &root, name: name("f") }, Leave::Nothing).unwrap();
    bed.scratch.remove(&d, At { dir: &root, name: name("d") }, Leave::Whiteout).unwrap();
    assert_eq!(bed.scratch.attr(&pin_f).unwrap().nlink, 0);
    assert_eq!(read_all(&bed.scratch.open(&pin_f).unwrap()), b"data");
    bed.scratch.open_write(&pin_f).unwrap().write_at(b"D", 0).unwrap();
    let set = SetAttr { mode: Some(0o600), mtime: Some(SetTime::Now), ..SetAttr::default() };
    for node in [&pin_f, &pin_d] {
        bed.scratch.set_attr(node, &set).unwrap();
        bed.scratch.set_xattr(node, b"user.x", b"1", SetXattr::Create).unwrap();
        assert_eq!(bed.scratch.xattr(node, b"user.x").unwrap().unwrap(), b"1");
        assert_eq!(bed.scratch.attr(node).unwrap().mode, 0o600);
        bed.scratch.sync(node, Sync::All).unwrap();
    }
    assert!(matches!(bed.scratch.lookup(&pin_d, name("x")).unwrap(), Found::Absent));
    bed.scratch.read_dir(&pin_d, &mut |_| panic!("empty")).unwrap();
    for kind in [Kind::File, Kind::Symlink, Kind::Dir, Kind::Fifo] {
        let kept = bed.scratch.keep(bed.scratch.stage(&seed(kind, 0o600)).unwrap()).unwrap();
        assert_eq!(bed.scratch.attr(&kept).unwrap().kind, kind);
        if kind == Kind::Symlink {
            assert_eq!(bed.scratch.read_link(&kept).unwrap(), b"to");
        }
        if kind == Kind::File {
            bed.scratch.open_write(&kept).unwrap().write_at(b"k", 0).unwrap();
            assert_eq!(read_all(&bed.scratch.open(&kept).unwrap()), b"k");
            // Only a file that never had a name can still get one (open(2), O_TMPFILE).
            let linked = bed.scratch.link(&kept, At { dir: &root, name: name("k") }, Over::Nothing);
            match has_nameless() {
                true => assert_eq!(bed.scratch.attr(&linked.unwrap()).unwrap().nlink, 1),
                false => assert_eq!(linked.unwrap_err().kind(), ErrorKind::NotFound),
            }
        }
    }
    assert_eq!(bed.leftovers(), Vec::<String>::new());
}

#[test]
fn the_index_finds_what_was_published() {
    let bed = bed();
    let origin = Origin::new([0, 0xfb, 3]);
    assert!(bed.scratch.indexed(&origin).unwrap().is_none());
    let node =
        bed.scratch.publish_indexed(bed.scratch.stage(&seed(Kind::File, 0o644)).unwrap(), &origin).unwrap();
    bed.scratch.mark(&node, Mark::Nlink(NlinkBase::Upper(-1))).unwrap();
    bed.scratch.link(&node, At { dir: &bed.root(), name: name("a") }, Over::Nothing).unwrap();
    let found = bed.scratch.indexed(&origin).unwrap().unwrap();
    assert_eq!((found.attr.nlink, found.marks.nlink), (2, Some(NlinkBase::Upper(-1))));
    assert_eq!(found.marks.origin, Some(origin.clone()));
    assert!(bed.dir.path().join("work/index/00fb03").exists());
    fs::write(bed.dir.path().join("work/index/other"), b"").unwrap();
    let all = bed.scratch.index_entries().unwrap();
    assert_eq!(all.iter().map(|(origin, hit)| (origin, hit.attr.nlink)).collect::<Vec<_>>(), [(&origin, 2)]);
    let again = bed.scratch.publish_indexed(bed.scratch.stage(&seed(Kind::File, 0o644)).unwrap(), &origin);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    bed.scratch.drop_indexed(&origin).unwrap();
    bed.scratch.drop_indexed(&origin).unwrap();
    assert!(bed.scratch.indexed(&origin).unwrap().is_none());
    let long = Origin::new(vec![1; 200]);
    assert_eq!(bed.scratch.indexed(&long).unwrap_err().kind(), ErrorKind::Unsupported);
    let without = bed_with(&ScratchOptions { index: false, ..options() });
    assert!(!without.scratch.features().index);
    assert!(without.scratch.indexed(&origin).unwrap().is_none());
}

#[test]
fn attributes_and_marks_are_stored_in_the_kernels_form() {
    let bed = bed_with(&ScratchOptions { metacopy: Some(true), ..options() });
    let f = bed.file("f");
    let (a, m) = (Time { secs: 5, nanos: 7 }, Time { secs: -3, nanos: 999_999_999 });
    let set = SetAttr {
        mode: Some(0o4711),
        uid: Some(1),
        gid: Some(2),
        atime: Some(SetTime::At(a)),
        mtime: Some(SetTime::At(m)),
    };
    bed.scratch.set_attr(&f, &set).unwrap();
    let attr = bed.scratch.attr(&f).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid, attr.atime, attr.mtime), (0o4711, 1, 2, a, m));
    bed.scratch.set_attr(&f, &SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() }).unwrap();
    assert_eq!(bed.scratch.attr(&f).unwrap().atime, a);
    let link = bed.put(&bed.root(), "l", Kind::Symlink, Over::Nothing).unwrap();
    bed.scratch.set_attr(&link, &SetAttr { mtime: Some(SetTime::At(m)), ..SetAttr::default() }).unwrap();
    assert_eq!(bed.scratch.attr(&link).unwrap().mtime, m);
    bed.scratch.mark(&link, Mark::Origin(&Origin::new([]))).unwrap();

    let path = bed.upper("f");
    assert!(bed.scratch.kernel_mountable().is_ok() || bed.scratch.stashes_ownership());
    bed.scratch.mark(&f, Mark::Metacopy).unwrap();
    assert!(bed.dir.path().join("work/work/incompat/strata-redirect/x").exists());
    assert_eq!(bed.scratch.kernel_mountable().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(get(&path, "user.overlay.metacopy").unwrap(), b"");
    bed.scratch.mark(&f, Mark::OwnData).unwrap();
    assert_eq!(get(&path, "user.overlay.metacopy"), None);
    bed.scratch.mark(&f, Mark::Nlink(NlinkBase::Lower(2))).unwrap();
    assert_eq!(get(&path, "user.overlay.nlink").unwrap(), b"L+2");
    let d = bed.mkdir("d");
    bed.scratch.mark(&d, Mark::Opaque).unwrap();
    bed.scratch.mark(&d, Mark::Redirect(&Redirect::sibling(name("was")))).unwrap();
    assert_eq!(get(bed.upper("d"), "user.overlay.opaque").unwrap(), b"y");
    assert_eq!(get(bed.upper("d"), "user.overlay.redirect").unwrap(), b"was");
    let long = Redirect::parse(format!("/{}", "x".repeat(200)).repeat(20).as_bytes()).unwrap();
    bed.scratch.set_xattr(&d, b"user.room", &[0; 300], SetXattr::Any).unwrap();
    assert_eq!(bed.scratch.mark(&d, Mark::Redirect(&long)).unwrap_err().kind(), ErrorKind::CrossDevice);
    let plain = bed_with(&ScratchOptions { redirect: false, metacopy: Some(false), ..options() });
    let f = plain.file("f");
    assert_eq!(plain.scratch.mark(&f, Mark::Metacopy).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn user_attributes_are_escaped() {
    let bed = bed();
    let f = bed.file("f");
    let s = &bed.scratch;
    s.set_xattr(&f, b"user.overlay.opaque", b"mine", SetXattr::Create).unwrap();
    assert_eq!(get(bed.upper("f"), "user.overlay.overlay.opaque").unwrap(), b"mine");
    assert_eq!(s.xattr(&f, b"user.overlay.opaque").unwrap().unwrap(), b"mine");
    let twice = s.set_xattr(&f, b"user.overlay.opaque", b"", SetXattr::Create).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let none = s.set_xattr(&f, b"user.none", b"", SetXattr::Replace).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoData);
    s.remove_xattr(&f, b"user.overlay.opaque").unwrap();
    assert_eq!(s.remove_xattr(&f, b"user.overlay.opaque").unwrap_err().kind(), ErrorKind::NoData);
}

#[test]
fn data_is_written_copied_and_allocated() {
    let bed = bed();
    let lower = tempdir().unwrap();
    let source = fs::File::create(lower.path().join("s")).unwrap();
    let pattern: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    std::os::unix::fs::FileExt::write_all_at(&source, &pattern, 1 << 20).unwrap();
    source.set_len(16 << 20).unwrap();
    let layer = DirLayer::open(lower.path(), &LayerOptions::default()).unwrap();
    let from = layer.open(&hit(&layer, "s").node).unwrap();
    for len in [0, 1, 1 << 20, (1 << 20) + 12_345, 16 << 20] {
        let staged = bed.scratch.stage(&seed(Kind::File, 0o600)).unwrap();
        let to = bed.scratch.open_write(bed.scratch.staged(&staged)).unwrap();
        let copied = to.fill(&from, len).unwrap();
        assert_eq!(copied == Copied::Empty, len == 0);
        let mut want = vec![0; 16 << 20];
        want[1 << 20..][..pattern.len()].copy_from_slice(&pattern);
        want.truncate(usize::try_from(len).unwrap());
        assert!(read_all(&to) == want);
        if len == 16 << 20 && copied != Copied::Shared {
            assert!(
                bed.scratch.attr(bed.scratch.staged(&staged)).unwrap().blocks * 512 < 5 << 20,
                "holes kept"
            );
        }
        // The same without a descriptor to copy from, and from memory.
        let to = bed.scratch.open_write(&bed.scratch.keep(staged).unwrap()).unwrap();
        to.set_len(0).unwrap();
        to.fill(&Only(&from), len).unwrap();
        assert!(read_all(&to) == want);
    }
    let node = bed.file("f");
    let f = bed.scratch.open_write(&node).unwrap();
    assert_eq!(f.copy_range(&from, 1 << 20, 10, 100).unwrap(), 100);
    assert_eq!(read_all(&f)[10..], pattern[..100]);
    assert_eq!(f.copy_range(&from, 16 << 20, 0, 5).unwrap(), 0);
    f.set_len(1 << 20).unwrap();
    f.allocate(Allocate::ReserveKeepSize, 0, 2 << 20).unwrap();
    assert_eq!(f.size().unwrap(), 1 << 20);
    f.allocate(Allocate::Reserve, 0, 2 << 20).unwrap();
    assert_eq!(f.size().unwrap(), 2 << 20);
    f.allocate(Allocate::PunchHole, 0, 4096).unwrap();
    assert_eq!(read_all(&f)[..200], [0; 200]);
    f.sync(Sync::Data).unwrap();
    f.sync(Sync::All).unwrap();
    bed.scratch.sync(&node, Sync::Data).unwrap();
    bed.scratch.sync(&bed.root(), Sync::All).unwrap();
    bed.scratch.sync_all().unwrap();
    assert!(bed.scratch.stat_fs().unwrap().blocks > 0);
}

/// A source that hides its descriptor.
#[derive(Debug)]
struct Only<'a>(&'a dyn ReadAt);

impl ReadAt for Only<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let len = buf.len().min(70_000);
        self.0.read_at(&mut buf[..len], offset)
    }
    fn size(&self) -> Result<u64> {
        self.0.size()
    }
    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.0.seek_data(offset)
    }
    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.0.seek_hole(offset)
    }
}

#[test]
fn ownership_is_stored_where_it_cannot_be_applied() {
    let bed = bed_with(&ScratchOptions { ownership: Ownership::Stash, ..options() });
    let s = &bed.scratch;
    let mut like = seed(Kind::File, 0o4000);
    (like.uid, like.gid) = (1234, 77);
    let at = |n| name(n);
    let root = bed.root();
    let f = s.publish(s.stage(&like).unwrap(), At { dir: &root, name: at("f") }, Over::Nothing).unwrap();
    let attr = s.attr(&f).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o4000, 1234, 77));
    let real = fs::metadata(bed.upper("f")).unwrap();
    assert_eq!((real.mode() & 0o7777, real.uid()), (0o600, rustix::process::geteuid().as_raw()));
    s.set_attr(&f, &SetAttr { uid: Some(5), ..SetAttr::default() }).unwrap();
    let attr = s.attr(&f).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0, 5, 77), "chown takes setuid away");
    assert!(s.xattrs(&f).unwrap().iter().all(|n| !n.starts_with(b"user.containers")));
    let hidden = s.set_xattr(&f, b"user.containers.override_stat", b"0:0:0", SetXattr::Any).unwrap_err();
    assert_eq!(hidden.kind(), ErrorKind::NotPermitted);
    let own = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let set = SetAttr { uid: Some(own), gid: Some(group), mode: Some(0o644), ..SetAttr::default() };
    s.set_attr(&f, &set).unwrap();
    assert_eq!(get(bed.upper("f"), "user.containers.override_stat"), None, "nothing to store");
    let mut device = seed(Kind::Block, 0o660);
    device.rdev = Device { major: 8, minor: 1 };
    s.publish(s.stage(&device).unwrap(), At { dir: &root, name: at("dev") }, Over::Nothing).unwrap();
    let found = hit(s, "dev").attr;
    assert_eq!((found.kind, found.rdev, found.mode), (Kind::Block, device.rdev, 0o660));
    assert!(list(s, "").contains(&("dev".into(), Some(Kind::Block))));
}

#[test]
fn lookups_go_on_while_an_ancestor_is_renamed() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let bed = bed_with(&ScratchOptions { fd_limit: 1, ..options() });
    let (root, a) = (bed.root(), bed.mkdir("a"));
    let mut deep = a.clone();
    for _ in 0..20 {
        deep = bed.put(&deep, "d", Kind::Dir, Over::Nothing).unwrap();
    }
    bed.put(&deep, "f", Kind::File, Over::Nothing).unwrap();
    let other = bed.mkdir("other");
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(matches!(bed.scratch.lookup(&deep, name("f")).unwrap(), Found::Node(_)));
                    assert!(matches!(bed.scratch.lookup(&other, name("f")).unwrap(), Found::Absent));
                }
            });
        }
        let (x, y) = (At { dir: &root, name: name("a") }, At { dir: &root, name: name("b") });
        for _ in 0..2_000 {
            bed.scratch.rename(&a, x, y, Leave::Nothing, Over::Nothing).unwrap();
            bed.scratch.rename(&a, y, x, Leave::Nothing, Over::Nothing).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_put_into_a_setgid_directory_inherits_nothing() {
    if !is_root() {
        return;
    }
    let bed = bed();
    let dir = bed.mkdir("d");
    let shared = SetAttr { mode: Some(0o2775), gid: Some(1000), ..SetAttr::default() };
    bed.scratch.set_attr(&dir, &shared).unwrap();
    for (n, kind) in [("dir", Kind::Dir), ("file", Kind::File), ("fifo", Kind::Fifo)] {
        for mode in [0o755, 0o2755, 0o1700] {
            let n = format!("{n}{mode:o}");
            let seed = Seed { uid: 5, gid: 6, ..seed(kind, mode) };
            let whole = Whole { seed, mtime: Time { secs: 9, nanos: 0 }, xattrs: &[] };
            let node = bed.scratch.put(At { dir: &dir, name: name(&n) }, &whole, &mut |_| Ok(())).unwrap();
            let attr = bed.scratch.attr(&node).unwrap();
            assert_eq!((attr.mode, attr.uid, attr.gid), (mode, 5, 6), "{n}");
        }
    }
}
