//! What is written reads back the same, here and by GNU tar and Python's tarfile; the same entries are the same bytes.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod tar_help;

use proptest::prelude::*;
use std::process::Command;
use stratafs_core::{Device, Time};
use stratafs_oci::tar::{Entry, EntryKind, Writer};
use stratafs_oci::{ErrorKind, Limits};
use tar_help::*;

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.append(entry, &mut &content[..]).unwrap();
    }
    let at = writer.position();
    let out = writer.finish().unwrap();
    assert_eq!(out.len() as u64, at + 1024);
    out
}

/// The entries as the reader gives them, without where they were.
fn read_back(bytes: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let strip = |read: &Read| {
        let content = whole(read);
        let mut entry = read.0.clone();
        entry.offset = 0;
        (entry, content)
    };
    read(bytes).unwrap().iter().map(strip).collect()
}

/// A name or target: components of all lengths and bytes.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => b'a'..=b'z', 1 => 1u8..=255];
    let component = prop_oneof![
        4 => prop::collection::vec(byte.clone(), 1..12),
        1 => prop::collection::vec(byte, 90..255),
    ];
    prop::collection::vec(component, 1..6).prop_map(|parts| {
        let mut path = parts.join(&b'/');
        while path.ends_with(b"/") {
            path.pop();
        }
        if path.is_empty() { b"empty".to_vec() } else { path }
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    let device = || (0u32..1 << 21, 0u32..1 << 21).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        4 => Just(EntryKind::File),
        2 => Just(EntryKind::Dir),
        1 => path().prop_map(EntryKind::Symlink),
        1 => path().prop_map(EntryKind::Hardlink),
        1 => device().prop_map(EntryKind::Char),
        1 => device().prop_map(EntryKind::Block),
        1 => Just(EntryKind::Fifo),
    ]
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..3000, (1u32 << 21) - 2..(1 << 21) + 2, 0..u32::MAX]
}

fn time() -> impl Strategy<Value = Time> {
    let secs =
        prop_oneof![0i64..2_000_000_000, -3i64..3, (1i64 << 33) - 2..(1 << 33) + 2, -(1i64 << 40)..1 << 40];
    let nanos = prop_oneof![Just(0u32), Just(1), Just(500_000_000), 0u32..1_000_000_000];
    (secs, nanos).prop_map(|(secs, nanos)| Time { secs, nanos })
}

fn xattrs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![3 => "user\\.[a-z]{1,8}", 1 => "user\\.[=%a-zD235]{1,8}", 1 => Just("security.capability".into())];
    prop::collection::btree_map(
        name.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        0..4,
    )
    .prop_map(|map| map.into_iter().collect())
}

fn entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let content = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..3000).prop_map(|n| vec![7; n]),
        1 => (0usize..4).prop_map(|n| vec![9; n * 512]),
    ];
    (path(), kind(), 0u32..0o10000, id(), id(), time(), xattrs(), content).prop_map(
        |(path, kind, mode, uid, gid, mtime, xattrs, content)| {
            let content = if kind == EntryKind::File { content } else { Vec::new() };
            let size = content.len() as u64;
            (Entry { mode, uid, gid, mtime, xattrs, size, ..Entry::new(path, kind) }, content)
        },
    )
}

fn cases(default: u32) -> ProptestConfig {
    let cases = number("STRATAFS_CASES", default.into()) as u32;
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The order of records is the writer's.
fn sorted(mut entries: Vec<(Entry, Vec<u8>)>) -> Vec<(Entry, Vec<u8>)> {
    for (entry, _) in &mut entries {
        entry.xattrs.sort();
    }
    entries
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_written_reads_back_the_same(entries in prop::collection::vec(entry(), 0..6)) {
        let bytes = write(&entries);
        prop_assert_eq!(bytes.len() % 512, 0);
        prop_assert!(write(&entries) == bytes, "the same entries, the same bytes");
        prop_assert_eq!(sorted(read_back(&bytes)), sorted(entries));
    }

    #[test]
    fn a_buffer_of_any_size_gives_the_same(entries in prop::collection::vec(entry(), 1..4), buffer in 1usize..70_000) {
        let bytes = write(&entries);
        let read = read_with(&bytes, &Limits::default(), buffer).unwrap();
        prop_assert_eq!(read.iter().map(whole).collect::<Vec<_>>(), entries.into_iter().map(|(_, c)| c).collect::<Vec<_>>());
    }

    #[test]
    fn a_changed_archive_is_read_or_refused_without_a_panic(
        entries in prop::collection::vec(entry(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // Most changes would only break the sum.
            let block = at / 512 * 512;
            if let Ok(header) = <&mut Header>::try_from(&mut bytes[block..block + 512]) {
                sum(header);
            }
        }
        // The helper checks that what was heard is a beginning of it.
        let _ = read(&bytes);
        let _ = read(&bytes[..cut.index(bytes.len())]);
    }
}

/// Entries with something of everything.
fn everything() -> Vec<(Entry, Vec<u8>)> {
    let plain = |path: &str, kind| Entry {
        mode: 0o644,
        mtime: Time { secs: 1_000_000_000, nanos: 0 },
        ..Entry::new(path, kind)
    };
    let file = |path: &str, content: &[u8]| {
        (Entry { size: content.len() as u64, ..plain(path, EntryKind::File) }, content.to_vec())
    };
    let none = |entry: Entry| (entry, Vec::new());
    let long = "long/".repeat(40);
    let mut entries = vec![
        none(Entry { mode: 0o755, ..plain("d", EntryKind::Dir) }),
        file("d/f", b"content"),
        file("empty", b""),
        file(&format!("{long}name"), &[3; 1234]),
        file(&"n".repeat(255), b"x"),
        file(&format!("{}/{}", "p".repeat(155), "n".repeat(100)), b"y"),
        file("d/\u{fc}ml\u{e4}ut", b"z"),
        none(plain("d/s", EntryKind::Symlink(b"../\xc3\xbc/target".to_vec()))),
        none(plain("d/long-target", EntryKind::Symlink("t/".repeat(200).into_bytes()))),
        none(plain("d/h", EntryKind::Hardlink(b"d/f".to_vec()))),
        none(plain("fifo", EntryKind::Fifo)),
        none(plain("null", EntryKind::Char(Device { major: 1, minor: 3 }))),
        none(plain("disk", EntryKind::Block(Device { major: 8, minor: 1 << 19 }))),
    ];
    entries[1].0.xattrs =
        vec![(b"user.binary".to_vec(), b"\0\n=\xff".to_vec()), (b"user.a=b".to_vec(), b"v".to_vec())];
    entries[1].0.mtime.nanos = 123_456_789;
    entries[2].0.mtime = Time { secs: -2, nanos: 250_000_000 };
    (entries[2].0.uid, entries[2].0.gid) = (4_000_000_000, 3_000_000);
    entries[3].0.mode = 0o6755;
    entries
}

#[test]
fn gnu_tar_and_python_read_what_we_write() {
    if !tool("tar") || !tool("python3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bytes = write(&everything());
    std::fs::write(dir.path().join("0.tar"), &bytes).unwrap();
    let ours = read(&bytes).unwrap();
    assert_eq!(gnu(&dir.path().join("0.tar"), true), Ok(as_gnu(&ours, true)));
    assert_eq!(python(dir.path(), 1), [Ok(ours.iter().map(as_python).collect())]);
}

#[test]
fn gnu_tar_unpacks_times_attributes_and_links_of_what_we_write() {
    if !tool("tar") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut entries = everything();
    // What a plain user can have.
    entries.retain(|(entry, _)| !matches!(entry.kind, EntryKind::Char(_) | EntryKind::Block(_)));
    std::fs::write(dir.path().join("0.tar"), write(&entries)).unwrap();
    let out = Command::new("tar")
        .current_dir(dir.path())
        .args(["--xattrs", "--no-same-owner", "-xf", "0.tar"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    use std::os::unix::fs::MetadataExt;
    let f = std::fs::metadata(dir.path().join("d/f")).unwrap();
    assert_eq!((f.mtime(), f.mtime_nsec(), f.nlink()), (1_000_000_000, 123_456_789, 2));
    let empty = std::fs::metadata(dir.path().join("empty")).unwrap();
    assert_eq!((empty.mtime(), empty.mtime_nsec()), (-2, 250_000_000));
    let mut value = [0; 10];
    match rustix::fs::getxattr(dir.path().join("d/f"), "user.binary", &mut value) {
        Ok(n) => {
            assert_eq!(&value[..n], b"\0\n=\xff");
            let n = rustix::fs::getxattr(dir.path().join("d/f"), "user.a=b", &mut value).unwrap();
            assert_eq!(&value[..n], b"v");
        }
        Err(rustix::io::Errno::OPNOTSUPP) => skip("user attributes on the temporary directory"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn we_read_what_gnu_tar_and_python_write() {
    if !tool("tar") || !tool("python3") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let deep = "deep/".repeat(30);
    std::fs::create_dir_all(tree.join(&deep)).unwrap();
    std::fs::write(tree.join(&deep).join("n".repeat(200)), b"content").unwrap();
    std::fs::write(tree.join("\u{fc}"), b"u").unwrap();
    std::fs::hard_link(tree.join("\u{fc}"), tree.join("hard")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), tree.join("soft")).unwrap();
    // 1 MiB, data in the middle and at the end.
    let holes = std::fs::File::create(tree.join("holes")).unwrap();
    use std::os::unix::fs::FileExt;
    for i in 0..40 {
        holes.write_all_at(b"data", i * (128 << 10)).unwrap();
    }
    let content = std::fs::read(tree.join("holes")).unwrap();
    let mut formats = vec![];
    for (i, options) in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ]
    .iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{i}.tar"));
        let mut command = Command::new("tar");
        let status = command.args(*options).arg("-cf").arg(&path).arg("-C").arg(&tree).arg(".").status();
        assert!(status.unwrap().success());
        formats.push(path);
    }
    let script = "import sys, tarfile
for i, f in enumerate([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]):
    with tarfile.open('%s/%d.tar' % (sys.argv[1], 6 + i), 'w', format=f) as t: t.add(sys.argv[2], '.')";
    let status = Command::new("python3").args(["-I", "-c", script]).arg(dir.path()).arg(&tree).status();
    assert!(status.unwrap().success());
    formats.extend([6, 7].map(|i| dir.path().join(format!("{i}.tar"))));
    let mut sparse = 0;
    for path in &formats {
        let bytes = std::fs::read(path).unwrap();
        let ours = read(&bytes).unwrap();
        assert_eq!(gnu(path, false), Ok(as_gnu(&ours, false)), "{path:?}");
        let holes = ours.iter().find(|(entry, _)| entry.path == b"./holes").unwrap();
        assert!(whole(holes) == content, "{path:?}");
        sparse += usize::from(holes.0.sparse.as_ref().is_some_and(|map| map.len() >= 40));
    }
    // Where the file system has no holes, tar writes none.
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(tree.join("holes")).unwrap());
    assert!(sparse == 4 || blocks * 512 >= content.len() as u64, "{sparse} sparse files");
    let pythons = python(dir.path(), formats.len());
    for (path, python) in formats.iter().zip(pythons) {
        let ours = read(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(python, Ok(ours.iter().map(as_python).collect()), "{path:?}");
    }
}

#[test]
fn only_what_needs_it_has_an_extended_header() {
    let size = |entry: &Entry| write(&[(entry.clone(), Vec::new())]).len() - 1024;
    let plain = Entry::new("a".repeat(100), EntryKind::Dir);
    assert_eq!(size(&Entry::new("a".repeat(99), EntryKind::Dir)), 512);
    assert_eq!(size(&plain), 1536, "the slash does not fit");
    assert_eq!(size(&Entry::new(format!("{}/b", "a".repeat(120)), EntryKind::Fifo)), 512, "a prefix");
    assert_eq!(size(&Entry::new("a", EntryKind::Symlink(vec![b'b'; 100]))), 512);
    assert_eq!(size(&Entry::new("a", EntryKind::Symlink(vec![b'b'; 101]))), 1536);
    assert_eq!(size(&Entry { uid: (1 << 21) - 1, ..Entry::new("a", EntryKind::Fifo) }), 512);
    assert_eq!(size(&Entry { uid: 1 << 21, ..Entry::new("a", EntryKind::Fifo) }), 1536);
    let time = |secs, nanos| Entry { mtime: Time { secs, nanos }, ..Entry::new("a", EntryKind::Fifo) };
    assert_eq!(size(&time((1 << 33) - 1, 0)), 512);
    assert_eq!(size(&time(1 << 33, 0)), 1536);
    assert_eq!(size(&time(0, 1)), 1536);
    assert_eq!(size(&time(-1, 0)), 1536);
}

#[test]
fn a_file_larger_than_the_old_field_says_so_in_a_record() {
    let entry = Entry { size: 1 << 33, ..Entry::new("large", EntryKind::File) };
    let mut writer = Writer::new(Vec::new());
    // The content is not there, but the headers were written before that was seen.
    let mut out = Vec::new();
    struct Out<'a>(&'a mut Vec<u8>);
    impl std::io::Write for Out<'_> {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(Writer::new(Out(&mut out)).append(&entry, &mut &b""[..]).is_err());
    let mut reader = stratafs_oci::tar::Reader::new(&out[..], &Limits::default());
    assert_eq!(reader.next().unwrap().unwrap().size, 1 << 33);
    assert!(writer.append(&entry, &mut &b""[..]).is_err());
}

#[test]
fn a_content_that_is_not_as_long_as_said_is_an_error_and_tears_the_archive() {
    for content in [&b"ab"[..], b"abcd"] {
        let mut writer = Writer::new(Vec::new());
        let entry = Entry { size: 3, ..Entry::new("f", EntryKind::File) };
        let error = writer.append(&entry, &mut &content[..]).expect_err("another length");
        assert_eq!((error.kind(), error.path()), (ErrorKind::Busy, Some(&b"f"[..])));
        assert!(writer.append(&Entry::new("g", EntryKind::Fifo), &mut &b""[..]).is_err());
        assert!(writer.finish().is_err());
    }
}

#[test]
fn what_an_archive_cannot_hold_is_refused_and_tears_nothing() {
    let mut writer = Writer::new(Vec::new());
    let fifo = |path: &str| Entry::new(path, EntryKind::Fifo);
    let twice = vec![(b"user.a".to_vec(), vec![]), (b"user.a".to_vec(), vec![])];
    for entry in [
        fifo(""),
        fifo("a\0b"),
        fifo("a/"),
        Entry::new("a", EntryKind::Symlink(vec![])),
        Entry::new("a", EntryKind::Hardlink(b"a\0".to_vec())),
        Entry { size: 1, ..fifo("a") },
        Entry { uid: u32::MAX, ..fifo("a") },
        Entry { mode: 0o10000, ..fifo("a") },
        Entry { mtime: Time { secs: 0, nanos: 1_000_000_000 }, ..fifo("a") },
        Entry { xattrs: vec![(vec![], vec![])], ..fifo("a") },
        Entry { xattrs: twice, ..fifo("a") },
        Entry::new("a", EntryKind::Char(Device { major: 1 << 21, minor: 0 })),
    ] {
        let error = writer.append(&entry, &mut &b""[..]).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(writer.finish().unwrap(), [0; 1024]);
}
