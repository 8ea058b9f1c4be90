//! Attributes by path: metadata, permissions, owner, times, size, extended attributes.

use super::{Container, asked};
use crate::{Error, ErrorKind, Inode, Metadata, Result, SetAttr, SetTime, SetXattr};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use stratafs_core::Follow;

impl Container {
    /// Attributes; links are followed.
    ///
    /// # Errors
    /// What resolution says.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), Follow::Yes)
    }

    /// Attributes; a link at the end is not followed.
    ///
    /// # Errors
    /// What resolution says.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        self.stat(path.as_ref(), Follow::No)
    }

    fn stat(&self, path: &Path, follow: Follow) -> Result<Metadata> {
        let node = self.resolve(path, follow, "stat")?;
        self.view.attr(&node).map(Metadata::from).map_err(asked(path, "stat"))
    }

    /// True when something is there; links are followed. Every failure reads as absence.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok()
    }

    /// True when something is there, false when not; links are followed.
    ///
    /// # Errors
    /// Everything but absence.
    pub fn try_exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sets the permission bits, setuid, setgid and sticky (`mode & 0o7777`); links are followed.
    ///
    /// # Errors
    /// What resolution says; `NotPermitted`.
    pub fn set_permissions(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let set = SetAttr { mode: Some(mode & 0o7777), ..SetAttr::default() };
        self.set(path.as_ref(), Follow::Yes, &set, "set permissions")
    }

    /// Sets owner and group, each where it is given; links are followed.
    ///
    /// # Errors
    /// What resolution says; `NotPermitted`.
    pub fn chown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.set(path.as_ref(), Follow::Yes, &SetAttr { uid, gid, ..SetAttr::default() }, "set owner")
    }

    /// As [`Container::chown`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::chown`].
    pub fn lchown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.set(path.as_ref(), Follow::No, &SetAttr { uid, gid, ..SetAttr::default() }, "set owner")
    }

    /// Sets times to the nanosecond, each where it is given; links are followed.
    ///
    /// # Errors
    /// What resolution says; `NotPermitted`, `PermissionDenied`.
    pub fn set_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<SetTime>,
        modified: Option<SetTime>,
    ) -> Result<()> {
        let set = SetAttr { atime: accessed, mtime: modified, ..SetAttr::default() };
        self.set(path.as_ref(), Follow::Yes, &set, "set times")
    }

    /// As [`Container::set_times`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::set_times`].
    pub fn set_symlink_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<SetTime>,
        modified: Option<SetTime>,
    ) -> Result<()> {
        let set = SetAttr { atime: accessed, mtime: modified, ..SetAttr::default() };
        self.set(path.as_ref(), Follow::No, &set, "set times")
    }

    fn set(&self, path: &Path, follow: Follow, set: &SetAttr, operation: &'static str) -> Result<()> {
        let node = self.resolve(path, follow, operation)?;
        self.view.set_attr(&node, set, &self.caller).map_err(asked(path, operation))
    }

    /// Sets the size of a file: cuts it, or extends it by a hole; of a lower file only what stays is copied.
    ///
    /// # Errors
    /// What resolution says; `IsADirectory`, `InvalidInput` for anything but files.
    pub fn truncate(&self, path: impl AsRef<Path>, len: u64) -> Result<()> {
        let path = path.as_ref();
        let node = self.resolve(path, Follow::Yes, "truncate")?;
        self.view.truncate(&node, len, &self.caller).map_err(asked(path, "truncate"))
    }

    /// One extended attribute by its full name (`user.x`), `None` when it is not there; links are followed.
    /// ACLs are `system.posix_acl_access` and `system.posix_acl_default`.
    ///
    /// # Errors
    /// What resolution says.
    pub fn xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        self.get_xattr(path.as_ref(), Follow::Yes, name.as_ref())
    }

    /// As [`Container::xattr`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::xattr`].
    pub fn symlink_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        self.get_xattr(path.as_ref(), Follow::No, name.as_ref())
    }

    fn get_xattr(&self, path: &Path, follow: Follow, name: &OsStr) -> Result<Option<Vec<u8>>> {
        let node = self.resolve(path, follow, "get xattr")?;
        self.view.xattr_as(&node, name.as_bytes(), &self.caller).map_err(asked(path, "get xattr"))
    }

    /// The full names of the extended attributes; links are followed.
    ///
    /// # Errors
    /// What resolution says.
    pub fn xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<Vec<u8>>> {
        self.list_xattrs(path.as_ref(), Follow::Yes)
    }

    /// As [`Container::xattrs`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::xattrs`].
    pub fn symlink_xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<Vec<u8>>> {
        self.list_xattrs(path.as_ref(), Follow::No)
    }

    fn list_xattrs(&self, path: &Path, follow: Follow) -> Result<Vec<Vec<u8>>> {
        let node = self.resolve(path, follow, "list xattrs")?;
        self.view.xattrs_as(&node, &self.caller).map_err(asked(path, "list xattrs"))
    }

    /// Sets an extended attribute by its full name; links are followed.
    ///
    /// # Errors
    /// What resolution says; `NotPermitted`, `Unsupported`, `Range`, `NoSpace`.
    pub fn set_xattr(
        &self,
        path: impl AsRef<Path>,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.put_xattr(path.as_ref(), Follow::Yes, name.as_ref(), value.as_ref())
    }

    /// As [`Container::set_xattr`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::set_xattr`].
    pub fn set_symlink_xattr(
        &self,
        path: impl AsRef<Path>,
        name: impl AsRef<OsStr>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.put_xattr(path.as_ref(), Follow::No, name.as_ref(), value.as_ref())
    }

    fn put_xattr(&self, path: &Path, follow: Follow, name: &OsStr, value: &[u8]) -> Result<()> {
        let node = self.resolve(path, follow, "set xattr")?;
        let how = SetXattr::Any;
        self.view
            .set_xattr(&node, name.as_bytes(), value, how, &self.caller)
            .map_err(asked(path, "set xattr"))
    }

    /// Removes an extended attribute by its full name; links are followed.
    ///
    /// # Errors
    /// What resolution says; `NoData` when it is not there.
    pub fn remove_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<()> {
        self.drop_xattr(path.as_ref(), Follow::Yes, name.as_ref())
    }

    /// As [`Container::remove_xattr`], of a link itself.
    ///
    /// # Errors
    /// As [`Container::remove_xattr`].
    pub fn remove_symlink_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<()> {
        self.drop_xattr(path.as_ref(), Follow::No, name.as_ref())
    }

    fn drop_xattr(&self, path: &Path, follow: Follow, name: &OsStr) -> Result<()> {
        let node = self.resolve(path, follow, "remove xattr")?;
        self.view.remove_xattr(&node, name.as_bytes(), &self.caller).map_err(asked(path, "remove xattr"))
    }

    /// The node of a symbolic link's target.
    pub(crate) fn link_target(&self, node: &Inode) -> Result<Vec<u8>> {
        if node.kind() != crate::Kind::Symlink {
            return Err(Error::new(ErrorKind::InvalidInput, "read link").because("not a symbolic link"));
        }
        self.view.read_link(node)
    }
}
