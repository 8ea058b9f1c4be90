//! Marks: what a layer says about an object besides its attributes, in overlayfs's terms (opaque, redirect,
//! metacopy, origin). How a backend stores them is its own affair; here they are data that was checked.

use crate::error::{Error, ErrorKind, Result};
use crate::name::{Name, NameBuf};
use std::fmt;

/// The longest redirect in bytes that is written. The kernel writes at most 256 (`redirect_max`) but reads any
/// length; past this a rename of a directory is `EXDEV`.
pub const REDIRECT_MAX: usize = crate::name::PATH_MAX - 1;

/// Under which other name the layers below know an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// Another name in the same directory.
    Sibling(NameBuf),
    /// Components from the root of the layers below.
    Absolute(Vec<NameBuf>),
}

impl Redirect {
    /// Reads the overlayfs form: a bare name, or `/` and components.
    ///
    /// # Errors
    /// `Corrupt` when a component is empty, `.` or `..`, or the whole is longer than a path may be.
    pub fn parse(value: &[u8]) -> Result<Self> {
        let bad = |why: &str| Error::new(ErrorKind::Corrupt, "read redirect").about(value).because(why);
        if value.len() > crate::name::PATH_MAX {
            return Err(bad("longer than a path may be"));
        }
        let name = |part: &[u8]| {
            NameBuf::new(part).map_err(|_| bad("a component is empty, `.`, `..` or over 255 bytes"))
        };
        match value.split_first() {
            Some((b'/', rest)) => {
                Ok(Self::Absolute(rest.split(|b| *b == b'/').map(name).collect::<Result<_>>()?))
            }
            _ => Ok(Self::Sibling(name(value)?)),
        }
    }

    /// Writes the overlayfs form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Sibling(name) => name.as_bytes().to_vec(),
            Self::Absolute(parts) => {
                let mut out = Vec::new();
                for part in parts {
                    out.push(b'/');
                    out.extend_from_slice(part.as_bytes());
                }
                out
            }
        }
    }

    /// A redirect to a sibling name.
    #[must_use]
    pub fn sibling(name: Name<'_>) -> Self {
        Self::Sibling(name.to_buf())
    }
}

/// A lower object's lasting identity as bytes that the backend of the layers understands (for directories the
/// kernel's `overlay.origin` value). The key of the hard-link index.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(Box<[u8]>);

impl Origin {
    /// Wraps what a backend made. Empty means: copied up, but from what is not known.
    #[must_use]
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when the origin is not known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin(")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

/// The link count of an indexed object, relative to a real one so that it stays right when the step that
/// changes the real count is the commit point (overlayfs `nlink`: `U+1`, `L-2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NlinkBase {
    /// Merged count = the scratch object's count + this.
    Upper(i32),
    /// Merged count = the lower object's count + this.
    Lower(i32),
}

/// Everything a layer says about one object besides its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// A directory that hides what the layers below have at its name.
    pub opaque: bool,
    /// The layers below know the object under another name.
    pub redirect: Option<Redirect>,
    /// A file whose data is still in a layer below.
    pub metacopy: bool,
    /// Copied up from this.
    pub origin: Option<Origin>,
    /// A scratch directory that may hold copied-up entries.
    pub impure: bool,
    /// Link count bookkeeping of an indexed object.
    pub nlink: Option<NlinkBase>,
}

/// One mark to set on an object of the scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// Hide what is below.
    Opaque,
    /// Known below under another name.
    Redirect(&'a Redirect),
    /// Data is still below.
    Metacopy,
    /// Data is here now: removes the metacopy mark. The commit point of a data copy-up.
    OwnData,
    /// Copied up from this.
    Origin(&'a Origin),
    /// The directory may hold copied-up entries.
    Impure,
    /// Link count bookkeeping.
    Nlink(NlinkBase),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_read_back_and_refuse_escapes() {
        for good in [&b"name"[..], b"/a", b"/a/b/c", b"...", b"/.wh.x"] {
            assert_eq!(Redirect::parse(good).unwrap().encode(), good);
        }
        for bad in [&b""[..], b"/", b"/..", b"..", b"a/b", b"/a//b", b"/a/../../etc", b"/a/", b"/./a"] {
            assert!(Redirect::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
