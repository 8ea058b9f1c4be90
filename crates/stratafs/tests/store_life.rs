//! Snapshot, rollback, discard and fork: each as a whole or not at all, nothing copied, nothing shared lost.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stratafs::store::{ContainerConfig, ContainerName, LayerSource, SnapshotName, Store};
use stratafs::{Durability, ErrorKind, LAYERS_MAX};

struct Fixture {
    tmp: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("layer/dir")).unwrap();
    fs::write(tmp.path().join("layer/file"), "lower").unwrap();
    fs::write(tmp.path().join("layer/dir/inner"), "lower").unwrap();
    fs::set_permissions(tmp.path().join("layer"), fs::Permissions::from_mode(0o751)).unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    Fixture { tmp, store }
}

impl Fixture {
    fn create(&self, container: &str) {
        self.store.create(Some(name(container)), self.config()).unwrap();
    }

    fn config(&self) -> ContainerConfig {
        ContainerConfig::new([self.tmp.path().join("layer")])
    }

    fn write(&self, container: &str, path: &str, text: &str) {
        let opened = self.store.open_container(&name(container)).unwrap();
        opened.write(path, text).unwrap();
        opened.close().unwrap();
    }

    /// The content of a file, `None` when there is none.
    fn read(&self, container: &str, path: &str) -> Option<String> {
        match self.store.open_container(&name(container)).unwrap().read_to_string(path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => panic!("{e}"),
        }
    }

    fn changes(&self, container: &str) -> Vec<String> {
        let opened = self.store.open_container(&name(container)).unwrap();
        let text = |change: stratafs::Change| String::from_utf8(change.path).unwrap();
        opened.changes().unwrap().into_iter().map(text).filter(|path| !path.is_empty()).collect()
    }

    fn scratches(&self) -> Vec<PathBuf> {
        entries(&self.store.root().join("scratch"))
    }
}

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn snap(text: &str) -> SnapshotName {
    SnapshotName::new(text).unwrap()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_snapshot_keeps_the_state_and_moves_nothing() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    let before = f.store.record(&name("c")).unwrap();
    let inode = fs::metadata(before.upper().join("file")).unwrap().ino();
    let taken = f.store.snapshot(&name("c"), None).unwrap();
    assert_eq!(taken.name.as_str(), "snap-1");
    let after = f.store.record(&name("c")).unwrap();
    assert_ne!(after.upper(), before.upper());
    assert_eq!(after.config.layers[0].path, before.upper());
    assert_eq!(after.config.newer(), 1);
    assert_eq!(fs::metadata(before.upper().join("file")).unwrap().ino(), inode);
    assert_eq!(entries(&after.upper()).len(), 0);
    assert_eq!(f.read("c", "/file").unwrap(), "one");
    f.write("c", "/file", "two");
    f.write("c", "/new", "two");
    assert_eq!(fs::read_to_string(before.upper().join("file")).unwrap(), "one");
    let second = f.store.snapshot(&name("c"), Some(snap("second"))).unwrap();
    assert_eq!(second.frozen.len(), 2);
    assert_eq!(f.store.snapshots(&name("c")).unwrap(), [taken, second]);
    assert_eq!(f.changes("c"), ["file", "new"]);
    assert!(f.store.open_container(&name("c")).unwrap().changes_since_snapshot().unwrap().is_empty());
}

#[test]
fn the_root_keeps_its_attributes_over_a_snapshot() {
    let f = fixture();
    f.create("c");
    {
        let opened = f.store.open_container(&name("c")).unwrap();
        opened.write("/x", "x").unwrap();
        opened.set_permissions("/", 0o711).unwrap();
        opened.set_xattr("/", "user.note", b"mine").unwrap();
    }
    let before = f.store.open_container(&name("c")).unwrap().metadata("/").unwrap();
    f.store.snapshot(&name("c"), None).unwrap();
    let opened = f.store.open_container(&name("c")).unwrap();
    let after = opened.metadata("/").unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.modified()),
        (before.mode(), before.uid(), before.modified())
    );
    assert_eq!(opened.xattr("/", "user.note").unwrap().unwrap(), b"mine");
    assert!(opened.changes_since_snapshot().unwrap().is_empty());
    drop(opened);
    f.store.discard(&name("c")).unwrap();
    let root = f.store.open_container(&name("c")).unwrap().metadata("/").unwrap();
    assert_eq!(root.mode() & 0o7777, 0o751);
    assert!(f.store.open_container(&name("c")).unwrap().changes().unwrap().is_empty());
}

#[test]
fn a_container_goes_back_and_forward_between_snapshots() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    f.store.snapshot(&name("c"), Some(snap("one"))).unwrap();
    f.write("c", "/file", "two");
    f.write("c", "/dir/inner", "two");
    f.store.snapshot(&name("c"), Some(snap("two"))).unwrap();
    f.write("c", "/file", "three");
    f.store.rollback(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "two");
    f.store.rollback(&name("c"), Some(&snap("one"))).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "one");
    assert_eq!(f.read("c", "/dir/inner").unwrap(), "lower");
    f.write("c", "/lost", "x");
    f.store.rollback(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/lost"), None);
    assert_eq!(f.read("c", "/file").unwrap(), "one");
    f.store.discard(&name("c")).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "lower");
    assert!(f.changes("c").is_empty());
    f.store.rollback(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "two");
    f.store.gc().unwrap();
    f.store.rollback(&name("c"), Some(&snap("one"))).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "one");
    // Two frozen, one in use.
    assert_eq!(f.scratches().len(), 3);
}

#[test]
fn what_was_removed_stays_removed_over_snapshots() {
    let f = fixture();
    f.create("c");
    let opened = f.store.open_container(&name("c")).unwrap();
    opened.remove_dir_all("/dir").unwrap();
    opened.rename("/file", "/moved").unwrap();
    drop(opened);
    f.store.snapshot(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/dir/inner"), None);
    assert_eq!(f.read("c", "/file"), None);
    assert_eq!(f.read("c", "/moved").unwrap(), "lower");
    let opened = f.store.open_container(&name("c")).unwrap();
    opened.create_dir("/dir").unwrap();
    opened.write("/dir/new", "x").unwrap();
    drop(opened);
    f.store.snapshot(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/dir/inner"), None);
    assert_eq!(f.read("c", "/dir/new").unwrap(), "x");
}

#[test]
fn hard_links_and_redirects_survive_a_snapshot() {
    let f = fixture();
    let layer = f.tmp.path().join("layer");
    fs::hard_link(layer.join("file"), layer.join("dir/link")).unwrap();
    f.create("c");
    let opened = f.store.open_container(&name("c")).unwrap();
    opened.write("/file", "changed").unwrap();
    opened.rename("/dir", "/renamed").unwrap();
    drop(opened);
    f.store.snapshot(&name("c"), None).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "changed");
    assert_eq!(f.read("c", "/renamed/link").unwrap(), "changed");
    assert_eq!(f.read("c", "/renamed/inner").unwrap(), "lower");
    assert_eq!(f.read("c", "/dir/inner"), None);
    f.write("c", "/renamed/link", "again");
    assert_eq!(f.read("c", "/file").unwrap(), "again");
}

#[test]
fn what_the_kernel_would_not_follow_keeps_it_away_after_a_snapshot_too() {
    let f = fixture();
    let config = ContainerConfig { namespace: stratafs::Namespace::User, ..f.config() };
    f.store.create(Some(name("c")), config).unwrap();
    let mountable = |container: &str| {
        let record = f.store.record(&name(container)).unwrap();
        let options = stratafs::ScratchOptions {
            namespace: Some(stratafs::Namespace::User),
            ownership: stratafs::Ownership::Apply,
            ..Default::default()
        };
        let scratch = stratafs::DirScratch::open(record.upper(), record.work(), &options).unwrap();
        scratch.kernel_mountable().is_ok()
    };
    assert!(mountable("c"));
    f.store.open_container(&name("c")).unwrap().rename("/dir", "/renamed").unwrap();
    assert!(!mountable("c"));
    f.store.snapshot(&name("c"), None).unwrap();
    assert!(!mountable("c"));
    f.store.fork(&name("c"), &name("d"), None).unwrap();
    f.store.rollback(&name("c"), None).unwrap();
    assert!(!mountable("c") && !mountable("d"));
    f.store.discard(&name("c")).unwrap();
    assert!(mountable("c"));
}

#[test]
fn a_fork_shares_everything_and_goes_its_own_way() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    let frozen = f.store.record(&name("c")).unwrap().upper();
    f.store.fork(&name("c"), &name("d"), None).unwrap();
    assert_eq!(f.store.snapshots(&name("c")).unwrap().len(), 1);
    assert_eq!(f.store.record(&name("d")).unwrap().config.layers[0].path, frozen);
    f.write("c", "/file", "c");
    f.write("d", "/file", "d");
    assert_eq!((f.read("c", "/file").unwrap(), f.read("d", "/file").unwrap()), ("c".into(), "d".into()));
    f.store.rollback(&name("d"), None).unwrap();
    assert_eq!(f.read("d", "/file").unwrap(), "one");
    // A fork of what did not change needs no snapshot.
    f.store.fork(&name("d"), &name("e"), None).unwrap();
    assert_eq!(f.store.snapshots(&name("d")).unwrap().len(), 1);
    assert_eq!(f.read("e", "/file").unwrap(), "one");
    f.store.remove(&name("c")).unwrap();
    f.store.remove(&name("d")).unwrap();
    f.store.gc().unwrap();
    assert_eq!(f.read("e", "/file").unwrap(), "one");
    assert_eq!(f.changes("e"), ["file"]);
    f.store.remove(&name("e")).unwrap();
    assert_eq!((f.scratches().len(), entries(&f.store.root().join("trash")).len()), (0, 0));
}

#[test]
fn a_fork_of_a_named_snapshot_works_while_the_container_is_in_use() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    f.store.snapshot(&name("c"), Some(snap("s"))).unwrap();
    let held = f.store.open_container(&name("c")).unwrap();
    held.write("/file", "two").unwrap();
    f.store.fork(&name("c"), &name("d"), Some(&snap("s"))).unwrap();
    assert_eq!(f.read("d", "/file").unwrap(), "one");
    assert_eq!(f.store.fork(&name("c"), &name("e"), None).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(f.store.snapshot(&name("c"), None).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(f.store.rollback(&name("c"), None).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(f.store.discard(&name("c")).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(f.store.remove_snapshot(&name("c"), &snap("s")).unwrap_err().kind(), ErrorKind::Busy);
    drop(held);
    assert_eq!(f.read("c", "/file").unwrap(), "two");
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    f.store.snapshot(&name("c"), Some(snap("s"))).unwrap();
    f.write("c", "/file", "two");
    let config = f.store.record(&name("c")).unwrap().config;
    let (c, gone, s) = (name("c"), name("gone"), snap("s"));
    let refused = [
        (f.store.snapshot(&c, Some(s.clone())).map(drop), ErrorKind::AlreadyExists, "\"s\""),
        (f.store.snapshot(&gone, None).map(drop), ErrorKind::NotFound, "gone"),
        (f.store.rollback(&c, Some(&snap("t"))), ErrorKind::NotFound, "\"t\""),
        (f.store.rollback(&gone, None), ErrorKind::NotFound, "gone"),
        (f.store.discard(&gone), ErrorKind::NotFound, "gone"),
        (f.store.fork(&c, &c, Some(&s)).map(drop), ErrorKind::AlreadyExists, "\"c\""),
        (f.store.fork(&c, &c, None).map(drop), ErrorKind::AlreadyExists, "\"c\""),
        (f.store.fork(&c, &gone, Some(&snap("t"))).map(drop), ErrorKind::NotFound, "\"t\""),
        (f.store.fork(&gone, &name("d"), None).map(drop), ErrorKind::NotFound, "gone"),
        (f.store.remove_snapshot(&c, &snap("t")), ErrorKind::NotFound, "\"t\""),
        (f.store.snapshots(&gone).map(drop), ErrorKind::NotFound, "gone"),
    ];
    for (at, (result, kind, named)) in refused.into_iter().enumerate() {
        let e = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{at}: {e}");
        assert!(e.to_string().contains(named), "{at}: {e}");
    }
    for bad in ["", "..", "a/b", ".x", &"x".repeat(129)] {
        assert_eq!(SnapshotName::new(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(f.store.record(&c).unwrap().config, config);
    assert_eq!(f.scratches().len(), 2);
    f.create("fresh");
    let e = f.store.rollback(&name("fresh"), None).unwrap_err();
    assert!(e.to_string().contains("no snapshots"), "{e}");
}

#[test]
fn snapshots_without_changes_freeze_nothing() {
    let f = fixture();
    f.create("c");
    f.store.snapshot(&name("c"), None).unwrap();
    f.store.snapshot(&name("c"), None).unwrap();
    assert_eq!(f.scratches().len(), 1);
    assert_eq!(f.store.record(&name("c")).unwrap().config.newer(), 0);
    f.write("c", "/file", "x");
    f.store.rollback(&name("c"), Some(&snap("snap-1"))).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "lower");
    f.store.remove_snapshot(&name("c"), &snap("snap-1")).unwrap();
    assert_eq!(f.store.snapshot(&name("c"), None).unwrap().name.as_str(), "snap-3");
}

#[test]
fn a_stack_that_is_as_high_as_one_can_be_says_what_to_do() {
    let f = fixture();
    let empty = f.tmp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let layers = std::iter::repeat_n(empty, LAYERS_MAX);
    f.store.create(Some(name("c")), ContainerConfig::new(layers)).unwrap();
    f.write("c", "/x", "x");
    let e = f.store.snapshot(&name("c"), None).unwrap_err();
    assert!(e.to_string().contains("commit"), "{e}");
    assert_eq!(f.read("c", "/x").unwrap(), "x");
    assert!(f.store.snapshots(&name("c")).unwrap().is_empty());
}

#[test]
fn a_removed_snapshot_frees_what_only_it_had() {
    let f = fixture();
    f.create("c");
    f.write("c", "/big", &"x".repeat(1 << 20));
    f.store.snapshot(&name("c"), Some(snap("s"))).unwrap();
    f.store.discard(&name("c")).unwrap();
    f.store.gc().unwrap();
    assert_eq!(f.scratches().len(), 2);
    f.store.remove_snapshot(&name("c"), &snap("s")).unwrap();
    let collected = f.store.gc().unwrap();
    assert_eq!(collected.scratches, 1);
    assert!(collected.bytes >= 1 << 20, "{collected:?}");
    assert_eq!(f.scratches().len(), 1);
}

#[test]
fn volatile_and_strict_containers_live_too() {
    for durability in [Durability::Volatile, Durability::Strict] {
        let f = fixture();
        let config = ContainerConfig { durability, ..f.config() };
        f.store.create(Some(name("c")), config).unwrap();
        {
            // Left open by a process of this same start of the host: it is settled first.
            let opened = f.store.open_container(&name("c")).unwrap();
            opened.write("/file", "one").unwrap();
        }
        f.store.snapshot(&name("c"), None).unwrap();
        f.write("c", "/file", "two");
        f.store.rollback(&name("c"), None).unwrap();
        assert_eq!(f.read("c", "/file").unwrap(), "one");
        f.store.fork(&name("c"), &name("d"), None).unwrap();
        assert_eq!(f.store.record(&name("d")).unwrap().config.durability, durability);
    }
}

#[test]
fn a_volatile_container_that_was_not_closed_cannot_be_frozen_and_can_be_discarded() {
    let f = fixture();
    let config = ContainerConfig { durability: Durability::Volatile, ..f.config() };
    let record = f.store.create(Some(name("c")), config).unwrap();
    drop({
        let opened = f.store.open_container(&name("c")).unwrap();
        opened.write("/file", "one").unwrap();
        opened
    });
    fs::write(record.dir.join("boot"), "another start of the host").unwrap();
    assert_eq!(f.store.snapshot(&name("c"), None).unwrap_err().kind(), ErrorKind::Corrupt);
    f.store.discard(&name("c")).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "lower");
}

#[test]
fn a_container_of_the_first_format_opens_and_gets_the_verbs() {
    let f = fixture();
    let dir = f.store.root().join("containers/old");
    for part in ["upper", "work", "root", "works"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    fs::write(dir.join("lock"), "").unwrap();
    fs::write(dir.join("upper/file"), "old").unwrap();
    let namespace = match f.config().namespace {
        stratafs::Namespace::Trusted => "trusted",
        stratafs::Namespace::User => "user",
    };
    let text = format!(
        r#"{{"version": 1, "created": 1700000000, "durability": "ordered", "clear_setid": false,
            "drop_capabilities": false, "refuse_devices": false, "namespace": "{namespace}",
            "layers": [{{"path": {:?}, "overlay": true, "fuse_overlayfs": false, "aufs": false}}]}}"#,
        f.tmp.path().join("layer")
    );
    fs::write(dir.join("config.json"), &text).unwrap();
    assert_eq!(f.read("old", "/file").unwrap(), "old");
    assert_eq!(f.store.record(&name("old")).unwrap().upper(), dir.join("upper"));
    f.write("old", "/dir/inner", "new");
    f.store.snapshot(&name("old"), Some(snap("s"))).unwrap();
    assert!(!dir.join("upper").exists() && !dir.join("work").exists() && !dir.join("works").exists());
    assert_eq!(f.read("old", "/file").unwrap(), "old");
    f.store.discard(&name("old")).unwrap();
    assert_eq!(f.read("old", "/file").unwrap(), "lower");
    f.store.rollback(&name("old"), Some(&snap("s"))).unwrap();
    assert_eq!(f.read("old", "/dir/inner").unwrap(), "new");
    f.store.remove(&name("old")).unwrap();
    assert!(f.scratches().is_empty());
}

#[test]
fn a_move_from_the_first_format_that_was_cut_off_is_completed() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "kept");
    let record = f.store.record(&name("c")).unwrap();
    fs::rename(record.upper(), record.dir.join("upper")).unwrap();
    fs::rename(record.work(), record.dir.join("work")).unwrap();
    assert_eq!(f.read("c", "/file").unwrap(), "kept");
    assert!(!record.dir.join("upper").exists());
}

#[test]
fn every_directory_of_the_store_is_private() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    f.store.snapshot(&name("c"), None).unwrap();
    f.store.fork(&name("c"), &name("d"), None).unwrap();
    let root = f.store.root().to_owned();
    let mut dirs = vec![root.clone()];
    for dir in entries(&root).into_iter().filter(|path| path.is_dir()) {
        dirs.extend(entries(&dir).into_iter().filter(|path| path.is_dir()));
        dirs.push(dir);
    }
    for container in ["containers/c/root", "containers/d/root"] {
        dirs.push(root.join(container));
    }
    assert!(dirs.len() > 10);
    for dir in dirs {
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700, "{}", dir.display());
    }
}

#[test]
fn a_store_can_be_moved_with_its_snapshots() {
    let f = fixture();
    f.create("c");
    f.write("c", "/file", "one");
    f.store.snapshot(&name("c"), None).unwrap();
    let moved = f.tmp.path().join("moved");
    fs::rename(f.store.root(), &moved).unwrap();
    let store = Store::open(&moved).unwrap();
    let opened = store.open_container(&name("c")).unwrap();
    assert_eq!(opened.read_to_string("/file").unwrap(), "one");
    assert!(matches!(opened.record().config.layers[0].source, LayerSource::Scratch(_)));
    assert!(opened.record().config.layers[0].path.starts_with(&moved));
}

#[test]
fn a_fork_knows_when_the_state_began_that_it_goes_on_from() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("layer")).unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    let made = store.create(Some(name("c")), ContainerConfig::new([tmp.path().join("layer")])).unwrap();
    assert!(made.began >= fs::metadata(tmp.path().join("layer")).unwrap().modified().unwrap());
    let read = store.record(&name("c")).unwrap();
    assert_eq!((read.created, read.began), (made.created, made.began));
    store.open_container(&name("c")).unwrap().write("/x", "x").unwrap();
    store.snapshot(&name("c"), None).unwrap();
    let forked = store.fork(&name("c"), &name("now"), None).unwrap();
    let snapshot = store.snapshots(&name("c")).unwrap().remove(0).name;
    store.fork(&name("c"), &name("then"), Some(&snapshot)).unwrap();
    store.discard(&name("c")).unwrap();
    for fork in [forked.name, name("then"), name("c")] {
        assert_eq!(store.record(&fork).unwrap().began, made.began, "{fork}");
    }
    // As it was written before that was known: the snapshot is the oldest that is.
    let path = made.dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().remove("began");
    config["created"] = 2_000_000_000.into();
    fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let old = store.record(&name("c")).unwrap();
    assert_eq!(old.began, old.config.snapshots[0].created);
    assert!(old.began < old.created);
}
