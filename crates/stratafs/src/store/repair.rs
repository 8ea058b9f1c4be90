//! Layers that are stored and cannot be used: import makes them anew and puts the new one in the place of the old one in
//! one step.
//!
//! Invariants: what replaces is complete and on disk before; only what was found damaged is replaced, never what another
//! process put there since (decided under the store's lock, held exclusively); who holds the old layer holds the new one
//! afterwards, and what was opened of the old one stays in the trash until nobody holds it.

use super::layers::{LayerKey, LayerRecord, PinnedLayer, RECORD, StagedLayer};
use super::lock::Locked;
use super::{LayerSource, Record, Store, at, check, file, open_leased, sync_dir};
use crate::oci::Digest;
use crate::{ErrorKind, Result};
use rustix::fs::{CWD, RenameFlags};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use stratafs_core::error::errno;

/// Not enough memory: says nothing of what is read.
const ENOMEM: i32 = 12;

/// What stands under the name of a layer.
pub(super) enum Standing {
    Nothing,
    Usable(PinnedLayer),
    /// Which object it is.
    Damaged((u64, u64)),
}

/// Looks whether the layer `key`, whose archive is `diff_id`, is stored and can be used: it has its record, tree and
/// frame, and with `verify` they are what they were.
pub(super) fn standing(store: &Store, key: LayerKey, diff_id: &Digest, verify: bool) -> Result<Standing> {
    // Before it is looked at: if it is another one by then, it is not the one that is replaced.
    let Some(which) = which(&store.layers().join(key.to_string()))? else { return Ok(Standing::Nothing) };
    let looked = store.pin_layer(&key).and_then(|layer| {
        let Some(layer) = layer else { return Ok(Standing::Nothing) };
        layer.open_frame()?;
        let usable =
            layer.record().facts.diff_id == *diff_id && (!verify || check::verify(&layer)?.is_empty());
        Ok(if usable { Standing::Usable(layer) } else { Standing::Damaged(which) })
    });
    match looked {
        Err(e) if is_damage(e.kind()) => Ok(Standing::Damaged(which)),
        looked => looked,
    }
}

/// Whether an error says something of what was read, and not of the moment.
fn is_damage(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::Busy | ErrorKind::NoSpace | ErrorKind::TooManyFiles | ErrorKind::Io(errno::EINTR | ENOMEM)
    )
}

/// Which object is at `path`, if there is one.
fn which(path: &Path) -> Result<Option<(u64, u64)>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(at(path, "open layer")(e)),
    }
}

impl Store {
    /// That a hard link was copied up is known by its number below, which the new layer does not have: containers that
    /// nobody uses get its other names while they can be found. As far as that can be, with what is damaged below.
    fn settle_links_over(&self, key: LayerKey) {
        let is_over =
            |record: &Record| record.config.layers.iter().any(|l| l.source == LayerSource::Layer(key));
        let listed = self.list().unwrap_or_default().into_iter();
        for listed in listed.filter(|listed| listed.record.as_ref().is_ok_and(is_over)) {
            let Ok(lease) = self.lease(&listed.name) else { continue };
            let _ = open_leased(&lease).and_then(|container| container.view().settle_links());
        }
    }
}

impl StagedLayer {
    /// Exchanges this complete layer, which `pinned` describes, with `damaged`; false when that is not there any more.
    pub(super) fn replace(&self, pinned: &mut PinnedLayer, damaged: (u64, u64)) -> Result<bool> {
        self.store.settle_links_over(pinned.key());
        // Neither gc nor another one that replaces comes between.
        let _lock = self.store.lock_exclusive()?;
        if which(&pinned.dir)? != Some(damaged) {
            return Ok(false);
        }
        self.take_over_pins(pinned)?;
        rustix::fs::renameat_with(CWD, &self.building.0, CWD, &pinned.dir, RenameFlags::EXCHANGE)
            .map_err(|e| at(&pinned.dir, "replace layer")(e.into()))?;
        Ok(true)
    }

    /// Gives the new layer the old one's record, where that is right: pins are locks on it.
    fn take_over_pins(&self, pinned: &mut PinnedLayer) -> Result<()> {
        const OPERATION: &str = "replace layer";
        let (old, new) = (pinned.dir.join(RECORD), self.building.0.join(RECORD));
        let Ok(Some(opened)) = file::open(&old, OPERATION) else { return Ok(()) };
        let record = file::content(&opened, &old, OPERATION).and_then(|text| LayerRecord::parse(&text, &old));
        let Ok(record) = record else { return Ok(()) };
        let parts = |record: &LayerRecord| (record.facts.clone(), record.namespace, record.stashed);
        if parts(&record) != parts(&pinned.record) {
            return Ok(());
        }
        opened.lock_shared().map_err(at(&old, OPERATION))?;
        fs::remove_file(&new).map_err(at(&new, OPERATION))?;
        fs::hard_link(&old, &new).map_err(at(&new, OPERATION))?;
        sync_dir(&self.building.0)?;
        (pinned.record, pinned.lock) = (record, Locked(opened));
        Ok(())
    }
}
