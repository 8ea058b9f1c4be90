//! The content of staged files: shared blocks (FICLONE), else copied inside the kernel, else through a buffer.
//! Holes stay holes.

use super::confined::Sys;
use crate::{Error, Handle, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs;
use rustix::io::{self, Errno, retry_on_intr};
use stratafs_core::{Backing, ReadAt};
use stratafs_oci::Progress;

/// Bytes that go through memory at a time.
const BUFFER: usize = 1 << 20;
/// Bytes asked of one `copy_file_range`: progress and a wish to stop are heard after each.
const KERNEL_CHUNK: u64 = 64 << 20;

/// A copy in progress.
pub(super) struct Copier<'a> {
    /// The new, empty file.
    pub to: &'a OwnedFd,
    /// Hears of the bytes.
    pub progress: &'a dyn Progress,
    /// What it is called to `progress`.
    pub what: &'a str,
    /// `copy_file_range` was not refused yet.
    pub in_kernel: bool,
}

fn failed(e: Errno) -> Error {
    Error::io(e.into(), "stage content")
}

impl Copier<'_> {
    /// Takes over all of an open file; says how many bytes it has.
    pub fn all(&mut self, from: &Handle) -> Result<u64> {
        let size = from.size()?;
        let cloned = from.with_file(|file| Ok(self.clone_blocks(file)))?;
        if !cloned && size > 0 {
            self.ranges(from, size)?;
        }
        retry_on_intr(|| fs::ftruncate(self.to, size)).map_err(failed)?;
        Ok(size)
    }

    fn clone_blocks(&self, from: &dyn ReadAt) -> bool {
        match from.backing() {
            Backing::Fd(fd) => fs::ioctl_ficlone(self.to, fd).is_ok(),
            _ => false,
        }
    }

    fn ranges(&mut self, from: &Handle, size: u64) -> Result<()> {
        let mut at = 0;
        while at < size {
            let Some(start) = from.seek_data(at)?.filter(|start| *start < size) else { break };
            let end = from.seek_hole(start)?.unwrap_or(size).min(size);
            let mut done = start;
            while done < end {
                if self.progress.cancelled() {
                    return Err(Error::new(crate::ErrorKind::Busy, "stage content").because("cancelled"));
                }
                let copied = self.some(from, done, end - done)?;
                if copied == 0 {
                    return Ok(());
                }
                self.progress.advance(self.what, copied);
                done += copied;
            }
            at = end.max(start + 1);
        }
        Ok(())
    }

    /// Copies a part of a range; 0 at the end.
    fn some(&mut self, from: &Handle, at: u64, len: u64) -> Result<u64> {
        if self.in_kernel {
            let within = from.with_file(|file| match file.backing() {
                Backing::Fd(fd) => Ok(self.within_kernel(fd, at, len)),
                _ => Ok(None),
            })?;
            match within {
                Some(copied) => return copied.map_err(failed),
                None => self.in_kernel = false,
            }
        }
        let mut buffer = vec![0; usize::try_from(len).unwrap_or(BUFFER).min(BUFFER)];
        let n = from.read_at(&mut buffer, at)?;
        let mut rest = buffer.get(..n).unwrap_or_default();
        let mut to = at;
        while !rest.is_empty() {
            let written = retry_on_intr(|| io::pwrite(self.to.as_fd(), rest, to)).map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
            to += written as u64;
        }
        Ok(n as u64)
    }

    /// `None` where the kernel cannot copy between these two.
    fn within_kernel(&self, from: rustix::fd::BorrowedFd<'_>, at: u64, len: u64) -> Option<Sys<u64>> {
        let chunk = usize::try_from(len.min(KERNEL_CHUNK)).unwrap_or(usize::MAX);
        let (mut here, mut there) = (at, at);
        match retry_on_intr(|| fs::copy_file_range(from, Some(&mut here), self.to, Some(&mut there), chunk)) {
            // Some file systems say 0 for files that the kernel makes up; a read tells whether it is the end.
            Ok(0) => None,
            Ok(n) => Some(Ok(n as u64)),
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::BADF) => {
                None
            }
            Err(e) => Some(Err(e)),
        }
    }
}
