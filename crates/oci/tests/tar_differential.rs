//! Malformed and odd archives, by chance: what is read here is what GNU tar reads, and where that refuses, what Python's
//! tarfile reads; or it is refused. Refusing is always allowed, for it cannot be exploited.
//!
//! `STRATAFS_SEED` and `STRATAFS_CASES` choose the archives; a failure prints the seed of the one archive.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod tar_help;

use tar_help::*;

/// Differences that are meant, and why.
fn meant(bytes: &[u8], gnu: &Verdict) -> Option<&'static str> {
    let refusal = gnu.as_ref().err()?;
    // Nothing of an entry is missing, only zeros that mean nothing.
    if !bytes.len().is_multiple_of(512) && refusal.contains("Unexpected EOF") {
        return Some("an archive that ends in its last padding is whole for Go");
    }
    // Python may stop at another header then, or put a prefix before the name that GNU and Go do not see.
    refusal.contains("Blanks in header").then_some("a number of blanks is 0 for Go and Python")
}

const NAMES: &[&str] = &["a", "dir/", "dir/file", "b", "c/", "./", "x y", "\u{e9}", "a//b", "../up", "/abs"];

const NUMBERS: &[&[u8]] = &[
    b"00000000000\0",
    b"00000000003 ",
    b"          7 ",
    b"17\x00000000000",
    b"\0\0\0\0\0\0\0\0\0\0\0\0",
    b"            ",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x05",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
    b"777777777777",
    b"-0000000001\0",
    b"0x1\0\0\0\0\0\0\0\0\0",
    b"00000000009\0",
    b"\x0000000000001",
    b"\x000000000001",
    b"5\0garbage!!\0",
    b"+AAAAAAAAAAB",
    b"00000001000\0",
];

const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "atime",
    "comment",
    "SCHILY.xattr.user.a",
    "hdrcharset",
    "uname",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.numblocks",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
];

const VALUES: &[&str] = &[
    "0",
    "1",
    "3",
    "512",
    "600",
    "513",
    "a",
    "dir/",
    "b/c",
    "",
    "-1",
    "1.5",
    "-1.5",
    "1e3",
    "0x10",
    " 1",
    "1 ",
    "+1",
    "007",
    "99999999999999999999",
    "4294967295",
    "4294967294",
    "BINARY",
    "new\nline",
    "0,3",
    "3,0",
    "0,512,600,88",
];

/// An archive of a few entries, most of them right, some with something wrong.
fn make(chance: &mut Chance) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + chance.below(3) {
        while chance.once_in(4) {
            out.extend(before(chance));
        }
        out.extend(entry(chance));
    }
    if !chance.once_in(6) {
        out.extend(end());
    }
    match chance.below(20) {
        0 => {
            let len = chance.below(out.len() + 1);
            out.truncate(len);
        }
        1 => {
            let block = chance.below(out.len() / 512 + 1) * 512;
            out.splice(block..block, [0; 512]);
        }
        2 => out.extend_from_slice(b"something after the end"),
        3 => {
            let at = chance.below(out.len());
            out[at] ^= 1 << chance.below(8);
        }
        _ => {}
    }
    out
}

/// An extended header or a long name.
fn before(chance: &mut Chance) -> Vec<u8> {
    match chance.below(8) {
        0 => {
            let mut name = chance.of(&["long", "dir/", "l/ong", ""]).as_bytes().to_vec();
            name.extend(vec![0; chance.below(3)]);
            let kind = chance.of(b"LK");
            let made = with(header("././@LongLink", kind, name.len() as u64), 257, GNU);
            return piece(made, &name);
        }
        1 => {
            let records = [record("comment", "x"), record("mtime", chance.of(VALUES))].concat();
            return extended(b'g', &records);
        }
        _ => {}
    }
    let mut records = Vec::new();
    for _ in 0..1 + chance.below(3) {
        let mut one =
            if chance.once_in(2) { likely(chance) } else { record(chance.of(KEYS), chance.of(VALUES)) };
        match chance.below(28) {
            0 => one[0] = one[0].wrapping_add(1),
            1 => one[0] = one[0].wrapping_sub(1),
            2 => one.retain(|b| *b != b'='),
            3 => {
                one.pop();
            }
            4 => {
                let again = one.clone();
                one.extend(again);
            }
            5 => one.insert(0, b'0'),
            6 => {
                let at = chance.below(one.len());
                one[at] = chance.of(b"\0 =\n9a");
            }
            _ => {}
        }
        records.extend(one);
    }
    let mut made = extended(chance.of(b"xxxxxxxg"), &records);
    if chance.once_in(20) {
        made[0] = b'?';
    }
    made
}

fn entry(chance: &mut Chance) -> Vec<u8> {
    let kind = chance.of(b"000000000000000\x001112225555346677SxL?D");
    let size = if matches!(kind, b'0' | 0 | b'7') || chance.once_in(8) { chance.below(1100) } else { 0 };
    let mut made = header(chance.of(NAMES), kind, size as u64);
    if matches!(kind, b'1' | b'2') || chance.once_in(20) {
        put(&mut made, 157, chance.of(&["a", "dir/file", "..", "/etc", ""]).as_bytes());
    }
    if chance.once_in(5) {
        put(
            &mut made,
            257,
            chance.of(&[GNU, b"\0\0\0\0\0\0\0\0", b"ustar\0\0\0", b"ustar   ", b"USTAR\x0000"]),
        );
    }
    if chance.once_in(10) {
        put(&mut made, 345, b"prefix");
    }
    if chance.once_in(8) {
        // Mode, uid, gid, size, mtime, devices.
        let (at, len) =
            chance.of(&[(100, 8), (108, 8), (116, 8), (124, 12), (124, 12), (136, 12), (329, 8), (337, 8)]);
        let number = chance.of(NUMBERS);
        put(&mut made, at, &number[12 - len..]);
    }
    sum(&mut made);
    if chance.once_in(10) {
        let at = chance.below(512);
        made[at] = chance.of(b"\0 07a\x80\xff");
        if !chance.once_in(4) {
            sum(&mut made);
        }
    }
    let data: Vec<u8> = (0..size).map(|i| (i * 7 + size) as u8).collect();
    piece(made, &data)
}

#[test]
fn odd_archives_read_as_gnu_tar_and_python_read_them_or_not_at_all() {
    if !tool("tar") || !tool("python3") {
        return;
    }
    let seed = number("STRATAFS_SEED", 20_261_121);
    let cases = number("STRATAFS_CASES", 600) as usize;
    println!("seed {seed}, {cases} archives");
    let dir = tempfile::tempdir().unwrap();
    let mut archives = Vec::new();
    for case in 0..cases {
        let mut chance = Chance(seed.wrapping_mul(1_000_003).wrapping_add(case as u64));
        let bytes = make(&mut chance);
        // An archive that ends in the padding of its last file is one for container tools, and not for these.
        let mut filled = bytes.clone();
        filled.resize(bytes.len().next_multiple_of(512), 0);
        std::fs::write(dir.path().join(format!("{case}.tar")), &filled).unwrap();
        archives.push(bytes);
    }
    let pythons = python(dir.path(), cases);
    let (mut read_by_all, mut failures) = (0, 0);
    for (case, (bytes, python)) in archives.iter().zip(&pythons).enumerate() {
        let Ok(ours) = read(bytes) else { continue };
        // GNU tar writes holes by seeking, which does not work on a pipe.
        let contents = ours.iter().all(|(entry, _)| entry.sparse.is_none());
        let path = dir.path().join(format!("{case}.tar"));
        let gnu = gnu(&path, contents);
        let (mine_gnu, mine_python) =
            (as_gnu(&ours, contents), ours.iter().map(as_python).collect::<Vec<_>>());
        let same = match (&gnu, python) {
            (Ok(gnu), _) => *gnu == mine_gnu,
            (Err(_), Ok(python)) => *python == mine_python,
            (Err(_), Err(_)) => false,
        };
        if same {
            read_by_all += usize::from(gnu.is_ok() && *python == Ok(mine_python));
        } else if meant(bytes, &gnu).is_none() {
            failures += 1;
            println!(
                "case {case} of seed {seed}\n ours   {mine_gnu:#?}\n gnu    {gnu:#?}\n python {python:#?}"
            );
        }
    }
    println!("{read_by_all} of {cases} archives are read the same by all three");
    assert_eq!(failures, 0, "archives of seed {seed} are read differently");
    assert!(read_by_all * 10 > cases, "too few archives are right at all");
}

/// A record whose value is of the right form.
fn likely(chance: &mut Chance) -> Vec<u8> {
    match chance.below(5) {
        0 => record("path", chance.of(NAMES)),
        1 => record("size", chance.of(&["0", "3", "512", "600"])),
        2 => record("mtime", chance.of(&["5", "5.25", "-1.5", "-2", "1000000000.123456789"])),
        3 => record(chance.of(&["uid", "gid"]), chance.of(&["0", "1000", "4294967294"])),
        _ => record("linkpath", chance.of(NAMES)),
    }
}
