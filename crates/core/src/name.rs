//! Names: one validated path component as bytes. Invariant: a [`Name`] is never empty, `.` or `..`, holds
//! neither `/` nor NUL, and is at most [`NAME_MAX`] bytes long. Names are bytes and never converted lossily.

use crate::error::{Error, ErrorKind, Result};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name in bytes, as on Linux (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// The longest path in bytes that one call accepts (`PATH_MAX`); deeper trees are reached step by step.
pub const PATH_MAX: usize = 4096;

/// One path component, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks `bytes` as a single component.
    ///
    /// # Errors
    /// `ENAMETOOLONG` past [`NAME_MAX`] bytes; `EINVAL` for an empty name, `.`, `..`, a slash or a NUL.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > NAME_MAX {
            return Err(Error::new(ErrorKind::NameTooLong, "name").about(bytes));
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|b| matches!(b, b'/' | 0))
        {
            return Err(Error::new(ErrorKind::InvalidInput, "name")
                .about(bytes)
                .because("a name is one component: not empty, not `.` or `..`, without `/` and NUL"));
        }
        Ok(Self(bytes))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// An owned copy.
    #[must_use]
    pub fn to_buf(&self) -> NameBuf {
        NameBuf(Arc::from(self.0))
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// One path component, owned; cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameBuf(Arc<[u8]>);

impl NameBuf {
    /// Checks and copies `bytes`.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn new(bytes: &[u8]) -> Result<Self> {
        Name::new(bytes).map(|n| n.to_buf())
    }

    /// The borrowed form.
    #[must_use]
    pub fn as_name(&self) -> Name<'_> {
        Name(&self.0)
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for NameBuf {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_name().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_pass() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
        for good in [&b"a"[..], b"...", b".wh.a", b"\xff\xfe", &[b'x'; 255]] {
            assert!(Name::new(good).is_ok());
        }
    }
}
