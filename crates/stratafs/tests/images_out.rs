//! Images out of the store, and containers that become images.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod images_made;

use images_made::source::{Made, images, options};
use images_made::*;
use std::fs;
use std::io::Read;
use std::time::{Duration, UNIX_EPOCH};
use stratafs::oci::compress::{Compression, decode};
use stratafs::oci::layout::Target;
use stratafs::oci::{Digest, Limits};
use stratafs::store::{
    ArchiveOptions, CommitOptions, ContainerConfig, ContainerName, ExportOptions, ImageRecord, Opened,
};
use stratafs::{ErrorKind, SetTime, Time};

fn base(bed: &Bed) -> ImageRecord {
    let layers = [
        layer(&[
            ("etc/", ""),
            ("etc/motd", "base"),
            ("etc/old", "old"),
            ("d/", ""),
            ("d/x", "x"),
            ("d/y", "y"),
        ]),
        layer(&[("etc/", ""), ("etc/more", "=etc/motd")]),
    ];
    bed.import(&bed.layout("base", &image("1", &layers))).unwrap().remove(0)
}

fn plain() -> ArchiveOptions {
    ArchiveOptions { compression: Compression::None, threads: None }
}

fn c(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn fixed() -> CommitOptions {
    CommitOptions { created: Some(UNIX_EPOCH + Duration::from_secs(1)), ..CommitOptions::default() }
}

#[test]
fn an_exported_image_is_the_imported_one_to_the_byte() {
    let bed = Bed::new();
    let image = base(&bed);
    for (name, compression) in
        [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        let (file, dir) = (bed.path(&format!("{name}.tar")), bed.path(name));
        for target in [Target::File { path: &file, replace: false }, Target::Directory(&dir)] {
            let options = ExportOptions { compression, threads: None };
            let done =
                bed.store.export_images(std::slice::from_ref(&image), target, &options, &Heard::default());
            assert!(done.unwrap().warnings.is_empty());
        }
        for path in [file, dir] {
            let mut options = options(bed.tmp.path());
            options.platform = None;
            let read = images(&path, &options).unwrap();
            assert_eq!(read[0].config.as_str(), image.config.as_str());
            for (blob, diff_id) in read[0].layers.iter().zip(image.config.diff_ids()) {
                let mut archive = Vec::new();
                decode(blob.open().unwrap(), &Limits::default()).unwrap().read_to_end(&mut archive).unwrap();
                assert_eq!(Digest::of(&archive), *diff_id);
            }
            let other = Bed::new();
            let again = other.import(&path).unwrap().remove(0);
            assert_eq!((again.id(), &again.layers, &again.name), (image.id(), &image.layers, &image.name));
        }
    }
}

#[test]
fn a_layer_that_was_tampered_with_is_not_exported() {
    let bed = Bed::new();
    let image = base(&bed);
    let tree = bed.store.layer_tree(&image.layers[0].key);
    fs::write(tree.join("etc/motd"), "BASE").unwrap();
    let target = bed.path("out.tar");
    let error = bed
        .store
        .export_images(
            &[image],
            Target::File { path: &target, replace: false },
            &ExportOptions::default(),
            &Heard::default(),
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("etc/motd"), "{error}");
    assert_eq!(names(bed.tmp.path()), ["base", "store"]);
}

/// The same changes, in one order or another.
fn change(container: &Opened, other_order: bool) {
    let steps: [&dyn Fn(); 6] = [
        &|| container.write("/etc/motd", "changed").unwrap(),
        &|| container.remove_file("/etc/old").unwrap(),
        &|| container.write("/new", "new").unwrap(),
        &|| {
            container.remove_dir_all("/d").unwrap();
            container.create_dir("/d").unwrap();
            container.write("/d/z", "z").unwrap();
        },
        &|| container.symlink("new", "/link").unwrap(),
        &|| container.hard_link("/new", "/new2").unwrap(),
    ];
    let order = if other_order { [3, 1, 0, 2, 5, 4] } else { [0, 1, 2, 3, 4, 5] };
    for i in order {
        steps[i]();
    }
    // The clock is no part of what was changed.
    for path in ["/etc/motd", "/new", "/d/z", "/d", "/etc", "/"] {
        container.set_times(path, None, Some(SetTime::At(Time { secs: 5, nanos: 123 }))).unwrap();
    }
    container.set_symlink_times("/link", None, Some(SetTime::At(Time { secs: 5, nanos: 123 }))).unwrap();
}

#[test]
fn a_committed_container_is_an_image_that_shows_the_same() {
    let bed = Bed::new();
    let image = base(&bed);
    let container = bed.run(&image, "one");
    change(&container, false);
    let wanted = tree(&container);
    container.close().unwrap();
    let done = bed
        .store
        .commit(
            &c("one"),
            &name("two:1"),
            &CommitOptions {
                message: Some("why".into()),
                author: Some("me".into()),
                changes: vec!["CMD [\"/new\"]".parse().unwrap(), "ENV A=b".parse().unwrap()],
                ..fixed()
            },
            &Heard::default(),
        )
        .unwrap();
    let new = done.record;
    assert_eq!(bed.store.image(&name("two:1")).unwrap(), new);
    assert_eq!(new.layers[..2], image.layers[..]);
    assert_eq!(new.layers[2].diff_id, done.layer.unwrap().digest);
    assert_eq!(new.config.diff_ids().len(), 3);
    let last = new.config.history().last().unwrap();
    assert_eq!(last.comment.as_deref(), Some("why"));
    assert_eq!(last.created.as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(new.config.author(), Some("me"));
    assert_eq!(new.config.runtime().cmd, ["/new"]);
    assert_eq!(new.config.runtime().env, ["A=b"]);
    assert_eq!(tree(&bed.run(&new, "two")), wanted);
    assert!(bed.names("trash").is_empty());

    // The layer on its own, over the image, is the same again.
    let mut archive = Vec::new();
    let packed = bed.store.export_layer(&c("one"), &mut archive, &plain(), &Heard::default()).unwrap();
    assert_eq!(packed.digest, new.layers[2].diff_id);
    assert_eq!(Digest::of(&archive), packed.digest);
    // And all of it as one archive is the same tree.
    let mut all = Vec::new();
    bed.store.export_container(&c("one"), &mut all, &plain(), &Heard::default()).unwrap();
    fs::write(bed.path("all.tar"), all).unwrap();
    let flat = bed.import(&bed.path("all.tar")).unwrap().remove(0);
    assert_eq!(tree(&bed.run(&flat, "flat")), wanted);
}

#[test]
fn the_same_changes_in_another_order_give_the_same_image() {
    let bed = Bed::new();
    let image = base(&bed);
    let mut ids = Vec::new();
    for (name_, other_order) in [("one", false), ("two", true)] {
        let container = bed.run(&image, name_);
        change(&container, other_order);
        container.close().unwrap();
        let done = bed.store.commit(&c(name_), &name("new"), &fixed(), &Heard::default()).unwrap();
        ids.push(done.record.id());
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn snapshots_are_part_of_what_is_committed() {
    let bed = Bed::new();
    let image = base(&bed);
    let container = bed.run(&image, "one");
    container.write("/a", "a").unwrap();
    container.remove_file("/etc/old").unwrap();
    container.close().unwrap();
    bed.store.snapshot(&c("one"), None).unwrap();
    let container = bed.store.open_container(&c("one")).unwrap();
    container.write("/etc/old", "back").unwrap();
    let wanted = tree(&container);
    container.close().unwrap();
    let done = bed.store.commit(&c("one"), &name("new"), &fixed(), &Heard::default()).unwrap();
    assert_eq!(done.record.layers.len(), 3);
    assert_eq!(tree(&bed.run(&done.record, "two")), wanted);
}

#[test]
fn a_commit_of_nothing_adds_to_the_history_alone() {
    let bed = Bed::new();
    let image = base(&bed);
    bed.run(&image, "one").close().unwrap();
    let options = CommitOptions { changes: vec!["USER 1".parse().unwrap()], ..fixed() };
    let done = bed.store.commit(&c("one"), &name("new"), &options, &Heard::default()).unwrap();
    assert!(done.layer.is_none());
    assert_eq!(done.record.layers, image.layers);
    assert!(done.record.config.history().last().unwrap().empty_layer);
    assert_eq!(done.record.config.runtime().user.as_deref(), Some("1"));
}

#[test]
fn a_container_over_directories_becomes_an_image_of_two_layers() {
    let bed = Bed::new();
    for (dir, file) in [("low", "a"), ("top", "b")] {
        fs::create_dir(bed.path(dir)).unwrap();
        fs::write(bed.path(dir).join(file), file).unwrap();
    }
    let config = ContainerConfig::new([bed.path("top"), bed.path("low")]);
    bed.store.create(Some(c("one")), config).unwrap();
    let container = bed.store.open_container(&c("one")).unwrap();
    container.remove_file("/a").unwrap();
    container.write("/c", "c").unwrap();
    let wanted = tree(&container);
    container.close().unwrap();
    let done = bed.store.commit(&c("one"), &name("new"), &fixed(), &Heard::default()).unwrap();
    assert_eq!(done.record.layers.len(), 2);
    assert_eq!(tree(&bed.run(&done.record, "two")), wanted);
}

#[test]
fn a_container_can_be_committed_when_the_name_of_its_image_is_gone() {
    let bed = Bed::new();
    let mut made = Made::new();
    let entry = add_image(&mut made, &[layer(&[("a", "a")])]);
    made.index(&[entry]);
    let image = bed.import(&bed.layout("base", &made)).unwrap().remove(0);
    let container = bed.run(&image, "one");
    container.write("/b", "b").unwrap();
    container.close().unwrap();
    bed.store.remove_image(&image.name).unwrap();
    bed.store.gc().unwrap();
    let done = bed.store.commit(&c("one"), &name("new"), &fixed(), &Heard::default()).unwrap();
    assert_eq!(done.record.layers[0], image.layers[0]);
    assert_eq!(done.record.config.history().len(), 2);
    assert_eq!(tree(&bed.run(&done.record, "two")).len(), 2);
}

#[test]
fn a_commit_that_fails_leaves_nothing() {
    let bed = Bed::new();
    let image = base(&bed);
    let container = bed.run(&image, "one");
    container.write("/.wh.x", "no layer can hold this").unwrap();
    let error = bed.store.commit(&c("one"), &name("new"), &fixed(), &Heard::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "it is in use");
    container.close().unwrap();
    let error = bed.store.commit(&c("one"), &name("new"), &fixed(), &Heard::default()).unwrap_err();
    assert!(error.to_string().contains(".wh.x"), "{error}");
    assert_eq!(bed.names("images"), ["base:1.json"]);
    assert_eq!(bed.names("layers").len(), 2);
    assert!(bed.names("trash").is_empty());
}
