//! [`LayerBuilder`]: a layer written down call by call, for fixtures and for layers made on the fly.

use crate::layer::MemLayer;
use crate::object::MemNode;
use crate::scratch::MemScratch;
use std::collections::HashSet;
use stratafs_core::{
    At, Device, Error, ErrorKind, FileId, Found, Kind, Layer, Mark, Name, Origin, Over, Redirect, Result,
    Scratch, Seed, SetAttr, SetTime, SetXattr, Time, WriteAt,
};

const DIR_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Builds a [`MemLayer`].
///
/// Paths are components with `/` between them, from the layer's root; the empty path is the root itself.
/// Missing parents are made, with mode 0755. New objects belong to root; files and nodes have mode 0644. The
/// first call that fails is what [`LayerBuilder::build`] reports; all later calls do nothing.
///
/// ```
/// use stratafs_mem::MemLayer;
///
/// let layer = MemLayer::builder()
///     .dir("etc", 0o755)
///     .file("etc/hostname", "box\n")
///     .symlink("bin", "usr/bin")
///     .whiteout("tmp/old")
///     .build()?;
/// # let _: MemLayer = layer;
/// # Ok::<(), stratafs_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct LayerBuilder {
    scratch: MemScratch,
    /// Parents that were made in passing, which [`LayerBuilder::dir`] may still take over.
    implied: HashSet<FileId>,
    failed: Result<()>,
}

impl LayerBuilder {
    pub(crate) fn over(scratch: MemScratch) -> Self {
        Self { scratch, implied: HashSet::new(), failed: Ok(()) }
    }

    /// The layer.
    ///
    /// # Errors
    /// The first that a call met: `EEXIST` for a path that was there already, `ENOENT` for one that must be and
    /// is not, `EINVAL` for a bad name, and what [`Scratch`]'s verbs give.
    pub fn build(self) -> Result<MemLayer> {
        self.failed?;
        Ok(self.scratch.seal())
    }

    /// A directory. The root, and a directory that exists as the parent of another path, take over the mode.
    pub fn dir(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.then(path, |b, path| {
            if let Ok(node) = b.find(path) {
                let id = b.scratch.attr(&node)?.id;
                if path.is_empty() || b.implied.remove(&id) {
                    return b.scratch.set_attr(&node, &SetAttr { mode: Some(mode), ..SetAttr::default() });
                }
            }
            b.make(path, &Seed { mode, ..seed(Kind::Dir) }).map(drop)
        })
    }

    /// A regular file with these bytes.
    pub fn file(self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.sparse(path, bytes.len() as u64, &[(0, bytes)])
    }

    /// A regular file of `len` bytes that is a hole but for these runs of data.
    pub fn sparse(self, path: impl AsRef<[u8]>, len: u64, runs: &[(u64, &[u8])]) -> Self {
        self.then(path, |b, path| {
            let node = b.make(path, &seed(Kind::File))?;
            let file = b.scratch.open_write(&node)?;
            for &(offset, bytes) in runs {
                let mut done = 0;
                while done < bytes.len() {
                    done += file.write_at(&bytes[done..], offset + done as u64)?;
                }
            }
            file.set_len(len)
        })
    }

    /// A regular file of `len` bytes whose data is in a layer below.
    pub fn metacopy(self, path: impl AsRef<[u8]>, len: u64) -> Self {
        let path = path.as_ref();
        self.sparse(path, len, &[]).mark(path, Mark::Metacopy)
    }

    /// A symbolic link.
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let target = target.as_ref();
        self.then(path, |b, path| b.make(path, &Seed { target, ..seed(Kind::Symlink) }).map(drop))
    }

    /// A fifo, a socket or a device; `rdev` counts for devices only.
    pub fn node(self, path: impl AsRef<[u8]>, kind: Kind, rdev: Device) -> Self {
        self.then(path, |b, path| b.make(path, &Seed { rdev, ..seed(kind) }).map(drop))
    }

    /// One more name for the object at `existing`.
    pub fn hard_link(self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> Self {
        self.then(path, |b, path| {
            let node = b.find(existing.as_ref())?;
            let (dir, name) = b.parent(path)?;
            b.scratch.link(&node, At { dir: &dir, name }, Over::Nothing).map(drop)
        })
    }

    /// A whiteout.
    pub fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        self.then(path, |b, path| {
            let (dir, name) = b.parent(path)?;
            b.scratch.whiteout(At { dir: &dir, name })
        })
    }

    /// Marks a directory opaque; makes it where it is missing.
    pub fn opaque(self, path: impl AsRef<[u8]>) -> Self {
        self.then(path, |b, path| {
            let node = b.reach(path)?;
            b.scratch.mark(&node, Mark::Opaque)
        })
    }

    /// Marks the object as known below under another name: a sibling's, or a path from the root behind `/`.
    pub fn redirect(self, path: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Self {
        match Redirect::parse(to.as_ref()) {
            Ok(redirect) => self.mark(path, Mark::Redirect(&redirect)),
            Err(error) => self.then(path, |_, _| Err(error)),
        }
    }

    /// Marks the object as copied up from `origin`.
    pub fn origin(self, path: impl AsRef<[u8]>, origin: &Origin) -> Self {
        self.mark(path, Mark::Origin(origin))
    }

    /// Sets an extended attribute by its full name.
    pub fn xattr(self, path: impl AsRef<[u8]>, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.then(path, |b, path| {
            b.scratch.set_xattr(&b.find(path)?, name.as_ref(), value.as_ref(), SetXattr::Any)
        })
    }

    /// Sets owner and group.
    pub fn owner(self, path: impl AsRef<[u8]>, uid: u32, gid: u32) -> Self {
        self.set(path, SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() })
    }

    /// Sets the permission bits.
    pub fn mode(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.set(path, SetAttr { mode: Some(mode), ..SetAttr::default() })
    }

    /// Sets the times of last access and change of data. To be called when nothing more is added below.
    pub fn times(self, path: impl AsRef<[u8]>, time: Time) -> Self {
        let time = Some(SetTime::At(time));
        self.set(path, SetAttr { atime: time, mtime: time, ..SetAttr::default() })
    }

    fn set(self, path: impl AsRef<[u8]>, set: SetAttr) -> Self {
        self.then(path, |b, path| b.scratch.set_attr(&b.find(path)?, &set))
    }

    fn mark(self, path: impl AsRef<[u8]>, mark: Mark<'_>) -> Self {
        self.then(path, |b, path| b.scratch.mark(&b.find(path)?, mark))
    }

    fn then(mut self, path: impl AsRef<[u8]>, step: impl FnOnce(&mut Self, &[u8]) -> Result<()>) -> Self {
        let path = path.as_ref();
        if self.failed.is_ok() {
            self.failed = step(&mut self, path).map_err(|error| error.about(path));
        }
        self
    }

    fn make(&mut self, path: &[u8], seed: &Seed<'_>) -> Result<MemNode> {
        let (dir, name) = self.parent(path)?;
        let staged = self.scratch.stage(seed)?;
        self.scratch.publish(staged, At { dir: &dir, name }, Over::Nothing)
    }

    /// The directory of `path`, made where it is missing, and the last name.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(MemNode, Name<'a>)> {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        Ok((self.reach(dir)?, Name::new(name)?))
    }

    /// The object at `path`; what is missing becomes a directory.
    fn reach(&mut self, path: &[u8]) -> Result<MemNode> {
        let mut node = self.scratch.root()?.node;
        for name in names(path) {
            let name = name?;
            node = match self.child(&node, name)? {
                Some(child) => child,
                None => {
                    let staged = self.scratch.stage(&Seed { mode: DIR_MODE, ..seed(Kind::Dir) })?;
                    let child = self.scratch.publish(staged, At { dir: &node, name }, Over::Nothing)?;
                    self.implied.insert(self.scratch.attr(&child)?.id);
                    child
                }
            };
        }
        Ok(node)
    }

    /// The object at `path`; `ENOENT` where it is missing.
    fn find(&self, path: &[u8]) -> Result<MemNode> {
        let mut node = self.scratch.root()?.node;
        for name in names(path) {
            let child = self.child(&node, name?)?;
            node = child.ok_or_else(|| Error::new(ErrorKind::NotFound, "build layer"))?;
        }
        Ok(node)
    }

    fn child(&self, dir: &MemNode, name: Name<'_>) -> Result<Option<MemNode>> {
        Ok(match self.scratch.lookup(dir, name)? {
            Found::Node(hit) => Some(hit.node),
            Found::Whiteout | Found::Absent => None,
        })
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Result<Name<'_>>> {
    let parts = (!path.is_empty()).then(|| path.split(|b| *b == b'/'));
    parts.into_iter().flatten().map(Name::new)
}

fn seed(kind: Kind) -> Seed<'static> {
    Seed { kind, mode: FILE_MODE, uid: 0, gid: 0, rdev: Device::default(), target: b"" }
}
