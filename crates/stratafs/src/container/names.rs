//! Names by path: making, linking, renaming and removing, one step each.

use super::{Container, asked, asked_two};
use crate::{Device, Error, ErrorKind, File, Inode, Kind, New, OpenOptions, ReadDir, RenameFlags, Result};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use stratafs_core::{Entry, Follow};

impl Container {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// What resolution says; `IsADirectory`, `PermissionDenied`.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a file for writing, making it or cutting it to nothing.
    ///
    /// # Errors
    /// As [`Container::open`]; `NoSpace`.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// Opens a file as `options` say.
    ///
    /// # Errors
    /// As [`Container::open`]; `AlreadyExists` with `create_new`; `InvalidInput` for options that contradict
    /// each other, as with [`std::fs::OpenOptions`].
    pub fn open_with(&self, path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let path = path.as_ref();
        options.open(self, path).map_err(asked(path, "open"))
    }

    /// The entries of a directory, in a stable order.
    ///
    /// # Errors
    /// What resolution says; `NotADirectory`, `PermissionDenied`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir> {
        let path = path.as_ref();
        let dir = self.resolve(path, Follow::Yes, "read directory")?;
        let handle = self.view.open_dir(&dir, &self.caller).map_err(asked(path, "read directory"))?;
        Ok(ReadDir::new(self.view.clone(), path, dir, handle))
    }

    /// The target of a symbolic link, as it was stored.
    ///
    /// # Errors
    /// What resolution says; `InvalidInput` for anything else than a link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let node = self.resolve(path, Follow::No, "read link")?;
        let target = self.link_target(&node).map_err(asked(path, "read link"))?;
        Ok(std::ffi::OsString::from_vec(target).into())
    }

    /// Makes a directory, mode 0777 less the umask.
    ///
    /// # Errors
    /// What resolution says; `AlreadyExists`.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        self.make(path.as_ref(), &New::dir(0o777), "create directory").map(drop)
    }

    /// Makes a symbolic link at `path` that says `target`.
    ///
    /// # Errors
    /// What resolution says; `AlreadyExists`.
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let new = New::symlink(target.as_ref().as_os_str().as_bytes());
        self.make(path.as_ref(), &new, "create link").map(drop)
    }

    /// Makes a device, fifo or socket node: `mode & 0o7777` less the umask.
    ///
    /// # Errors
    /// What resolution says; `AlreadyExists`; `NotPermitted` for devices without privilege.
    pub fn mknod(&self, path: impl AsRef<Path>, kind: Kind, mode: u32, device: Device) -> Result<()> {
        self.make(path.as_ref(), &New::node(kind, mode, device), "create node").map(drop)
    }

    /// Makes a named pipe, `mode & 0o7777` less the umask.
    ///
    /// # Errors
    /// As [`Container::mknod`].
    pub fn mkfifo(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        self.mknod(path, Kind::Fifo, mode, Device::default())
    }

    fn make(&self, path: &Path, new: &New<'_>, operation: &'static str) -> Result<Inode> {
        let new = New { umask: self.umask, ..*new };
        let entry = match self.parent_of(path, operation) {
            // `mkdir /` and `mkdir a/..` name directories that are there.
            Err(_) if self.exists(path) => {
                return Err(asked(path, operation)(Error::new(ErrorKind::AlreadyExists, operation)));
            }
            entry => entry?,
        };
        if entry.must_be_dir && new.kind != Kind::Dir {
            return Err(asked(path, operation)(Error::new(ErrorKind::NotFound, operation)));
        }
        self.view.make(&entry.dir, entry.name.as_name(), &new, &self.caller).map_err(asked(path, operation))
    }

    /// Gives the object at `from` one more name; a link at the end is not followed.
    ///
    /// # Errors
    /// What resolution says; `AlreadyExists`; `NotPermitted` for directories.
    pub fn hard_link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let node = self.resolve(from, Follow::No, "link")?;
        let entry = self.parent_of(to, "link")?;
        self.view
            .link(&node, &entry.dir, entry.name.as_name(), &self.caller)
            .map_err(asked_two(from, to, "link"))
    }

    /// Removes anything but a directory.
    ///
    /// # Errors
    /// What resolution says; `IsADirectory`, `PermissionDenied`, `NotPermitted`.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let entry = self.parent_of(path, "remove")?;
        if entry.must_be_dir {
            return Err(asked(path, "remove")(Error::new(ErrorKind::NotADirectory, "remove")));
        }
        self.view.unlink(&entry.dir, entry.name.as_name(), &self.caller).map_err(asked(path, "remove"))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What resolution says; `NotADirectory`, `NotEmpty`, `PermissionDenied`, `NotPermitted`.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let entry = self.parent_of(path, "remove directory")?;
        self.view
            .rmdir(&entry.dir, entry.name.as_name(), &self.caller)
            .map_err(asked(path, "remove directory"))
    }

    /// Renames, replacing what is at `to` where rename(2) does. Directories of the layers too, at a cost that
    /// does not grow with what is in them.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    /// Renames without replacing, or exchanges two names.
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn rename_with(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        flags: RenameFlags,
    ) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let failed = asked_two(from, to, "rename");
        let (source, target) = (self.parent_of(from, "rename")?, self.parent_of(to, "rename")?);
        if source.must_be_dir || target.must_be_dir {
            let node = self.view.lookup(&source.dir, source.name.as_name()).map_err(&failed)?;
            if node.is_some_and(|node| node.kind() != Kind::Dir) {
                return Err(failed(Error::new(ErrorKind::NotADirectory, "rename")));
            }
        }
        let (old, new) = (source.name.as_name(), target.name.as_name());
        self.view.rename(&source.dir, old, &target.dir, new, flags, &self.caller).map_err(failed)
    }

    pub(crate) fn parent_of(
        &self,
        path: &Path,
        operation: &'static str,
    ) -> Result<Entry<crate::AnyLayer, crate::AnyScratch>> {
        self.view
            .resolve_parent(&self.base, path.as_os_str().as_bytes(), &self.caller)
            .map_err(asked(path, operation))
    }
}
