//! Whether a scratch may still be written. After a failed sync it is not known what reached the disk, and a later
//! sync that succeeds would not tell either, so writing stops until the scratch is opened anew.

use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stratafs_core::{Error, ErrorKind, Result, error::errno};

/// Shared by a scratch and its open files.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) label: Arc<str>,
    sync_failed: AtomicBool,
    /// File systems that cannot share blocks with ours.
    no_clone: RwLock<Vec<u64>>,
}

impl Health {
    pub(crate) fn new(label: Arc<str>) -> Self {
        Self { label, sync_failed: AtomicBool::new(false), no_clone: RwLock::new(Vec::new()) }
    }

    /// Refuses after a failed sync.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.sync_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io(errno::EIO), "write").in_layer(&self.label).because(
            "an earlier sync failed, what is on disk is not known; check the disk and open the scratch anew",
        ))
    }

    /// Notes the outcome of a sync.
    pub(crate) fn synced<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        outcome
    }

    pub(crate) fn may_clone(&self, dev: u64) -> bool {
        !self.no_clone.read().contains(&dev)
    }

    pub(crate) fn cannot_clone(&self, dev: u64) {
        let mut known = self.no_clone.write();
        if !known.contains(&dev) {
            known.push(dev);
        }
    }
}
