//! [`DirLayer`]: a directory as a read-only layer.

use crate::file::DirFile;
use crate::node::Node;
use crate::options::LayerOptions;
use crate::tree::Tree;
use rustix::fs::OFlags;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use stratafs_core::{Attr, Caps, FileId, Found, Hit, Layer, Marks, Name, Origin, RawEntry, Result};

/// A directory as a read-only layer. Holds its root open, and at most [`LayerOptions::fd_limit`] directories more.
///
/// fs-verity digests in metacopy marks are accepted and not verified.
pub struct DirLayer {
    tree: Tree,
}

impl DirLayer {
    /// Opens the directory at `path`, which also labels the layer in errors.
    ///
    /// # Errors
    /// When there is nothing at `path`, it is not a directory, or it may not be read.
    pub fn open(path: impl AsRef<Path>, options: &LayerOptions) -> Result<Self> {
        Ok(Self { tree: Tree::open(path.as_ref(), options.clone())? })
    }
}

impl fmt::Debug for DirLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirLayer")
            .field("label", &self.tree.label)
            .field("options", &self.tree.options)
            .finish_non_exhaustive()
    }
}

impl Layer for DirLayer {
    type Node = Node;
    type File = DirFile;

    fn caps(&self) -> &Caps {
        &self.tree.caps
    }

    fn root(&self) -> Result<Hit<Node>> {
        self.tree.root_hit()
    }

    fn lookup(&self, dir: &Node, name: Name<'_>) -> Result<Found<Node>> {
        self.tree.lookup(dir, name)
    }

    fn attr(&self, node: &Node) -> Result<Attr> {
        self.tree.attr(node)
    }

    fn marks(&self, node: &Node) -> Result<Marks> {
        self.tree.marks(node)
    }

    fn read_dir(&self, dir: &Node, sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        self.tree.read_dir(dir, sink)
    }

    fn read_link(&self, node: &Node) -> Result<Vec<u8>> {
        self.tree.read_link(node)
    }

    fn open(&self, node: &Node) -> Result<DirFile> {
        self.tree.open_data(node, OFlags::RDONLY)
    }

    fn xattr(&self, node: &Node, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.tree.xattr(node, name)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Vec<u8>>> {
        self.tree.xattrs(node)
    }

    fn origin(&self, node: &Node) -> Result<Origin> {
        self.tree.origin(node)
    }

    fn locate(&self, origin: &Origin) -> Option<FileId> {
        self.tree.home.locate(origin)
    }
}
