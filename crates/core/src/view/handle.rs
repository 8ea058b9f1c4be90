//! Open files. Invariant: a handle reads what the object's data is now: when the data has moved into the
//! scratch since it was opened, it follows. It outlives the object's names.

use super::copy_up::{Need, no_data};
use super::object::Inode;
use super::{View, resolve::caller_access};
use crate::attr::Kind;
use crate::caller::{Caller, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Layer, ReadAt};
use crate::scratch::{Allocate, Scratch, Sync, WriteAt};
use parking_lot::RwLock;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Writing at the end only.
    pub append: bool,
    /// Cutting it to nothing first; no data is copied up for it.
    pub truncate: bool,
}

impl Access {
    /// For reading only.
    #[must_use]
    pub fn read() -> Self {
        Self { read: true, ..Self::default() }
    }

    /// For reading and writing.
    #[must_use]
    pub fn read_write() -> Self {
        Self { read: true, write: true, ..Self::default() }
    }

    fn changes(self) -> bool {
        self.write || self.append || self.truncate
    }
}

enum Data<L: Layer, S: Scratch> {
    /// In a lower layer; of a file whose attributes are in the scratch, no further than it says.
    Lower(L::File, Option<u64>),
    Upper(S::File),
}

struct Open<L: Layer, S: Scratch> {
    epoch: u64,
    data: Data<L, S>,
}

impl<L: Layer, S: Scratch> Open<L, S> {
    fn file(&self) -> &dyn ReadAt {
        match &self.data {
            Data::Lower(file, _) => file,
            Data::Upper(file) => file,
        }
    }

    /// What is read at most of `len` bytes at `offset`.
    fn readable(&self, offset: u64, len: usize) -> usize {
        match &self.data {
            Data::Lower(_, Some(limit)) => {
                usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX).min(len)
            }
            _ => len,
        }
    }
}

/// No write has been made yet.
const NEVER: u64 = u64::MAX;

/// An open regular file. All methods may be called from many threads at once.
pub struct Handle<L: Layer, S: Scratch> {
    view: View<L, S>,
    inode: Inode<L, S>,
    access: Access,
    caller: Caller,
    /// The count of the object's [`rights`](super::object::Object::rights) up to which a write has taken the
    /// privileges that a write takes.
    stripped: AtomicU64,
    open: RwLock<Open<L, S>>,
}

impl<L: Layer, S: Scratch> fmt::Debug for Handle<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("inode", &self.inode).field("access", &self.access).finish()
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Opens a regular file. For writing, its data is copied up first; the caller's rights are checked on the
    /// merged object before that.
    ///
    /// # Errors
    /// `EISDIR`, `ELOOP` for a symbolic link, `ENXIO` for what only a host can open; `EACCES`; `EROFS`.
    pub fn open(&self, inode: &Inode<L, S>, access: Access, caller: &Caller) -> Result<Handle<L, S>> {
        let refuse = |kind, why: &'static str| Err(Error::new(kind, "open").because(why));
        match inode.kind() {
            Kind::File => {}
            Kind::Dir => return refuse(ErrorKind::IsADirectory, "directories are listed, not read"),
            Kind::Symlink => {
                return refuse(ErrorKind::Loop, "a symbolic link, and it was not to be followed");
            }
            _ => return refuse(ErrorKind::NoSuchRange, "devices, pipes and sockets are opened by the host"),
        }
        let mut want = Want::empty();
        want.set(Want::READ, access.read);
        want.set(Want::WRITE, access.changes());
        caller_access(self, inode, want, caller)?;
        let open = if access.changes() {
            self.open_changing(inode, access, caller)?
        } else {
            self.open_data(inode)?
        };
        Ok(Handle {
            view: self.clone(),
            inode: inode.clone(),
            access,
            caller: caller.clone(),
            stripped: AtomicU64::new(NEVER),
            open: RwLock::new(open),
        })
    }

    fn open_changing(&self, inode: &Inode<L, S>, access: Access, caller: &Caller) -> Result<Open<L, S>> {
        let scratch = self.writable("open")?;
        self.copy_up_parents(inode)?;
        let lock = inode.0.copy_up.lock();
        if access.truncate {
            self.truncate_locked(inode, 0, caller, &lock)?;
        }
        let node = self.copy_up_locked(inode, Need::ALL, &lock)?;
        let epoch = inode.0.epoch.load(Ordering::Acquire);
        let file = scratch.open_write(&node).map_err(|e| e.in_layer(&scratch.caps().label))?;
        Ok(Open { epoch, data: Data::Upper(file) })
    }

    /// Opens a file's data where it is now.
    fn open_data(&self, inode: &Inode<L, S>) -> Result<Open<L, S>> {
        let epoch = inode.0.epoch.load(Ordering::Acquire);
        let (own, metacopy) = {
            let state = inode.0.state.read();
            (state.upper.is_some() && state.own_data, state.is_metacopy())
        };
        if own {
            let file = self.read_upper(inode, |scratch, node| Layer::open(scratch, node))?;
            let file = file.ok_or_else(|| Error::new(ErrorKind::Stale, "open"))?;
            return Ok(Open { epoch, data: Data::Upper(file) });
        }
        let limit = match metacopy {
            true => self.read_upper(inode, |scratch, node| scratch.attr(node))?.map(|attr| attr.size),
            false => None,
        };
        let below = inode.0.data_below().ok_or_else(no_data)?;
        if below.attr.kind != Kind::File {
            return Err(no_data());
        }
        let layer = self.layer(below)?;
        let file = layer.open(&below.node).map_err(|e| e.in_layer(&layer.caps().label))?;
        Ok(Open { epoch, data: Data::Lower(file, limit) })
    }
}

impl<L: Layer, S: Scratch> Handle<L, S> {
    /// The object.
    #[must_use]
    pub fn inode(&self) -> &Inode<L, S> {
        &self.inode
    }

    /// What it was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Calls `f` with the data as it is now.
    fn with<T>(&self, f: impl FnOnce(&Open<L, S>) -> Result<T>) -> Result<T> {
        let now = self.inode.0.epoch.load(Ordering::Acquire);
        {
            let open = self.open.read();
            if open.epoch == now {
                return f(&open);
            }
        }
        let fresh = self.view.open_data(&self.inode)?;
        let mut open = self.open.write();
        if open.epoch < fresh.epoch {
            *open = fresh;
        }
        drop(open);
        f(&self.open.read())
    }

    fn with_upper<T>(&self, f: impl FnOnce(&S::File) -> Result<T>) -> Result<T> {
        if !self.access.changes() {
            return Err(Error::new(ErrorKind::BadHandle, "write").because("the file is not open for writing"));
        }
        self.strip()?;
        self.with(|open| match &open.data {
            Data::Upper(file) => f(file),
            Data::Lower(..) => Err(Error::new(ErrorKind::Stale, "write")),
        })
    }

    fn strip(&self) -> Result<()> {
        if self.stripped.load(Ordering::Relaxed) == self.inode.0.rights.load(Ordering::Acquire) {
            return Ok(());
        }
        let _lock = self.inode.0.copy_up.lock();
        let rights = self.inode.0.rights.load(Ordering::Acquire);
        let node = self.inode.0.state.read().upper.clone();
        if let Some(node) = node {
            self.view.drop_privilege(&self.inode, &node, &self.caller)?;
        }
        self.stripped.store(rights, Ordering::Relaxed);
        Ok(())
    }

    /// Reads at `offset`; 0 is the end of the file. May be short.
    ///
    /// # Errors
    /// `EBADF` when not open for reading; what the backend says.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if !self.access.read {
            return Err(Error::new(ErrorKind::BadHandle, "read").because("the file is not open for reading"));
        }
        self.with(|open| {
            let len = open.readable(offset, buf.len());
            open.file().read_at(buf.get_mut(..len).unwrap_or_default(), offset)
        })
    }

    /// Writes at `offset`, or at the end of a file that is open for appending. May be short.
    ///
    /// # Errors
    /// `EBADF` when not open for writing; `ENOSPC`, `EFBIG` and what else the backend says.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        if self.access.append {
            return self.append(buf).map(|(_, n)| n);
        }
        if !self.access.write {
            return Err(Error::new(ErrorKind::BadHandle, "write").because("the file is not open for writing"));
        }
        self.with_upper(|file| if buf.is_empty() { Ok(0) } else { file.write_at(buf, offset) })
    }

    /// Writes at the end, whatever other handles append at the same time; also says where. May be short.
    ///
    /// # Errors
    /// As [`Handle::write_at`].
    pub fn append(&self, buf: &[u8]) -> Result<(u64, usize)> {
        let _order = self.inode.0.append.lock();
        self.with_upper(|file| {
            let end = file.size()?;
            Ok((end, if buf.is_empty() { 0 } else { file.write_at(buf, end)? }))
        })
    }

    /// The size in bytes.
    ///
    /// # Errors
    /// What the backend says.
    pub fn size(&self) -> Result<u64> {
        self.with(|open| match &open.data {
            Data::Lower(_, Some(limit)) => Ok(*limit),
            _ => open.file().size(),
        })
    }

    /// Sets the size: ftruncate(2).
    ///
    /// # Errors
    /// `EINVAL` when not open for writing, as ftruncate(2) has it; what the backend says.
    pub fn set_len(&self, len: u64) -> Result<()> {
        if !self.access.changes() {
            let error = Error::new(ErrorKind::InvalidInput, "truncate");
            return Err(error.because("the file is not open for writing"));
        }
        self.with_upper(|file| file.set_len(len))
    }

    /// Changes the blocks under a range: fallocate(2). Offset and length are bytes.
    ///
    /// # Errors
    /// `EINVAL` for an empty range; `EOPNOTSUPP` where the backend cannot; `EBADF`, `ENOSPC`.
    pub fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        if len == 0 || i64::try_from(offset.saturating_add(len)).is_err() {
            return Err(Error::new(ErrorKind::InvalidInput, "fallocate").because("an empty or endless range"));
        }
        self.with_upper(|file| file.allocate(how, offset, len))
    }

    /// The first offset at or after `offset` with data; `None` when only a hole follows (`SEEK_DATA`).
    ///
    /// # Errors
    /// What the backend says.
    pub fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.with(|open| open.file().seek_data(offset))
    }

    /// The first hole at or after `offset`, the end counting as one; `None` past the end (`SEEK_HOLE`).
    ///
    /// # Errors
    /// What the backend says.
    pub fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.with(|open| open.file().seek_hole(offset))
    }

    /// Copies a range from another handle, or from another place of the same file: copy_file_range(2). May be
    /// short; 0 at the end of `from`.
    ///
    /// # Errors
    /// `EINVAL` for overlapping ranges of one file; `EBADF`; what the backend says.
    pub fn copy_range(&self, from: &Self, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        if !from.access.read || !self.access.changes() || self.access.append {
            return Err(Error::new(ErrorKind::BadHandle, "copy_file_range"));
        }
        let len = len.min(from.size()?.saturating_sub(from_offset));
        if len == 0 {
            return Ok(0);
        }
        let overlap = from_offset < offset.saturating_add(len) && offset < from_offset.saturating_add(len);
        if self.inode == from.inode && overlap {
            return Err(Error::new(ErrorKind::InvalidInput, "copy_file_range").because("the ranges overlap"));
        }
        self.with_upper(|file| {
            from.with(|source| {
                let most = source.readable(from_offset, usize::try_from(len).unwrap_or(usize::MAX));
                file.copy_range(source.file(), from_offset, offset, most as u64)
            })
        })
    }

    /// Makes the file durable. What is only in lower layers is durable already.
    ///
    /// # Errors
    /// What the backend says; after a failed sync the scratch refuses writes until it is opened again.
    pub fn sync(&self, how: Sync) -> Result<()> {
        if !self.inode.is_upper() {
            return Ok(());
        }
        let synced = self.with(|open| match &open.data {
            Data::Upper(file) => file.sync(how).map(|()| true),
            Data::Lower(..) => Ok(false),
        })?;
        if !synced {
            self.view.sync_object(&self.inode, how)?;
        }
        Ok(())
    }

    /// Lends the open data where it is at this moment, such as for its file descriptor ([`ReadAt::backing`]).
    ///
    /// # Errors
    /// What `f` says, or opening the data where it is now.
    pub fn with_file<T>(&self, f: impl FnOnce(&dyn ReadAt) -> Result<T>) -> Result<T> {
        self.with(|open| f(open.file()))
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Makes one object durable: of a directory, its names.
    ///
    /// # Errors
    /// What the scratch says.
    pub fn sync_object(&self, inode: &Inode<L, S>, how: Sync) -> Result<()> {
        self.read_upper(inode, |scratch, node| scratch.sync(node, how)).map(drop)
    }
}
