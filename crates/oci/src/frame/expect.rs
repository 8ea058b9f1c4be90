//! Which names a layer must have, by the rules of [`crate::apply`], and which of them are one object. Kept by hashes of
//! paths, so that memory is some 40 bytes for each.

use super::replay::Event;
use crate::apply::kind_of;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use stratafs_core::Kind;

/// What an object came from.
pub(super) type Source = u64;
/// The root, where no entry speaks of it.
const ROOT: Source = u64::MAX;
/// The first that is no entry.
const FIRST_MADE: Source = 1 << 48;

/// What a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Whiteout,
    Dir { source: Source, opaque: bool },
    Other { source: Source },
}

/// The names of a layer.
#[derive(Debug, Default)]
pub(super) struct Expected {
    hasher: RandomState,
    names: HashMap<u64, Is>,
    made: u64,
    /// Of objects with several names: how many, and one that is not its first.
    linked: HashMap<Source, Linked>,
}

/// An object with several names.
#[derive(Debug, Default)]
pub(super) struct Linked {
    /// How many names are left.
    pub(super) names: u32,
    /// The second name that it got.
    pub(super) other: Vec<u8>,
    /// What the tree's first of them is.
    pub(super) ino: Option<u64>,
}

impl Expected {
    pub(super) fn new() -> Self {
        let mut expected = Self::default();
        let root = expected.hash(b"");
        expected.names.insert(root, Is::Dir { source: ROOT, opaque: false });
        expected
    }

    fn hash(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path)
    }

    /// What a path must be.
    pub(super) fn get(&self, path: &[u8]) -> Option<Is> {
        self.names.get(&self.hash(path)).copied()
    }

    /// An object that has several names.
    pub(super) fn linked(&mut self, source: Source) -> Option<&mut Linked> {
        self.linked.get_mut(&source)
    }

    /// How many names the object has.
    pub(super) fn names_of(&self, source: Source) -> u32 {
        self.linked.get(&source).map_or(1, |linked| linked.names)
    }

    /// Takes an event into account. Gives what the object that it made came from.
    pub(super) fn take(&mut self, nth: u64, event: &Event<'_>) -> Option<Source> {
        match event {
            Event::Made(made) => {
                let source = FIRST_MADE + self.made;
                self.made += 1;
                self.put(&made.path, made.kind, source);
                Some(source)
            }
            Event::Entry(entry, path) => {
                self.put(path, kind_of(&entry.kind).unwrap_or(Kind::File), nth);
                Some(nth)
            }
            // What it links to was made under its name.
            Event::Link(path, target) if path == target => None,
            Event::Link(path, target) => {
                let Some(Is::Other { source }) = self.get(target) else { return None };
                self.unname(path);
                let linked =
                    self.linked.entry(source).or_insert_with(|| Linked { names: 1, ..Linked::default() });
                linked.names += 1;
                if linked.other.is_empty() {
                    linked.other = path.to_vec();
                }
                self.names.insert(self.hasher.hash_one(path), Is::Other { source });
                None
            }
            Event::Whiteout(path) => {
                let hash = self.hash(path);
                match self.names.get_mut(&hash) {
                    None => drop(self.names.insert(hash, Is::Whiteout)),
                    Some(Is::Dir { opaque, .. }) => *opaque = true,
                    Some(Is::Whiteout | Is::Other { .. }) => {}
                }
                None
            }
            Event::Opaque(dir) => {
                let hash = self.hash(dir);
                if let Some(Is::Dir { opaque, .. }) = self.names.get_mut(&hash) {
                    *opaque = true;
                }
                None
            }
        }
    }

    fn put(&mut self, path: &[u8], kind: Kind, source: Source) {
        let before = self.get(path);
        self.unname(path);
        let is = match (kind, before) {
            (Kind::Dir, Some(Is::Dir { opaque, .. })) => Is::Dir { source, opaque },
            (Kind::Dir, before) => Is::Dir { source, opaque: before == Some(Is::Whiteout) },
            _ => Is::Other { source },
        };
        let hash = self.hash(path);
        self.names.insert(hash, is);
    }

    /// An object loses this name.
    fn unname(&mut self, path: &[u8]) {
        if let Some(Is::Other { source }) = self.get(path)
            && let Some(linked) = self.linked.get_mut(&source)
        {
            linked.names = linked.names.saturating_sub(1);
        }
    }

    /// Where the object of `source`, which was made at `path`, can be looked at: there, or at its second name.
    pub(super) fn surviving(&self, source: Source, path: &[u8]) -> Option<Vec<u8>> {
        let has = |path: &[u8]| match self.get(path) {
            Some(Is::Dir { source: other, .. } | Is::Other { source: other }) => source == other,
            _ => false,
        };
        if has(path) {
            return Some(path.to_vec());
        }
        self.linked.get(&source).map(|linked| linked.other.clone()).filter(|other| has(other))
    }
}
