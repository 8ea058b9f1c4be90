//! Changing objects in place: attributes, extended attributes, marks; and making them durable.

use super::DirScratch;
use super::stage::unmapped;
use crate::marks;
use crate::namespace::Namespace;
use crate::node::{Held, Node};
use crate::sys::{self, Obj, Sys};
use rustix::fd::AsFd;
use rustix::fs::{OFlags, XattrFlags};
use rustix::io::Errno;
use stratafs_core::marks::REDIRECT_MAX;
use stratafs_core::{ErrorKind, Kind, Mark, Result, SetAttr, SetXattr, Sync};

/// A redirect of so many bytes fits into every file system's attributes; it is the most that the kernel writes.
const REDIRECT_ANYWHERE: usize = 256;

impl DirScratch {
    pub(super) fn change_attr(&self, node: &Node, set: &SetAttr) -> Result<()> {
        let held = self.tree.held(node)?;
        let obj = held.obj();
        let fail = |e| self.tree.failed("set attributes", node)(e);
        if self.stash {
            self.stash_attr(node, obj, set)?;
        } else {
            if set.uid.is_some() || set.gid.is_some() {
                sys::meta::chown(obj, set.uid, set.gid).map_err(unmapped).map_err(fail)?;
            }
            if let Some(mode) = set.mode {
                sys::meta::chmod(obj, mode).map_err(fail)?;
            }
        }
        if set.atime.is_some() || set.mtime.is_some() {
            sys::meta::utimens(obj, set.atime, set.mtime).map_err(fail)?;
        }
        Ok(())
    }

    fn stash_attr(&self, node: &Node, obj: Obj<'_>, set: &SetAttr) -> Result<()> {
        if set.uid.is_none() && set.gid.is_none() && set.mode.is_none() {
            return Ok(());
        }
        let fail = |e| self.tree.failed("set attributes", node)(e);
        let is = sys::stat::attr(obj).map_err(fail)?;
        if is.kind == Kind::Symlink {
            return if set.mode.is_some() { Err(fail(Errno::OPNOTSUPP)) } else { Ok(()) };
        }
        let mut meant = self.tree.attr_of(obj).map_err(fail)?.map_err(self.tree.located(node))?;
        if set.uid.is_some() || set.gid.is_some() {
            meant.uid = set.uid.unwrap_or(meant.uid);
            meant.gid = set.gid.unwrap_or(meant.gid);
            if meant.kind != Kind::Dir {
                // As chown(2) does it; a mode that is set too comes after.
                let group_runs = meant.mode & 0o010 != 0;
                meant.mode &= if group_runs { !0o6000 } else { !0o4000 };
            }
        }
        meant.mode = set.mode.map_or(meant.mode, |mode| mode & 0o7777);
        self.store_ownership(obj, &is, &meant).map_err(fail)
    }

    pub(super) fn put_xattr(&self, node: &Node, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        let stored = self.tree.stored_name(name);
        let stored = stored.ok_or_else(|| self.tree.error(ErrorKind::NotPermitted, "set attribute", node))?;
        let flags = match how {
            SetXattr::Any => XattrFlags::empty(),
            SetXattr::Create => XattrFlags::CREATE,
            SetXattr::Replace => XattrFlags::REPLACE,
        };
        let held = self.tree.held(node)?;
        self.attribute_changed(node, name);
        sys::xattr::set(held.obj(), &stored, value, flags).map_err(self.tree.failed("set attribute", node))
    }

    pub(super) fn take_xattr(&self, node: &Node, name: &[u8]) -> Result<()> {
        let stored = self.tree.stored_name(name);
        let stored = stored.ok_or_else(|| self.tree.error(ErrorKind::NoData, "remove attribute", node))?;
        let held = self.tree.held(node)?;
        self.attribute_changed(node, name);
        sys::xattr::remove(held.obj(), &stored).map_err(self.tree.failed("remove attribute", node))
    }

    pub(super) fn put_mark(&self, node: &Node, mark: Mark<'_>) -> Result<()> {
        let unsupported = || self.tree.error(ErrorKind::Unsupported, "mark", node);
        let (name, value) = match mark {
            Mark::Opaque => (marks::OPAQUE, marks::YES.to_vec()),
            Mark::Impure => (marks::IMPURE, marks::YES.to_vec()),
            Mark::Redirect(_) if !self.features.redirect => return Err(unsupported()),
            Mark::Redirect(to) => (marks::REDIRECT, to.encode()),
            Mark::Metacopy if !self.features.metacopy => return Err(unsupported()),
            Mark::Metacopy => (marks::METACOPY, Vec::new()),
            Mark::Origin(origin) => (marks::ORIGIN, origin.as_bytes().to_vec()),
            Mark::Nlink(base) => (marks::NLINK, marks::encode_nlink(base).into_bytes()),
            Mark::OwnData => return self.own_data(node),
        };
        if name == marks::REDIRECT && value.len() > REDIRECT_MAX {
            return Err(self
                .tree
                .error(ErrorKind::CrossDevice, "mark", node)
                .because(format!("a redirect has at most {REDIRECT_MAX} bytes")));
        }
        if self.tree.namespace() == Namespace::User && matches!(name, marks::REDIRECT | marks::METACOPY) {
            self.work.mark_redirects()?;
        }
        let held = self.tree.held(node)?;
        let name = self.tree.namespace().own(name);
        match sys::xattr::set(held.obj(), &name, &value, XattrFlags::empty()) {
            // Links, devices and the like can have no user attributes; their origin is only a help.
            Err(Errno::PERM)
                if self.tree.namespace() == Namespace::User && matches!(mark, Mark::Origin(_)) =>
            {
                Ok(())
            }
            // ext4 keeps attributes in one block and calls a larger one a lack of space.
            Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE)
                if matches!(mark, Mark::Redirect(_)) && value.len() > REDIRECT_ANYWHERE =>
            {
                let error = self.tree.error(ErrorKind::CrossDevice, "mark", node);
                Err(error.because(format!("the file system takes no redirect of {} bytes", value.len())))
            }
            done => done.map_err(self.tree.failed("mark", node)),
        }
    }

    fn own_data(&self, node: &Node) -> Result<()> {
        let held = self.tree.held(node)?;
        match sys::xattr::remove(held.obj(), &self.tree.namespace().own(marks::METACOPY)) {
            Err(Errno::NODATA) => Ok(()),
            done => done.map_err(self.tree.failed("mark", node)),
        }
    }

    /// A regular file or directory by its own sync. Other objects have no data and cannot be opened: the directory
    /// that names them is synced, and the file system when there is none.
    pub(super) fn sync_node(&self, node: &Node, how: Sync) -> Result<()> {
        let fail = |e| self.tree.failed("sync", node)(e);
        let sync = |fd: &rustix::fd::OwnedFd| -> Sys<()> {
            match how {
                Sync::Data => sys::data::fdatasync(fd.as_fd()),
                Sync::All => sys::data::fsync(fd.as_fd()),
            }
        };
        let held = self.tree.held(node)?;
        let list = |dir: &rustix::fd::OwnedFd| sys::open::list(dir.as_fd());
        match &held {
            Held::Dir(dir) => list(dir).and_then(|fd| sync(&fd)).map_err(fail),
            Held::Loose(loose) if loose.open => sync(&loose.fd).map_err(fail),
            Held::At(dir, _) => match sys::stat::attr(held.obj()).map_err(fail)?.kind {
                Kind::File => sync_file(held.obj(), sync).map_err(fail),
                _ => list(dir).and_then(|fd| sync(&fd)).map_err(fail),
            },
            Held::Loose(_) => match sys::stat::attr(held.obj()).map_err(fail)?.kind {
                Kind::File => sync_file(held.obj(), sync).map_err(fail),
                _ => sys::data::syncfs(self.work.fd()).map_err(fail),
            },
        }
    }
}

fn sync_file(obj: Obj<'_>, sync: impl Fn(&rustix::fd::OwnedFd) -> Sys<()>) -> Sys<()> {
    sys::open::data(obj, OFlags::RDONLY).and_then(|fd| sync(&fd))
}
