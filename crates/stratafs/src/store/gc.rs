//! Removing what nobody refers to. What that is gets decided under the store's lock, which takes only renames into the
//! trash; the removal comes afterwards, when others go on already.
//!
//! Invariants: a layer that somebody holds stays; when any record cannot be read nothing is decided; a layer's name is
//! gone on disk before anything of it is, so that no crash leaves a layer with its name and without its files.

use super::config::FRESH;
use super::lock::Locked;
use super::references::{self, of_container};
use super::{Building, Emptied, LayerKey, ScratchId, Store, at, sync_dir};
use crate::{ErrorKind, Result};
use std::collections::BTreeSet;
use std::fs::{self, TryLockError};
use std::io;
use std::path::Path;

/// What [`Store::gc`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers of the store.
    pub layers: u64,
    /// Scratches: what containers changed.
    pub scratches: u64,
    /// What was in the trash already, or was cut off while it was made.
    pub leftovers: u64,
    /// Bytes on disk, all together.
    pub bytes: u64,
}

impl Store {
    /// Removes layers and scratches that no image and no container refers to, and what processes left that were cut
    /// off. Safe while others work in the store.
    ///
    /// # Errors
    /// A record of an image or container that cannot be read, by its file: nothing is removed then, since it may
    /// refer to anything. What the host says; what is left goes with the next one.
    pub fn gc(&self) -> Result<Collected> {
        let mut collected = self.decide()?;
        // Before their files go their names must be gone, on disk too.
        sync_dir(&self.layers())?;
        let Emptied { entries, bytes } = self.empty_trash()?;
        collected.leftovers = entries.saturating_sub(collected.layers + collected.scratches);
        collected.bytes = bytes;
        Ok(collected)
    }

    fn decide(&self) -> Result<Collected> {
        let _lock = self.lock_exclusive()?;
        let (mut scratches, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for record in references::containers(self)? {
            let (its_scratches, its_layers) = of_container(&record);
            scratches.extend(its_scratches);
            layers.extend(its_layers);
            // Written under the lock only: one that is still there was cut off.
            gone(fs::remove_file(record.dir.join(FRESH))).map_err(at(&record.dir, "remove"))?;
        }
        for (_, its_layers) in references::images(self)? {
            layers.extend(its_layers);
        }
        let mut collected = Collected::default();
        for id in self.scratch_ids()? {
            if !scratches.contains(&id) && self.bury(&id)? {
                collected.scratches += 1;
            }
        }
        for key in self.layer_keys()? {
            if !layers.contains(&key) && self.bury_layer(&key)? {
                collected.layers += 1;
            }
        }
        Ok(collected)
    }

    /// The layers that are stored, complete or damaged.
    pub(super) fn layer_keys(&self) -> Result<BTreeSet<LayerKey>> {
        // Nothing of ours has another name.
        Ok(names(&self.layers())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The scratches that there are.
    pub(super) fn scratch_ids(&self) -> Result<BTreeSet<ScratchId>> {
        Ok(names(&self.scratches())?.into_iter().filter_map(|name| ScratchId::try_from(name).ok()).collect())
    }

    /// Moves a layer to the trash, unless somebody holds it.
    fn bury_layer(&self, key: &LayerKey) -> Result<bool> {
        let dir = self.layers().join(key.to_string());
        let record = dir.join(super::layers::RECORD);
        // Without a record it is no layer, and nobody can hold it.
        let held = match super::file::open(&record, "remove layer") {
            Ok(Some(file)) => match file.try_lock() {
                Ok(()) => Some(Locked(file)),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(e)) => return Err(at(&record, "lock layer")(e)),
            },
            Ok(None) => None,
            Err(e) if is_no_record(e.kind()) => None,
            Err(e) => return Err(e),
        };
        let moved = fs::rename(&dir, self.trash().join(Building::name()));
        // Those who waited see that it is gone.
        drop(held);
        match moved {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            moved => moved.map(|()| true).map_err(at(&dir, "remove layer")),
        }
    }
}

/// The names in a directory, as far as they are text.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir, "read"))? {
        out.extend(entry.map_err(at(dir, "read"))?.file_name().into_string().ok());
    }
    Ok(out)
}

/// Whether looking at a layer's record said that it is none; any other error says nothing of who holds it.
pub(super) fn is_no_record(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::NotADirectory | ErrorKind::Loop | ErrorKind::NoSuchRange)
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
