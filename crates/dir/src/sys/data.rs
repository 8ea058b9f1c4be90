//! The data of open files.

use super::fault::{self, Call};
use super::{Sys, call};
use rustix::fd::BorrowedFd;
use rustix::fs::{self, FallocateFlags, SeekFrom};
use rustix::io::{self, Errno};

pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8], offset: u64) -> Sys<usize> {
    call(Call::Read, || {
        let len = fault::limit(Call::Read, buf.len());
        io::pread(fd, buf.get_mut(..len).ok_or(Errno::INVAL)?, offset)
    })
}

pub(crate) fn write(fd: BorrowedFd<'_>, buf: &[u8], offset: u64) -> Sys<usize> {
    call(Call::Write, || {
        let len = fault::limit(Call::Write, buf.len());
        io::pwrite(fd, buf.get(..len).ok_or(Errno::INVAL)?, offset)
    })
}

/// `None` where lseek(2) says `ENXIO`.
pub(crate) fn seek(fd: BorrowedFd<'_>, to: SeekFrom) -> Sys<Option<u64>> {
    match call(Call::Seek, || fs::seek(fd, to)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn truncate(fd: BorrowedFd<'_>, len: u64) -> Sys<()> {
    call(Call::Truncate, || fs::ftruncate(fd, len))
}

pub(crate) fn allocate(fd: BorrowedFd<'_>, how: FallocateFlags, offset: u64, len: u64) -> Sys<()> {
    call(Call::Allocate, || fs::fallocate(fd, how, offset, len))
}

/// Shares all blocks of `from` (FICLONE).
pub(crate) fn clone(to: BorrowedFd<'_>, from: BorrowedFd<'_>) -> Sys<()> {
    call(Call::Clone, || fs::ioctl_ficlone(to, from))
}

pub(crate) fn copy_range(
    from: BorrowedFd<'_>,
    from_offset: u64,
    to: BorrowedFd<'_>,
    offset: u64,
    len: usize,
) -> Sys<usize> {
    call(Call::CopyRange, || {
        let (mut a, mut b) = (from_offset, offset);
        fs::copy_file_range(from, Some(&mut a), to, Some(&mut b), fault::limit(Call::CopyRange, len))
    })
}

pub(crate) fn fsync(fd: BorrowedFd<'_>) -> Sys<()> {
    call(Call::Fsync, || fs::fsync(fd))
}

pub(crate) fn fdatasync(fd: BorrowedFd<'_>) -> Sys<()> {
    call(Call::Fsync, || fs::fdatasync(fd))
}

pub(crate) fn syncfs(fd: BorrowedFd<'_>) -> Sys<()> {
    call(Call::Syncfs, || fs::syncfs(fd))
}
