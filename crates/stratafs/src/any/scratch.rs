//! [`AnyScratch`]: the writable side.

use super::{dispatch, foreign};
use std::ops::ControlFlow;
use stratafs_core::{
    Allocate, At, Attr, Backing, Caps, Copied, Features, FileId, Found, Hit, Layer, Leave, Mark, Marks, Name,
    Origin, Over, RawEntry, ReadAt, Result, Scratch, Seed, SetAttr, SetXattr, StatFs, Sync, Whole, WriteAt,
};
use stratafs_dir::DirScratch;
use stratafs_mem::MemScratch;

/// A scratch of any backend.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyScratch {
    /// An upper and a work directory of the host.
    Dir(Box<DirScratch>),
    /// A tree in memory.
    Mem(MemScratch),
}

/// An object of an [`AnyScratch`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyScratchNode {
    /// In a directory.
    Dir(<DirScratch as Layer>::Node),
    /// In memory.
    Mem(<MemScratch as Layer>::Node),
}

/// An open file of an [`AnyScratch`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AnyScratchFile {
    /// In a directory.
    Dir(<DirScratch as Layer>::File),
    /// In memory.
    Mem(<MemScratch as Layer>::File),
}

enum Loose {
    Dir(<DirScratch as Scratch>::Staged),
    Mem(<MemScratch as Scratch>::Staged),
}

/// An object of an [`AnyScratch`] without a name. The node is kept beside it because
/// [`Scratch::staged`] lends it out.
pub struct AnyStaged {
    loose: Loose,
    node: AnyScratchNode,
}

impl std::fmt::Debug for AnyStaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AnyStaged").field(&self.node).finish()
    }
}

impl From<DirScratch> for AnyScratch {
    fn from(scratch: DirScratch) -> Self {
        Self::Dir(Box::new(scratch))
    }
}

impl From<MemScratch> for AnyScratch {
    fn from(scratch: MemScratch) -> Self {
        Self::Mem(scratch)
    }
}

type DirNode = <DirScratch as Layer>::Node;
type MemNode = <MemScratch as Layer>::Node;

fn hit<N>(hit: Hit<N>, wrap: fn(N) -> AnyScratchNode) -> Hit<AnyScratchNode> {
    Hit { node: wrap(hit.node), attr: hit.attr, marks: hit.marks, bare: hit.bare }
}

fn found<N>(found: Found<N>, wrap: fn(N) -> AnyScratchNode) -> Found<AnyScratchNode> {
    match found {
        Found::Absent => Found::Absent,
        Found::Whiteout => Found::Whiteout,
        Found::Node(node) => Found::Node(hit(node, wrap)),
    }
}

fn each<N>(
    entries: Vec<(Origin, Hit<N>)>,
    wrap: fn(N) -> AnyScratchNode,
) -> Vec<(Origin, Hit<AnyScratchNode>)> {
    entries.into_iter().map(|(origin, found)| (origin, hit(found, wrap))).collect()
}

fn in_dir<'a>(node: &'a AnyScratchNode, operation: &'static str) -> Result<&'a DirNode> {
    match node {
        AnyScratchNode::Dir(node) => Ok(node),
        AnyScratchNode::Mem(_) => Err(foreign(operation)),
    }
}

fn in_mem<'a>(node: &'a AnyScratchNode, operation: &'static str) -> Result<&'a MemNode> {
    match node {
        AnyScratchNode::Mem(node) => Ok(node),
        AnyScratchNode::Dir(_) => Err(foreign(operation)),
    }
}

fn at_dir<'a>(at: At<'a, AnyScratchNode>, operation: &'static str) -> Result<At<'a, DirNode>> {
    Ok(At { dir: in_dir(at.dir, operation)?, name: at.name })
}

fn at_mem<'a>(at: At<'a, AnyScratchNode>, operation: &'static str) -> Result<At<'a, MemNode>> {
    Ok(At { dir: in_mem(at.dir, operation)?, name: at.name })
}

impl Layer for AnyScratch {
    type Node = AnyScratchNode;
    type File = AnyScratchFile;

    fn caps(&self) -> &Caps {
        dispatch!(self, caps())
    }

    fn root(&self) -> Result<Hit<AnyScratchNode>> {
        match self {
            Self::Dir(it) => it.root().map(|h| hit(h, AnyScratchNode::Dir)),
            Self::Mem(it) => it.root().map(|h| hit(h, AnyScratchNode::Mem)),
        }
    }

    fn lookup(&self, dir: &AnyScratchNode, name: Name<'_>) -> Result<Found<AnyScratchNode>> {
        match self {
            Self::Dir(it) => it.lookup(in_dir(dir, "lookup")?, name).map(|f| found(f, AnyScratchNode::Dir)),
            Self::Mem(it) => it.lookup(in_mem(dir, "lookup")?, name).map(|f| found(f, AnyScratchNode::Mem)),
        }
    }

    fn attr(&self, node: &AnyScratchNode) -> Result<Attr> {
        dispatch!(self, node: AnyScratchNode, attr())
    }

    fn marks(&self, node: &AnyScratchNode) -> Result<Marks> {
        dispatch!(self, node: AnyScratchNode, marks())
    }

    fn read_dir(
        &self,
        dir: &AnyScratchNode,
        sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        dispatch!(self, dir: AnyScratchNode, read_dir(sink))
    }

    fn read_link(&self, node: &AnyScratchNode) -> Result<Vec<u8>> {
        dispatch!(self, node: AnyScratchNode, read_link())
    }

    fn open(&self, node: &AnyScratchNode) -> Result<AnyScratchFile> {
        match self {
            Self::Dir(it) => it.open(in_dir(node, "open")?).map(AnyScratchFile::Dir),
            Self::Mem(it) => it.open(in_mem(node, "open")?).map(AnyScratchFile::Mem),
        }
    }

    fn xattr(&self, node: &AnyScratchNode, name: &[u8]) -> Result<Option<Vec<u8>>> {
        dispatch!(self, node: AnyScratchNode, xattr(name))
    }

    fn xattrs(&self, node: &AnyScratchNode) -> Result<Vec<Vec<u8>>> {
        dispatch!(self, node: AnyScratchNode, xattrs())
    }

    fn origin(&self, node: &AnyScratchNode) -> Result<Origin> {
        dispatch!(self, node: AnyScratchNode, origin())
    }

    fn locate(&self, origin: &Origin) -> Option<FileId> {
        dispatch!(self, locate(origin))
    }
}

impl Scratch for AnyScratch {
    type Staged = AnyStaged;

    fn features(&self) -> Features {
        dispatch!(self, features())
    }

    fn stage(&self, seed: &Seed<'_>) -> Result<AnyStaged> {
        Ok(match self {
            Self::Dir(it) => {
                let loose = it.stage(seed)?;
                let node = AnyScratchNode::Dir(it.staged(&loose).clone());
                AnyStaged { loose: Loose::Dir(loose), node }
            }
            Self::Mem(it) => {
                let loose = it.stage(seed)?;
                let node = AnyScratchNode::Mem(it.staged(&loose).clone());
                AnyStaged { loose: Loose::Mem(loose), node }
            }
        })
    }

    fn put(
        &self,
        at: At<'_, AnyScratchNode>,
        whole: &Whole<'_>,
        fill: &mut dyn FnMut(&AnyScratchFile) -> Result<()>,
    ) -> Result<AnyScratchNode> {
        match self {
            Self::Dir(it) => it
                .put(at_dir(at, "put")?, whole, &mut |file| fill(&AnyScratchFile::Dir(file.clone())))
                .map(AnyScratchNode::Dir),
            Self::Mem(it) => it
                .put(at_mem(at, "put")?, whole, &mut |file| fill(&AnyScratchFile::Mem(file.clone())))
                .map(AnyScratchNode::Mem),
        }
    }

    fn staged<'a>(&self, staged: &'a AnyStaged) -> &'a AnyScratchNode {
        &staged.node
    }

    fn publish(&self, staged: AnyStaged, at: At<'_, AnyScratchNode>, over: Over) -> Result<AnyScratchNode> {
        match (self, staged.loose) {
            (Self::Dir(it), Loose::Dir(loose)) => {
                it.publish(loose, at_dir(at, "publish")?, over).map(AnyScratchNode::Dir)
            }
            (Self::Mem(it), Loose::Mem(loose)) => {
                it.publish(loose, at_mem(at, "publish")?, over).map(AnyScratchNode::Mem)
            }
            _ => Err(foreign("publish")),
        }
    }

    fn publish_indexed(&self, staged: AnyStaged, origin: &Origin) -> Result<AnyScratchNode> {
        match (self, staged.loose) {
            (Self::Dir(it), Loose::Dir(loose)) => it.publish_indexed(loose, origin).map(AnyScratchNode::Dir),
            (Self::Mem(it), Loose::Mem(loose)) => it.publish_indexed(loose, origin).map(AnyScratchNode::Mem),
            _ => Err(foreign("publish")),
        }
    }

    fn keep(&self, staged: AnyStaged) -> Result<AnyScratchNode> {
        match (self, staged.loose) {
            (Self::Dir(it), Loose::Dir(loose)) => it.keep(loose).map(AnyScratchNode::Dir),
            (Self::Mem(it), Loose::Mem(loose)) => it.keep(loose).map(AnyScratchNode::Mem),
            _ => Err(foreign("keep")),
        }
    }

    fn indexed(&self, origin: &Origin) -> Result<Option<Hit<AnyScratchNode>>> {
        match self {
            Self::Dir(it) => it.indexed(origin).map(|o| o.map(|h| hit(h, AnyScratchNode::Dir))),
            Self::Mem(it) => it.indexed(origin).map(|o| o.map(|h| hit(h, AnyScratchNode::Mem))),
        }
    }

    fn index_entries(&self) -> Result<Vec<(Origin, Hit<AnyScratchNode>)>> {
        Ok(match self {
            Self::Dir(it) => each(it.index_entries()?, AnyScratchNode::Dir),
            Self::Mem(it) => each(it.index_entries()?, AnyScratchNode::Mem),
        })
    }

    fn drop_indexed(&self, origin: &Origin) -> Result<()> {
        dispatch!(self, drop_indexed(origin))
    }

    fn link(&self, node: &AnyScratchNode, at: At<'_, AnyScratchNode>, over: Over) -> Result<AnyScratchNode> {
        match self {
            Self::Dir(it) => {
                it.link(in_dir(node, "link")?, at_dir(at, "link")?, over).map(AnyScratchNode::Dir)
            }
            Self::Mem(it) => {
                it.link(in_mem(node, "link")?, at_mem(at, "link")?, over).map(AnyScratchNode::Mem)
            }
        }
    }

    fn rename(
        &self,
        node: &AnyScratchNode,
        from: At<'_, AnyScratchNode>,
        to: At<'_, AnyScratchNode>,
        leave: Leave,
        over: Over,
    ) -> Result<AnyScratchNode> {
        const OP: &str = "rename";
        match self {
            Self::Dir(it) => it
                .rename(in_dir(node, OP)?, at_dir(from, OP)?, at_dir(to, OP)?, leave, over)
                .map(AnyScratchNode::Dir),
            Self::Mem(it) => it
                .rename(in_mem(node, OP)?, at_mem(from, OP)?, at_mem(to, OP)?, leave, over)
                .map(AnyScratchNode::Mem),
        }
    }

    fn exchange(
        &self,
        a: (&AnyScratchNode, At<'_, AnyScratchNode>),
        b: (&AnyScratchNode, At<'_, AnyScratchNode>),
    ) -> Result<(AnyScratchNode, AnyScratchNode)> {
        const OP: &str = "exchange";
        match self {
            Self::Dir(it) => it
                .exchange((in_dir(a.0, OP)?, at_dir(a.1, OP)?), (in_dir(b.0, OP)?, at_dir(b.1, OP)?))
                .map(|(a, b)| (AnyScratchNode::Dir(a), AnyScratchNode::Dir(b))),
            Self::Mem(it) => it
                .exchange((in_mem(a.0, OP)?, at_mem(a.1, OP)?), (in_mem(b.0, OP)?, at_mem(b.1, OP)?))
                .map(|(a, b)| (AnyScratchNode::Mem(a), AnyScratchNode::Mem(b))),
        }
    }

    fn remove(&self, node: &AnyScratchNode, at: At<'_, AnyScratchNode>, leave: Leave) -> Result<()> {
        match self {
            Self::Dir(it) => it.remove(in_dir(node, "remove")?, at_dir(at, "remove")?, leave),
            Self::Mem(it) => it.remove(in_mem(node, "remove")?, at_mem(at, "remove")?, leave),
        }
    }

    fn whiteout(&self, at: At<'_, AnyScratchNode>) -> Result<()> {
        match self {
            Self::Dir(it) => it.whiteout(at_dir(at, "whiteout")?),
            Self::Mem(it) => it.whiteout(at_mem(at, "whiteout")?),
        }
    }

    fn clear(&self, node: &AnyScratchNode, at: At<'_, AnyScratchNode>) -> Result<AnyScratchNode> {
        match self {
            Self::Dir(it) => it.clear(in_dir(node, "clear")?, at_dir(at, "clear")?).map(AnyScratchNode::Dir),
            Self::Mem(it) => it.clear(in_mem(node, "clear")?, at_mem(at, "clear")?).map(AnyScratchNode::Mem),
        }
    }

    fn pin(&self, node: &AnyScratchNode) -> Result<AnyScratchNode> {
        match self {
            Self::Dir(it) => it.pin(in_dir(node, "pin")?).map(AnyScratchNode::Dir),
            Self::Mem(it) => it.pin(in_mem(node, "pin")?).map(AnyScratchNode::Mem),
        }
    }

    fn open_write(&self, node: &AnyScratchNode) -> Result<AnyScratchFile> {
        match self {
            Self::Dir(it) => it.open_write(in_dir(node, "open")?).map(AnyScratchFile::Dir),
            Self::Mem(it) => it.open_write(in_mem(node, "open")?).map(AnyScratchFile::Mem),
        }
    }

    fn set_attr(&self, node: &AnyScratchNode, set: &SetAttr) -> Result<()> {
        dispatch!(self, node: AnyScratchNode, set_attr(set))
    }

    fn set_xattr(&self, node: &AnyScratchNode, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        dispatch!(self, node: AnyScratchNode, set_xattr(name, value, how))
    }

    fn remove_xattr(&self, node: &AnyScratchNode, name: &[u8]) -> Result<()> {
        dispatch!(self, node: AnyScratchNode, remove_xattr(name))
    }

    fn mark(&self, node: &AnyScratchNode, mark: Mark<'_>) -> Result<()> {
        dispatch!(self, node: AnyScratchNode, mark(mark))
    }

    fn sync(&self, node: &AnyScratchNode, how: Sync) -> Result<()> {
        dispatch!(self, node: AnyScratchNode, sync(how))
    }

    fn sync_all(&self) -> Result<()> {
        dispatch!(self, sync_all())
    }

    fn stat_fs(&self) -> Result<StatFs> {
        dispatch!(self, stat_fs())
    }
}

impl ReadAt for AnyScratchFile {
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

impl WriteAt for AnyScratchFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        dispatch!(self, write_at(buf, offset))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        dispatch!(self, set_len(len))
    }

    fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        dispatch!(self, allocate(how, offset, len))
    }

    fn fill(&self, from: &dyn ReadAt, len: u64) -> Result<Copied> {
        dispatch!(self, fill(from, len))
    }

    fn copy_range(&self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        dispatch!(self, copy_range(from, from_offset, offset, len))
    }

    fn sync(&self, how: Sync) -> Result<()> {
        dispatch!(self, sync(how))
    }
}
