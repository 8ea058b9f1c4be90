//! The verbs that change names: what each does, refuses and leaves behind.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::{
    at, errno, hit, is_absent, is_whiteout, list, name, nlink, put, put_bytes, root, seed, try_put,
};
use stratafs_core::error::errno::{
    EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, ESTALE, EXDEV,
};
use stratafs_core::{
    Kind, Layer, Leave, Mark, Marks, Origin, Over, ReadAt, Scratch, Seed, SetXattr, WriteAt,
};
use stratafs_mem::MemScratch;

fn scratch() -> (MemScratch, stratafs_mem::MemNode) {
    let scratch = MemScratch::new();
    let root = root(&scratch);
    (scratch, root)
}

#[test]
fn publish_gives_each_kind_its_name_and_seed() {
    let (s, root) = scratch();
    for (i, kind) in [Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo, Kind::Socket, Kind::Char, Kind::Block]
        .into_iter()
        .enumerate()
    {
        let text = format!("n{i}");
        let rdev = stratafs_core::Device { major: 1, minor: 3 };
        let staged = s.stage(&Seed { rdev, mode: 0o6751, ..seed(kind) }).unwrap();
        assert!(is_absent(&s, &root, &text), "staged is not published");
        s.publish(staged, at(&root, &text), Over::Nothing).unwrap();
        let attr = hit(&s, &root, &text).attr;
        let is_device = matches!(kind, Kind::Char | Kind::Block);
        assert_eq!(attr.kind, kind);
        assert_eq!(attr.mode, if kind == Kind::Symlink { 0o777 } else { 0o6751 });
        assert_eq!((attr.uid, attr.gid), (7, 8));
        assert_eq!(attr.nlink, if kind == Kind::Dir { 2 } else { 1 });
        assert_eq!(attr.rdev, if is_device { rdev } else { Default::default() });
    }
    assert_eq!(s.read_link(&hit(&s, &root, "n2").node).unwrap(), b"to");
    assert_eq!(errno(s.read_link(&hit(&s, &root, "n0").node)), EINVAL);
    assert_eq!(nlink(&s, &root), 3, "one subdirectory");
}

#[test]
fn over_says_what_may_be_there() {
    for kind in [Kind::File, Kind::Dir] {
        let (s, root) = scratch();
        put(&s, &root, "object", kind);
        s.whiteout(at(&root, "whiteout")).unwrap();
        for (text, over, wanted) in [
            ("nothing", Over::Whiteout, Some(ENOENT)),
            ("nothing", Over::Object, Some(ENOENT)),
            ("whiteout", Over::Nothing, Some(EEXIST)),
            ("whiteout", Over::Object, Some(ENOENT)),
            ("object", Over::Nothing, Some(EEXIST)),
            ("object", Over::Whiteout, Some(EEXIST)),
            ("nothing", Over::Nothing, None),
            ("whiteout", Over::Whiteout, None),
            ("object", Over::Object, None),
        ] {
            let before = list(&s, &root);
            let result = try_put(&s, &root, text, kind, over);
            match wanted {
                Some(wanted) => {
                    assert_eq!(errno(result), wanted, "{text} {over:?}");
                    assert_eq!(list(&s, &root), before);
                }
                None => assert_eq!(hit(&s, &root, text).node, result.unwrap(), "{text} {over:?}"),
            }
        }
        assert_eq!(nlink(&s, &root), if kind == Kind::Dir { 5 } else { 2 });
    }
}

#[test]
fn replacing_keeps_to_kinds_and_to_empty_directories() {
    let (s, root) = scratch();
    let dir = put(&s, &root, "d", Kind::Dir);
    put(&s, &root, "f", Kind::File);
    assert_eq!(errno(try_put(&s, &root, "d", Kind::File, Over::Object)), EISDIR);
    assert_eq!(errno(try_put(&s, &root, "f", Kind::Dir, Over::Object)), ENOTDIR);
    s.whiteout(at(&dir, "w")).unwrap();
    assert_eq!(errno(try_put(&s, &root, "d", Kind::Dir, Over::Object)), ENOTEMPTY);
    assert_eq!(hit(&s, &root, "d").node, dir);
}

#[test]
fn a_replaced_object_lives_on_without_a_name() {
    let (s, root) = scratch();
    let old = put_bytes(&s, &root, "f", b"old");
    let file = s.open(&old).unwrap();
    let new = try_put(&s, &root, "f", Kind::File, Over::Object).unwrap();
    assert_eq!(hit(&s, &root, "f").node, new);
    assert_eq!(nlink(&s, &old), 0);
    let mut buf = [0; 3];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3);
    assert_eq!(&buf, b"old");

    let old = put(&s, &root, "d", Kind::Dir);
    try_put(&s, &root, "d", Kind::Dir, Over::Object).unwrap();
    assert_eq!(nlink(&s, &old), 0);
    assert_eq!(errno(try_put(&s, &old, "x", Kind::File, Over::Nothing)), ENOENT, "a removed directory");
    assert_eq!(errno(s.whiteout(at(&old, "x"))), ENOENT);
}

#[test]
fn a_dropped_stage_leaves_nothing() {
    let (s, root) = scratch();
    let free = s.stat_fs().unwrap();
    let staged = s.stage(&seed(Kind::Dir)).unwrap();
    let inner = s.staged(&staged).clone();
    let file = put_bytes(&s, &inner, "f", b"bytes");
    put(&s, &inner, "sub", Kind::Dir);
    assert_eq!(s.stat_fs().unwrap().files_free, free.files_free - 3);
    drop((staged, inner, file));
    assert_eq!(s.stat_fs().unwrap(), free);
    assert!(list(&s, &root).is_empty());
}

#[test]
fn a_staged_directory_cannot_be_published_in_itself() {
    let (s, _root) = scratch();
    let staged = s.stage(&seed(Kind::Dir)).unwrap();
    let inner = s.staged(&staged).clone();
    assert_eq!(errno(s.publish(staged, at(&inner, "x"), Over::Nothing)), EINVAL);
}

#[test]
fn symlink_targets_are_checked_as_symlink_does() {
    let (s, _root) = scratch();
    let long = vec![b'x'; 4096];
    assert_eq!(errno(s.stage(&Seed { target: b"", ..seed(Kind::Symlink) }).map(drop)), ENOENT);
    assert_eq!(errno(s.stage(&Seed { target: &long, ..seed(Kind::Symlink) }).map(drop)), ENAMETOOLONG);
    s.stage(&Seed { target: &long[1..], ..seed(Kind::Symlink) }).unwrap();
}

#[test]
fn keep_holds_an_object_for_as_long_as_its_node() {
    let (s, root) = scratch();
    let free = s.stat_fs().unwrap();
    let node = s.keep(s.stage(&seed(Kind::File)).unwrap()).unwrap();
    s.open_write(&node).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(nlink(&s, &node), 0);
    assert!(list(&s, &root).is_empty());
    drop(node);
    assert_eq!(s.stat_fs().unwrap(), free);
}

#[test]
fn pin_outlives_removal() {
    let (s, root) = scratch();
    let node = put_bytes(&s, &root, "f", b"kept");
    let pinned = s.pin(&node).unwrap();
    s.remove(&node, at(&root, "f"), Leave::Nothing).unwrap();
    assert_eq!(s.attr(&pinned).unwrap().size, 4);
    assert_eq!(s.open_write(&pinned).unwrap().write_at(b"!", 4).unwrap(), 1);
}

#[test]
fn the_index_holds_one_object_for_each_origin() {
    let (s, root) = scratch();
    let origin = Origin::new(*b"lower inode 9");
    assert!(s.indexed(&origin).unwrap().is_none());
    let node = s.publish_indexed(s.stage(&seed(Kind::File)).unwrap(), &origin).unwrap();
    assert!(list(&s, &root).is_empty());
    let again = s.stage(&seed(Kind::File)).unwrap();
    assert_eq!(errno(s.publish_indexed(again, &origin)), EEXIST);
    assert_eq!(errno(s.publish_indexed(s.stage(&seed(Kind::Dir)).unwrap(), &Origin::new(*b"d"))), EPERM);

    s.link(&node, at(&root, "a"), Over::Nothing).unwrap();
    let found = s.clone().indexed(&origin).unwrap().unwrap();
    assert_eq!(found.node, node);
    assert_eq!(found.attr.nlink, 2, "the index entry counts as a name");

    s.remove(&node, at(&root, "a"), Leave::Nothing).unwrap();
    assert_eq!(s.indexed(&origin).unwrap().unwrap().attr.nlink, 1);
    s.drop_indexed(&origin).unwrap();
    s.drop_indexed(&origin).unwrap();
    assert!(s.indexed(&origin).unwrap().is_none());
    assert_eq!(nlink(&s, &node), 0);
}

#[test]
fn link_adds_names_of_the_same_object() {
    let (s, root) = scratch();
    let dir = put(&s, &root, "d", Kind::Dir);
    let node = put_bytes(&s, &root, "a", b"1");
    s.whiteout(at(&root, "w")).unwrap();
    let victim = put(&s, &root, "v", Kind::File);
    s.link(&node, at(&dir, "b"), Over::Nothing).unwrap();
    s.link(&node, at(&root, "w"), Over::Whiteout).unwrap();
    let reached = s.link(&node, at(&root, "v"), Over::Object).unwrap();
    assert_eq!(reached, node);
    assert_eq!((nlink(&s, &node), nlink(&s, &victim)), (4, 0));
    for (dir, text) in [(&root, "a"), (&dir, "b"), (&root, "w"), (&root, "v")] {
        assert_eq!(hit(&s, dir, text).node, node);
    }
    assert_eq!(errno(s.link(&node, at(&root, "a"), Over::Nothing)), EEXIST);
    assert_eq!(errno(s.link(&node, at(&root, "d"), Over::Object)), EISDIR);
    assert_eq!(errno(s.link(&dir, at(&root, "e"), Over::Nothing)), EPERM);
    assert_eq!(errno(s.link(&node, at(&node, "e"), Over::Nothing)), ENOTDIR);
    s.link(&node, at(&root, "a"), Over::Object).unwrap();
    assert_eq!(nlink(&s, &node), 4, "over itself nothing changes");
}

#[test]
fn rename_moves_and_leaves_what_was_asked() {
    let (s, root) = scratch();
    let (a, b) = (put(&s, &root, "a", Kind::Dir), put(&s, &root, "b", Kind::Dir));
    let file = put_bytes(&s, &a, "f", b"1");
    s.rename(&file, at(&a, "f"), at(&b, "g"), Leave::Whiteout, Over::Nothing).unwrap();
    assert!(is_whiteout(&s, &a, "f"));
    assert_eq!(hit(&s, &b, "g").node, file);
    assert_eq!(nlink(&s, &file), 1);

    let sub = put(&s, &a, "sub", Kind::Dir);
    assert_eq!((nlink(&s, &a), nlink(&s, &b)), (3, 2));
    s.rename(&sub, at(&a, "sub"), at(&b, "sub"), Leave::Nothing, Over::Nothing).unwrap();
    assert_eq!((nlink(&s, &a), nlink(&s, &b)), (2, 3));
    assert!(is_absent(&s, &a, "sub"));

    s.rename(&sub, at(&b, "sub"), at(&a, "f"), Leave::Nothing, Over::Whiteout).unwrap();
    assert_eq!(hit(&s, &a, "f").node, sub);
    let empty = put(&s, &root, "empty", Kind::Dir);
    s.rename(&sub, at(&a, "f"), at(&root, "empty"), Leave::Nothing, Over::Object).unwrap();
    assert_eq!((nlink(&s, &root), nlink(&s, &a), nlink(&s, &empty)), (5, 2, 0));
}

#[test]
fn rename_refuses() {
    let (s, root) = scratch();
    let a = put(&s, &root, "a", Kind::Dir);
    let b = put(&s, &a, "b", Kind::Dir);
    let file = put(&s, &root, "f", Kind::File);
    let full = put(&s, &root, "full", Kind::Dir);
    s.whiteout(at(&full, "w")).unwrap();
    let before = list(&s, &root);
    let rename = |node, from, to, over| errno(s.rename(node, from, to, Leave::Nothing, over));
    assert_eq!(rename(&a, at(&root, "a"), at(&b, "x"), Over::Nothing), EINVAL);
    assert_eq!(rename(&a, at(&root, "a"), at(&a, "x"), Over::Nothing), EINVAL);
    assert_eq!(rename(&a, at(&root, "a"), at(&root, "full"), Over::Object), ENOTEMPTY);
    assert_eq!(rename(&b, at(&a, "b"), at(&root, "a"), Over::Object), ENOTEMPTY);
    assert_eq!(rename(&a, at(&root, "a"), at(&root, "f"), Over::Object), ENOTDIR);
    assert_eq!(rename(&file, at(&root, "f"), at(&root, "full"), Over::Object), EISDIR);
    assert_eq!(rename(&file, at(&root, "f"), at(&root, "a"), Over::Nothing), EEXIST);
    assert_eq!(rename(&file, at(&root, "f"), at(&root, "a"), Over::Whiteout), EEXIST);
    assert_eq!(rename(&file, at(&root, "f"), at(&root, "x"), Over::Object), ENOENT);
    assert_eq!(rename(&file, at(&root, "x"), at(&root, "y"), Over::Nothing), ENOENT);
    assert_eq!(rename(&file, at(&root, "a"), at(&root, "y"), Over::Nothing), ESTALE);
    assert_eq!(rename(&file, at(&full, "w"), at(&root, "y"), Over::Nothing), ENOENT);
    assert_eq!(list(&s, &root), before);
}

#[test]
fn renaming_between_names_of_one_object_does_nothing() {
    let (s, root) = scratch();
    let node = put(&s, &root, "a", Kind::File);
    s.link(&node, at(&root, "b"), Over::Nothing).unwrap();
    s.rename(&node, at(&root, "a"), at(&root, "b"), Leave::Whiteout, Over::Object).unwrap();
    s.rename(&node, at(&root, "a"), at(&root, "a"), Leave::Nothing, Over::Object).unwrap();
    assert_eq!(list(&s, &root).len(), 2);
    assert_eq!(nlink(&s, &node), 2);
}

#[test]
fn a_moved_directory_knows_its_new_place() {
    let (s, root) = scratch();
    let (a, b) = (put(&s, &root, "a", Kind::Dir), put(&s, &root, "b", Kind::Dir));
    s.rename(&a, at(&root, "a"), at(&b, "a"), Leave::Nothing, Over::Nothing).unwrap();
    let into = s.rename(&b, at(&root, "b"), at(&a, "b"), Leave::Nothing, Over::Nothing);
    assert_eq!(errno(into), EINVAL);
    s.rename(&a, at(&b, "a"), at(&root, "a"), Leave::Nothing, Over::Nothing).unwrap();
    s.rename(&b, at(&root, "b"), at(&a, "b"), Leave::Nothing, Over::Nothing).unwrap();
}

#[test]
fn exchange_swaps_names_and_links() {
    let (s, root) = scratch();
    let (a, b) = (put(&s, &root, "a", Kind::Dir), put(&s, &root, "b", Kind::Dir));
    let (dir, file) = (put(&s, &a, "x", Kind::Dir), put(&s, &b, "y", Kind::File));
    let now = s.exchange((&dir, at(&a, "x")), (&file, at(&b, "y"))).unwrap();
    assert_eq!(now, (file.clone(), dir.clone()));
    assert_eq!((hit(&s, &a, "x").node, hit(&s, &b, "y").node), (file.clone(), dir.clone()));
    assert_eq!((nlink(&s, &a), nlink(&s, &b), nlink(&s, &file), nlink(&s, &dir)), (2, 3, 1, 2));
    assert_eq!(errno(s.exchange((&b, at(&root, "b")), (&dir, at(&b, "y")))), EINVAL);
    assert_eq!(errno(s.exchange((&dir, at(&b, "y")), (&b, at(&root, "b")))), EINVAL);
    assert_eq!(errno(s.exchange((&dir, at(&b, "y")), (&dir, at(&b, "nothing")))), ENOENT);
    assert_eq!(errno(s.exchange((&file, at(&b, "y")), (&a, at(&root, "a")))), ESTALE);
    s.exchange((&a, at(&root, "a")), (&dir, at(&b, "y"))).unwrap();
    let into = s.rename(&b, at(&root, "b"), at(&a, "b"), Leave::Nothing, Over::Nothing);
    assert_eq!(errno(into), EINVAL, "a is below b now");
}

#[test]
fn remove_takes_whiteouts_along_but_no_objects() {
    let (s, root) = scratch();
    let dir = put(&s, &root, "d", Kind::Dir);
    s.whiteout(at(&dir, "w")).unwrap();
    let file = put(&s, &dir, "f", Kind::File);
    assert_eq!(errno(s.remove(&dir, at(&root, "d"), Leave::Nothing)), ENOTEMPTY);
    assert_eq!(errno(s.remove(&dir, at(&dir, "f"), Leave::Nothing)), ESTALE);
    assert_eq!(errno(s.remove(&file, at(&dir, "w"), Leave::Nothing)), ENOENT);
    s.remove(&file, at(&dir, "f"), Leave::Whiteout).unwrap();
    assert!(is_whiteout(&s, &dir, "f"));
    assert_eq!(nlink(&s, &file), 0);
    assert_eq!(nlink(&s, &root), 3);
    s.remove(&dir, at(&root, "d"), Leave::Whiteout).unwrap();
    assert!(is_whiteout(&s, &root, "d"));
    assert_eq!((nlink(&s, &root), nlink(&s, &dir)), (2, 0));
    assert!(list(&s, &dir).is_empty());
    assert!(is_absent(&s, &dir, "w"));
}

#[test]
fn whiteout_only_where_nothing_is() {
    let (s, root) = scratch();
    put(&s, &root, "f", Kind::File);
    s.whiteout(at(&root, "w")).unwrap();
    assert_eq!(errno(s.whiteout(at(&root, "w"))), EEXIST);
    assert_eq!(errno(s.whiteout(at(&root, "f"))), EEXIST);
    assert_eq!(list(&s, &root), [("f".to_owned(), Some(Kind::File)), ("w".to_owned(), None)]);
    assert_eq!(s.stat_fs().unwrap().files - s.stat_fs().unwrap().files_free, 2, "no inode for a whiteout");
}

#[test]
fn clear_puts_an_empty_opaque_directory_in_place() {
    let (s, root) = scratch();
    let dir = put(&s, &root, "d", Kind::Dir);
    s.whiteout(at(&dir, "w")).unwrap();
    s.set_xattr(&dir, b"user.x", b"1", SetXattr::Any).unwrap();
    s.mark(&dir, Mark::Impure).unwrap();
    let before = s.attr(&dir).unwrap();
    let new = s.clear(&dir, at(&root, "d")).unwrap();
    assert_ne!(new, dir);
    let found = hit(&s, &root, "d");
    assert_eq!(found.node, new);
    assert_eq!(found.marks, Marks { opaque: true, ..Marks::default() });
    let same = |a: stratafs_core::Attr| (a.mode, a.uid, a.gid, a.nlink, a.atime, a.mtime);
    assert_eq!(same(found.attr), same(before));
    assert_eq!(s.xattr(&new, b"user.x").unwrap().unwrap(), b"1");
    assert!(list(&s, &new).is_empty());
    assert_eq!((nlink(&s, &root), nlink(&s, &dir)), (3, 0));

    put(&s, &new, "f", Kind::File);
    assert_eq!(errno(s.clear(&new, at(&root, "d"))), ENOTEMPTY);
    let file = put(&s, &root, "f", Kind::File);
    assert_eq!(errno(s.clear(&file, at(&root, "f"))), ENOTDIR);
}

#[test]
fn nodes_of_another_scratch_are_refused() {
    let ((s, here), (other, there)) = (scratch(), scratch());
    let foreign = put(&other, &there, "f", Kind::File);
    assert_eq!(errno(s.link(&foreign, at(&here, "f"), Over::Nothing)), EXDEV);
    assert_eq!(errno(try_put(&s, &there, "g", Kind::File, Over::Nothing)), EXDEV);
    assert_eq!(errno(s.lookup(&there, name("f"))), EXDEV);
    assert_eq!(errno(s.attr(&foreign)), EXDEV);
    assert_eq!(errno(s.open(&foreign)), EXDEV);
    let staged = other.stage(&seed(Kind::File)).unwrap();
    assert_eq!(errno(s.publish(staged, at(&here, "f"), Over::Nothing)), EXDEV);
}

#[test]
fn a_deep_chain_is_dropped_without_recursion() {
    let (s, root) = scratch();
    let free = s.stat_fs().unwrap();
    let top = put(&s, &root, "d", Kind::Dir);
    let mut dir = top.clone();
    for _ in 0..50_000 {
        dir = put(&s, &dir, "d", Kind::Dir);
    }
    drop((dir, top));
    assert_eq!(free.files_free - s.stat_fs().unwrap().files_free, 50_001);
    drop((root, s));
}
