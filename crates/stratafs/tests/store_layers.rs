//! Layers of a store: complete or absent, kept while somebody holds them, one of each.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use stratafs::oci::Digest;
use stratafs::store::{LayerFacts, LayerKey, PinnedLayer, Store};
use stratafs::{ErrorKind, Layer, Name, Scratch};
use stratafs_core::{At, Seed, Whole, WriteAt};

struct Fixture {
    tmp: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    Fixture { tmp, store }
}

fn facts(text: &str) -> LayerFacts {
    let diff_id = Digest::of(text.as_bytes());
    LayerFacts { diff_id, bytes: 1, archive_bytes: 1024, entries: 1, says_root: false }
}

fn key(text: &str) -> LayerKey {
    LayerKey::Diff(Digest::of(text.as_bytes()))
}

/// A layer with one file that holds `text`.
fn publish(store: &Store, text: &str) -> PinnedLayer {
    let staged = store.stage_layer().unwrap();
    let scratch = staged.scratch().unwrap();
    let root = scratch.root().unwrap().node;
    let seed = Seed {
        kind: stratafs::Kind::File,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: stratafs::Device::default(),
        target: b"",
    };
    let whole = Whole { seed, mtime: stratafs::Time::default(), xattrs: &[] };
    let mut fill = |file: &<stratafs::DirScratch as Layer>::File| file.write_at(text.as_bytes(), 0).map(drop);
    scratch.put(At { dir: &root, name: Name::new(b"file").unwrap() }, &whole, &mut fill).unwrap();
    drop(scratch);
    fs::write(staged.frame_path(), "frame").unwrap();
    staged.publish(key(text), facts(text)).unwrap()
}

fn entries(f: &Fixture, dir: &str) -> usize {
    fs::read_dir(f.store.root().join(dir)).unwrap().count()
}

#[test]
fn a_published_layer_is_found_and_opens() {
    let f = fixture();
    assert!(f.store.pin_layer(&key("a")).unwrap().is_none());
    let made = publish(&f.store, "a");
    let found = f.store.pin_layer(&key("a")).unwrap().unwrap();
    assert_eq!(found.record(), made.record());
    assert!(found.record().allocated >= 4096);
    assert_eq!(fs::read_to_string(found.tree().join("file")).unwrap(), "a");
    assert_eq!(found.tree(), f.store.layer_tree(&key("a")));
    let image = stratafs::Image::builder().layer(found.open().unwrap()).build().unwrap();
    assert_eq!(image.view().unwrap().read("/file").unwrap(), b"a");
    let mut frame = String::new();
    std::io::Read::read_to_string(&mut found.open_frame().unwrap(), &mut frame).unwrap();
    assert_eq!(frame, "frame");
    assert_eq!(entries(&f, "trash"), 0);
    let inside: Vec<_> = fs::read_dir(f.store.layer_tree(&key("a")).parent().unwrap()).unwrap().collect();
    assert_eq!(inside.len(), 3, "{inside:?}");
    for dir in ["layers", "trash", &format!("layers/{}", key("a"))] {
        let mode = fs::metadata(f.store.root().join(dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{dir}");
    }
}

#[test]
fn what_was_not_published_leaves_nothing() {
    let f = fixture();
    let staged = f.store.stage_layer().unwrap();
    fs::write(staged.frame_path(), "x").unwrap();
    assert_eq!(entries(&f, "trash"), 1);
    drop(staged);
    let staged = f.store.stage_layer().unwrap();
    let e = staged.publish(key("a"), facts("a")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert_eq!((entries(&f, "trash"), entries(&f, "layers")), (0, 0));
}

#[test]
fn the_second_of_two_equal_layers_gives_way() {
    let f = fixture();
    let first = publish(&f.store, "a");
    fs::write(first.tree().join("first"), "").unwrap();
    let second = publish(&f.store, "a");
    assert!(second.tree().join("first").exists());
    assert_eq!((entries(&f, "trash"), entries(&f, "layers")), (0, 1));
    let winners = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| publish(&f.store, "b").key())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|k| *k == key("b")).count()
    });
    assert_eq!((winners, entries(&f, "trash"), entries(&f, "layers")), (8, 0, 2));
}

#[test]
fn a_damaged_layer_is_named_and_planted_names_are_refused() {
    let f = fixture();
    drop(publish(&f.store, "a"));
    let dir = f.store.root().join("layers").join(key("a").to_string());
    let record = dir.join("layer.json");
    let good = fs::read_to_string(&record).unwrap();
    for text in
        [String::new(), "{}".into(), good.replace("\"entries\"", "\"other\""), good.replace(": 1,", ": 2,")]
    {
        fs::write(&record, &text).unwrap();
        let e = f.store.pin_layer(&key("a")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{text}");
        assert!(e.to_string().contains("layer.json"), "{e}");
    }
    fs::remove_file(&record).unwrap();
    assert_eq!(f.store.pin_layer(&key("a")).unwrap_err().kind(), ErrorKind::Corrupt);
    symlink("/etc/passwd", &record).unwrap();
    assert!(f.store.pin_layer(&key("a")).is_err());
    fs::remove_file(&record).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &record, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(f.store.pin_layer(&key("a")).unwrap_err().kind(), ErrorKind::Corrupt);
    fs::remove_file(&record).unwrap();
    fs::write(&record, &good).unwrap();
    fs::rename(dir.join("tree"), f.tmp.path().join("tree")).unwrap();
    symlink(f.tmp.path().join("tree"), dir.join("tree")).unwrap();
    assert!(f.store.pin_layer(&key("a")).is_err());
    fs::rename(&dir, f.tmp.path().join("layer")).unwrap();
    symlink(f.tmp.path().join("layer"), &dir).unwrap();
    assert!(f.store.pin_layer(&key("a")).is_err());
}
