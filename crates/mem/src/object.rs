//! One object: what stands under a name. Its kind, number, device and link target never change; all else is
//! behind its lock. Invariants: a file's link count is the number of its names and index entries, a
//! directory's is 2 + its subdirectories and 0 once it was removed.

use crate::data::{PAGE, Pages};
use crate::limits::InodeCharge;
use crate::xattr::Xattrs;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::sync::{Arc, Weak};
use stratafs_core::{Attr, Device, ErrorKind, FileId, Hit, Kind, Marks, NameBuf, Time};

/// A read is noted again after a day even when nothing changed since the last (mount(8), `relatime`).
const RELATIME_SECS: i64 = 24 * 60 * 60;

/// What a directory has under a name.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Whiteout,
    Object(Arc<Object>),
}

impl Entry {
    pub(crate) fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Self::Whiteout => None,
            Self::Object(object) => Some(object),
        }
    }
}

/// A directory's names; their stored order is the order of their bytes.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) names: BTreeMap<NameBuf, Entry>,
    /// Where the directory stands; dangling for the root and for one without a name.
    pub(crate) parent: Weak<Object>,
}

impl Directory {
    pub(crate) fn holds_objects(&self) -> bool {
        self.names.values().any(|entry| entry.object().is_some())
    }
}

/// What an object has besides its attributes.
#[derive(Debug)]
pub(crate) enum Body {
    File(Pages),
    Dir(Directory),
    Symlink(Box<[u8]>),
    Special(Device),
}

/// What changes about an object.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) xattrs: Xattrs,
    pub(crate) marks: Marks,
    pub(crate) body: Body,
}

impl State {
    /// The names of a directory.
    pub(crate) fn dir(&self) -> Result<&Directory, ErrorKind> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(ErrorKind::NotADirectory),
        }
    }

    /// The names of a directory, to be changed.
    pub(crate) fn dir_mut(&mut self) -> Result<&mut Directory, ErrorKind> {
        match &mut self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(ErrorKind::NotADirectory),
        }
    }

    /// The data of a regular file.
    pub(crate) fn data(&self) -> Result<&Pages, ErrorKind> {
        match &self.body {
            Body::File(pages) => Ok(pages),
            _ => Err(ErrorKind::InvalidInput),
        }
    }

    /// The data of a regular file, to be changed.
    pub(crate) fn data_mut(&mut self) -> Result<&mut Pages, ErrorKind> {
        match &mut self.body {
            Body::File(pages) => Ok(pages),
            _ => Err(ErrorKind::InvalidInput),
        }
    }

    /// Data or names changed.
    pub(crate) fn modified(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
    }

    /// Whether a read at `now` must be noted: Linux's default, `relatime`.
    pub(crate) fn access_is_news(&self, now: Time) -> bool {
        self.atime <= self.mtime
            || self.atime <= self.ctime
            || now.secs.saturating_sub(self.atime.secs) >= RELATIME_SECS
    }
}

/// An object. See the module for what holds.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) id: FileId,
    pub(crate) kind: Kind,
    pub(crate) btime: Time,
    pub(crate) state: RwLock<State>,
    pub(crate) _charge: InodeCharge,
}

impl Object {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    pub(crate) fn attr(&self) -> Attr {
        self.attr_of(&self.state.read())
    }

    fn attr_of(&self, state: &State) -> Attr {
        let (size, blocks, rdev) = match &state.body {
            Body::File(pages) => (pages.len(), pages.blocks(), Device::default()),
            Body::Dir(_) => (PAGE, 0, Device::default()),
            Body::Symlink(target) => (target.len() as u64, 0, Device::default()),
            Body::Special(rdev) => (0, 0, *rdev),
        };
        Attr {
            kind: self.kind,
            mode: state.mode,
            uid: state.uid,
            gid: state.gid,
            nlink: state.nlink,
            size,
            blocks,
            blksize: PAGE as u32,
            rdev,
            atime: state.atime,
            mtime: state.mtime,
            ctime: state.ctime,
            btime: Some(self.btime),
            id: self.id,
        }
    }

    pub(crate) fn hit(self: &Arc<Self>) -> Hit<MemNode> {
        let state = self.state.read();
        Hit {
            node: MemNode(Arc::clone(self)),
            attr: self.attr_of(&state),
            marks: state.marks.clone(),
            bare: state.xattrs.is_empty(),
        }
    }
}

/// Takes a tree apart level by level: a chain of directories may be deeper than the stack.
impl Drop for Object {
    fn drop(&mut self) {
        let mut pending = take_names(self);
        while let Some(entry) = pending.pop() {
            if let Entry::Object(object) = entry
                && let Some(mut last) = Arc::into_inner(object)
            {
                pending.append(&mut take_names(&mut last));
            }
        }
    }
}

fn take_names(object: &mut Object) -> Vec<Entry> {
    match object.state.get_mut().dir_mut() {
        Ok(dir) => mem::take(&mut dir.names).into_values().collect(),
        Err(_) => Vec::new(),
    }
}

/// An object of a [`MemLayer`](crate::MemLayer) or [`MemScratch`](crate::MemScratch). It keeps the object
/// alive, whatever happens to its names.
#[derive(Clone)]
pub struct MemNode(pub(crate) Arc<Object>);

impl PartialEq for MemNode {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for MemNode {}

impl Hash for MemNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl fmt::Debug for MemNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemNode({:?} {})", self.0.kind, self.0.id.ino)
    }
}
