//! gc and usage: what nobody refers to goes, what somebody holds or may refer to stays; several processes at once.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use stratafs::oci::Digest;
use stratafs::store::{
    Collected, ContainerConfig, ContainerName, ImageRef, LayerFacts, LayerKey, PinnedLayer, SnapshotName,
    Store,
};
use stratafs::{ErrorKind, Result};

/// Names the store in the processes of the last test.
const ROOT: &str = "STRATAFS_STORE_WORKER";

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

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn key(text: &str) -> LayerKey {
    LayerKey::Diff(Digest::of(text.as_bytes()))
}

/// A layer whose one file is named after it.
fn publish(store: &Store, text: &str) -> Result<PinnedLayer> {
    let staged = store.stage_layer()?;
    let frame = staged.frame_path();
    let io = |e| stratafs::Error::io(e, "write");
    fs::write(&frame, text).map_err(io)?;
    fs::write(frame.with_file_name("tree").join(text), vec![1; 1 << 16]).map_err(io)?;
    let diff_id = Digest::of(text.as_bytes());
    let facts = LayerFacts { diff_id, bytes: 1 << 16, archive_bytes: 1 << 16, entries: 1, says_root: false };
    staged.publish(key(text), facts)
}

/// A container over layers of the store, the lowest first.
fn over(layers: &[&PinnedLayer]) -> ContainerConfig {
    let image = ImageRef { name: "image:latest".into(), id: Digest::of(b"image") };
    ContainerConfig::from_image(image, None, layers.iter().copied())
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn what_a_container_refers_to_stays_and_the_rest_goes() {
    let f = fixture();
    let (used, unused) = (publish(&f.store, "used").unwrap(), publish(&f.store, "unused").unwrap());
    f.store.create(Some(name("c")), over(&[&used])).unwrap();
    assert_eq!(f.store.gc().unwrap(), Collected::default());
    drop((used, unused));
    let collected = f.store.gc().unwrap();
    assert_eq!((collected.layers, collected.scratches, collected.leftovers), (1, 0, 0));
    assert!(collected.bytes >= 1 << 16, "{collected:?}");
    assert!(f.store.pin_layer(&key("unused")).unwrap().is_none());
    assert_eq!(f.store.open_container(&name("c")).unwrap().read("/used").unwrap().len(), 1 << 16);
    f.store.remove(&name("c")).unwrap();
    assert_eq!(f.store.gc().unwrap().layers, 1);
    assert_eq!(f.store.gc().unwrap(), Collected::default());
}

#[test]
fn a_container_over_layers_that_do_not_say_their_root_looks_unchanged() {
    let f = fixture();
    let (low, high) = (publish(&f.store, "low").unwrap(), publish(&f.store, "high").unwrap());
    f.store.create(Some(name("c")), over(&[&low, &high])).unwrap();
    let opened = f.store.open_container(&name("c")).unwrap();
    assert!(opened.changes().unwrap().is_empty());
    assert_eq!(opened.metadata("/").unwrap().mode() & 0o7777, 0o755);
    assert_eq!(opened.record().config.image.as_ref().unwrap().name, "image:latest");
    // The highest of the image is the topmost of the stack.
    assert_eq!(opened.record().config.layers[0].path, high.tree());
    opened.set_permissions("/", 0o700).unwrap();
    assert_eq!(opened.changes().unwrap().len(), 1);
    drop(opened);
    f.store.snapshot(&name("c"), None).unwrap();
    let opened = f.store.open_container(&name("c")).unwrap();
    assert_eq!(opened.metadata("/").unwrap().mode() & 0o7777, 0o700);
    assert_eq!(opened.changes().unwrap().len(), 1);
    assert!(opened.changes_since_snapshot().unwrap().is_empty());
}

#[test]
fn a_record_that_cannot_be_read_stops_gc_by_name() {
    let f = fixture();
    drop(publish(&f.store, "unused").unwrap());
    let record = f.store.create(Some(name("c")), ContainerConfig::new([f.tmp.path().join("layer")])).unwrap();
    let config = record.dir.join("config.json");
    let good = fs::read(&config).unwrap();
    fs::write(&config, "{").unwrap();
    let e = f.store.gc().unwrap_err();
    assert!(e.kind() == ErrorKind::Corrupt && e.to_string().contains("containers/c/config.json"), "{e}");
    assert!(f.store.usage().is_err());
    fs::write(&config, good).unwrap();
    let image = f.store.root().join("images/x.json");
    for text in ["", "{}", "{\"layers\": [{\"key\": \"no\"}]}", "{\"version\": 99, \"layers\": []}"] {
        fs::write(&image, text).unwrap();
        let e = f.store.gc().unwrap_err();
        assert!(e.kind() == ErrorKind::Corrupt && e.to_string().contains("x.json"), "{text}: {e}");
    }
    fs::remove_file(&image).unwrap();
    symlink("/etc/passwd", &image).unwrap();
    assert!(f.store.gc().is_err());
    fs::remove_file(&image).unwrap();
    assert!(f.store.pin_layer(&key("unused")).unwrap().is_some());
    assert_eq!(f.store.gc().unwrap().layers, 1);
}

#[test]
fn gc_follows_nothing_and_takes_only_what_is_ours() {
    let f = fixture();
    let outside = f.tmp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("keep"), "x").unwrap();
    let root = f.store.root();
    symlink(&outside, root.join("layers").join(key("link").to_string())).unwrap();
    symlink(&outside, root.join("scratch/0123456789abcdef")).unwrap();
    symlink(&outside, root.join("trash/link")).unwrap();
    fs::create_dir(root.join("layers/theirs")).unwrap();
    fs::create_dir(root.join("scratch/theirs")).unwrap();
    fs::write(root.join("scratch/UPPER"), "x").unwrap();
    let damaged = root.join("layers").join(key("damaged").to_string());
    fs::create_dir(&damaged).unwrap();
    symlink(&outside, damaged.join("tree")).unwrap();
    let collected = f.store.gc().unwrap();
    assert_eq!((collected.layers, collected.scratches, collected.leftovers), (2, 1, 1));
    assert_eq!(fs::read(outside.join("keep")).unwrap(), b"x");
    assert!(root.join("layers/theirs").exists() && root.join("scratch/theirs").exists());
    assert_eq!(entries(&root.join("trash")), 0);
}

#[test]
fn planted_names_are_refused() {
    let f = fixture();
    let root = f.store.root().to_owned();
    for dir in ["containers", "images", "layers", "scratch", "trash"] {
        fs::rename(root.join(dir), f.tmp.path().join("real")).unwrap();
        symlink(f.tmp.path().join("real"), root.join(dir)).unwrap();
        let e = Store::open(&root).unwrap_err();
        assert!(e.to_string().contains(dir), "{e}");
        fs::remove_file(root.join(dir)).unwrap();
        fs::rename(f.tmp.path().join("real"), root.join(dir)).unwrap();
    }
    let config = || ContainerConfig::new([f.tmp.path().join("layer")]);
    f.store.create(Some(name("c")), config()).unwrap();
    let plant = |path: &Path, kind: &str| {
        let _ = fs::remove_file(path);
        match kind {
            "link" => symlink("/etc/hostname", path).unwrap(),
            "fifo" => rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap(),
            _ => fs::create_dir(path).unwrap(),
        }
    };
    for kind in ["link", "fifo", "dir"] {
        plant(&root.join("lock"), kind);
        assert!(f.store.gc().is_err(), "{kind}");
        assert!(f.store.create(None, config()).is_err(), "{kind}");
        assert!(f.store.snapshot(&name("c"), None).is_err(), "{kind}");
        if kind == "dir" {
            fs::remove_dir(root.join("lock")).unwrap();
        }
    }
    fs::remove_file(root.join("lock")).unwrap_or_default();
    // Left-overs of a name that only we use give way; nothing is written through them.
    let fresh = root.join("containers/c/config.json.new");
    for kind in ["link", "fifo"] {
        plant(&fresh, kind);
        f.store.snapshot(&name("c"), None).unwrap();
        assert!(fs::symlink_metadata(&fresh).is_err());
    }
    let dir = f.store.record(&name("c")).unwrap().dir;
    fs::rename(&dir, f.tmp.path().join("c")).unwrap();
    symlink(f.tmp.path().join("c"), &dir).unwrap();
    assert!(f.store.record(&name("c")).is_err());
    assert!(f.store.open_container(&name("c")).is_err());
    assert!(f.store.gc().is_err());
}

#[test]
fn own_is_what_would_be_freed_and_shared_what_others_need() {
    let f = fixture();
    let (base, top) = (publish(&f.store, "base").unwrap(), publish(&f.store, "top").unwrap());
    f.store.create(Some(name("a")), over(&[&base, &top])).unwrap();
    f.store.create(Some(name("b")), over(&[&base])).unwrap();
    let opened = f.store.open_container(&name("a")).unwrap();
    opened.write("/changed", vec![1; 1 << 20]).unwrap();
    drop(opened);
    let usage = f.store.usage().unwrap();
    let of =
        |container: &str| usage.containers.iter().find(|c| c.name.as_str() == container).unwrap().clone();
    let sizes = (base.record().allocated, top.record().allocated);
    assert_eq!(of("a").shared, sizes.0);
    assert_eq!(of("b").shared, sizes.0);
    let own = of("a").own;
    assert!(own >= sizes.1 + (1 << 20) && own < sizes.1 + (1 << 20) + (1 << 17), "{own}");
    assert!(of("b").own < 1 << 16);
    let users: Vec<_> = usage.layers.iter().map(|layer| (layer.key, layer.users)).collect();
    assert!(users.contains(&(key("base"), 2)) && users.contains(&(key("top"), 1)));
    assert_eq!(usage.total, of("a").own + of("b").own + sizes.0 + usage.trash);
    assert_eq!(usage.unreferenced, 0);
    f.store.fork(&name("a"), &name("d"), None).unwrap();
    let usage = f.store.usage().unwrap();
    let of =
        |container: &str| usage.containers.iter().find(|c| c.name.as_str() == container).unwrap().clone();
    assert!(of("a").own < 1 << 16 && of("d").own < 1 << 16, "{usage:?}");
    assert!(of("a").shared >= (1 << 20) + sizes.0 + sizes.1);
    drop((base, top));
    for container in ["a", "b", "d"] {
        f.store.remove(&name(container)).unwrap();
    }
    let usage = f.store.usage().unwrap();
    assert_eq!(usage.unreferenced, sizes.0 + sizes.1);
    assert!(f.store.gc().unwrap().bytes >= sizes.0 + sizes.1);
    assert_eq!(f.store.usage().unwrap().unreferenced, 0);
}

/// What each of the processes does, over and over: everything that makes and takes away references.
fn work(store: &Store, worker: usize) {
    let allowed = |kind| matches!(kind, ErrorKind::Busy | ErrorKind::NotFound | ErrorKind::AlreadyExists);
    let may = |what: &str, done: Result<()>| {
        if let Err(e) = done {
            assert!(allowed(e.kind()), "{what}: {e}");
        }
    };
    let own = name(&format!("own-{worker}"));
    for round in 0..25 {
        let layer = publish(store, ["x", "y", "z"][(round + worker) % 3]).unwrap();
        store.create(Some(own.clone()), over(&[&layer])).unwrap();
        drop(layer);
        if round % 3 == worker % 3 {
            store.gc().unwrap();
        }
        let opened = store.open_container(&own).unwrap();
        opened.write("/mine", format!("{worker} {round}")).unwrap();
        drop(opened);
        store.snapshot(&own, Some(SnapshotName::new("s").unwrap())).unwrap();
        may("snapshot", store.snapshot(&name("shared"), None).map(drop));
        may("fork", store.fork(&name("shared"), &name(&format!("fork-{worker}")), None).map(drop));
        let fork = name(&format!("fork-{worker}"));
        store.fork(&own, &name(&format!("twin-{worker}")), Some(&SnapshotName::new("s").unwrap())).unwrap();
        if round % 4 == 0 {
            may("rollback", store.rollback(&name("shared"), None));
            may(
                "forget",
                store.snapshots(&name("shared")).and_then(|snapshots| {
                    let oldest = snapshots.first().map(|snapshot| snapshot.name.clone());
                    oldest.map_or(Ok(()), |oldest| store.remove_snapshot(&name("shared"), &oldest))
                }),
            );
        }
        store.remove(&own).unwrap();
        store.gc().unwrap();
        let twin = name(&format!("twin-{worker}"));
        let opened = store.open_container(&twin).unwrap();
        assert_eq!(opened.read_to_string("/mine").unwrap(), format!("{worker} {round}"));
        drop(opened);
        store.remove(&twin).unwrap();
        if store.record(&fork).is_ok() {
            assert_eq!(store.open_container(&fork).unwrap().read_to_string("/file").unwrap(), "shared");
            store.remove(&fork).unwrap();
        }
    }
}

#[test]
fn processes_that_make_and_collect_at_once_lose_nothing() {
    if let Some(worker) = std::env::var_os(ROOT) {
        let worker = worker.into_string().unwrap();
        let (number, root) = worker.split_once(' ').unwrap();
        return work(&Store::open(root).unwrap(), number.parse().unwrap());
    }
    let f = fixture();
    let shared = ContainerConfig::new([f.tmp.path().join("layer")]);
    f.store.create(Some(name("shared")), shared).unwrap();
    let opened = f.store.open_container(&name("shared")).unwrap();
    opened.write("/file", "shared").unwrap();
    drop(opened);
    let start = |number: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes_that_make_and_collect_at_once_lose_nothing", "--nocapture"])
            .env(ROOT, format!("{number} {}", f.store.root().display()))
            .output()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|number| scope.spawn(move || start(number).unwrap())).collect();
        for worker in workers {
            let output = worker.join().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    let opened = f.store.open_container(&name("shared")).unwrap();
    assert_eq!(opened.read_to_string("/file").unwrap(), "shared");
    drop(opened);
    f.store.remove(&name("shared")).unwrap();
    f.store.gc().unwrap();
    for dir in ["containers", "layers", "scratch", "trash"] {
        assert_eq!(entries(&f.store.root().join(dir)), 0, "{dir}");
    }
}

/// Takes from this thread the right to read everything, if it has it.
fn read_as_anybody() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).unwrap();
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, sets).unwrap();
}

#[test]
fn gc_takes_no_layer_whose_record_it_may_not_read() {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("state")).unwrap();
    let held = publish(&store, "held").unwrap();
    read_as_anybody();
    let record = held.tree().with_file_name("layer.json");
    fs::set_permissions(&record, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // Whether somebody holds it cannot be known.
    let e = store.gc().unwrap_err();
    assert!(e.to_string().contains("layer.json"), "{e}");
    assert!(held.tree().exists());
}
