//! The values of overlayfs's own extended attributes: pure functions between bytes and core's marks.

use stratafs_core::{Error, ErrorKind, NlinkBase, Redirect, Result};

/// Hides what is below; on a directory of a lower layer, [`XWHITEOUTS`] is the other value.
pub(crate) const OPAQUE: &str = "opaque";
/// Another name in the layers below.
pub(crate) const REDIRECT: &str = "redirect";
/// The data is still below.
pub(crate) const METACOPY: &str = "metacopy";
/// What the object was copied up from.
pub(crate) const ORIGIN: &str = "origin";
/// The directory may hold copied-up entries.
pub(crate) const IMPURE: &str = "impure";
/// Link count bookkeeping.
pub(crate) const NLINK: &str = "nlink";
/// On an empty regular file: a whiteout.
pub(crate) const WHITEOUT: &str = "whiteout";

/// The value of a mark that only says yes.
pub(crate) const YES: &[u8] = b"y";
/// The value of [`OPAQUE`] on a directory that is not opaque but holds xattr whiteouts.
pub(crate) const XWHITEOUTS: &[u8] = b"x";

/// The fixed part of a metacopy value: version, length, flags, digest algorithm.
const METACOPY_HEADER: usize = 4;
/// The longest fs-verity digest in it (`FS_VERITY_MAX_DIGEST_SIZE`).
const DIGEST_MAX: usize = 64;

fn corrupt(what: &'static str, value: &[u8], why: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, what).because(format!("{why}; the value is \"{}\"", value.escape_ascii()))
}

/// Checks a metacopy value: empty, or a header with an fs-verity digest. The digest is accepted but not verified.
pub(crate) fn check_metacopy(value: &[u8]) -> Result<()> {
    let bad = |why| Err(corrupt("read metacopy mark", value, why));
    match value {
        [] => Ok(()),
        [version, ..] if *version != 0 => bad("its version is not 0"),
        [_, len, flags, ..] if value.len() >= METACOPY_HEADER => {
            if usize::from(*len) != value.len() {
                bad("its length field is wrong")
            } else if value.len() > METACOPY_HEADER + DIGEST_MAX {
                bad("its digest is too long")
            } else if *flags != 0 {
                bad("it has unknown flags")
            } else {
                Ok(())
            }
        }
        _ => bad("it is shorter than its header"),
    }
}

/// Reads a redirect.
pub(crate) fn parse_redirect(value: &[u8]) -> Result<Redirect> {
    Redirect::parse(value)
        .map_err(|_| corrupt("read redirect", value, "a component is empty, `.`, `..` or too long"))
}

/// Reads `U+1` or `L-2`.
pub(crate) fn parse_nlink(value: &[u8]) -> Result<NlinkBase> {
    let parse = || {
        let (base, number) = value.split_first()?;
        let number: i32 = std::str::from_utf8(number).ok()?.parse().ok()?;
        match base {
            b'U' => Some(NlinkBase::Upper(number)),
            b'L' => Some(NlinkBase::Lower(number)),
            _ => None,
        }
    };
    parse().ok_or_else(|| corrupt("read nlink mark", value, "it is not U or L and a number"))
}

/// Writes `U+1` or `L-2`.
pub(crate) fn encode_nlink(nlink: NlinkBase) -> String {
    match nlink {
        NlinkBase::Upper(n) => format!("U{n:+}"),
        NlinkBase::Lower(n) => format!("L{n:+}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nlink_reads_what_it_writes() {
        for nlink in [NlinkBase::Upper(1), NlinkBase::Upper(-1), NlinkBase::Lower(0), NlinkBase::Lower(-7)] {
            assert_eq!(parse_nlink(encode_nlink(nlink).as_bytes()).unwrap(), nlink);
        }
        assert_eq!(encode_nlink(NlinkBase::Upper(-1)), "U-1");
        assert_eq!(encode_nlink(NlinkBase::Lower(0)), "L+0");
        for bad in [&b""[..], b"U", b"X+1", b"U+", b"U+99999999999", b"U+1x", b"\xff\xff"] {
            assert_eq!(parse_nlink(bad).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn metacopy_is_empty_or_a_whole_header() {
        let mut digest = vec![0, 36, 0, 1];
        digest.resize(36, 7);
        for good in [&b""[..], &[0, 4, 0, 0], &digest] {
            check_metacopy(good).unwrap();
        }
        let mut long = vec![0, 80, 0, 1];
        long.resize(80, 0);
        for bad in [&b"y"[..], &[0], &[0, 4, 0], &[1, 4, 0, 0], &[0, 5, 0, 0], &[0, 4, 1, 0], &long] {
            assert_eq!(check_metacopy(bad).unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
        }
    }
}
