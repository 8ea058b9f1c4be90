//! Images into the store: from a layout, a `docker save` archive, a layer archive or a directory.

use super::packed::Packing;
use super::unpack::{Unpacking, publish, read_blob, unpack};
use super::{ImageLayer, ImageName, ImageRecord};
use crate::oci::image::{Config, History, Platform};
use crate::oci::source::{Input, LayerBlob, RefName, SourceImage, SourceOptions, open};
use crate::oci::{Digest, Limits, Progress, pack};
use crate::store::{Building, PinnedLayer, Store, now};
use crate::{Error, ErrorKind, Image, Result};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// How to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// What to call the image; else what it is called where it comes from, or after the file.
    pub name: Option<ImageName>,
    /// Which of several platforms; for a layer or a directory, for which it is. The host's unless said.
    pub platform: Option<Platform>,
    /// What an image may ask for.
    pub limits: Limits,
    /// Layers to unpack at a time; as many as there are processors unless said.
    pub threads: Option<NonZero<usize>>,
    /// Layers that are stored already are read and compared with what they were; damaged ones are replaced. A container in
    /// use meanwhile that wrote to a file with several names below keeps what it wrote under the name that it used only.
    pub verify: bool,
}

/// An image whose layers are stored and held, and which has no record yet.
struct Ready {
    names: Vec<ImageName>,
    config: Config,
    layers: Vec<Arc<PinnedLayer>>,
    annotations: BTreeMap<String, String>,
}

impl Store {
    /// Takes what is at `path` into the store: an image layout (directory or archive), a `docker save` archive, a layer
    /// archive or a directory with files; `-` is an archive on the standard input. An archive of several images gives
    /// several, each under its names. What is stored already is not read again, unless [`ImportOptions::verify`] asks
    /// for it; a layer without its record, tree or frame is made anew in any case. Containers that are in use go on with
    /// the layers that they opened.
    ///
    /// Nothing is left of an import that failed but layers that were complete, which [`Store::gc`] removes. A layer or
    /// directory becomes an image of one layer whose configuration says nothing but the platform, so that the same
    /// content gives the same image.
    ///
    /// # Errors
    /// As [`open`] and [`apply`](crate::oci::apply::apply), with layer and entry; `Corrupt` for an archive that is not
    /// what the configuration says; `InvalidInput` when the image needs a name and has none, and for one name for
    /// several images.
    pub fn import(
        &self,
        path: &Path,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<ImageRecord>> {
        let spool = Building::new(&self.trash())?;
        let source = SourceOptions {
            spool: spool.0.clone(),
            limits: options.limits.clone(),
            platform: options.platform.clone(),
        };
        let unpacking = Unpacking {
            store: self,
            limits: &options.limits,
            progress,
            threads: options.threads,
            verify: options.verify,
        };
        let ready = match open(path, &source)? {
            Input::Images(images) => self.images_of(path, images, options, &unpacking)?,
            Input::Layer(blob) => {
                let names = vec![name_of(path, options, None)?];
                vec![alone(names, options, self.lone_layer(&blob, &unpacking)?)?]
            }
            Input::Directory(path) => {
                let names = vec![name_of(&path, options, None)?];
                vec![alone(names, options, self.directory(&path, &unpacking)?)?]
            }
        };
        let mut out = Vec::new();
        let lock = self.lock_shared()?;
        for Ready { names, config, layers, annotations } in &ready {
            for name in names {
                let layer = |(layer, diff_id): (&Arc<PinnedLayer>, &Digest)| ImageLayer {
                    key: layer.key(),
                    diff_id: *diff_id,
                };
                let record = ImageRecord {
                    name: name.clone(),
                    config: config.clone(),
                    layers: layers.iter().zip(config.diff_ids()).map(layer).collect(),
                    annotations: annotations.clone(),
                    stored: now(),
                };
                self.put_image(&lock, &record)?;
                out.push(record);
            }
        }
        Ok(out)
    }

    fn images_of(
        &self,
        path: &Path,
        images: Vec<SourceImage>,
        options: &ImportOptions,
        unpacking: &Unpacking<'_>,
    ) -> Result<Vec<Ready>> {
        if options.name.is_some() && images.len() > 1 {
            let names = images.iter().flat_map(|image| &image.names).map(|name| match name {
                RefName::Full(name) | RefName::Tag(name) => name.as_str(),
            });
            let names = names.collect::<Vec<_>>().join(", ").escape_debug().to_string();
            return Err(Error::new(ErrorKind::InvalidInput, "import image")
                .about(path.as_os_str().as_bytes())
                .because(format!("one name was given for {} images: {names}", images.len())));
        }
        // All names are looked at before anything is unpacked.
        let mut named = Vec::new();
        for image in images {
            let names = match (&options.name, image.names.as_slice()) {
                (Some(name), _) => vec![name.clone()],
                (None, []) => vec![name_of(path, options, None)?],
                (None, names) => names
                    .iter()
                    .map(|name| match name {
                        RefName::Full(name) => ImageName::new(name),
                        RefName::Tag(tag) => name_of(path, options, Some(tag)),
                    })
                    .collect::<Result<_>>()?,
            };
            named.push((names, image));
        }
        let mut out = Vec::new();
        for (names, SourceImage { config, annotations, layers, .. }) in named {
            let layers = unpack(unpacking, &layers, config.diff_ids())?;
            out.push(Ready { names, config, layers, annotations });
        }
        Ok(out)
    }

    /// A layer of which nothing is known before it is unpacked.
    fn lone_layer(&self, blob: &LayerBlob, with: &Unpacking<'_>) -> Result<PinnedLayer> {
        with.progress.begin(&blob.label, Some(blob.size));
        let staged = self.stage_layer()?;
        let applied = read_blob(blob, &staged, &|| Ok(None), with.limits, with.progress, &blob.label)?;
        let layer = publish(staged, &applied, applied.diff_id, with.verify)?;
        with.progress.finish(&blob.label, None);
        Ok(layer)
    }

    /// A directory, packed and unpacked at the same time: so it becomes what its archive would.
    fn directory(&self, path: &Path, with: &Unpacking<'_>) -> Result<PinnedLayer> {
        let what = path.display().to_string();
        let tree = Image::from_dirs([path])?.view()?;
        with.progress.begin(&what, None);
        let packing = Packing {
            label: &what,
            limits: with.limits,
            progress: with.progress,
            below: &|| Ok(None),
            chain_below: None,
            verify: with.verify,
        };
        let (layer, _) = self.packed(&packing, |out| pack::flatten(tree.view(), out, with.progress))?;
        with.progress.finish(&what, None);
        Ok(layer)
    }
}

/// An image of one layer and nothing else.
fn alone(names: Vec<ImageName>, options: &ImportOptions, layer: PinnedLayer) -> Result<Ready> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let mut edit = Config::empty(&platform, None)?.edit()?;
    edit.add(Some(layer.record().facts.diff_id), &History::default())?;
    Ok(Ready { names, config: edit.finish()?, layers: vec![Arc::new(layer)], annotations: BTreeMap::new() })
}

/// The name that was given, else one after the file.
fn name_of(path: &Path, options: &ImportOptions, tag: Option<&str>) -> Result<ImageName> {
    if let Some(name) = &options.name {
        return Ok(name.clone());
    }
    let real = match path.as_os_str() == "-" {
        true => None,
        false => std::fs::canonicalize(path).ok(),
    };
    let file = real.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    file.and_then(|file| ImageName::from_stem(file, tag)).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "import image")
            .about(path.as_os_str().as_bytes())
            .because("nothing says what the image is called: give it a name")
    })
}
