//! [`DirFile`]: the data of a regular file, open for reading, or in a scratch for writing too.

use crate::sys::data;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::sync::Arc;
use stratafs_core::{Backing, Error, ReadAt, Result};

/// The open data of a regular file.
#[derive(Debug, Clone)]
pub struct DirFile {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl DirFile {
    pub(crate) fn new(fd: Arc<OwnedFd>, label: Arc<str>) -> Self {
        Self { fd, label }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn failed(&self, operation: &'static str) -> impl FnOnce(Errno) -> Error {
        move |e| Error::io(e.into(), operation).in_layer(&self.label)
    }
}

impl ReadAt for DirFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        data::read(self.fd(), buf, offset).map_err(self.failed("read"))
    }

    fn size(&self) -> Result<u64> {
        crate::sys::stat::attr(crate::sys::Obj::Open(self.fd()))
            .map(|a| a.size)
            .map_err(self.failed("read size"))
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        data::seek(self.fd(), SeekFrom::Data(offset)).map_err(self.failed("seek data"))
    }

    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        data::seek(self.fd(), SeekFrom::Hole(offset)).map_err(self.failed("seek hole"))
    }

    fn backing(&self) -> Backing<'_> {
        Backing::Fd(self.fd())
    }
}
