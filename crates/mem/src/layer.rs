//! [`MemLayer`], and the [`Layer`] side that it shares with the scratch.

use crate::LayerBuilder;
use crate::file::{Access, MemFile};
use crate::fs::{Fs, Options};
use crate::object::MemNode;
use crate::scratch::MemScratch;
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::{Attr, Caps, FileId, Found, Hit, Layer, Marks, Name, Origin, RawEntry, Result};

/// A read-only layer in memory. Cloning gives another handle of the same layer.
///
/// Made by [`MemLayer::builder`] or [`MemScratch::seal`]. Nothing about it changes, access times included.
#[derive(Debug, Clone)]
pub struct MemLayer {
    pub(crate) fs: Arc<Fs>,
}

impl MemLayer {
    /// A layer to be filled, with the host's clock and no limits.
    pub fn builder() -> LayerBuilder {
        Options::default().layer()
    }
}

/// Answers as a layer from the handle's `fs`; the handles differ only in whether a read is an access.
macro_rules! answer_from_fs {
    ($handle:ty, $access:expr) => {
        impl Layer for $handle {
            type Node = MemNode;
            type File = MemFile;

            fn caps(&self) -> &Caps {
                &self.fs.caps
            }

            fn root(&self) -> Result<Hit<MemNode>> {
                let root = MemNode(Arc::clone(&self.fs.root));
                self.fs.hit(&root).map_err(self.fs.failed("root"))
            }

            fn lookup(&self, dir: &MemNode, name: Name<'_>) -> Result<Found<MemNode>> {
                self.fs.lookup(dir, name).map_err(self.fs.failed_at("lookup", name))
            }

            fn attr(&self, node: &MemNode) -> Result<Attr> {
                self.fs.attr(node).map_err(self.fs.failed("read attributes"))
            }

            fn marks(&self, node: &MemNode) -> Result<Marks> {
                self.fs.marks(node).map_err(self.fs.failed("read marks"))
            }

            fn read_dir(
                &self,
                dir: &MemNode,
                sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
            ) -> Result<()> {
                self.fs.read_dir(dir, sink).map_err(self.fs.failed("read directory"))
            }

            fn read_link(&self, node: &MemNode) -> Result<Vec<u8>> {
                let target = self.fs.read_link(node).map_err(self.fs.failed("read link"))?;
                if $access != Access::Frozen {
                    self.fs.accessed(&node.0);
                }
                Ok(target)
            }

            fn open(&self, node: &MemNode) -> Result<MemFile> {
                self.fs.open(node, $access).map_err(self.fs.failed("open"))
            }

            fn xattr(&self, node: &MemNode, name: &[u8]) -> Result<Option<Vec<u8>>> {
                let object = self.fs.own(node).map_err(self.fs.failed("read xattr"))?;
                Ok(object.state.read().xattrs.get(name))
            }

            fn xattrs(&self, node: &MemNode) -> Result<Vec<Vec<u8>>> {
                let object = self.fs.own(node).map_err(self.fs.failed("list xattrs"))?;
                Ok(object.state.read().xattrs.names())
            }

            /// Lasts as long as the process: numbers of file systems are not used again within it.
            fn origin(&self, node: &MemNode) -> Result<Origin> {
                let object = self.fs.own(node).map_err(self.fs.failed("read origin"))?;
                Ok(self.fs.origin(object))
            }

            fn locate(&self, origin: &Origin) -> Option<FileId> {
                self.fs.locate(origin)
            }
        }
    };
}

answer_from_fs!(MemLayer, Access::Frozen);
answer_from_fs!(MemScratch, Access::Read);
