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

/// What an image refers to: the file of its record, and the keys of its layers.
pub(super) type ImageNeeds = (PathBuf, BTreeSet<LayerKey>);

/// The records of images, `ROOT/images/*.json`, with the layers that each refers to.
pub(super) fn images(store: &Store) -> Result<Vec<ImageNeeds>> {
    each_image(store)?.into_iter().collect()
}

/// As [`images`], of those that can be read.
pub(super) fn readable_images(store: &Store) -> Result<Vec<ImageNeeds>> {
    Ok(each_image(store)?.into_iter().flatten().collect())
}

fn each_image(store: &Store) -> Result<Vec<Result<ImageNeeds>>> {
    let dir = store.images_dir();
    let mut paths = Vec::new();
    for entry in fs::read_dir(&dir).map_err(at(&dir, "list images"))? {
        paths.push(entry.map_err(at(&dir, "list images"))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    Ok(paths.into_iter().filter_map(|path| image(path).transpose()).collect())
}

/// What one image refers to; `None` when it was removed just now.
fn image(path: PathBuf) -> Result<Option<ImageNeeds>> {
    const OPERATION: &str = "read image";
    let Some(opened) = file::open(&path, OPERATION)? else { return Ok(None) };
    let text = file::content(&opened, &path, OPERATION)?;
    let stored: StoredImage = serde_json::from_slice(&text)
        .map_err(|e| file::corrupt(&path, OPERATION, format!("not the record of an image: {e}")))?;
    if stored.version != IMAGE_VERSION {
        let why = format!("format version {}, this program reads {IMAGE_VERSION}", stored.version);
        return Err(file::corrupt(&path, OPERATION, why));
    }
    Ok(Some((path, stored.layers.into_iter().map(|layer| layer.key).collect())))
}
