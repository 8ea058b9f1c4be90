//! Images by name: found, listed, renamed, removed; records that are wrong.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod images_made;

use images_made::*;
use std::fs;
use std::os::unix::fs::symlink;
use stratafs::ErrorKind;
use stratafs::store::{ContainerName, ImageRecord};

fn two(bed: &Bed) -> (ImageRecord, ImageRecord) {
    let a = bed.layout("a", &image("1", &[layer(&[("a", "a")])]));
    let b = bed.layout("b", &image("1", &[layer(&[("b", "b")])]));
    (bed.import(&a).unwrap().remove(0), bed.import(&b).unwrap().remove(0))
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
    let bed = Bed::new();
    let (a, b) = two(&bed);
    assert_eq!(bed.store.find_image("a:1").unwrap(), a);
    assert_eq!(bed.store.find_image(&b.id().to_string()).unwrap(), b);
    assert_eq!(bed.store.find_image(&b.id().hex()[..12]).unwrap(), b);
    let tagged = bed.store.tag_image(&a, &name("host:5000/a/b:2")).unwrap();
    assert_eq!(bed.store.find_image("host:5000/a/b:2").unwrap(), tagged);
    assert_eq!(bed.store.find_image(&a.id().hex()).unwrap().id(), a.id());
    for none in ["a", "a:2", "", "..", "zzzz", "0000000000"] {
        assert_eq!(bed.store.find_image(none).unwrap_err().kind(), ErrorKind::NotFound, "{none}");
    }
    let listed: Vec<_> = bed.store.images().unwrap().iter().map(|i| i.name.to_string()).collect();
    assert_eq!(listed, ["a:1", "b:1", "host:5000/a/b:2"]);
}

#[test]
fn a_name_moves_to_the_image_that_gets_it() {
    let bed = Bed::new();
    let (a, b) = two(&bed);
    bed.store.tag_image(&b, &a.name).unwrap();
    assert_eq!(bed.store.image(&a.name).unwrap().id(), b.id());
    assert_eq!(bed.store.gc().unwrap().layers, 1);
    let error = bed.store.tag_image(&a, &name("again")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "its layers are gone");
    assert!(bed.store.image(&name("again")).is_err());
}

#[test]
fn layers_stay_while_an_image_or_a_container_needs_them() {
    let bed = Bed::new();
    let (a, b) = two(&bed);
    bed.run(&a, "c").close().unwrap();
    for image in [&a, &b] {
        bed.store.remove_image(&image.name).unwrap();
        assert_eq!(bed.store.remove_image(&image.name).unwrap_err().kind(), ErrorKind::NotFound);
    }
    bed.store.gc().unwrap();
    assert_eq!(bed.names("layers"), [a.layers[0].key.to_string()]);
    let c = ContainerName::new("c").unwrap();
    assert_eq!(bed.store.open_container(&c).unwrap().read_to_string("/a").unwrap(), "a");
    let record = bed.store.record(&c).unwrap();
    assert_eq!(record.config.image.unwrap().name, "a:1");
    bed.store.remove(&c).unwrap();
    bed.store.gc().unwrap();
    assert!(bed.names("layers").is_empty());
}

#[test]
fn records_that_are_wrong_are_named_and_hurt_nobody_else() {
    let bed = Bed::new();
    let (a, _) = two(&bed);
    let path = bed.store.root().join("images").join("a:1.json");
    let good = fs::read_to_string(&path).unwrap();
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let id = a.id().to_string();
    let other = format!("sha256:{}", "0".repeat(64));
    for (bad, says) in [
        (String::new(), "not the record"),
        ("[]".to_owned(), "not the record"),
        (swap("\"version\": 1", "\"version\": 2"), "version 2"),
        (swap("\"version\": 1", "\"version\": 1, \"x\": 1"), "unknown field"),
        (swap("a:1", "z:1"), "record of z:1"),
        (swap("a:1", "../z"), "image name"),
        (swap(&id, &other), "its configuration is"),
        (swap("linux", "linus"), "its configuration is"),
        (swap("\"key\": \"sha256-", "\"key\": \"../../"), "not the record"),
        (
            swap(&format!("\"diff_id\": \"{}", a.layers[0].diff_id), &format!("\"diff_id\": \"{other}")),
            "layers",
        ),
        (good[..good.len() / 2].to_owned(), "not the record"),
    ] {
        fs::write(&path, bad).unwrap();
        let error = bed.store.image(&a.name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(
            error.to_string().contains("a:1.json") && error.to_string().contains(says),
            "{says}: {error}"
        );
        let listed = bed.store.images().unwrap();
        assert_eq!(listed.iter().map(|i| i.record.is_ok()).collect::<Vec<_>>(), [false, true]);
        assert_eq!(bed.store.find_image("b:1").unwrap().name, name("b:1"));
    }
    for plant in ["fifo", "directory", "link"] {
        let _ = fs::remove_file(&path);
        match plant {
            "fifo" => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            _ => {
                fs::remove_dir(&path).unwrap();
                fs::write(bed.path("elsewhere"), &good).unwrap();
                symlink(bed.path("elsewhere"), &path).unwrap();
            }
        }
        assert!(bed.store.image(&a.name).is_err(), "{plant}");
    }
    // Importing again repairs it.
    bed.import(&bed.path("a")).unwrap();
    assert_eq!(bed.store.image(&a.name).unwrap().id(), a.id());
    assert_eq!(fs::read_to_string(bed.path("elsewhere")).unwrap(), good);
}
