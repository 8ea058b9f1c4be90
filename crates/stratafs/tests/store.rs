//! Containers by name: complete or absent, one user at a time, nothing outside touched.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use stratafs::store::{ContainerConfig, ContainerName, LayerConfig, Store};
use stratafs::{Durability, ErrorKind, Formats, Untrusted};

struct Fixture {
    tmp: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("layer")).unwrap();
    fs::write(tmp.path().join("layer/file"), "lower").unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    Fixture { tmp, store }
}

impl Fixture {
    fn config(&self) -> ContainerConfig {
        ContainerConfig::new([self.tmp.path().join("layer")])
    }
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_container_lives_and_goes() {
    let f = fixture();
    let record = f.store.create(Some(name("c")), f.config()).unwrap();
    assert_eq!(fs::metadata(f.store.root()).unwrap().permissions().mode() & 0o7777, 0o700);
    {
        let c = f.store.open_container(&name("c")).unwrap();
        c.write("/file", "upper").unwrap();
        assert_eq!(f.store.open_container(&name("c")).unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(f.store.remove(&name("c")).unwrap_err().kind(), ErrorKind::Busy);
        assert!(f.store.list().unwrap()[0].in_use);
    }
    assert!(!f.store.is_in_use(&name("c")).unwrap());
    assert_eq!(fs::read_to_string(record.upper().join("file")).unwrap(), "upper");
    assert_eq!(f.store.open_container(&name("c")).unwrap().read("/file").unwrap(), b"upper");
    f.store.remove(&name("c")).unwrap();
    assert!(f.store.list().unwrap().is_empty());
    assert_eq!(entries(&f.store.root().join("trash")), 0);
    assert_eq!(f.store.open_container(&name("c")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(f.store.remove(&name("c")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_to_string(f.tmp.path().join("layer/file")).unwrap(), "lower");
}

#[test]
fn the_configuration_comes_back() {
    let f = fixture();
    let mut config = f.config();
    config.durability = Durability::Strict;
    config.untrusted = Untrusted::STRIP;
    config.layers[0].formats = Formats { overlay: true, fuse_overlayfs: true, aufs: true };
    let odd = f.tmp.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"odd\xff"));
    fs::create_dir(&odd).unwrap();
    config.layers.push(LayerConfig::dir(odd, Formats::default()));
    let made = f.store.create(None, config.clone()).unwrap();
    let read = f.store.record(&made.name).unwrap();
    assert_eq!(read.config, made.config);
    assert_eq!(read.config.layers[1], config.layers[1]);
    assert_eq!(read.created, made.created);
    // Another root for the same containers, reached through a link.
    symlink(f.store.root(), f.tmp.path().join("other")).unwrap();
    assert_eq!(Store::open(f.tmp.path().join("other")).unwrap().root(), f.store.root());
}

#[test]
fn nothing_is_left_of_what_could_not_be_made() {
    let f = fixture();
    f.store.create(Some(name("taken")), f.config()).unwrap();
    let taken = f.store.create(Some(name("taken")), f.config()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert!(taken.to_string().contains("taken"), "{taken}");
    let missing = f.store.create(None, ContainerConfig::new(["/no/such/layer"])).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("/no/such/layer"), "{missing}");
    let file = f.store.create(None, ContainerConfig::new([f.tmp.path().join("layer/file")])).unwrap_err();
    assert_eq!(file.kind(), ErrorKind::NotADirectory);
    assert!(file.to_string().contains("layer/file"), "{file}");
    assert_eq!(f.store.list().unwrap().len(), 1);
    assert_eq!(entries(&f.store.root().join("trash")), 0);
}

#[test]
fn damaged_configurations_name_their_file() {
    let f = fixture();
    let dir = f.store.create(Some(name("c")), f.config()).unwrap().dir;
    let path = dir.join("config.json");
    let good = fs::read_to_string(&path).unwrap();
    let cases = [
        String::new(),
        "{".into(),
        "[]".into(),
        r#"{"version": 1}"#.into(),
        r#"{"version": 2}"#.into(),
        r#"{"version": 3}"#.into(),
        good.replace("\"scratch\": \"", "\"scratch\": \"../"),
        good.replace("\"created\"", "\"surprise\""),
        good.replace("ordered", "sometimes"),
        "x".repeat(17 << 20),
    ];
    for text in cases {
        fs::write(&path, &text).unwrap();
        for e in [f.store.record(&name("c")).unwrap_err(), f.store.open_container(&name("c")).unwrap_err()] {
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
            assert!(e.to_string().contains("config.json"), "{e}");
        }
        assert!(f.store.list().unwrap()[0].record.is_err());
    }
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(f.store.record(&name("c")).is_err());
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(f.store.record(&name("c")).unwrap_err().kind(), ErrorKind::Corrupt);
    f.store.remove(&name("c")).unwrap();
}

#[test]
fn a_missing_layer_is_named_when_the_container_is_opened() {
    let f = fixture();
    f.store.create(Some(name("c")), f.config()).unwrap();
    fs::rename(f.tmp.path().join("layer"), f.tmp.path().join("gone")).unwrap();
    let e = f.store.open_container(&name("c")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.to_string().contains("layer"), "{e}");
    f.store.remove(&name("c")).unwrap();
}

#[test]
fn a_store_is_private() {
    let f = fixture();
    fs::set_permissions(f.store.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let e = Store::open(f.store.root()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotPermitted);
    assert!(e.to_string().contains("0755"), "{e}");
}

#[test]
fn removal_never_leaves_the_container() {
    let f = fixture();
    let record = f.store.create(Some(name("c")), f.config()).unwrap();
    let outside = f.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "x").unwrap();
    symlink(&outside, record.upper().join("link")).unwrap();
    fs::create_dir(record.upper().join("shut")).unwrap();
    fs::write(record.upper().join("shut/file"), "x").unwrap();
    fs::set_permissions(record.upper().join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    f.store.remove(&name("c")).unwrap();
    assert_eq!(fs::read(outside.join("keep")).unwrap(), b"x");
    assert!(!record.dir.exists());
}

#[test]
fn what_was_cut_off_goes_with_the_next_removal() {
    let f = fixture();
    let left = f.store.root().join("trash/left-over");
    fs::create_dir_all(left.join("a/b")).unwrap();
    f.store.create(Some(name("c")), f.config()).unwrap();
    f.store.remove(&name("c")).unwrap();
    assert!(!left.exists());
}

#[test]
fn two_makers_of_one_name_have_one_winner() {
    let f = fixture();
    let won = std::thread::scope(|scope| {
        let make = || f.store.create(Some(name("c")), f.config()).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|won| *won).count()
    });
    assert_eq!(won, 1);
    assert_eq!(entries(&f.store.root().join("trash")), 0);
}
