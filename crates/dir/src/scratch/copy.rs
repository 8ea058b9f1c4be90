//! The copy-up ladder: share the blocks (FICLONE), else copy the ranges that hold data inside the kernel
//! (`copy_file_range`), else through a buffer. What a step cannot do falls through to the next one; a full disk and
//! the like are errors.

use super::file::ScratchFile;
use crate::sys::{self, Obj};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use stratafs_core::{Backing, Copied, Error, ErrorKind, ReadAt, Result};

/// Bytes that go through memory at a time.
const BUFFER: usize = 1 << 20;
/// Bytes asked of one `copy_file_range`.
const KERNEL_CHUNK: u64 = 1 << 30;

/// True when the way, not the copy, is the problem.
fn no_such_way(e: Errno) -> bool {
    matches!(
        e,
        Errno::XDEV
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::TXTBSY
            | Errno::BADF
    )
}

/// Takes the first `len` bytes of `from` into the empty file `to`.
pub(super) fn fill(to: &ScratchFile, from: &dyn ReadAt, len: u64) -> Result<Copied> {
    if len == 0 {
        return Ok(Copied::Empty);
    }
    if let Backing::Fd(source) = from.backing() {
        let attr = sys::stat::attr(Obj::Open(source)).map_err(to.failed("copy"))?;
        if to.health.may_clone(attr.id.dev) {
            match sys::data::clone(to.fd(), source) {
                Ok(()) => {
                    if attr.size != len {
                        to.truncate(len)?;
                    }
                    return Ok(Copied::Shared);
                }
                Err(e) if no_such_way(e) => {
                    if matches!(e, Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) {
                        to.health.cannot_clone(attr.id.dev);
                    }
                }
                Err(e) => return Err(to.failed("share blocks")(e)),
            }
        }
    }
    let mut copier = Copier { to, in_kernel: true, buffer: Vec::new() };
    let (mut at, mut copied, mut end) = (0, 0, 0);
    while at < len {
        let Some(start) = from.seek_data(at)?.filter(|start| *start < len) else { break };
        let hole = from.seek_hole(start)?.unwrap_or(len).min(len);
        if hole <= start {
            break;
        }
        let mut done = start;
        while done < hole {
            match copier.some(from, done, done, hole - done)? {
                0 => break,
                n => done += n,
            }
        }
        copied += done - start;
        end = done;
        if done < hole {
            break;
        }
        at = hole;
    }
    // The file may have had a size before, with nothing in it.
    if end != len || sys::stat::attr(Obj::Open(to.fd())).map_err(to.failed("copy"))?.size != len {
        to.truncate(len)?;
    }
    Ok(Copied::Bytes(copied))
}

/// Copies a part of a range; 0 at the end of `from`.
pub(super) fn copy_range(
    to: &ScratchFile,
    from: &dyn ReadAt,
    from_offset: u64,
    offset: u64,
    len: u64,
) -> Result<u64> {
    if from_offset.checked_add(len).is_none() || offset.checked_add(len).is_none() {
        return Err(Error::new(ErrorKind::Overflow, "copy range").in_layer(&to.health.label));
    }
    Copier { to, in_kernel: true, buffer: Vec::new() }.some(from, from_offset, offset, len)
}

struct Copier<'a> {
    to: &'a ScratchFile,
    in_kernel: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    fn some(&mut self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        match from.backing() {
            Backing::Fd(source) if self.in_kernel => {
                match self.within_kernel(source, from_offset, offset, len)? {
                    Some(n) => return Ok(n),
                    None => self.in_kernel = false,
                }
            }
            Backing::Bytes(bytes) => {
                let rest =
                    usize::try_from(from_offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let part = rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest);
                self.to.write_all(part, offset)?;
                return Ok(part.len() as u64);
            }
            _ => {}
        }
        self.buffer.resize(BUFFER, 0);
        let want = usize::try_from(len).unwrap_or(BUFFER).min(BUFFER);
        let buffer = self.buffer.get_mut(..want).unwrap_or_default();
        let n = from.read_at(buffer, from_offset)?;
        self.to.write_all(buffer.get(..n).unwrap_or_default(), offset)?;
        Ok(n as u64)
    }

    /// `None` where the kernel cannot copy between these two.
    fn within_kernel(&self, source: BorrowedFd<'_>, from: u64, to: u64, len: u64) -> Result<Option<u64>> {
        let chunk = usize::try_from(len.min(KERNEL_CHUNK)).unwrap_or(usize::MAX);
        match sys::data::copy_range(source, from, self.to.fd(), to, chunk) {
            // Some file systems say 0 for files that the kernel makes up; a read tells whether it is the end.
            Ok(0) => Ok(None),
            Ok(n) => Ok(Some(n as u64)),
            Err(e) if no_such_way(e) => Ok(None),
            Err(e) => Err(self.to.failed("copy")(e)),
        }
    }
}
