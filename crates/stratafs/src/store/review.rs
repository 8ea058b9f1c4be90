//! What a stored container changed: since its image, over all that snapshots froze, or since the last of those. Cost of
//! what was changed, not of what exists.
//!
//! The root of a layer that does not say what its root is like has no meaning; the container's own is compared with that
//! of the topmost layer that does.

use super::{LayerConfig, Opened, Record};
use crate::{Aspects, Change, Config, Container, Image, Kind, Layer, MemLayer, Result, Stack, View, What};

/// What the container changed since its image: since it was made, over all snapshots.
///
/// # Errors
/// What the layers and the scratch say.
pub fn changes(record: &Record, container: &Container) -> Result<Vec<Change>> {
    let config = &record.config;
    let newer = config.newer();
    let changes = match newer {
        0 => container.view().changes()?,
        _ => {
            let image = Image::from_layers(config.base(), config)?;
            let image = if image.layers().is_empty() { nothing()? } else { image };
            let stack = Stack { layers: image.layers().to_vec(), scratch: None };
            container.view().changes_since(&View::new(stack, Config::default())?, newer)?
        }
    };
    with_root(changes, container, record, config.base())
}

/// What the container changed since the snapshot that it goes on from; since its image where there is none.
///
/// # Errors
/// What the layers and the scratch say.
pub fn changes_since_snapshot(record: &Record, container: &Container) -> Result<Vec<Change>> {
    with_root(container.view().changes()?, container, record, &record.config.layers)
}

impl Opened {
    /// What it changed since its image: since it was made, over all snapshots.
    ///
    /// # Errors
    /// What the layers and the scratch say.
    pub fn changes(&self) -> Result<Vec<Change>> {
        changes(self.record(), self)
    }

    /// What it changed since the snapshot that it goes on from; since its image where there is none.
    ///
    /// # Errors
    /// What the layers and the scratch say.
    pub fn changes_since_snapshot(&self) -> Result<Vec<Change>> {
        changes_since_snapshot(self.record(), self)
    }
}

/// What stands below a container whose image has no layers, once there are snapshots.
pub(super) fn nothing() -> Result<Image> {
    Image::builder().mem(MemLayer::builder().build()?).build()
}

/// True when the scratch holds nothing: its layers alone show the same.
pub(super) fn is_unchanged(record: &Record, container: &Container) -> Result<bool> {
    let Some(scratch) = container.view().scratch() else { return Ok(true) };
    let mut empty = true;
    scratch.read_dir(&scratch.root()?.node, &mut |_| {
        empty = false;
        std::ops::ControlFlow::Break(())
    })?;
    Ok(empty && changes_since_snapshot(record, container)?.is_empty())
}

/// Puts right what `changes` says of the root, compared with `layers`.
fn with_root(
    mut changes: Vec<Change>,
    container: &Container,
    record: &Record,
    layers: &[LayerConfig],
) -> Result<Vec<Change>> {
    if layers.first().is_none_or(|layer| layer.says_root) {
        return Ok(changes);
    }
    let is_root = |change: &Change| change.path.is_empty() && matches!(change.what, What::Modified(_));
    let aspects = match layers.iter().find(|layer| layer.says_root) {
        Some(layer) => root_aspects(container, record, layer)?,
        // Nobody says what it was like: when it was changed is not known either.
        None => match changes.iter().find(|change| is_root(change)) {
            Some(Change { what: What::Modified(aspects), .. }) => *aspects - Aspects::TIMES,
            _ => Aspects::empty(),
        },
    };
    changes.retain(|change| !is_root(change));
    if !aspects.is_empty() {
        changes.insert(0, Change { path: Vec::new(), kind: Kind::Dir, what: What::Modified(aspects) });
    }
    Ok(changes)
}

/// How the container's root differs from that of a layer.
fn root_aspects(container: &Container, record: &Record, layer: &LayerConfig) -> Result<Aspects> {
    let layer = crate::DirLayer::open(&layer.path, &layer.options(record.config.namespace))?;
    let (root, below) = (container.view().root(), layer.root()?);
    let attr = container.view().attr(&root)?;
    let mut aspects = Aspects::empty();
    let owner = |a: &crate::Attr| (a.mode, a.uid, a.gid);
    aspects.set(Aspects::METADATA, owner(&attr) != owner(&below.attr));
    aspects.set(Aspects::TIMES, attr.mtime != below.attr.mtime);
    let (mut mine, mut theirs) = (container.view().xattrs(&root)?, layer.xattrs(&below.node)?);
    mine.sort();
    theirs.sort();
    let mut differ = mine != theirs;
    for name in &mine {
        if differ {
            break;
        }
        differ = container.view().xattr(&root, name)? != layer.xattr(&below.node, name)?;
    }
    aspects.set(Aspects::XATTRS, differ);
    Ok(aspects)
}
