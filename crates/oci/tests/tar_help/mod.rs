//! Archives made by hand, byte for byte, and a way to read them that checks on the side that nothing is lost.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, reason = "every test file uses a part")]

use std::path::Path;
use std::process::Command;
use stratafs_oci::tar::{Entry, Reader, Tap};
use stratafs_oci::{Limits, Result};

/// A header of 512 bytes.
pub type Header = [u8; 512];

/// POSIX's magic and version.
pub const USTAR: &[u8; 8] = b"ustar\x0000";
/// GNU's.
pub const GNU: &[u8; 8] = b"ustar  \0";

/// A ustar header with mode 644, time 1 and this size.
pub fn header(name: impl AsRef<[u8]>, kind: u8, size: u64) -> Header {
    let mut header = [0; 512];
    put(&mut header, 0, name.as_ref());
    put(&mut header, 100, b"0000644\0");
    put(&mut header, 108, b"0000000\0");
    put(&mut header, 116, b"0000000\0");
    put(&mut header, 124, format!("{size:011o}\0").as_bytes());
    put(&mut header, 136, b"00000000001\0");
    header[156] = kind;
    put(&mut header, 257, USTAR);
    put(&mut header, 329, b"0000000\0");
    put(&mut header, 337, b"0000000\0");
    sum(&mut header);
    header
}

/// Writes into a header, without mending its checksum.
pub fn put(header: &mut Header, at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The header with these bytes there and a right checksum.
pub fn with(mut header: Header, at: usize, bytes: &[u8]) -> Header {
    put(&mut header, at, bytes);
    sum(&mut header);
    header
}

/// A link's header.
pub fn link(name: &str, kind: u8, target: &str) -> Header {
    with(header(name, kind, 0), 157, target.as_bytes())
}

/// Makes the checksum right.
pub fn sum(header: &mut Header) {
    put(header, 148, b"        ");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    put(header, 148, format!("{sum:06o}\0 ").as_bytes());
}

/// Data filled up to a block.
pub fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

/// A header and its data.
pub fn piece(header: Header, data: &[u8]) -> Vec<u8> {
    [&header[..], &padded(data)].concat()
}

/// A regular file.
pub fn file(name: &str, data: &[u8]) -> Vec<u8> {
    piece(header(name, b'0', data.len() as u64), data)
}

/// One record of an extended header.
pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut len = key.len() + value.len() + 3;
    while len != key.len() + value.len() + 3 + len.to_string().len() {
        len = key.len() + value.len() + 3 + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An extended header with these records.
pub fn extended(kind: u8, records: &[u8]) -> Vec<u8> {
    piece(header("PaxHeaders/x", kind, records.len() as u64), records)
}

/// An extended header `x` of these keys and values.
pub fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    extended(b'x', &records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>())
}

/// The end of an archive.
pub fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// All pieces and an end.
pub fn archive<const N: usize>(pieces: [Vec<u8>; N]) -> Vec<u8> {
    [pieces.concat(), end()].concat()
}

/// An entry, and its content as pieces with their offsets.
pub type Read = (Entry, Vec<(u64, Vec<u8>)>);

/// Everything heard and read, in order.
pub struct Joined(pub Vec<u8>);

impl Tap for Joined {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads an archive. What the tap heard and the contents together must be the archive, and on an error a beginning of it.
pub fn read(bytes: &[u8]) -> Result<Vec<Read>> {
    read_with(bytes, &Limits::default(), 700)
}

/// As [`read`], with a buffer of this size.
pub fn read_with(bytes: &[u8], limits: &Limits, buffer: usize) -> Result<Vec<Read>> {
    let mut reader = Reader::new(bytes, limits).with_tap(Joined(Vec::new()));
    let mut entries = Vec::new();
    let mut buf = vec![0; buffer];
    let result = (|| {
        while let Some(entry) = reader.next()? {
            let mut pieces = Vec::new();
            while let Some((offset, n)) = reader.next_data(&mut buf)? {
                reader.tap_mut().0.extend_from_slice(&buf[..n]);
                pieces.push((offset, buf[..n].to_vec()));
            }
            let stored: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
            assert_eq!(stored as u64, entry.stored());
            entries.push((entry, pieces));
        }
        Ok(())
    })();
    let joined = &reader.tap_mut().0;
    match &result {
        Ok(()) => assert!(*joined == bytes, "{} bytes of {} came together again", joined.len(), bytes.len()),
        Err(_) => assert!(bytes.starts_with(joined), "what was read is a beginning"),
    }
    result.map(|()| entries)
}

/// A file as a whole, holes as zeros.
pub fn whole((entry, pieces): &Read) -> Vec<u8> {
    assert!(entry.size <= 1 << 30, "too large for a test");
    let mut bytes = vec![0; entry.size as usize];
    for (offset, piece) in pieces {
        bytes[*offset as usize..][..piece.len()].copy_from_slice(piece);
    }
    bytes
}

/// Says that a test is skipped for want of `what`, which `STRATAFS_REQUIRE_ALL` forbids.
pub fn skip(what: &str) {
    let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
    assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: {what}");
    println!("skipped: {what}");
}

/// True if the tool answers to `--version`; else says that the test is skipped.
pub fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        skip(name);
    }
    found
}

/// A number from the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Numbers by chance, the same for the same seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// What another reader says of an archive: the lines of its entries, or why not.
pub type Verdict = std::result::Result<Vec<String>, String>;

/// Python's tarfile on all archives `0.tar`, `1.tar` … in `dir`, in one process.
pub fn python(dir: &Path, count: usize) -> Vec<Verdict> {
    const SCRIPT: &str = r#"
import sys, tarfile, hashlib, math, os
def name(text): return text.encode("utf-8", "surrogateescape").hex()
for i in range(int(sys.argv[2])):
    try:
        lines = []
        with tarfile.open(os.path.join(sys.argv[1], "%d.tar" % i), "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for m in tar:
                kind = ("f" if m.isreg() else "d" if m.isdir() else "l" if m.issym() else "h" if m.islnk()
                        else "c" if m.ischr() else "b" if m.isblk() else "p" if m.isfifo() else "?")
                digest = "-"
                if kind == "f":
                    data = tar.extractfile(m).read() if m.size < 1 << 24 else b"?"
                    if len(data) != m.size and m.size < 1 << 24: raise Exception("short content")
                    digest = hashlib.sha256(data).hexdigest()
                link = name(m.linkname) if kind in "lh" else "-"
                size = m.size if kind == "f" else 0
                dev = "%d,%d" % (m.devmajor, m.devminor) if kind in "cb" else "-"
                path = name(m.name.rstrip("/") if kind == "d" and m.name.rstrip("/") else m.name)
                lines.append("%s %s %s %d %o %d/%d %d %s %s" % (kind, path, link, size, m.mode & 0o7777, m.uid, m.gid, math.floor(m.mtime), dev, digest))
        print("ok %d" % len(lines))
        for line in lines: print(line)
    except Exception as e:
        print("no " + repr(e).replace("\n", " ")[:200])
"#;
    let output = Command::new("python3")
        .args(["-I", "-c", SCRIPT])
        .arg(dir)
        .arg(count.to_string())
        .output()
        .expect("python3 runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = text.lines();
    let mut verdicts = Vec::new();
    for _ in 0..count {
        let first = lines.next().unwrap_or_else(|| {
            panic!("python3 ended too early: {}", String::from_utf8_lossy(&output.stderr))
        });
        verdicts.push(match first.split_once(' ') {
            Some(("ok", n)) => Ok(lines.by_ref().take(n.parse().unwrap()).map(String::from).collect()),
            _ => Err(first.to_string()),
        });
    }
    verdicts
}

/// One of our entries, as the script above writes it.
pub fn as_python(read: &Read) -> String {
    use stratafs_oci::tar::EntryKind as K;
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let entry = &read.0;
    let (kind, link, device) = match &entry.kind {
        K::File => ("f", None, None),
        K::Dir => ("d", None, None),
        K::Symlink(target) => ("l", Some(target), None),
        K::Hardlink(target) => ("h", Some(target), None),
        K::Char(device) => ("c", None, Some(device)),
        K::Block(device) => ("b", None, Some(device)),
        K::Fifo => ("p", None, None),
    };
    let digest = match entry.kind {
        K::File if entry.size < 1 << 24 => stratafs_oci::Digest::of(&whole(read)).hex(),
        K::File => stratafs_oci::Digest::of(b"?").hex(),
        _ => "-".into(),
    };
    format!(
        "{kind} {} {} {} {:o} {}/{} {} {} {digest}",
        hex(&entry.path),
        link.map_or("-".into(), |target| hex(target)),
        entry.size,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime.secs,
        device.map_or("-".into(), |d| format!("{},{}", d.major, d.minor)),
    )
}

/// GNU tar's listing of an archive, and as last line a digest of all contents one after the other unless a file is sparse or
/// large.
pub fn gnu(path: &Path, contents: bool) -> Verdict {
    let run = |args: &[&str]| {
        let output = Command::new("tar")
            .args(args)
            .arg("-f")
            .arg(path)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("LC_ALL", "C"), ("TZ", "UTC0")])
            .output()
            .expect("tar runs");
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let listing = run(&["-tvP", "--full-time", "--numeric-owner", "--quoting-style=escape"])?;
    let text = String::from_utf8(listing).expect("escaped");
    let mut lines: Vec<String> = text.lines().map(normal).collect();
    if contents {
        let out = run(&["-xOP"])?;
        lines.push(stratafs_oci::Digest::of(&out).hex());
    }
    Ok(lines)
}

/// A line of a listing with single blanks between its columns, without fractions of seconds, a directory without its slashes.
fn normal(line: &str) -> String {
    let mut columns = Vec::new();
    let mut rest = line;
    for _ in 0..5 {
        let (column, after) = rest.trim_start().split_once(' ').expect("a column");
        columns.push(column);
        rest = after;
    }
    let (mode, owner, size, date, time) = (columns[0], columns[1], columns[2], columns[3], columns[4]);
    let time = time.split('.').next().unwrap();
    // Columns are as wide as the widest so far.
    let rest = rest.trim_start();
    // A contiguous file is a file.
    let mode = &mode.replacen('C', "-", 1);
    let size = if mode.starts_with(['-', 'c', 'b']) { size } else { "0" };
    let name = if mode.starts_with('d') && !rest.trim_end_matches('/').is_empty() {
        rest.trim_end_matches('/')
    } else {
        rest
    };
    format!("{mode} {owner} {size} {date} {time} {name}")
}

/// Our entries as [`gnu`] gives them.
pub fn as_gnu(entries: &[Read], contents: bool) -> Vec<String> {
    use stratafs_oci::tar::EntryKind as K;
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for read in entries {
        let entry = &read.0;
        let kind = match entry.kind {
            K::File => '-',
            K::Dir => 'd',
            K::Symlink(_) => 'l',
            K::Hardlink(_) => 'h',
            K::Char(_) => 'c',
            K::Block(_) => 'b',
            K::Fifo => 'p',
        };
        let size = match &entry.kind {
            K::Char(d) | K::Block(d) => format!("{},{}", d.major, d.minor),
            _ => entry.size.to_string(),
        };
        let link = match &entry.kind {
            K::Symlink(target) => format!(" -> {}", quoted(target)),
            K::Hardlink(target) => format!(" link to {}", quoted(target)),
            _ => String::new(),
        };
        // The listing rounds a fraction towards 1970, what is unpacked has the right time.
        let towards = i64::from(entry.mtime.secs < 0 && entry.mtime.nanos > 0);
        lines.push(format!(
            "{kind}{} {}/{} {size} {} {}{link}",
            bits(entry.mode),
            entry.uid,
            entry.gid,
            date(entry.mtime.secs + towards),
            // Not told from the blanks between columns.
            quoted(&entry.path).trim_start()
        ));
        if contents && entry.kind == K::File {
            all.extend_from_slice(&whole(read));
        }
    }
    if contents {
        lines.push(stratafs_oci::Digest::of(&all).hex());
    }
    lines
}

fn bits(mode: u32) -> String {
    let mut text: Vec<u8> = b"rwxrwxrwx".to_vec();
    for (i, c) in text.iter_mut().enumerate() {
        if mode & (0o400 >> i) == 0 {
            *c = b'-';
        }
    }
    for (bit, at, set, unset) in [(0o4000, 2, b's', b'S'), (0o2000, 5, b's', b'S'), (0o1000, 8, b't', b'T')] {
        if mode & bit != 0 {
            text[at] = if text[at] == b'x' { set } else { unset };
        }
    }
    String::from_utf8(text).unwrap()
}

/// As `--quoting-style=escape` in the C locale.
fn quoted(name: &[u8]) -> String {
    let mut text = String::new();
    for byte in name {
        match byte {
            b'\\' => text.push_str("\\\\"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            9 => text.push_str("\\t"),
            10 => text.push_str("\\n"),
            11 => text.push_str("\\v"),
            12 => text.push_str("\\f"),
            13 => text.push_str("\\r"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\{other:03o}")),
        }
    }
    text
}

/// A date and time of day in UTC.
fn date(secs: i64) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Civil calendar from days, in eras of 400 years that begin in March.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}
