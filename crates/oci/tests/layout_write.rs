//! Layouts that are written: read back the same, the same bytes for the same images, whole or not at all.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod source_made;

use source_made::{content, images, options, tar};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use stratafs_oci::image::{Config, History, Platform, media};
use stratafs_oci::layout::{LayoutWriter, Target};
use stratafs_oci::source::RefName;
use stratafs_oci::{Digest, ErrorKind, Result};

fn add(writer: &mut LayoutWriter<'_>, repository: &str, tag: &str, text: &str) -> Result<Digest> {
    let layer = tar(&[("file", text.as_bytes())]);
    let mut edit = Config::empty(&"linux/amd64".parse::<Platform>()?, None)?.edit()?;
    edit.add(Some(Digest::of(&layer)), &History::default())?;
    let config = edit.finish()?;
    let mut blob = writer.blob()?;
    blob.write_all(&layer).unwrap();
    let layer = writer.add_blob(blob, media::LAYER)?;
    writer.add_image(repository, tag, &config, vec![layer], &BTreeMap::new())?;
    Ok(config.digest())
}

fn write(target: Target<'_>, images: &[(&str, &str, &str)]) -> Result<()> {
    let mut writer = LayoutWriter::new(target)?;
    for (repository, tag, text) in images {
        add(&mut writer, repository, tag, text)?;
    }
    writer.finish()
}

/// Names and contents, in the order of the index.
fn read(path: &Path) -> Vec<(String, String)> {
    let tmp = tempfile::tempdir().unwrap();
    let found = images(path, &options(tmp.path())).unwrap();
    let name = |name: &RefName| match name {
        RefName::Full(name) | RefName::Tag(name) => name.clone(),
    };
    found.iter().flat_map(|i| i.names.iter().map(move |n| (name(n), content(i).unwrap()))).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn images_read_back_from_a_directory_a_file_and_a_stream() {
    let tmp = tempfile::tempdir().unwrap();
    let both = [("x", "1", "one"), ("localhost/y", "2", "two")];
    let (dir, file, stream) = (tmp.path().join("dir"), tmp.path().join("a.tar"), tmp.path().join("b.tar"));
    write(Target::Directory(&dir), &both).unwrap();
    write(Target::File { path: &file, replace: false }, &both).unwrap();
    let out = Box::new(fs::File::create(&stream).unwrap());
    write(Target::Stream { out, spool: tmp.path() }, &both).unwrap();
    let wanted = [("docker.io/library/x:1", "one"), ("localhost/y:2", "two")];
    let wanted: Vec<_> = wanted.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(read(&dir), wanted);
    assert_eq!(read(&file), wanted);
    assert_eq!(fs::read(&file).unwrap(), fs::read(&stream).unwrap(), "the same images, the same bytes");
    assert_eq!(names(tmp.path()), ["a.tar", "b.tar", "dir"], "nothing is left beside");
    assert_eq!(names(&dir), ["blobs", "index.json", "oci-layout"]);
}

#[test]
fn a_tag_is_added_and_replaced_and_what_else_the_index_has_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("dir");
    write(Target::Directory(&dir), &[("x", "1", "one"), ("x", "2", "two")]).unwrap();
    let index = fs::read_to_string(dir.join("index.json")).unwrap();
    let index = index.replacen('{', r#"{"other":[1.50],"#, 1);
    fs::write(dir.join("index.json"), index).unwrap();
    write(Target::Directory(&dir), &[("x", "1", "new"), ("x", "3", "three")]).unwrap();
    let found = read(&dir);
    let found: Vec<_> = found.iter().map(|(a, b)| (a.rsplit(':').next().unwrap(), b.as_str())).collect();
    assert_eq!(found, [("2", "two"), ("1", "new"), ("3", "three")]);
    assert!(fs::read_to_string(dir.join("index.json")).unwrap().contains(r#""other":[1.50]"#));
    assert!(names(&dir.join("blobs/sha256")).iter().all(|name| name.len() == 64));
}

#[test]
fn two_images_with_one_tag_can_both_be_found() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("dir");
    write(Target::Directory(&dir), &[("x", "latest", "one"), ("y", "latest", "two")]).unwrap();
    let text = fs::read_to_string(dir.join("index.json")).unwrap();
    assert!(text.contains(r#""org.opencontainers.image.ref.name":"latest""#), "{text}");
    assert!(text.contains(r#""org.opencontainers.image.ref.name":"docker.io/library/y:latest""#), "{text}");
}

#[test]
fn nothing_is_overwritten_that_nobody_gave_away() {
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("file");
    fs::write(&file, "keep").unwrap();
    let image = [("x", "1", "one")];
    let kind = |target| write(target, &image).unwrap_err().kind();
    assert_eq!(kind(Target::File { path: &file, replace: false }), ErrorKind::AlreadyExists);
    assert_eq!(kind(Target::Directory(&file)), ErrorKind::AlreadyExists);
    let full = tmp.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), "").unwrap();
    assert_eq!(kind(Target::Directory(&full)), ErrorKind::AlreadyExists);
    assert_eq!(kind(Target::File { path: &full, replace: true }), ErrorKind::IsADirectory);
    let link = tmp.path().join("link");
    symlink(&file, &link).unwrap();
    assert_eq!(kind(Target::File { path: &link, replace: true }), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&file).unwrap(), b"keep");
    write(Target::File { path: &file, replace: true }, &image).unwrap();
    assert_eq!(read(&file).len(), 1);
    fs::create_dir(tmp.path().join("empty")).unwrap();
    write(Target::Directory(&tmp.path().join("empty")), &image).unwrap();
    assert_eq!(names(tmp.path()), ["empty", "file", "full", "link"]);
}

#[test]
fn a_layout_with_links_in_the_place_of_its_parts_is_not_written_through() {
    for part in ["blobs", "blobs/sha256", "index.json", "oci-layout"] {
        let tmp = tempfile::tempdir().unwrap();
        let (dir, outside) = (tmp.path().join("dir"), tmp.path().join("outside"));
        write(Target::Directory(&dir), &[("x", "1", "one")]).unwrap();
        fs::rename(dir.join(part), &outside).unwrap();
        symlink(&outside, dir.join(part)).unwrap();
        let before = if outside.is_dir() { names(&outside) } else { Vec::new() };
        let error = write(Target::Directory(&dir), &[("x", "2", "two")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{part}: {error}");
        assert_eq!(if outside.is_dir() { names(&outside) } else { Vec::new() }, before);
    }
}

#[test]
fn what_was_not_finished_was_never_there() {
    let tmp = tempfile::tempdir().unwrap();
    for target in [
        Target::Directory(&tmp.path().join("new")),
        Target::File { path: &tmp.path().join("file"), replace: false },
    ] {
        let mut writer = LayoutWriter::new(target).unwrap();
        add(&mut writer, "x", "1", "one").unwrap();
        let _half = writer.blob().unwrap();
        drop(writer);
    }
    assert!(names(tmp.path()).is_empty(), "{:?}", names(tmp.path()));
    let dir = tmp.path().join("dir");
    write(Target::Directory(&dir), &[("x", "1", "one")]).unwrap();
    let mut writer = LayoutWriter::new(Target::Directory(&dir)).unwrap();
    writer.blob().unwrap().write_all(b"half").unwrap();
    add(&mut writer, "x", "1", "two").unwrap();
    drop(writer);
    assert_eq!(read(&dir)[0].1, "one");
    assert!(names(&dir.join("blobs/sha256")).iter().all(|name| name.len() == 64));
}

#[test]
fn writers_at_the_same_time_lose_no_image() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("dir");
    write(Target::Directory(&dir), &[("x", "0", "zero")]).unwrap();
    std::thread::scope(|scope| {
        for i in 1..=8 {
            let dir = &dir;
            scope.spawn(move || {
                write(Target::Directory(dir), &[("x", &i.to_string(), &format!("text {i}"))]).unwrap();
            });
        }
    });
    assert_eq!(read(&dir).len(), 9);
}
