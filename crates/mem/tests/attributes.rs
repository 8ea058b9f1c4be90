//! Attributes, times, extended attributes, marks and limits.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::{Hand, at, errno, hit, nlink, put, put_bytes, root, secs_at, seed, try_put};
use stratafs_core::error::errno::{
    EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ENODATA, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, ERANGE,
};
use stratafs_core::{
    Allocate, Features, Kind, Layer, Leave, Mark, Marks, Name, NlinkBase, Origin, Over, ReadAt, Redirect,
    Scratch, SetAttr, SetTime, SetXattr, Time, WriteAt,
};
use stratafs_mem::{Limits, MemNode, MemScratch, Options, PAGE};

const E2BIG: i32 = 7;

fn times(s: &MemScratch, node: &MemNode) -> (i64, i64, i64) {
    let attr = s.attr(node).unwrap();
    (attr.atime.secs, attr.mtime.secs, attr.ctime.secs)
}

#[test]
fn times_follow_posix() {
    let hand = Hand::default();
    let s = MemScratch::with_clock(hand.clock());
    let root = root(&s);
    hand.tick();
    let (dir, file) = (put(&s, &root, "d", Kind::Dir), put(&s, &root, "f", Kind::File));
    assert_eq!(s.attr(&file).unwrap().btime, Some(secs_at(1)));
    assert_eq!(times(&s, &root), (0, 1, 1));

    hand.tick();
    s.open_write(&file).unwrap().write_at(b"data", 0).unwrap();
    assert_eq!(times(&s, &file), (1, 2, 2));
    hand.tick();
    s.open_write(&file).unwrap().write_at(b"", 0).unwrap();
    assert_eq!(times(&s, &file), (1, 2, 2), "writing nothing is no change");
    s.open_write(&file).unwrap().set_len(4).unwrap();
    assert_eq!(times(&s, &file), (1, 3, 3));
    hand.tick();
    s.open_write(&file).unwrap().allocate(Allocate::PunchHole, 0, 1).unwrap();
    assert_eq!(times(&s, &file), (1, 4, 4));

    hand.tick();
    s.set_attr(&file, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    assert_eq!(times(&s, &file), (1, 4, 5));
    hand.tick();
    s.set_xattr(&file, b"user.x", b"", SetXattr::Any).unwrap();
    assert_eq!(times(&s, &file), (1, 4, 6));
    hand.tick();
    s.remove_xattr(&file, b"user.x").unwrap();
    s.mark(&file, Mark::Metacopy).unwrap();
    assert_eq!(times(&s, &file), (1, 4, 7));

    hand.tick();
    s.link(&file, at(&dir, "g"), Over::Nothing).unwrap();
    assert_eq!((times(&s, &file), times(&s, &dir)), ((1, 4, 8), (1, 8, 8)));
    assert_eq!(times(&s, &root), (0, 1, 1));
    hand.tick();
    s.rename(&file, at(&root, "f"), at(&dir, "h"), Leave::Whiteout, Over::Nothing).unwrap();
    assert_eq!((times(&s, &file), times(&s, &dir), times(&s, &root)), ((1, 4, 9), (1, 9, 9), (0, 9, 9)));
    hand.tick();
    s.remove(&file, at(&dir, "h"), Leave::Nothing).unwrap();
    assert_eq!((times(&s, &file), times(&s, &dir)), ((1, 4, 10), (1, 10, 10)));
    hand.tick();
    s.whiteout(at(&dir, "w")).unwrap();
    assert_eq!(times(&s, &dir), (1, 11, 11));
}

#[test]
fn access_times_are_relative_and_layers_keep_them() {
    let hand = Hand::default();
    let s = MemScratch::with_clock(hand.clock());
    let node = put_bytes(&s, &root(&s), "f", b"x");
    let link = put(&s, &root(&s), "l", Kind::Symlink);
    let read = |s: &MemScratch| s.open(&node).unwrap().read_at(&mut [0], 0).unwrap();
    hand.tick();
    read(&s);
    s.read_link(&link).unwrap();
    assert_eq!((times(&s, &node).0, times(&s, &link).0), (1, 1), "first read since the change");
    hand.tick();
    read(&s);
    s.read_link(&link).unwrap();
    assert_eq!((times(&s, &node).0, times(&s, &link).0), (1, 1), "nothing changed since");
    hand.advance(24 * 60 * 60);
    read(&s);
    assert_eq!(times(&s, &node), (86402, 0, 0), "a day later");

    hand.advance(48 * 60 * 60);
    let file = s.open(&node).unwrap();
    let layer = s.clone().seal();
    file.read_at(&mut [0], 0).unwrap();
    layer.open(&node).unwrap().read_at(&mut [0], 0).unwrap();
    layer.read_link(&link).unwrap();
    assert_eq!(
        (layer.attr(&node).unwrap().atime, layer.attr(&link).unwrap().atime),
        (secs_at(86402), secs_at(1))
    );
}

#[test]
fn set_attr_sets_what_is_asked_and_nothing_on_error() {
    let hand = Hand::default();
    let s = MemScratch::with_clock(hand.clock());
    let node = put(&s, &root(&s), "f", Kind::File);
    let now = hand.tick();
    let at = Time { secs: -5, nanos: 999_999_999 };
    s.set_attr(
        &node,
        &SetAttr {
            mode: Some(0o104_755),
            uid: Some(1),
            gid: Some(2),
            atime: Some(SetTime::Now),
            mtime: Some(SetTime::At(at)),
        },
    )
    .unwrap();
    let attr = s.attr(&node).unwrap();
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o4755, 1, 2));
    assert_eq!((attr.atime, attr.mtime, attr.ctime), (now, at, now));

    hand.tick();
    s.set_attr(&node, &SetAttr::default()).unwrap();
    let bad = SetTime::At(Time { secs: 0, nanos: 1_000_000_000 });
    let set = SetAttr { mode: Some(0), mtime: Some(bad), ..SetAttr::default() };
    assert_eq!(errno(s.set_attr(&node, &set)), EINVAL);
    assert_eq!(s.attr(&node).unwrap(), attr);

    let link = put(&s, &root(&s), "l", Kind::Symlink);
    let chmod = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    assert_eq!(errno(s.set_attr(&link, &chmod)), EOPNOTSUPP);
    s.set_attr(&link, &SetAttr { uid: Some(3), ..SetAttr::default() }).unwrap();
    assert_eq!(s.attr(&link).unwrap().uid, 3);
}

#[test]
fn xattrs_keep_to_their_rules() {
    let s = MemScratch::new();
    let node = put(&s, &root(&s), "f", Kind::File);
    let set = |name: &[u8], value: &[u8], how| s.set_xattr(&node, name, value, how);
    assert_eq!(errno(set(b"user.a", b"1", SetXattr::Replace)), ENODATA);
    set(b"user.b", b"", SetXattr::Create).unwrap();
    set(b"trusted.overlay.opaque", b"y", SetXattr::Any).unwrap();
    assert_eq!(errno(set(b"user.b", b"1", SetXattr::Create)), EEXIST);
    set(b"user.b", b"2", SetXattr::Replace).unwrap();
    assert_eq!(s.xattrs(&node).unwrap(), [&b"trusted.overlay.opaque"[..], b"user.b"]);
    assert_eq!(s.xattr(&node, b"user.b").unwrap().unwrap(), b"2");
    assert_eq!(s.xattr(&node, b"user.c").unwrap(), None);
    assert_eq!(s.marks(&node).unwrap(), Marks::default(), "an attribute is never a mark");
    s.remove_xattr(&node, b"user.b").unwrap();
    assert_eq!(errno(s.remove_xattr(&node, b"user.b")), ENODATA);

    let value = vec![1; 64 * 1024 + 1];
    assert_eq!(errno(set(b"user.v", &value, SetXattr::Any)), E2BIG);
    set(b"user.v", &value[1..], SetXattr::Any).unwrap();
    assert_eq!(errno(set(&[b'n'; 256], b"", SetXattr::Any)), ERANGE);
    assert_eq!(errno(set(b"", b"", SetXattr::Any)), ERANGE);
    assert_eq!(errno(set(b"user.\0", b"", SetXattr::Any)), EINVAL);
    let full = (0..300).find_map(|i| set(format!("user.{i:0250}").as_bytes(), b"", SetXattr::Any).err());
    assert_eq!(full.unwrap().errno(), ENOSPC);
    let listed: usize = s.xattrs(&node).unwrap().iter().map(|name| name.len() + 1).sum();
    assert!((64 * 1024 - 256..=64 * 1024).contains(&listed));
}

#[test]
fn marks_are_kept_and_found() {
    let s = MemScratch::new();
    let root = root(&s);
    let (dir, file) = (put(&s, &root, "d", Kind::Dir), put(&s, &root, "f", Kind::File));
    let redirect = Redirect::sibling(Name::new(b"old").unwrap());
    let origin = Origin::new(*b"o");
    for mark in [Mark::Opaque, Mark::Impure, Mark::Redirect(&redirect), Mark::Origin(&origin)] {
        s.mark(&dir, mark).unwrap();
    }
    let wanted = Marks {
        opaque: true,
        impure: true,
        redirect: Some(redirect),
        origin: Some(origin),
        ..Marks::default()
    };
    assert_eq!(hit(&s, &root, "d").marks, wanted);
    s.mark(&file, Mark::Metacopy).unwrap();
    s.mark(&file, Mark::Nlink(NlinkBase::Lower(-2))).unwrap();
    let marks = s.marks(&file).unwrap();
    assert!(marks.metacopy && marks.nlink == Some(NlinkBase::Lower(-2)));
    s.mark(&file, Mark::OwnData).unwrap();
    assert!(!s.marks(&file).unwrap().metacopy);
    assert_eq!(errno(s.mark(&file, Mark::Opaque)), ENOTDIR);
    assert_eq!(errno(s.mark(&dir, Mark::Metacopy)), EINVAL);
}

#[test]
fn features_that_are_off_store_nothing() {
    let off = Features { redirect: false, metacopy: false, index: false };
    let s = Options::default().features(off).scratch();
    let node = put(&s, &root(&s), "f", Kind::File);
    let redirect = Redirect::sibling(Name::new(b"old").unwrap());
    assert_eq!(s.features(), off);
    for mark in [Mark::Redirect(&redirect), Mark::Metacopy, Mark::Nlink(NlinkBase::Upper(1))] {
        assert_eq!(errno(s.mark(&node, mark)), EOPNOTSUPP);
    }
    let staged = s.stage(&seed(Kind::File)).unwrap();
    assert_eq!(errno(s.publish_indexed(staged, &Origin::new(*b"o"))), EOPNOTSUPP);
    assert_eq!(s.marks(&node).unwrap(), Marks::default());
}

#[test]
fn only_regular_files_open_and_only_writers_write() {
    let s = MemScratch::new();
    let root = root(&s);
    for (kind, wanted) in
        [(Kind::Dir, EISDIR), (Kind::Symlink, ELOOP), (Kind::Fifo, ENXIO), (Kind::Char, ENXIO)]
    {
        let node = put(&s, &root, &format!("{kind:?}"), kind);
        assert_eq!((errno(s.open(&node)), errno(s.open_write(&node))), (wanted, wanted));
    }
    let node = put_bytes(&s, &root, "f", b"x");
    let file = s.open(&node).unwrap();
    assert_eq!(errno(file.write_at(b"y", 0)), EBADF);
    assert_eq!(errno(file.set_len(0)), EBADF);
    assert_eq!(errno(file.allocate(Allocate::Reserve, 0, 1)), EBADF);
    assert_eq!(errno(file.fill(&file, 1)), EBADF);
    assert_eq!(errno(file.copy_range(&file, 0, 0, 1)), EBADF);
}

#[test]
fn a_full_scratch_says_so_and_changes_nothing() {
    let limits = Limits { bytes: Some(2 * PAGE + 1), inodes: Some(4) };
    let s = MemScratch::with_limits(limits);
    let root = root(&s);
    let st = s.stat_fs().unwrap();
    assert_eq!((st.block_size, st.blocks, st.blocks_free), (PAGE, 3, 3));
    assert_eq!((st.files, st.files_free, st.name_max), (4, 3, 255));

    let node = put(&s, &root, "f", Kind::File);
    let file = s.open_write(&node).unwrap();
    let bytes = vec![1; 5 * PAGE as usize];
    assert_eq!(file.write_at(&bytes, PAGE - 1).unwrap() as u64, 2 * PAGE + 1, "as much as fits");
    let attr = s.attr(&node).unwrap();
    assert_eq!((attr.size, attr.blocks), (3 * PAGE, 24));
    assert_eq!(errno(file.write_at(&bytes, 3 * PAGE)), ENOSPC);
    assert_eq!(errno(file.allocate(Allocate::Reserve, 0, 3 * PAGE + 1)), ENOSPC);
    assert_eq!(s.attr(&node).unwrap(), attr);
    file.allocate(Allocate::Reserve, 0, 3 * PAGE).unwrap();
    file.set_len(1 << 40).unwrap();
    assert_eq!(file.write_at(&bytes[..9], PAGE).unwrap(), 9, "a page that is there needs no space");

    let copy = s.open_write(&put(&s, &root, "g", Kind::File)).unwrap();
    file.allocate(Allocate::PunchHole, 0, PAGE).unwrap();
    assert_eq!(errno(copy.fill(&file, 3 * PAGE)), ENOSPC);
    assert_eq!((copy.size().unwrap(), s.stat_fs().unwrap().blocks_free), (0, 1), "filled all or nothing");

    let dir = put(&s, &root, "d", Kind::Dir);
    assert_eq!(errno(try_put(&s, &root, "h", Kind::File, Over::Nothing)), ENOSPC);
    assert_eq!(errno(s.clear(&dir, at(&root, "d"))), ENOSPC);
    assert_eq!((hit(&s, &root, "d").node, nlink(&s, &dir)), (dir, 2));
    s.remove(&node, at(&root, "f"), Leave::Whiteout).unwrap();
    assert_eq!(s.stat_fs().unwrap().files_free, 0, "the node and the open file keep it");
    drop((node, file));
    assert_eq!((s.stat_fs().unwrap().files_free, s.stat_fs().unwrap().blocks_free), (1, 3));
}
