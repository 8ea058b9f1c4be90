//! [`open`]: what an image, a layer or a directory on disk is, found by its content, and its parts.
//!
//! * `place`: blobs by name, in a layout directory or by position in an archive.
//! * `archive`: what an archive is, where its members are; decompressed beside where it must be.
//! * `oci`: from an index to the images of it, for one platform. `docker`: `docker save`.
//!
//! Invariants: nothing is opened through a link and nothing that is not a regular file, but for the path that the
//! caller names; all documents are verified against the digest that led to them, and all blobs while they are read;
//! what is missing is said before anything is unpacked.

mod archive;
mod docker;
mod oci;
mod place;

pub(crate) use oci::{FULL_NAME, REF_NAME};

use crate::image::{Config, Descriptor, Platform};
use crate::{Digest, Error, ErrorKind, Limits, Result, Verified};
use place::{Member, Place};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to open a source.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// A directory for what has to be decompressed or read from a pipe first; it goes when the source does.
    pub spool: PathBuf,
    /// What may be asked for.
    pub limits: Limits,
    /// Which of several platforms; that of the host, or the only one, when it is not said.
    pub platform: Option<Platform>,
}

/// What a path turned out to be.
#[derive(Debug)]
pub enum Input {
    /// A layer archive.
    Layer(LayerBlob),
    /// Images.
    Images(Vec<SourceImage>),
    /// A directory with files.
    Directory(PathBuf),
}

/// What an image is called where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefName {
    /// Repository and tag.
    Full(String),
    /// A tag alone; the repository is not said.
    Tag(String),
}

/// One image.
#[derive(Debug, Clone)]
pub struct SourceImage {
    /// Its names; maybe none.
    pub names: Vec<RefName>,
    /// Its configuration.
    pub config: Config,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Its layers, the lowest first; as many as the configuration has diff ids.
    pub layers: Vec<LayerBlob>,
}

/// A layer archive, maybe compressed.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// The digest of the archive without compression, where it is known.
    pub diff_id: Option<Digest>,
    /// The digest of the blob as it lies there, where it is known.
    pub digest: Option<Digest>,
    /// The size of the blob in bytes.
    pub size: u64,
    /// Which layer of which image it is, for errors.
    pub label: String,
    member: Member,
}

impl LayerBlob {
    /// Opens the blob as it lies there. Where its digest is known the end is only said when it is right.
    ///
    /// # Errors
    /// What the host says; `Corrupt` when the blob has gone or changed its size.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        let part = self.member.open().map_err(|e| e.in_layer(&self.label))?;
        if part.len() != self.size {
            return Err(Error::new(ErrorKind::Corrupt, "open blob").in_layer(&self.label).because(format!(
                "it has {} bytes now, it had {}",
                part.len(),
                self.size
            )));
        }
        Ok(match self.digest {
            Some(digest) => Box::new(Verified::new(part, digest, Some(self.size))),
            None => Box::new(part),
        })
    }
}

/// Finds out what is at `path`; `-` is the standard input.
///
/// # Errors
/// `NotFound`; `Corrupt` for a damaged layout or archive, naming the blob; `Unsupported` for images of a form that is
/// not read; `InvalidInput`, with a list, when no image is for the platform.
pub fn open(path: &Path, options: &SourceOptions) -> Result<Input> {
    let failed = |e: std::io::Error| Error::io(e, "open image").about(path.as_os_str().as_bytes());
    // What names an entry or a blob is told of which archive.
    let about = |e: Error| match e.path() {
        Some(_) => e.in_layer(path.display()),
        None => e.about(path.as_os_str().as_bytes()),
    };
    if path.as_os_str() == "-" {
        let file = archive::spool(&mut std::io::stdin().lock(), options).map_err(about)?;
        return open_file(file, path, options).map_err(about);
    }
    let file = File::open(path).map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if kind.is_dir() {
        return match Place::open_layout(file, path)? {
            Some(place) => oci::images(&Arc::new(place), options).map_err(about).map(Input::Images),
            None => Ok(Input::Directory(path.to_owned())),
        };
    }
    if kind.is_fifo() {
        let file = archive::spool(&mut &file, options).map_err(about)?;
        return open_file(file, path, options).map_err(about);
    }
    if !kind.is_file() {
        return Err(about(Error::new(ErrorKind::Unsupported, "open image"))
            .because("a directory, a regular file or a pipe is needed"));
    }
    open_file(file, path, options).map_err(about)
}

fn open_file(file: File, path: &Path, options: &SourceOptions) -> Result<Input> {
    let file = Arc::new(file);
    if let Some(archive) = archive::look(&file, options)? {
        let place = Arc::new(Place::archive(archive, path));
        return images(&place, options).map(Input::Images);
    }
    let member = Member::whole(file);
    let size = member.open()?.len();
    // As an archive it would be one of nothing; it is more likely that who writes it has failed.
    if size == 0 {
        return Err(Error::new(ErrorKind::Corrupt, "open image").because("there is nothing in it"));
    }
    let label = format!("layer {}", path.display());
    Ok(Input::Layer(LayerBlob { diff_id: None, digest: None, size, label, member }))
}

/// The images of an archive. Docker's newer archives have both forms, and may lack blobs that only the index names.
fn images(place: &Arc<Place>, options: &SourceOptions) -> Result<Vec<SourceImage>> {
    let oci = match place.has("oci-layout")? && place.has("index.json")? {
        true => Some(oci::images(place, options)),
        false => None,
    };
    match (oci, place.has("manifest.json")?) {
        (Some(Err(incomplete)), true) if incomplete.kind() == ErrorKind::Corrupt => {
            // Without docker's form the first error is the one to know.
            docker::images(place, options).map_err(|_| incomplete)
        }
        (Some(images), _) => images,
        (None, _) => docker::images(place, options),
    }
}

/// A small document: read whole and verified.
fn document(place: &Place, of: &Descriptor, limits: &Limits) -> Result<Vec<u8>> {
    let about = of.digest.to_string();
    let refuse = |kind, why: String| Error::new(kind, "read blob").about(&about).because(why);
    if of.size > limits.json {
        return Err(refuse(
            ErrorKind::TooLarge,
            format!("{} bytes, at most {} are read", of.size, limits.json),
        ));
    }
    let part = place
        .open(&blob_name(&of.digest))?
        .ok_or_else(|| refuse(ErrorKind::Corrupt, "the blob is missing".to_owned()))?;
    let mut bytes = Vec::new();
    Verified::new(part, of.digest, Some(of.size))
        .read_to_end(&mut bytes)
        .map_err(|e| e.downcast::<Error>().unwrap_or_else(|e| Error::io(e, "read blob").about(&about)))?;
    Ok(bytes)
}

/// Where a layout has a blob.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The only reading of the number of layers.
fn check_layers(layers: usize, config: &Config, limits: &Limits, about: &str) -> Result<()> {
    let ids = config.diff_ids().len();
    let refuse = |kind, why: String| Err(Error::new(kind, "read manifest").about(about).because(why));
    if layers != ids {
        return refuse(
            ErrorKind::Corrupt,
            format!(
                "{layers} layers, but rootfs.diff_ids of the configuration {} has {ids}",
                config.digest()
            ),
        );
    }
    if layers > limits.layers {
        return refuse(ErrorKind::TooLarge, format!("{layers} layers, at most {} are taken", limits.layers));
    }
    Ok(())
}
