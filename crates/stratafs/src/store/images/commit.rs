//! A container becomes an image: what it changed becomes a layer over those of its image; and archives of containers.

use super::packed::Packing;
use super::unpack::Below;
use super::{ImageLayer, ImageName, ImageRecord};
use crate::oci::compress::{Compression, encode};
use crate::oci::image::{Config, ConfigChange, History, Platform, rfc3339};
use crate::oci::pack::{self, Packed};
use crate::oci::{Digest, Limits, Progress};
use crate::store::{ContainerName, LayerSource, PinnedLayer, Record, Store, changes, now, open_leased};
use crate::{Container, Error, ErrorKind, Image, Result, Stack, View};
use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZero;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a commit says of the new image.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Why, in the history.
    pub message: Option<String>,
    /// Who, in the history and for the image.
    pub author: Option<String>,
    /// What else the image is to run.
    pub changes: Vec<ConfigChange>,
    /// When it was made; now unless said. See [`source_date_epoch`].
    pub created: Option<SystemTime>,
    /// What a layer may ask for.
    pub limits: Limits,
}

/// What a commit came to.
#[derive(Debug)]
pub struct Committed {
    /// The image.
    pub record: ImageRecord,
    /// What the new layer is; `None` when nothing was changed.
    pub layer: Option<Packed>,
}

/// How an archive of a container is written.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// How it is compressed.
    pub compression: Compression,
    /// Threads that compress; as many as there are processors unless said.
    pub threads: Option<NonZero<usize>>,
}

/// The time that `SOURCE_DATE_EPOCH` asks for, so that what is made again is the same (reproducible-builds.org).
///
/// # Errors
/// `InvalidInput` when it is no number of seconds.
pub fn source_date_epoch() -> Result<Option<SystemTime>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let Some(text) = std::env::var_os(NAME) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let time = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    time.map(Some).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "read time").about(NAME).because("a number of seconds is needed")
    })
}

/// What a container stands on, as layers of the store, the lowest first.
struct Base {
    config: Config,
    layers: Vec<PinnedLayer>,
}

impl Base {
    fn chain_id(&self) -> Option<Digest> {
        self.config.diff_ids().iter().fold(None, |below, id| Some(Digest::chain(below.as_ref(), id)))
    }

    fn view(&self) -> Result<Option<Below>> {
        let layers = self.layers.iter().rev().map(PinnedLayer::open).collect::<Result<Vec<_>>>()?;
        match layers.is_empty() {
            true => Ok(None),
            false => View::new(Stack { layers, scratch: None }, crate::Config::default()).map(Some),
        }
    }
}

impl Store {
    /// Makes an image of a container: the layers of its image and one more with what was changed since, all snapshots
    /// included. An image that has the name loses it. The configuration is that of the container's image with what
    /// `options` say; a container over plain directories gets one layer that shows them as one tree, and a
    /// configuration for this host.
    ///
    /// The same changes give the same layer; with [`CommitOptions::created`] the same image.
    ///
    /// # Errors
    /// `NotFound`, `Busy` for the container; `TooLarge` when the image would have too many layers; what
    /// [`pack::layer`] says. Nothing is left then but layers that were complete.
    pub fn commit(
        &self,
        container: &ContainerName,
        image: &ImageName,
        options: &CommitOptions,
        progress: &dyn Progress,
    ) -> Result<Committed> {
        let lease = self.lease(container)?;
        let record = lease.record();
        let opened = open_leased(&lease)?;
        let changed = changes(record, &opened)?;
        let mut base = self.base(record, options, progress)?;
        if base.layers.len() >= options.limits.layers {
            let why = format!("it has {} layers already: export it flattened instead", base.layers.len());
            return Err(Error::new(ErrorKind::TooLarge, "commit").about(container.as_str()).because(why));
        }
        let layer = match changed.is_empty() {
            true => None,
            false => {
                let label = format!("changes of {container}");
                let below = || base.view();
                let packing = Packing {
                    label: &label,
                    limits: &options.limits,
                    progress,
                    below: &below,
                    chain_below: base.chain_id(),
                    verify: false,
                };
                progress.begin(&label, None);
                let layer =
                    self.packed(&packing, |out| pack::layer(opened.view(), &changed, out, progress))?;
                progress.finish(&label, None);
                Some(layer)
            }
        };
        let diff_id = layer.as_ref().map(|(layer, _)| layer.record().facts.diff_id);
        let config = configuration(&base.config, diff_id, options)?;
        let packed = layer.map(|(layer, packed)| {
            base.layers.push(layer);
            packed
        });
        let record = record_of(image.clone(), config, &base.layers);
        self.put_image(&self.lock_shared()?, &record)?;
        Ok(Committed { record, layer: packed })
    }

    /// The image that a container was made from, as far as it is still known.
    fn base(&self, record: &Record, options: &CommitOptions, progress: &dyn Progress) -> Result<Base> {
        let mut layers = Vec::new();
        for layer in record.config.base().iter().rev() {
            let LayerSource::Layer(key) = &layer.source else {
                return self.directories(record, options, progress);
            };
            layers.push(self.pin_layer(key)?.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "commit")
                    .about(record.name.as_str())
                    .because(format!("its layer {key} is not stored any more"))
            })?);
        }
        let diff_ids = layers.iter().map(|layer| layer.record().facts.diff_id);
        let known = match &record.config.image {
            Some(image) => self.find_image(&image.id.to_string()).ok(),
            None => None,
        };
        let config = match known {
            Some(image) if diff_ids.clone().eq(image.config.diff_ids().iter().copied()) => image.config,
            _ => bare(record, diff_ids)?,
        };
        Ok(Base { config, layers })
    }

    /// One layer that shows the directories of a container as one tree.
    fn directories(&self, record: &Record, options: &CommitOptions, progress: &dyn Progress) -> Result<Base> {
        let tree = Image::from_layers(record.config.base(), &record.config)?.view()?;
        let label = format!("directories of {}", record.name);
        let packing = Packing {
            label: &label,
            limits: &options.limits,
            progress,
            below: &|| Ok(None),
            chain_below: None,
            verify: false,
        };
        progress.begin(&label, None);
        let (layer, _) = self.packed(&packing, |out| pack::flatten(tree.view(), out, progress))?;
        progress.finish(&label, None);
        let config = bare(record, std::iter::once(layer.record().facts.diff_id))?;
        Ok(Base { config, layers: vec![layer] })
    }

    /// Writes all that a container shows as one archive.
    ///
    /// # Errors
    /// `NotFound`, `Busy`; what [`pack::flatten`] and the output say.
    pub fn export_container<W: Write>(
        &self,
        name: &ContainerName,
        out: W,
        options: &ArchiveOptions,
        progress: &dyn Progress,
    ) -> Result<Packed> {
        let lease = self.lease(name)?;
        let container = open_leased(&lease)?;
        archive(out, options, |out| pack::flatten(container.view(), out, progress))
    }

    /// Writes what a container changed since its image as a layer archive.
    ///
    /// # Errors
    /// `NotFound`, `Busy`; what [`pack::layer`] and the output say.
    pub fn export_layer<W: Write>(
        &self,
        name: &ContainerName,
        out: W,
        options: &ArchiveOptions,
        progress: &dyn Progress,
    ) -> Result<Packed> {
        let lease = self.lease(name)?;
        let container: Container = open_leased(&lease)?;
        let changed = changes(lease.record(), &container)?;
        archive(out, options, |out| pack::layer(container.view(), &changed, out, progress))
    }
}

fn archive<W: Write>(
    out: W,
    options: &ArchiveOptions,
    write: impl FnOnce(&mut dyn Write) -> Result<Packed>,
) -> Result<Packed> {
    let mut encoder = encode(out, options.compression, threads(options.threads))?;
    let packed = write(&mut encoder)?;
    encoder.finish()?.flush().map_err(|e| Error::io(e, "write archive"))?;
    Ok(packed)
}

/// As many as were asked for, else as there are processors.
pub(super) fn threads(asked: Option<NonZero<usize>>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get)
}

/// The record of a new image.
fn record_of(name: ImageName, config: Config, layers: &[PinnedLayer]) -> ImageRecord {
    let layer = |layer: &PinnedLayer| ImageLayer { key: layer.key(), diff_id: layer.record().facts.diff_id };
    ImageRecord {
        name,
        config,
        layers: layers.iter().map(layer).collect(),
        annotations: BTreeMap::new(),
        stored: now(),
    }
}

/// A configuration for a container whose image has none, or was removed: what it runs is known, the history is not.
fn bare(record: &Record, diff_ids: impl Iterator<Item = Digest>) -> Result<Config> {
    let mut edit = Config::empty(&Platform::host(), None)?.edit()?;
    for diff_id in diff_ids {
        edit.add(Some(diff_id), &History::default())?;
    }
    if let Some(runtime) = &record.config.runtime {
        edit.runtime(&runtime.to_string())?;
    }
    edit.finish()
}

fn configuration(base: &Config, layer: Option<Digest>, options: &CommitOptions) -> Result<Config> {
    let created = options.created.unwrap_or_else(now).duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = rfc3339(created.as_secs())?;
    let mut edit = base.edit()?;
    edit.add(
        layer,
        &History {
            created: Some(created.clone()),
            created_by: Some("strata commit".to_owned()),
            author: options.author.clone(),
            comment: options.message.clone(),
            empty_layer: false,
        },
    )?;
    edit.created(&created)?;
    if let Some(author) = &options.author {
        edit.author(author)?;
    }
    for change in &options.changes {
        edit.change(change)?;
    }
    edit.finish()
}
