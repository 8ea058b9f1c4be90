//! Who refers to what: collected from the records of images and containers. Read conservatively: what cannot be read
//! may refer to anything, so it is an error that names it, and nothing is decided.

use super::{ContainerName, LayerKey, LayerSource, Record, ScratchId, Store, at, file};
use crate::{ErrorKind, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The records of all containers.
pub(super) fn containers(store: &Store) -> Result<Vec<Record>> {
    let dir = store.containers();
    let mut out = Vec::new();
    for entry in fs::read_dir(&dir).map_err(at(&dir, "list containers"))? {
        let entry = entry.map_err(at(&dir, "list containers"))?;
        // No container of ours has another name.
        let Some(Ok(name)) = entry.file_name().to_str().map(ContainerName::new) else { continue };
        match Record::read(&store.root, &name, &entry.path()) {
            // It was removed just now.
            Err(e) if e.kind() == ErrorKind::NotFound && !entry.path().exists() => {}
            record => out.push(record?),
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// The scratches that a container refers to: the one that takes its changes, and frozen ones.
pub(super) fn of_container(record: &Record) -> (BTreeSet<ScratchId>, BTreeSet<LayerKey>) {
    let config = &record.config;
    let snapshots = config.snapshots.iter().flat_map(|snapshot| &snapshot.frozen);
    let (mut scratches, mut layers) = (BTreeSet::new(), BTreeSet::new());
    scratches.extend(record.scratch.clone());
    for layer in config.layers.iter().chain(snapshots) {
        match &layer.source {
            LayerSource::Scratch(id) => {
                scratches.insert(id.clone());
            }
            LayerSource::Layer(key) => {
                layers.insert(*key);
            }
            LayerSource::Directory => {}
        }
    }
    (scratches, layers)
}

/// The scratches that any container refers to.
pub(super) fn scratches(store: &Store) -> Result<BTreeSet<ScratchId>> {
    Ok(containers(store)?.iter().flat_map(|record| of_container(record).0).collect())
}

/// The version of an image's record; what another one refers to is not known.
const IMAGE_VERSION: u32 = 1;

/// What of an image's record names layers.
#[derive(Deserialize)]
struct StoredImage {
    version: u32,
    layers: Vec<StoredLayer>,
}

#[derive(Deserialize)]
struct StoredLayer {
    key: LayerKey,
}

/// The records of images, `ROOT/images/*.json`, with the layers that each refers to.
pub(super) fn images(store: &Store) -> Result<Vec<(PathBuf, BTreeSet<LayerKey>)>> {
    const OPERATION: &str = "read image";
    let dir = store.images_dir();
    let mut out = Vec::new();
    for entry in fs::read_dir(&dir).map_err(at(&dir, "list images"))? {
        let path = entry.map_err(at(&dir, "list images"))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(opened) = file::open(&path, OPERATION)? else { continue };
        let text = file::content(&opened, &path, OPERATION)?;
        let stored: StoredImage = serde_json::from_slice(&text)
            .map_err(|e| file::corrupt(&path, OPERATION, format!("not the record of an image: {e}")))?;
        if stored.version != IMAGE_VERSION {
            let why = format!("format version {}, this program reads {IMAGE_VERSION}", stored.version);
            return Err(file::corrupt(&path, OPERATION, why));
        }
        out.push((path, stored.layers.into_iter().map(|layer| layer.key).collect()));
    }
    out.sort();
    Ok(out)
}
