//! [`Op`]: one operation on a tree, plain data that can be printed, shrunk and applied to any subject.

use crate::path::Path;
use stratafs_core::{Device, Kind, SetXattr, Time};

/// How many handles an operation sequence may hold at once.
pub const SLOTS: usize = 4;

/// How a rename treats its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// Replace what is there.
    Plain,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// `RENAME_EXCHANGE`.
    Exchange,
}

/// How a handle is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`.
    Both,
    /// `O_WRONLY | O_TRUNC`.
    Replace,
}

impl Mode {
    /// Reading is allowed.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// Writing is allowed.
    #[must_use]
    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

/// The ways to change blocks that every backend has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Reserve, growing the file.
    Reserve,
    /// Reserve, the size stays.
    ReserveKeepSize,
    /// Punch a hole.
    Punch,
}

/// One operation. Paths are walked component by component and never through a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields are the arguments of the system call that a variant is named after")]
pub enum Op {
    /// `open(O_CREAT | O_EXCL)`, then close.
    Create {
        path: Path,
        mode: u32,
    },
    Mkdir {
        path: Path,
        mode: u32,
    },
    Symlink {
        path: Path,
        target: Vec<u8>,
    },
    /// Fifos, sockets and devices; never the whiteout's 0/0.
    Mknod {
        path: Path,
        kind: Kind,
        mode: u32,
        rdev: Device,
    },
    Link {
        from: Path,
        to: Path,
    },
    Unlink {
        path: Path,
    },
    Rmdir {
        path: Path,
    },
    Rename {
        from: Path,
        to: Path,
        how: RenameHow,
    },
    /// Open for writing, write `len` times `fill` at `offset`, close.
    Write {
        path: Path,
        offset: u64,
        len: usize,
        fill: u8,
    },
    /// Open for appending, append, close.
    Append {
        path: Path,
        len: usize,
        fill: u8,
    },
    Truncate {
        path: Path,
        len: u64,
    },
    /// Gives the bytes.
    Read {
        path: Path,
        offset: u64,
        len: usize,
    },
    /// Gives the target.
    ReadLink {
        path: Path,
    },
    /// Gives names and kinds, sorted.
    ReadDir {
        path: Path,
    },
    /// Gives what a dump says about one object.
    Stat {
        path: Path,
    },
    Chmod {
        path: Path,
        mode: u32,
    },
    Chown {
        path: Path,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    Utimens {
        path: Path,
        atime: Time,
        mtime: Time,
    },
    SetXattr {
        path: Path,
        name: Vec<u8>,
        value: Vec<u8>,
        how: SetXattr,
    },
    RemoveXattr {
        path: Path,
        name: Vec<u8>,
    },
    /// Gives the value.
    GetXattr {
        path: Path,
        name: Vec<u8>,
    },
    /// Opens into a slot; what was open there is closed first.
    Open {
        slot: usize,
        path: Path,
        mode: Mode,
    },
    HandleRead {
        slot: usize,
        offset: u64,
        len: usize,
    },
    HandleWrite {
        slot: usize,
        offset: u64,
        len: usize,
        fill: u8,
    },
    HandleAppend {
        slot: usize,
        len: usize,
        fill: u8,
    },
    HandleTruncate {
        slot: usize,
        len: u64,
    },
    HandleAllocate {
        slot: usize,
        how: Blocks,
        offset: u64,
        len: u64,
    },
    /// copy_file_range(2) until it says 0; gives the count.
    HandleCopy {
        from: usize,
        from_offset: u64,
        to: usize,
        offset: u64,
        len: u64,
    },
    /// Gives the size.
    HandleSize {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    /// Close every handle and open the same layers again.
    Reopen,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing but success.
    Done,
    /// A count or size.
    Count(u64),
    /// Bytes read.
    Bytes(Vec<u8>),
    /// Lines of text.
    Text(String),
}

/// An operation's outcome: a value, or the errno.
pub type Outcome = Result<Value, i32>;
