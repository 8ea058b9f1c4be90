//! Blobs of a layout that is being written: each in a file without its name, until digest and size are known and the
//! content is on disk.

use super::{beside, kind_at};
use crate::{Digest, Error, ErrorKind, Hasher, Result};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Names that are tried for something new.
const TRIES: u32 = 1_000;

/// The directory of a layout.
#[derive(Debug)]
pub(super) struct Blobs {
    path: PathBuf,
    dir: OwnedFd,
    sha256: OwnedFd,
    /// Made for this and not where it belongs yet: it goes with this.
    new: bool,
    /// Digest and size of what was added.
    added: BTreeMap<Digest, u64>,
    serial: AtomicU32,
}

/// A blob that is being written; dropping it removes it.
#[derive(Debug)]
pub struct BlobWriter {
    out: Option<Hasher<BufWriter<File>>>,
    dir: OwnedFd,
    /// Empty once it has the name of its digest.
    name: String,
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.as_mut().map_or(Ok(0), |out| out.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Once it has its own name, the other may be somebody else's.
        if !self.name.is_empty() {
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

impl Blobs {
    /// A layout that is there.
    pub(super) fn existing(path: &Path) -> Result<Self> {
        let dir = File::open(path).map_err(failed(path, "open layout"))?.into();
        Self::with(path, dir, false)
    }

    /// A new one beside `path`, which is not touched.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        for attempt in 0..TRIES {
            let fresh = beside(path, attempt);
            match DirBuilder::new().mode(0o700).create(&fresh) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(failed(&fresh, "create"))?;
                    let dir = match File::open(&fresh) {
                        Ok(dir) => dir.into(),
                        Err(e) => {
                            let _ = fs::remove_dir(&fresh);
                            return Err(failed(&fresh, "open")(e));
                        }
                    };
                    return Self::with(&fresh, dir, true);
                }
            }
        }
        Err(failed(path, "create")(io::ErrorKind::AlreadyExists.into()))
    }

    fn with(path: &Path, dir: OwnedFd, new: bool) -> Result<Self> {
        let (mode, path) = (Mode::from_raw_mode(0o755), path.to_owned());
        let opened = match make_dir(&dir, "blobs", mode).and_then(|blobs| make_dir(&blobs, "sha256", mode)) {
            Ok(sha256) => Ok(sha256),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(Error::new(ErrorKind::Corrupt, "open layout")
                .about(path.join("blobs/sha256").as_os_str().as_bytes())
                .because("something else stands where a directory has to be")),
            Err(e) => Err(failed(&path.join("blobs/sha256"), "open layout")(e.into())),
        };
        if opened.is_err() && new {
            let _ = fs::remove_dir_all(&path);
        }
        let sha256 = opened?;
        Ok(Self { path, dir, sha256, new, added: BTreeMap::new(), serial: AtomicU32::new(0) })
    }

    /// It is not where it belongs yet.
    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    /// Where it is now.
    pub(super) fn dir_path(&self) -> &Path {
        &self.path
    }

    /// Begins a blob.
    pub(super) fn begin(&self) -> Result<BlobWriter> {
        let (file, name) = self.create(&self.sha256)?;
        let dir = self.sha256.try_clone().map_err(failed(&self.path, "write blob"))?;
        Ok(BlobWriter { out: Some(Hasher::new(BufWriter::with_capacity(1 << 18, file))), dir, name })
    }

    /// A new file in `dir` under a name that nobody looks for.
    fn create(&self, dir: &OwnedFd) -> Result<(File, String)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..TRIES {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let name = format!(".strata-{}-{serial}", std::process::id());
            match rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(0o644)) {
                Err(Errno::EXIST) => {}
                Ok(fd) => return Ok((fd.into(), name)),
                Err(e) => return Err(failed(&self.path, "write blob")(e.into())),
            }
        }
        Err(failed(&self.path, "write blob")(io::ErrorKind::AlreadyExists.into()))
    }

    /// Gives a blob its name. One that is there already stays: it has the same content.
    pub(super) fn add(&mut self, mut blob: BlobWriter) -> Result<(Digest, u64)> {
        let failed = |e: io::Error| failed(&self.path, "write blob")(e);
        let Some(out) = blob.out.take() else { return Err(failed(io::ErrorKind::BrokenPipe.into())) };
        let (digest, size, out) = out.finish();
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_data().map_err(failed)?;
        let name = digest.hex();
        // What has the name but not the size was torn by a crash of somebody who did not sync.
        let whole = match rustix::fs::statat(&self.sha256, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && u64::try_from(stat.st_size) == Ok(size)
            }
            Err(Errno::NOENT) => false,
            Err(e) => return Err(failed(e.into())),
        };
        if !whole {
            rustix::fs::renameat(&self.sha256, &blob.name, &self.sha256, &name)
                .map_err(|e| failed(e.into()))?;
            blob.name.clear();
        }
        self.added.insert(digest, size);
        Ok((digest, size))
    }

    /// Digests and sizes of what was added, in their order.
    pub(super) fn added(&self) -> impl Iterator<Item = (&Digest, u64)> {
        self.added.iter().map(|(digest, size)| (digest, *size))
    }

    /// Opens a blob that was added.
    pub(super) fn open(&self, digest: &Digest) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.sha256, digest.hex(), flags, Mode::empty())
            .map(File::from)
            .map_err(|e| failed(&self.path, "read blob")(e.into()))
    }

    /// Writes a file at the top of a new layout.
    pub(super) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let (mut file, fresh) = self.create(&self.dir)?;
        let written = file
            .write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&self.dir, &fresh, &self.dir, name)?));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &fresh, AtFlags::empty());
        }
        written.map_err(failed(&self.path.join(name), "write image"))
    }

    /// Replaces a file at the top of a layout in one step, after all blobs are there to stay.
    pub(super) fn replace_file(&self, name: &str, content: &[u8]) -> Result<()> {
        self.sync_blobs()?;
        self.write_file(name, content)?;
        rustix::fs::fsync(&self.dir).map_err(|e| failed(&self.path, "sync")(e.into()))
    }

    fn sync_blobs(&self) -> Result<()> {
        rustix::fs::fsync(&self.sha256).map_err(|e| failed(&self.path, "sync")(e.into()))
    }

    /// The content of a file at the top.
    pub(super) fn read_file(&self, name: &str, max: u64) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        match kind_at(&self.dir, name).map_err(|e| failed(&path, "read")(e.into()))? {
            Some(FileType::RegularFile) => {}
            _ => {
                return Err(Error::new(ErrorKind::Corrupt, "read image")
                    .about(path.as_os_str().as_bytes())
                    .because("a regular file has to be there"));
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::empty());
        let file = File::from(file.map_err(|e| failed(&path, "read")(e.into()))?);
        let mut out = Vec::new();
        file.take(max + 1).read_to_end(&mut out).map_err(failed(&path, "read"))?;
        if out.len() as u64 > max {
            return Err(Error::new(ErrorKind::TooLarge, "read image").about(path.as_os_str().as_bytes()));
        }
        Ok(out)
    }

    /// Keeps other writers of this program from the index while it is held.
    pub(super) fn lock(&self) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&self.dir, ".", flags, Mode::empty())
            .map_err(|e| failed(&self.path, "lock")(e.into()))?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive)
            .map_err(|e| failed(&self.path, "lock")(e.into()))?;
        Ok(dir.into())
    }

    /// Moves a new layout to `path`, where nothing is or an empty directory.
    pub(super) fn publish(mut self, path: &Path) -> Result<()> {
        self.sync_blobs()?;
        rustix::fs::chmod(&self.path, Mode::from_raw_mode(0o755))
            .and_then(|()| rustix::fs::fsync(&self.dir))
            .map_err(|e| failed(path, "write image")(e.into()))?;
        // A directory only replaces an empty one.
        fs::rename(&self.path, path).map_err(failed(path, "write image"))?;
        self.new = false;
        sync_parent(path)
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        if self.new {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make_dir(dir: &OwnedFd, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, name, mode) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()),
        Err(e) => Err(e),
    }
}

/// Makes a name durable.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed(parent, "sync"))
}

fn failed<'p>(path: &'p Path, operation: &'static str) -> impl Fn(io::Error) -> Error + 'p {
    move |e| Error::io(e, operation).about(path.as_os_str().as_bytes())
}
