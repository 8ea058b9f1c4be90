//! [`ImageRecord`]: one image by name, `ROOT/images/NAME.json`. Versioned; read with suspicion; replaced in one step
//! after everything that it names is complete and on disk.

use super::ImageName;
use crate::oci::Digest;
use crate::oci::image::Config;
use crate::store::{Building, LayerKey, RootLock, Store, at, file, sync_dir};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version that is written; the only one that is read.
const VERSION: u32 = 1;
const OPERATION: &str = "read image";

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its name.
    pub name: ImageName,
    /// Its configuration, as it came; the digest of that is the image's id.
    pub config: Config,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// When it got its name in this store, in whole seconds.
    pub stored: SystemTime,
}

/// A layer of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageLayer {
    /// Under which name it is stored.
    pub key: LayerKey,
    /// The digest of its archive, uncompressed.
    pub diff_id: Digest,
}

/// One line of [`Store::images`].
#[derive(Debug)]
pub struct ListedImage {
    /// The name.
    pub name: ImageName,
    /// The image, or why it cannot be read.
    pub record: Result<ImageRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    name: String,
    id: Digest,
    /// Seconds since 1970 UTC.
    stored: u64,
    layers: Vec<ImageLayer>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// A text and not an object: its bytes count.
    config: String,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl ImageRecord {
    /// The image's id: the digest of its configuration.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.config.digest()
    }

    fn parse(text: &[u8], path: &Path) -> Result<Self> {
        let corrupt = |why: String| file::corrupt(path, OPERATION, why);
        let not_one = |e: serde_json::Error| corrupt(format!("not the record of an image: {e}"));
        let Version { version } = serde_json::from_slice(text).map_err(not_one)?;
        if version != VERSION {
            return Err(corrupt(format!("format version {version}, this program reads {VERSION}")));
        }
        let stored: Stored = serde_json::from_slice(text).map_err(not_one)?;
        let name = ImageName::new(&stored.name).map_err(|e| corrupt(e.to_string()))?;
        if path.file_name() != Some(name.file().as_ref()) {
            return Err(corrupt(format!("it is the record of {name}")));
        }
        let config =
            Config::parse(stored.config.into_bytes(), "configuration").map_err(|e| corrupt(e.to_string()))?;
        if config.digest() != stored.id {
            return Err(corrupt(format!("its configuration is {}, not {}", config.digest(), stored.id)));
        }
        if !config.diff_ids().iter().eq(stored.layers.iter().map(|layer| &layer.diff_id)) {
            return Err(corrupt("its layers are not those of its configuration".to_owned()));
        }
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(stored.stored));
        let time = time.ok_or_else(|| corrupt("its time is out of range".to_owned()))?;
        let (layers, annotations) = (stored.layers, stored.annotations);
        Ok(Self { name, config, layers, annotations, stored: time })
    }

    fn text(&self) -> Result<Vec<u8>> {
        let stored = Stored {
            version: VERSION,
            name: self.name.to_string(),
            id: self.id(),
            stored: self.stored.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            layers: self.layers.clone(),
            annotations: self.annotations.clone(),
            config: self.config.as_str().to_owned(),
        };
        let mut text = serde_json::to_vec_pretty(&stored).map_err(|e| Error::io(e.into(), "write image"))?;
        text.push(b'\n');
        if text.len() as u64 > file::SIZE_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "write image").about(self.name.to_string()).because(
                format!("its record has {} bytes, at most {} are kept", text.len(), file::SIZE_MAX),
            ));
        }
        Ok(text)
    }
}

impl Store {
    /// All images, by name; those whose record cannot be read too.
    ///
    /// # Errors
    /// When the store itself cannot be read.
    pub fn images(&self) -> Result<Vec<ListedImage>> {
        let dir = self.images_dir();
        let mut out = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir, "list images"))? {
            let entry = entry.map_err(at(&dir, "list images"))?;
            let Some(name) = entry.file_name().to_str().and_then(ImageName::from_file) else { continue };
            match self.image(&name) {
                // It was removed just now.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                record => out.push(ListedImage { name, record }),
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The image of this name.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`, naming the file, when its record cannot be read.
    pub fn image(&self, name: &ImageName) -> Result<ImageRecord> {
        let path = self.images_dir().join(name.file());
        let Some(opened) = file::open(&path, OPERATION)? else { return Err(unknown(&name.to_string())) };
        ImageRecord::parse(&file::content(&opened, &path, OPERATION)?, &path)
    }

    /// The image of this name, else the one whose id begins so: at least four digits, with or without `sha256:`.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when several ids begin so; `Corrupt` for the record that was named.
    pub fn find_image(&self, text: &str) -> Result<ImageRecord> {
        if let Ok(name) = ImageName::new(text) {
            match self.image(&name) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                found => return found,
            }
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(unknown(text));
        }
        let digits = digits.to_ascii_lowercase();
        let images = self.images()?.into_iter().filter_map(|image| image.record.ok());
        let mut found: Vec<ImageRecord> =
            images.filter(|image| image.id().hex().starts_with(&digits)).collect();
        found.dedup_by_key(|image| image.id());
        let ids: std::collections::BTreeSet<_> = found.iter().map(ImageRecord::id).collect();
        if ids.len() > 1 {
            return Err(Error::new(ErrorKind::InvalidInput, "find image")
                .about(text)
                .because("the ids of several images begin so"));
        }
        found.into_iter().next().ok_or_else(|| unknown(text))
    }

    /// Takes a name away. Layers that no other image and no container needs go with [`Store::gc`].
    ///
    /// # Errors
    /// `NotFound`; what the host says.
    pub fn remove_image(&self, name: &ImageName) -> Result<()> {
        let path = self.images_dir().join(name.file());
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(unknown(&name.to_string())),
            removed => {
                removed.map_err(at(&path, "remove image"))?;
                sync_dir(&self.images_dir())
            }
        }
    }

    /// Gives an image another name, which an image that has it loses.
    ///
    /// # Errors
    /// `NotFound` when the image was removed meanwhile, with its layers; what the host says.
    pub fn tag_image(&self, image: &ImageRecord, name: &ImageName) -> Result<ImageRecord> {
        let _held = self.pin_image(image)?;
        let record = ImageRecord { name: name.clone(), stored: crate::store::now(), ..image.clone() };
        self.put_image(&self.lock_shared()?, &record)?;
        Ok(record)
    }

    /// Writes the record of an image: from then on it exists. Its layers are held by the caller.
    pub(super) fn put_image(&self, _lock: &RootLock, record: &ImageRecord) -> Result<()> {
        let path = self.images_dir().join(record.name.file());
        let building = Building::new(&self.trash())?;
        let fresh = building.0.join("image");
        file::write_new(&fresh, &record.text()?)?;
        // The names of its layers have to be there first; each was synced when it was published.
        fs::rename(&fresh, &path).map_err(at(&path, "store image"))?;
        sync_dir(&self.images_dir())
    }
}

fn unknown(text: &str) -> Error {
    Error::new(ErrorKind::NotFound, "find image").about(text).because("there is no such image")
}
