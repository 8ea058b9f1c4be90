//! How much a file system may hold, and what it holds now. Charges are taken before anything is stored and
//! given back when their owner is dropped, so the counts cannot drift from what exists.

use crate::data::PAGE;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use stratafs_core::{ErrorKind, NAME_MAX, StatFs};

/// What statfs(2) reports as the total where there is no limit.
const UNLIMITED: u64 = i64::MAX as u64;

/// The most that a file system may hold; going past it is `ENOSPC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// File data in bytes, counted in whole pages; rounded up to one, as tmpfs does. `None`: no limit.
    pub bytes: Option<u64>,
    /// Objects, the root among them, which exists even where the limit is 0. Whiteouts are none. `None`: no limit.
    pub inodes: Option<u64>,
}

/// A count that never passes its limit.
#[derive(Debug)]
struct Meter {
    used: AtomicU64,
    limit: u64,
}

impl Meter {
    fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit }
    }

    fn take(&self) -> Result<(), ErrorKind> {
        let more = |used: u64| (used < self.limit).then(|| used + 1);
        self.used.fetch_update(Relaxed, Relaxed, more).map(drop).map_err(|_| ErrorKind::NoSpace)
    }

    fn give(&self, n: u64) {
        self.used.fetch_sub(n, Relaxed);
    }

    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Relaxed))
    }
}

/// The space of one file system.
#[derive(Debug)]
pub(crate) struct Space {
    pages: Meter,
    inodes: Meter,
}

impl Space {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let pages = limits.bytes.map_or(UNLIMITED / PAGE, |b| b.div_ceil(PAGE));
        let inodes = limits.inodes.unwrap_or(UNLIMITED);
        Arc::new(Self { pages: Meter::new(pages), inodes: Meter::new(inodes) })
    }

    /// Takes one page.
    pub(crate) fn take_page(&self) -> Result<(), ErrorKind> {
        self.pages.take()
    }

    /// Gives pages back.
    pub(crate) fn give_pages(&self, n: u64) {
        self.pages.give(n);
    }

    /// Pages that could be taken now.
    pub(crate) fn free_pages(&self) -> u64 {
        self.pages.free()
    }

    /// Takes one inode for as long as the charge lives.
    pub(crate) fn take_inode(self: &Arc<Self>) -> Result<InodeCharge, ErrorKind> {
        self.inodes.take()?;
        Ok(InodeCharge(Arc::clone(self)))
    }

    /// The inode without which there is no file system, whatever the limit.
    pub(crate) fn root_inode(self: &Arc<Self>) -> InodeCharge {
        self.inodes.used.fetch_add(1, Relaxed);
        InodeCharge(Arc::clone(self))
    }

    pub(crate) fn stat_fs(&self) -> StatFs {
        let free = self.pages.free();
        StatFs {
            block_size: PAGE,
            blocks: self.pages.limit,
            blocks_free: free,
            blocks_available: free,
            files: self.inodes.limit,
            files_free: self.inodes.free(),
            name_max: NAME_MAX as u64,
        }
    }
}

/// One inode's share of the space.
#[derive(Debug)]
pub(crate) struct InodeCharge(Arc<Space>);

impl Drop for InodeCharge {
    fn drop(&mut self) {
        self.0.inodes.give(1);
    }
}
