//! What takes how much on disk. Own is what would be freed if that one thing were removed; shared is what others need
//! too. Layers were measured when they were stored, scratches are measured now; an object with several names counts
//! once.

use super::references::{self, of_container};
use super::{ContainerName, LayerKey, Record, ScratchId, Store, at, disk};
use crate::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Bytes on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Containers by name.
    pub containers: Vec<ContainerUsage>,
    /// Images by the file of their record.
    pub images: Vec<ImageUsage>,
    /// Layers by key.
    pub layers: Vec<LayerUsage>,
    /// What nobody refers to: it goes with [`Store::gc`].
    pub unreferenced: u64,
    /// What waits in the trash, or is being made.
    pub trash: u64,
    /// All of the store.
    pub total: u64,
}

/// Of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Its name.
    pub name: ContainerName,
    /// What it changed, its snapshots, and layers that only it needs.
    pub own: u64,
    /// Layers and snapshots that others need too. Directories that the store does not keep are not counted.
    pub shared: u64,
}

/// Of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its record.
    pub record: PathBuf,
    /// Layers that only it needs.
    pub own: u64,
    /// Layers that other images or containers need too.
    pub shared: u64,
}

/// Of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    /// Its key.
    pub key: LayerKey,
    /// Bytes on disk; those of its files where its record cannot be read.
    pub bytes: u64,
    /// How many images and containers refer to it.
    pub users: usize,
}

/// What one image or container refers to.
struct Needs {
    scratches: BTreeSet<ScratchId>,
    layers: BTreeSet<LayerKey>,
    /// What only it has, whatever else it refers to.
    private: u64,
}

impl Store {
    /// What everything takes on disk.
    ///
    /// # Errors
    /// A record that cannot be read, by its file; what the host says.
    pub fn usage(&self) -> Result<Usage> {
        let (containers, images) = {
            // So that no container refers to what another list does not have yet.
            let _lock = self.lock_shared()?;
            (references::containers(self)?, references::images(self)?)
        };
        let layers = self.layer_sizes()?;
        let scratches = self.scratch_sizes()?;
        let mut needs = Vec::new();
        for record in &containers {
            let (its_scratches, its_layers) = of_container(record);
            needs.push(Needs { scratches: its_scratches, layers: its_layers, private: private(record)? });
        }
        for (path, its_layers) in &images {
            let (scratches, layers) = (BTreeSet::new(), its_layers.clone());
            needs.push(Needs { scratches, layers, private: disk::allocated([path.as_path()])? });
        }
        let users_of_layer = count(needs.iter().flat_map(|need| need.layers.iter().copied()));
        let users_of_scratch = count(needs.iter().flat_map(|need| need.scratches.iter().cloned()));
        let split = |need: &Needs| {
            let (mut own, mut shared) = (need.private, 0);
            let mut add = |bytes: Option<&u64>, users: Option<&usize>| {
                let sum = if users.copied().unwrap_or(0) > 1 { &mut shared } else { &mut own };
                *sum += bytes.copied().unwrap_or(0);
            };
            for key in &need.layers {
                add(layers.get(key), users_of_layer.get(key));
            }
            for id in &need.scratches {
                add(scratches.get(id), users_of_scratch.get(id));
            }
            (own, shared)
        };
        let mut split = needs.iter().map(split);
        let containers = containers.into_iter().zip(&mut split);
        let containers: Vec<_> = containers
            .map(|(record, (own, shared))| ContainerUsage { name: record.name, own, shared })
            .collect();
        let images = images.into_iter().zip(split);
        let images = images.map(|((record, _), (own, shared))| ImageUsage { record, own, shared }).collect();
        let trash = self.trash_size()?;
        let unused =
            layers.iter().filter(|(key, _)| !users_of_layer.contains_key(key)).map(|(_, bytes)| bytes);
        let unused_scratches = scratches.iter().filter(|(id, _)| !users_of_scratch.contains_key(id));
        let unreferenced = unused.chain(unused_scratches.map(|(_, bytes)| bytes)).sum();
        let total = layers.values().chain(scratches.values()).sum::<u64>()
            + needs.iter().map(|need| need.private).sum::<u64>()
            + trash;
        let layers = layers
            .into_iter()
            .map(|(key, bytes)| LayerUsage {
                key,
                bytes,
                users: users_of_layer.get(&key).copied().unwrap_or(0),
            })
            .collect();
        Ok(Usage { containers, images, layers, unreferenced, trash, total })
    }

    /// Every layer with what it takes. A damaged one is measured.
    fn layer_sizes(&self) -> Result<BTreeMap<LayerKey, u64>> {
        let mut out = BTreeMap::new();
        for key in self.layer_keys()? {
            let bytes = match self.pin_layer(&key) {
                Ok(None) => continue,
                Ok(Some(layer)) => layer.record().allocated,
                Err(_) => disk::allocated([self.layers().join(key.to_string()).as_path()])?,
            };
            out.insert(key, bytes);
        }
        Ok(out)
    }

    /// What is in the trash. The directory itself stays.
    fn trash_size(&self) -> Result<u64> {
        let trash = self.trash();
        let mut entries = Vec::new();
        for entry in fs::read_dir(&trash).map_err(at(&trash, "read trash"))? {
            entries.push(entry.map_err(at(&trash, "read trash"))?.path());
        }
        disk::allocated(entries.iter().map(PathBuf::as_path))
    }

    fn scratch_sizes(&self) -> Result<BTreeMap<ScratchId, u64>> {
        let mut out = BTreeMap::new();
        for id in self.scratch_ids()? {
            let bytes = disk::allocated([id.dir(&self.root).as_path()])?;
            out.insert(id, bytes);
        }
        Ok(out)
    }
}

/// What a container has in its own directory: everything in the first format.
fn private(record: &Record) -> Result<u64> {
    disk::allocated([record.dir.as_path()])
}

fn count<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_insert(0) += 1;
    }
    counts
}
