//! Images of the store: by name, one record each, over layers that they share.
//!
//! * `name`: what images are called. `record`: one file for each.
//! * `import`: images in. `unpack`: their layers, several at a time.
//! * `export`: images out. `commit`: a container becomes an image; archives of containers.
//! * `packed`: a tree becomes a layer. `pipe`: from who writes an archive to who reads it.
//!
//! Invariants: the record is last, and replaced in one step, so an image is there with all its layers or not at all; while
//! it is not written its layers are held; a layer that is unpacked is found under its diff id only if it asked nothing of the
//! layers below, so whether one is stored under its diff id or its chain id depends on its archive alone.

mod commit;
mod export;
mod import;
mod name;
mod packed;
mod pipe;
mod record;
mod unpack;

pub use commit::{ArchiveOptions, CommitOptions, Committed, source_date_epoch};
pub use export::{ExportOptions, Exported};
pub use import::ImportOptions;
pub use name::ImageName;
pub use record::{ImageLayer, ImageRecord, ListedImage};

use super::{ContainerConfig, ImageRef, PinnedLayer, Store};
use crate::{Error, ErrorKind, Result};

/// An image whose layers stay while this lives.
#[derive(Debug)]
pub struct PinnedImage {
    record: ImageRecord,
    layers: Vec<PinnedLayer>,
}

impl PinnedImage {
    /// The image.
    #[must_use]
    pub fn record(&self) -> &ImageRecord {
        &self.record
    }

    /// Its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[PinnedLayer] {
        &self.layers
    }

    /// What a container over it is made of, with defaults that fit this process. Keep this until the container is
    /// made.
    ///
    /// # Errors
    /// None for a configuration that was read.
    pub fn container(&self) -> Result<ContainerConfig> {
        let image = ImageRef { name: self.record.name.to_string(), id: self.record.id() };
        let runtime = serde_json::from_str(&self.record.config.runtime_json()?)
            .map_err(|e| Error::io(e.into(), "read configuration"))?;
        Ok(ContainerConfig::from_image(image, Some(runtime), &self.layers))
    }
}

impl Store {
    /// Holds the layers of an image, for who is about to refer to them or to read them.
    ///
    /// # Errors
    /// `NotFound` when a layer is not stored (any more); `Corrupt` for one that is damaged.
    pub fn pin_image(&self, image: &ImageRecord) -> Result<PinnedImage> {
        let pin = |layer: &ImageLayer| {
            self.pin_layer(&layer.key)?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "open image").about(image.name.to_string()).because(format!(
                    "its layer {} is not stored; if it was not removed just now, import the image again",
                    layer.diff_id
                ))
            })
        };
        let layers = image.layers.iter().map(pin).collect::<Result<_>>()?;
        Ok(PinnedImage { record: image.clone(), layers })
    }
}
