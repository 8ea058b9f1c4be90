//! [`AnyLayer`]: the read-only side.

use super::{dispatch, foreign};
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::{
    Attr, Backing, Caps, FileId, Found, Hit, Layer, Marks, Name, Origin, RawEntry, ReadAt, Result,
};
use stratafs_dir::DirLayer;
use stratafs_mem::MemLayer;

/// A layer of any backend. Clones are handles of the same one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyLayer {
    /// A directory of the host.
    Dir(Arc<DirLayer>),
    /// A tree in memory.
    Mem(MemLayer),
}

/// An object of an [`AnyLayer`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyNode {
    /// In a directory.
    Dir(<DirLayer as Layer>::Node),
    /// In memory.
    Mem(<MemLayer as Layer>::Node),
}

/// An open file of an [`AnyLayer`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyFile {
    /// In a directory.
    Dir(<DirLayer as Layer>::File),
    /// In memory.
    Mem(<MemLayer as Layer>::File),
}

impl From<DirLayer> for AnyLayer {
    fn from(layer: DirLayer) -> Self {
        Self::Dir(Arc::new(layer))
    }
}

impl From<MemLayer> for AnyLayer {
    fn from(layer: MemLayer) -> Self {
        Self::Mem(layer)
    }
}

fn hit<N>(hit: Hit<N>, wrap: fn(N) -> AnyNode) -> Hit<AnyNode> {
    Hit { node: wrap(hit.node), attr: hit.attr, marks: hit.marks, bare: hit.bare }
}

fn found<N>(found: Found<N>, wrap: fn(N) -> AnyNode) -> Found<AnyNode> {
    match found {
        Found::Absent => Found::Absent,
        Found::Whiteout => Found::Whiteout,
        Found::Node(node) => Found::Node(hit(node, wrap)),
    }
}

impl Layer for AnyLayer {
    type Node = AnyNode;
    type File = AnyFile;

    fn caps(&self) -> &Caps {
        dispatch!(self, caps())
    }

    fn root(&self) -> Result<Hit<AnyNode>> {
        match self {
            Self::Dir(it) => it.root().map(|h| hit(h, AnyNode::Dir)),
            Self::Mem(it) => it.root().map(|h| hit(h, AnyNode::Mem)),
        }
    }

    fn lookup(&self, dir: &AnyNode, name: Name<'_>) -> Result<Found<AnyNode>> {
        match (self, dir) {
            (Self::Dir(it), AnyNode::Dir(dir)) => it.lookup(dir, name).map(|f| found(f, AnyNode::Dir)),
            (Self::Mem(it), AnyNode::Mem(dir)) => it.lookup(dir, name).map(|f| found(f, AnyNode::Mem)),
            _ => Err(foreign("lookup")),
        }
    }

    fn attr(&self, node: &AnyNode) -> Result<Attr> {
        dispatch!(self, node: AnyNode, attr())
    }

    fn marks(&self, node: &AnyNode) -> Result<Marks> {
        dispatch!(self, node: AnyNode, marks())
    }

    fn read_dir(&self, dir: &AnyNode, sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        dispatch!(self, dir: AnyNode, read_dir(sink))
    }

    fn read_link(&self, node: &AnyNode) -> Result<Vec<u8>> {
        dispatch!(self, node: AnyNode, read_link())
    }

    fn open(&self, node: &AnyNode) -> Result<AnyFile> {
        match (self, node) {
            (Self::Dir(it), AnyNode::Dir(node)) => it.open(node).map(AnyFile::Dir),
            (Self::Mem(it), AnyNode::Mem(node)) => it.open(node).map(AnyFile::Mem),
            _ => Err(foreign("open")),
        }
    }

    fn xattr(&self, node: &AnyNode, name: &[u8]) -> Result<Option<Vec<u8>>> {
        dispatch!(self, node: AnyNode, xattr(name))
    }

    fn xattrs(&self, node: &AnyNode) -> Result<Vec<Vec<u8>>> {
        dispatch!(self, node: AnyNode, xattrs())
    }

    fn origin(&self, node: &AnyNode) -> Result<Origin> {
        dispatch!(self, node: AnyNode, origin())
    }

    fn locate(&self, origin: &Origin) -> Option<FileId> {
        dispatch!(self, locate(origin))
    }
}

impl ReadAt for AnyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        dispatch!(self, read_at(buf, offset))
    }

    fn size(&self) -> Result<u64> {
        dispatch!(self, size())
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        dispatch!(self, seek_data(offset))
    }

    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        dispatch!(self, seek_hole(offset))
    }

    fn backing(&self) -> Backing<'_> {
        dispatch!(self, backing())
    }
}
