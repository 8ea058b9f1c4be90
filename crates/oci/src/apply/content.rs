//! The content of a regular file on its way from the archive into the scratch. Long runs of zeros are not written.

use crate::tar::{Reader, Tap};
use crate::{Progress, Result};
use std::io::Read;
use stratafs_core::{ReadAt, WriteAt};

/// Bytes taken at a time.
pub(super) const BUFFER: usize = 256 << 10;
/// The shortest run of zeros that becomes a hole.
const HOLE: usize = 64 << 10;
/// Zeros are looked for in steps of this.
const PAGE: usize = 4096;

/// Writes content into `file`, which is empty. Gives the CRC-32 of what the archive held.
pub(super) fn write<R: Read, T: Tap>(
    reader: &mut Reader<R, T>,
    file: &impl WriteAt,
    size: u64,
    buf: &mut [u8],
    progress: &dyn Progress,
) -> Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut end = 0;
    // The reader may give less than the buffer holds; runs of zeros are looked for in full ones.
    loop {
        super::go_on(progress)?;
        let (mut offset, mut filled) = (None, 0);
        let mut next = None;
        while let Some(room) = buf.get_mut(filled..).filter(|room| !room.is_empty()) {
            let Some((at, n)) = reader.next_data(room)? else { break };
            match offset {
                None => offset = Some(at),
                Some(start) if start + filled as u64 != at => {
                    next = Some((at, n));
                    break;
                }
                Some(_) => {}
            }
            filled += n;
        }
        let Some(start) = offset else { break };
        let piece = buf.get(..filled).unwrap_or_default();
        crc.update(piece);
        end = put(file, piece, start)?.max(end);
        if let Some((at, n)) = next {
            // It came into the buffer behind the piece before it.
            let piece = buf.get(filled..filled + n).unwrap_or_default();
            crc.update(piece);
            end = put(file, piece, at)?.max(end);
        }
    }
    if end < size {
        file.set_len(size)?;
    }
    Ok(crc.finalize())
}

/// Writes a piece but for its long runs of zeros. Gives the end of what was written.
fn put(file: &impl WriteAt, piece: &[u8], offset: u64) -> Result<u64> {
    if piece.len() < HOLE {
        return write_all(file, piece, offset);
    }
    let mut end = 0;
    // From where on it is not written yet, and where the zeros before the current page begin.
    let (mut from, mut zeros) = (0, None);
    let mut flush = |from: usize, to: usize| -> Result<()> {
        if let Some(part) = piece.get(from..to).filter(|part| !part.is_empty()) {
            end = write_all(file, part, offset + from as u64)?;
        }
        Ok(())
    };
    for (page, bytes) in piece.chunks(PAGE).enumerate() {
        let at = page * PAGE;
        if is_zero(bytes) {
            zeros.get_or_insert(at);
            continue;
        }
        if let Some(start) = zeros.take().filter(|start| at - start >= HOLE) {
            flush(from, start)?;
            from = at;
        }
    }
    match zeros.filter(|start| piece.len() - start >= HOLE) {
        Some(start) => flush(from, start)?,
        None => flush(from, piece.len())?,
    }
    Ok(end)
}

/// A sum over the content of a file: the CRC-32 of every block that is not zeros, with its place before it. So it costs what
/// the file holds, however long it is, and does not depend on where its holes are.
pub(crate) fn sum_of(file: &(impl ReadAt + ?Sized), size: u64) -> Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut buf = vec![0; HOLE];
    let mut at = 0;
    while let Some(data) = file.seek_data(at)?.filter(|data| *data < size) {
        let start = (data - data % HOLE as u64).max(at);
        let room = usize::try_from(size - start).unwrap_or(usize::MAX).min(HOLE);
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..room).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, start + filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        let block = buf.get(..filled).unwrap_or_default();
        if !is_zero(block) {
            crc.update(&start.to_le_bytes());
            crc.update(block);
        }
        if filled < room {
            break;
        }
        at = start + room as u64;
    }
    Ok(crc.finalize())
}

fn is_zero(bytes: &[u8]) -> bool {
    let chunks = bytes.chunks_exact(16);
    let rest = chunks.remainder();
    let zero = |chunk: &[u8]| chunk.try_into().is_ok_and(|chunk| u128::from_ne_bytes(chunk) == 0);
    rest.iter().all(|b| *b == 0) && bytes.chunks_exact(16).all(zero)
}

fn write_all(file: &impl WriteAt, mut bytes: &[u8], mut offset: u64) -> Result<u64> {
    while !bytes.is_empty() {
        let n = file.write_at(bytes, offset)?;
        bytes = bytes.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(offset)
}
