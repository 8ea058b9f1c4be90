//! Attributes of merged objects, read and set.

use super::copy_up::Need;
use super::exec::CAPABILITY;
use super::object::Inode;
use super::{View, resolve::caller_access};
use crate::acl;
use crate::attr::{Attr, Kind, SetAttr};
use crate::caller::{Caller, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::plan::Durability;
use crate::scratch::{Scratch, SetXattr, Sync, WriteAt};
use parking_lot::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};

/// The copy-up lock of an object whose owner, mode or extended attributes change; at its end, while the lock is
/// still held, the change counts.
pub(crate) struct Changing<'i> {
    pub lock: MutexGuard<'i, ()>,
    rights: &'i AtomicU64,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.rights.fetch_add(1, Ordering::AcqRel);
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// The merged attributes: `id` is the view's own and outlives copy-up, a directory has one link.
    ///
    /// # Errors
    /// What the backends say.
    pub fn attr(&self, inode: &Inode<L, S>) -> Result<Attr> {
        let object = &*inode.0;
        let in_scratch = self.read_upper(inode, |scratch, node| scratch.attr(node))?;
        let (metacopy, nlink, removed) = {
            let state = object.state.read();
            (state.is_metacopy(), state.nlink, state.removed)
        };
        let upper = in_scratch.is_some();
        let mut attr = match (in_scratch, object.lowers.first()) {
            (Some(attr), _) => attr,
            // A lower layer does not change: what lookup saw stays right.
            (None, Some(top)) => top.attr,
            (None, None) => return Err(Error::new(ErrorKind::Stale, "stat")),
        };
        if let (true, Some(below)) = (metacopy, object.data_below()) {
            attr.blocks = below.attr.blocks;
        }
        if object.kind == Kind::Dir {
            attr.nlink = u32::from(!removed);
        } else if let Some(nlink) = nlink {
            attr.nlink = nlink;
        } else if removed && !upper {
            attr.nlink = attr.nlink.saturating_sub(1);
        }
        attr.kind = object.kind;
        attr.id.dev = self.0.dev;
        attr.id.ino = object.ino;
        Ok(attr)
    }

    /// Sets attributes by the rules of chmod(2), chown(2) and utimensat(2).
    ///
    /// # Errors
    /// `EPERM`, `EACCES`; `EROFS` without a scratch; what copy-up and the scratch say.
    pub fn set_attr(&self, inode: &Inode<L, S>, set: &SetAttr, caller: &Caller) -> Result<()> {
        let scratch = self.writable("set attributes")?;
        if set.is_empty() {
            return Ok(());
        }
        let (changing, (list, set)) = self.lock_checked(inode, || {
            let list = self.xattr(inode, acl::ACCESS).unwrap_or(None);
            let set = caller.check_set(&self.attr(inode)?, list.as_deref(), set)?;
            Ok((list, set))
        })?;
        if list.is_none() && !inode.is_upper() {
            return self.copy_up_changed(inode, &set, &changing.lock).map(drop);
        }
        let node = self.copy_up_locked(inode, Need::Metadata, &changing.lock)?;
        // Whoever copies up what is in a directory puts its times back.
        let _names = inode.0.dir.as_ref().map(|part| part.names.write());
        if let (Some(mode), Some(list)) = (set.mode, &list) {
            let kept = acl::with_mode(list, mode).filter(|kept| kept != list);
            if let Some(kept) = kept {
                scratch.set_xattr(&node, acl::ACCESS, &kept, SetXattr::Any)?;
            }
        }
        scratch.set_attr(&node, &set)?;
        if (set.uid.is_some() || set.gid.is_some()) && inode.kind() == Kind::File {
            self.drop_capability(&node, scratch)?;
        }
        if self.0.config.durability == Durability::Strict {
            scratch.sync(&node, Sync::All)?;
        }
        Ok(())
    }

    /// Takes the copy-up lock of an object whose parents are in the scratch, and what `check` says of it under that
    /// lock. The check itself comes before, since one that fails must copy nothing up; it is made again when the
    /// object changed in between.
    pub(crate) fn lock_checked<'i, T>(
        &self,
        inode: &'i Inode<L, S>,
        check: impl Fn() -> Result<T>,
    ) -> Result<(Changing<'i>, T)> {
        loop {
            let rights = inode.0.rights.load(Ordering::Acquire);
            let checked = check()?;
            self.copy_up_parents(inode)?;
            let lock = inode.0.copy_up.lock();
            if inode.0.rights.load(Ordering::Acquire) == rights {
                return Ok((Changing { lock, rights: &inode.0.rights }, checked));
            }
        }
    }

    /// Cuts a regular file to `len` bytes or grows it with a hole. Copies up only what stays.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what is no regular file, `EACCES`; what copy-up and the scratch say.
    pub fn truncate(&self, inode: &Inode<L, S>, len: u64, caller: &Caller) -> Result<()> {
        match inode.kind() {
            Kind::File => {}
            Kind::Dir => return Err(Error::new(ErrorKind::IsADirectory, "truncate")),
            _ => return Err(Error::new(ErrorKind::InvalidInput, "truncate").because("not a regular file")),
        }
        self.writable("truncate")?;
        caller_access(self, inode, Want::WRITE, caller)?;
        self.copy_up_parents(inode)?;
        let lock = inode.0.copy_up.lock();
        self.truncate_locked(inode, len, caller, &lock)
    }

    pub(crate) fn truncate_locked(
        &self,
        inode: &Inode<L, S>,
        len: u64,
        caller: &Caller,
        lock: &MutexGuard<'_, ()>,
    ) -> Result<()> {
        let scratch = self.writable("truncate")?;
        let node = self.copy_up_locked(inode, Need::Data(len), lock)?;
        self.drop_privilege(inode, &node, caller)?;
        let file = scratch.open_write(&node)?;
        file.set_len(len)?;
        if self.0.config.durability == Durability::Strict {
            file.sync(Sync::All)?;
        }
        Ok(())
    }

    /// What a write takes from a file: capabilities always, setuid and setgid unless the writer is privileged.
    pub(crate) fn drop_privilege(&self, inode: &Inode<L, S>, node: &S::Node, caller: &Caller) -> Result<()> {
        let scratch = self.writable("write")?;
        self.drop_capability(node, scratch)?;
        if caller.privileged || inode.kind() != Kind::File {
            return Ok(());
        }
        let attr = scratch.attr(node)?;
        let cleared = caller.mode_after_write(&attr);
        if cleared != attr.mode {
            scratch.set_attr(node, &SetAttr { mode: Some(cleared), ..SetAttr::default() })?;
        }
        Ok(())
    }

    fn drop_capability(&self, node: &S::Node, scratch: &S) -> Result<()> {
        match scratch.xattr(node, CAPABILITY) {
            Ok(Some(_)) => match scratch.remove_xattr(node, CAPABILITY) {
                Err(e) if e.kind() != ErrorKind::NoData => Err(e),
                _ => Ok(()),
            },
            // Where they cannot be stored there are none.
            Ok(None) => Ok(()),
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The target of a symbolic link, as stored: it is not resolved here.
    ///
    /// # Errors
    /// `EINVAL` when it is no symbolic link.
    pub fn read_link(&self, inode: &Inode<L, S>) -> Result<Vec<u8>> {
        if inode.kind() != Kind::Symlink {
            return Err(Error::new(ErrorKind::InvalidInput, "readlink").because("not a symbolic link"));
        }
        if let Some(target) = self.read_upper(inode, |scratch, node| scratch.read_link(node))? {
            return Ok(target);
        }
        match inode.0.lowers.first() {
            Some(lower) => self.layer(lower)?.read_link(&lower.node),
            None => Err(Error::new(ErrorKind::Stale, "readlink")),
        }
    }
}
