//! One file system in memory: what every handle of it shares, and how objects come to be and change.

use crate::clock::Clock;
use crate::data::Pages;
use crate::file::Access;
use crate::layer::MemLayer;
use crate::limits::{InodeCharge, Limits, Space};
use crate::object::{Body, Directory, MemNode, Object, State};
use crate::scratch::MemScratch;
use crate::xattr::Xattrs;
use crate::{LayerBuilder, MemFile};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use stratafs_core::{
    Caps, Device, Error, ErrorKind, Features, FileId, Kind, Marks, NAME_MAX, Name, Origin, PATH_MAX, Seed,
    Time,
};

/// The first file system's number. The high bit keeps them apart from the device numbers of the host, which
/// other layers of the same stack report.
const FIRST_ID: u64 = 1 << 63;
static NEXT_ID: AtomicU64 = AtomicU64::new(FIRST_ID);

const ROOT_INO: u64 = 1;
const ROOT_MODE: u32 = 0o755;

/// How to set up a file system in memory.
#[derive(Debug, Clone)]
pub struct Options {
    clock: Clock,
    limits: Limits,
    features: Features,
    label: String,
}

impl Default for Options {
    /// The host's clock, no limits, every feature.
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            limits: Limits::default(),
            features: Features { redirect: true, metacopy: true, index: true },
            label: "memory".to_owned(),
        }
    }
}

impl Options {
    /// Takes times from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Holds at most this much.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Stores only these marks; setting another is `EOPNOTSUPP`.
    #[must_use]
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Is called this in errors.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// An empty scratch.
    #[must_use]
    pub fn scratch(self) -> MemScratch {
        MemScratch { fs: Arc::new(Fs::new(self)) }
    }

    /// A layer to be filled.
    pub fn layer(self) -> LayerBuilder {
        LayerBuilder::over(self.scratch())
    }
}

/// What the tree lock guards besides the names in the directories.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Nothing changes any more.
    pub(crate) sealed: bool,
    pub(crate) index: HashMap<Origin, Arc<Object>>,
}

/// What the handles of one file system share.
#[derive(Debug)]
pub(crate) struct Fs {
    id: u64,
    next_ino: AtomicU64,
    clock: Clock,
    pub(crate) space: Arc<Space>,
    pub(crate) features: Features,
    pub(crate) caps: Caps,
    pub(crate) root: Arc<Object>,
    pub(crate) tree: RwLock<Tree>,
}

impl Fs {
    fn new(options: Options) -> Self {
        let Options { clock, limits, features, label } = options;
        let id = NEXT_ID.fetch_add(1, Relaxed);
        let space = Space::new(limits);
        let seed =
            Seed { kind: Kind::Dir, mode: ROOT_MODE, uid: 0, gid: 0, rdev: Device::default(), target: b"" };
        let body = Body::Dir(Directory::default());
        let root = object(FileId { dev: id, ino: ROOT_INO }, &seed, body, space.root_inode(), clock.now());
        Self {
            id,
            next_ino: AtomicU64::new(ROOT_INO + 1),
            clock,
            space,
            features,
            caps: Caps { label, name_max: NAME_MAX, xattrs: true },
            root,
            tree: RwLock::default(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// An object without a name.
    pub(crate) fn make(&self, seed: &Seed<'_>) -> Result<Arc<Object>, ErrorKind> {
        let now = self.now();
        if self.tree.read().sealed {
            return Err(ErrorKind::ReadOnly);
        }
        self.make_at(seed, now)
    }

    /// [`Fs::make`] for who holds the tree lock.
    pub(crate) fn make_at(&self, seed: &Seed<'_>, now: Time) -> Result<Arc<Object>, ErrorKind> {
        let body = match seed.kind {
            Kind::File => Body::File(Pages::new(Arc::clone(&self.space))),
            Kind::Dir => Body::Dir(Directory::default()),
            Kind::Symlink if seed.target.is_empty() => return Err(ErrorKind::NotFound),
            Kind::Symlink if seed.target.len() >= PATH_MAX => return Err(ErrorKind::NameTooLong),
            Kind::Symlink => Body::Symlink(seed.target.into()),
            Kind::Fifo | Kind::Socket => Body::Special(Device::default()),
            Kind::Char | Kind::Block => Body::Special(seed.rdev),
        };
        let charge = self.space.take_inode()?;
        let ino = self.next_ino.fetch_add(1, Relaxed);
        Ok(object(FileId { dev: self.id, ino }, seed, body, charge, now))
    }

    /// The object of a node of this file system; `EXDEV` for another's.
    pub(crate) fn own<'a>(&self, node: &'a MemNode) -> Result<&'a Arc<Object>, ErrorKind> {
        if node.0.id.dev == self.id { Ok(&node.0) } else { Err(ErrorKind::CrossDevice) }
    }

    /// The tree, its names to be changed.
    pub(crate) fn tree_to_change(&self) -> Result<RwLockWriteGuard<'_, Tree>, ErrorKind> {
        let tree = self.tree.write();
        if tree.sealed { Err(ErrorKind::ReadOnly) } else { Ok(tree) }
    }

    /// The tree, one object of it to be changed.
    pub(crate) fn tree_to_touch(&self) -> Result<RwLockReadGuard<'_, Tree>, ErrorKind> {
        let tree = self.tree.read();
        if tree.sealed { Err(ErrorKind::ReadOnly) } else { Ok(tree) }
    }

    /// Changes one object in one step.
    pub(crate) fn change<T>(
        &self,
        object: &Object,
        change: impl FnOnce(&mut State, Time) -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let now = self.now();
        let _tree = self.tree_to_touch()?;
        change(&mut object.state.write(), now)
    }

    /// Notes that the data or target of `object` was read, where that is news. A sealed tree keeps its times.
    pub(crate) fn accessed(&self, object: &Object) {
        let now = self.now();
        if object.state.read().access_is_news(now) {
            let _ = self.change(object, |state, now| {
                state.atime = now;
                Ok(())
            });
        }
    }

    /// An open regular file, with open(2)'s errors for anything else.
    pub(crate) fn open(self: &Arc<Self>, node: &MemNode, access: Access) -> Result<MemFile, ErrorKind> {
        let object = self.own(node)?;
        match object.kind {
            Kind::File => Ok(MemFile { fs: Arc::clone(self), object: Arc::clone(object), access }),
            Kind::Dir => Err(ErrorKind::IsADirectory),
            Kind::Symlink => Err(ErrorKind::Loop),
            Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => Err(ErrorKind::NoSuchRange),
        }
    }

    /// Freezes the tree and gives the layer that it is now.
    pub(crate) fn seal(self: Arc<Self>) -> MemLayer {
        self.tree.write().sealed = true;
        MemLayer { fs: self }
    }

    /// Adds to a kind what failed and where.
    pub(crate) fn failed(&self, operation: &'static str) -> impl Fn(ErrorKind) -> Error + '_ {
        move |kind| Error::new(kind, operation).in_layer(&self.caps.label)
    }

    /// Adds to a kind what failed, where, and at which name.
    pub(crate) fn failed_at<'a>(
        &'a self,
        operation: &'static str,
        name: Name<'a>,
    ) -> impl Fn(ErrorKind) -> Error + 'a {
        move |kind| self.failed(operation)(kind).about(name.as_bytes())
    }

    pub(crate) fn origin(&self, object: &Object) -> Origin {
        let mut bytes = Vec::with_capacity(ORIGIN_LEN);
        bytes.push(ORIGIN_MAGIC);
        bytes.extend_from_slice(&object.id.dev.to_le_bytes());
        bytes.extend_from_slice(&object.id.ino.to_le_bytes());
        Origin::new(bytes)
    }

    pub(crate) fn locate(&self, origin: &Origin) -> Option<FileId> {
        let (&magic, rest) = origin.as_bytes().split_first()?;
        let (dev, ino) = rest.split_first_chunk::<8>()?;
        let id = FileId { dev: u64::from_le_bytes(*dev), ino: u64::from_le_bytes(ino.try_into().ok()?) };
        let made = (ROOT_INO..self.next_ino.load(Relaxed)).contains(&id.ino);
        (magic == ORIGIN_MAGIC && id.dev == self.id && made).then_some(id)
    }
}

/// Tells this backend's origins from others: `m`.
const ORIGIN_MAGIC: u8 = b'm';
/// Magic, file system, object.
const ORIGIN_LEN: usize = 1 + 8 + 8;

fn object(id: FileId, seed: &Seed<'_>, body: Body, charge: InodeCharge, now: Time) -> Arc<Object> {
    let (mode, nlink) = match seed.kind {
        Kind::Symlink => (0o777, 0),
        Kind::Dir => (seed.mode & 0o7777, 2),
        _ => (seed.mode & 0o7777, 0),
    };
    let state = State {
        mode,
        uid: seed.uid,
        gid: seed.gid,
        nlink,
        atime: now,
        mtime: now,
        ctime: now,
        xattrs: Xattrs::default(),
        marks: Marks::default(),
        body,
    };
    Arc::new(Object { id, kind: seed.kind, btime: now, state: RwLock::new(state), _charge: charge })
}
