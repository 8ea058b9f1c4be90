//! Frame and tree together are the archive.

use super::find::Finder;
use super::read::{Records, Scan, scan};
use super::record::{Content, Made, Record, corrupt};
use crate::tar::Extent;
use crate::{Error, ErrorKind, Result};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Seek};
use stratafs_core::{Kind, Layer, ReadAt};

/// The archive of a layer, byte for byte, from its frame and its tree.
///
/// # Errors
/// `Corrupt` for a damaged frame; `Unsupported` where contents that an archive had twice were too large to keep (see
/// [`SAVED_MAX`](super::SAVED_MAX)). Reading the archive fails with `Corrupt` at a file that is not what it was.
pub fn rejoin<F: Read + Seek, L: Layer>(mut frame: F, tree: &L) -> Result<Rejoined<'_, F, L>> {
    let scan = scan(&mut frame)?;
    if !scan.whole() {
        return Err(Error::new(ErrorKind::Unsupported, "put archive together").in_layer(&tree.caps().label).because(
            "the archive had files twice and what was replaced was too much to keep; pack the layer anew instead",
        ));
    }
    Rejoined::new(frame, scan, Finder::new(tree), None)
}

/// What is read along with the archive.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Of entries whose headers were not given completely yet.
    pub(super) notes: RefCell<VecDeque<(u64, Note)>>,
    /// Files whose content is not what it was.
    pub(super) damaged: RefCell<Vec<(Vec<u8>, String)>>,
}

/// What a frame says of an entry.
#[derive(Debug)]
pub(super) enum Note {
    Place(Option<Vec<u8>>, Option<Vec<u8>>),
    Made(Made),
    /// A further name, and one that the object has already.
    Linked(Vec<u8>, Vec<u8>),
}

/// How contents are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listen<'h> {
    pub(super) heard: &'h Heard,
    /// Read contents; else they are zeros, for who only wants the headers.
    pub(super) contents: bool,
}

/// An archive that is put together while it is read; a [`Read`].
pub struct Rejoined<'t, F: Read, L: Layer> {
    records: Records<F>,
    scan: Scan,
    finder: Finder<'t, L>,
    /// `None`: what is damaged is an error.
    listen: Option<Listen<'t>>,
    contents: u64,
    now: Now<L::File>,
}

impl<F: Read, L: Layer> fmt::Debug for Rejoined<'_, F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejoined").field("bytes", &self.scan.bytes).finish_non_exhaustive()
    }
}

/// What is being given.
enum Now<T> {
    Record,
    Literal(u64),
    Content(Box<Giving<T>>),
    Over,
}

/// A content that is being given.
struct Giving<T> {
    from: From<T>,
    content: Content,
    /// What is left, last first.
    left: Vec<Extent>,
    crc: crc32fast::Hasher,
    short: bool,
}

/// Where a content comes from.
enum From<T> {
    File(T),
    Saved(Vec<u8>),
    /// Nobody knows it, or it does not matter.
    Zeros,
}

impl<'t, F: Read, L: Layer> Rejoined<'t, F, L> {
    pub(super) fn new(
        frame: F,
        scan: Scan,
        finder: Finder<'t, L>,
        listen: Option<Listen<'t>>,
    ) -> Result<Self> {
        Ok(Self { records: Records::new(frame)?, scan, finder, listen, contents: 0, now: Now::Record })
    }

    /// Bytes of the archive.
    pub fn bytes(&self) -> u64 {
        self.scan.bytes
    }

    fn some(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match &mut self.now {
                Now::Over => return Ok(0),
                Now::Record => self.now = self.begin()?,
                Now::Literal(0) => self.now = Now::Record,
                Now::Literal(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
                    self.records.fill(buf.get_mut(..n).unwrap_or_default())?;
                    *left -= n as u64;
                    return Ok(n);
                }
                Now::Content(giving) => {
                    let n = giving.some(buf)?;
                    if n > 0 {
                        return Ok(n);
                    }
                    self.end()?;
                    self.now = Now::Record;
                }
            }
        }
    }

    fn begin(&mut self) -> Result<Now<L::File>> {
        Ok(match self.records.next()? {
            Record::Literal(len) => Now::Literal(len),
            Record::Content(content) => {
                let nth = self.contents;
                self.contents += 1;
                Now::Content(Box::new(self.content(content, nth)?))
            }
            Record::Saved { len, .. } => {
                self.records.pass(len.unwrap_or(0))?;
                Now::Record
            }
            Record::Place { entry, path, target } => {
                self.hear(entry, Note::Place(path, target));
                Now::Record
            }
            Record::Made { entry, made } => {
                self.hear(entry, Note::Made(made));
                Now::Record
            }
            Record::Linked { entry, path, target } => {
                self.hear(entry, Note::Linked(path, target));
                Now::Record
            }
            Record::End(_) => Now::Over,
        })
    }

    fn hear(&self, entry: u64, note: Note) {
        if let Some(listen) = self.listen {
            listen.heard.notes.borrow_mut().push_back((entry, note));
        }
    }

    fn content(&mut self, content: Content, nth: u64) -> Result<Giving<L::File>> {
        let from = match self.scan.saved(&content.path, nth) {
            _ if self.listen.is_some_and(|listen| !listen.contents) => From::Zeros,
            Some(saved) => saved.bytes.clone().map_or(From::Zeros, From::Saved),
            None => match self.file(&content.path) {
                Ok(file) => From::File(file),
                Err(e) if self.listen.is_none() => return Err(e),
                // Who compares the entries finds out by itself.
                Err(_) => From::Zeros,
            },
        };
        let mut left = match &content.extents {
            Some(extents) => extents.clone(),
            None => vec![Extent { offset: 0, len: content.stored }],
        };
        left.reverse();
        Ok(Giving { from, content, left, crc: crc32fast::Hasher::new(), short: false })
    }

    fn file(&mut self, path: &[u8]) -> Result<L::File> {
        let gone = |why: &str| Error::new(ErrorKind::Corrupt, "read content").about(path).because(why);
        match self.finder.object(path)? {
            None => Err(gone("the layer has lost this file")),
            Some(hit) if hit.attr.kind != Kind::File => Err(gone("it is no regular file any more")),
            Some(hit) => self.finder.tree.open(&hit.node),
        }
        .map_err(|e| e.in_layer(&self.finder.tree.caps().label))
    }

    /// Judges a content that was given.
    fn end(&mut self) -> Result<()> {
        let Now::Content(giving) = std::mem::replace(&mut self.now, Now::Record) else { return Ok(()) };
        if matches!(giving.from, From::Zeros) {
            return Ok(());
        }
        let why = if giving.short {
            "its content is shorter than it was"
        } else if giving.crc.finalize() != giving.content.crc {
            "its content is not what it was"
        } else {
            return Ok(());
        };
        match self.listen {
            Some(listen) => listen.heard.damaged.borrow_mut().push((giving.content.path, why.into())),
            None => {
                return Err(Error::new(ErrorKind::Corrupt, "read content")
                    .about(&giving.content.path)
                    .in_layer(&self.finder.tree.caps().label)
                    .because(why));
            }
        }
        Ok(())
    }
}

impl<T: ReadAt> Giving<T> {
    /// The next bytes; what a file lacks is zeros.
    fn some(&mut self, buf: &mut [u8]) -> Result<usize> {
        let Some(extent) = self.left.last_mut().filter(|extent| extent.len > 0) else {
            return match self.left.pop() {
                Some(_) => self.some(buf),
                None => Ok(0),
            };
        };
        let room = usize::try_from(extent.len).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..room).unwrap_or_default();
        let n = match &self.from {
            From::Zeros => 0,
            From::Saved(bytes) => {
                let at = usize::try_from(extent.offset).unwrap_or(usize::MAX);
                let rest = bytes.get(at..).unwrap_or_default();
                let n = rest.len().min(room);
                if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
                    to.copy_from_slice(from);
                }
                n
            }
            From::File(file) => match file.read_at(buf, extent.offset) {
                Ok(n) => n,
                Err(e) => return Err(e.about(&self.content.path)),
            },
        };
        let n = match n {
            0 => {
                self.short = true;
                buf.fill(0);
                room
            }
            n => n,
        };
        self.crc.update(buf.get(..n).unwrap_or_default());
        extent.offset =
            extent.offset.checked_add(n as u64).ok_or_else(|| corrupt("a content without end"))?;
        extent.len -= n as u64;
        Ok(n)
    }
}

impl<F: Read, L: Layer> Read for Rejoined<'_, F, L> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        // A reader of the archive gives the error back as it was.
        self.some(buf).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}
