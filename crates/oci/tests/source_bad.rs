//! Images that are wrong in one way each: a clear error that names the part, never a panic, never a block.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod source_made;

use rustix::fs::{CWD, FileType, Mode};
use source_made::*;
use std::fs;
use std::os::unix::fs::symlink;
use stratafs_oci::source::open;
use stratafs_oci::{Digest, ErrorKind};

fn good() -> (Made, String) {
    let mut made = Made::new();
    let image = made.image("linux/amd64", "x");
    made.index(&[named(&image, "tag")]);
    (made, image)
}

/// Opens it as a directory and as an archive and reads the layer; both fail alike.
fn fails(made: &Made) -> (ErrorKind, String) {
    let tmp = tempfile::tempdir().unwrap();
    let (dir, file) = (tmp.path().join("dir"), tmp.path().join("file.tar"));
    made.write(&dir);
    fs::write(&file, made.tar()).unwrap();
    let try_it = |path| match images(path, &options(tmp.path())) {
        Ok(images) => content(&images[0]).map(drop).unwrap_err(),
        Err(e) => e,
    };
    let (first, second) = (try_it(&dir), try_it(&file));
    assert_eq!(first.kind(), second.kind(), "{first} / {second}");
    (first.kind(), first.to_string())
}

#[test]
fn wrong_digests_and_sizes_are_found_in_every_document_and_in_the_layer() {
    let (made, _) = good();
    for name in made.0.keys().filter(|name| name.starts_with("blobs/")) {
        let mut bad = made.clone();
        let blob = bad.0.get_mut(name).unwrap();
        let at = blob.len() / 2;
        blob[at] ^= 1;
        let (kind, text) = fails(&bad);
        assert_eq!(kind, ErrorKind::Corrupt, "{text}");
        let digest = format!("sha256:{}", &name["blobs/sha256/".len()..]);
        assert!(text.contains(&digest) && text.contains("content is"), "{text}");

        let mut bad = made.clone();
        bad.0.get_mut(name).unwrap().pop();
        let (kind, text) = fails(&bad);
        assert_eq!(kind, ErrorKind::Corrupt);
        assert!(text.contains(&digest) && text.contains("announced"), "{text}");

        let mut bad = made.clone();
        bad.0.remove(name);
        let (kind, text) = fails(&bad);
        assert_eq!(kind, ErrorKind::Corrupt);
        assert!(text.contains(&digest) && text.contains("missing"), "{text}");
    }
}

#[test]
fn documents_that_are_wrong_say_where() {
    let (made, image) = good();
    let layer = Digest::of(&tar(&[("file", b"x")]));
    let with_index = |text: &str| {
        let mut bad = made.clone();
        bad.0.insert("index.json".into(), text.as_bytes().to_vec());
        bad
    };
    let with_manifest = |text: &str| {
        let mut bad = made.clone();
        let manifest = bad.blob(MANIFEST, text.as_bytes());
        bad.index(&[manifest]);
        bad
    };
    let with_config = |text: &str, layers: usize| {
        let mut bad = made.clone();
        let config = bad.blob(CONFIG, text.as_bytes());
        let layer = bad.blob(LAYER, &tar(&[("file", b"x")]));
        let manifest = bad.blob(MANIFEST, manifest(&config, &vec![layer; layers]).as_bytes());
        bad.index(&[manifest]);
        bad
    };
    let with_layout = |text: &str| {
        let mut bad = made.clone();
        bad.0.insert("oci-layout".into(), text.as_bytes().to_vec());
        bad
    };
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let self_reference = {
        // Named by a digest that it cannot have.
        let mut bad = made.clone();
        let digest = Digest::of(b"loop");
        let text = index(&[format!(r#"{{"mediaType":"{INDEX}","digest":"{digest}","size":150"#)]);
        let entry = format!(r#"{{"mediaType":"{INDEX}","digest":"{digest}","size":{}"#, text.len());
        bad.0.insert(blob_path(&digest), text.into_bytes());
        bad.index(&[entry]);
        bad
    };
    let mut deep = made.clone();
    let mut entry = image.clone();
    for _ in 0..20 {
        entry = deep.blob(INDEX, index(&[entry]).as_bytes());
    }
    deep.index(&[entry]);
    let corrupt = ErrorKind::Corrupt;
    for (bad, kind, says) in [
        (with_index("{"), corrupt, "index.json"),
        (with_index("[]"), corrupt, "an object was expected"),
        (with_index(r#"{"manifests":{}}"#), corrupt, "manifests: a list was expected"),
        (with_index(r#"{"manifests":[]}"#), corrupt, "names no image"),
        (with_index(r#"{"manifests":[],"manifests":[]}"#), corrupt, "there twice"),
        (with_index(&format!("{{\"a\":{}", "[".repeat(100_000))), corrupt, "index.json"),
        (with_index(&index(&[image.replace("size\":", "size\":-")])), corrupt, "manifests[0].size"),
        (with_index(&index(&[image.replace("size\":", "size\":1e99,\"x\":")])), corrupt, "manifests[0].size"),
        (with_index(&index(&[image.replace("sha256:", "sha512:")])), corrupt, "manifests[0].digest"),
        (
            with_index(&index(&[image.replace(MANIFEST, "a/b")])),
            ErrorKind::Unsupported,
            "unknown media type \"a/b\"",
        ),
        (with_index(&index(&[image.replace(MANIFEST, LAYER)])), ErrorKind::Unsupported, "unknown media type"),
        (
            with_index(&index(&[
                image.replace(MANIFEST, "application/vnd.docker.distribution.manifest.v1+prettyjws")
            ])),
            ErrorKind::Unsupported,
            "schema 1",
        ),
        (with_manifest("{}"), corrupt, "\"config\" is missing"),
        (with_manifest(r#"{"schemaVersion":1}"#), ErrorKind::Unsupported, "schema 1"),
        (with_manifest(r#"{"schemaVersion":2,"manifests":[]}"#), corrupt, "no member \"manifests\""),
        (
            with_manifest(&format!(
                r#"{{"config":{{"mediaType":"{CONFIG}","digest":"{sha512}","size":1}}}}"#
            )),
            corrupt,
            "only sha256",
        ),
        (with_config("{}", 1), corrupt, "rootfs"),
        (with_config(&config("linux/amd64", &[]), 1), corrupt, "1 layers, but rootfs.diff_ids"),
        (with_config(&config("linux/amd64", &[layer, layer]), 1), corrupt, "diff_ids of the configuration"),
        (with_config(&config("linux/amd64", &vec![layer; 900]), 900), ErrorKind::TooLarge, "900 layers"),
        (with_layout("{}"), corrupt, "imageLayoutVersion"),
        (with_layout(r#"{"imageLayoutVersion":"2.0.0"}"#), ErrorKind::Unsupported, "layout version 2.0.0"),
        (self_reference, corrupt, "content is"),
        (deep, ErrorKind::Loop, "nest"),
    ] {
        let (found, text) = fails(&bad);
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_layer_that_may_not_be_passed_on_says_where_it_is_to_be_had() {
    let (mut made, _) = good();
    let layer = tar(&[("file", b"y")]);
    let config = config("linux/amd64", &[Digest::of(&layer)]);
    let config = made.blob(CONFIG, config.as_bytes());
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let descriptor = format!(r#"{},"urls":["https://example.org/l"]"#, made.blob(foreign, &layer));
    let image = made.blob(MANIFEST, manifest(&config, std::slice::from_ref(&descriptor)).as_bytes());
    made.index(&[image]);
    let tmp = tempfile::tempdir().unwrap();
    made.write(tmp.path());
    assert_eq!(content(&images(tmp.path(), &options(tmp.path())).unwrap()[0]).unwrap(), "y");
    made.0.remove(&made.find(&descriptor));
    let (kind, text) = fails(&made);
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(text.contains("https://example.org/l") && text.contains("layer 1 of 1"), "{text}");
}

#[test]
fn an_index_reached_again_and_again_ends_at_the_limit() {
    let (mut made, mut entry) = good();
    for _ in 0..7 {
        entry = made.blob(INDEX, index(&vec![entry; 50]).as_bytes());
    }
    made.index(&[entry]);
    let (kind, text) = fails(&made);
    assert_eq!(kind, ErrorKind::TooLarge);
    assert!(text.contains("1000 manifests"), "{text}");
}

#[test]
fn documents_past_the_limit_are_not_read() {
    let (mut made, _) = good();
    let tmp = tempfile::tempdir().unwrap();
    let mut options = options(tmp.path());
    options.limits.json = 4096;
    made.blob(MANIFEST, &vec![b' '; 5000]);
    let image = made.blob(MANIFEST, &vec![b' '; 5000]);
    made.index(&[image]);
    made.write(tmp.path());
    assert_eq!(images(tmp.path(), &options).unwrap_err().kind(), ErrorKind::TooLarge);
    made.0.insert("index.json".into(), vec![b' '; 5000]);
    made.write(tmp.path());
    assert_eq!(images(tmp.path(), &options).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn what_is_planted_under_a_fixed_name_is_refused_and_blocks_nobody() {
    let (made, image) = good();
    let blob = made.find(&image);
    for name in ["oci-layout", "index.json", blob.as_str(), "blobs/sha256", "blobs"] {
        for plant in ["fifo", "directory", "link", "socket"] {
            let tmp = tempfile::tempdir().unwrap();
            let (dir, other) = (tmp.path().join("layout"), tmp.path().join("other"));
            made.write(&dir);
            let at = dir.join(name);
            fs::rename(&at, &other).unwrap();
            match plant {
                "fifo" => rustix::fs::mknodat(CWD, &at, FileType::Fifo, Mode::RUSR, 0).unwrap(),
                "directory" => fs::create_dir(&at).unwrap(),
                "link" => symlink(&other, &at).unwrap(),
                _ => drop(std::os::unix::net::UnixListener::bind(&at).unwrap()),
            }
            let error = images(&dir, &options(tmp.path())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} {plant}: {error}");
        }
    }
}

#[test]
fn links_and_doubles_in_an_archive_lead_nowhere() {
    use stratafs_oci::tar::{Entry, EntryKind, Writer};
    let (made, image) = good();
    let blob = made.find(&image);
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("x.tar");
    for (kind, says) in [
        (EntryKind::Symlink(b"/etc/passwd".to_vec()), "leads out"),
        (EntryKind::Symlink(b"../../../etc/passwd".to_vec()), "leads out"),
        (EntryKind::Symlink(blob.rsplit('/').next().unwrap().as_bytes().to_vec()), "too many links"),
        (EntryKind::Hardlink(b"../x".to_vec()), "leads out"),
        (EntryKind::Fifo, "a fifo"),
        (EntryKind::Dir, "a directory"),
    ] {
        let mut writer = Writer::new(Vec::new());
        for (name, bytes) in &made.0 {
            let plain = Entry { size: bytes.len() as u64, ..Entry::new(name.as_str(), EntryKind::File) };
            match *name == blob {
                true => {
                    writer.append(&Entry::new(name.as_str(), kind.clone()), &mut std::io::empty()).unwrap()
                }
                false => writer.append(&plain, &mut bytes.as_slice()).unwrap(),
            }
        }
        fs::write(&path, writer.finish().unwrap()).unwrap();
        let error = images(&path, &options(tmp.path())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(says), "{error}");
    }
    let mut files: Vec<_> = made.0.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    files.push(("index.json", b"{}"));
    fs::write(&path, tar(&files)).unwrap();
    let error = images(&path, &options(tmp.path())).unwrap_err();
    assert!(error.to_string().contains("there twice"), "{error}");
}

#[test]
fn every_truncation_of_an_archive_is_an_error_and_no_panic() {
    let (made, _) = good();
    let whole = made.tar();
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("x.tar");
    // The two blocks at the end may be missing, and the padding before them.
    for len in (0..whole.len() - 1536).step_by(256) {
        fs::write(&path, &whole[..len]).unwrap();
        let done = match open(&path, &options(tmp.path())) {
            Ok(stratafs_oci::source::Input::Images(images)) => content(&images[0]).map(drop),
            Ok(_) => continue,
            Err(e) => Err(e),
        };
        assert!(done.is_err(), "{len} of {}", whole.len());
    }
}

#[test]
fn files_that_are_no_archive_are_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("x");
    let xz = [b"\xfd7zXZ\0".as_slice(), &[0; 600]].concat();
    for bytes in [b"hello".as_slice(), b"", &xz, b"BZh91AY&SY", &[0x1f, 0x8b, 8, 0], &[b'x'; 4096]] {
        fs::write(&path, bytes).unwrap();
        match open(&path, &options(tmp.path())) {
            Err(e) => assert_ne!(e.errno(), 0),
            Ok(other) => assert!(bytes.is_empty(), "{other:?}"),
        }
    }
    assert_eq!(open(&tmp.path().join("none"), &options(tmp.path())).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_device_without_end_is_refused_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    let error = open("/dev/zero".as_ref(), &options(tmp.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn an_error_about_an_entry_names_the_archive_too() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("x.tar");
    let mut header = tar::Header::new_ustar();
    header.set_path("odd").unwrap();
    header.set_entry_type(tar::EntryType::new(b'D'));
    header.set_size(0);
    header.set_cksum();
    fs::write(&path, [header.as_bytes().as_slice(), &[0; 1024]].concat()).unwrap();
    let error = open(&path, &options(tmp.path())).map(drop).unwrap_err().to_string();
    assert!(error.contains("odd") && error.contains("x.tar"), "{error}");
}
