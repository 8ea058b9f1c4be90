//! [`Writer`]: ustar headers, with PAX records only where a field is too small or cannot say it.
//!
//! Invariant: the bytes depend on the entries and contents alone. Records are sorted; there are no names of users, no
//! other times, no numbers of processes; the end is two blocks of zeros without padding to a record of tapes.

use super::pax::{write_record, write_time, xattr_key};
use super::{BLOCK, Entry, EntryKind};
use crate::{Error, ErrorKind, Result};
use ::tar::{EntryType, Header, UstarHeader};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use stratafs_core::Device;

const OPERATION: &str = "write archive";

/// The largest number in a field of eight bytes, and in one of twelve.
const OCTAL_7: u64 = (1 << 21) - 1;
const OCTAL_11: u64 = (1 << 33) - 1;

/// Writes an archive entry by entry.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// An entry was begun and not completed.
    torn: bool,
    /// Bytes written.
    at: u64,
}

/// Records by keyword.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

impl<W: Write> Writer<W> {
    /// Writes to `out`, in pieces of a block and of 64 KiB.
    pub fn new(out: W) -> Self {
        Self { out, torn: false, at: 0 }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Adds an entry. For a file `content` must give exactly [`Entry::size`] bytes; otherwise it is not looked at.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what an archive cannot hold, [`ErrorKind::Busy`] when the content is not as long as the
    /// entry says, so that the file changed meanwhile; what `content` and the output say. After an error while writing the archive is
    /// torn, and every further call fails.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.whole()?;
        let headers = headers(entry)?;
        self.torn = true;
        self.write(&headers)?;
        if entry.kind == EntryKind::File {
            self.copy(entry, content)?;
        }
        self.torn = false;
        Ok(())
    }

    /// Writes the end, and gives back the output, which is not flushed.
    ///
    /// # Errors
    /// What the output says; when an entry is torn.
    pub fn finish(mut self) -> Result<W> {
        self.whole()?;
        self.write(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn whole(&self) -> Result<()> {
        if self.torn {
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION).because("an earlier entry is torn"));
        }
        Ok(())
    }

    fn copy(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let changed = |why: &str| {
            let why = format!("{why} than the {} bytes of its entry: it changed meanwhile", entry.size);
            Err(Error::new(ErrorKind::Busy, OPERATION).about(&entry.path).because(why))
        };
        let mut buf = vec![0; 1 << 16];
        let mut left = entry.size;
        loop {
            // One byte more than there should be says that it is longer.
            let n = match content.read(&mut buf) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(source(error).about(&entry.path)),
            };
            match left.checked_sub(n as u64) {
                None => return changed("the content is longer"),
                Some(0) if n == 0 => break,
                Some(_) if n == 0 => return changed("the content is shorter"),
                Some(rest) => left = rest,
            }
            self.write(buf.get(..n).unwrap_or_default())?;
        }
        self.pad(entry.size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let zeros = [0; BLOCK];
        // Below a block.
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.write(zeros.get(..padding).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(source)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// An error that may be ours, carried through `std::io`.
fn source(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(error, OPERATION),
    }
}

/// All that stands before the content.
fn headers(entry: &Entry) -> Result<Vec<u8>> {
    let mut records = Records::new();
    let header = ustar(entry, &mut records)?;
    let mut out = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut data = Vec::new();
        for (key, value) in &records {
            write_record(&mut data, key, value);
        }
        let mut extended = blank(EntryType::XHeader);
        let base = entry.path.split(|b| *b == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
        put(&mut field(&mut extended)?.name, &ascii(&[b"PaxHeaders.0/", base].concat()));
        extended.set_mode(0o644);
        extended.set_size(data.len() as u64);
        extended.set_cksum();
        out.extend_from_slice(extended.as_bytes());
        out.extend_from_slice(&data);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(header.as_bytes());
    Ok(out)
}

/// The header of the entry; what does not fit goes to `records`.
fn ustar(entry: &Entry, records: &mut Records) -> Result<Header> {
    let bad = |why: &str| Err(Error::new(ErrorKind::InvalidInput, OPERATION).about(&entry.path).because(why));
    let (kind, link, device) = match &entry.kind {
        EntryKind::File => (EntryType::Regular, None, None),
        EntryKind::Dir => (EntryType::Directory, None, None),
        EntryKind::Symlink(target) => (EntryType::Symlink, Some(target), None),
        EntryKind::Hardlink(target) => (EntryType::Link, Some(target), None),
        EntryKind::Char(device) => (EntryType::Char, None, Some(*device)),
        EntryKind::Block(device) => (EntryType::Block, None, Some(*device)),
        EntryKind::Fifo => (EntryType::Fifo, None, None),
    };
    let mut header = blank(kind);
    let mut path = entry.path.clone();
    if entry.kind == EntryKind::Dir && !path.ends_with(b"/") {
        path.push(b'/');
    }
    if entry.path.is_empty() || path.contains(&0) {
        return bad("a name must not be empty or have a NUL");
    }
    if entry.kind != EntryKind::Dir && path.ends_with(b"/") {
        return bad("only the name of a directory ends in a slash");
    }
    let ustar = field(&mut header)?;
    match split(&path) {
        Some((prefix, name)) => {
            put(&mut ustar.prefix, prefix);
            put(&mut ustar.name, name);
        }
        None => {
            put(&mut ustar.name, &ascii(&path));
            records.insert(b"path".to_vec(), path);
        }
    }
    if let Some(target) = link {
        if target.is_empty() || target.contains(&0) {
            return bad("the target of a link must not be empty or have a NUL");
        }
        if target.len() <= ustar.linkname.len() && target.is_ascii() {
            put(&mut ustar.linkname, target);
        } else {
            put(&mut ustar.linkname, &ascii(target));
            records.insert(b"linkpath".to_vec(), target.clone());
        }
    }
    if entry.kind != EntryKind::File && entry.size > 0 {
        return bad("only a regular file has a size");
    }
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return bad("an owner that means nobody");
    }
    if entry.mode > 0o7777 || entry.mtime.nanos > 999_999_999 {
        return bad("a mode or time that cannot be");
    }
    header.set_mode(entry.mode);
    header.set_uid(octal(u64::from(entry.uid), OCTAL_7, b"uid", records));
    header.set_gid(octal(u64::from(entry.gid), OCTAL_7, b"gid", records));
    header.set_size(octal(entry.size, OCTAL_11, b"size", records));
    let secs = u64::try_from(entry.mtime.secs).unwrap_or(0).min(OCTAL_11);
    header.set_mtime(secs);
    if entry.mtime.nanos > 0 || i64::try_from(secs) != Ok(entry.mtime.secs) {
        records.insert(b"mtime".to_vec(), write_time(entry.mtime).into_bytes());
    }
    if let Some(Device { major, minor }) = device {
        if u64::from(major.max(minor)) > OCTAL_7 {
            return bad("a device number that no archive can hold");
        }
        let ustar = field(&mut header)?;
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.contains(&0) {
            return bad("the name of an extended attribute must not be empty or have a NUL");
        }
        if records.insert(xattr_key(name), value.clone()).is_some() {
            return bad("an extended attribute twice");
        }
    }
    header.set_cksum();
    Ok(header)
}

/// A ustar header of this type with all numbers 0.
fn blank(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header
}

fn field(header: &mut Header) -> Result<&mut UstarHeader> {
    header.as_ustar_mut().ok_or_else(|| Error::new(ErrorKind::InvalidInput, OPERATION))
}

/// The number if the field holds it; otherwise a record says it and the field is 0.
fn octal(value: u64, max: u64, key: &[u8], records: &mut Records) -> u64 {
    if value <= max {
        return value;
    }
    records.insert(key.to_vec(), value.to_string().into_bytes());
    0
}

/// A path as prefix and name, where both fit and are ASCII; the shortest prefix of all.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash between goes; the name must not be empty.
    let earliest = path.len() - 101;
    let at = path.iter().enumerate().skip(earliest.max(1)).find(|(_, b)| **b == b'/').map(|(at, _)| at)?;
    let (prefix, name) = (path.get(..at)?, path.get(at + 1..)?);
    (prefix.len() <= 155 && !name.is_empty()).then_some((prefix, name))
}

/// What an old reader shows in place of a name that only a record holds.
fn ascii(name: &[u8]) -> Vec<u8> {
    let mut shown: Vec<u8> =
        name.iter().take(100).map(|b| if matches!(b, b' '..=b'~') { *b } else { b'_' }).collect();
    if name.len() > 100 && shown.ends_with(b"/") {
        shown.pop();
    }
    shown
}

/// Copies as much as the field holds.
fn put(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}
