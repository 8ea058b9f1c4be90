//! [`pipelined`]: reading and what is done with it, on two threads.
//!
//! The ring is bounded: so many buffers exist, each is full, being filled or being read. Errors and the end come through in
//! their place in the order of the bytes; a panic of the reader becomes an error.

use crate::{Error, ErrorKind, Result};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use stratafs_core::error::errno;

/// Bytes of a buffer.
const BUFFER: usize = 256 << 10;

/// How many buffers there are.
const BUFFERS: usize = 8;

/// A buffer and how much of it is filled; 0 is the end.
type Piece = io::Result<(Vec<u8>, usize)>;

/// Reads `inner` ahead on a thread, up to 2 MiB.
///
/// # Errors
/// When there is no thread to be had.
pub fn pipelined<R: Read + Send + 'static>(inner: R) -> Result<Pipelined> {
    let (full, pieces) = sync_channel(BUFFERS);
    let (empty, buffers) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        let _ = empty.try_send(Vec::new());
    }
    thread::Builder::new()
        .name("read ahead".into())
        .spawn(move || fill(inner, &buffers, &full))
        .map_err(|error| Error::io(error, "read ahead"))?;
    Ok(Pipelined { pieces, empty, current: Vec::new(), at: 0, len: 0, ended: false })
}

/// A reader that works ahead; made by [`pipelined`]. When it is dropped the thread ends after the read that it is in.
#[derive(Debug)]
pub struct Pipelined {
    pieces: Receiver<Piece>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    len: usize,
    ended: bool,
}

impl Pipelined {
    /// Waits for the next full buffer and gives the old one back.
    fn turn(&mut self) -> io::Result<()> {
        let piece = self.pieces.recv().unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Io(errno::EIO), "read ahead");
            Err(io::Error::other(error.because("the reading thread ended too early")))
        });
        match piece {
            Ok((buffer, len)) => {
                let used = std::mem::replace(&mut self.current, buffer);
                // The thread may have ended.
                let _ = self.empty.try_send(used);
                (self.at, self.len) = (0, len);
                self.ended = len == 0;
                Ok(())
            }
            Err(error) => {
                (self.at, self.len) = (0, 0);
                Err(error)
            }
        }
    }
}

impl Read for Pipelined {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.len && !self.ended && !buf.is_empty() {
            self.turn()?;
        }
        let ready = self.current.get(self.at..self.len).unwrap_or_default();
        let n = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

/// The thread: fills buffers until the end, an error, or nobody wants more.
fn fill(mut inner: impl Read, buffers: &Receiver<Vec<u8>>, full: &SyncSender<Piece>) {
    while let Ok(mut buffer) = buffers.recv() {
        buffer.resize(BUFFER, 0);
        let mut len = 0;
        // A decoder gives little at a time; each handing over costs two wake-ups.
        let read = loop {
            let room = buffer.get_mut(len..).unwrap_or_default();
            if room.is_empty() {
                break Ok(());
            }
            match inner.read(room) {
                Ok(0) => break Ok(()),
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let ended = len < BUFFER;
        if len > 0 && full.send(Ok((buffer, len))).is_err() {
            return;
        }
        if ended {
            let _ = full.send(read.map(|()| (Vec::new(), 0)));
            return;
        }
    }
}
