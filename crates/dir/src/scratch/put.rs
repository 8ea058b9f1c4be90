//! [`Scratch::put`](stratafs_core::Scratch::put) under the final name at once: no staging, no rename, and no call for
//! what is right already. For trees that nobody sees yet.
//!
//! Invariant: nothing of the directory shows in what is made in it: where it has a default access list, objects are
//! made in steps, outside of it.

use super::DirScratch;
use super::stage::unmapped;
use crate::file::DirFile;
use crate::node::{DirNode, Kept, Node, Passes};
use crate::scratch::ScratchFile;
use crate::stash;
use crate::sys::{self, Obj, Sys};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::sync::Arc;
use stratafs_core::{At, Attr, Kind, Result, Seed, SetTime, Whole, put_in_steps};

/// The access list that children inherit (acl(5)).
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// An access list; setting it changes the mode.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

impl DirScratch {
    pub(super) fn put_object(
        &self,
        at: At<'_, Node>,
        whole: &Whole<'_>,
        fill: &mut dyn FnMut(&ScratchFile) -> Result<()>,
    ) -> Result<Node> {
        let Seed { kind, .. } = whole.seed;
        let dir = self.tree.as_dir(at.dir, "create")?;
        let fd = self.tree.dir_fd(dir)?;
        self.no_whiteout_device(&whole.seed)?;
        if self.passes(dir, fd.as_fd()).map_err(self.tree.failed_at("create", dir, b""))? == Passes::List {
            return put_in_steps(self, at, whole, fill);
        }
        let name = at.name.as_bytes();
        let fail = |e: Errno| self.tree.failed_at("create", dir, name)(e);
        if kind == Kind::File || self.stash && matches!(kind, Kind::Char | Kind::Block) {
            let file = self.put_file(fd.as_fd(), name, whole).map_err(fail)?;
            if kind == Kind::File {
                fill(&file)?;
            }
            let ino = self.dress(Obj::Open(file.fd()), whole).map_err(fail)?.id.ino;
            return Ok(Node::known(Arc::clone(dir), at.name.to_buf(), ino));
        }
        match kind {
            Kind::Dir => sys::name::mkdir_as(
                fd.as_fd(),
                name,
                if self.stash { 0o700 } else { whole.seed.mode & 0o777 },
            ),
            Kind::Symlink => sys::name::symlink(fd.as_fd(), name, whole.seed.target),
            kind => sys::name::mknod(fd.as_fd(), name, kind, whole.seed.rdev),
        }
        .map_err(fail)?;
        let id = self.dress(Obj::At(fd.as_fd(), name), whole).map_err(fail)?.id;
        if kind != Kind::Dir {
            return Ok(Node::known(Arc::clone(dir), at.name.to_buf(), id.ino));
        }
        // A directory that was here before and whose number was free again has nothing to do with this one.
        self.tree.forget(id);
        let made = self.tree.dir_node(dir, at.name.to_buf(), id);
        if !whole.xattrs.iter().any(|(name, _)| name == DEFAULT_ACL) {
            made.set_passes(Passes::Nothing);
        }
        Ok(Node::dir(made))
    }

    fn put_file(&self, dir: BorrowedFd<'_>, name: &[u8], whole: &Whole<'_>) -> Sys<ScratchFile> {
        let mode = match whole.seed.mode & 0o777 {
            _ if self.stash => 0o600,
            // Without privilege it takes the right to write to set attributes.
            mode if !whole.xattrs.is_empty() => mode | 0o600,
            mode => mode,
        };
        let fd: OwnedFd = sys::open::create_as(dir, name, mode)?;
        let file = DirFile::new(Arc::new(fd), Arc::clone(&self.tree.label));
        Ok(ScratchFile::new(file, Arc::clone(&self.work.health)))
    }

    /// Gives a new object all that it has but data: owner first, since that takes setuid and capabilities; the mode
    /// after the access list, which changes it; times last.
    fn dress(&self, obj: Obj<'_>, whole: &Whole<'_>) -> Sys<Attr> {
        let Seed { kind, mode, uid, gid, .. } = whole.seed;
        let mut is = sys::stat::attr(obj)?;
        if !self.stash && (is.uid, is.gid) != (uid, gid) {
            sys::meta::chown(obj, Some(uid), Some(gid)).map_err(unmapped)?;
            // What chown(2) leaves of these bits differs; a directory keeps what it inherited.
            if is.mode & 0o6000 != 0 {
                is.mode = sys::stat::attr(obj)?.mode;
            }
        }
        let bearer = matches!(is.kind, Kind::File | Kind::Dir);
        for (name, value) in whole.xattrs {
            // A link, fifo or socket has no place for what only the privileged may set, as it has none for its owner.
            if self.stash && !bearer && stash::kept_name(name).is_some() {
                continue;
            }
            let stored = self.tree.stored_name(name).ok_or(Errno::PERM)?;
            sys::xattr::set(obj, &stored, value, XattrFlags::empty())?;
            if name == ACCESS_ACL {
                is.mode = sys::stat::attr(obj)?.mode;
            }
        }
        if self.stash && kind != Kind::Symlink {
            let meant = Attr { kind, mode, uid, gid, rdev: whole.seed.rdev, ..is };
            self.store_new_ownership(obj, &is, &meant)?;
        } else if kind != Kind::Symlink && is.mode != mode {
            sys::meta::chmod(obj, mode)?;
        }
        let time = Some(SetTime::At(whole.mtime));
        sys::meta::utimens(obj, time, time)?;
        Ok(is)
    }

    /// Whether objects made in `dir` inherit an access list. Asked once for each directory.
    fn passes(&self, dir: &DirNode, fd: BorrowedFd<'_>) -> Sys<Passes> {
        let known = dir.passes();
        if known != Passes::Unknown {
            return Ok(known);
        }
        let passes = match sys::xattr::get(Obj::Dir(fd), DEFAULT_ACL)? {
            Some(_) => Passes::List,
            None => Passes::Nothing,
        };
        dir.set_passes(passes);
        Ok(passes)
    }

    /// An attribute of a node was set or removed.
    pub(super) fn attribute_changed(&self, node: &Node, name: &[u8]) {
        if let Kept::Dir(dir) = &node.0
            && name == DEFAULT_ACL
        {
            dir.set_passes(Passes::Unknown);
        }
    }
}
