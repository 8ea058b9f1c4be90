//! What names in a layer archive mean (OCI image-spec, layer, "Whiteouts"): `.wh.NAME` deletes NAME, `.wh..wh..opq` makes
//! its directory opaque, and what else begins with `.wh..wh.` is AUFS's bookkeeping.
//!
//! Invariant: a whiteout names one thing in its own directory. What would delete `.`, `..` or nothing is an error.

use crate::{Error, ErrorKind, Result};
use stratafs_core::{NAME_MAX, Name};

/// The name whose presence makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

const PREFIX: &[u8] = b".wh.";
const BOOKKEEPING: &[u8] = b".wh..wh.";

/// The meaning of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// An entry like any other.
    Plain,
    /// This name is deleted.
    Whiteout(Name<'a>),
    /// The directory hides what is below.
    Opaque,
    /// Nothing, and nothing below it.
    Ignored,
}

/// What `name` means.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a whiteout of nothing, of `.` or of `..`.
pub fn meaning(name: &[u8]) -> Result<Meaning<'_>> {
    match name.strip_prefix(PREFIX) {
        None => Ok(Meaning::Plain),
        Some(_) if name == OPAQUE => Ok(Meaning::Opaque),
        Some(_) if name.starts_with(BOOKKEEPING) => Ok(Meaning::Ignored),
        Some(hidden) => match Name::new(hidden) {
            Ok(hidden) => Ok(Meaning::Whiteout(hidden)),
            Err(_) => Err(Error::new(ErrorKind::InvalidInput, "read whiteout").about(name).because(
                "a whiteout is .wh. and the name that it deletes, which is not empty and neither . nor ..",
            )),
        },
    }
}

/// The name of the entry that deletes `name`.
///
/// # Errors
/// [`ErrorKind::NameTooLong`] where the two together are too long for a name; [`ErrorKind::Unsupported`] for names that
/// begin with `.wh.`, whose whiteouts would be read as bookkeeping.
pub fn whiteout_name(name: Name<'_>) -> Result<Vec<u8>> {
    let fail = |kind, why: &str| Error::new(kind, "write whiteout").about(name.as_bytes()).because(why);
    if name.as_bytes().starts_with(PREFIX) {
        return Err(fail(
            ErrorKind::Unsupported,
            "the deletion of a name with .wh. cannot be in a layer archive",
        ));
    }
    let whiteout = [PREFIX, name.as_bytes()].concat();
    if whiteout.len() > NAME_MAX {
        let why = "with .wh. in front it is longer than a name may be, so its deletion cannot be in a layer archive";
        return Err(fail(ErrorKind::NameTooLong, why));
    }
    Ok(whiteout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_deleted() {
        let name = |bytes| Name::new(bytes).unwrap();
        assert_eq!(meaning(b"a").unwrap(), Meaning::Plain);
        assert_eq!(meaning(b"a.wh.b").unwrap(), Meaning::Plain);
        assert_eq!(meaning(b".wh.a").unwrap(), Meaning::Whiteout(name(b"a")));
        assert_eq!(meaning(b".wh....").unwrap(), Meaning::Whiteout(name(b"...")));
        assert_eq!(meaning(b".wh.wh.a").unwrap(), Meaning::Whiteout(name(b"wh.a")));
        assert_eq!(meaning(OPAQUE).unwrap(), Meaning::Opaque);
        for bookkeeping in
            [&b".wh..wh."[..], b".wh..wh.plnk", b".wh..wh.aufs", b".wh..wh..opq2", b".wh..wh.orph"]
        {
            assert_eq!(meaning(bookkeeping).unwrap(), Meaning::Ignored, "{}", bookkeeping.escape_ascii());
        }
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert_eq!(meaning(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for name in [&b"a"[..], b"...", b"wh.", &[b'x'; 251]] {
            let written = whiteout_name(Name::new(name).unwrap()).unwrap();
            assert_eq!(meaning(&written).unwrap(), Meaning::Whiteout(Name::new(name).unwrap()));
        }
        let long = whiteout_name(Name::new(&[b'x'; 252]).unwrap()).unwrap_err();
        assert_eq!(long.kind(), ErrorKind::NameTooLong);
        assert_eq!(whiteout_name(Name::new(b".wh.a").unwrap()).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
