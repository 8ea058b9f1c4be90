//! [`pipe`]: from a thread that writes an archive to one that reads it, in memory. When one end goes the other fails or
//! ends, so neither waits for ever.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes that are handed over at once.
const PIECE: usize = 256 << 10;
/// Said to a writer without a reader.
pub(super) const EPIPE: i32 = 32;
/// Pieces that wait at most.
const WAITING: usize = 4;

/// Both ends. The reader sees the end only after [`PipeWriter::finish`]: a writer that was dropped is an error.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (out, pieces) = sync_channel(WAITING);
    let writer = PipeWriter { out, piece: Vec::with_capacity(PIECE) };
    (writer, PipeReader { pieces, piece: Vec::new(), at: 0, ended: false })
}

/// The writing end.
pub(super) struct PipeWriter {
    out: SyncSender<Option<Vec<u8>>>,
    piece: Vec<u8>,
}

/// The reading end.
pub(super) struct PipeReader {
    pieces: Receiver<Option<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl PipeWriter {
    /// Hands over what is left and says that this was all.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.hand_over()?;
        self.out.send(None).map_err(|_| io::Error::from_raw_os_error(EPIPE))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        match piece.is_empty() {
            true => Ok(()),
            false => self.out.send(Some(piece)).map_err(|_| io::Error::from_raw_os_error(EPIPE)),
        }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = PIECE.saturating_sub(self.piece.len()).min(buf.len());
        self.piece.extend_from_slice(buf.get(..room).unwrap_or_default());
        if self.piece.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended {
            match self.pieces.recv() {
                Ok(Some(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(None) => self.ended = true,
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let rest = self.piece.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_arrives_and_an_end_that_was_not_said_is_an_error() {
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|n| (n % 251) as u8).collect();
        for finish in [true, false] {
            let (mut writer, mut reader) = pipe();
            let mut got = Vec::new();
            let read = std::thread::scope(|scope| {
                scope.spawn(|| {
                    writer.write_all(&bytes).unwrap();
                    writer.flush().unwrap();
                    if finish {
                        writer.finish().unwrap();
                    }
                });
                reader.read_to_end(&mut got)
            });
            assert_eq!(read.is_ok(), finish);
            assert!(got == bytes);
        }
    }

    #[test]
    fn a_writer_without_a_reader_fails() {
        let (mut writer, reader) = pipe();
        drop(reader);
        assert!(writer.write_all(&vec![0; 2 * PIECE]).is_err());
    }
}
