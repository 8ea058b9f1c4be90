//! Archives made wrong by hand, one thing at a time: each is refused with an error that names the entry and the place, or
//! read in the one way that is right.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod tar_help;

use stratafs_core::{Device, Time};
use stratafs_oci::tar::{EntryKind, Extent, Reader};
use stratafs_oci::{ErrorKind, Limits};
use tar_help::*;

/// Reads one entry with its content.
fn one(bytes: &[u8]) -> Read {
    let mut entries = read(bytes).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn names(bytes: &[u8]) -> Vec<String> {
    let entries = read(bytes).unwrap();
    entries.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

/// An `x` header of raw records before a file `f` of 3 bytes.
fn raw(records: &[u8]) -> Vec<u8> {
    archive([extended(b'x', records), file("f", b"abc")])
}

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    let f = || file("f", b"abc");
    let h = |kind, size| header("f", kind, size);
    let wrong_sum = {
        let mut header = h(b'0', 0);
        header[0] = b'g';
        header.to_vec()
    };
    let many = |n: usize| (0..n).map(|i| ("SCHILY.xattr.user.same", i.to_string())).collect::<Vec<_>>();
    let same: Vec<u8> = many(2).iter().flat_map(|(key, value)| record(key, value)).collect();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Headers.
        (archive([wrong_sum]), "checksum"),
        (b"this is no archive at all".to_vec(), "in the middle"),
        (archive([with(h(b'0', 0), 124, b"99999999999\0").to_vec()]), "size"),
        (
            archive([with(h(b'0', 0), 124, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe").to_vec()]),
            "size is -2",
        ),
        (archive([with(h(b'0', 0), 124, b"\x80\0\0\0\xff\0\0\0\0\0\0\0").to_vec()]), "63 bits"),
        (archive([with(h(b'0', 0), 108, b"\xff\xff\xff\xff\xff\xff\xff\xff").to_vec()]), "uid is -1"),
        (archive([with(h(b'0', 0), 108, b"\x80\0\0\0\xff\xff\xff\xff").to_vec()]), "uid is 4294967295"),
        (archive([with(h(b'0', 0), 116, b"\x80\0\0\x01\0\0\0\0").to_vec()]), "gid is 4294967296"),
        (archive([h(b'?', 0).to_vec()]), "type \"?\""),
        (archive([h(b'V', 0).to_vec()]), "volumes"),
        (archive([h(b'D', 0).to_vec()]), "type \"D\""),
        (archive([header("", b'0', 0).to_vec()]), "no name"),
        (archive([header("f/", b'0', 0).to_vec()]), "slash"),
        (archive([link("f/", b'2', "t").to_vec()]), "slash"),
        (archive([h(b'1', 0).to_vec()]), "without a target"),
        (archive([h(b'2', 0).to_vec()]), "without a target"),
        (archive([piece(h(b'5', 3), b"abc")]), "size of 3"),
        (archive([piece(with(h(b'2', 3), 157, b"t"), b"abc")]), "size of 3"),
        (archive([piece(h(b'3', 3), b"abc")]), "size of 3"),
        (archive([piece(h(b'6', 3), b"abc")]), "size of 3"),
        (archive([piece(with(header("d/", 0, 3), 257, &[0; 8]), b"abc")]), "size of 3"),
        (archive([with(h(b'3', 0), 257, &[0; 8]).to_vec()]), "device numbers"),
        (archive([with(h(b'3', 0), 329, b"9").to_vec()]), "device major"),
        (archive([pax(&[("size", "3")]), piece(link("f", b'1', "t"), b"abc")]), "size of 3"),
        // Extended headers.
        (raw(b"path=x\n"), "no proper length"),
        (raw(b"8path=x\n"), "no blank"),
        (raw(b"-9 path=x\n"), "no proper length"),
        (raw(b"09 path=x\n"), "no proper length"),
        (raw(b"11 path=x\n"), "past the end"),
        (raw(b"8 path=x\n"), "no newline"),
        (raw(b"3 a=b\n"), "no newline"),
        (raw(b"1 a=b\n"), "too small"),
        (raw(b"0 a=b\n"), "too small"),
        (raw(b"99999999999999999999 a=b\n"), "no proper length"),
        (raw(b"18446744073709551615 a=b\n"), "no proper length"),
        (raw(b"5 ab\n"), "no equals"),
        (raw(b"5 =b\n"), "keyword"),
        (raw(b"7 \0a=b\n"), "keyword"),
        (raw(&[record("comment", "x"), vec![0; 4]].concat()), "no proper length"),
        (raw(&record("path", "")), "empty"),
        (raw(&record("path", "a\0b")), "NUL"),
        (raw(&record("linkpath", "")), "empty"),
        (raw(&record("size", "abc")), "decimal"),
        (raw(&record("size", "")), "decimal"),
        (raw(&record("size", "-3")), "decimal"),
        (raw(&record("size", "+3")), "decimal"),
        (raw(&record("size", "3.0")), "decimal"),
        (raw(&record("size", "99999999999999999999")), "decimal"),
        (raw(&record("size", "9223372036854775808")), "decimal"),
        (raw(&record("uid", "-1")), "decimal"),
        (raw(&record("uid", "4294967295")), "uid is 4294967295"),
        (raw(&record("mtime", "1e9")), "decimal"),
        (raw(&record("mtime", "1.")), "seconds are needed"),
        (raw(&record("mtime", ".5")), "decimal"),
        (raw(&record("mtime", "--1")), "decimal"),
        (raw(&record("mtime", "1.5x")), "seconds are needed"),
        (raw(&[record("path", "a"), record("path", "b")].concat()), "twice"),
        (raw(&[record("size", "3"), record("size", "3")].concat()), "twice"),
        (raw(&same), "twice"),
        (raw(&record("SCHILY.xattr.", "x")), "proper name"),
        (raw(&record("SCHILY.realsize", "10")), "star"),
        (raw(&record("GNU.volume.filename", "v")), "volumes"),
        (archive([pax(&[("uid", "1")]), pax(&[("gid", "1")]), f()]), "two extended headers"),
        (archive([extended(b'g', &record("path", "x")), f()]), "global"),
        (archive([extended(b'g', &record("size", "3")), f()]), "global"),
        (archive([extended(b'g', &record("SCHILY.xattr.user.a", "3")), f()]), "global"),
        (archive([pax(&[("uid", "1")]), extended(b'g', b""), f()]), "global header between"),
        (archive([pax(&[("uid", "1")])]), "without its entry"),
        (pax(&[("uid", "1")]), "without its entry"),
        // Long names.
        (archive([piece(header("L", b'L', 0), b""), f()]), "long name"),
        (archive([piece(header("L", b'L', 4), b"a\0b\0"), f()]), "long name"),
        (
            archive([piece(header("L", b'L', 2), b"a\0"), piece(header("L", b'L', 2), b"b\0"), f()]),
            "two long names",
        ),
        (
            archive([pax(&[("path", "a")]), piece(header("L", b'L', 2), b"b\0"), f()]),
            "two headers give the path",
        ),
        // The end.
        (file("f", &[1; 600])[..1000].to_vec(), "in the middle"),
        (file("f", b"abc")[..514].to_vec(), "in the middle"),
        (file("f", b"abc")[..512].to_vec(), "in the middle"),
        ([f(), vec![0; 100]].concat(), "in the middle"),
        ([f(), vec![0; 512], f()].concat(), "block of zeros"),
    ];
    for (i, (bytes, says)) in cases.iter().enumerate() {
        let error = match read(bytes) {
            Err(error) => error,
            Ok(entries) => panic!("case {i} ({says}) was read: {entries:?}"),
        };
        let text = error.to_string();
        assert!(text.contains(says), "case {i}: {text}, not {says}");
        assert!(text.contains("at byte "), "case {i}: {text}");
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "case {i}: {text}");
    }
}

#[test]
fn an_error_names_the_entry_and_the_byte_of_its_header() {
    let bytes =
        archive([file("first", b"abc"), pax(&[("path", "long/name")]), header("f", b'?', 0).to_vec()]);
    let error = read(&bytes).expect_err("an unknown type");
    assert_eq!(error.path(), Some(&b"long/name"[..]));
    assert!(error.to_string().contains("at byte 1024 "), "{error}");
    let bytes = archive([file("first", b"abc"), extended(b'x', b"bad")]);
    assert_eq!(read(&bytes).expect_err("a bad record").path(), Some(&b"PaxHeaders/x"[..]));
}

#[test]
fn after_an_error_nothing_more_is_read() {
    let bytes = archive([header("f", b'?', 0).to_vec(), file("g", b"abc")]);
    let mut reader = Reader::new(&bytes[..], &Limits::default());
    assert!(reader.next().is_err());
    assert!(reader.next().is_err());
    assert_eq!(reader.next_data(&mut [0; 10]).unwrap(), None);
}

#[test]
fn a_size_in_an_extended_header_counts_for_skipping_too() {
    // The ustar size would make the file's content an entry of its own.
    let smuggled = file("smuggled", b"x");
    let size = smuggled.len().to_string();
    let bytes = archive([pax(&[("size", &size)]), piece(header("f", b'0', 0), &smuggled), file("last", b"")]);
    assert_eq!(names(&bytes), ["f", "last"]);
    let mut reader = Reader::new(&bytes[..], &Limits::default());
    assert_eq!(reader.next().unwrap().unwrap().size, 1024);
    assert_eq!(reader.next().unwrap().unwrap().path, b"last", "without reading the content");
}

#[test]
fn extended_headers_say_what_the_old_ones_cannot() {
    let value = b"binary\0\n=\xff 12 path=x\n";
    let records = [
        record("path", "p/\n\u{e9}"),
        record("uid", "4294967294"),
        record("gid", "3000000"),
        record("mtime", "-1.25"),
        record("SCHILY.xattr.user.a", value),
        record("SCHILY.xattr.user.%3D%25%41", ""),
        record("LIBARCHIVE.xattr.user.b", "AAAA"),
        record("comment", "none"),
    ];
    let (entry, _) = one(&archive([extended(b'x', &records.concat()), file("f", b"abc")]));
    assert_eq!(entry.path, "p/\n\u{e9}".as_bytes());
    assert_eq!((entry.uid, entry.gid), (u32::MAX - 1, 3_000_000));
    assert_eq!(entry.mtime, Time { secs: -2, nanos: 750_000_000 });
    assert_eq!(entry.xattrs, [(b"user.a".to_vec(), value.to_vec()), (b"user.=%%41".to_vec(), vec![])]);
    assert_eq!((entry.offset, entry.size), (0, 3));
}

#[test]
fn times_are_cut_to_nanoseconds_towards_the_past() {
    for (text, secs, nanos) in [
        ("0", 0, 0),
        ("12", 12, 0),
        ("1.5", 1, 500_000_000),
        ("1.000000001", 1, 1),
        ("1.9999999999", 1, 999_999_999),
        ("-0.000000001", -1, 999_999_999),
        ("-0.0000000001", -1, 999_999_999),
        ("-1", -1, 0),
        ("-1.0", -1, 0),
        ("-2.75", -3, 250_000_000),
        ("9223372036854775807.999999999", i64::MAX, 999_999_999),
    ] {
        let (entry, _) = one(&archive([pax(&[("mtime", text)]), file("f", b"abc")]));
        assert_eq!(entry.mtime, Time { secs, nanos }, "{text}");
    }
}

#[test]
fn a_global_header_gives_owner_and_time_until_the_next() {
    let global = |key, value| extended(b'g', &record(key, value));
    let bytes = archive([
        global("uid", "7"),
        global("mtime", "9.5"),
        file("a", b""),
        pax(&[("uid", "8")]),
        file("b", b""),
        global("uid", "9"),
        file("c", b""),
    ]);
    let entries = read(&bytes).unwrap();
    assert_eq!(entries.iter().map(|(e, _)| e.uid).collect::<Vec<_>>(), [7, 8, 9]);
    assert!(entries.iter().all(|(e, _)| e.mtime == Time { secs: 9, nanos: 500_000_000 }));
}

#[test]
fn old_and_odd_forms_are_read() {
    let v7 = |header: Header| with(header, 257, &[0; 8]).to_vec();
    let gnu = |header: Header| with(header, 257, GNU).to_vec();
    let bytes = archive([
        v7(header("dir/", 0, 0)),
        v7(header("dir/f", 0, 0)),
        gnu(with(header("times", b'0', 0), 345, b"14000000000\0")),
        header("contiguous", b'7', 0).to_vec(),
        with(header("name", b'5', 0), 345, b"prefix").to_vec(),
        // A hard link that says how large its file is.
        with(link("hard", b'1', "dir/f"), 124, b"00000001000\0").to_vec(),
        with(with(header("dev", b'4', 0), 329, b"0000010\0"), 337, b"0000377\0").to_vec(),
        header("fifo", b'6', 0).to_vec(),
        header("./", b'5', 0).to_vec(),
        header("///", b'5', 0).to_vec(),
    ]);
    let entries = read(&bytes).unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|(e, _)| (String::from_utf8_lossy(&e.path).into_owned(), e.kind.clone()))
        .collect();
    let wanted = [
        ("dir", EntryKind::Dir),
        ("dir/f", EntryKind::File),
        ("times", EntryKind::File),
        ("contiguous", EntryKind::File),
        ("prefix/name", EntryKind::Dir),
        ("hard", EntryKind::Hardlink(b"dir/f".to_vec())),
        ("dev", EntryKind::Block(Device { major: 8, minor: 255 })),
        ("fifo", EntryKind::Fifo),
        (".", EntryKind::Dir),
        ("/", EntryKind::Dir),
    ];
    assert_eq!(found, wanted.map(|(name, kind)| (name.to_string(), kind)));
}

#[test]
fn long_names_of_gnu_are_read() {
    let long = "n".repeat(300);
    let name = |kind, text: &str| {
        let text = [text.as_bytes(), b"\0"].concat();
        piece(with(header("././@LongLink", kind, text.len() as u64), 257, GNU), &text)
    };
    let (entry, _) = one(&archive([name(b'K', "target"), name(b'L', &long), link("n", b'2', "t").to_vec()]));
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!(entry.kind, EntryKind::Symlink(b"target".to_vec()));
}

#[test]
fn an_archive_may_end_with_its_last_entry_or_go_on_after_its_end() {
    let f = file("f", b"abc");
    assert_eq!(names(&f), ["f"]);
    assert_eq!(names(&[f.clone(), vec![0; 512]].concat()), ["f"]);
    assert_eq!(names(&[f.clone(), end(), b"whatever".to_vec(), f].concat()), ["f"]);
    assert!(names(b"").is_empty());
    assert!(names(&end()).is_empty());
}

/// A map as extents.
fn map(pairs: &[(u64, u64)]) -> Vec<Extent> {
    pairs.iter().map(|(offset, len)| Extent { offset: *offset, len: *len }).collect()
}

#[test]
fn sparse_files_of_all_formats_are_read() {
    // 1000 bytes: "abc" at 100, "de" at 997, nothing at the end.
    let data = b"abcde";
    let whole_one = {
        let mut bytes = vec![0; 1000];
        bytes[100..103].copy_from_slice(b"abc");
        bytes[997..999].copy_from_slice(b"de");
        bytes
    };
    let common = [("GNU.sparse.size", "1000"), ("GNU.sparse.numblocks", "3")];
    let format_00 = [
        &common[..],
        &[("GNU.sparse.offset", "100"), ("GNU.sparse.numbytes", "3")],
        &[("GNU.sparse.offset", "997"), ("GNU.sparse.numbytes", "2")],
        &[("GNU.sparse.offset", "1000"), ("GNU.sparse.numbytes", "0")],
    ]
    .concat();
    let format_01 =
        [&common[..], &[("GNU.sparse.map", "100,3,997,2,1000,0"), ("GNU.sparse.name", "s")]].concat();
    let format_10 = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "s"),
        ("GNU.sparse.realsize", "1000"),
    ];
    let ahead = [padded(b"3\n100\n3\n997\n2\n1000\n0\n"), data.to_vec()].concat();
    let mut old = with(header("s", b'S', 5), 257, GNU);
    for (i, text) in ["100", "3", "997", "2", "1000", "0"].iter().enumerate() {
        put(&mut old, 386 + 12 * i, format!("{:011o}\0", text.parse::<u64>().unwrap()).as_bytes());
    }
    put(&mut old, 483, b"00000001750\0");
    sum(&mut old);
    let archives = [
        archive([pax(&format_00), file("s", data)]),
        archive([pax(&format_01), file("GNUSparseFile.0/s", data)]),
        archive([pax(&format_10), file("GNUSparseFile.0/s", &ahead)]),
        archive([piece(old, data)]),
    ];
    for (i, bytes) in archives.iter().enumerate() {
        let read = one(bytes);
        assert_eq!(read.0.path, b"s", "format {i}");
        assert_eq!((read.0.size, read.0.stored()), (1000, 5), "format {i}");
        assert_eq!(read.0.sparse, Some(map(&[(100, 3), (997, 2)])), "format {i}");
        assert!(whole(&read) == whole_one, "format {i}");
    }
}

#[test]
fn an_old_sparse_map_goes_on_in_further_blocks() {
    let mut first = with(header("s", b'S', 30), 257, GNU);
    let field = |n: u64| format!("{n:011o}\0").into_bytes();
    let pair = |i: u64| [field(i * 1000), field(1)].concat();
    for i in 0..4 {
        put(&mut first, 386 + 24 * i, &pair(i as u64));
    }
    first[482] = 1;
    put(&mut first, 483, &field(30_000));
    sum(&mut first);
    let mut second: Header = [0; 512];
    (4..25).for_each(|i| put(&mut second, 24 * (i - 4), &pair(i as u64)));
    second[504] = 1;
    let mut third: Header = [0; 512];
    (25..30).for_each(|i| put(&mut third, 24 * (i - 25), &pair(i as u64)));
    let data = [7; 30];
    let bytes =
        archive([first.to_vec(), second.to_vec(), third.to_vec(), padded(&data), file("after", b"x")]);
    let entries = read(&bytes).unwrap();
    let wanted: Vec<_> = (0..30).map(|i| (i * 1000, 1)).collect();
    assert_eq!(entries[0].0.sparse, Some(map(&wanted)));
    assert_eq!(entries[1].0.path, b"after");
    // A map that ends and then goes on.
    let mut gap = second;
    gap[12] = 0;
    assert!(read(&archive([first.to_vec(), gap.to_vec(), third.to_vec(), padded(&data)])).is_err());
}

#[test]
fn sparse_maps_that_contradict_themselves_are_refused() {
    let with_map = |map: &str, blocks: &str, size: &str| {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.numblocks", blocks), ("GNU.sparse.map", map)];
        archive([pax(&records), file("s", b"abcde")])
    };
    assert!(read(&with_map("0,3,10,2", "2", "12")).is_ok());
    for (map, blocks, size) in [
        ("0,3,10,2", "3", "12"),
        ("0,3,10,2", "2", "11"),
        ("0,3,2,2", "2", "12"),
        ("10,2,0,3", "2", "12"),
        ("0,3,10,3", "2", "20"),
        ("0,3,10,1", "2", "20"),
        ("0,3,10", "2", "20"),
        ("", "0", "20"),
        ("0,3,9223372036854775807,2", "2", "9223372036854775807"),
        ("a,b", "1", "5"),
    ] {
        assert!(read(&with_map(map, blocks, size)).is_err(), "{map} {blocks} {size}");
    }
    let one = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "1000")];
    for text in [
        "1\n0\n5",
        "2\n0\n5\n",
        "x\n",
        "1\n-1\n5\n",
        "111111111111111111111111\n",
        "99999999999\n",
        "1\n0\n6\n",
    ] {
        let bytes = archive([pax(&one), file("s", &[padded(text.as_bytes()), b"abcde".to_vec()].concat())]);
        assert!(read(&bytes).is_err(), "{text:?}");
    }
    for records in [
        &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")][..],
        &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
        &[("GNU.sparse.name", "x")],
        &[("GNU.sparse.numbytes", "3")],
        &[("GNU.sparse.new", "3")],
        &[("GNU.sparse.size", "5"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.offset", "0")],
    ] {
        assert!(read(&archive([pax(records), file("s", b"abcde")])).is_err(), "{records:?}");
    }
}

#[test]
fn limits_are_kept_and_named() {
    let limits = |set: fn(&mut Limits)| {
        let mut limits = Limits::default();
        set(&mut limits);
        limits
    };
    let xattrs: Vec<u8> = (0..20).flat_map(|i| record(&format!("SCHILY.xattr.user.{i}"), "v")).collect();
    let sparse =
        [("GNU.sparse.size", "99"), ("GNU.sparse.numblocks", "3"), ("GNU.sparse.map", "0,1,10,1,20,1")];
    let bytes = archive([
        extended(b'x', &xattrs),
        file("f", b"abc"),
        pax(&sparse),
        file("s", b"abc"),
        link("l", b'2', "0123456789").to_vec(),
    ]);
    assert_eq!(read(&bytes).unwrap().len(), 3);
    for (limits, kind, says) in [
        (limits(|l| l.entries = 4), ErrorKind::TooLarge, "more than 4 entries"),
        (limits(|l| l.path = 9), ErrorKind::TooLarge, "more than 9 bytes"),
        (limits(|l| l.header = 100), ErrorKind::TooLarge, "more than 100 bytes"),
        (limits(|l| l.xattrs = 19), ErrorKind::TooLarge, "more than 19 extended attributes"),
        (limits(|l| l.extents = 2), ErrorKind::TooLarge, "more than 2 blocks"),
        (limits(|l| l.layer_bytes = 2048), ErrorKind::TooLarge, "larger than 2048 bytes"),
    ] {
        let error = read_with(&bytes, &limits, 100).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn an_announced_length_costs_nothing_before_its_bytes_come() {
    // Four MiB of records, a file of eight exbibytes, and the archive ends.
    let bytes = header("x", b'x', 4 << 20).to_vec();
    assert!(read(&bytes).is_err());
    let bytes = [pax(&[("size", "9223372036854775807")]), header("f", b'0', 0).to_vec()].concat();
    assert!(read(&bytes).is_err());
}

/// `umoci insert` writes such layers, without the blocks at the end besides; GNU tar complains, container tools do not.
#[test]
fn an_archive_may_end_in_the_padding_of_its_last_file_and_not_before() {
    let whole = [file("f", b"abc"), file("g", b"defg")].concat();
    let content = whole.len() - 512 + 4;
    for len in content..=whole.len() {
        assert_eq!(names(&whole[..len]), ["f", "g"], "{len}");
    }
    for len in (1..content).filter(|len| *len != 1024 && !(515..1024).contains(len)) {
        assert!(read(&whole[..len]).is_err(), "{len}");
    }
}
