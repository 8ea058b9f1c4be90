//! The records of a frame as bytes: a tag, then numbers in LEB128 and byte strings with their length in front.

use super::{MAGIC, VERSION};
use crate::apply::Rules;
use crate::tar::Extent;
use crate::{Error, ErrorKind, Result};
use std::io::{self, Read};
use stratafs_core::{Attr, Device, Kind, Time};

/// The longest byte string: a path of the deepest tree.
const BYTES_MAX: u64 = 4 << 20;
/// The most extents of a file, and attributes of an object.
const ITEMS_MAX: u64 = 4 << 20;

const END: u8 = 0;
const LITERAL: u8 = 1;
const CONTENT: u8 = 2;
const PLACE: u8 = 3;
const MADE: u8 = 4;
const SAVED: u8 = 5;
const LINKED: u8 = 6;

/// The content of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Where in the tree.
    pub(crate) path: Vec<u8>,
    /// Bytes in the archive.
    pub(crate) stored: u64,
    /// Where in the file they are, of a sparse one.
    pub(crate) extents: Option<Vec<Extent>>,
    pub(crate) crc: u32,
}

/// An object of the tree that no entry stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: Device,
    pub(crate) mtime: Time,
    pub(crate) size: u64,
    /// Of a regular file's content: [`sum_of`](crate::apply::sum_of).
    pub(crate) crc: u32,
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Made {
    pub(crate) fn new(path: Vec<u8>, attr: &Attr, target: Vec<u8>, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let Attr { kind, mode, uid, gid, rdev, mtime, size, .. } = *attr;
        Self { path, kind, mode, uid, gid, rdev, mtime, size, crc: 0, target, xattrs }
    }
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// So many bytes follow and belong to the archive.
    Literal(u64),
    Content(Content),
    /// Entry `entry` is at `path`, and its target at `target`.
    Place {
        entry: u64,
        path: Option<Vec<u8>>,
        target: Option<Vec<u8>>,
    },
    /// Made for entry `entry`, or, where there is none of that number, for links when the archive was over.
    Made {
        entry: u64,
        made: Made,
    },
    /// When the archive of `entry` entries was over, an object at `target` was given the name `path`, for which there is no entry.
    Linked {
        entry: u64,
        path: Vec<u8>,
        target: Vec<u8>,
    },
    /// What the last content of this path was, before the path became something else: so many bytes follow, or it is
    /// not known any more.
    Saved {
        path: Vec<u8>,
        len: Option<u64>,
    },
    /// The archive has so many bytes.
    End(u64),
}

/// Where records are put together.
#[derive(Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.number(u64::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    pub(super) fn head(&mut self, rules: Rules) {
        self.0.extend_from_slice(MAGIC);
        self.0.extend([VERSION, rules.escaped, u8::from(rules.stashed)]);
    }

    pub(super) fn record(&mut self, record: &Record) {
        match record {
            Record::Literal(len) => {
                self.0.push(LITERAL);
                self.number(*len);
            }
            Record::Content(content) => {
                self.0.push(CONTENT);
                self.bytes(&content.path);
                self.number(content.stored);
                self.number(content.crc.into());
                self.number(u64::from(content.extents.is_some()));
                if let Some(extents) = &content.extents {
                    self.number(extents.len() as u64);
                    for extent in extents {
                        self.number(extent.offset);
                        self.number(extent.len);
                    }
                }
            }
            Record::Place { entry, path, target } => {
                self.0.push(PLACE);
                self.number(*entry);
                self.optional(path.as_deref());
                self.optional(target.as_deref());
            }
            Record::Made { entry, made } => {
                self.0.push(MADE);
                self.number(*entry);
                self.made(made);
            }
            Record::Linked { entry, path, target } => {
                self.0.push(LINKED);
                self.number(*entry);
                self.bytes(path);
                self.bytes(target);
            }
            Record::Saved { path, len } => {
                self.0.push(SAVED);
                self.bytes(path);
                self.number(u64::from(len.is_some()));
                self.number(len.unwrap_or(0));
            }
            Record::End(bytes) => {
                self.0.push(END);
                self.number(*bytes);
            }
        }
    }

    fn made(&mut self, made: &Made) {
        self.bytes(&made.path);
        self.number((made.kind.mode_bits() | made.mode).into());
        for n in [made.uid, made.gid, made.rdev.major, made.rdev.minor, made.mtime.nanos, made.crc] {
            self.number(n.into());
        }
        self.0.extend_from_slice(&made.mtime.secs.to_le_bytes());
        self.number(made.size);
        self.bytes(&made.target);
        self.number(made.xattrs.len() as u64);
        for (name, value) in &made.xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

/// An error about a frame that is not one.
pub(super) fn corrupt(why: impl Into<Box<str>>) -> Error {
    Error::new(ErrorKind::Corrupt, "read frame").because(why)
}

/// Reading records. `R` is the decoded stream.
#[derive(Debug)]
pub(super) struct In<R>(pub(super) R);

impl<R: Read> In<R> {
    pub(super) fn exactly(&mut self, buf: &mut [u8]) -> Result<()> {
        self.0.read_exact(buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("it ends in the middle"),
            // What the decoder says of its own format has no number; the rest is the host's.
            _ if e.raw_os_error().is_none() => corrupt(format!("it cannot be decompressed: {e}")),
            _ => Error::io(e, "read frame"),
        })
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.exactly(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(corrupt("a number has more than 64 bits"))
    }

    fn small(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| corrupt("a number has more than 32 bits"))
    }

    fn flag(&mut self) -> Result<bool> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(corrupt(format!("{n} is neither yes nor no"))),
        }
    }

    fn count(&mut self) -> Result<u64> {
        match self.number()? {
            n if n <= ITEMS_MAX => Ok(n),
            n => Err(corrupt(format!("a list of {n} items"))),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let len = self.number()?;
        if len > BYTES_MAX {
            return Err(corrupt(format!("a string of {len} bytes")));
        }
        self.take(len)
    }

    /// So many bytes; room is made as they arrive.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.0)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|e| corrupt(format!("it cannot be read: {e}")))?;
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(corrupt("it ends in the middle")),
        }
    }

    fn optional(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(if self.flag()? { Some(self.bytes()?) } else { None })
    }

    pub(super) fn head(&mut self) -> Result<Rules> {
        let mut magic = [0; MAGIC.len()];
        self.exactly(&mut magic)?;
        if magic != *MAGIC {
            return Err(corrupt("it does not begin as a frame"));
        }
        let version = self.byte()?;
        if version != VERSION {
            let why = format!("version {version} is not known; a newer version of this program wrote it");
            return Err(Error::new(ErrorKind::Unsupported, "read frame").because(why));
        }
        let (escaped, stashed) = (self.byte()?, self.flag()?);
        Ok(Rules { escaped, stashed })
    }

    pub(super) fn record(&mut self) -> Result<Record> {
        Ok(match self.byte()? {
            LITERAL => Record::Literal(self.number()?),
            CONTENT => {
                let (path, stored, crc) = (self.bytes()?, self.number()?, self.small()?);
                let extents = if self.flag()? { Some(self.extents(stored)?) } else { None };
                Record::Content(Content { path, stored, extents, crc })
            }
            PLACE => {
                Record::Place { entry: self.number()?, path: self.optional()?, target: self.optional()? }
            }
            MADE => Record::Made { entry: self.number()?, made: self.made()? },
            LINKED => Record::Linked { entry: self.number()?, path: self.bytes()?, target: self.bytes()? },
            SAVED => {
                let (path, known, len) = (self.bytes()?, self.flag()?, self.number()?);
                Record::Saved { path, len: known.then_some(len) }
            }
            END => Record::End(self.number()?),
            tag => return Err(corrupt(format!("a record of type {tag}"))),
        })
    }

    fn extents(&mut self, stored: u64) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        let (mut end, mut sum) = (0_u64, 0_u64);
        for _ in 0..self.count()? {
            let extent = Extent { offset: self.number()?, len: self.number()? };
            let after =
                extent.offset.checked_add(extent.len).filter(|_| extent.offset >= end && extent.len > 0);
            end = after.ok_or_else(|| corrupt("the extents of a file are not in order"))?;
            sum += extent.len;
            extents.push(extent);
        }
        if sum != stored {
            return Err(corrupt("the extents of a file are not its content"));
        }
        Ok(extents)
    }

    fn made(&mut self) -> Result<Made> {
        let path = self.bytes()?;
        let st_mode = self.small()?;
        let kind = Kind::from_mode(st_mode).ok_or_else(|| corrupt("an object of no kind"))?;
        let (uid, gid) = (self.small()?, self.small()?);
        let rdev = Device { major: self.small()?, minor: self.small()? };
        let (nanos, crc) = (self.small()?, self.small()?);
        let mut secs = [0; 8];
        self.exactly(&mut secs)?;
        let mtime = Time { secs: i64::from_le_bytes(secs), nanos };
        let (size, target) = (self.number()?, self.bytes()?);
        let mut xattrs = Vec::new();
        for _ in 0..self.count()? {
            xattrs.push((self.bytes()?, self.bytes()?));
        }
        Ok(Made { path, kind, mode: st_mode & 0o7777, uid, gid, rdev, mtime, size, crc, target, xattrs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Vec<Record> {
        let content = Content { path: b"a/b".to_vec(), stored: 1 << 40, extents: None, crc: u32::MAX };
        let extents = vec![Extent { offset: 4096, len: 7 }, Extent { offset: 1 << 50, len: 3 }];
        let made = Made {
            path: b"d".to_vec(),
            kind: Kind::Block,
            mode: 0o7777,
            uid: 1,
            gid: u32::MAX - 1,
            rdev: Device { major: 8, minor: 1 },
            mtime: Time { secs: -5, nanos: 999_999_999 },
            size: u64::MAX,
            crc: 7,
            target: b"t".to_vec(),
            xattrs: vec![(b"user.a".to_vec(), vec![0, 255]), (b"user.b".to_vec(), Vec::new())],
        };
        vec![
            Record::Literal(0),
            Record::Literal(u64::MAX),
            Record::Content(content.clone()),
            Record::Content(Content { stored: 10, extents: Some(extents), ..content }),
            Record::Place { entry: 300, path: Some(b"x".to_vec()), target: None },
            Record::Place { entry: 0, path: None, target: Some(Vec::new()) },
            Record::Made { entry: 1, made },
            Record::Linked { entry: 2, path: b"x".to_vec(), target: b"y".to_vec() },
            Record::Saved { path: b"s".to_vec(), len: None },
            Record::Saved { path: b"s".to_vec(), len: Some(9) },
            Record::End(12345),
        ]
    }

    #[test]
    fn records_read_back() {
        let mut out = Out::default();
        let rules = Rules { escaped: 2, stashed: true };
        out.head(rules);
        some().iter().for_each(|record| out.record(record));
        let mut input = In(out.0.as_slice());
        assert_eq!(input.head().unwrap(), rules);
        for record in some() {
            assert_eq!(input.record().unwrap(), record);
        }
        assert!(input.0.is_empty());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_an_error_or_another_record() {
        for record in some() {
            let mut out = Out::default();
            out.record(&record);
            for end in 0..out.0.len() {
                assert_eq!(In(&out.0[..end]).record().unwrap_err().kind(), ErrorKind::Corrupt);
            }
            for bit in 0..out.0.len() * 8 {
                let mut damaged = out.0.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if let Err(e) = In(damaged.as_slice()).record() {
                    assert_eq!(e.kind(), ErrorKind::Corrupt);
                }
            }
        }
    }
}
