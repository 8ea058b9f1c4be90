//! [`Place`]: blobs by name, in a directory or in an archive. Several can be open at a time: everything is read by
//! position.

use super::archive::Archive;
use crate::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where blobs are.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Dir(OwnedFd),
    Archive(Archive),
}

/// A part of a file, read by position.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

/// Something that can be opened again and again.
#[derive(Debug, Clone)]
pub(super) enum Member {
    /// A whole file.
    Whole(Arc<File>),
    /// By its name in a place.
    Named(Arc<Place>, String),
}

impl Part {
    /// `len` bytes of `file` from `at` on.
    pub(super) fn new(file: Arc<File>, at: u64, len: u64) -> Self {
        Self { file, at, end: at.saturating_add(len) }
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read_at(buf.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Member {
    /// A whole file.
    pub(super) fn whole(file: Arc<File>) -> Self {
        Self::Whole(file)
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<Part> {
        match self {
            Self::Whole(file) => {
                let len = file.metadata().map_err(|e| Error::io(e, "open image"))?.len();
                Ok(Part::new(Arc::clone(file), 0, len))
            }
            Self::Named(place, name) => place.open(name)?.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "open blob").about(name).because("the blob is missing")
            }),
        }
    }
}

/// Never through a link; what is planted there must not block.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Place {
    /// The layout in a directory that is open; `None` when it is no layout.
    pub(super) fn open_layout(dir: File, path: &Path) -> Result<Option<Self>> {
        let place = Self { path: path.to_owned(), kind: Kind::Dir(dir.into()) };
        Ok(place.has("oci-layout")?.then_some(place))
    }

    /// The members of an archive.
    pub(super) fn archive(archive: Archive, path: &Path) -> Self {
        Self { path: path.to_owned(), kind: Kind::Archive(archive) }
    }

    /// What to call it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Something of this name is there.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match &self.kind {
            Kind::Dir(dir) => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(true),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
                Err(e) => Err(self.failed(name, e.into())),
            },
            Kind::Archive(archive) => Ok(archive.has(name)),
        }
    }

    /// Opens the regular file `name`; `None` when it is not there.
    pub(super) fn open(&self, name: &str) -> Result<Option<Part>> {
        let dir = match &self.kind {
            Kind::Archive(archive) => return archive.open(name),
            Kind::Dir(dir) => dir,
        };
        let file = match walk(dir, name) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            // A device without a driver, a socket.
            Err(Errno::NXIO | Errno::NODEV) => return Err(self.not_a_file(name, "a device or socket")),
            Err(Errno::LOOP) => return Err(self.not_a_file(name, "a symbolic link")),
            // O_DIRECTORY and O_NOFOLLOW on a link.
            Err(Errno::NOTDIR) => return Err(self.not_a_file(name, "something else on the way")),
            Err(e) => return Err(self.failed(name, e.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| self.failed(name, e.into()))?;
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let len = u64::try_from(stat.st_size).unwrap_or(0);
                return Ok(Some(Part::new(Arc::new(file), 0, len)));
            }
            FileType::Directory => "a directory",
            FileType::Fifo => "a fifo",
            _ => "a device",
        };
        Err(self.not_a_file(name, what))
    }

    fn not_a_file(&self, name: &str, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, "open image")
            .about(self.path.join(name).as_os_str().as_bytes())
            .because(format!("{what} stands where a regular file has to be"))
    }

    fn failed(&self, name: &str, e: io::Error) -> Error {
        Error::io(e, "open image").about(self.path.join(name).as_os_str().as_bytes())
    }
}

/// Opens `name` below `dir`, component by component without following links.
fn walk(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    let mut parts = name.split('/').peekable();
    while let Some(part) = parts.next() {
        // Only fixed names and digests get here; the kernel's reading of these two would lead out.
        if matches!(part, "" | "." | "..") {
            return Err(Errno::NOENT);
        }
        let flags = if parts.peek().is_some() { DIRECTORY } else { FILE };
        let at = held.as_ref().map_or_else(|| dir.as_fd(), AsFd::as_fd);
        held = Some(rustix::fs::openat(at, part, flags, Mode::empty())?);
    }
    held.ok_or(Errno::NOENT)
}

/// A file in `dir` without a name, for reading and writing: it goes when it is closed.
pub(super) fn unnamed(dir: &Path) -> Result<File> {
    let failed = |e: Errno| Error::io(e.into(), "create spool file").about(dir.as_os_str().as_bytes());
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, dir, flags, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
        made => return made.map(File::from).map_err(failed),
    }
    // A file system without O_TMPFILE.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    for attempt in 0..1_000 {
        let name = dir.join(format!(".spool-{}-{attempt}", std::process::id()));
        match rustix::fs::openat(CWD, &name, flags, mode) {
            Err(Errno::EXIST) => {}
            made => {
                let file = made.map_err(failed)?;
                rustix::fs::unlink(&name).map_err(failed)?;
                return Ok(file.into());
            }
        }
    }
    Err(failed(Errno::EXIST))
}
