//! Scratches: `ROOT/scratch/ID/` holds `upper` and `work`, and `works` for runs that mount more than one overlay. A
//! scratch is written through the one container whose configuration names it as its scratch; once a configuration
//! names it as a layer it is frozen and never changes again.
//!
//! Invariants: a scratch is complete and on disk before a configuration names it; the first reference to one is made
//! under the lock under which it was made, so that one which nobody refers to is left over.

use super::config::{ContainerConfig, LayerConfig, LayerSource};
use super::{Building, Record, Store, at, discard, make_private, must_be_dir, sync_dir};
use crate::{
    DirLayer, DirScratch, Durability, Error, ErrorKind, Formats, Layer, Result, Scratch, ScratchOptions,
    SetAttr, SetXattr,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What a scratch is called: 16 hexadecimal digits, at random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ScratchId(String);

impl ScratchId {
    fn random() -> Self {
        Self(format!("{:016x}", RandomState::new().hash_one(std::time::SystemTime::now())))
    }

    /// Its directory in the store at `root`.
    pub(super) fn dir(&self, root: &Path) -> PathBuf {
        root.join("scratch").join(&self.0)
    }

    /// This scratch, frozen.
    pub(super) fn as_layer(&self, root: &Path, stashed: bool) -> LayerConfig {
        let path = self.dir(root).join("upper");
        let source = LayerSource::Scratch(self.clone());
        LayerConfig { source, stashed, ..LayerConfig::dir(path, Formats::default()) }
    }
}

impl fmt::Display for ScratchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ScratchId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 16 && text.bytes().all(digit) {
            return Ok(Self(text));
        }
        Err(Error::new(ErrorKind::InvalidInput, "read scratch name")
            .about(&text)
            .because("16 hexadecimal digits are needed"))
    }
}

impl From<ScratchId> for String {
    fn from(id: ScratchId) -> Self {
        id.0
    }
}

/// A new, empty scratch that no configuration names yet. It goes when this is dropped before [`Fresh::keep`].
pub(super) struct Fresh {
    pub(super) id: ScratchId,
    pub(super) dir: PathBuf,
    kept: bool,
}

impl Fresh {
    /// Makes one for the layers of `config`, with its root like theirs: a fresh container looks like what is below it
    /// from the first moment. The caller holds the store's lock shared until a configuration names it.
    pub(super) fn new(store: &Store, config: &ContainerConfig) -> Result<Self> {
        let fresh = Self::bare(store)?;
        let (upper, work) = (fresh.dir.join("upper"), fresh.dir.join("work"));
        // What a root is like that no layer describes.
        DirBuilder::new().mode(0o755).create(&upper).map_err(at(&upper, "create"))?;
        make_private(&work)?;
        let options = ScratchOptions { namespace: Some(config.namespace), ..ScratchOptions::default() };
        let scratch = DirScratch::open(&upper, &work, &options)?;
        if let Some(layer) = config.root_layer() {
            take_over_root(&DirLayer::open(&layer.path, &layer.options(config.namespace))?, &scratch)?;
        }
        if config.layers.iter().any(|layer| layer.keeps_kernel_away) {
            scratch.keep_kernel_away()?;
        }
        Ok(fresh)
    }

    /// One without `upper` and `work`.
    fn bare(store: &Store) -> Result<Self> {
        let scratches = store.scratches();
        loop {
            let id = ScratchId::random();
            let dir = scratches.join(&id.0);
            match DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    let fresh = Self { id, dir, kept: false };
                    make_private(&fresh.dir.join("works"))?;
                    return Ok(fresh);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(at(&dir, "create")(e)),
            }
        }
    }

    /// A configuration names it, or may: it stays.
    pub(super) fn keep(mut self) -> ScratchId {
        self.kept = true;
        self.id.clone()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            // After a failure gc tries again.
            let _ = discard(&self.dir);
        }
    }
}

/// Gives the root of a new scratch the attributes of a layer's root, as a copy-up would.
fn take_over_root(layer: &DirLayer, scratch: &DirScratch) -> Result<()> {
    let (below, root) = (layer.root()?, scratch.root()?.node);
    for name in layer.xattrs(&below.node)? {
        let Some(value) = layer.xattr(&below.node, &name)? else { continue };
        match scratch.set_xattr(&root, &name, &value, SetXattr::Any) {
            // What this host does not let this process have: labels and capabilities, mostly.
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::NotPermitted) => {}
            done => done?,
        }
    }
    scratch.set_attr(&root, &SetAttr::all_of(&below.attr))
}

/// Opens a container's scratch; a volatile one gets its mark when `volatile`.
pub(super) fn options(record: &Record, volatile: bool) -> ScratchOptions {
    ScratchOptions {
        namespace: Some(record.config.namespace),
        volatile: volatile && record.config.durability == Durability::Volatile,
        ..ScratchOptions::default()
    }
}

impl Store {
    pub(super) fn scratches(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Gives a container of the first format a scratch of its own: writes a configuration that names one, then moves
    /// what is in the container's directory there. The caller has its lease, and the store's lock shared.
    pub(super) fn adopt(&self, record: &mut Record) -> Result<ScratchId> {
        if let Some(id) = &record.scratch {
            return Ok(id.clone());
        }
        let fresh = Fresh::bare(self)?;
        record.put(&fresh.id, || sync_dir(&self.scratches()))?;
        let id = fresh.keep();
        sync_dir(&record.dir)?;
        record.home = id.dir(&self.root);
        record.scratch = Some(id.clone());
        finish_move(record)?;
        Ok(id)
    }

    /// A scratch that nobody refers to goes to the trash, where it waits for [`Store::empty_trash`].
    pub(super) fn bury(&self, id: &ScratchId) -> Result<bool> {
        let dir = id.dir(&self.root);
        match fs::rename(&dir, self.trash().join(Building::name())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            done => done.map(|()| true).map_err(at(&dir, "remove scratch")),
        }
    }
}

/// Moves what the first format had in the container's directory into the scratch that its configuration names. `upper`
/// is last: while it is there the move is not complete. The caller has the lease.
pub(super) fn finish_move(record: &Record) -> Result<()> {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if record.scratch.is_none() || !is_there(&record.dir.join("upper")) {
        return Ok(());
    }
    must_be_dir(&record.home)?;
    for name in ["works", "work", "upper"] {
        let (from, to) = (record.dir.join(name), record.home.join(name));
        if is_there(&from) {
            // An empty directory gives way.
            fs::rename(&from, &to).map_err(at(&from, "move"))?;
        }
    }
    sync_dir(&record.home)?;
    sync_dir(&record.dir)
}
