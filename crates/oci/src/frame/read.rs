//! The records of a frame in order, and the first look over a whole frame.

use super::record::{In, Record, corrupt};
use super::{SAVED_MAX, WINDOW_LOG};
use crate::apply::Rules;
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use zstd::stream::read::Decoder;

/// The most replaced contents of which a frame may speak.
const SAVED_COUNT_MAX: usize = 10_000_000;

/// Reads records. After [`Record::Literal`] and [`Record::Saved`] the caller reads the bytes that follow.
pub(super) struct Records<R: Read> {
    input: In<BufReader<Decoder<'static, BufReader<R>>>>,
    pub(super) rules: Rules,
}

impl<R: Read> Records<R> {
    pub(super) fn new(frame: R) -> Result<Self> {
        let failed = |e| Error::io(e, "read frame");
        let mut decoder = Decoder::new(frame).map_err(failed)?;
        decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
        let mut input = In(BufReader::new(decoder));
        let rules = input.head()?;
        Ok(Self { input, rules })
    }

    pub(super) fn next(&mut self) -> Result<Record> {
        self.input.record()
    }

    /// Fills `buf` with bytes that follow a record.
    pub(super) fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        self.input.exactly(buf)
    }

    /// So many of the bytes that follow a record.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        self.input.take(len)
    }

    /// Passes over bytes that follow a record.
    pub(super) fn pass(&mut self, mut len: u64) -> Result<()> {
        let mut buf = [0; 4096];
        while len > 0 {
            let room = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
            self.fill(buf.get_mut(..room).unwrap_or_default())?;
            len -= room as u64;
        }
        Ok(())
    }

    /// There is nothing after the end; the checksum of the whole is right.
    fn over(&mut self) -> Result<()> {
        match self.input.0.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(corrupt("it goes on after its end")),
            Err(e) => Err(corrupt(format!("it cannot be decompressed: {e}"))),
        }
    }
}

/// A content that the tree does not have any more.
#[derive(Debug)]
pub(super) struct Saved {
    /// How many contents came before it was replaced.
    pub(super) after: u64,
    /// The content, where it was kept.
    pub(super) bytes: Option<Vec<u8>>,
}

/// What a whole frame says.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) rules: Rules,
    /// By path, in the order in which they were replaced.
    pub(super) saved: HashMap<Vec<u8>, Vec<Saved>>,
    /// Bytes of the archive.
    pub(super) bytes: u64,
}

impl Scan {
    /// The replaced content that the `nth` content at `path` was, if it was replaced.
    pub(super) fn saved(&self, path: &[u8], nth: u64) -> Option<&Saved> {
        let saved = self.saved.get(path)?;
        saved.get(saved.partition_point(|saved| saved.after <= nth))
    }

    /// True when every replaced content was kept.
    pub(super) fn whole(&self) -> bool {
        self.saved.values().flatten().all(|saved| saved.bytes.is_some())
    }
}

/// Reads a frame to its end, checks its form and goes back to its beginning.
pub(super) fn scan(frame: &mut (impl Read + Seek)) -> Result<Scan> {
    let failed = |e| Error::io(e, "read frame");
    let start = frame.stream_position().map_err(failed)?;
    let scan = look(&mut *frame)?;
    frame.seek(SeekFrom::Start(start)).map_err(failed)?;
    Ok(scan)
}

fn look(frame: impl Read) -> Result<Scan> {
    let mut records = Records::new(frame)?;
    let mut saved: HashMap<_, Vec<_>> = HashMap::new();
    let (mut bytes, mut contents, mut kept, mut count) = (0_u64, 0, 0_u64, 0);
    let add = |bytes: u64, n: u64| bytes.checked_add(n).ok_or_else(|| corrupt("it has more than 2^64 bytes"));
    loop {
        match records.next()? {
            Record::Literal(len) => {
                bytes = add(bytes, len)?;
                records.pass(len)?;
            }
            Record::Content(content) => {
                bytes = add(bytes, content.stored)?;
                contents += 1;
            }
            Record::Place { .. } | Record::Made { .. } | Record::Linked { .. } => {}
            Record::Saved { path, len } => {
                kept = add(kept, len.unwrap_or(0))?;
                if kept > SAVED_MAX || count == SAVED_COUNT_MAX {
                    return Err(corrupt("it keeps more replaced contents than there can be"));
                }
                let bytes = len.map(|len| records.take(len)).transpose()?;
                saved.entry(path).or_default().push(Saved { after: contents, bytes });
                count += 1;
            }
            Record::End(announced) => {
                if announced != bytes {
                    return Err(corrupt(format!("it has {bytes} bytes of {announced}")));
                }
                records.over()?;
                return Ok(Scan { rules: records.rules, saved, bytes });
            }
        }
    }
}
