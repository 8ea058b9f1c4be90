//! What is at a path, and the images of it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod source_made;

use source_made::*;
use std::fs;
use std::io::Write;
use stratafs_oci::compress::{Compression, encode};
use stratafs_oci::source::{Input, RefName, open};
use stratafs_oci::{Digest, ErrorKind};

fn two_platforms() -> Made {
    let mut made = Made::new();
    let (amd, arm) = (made.image("linux/amd64", "amd"), made.image("linux/arm64", "arm"));
    let list = index(&[of(&amd, "linux/amd64"), of(&arm, "linux/arm64")]);
    let list = made.blob(INDEX, list.as_bytes());
    made.index(&[named(&list, "1.0")]);
    made
}

fn compressed(bytes: &[u8], how: Compression) -> Vec<u8> {
    let mut encoder = encode(Vec::new(), how, 2).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_layout_is_the_same_as_a_directory_and_as_an_archive_however_compressed() {
    let tmp = tempfile::tempdir().unwrap();
    let made = two_platforms();
    let dir = tmp.path().join("layout");
    made.write(&dir);
    let mut paths = vec![dir];
    for (name, how) in
        [("a.tar", Compression::None), ("a.tgz", Compression::Gzip), ("a.zst", Compression::Zstd)]
    {
        let path = tmp.path().join(name);
        fs::write(&path, compressed(&made.tar(), how)).unwrap();
        paths.push(path);
    }
    for path in paths {
        let images = images(&path, &options(tmp.path())).unwrap();
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].names, [RefName::Tag("1.0".into())]);
        assert_eq!(images[0].config.platform().to_string(), "linux/amd64");
        assert_eq!(content(&images[0]).unwrap(), "amd");
    }
    let left: Vec<_> = fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "the spool is gone: {left:?}");
}

#[test]
fn the_platform_decides_and_the_error_lists_those_that_exist() {
    let tmp = tempfile::tempdir().unwrap();
    two_platforms().write(tmp.path());
    let mut options = options(tmp.path());
    options.platform = Some("linux/arm64/v8".parse().unwrap());
    assert_eq!(content(&images(tmp.path(), &options).unwrap()[0]).unwrap(), "arm");
    options.platform = Some("linux/s390x".parse().unwrap());
    let error = images(tmp.path(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("only for linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn the_only_platform_that_is_there_is_taken_when_none_was_asked_for() {
    let tmp = tempfile::tempdir().unwrap();
    let mut made = Made::new();
    let other = made.image("linux/s390x", "s390x");
    let gone = made.image("linux/amd64", "amd");
    made.0.remove(&made.find(&gone));
    made.index(&[of(&gone, "linux/amd64"), of(&other, "linux/s390x")]);
    made.write(tmp.path());
    let mut options = options(tmp.path());
    assert!(images(tmp.path(), &options).unwrap_err().to_string().contains("missing"));
    options.platform = None;
    assert_eq!(content(&images(tmp.path(), &options).unwrap()[0]).unwrap(), "s390x");
}

#[test]
fn attestations_and_artifacts_are_passed_over_where_there_is_an_image() {
    let tmp = tempfile::tempdir().unwrap();
    let mut made = Made::new();
    let image = made.image("linux/amd64", "x");
    let attestation = of(&made.image("unknown/unknown", "y"), "unknown/unknown");
    let empty = made.blob("application/vnd.oci.empty.v1+json", b"{}");
    let artifact =
        manifest(&empty, &[]).replace("{\"schema", "{\"artifactType\":\"text/signature\",\"schema");
    let artifact = made.blob(MANIFEST, artifact.as_bytes());
    made.index(&[attestation, named(&artifact, "sig"), named(&image, "host:5000/a/b:1")]);
    made.write(tmp.path());
    let found = images(tmp.path(), &options(tmp.path())).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].names, [RefName::Full("host:5000/a/b:1".into())]);
    made.index(&[named(&artifact, "sig")]);
    made.write(tmp.path());
    let error = images(tmp.path(), &options(tmp.path())).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.to_string().contains("text/signature"),
        "{error}"
    );
}

#[test]
fn several_names_of_one_image_are_one_image_and_several_images_are_several() {
    let tmp = tempfile::tempdir().unwrap();
    let mut made = Made::new();
    let (a, b) = (made.image("linux/amd64", "a"), made.image("linux/amd64", "b"));
    made.index(&[named(&a, "x"), named(&b, "y"), named(&a, "z")]);
    made.write(tmp.path());
    let found = images(tmp.path(), &options(tmp.path())).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].names, [RefName::Tag("x".into()), RefName::Tag("z".into())]);
    made.index(&[a, b]);
    made.write(tmp.path());
    let error = images(tmp.path(), &options(tmp.path())).unwrap_err();
    assert!(error.to_string().contains("several for linux/amd64"), "{error}");
}

/// `docker save` as it was: layers in directories, some of them links to others.
fn docker_save() -> (Vec<u8>, Digest) {
    let layer = tar(&[("file", b"docker")]);
    let id = Digest::of(&layer);
    let config = config("linux/amd64", &[id, id]);
    let (a, b, name) =
        ("a".repeat(64), "b".repeat(64), format!("{}.json", Digest::of(config.as_bytes()).hex()));
    let list = format!(
        r#"[{{"Config":"{name}","RepoTags":["x/y:2","z:latest"],"Layers":["{a}/layer.tar","{b}/layer.tar"]}}]"#
    );
    let mut writer = stratafs_oci::tar::Writer::new(Vec::new());
    use stratafs_oci::tar::{Entry, EntryKind};
    for (name, bytes) in [
        (format!("./{a}/layer.tar"), layer.as_slice()),
        (name, config.as_bytes()),
        ("manifest.json".into(), list.as_bytes()),
    ] {
        let entry = Entry { mode: 0o644, size: bytes.len() as u64, ..Entry::new(name, EntryKind::File) };
        writer.append(&entry, &mut &*bytes).unwrap();
    }
    let target = format!("../{a}/layer.tar").into_bytes();
    let entry = Entry { mode: 0o777, ..Entry::new(format!("{b}/layer.tar"), EntryKind::Symlink(target)) };
    writer.append(&entry, &mut std::io::empty()).unwrap();
    (writer.finish().unwrap(), Digest::of(config.as_bytes()))
}

#[test]
fn an_archive_of_docker_save_is_read_with_its_names_and_links() {
    let tmp = tempfile::tempdir().unwrap();
    let (archive, id) = docker_save();
    let path = tmp.path().join("x.tar");
    fs::write(&path, archive).unwrap();
    let found = images(&path, &options(tmp.path())).unwrap();
    assert_eq!(found[0].names, [RefName::Full("x/y:2".into()), RefName::Full("z:latest".into())]);
    assert_eq!(found[0].config.digest(), id);
    assert_eq!(found[0].layers.len(), 2);
    assert_eq!(content(&found[0]).unwrap(), "docker");
    assert_eq!(found[0].layers[1].size, found[0].layers[0].size);
}

#[test]
fn an_incomplete_index_beside_docker_s_list_does_not_matter() {
    let tmp = tempfile::tempdir().unwrap();
    let mut made = Made::new();
    let image = made.image("linux/amd64", "both");
    let gone = made.image("linux/amd64", "gone");
    made.0.remove(&made.find(&gone));
    let layer = tar(&[("file", b"both")]);
    let config = config("linux/amd64", &[Digest::of(&layer)]);
    let list = format!(
        r#"[{{"Config":"{}","RepoTags":null,"Layers":["{}"]}}]"#,
        blob_path(&Digest::of(config.as_bytes())),
        blob_path(&Digest::of(&layer))
    );
    made.0.insert("manifest.json".into(), list.into_bytes());
    let path = tmp.path().join("x.tar");
    for (entry, digest_known) in [(&image, true), (&gone, false)] {
        made.index(std::slice::from_ref(entry));
        fs::write(&path, made.tar()).unwrap();
        let found = images(&path, &options(tmp.path())).unwrap();
        assert_eq!(content(&found[0]).unwrap(), "both");
        assert_eq!(found[0].layers[0].digest.is_some(), digest_known);
    }
}

#[test]
fn layers_and_directories_are_told_from_images() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tar(&[("etc/motd", b"x"), ("manifest.json", b"{}")]);
    let odd = tar(&[("manifest.json", b"{}")]);
    for (name, bytes) in [
        ("plain", root.clone()),
        ("gzip", compressed(&root, Compression::Gzip)),
        ("zstd", compressed(&root, Compression::Zstd)),
        ("odd", odd),
        ("empty", vec![0; 1024]),
    ] {
        let path = tmp.path().join(name);
        fs::write(&path, &bytes).unwrap();
        match open(&path, &options(tmp.path())).unwrap() {
            Input::Layer(layer) => assert_eq!(layer.size, bytes.len() as u64),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(open(tmp.path(), &options(tmp.path())).unwrap(), Input::Directory(_)));
}

#[test]
fn a_pipe_is_read_once_and_then_as_a_file() {
    let tmp = tempfile::tempdir().unwrap();
    let pipe = tmp.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let bytes = compressed(&two_platforms().tar(), Compression::Gzip);
    let writer = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, bytes).unwrap())
    };
    let found = images(&pipe, &options(tmp.path())).unwrap();
    writer.join().unwrap();
    assert_eq!(content(&found[0]).unwrap(), "amd");
}
