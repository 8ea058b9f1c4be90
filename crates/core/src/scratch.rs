//! [`Scratch`]: the writable top. Every verb is atomic by itself: after a crash it happened or it did not.
//! Objects are staged without a name, filled, and published; a [`Scratch::Staged`] that is dropped rolls back.

use crate::attr::{Device, Kind, SetAttr, SetTime, StatFs, Time};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Found, Hit, Layer, ReadAt};
use crate::marks::{Mark, Origin};
use crate::name::Name;

/// A place: a name in a directory of the scratch.
#[derive(Debug)]
pub struct At<'a, N> {
    /// The directory.
    pub dir: &'a N,
    /// The name in it.
    pub name: Name<'a>,
}

impl<N> Clone for At<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for At<'_, N> {}

/// What a new object starts as.
#[derive(Debug, Clone, Copy)]
pub struct Seed<'a> {
    /// What it is.
    pub kind: Kind,
    /// Exact permission bits; no umask is applied by the backend. Ignored for symbolic links.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for devices.
    pub rdev: Device,
    /// The target, for symbolic links; empty otherwise.
    pub target: &'a [u8],
}

/// An object with everything that it has, for [`Scratch::put`].
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// Kind, owner, exact mode, device number, target.
    pub seed: Seed<'a>,
    /// Last change of the data, and last access.
    pub mtime: Time,
    /// Extended attributes by their full names.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// What may stand at a name that a verb takes, and is replaced in the same atomic step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing; anything there is `EEXIST`.
    Nothing,
    /// A whiteout.
    Whiteout,
    /// An object: not a directory, or a directory that is empty in the scratch.
    Object,
}

/// What a name becomes when its object leaves, in the same atomic step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The name is gone.
    Nothing,
    /// A whiteout stands there.
    Whiteout,
}

/// How far a sync goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The data and what is needed to read it back (fdatasync).
    Data,
    /// All of the object's metadata too (fsync). Of a directory: its names.
    All,
}

/// How to change the blocks under a range (fallocate(2)); ranges are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve space, growing the file where needed.
    Reserve,
    /// Reserve space past the end without changing the size.
    ReserveKeepSize,
    /// Free the blocks; reads give zeros.
    PunchHole,
    /// Zero the range, keeping blocks; grows the file where needed.
    Zero,
    /// Zero the range without changing the size.
    ZeroKeepSize,
    /// Cut the range out of the file.
    Collapse,
    /// Insert a hole.
    Insert,
}

/// How the bytes of a copy travelled; the copy-up ladder, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Nothing had to be copied.
    Empty,
    /// The blocks are shared (FICLONE).
    Shared,
    /// So many bytes were copied.
    Bytes(u64),
}

/// A file of the scratch, open for writing.
pub trait WriteAt: ReadAt {
    /// Writes at `offset`. May be short, never 0 for a non-empty buffer.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize>;

    /// Sets the size.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Changes the blocks under a range.
    fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()>;

    /// Takes the first `len` bytes of `from` into this file, by the best way the host offers, holes kept;
    /// afterwards the size is `len`. The file holds no data of its own: it is empty, or all hole, or what an
    /// earlier call that failed left in it.
    fn fill(&self, from: &dyn ReadAt, len: u64) -> Result<Copied>;

    /// Copies a range from another file, by the host's own means where it has some. May be short; 0 at the
    /// end of `from`.
    fn copy_range(&self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64>;

    /// Makes the file durable.
    fn sync(&self, how: Sync) -> Result<()>;
}

/// What a scratch can store, decided when it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Redirect marks can be stored and everyone who reads this scratch follows them.
    pub redirect: bool,
    /// Metacopy marks can be stored and everyone who reads this scratch follows them.
    pub metacopy: bool,
    /// Hard links are kept over copy-up by an index.
    pub index: bool,
}

/// The writable top of a stack. A scratch is also a [`Layer`]: that is how the view reads it.
///
/// A node stays valid when its directory is renamed. When the name through which a node was reached is
/// removed, renamed or replaced, use the node that the verb returns, or [`Scratch::pin`] it before.
pub trait Scratch: Layer<File: WriteAt> {
    /// An object without a name. Dropping it removes it.
    type Staged: Send;

    /// What can be stored.
    fn features(&self) -> Features;

    /// Makes an object without a name.
    fn stage(&self, seed: &Seed<'_>) -> Result<Self::Staged>;

    /// Makes a whole object at a name where nothing is (else `EEXIST`, before `fill` is called); `fill` writes the
    /// content of a regular file. For trees that
    /// nobody sees yet, such as a layer that is being unpacked: it is not atomic, a failure or crash may leave the
    /// object half made, and nothing is synced.
    fn put(
        &self,
        at: At<'_, Self::Node>,
        whole: &Whole<'_>,
        fill: &mut dyn FnMut(&Self::File) -> Result<()>,
    ) -> Result<Self::Node> {
        put_in_steps(self, at, whole, fill)
    }

    /// The staged object as a node, for the verbs that change nodes.
    fn staged<'a>(&self, staged: &'a Self::Staged) -> &'a Self::Node;

    /// Gives a staged object its name.
    fn publish(&self, staged: Self::Staged, at: At<'_, Self::Node>, over: Over) -> Result<Self::Node>;

    /// Puts a staged object into the index, where [`Scratch::indexed`] finds it, without a name.
    fn publish_indexed(&self, staged: Self::Staged, origin: &Origin) -> Result<Self::Node>;

    /// Keeps a staged object alive without a name for as long as the node lives.
    fn keep(&self, staged: Self::Staged) -> Result<Self::Node>;

    /// The object that was published for `origin`.
    fn indexed(&self, origin: &Origin) -> Result<Option<Hit<Self::Node>>>;

    /// Everything that the index holds.
    fn index_entries(&self) -> Result<Vec<(Origin, Hit<Self::Node>)>>;

    /// Forgets the index entry of `origin`, if there is one.
    fn drop_indexed(&self, origin: &Origin) -> Result<()>;

    /// Gives an object one more name; returns the node as reached through it.
    fn link(&self, node: &Self::Node, at: At<'_, Self::Node>, over: Over) -> Result<Self::Node>;

    /// Moves `node` from one name to another; returns the node as reached through the new name.
    fn rename(
        &self,
        node: &Self::Node,
        from: At<'_, Self::Node>,
        to: At<'_, Self::Node>,
        leave: Leave,
        over: Over,
    ) -> Result<Self::Node>;

    /// Swaps the objects of two names; returns them as `(now at a, now at b)`.
    fn exchange(
        &self,
        a: (&Self::Node, At<'_, Self::Node>),
        b: (&Self::Node, At<'_, Self::Node>),
    ) -> Result<(Self::Node, Self::Node)>;

    /// Removes an object's name: a directory goes with the whiteouts that are left in it.
    fn remove(&self, node: &Self::Node, at: At<'_, Self::Node>, leave: Leave) -> Result<()>;

    /// Puts a whiteout at a name where the scratch has nothing.
    fn whiteout(&self, at: At<'_, Self::Node>) -> Result<()>;

    /// Replaces the directory at `at`, which holds nothing but whiteouts, by an empty opaque one with the same
    /// attributes, in one step.
    fn clear(&self, node: &Self::Node, at: At<'_, Self::Node>) -> Result<Self::Node>;

    /// The same object, reached without a name from now on, so that it outlives its names.
    fn pin(&self, node: &Self::Node) -> Result<Self::Node>;

    /// Opens a regular file for reading and writing.
    fn open_write(&self, node: &Self::Node) -> Result<Self::File>;

    /// Sets attributes, in one atomic step where the host can, owner first otherwise.
    fn set_attr(&self, node: &Self::Node, set: &SetAttr) -> Result<()>;

    /// Sets an extended attribute by its full name.
    ///
    /// # Errors
    /// `EEXIST` and `ENODATA` as `how` asks (setxattr(2)).
    fn set_xattr(&self, node: &Self::Node, name: &[u8], value: &[u8], how: SetXattr) -> Result<()>;

    /// Removes an extended attribute by its full name; `ENODATA` when it is not there.
    fn remove_xattr(&self, node: &Self::Node, name: &[u8]) -> Result<()>;

    /// Sets a mark.
    fn mark(&self, node: &Self::Node, mark: Mark<'_>) -> Result<()>;

    /// Makes one object durable.
    fn sync(&self, node: &Self::Node, how: Sync) -> Result<()>;

    /// Makes everything durable (syncfs).
    fn sync_all(&self) -> Result<()>;

    /// Space and limits.
    fn stat_fs(&self) -> Result<StatFs>;
}

/// [`Scratch::put`] by the other verbs, atomically: for scratches that have no faster way, or not for this object.
///
/// # Errors
/// What the verbs say; the object is not there then.
pub fn put_in_steps<S: Scratch + ?Sized>(
    scratch: &S,
    at: At<'_, S::Node>,
    whole: &Whole<'_>,
    fill: &mut dyn FnMut(&S::File) -> Result<()>,
) -> Result<S::Node> {
    if !matches!(scratch.lookup(at.dir, at.name)?, Found::Absent) {
        return Err(Error::new(ErrorKind::AlreadyExists, "create").about(at.name.as_bytes()));
    }
    let staged = scratch.stage(&whole.seed)?;
    let node = scratch.staged(&staged);
    let Seed { kind, mode, .. } = whole.seed;
    if kind == Kind::File {
        fill(&scratch.open_write(node)?)?;
    }
    // After the data: a write takes setuid and capabilities.
    for (name, value) in whole.xattrs {
        scratch.set_xattr(node, name, value, SetXattr::Any)?;
    }
    let time = Some(SetTime::At(whole.mtime));
    let mode = (kind != Kind::Symlink).then_some(mode);
    scratch.set_attr(node, &SetAttr { mode, atime: time, mtime: time, ..SetAttr::default() })?;
    scratch.publish(staged, at, Over::Nothing)
}

/// Whether an extended attribute must or must not exist before (setxattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetXattr {
    /// Create or replace.
    #[default]
    Any,
    /// `XATTR_CREATE`.
    Create,
    /// `XATTR_REPLACE`.
    Replace,
}
