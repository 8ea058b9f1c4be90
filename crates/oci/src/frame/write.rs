//! Writing a frame while its archive is unpacked.
//!
//! What the tap hears waits until it is known where its entry goes, so that records about an entry stand before its
//! header; the wait is bounded by the largest header.

use super::record::{Content, Made, Out, Record};
use super::{SAVED_MAX, WINDOW_LOG};
use crate::apply::Rules;
use crate::tar::Tap;
use crate::{Error, Limits, Result};
use std::io::{self, Write};
use stratafs_core::ReadAt;
use zstd::stream::write::Encoder;

/// Headers repeat themselves so much that a higher level gains little.
const LEVEL: i32 = 1;
/// Bytes after the headers of one entry that may wait too: padding, the end of the archive.
const SLACK: usize = 64 << 10;
/// Bytes that are compressed at once.
const PIECE: usize = 64 << 10;

type Sink = Box<dyn Write + Send>;

/// A frame that is being written.
pub(crate) struct FrameWriter {
    out: Encoder<'static, Sink>,
    /// Records, and literals with their lengths, that are not compressed yet.
    ready: Out,
    /// Literals that wait for their entry.
    waiting: Vec<u8>,
    wait_max: usize,
    saved: u64,
    /// Bytes of the archive so far.
    bytes: u64,
}

/// A frame, where one is wanted, as the tap of a reader.
pub(crate) struct FrameTap(pub(crate) Option<FrameWriter>);

impl Tap for FrameTap {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.0 {
            Some(frame) => frame.literal(bytes),
            None => Ok(()),
        }
    }
}

fn failed(e: io::Error) -> Error {
    Error::io(e, "write frame")
}

impl FrameWriter {
    pub(crate) fn new(out: Sink, rules: Rules, limits: &Limits) -> Result<Self> {
        let mut encoder = Encoder::new(out, LEVEL).map_err(failed)?;
        encoder.include_checksum(true).map_err(failed)?;
        encoder.window_log(WINDOW_LOG).map_err(failed)?;
        let mut ready = Out::default();
        ready.head(rules);
        let wait_max = limits.header.saturating_add(SLACK);
        Ok(Self { out: encoder, ready, waiting: Vec::new(), wait_max, saved: 0, bytes: 0 })
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        if self.waiting.len() > self.wait_max { self.release() } else { Ok(()) }
    }

    /// Lets the waiting literals go.
    fn release(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.ready.record(&Record::Literal(self.waiting.len() as u64));
            self.ready.0.append(&mut self.waiting);
        }
        self.compress(PIECE)
    }

    fn compress(&mut self, from: usize) -> Result<()> {
        if self.ready.0.len() >= from {
            self.out.write_all(&self.ready.0).map_err(failed)?;
            self.ready.0.clear();
        }
        Ok(())
    }

    /// Entry `entry`, whose header was heard last, went to another place than it says.
    pub(crate) fn entry(&mut self, entry: u64, path: Option<&[u8]>, target: Option<&[u8]>) -> Result<()> {
        if path.is_some() || target.is_some() {
            let (path, target) = (path.map(<[u8]>::to_vec), target.map(<[u8]>::to_vec));
            self.ready.record(&Record::Place { entry, path, target });
        }
        self.release()
    }

    /// An object was made for entry `entry`, whose header was heard last.
    pub(crate) fn made(&mut self, entry: u64, made: &Made) -> Result<()> {
        self.ready.record(&Record::Made { entry, made: made.clone() });
        self.compress(PIECE)
    }

    /// After the last of `entries` entries an object was given a name that has no entry.
    pub(crate) fn linked(&mut self, entries: u64, path: &[u8], target: &[u8]) -> Result<()> {
        self.ready.record(&Record::Linked { entry: entries, path: path.to_vec(), target: target.to_vec() });
        self.compress(PIECE)
    }

    /// The content of the entry was read.
    pub(crate) fn content(&mut self, content: &Content) -> Result<()> {
        self.release()?;
        self.bytes += content.stored;
        self.ready.record(&Record::Content(content.clone()));
        Ok(())
    }

    /// The content at `path` is about to be replaced.
    pub(crate) fn save(&mut self, path: &[u8], content: &dyn ReadAt) -> Result<()> {
        self.release()?;
        let path = path.to_vec();
        let len = content.size()?;
        if len > SAVED_MAX.saturating_sub(self.saved) {
            self.saved = SAVED_MAX;
            self.ready.record(&Record::Saved { path, len: None });
            return Ok(());
        }
        self.saved += len;
        self.ready.record(&Record::Saved { path, len: Some(len) });
        let mut buf = vec![0; PIECE];
        let mut at = 0;
        while at < len {
            let room = usize::try_from(len - at).unwrap_or(usize::MAX).min(buf.len());
            let n = content.read_at(buf.get_mut(..room).unwrap_or_default(), at)?;
            if n == 0 {
                return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
            self.ready.0.extend_from_slice(buf.get(..n).unwrap_or_default());
            self.compress(PIECE)?;
            at += n as u64;
        }
        Ok(())
    }

    /// The archive is over.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.release()?;
        self.ready.record(&Record::End(self.bytes));
        self.compress(0)?;
        let mut out = self.out.finish().map_err(failed)?;
        out.flush().map_err(failed)
    }
}
