//! Damaged layers: a check names them, the next import makes them anew, and who had them open goes on.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod images_made;

use images_made::{Bed, image, layer, name};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use stratafs::Container;
use stratafs::oci::Silent;
use stratafs::store::{ContainerName, ImageRecord, ImportOptions};

const VERIFY: fn() -> ImportOptions = || ImportOptions { verify: true, ..ImportOptions::default() };

fn container(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

/// An image of two layers, the second of which needs the first, and a container over it that copied something up.
fn made(bed: &Bed) -> (PathBuf, ImageRecord) {
    let lower = layer(&[
        ("dir/", ""),
        ("dir/file", "content"),
        ("dir/other", "other"),
        ("one", "linked"),
        ("two", "=one"),
    ]);
    let upper = layer(&[("dir/more", "more"), ("three", "=dir/other")]);
    let path = bed.layout("layout", &image("i", &[lower, upper]));
    let record = bed.import(&path).unwrap().remove(0);
    let opened = bed.run(&record, "c");
    opened.write("/one", "changed").unwrap();
    is_right(&opened);
    opened.close().unwrap();
    (path, record)
}

fn is_right(container: &Container) {
    let read = |path| container.read_to_string(path).unwrap();
    assert_eq!((read("/dir/file").as_str(), read("/dir/more").as_str()), ("content", "more"));
    assert_eq!(container.metadata("/dir").unwrap().mode() & 0o7777, 0o755);
    assert_eq!((read("/one").as_str(), read("/two").as_str()), ("changed", "changed"));
}

/// What can happen to the lowest layer, whose directory is given; whether it is seen without reading everything.
type Harm = (&'static str, bool, fn(&Path));

const HARMS: [Harm; 9] = [
    ("content", false, |dir| fs::write(dir.join("tree/dir/file"), "CONTENT").unwrap()),
    ("empty file", false, |dir| fs::write(dir.join("tree/dir/file"), "").unwrap()),
    ("mode", false, |dir| fs::set_permissions(dir.join("tree/dir"), Permissions::from_mode(0o700)).unwrap()),
    ("extra name", false, |dir| fs::write(dir.join("tree/extra"), "").unwrap()),
    ("record", true, |dir| fs::write(dir.join("layer.json"), "").unwrap()),
    ("no record", true, |dir| fs::remove_file(dir.join("layer.json")).unwrap()),
    ("no frame", true, |dir| fs::remove_file(dir.join("frame")).unwrap()),
    ("empty frame", false, |dir| fs::write(dir.join("frame"), "").unwrap()),
    ("no tree", true, |dir| fs::rename(dir.join("tree"), dir.join("gone")).unwrap()),
];

#[test]
fn a_damaged_layer_is_named_by_a_check_and_made_anew_by_the_next_import() {
    for (what, obvious, harm) in HARMS {
        let bed = Bed::new();
        let (path, record) = made(&bed);
        let dir = bed.store.root().join("layers").join(record.layers[0].key.to_string());
        harm(&dir);
        let found = bed.store.check_layers(&Silent).unwrap();
        assert!(!found.is_empty(), "{what}");
        let options = if obvious { ImportOptions::default() } else { VERIFY() };
        let again = bed.store.import(&path, &options, &Silent).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(again[0].layers, record.layers, "{what}");
        assert_eq!(bed.store.check_layers(&Silent).unwrap(), [], "{what}");
        let opened = bed.store.open_container(&container("c")).unwrap();
        // Without the tree nobody knows which names were one file.
        if what != "no tree" {
            is_right(&opened);
        }
        assert_eq!(opened.read_to_string("/one").unwrap(), "changed", "{what}");
        drop(opened);
        let fresh = bed.run(&again[0], "fresh");
        assert_eq!(fresh.read_to_string("/dir/file").unwrap(), "content", "{what}");
        drop(fresh);
        assert_eq!(bed.store.gc().unwrap().layers, 0, "{what}");
        assert!(bed.names("trash").is_empty(), "{what}");
    }
}

#[test]
fn an_import_that_verifies_leaves_good_layers_alone() {
    let bed = Bed::new();
    let (path, record) = made(&bed);
    let inodes = || {
        record.layers.iter().map(|layer| {
            let dir = bed.store.root().join("layers").join(layer.key.to_string());
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(dir).unwrap())
        })
    };
    let before: Vec<_> = inodes().collect();
    bed.store.import(&path, &VERIFY(), &Silent).unwrap();
    assert!(inodes().eq(before));
}

#[test]
fn what_is_in_use_goes_on_with_the_layer_that_it_opened() {
    let bed = Bed::new();
    let (path, record) = made(&bed);
    let dir = bed.store.root().join("layers").join(record.layers[0].key.to_string());
    let opened = bed.store.open_container(&container("c")).unwrap();
    fs::write(dir.join("tree/dir/file"), "CONTENT").unwrap();
    let pin = bed.store.pin_layer(&record.layers[0].key).unwrap().unwrap();
    bed.store.import(&path, &VERIFY(), &Silent).unwrap();
    bed.store.gc().unwrap();
    assert_eq!(bed.names("trash").len(), 1);
    assert_eq!(opened.read_to_string("/dir/file").unwrap(), "CONTENT");
    // Who held the damaged one holds the new one: gc leaves it although nobody else refers to it.
    drop(opened);
    bed.store.remove(&container("c")).unwrap();
    bed.store.remove_image(&name(&record.name.to_string())).unwrap();
    assert_eq!(bed.store.gc().unwrap().layers, 1);
    assert_eq!(fs::read(pin.tree().join("dir/file")).unwrap(), b"content");
    drop(pin);
    assert_eq!(bed.store.gc().unwrap().layers, 1);
    assert!(bed.names("trash").is_empty() && bed.names("layers").is_empty());
}

#[test]
fn several_imports_that_repair_the_same_layer_at_once_all_end_well() {
    let bed = Bed::new();
    let (path, record) = made(&bed);
    let dir = bed.store.root().join("layers").join(record.layers[0].key.to_string());
    for _ in 0..5 {
        fs::write(dir.join("tree/dir/file"), "CONTENT").unwrap();
        fs::remove_file(dir.join("frame")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| bed.store.import(&path, &VERIFY(), &Silent).unwrap());
            }
            scope.spawn(|| bed.store.gc().unwrap());
        });
        assert_eq!(bed.store.check_layers(&Silent).unwrap(), []);
        is_right(&bed.store.open_container(&container("c")).unwrap());
    }
    bed.store.gc().unwrap();
    assert!(bed.names("trash").is_empty());
}
