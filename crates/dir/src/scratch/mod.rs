//! [`DirScratch`]: two directories as the writable top of a stack, in the kernel's layout: `upper` holds the tree,
//! `work/work` what is not published yet, `work/index` the hard-link index.
//!
//! Every verb is one atomic call at its commit point; what comes before happens in `work/work`, what comes after is
//! clean-up there. Verbs that look at a name before they take it rely on the view, which holds that directory's lock.

mod attr;
mod copy;
mod file;
mod health;
mod moves;
mod open;
mod options;
mod owner;
mod probe;
mod put;
mod remove;
mod stage;
mod work;

pub use file::ScratchFile;
pub use options::{Ownership, ScratchOptions};
pub use stage::Staged;

use crate::node::{DirNode, Node};
use crate::sys;
use crate::tree::Tree;
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::{
    At, Attr, Caps, Error, ErrorKind, Features, FileId, Found, Hit, Layer, Leave, Mark, Marks, Name, Origin,
    Over, RawEntry, Result, Scratch, Seed, SetAttr, SetXattr, StatFs, Sync, Whole,
};
use work::Work;

/// A writable directory scratch. One process has it at a time.
pub struct DirScratch {
    tree: Tree,
    work: Arc<Work>,
    index: Option<Arc<DirNode>>,
    features: Features,
    stash: bool,
    nameless: bool,
    volatile: bool,
    /// The locks on `upper` and `work`, held until the scratch is dropped.
    _locks: [owner::Owned; 2],
}

impl DirScratch {
    /// Syncs everything, takes the mark of `volatile` away and closes the scratch. Without this call the mark stays,
    /// as it does in the kernel.
    ///
    /// # Errors
    /// When the sync fails; the mark stays then.
    pub fn close(self) -> Result<()> {
        if self.volatile {
            self.sync_all()?;
            self.work.clear_incompat(work::VOLATILE).map_err(self.work.failed("close"))?;
        }
        Ok(())
    }

    /// Whether the kernel's overlayfs would show the same tree from these directories.
    ///
    /// # Errors
    /// `Unsupported`, with the reason.
    pub fn kernel_mountable(&self) -> Result<()> {
        let has = |what| self.work.has_incompat(what).map_err(self.work.failed("look for marks"));
        let no = |why: &str| {
            Err(Error::new(ErrorKind::Unsupported, "mount by the kernel")
                .in_layer(&self.tree.label)
                .because(why))
        };
        if has(work::REDIRECTS)? {
            return no(
                "it or a snapshot below holds redirects or metacopy marks in user attributes, which the kernel does \
                 not follow",
            );
        }
        if has(work::VOLATILE)? {
            return no("it is volatile; the kernel refuses it until it was closed");
        }
        if self.stash {
            return no(
                "owners and modes are stored in user.containers.override_stat, which the kernel does not apply",
            );
        }
        Ok(())
    }

    /// Whether the kernel is kept from mounting this scratch because it would not follow the redirects or metacopy marks
    /// in it, or in a layer below that was a scratch before.
    ///
    /// # Errors
    /// What the host says.
    pub fn keeps_kernel_away(&self) -> Result<bool> {
        self.work.has_incompat(work::REDIRECTS).map_err(self.work.failed("look for marks"))
    }

    /// Keeps the kernel from mounting this scratch from now on: for one that lies over a layer which was a scratch and
    /// kept it away ([`DirScratch::keeps_kernel_away`]). Before anything refers to this scratch.
    ///
    /// # Errors
    /// What the host says.
    pub fn keep_kernel_away(&self) -> Result<()> {
        self.work.mark_redirects()
    }

    /// Where overlayfs's attributes are stored.
    #[must_use]
    pub fn namespace(&self) -> crate::Namespace {
        self.tree.namespace()
    }

    /// Whether owners are stored instead of applied.
    #[must_use]
    pub fn stashes_ownership(&self) -> bool {
        self.stash
    }

    fn writable(&self) -> Result<()> {
        self.work.health.check()
    }

    fn file(&self, node: &Node, access: OFlags) -> Result<ScratchFile> {
        Ok(ScratchFile::new(self.tree.open_data(node, access)?, Arc::clone(&self.work.health)))
    }
}

impl fmt::Debug for DirScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirScratch")
            .field("label", &self.tree.label)
            .field("features", &self.features)
            .field("stash", &self.stash)
            .finish_non_exhaustive()
    }
}

impl Layer for DirScratch {
    type Node = Node;
    type File = ScratchFile;

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

    fn open(&self, node: &Node) -> Result<ScratchFile> {
        self.file(node, OFlags::RDONLY)
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

impl Scratch for DirScratch {
    type Staged = Staged;

    fn features(&self) -> Features {
        self.features
    }

    fn stage(&self, seed: &Seed<'_>) -> Result<Staged> {
        self.writable()?;
        self.stage_object(seed)
    }

    fn put(
        &self,
        at: At<'_, Node>,
        whole: &Whole<'_>,
        fill: &mut dyn FnMut(&ScratchFile) -> Result<()>,
    ) -> Result<Node> {
        self.writable()?;
        self.put_object(at, whole, fill)
    }

    fn staged<'a>(&self, staged: &'a Staged) -> &'a Node {
        staged.node()
    }

    fn publish(&self, staged: Staged, at: At<'_, Node>, over: Over) -> Result<Node> {
        self.writable()?;
        self.publish_at(staged, at, over)
    }

    fn publish_indexed(&self, staged: Staged, origin: &Origin) -> Result<Node> {
        self.writable()?;
        self.publish_in_index(staged, origin)
    }

    fn keep(&self, staged: Staged) -> Result<Node> {
        self.keep_nameless(staged)
    }

    fn indexed(&self, origin: &Origin) -> Result<Option<Hit<Node>>> {
        self.find_indexed(origin)
    }

    fn index_entries(&self) -> Result<Vec<(Origin, Hit<Node>)>> {
        self.all_indexed()
    }

    fn drop_indexed(&self, origin: &Origin) -> Result<()> {
        self.writable()?;
        self.remove_indexed(origin)
    }

    fn link(&self, node: &Node, at: At<'_, Node>, over: Over) -> Result<Node> {
        self.writable()?;
        self.link_at(node, at, over)
    }

    fn rename(
        &self,
        node: &Node,
        from: At<'_, Node>,
        to: At<'_, Node>,
        leave: Leave,
        over: Over,
    ) -> Result<Node> {
        self.writable()?;
        self.rename_to(node, from, to, leave, over)
    }

    fn exchange(&self, a: (&Node, At<'_, Node>), b: (&Node, At<'_, Node>)) -> Result<(Node, Node)> {
        self.writable()?;
        self.swap(a, b)
    }

    fn remove(&self, node: &Node, at: At<'_, Node>, leave: Leave) -> Result<()> {
        self.writable()?;
        self.remove_name(node, at, leave)
    }

    fn whiteout(&self, at: At<'_, Node>) -> Result<()> {
        self.writable()?;
        let dir = self.tree.as_dir(at.dir, "whiteout")?;
        let fd = self.tree.dir_fd(dir)?;
        let name = at.name.as_bytes();
        self.work.whiteout(fd.as_fd(), name).map_err(self.tree.failed_at("whiteout", dir, name))
    }

    fn clear(&self, node: &Node, at: At<'_, Node>) -> Result<Node> {
        self.writable()?;
        self.clear_dir(node, at)
    }

    fn pin(&self, node: &Node) -> Result<Node> {
        self.tree.pin(node)
    }

    fn open_write(&self, node: &Node) -> Result<ScratchFile> {
        self.writable()?;
        self.file(node, OFlags::RDWR)
    }

    fn set_attr(&self, node: &Node, set: &SetAttr) -> Result<()> {
        self.writable()?;
        self.change_attr(node, set)
    }

    fn set_xattr(&self, node: &Node, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.writable()?;
        self.put_xattr(node, name, value, how)
    }

    fn remove_xattr(&self, node: &Node, name: &[u8]) -> Result<()> {
        self.writable()?;
        self.take_xattr(node, name)
    }

    fn mark(&self, node: &Node, mark: Mark<'_>) -> Result<()> {
        self.writable()?;
        self.put_mark(node, mark)
    }

    fn sync(&self, node: &Node, how: Sync) -> Result<()> {
        self.writable()?;
        self.work.health.synced(self.sync_node(node, how))
    }

    fn sync_all(&self) -> Result<()> {
        self.writable()?;
        self.work.health.synced(sys::data::syncfs(self.work.fd()).map_err(self.work.failed("sync")))
    }

    fn stat_fs(&self) -> Result<StatFs> {
        sys::stat::space(self.work.fd()).map_err(self.work.failed("read space"))
    }
}
