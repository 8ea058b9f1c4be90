//! [`File`] and [`OpenOptions`]: open files in the style of std. A file stays coherent: a reader that opened
//! it before another handle's copy-up sees what is written after it; it outlives its names.

use crate::{Allocate, Caller, Container, Error, ErrorKind, Handle, Inode, Kind, Metadata, New, Result};
use crate::{SetAttr, SetTime};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stratafs_core::view::SYMLINKS_MAX;
use stratafs_core::{Access, Follow, Sync};

/// How to open a file; everything is off at first.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    no_follow: bool,
    mode: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// All off; a file that is made gets mode 0666 less the umask.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            no_follow: false,
            mode: 0o666,
        }
    }

    /// For reading.
    pub fn read(&mut self, yes: bool) -> &mut Self {
        self.read = yes;
        self
    }

    /// For writing.
    pub fn write(&mut self, yes: bool) -> &mut Self {
        self.write = yes;
        self
    }

    /// For writing, always at the end.
    pub fn append(&mut self, yes: bool) -> &mut Self {
        self.append = yes;
        self
    }

    /// Cuts the file to nothing; of a lower file no data is copied up.
    pub fn truncate(&mut self, yes: bool) -> &mut Self {
        self.truncate = yes;
        self
    }

    /// Makes the file where it is missing.
    pub fn create(&mut self, yes: bool) -> &mut Self {
        self.create = yes;
        self
    }

    /// Makes the file; anything that is there is `AlreadyExists`.
    pub fn create_new(&mut self, yes: bool) -> &mut Self {
        self.create_new = yes;
        self
    }

    /// A symbolic link at the end is `Loop` (`O_NOFOLLOW`).
    pub fn no_follow(&mut self, yes: bool) -> &mut Self {
        self.no_follow = yes;
        self
    }

    /// Permission bits of a file that is made, less the umask.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    fn writes(&self) -> bool {
        self.write || self.append
    }

    /// The same contradictions as with std: no access, cutting or making without writing, cutting while
    /// appending.
    fn check(&self) -> Result<()> {
        let makes = self.create || self.create_new;
        let why = if !self.read && !self.writes() {
            "neither read, write nor append"
        } else if !self.writes() && (self.truncate || makes) {
            "create and truncate need write or append"
        } else if self.append && self.truncate && !self.create_new {
            "append and truncate contradict each other"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, "open").because(why))
    }

    pub(crate) fn open(&self, container: &Container, path: &Path) -> Result<File> {
        self.check()?;
        let access = Access {
            read: self.read,
            write: self.writes(),
            append: self.append,
            truncate: self.truncate && !self.create_new,
        };
        let (node, made) = self.find(container, path)?;
        if self.no_follow && node.kind() == Kind::Symlink {
            return Err(Error::new(ErrorKind::Loop, "open"));
        }
        // Whoever made the file may use it as asked, whatever its mode says (open(2)).
        let maker = Caller { privileged: true, ..(*container.caller).clone() };
        let handle = container.view.open(&node, access, if made { &maker } else { &container.caller })?;
        Ok(File {
            container: container.clone(),
            handle: Arc::new(handle),
            append: self.append,
            position: Arc::new(Mutex::new(0)),
        })
    }

    /// The object to open, and whether it was made for this.
    fn find(&self, container: &Container, path: &Path) -> Result<(Inode, bool)> {
        let view = &container.view;
        let bytes = path.as_os_str().as_bytes();
        if !self.create && !self.create_new {
            let follow = if self.no_follow { Follow::No } else { Follow::Yes };
            return Ok((view.resolve(&container.base, bytes, follow, &container.caller)?, false));
        }
        // A link that dangles is followed: its target is made, unless the file has to be new (open(2)).
        let (mut base, mut target) = (container.base.clone(), bytes.to_vec());
        let mut links = 0;
        loop {
            let entry = match view.resolve_parent(&base, &target, &container.caller) {
                // The root, `.` and `..` are directories that are there.
                Err(_) if view.resolve(&base, &target, Follow::Yes, &container.caller).is_ok_and(is_dir) => {
                    let kind =
                        if self.create_new { ErrorKind::AlreadyExists } else { ErrorKind::IsADirectory };
                    return Err(Error::new(kind, "open"));
                }
                entry => entry?,
            };
            let name = entry.name.as_name();
            match view.lookup(&entry.dir, name)? {
                Some(_) if self.create_new => return Err(Error::new(ErrorKind::AlreadyExists, "open")),
                Some(node) if node.kind() == Kind::Symlink && !self.no_follow => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Err(Error::new(ErrorKind::Loop, "open"));
                    }
                    target = view.read_link(&node)?;
                    base = entry.dir;
                }
                Some(node) if entry.must_be_dir && node.kind() != Kind::Dir => {
                    return Err(Error::new(ErrorKind::NotADirectory, "open"));
                }
                Some(node) => return Ok((node, false)),
                None if entry.must_be_dir => return Err(Error::new(ErrorKind::IsADirectory, "open")),
                None => {
                    let new = New { umask: container.umask, ..New::file(self.mode) };
                    match view.make(&entry.dir, name, &new, &container.caller) {
                        // Another thread was faster: look again.
                        Err(e) if e.kind() == ErrorKind::AlreadyExists && !self.create_new => {}
                        made => return Ok((made?, true)),
                    }
                }
            }
        }
    }
}

fn is_dir(node: Inode) -> bool {
    node.kind() == Kind::Dir
}

/// An open file of a container. Clones share the position, as after dup(2).
#[derive(Debug, Clone)]
pub struct File {
    container: Container,
    handle: Arc<Handle>,
    append: bool,
    position: Arc<Mutex<u64>>,
}

impl File {
    /// The open file of the engine.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Attributes now.
    ///
    /// # Errors
    /// What the layer says.
    pub fn metadata(&self) -> Result<Metadata> {
        self.container.view.attr(self.handle.inode()).map(Metadata::from)
    }

    /// Reads at `offset` without moving the position; 0 at the end.
    ///
    /// # Errors
    /// `BadHandle` when not open for reading.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.handle.read_at(buf, offset)
    }

    /// Writes at `offset` without moving the position. May be short.
    ///
    /// # Errors
    /// `BadHandle` when not open for writing; `NoSpace`.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.handle.write_at(buf, offset)
    }

    /// Sets the size.
    ///
    /// # Errors
    /// `BadHandle` when not open for writing; `NoSpace`, `TooLarge`.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.handle.set_len(len)
    }

    /// Sets the permission bits.
    ///
    /// # Errors
    /// `NotPermitted`.
    pub fn set_permissions(&self, mode: u32) -> Result<()> {
        self.set(&SetAttr { mode: Some(mode & 0o7777), ..SetAttr::default() })
    }

    /// Sets times, each where it is given.
    ///
    /// # Errors
    /// `NotPermitted`, `PermissionDenied`.
    pub fn set_times(&self, accessed: Option<SetTime>, modified: Option<SetTime>) -> Result<()> {
        self.set(&SetAttr { atime: accessed, mtime: modified, ..SetAttr::default() })
    }

    fn set(&self, set: &SetAttr) -> Result<()> {
        self.container.view.set_attr(self.handle.inode(), set, &self.container.caller)
    }

    /// Changes the blocks under a range: fallocate(2).
    ///
    /// # Errors
    /// `BadHandle`, `NoSpace`, `Unsupported`.
    pub fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        self.handle.allocate(how, offset, len)
    }

    /// Frees the blocks under a range, which then reads as zeros.
    ///
    /// # Errors
    /// As [`File::allocate`].
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate(Allocate::PunchHole, offset, len)
    }

    /// The first offset at or after `offset` with data.
    ///
    /// # Errors
    /// What the layer says.
    pub fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.handle.seek_data(offset)
    }

    /// The first offset at or after `offset` that is a hole; the end counts as one.
    ///
    /// # Errors
    /// What the layer says.
    pub fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.handle.seek_hole(offset)
    }

    /// Copies a range from another file of the same container by the host's best means: copy_file_range(2).
    /// May be short; 0 at the end of `from`.
    ///
    /// # Errors
    /// `BadHandle`, `NoSpace`; `InvalidInput` for overlapping ranges of one file.
    pub fn copy_range(&self, from: &Self, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        self.handle.copy_range(&from.handle, from_offset, offset, len)
    }

    /// Makes data and attributes durable: fsync(2).
    ///
    /// # Errors
    /// What the host says; after a failure the file's fate is not known.
    pub fn sync_all(&self) -> Result<()> {
        self.handle.sync(Sync::All)
    }

    /// Makes the data durable: fdatasync(2).
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub fn sync_data(&self) -> Result<()> {
        self.handle.sync(Sync::Data)
    }

    fn position(&self) -> MutexGuard<'_, u64> {
        // A number stays valid whatever a panicking thread did.
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut position = self.position();
        let read = self.handle.read_at(buf, *position)?;
        *position += read as u64;
        Ok(read)
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut position = self.position();
        let written = if self.append {
            let (at, written) = self.handle.append(buf)?;
            *position = at;
            written
        } else {
            self.handle.write_at(buf, *position)?
        };
        *position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut position = self.position();
        let (base, by) = match to {
            SeekFrom::Start(offset) => (offset, 0),
            SeekFrom::Current(by) => (*position, by),
            SeekFrom::End(by) => (self.handle.size()?, by),
        };
        let target = base.checked_add_signed(by).filter(|at| i64::try_from(*at).is_ok());
        *position = target.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "seek"))?;
        Ok(*position)
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}
