//! [`MemFile`]: an open regular file. It follows the object, not the name, and outlives both name and node.

use crate::fs::Fs;
use crate::object::Object;
use std::sync::Arc;
use stratafs_core::{Allocate, Copied, Error, ErrorKind, ReadAt, Result, Sync, WriteAt};

/// The most bytes that a copy moves under one lock, and the size of its buffer.
const COPY_CHUNK: u64 = 1 << 20;

/// What a file was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading from a layer, which notes nothing.
    Frozen,
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// A regular file, open.
///
/// Writing to one that was opened by [`Layer::open`](stratafs_core::Layer::open) is `EBADF`, and to one whose
/// scratch was sealed since `EROFS`. Everything is as durable as memory: syncing does nothing.
#[derive(Debug, Clone)]
pub struct MemFile {
    pub(crate) fs: Arc<Fs>,
    pub(crate) object: Arc<Object>,
    pub(crate) access: Access,
}

impl MemFile {
    fn writable(&self, operation: &'static str) -> Result<()> {
        if self.access == Access::ReadWrite {
            Ok(())
        } else {
            Err(self.failed(operation, ErrorKind::BadHandle))
        }
    }

    fn failed(&self, operation: &'static str, kind: ErrorKind) -> Error {
        self.fs.failed(operation)(kind)
    }

    /// Copies the data, but not the holes, of the first `len` bytes, and sets the size. Gives the bytes copied.
    fn copy_data(&self, from: &dyn ReadAt, len: u64) -> Result<u64> {
        let mut buf = Vec::new();
        let (mut at, mut copied) = (0, 0);
        while at < len {
            let Some(start) = from.seek_data(at)?.filter(|start| (at..len).contains(start)) else { break };
            let Some(end) = from.seek_hole(start)?.filter(|end| *end > start) else { break };
            copied += self.copy_run(from, start, end.min(len), &mut buf)?;
            at = end;
        }
        self.set_len(len)?;
        Ok(copied)
    }

    /// Copies a run of data; ends early where `from` does. Gives the bytes copied.
    fn copy_run(&self, from: &dyn ReadAt, start: u64, end: u64, buf: &mut Vec<u8>) -> Result<u64> {
        let mut at = start;
        while at < end {
            buf.resize((end - at).min(COPY_CHUNK) as usize, 0);
            let got = from.read_at(buf, at)?;
            if got == 0 {
                break;
            }
            self.write_all(&buf[..got], at)?;
            at += got as u64;
        }
        Ok(at - start)
    }

    fn write_all(&self, mut buf: &[u8], mut offset: u64) -> Result<()> {
        while !buf.is_empty() {
            let n = self.write_at(buf, offset)?;
            buf = &buf[n..];
            offset += n as u64;
        }
        Ok(())
    }
}

impl ReadAt for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let n = match self.object.state.read().data() {
            Ok(data) => data.read(buf, offset),
            Err(kind) => return Err(self.failed("read", kind)),
        };
        if self.access != Access::Frozen && !buf.is_empty() {
            self.fs.accessed(&self.object);
        }
        Ok(n)
    }

    fn size(&self) -> Result<u64> {
        self.object.state.read().data().map(|d| d.len()).map_err(|kind| self.failed("read size", kind))
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        let state = self.object.state.read();
        state.data().map(|d| d.seek_data(offset)).map_err(|kind| self.failed("seek data", kind))
    }

    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        let state = self.object.state.read();
        state.data().map(|d| d.seek_hole(offset)).map_err(|kind| self.failed("seek hole", kind))
    }
}

impl WriteAt for MemFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.writable("write")?;
        let write = self.fs.change(&self.object, |state, now| {
            let n = state.data_mut()?.write(buf, offset)?;
            if n > 0 {
                state.modified(now);
            }
            Ok(n)
        });
        write.map_err(|kind| self.failed("write", kind))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.writable("set size")?;
        let set = self.fs.change(&self.object, |state, now| {
            state.data_mut()?.set_len(len)?;
            state.modified(now);
            Ok(())
        });
        set.map_err(|kind| self.failed("set size", kind))
    }

    fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        self.writable("allocate")?;
        let allocate = self.fs.change(&self.object, |state, now| {
            state.data_mut()?.allocate(how, offset, len)?;
            state.modified(now);
            Ok(())
        });
        allocate.map_err(|kind| self.failed("allocate", kind))
    }

    /// As the trait says; after a failure the file is a hole of the size it had.
    fn fill(&self, from: &dyn ReadAt, len: u64) -> Result<Copied> {
        self.writable("fill")?;
        let before = self.size()?;
        let filled = self.copy_data(from, len);
        if filled.is_err() {
            self.set_len(before)?;
            if before > 0 {
                self.allocate(Allocate::PunchHole, 0, before)?;
            }
        }
        Ok(match filled? {
            0 => Copied::Empty,
            n => Copied::Bytes(n),
        })
    }

    fn copy_range(&self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        self.writable("copy range")?;
        let ahead = from.size()?.saturating_sub(from_offset);
        let mut buf = vec![0; len.min(ahead).min(COPY_CHUNK) as usize];
        let got = from.read_at(&mut buf, from_offset)?;
        if got == 0 {
            return Ok(0);
        }
        self.write_at(&buf[..got], offset).map(|n| n as u64)
    }

    fn sync(&self, _how: Sync) -> Result<()> {
        Ok(())
    }
}
