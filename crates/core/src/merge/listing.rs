//! The k-way merge of directory listings: each visible name once, the topmost layer's word for it, whiteouts
//! hidden. Names lie in one arena; an entry is found by hash. Invariant: the position of an entry is its
//! cookie minus one, and never changes in the life of a listing.

use crate::attr::Kind;
use crate::layer::RawEntry;
use crate::name::Name;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: usize,
    len: u8,
    kind: Option<Kind>,
    source: u16,
    ino: u64,
}

impl Slot {
    fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        names.get(self.start..self.start + usize::from(self.len)).unwrap_or_default()
    }
}

/// One name of a merged directory.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// The name.
    pub name: Name<'a>,
    /// What it is.
    pub kind: Kind,
    /// Which directory of the merge listed it, in the order they were added.
    pub source: usize,
    /// The number that this directory gave.
    pub ino: u64,
    /// Where to go on after this entry.
    pub next: u64,
}

/// A merged directory listing, fixed when it was made.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    slots: Vec<Slot>,
}

impl Listing {
    /// The entries from `cookie` on; 0 is the start.
    pub fn from(&self, cookie: u64) -> impl Iterator<Item = Listed<'_>> {
        let start = usize::try_from(cookie).unwrap_or(usize::MAX).min(self.slots.len());
        self.slots.iter().enumerate().skip(start).filter_map(|(i, slot)| {
            Some(Listed {
                name: Name::new(slot.name(&self.names)).ok()?,
                kind: slot.kind?,
                source: usize::from(slot.source),
                ino: slot.ino,
                next: i as u64 + 1,
            })
        })
    }
}

/// Collects the directories of a merge, topmost first.
#[derive(Debug)]
pub struct ListingBuilder {
    listing: Listing,
    index: HashTable<usize>,
    hasher: RandomState,
    source: u16,
    alone: bool,
}

impl ListingBuilder {
    /// An empty merge of `directories` directories.
    #[must_use]
    pub fn new(directories: usize) -> Self {
        Self {
            listing: Listing::default(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            source: 0,
            alone: directories == 1,
        }
    }

    /// Adds an entry of the current directory, unless one above has decided about the name.
    pub fn add(&mut self, entry: RawEntry<'_>) {
        let bytes = entry.name.as_bytes();
        let Listing { names, slots } = &mut self.listing;
        let slot = Slot {
            start: names.len(),
            len: u8::try_from(bytes.len()).unwrap_or(u8::MAX),
            kind: entry.kind,
            source: self.source,
            ino: entry.ino,
        };
        if !self.alone {
            let hash = self.hasher.hash_one(bytes);
            let name_of = |i: &usize| slots.get(*i).map_or(&[][..], |slot| slot.name(names));
            if self.index.find(hash, |i| name_of(i) == bytes).is_some() {
                return;
            }
            self.index.insert_unique(hash, slots.len(), |i| self.hasher.hash_one(name_of(i)));
        }
        names.extend_from_slice(bytes);
        slots.push(slot);
    }

    /// The next directory down.
    pub fn next_directory(&mut self) {
        self.source = self.source.saturating_add(1);
    }

    /// The merged listing; whiteouts are left out of it.
    #[must_use]
    pub fn finish(mut self) -> Listing {
        self.listing.slots.retain(|slot| slot.kind.is_some());
        self.listing
    }
}
