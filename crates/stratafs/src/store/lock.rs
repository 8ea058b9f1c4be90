//! The lock of the whole store, `ROOT/lock`: shared while a reference is made, from looking at what it will name until
//! it is written; exclusive while gc decides what nobody refers to. Held for moments only, never over long work.
//!
//! Order: a container's lease before this lock. Nobody who holds it asks for it again.

use super::{Store, at, file};
use crate::Result;
use rustix::fs::{Mode, OFlags};
use std::fs::{File, TryLockError};
use std::path::Path;

/// A file or directory that is locked until this is dropped.
#[derive(Debug)]
pub(super) struct Locked(pub(super) File);

impl Drop for Locked {
    /// Unlocks by name: a child process that was just forked has the descriptor too, until it runs its program.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub(crate) struct RootLock {
    _lock: Locked,
}

impl Store {
    /// For making references. Waits while gc decides.
    pub(crate) fn lock_shared(&self) -> Result<RootLock> {
        let path = self.root.join("lock");
        let file = open(&path)?;
        file.lock_shared().map_err(at(&path, "lock store"))?;
        Ok(RootLock { _lock: Locked(file) })
    }

    /// For deciding what nobody refers to. Waits for those who make references.
    pub(super) fn lock_exclusive(&self) -> Result<RootLock> {
        let path = self.root.join("lock");
        let file = open(&path)?;
        file.lock().map_err(at(&path, "lock store"))?;
        Ok(RootLock { _lock: Locked(file) })
    }

    /// As [`Store::lock_exclusive`] without waiting; `None` when somebody makes a reference.
    pub(super) fn try_lock_exclusive(&self) -> Result<Option<RootLock>> {
        let path = self.root.join("lock");
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RootLock { _lock: Locked(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(at(&path, "lock store")(e)),
        }
    }
}

/// Opens the lock file, making it where there is none.
fn open(path: &Path) -> Result<File> {
    const OPERATION: &str = "lock store";
    if let Some(file) = file::open(path, OPERATION)? {
        return Ok(file);
    }
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| at(path, OPERATION)(e.into()))?;
    Ok(File::from(file))
}
