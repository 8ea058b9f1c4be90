//! What this process sees mounted: a reader of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Paths are bytes,
//! unescaped.

use crate::{Error, Result};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted, seen from this process' root.
    pub target: PathBuf,
    /// Options of this mount: `ro`, `nosuid`, ...
    pub options: Vec<String>,
    /// The file system's type: `ext4`, `overlay`, ...
    pub kind: String,
    /// What the mounter named as the source.
    pub source: Vec<u8>,
    /// Options of the file system.
    pub super_options: Vec<u8>,
}

impl Mount {
    /// The value of one option of the file system, unescaped: `upperdir` of an overlay.
    #[must_use]
    pub fn super_option(&self, key: &str) -> Option<Vec<u8>> {
        self.super_options.split(|b| *b == b',').find_map(|option| {
            let value = option.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
            Some(unescape(value))
        })
    }
}

/// Everything that this process sees mounted, in the order in which it was mounted.
///
/// # Errors
/// When `/proc` is not mounted or cannot be read.
pub fn mounts() -> Result<Vec<Mount>> {
    const FILE: &str = "/proc/self/mountinfo";
    let text = std::fs::read(FILE).map_err(|e| Error::io(e, "read").about(FILE))?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

/// The mounts at or below `dir`.
///
/// # Errors
/// As [`mounts`].
pub fn below(dir: &Path) -> Result<Vec<Mount>> {
    Ok(mounts()?.into_iter().filter(|m| m.target.starts_with(dir)).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let target = fields.nth(4)?;
    let options = fields.next()?;
    let mut rest = fields.skip_while(|f| *f != b"-").skip(1);
    let (kind, source) = (rest.next()?, rest.next()?);
    let super_options = rest.next().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Mount {
        target: PathBuf::from(std::ffi::OsString::from_vec(unescape(target))),
        options: options.split(|b| *b == b',').map(text).collect(),
        kind: text(kind),
        source: unescape(source),
        super_options: super_options.to_vec(),
    })
}

/// Undoes the kernel's `\040` escapes for space, tab, newline, comma and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal =
            |at: usize| tail.get(at).filter(|b| (b'0'..=b'7').contains(*b)).map(|b| u32::from(b - b'0'));
        match (first, octal(0), octal(1), octal(2)) {
            (b'\\', Some(a), Some(b), Some(c)) if a < 4 => {
                out.extend(u8::try_from(a * 64 + b * 8 + c));
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_parse_with_optional_fields_and_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:2 - overlay strata:/a\134b rw,lowerdir=/l,upperdir=/u\040p";
        let mount = parse(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt 2"));
        assert_eq!(mount.options, ["rw", "noatime"]);
        assert_eq!(mount.kind, "overlay");
        assert_eq!(mount.source, br"strata:/a\b");
        assert_eq!(mount.super_option("upperdir").unwrap(), b"/u p");
        assert_eq!(mount.super_option("upper"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 3 4 /x rw"), None);
    }

    #[test]
    fn damaged_escapes_stay_as_they_are() {
        assert_eq!(unescape(br"a\0"), br"a\0");
        assert_eq!(unescape(br"\999"), br"\999");
        assert_eq!(unescape(br"\777"), br"\777");
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(below(Path::new("/")).unwrap().iter().any(|mount| mount.target == Path::new("/")));
        assert!(below(Path::new("/nowhere/at/all")).unwrap().is_empty());
    }
}
