//! Images out of the store. An imported layer is put together again from its tree and its frame, to the byte, so the
//! image keeps its id; a layer for which that cannot be is packed anew.

use super::commit::threads;
use super::unpack::Below;
use super::{ImageRecord, PinnedImage};
use crate::oci::compress::{Compression, encode};
use crate::oci::image::{Descriptor, media};
use crate::oci::layout::{LayoutWriter, Target};
use crate::oci::{Digest, Hasher, Progress, frame, pack};
use crate::store::{PinnedLayer, Store};
use crate::{Config, Error, ErrorKind, Result, Stack, View};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::num::NonZero;

/// How images are written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// How layers are compressed.
    pub compression: Compression,
    /// Threads that compress; as many as there are processors unless said.
    pub threads: Option<NonZero<usize>>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { compression: Compression::Gzip, threads: None }
    }
}

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// What is not as it was, in words: layers that had to be packed anew, so that the image has another id.
    pub warnings: Vec<String>,
}

impl Store {
    /// Writes images as an OCI layout: into a directory, a new one or a layout that is added to, or as an archive,
    /// which `docker load` and `podman load` take as well.
    ///
    /// # Errors
    /// `NotFound` when a layer is not stored any more; `Corrupt`, naming layer and file, when one is not what it was;
    /// what the target says. The target is as it was then.
    pub fn export_images(
        &self,
        images: &[ImageRecord],
        target: Target<'_>,
        options: &ExportOptions,
        progress: &dyn Progress,
    ) -> Result<Exported> {
        let mut writer = LayoutWriter::new(target)?;
        let mut exported = Exported::default();
        let mut written: HashMap<Digest, Descriptor> = HashMap::new();
        for image in images {
            let pinned = self.pin_image(image)?;
            let mut descriptors = Vec::new();
            let mut diff_ids = image.config.diff_ids().to_vec();
            for (i, diff_id) in diff_ids.iter_mut().enumerate() {
                if let Some(descriptor) = written.get(diff_id) {
                    descriptors.push(descriptor.clone());
                    continue;
                }
                let layer = One { image: &pinned, i, options, progress };
                let (descriptor, found) = layer.write(&mut writer)?;
                if found == *diff_id {
                    written.insert(found, descriptor.clone());
                } else {
                    exported.warnings.push(format!(
                        "{}: layer {} had files twice and was packed anew: it is {found} now, it was {diff_id}",
                        image.name,
                        i + 1
                    ));
                    *diff_id = found;
                }
                descriptors.push(descriptor);
            }
            let config = match diff_ids == image.config.diff_ids() {
                true => image.config.clone(),
                false => {
                    let mut edit = image.config.edit()?;
                    edit.replace_layers(diff_ids)?;
                    edit.finish()?
                }
            };
            let (repository, tag) = (image.name.repository(), image.name.tag());
            writer.add_image(repository, tag, &config, descriptors, &image.annotations)?;
        }
        writer.finish()?;
        Ok(exported)
    }
}

/// A layer on its way out.
struct One<'a> {
    image: &'a PinnedImage,
    i: usize,
    options: &'a ExportOptions,
    progress: &'a dyn Progress,
}

impl One<'_> {
    /// Writes its archive; gives the blob and the digest of the archive.
    fn write(&self, writer: &mut LayoutWriter<'_>) -> Result<(Descriptor, Digest)> {
        let Some(layer) = self.image.layers().get(self.i) else {
            return Err(Error::new(ErrorKind::InvalidInput, "export image").because("no such layer"));
        };
        let facts = &layer.record().facts;
        let what = facts.diff_id.to_string();
        self.progress.begin(&what, Some(facts.archive_bytes));
        let (blob, diff_id) = match self.rejoin(writer, layer, &what) {
            Err(e) if e.kind() == ErrorKind::Unsupported => self.repack(writer)?,
            done => done.map_err(|e| e.in_layer(&what))?,
        };
        self.progress.finish(&what, None);
        Ok((blob, diff_id))
    }

    fn encode(
        &self,
        writer: &mut LayoutWriter<'_>,
        write: impl FnOnce(&mut dyn Write) -> Result<Digest>,
    ) -> Result<(Descriptor, Digest)> {
        let mut encoder = encode(writer.blob()?, self.options.compression, threads(self.options.threads))?;
        let diff_id = write(&mut encoder)?;
        let media_type = match self.options.compression {
            Compression::None => media::LAYER,
            Compression::Gzip => media::LAYER_GZIP,
            Compression::Zstd => media::LAYER_ZSTD,
        };
        Ok((writer.add_blob(encoder.finish()?, media_type)?, diff_id))
    }

    fn rejoin(
        &self,
        writer: &mut LayoutWriter<'_>,
        layer: &PinnedLayer,
        what: &str,
    ) -> Result<(Descriptor, Digest)> {
        let tree = layer.open()?;
        let archive = frame::rejoin(layer.open_frame()?, &tree)?;
        let mut archive = Hasher::new(Told { inner: archive, progress: self.progress, what });
        let wanted = layer.record().facts.diff_id;
        self.encode(writer, |out| {
            io::copy(&mut archive, out)
                .map_err(|e| e.downcast::<Error>().unwrap_or_else(|e| Error::io(e, "export image")))?;
            let (found, ..) = archive.finish();
            match found == wanted {
                true => Ok(found),
                false => Err(Error::new(ErrorKind::Corrupt, "export image")
                    .because(format!("its archive is {found}: run a check of the store"))),
            }
        })
    }

    /// The layer as what it changes of those below.
    fn repack(&self, writer: &mut LayoutWriter<'_>) -> Result<(Descriptor, Digest)> {
        let view = |layers: usize| -> Result<Below> {
            let below = self.image.layers().iter().take(layers).rev();
            let layers = below.map(PinnedLayer::open).collect::<Result<Vec<_>>>()?;
            View::new(Stack { layers, scratch: None }, Config::default())
        };
        let with = view(self.i + 1)?;
        let says_root = self.image.layers().get(self.i).is_some_and(|layer| layer.record().facts.says_root);
        let changes = match self.i {
            0 => None,
            i => {
                let mut changes = with.changes_since(&view(i)?, 1)?;
                // The root of a layer that does not say what it is like means nothing.
                changes.retain(|change| says_root || !change.path.is_empty());
                Some(changes)
            }
        };
        self.encode(writer, |out| {
            let packed = match &changes {
                None => pack::flatten(&with, out, self.progress),
                Some(changes) => pack::layer(&with, changes, out, self.progress),
            };
            packed.map(|packed| packed.digest)
        })
    }
}

/// Tells of what passes, and stops when that is asked for.
struct Told<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
    what: &'a str,
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.progress.cancelled() {
            let kind = ErrorKind::Io(stratafs_core::error::errno::EINTR);
            return Err(io::Error::other(Error::new(kind, "export image").because("it was cancelled")));
        }
        let n = self.inner.read(buf)?;
        self.progress.advance(self.what, n as u64);
        Ok(n)
    }
}
