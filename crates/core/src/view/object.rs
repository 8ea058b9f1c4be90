//! One merged object: where its parts are, and what has happened to it. Invariants: `kind`, `id` and `ino`
//! never change, also not at copy-up; once `upper` is set it stays set; while it is not set, `parent` and
//! `name` do not change.

use crate::attr::{Attr, FileId, Kind};
use crate::layer::Layer;
use crate::marks::{Origin, Redirect};
use crate::name::{Name, NameBuf};
use crate::scratch::Scratch;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A lower object that a merged one rests on.
#[derive(Debug, Clone)]
pub(crate) struct Lower<N> {
    pub layer: usize,
    pub node: N,
    pub attr: Attr,
    /// No extended attributes at all.
    pub bare: bool,
}

/// What never changes about an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ident {
    pub kind: Kind,
    pub id: FileId,
    pub ino: u64,
}

pub(crate) struct State<L: Layer, S: Scratch> {
    /// The object in the scratch, once it is there.
    pub upper: Option<S::Node>,
    /// The scratch object has the data (and not only the attributes).
    pub own_data: bool,
    /// Where the object was last reached; `None` for the root.
    pub parent: Option<Inode<L, S>>,
    pub name: NameBuf,
    /// The last name that is known was removed.
    pub removed: bool,
    pub opaque: bool,
    pub impure: bool,
    pub redirect: Option<Redirect>,
    /// Copied up, with its origin stored.
    pub has_origin: bool,
    /// The key in the hard-link index.
    pub index: Option<Origin>,
    /// The merged link count where neither part has it: of indexed objects.
    pub nlink: Option<u32>,
}

impl<L: Layer, S: Scratch> State<L, S> {
    pub fn is_metacopy(&self) -> bool {
        self.upper.is_some() && !self.own_data
    }
}

/// What a directory's cache says of a name.
pub(crate) enum Child<L: Layer, S: Scratch> {
    Live(Weak<Object<L, S>>),
    /// Nobody sees anything there; `whiteout` says what the scratch has.
    Gone {
        whiteout: bool,
    },
}

pub(crate) struct Children<L: Layer, S: Scratch> {
    pub map: HashMap<NameBuf, Child<L, S>>,
    /// At this size dead and negative entries are dropped.
    pub prune_at: usize,
}

/// Which lower directory of a merge first has a name: answers a miss without asking any layer.
#[derive(Debug)]
pub(crate) struct LowerNames {
    pub first: HashMap<Box<[u8]>, u16>,
    /// The view's count of names kept in this way.
    pub kept: Arc<AtomicUsize>,
}

impl Drop for LowerNames {
    fn drop(&mut self) {
        self.kept.fetch_sub(self.first.len(), Ordering::Relaxed);
    }
}

pub(crate) struct DirPart<L: Layer, S: Scratch> {
    /// Held for writing while the directory's names change, for reading while a name is looked up in the layers.
    pub names: RwLock<()>,
    pub children: RwLock<Children<L, S>>,
    /// `None` inside: too many to keep.
    pub lower_names: OnceLock<Option<LowerNames>>,
    /// Questions asked of the lower layers so far.
    pub asked: AtomicU64,
}

pub(crate) struct Object<L: Layer, S: Scratch> {
    /// Unique in the process: the order in which equal locks are taken.
    pub serial: u64,
    pub kind: Kind,
    /// The lasting identity: of the lower object it began as, else of the one in the scratch.
    pub id: FileId,
    pub ino: u64,
    /// Of a directory: what is merged. Of a file: the chain down to the data, also after copy-up.
    pub lowers: Vec<Lower<L::Node>>,
    /// A directory whose place an empty opaque one has taken: nothing is merged any more.
    pub cleared: AtomicBool,
    /// Seen since the clock hand last passed.
    pub used: AtomicBool,
    /// The cache holds a reference.
    pub cached: AtomicBool,
    /// Where in the cache's ring, while it is cached.
    pub slot: AtomicUsize,
    /// Counts the moves of the data; a handle compares it to see whether to look again.
    pub epoch: AtomicU64,
    /// Counts the changes of the node by which the scratch's object is reached.
    pub moves: AtomicU64,
    /// Counts the changes of owner, mode and extended attributes that callers asked for. They are made under the
    /// copy-up lock, so what was checked before it holds if this is the same after.
    pub rights: AtomicU64,
    /// Held while the object is copied up or changed in the scratch, and by whoever binds or unbinds its name.
    pub copy_up: Mutex<()>,
    /// Held by appends, so that each finds the end where the last one left it.
    pub append: Mutex<()>,
    pub state: RwLock<State<L, S>>,
    pub dir: Option<DirPart<L, S>>,
}

impl<L: Layer, S: Scratch> Object<L, S> {
    pub fn new(serial: u64, ident: Ident, lowers: Vec<Lower<L::Node>>, state: State<L, S>) -> Self {
        let Ident { kind, id, ino } = ident;
        let dir = (kind == Kind::Dir).then(|| DirPart {
            names: RwLock::new(()),
            children: RwLock::new(Children { map: HashMap::new(), prune_at: PRUNE_MIN }),
            lower_names: OnceLock::new(),
            asked: AtomicU64::new(0),
        });
        Self {
            serial,
            kind,
            id,
            ino,
            lowers,
            cleared: AtomicBool::new(false),
            used: AtomicBool::new(true),
            cached: AtomicBool::new(false),
            slot: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            rights: AtomicU64::new(0),
            copy_up: Mutex::new(()),
            append: Mutex::new(()),
            state: RwLock::new(state),
            dir,
        }
    }
}

impl<L: Layer, S: Scratch> Object<L, S> {
    /// The lower object that has a file's data.
    pub fn data_below(&self) -> Option<&Lower<L::Node>> {
        self.lowers.last()
    }
}

/// A directory's cache of names is swept when it has grown to this many, or to twice what was alive then.
pub(crate) const PRUNE_MIN: usize = 256;

impl<L: Layer, S: Scratch> Children<L, S> {
    pub fn insert(&mut self, name: NameBuf, child: Child<L, S>) {
        if self.map.len() >= self.prune_at {
            self.map.retain(|_, child| match child {
                Child::Live(weak) => weak.strong_count() > 0,
                Child::Gone { .. } => false,
            });
            self.prune_at = PRUNE_MIN.max(self.map.len() * 2);
            if self.map.capacity() > self.prune_at * 4 {
                self.map.shrink_to(self.prune_at);
            }
        }
        self.map.insert(name, child);
    }
}

impl<L: Layer, S: Scratch> Object<L, S> {
    /// Lets go of the parent, with the entry there that led to this object: left behind it would keep the memory.
    /// Where the parent's names are in use at this moment that is left to their next sweep.
    fn leave(&mut self) -> Option<Inode<L, S>> {
        let state = self.state.get_mut();
        let parent = state.parent.take()?;
        if let Some(mut children) = parent.0.dir.as_ref().and_then(|part| part.children.try_write()) {
            let name = state.name.as_bytes();
            let dead = |child: &Child<L, S>| matches!(child, Child::Live(weak) if weak.strong_count() == 0);
            if children.map.get(name).is_some_and(dead) {
                children.map.remove(name);
            }
        }
        Some(parent)
    }
}

/// Parents are let go one by one: a chain of a hundred thousand directories must not use up the stack.
impl<L: Layer, S: Scratch> Drop for Object<L, S> {
    fn drop(&mut self) {
        let mut next = self.leave();
        while let Some(parent) = next {
            next = Arc::into_inner(parent.0).and_then(|mut object| object.leave());
        }
    }
}

/// An object of a view, held: cheap to clone, equal when it is the same object. As long as one is held the
/// object keeps its identity, whatever happens to its names; a server's *forget* is dropping it.
pub struct Inode<L: Layer, S: Scratch>(pub(crate) Arc<Object<L, S>>);

impl<L: Layer, S: Scratch> Inode<L, S> {
    /// The number of the object in this view (`st_ino`): the same before and after copy-up.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.0.ino
    }

    /// The lasting identity: no other object of the view that is there has it.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.0.id
    }

    /// What the object is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.0.kind == Kind::Dir
    }

    /// True once the object is in the scratch.
    #[must_use]
    pub fn is_upper(&self) -> bool {
        self.0.state.read().upper.is_some()
    }

    /// What of the lower layers is in this object.
    pub(crate) fn lowers(&self) -> &[Lower<L::Node>] {
        if self.0.cleared.load(Ordering::Acquire) { &[] } else { &self.0.lowers }
    }

    /// Notes that an empty opaque directory has taken the place of this one in the scratch.
    pub(crate) fn set_cleared(&self) {
        self.0.state.write().opaque = true;
        self.0.cleared.store(true, Ordering::Release);
        if let Some(dir) = &self.0.dir {
            dir.children.write().map.clear();
        }
    }

    /// Notes how the scratch's object is reached from now on.
    pub(crate) fn set_upper(&self, node: S::Node) {
        self.0.state.write().upper = Some(node);
        self.0.moves.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn touch(&self) {
        if !self.0.used.load(Ordering::Relaxed) {
            self.0.used.store(true, Ordering::Relaxed);
        }
    }

    /// What the cache of this directory says of a name.
    pub(crate) fn child(&self, name: Name<'_>) -> Option<Result<Self, bool>> {
        let children = self.0.dir.as_ref()?.children.read();
        match children.map.get(name.as_bytes())? {
            Child::Live(weak) => weak.upgrade().map(|object| Ok(Self(object))),
            Child::Gone { whiteout } => Some(Err(*whiteout)),
        }
    }

    pub(crate) fn set_child(&self, name: Name<'_>, child: Child<L, S>) {
        if let Some(dir) = &self.0.dir {
            dir.children.write().insert(name.to_buf(), child);
        }
    }

    pub(crate) fn forget_child(&self, name: Name<'_>) {
        if let Some(dir) = &self.0.dir {
            dir.children.write().map.remove(name.as_bytes());
        }
    }

    pub(crate) fn downgrade(&self) -> Weak<Object<L, S>> {
        Arc::downgrade(&self.0)
    }

    /// The parent and name through which the object was last reached.
    pub(crate) fn place(&self) -> Option<(Self, NameBuf)> {
        let state = self.0.state.read();
        state.parent.clone().map(|parent| (parent, state.name.clone()))
    }
}

impl<L: Layer, S: Scratch> Clone for Inode<L, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Layer, S: Scratch> PartialEq for Inode<L, S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<L: Layer, S: Scratch> Eq for Inode<L, S> {}

impl<L: Layer, S: Scratch> Hash for Inode<L, S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serial.hash(state);
    }
}

impl<L: Layer, S: Scratch> fmt::Debug for Inode<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inode({:?} {})", self.0.kind, self.0.ino)
    }
}
