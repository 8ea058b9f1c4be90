//! [`ImageName`]: what images are called, as in Docker's references: `[HOST[:PORT]/]PATH[:TAG]`.
//!
//! Invariants: a name has one spelling (Docker's own short one: `docker.io/library/debian` is `debian`), so one name is
//! one file; it is short enough for one, and reads back from it.

use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// The tag of a name that has none.
const LATEST: &str = "latest";
/// The longest tag (Docker's references).
const TAG_MAX: usize = 128;
/// What ends the name of a record.
const SUFFIX: &str = ".json";
/// The longest name in bytes: its file has [`SUFFIX`] besides.
const LENGTH_MAX: usize = 255 - SUFFIX.len();

/// The name of an image: repository and tag. Without a tag it is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: String,
}

impl ImageName {
    /// Checks `text`.
    ///
    /// # Errors
    /// `InvalidInput` that says which part is wrong; for a digest, which is no name; `NameTooLong`.
    pub fn new(text: &str) -> Result<Self> {
        let bad = |kind, why: &str| Err(Error::new(kind, "image name").about(text).because(why));
        let invalid = ErrorKind::InvalidInput;
        if text.contains('@') {
            return bad(invalid, "an image is named by repository and tag, not by digest");
        }
        let (repository, tag) = match text.rsplit_once(':') {
            // The colon of a port.
            Some((_, tag)) if tag.contains('/') => (text, LATEST),
            Some(parts) => parts,
            None => (text, LATEST),
        };
        let repository = short(repository);
        let (host, path) = split_host(repository);
        if !host.is_none_or(is_host) {
            return bad(invalid, "HOST or HOST:PORT is needed before the first slash");
        }
        if !path.split('/').all(is_component) {
            return match path.bytes().any(|b| b.is_ascii_uppercase()) {
                true => bad(invalid, "a repository is written in lower case; only the tag may have capitals"),
                false => bad(
                    invalid,
                    "a repository has parts of a-z and 0-9, joined by `/`, `.`, `_`, `__` or `-`",
                ),
            };
        }
        if !is_tag(tag) {
            return bad(
                invalid,
                "a tag is a letter, digit or `_`, then letters, digits, `_`, `.` and `-`, at most 128 in all",
            );
        }
        if repository.len() + 1 + tag.len() > LENGTH_MAX {
            return bad(ErrorKind::NameTooLong, "an image's name has at most 250 bytes");
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }

    /// The name without the tag.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The name of the file that holds the record. `+` is in no name.
    pub(super) fn file(&self) -> String {
        format!("{self}{SUFFIX}").replace('/', "+")
    }

    /// The image whose record has this file name.
    pub(super) fn from_file(file: &str) -> Option<Self> {
        let name = Self::new(&file.strip_suffix(SUFFIX)?.replace('+', "/")).ok()?;
        (name.file() == file).then_some(name)
    }

    /// A name made of the name of a file, `FILE.tar.gz`, whatever it looks like; `None` when nothing is left of it.
    pub(super) fn from_stem(file: &str, tag: Option<&str>) -> Option<Self> {
        let mut stem = file.to_ascii_lowercase();
        for suffix in [".gz", ".tgz", ".zst", ".zstd", ".tar", ".oci", ".docker"] {
            if let Some(rest) = stem.strip_suffix(suffix) {
                stem.truncate(rest.len());
            }
        }
        let kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let words: Vec<&str> =
            stem.split(|c| !kept(c) && c != '.').filter(|word| word.contains(kept)).collect();
        let stem = words.iter().map(|word| word.trim_matches('.')).collect::<Vec<_>>().join("-");
        Self::new(&format!("{stem}:{}", tag.unwrap_or(LATEST))).ok()
    }
}

/// Docker's short spelling of names in its own registry.
fn short(repository: &str) -> &str {
    let path = ["docker.io/", "index.docker.io/"].iter().find_map(|host| repository.strip_prefix(host));
    let path = path.unwrap_or(repository);
    match path.strip_prefix("library/") {
        Some(official) if !official.contains('/') => official,
        _ => path,
    }
}

/// The first part is a host where it could not be the beginning of a path.
fn split_host(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((first, path))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), path)
        }
        _ => (None, repository),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Words of `a-z0-9`, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<&u8>| b.is_some_and(|b| word(*b));
    let bytes = part.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && part
            .split(|c: char| c.is_ascii() && word(c as u8))
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let first = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    tag.len() <= TAG_MAX
        && tag.as_bytes().first().is_some_and(first)
        && tag.bytes().all(|b| first(&b) || matches!(b, b'.' | b'-'))
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.repository, self.tag))
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_good_name_is_one_file_and_reads_back() {
        for (text, name) in [
            ("debian", "debian:latest"),
            ("debian:12", "debian:12"),
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/me/app", "me/app:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("localhost/x:Tag_1.2-3", "localhost/x:Tag_1.2-3"),
            ("host.example/a__b/c--d:1", "host.example/a__b/c--d:1"),
            ("EXAMPLE/a", "EXAMPLE/a:latest"),
        ] {
            let read = ImageName::new(text).unwrap();
            assert_eq!(read.to_string(), name);
            assert_eq!(ImageName::from_file(&read.file()), Some(read.clone()));
            assert!(!read.file().contains('/'));
        }
    }

    #[test]
    fn what_is_no_name_says_why() {
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        for (text, says) in [
            ("", "a repository has parts"),
            ("Debian", "lower case"),
            ("a/B:c", "lower case"),
            (digest.as_str(), "not by digest"),
            ("a:", "a tag is"),
            ("a:.b", "a tag is"),
            ("a//b", "a repository has parts"),
            ("../a", "HOST"),
            ("a/..", "a repository has parts"),
            ("/a", "a repository has parts"),
            ("-a", "a repository has parts"),
            ("a..b", "a repository has parts"),
            ("a___b", "a repository has parts"),
            ("a+b", "a repository has parts"),
            ("h:x/a", "HOST"),
            ("a\0", "a repository has parts"),
            ("ä", "a repository has parts"),
        ] {
            let error = ImageName::new(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text:?}: {error}");
        }
        assert_eq!(ImageName::new(&"a".repeat(300)).unwrap_err().kind(), ErrorKind::NameTooLong);
        assert!(ImageName::new(&format!("a:{}", "t".repeat(129))).is_err());
        let longest = ImageName::new(&format!("{}:t", "a".repeat(248))).unwrap();
        assert_eq!(longest.file().len(), 255);
    }

    #[test]
    fn a_file_s_name_becomes_an_image_s() {
        let stem = |file: &str, tag| ImageName::from_stem(file, tag).map(|name| name.to_string());
        assert_eq!(stem("Debian 12.tar.gz", None).as_deref(), Some("debian-12:latest"));
        assert_eq!(stem("app_1.2.tgz", Some("x")).as_deref(), Some("app-1.2:x"));
        assert_eq!(stem("...", None), None);
        assert_eq!(stem("-.tar", None), None);
    }
}
