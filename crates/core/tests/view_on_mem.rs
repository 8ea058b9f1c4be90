#![allow(clippy::unwrap_used, reason = "tests say what they expect")]
//! The engine's own promises, on the in-memory backend: coherence of handles, identity over copy-up, hard links,
//! redirects, the change list, paths.

use std::ops::ControlFlow;
use stratafs_core::{
    Access, Aspects, Caller, Change, Config, Follow, Inode, Kind, Name, New, RenameFlags, SetAttr, Stack,
    View, What,
};
use stratafs_mem::{MemLayer, MemScratch};

type MemView = View<MemLayer, MemScratch>;
type MemInode = Inode<MemLayer, MemScratch>;

fn open(layers: Vec<MemLayer>, scratch: &MemScratch) -> MemView {
    View::new(Stack { layers, scratch: Some(scratch.clone()) }, Config::default()).unwrap()
}

fn base() -> MemLayer {
    MemLayer::builder()
        .dir("d", 0o755)
        .file("d/f", "lower")
        .file("a", "one inode")
        .hard_link("b", "a")
        .hard_link("c", "a")
        .symlink("link", "d/f")
        .symlink("up", "../../../d/f")
        .symlink("loop", "loop")
        .build()
        .unwrap()
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn at(view: &MemView, path: &str) -> MemInode {
    view.resolve(&view.root(), path.as_bytes(), Follow::No, &Caller::root()).unwrap()
}

fn read(view: &MemView, path: &str) -> String {
    let inode = view.resolve(&view.root(), path.as_bytes(), Follow::Yes, &Caller::root()).unwrap();
    let handle = view.open(&inode, Access::read(), &Caller::root()).unwrap();
    let mut buf = vec![0; 4096];
    let n = handle.read_at(&mut buf, 0).unwrap();
    buf.truncate(n);
    String::from_utf8(buf).unwrap()
}

fn names(view: &MemView, path: &str) -> Vec<String> {
    let dir = at(view, path);
    let mut out = Vec::new();
    view.open_dir(&dir, &Caller::root())
        .unwrap()
        .read(0, &mut |entry| {
            assert_eq!(entry.ino, view.lookup(&dir, entry.name).unwrap().unwrap().ino());
            out.push(String::from_utf8_lossy(entry.name.as_bytes()).into_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
    out.sort();
    out
}

fn changes(view: &MemView) -> Vec<(String, What)> {
    view.changes()
        .unwrap()
        .into_iter()
        .map(|Change { path, what, .. }| (String::from_utf8(path).unwrap(), what))
        .collect()
}

#[test]
fn a_handle_opened_before_copy_up_sees_what_is_written_after() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let file = at(&view, "d/f");
    let (ino, parent) = (file.ino(), at(&view, "d").ino());
    let reader = view.open(&file, Access::read(), &Caller::root()).unwrap();
    let writer = view.open(&file, Access::read_write(), &Caller::root()).unwrap();
    writer.write_at(b"upper", 0).unwrap();
    let mut buf = [0; 5];
    reader.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"upper");
    assert_eq!((at(&view, "d/f").ino(), at(&view, "d").ino()), (ino, parent));
    view.unlink(&at(&view, "d"), name("f"), &Caller::root()).unwrap();
    writer.write_at(b"UPPER", 0).unwrap();
    reader.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"UPPER");
    let again = open(view.layers().to_vec(), &scratch);
    assert_eq!(names(&again, "d"), Vec::<String>::new());
    assert_eq!(changes(&again).last().unwrap(), &("d/f".into(), What::Deleted));
}

#[test]
fn metadata_alone_brings_no_data_up_and_numbers_outlive_reopening() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let file = at(&view, "d/f");
    view.set_attr(&file, &SetAttr { mode: Some(0o600), ..SetAttr::default() }, &Caller::root()).unwrap();
    assert_eq!(read(&view, "d/f"), "lower");
    let again = open(view.layers().to_vec(), &scratch);
    assert_eq!(at(&again, "d/f").ino(), file.ino());
    assert_eq!(read(&again, "d/f"), "lower");
    assert!(changes(&again).contains(&("d/f".into(), What::Modified(Aspects::METADATA))));
    let handle = again.open(&at(&again, "d/f"), Access::read_write(), &Caller::root()).unwrap();
    handle.write_at(b"L", 0).unwrap();
    assert_eq!(read(&again, "d/f"), "Lower");
}

#[test]
fn hard_links_stay_linked_over_copy_up_and_reopening() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let handle = view.open(&at(&view, "b"), Access::read_write(), &Caller::root()).unwrap();
    handle.write_at(b"ONE", 0).unwrap();
    let check = |view: &MemView, left: &[&str]| {
        for path in left {
            assert_eq!(read(view, path), "ONE inode", "{path}");
            let attr = view.attr(&at(view, path)).unwrap();
            assert_eq!((attr.nlink as usize, attr.id.ino), (left.len(), at(view, left[0]).ino()), "{path}");
        }
    };
    check(&view, &["a", "b", "c"]);
    let view = open(view.layers().to_vec(), &scratch);
    check(&view, &["a", "b", "c"]);
    view.unlink(&view.root(), name("a"), &Caller::root()).unwrap();
    check(&view, &["b", "c"]);
    let view = open(view.layers().to_vec(), &scratch);
    check(&view, &["b", "c"]);
    view.rename(&view.root(), name("c"), &at(&view, "d"), name("c"), RenameFlags::empty(), &Caller::root())
        .unwrap();
    let view = open(view.layers().to_vec(), &scratch);
    check(&view, &["b", "d/c"]);
    view.unlink(&view.root(), name("b"), &Caller::root()).unwrap();
    view.unlink(&at(&view, "d"), name("c"), &Caller::root()).unwrap();
    let view = open(view.layers().to_vec(), &scratch);
    assert_eq!(names(&view, "/"), ["d", "link", "loop", "up"]);
}

#[test]
fn a_lower_directory_is_renamed_with_what_is_in_it_and_comes_back() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let root = view.root();
    let held = at(&view, "d/f");
    view.rename(&root, name("d"), &root, name("e"), RenameFlags::empty(), &Caller::root()).unwrap();
    let inner = view.make(&at(&view, "e"), name("new"), &New::dir(0o755), &Caller::root()).unwrap();
    view.rename(&root, name("e"), &inner, name("x"), RenameFlags::empty(), &Caller::root()).unwrap_err();
    view.make(&root, name("d"), &New::dir(0o700), &Caller::root()).unwrap();
    for view in [view.clone(), open(view.layers().to_vec(), &scratch)] {
        assert_eq!(names(&view, "e"), ["f", "new"]);
        assert_eq!(names(&view, "d"), Vec::<String>::new());
        assert_eq!(read(&view, "e/f"), "lower");
        assert_eq!(at(&view, "e/f").ino(), held.ino());
        let changes = changes(&view);
        assert!(changes.iter().any(|(path, what)| path == "e"
            && matches!(what, What::Renamed { from, .. } if from == b"d")));
        assert!(changes.contains(&("d".into(), What::Added)));
        assert!(!changes.iter().any(|(_, what)| *what == What::Deleted));
    }
}

#[test]
fn nothing_deleted_comes_back() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let root = view.root();
    let dir = at(&view, "d");
    assert_eq!(view.rmdir(&root, name("d"), &Caller::root()).unwrap_err().errno(), 39);
    view.unlink(&dir, name("f"), &Caller::root()).unwrap();
    view.rmdir(&root, name("d"), &Caller::root()).unwrap();
    assert!(view.make(&dir, name("x"), &New::file(0o644), &Caller::root()).is_err());
    view.make(&root, name("d"), &New::dir(0o755), &Caller::root()).unwrap();
    assert_eq!(names(&view, "d"), Vec::<String>::new());
    assert_eq!(names(&open(view.layers().to_vec(), &scratch), "d"), Vec::<String>::new());
}

#[test]
fn paths_stay_inside_and_loops_end() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    assert_eq!(read(&view, "link"), "lower");
    assert_eq!(read(&view, "up"), "lower");
    assert_eq!(read(&view, "/../..//d/./../d/f"), "lower");
    let error = |path: &str| {
        view.resolve(&view.root(), path.as_bytes(), Follow::Yes, &Caller::root()).unwrap_err().errno()
    };
    assert_eq!(error("loop"), 40);
    assert_eq!(error("d/f/"), 20);
    assert_eq!(error("link/"), 20);
    assert_eq!(error("d/f/x"), 20);
    assert_eq!(error("nowhere/x"), 2);
    assert_eq!(error(""), 2);
}

#[test]
fn an_exchange_of_a_lower_file_and_a_lower_directory_holds() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let root = view.root();
    view.rename(&root, name("d"), &root, name("a"), RenameFlags::EXCHANGE, &Caller::root()).unwrap();
    for view in [view.clone(), open(view.layers().to_vec(), &scratch)] {
        assert_eq!(read(&view, "a/f"), "lower");
        assert_eq!(read(&view, "d"), "one inode");
        assert_eq!(read(&view, "b"), "one inode");
        assert_eq!(at(&view, "d").ino(), at(&view, "b").ino());
        assert_eq!(at(&view, "a").kind(), Kind::Dir);
    }
}

#[test]
fn truncating_on_open_and_on_purpose_keeps_what_stays() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    view.truncate(&at(&view, "d/f"), 3, &Caller::root()).unwrap();
    assert_eq!(read(&view, "d/f"), "low");
    let cut = Access { truncate: true, write: true, ..Access::default() };
    let handle = view.open(&at(&view, "a"), cut, &Caller::root()).unwrap();
    assert_eq!(handle.append(b"x").unwrap(), (0, 1));
    assert_eq!(read(&view, "c"), "x");
}

#[test]
fn other_names_of_a_changed_file_are_in_the_change_list() {
    let scratch = MemScratch::new();
    let view = open(vec![base()], &scratch);
    let handle = view.open(&at(&view, "b"), Access::read_write(), &Caller::root()).unwrap();
    handle.write_at(b"ONE", 0).unwrap();
    view.unlink(&view.root(), name("b"), &Caller::root()).unwrap();
    for view in [view.clone(), open(view.layers().to_vec(), &scratch)] {
        let data = |what: &What| matches!(what, What::Modified(a) if a.contains(Aspects::DATA));
        let changes = changes(&view);
        for path in ["a", "c"] {
            assert!(changes.iter().any(|(p, what)| p == path && data(what)), "{path}: {changes:?}");
        }
        assert!(changes.contains(&("b".into(), What::Deleted)));
    }
}
