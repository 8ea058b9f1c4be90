//! Names of containers and snapshots: they become directory names or stand in a command line, so they are checked once
//! and carried as a type.

use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The longest name in bytes.
pub const CONTAINER_NAME_MAX: usize = 128;

/// Checks a name by the rule of all names here.
fn check(text: &str, what: &'static str) -> Result<()> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let good = text.len() <= CONTAINER_NAME_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(inner);
    if good {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, what)
        .about(text)
        .because("a letter or digit, then letters, digits, `_`, `.` and `-`, at most 128 in all"))
}

/// A container's name: a letter or digit, then letters, digits, `_`, `.` and `-`; at most
/// [`CONTAINER_NAME_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(String);

impl ContainerName {
    /// Checks `text`.
    ///
    /// # Errors
    /// `EINVAL` for anything else than the rule above.
    pub fn new(text: &str) -> Result<Self> {
        check(text, "container name")?;
        Ok(Self(text.to_owned()))
    }

    /// A fresh name such as `calm-cedar-3f9a`: easy to say, unlikely to be taken.
    #[must_use]
    pub fn random() -> Self {
        const FIRST: [&str; 16] = [
            "amber", "brisk", "calm", "clear", "deep", "early", "fair", "firm", "keen", "light", "mild",
            "plain", "quiet", "sharp", "sound", "still",
        ];
        const SECOND: [&str; 16] = [
            "basalt", "birch", "cedar", "chalk", "clay", "delta", "fern", "flint", "gneiss", "loam", "marl",
            "moss", "reed", "shale", "slate", "tuff",
        ];
        let bits = RandomState::new().hash_one(std::time::SystemTime::now());
        let pick = |words: &[&'static str; 16], shift: u32| {
            words.iter().cycle().nth((bits >> shift) as usize % words.len()).copied().unwrap_or_default()
        };
        Self(format!("{}-{}-{:04x}", pick(&FIRST, 16), pick(&SECOND, 32), bits as u16))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ContainerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl AsRef<std::path::Path> for ContainerName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

/// A snapshot's name, by the same rule as [`ContainerName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks `text`.
    ///
    /// # Errors
    /// `EINVAL` for anything else than the rule of [`ContainerName`].
    pub fn new(text: &str) -> Result<Self> {
        check(text, "snapshot name")?;
        Ok(Self(text.to_owned()))
    }

    /// The name of a snapshot that was not given one.
    pub(super) fn numbered(number: usize) -> Self {
        Self(format!("snap-{number}"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SnapshotName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_directory_or_hide() {
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a\0", "ä", &"x".repeat(129)] {
            assert!(ContainerName::new(bad).is_err() && SnapshotName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "a.b", "A_b-c.9", &"x".repeat(128)] {
            assert_eq!(ContainerName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn random_names_are_valid_and_differ() {
        let names: Vec<_> = (0..20).map(|_| ContainerName::random()).collect();
        assert!(names.iter().all(|n| ContainerName::new(n.as_str()).is_ok()));
        assert!(names.iter().any(|n| *n != names[0]));
    }
}
