//! Staging: makes everything that comes, with all attributes, below the staging directory. The target is not touched.
//!
//! The order for one object: made for its owner alone, content, owner, extended attributes (a write or another
//! owner would take capabilities away), mode, times; directories get theirs when everything is in them.

use super::confined::{Confined, stat};
use super::content::Copier;
use super::host;
use super::plan::Make;
use super::staging::Staging;
use super::{Owners, compare, failed};
use crate::container::Engine;
use crate::{Error, ErrorKind, Inode, Namespace, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use stratafs_core::{Access, Attr, Caller, Kind};
use stratafs_oci::Progress;

/// Makes staged objects.
pub(super) struct Stager<'a> {
    pub view: &'a Engine,
    pub staging: &'a Staging<'a>,
    pub namespace: Namespace,
    pub owners: Owners,
    pub progress: &'a dyn Progress,
    /// Bytes of content so far.
    pub bytes: u64,
}

impl Stager<'_> {
    /// Makes all, directories before what is in them.
    pub fn all(&mut self, makes: &[Make]) -> Result<()> {
        for make in makes {
            if self.progress.cancelled() {
                return Err(Error::new(ErrorKind::Busy, "promote").because("cancelled: nothing was changed"));
            }
            self.one(make)?;
        }
        for make in makes.iter().rev().filter(|make| make.name_of.is_none()) {
            let inode = self.source(make)?;
            if inode.is_dir() {
                let attr = self.view.attr(&inode)?;
                let (dir, name) = self.staging.parent(&make.place).map_err(failed("stage", &make.path))?;
                self.finish(&dir, name, &inode, &attr, make)?;
            }
        }
        Ok(())
    }

    fn source(&self, make: &Make) -> Result<Inode> {
        compare::find(self.view, &make.path)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "stage").about(&make.path))
    }

    fn one(&mut self, make: &Make) -> Result<()> {
        let fail = failed("stage", &make.path);
        let (dir, name) = self.staging.parent(&make.place).map_err(&fail)?;
        if let Some(first) = &make.name_of {
            let (from, from_name) = self.staging.parent(first).map_err(&fail)?;
            return retry_on_intr(|| fs::linkat(&from, from_name, &dir, name, AtFlags::empty()))
                .map_err(fail);
        }
        let inode = self.source(make)?;
        let attr = self.view.attr(&inode)?;
        match attr.kind {
            Kind::Dir => {
                let made = retry_on_intr(|| fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)));
                return made.map_err(fail);
            }
            Kind::File => self.file(&dir, name, &inode, make)?,
            Kind::Symlink => {
                let target = self.view.read_link(&inode)?;
                retry_on_intr(|| fs::symlinkat(target.as_slice(), &dir, name)).map_err(fail)?;
            }
            kind => {
                let device = fs::makedev(attr.rdev.major, attr.rdev.minor);
                let file_type = FileType::from_raw_mode(kind.mode_bits());
                let mode = Mode::from_raw_mode(0o600);
                retry_on_intr(|| fs::mknodat(&dir, name, file_type, mode, device)).map_err(|e| match e {
                    Errno::PERM => fail(e).because("making a device takes privilege: leave it out"),
                    e => fail(e),
                })?;
            }
        }
        self.finish(&dir, name, &inode, &attr, make)
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], inode: &Inode, make: &Make) -> Result<()> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = retry_on_intr(|| fs::openat(dir, name, how, Mode::from_raw_mode(0o600)))
            .map_err(failed("stage", &make.path))?;
        let from = self.view.open(inode, Access::read(), &Caller::root())?;
        let what = String::from_utf8_lossy(&make.path).into_owned();
        self.progress.begin(&what, Some(from.size()?));
        let mut copier = Copier { to: &file, progress: self.progress, what: &what, in_kernel: true };
        self.bytes += copier.all(&from).map_err(|e| e.about(&make.path))?;
        self.progress.finish(&what, None);
        Ok(())
    }

    /// Sets all attributes.
    fn finish(&self, dir: &OwnedFd, name: &[u8], inode: &Inode, attr: &Attr, make: &Make) -> Result<()> {
        let fail = failed("stage", &make.path);
        let held = host::hold(dir.as_fd(), name).map_err(&fail)?;
        let now = stat(held.as_fd(), b"").map_err(&fail)?.ok_or_else(|| fail(Errno::NOENT))?;
        let mut mode = attr.mode;
        if (now.uid, now.gid) != (attr.uid, attr.gid) {
            match self.owners {
                Owners::Apply => {
                    host::chown(held.as_fd(), attr.uid, attr.gid).map_err(|e| match e {
                        Errno::PERM | Errno::INVAL => fail(e).because(format!(
                            "owner {}:{} cannot be given by this process: promote with privilege, or keep your own owner",
                            attr.uid, attr.gid
                        )),
                        e => fail(e),
                    })?;
                }
                // Privilege of another owner is not to become ours.
                Owners::Own if attr.kind != Kind::Dir => mode &= 0o1777,
                Owners::Own => {}
            }
        }
        for (name, value) in compare::view_xattrs(self.view, inode, self.namespace)? {
            let set = host::set_xattr(held.as_fd(), &name, Some(&value));
            set.map_err(|e| fail(e).because(format!("attribute {}: {e}", name.escape_ascii())))?;
        }
        if attr.kind != Kind::Symlink {
            host::chmod(held.as_fd(), mode).map_err(&fail)?;
        }
        host::set_times(dir.as_fd(), name, Some(attr.atime), Some(attr.mtime)).map_err(fail)
    }
}

/// The number of a staged object.
pub(super) fn number(root: &Confined, place: &[u8]) -> Result<u64> {
    let fail = failed("stage", place);
    let seen = root.stat(&super::staging::inside(place)).map_err(&fail)?;
    seen.map(|seen| seen.ino).ok_or_else(|| fail(Errno::NOENT))
}
