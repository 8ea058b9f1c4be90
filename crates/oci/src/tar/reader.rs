//! [`Reader`]: the entries of an archive as it streams by.
//!
//! Headers that speak of the next entry (`x`, `L`, `K`) are collected until it comes. Each may come once; a path or
//! target that two of them give is refused, since readers disagree on which counts. Global headers (`g`) give owner
//! and time to what follows. Directories, links, devices and fifos have no content: a size in their header is
//! refused, but for hard links, where every reader ignores it.
//!
//! The end is a block of zeros and another one, or the end of the input between two entries, as GNU tar and Go have
//! it; the padding of the last content may be missing too. What follows two blocks of zeros means nothing and is only
//! heard by the [`Tap`].
//!
//! Invariant: after an error nothing more can be read; `next` never skips what it could not understand.

use super::fields::{Bad, Fields, Format};
use super::pax::{Owner, Pax};
use super::sparse::{self, Found, MapAhead, check_map};
use super::{BLOCK, Entry, EntryKind, Extent};
use crate::{Error, ErrorKind, Limits, Result};
use std::io::{self, BufReader, Read};
use stratafs_core::Time;

/// Hears every byte of an archive that is not content of a regular file, in the order of the archive: headers,
/// extended records, sparse maps, padding, the end and everything after it.
///
/// Content that [`Reader::next_data`] gave is not heard; content that was skipped by [`Reader::next`] is. So what the tap hears
/// and what was given, put together in the order of the calls, is the archive. The padding after a content is heard
/// in the following [`Reader::next`], so between the two a caller can note what the content was.
pub trait Tap {
    /// The next bytes.
    ///
    /// # Errors
    /// What it says ends the reading.
    fn literal(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn literal(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl<T: Tap + ?Sized> Tap for &mut T {
    fn literal(&mut self, bytes: &[u8]) -> Result<()> {
        (**self).literal(bytes)
    }
}

/// Input is taken in pieces of this size, unless a caller's buffer is larger.
const BUFFER: usize = 1 << 16;

const OPERATION: &str = "read archive";

/// Reads an archive entry by entry. Uncompressed; see [`decode`](crate::compress::decode()).
#[derive(Debug)]
pub struct Reader<R, T = NoTap> {
    input: BufReader<R>,
    tap: T,
    limits: Limits,
    /// Bytes taken from the input.
    at: u64,
    entries: u64,
    global: Owner,
    content: Content,
    /// Name of the entry that is being read, for errors.
    path: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    End,
    Failed,
}

/// What is left of the current entry's content.
#[derive(Debug, Default)]
struct Content {
    extents: std::vec::IntoIter<Extent>,
    /// The rest of the extent that is being read.
    current: Option<Extent>,
    /// Bytes left in the archive.
    stored: u64,
    padding: usize,
}

/// Headers that wait for their entry.
#[derive(Debug, Default)]
struct Pending {
    offset: Option<u64>,
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    bytes: usize,
}

impl<R: Read> Reader<R> {
    /// Reads the archive `input`.
    pub fn new(input: R, limits: &Limits) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            tap: NoTap,
            limits: limits.clone(),
            at: 0,
            entries: 0,
            global: Owner::default(),
            content: Content::default(),
            path: Vec::new(),
            state: State::Open,
        }
    }
}

impl<R: Read, T: Tap> Reader<R, T> {
    /// Lets `tap` hear what is not content, from here on.
    pub fn with_tap<U: Tap>(self, tap: U) -> Reader<R, U> {
        let Self { input, limits, at, entries, global, content, path, state, .. } = self;
        Reader { input, tap, limits, at, entries, global, content, path, state }
    }

    /// The tap.
    pub fn tap_mut(&mut self) -> &mut T {
        &mut self.tap
    }

    /// Bytes of the archive read so far; all of it once [`Reader::next`] gave `None`.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next entry; `None` at the end of the archive, when the input is read to its end too. What was not read of
    /// the last entry's content is skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for everything that is no archive or could be read in more than one way,
    /// [`ErrorKind::TooLarge`] for what is beyond the limits, [`ErrorKind::Unsupported`] for types of entries that are not
    /// known, and what the input says. It names the entry and the byte where its header begins.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot fail and lend")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        match self.state {
            State::Open => {}
            State::End => return Ok(None),
            State::Failed => {
                return Err(Error::new(ErrorKind::Corrupt, OPERATION).because("an earlier error ended it"));
            }
        }
        let entry = self.skip().and_then(|()| self.step());
        match entry {
            Ok(Some(_)) => {}
            Ok(None) => self.state = State::End,
            Err(_) => self.state = State::Failed,
        }
        entry
    }

    /// The next piece of the current file's content: where in the file it belongs and how many bytes of `buf` were
    /// filled, at least one. `None` when all was given, and for an entry that is no file. Holes are not given: what no
    /// piece covers up to [`Entry::size`] is zeros.
    ///
    /// # Errors
    /// As [`Reader::next`]; also when the archive ends inside the content.
    pub fn next_data(&mut self, buf: &mut [u8]) -> Result<Option<(u64, usize)>> {
        if self.state != State::Open {
            return Ok(None);
        }
        let piece = self.piece(buf);
        if piece.is_err() {
            self.state = State::Failed;
        }
        piece
    }

    fn piece(&mut self, buf: &mut [u8]) -> Result<Option<(u64, usize)>> {
        if self.content.current.is_none() {
            self.content.current = self.content.extents.next();
        }
        let Some(extent) = self.content.current else { return Ok(None) };
        let room = usize::try_from(extent.len).unwrap_or(usize::MAX).min(buf.len());
        if room == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, OPERATION).because("the buffer is empty"));
        }
        let n = self.read(buf.get_mut(..room).unwrap_or_default())?;
        if n == 0 {
            return Err(self.truncated());
        }
        let rest = Extent { offset: extent.offset + n as u64, len: extent.len - n as u64 };
        self.content.current = (rest.len > 0).then_some(rest);
        self.content.stored -= n as u64;
        Ok(Some((extent.offset, n)))
    }

    /// Passes over what is left of the current entry. The archive may end in the padding: layers that `umoci insert`
    /// writes do, and container tools take them.
    fn skip(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.content);
        self.literal(left.stored)?;
        self.pass(left.padding as u64).map(drop)
    }

    /// Gives the next so many bytes to the tap.
    fn literal(&mut self, len: u64) -> Result<()> {
        if self.pass(len)? < len { Err(self.truncated()) } else { Ok(()) }
    }

    /// Gives up to so many bytes to the tap, fewer only at the end of the input.
    fn pass(&mut self, len: u64) -> Result<u64> {
        let mut buf = [0; 4096];
        let mut passed = 0;
        while passed < len {
            let room = usize::try_from(len - passed).unwrap_or(usize::MAX).min(buf.len());
            let n = self.read(buf.get_mut(..room).unwrap_or_default())?;
            if n == 0 {
                break;
            }
            self.tap.literal(buf.get(..n).unwrap_or_default())?;
            passed += n as u64;
        }
        Ok(passed)
    }

    /// Reads headers up to the next entry.
    fn step(&mut self) -> Result<Option<Entry>> {
        let mut pending = Pending::default();
        self.path.clear();
        loop {
            let at = self.at;
            let Some(block) = self.block()? else {
                return self.end_after(&pending);
            };
            if block.iter().all(|b| *b == 0) {
                self.end_after(&pending)?;
                self.end()?;
                return Ok(None);
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(self.too_large(at, format!("more than {} entries", self.limits.entries)));
            }
            let fields = Fields::new(&block).map_err(|why| self.bad(at, why))?;
            match fields.kind() {
                b'x' if pending.pax.is_some() => {
                    return Err(self.bad(at, "two extended headers for one entry"));
                }
                b'g' if pending.offset.is_some() => {
                    return Err(self.bad(at, "a global header between an entry and what extends it"));
                }
                kind @ (b'x' | b'g' | b'L' | b'K') => {
                    if kind != b'g' {
                        pending.offset.get_or_insert(at);
                    }
                    self.extension(kind, &fields, &mut pending, at)?;
                }
                kind => return self.entry(kind, &fields, pending, at).map(Some),
            }
        }
    }

    /// The archive is over, which nothing may be waiting for.
    fn end_after(&self, pending: &Pending) -> Result<Option<Entry>> {
        match pending.offset {
            None => Ok(None),
            Some(at) => Err(self.bad(at, "the archive ends after an extended header, without its entry")),
        }
    }

    /// One header of a kind that says more about what follows.
    fn extension(&mut self, kind: u8, fields: &Fields, pending: &mut Pending, at: u64) -> Result<()> {
        if self.path.is_empty() {
            self.path = fields.path();
        }
        let size = fields.size().map_err(|why| self.bad(at, why))?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.limits.header.saturating_sub(pending.bytes) {
            let why = format!("an extended header of more than {} bytes", self.limits.header);
            return Err(self.too_large(at, why));
        }
        let data = self.header_data(size)?;
        if kind == b'g' {
            let owner = Pax::parse_global(&data, &self.limits).map_err(|why| self.bad(at, why))?;
            self.global = owner.or(self.global);
            self.path.clear();
            return Ok(());
        }
        pending.bytes = pending.bytes.saturating_add(size);
        if kind == b'x' {
            let pax = Pax::parse(&data, &self.limits).map_err(|why| self.bad(at, why))?;
            if let Some(path) = pax.sparse.name.as_ref().or(pax.path.as_ref()) {
                self.path.clone_from(path);
            }
            pending.pax = Some(pax);
            return Ok(());
        }
        let name = data.split(|b| *b == 0).next().unwrap_or_default();
        let rest = data.get(name.len()..).unwrap_or_default();
        if name.is_empty() || rest.iter().any(|b| *b != 0) {
            return Err(self.bad(at, "a long name that is empty or goes on after a NUL"));
        }
        let slot = if kind == b'L' { &mut pending.path } else { &mut pending.link };
        if slot.replace(name.to_vec()).is_some() {
            return Err(self.bad(at, "two long names for one entry"));
        }
        if kind == b'L' {
            self.path = name.to_vec();
        }
        Ok(())
    }

    /// Data of an extended header with its padding. Grows as the bytes arrive.
    fn header_data(&mut self, size: usize) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        let mut buf = [0; 4096];
        while data.len() < size {
            let room = (size - data.len()).min(buf.len());
            let n = self.read(buf.get_mut(..room).unwrap_or_default())?;
            if n == 0 {
                return Err(self.truncated());
            }
            let got = buf.get(..n).unwrap_or_default();
            self.tap.literal(got)?;
            data.extend_from_slice(got);
        }
        self.literal(padding(size as u64) as u64)?;
        Ok(data)
    }

    /// The entry itself, with what was said about it before.
    fn entry(&mut self, kind: u8, fields: &Fields, pending: Pending, at: u64) -> Result<Entry> {
        let offset = pending.offset.unwrap_or(at);
        let pax = pending.pax.unwrap_or_default();
        let ambiguous = |what| format!("two headers give the {what}, readers differ in which counts");
        if pax.path.is_some() && pending.path.is_some() {
            return Err(self.bad(offset, ambiguous("path")));
        }
        if pax.link.is_some() && pending.link.is_some() {
            return Err(self.bad(offset, ambiguous("target of the link")));
        }
        let long = pax.path.or(pending.path);
        let mut path = pax.sparse.name.clone().or(long).unwrap_or_else(|| fields.path());
        self.path.clone_from(&path);
        let link = pax.link.or(pending.link).unwrap_or_else(|| fields.link().to_vec());
        if path.is_empty() {
            return Err(self.bad(offset, "the entry has no name"));
        }
        if path.len().max(link.len()) > self.limits.path {
            let why = format!("a path or target of more than {} bytes", self.limits.path);
            return Err(self.too_large(offset, why));
        }

        let bad = |why: Bad| failure(&path, offset, why);
        let announced = fields.size().map_err(bad)?;
        let kind_found = self.kind(kind, fields, &path, link).map_err(bad)?;
        let is_file = kind_found == EntryKind::File;
        let content = match (&kind_found, pax.size) {
            (_, Some(size)) => size,
            // Some writers put the size of the file there; no reader looks for content.
            (EntryKind::Hardlink(_), None) => 0,
            (_, None) => announced,
        };
        if !is_file && content > 0 {
            return Err(bad(format!("it is no regular file and has a size of {content} bytes").into()));
        }
        let owner = pax.owner.or(self.global);
        // A field must be right also where a record stands for it.
        let id = |said: Option<i64>, field: Result<i64, Bad>, what| {
            let field = field.map_err(bad)?;
            let id = said.unwrap_or(field);
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| bad(format!("the {what} is {id}, which cannot be").into()))
        };
        let uid = id(owner.uid, fields.uid(), "uid")?;
        let gid = id(owner.gid, fields.gid(), "gid")?;
        let mtime = Time { secs: fields.mtime().map_err(bad)?, nanos: 0 };
        let mtime = owner.mtime.unwrap_or(mtime);
        let mode = fields.mode().map_err(bad)?;

        let found = pax.sparse.found().map_err(bad)?;
        if found.is_some() && (!is_file || kind == b'S') {
            return Err(bad("a sparse map for what is no ordinary file".into()));
        }
        let (size, sparse, stored) = match found {
            _ if kind == b'S' => self.old_sparse(fields, content, offset)?,
            None => (content, None, content),
            Some(Found::Map(size, map)) => (size, Some(check_map(map, size, content).map_err(bad)?), content),
            Some(Found::Ahead(size)) => {
                let (map, stored) = self.map_ahead(content, offset)?;
                (size, Some(check_map(map, size, stored).map_err(bad)?), stored)
            }
        };
        let extents = match &sparse {
            Some(extents) => extents.clone(),
            None if stored > 0 => vec![Extent { offset: 0, len: stored }],
            None => Vec::new(),
        };
        self.content =
            Content { extents: extents.into_iter(), current: None, stored, padding: padding(stored) };
        if kind_found == EntryKind::Dir {
            strip_slashes(&mut path);
        }
        Ok(Entry { path, kind: kind_found, mode, uid, gid, mtime, xattrs: pax.xattrs, size, sparse, offset })
    }

    fn kind(&self, kind: u8, fields: &Fields, path: &[u8], link: Vec<u8>) -> Result<EntryKind, Bad> {
        let corrupt = |why: &str| Err(why.into());
        // Readers in Go and Python look at the numbers whatever the type is.
        let device = fields.device()?;
        let device = || device.ok_or_else(|| Bad::from("a header of this age has no device numbers"));
        let found = match kind {
            // The sign for a directory before there was a type for it.
            0 if path.ends_with(b"/") => EntryKind::Dir,
            0 | b'0' | b'7' => EntryKind::File,
            b'S' if fields.format == Format::Gnu => EntryKind::File,
            b'1' | b'2' if link.is_empty() => return corrupt("a link without a target"),
            b'1' => EntryKind::Hardlink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => EntryKind::Char(device()?),
            b'4' => EntryKind::Block(device()?),
            b'5' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            b'M' | b'V' => {
                return Err(Bad::unsupported("archives of several volumes are not supported"));
            }
            other => {
                let why = format!("entries of type \"{}\" are not supported", other.escape_ascii());
                return Err(Bad::unsupported(why));
            }
        };
        if found != EntryKind::Dir && path.ends_with(b"/") {
            return corrupt("the name ends in a slash and it is no directory");
        }
        Ok(found)
    }

    /// Size, map and stored bytes of a file of GNU's type `S`.
    fn old_sparse(
        &mut self,
        fields: &Fields,
        stored: u64,
        offset: u64,
    ) -> Result<(u64, Option<Vec<Extent>>, u64)> {
        let Some(gnu) = fields.gnu() else {
            return Err(self.bad(offset, "a sparse file in an archive that is not GNU's"));
        };
        let size = super::fields::number(&gnu.realsize, "real size").map_err(|why| self.bad(offset, why))?;
        let size = u64::try_from(size).map_err(|_| self.bad(offset, format!("the real size is {size}")))?;
        let mut map = Vec::new();
        let mut more = sparse::old_map(&gnu.sparse, &mut map, &self.limits);
        let mut extended = gnu.is_extended();
        while extended {
            // A short block before the last would be read by some as the end of the map.
            if !matches!(more, Ok(true)) {
                let why = more.err().unwrap_or_else(|| Bad::from("the sparse map has a gap"));
                return Err(self.bad(offset, why));
            }
            let Some(block) = self.block()? else { return Err(self.truncated()) };
            let extension = sparse::extension(&block);
            more = sparse::old_map(&extension.sparse, &mut map, &self.limits);
            extended = extension.is_extended();
        }
        more.map_err(|why| self.bad(offset, why))?;
        let map = check_map(map, size, stored).map_err(|why| self.bad(offset, why))?;
        Ok((size, Some(map), stored))
    }

    /// The map in front of the content, and how many bytes of the content remain.
    fn map_ahead(&mut self, mut content: u64, offset: u64) -> Result<(Vec<Extent>, u64)> {
        let mut ahead = MapAhead::default();
        loop {
            content = content
                .checked_sub(BLOCK as u64)
                .ok_or_else(|| self.bad(offset, "the sparse map does not end inside the content"))?;
            let Some(block) = self.block()? else { return Err(self.truncated()) };
            if let Some(map) = ahead.take(&block, &self.limits).map_err(|why| self.bad(offset, why))? {
                return Ok((map, content));
            }
        }
    }

    /// After the first block of zeros: another one, or the end of the input.
    fn end(&mut self) -> Result<()> {
        let at = self.at;
        let second = self.block()?;
        if second.is_some_and(|block| block.iter().any(|b| *b != 0)) {
            return Err(self.bad(at, "a block of zeros, which ends an archive, and then more of it"));
        }
        let mut buf = [0; 4096];
        loop {
            let n = self.read(&mut buf)?;
            if n == 0 {
                return Ok(());
            }
            self.tap.literal(buf.get(..n).unwrap_or_default())?;
        }
    }

    /// The next block, which the tap hears; `None` when the input ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.read(room)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.truncated()),
                n => filled += n,
            }
        }
        self.tap.literal(&block)?;
        Ok(Some(block))
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match self.input.read(buf) {
                Ok(n) => {
                    self.at += n as u64;
                    if self.at > self.limits.layer_bytes {
                        let why = format!("it is larger than {} bytes", self.limits.layer_bytes);
                        return Err(self.too_large(self.at, why));
                    }
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Digests and decoders speak for themselves.
                Err(error) => match error.downcast::<Error>() {
                    Ok(error) => return Err(error),
                    Err(error) => return Err(Error::io(error, OPERATION).about(&self.path)),
                },
            }
        }
    }

    fn truncated(&self) -> Error {
        self.bad(self.at, "the archive ends in the middle of an entry")
    }

    fn bad(&self, at: u64, why: impl Into<Bad>) -> Error {
        failure(&self.path, at, why.into())
    }

    fn too_large(&self, at: u64, why: String) -> Error {
        self.bad(at, Bad::limit(why))
    }
}

fn failure(path: &[u8], at: u64, Bad { kind, why }: Bad) -> Error {
    let error = Error::new(kind, OPERATION).because(format!("{why} (at byte {at} of the archive)"));
    if path.is_empty() { error } else { error.about(path) }
}

/// Bytes up to the next block.
fn padding(size: u64) -> usize {
    // Below a block.
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Takes the slashes off the end, but leaves one if there is nothing else.
fn strip_slashes(path: &mut Vec<u8>) {
    while path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
}
