//! Verifying layers: nothing is said of good ones, and every damage is named with its layer, path and users.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::PathBuf;
use stratafs::oci::{Digest, Progress, Silent};
use stratafs::store::{ContainerConfig, ContainerName, ImageRef, LayerKey, LayerSource, Store};
use stratafs_core::View;
use stratafs_oci::apply::{ApplyOptions, apply};

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

/// An archive of one directory with one file, by the tar crate's rules: nothing of ours takes part.
fn archive(file: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut add = |path: &str, kind: u8, content: &[u8]| {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, "0000755\0");
        // The owner of a plain user's files is his own.
        put(108, &format!("{:07o}\0", rustix::process::geteuid().as_raw()));
        put(116, &format!("{:07o}\0", rustix::process::getegid().as_raw()));
        put(124, &format!("{:011o}\0", content.len()));
        put(136, "00000000001\0");
        put(148, "        ");
        put(156, std::str::from_utf8(&[kind]).unwrap());
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend(header);
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    };
    add("dir/", b'5', b"");
    add(file, b'0', b"content");
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Unpacks and stores an archive.
fn publish(store: &Store, file: &str) -> stratafs::store::PinnedLayer {
    let tar = archive(file);
    let staged = store.stage_layer().unwrap();
    let scratch = staged.scratch().unwrap();
    let mut options = ApplyOptions::new("layer");
    options.frame = Some(Box::new(fs::File::create(staged.frame_path()).unwrap()));
    let below = || Ok(None::<View<stratafs::MemLayer, stratafs::MemScratch>>);
    let applied = apply(tar.as_slice(), &scratch, &below, options, &Silent).unwrap();
    drop(scratch);
    let facts = stratafs::store::LayerFacts {
        diff_id: applied.diff_id,
        bytes: applied.content_bytes,
        archive_bytes: applied.archive_bytes,
        entries: applied.entries,
        says_root: applied.says_root,
    };
    assert_eq!(facts.diff_id, Digest::of(&tar));
    staged.publish(LayerKey::Diff(facts.diff_id), facts).unwrap()
}

struct Stop;

impl Progress for Stop {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn good_layers_are_good_and_each_damage_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    let (a, b) = (publish(&store, "dir/a"), publish(&store, "dir/b"));
    let image = ImageRef { name: "image:latest".into(), id: Digest::of(b"image") };
    store.create(Some(name("c")), ContainerConfig::from_image(image, None, [&a, &b])).unwrap();
    assert_eq!(store.check_layers(&Silent).unwrap(), []);
    assert!(store.check_layers(&Stop).is_err());
    let file: PathBuf = a.tree().join("dir/a");
    fs::write(&file, "CONTENT").unwrap();
    let found = store.check_layers(&Silent).unwrap();
    assert!(!found.is_empty());
    for damage in &found {
        assert_eq!(damage.layer, LayerSource::Layer(a.key()));
        assert_eq!(damage.users, ["c"]);
    }
    assert!(found.iter().any(|damage| damage.path == b"dir/a"), "{found:?}");
    let dir = b.tree().parent().unwrap().to_owned();
    fs::rename(&dir, tmp.path().join("gone")).unwrap();
    fs::remove_file(a.frame()).unwrap();
    let found = store.check_layers(&Silent).unwrap();
    let said: Vec<_> = found.iter().map(|damage| (&damage.layer, damage.what.as_str())).collect();
    assert!(said.contains(&(&LayerSource::Layer(b.key()), "the layer is missing")), "{said:?}");
    assert!(
        said.iter().any(|(layer, what)| **layer == LayerSource::Layer(a.key()) && what.contains("frame"))
    );
    fs::remove_file(dir.parent().unwrap().join(a.key().to_string()).join("layer.json")).unwrap();
    let found = store.check_layers(&Silent).unwrap();
    assert!(found.iter().any(|damage| damage.what.contains("layer.json")), "{found:?}");
}

#[test]
fn a_snapshot_that_is_missing_is_damage() {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    fs::create_dir(tmp.path().join("layer")).unwrap();
    let record = store.create(Some(name("c")), ContainerConfig::new([tmp.path().join("layer")])).unwrap();
    store.open_container(&name("c")).unwrap().write("/x", "x").unwrap();
    store.snapshot(&name("c"), None).unwrap();
    assert_eq!(store.check_layers(&Silent).unwrap(), []);
    fs::rename(record.upper(), tmp.path().join("gone")).unwrap();
    let found = store.check_layers(&Silent).unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        matches!(found[0].layer, LayerSource::Scratch(_)) && found[0].what.contains("missing"),
        "{found:?}"
    );
    assert_eq!(found[0].users, ["c"]);
}
