//! The merged view: one engine for every backend, by inode and handle, with paths on top.
//!
//! # Locks, in the order in which they are taken
//! ```text
//! copy-up lock of an object (two: by serial)       held while one file is copied or changed; stops nobody else
//!  └ rename (one a view: directories change their place)
//!     └ names of a directory (two: ancestor first, else by serial; then a directory that goes)
//!        └ children, state, caches                 held for moments, never over I/O
//! ```
//! Invariants: a name changes its meaning only under the names lock of its directory and the copy-up lock of
//! what it meant; a step of a plan runs only in `exec`; the scratch decides nothing. A copy-up takes the names lock
//! for the step that publishes, since it puts the directory's times back.

mod attrs;
mod cache;
mod changes;
mod copy_up;
mod dir;
mod exec;
mod handle;
mod link;
mod lookup;
mod make;
mod object;
mod remove;
mod rename;
mod resolve;
mod settle;
mod xattr;

pub use changes::{Aspects, Change, What};
pub use dir::{DirEntry, DirHandle};
pub use handle::{Access, Handle};
pub use make::New;
pub use object::Inode;
pub use rename::RenameFlags;
pub use resolve::{Entry, Follow, SYMLINKS_MAX};

use crate::attr::{FileId, Kind, StatFs};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Hit, Layer};
use crate::name::{Name, NameBuf};
use crate::plan::Durability;
use crate::scratch::Scratch;
use cache::Cache;
use object::{Ident, Lower, Object, State};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The most lower layers of a stack, as the kernel's overlayfs has it.
pub const LAYERS_MAX: usize = 500;

/// Layers and the scratch on top of them.
#[derive(Debug)]
pub struct Stack<L, S> {
    /// The read-only layers, topmost first.
    pub layers: Vec<L>,
    /// Where changes go; without one the view is read-only.
    pub scratch: Option<S>,
}

/// What is done with what an untrusted lower layer could smuggle into the scratch at copy-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Untrusted {
    /// Drop setuid and setgid bits of files.
    pub clear_setid: bool,
    /// Drop `security.capability`.
    pub drop_capabilities: bool,
    /// Refuse to copy up device nodes (`EPERM`).
    pub refuse_devices: bool,
}

impl Untrusted {
    /// Everything is kept: the layers are as trusted as the host. The default, and what the kernel does.
    pub const TRUST: Self = Self { clear_setid: false, drop_capabilities: false, refuse_devices: false };
    /// Nothing that gives privilege is taken over.
    pub const STRIP: Self = Self { clear_setid: true, drop_capabilities: true, refuse_devices: true };
}

/// How a view behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// What a crash may cost.
    pub durability: Durability,
    /// What is done with setuid files, capabilities and devices of lower layers.
    pub untrusted: Untrusted,
    /// How many objects the cache keeps alive. Memory stays within some 1,500 bytes for each.
    pub cached_objects: usize,
    /// How many names of lower directories are kept to answer misses without asking the layers.
    pub cached_names: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::Ordered,
            untrusted: Untrusted::TRUST,
            cached_objects: 65_536,
            cached_names: 1 << 20,
        }
    }
}

pub(crate) struct Core<L: Layer, S: Scratch> {
    layers: Vec<L>,
    roots: Vec<L::Node>,
    scratch: Option<S>,
    config: Config,
    cache: Cache<L, S>,
    rename: Mutex<()>,
    serial: AtomicU64,
    names_kept: Arc<AtomicUsize>,
    root: Inode<L, S>,
    dev: u64,
    /// The file system of the scratch.
    scratch_dev: u64,
}

/// The merged view of a stack. Cheap to clone; everything works concurrently from many threads.
pub struct View<L: Layer, S: Scratch>(Arc<Core<L, S>>);

impl<L: Layer, S: Scratch> Clone for View<L, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Layer, S: Scratch> fmt::Debug for View<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("layers", &self.0.layers.iter().map(|l| &l.caps().label).collect::<Vec<_>>())
            .field("scratch", &self.0.scratch.as_ref().map(|s| &s.caps().label))
            .field("config", &self.0.config)
            .finish()
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Opens the merged view of a stack.
    ///
    /// # Errors
    /// `InvalidInput` for an empty or too high stack; what the backends say of their roots.
    pub fn new(stack: Stack<L, S>, config: Config) -> Result<Self> {
        let Stack { layers, scratch } = stack;
        let invalid = |why: &str| Error::new(ErrorKind::InvalidInput, "open view").because(why);
        if layers.len() > LAYERS_MAX {
            return Err(invalid("a stack has at most 500 lower layers"));
        }
        if layers.is_empty() && scratch.is_none() {
            return Err(invalid("a stack needs a layer or a scratch"));
        }
        let mut lowers = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter().enumerate() {
            let hit = layer.root().map_err(|e| e.in_layer(&layer.caps().label))?;
            check_root(&hit, &layer.caps().label)?;
            lowers.push((i, hit));
        }
        let roots = lowers.iter().map(|(_, hit)| hit.node.clone()).collect();
        let upper = match &scratch {
            Some(scratch) => {
                let hit = scratch.root().map_err(|e| e.in_layer(&scratch.caps().label))?;
                check_root(&hit, &scratch.caps().label)?;
                Some(hit)
            }
            None => None,
        };
        let cache = Cache::new(config.cached_objects);
        // The scratch's file system is the one whose numbers stay as they are.
        if let Some(hit) = &upper {
            cache.ino(hit.attr.id);
        }
        let scratch_dev = upper.as_ref().map_or(0, |hit| hit.attr.id.dev);
        let opaque = upper.as_ref().is_some_and(|hit| hit.marks.opaque);
        let mut merged = Vec::new();
        for (layer, hit) in lowers {
            let ends = hit.marks.opaque;
            merged.push(Lower { layer, node: hit.node, attr: hit.attr, bare: hit.bare });
            if ends {
                break;
            }
        }
        if opaque {
            merged.clear();
        }
        let id = merged.first().map(|l| l.attr.id).or(upper.as_ref().map(|u| u.attr.id));
        let id = id.unwrap_or(FileId { dev: 0, ino: 1 });
        let state = State {
            own_data: upper.is_some(),
            impure: upper.as_ref().is_some_and(|u| u.marks.impure),
            upper: upper.map(|u| u.node),
            parent: None,
            name: NameBuf::new(b"root")?,
            removed: false,
            opaque,
            redirect: None,
            has_origin: false,
            index: None,
            nlink: None,
        };
        let ident = Ident { kind: Kind::Dir, id, ino: cache.ino(id) };
        let root = Inode(Arc::new(Object::new(0, ident, merged, state)));
        Ok(Self(Arc::new(Core {
            layers,
            roots,
            scratch,
            config,
            cache,
            rename: Mutex::new(()),
            serial: AtomicU64::new(1),
            names_kept: Arc::new(AtomicUsize::new(0)),
            root,
            dev: id.dev,
            scratch_dev,
        })))
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Inode<L, S> {
        self.0.root.clone()
    }

    /// The lower layers, topmost first.
    #[must_use]
    pub fn layers(&self) -> &[L] {
        &self.0.layers
    }

    /// The scratch, unless the view is read-only.
    #[must_use]
    pub fn scratch(&self) -> Option<&S> {
        self.0.scratch.as_ref()
    }

    /// Takes the view apart and gives its scratch; `Err` with the view while other clones or handles use it.
    ///
    /// # Errors
    /// The view itself, while it is shared.
    pub fn into_scratch(self) -> std::result::Result<Option<S>, Self> {
        Arc::try_unwrap(self.0).map(|core| core.scratch).map_err(Self)
    }

    /// How the view behaves.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// How many objects the cache keeps alive at this moment; never more than [`Config::cached_objects`].
    #[must_use]
    pub fn cached(&self) -> usize {
        self.0.cache.len()
    }

    /// Lets go of cached objects that nobody else holds.
    pub fn drop_caches(&self) {
        self.0.cache.clear();
    }

    /// Space and limits of what holds the changes.
    ///
    /// # Errors
    /// What the scratch says; `ReadOnly` without one.
    pub fn stat_fs(&self) -> Result<StatFs> {
        self.writable("statfs")?.stat_fs()
    }

    /// Makes everything durable that was done before the call (syncfs(2)).
    ///
    /// # Errors
    /// What the scratch says.
    pub fn sync(&self) -> Result<()> {
        match &self.0.scratch {
            Some(scratch) => scratch.sync_all(),
            None => Ok(()),
        }
    }

    pub(crate) fn writable(&self, operation: &'static str) -> Result<&S> {
        self.0.scratch.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, operation)
                .because("the view has no scratch: open it with one to change it")
        })
    }

    pub(crate) fn layer(&self, lower: &Lower<L::Node>) -> Result<&L> {
        self.0.layers.get(lower.layer).ok_or_else(|| Error::new(ErrorKind::Stale, "find layer"))
    }

    pub(crate) fn new_object(
        &self,
        kind: Kind,
        id: FileId,
        lowers: Vec<Lower<L::Node>>,
        state: State<L, S>,
    ) -> Inode<L, S> {
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed);
        let ident = Ident { kind, id, ino: self.0.cache.ino(id) };
        Inode(Arc::new(Object::new(serial, ident, lowers, state)))
    }
}

fn check_root<N>(hit: &Hit<N>, label: &str) -> Result<()> {
    if hit.attr.kind == Kind::Dir {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotADirectory, "open layer").in_layer(label))
}

/// How often a read goes on after the object moved under its hands.
const MOVES_MAX: usize = 64;

impl<L: Layer, S: Scratch> View<L, S> {
    /// Reads from the scratch's object without stopping those who rename it: when it moved meanwhile, again. The
    /// caller does not hold the object's copy-up lock, nor that of any directory's names.
    /// `None` when the object is not in the scratch.
    pub(crate) fn read_upper<T>(
        &self,
        inode: &Inode<L, S>,
        read: impl Fn(&S, &S::Node) -> Result<T>,
    ) -> Result<Option<T>> {
        let Some(scratch) = &self.0.scratch else { return Ok(None) };
        let mut tries = 0;
        loop {
            let moves = inode.0.moves.load(Ordering::Acquire);
            let upper = inode.0.state.read().upper.clone();
            let Some(upper) = upper else { return Ok(None) };
            match read(scratch, &upper) {
                Ok(value) => return Ok(Some(value)),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Stale) && tries < MOVES_MAX => {
                    tries += 1;
                    if inode.0.moves.load(Ordering::Acquire) == moves {
                        // Perhaps in the midst of a rename: its holder has the copy-up lock until it is noted.
                        drop(inode.0.copy_up.lock());
                        if inode.0.moves.load(Ordering::Acquire) == moves {
                            return Err(e);
                        }
                    }
                }
                Err(e) => return Err(e.in_layer(&scratch.caps().label)),
            }
        }
    }
}

/// The error for a name that is not there.
pub(crate) fn missing(operation: &'static str, name: Name<'_>) -> Error {
    Error::new(ErrorKind::NotFound, operation).about(name.as_bytes())
}

/// The error for something that has to be a directory.
pub(crate) fn not_a_directory(operation: &'static str) -> Error {
    Error::new(ErrorKind::NotADirectory, operation)
}
