//! The path API on both backends: what a user of std::fs expects.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use stratafs::{
    Aspects, Caller, Container, ErrorKind, Image, Kind, MemLayer, OpenOptions, RenameFlags, SetTime, Time,
    What,
};

fn base() -> MemLayer {
    MemLayer::builder()
        .dir("etc", 0o755)
        .file("etc/motd", "welcome\n")
        .file("etc/deep/er/file", "deep")
        .symlink("etc/link", "motd")
        .symlink("etc/absolute", "/etc/motd")
        .symlink("escape", "../../../../etc/motd")
        .build()
        .unwrap()
}

/// The same container in memory and in directories.
fn containers() -> Vec<(Container, Option<tempfile::TempDir>)> {
    let memory =
        Container::builder(Image::builder().mem(base()).build().unwrap()).in_memory().open().unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let layer = tmp.path().join("layer");
    std::fs::create_dir_all(layer.join("etc/deep/er")).unwrap();
    std::fs::write(layer.join("etc/motd"), "welcome\n").unwrap();
    std::fs::write(layer.join("etc/deep/er/file"), "deep").unwrap();
    std::os::unix::fs::symlink("motd", layer.join("etc/link")).unwrap();
    std::os::unix::fs::symlink("/etc/motd", layer.join("etc/absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/motd", layer.join("escape")).unwrap();
    let image = Image::from_dirs([&layer]).unwrap();
    let disk = Container::builder(image).scratch_dir(tmp.path().join("state")).open().unwrap();
    vec![(memory, None), (disk, Some(tmp))]
}

#[test]
fn links_stay_inside() {
    for (c, _dir) in containers() {
        for path in ["/etc/link", "etc/absolute", "/escape", "../../etc/motd", "/etc/../escape"] {
            assert_eq!(c.read_to_string(path).unwrap(), "welcome\n", "{path}");
            assert_eq!(c.canonicalize(path).unwrap(), Path::new("/etc/motd"), "{path}");
        }
        assert_eq!(c.read_link("/etc/link").unwrap(), Path::new("motd"));
        assert!(c.symlink_metadata("/etc/link").unwrap().is_symlink());
        assert!(c.metadata("/etc/link").unwrap().is_file());
    }
}

#[test]
fn errors_name_the_question() {
    for (c, _dir) in containers() {
        let e = c.open("/etc/missing/file").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert_eq!(e.path(), Some(&b"/etc/missing/file"[..]));
        assert_eq!(e.operation(), "open");
        assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::NotFound);
        assert_eq!(c.read("/etc").unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(c.remove_file("/etc").unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(c.remove_dir("/etc").unwrap_err().kind(), ErrorKind::NotEmpty);
        assert_eq!(c.remove_dir("/etc/motd").unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(c.create_dir("/").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(c.create_dir("/etc/.").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(c.read_link("/etc/motd").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(c.open("/etc/motd/").unwrap_err().kind(), ErrorKind::NotADirectory);
    }
}

#[test]
fn open_options_are_those_of_std() {
    for (c, _dir) in containers() {
        let open = |set: fn(&mut OpenOptions) -> &mut OpenOptions, path: &str| {
            c.open_with(path, set(&mut OpenOptions::new())).map_err(|e| e.kind())
        };
        assert_eq!(open(|o| o, "x").unwrap_err(), ErrorKind::InvalidInput);
        assert_eq!(open(|o| o.read(true).create(true), "x").unwrap_err(), ErrorKind::InvalidInput);
        assert_eq!(open(|o| o.append(true).truncate(true), "x").unwrap_err(), ErrorKind::InvalidInput);
        assert_eq!(
            open(|o| o.write(true).create_new(true), "etc/link").unwrap_err(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(open(|o| o.read(true).no_follow(true), "etc/link").unwrap_err(), ErrorKind::Loop);
        assert_eq!(open(|o| o.write(true).create(true), "/").unwrap_err(), ErrorKind::IsADirectory);
        assert_eq!(open(|o| o.write(true).create(true), "new/").unwrap_err(), ErrorKind::IsADirectory);

        c.symlink("made-through-a-link", "/etc/dangling").unwrap();
        open(|o| o.write(true).create(true), "/etc/dangling").unwrap();
        assert!(c.metadata("/etc/made-through-a-link").unwrap().is_file());

        let mut log = open(|o| o.append(true).read(true), "/etc/motd").unwrap();
        log.write_all(b"one\n").unwrap();
        log.seek(SeekFrom::Start(0)).unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(c.read_to_string("/etc/motd").unwrap(), "welcome\none\ntwo\n");

        // Without read permission in its mode, and still usable by who made it.
        let user = c.as_caller(Caller::user(7, 7));
        c.create_dir("/home").unwrap();
        c.chown("/home", Some(7), Some(7)).unwrap();
        let mut options = OpenOptions::new();
        let mut file = user.open_with("/home/f", options.write(true).create_new(true).mode(0o000)).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(user.read("/home/f").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(c.metadata("/home/f").unwrap().uid(), 7);
    }
}

#[test]
fn files_read_write_and_seek() {
    for (c, _dir) in containers() {
        let mut options = OpenOptions::new();
        let reader = c.open("/etc/motd").unwrap();
        let mut file = c.open_with("/etc/motd", options.read(true).write(true)).unwrap();
        file.seek(SeekFrom::End(-1)).unwrap();
        file.write_all(b"!\n").unwrap();
        let mut text = String::new();
        (&reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "welcome!\n", "a reader from before the copy-up sees the write");
        assert!(file.seek(SeekFrom::Current(-100)).is_err());
        assert_eq!(reader.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::BadHandle);
        c.remove_file("/etc/motd").unwrap();
        assert_eq!(file.metadata().unwrap().len(), 9);
        assert_eq!(file.read_at(&mut [0; 4], 100).unwrap(), 0);
        file.set_len(1 << 20).unwrap();
        file.write_at(b"end", (1 << 20) - 3).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    }
}

#[test]
fn directories_list_once_and_in_batches() {
    for (c, _dir) in containers() {
        c.create_dir_all("/many/x/y").unwrap();
        c.create_dir_all("/many/x/y").unwrap();
        for i in 0..600 {
            c.write(format!("/many/{i}"), "").unwrap();
        }
        let mut names: Vec<_> = c.read_dir("/many").unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 601);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 601);
        let entry =
            c.read_dir("/many").unwrap().map(Result::unwrap).find(|e| e.file_type() == Kind::Dir).unwrap();
        assert_eq!(entry.file_name_bytes(), b"x");
        assert!(entry.metadata().unwrap().is_dir());
        assert_eq!(c.create_dir_all("/many/0/z").unwrap_err().kind(), ErrorKind::NotADirectory);
    }
}

#[test]
fn trees_go_without_following_links() {
    for (c, _dir) in containers() {
        c.create_dir_all("/top/a/b").unwrap();
        c.symlink("/etc", "/top/a/b/out").unwrap();
        c.write("/top/file", "x").unwrap();
        c.rename("/etc/deep", "/top/deep").unwrap();
        c.remove_dir_all("/top").unwrap();
        assert!(!c.exists("/top"));
        assert!(c.exists("/etc/motd"));
        c.symlink("/etc", "/link").unwrap();
        c.remove_dir_all("/link").unwrap();
        assert!(c.exists("/etc/motd"));
        let mut dir = c.clone();
        for _ in 0..2000 {
            dir.create_dir("d").unwrap();
            dir = dir.dir("d").unwrap();
        }
        c.remove_dir_all("/d").unwrap();
        assert!(!c.exists("/d"));
    }
}

#[test]
fn handles_of_directories_follow_renames() {
    for (c, _dir) in containers() {
        let etc = c.dir("/etc").unwrap();
        c.rename("/etc", "/moved").unwrap();
        assert_eq!(etc.read_to_string("motd").unwrap(), "welcome\n");
        assert_eq!(etc.canonicalize("link").unwrap(), Path::new("/moved/motd"));
        assert_eq!(etc.read_to_string("deep/../motd").unwrap(), "welcome\n");
        assert!(etc.open("/motd").is_err(), "absolute paths start at the root");
        assert_eq!(c.dir("/moved/motd").unwrap_err().kind(), ErrorKind::NotADirectory);
    }
}

#[test]
fn renames_take_flags() {
    for (c, _dir) in containers() {
        c.write("/a", "a").unwrap();
        c.write("/b", "b").unwrap();
        let kind = |e: stratafs::Error| e.kind();
        let no_replace = c.rename_with("/a", "/b", RenameFlags::NO_REPLACE).map_err(kind);
        assert_eq!(no_replace.unwrap_err(), ErrorKind::AlreadyExists);
        c.rename_with("/a", "/etc", RenameFlags::EXCHANGE).unwrap();
        assert_eq!(c.read_to_string("/etc").unwrap(), "a");
        assert_eq!(c.read_to_string("/a/motd").unwrap(), "welcome\n");
        assert_eq!(c.rename("/b/", "/c").map_err(kind).unwrap_err(), ErrorKind::NotADirectory);
        c.hard_link("/b", "/c").unwrap();
        assert_eq!(c.metadata("/c").unwrap().nlink(), 2);
    }
}

#[test]
fn attributes_are_set_and_seen() {
    for (c, _dir) in containers() {
        let time = Time { secs: 1_000_000_000, nanos: 123_456_789 };
        c.set_permissions("/etc/link", 0o4711).unwrap();
        c.set_times("/etc/motd", None, Some(SetTime::At(time))).unwrap();
        c.set_xattr("/etc/motd", "user.k", "v").unwrap();
        let meta = c.metadata("/etc/motd").unwrap();
        assert_eq!(meta.mode(), 0o104_711);
        assert_eq!(meta.attr().mtime, time);
        assert_eq!(c.xattr("/etc/link", "user.k").unwrap().unwrap(), b"v");
        assert_eq!(c.xattrs("/etc/motd").unwrap(), [b"user.k"]);
        c.remove_xattr("/etc/motd", "user.k").unwrap();
        assert_eq!(c.xattr("/etc/motd", "user.k").unwrap(), None);
        c.truncate("/etc/motd", 3).unwrap();
        assert_eq!(c.read("/etc/motd").unwrap(), b"wel");
        c.mkfifo("/fifo", 0o666).unwrap();
        assert_eq!(c.metadata("/fifo").unwrap().mode(), 0o010_644, "the umask applies");
        assert!(!c.try_exists("/nothing").unwrap());
        c.sync().unwrap();
        assert!(c.stat_fs().unwrap().name_max >= 255);
    }
}

#[test]
fn copies_keep_holes_and_permissions() {
    for (c, _dir) in containers() {
        let file = c.create("/sparse").unwrap();
        file.write_at(b"data", 8 << 20).unwrap();
        file.set_len(16 << 20).unwrap();
        file.set_permissions(0o750).unwrap();
        assert_eq!(c.copy("/sparse", "/copy").unwrap(), 16 << 20);
        let meta = c.metadata("/copy").unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o7777), (16 << 20, 0o750));
        assert!(meta.attr().blocks * 512 < 1 << 20, "{} blocks", meta.attr().blocks);
        assert_eq!(c.read("/copy").unwrap()[8 << 20..][..4], *b"data");
        assert_eq!(c.copy("/copy", "/copy").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(c.metadata("/copy").unwrap().len(), 16 << 20);
    }
}

#[test]
fn names_are_bytes() {
    for (c, _dir) in containers() {
        let name = std::ffi::OsStr::from_bytes(b"/\xff\n\xfe");
        c.write(name, "x").unwrap();
        let listed: Vec<_> = c.read_dir("/").unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(listed.iter().any(|n| n.as_bytes() == b"\xff\n\xfe"));
        assert_eq!(c.write("/a\0b", "x").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(c.write(format!("/{}", "x".repeat(256)), "").unwrap_err().kind(), ErrorKind::NameTooLong);
    }
}

#[test]
fn an_image_alone_is_read_only() {
    let view = Image::builder().mem(base()).build().unwrap().view().unwrap();
    assert_eq!(view.read_to_string("/etc/motd").unwrap(), "welcome\n");
    assert_eq!(view.write("/etc/motd", "x").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(view.remove_dir_all("/etc").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert!(Image::default().view().is_err());
    let nowhere = Container::builder(Image::builder().mem(base()).build().unwrap()).open();
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn changes_name_what_changed() {
    for (c, _dir) in containers() {
        c.set_permissions("/etc/motd", 0o600).unwrap();
        c.remove_file("/escape").unwrap();
        c.write("/new", "x").unwrap();
        let changes = c.changes().unwrap();
        let find = |path: &str| changes.iter().find(|c| c.path == path.as_bytes()).map(|c| c.what.clone());
        assert_eq!(find("new"), Some(What::Added));
        assert_eq!(find("escape"), Some(What::Deleted));
        assert_eq!(find("etc/motd"), Some(What::Modified(Aspects::METADATA)));
    }
}

#[test]
fn a_new_scratch_takes_over_the_root_of_the_image() {
    use std::os::unix::fs::PermissionsExt;
    let tmp = tempfile::tempdir().unwrap();
    let layer = tmp.path().join("layer");
    std::fs::create_dir(&layer).unwrap();
    std::fs::set_permissions(&layer, std::fs::Permissions::from_mode(0o1710)).unwrap();
    let image = Image::from_dirs([&layer]).unwrap();
    let disk = Container::builder(image.clone()).scratch_dir(tmp.path().join("state")).open().unwrap();
    let memory = Container::builder(image).in_memory().open().unwrap();
    for c in [disk, memory] {
        assert_eq!(c.metadata("/").unwrap().mode() & 0o7777, 0o1710);
        assert_eq!(c.changes().unwrap(), []);
    }
}

#[test]
fn a_volatile_scratch_is_refused_until_it_was_closed() {
    let tmp = tempfile::tempdir().unwrap();
    let open = || {
        let options = stratafs::ScratchOptions { volatile: true, ..Default::default() };
        Container::builder(Image::builder().mem(base()).build().unwrap())
            .scratch_dir(tmp.path().join("state"))
            .scratch_options(options)
            .open()
    };
    let c = open().unwrap();
    let file = c.create("/f").unwrap();
    assert_eq!(c.clone().close().unwrap_err().kind(), ErrorKind::Busy);
    drop(file);
    c.close().unwrap();
    drop(open().unwrap());
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Corrupt);
}
