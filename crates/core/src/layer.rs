//! [`Layer`]: what a read-only layer must answer. Core decides, backends obey: a backend never merges, never
//! walks more than one name and never follows a symbolic link.

use crate::attr::{Attr, FileId, Kind};
use crate::error::Result;
use crate::marks::{Marks, Origin};
use crate::name::Name;
use std::fmt::Debug;
use std::ops::ControlFlow;

/// What a layer can hold and how it compares names: plain data, probed once when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// What to call the layer in errors, such as its directory.
    pub label: String,
    /// The longest name in bytes.
    pub name_max: usize,
    /// Extended attributes can be stored.
    pub xattrs: bool,
}

/// An object as a layer finds it.
#[derive(Debug, Clone)]
pub struct Hit<N> {
    /// The object.
    pub node: N,
    /// Its attributes in this layer.
    pub attr: Attr,
    /// What else the layer says about it.
    pub marks: Marks,
    /// It has no extended attributes at all, the backend's own included; `false` also when that is not known.
    pub bare: bool,
}

/// The answer of one layer for one name. Absence is a value.
#[derive(Debug, Clone)]
pub enum Found<N> {
    /// The layer says nothing about the name.
    Absent,
    /// The name is deleted here, whatever is below.
    Whiteout,
    /// The layer has it.
    Node(Hit<N>),
}

/// One name as a layer's directory lists it.
#[derive(Debug, Clone, Copy)]
pub struct RawEntry<'a> {
    /// The name.
    pub name: Name<'a>,
    /// What stands under it, `None` for a whiteout.
    pub kind: Option<Kind>,
    /// The object's number in the layer's file system.
    pub ino: u64,
}

/// A read-only tree. All methods may be called from many threads at once.
pub trait Layer: Send + Sync + 'static {
    /// Names one object of the layer. Cheap to clone; must not hold a file descriptor for each object.
    type Node: Clone + Debug + Send + Sync + 'static;
    /// A regular file's open data.
    type File: ReadAt + 'static;

    /// What the layer can do, probed once.
    fn caps(&self) -> &Caps;

    /// The root directory.
    fn root(&self) -> Result<Hit<Self::Node>>;

    /// Looks up one name in `dir`. Whiteouts are recognised here and never seen as objects.
    ///
    /// # Errors
    /// Only real failures: a name that is not there is [`Found::Absent`].
    fn lookup(&self, dir: &Self::Node, name: Name<'_>) -> Result<Found<Self::Node>>;

    /// Fresh attributes.
    fn attr(&self, node: &Self::Node) -> Result<Attr>;

    /// Fresh marks.
    fn marks(&self, node: &Self::Node) -> Result<Marks>;

    /// Lists `dir` in its stored order, whiteouts too, `.` and `..` not; private names of the backend are left
    /// out.
    fn read_dir(&self, dir: &Self::Node, sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>)
    -> Result<()>;

    /// The target of a symbolic link.
    fn read_link(&self, node: &Self::Node) -> Result<Vec<u8>>;

    /// Opens a regular file's data for reading. Never blocks on a fifo or device planted under the name.
    fn open(&self, node: &Self::Node) -> Result<Self::File>;

    /// One extended attribute by its full name (`user.x`); `None` when it is not there. The backend's private
    /// attributes do not exist for this call, and escaped ones appear under the name the user gave.
    fn xattr(&self, node: &Self::Node, name: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The full names of all extended attributes that [`Layer::xattr`] would give, in the host's order.
    fn xattrs(&self, node: &Self::Node) -> Result<Vec<Vec<u8>>>;

    /// The lasting identity of an object of this layer, to be stored in a scratch.
    fn origin(&self, node: &Self::Node) -> Result<Origin>;

    /// Which object of this layer's file system `origin` names, if it can name one there at all. Needs no
    /// privilege and no I/O on the object.
    fn locate(&self, origin: &Origin) -> Option<FileId>;
}

/// Where the bytes of a file really are: the escape hatch for reflinks, `copy_file_range` and passthrough.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Backing<'a> {
    /// A file descriptor of the host.
    #[cfg(unix)]
    Fd(std::os::fd::BorrowedFd<'a>),
    /// Immutable memory; only layers that never change hand this out.
    Bytes(&'a [u8]),
    /// Only [`ReadAt::read_at`] knows.
    Opaque,
}

/// Random-access reading.
pub trait ReadAt: Send + Sync + Debug {
    /// Reads at `offset`; 0 means end of file. May be short.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize>;

    /// The size in bytes.
    fn size(&self) -> Result<u64>;

    /// The first offset at or after `offset` with data; `None` when only a hole or the end follows.
    fn seek_data(&self, offset: u64) -> Result<Option<u64>>;

    /// The first offset at or after `offset` that is a hole; the end of the file counts as one. `None` when
    /// `offset` is at or past the end.
    fn seek_hole(&self, offset: u64) -> Result<Option<u64>>;

    /// Where the bytes really are.
    fn backing(&self) -> Backing<'_> {
        Backing::Opaque
    }
}
