//! [`ScratchFile`]: the data of a scratch's file, for reading and writing.

use super::copy;
use super::health::Health;
use crate::file::DirFile;
use crate::sys::data;
use rustix::fd::BorrowedFd;
use rustix::fs::FallocateFlags;
use std::sync::Arc;
use stratafs_core::{Allocate, Backing, Copied, ReadAt, Result, Sync, WriteAt};

/// An open file of a scratch. Whether it may be written is decided by how it was opened.
#[derive(Debug, Clone)]
pub struct ScratchFile {
    file: DirFile,
    pub(super) health: Arc<Health>,
}

impl ScratchFile {
    pub(super) fn new(file: DirFile, health: Arc<Health>) -> Self {
        Self { file, health }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.fd()
    }

    pub(super) fn write_all(&self, mut buf: &[u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let n = data::write(self.fd(), buf, offset).map_err(self.file.failed("write"))?;
            buf = buf.get(n..).unwrap_or_default();
            offset += n as u64;
        }
        Ok(())
    }

    pub(super) fn truncate(&self, len: u64) -> Result<()> {
        data::truncate(self.fd(), len).map_err(self.file.failed("set size"))
    }

    pub(super) fn failed(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(rustix::io::Errno) -> stratafs_core::Error {
        self.file.failed(operation)
    }
}

impl ReadAt for ScratchFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn size(&self) -> Result<u64> {
        self.file.size()
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.file.seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.file.seek_hole(offset)
    }

    fn backing(&self) -> Backing<'_> {
        self.file.backing()
    }
}

impl WriteAt for ScratchFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.health.check()?;
        data::write(self.fd(), buf, offset).map_err(self.file.failed("write"))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.health.check()?;
        self.truncate(len)
    }

    fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        self.health.check()?;
        let keep = FallocateFlags::KEEP_SIZE;
        let flags = match how {
            Allocate::Reserve => FallocateFlags::empty(),
            Allocate::ReserveKeepSize => keep,
            Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | keep,
            Allocate::Zero => FallocateFlags::ZERO_RANGE,
            Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | keep,
            Allocate::Collapse => FallocateFlags::COLLAPSE_RANGE,
            Allocate::Insert => FallocateFlags::INSERT_RANGE,
        };
        data::allocate(self.fd(), flags, offset, len).map_err(self.file.failed("allocate"))
    }

    fn fill(&self, from: &dyn ReadAt, len: u64) -> Result<Copied> {
        self.health.check()?;
        copy::fill(self, from, len)
    }

    fn copy_range(&self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        self.health.check()?;
        copy::copy_range(self, from, from_offset, offset, len)
    }

    fn sync(&self, how: Sync) -> Result<()> {
        self.health.check()?;
        let done = match how {
            Sync::Data => data::fdatasync(self.fd()),
            Sync::All => data::fsync(self.fd()),
        };
        self.health.synced(done.map_err(self.file.failed("sync")))
    }
}
