//! [`LayoutWriter`]: images into an OCI image layout, a directory or one archive of it.
//!
//! * `blobs`: content under its digest, complete before it has that name.
//! * `archive`: a layout as one tar archive that `docker load` takes too.
//!
//! Invariants: the index is replaced in one step and after all it names is on disk, so a target is as it was before or
//! complete, also after a crash; a new directory and a file appear in one step; the same images give the same bytes.

mod archive;
mod blobs;

pub use blobs::BlobWriter;

use crate::image::{Config, Descriptor, Document, Index, Manifest, Members, media};
use crate::source::{FULL_NAME, REF_NAME};
use crate::{Digest, Error, ErrorKind, Result};
use blobs::Blobs;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The only version there is (image-spec, image-layout).
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The largest index that is added to.
const INDEX_MAX: u64 = 16 << 20;

/// Where a layout goes.
pub enum Target<'a> {
    /// A directory: a new one, or a layout that is added to.
    Directory(&'a Path),
    /// A file: an archive of the layout. It must not exist, unless `replace` is set.
    File {
        /// The file.
        path: &'a Path,
        /// What is there may be replaced.
        replace: bool,
    },
    /// An archive of the layout, as a stream. `spool` is a directory for its parts.
    Stream {
        /// Where the archive goes.
        out: Box<dyn Write + 'a>,
        /// For what is written before.
        spool: &'a Path,
    },
}

/// An image of the layout.
#[derive(Debug)]
struct Image {
    repository: String,
    tag: String,
    manifest: Descriptor,
    config: Digest,
    layers: Vec<Digest>,
}

/// Writes a layout. Nothing of it is seen before [`LayoutWriter::finish`], but blobs in a layout that was there.
#[derive(Debug)]
pub struct LayoutWriter<'a> {
    blobs: Blobs,
    target: Target<'a>,
    images: Vec<Image>,
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "Directory({})", path.display()),
            Self::File { path, replace } => write!(f, "File({}, replace: {replace})", path.display()),
            Self::Stream { .. } => f.write_str("Stream"),
        }
    }
}

impl<'a> LayoutWriter<'a> {
    /// Begins a layout.
    ///
    /// # Errors
    /// `AlreadyExists` for a file that may not be replaced and for a directory that is no layout and not empty;
    /// `Corrupt` for a layout whose parts are no regular files; what the host says.
    pub fn new(target: Target<'a>) -> Result<Self> {
        let blobs = match &target {
            Target::Directory(path) if is_layout(path)? => Blobs::existing(path)?,
            Target::Directory(path) => Blobs::beside(path)?,
            Target::File { path, replace } => {
                check_file(path, *replace)?;
                Blobs::beside(path)?
            }
            Target::Stream { spool, .. } => Blobs::beside(&spool.join("layout"))?,
        };
        Ok(Self { blobs, target, images: Vec::new() })
    }

    /// Begins a blob of this type; [`LayoutWriter::add_blob`] takes it when it is written. Several may be written at
    /// once.
    ///
    /// # Errors
    /// What the host says.
    pub fn blob(&self) -> Result<BlobWriter> {
        self.blobs.begin()
    }

    /// Takes a blob that was written.
    ///
    /// # Errors
    /// What the host says.
    pub fn add_blob(&mut self, blob: BlobWriter, media_type: &str) -> Result<Descriptor> {
        let (digest, size) = self.blobs.add(blob)?;
        Ok(Descriptor::of(media_type, digest, size))
    }

    /// A blob of these bytes.
    fn add_bytes(&mut self, bytes: &[u8], media_type: &str) -> Result<Descriptor> {
        let mut blob = self.blob()?;
        blob.write_all(bytes).map_err(|e| Error::io(e, "write blob"))?;
        self.add_blob(blob, media_type)
    }

    /// Adds an image: its configuration, and its layers, which were added before, the lowest first.
    ///
    /// # Errors
    /// `InvalidInput` for another number of layers than the configuration has; what the host says.
    pub fn add_image(
        &mut self,
        repository: &str,
        tag: &str,
        config: &Config,
        layers: Vec<Descriptor>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Descriptor> {
        if layers.len() != config.diff_ids().len() {
            return Err(Error::new(ErrorKind::InvalidInput, "write manifest")
                .because("the configuration has another number of layers"));
        }
        let layer_digests = layers.iter().map(|layer| layer.digest).collect();
        let config_blob = self.add_bytes(config.as_str().as_bytes(), media::CONFIG)?;
        let config_digest = config_blob.digest;
        let manifest = Manifest { config: config_blob, layers, annotations: annotations.clone() };
        let mut manifest = self.add_bytes(&manifest.to_json()?, media::MANIFEST)?;
        manifest.platform = Some(config.platform().clone());
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        // Programs look an entry up by the tag alone, so only one may have it.
        let taken = self.images.iter().any(|other| other.tag == tag && other.repository != repository);
        let full = full_name(&repository, &tag);
        let reference = if taken { full.clone() } else { tag.clone() };
        manifest.annotations =
            BTreeMap::from([(FULL_NAME.to_owned(), full), (REF_NAME.to_owned(), reference)]);
        let image = Image {
            repository,
            tag,
            manifest: manifest.clone(),
            config: config_digest,
            layers: layer_digests,
        };
        self.images.retain(|other| (&other.repository, &other.tag) != (&image.repository, &image.tag));
        self.images.push(image);
        Ok(manifest)
    }

    /// Makes everything durable and the layout complete, in one step.
    ///
    /// # Errors
    /// `AlreadyExists` when a target appeared meanwhile that may not be replaced; what the host says. Nothing is seen
    /// of the new images then.
    pub fn finish(self) -> Result<()> {
        let Self { blobs, target, images } = self;
        match target {
            Target::Directory(path) => finish_directory(blobs, path, &images),
            Target::File { path, replace } => finish_file(&blobs, path, replace, &images),
            Target::Stream { mut out, .. } => {
                archive::write(&blobs, &images, &mut out)?;
                out.flush().map_err(|e| Error::io(e, "write archive"))
            }
        }
    }
}

/// The name that containerd and podman take: with a registry, which is docker.io where none is said.
fn full_name(repository: &str, tag: &str) -> String {
    let registry = repository.split_once('/').map(|(first, _)| first);
    match registry {
        Some(first) if first == "localhost" || first.contains(['.', ':']) => format!("{repository}:{tag}"),
        Some(_) => format!("docker.io/{repository}:{tag}"),
        None => format!("docker.io/library/{repository}:{tag}"),
    }
}

/// An index of these images; entries of `old` with other names come first, as they are.
fn index(old: Option<&str>, images: &[Image]) -> Result<String> {
    const OPERATION: &str = "write index";
    let mut members = match old {
        Some(text) => Members::parse(text, OPERATION)?,
        None => {
            let mut members = Members::default();
            members.set("schemaVersion", &2)?;
            members.set("mediaType", &media::INDEX)?;
            members
        }
    };
    let mut entries = Vec::new();
    for entry in members.list("manifests", OPERATION)? {
        let annotations = Members::parse(entry.get(), OPERATION)?.object("annotations", OPERATION)?;
        let named: Option<String> =
            annotations.get(REF_NAME).and_then(|name| serde_json::from_str(name).ok());
        let replaced = |image: &Image| image.manifest.annotations.get(REF_NAME) == named.as_ref();
        if named.is_none() || !images.iter().any(replaced) {
            entries.push(entry);
        }
    }
    for image in images {
        entries.push(raw(&image.manifest)?);
    }
    members.set("manifests", &entries)?;
    members.to_text()
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value).map_err(|e| Error::io(e.into(), "write JSON"))
}

fn finish_directory(blobs: Blobs, path: &Path, images: &[Image]) -> Result<()> {
    if blobs.is_new() {
        blobs.write_file("oci-layout", LAYOUT)?;
        blobs.write_file("index.json", index(None, images)?.as_bytes())?;
        return blobs.publish(path);
    }
    // Another writer may have added an image since this one began: who replaces the index holds a lock.
    let _lock = blobs.lock()?;
    let old = blobs.read_file("index.json", INDEX_MAX)?;
    Index::parse(&old, "index.json")?;
    let old = String::from_utf8(old)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "read index").about("index.json").because("not UTF-8"))?;
    blobs.replace_file("index.json", index(Some(&old), images)?.as_bytes())
}

fn finish_file(blobs: &Blobs, path: &Path, replace: bool, images: &[Image]) -> Result<()> {
    let failed = |e: std::io::Error| Error::io(e, "write archive").about(path.as_os_str().as_bytes());
    let fresh = blobs.dir_path().join("archive.tar");
    let mut file = File::create_new(&fresh).map_err(failed)?;
    archive::write(blobs, images, &mut file)?;
    file.sync_all().map_err(failed)?;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match rustix::fs::renameat_with(CWD, &fresh, CWD, path, flags) {
        // A file system that cannot: the look before is what there is.
        Err(Errno::INVAL | Errno::NOSYS) => {
            check_file(path, replace)?;
            fs::rename(&fresh, path).map_err(failed)?;
        }
        Err(Errno::EXIST) => return Err(exists(path)),
        renamed => renamed.map_err(|e| failed(e.into()))?,
    }
    blobs::sync_parent(path)
}

fn exists(path: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "write image")
        .about(path.as_os_str().as_bytes())
        .because("it is not replaced unless that is asked for")
}

/// The file may be made.
fn check_file(path: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(e, "write image").about(path.as_os_str().as_bytes())),
        Ok(meta) if meta.is_dir() => {
            Err(Error::new(ErrorKind::IsADirectory, "write image").about(path.as_os_str().as_bytes()))
        }
        Ok(meta) if replace && meta.is_file() => Ok(()),
        Ok(_) => Err(exists(path)),
    }
}

/// What is at `path` is a layout; an error for anything else but nothing and an empty directory.
fn is_layout(path: &Path) -> Result<bool> {
    let failed = |e: std::io::Error| Error::io(e, "write image").about(path.as_os_str().as_bytes());
    match fs::symlink_metadata(path.join("oci-layout")) {
        Ok(meta) if meta.is_file() => {
            let file = rustix::fs::open(
                path.join("oci-layout"),
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            );
            let mut text = Vec::new();
            let file = File::from(file.map_err(|e| failed(e.into()))?);
            file.take(4096).read_to_end(&mut text).map_err(failed)?;
            let layout = Document::parse(&text, "read layout", "oci-layout")?;
            layout.root().need("imageLayoutVersion")?.text()?;
            return Ok(true);
        }
        Ok(_) => {
            return Err(Error::new(ErrorKind::Corrupt, "write image")
                .about(path.join("oci-layout").as_os_str().as_bytes())
                .because("something else stands where a regular file has to be"));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => return Err(exists(path)),
        Err(e) => return Err(failed(e)),
    }
    match fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed(e)),
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(Error::new(ErrorKind::AlreadyExists, "write image")
                .about(path.as_os_str().as_bytes())
                .because("a directory that is not empty and no image layout is not written into")),
        },
    }
}

/// The kind of a name in a directory; `None` when it is not there.
fn kind_at(dir: impl std::os::fd::AsFd, name: &str) -> Result<Option<rustix::fs::FileType>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(rustix::fs::FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The path of something that is made beside `path`.
fn beside(path: &Path, attempt: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(".strata-");
    name.push(format!("{}-{attempt}-", std::process::id()));
    // The whole name must stay below 255 bytes.
    let own = path.file_name().unwrap_or_default().as_bytes();
    name.push(std::ffi::OsStr::from_bytes(own.get(..own.len().min(64)).unwrap_or_default()));
    path.with_file_name(name)
}
