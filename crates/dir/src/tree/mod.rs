//! A directory tree as layers and scratches read it. [`Tree`] owns what both share: the root, the open
//! directories, the forms that are honoured, and errors that name layer and path.

mod list;
mod read;
mod resolve;

use crate::fds::Fds;
use crate::namespace::Namespace;
use crate::node::{DirNode, Held, Kept, Node, Place};
use crate::options::LayerOptions;
use crate::origin::Home;
use crate::sys::{self, Obj, Sys};
use parking_lot::{Mutex, RwLock};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use stratafs_core::{Attr, Caps, Error, ErrorKind, FileId, NameBuf, PATH_MAX, Result};

/// A directory tree.
pub(crate) struct Tree {
    pub(crate) label: Arc<str>,
    pub(crate) caps: Caps,
    pub(crate) options: LayerOptions,
    pub(crate) root: Arc<DirNode>,
    pub(crate) home: Home,
    fds: Fds,
    /// Held for writing while a directory changes its name, for reading while one is reached by names.
    pub(crate) moves: RwLock<()>,
    /// In a scratch, the one node of each directory in use, so that a rename reaches all who hold it.
    shared: Option<Mutex<Shared>>,
    /// Whether this process may ask for `O_NOATIME`.
    noatime: bool,
}

/// See [`Tree::shared`]. Dead entries are dropped when their number may have doubled the table.
struct Shared {
    nodes: HashMap<FileId, Weak<DirNode>>,
    sweep_at: usize,
}

/// The smallest table of shared directories that is swept.
const SWEEP_MIN: usize = 1024;

impl Tree {
    /// Opens the directory at `path` for reading.
    pub(crate) fn open(path: &Path, options: LayerOptions) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let fail = |e: Errno| {
            let error = Error::io(e.into(), "open layer").about(path.as_os_str().as_bytes());
            match e {
                Errno::NOENT => error.because("there is no such directory; check the path of the layer"),
                Errno::NOTDIR => error.because("a layer must be a directory"),
                Errno::ACCESS | Errno::PERM => error.because("it may not be read"),
                _ => error,
            }
        };
        let fd = sys::open::directory(path).map_err(fail)?;
        Self::of(fd, path.to_string_lossy().into(), options, false).map_err(fail)
    }

    /// The tree below an open directory. With `changing`, directories may be renamed through it.
    pub(crate) fn of(fd: OwnedFd, label: Arc<str>, options: LayerOptions, changing: bool) -> Sys<Self> {
        let attr = sys::stat::attr(Obj::Open(fd.as_fd()))?;
        let space = sys::stat::space(fd.as_fd())?;
        let home = Home {
            uuid: sys::stat::fs_uuid(fd.as_fd())?.unwrap_or_default(),
            dev: attr.id.dev,
            root: sys::stat::handle(Obj::Open(fd.as_fd())).ok(),
        };
        let caps = Caps {
            label: label.to_string(),
            name_max: usize::try_from(space.name_max).unwrap_or(stratafs_core::NAME_MAX),
            xattrs: sys::xattr::probe(Obj::Open(fd.as_fd()))?,
        };
        let shared = Shared { nodes: HashMap::new(), sweep_at: SWEEP_MIN };
        Ok(Self {
            label,
            caps,
            fds: Fds::new(options.fd_limit),
            options,
            root: DirNode::fixed(fd, attr.id),
            home,
            moves: RwLock::new(()),
            shared: changing.then(|| Mutex::new(shared)),
            noatime: rustix::process::geteuid().is_root(),
        })
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.options.namespace
    }

    /// The descriptors that reach a node.
    pub(crate) fn held(&self, node: &Node) -> Result<Held> {
        match &node.0 {
            Kept::Dir(dir) => Ok(Held::Dir(self.dir_fd(dir)?)),
            Kept::Entry(entry) => Ok(Held::At(self.dir_fd(&entry.dir)?, entry.name.clone())),
            Kept::Loose(loose) => Ok(Held::Loose(Arc::clone(loose))),
        }
    }

    /// The directory behind a node.
    pub(crate) fn as_dir<'n>(&self, node: &'n Node, operation: &'static str) -> Result<&'n Arc<DirNode>> {
        match &node.0 {
            Kept::Dir(dir) => Ok(dir),
            _ => Err(self.error(ErrorKind::NotADirectory, operation, node)),
        }
    }

    /// The node of a directory that was found at a place: in a scratch the one that others hold already.
    pub(crate) fn dir_node(&self, parent: &Arc<DirNode>, name: NameBuf, id: FileId) -> Arc<DirNode> {
        let fresh = || DirNode::below(Arc::clone(parent), name.clone(), id);
        let Some(shared) = &self.shared else { return fresh() };
        let mut shared = shared.lock();
        if let Some(known) = shared.nodes.get(&id).and_then(Weak::upgrade) {
            return known;
        }
        if shared.nodes.len() >= shared.sweep_at {
            shared.nodes.retain(|_, node| node.strong_count() > 0);
            shared.sweep_at = SWEEP_MIN.max(shared.nodes.len() * 2);
        }
        let node = fresh();
        shared.nodes.insert(id, Arc::downgrade(&node));
        node
    }

    /// A directory is gone: whoever still holds its node learns it.
    pub(crate) fn forget(&self, id: FileId) {
        let known = self.shared.as_ref().and_then(|shared| shared.lock().nodes.remove(&id));
        if let Some(node) = known.and_then(|node| node.upgrade()) {
            node.gone();
        }
    }

    /// The directory `new` has taken the place of `old`: whoever holds that node has the new one now.
    pub(crate) fn replaced(&self, old: FileId, new: FileId) {
        let Some(shared) = &self.shared else { return };
        let mut shared = shared.lock();
        if let Some(node) = shared.nodes.remove(&old).and_then(|node| node.upgrade()) {
            node.replaced(new);
            shared.nodes.insert(new, Arc::downgrade(&node));
        }
    }

    /// An error about a node.
    pub(crate) fn error(&self, kind: ErrorKind, operation: &'static str, node: &Node) -> Error {
        Error::new(kind, operation).about(self.path_of(node)).in_layer(&self.label)
    }

    /// The error that a system call gave about a node.
    pub(crate) fn failed(&self, operation: &'static str, node: &Node) -> impl FnOnce(Errno) -> Error {
        move |e| Error::io(e.into(), operation).about(self.path_of(node)).in_layer(&self.label)
    }

    /// The error that a system call gave about a name.
    pub(crate) fn failed_at(
        &self,
        operation: &'static str,
        dir: &Arc<DirNode>,
        name: &[u8],
    ) -> impl FnOnce(Errno) -> Error {
        move |e| {
            let path = self.path_at(dir, Some(name));
            Error::io(e.into(), operation).about(path).in_layer(&self.label)
        }
    }

    /// Names layer and path in an error that was made without them.
    pub(crate) fn located(&self, node: &Node) -> impl FnOnce(Error) -> Error {
        move |e| e.about(self.path_of(node)).in_layer(&self.label)
    }

    /// The path of a node from the root, for errors; cut off at [`PATH_MAX`].
    pub(crate) fn path_of(&self, node: &Node) -> Vec<u8> {
        match &node.0 {
            Kept::Dir(dir) => self.path_at(dir, None),
            Kept::Entry(entry) => self.path_at(&entry.dir, Some(entry.name.as_bytes())),
            Kept::Loose(_) => b"(an object without a name)".to_vec(),
        }
    }

    pub(crate) fn path_at(&self, dir: &Arc<DirNode>, name: Option<&[u8]>) -> Vec<u8> {
        let mut parts: Vec<Vec<u8>> = name.map(<[u8]>::to_vec).into_iter().collect();
        let mut len = parts.iter().map(Vec::len).sum::<usize>();
        let mut at = Arc::clone(dir);
        while let Place::In(parent, name) = at.place() {
            len += name.as_bytes().len() + 1;
            if len > PATH_MAX {
                parts.push(b"...".to_vec());
                break;
            }
            parts.push(name.as_bytes().to_vec());
            at = parent;
        }
        if parts.is_empty() {
            return b".".to_vec();
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Raw attributes, with what was stored instead of applied.
    pub(crate) fn attr_of(&self, obj: Obj<'_>) -> Sys<Result<Attr>> {
        let real = sys::stat::attr(obj)?;
        read::meant(self, obj, real)
    }

    /// The descriptor of the root.
    pub(crate) fn root_fd(&self) -> Result<Arc<OwnedFd>> {
        self.dir_fd(&self.root)
    }
}
