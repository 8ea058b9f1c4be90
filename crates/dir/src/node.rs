//! Nodes: how an object of a directory tree is named without holding it open. A directory is shared and knows its
//! parent and name, so a rename updates it in place and everything below stays valid; any other object is a name
//! in such a directory; a pinned object is a descriptor.
//!
//! Invariant: a [`DirNode`] that is [`Place::Fixed`] always has its descriptor; the others may lose theirs to
//! [`crate::fds::Fds`] at any time.

use crate::sys::Obj;
use parking_lot::{Mutex, RwLock};
use rustix::fd::{AsFd, OwnedFd};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use stratafs_core::{FileId, NameBuf};

/// One object of a layer or scratch. Cheap to clone; holds no descriptor of its own unless it was pinned.
#[derive(Clone)]
pub struct Node(pub(crate) Kept);

#[derive(Clone)]
pub(crate) enum Kept {
    Dir(Arc<DirNode>),
    Entry(Arc<Entry>),
    Loose(Arc<Loose>),
}

/// A name in a directory, and which object stood there when it was first looked at: names move, and a reader
/// who takes no lock has to notice.
pub(crate) struct Entry {
    pub(crate) dir: Arc<DirNode>,
    pub(crate) name: NameBuf,
    /// The object's number; 0 while it is not known.
    ino: AtomicU64,
}

impl Entry {
    /// Whether the object that now stands at the name is the one that is meant; the first one seen is.
    pub(crate) fn is(&self, ino: u64) -> bool {
        match self.ino.load(Ordering::Relaxed) {
            0 => {
                self.ino.store(ino, Ordering::Relaxed);
                true
            }
            known => known == ino,
        }
    }
}

/// An object that is held open because it has no name to rely on; not a directory.
pub(crate) struct Loose {
    pub(crate) fd: Arc<OwnedFd>,
    /// Opened for reading and writing, not just as `O_PATH`.
    pub(crate) open: bool,
}

impl Node {
    pub(crate) fn dir(dir: Arc<DirNode>) -> Self {
        Self(Kept::Dir(dir))
    }

    /// A name whose object is not known yet.
    pub(crate) fn entry(dir: Arc<DirNode>, name: NameBuf) -> Self {
        Self::known(dir, name, 0)
    }

    /// A name and the number of the object that stands there.
    pub(crate) fn known(dir: Arc<DirNode>, name: NameBuf, ino: u64) -> Self {
        Self(Kept::Entry(Arc::new(Entry { dir, name, ino: AtomicU64::new(ino) })))
    }

    /// The number of the object behind a name, where it is known.
    pub(crate) fn ino(&self) -> u64 {
        match &self.0 {
            Kept::Entry(entry) => entry.ino.load(Ordering::Relaxed),
            _ => 0,
        }
    }

    pub(crate) fn loose(fd: OwnedFd, open: bool) -> Self {
        Self(Kept::Loose(Arc::new(Loose { fd: Arc::new(fd), open })))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Dir(dir) => write!(f, "Node(dir {dir:?})"),
            Kept::Entry(entry) => write!(f, "Node({:?} in {:?})", entry.name, entry.dir),
            Kept::Loose(loose) => write!(f, "Node(fd {:?})", loose.fd),
        }
    }
}

/// Where a directory is.
#[derive(Clone)]
pub(crate) enum Place {
    /// It is reached by its own descriptor only: a root, or pinned.
    Fixed,
    /// Under a name.
    In(Arc<DirNode>, NameBuf),
    /// It was removed.
    Gone,
}

/// One directory.
pub(crate) struct DirNode {
    place: RwLock<Place>,
    /// Which directory this is, to notice another one at its place.
    id: Mutex<FileId>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
    used: AtomicBool,
    /// See [`Passes`].
    passes: AtomicU8,
}

/// Whether what is made in a directory gets an access list from it (acl(5), default lists).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Passes {
    /// Not asked yet.
    Unknown = 0,
    Nothing = 1,
    List = 2,
}

impl DirNode {
    /// A directory that keeps its descriptor.
    pub(crate) fn fixed(fd: OwnedFd, id: FileId) -> Arc<Self> {
        Arc::new(Self {
            place: RwLock::new(Place::Fixed),
            id: Mutex::new(id),
            fd: Mutex::new(Some(Arc::new(fd))),
            used: AtomicBool::new(true),
            passes: AtomicU8::new(Passes::Unknown as u8),
        })
    }

    /// A directory under a name.
    pub(crate) fn below(parent: Arc<Self>, name: NameBuf, id: FileId) -> Arc<Self> {
        Arc::new(Self {
            place: RwLock::new(Place::In(parent, name)),
            id: Mutex::new(id),
            fd: Mutex::new(None),
            used: AtomicBool::new(false),
            passes: AtomicU8::new(Passes::Unknown as u8),
        })
    }

    pub(crate) fn place(&self) -> Place {
        self.place.read().clone()
    }

    pub(crate) fn id(&self) -> FileId {
        *self.id.lock()
    }

    /// After a rename: the directory and its descriptor stay, the name changes.
    pub(crate) fn moved(&self, parent: Arc<Self>, name: NameBuf) {
        *self.place.write() = Place::In(parent, name);
    }

    /// Another directory took this one's place.
    pub(crate) fn replaced(&self, id: FileId) {
        *self.id.lock() = id;
        *self.fd.lock() = None;
        self.set_passes(Passes::Unknown);
    }

    /// What is known of [`Passes`].
    pub(crate) fn passes(&self) -> Passes {
        match self.passes.load(Ordering::Relaxed) {
            1 => Passes::Nothing,
            2 => Passes::List,
            _ => Passes::Unknown,
        }
    }

    pub(crate) fn set_passes(&self, passes: Passes) {
        self.passes.store(passes as u8, Ordering::Relaxed);
    }

    /// The directory was removed.
    pub(crate) fn gone(&self) {
        *self.place.write() = Place::Gone;
        *self.fd.lock() = None;
    }

    /// The descriptor, where it is open.
    pub(crate) fn cached(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.fd.lock().clone();
        if fd.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        fd
    }

    /// Takes in a fresh descriptor; gives the one that counts, and whether it is the fresh one.
    pub(crate) fn store(&self, fresh: OwnedFd) -> (Arc<OwnedFd>, bool) {
        self.used.store(true, Ordering::Relaxed);
        let mut slot = self.fd.lock();
        match &*slot {
            Some(fd) => (Arc::clone(fd), false),
            None => (Arc::clone(slot.insert(Arc::new(fresh))), true),
        }
    }

    /// Whether it was used since the last question.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Lets the descriptor go.
    pub(crate) fn evict(&self) {
        let fd = self.fd.lock().take();
        drop(fd);
    }
}

impl fmt::Debug for DirNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.place.read() {
            Place::Fixed => write!(f, "fixed"),
            Place::In(_, name) => write!(f, "{name:?}"),
            Place::Gone => write!(f, "removed"),
        }
    }
}

impl Drop for DirNode {
    /// Takes a chain of parents apart step by step: a deep tree must not need a deep stack.
    fn drop(&mut self) {
        let mut place = std::mem::replace(self.place.get_mut(), Place::Gone);
        while let Place::In(parent, _) = place {
            let Some(mut parent) = Arc::into_inner(parent) else { break };
            place = std::mem::replace(parent.place.get_mut(), Place::Gone);
        }
    }
}

/// A node with the descriptors that reach it, for the time of one call.
pub(crate) enum Held {
    At(Arc<OwnedFd>, NameBuf),
    Dir(Arc<OwnedFd>),
    Loose(Arc<Loose>),
}

impl Held {
    pub(crate) fn obj(&self) -> Obj<'_> {
        match self {
            Self::At(dir, name) => Obj::At(dir.as_fd(), name.as_bytes()),
            Self::Dir(fd) => Obj::Dir(fd.as_fd()),
            Self::Loose(loose) if loose.open => Obj::Open(loose.fd.as_fd()),
            Self::Loose(loose) => Obj::Path(loose.fd.as_fd()),
        }
    }
}
