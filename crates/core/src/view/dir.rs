//! Listing merged directories. Invariant: an open directory lists what was there when it was read first or
//! rewound, each name once; cookies stay valid for its life.

use super::object::Inode;
use super::{View, not_a_directory, resolve::caller_access};
use crate::attr::{FileId, Kind};
use crate::caller::{Caller, Want};
use crate::error::{ErrorKind, Result};
use crate::layer::Layer;
use crate::merge::{Listed, Listing, ListingBuilder};
use crate::name::Name;
use crate::scratch::Scratch;
use parking_lot::Mutex;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// One entry of a merged directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: Name<'a>,
    /// The object's number in this view.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Where to go on after this entry.
    pub next: u64,
}

/// A merged listing and where its entries come from.
pub(crate) struct Merged {
    listing: Listing,
    /// The first directory of the merge is the scratch's.
    upper: bool,
    /// Numbers of scratch entries must be looked up: some were copied up.
    uncertain: bool,
}

impl Merged {
    pub fn is_empty(&self) -> bool {
        self.listing.from(0).next().is_none()
    }

    pub fn entries(&self) -> impl Iterator<Item = Listed<'_>> {
        self.listing.from(0)
    }
}

/// An open directory.
pub struct DirHandle<L: Layer, S: Scratch> {
    view: View<L, S>,
    inode: Inode<L, S>,
    merged: Mutex<Option<Arc<Merged>>>,
}

impl<L: Layer, S: Scratch> fmt::Debug for DirHandle<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirHandle").field("inode", &self.inode).finish()
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// `ENOTDIR`, `EACCES`.
    pub fn open_dir(&self, dir: &Inode<L, S>, caller: &Caller) -> Result<DirHandle<L, S>> {
        if !dir.is_dir() {
            return Err(not_a_directory("open directory"));
        }
        caller_access(self, dir, Want::READ, caller)?;
        Ok(DirHandle { view: self.clone(), inode: dir.clone(), merged: Mutex::new(None) })
    }

    /// Merges the listings of a directory, topmost first.
    pub(crate) fn listing(&self, dir: &Inode<L, S>) -> Result<Merged> {
        let (upper, impure, removed) = {
            let state = dir.0.state.read();
            (state.upper.clone(), state.impure, state.removed)
        };
        let lowers = dir.lowers();
        let mut builder = ListingBuilder::new(usize::from(upper.is_some()) + lowers.len());
        if !removed {
            if let (Some(node), Some(scratch)) = (&upper, &self.0.scratch) {
                scratch
                    .read_dir(node, &mut |entry| {
                        builder.add(entry);
                        ControlFlow::Continue(())
                    })
                    .map_err(|e| e.in_layer(&scratch.caps().label))?;
                builder.next_directory();
            }
            for lower in lowers {
                let layer = self.layer(lower)?;
                layer
                    .read_dir(&lower.node, &mut |entry| {
                        builder.add(entry);
                        ControlFlow::Continue(())
                    })
                    .map_err(|e| e.in_layer(&layer.caps().label))?;
                builder.next_directory();
            }
        }
        Ok(Merged {
            listing: builder.finish(),
            upper: upper.is_some(),
            uncertain: impure || !lowers.is_empty(),
        })
    }

    fn entry_ino(&self, dir: &Inode<L, S>, merged: &Merged, entry: &Listed<'_>) -> Result<u64> {
        let in_upper = merged.upper && entry.source == 0;
        if in_upper && merged.uncertain {
            return match self.lookup(dir, entry.name) {
                Ok(Some(inode)) => Ok(inode.ino()),
                // Gone meanwhile, or damaged: whoever looks it up hears of it, and the rest can be listed.
                Ok(None) => Ok(entry.ino),
                Err(e) if e.kind() == ErrorKind::Corrupt => Ok(entry.ino),
                Err(e) => Err(e),
            };
        }
        let dev = if in_upper {
            self.0.scratch_dev
        } else {
            let lower = dir.lowers().get(entry.source - usize::from(merged.upper));
            lower.map_or(0, |lower| lower.attr.id.dev)
        };
        Ok(self.0.cache.ino(FileId { dev, ino: entry.ino }))
    }
}

impl<L: Layer, S: Scratch> DirHandle<L, S> {
    /// The directory.
    #[must_use]
    pub fn inode(&self) -> &Inode<L, S> {
        &self.inode
    }

    /// Lists the directory from a cookie on (0 is the start; each entry says where to go on) until `sink`
    /// breaks or all is listed. `.` and `..` are not included.
    ///
    /// # Errors
    /// What the backends say.
    pub fn read(&self, from: u64, sink: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let merged = {
            let mut held = self.merged.lock();
            match &*held {
                Some(merged) => Arc::clone(merged),
                None => Arc::clone(held.insert(Arc::new(self.view.listing(&self.inode)?))),
            }
        };
        for entry in merged.listing.from(from) {
            let ino = self.view.entry_ino(&self.inode, &merged, &entry)?;
            let entry = DirEntry { name: entry.name, ino, kind: entry.kind, next: entry.next };
            if sink(entry).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Makes the next [`DirHandle::read`] read the directory anew.
    pub fn rewind(&self) {
        *self.merged.lock() = None;
    }
}
