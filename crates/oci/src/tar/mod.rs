//! Entries out of and into tar archives; nothing of layers, whiteouts or safety of paths.
//!
//! * `reader`: ustar, V7, GNU and PAX archives as a stream. [`Tap`] hears what is not content.
//! * `writer`: ustar with PAX records where the old header is too small; the same entries give the same bytes.
//! * `fields`: the numbers and names of a 512-byte header. `pax`: extended records. `sparse`: maps of sparse files.
//!
//! Invariants:
//! * **One reading.** Where readers in use (GNU tar, Python's tarfile, Go's archive/tar) disagree on what an archive
//!   means, it is refused, or read as GNU tar does; what cannot be understood is an error that names the entry and
//!   the byte, never skipped.
//! * Where an extended header says a size, that size counts, for skipping too (CVE-2025-62518, RUSTSEC-2026-0068).
//! * Memory is bounded by [`Limits`](crate::Limits) and by the bytes that really arrived, not by announced lengths.

mod fields;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use reader::{NoTap, Reader, Tap};
pub use writer::Writer;

use stratafs_core::{Device, Time};

/// Bytes of a header, and what content is padded to.
pub const BLOCK: usize = 512;

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name as the archive has it: not judged, maybe absolute or with `..`. Never empty, never with a NUL. For
    /// a directory without the slashes at the end, unless it consists of nothing else.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, setuid, setgid and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Owner. Never `u32::MAX`, which means "nobody" to chown(2).
    pub uid: u32,
    /// Group. Never `u32::MAX`.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Time,
    /// Extended attributes by their full names, each name once, in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of a regular file as it is when unpacked, holes included; 0 for all else.
    pub size: u64,
    /// Where the content of a sparse file lies, in ascending order and without overlap; `None` for any other file.
    /// The archive holds the extents one after the other and nothing for the holes. The writer writes no holes and
    /// does not look here.
    pub sparse: Option<Vec<Extent>>,
    /// Where in the archive its first header begins, in bytes, for errors. The writer does not look here.
    pub offset: u64,
}

impl Entry {
    /// An entry of root with this name, mode 0 and no content.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Self {
            path: path.into(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
            size: 0,
            sparse: None,
            offset: 0,
        }
    }

    /// Bytes of content that the archive holds: the size without the holes of a sparse file.
    #[must_use]
    pub fn stored(&self) -> u64 {
        match &self.sparse {
            None => self.size,
            Some(extents) => extents.iter().map(|extent| extent.len).sum(),
        }
    }
}

/// What an entry is. Sockets cannot be in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; the content follows.
    File,
    /// A directory.
    Dir,
    /// A symbolic link to this target, which is never empty.
    Symlink(Vec<u8>),
    /// A further name of the file of this name in the archive, or below it; never empty.
    Hardlink(Vec<u8>),
    /// A character device.
    Char(Device),
    /// A block device.
    Block(Device),
    /// A fifo.
    Fifo,
}

/// A run of content in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How many bytes. Never 0.
    pub len: u64,
}
