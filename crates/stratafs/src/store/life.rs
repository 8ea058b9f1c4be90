//! The verbs of a container's life. Each has one commit point, the replacement of a configuration, and moves no data: a
//! snapshot writes one in which the scratch is the topmost layer and an empty one takes the changes; rollback and
//! discard write one with other layers; fork makes a second container. What a crash cuts off leaves the old state
//! or the new one, and at most a scratch that nobody refers to, which gc removes.
//! An error leaves the old state, but for one: when only the last sync fails the new state is there, and a crash of the
//! host may take it back to the old one.
//!
//! Syncs, with the default durability: the new configuration, the directory that holds the new scratch, the directory
//! of the configuration; a fork syncs the directory that becomes the container's too. What was written inside the
//! container is not synced by a snapshot: it is as durable as it was, and `strict` is durable before.

use super::config::ContainerConfig;
use super::scratch::Fresh;
use super::{
    ContainerName, LayerConfig, Lease, Record, RootLock, ScratchId, Snapshot, SnapshotName, Store,
    must_be_dir, now, open_with, references, review, settle, sync_dir,
};
use crate::{Durability, Error, ErrorKind, LAYERS_MAX, Result};
use std::collections::BTreeSet;

/// A container whose configuration is about to be replaced. The fields go in this order.
struct Held {
    /// No reference is made or removed but by this process.
    lock: RootLock,
    record: Record,
    /// Its scratch.
    id: ScratchId,
    _lease: Lease,
}

impl Store {
    /// Freezes what a container changed: a state that can be gone back to and forked from. Without a name it is called
    /// `snap-1`, `snap-2` and so on. A container that changed nothing since the last one gets one more name for the same
    /// state.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while it is used or mounted; `AlreadyExists` for the name; `InvalidInput` when the stack
    /// would become too high; `Corrupt` for a volatile container that was not closed before the host went down.
    pub fn snapshot(&self, name: &ContainerName, snapshot: Option<SnapshotName>) -> Result<Snapshot> {
        self.freeze(&mut self.hold(name)?, snapshot)
    }

    /// The snapshots of a container, oldest first.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub fn snapshots(&self, name: &ContainerName) -> Result<Vec<Snapshot>> {
        Ok(self.record(name)?.config.snapshots)
    }

    /// Takes a container back to a snapshot; without a name to the one that it goes on from, or the newest when that
    /// was removed or discarded. What it changed since then goes to the trash ([`Store::empty_trash`]); later snapshots
    /// stay and can be gone forward to.
    ///
    /// # Errors
    /// `NotFound` for an unknown container or snapshot, and when there are none; `Busy` as for a snapshot.
    pub fn rollback(&self, name: &ContainerName, snapshot: Option<&SnapshotName>) -> Result<()> {
        let mut held = self.hold(name)?;
        let config = &held.record.config;
        let target = match snapshot {
            Some(snapshot) => find(&held.record, snapshot)?,
            None => config
                .snapshots
                .iter()
                .rfind(|snapshot| snapshot.frozen == config.frozen())
                .or(config.snapshots.last())
                .ok_or_else(|| {
                    Error::new(ErrorKind::NotFound, "roll back")
                        .about(name.as_str())
                        .because("it has no snapshots; discard goes back to its image")
                })?,
        };
        let frozen = target.frozen.clone();
        self.go_back(&mut held, frozen)
    }

    /// Takes a container back to its image: everything that it changed goes to the trash ([`Store::empty_trash`]).
    /// Snapshots stay and can be rolled back to.
    ///
    /// # Errors
    /// `NotFound`; `Busy` as for a snapshot.
    pub fn discard(&self, name: &ContainerName) -> Result<()> {
        self.go_back(&mut self.hold(name)?, Vec::new())
    }

    /// Forgets a snapshot. The state of the container stays; what nobody needs any more goes with [`Store::gc`].
    ///
    /// # Errors
    /// `NotFound`; `Busy` as for a snapshot.
    pub fn remove_snapshot(&self, name: &ContainerName, snapshot: &SnapshotName) -> Result<()> {
        let mut held = self.hold(name)?;
        let gone = find(&held.record, snapshot)?.name.clone();
        held.record.config.snapshots.retain(|snapshot| snapshot.name != gone);
        held.record.put(&held.id, || Ok(()))?;
        sync_dir(&held.record.dir)
    }

    /// Makes a second container with the state of the first one's snapshot, sharing everything. Without a snapshot it
    /// is the state as it is now: a snapshot is taken first when something was changed since the last one, and `from`
    /// must not be in use. From a named snapshot it may be.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` for the new name; without a snapshot what [`Store::snapshot`] says. A snapshot
    /// that was taken stays when what follows fails.
    pub fn fork(
        &self,
        from: &ContainerName,
        new: &ContainerName,
        snapshot: Option<&SnapshotName>,
    ) -> Result<Record> {
        if self.dir(new).exists() {
            return Err(super::taken(new));
        }
        if let Some(snapshot) = snapshot {
            let lock = self.lock_shared()?;
            let record = self.record(from)?;
            let snapshot = find(&record, snapshot)?.clone();
            let config = forked(&record, vec![snapshot])?;
            return self.create_under(&lock, Some(new.clone()), config, Some(record.began));
        }
        let mut held = self.hold(from)?;
        let config = &held.record.config;
        let same = config.snapshots.iter().rfind(|snapshot| snapshot.frozen == config.frozen()).cloned();
        let container = open_with(&held.record, false)?;
        let unchanged = review::is_unchanged(&held.record, &container)?;
        drop(container);
        let snapshots = match unchanged {
            true => same.into_iter().collect(),
            false => vec![self.freeze(&mut held, None)?],
        };
        let config = forked(&held.record, snapshots)?;
        self.create_under(&held.lock, Some(new.clone()), config, Some(held.record.began))
    }

    fn hold(&self, name: &ContainerName) -> Result<Held> {
        let lease = self.lease(name)?;
        let lock = self.lock_shared()?;
        let mut record = lease.record().clone();
        let id = self.adopt(&mut record)?;
        Ok(Held { lock, record, id, _lease: lease })
    }

    fn freeze(&self, held: &mut Held, name: Option<SnapshotName>) -> Result<Snapshot> {
        let record = &held.record;
        let config = &record.config;
        let taken = |name: &SnapshotName| config.snapshots.iter().any(|snapshot| snapshot.name == *name);
        let name = match name {
            Some(name) if taken(&name) => {
                return Err(Error::new(ErrorKind::AlreadyExists, "take snapshot")
                    .about(name.as_str())
                    .because(format!("{} has a snapshot of this name", record.name)));
            }
            Some(name) => name,
            None => free_name(&config.snapshots, taken),
        };
        let container = open_with(record, false)?;
        let mut config = config.clone();
        if review::is_unchanged(record, &container)? {
            let snapshot = Snapshot { name, created: now(), frozen: config.frozen().to_vec() };
            config.snapshots.push(snapshot.clone());
            let next = Record { config, ..record.clone() };
            next.put(&held.id, || Ok(()))?;
            sync_dir(&next.dir)?;
            held.record = next;
            return Ok(snapshot);
        }
        // Below an image without layers stands an empty one.
        if config.layers.len() + usize::from(config.base().is_empty()) >= LAYERS_MAX {
            return Err(Error::new(ErrorKind::InvalidInput, "take snapshot")
                .about(record.name.as_str())
                .because(format!(
                    "it has {LAYERS_MAX} layers, the most that a stack takes: commit it to an image, and make a \
                     new container of that"
                )));
        }
        container.view().settle_links()?;
        if config.durability == Durability::Strict {
            settle::settle(record)?;
        }
        let (stashed, keeps_kernel_away) = match container.view().scratch() {
            Some(crate::AnyScratch::Dir(scratch)) => {
                (scratch.stashes_ownership(), scratch.keeps_kernel_away()?)
            }
            _ => (false, false),
        };
        drop(container);
        let top = held.id.as_layer(&self.root, stashed);
        config.layers.insert(0, LayerConfig { keeps_kernel_away, ..top });
        let fresh = Fresh::new(self, &config)?;
        let snapshot = Snapshot { name, created: now(), frozen: config.frozen().to_vec() };
        config.snapshots.push(snapshot.clone());
        self.go_on(held, config, fresh)?;
        Ok(snapshot)
    }

    /// Goes on from `frozen` over the image with an empty scratch.
    fn go_back(&self, held: &mut Held, frozen: Vec<LayerConfig>) -> Result<()> {
        let config = held.record.config.clone();
        let layers = layers_over(frozen, &config)?;
        let config = ContainerConfig { layers, ..config };
        let fresh = Fresh::new(self, &config)?;
        let old = held.id.clone();
        self.go_on(held, config, fresh)?;
        // It is done; what cannot be moved now is found by gc.
        let _ = self.bury(&old);
        Ok(())
    }

    /// The commit point.
    fn go_on(&self, held: &mut Held, config: ContainerConfig, fresh: Fresh) -> Result<()> {
        let next = Record {
            config,
            scratch: Some(fresh.id.clone()),
            home: fresh.dir.clone(),
            ..held.record.clone()
        };
        next.put(&fresh.id, || sync_dir(&self.scratches()))?;
        held.id = fresh.keep();
        held.record = next;
        sync_dir(&held.record.dir)
    }

    /// Moves to the trash what of a container's frozen scratches nobody refers to any more. When somebody makes
    /// a reference just now, or a record cannot be read, gc will do it.
    pub(super) fn bury_unreferenced(&self, config: &ContainerConfig) -> Result<()> {
        let snapshots = config.snapshots.iter().flat_map(|snapshot| &snapshot.frozen);
        let frozen = config.frozen().iter().chain(snapshots).filter_map(LayerConfig::scratch);
        let mut candidates: BTreeSet<ScratchId> = frozen.cloned().collect();
        if candidates.is_empty() {
            return Ok(());
        }
        let Some(_lock) = self.try_lock_exclusive()? else { return Ok(()) };
        let Ok(used) = references::scratches(self) else { return Ok(()) };
        candidates.retain(|id| !used.contains(id));
        candidates.iter().try_for_each(|id| self.bury(id).map(drop))
    }
}

fn find<'a>(record: &'a Record, name: &SnapshotName) -> Result<&'a Snapshot> {
    record.config.snapshots.iter().find(|snapshot| snapshot.name == *name).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "find snapshot")
            .about(name.as_str())
            .because(format!("{} has no snapshot of this name", record.name))
    })
}

/// The first of `snap-1`, `snap-2`, ... that is free, counted from the number of snapshots so that it is found soon.
fn free_name(snapshots: &[Snapshot], taken: impl Fn(&SnapshotName) -> bool) -> SnapshotName {
    let mut number = snapshots.len() + 1;
    loop {
        let name = SnapshotName::numbered(number);
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

/// The layers of a state: what was frozen by then over the image.
fn layers_over(frozen: Vec<LayerConfig>, config: &ContainerConfig) -> Result<Vec<LayerConfig>> {
    for layer in &frozen {
        must_be_dir(&layer.path)?;
    }
    Ok(frozen.into_iter().chain(config.base().iter().cloned()).collect())
}

/// The configuration of a fork that starts from the last of `snapshots`; as it is now where there are none.
fn forked(record: &Record, snapshots: Vec<Snapshot>) -> Result<ContainerConfig> {
    let frozen = match snapshots.last() {
        Some(snapshot) => snapshot.frozen.clone(),
        None => record.config.frozen().to_vec(),
    };
    let layers = layers_over(frozen, &record.config)?;
    Ok(ContainerConfig { layers, snapshots, ..record.config.clone() })
}
