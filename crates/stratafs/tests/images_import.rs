//! Images into the store: whole or not at all, layers once.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod images_made;

use images_made::source::{Made, blob_path, config, index, manifest, named, of};
use images_made::*;
use std::fs;
use std::num::NonZero;
use stratafs::ErrorKind;
use stratafs::oci::{Digest, Progress};
use stratafs::store::{ImageRecord, ImportOptions, LayerKey, Store};

fn three_layers() -> Vec<Vec<u8>> {
    vec![
        layer(&[("etc/", ""), ("etc/motd", "base"), ("etc/old", "old"), ("bin/", ""), ("bin/sh", "sh")]),
        layer(&[("etc/", ""), ("etc/.wh.old", ""), ("etc/motd", "middle")]),
        // Needs what is below: a directory that it does not have, and the target of a link.
        layer(&[("bin/bash", "=bin/sh"), ("etc/new", "new")]),
    ]
}

fn keys(image: &ImageRecord) -> Vec<LayerKey> {
    image.layers.iter().map(|layer| layer.key).collect()
}

#[test]
fn an_imported_image_shows_its_layers_as_one_tree_whatever_the_number_of_threads() {
    let layers = three_layers();
    let mut trees = Vec::new();
    for threads in [1, 2, 8] {
        let bed = Bed::new();
        let path = bed.layout("app", &image("1.0", &layers));
        let options = ImportOptions { threads: NonZero::new(threads), ..ImportOptions::default() };
        let images = bed.store.import(&path, &options, &Heard::default()).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].name, name("app:1.0"));
        assert_eq!(bed.store.image(&name("app:1.0")).unwrap(), images[0]);
        let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let chain = ids.iter().fold(None, |below, id| Some(Digest::chain(below.as_ref(), id))).unwrap();
        assert_eq!(
            keys(&images[0]),
            [LayerKey::Diff(ids[0]), LayerKey::Diff(ids[1]), LayerKey::Chain(chain)],
            "only what asked the layers below depends on them"
        );
        let container = bed.run(&images[0], "c");
        assert_eq!(container.read_to_string("/etc/motd").unwrap(), "middle");
        assert!(!container.exists("/etc/old"));
        assert_eq!(container.metadata("/bin/sh").unwrap().nlink(), 2);
        trees.push(tree(&container));
        assert!(bed.names("trash").is_empty());
    }
    assert!(trees.iter().all(|tree| *tree == trees[0]));
}

#[test]
fn what_is_stored_is_not_read_again_and_is_shared() {
    let bed = Bed::new();
    let layers = three_layers();
    let path = bed.layout("app", &image("1", &layers));
    let first = bed.import(&path).unwrap();
    // The blobs of the layers are gone: only their sizes are looked at.
    for layer in &layers {
        let blob = path.join(blob_path(&Digest::of(layer)));
        fs::write(blob, vec![0; layer.len()]).unwrap();
    }
    let heard = Heard::default();
    let again = bed.store.import(&path, &ImportOptions::default(), &heard).unwrap();
    assert_eq!(keys(&again[0]), keys(&first[0]));
    assert!(heard.bytes.lock().unwrap().is_empty());
    assert_eq!(*heard.notes.lock().unwrap(), vec![Some("already there".to_owned()); 3]);
    // Another image with the same two layers below.
    let other = bed.layout("other", &image("1", &layers[..2]));
    let heard = Heard::default();
    let other = bed.store.import(&other, &ImportOptions::default(), &heard).unwrap();
    assert_eq!(keys(&other[0]), keys(&first[0])[..2]);
    assert_eq!(bed.names("layers").len(), 3);
}

#[test]
fn one_layer_twice_in_an_image_is_unpacked_once() {
    let bed = Bed::new();
    let one = layer(&[("a", "x")]);
    let path = bed.layout("twice", &image("1", &[one.clone(), one.clone(), one]));
    let heard = Heard::default();
    let options = ImportOptions { threads: NonZero::new(3), ..ImportOptions::default() };
    let images = bed.store.import(&path, &options, &heard).unwrap();
    assert_eq!(images[0].layers.len(), 3);
    assert_eq!(heard.notes.lock().unwrap().iter().filter(|note| note.is_none()).count(), 1);
    assert_eq!(bed.run(&images[0], "c").read_to_string("/a").unwrap(), "x");
}

#[test]
fn an_image_without_layers_can_be_imported_and_used() {
    let bed = Bed::new();
    let path = bed.layout("scratch-image", &image("1", &[]));
    let images = bed.import(&path).unwrap();
    let container = bed.run(&images[0], "c");
    container.write("/a", "x").unwrap();
    assert_eq!(tree(&container).len(), 1);
}

#[test]
fn a_failed_import_leaves_no_image_and_no_half_layer() {
    let layers = three_layers();
    let good = image("1", &layers);
    let id = |i: usize| Digest::of(&layers[i]);
    for i in 0..3 {
        let hurt = |how: &dyn Fn(&mut Vec<u8>)| {
            let mut bad = good.clone();
            how(bad.0.get_mut(&blob_path(&id(i))).unwrap());
            bad
        };
        let wrong_id = {
            let mut ids: Vec<Digest> = (0..3).map(id).collect();
            ids[i] = Digest::of(b"other");
            let mut made = Made::new();
            let platform = stratafs::oci::image::Platform::host().to_string();
            let config = made.blob(source::CONFIG, config(&platform, &ids).as_bytes());
            let blobs: Vec<_> = layers.iter().map(|l| made.blob(source::LAYER, l)).collect();
            let entry = made.blob(source::MANIFEST, manifest(&config, &blobs).as_bytes());
            made.index(&[entry]);
            made
        };
        for (what, bad) in [
            ("a bit", hurt(&|blob| blob[600] ^= 1)),
            ("no archive", hurt(&|blob| blob.fill(b'x'))),
            ("truncated", hurt(&|blob| blob.truncate(700))),
            ("wrong diff id", wrong_id),
        ] {
            let bed = Bed::new();
            let path = bed.layout("app", &bad);
            let error = bed.import(&path).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {text}");
            assert!(text.contains(&format!("layer {} of 3", i + 1)), "{what}: {text}");
            assert!(bed.names("images").is_empty() && bed.names("trash").is_empty(), "{what}");
            for key in bed.names("layers") {
                assert!(bed.store.root().join("layers").join(key).join("layer.json").exists());
            }
            bed.store.gc().unwrap();
            assert!(bed.names("layers").is_empty());
        }
    }
}

#[test]
fn an_import_that_is_cancelled_at_any_moment_leaves_nothing() {
    let bed = Bed::new();
    let path = bed.layout("app", &image("1", &three_layers()));
    let mut finished = false;
    for patience in 0..200 {
        let heard = Heard { patience: Some(patience.into()), ..Heard::default() };
        let imported = bed.store.import(&path, &ImportOptions::default(), &heard);
        assert!(bed.names("trash").is_empty());
        match imported {
            Ok(_) => {
                finished = true;
                break;
            }
            Err(e) => {
                assert_eq!(e.errno(), 4, "{e}");
                assert!(bed.names("images").is_empty());
            }
        }
        bed.store.gc().unwrap();
    }
    assert!(finished);
}

#[test]
fn imports_of_the_same_image_at_the_same_time_all_succeed() {
    let bed = Bed::new();
    let path = bed.layout("app", &image("1", &three_layers()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let importers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // A handle of its own: locks are between open files.
                    let store = Store::open(bed.store.root()).unwrap();
                    for _ in 0..5 {
                        store.import(&path, &ImportOptions::default(), &Heard::default()).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                bed.store.gc().unwrap();
            }
        });
        let failed = importers.into_iter().any(|importer| importer.join().is_err());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!failed);
    });
    assert_eq!(bed.names("layers").len(), 3);
    assert_eq!(bed.names("images"), ["app:1.json"]);
    let image = bed.store.image(&name("app:1")).unwrap();
    assert_eq!(bed.run(&image, "c").read_to_string("/bin/bash").unwrap(), "sh");
}

#[test]
fn names_come_from_the_option_the_archive_or_the_file() {
    let bed = Bed::new();
    let mut made = Made::new();
    let (a, b) =
        (add_image(&mut made, &[layer(&[("a", "1")])]), add_image(&mut made, &[layer(&[("b", "2")])]));
    made.index(&[named(&a, "host:5000/x:1"), named(&a, "stable"), named(&b, "docker.io/library/y:2")]);
    let file = bed.path("My App.tar");
    fs::write(&file, made.tar()).unwrap();
    let names = |images: Vec<ImageRecord>| images.iter().map(|i| i.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(bed.import(&file).unwrap()), ["host:5000/x:1", "my-app:stable", "y:2"]);
    let options = ImportOptions { name: Some(name("z")), ..ImportOptions::default() };
    let error = bed.store.import(&file, &options, &Heard::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("one name was given for 2 images: host:5000/x:1, stable"), "{error}");
    made.index(std::slice::from_ref(&a));
    fs::write(&file, made.tar()).unwrap();
    assert_eq!(names(bed.import(&file).unwrap()), ["my-app:latest"]);
    assert_eq!(names(bed.store.import(&file, &options, &Heard::default()).unwrap()), ["z:latest"]);
    made.index(&[named(&a, "Not A Name")]);
    fs::write(&file, made.tar()).unwrap();
    assert_eq!(bed.import(&file).unwrap_err().kind(), ErrorKind::InvalidInput);
    fs::rename(&file, bed.path("---")).unwrap();
    made.index(&[a]);
    fs::write(bed.path("---"), made.tar()).unwrap();
    let error = bed.import(&bed.path("---")).unwrap_err();
    assert!(error.to_string().contains("give it a name"), "{error}");
}

#[test]
fn the_platform_is_chosen_by_the_option() {
    let bed = Bed::new();
    let mut made = Made::new();
    let (a, b) = (made.image("linux/s390x", "z"), made.image("linux/ppc64le", "p"));
    let list = index(&[of(&a, "linux/s390x"), of(&b, "linux/ppc64le")]);
    let list = made.blob(source::INDEX, list.as_bytes());
    made.index(&[named(&list, "1")]);
    let path = bed.layout("both", &made);
    let error = bed.import(&path).unwrap_err();
    assert!(error.to_string().contains("linux/ppc64le, linux/s390x"), "{error}");
    let options =
        ImportOptions { platform: Some("linux/ppc64le".parse().unwrap()), ..ImportOptions::default() };
    let images = bed.store.import(&path, &options, &Heard::default()).unwrap();
    assert_eq!(bed.run(&images[0], "c").read_to_string("/file").unwrap(), "p");
}

#[test]
fn a_layer_and_a_directory_become_images_that_are_always_the_same() {
    let bed = Bed::new();
    let file = bed.path("base.tar");
    let archive = layer(&[("etc/", ""), ("etc/motd", "x"), ("etc/same", "=etc/motd")]);
    fs::write(&file, &archive).unwrap();
    let first = bed.import(&file).unwrap().remove(0);
    assert_eq!(first.name, name("base"));
    assert_eq!(first.config.diff_ids(), [Digest::of(&archive)]);
    bed.store.remove_image(&first.name).unwrap();
    bed.store.gc().unwrap();
    assert_eq!(bed.import(&file).unwrap()[0].id(), first.id());

    let dir = bed.path("files");
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/c"), "x").unwrap();
    fs::hard_link(dir.join("a/b/c"), dir.join("a/d")).unwrap();
    std::os::unix::fs::symlink("a/d", dir.join("link")).unwrap();
    let image = bed.import(&dir).unwrap().remove(0);
    let container = bed.run(&image, "c");
    assert_eq!(container.read_to_string("/link").unwrap(), "x");
    assert_eq!(container.metadata("/a/d").unwrap().nlink(), 2);
    assert_eq!(bed.import(&dir).unwrap()[0].id(), image.id());
}

#[test]
fn a_hostile_archive_touches_nothing_outside() {
    for bad in ["../outside", "/../../outside", "a/../../outside", ".wh.", ".wh..."] {
        let bed = Bed::new();
        let file = bed.path("bad.tar");
        fs::write(&file, layer(&[("fine", "x"), (bad, "y")])).unwrap();
        let error = bed.import(&file).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
        assert!(
            bed.names("images").is_empty() && bed.names("layers").is_empty() && bed.names("trash").is_empty()
        );
        assert_eq!(names(bed.tmp.path()), ["bad.tar", "store"]);
    }
}

#[test]
fn a_decompression_bomb_ends_at_the_limit() {
    use std::io::Write;
    use stratafs::oci::compress::{Compression, encode};
    let bed = Bed::new();
    let archive = layer(&[("zeros", &"\0".repeat(8 << 20))]);
    for (file, how) in [("gzip.tar", Compression::Gzip), ("zstd.tar", Compression::Zstd)] {
        let mut encoder = encode(Vec::new(), how, 1).unwrap();
        encoder.write_all(&archive).unwrap();
        fs::write(bed.path(file), encoder.finish().unwrap()).unwrap();
        let mut options = ImportOptions::default();
        options.limits.layer_bytes = 1 << 20;
        let error = bed.store.import(&bed.path(file), &options, &Heard::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        options = ImportOptions::default();
        (options.limits.ratio, options.limits.ratio_from) = (10, 1 << 20);
        let error = bed.store.import(&bed.path(file), &options, &Heard::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(bed.names("layers").is_empty() && bed.names("trash").is_empty());
    }
}

/// Dies in the first layer that it hears of, when the other layer waits for it.
struct Dies;

impl Progress for Dies {
    fn advance(&self, what: &str, _: u64) {
        if what == Digest::of(&lower()).to_string() {
            std::thread::sleep(std::time::Duration::from_millis(100));
            panic!("as the test wants");
        }
    }
}

fn lower() -> Vec<u8> {
    layer(&[("a", "a"), ("b", "=a")])
}

#[test]
fn nobody_waits_for_a_layer_whose_thread_died() {
    let bed = Bed::new();
    // The second asks for the first at once.
    let path = bed.layout("layout", &image("i", &[lower(), layer(&[("c", "=a")])]));
    let (said, heard) = std::sync::mpsc::channel();
    let store = bed.store.clone();
    let importer = std::thread::spawn(move || {
        let options = ImportOptions { threads: NonZero::new(2), ..ImportOptions::default() };
        let imported = std::panic::catch_unwind(|| store.import(&path, &options, &Dies).map(drop));
        said.send(matches!(imported, Err(_) | Ok(Err(_)))).unwrap();
    });
    assert!(heard.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits for ever"));
    importer.join().unwrap();
    assert!(bed.names("trash").is_empty());
    bed.import(&bed.path("layout")).unwrap();
}
