//! A layer archive becomes the content of a scratch.
//!
//! Entries may come in any order; what an entry means does not depend on what comes after it, but that links come
//! after their targets (as GNU tar has it) and that the last entry of a name counts:
//!
//! | the layer has | a whiteout of the name comes | an entry comes |
//! |---|---|---|
//! | nothing | whiteout | the entry |
//! | a whiteout | stays | no directory: the entry; directory: the entry, opaque |
//! | a directory | becomes opaque | directory: its attributes; anything else: error |
//! | anything else | says nothing | directory: error; anything else: replaces it |
//!
//! * `path`: which paths there are. `place`: where they lead. `below`: the layers below, when they are needed.
//! * `put`: over what stands there. `content`: bytes. `links`: further names. `source`: decoding and hashing at the same
//!   time.
//!
//! Invariants: every name reaches the scratch as one checked component in a directory node of the scratch, so nothing
//! outside can be touched; memory grows with the archive only by what `links` keeps; the tree is that of the archive or the call fails.

mod below;
mod content;
mod links;
mod options;
mod path;
mod place;
mod put;
mod source;

pub(crate) use content::sum_of;
pub(crate) use options::Rules;
pub use options::{Applied, ApplyOptions};
pub(crate) use path::{Asked, parse};

use crate::frame::{Content, FrameTap, FrameWriter, Made};
use crate::tar::{Entry, EntryKind, Reader};
use crate::{Digest, Error, ErrorKind, Limits, Progress, Result};
use below::Described;
use links::Copies;
use place::Places;
use put::{opaque_dir, redress, replace};
use std::io::Read;
use stratafs_core::error::errno;
use stratafs_core::{At, Attr, Device, Found, Kind, Layer, Mark, Name, Over, Scratch, Seed, View, Whole};

/// What errors say was done.
pub(crate) const OPERATION: &str = "unpack";

/// Unpacks `archive`, which is uncompressed, into `into`, which is empty but for its root. `below` gives the view of the
/// layers below, or `None` under the lowest layer; it may wait until that is ready, and is called only when an entry
/// cannot be understood without it. Reading, and so decompressing and hashing, goes on in a thread of its own.
///
/// Nothing is synced. After an error the content of the scratch is of no use.
///
/// # Errors
/// Each names the entry and the layer. What [`Reader::next`] says of the archive; `InvalidInput`, `NameTooLong`,
/// `NotADirectory`, `IsADirectory`, `Loop` for paths that cannot be; `NotFound` for a hard link without its target;
/// `NotPermitted` for devices without privilege; what `into`, `below` and the frame's writer say. `Io(EINTR)` after
/// [`Progress::cancelled`].
pub fn apply<S: Scratch, L: Layer, B: Scratch>(
    archive: impl Read + Send,
    into: &S,
    below: &dyn Fn() -> Result<Option<View<L, B>>>,
    mut options: ApplyOptions,
    progress: &dyn Progress,
) -> Result<Applied> {
    // The tree is in some place for the time being; nobody knows it by that.
    let place = into.caps().label.clone();
    let in_layer = |e: Error| e.with_layer_called(&place, &options.label).in_layer(&options.label);
    let rules = options.rules();
    let frame = options.frame.take().map(|out| FrameWriter::new(out, rules, &options.limits)).transpose()?;
    let done = source::hashed(archive, |archive| {
        let reader = Reader::new(archive, &options.limits).with_tap(FrameTap(frame));
        let mut run = Run {
            reader,
            places: Places::new(into, below)?,
            copies: Copies::new(),
            limits: &options.limits,
            rules,
            progress,
            buffer: vec![0; content::BUFFER],
            entries: 0,
            implied: 0,
            counted: Counted::default(),
        };
        run.all()?;
        let asked_below = run.places.below.was_asked();
        let archive_bytes = run.reader.position();
        if let Some(frame) = run.reader.tap_mut().0.take() {
            frame.finish()?;
        }
        Ok((run.counted, run.entries, asked_below, archive_bytes))
    });
    let ((counted, entries, asked_below, read), diff_id, archive_bytes): (_, Digest, u64) =
        done.map_err(in_layer)?;
    if read != archive_bytes {
        let why = format!("{read} of {archive_bytes} bytes were understood");
        return Err(in_layer(Error::new(ErrorKind::Corrupt, OPERATION).because(why)));
    }
    let Counted { content_bytes, says_root, dropped_xattrs } = counted;
    Ok(Applied { diff_id, archive_bytes, entries, content_bytes, asked_below, says_root, dropped_xattrs })
}

/// Ends the work when that was asked for.
pub(crate) fn go_on(progress: &dyn Progress) -> Result<()> {
    match progress.cancelled() {
        false => Ok(()),
        true => Err(Error::new(ErrorKind::Io(errno::EINTR), OPERATION).because("it was cancelled")),
    }
}

#[derive(Debug, Default)]
struct Counted {
    content_bytes: u64,
    says_root: bool,
    dropped_xattrs: u64,
}

/// The unpacking of one archive.
struct Run<'a, R, S: Scratch, L: Layer, B: Scratch> {
    reader: Reader<R, FrameTap>,
    places: Places<'a, S, L, B>,
    copies: Copies<L, B>,
    limits: &'a Limits,
    rules: Rules,
    progress: &'a dyn Progress,
    buffer: Vec<u8>,
    entries: u64,
    /// Directories that were made for want of an entry.
    implied: u64,
    counted: Counted,
}

impl<R: Read, S: Scratch, L: Layer, B: Scratch> Run<'_, R, S, L, B> {
    fn all(&mut self) -> Result<()> {
        while let Some(mut entry) = self.reader.next()? {
            go_on(self.progress)?;
            let before = entry.xattrs.len();
            let kind = kind_of(&entry.kind).unwrap_or(Kind::File);
            entry.xattrs.retain(|(name, _)| self.rules.keeps(name, kind));
            self.counted.dropped_xattrs += (before - entry.xattrs.len()) as u64;
            self.one(&entry).map_err(|e| e.asked(OPERATION, &entry.path))?;
            self.entries += 1;
        }
        self.names_below()?;
        self.places.finish()
    }

    fn one(&mut self, entry: &Entry) -> Result<()> {
        match parse(&entry.path, self.limits)? {
            Asked::Ignored => Ok(()),
            Asked::Root => self.root(entry),
            Asked::Opaque(dir) => {
                self.places.enter(&dir)?;
                self.note(&dir, None, None)?;
                self.places.scratch.mark(self.places.here(), Mark::Opaque)
            }
            Asked::Whiteout(dir, name) => {
                self.places.enter(&dir)?;
                self.note(&dir, None, None)?;
                self.whiteout(name)
            }
            Asked::Object(dir, name) => match &entry.kind {
                EntryKind::Hardlink(target) => self.hard_link(&dir, name, target),
                _ => {
                    self.places.enter(&dir)?;
                    self.note(&dir, Some(name), None)?;
                    self.object(entry, name)
                }
            },
        }
    }

    /// Tells the frame where an entry went that has these names in the archive, and what was made for it. Before
    /// anything of the entry's own is done.
    fn note(&mut self, dir: &[Name<'_>], name: Option<Name<'_>>, target: Option<&[u8]>) -> Result<()> {
        self.note_made()?;
        let Some(frame) = &mut self.reader.tap_mut().0 else { return Ok(()) };
        let path = self.places.path(name);
        let said = dir.iter().chain(&name).map(Name::as_bytes).collect::<Vec<_>>().join(&b'/');
        let elsewhere = (path != said).then_some(path.as_slice());
        frame.entry(self.entries, elsewhere, target)
    }

    /// Tells the frame what was made for want of an entry.
    fn note_made(&mut self) -> Result<()> {
        let made = self.places.take_made();
        // A path of some bytes can ask for thousands of directories.
        self.implied += made.len() as u64;
        if self.implied > self.limits.entries {
            let why = format!("more than {} directories that the archive lacks", self.limits.entries);
            return Err(Error::new(ErrorKind::TooLarge, OPERATION).because(why));
        }
        let Some(frame) = &mut self.reader.tap_mut().0 else { return Ok(()) };
        for (path, Described { attr, target, xattrs }) in made {
            frame.made(self.entries, &Made::new(path, &attr, target, xattrs))?;
        }
        Ok(())
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(Error::new(ErrorKind::NotADirectory, OPERATION)
                .because("the root of a layer can only be a directory"));
        }
        self.counted.says_root = true;
        self.places.enter(&[])?;
        self.note(&[], None, None)?;
        let whole = Whole { seed: seed(entry, Kind::Dir), mtime: entry.mtime, xattrs: &entry.xattrs };
        redress(self.places.scratch, self.places.here(), &whole)?;
        self.places.root_time(entry.mtime);
        Ok(())
    }

    fn whiteout(&mut self, name: Name<'_>) -> Result<()> {
        let scratch = self.places.scratch;
        let at = At { dir: self.places.here(), name };
        match scratch.whiteout(at) {
            Ok(()) => self.places.touched(),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match scratch.lookup(at.dir, name)? {
                Found::Node(hit) if hit.attr.is_dir() => scratch.mark(&hit.node, Mark::Opaque)?,
                Found::Node(_) | Found::Whiteout => {}
                Found::Absent => return Err(e),
            },
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Makes what is not a hard link in the directory that was entered.
    fn object(&mut self, entry: &Entry, name: Name<'_>) -> Result<()> {
        let Some(kind) = kind_of(&entry.kind) else { return Ok(()) };
        let seed = seed(entry, kind);
        if kind == Kind::Char && seed.rdev == Device::default() {
            return Err(Error::new(ErrorKind::NotPermitted, OPERATION).because(
                "a character device 0/0 is a whiteout of overlayfs and cannot be an object; \
                 in a layer archive a deletion is an entry .wh.NAME",
            ));
        }
        let whole = Whole { seed, mtime: entry.mtime, xattrs: &entry.xattrs };
        let scratch = self.places.scratch;
        let at = At { dir: self.places.here(), name };
        let (reader, buffer, progress) = (&mut self.reader, &mut self.buffer, self.progress);
        let mut crc = 0;
        let mut fill = |file: &S::File| {
            crc = content::write(reader, file, entry.size, buffer, progress)?;
            Ok(())
        };
        let node = match scratch.put(at, &whole, &mut fill) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                self.over(entry, name, &whole)?;
                self.places.touched();
                return Ok(());
            }
            done => done.map_err(|e| device_error(e, kind))?,
        };
        self.places.touched();
        match kind {
            Kind::Dir => self.places.made_dir(name, node, entry.mtime),
            Kind::File => self.content(entry, name, crc)?,
            _ => {}
        }
        Ok(())
    }

    /// Makes an object where something stands already.
    fn over(&mut self, entry: &Entry, name: Name<'_>, whole: &Whole<'_>) -> Result<()> {
        let scratch = self.places.scratch;
        let at = At { dir: self.places.here(), name };
        let kind = whole.seed.kind;
        let over = match (scratch.lookup(at.dir, name)?, kind) {
            (Found::Absent, _) => {
                return Err(
                    Error::new(ErrorKind::AlreadyExists, OPERATION).because("something stands there unseen")
                );
            }
            (Found::Whiteout, Kind::Dir) => {
                let node = opaque_dir(scratch, at, whole)?;
                self.places.touched();
                self.places.made_dir(name, node, entry.mtime);
                return Ok(());
            }
            (Found::Node(hit), Kind::Dir) if hit.attr.is_dir() => {
                redress(scratch, &hit.node, whole)?;
                self.places.touched();
                self.places.made_dir(name, hit.node, entry.mtime);
                return Ok(());
            }
            (Found::Node(_), Kind::Dir) => {
                return Err(Error::new(ErrorKind::NotADirectory, OPERATION)
                    .because("an earlier entry of the layer made something else of this name"));
            }
            (Found::Node(hit), _) if hit.attr.is_dir() => return Err(is_a_directory()),
            (Found::Node(hit), _) => {
                self.save(&hit.node, &hit.attr, name)?;
                Over::Object
            }
            (Found::Whiteout, _) => Over::Whiteout,
        };
        // What stood there may have been a link on the way to other entries.
        self.places.forget_way();
        let at = At { dir: self.places.here(), name };
        let (reader, buffer, progress) = (&mut self.reader, &mut self.buffer, self.progress);
        let mut crc = 0;
        let mut fill = |file: &S::File| {
            crc = content::write(reader, file, entry.size, buffer, progress)?;
            Ok(())
        };
        replace(scratch, at, whole, over, &mut fill).map_err(|e| device_error(e, kind))?;
        if kind == Kind::File {
            self.content(entry, name, crc)?;
        }
        Ok(())
    }

    /// Tells the frame where the content of a file is.
    fn content(&mut self, entry: &Entry, name: Name<'_>, crc: u32) -> Result<()> {
        let stored = entry.stored();
        self.counted.content_bytes += stored;
        let path = self.places.path(Some(name));
        match &mut self.reader.tap_mut().0 {
            Some(frame) if stored > 0 => {
                frame.content(&Content { path, stored, extents: entry.sparse.clone(), crc })
            }
            _ => Ok(()),
        }
    }

    /// An earlier entry is about to be replaced: its content is kept for the frame.
    fn save(&mut self, node: &S::Node, attr: &Attr, name: Name<'_>) -> Result<()> {
        let path = self.places.path(Some(name));
        self.copies.forget(&path);
        let scratch = self.places.scratch;
        match &mut self.reader.tap_mut().0 {
            Some(frame) if attr.kind == Kind::File && attr.size > 0 => {
                frame.save(&path, &scratch.open(node)?)
            }
            _ => Ok(()),
        }
    }
}

fn is_a_directory() -> Error {
    Error::new(ErrorKind::IsADirectory, OPERATION)
        .because("an earlier entry of the layer made a directory of this name")
}

/// Says what to do when a device cannot be made.
fn device_error(e: Error, kind: Kind) -> Error {
    match (kind, e.kind()) {
        (Kind::Char | Kind::Block, ErrorKind::NotPermitted | ErrorKind::PermissionDenied) => e.because(
            "device nodes take root's privilege to make: import as root, or with ownership that is stored \
             instead of applied",
        ),
        _ => e,
    }
}

/// What an entry is in the tree; `None` for a hard link.
pub(crate) fn kind_of(kind: &EntryKind) -> Option<Kind> {
    Some(match kind {
        EntryKind::File => Kind::File,
        EntryKind::Dir => Kind::Dir,
        EntryKind::Symlink(_) => Kind::Symlink,
        EntryKind::Hardlink(_) => return None,
        EntryKind::Char(_) => Kind::Char,
        EntryKind::Block(_) => Kind::Block,
        EntryKind::Fifo => Kind::Fifo,
    })
}

fn seed(entry: &Entry, kind: Kind) -> Seed<'_> {
    let (rdev, target): (_, &[u8]) = match &entry.kind {
        EntryKind::Char(device) | EntryKind::Block(device) => (*device, b""),
        EntryKind::Symlink(target) => (Device::default(), target),
        _ => (Device::default(), b""),
    };
    Seed { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, rdev, target }
}
