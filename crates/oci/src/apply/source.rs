//! The archive as it comes in: decoded and hashed on a thread of its own, so that both go on while files are made.

use crate::{Digest, Error, Hasher, Result};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

/// Bytes that are handed over at once. An archive that fits into one piece needs no thread.
const PIECE: usize = 256 << 10;
/// How many pieces wait at most.
const AHEAD: usize = 8;

/// Gives `body` the archive to read to its end; afterwards its digest and length.
pub(super) fn hashed<T>(
    archive: impl Read + Send,
    body: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(T, Digest, u64)> {
    let mut archive = Hasher::new(archive);
    let mut first = vec![0; PIECE];
    let n = fill(&mut archive, &mut first).map_err(said)?;
    first.truncate(n);
    if n < PIECE {
        let done = body(&mut first.as_slice())?;
        let (digest, bytes, _) = archive.finish();
        return Ok((done, digest, bytes));
    }
    let (full, pieces) = sync_channel(AHEAD);
    let (empty, used) = channel::<Vec<u8>>();
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("strata-decode".into()).spawn_scoped(scope, move || {
            loop {
                let mut piece = used.try_recv().unwrap_or_default();
                piece.resize(PIECE, 0);
                let read = fill(&mut archive, &mut piece);
                let goes_on = matches!(read, Ok(n) if n > 0);
                let piece = read.map(|n| {
                    piece.truncate(n);
                    piece
                });
                // Nobody listens any more after an error of theirs.
                if full.send(piece).is_err() || !goes_on {
                    break;
                }
            }
            let (digest, bytes, _) = archive.finish();
            (digest, bytes)
        });
        let reader = reader.map_err(|e| Error::io(e, "start a thread"))?;
        let done = body(&mut Pieces { current: first, at: 0, pieces, empty })?;
        let (digest, bytes) =
            reader.join().map_err(|_| Error::io(io::Error::other("the decoder died"), "read archive"))?;
        Ok((done, digest, bytes))
    })
}

/// What an error of reading is to callers.
fn said(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(error, "read archive"),
    }
}

/// Reads until `buf` is full or the end comes.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buf.get_mut(filled..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The reading end.
struct Pieces {
    current: Vec<u8>,
    at: usize,
    pieces: Receiver<io::Result<Vec<u8>>>,
    /// Where pieces go back to.
    empty: Sender<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.current, next?);
            self.at = 0;
            // Nobody takes it once all was read.
            let _ = self.empty.send(used);
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
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
    use crate::ErrorKind;

    fn read(from: impl Read + Send) -> Result<(Vec<u8>, Digest, u64)> {
        hashed(from, |archive| {
            let mut all = Vec::new();
            archive.read_to_end(&mut all).map_err(said)?;
            Ok(all)
        })
    }

    #[test]
    fn all_of_it_arrives_and_is_hashed() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 20 * PIECE + 7] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            let (got, digest, n) = read(bytes.as_slice()).unwrap();
            assert_eq!((n, digest), (len as u64, Digest::of(&bytes)));
            assert!(got == bytes);
        }
    }

    #[test]
    fn an_error_in_the_middle_arrives() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0 = self
                    .0
                    .checked_sub(1)
                    .ok_or_else(|| io::Error::other(Error::new(ErrorKind::Corrupt, "read blob")))?;
                Ok(buf.len())
            }
        }
        for after in [0, 1, 5] {
            assert_eq!(read(Breaks(after)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn giving_up_in_the_middle_ends_the_thread() {
        let endless = io::repeat(7);
        let gave_up = hashed(endless, |archive| {
            let mut some = [0; 100];
            archive.read_exact(&mut some).map_err(said)?;
            Err::<(), _>(Error::new(ErrorKind::NoSpace, "write"))
        });
        assert_eq!(gave_up.unwrap_err().kind(), ErrorKind::NoSpace);
    }
}
