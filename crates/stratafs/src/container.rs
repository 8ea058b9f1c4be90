//! [`Container`]: the merged view of an image and a scratch, by path. What is missing here by inode and handle
//! is in [`Container::view`].
//!
//! Each call resolves its path once; nothing is looked up again by name afterwards. An error names the
//! operation and the path as the caller gave it.

mod attributes;
mod names;
mod tree;

use crate::{
    AnyLayer, AnyScratch, Caller, Change, Config, DirScratch, Durability, Error, ErrorKind, Image, Inode,
    Layer, MemScratch, Result, ScratchOptions, SetAttr, SetXattr, Stack, StatFs, Untrusted, View,
};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stratafs_core::Follow;

/// The engine under a container.
pub(crate) type Engine = View<AnyLayer, AnyScratch>;

/// Permission bits that new files and directories do not get, unless the builder says otherwise.
const UMASK: u32 = 0o022;

/// The merged view of an image and a scratch. A cheap handle: clones share everything and work concurrently.
#[derive(Debug, Clone)]
pub struct Container {
    pub(crate) view: Engine,
    /// Where relative paths start.
    pub(crate) base: Inode,
    pub(crate) caller: Arc<Caller>,
    pub(crate) umask: u32,
}

/// Puts a [`Container`] together.
#[derive(Debug)]
#[must_use]
pub struct ContainerBuilder {
    image: Image,
    scratch: Place,
    options: ScratchOptions,
    config: Config,
    umask: u32,
}

#[derive(Debug)]
enum Place {
    Nowhere,
    Fresh,
    Memory(MemScratch),
    Dirs { upper: PathBuf, work: PathBuf },
    Under(PathBuf),
}

impl ContainerBuilder {
    /// Keeps changes in memory; they go with the last handle.
    pub fn in_memory(mut self) -> Self {
        self.scratch = Place::Fresh;
        self
    }

    /// Keeps changes in this scratch in memory, which the caller can share or look into.
    pub fn scratch(mut self, scratch: MemScratch) -> Self {
        self.scratch = Place::Memory(scratch);
        self
    }

    /// Keeps changes in `upper`, with `work` beside it on the same file system, as the kernel's overlayfs
    /// does. Both are made where they are missing; an `upper` that the kernel wrote is taken over.
    pub fn upper_and_work(mut self, upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        self.scratch = Place::Dirs { upper: upper.into(), work: work.into() };
        self
    }

    /// Keeps changes in `dir/upper` and `dir/work`, made where they are missing.
    pub fn scratch_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.scratch = Place::Under(dir.into());
        self
    }

    /// Options for scratch directories; memory has none.
    pub fn scratch_options(mut self, options: ScratchOptions) -> Self {
        self.options = options;
        self
    }

    /// What a crash may cost; [`Durability::Ordered`] unless said otherwise.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// What is done with setuid files, capabilities and devices of the layers; [`Untrusted::TRUST`] unless
    /// said otherwise.
    pub fn untrusted(mut self, untrusted: Untrusted) -> Self {
        self.config.untrusted = untrusted;
        self
    }

    /// Bounds of the engine's caches.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Permission bits that new files and directories do not get; 022 unless said otherwise. The process' own
    /// umask plays no part.
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = umask & 0o777;
        self
    }

    /// Opens the merged view.
    ///
    /// # Errors
    /// `InvalidInput` when no scratch was named; what the layers and the scratch say, by their paths: a
    /// directory that is missing or unsuitable, an upper in use by another container (`Busy`), a damaged one.
    pub fn open(self) -> Result<Container> {
        let (scratch, fresh) = match self.scratch {
            Place::Nowhere => {
                return Err(Error::new(ErrorKind::InvalidInput, "open container")
                    .because("no scratch was named; for a read-only view use Image::view"));
            }
            Place::Fresh => (MemScratch::new().into(), true),
            Place::Memory(scratch) => (scratch.into(), false),
            Place::Dirs { upper, work } => open_dirs(&upper, &work, &self.options)?,
            Place::Under(dir) => {
                make_dir(&dir)?;
                open_dirs(&dir.join("upper"), &dir.join("work"), &self.options)?
            }
        };
        let stack = Stack { layers: self.image.layers().to_vec(), scratch: Some(scratch) };
        let container = Container { umask: self.umask, ..Container::over(View::new(stack, self.config)?) };
        if fresh {
            take_over_root(&container.view)?;
        }
        Ok(container)
    }
}

/// Gives a new scratch the attributes of the topmost layer's root, as a copy-up would: the root of a merged view
/// has those of the upper, from the first moment.
fn take_over_root(view: &Engine) -> Result<()> {
    let Some(layer) = view.layers().first() else { return Ok(()) };
    let (below, root, caller) = (layer.root()?, view.root(), Caller::root());
    for name in layer.xattrs(&below.node)? {
        let Some(value) = layer.xattr(&below.node, &name)? else { continue };
        match view.set_xattr(&root, &name, &value, SetXattr::Any, &caller) {
            // What this host does not let this process have: labels and capabilities, mostly.
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::NotPermitted) => {}
            done => done?,
        }
    }
    view.set_attr(&root, &SetAttr::all_of(&below.attr), &caller)
}

/// The scratch in two directories, and whether it was made for this.
fn open_dirs(upper: &Path, work: &Path, options: &ScratchOptions) -> Result<(AnyScratch, bool)> {
    let fresh = !upper.exists();
    let scratch = match fresh {
        true => DirScratch::create(upper, work, options),
        false => DirScratch::open(upper, work, options),
    };
    Ok((scratch?.into(), fresh))
}

fn make_dir(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::io(e, "create scratch").about(dir.as_os_str().as_bytes()))
        }
        _ => Ok(()),
    }
}

impl Container {
    /// Starts a container over `image`; the builder wants to know where changes go.
    pub fn builder(image: Image) -> ContainerBuilder {
        ContainerBuilder {
            image,
            scratch: Place::Nowhere,
            options: ScratchOptions::default(),
            config: Config::default(),
            umask: UMASK,
        }
    }

    pub(crate) fn over(view: Engine) -> Self {
        let base = view.root();
        Self { view, base, caller: Arc::new(Caller::root()), umask: UMASK }
    }

    /// The engine by inode and handle, for servers such as FUSE or 9p.
    #[must_use]
    pub fn view(&self) -> &View<AnyLayer, AnyScratch> {
        &self.view
    }

    /// The same container in the eyes of another caller: permissions are checked, new objects are the
    /// caller's.
    ///
    /// ```
    /// # use stratafs::{Caller, Container, ErrorKind, Image};
    /// let container = Container::builder(Image::default()).in_memory().open()?;
    /// container.write("/secret", "x")?;
    /// container.set_permissions("/secret", 0o600)?;
    /// let user = container.as_caller(Caller::user(1000, 1000));
    /// assert_eq!(user.read("/secret").unwrap_err().kind(), ErrorKind::PermissionDenied);
    /// # Ok::<(), stratafs::Error>(())
    /// ```
    #[must_use]
    pub fn as_caller(&self, caller: Caller) -> Self {
        Self { caller: Arc::new(caller), ..self.clone() }
    }

    /// The same container with relative paths starting at the directory `path`, which stays the start when it
    /// is renamed. Absolute paths still start at the root.
    ///
    /// # Errors
    /// What resolution says; `NotADirectory`.
    pub fn dir(&self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let base = self.resolve(path, Follow::Yes, "open directory")?;
        if base.kind() != crate::Kind::Dir {
            return Err(asked(path, "open directory")(Error::new(
                ErrorKind::NotADirectory,
                "open directory",
            )));
        }
        Ok(Self { base, ..self.clone() })
    }

    /// What was changed, sorted by path: at a cost of what changed, not of what exists.
    ///
    /// # Errors
    /// What the layers and the scratch say.
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.view.changes()
    }

    /// Makes everything durable that was done before the call.
    ///
    /// # Errors
    /// What the scratch says.
    pub fn sync(&self) -> Result<()> {
        self.view.sync()
    }

    /// Makes everything durable and closes the container; of a scratch with [`ScratchOptions::volatile`] it takes
    /// the mark away, without which the scratch is refused the next time.
    ///
    /// # Errors
    /// `Busy` while clones, files or directories of it are in use: it stays open through those.
    pub fn close(self) -> Result<()> {
        self.sync()?;
        let Self { view, base, .. } = self;
        drop(base);
        match view.into_scratch() {
            Ok(Some(AnyScratch::Dir(scratch))) => scratch.close(),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Busy, "close container")
                .because("clones, files or directories of it are still in use")),
        }
    }

    /// Space and limits of what holds the changes.
    ///
    /// # Errors
    /// `ReadOnly` for the view of an image.
    pub fn stat_fs(&self) -> Result<StatFs> {
        self.view.stat_fs()
    }

    pub(crate) fn resolve(&self, path: &Path, follow: Follow, operation: &'static str) -> Result<Inode> {
        self.view
            .resolve(&self.base, path.as_os_str().as_bytes(), follow, &self.caller)
            .map_err(asked(path, operation))
    }
}

/// Puts the caller's question into an error.
pub(crate) fn asked<'a>(path: &'a Path, operation: &'static str) -> impl Fn(Error) -> Error + 'a {
    move |e| e.asked(operation, path.as_os_str().as_bytes())
}

/// As [`asked`], for calls with two paths.
pub(crate) fn asked_two<'a>(
    from: &'a Path,
    to: &'a Path,
    operation: &'static str,
) -> impl Fn(Error) -> Error + 'a {
    move |e| {
        let both = [from.as_os_str().as_bytes(), b" -> ", to.as_os_str().as_bytes()].concat();
        e.asked(operation, both)
    }
}

/// The engine's error inside an [`std::io::Error`] that one of our readers or writers gave, kind and all.
pub(crate) fn from_io(error: std::io::Error, operation: &'static str) -> Error {
    error.downcast::<Error>().unwrap_or_else(|e| Error::io(e, operation))
}
