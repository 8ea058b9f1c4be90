//! [`Dump`]: a tree as text, one line an object, sorted by path. Two trees are the same when their dumps are.
//!
//! Times: a generated time is long past. A modification time after [`PRESENT`] prints as `now`, so that a dump
//! compares exactly what was set or left alone, and only that the rest changed. The root's own line is left
//! out: its attributes come from how a scratch was made, not from the layers.

use crate::path::Path;
use crate::rng::mix;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write};
use stratafs_core::{Device, Kind, Time};

/// 2024-01-01: generated times are before it, clocks are after it.
pub const PRESENT: i64 = 1_704_067_200;

/// When an object's data last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// By an operation of the run.
    Now,
    /// At a time that was set or that a layer has.
    At(Time),
}

impl From<Time> for Stamp {
    fn from(time: Time) -> Self {
        if time.secs >= PRESENT { Self::Now } else { Self::At(time) }
    }
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file's size and the hash of its bytes.
    File {
        /// Bytes.
        size: u64,
        /// [`hash`] of them.
        hash: u64,
    },
    /// A link's target.
    Target(Vec<u8>),
    /// Nothing of its own.
    None,
}

impl Content {
    /// Of a file with these bytes.
    #[must_use]
    pub fn file(bytes: &[u8]) -> Self {
        Self::File { size: bytes.len() as u64, hash: hash(bytes) }
    }
}

/// A hash to compare contents by; not cryptographic.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut state = mix(bytes.len() as u64);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0u64, |word, b| (word << 8) | u64::from(*b));
        state = mix(state.rotate_left(5) ^ word);
    }
    chunks.remainder().iter().fold(state, |state, b| mix(state ^ u64::from(*b)))
}

/// One object as a subject sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of stat(2)")]
pub struct Object {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: Device,
    pub nlink: u32,
    pub mtime: Stamp,
    /// Which objects are the same one.
    pub id: (u64, u64),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub content: Content,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:04o} {}:{}", self.kind, self.mode, self.uid, self.gid)?;
        if self.kind != Kind::Dir {
            write!(f, " nlink={}", self.nlink)?;
        }
        if matches!(self.kind, Kind::Char | Kind::Block) {
            write!(f, " rdev={}:{}", self.rdev.major, self.rdev.minor)?;
        }
        match self.mtime {
            Stamp::Now => f.write_str(" mtime=now")?,
            Stamp::At(t) => write!(f, " mtime={}.{:09}", t.secs, t.nanos)?,
        }
        match &self.content {
            Content::File { size, hash } => write!(f, " size={size} data={hash:016x}")?,
            Content::Target(target) => write!(f, " -> {}", target.escape_ascii())?,
            Content::None => {}
        }
        for (name, value) in &self.xattrs {
            write!(f, " {}=", name.escape_ascii())?;
            value.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        }
        Ok(())
    }
}

/// A tree as text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Dump {
    lines: BTreeMap<Path, String>,
}

impl Dump {
    /// From all objects of a tree but the root.
    #[must_use]
    pub fn new(mut objects: Vec<(Path, Object)>) -> Self {
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        let mut names = HashMap::<(u64, u64), Vec<usize>>::new();
        for (at, (_, object)) in objects.iter().enumerate() {
            if object.kind != Kind::Dir {
                names.entry(object.id).or_default().push(at);
            }
        }
        let line = |(path, object): &(Path, Object)| {
            let mut text = object.to_string();
            let group = names.get(&object.id).filter(|g| g.len() > 1 && object.kind != Kind::Dir);
            if let Some(first) = group.and_then(|g| g.first()) {
                let _ = write!(text, " same-as={}", objects[*first].0);
            }
            (path.clone(), text)
        };
        Self { lines: objects.iter().map(line).collect() }
    }

    /// The paths in it.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        self.lines.keys().cloned().collect()
    }

    /// The text for one path.
    #[must_use]
    pub fn line(&self, path: &Path) -> Option<&str> {
        self.lines.get(path).map(String::as_str)
    }

    /// The lines that differ, those of `self` with `-`, those of `other` with `+`; `None` when none do.
    #[must_use]
    pub fn diff(&self, other: &Self) -> Option<String> {
        self.diff_but(other, &|a, b| a == b)
    }

    /// As [`Dump::diff`], with lines of one path compared by `same`.
    #[must_use]
    pub fn diff_but(&self, other: &Self, same: &dyn Fn(&str, &str) -> bool) -> Option<String> {
        let mut out = String::new();
        let mut side = |sign: char, path: &Path, line: Option<&String>| {
            if let Some(line) = line {
                let _ = writeln!(out, "{sign} {path} {line}");
            }
        };
        let all = self.lines.keys().chain(other.lines.keys().filter(|p| !self.lines.contains_key(*p)));
        for path in all {
            let (a, b) = (self.lines.get(path), other.lines.get(path));
            if !a.zip(b).is_some_and(|(a, b)| same(a, b)) {
                side('-', path, a);
                side('+', path, b);
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Panics with the difference when there is one.
    ///
    /// # Panics
    /// When the dumps differ.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        if let Some(diff) = self.diff(other) {
            panic!("{what}:\n{diff}");
        }
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|(path, line)| writeln!(f, "{path} {line}"))
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names and kinds as text, sorted.
#[must_use]
pub fn listing(mut entries: Vec<(Vec<u8>, Kind)>) -> String {
    entries.sort();
    entries.iter().map(|(name, kind)| format!("{} {kind:?}\n", name.escape_ascii())).collect()
}

/// What [`crate::Op::Stat`] gives: nothing of the root, whose attributes are the fixture's.
#[must_use]
pub fn stat_line(path: &Path, object: Object) -> String {
    if path.0.is_empty() { String::new() } else { object.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_tell_contents_apart() {
        let texts = [&b""[..], b"\0", b"\0\0", b"12345678", b"12345679", b"123456789", b"\x0012345678"];
        for (n, a) in texts.iter().enumerate() {
            for b in &texts[n + 1..] {
                assert_ne!(hash(a), hash(b));
            }
        }
    }
}
