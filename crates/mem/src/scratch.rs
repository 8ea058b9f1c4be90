//! [`MemScratch`]: the writable top in memory, verb by verb as [`Scratch`] documents them.

use crate::clock::Clock;
use crate::file::{Access, MemFile};
use crate::fs::{Fs, Options};
use crate::layer::MemLayer;
use crate::limits::Limits;
use crate::object::{MemNode, Object, State};
use std::sync::Arc;
use stratafs_core::{
    At, ErrorKind, Features, Hit, Kind, Leave, Mark, Origin, Over, Result, Scratch, Seed, SetAttr, SetTime,
    SetXattr, StatFs, Sync, Time,
};

const NANOS_PER_SEC: u32 = 1_000_000_000;

/// A scratch in memory. Cloning gives another handle of the same one, which is how a view on it is closed and
/// opened again.
///
/// # Choices where the trait leaves one
/// - A verb whose node is not what stands at the name it gives fails with `ESTALE`, or with `ENOENT` when no
///   object stands there. [`Over::Whiteout`] and [`Over::Object`] need the one or the other to be there, or
///   else fail with `ENOENT`. A node of another file system is `EXDEV`.
/// - Renaming between two names of one object does nothing (rename(2)).
/// - Access times follow Linux's `relatime` for file data and link targets; listing a directory is no access.
/// - Marks are bookkeeping and change no times.
/// - An index entry is a name, so it counts as a link.
#[derive(Debug, Clone)]
pub struct MemScratch {
    pub(crate) fs: Arc<Fs>,
}

/// An object without a name. Dropping it removes it with all that was published in it.
#[derive(Debug)]
pub struct MemStaged(MemNode);

impl Default for MemScratch {
    fn default() -> Self {
        Self::new()
    }
}

impl MemScratch {
    /// An empty scratch with the host's clock, without limits, with every feature.
    #[must_use]
    pub fn new() -> Self {
        Options::default().scratch()
    }

    /// An empty scratch that takes its times from `clock`.
    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Options::default().clock(clock).scratch()
    }

    /// An empty scratch that holds at most this much.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Options::default().limits(limits).scratch()
    }

    /// Freezes the scratch into a read-only layer, whiteouts and marks included. For every other handle of it,
    /// and for open files, changes are `EROFS` from here on.
    #[must_use]
    pub fn seal(self) -> MemLayer {
        self.fs.seal()
    }

    /// Changes one object's state in one step.
    fn change(
        &self,
        operation: &'static str,
        node: &MemNode,
        change: impl FnOnce(&Object, &mut State, Time) -> Result<(), ErrorKind>,
    ) -> Result<()> {
        let object = self.fs.own(node).map_err(self.fs.failed(operation))?;
        let changed = self.fs.change(object, |state, now| change(object, state, now));
        changed.map_err(self.fs.failed(operation))
    }

    fn needs(&self, feature: bool, operation: &'static str) -> Result<()> {
        if feature { Ok(()) } else { Err(self.fs.failed(operation)(ErrorKind::Unsupported)) }
    }
}

impl Scratch for MemScratch {
    type Staged = MemStaged;

    fn features(&self) -> Features {
        self.fs.features
    }

    /// As the trait says; the target of a symbolic link is refused when it is empty (`ENOENT`) or does not fit
    /// a path (`ENAMETOOLONG`), as symlink(2) does.
    fn stage(&self, seed: &Seed<'_>) -> Result<MemStaged> {
        let object = self.fs.make(seed).map_err(self.fs.failed("stage"))?;
        Ok(MemStaged(MemNode(object)))
    }

    fn staged<'a>(&self, staged: &'a MemStaged) -> &'a MemNode {
        &staged.0
    }

    fn publish(&self, staged: MemStaged, at: At<'_, MemNode>, over: Over) -> Result<MemNode> {
        self.fs.publish(&staged.0, at, over).map_err(self.fs.failed_at("publish", at.name))?;
        Ok(staged.0)
    }

    fn publish_indexed(&self, staged: MemStaged, origin: &Origin) -> Result<MemNode> {
        self.needs(self.fs.features.index, "publish in the index")?;
        self.fs.index(&staged.0, origin).map_err(self.fs.failed("publish in the index"))?;
        Ok(staged.0)
    }

    fn keep(&self, staged: MemStaged) -> Result<MemNode> {
        Ok(staged.0)
    }

    fn indexed(&self, origin: &Origin) -> Result<Option<Hit<MemNode>>> {
        let tree = self.fs.tree.read();
        Ok(tree.index.get(origin).map(|object| object.hit()))
    }

    fn index_entries(&self) -> Result<Vec<(Origin, Hit<MemNode>)>> {
        let tree = self.fs.tree.read();
        Ok(tree.index.iter().map(|(origin, object)| (origin.clone(), object.hit())).collect())
    }

    fn drop_indexed(&self, origin: &Origin) -> Result<()> {
        self.fs.unindex(origin).map_err(self.fs.failed("drop from the index"))
    }

    fn link(&self, node: &MemNode, at: At<'_, MemNode>, over: Over) -> Result<MemNode> {
        self.fs.link(node, at, over).map_err(self.fs.failed_at("link", at.name))?;
        Ok(node.clone())
    }

    fn rename(
        &self,
        node: &MemNode,
        from: At<'_, MemNode>,
        to: At<'_, MemNode>,
        leave: Leave,
        over: Over,
    ) -> Result<MemNode> {
        self.fs.rename(node, from, to, leave, over).map_err(self.fs.failed_at("rename", from.name))?;
        Ok(node.clone())
    }

    fn exchange(
        &self,
        a: (&MemNode, At<'_, MemNode>),
        b: (&MemNode, At<'_, MemNode>),
    ) -> Result<(MemNode, MemNode)> {
        self.fs.exchange(a, b).map_err(self.fs.failed_at("exchange", a.1.name))?;
        Ok((b.0.clone(), a.0.clone()))
    }

    fn remove(&self, node: &MemNode, at: At<'_, MemNode>, leave: Leave) -> Result<()> {
        self.fs.remove(node, at, leave).map_err(self.fs.failed_at("remove", at.name))
    }

    fn whiteout(&self, at: At<'_, MemNode>) -> Result<()> {
        self.fs.whiteout(at).map_err(self.fs.failed_at("whiteout", at.name))
    }

    fn clear(&self, node: &MemNode, at: At<'_, MemNode>) -> Result<MemNode> {
        self.fs.clear(node, at).map_err(self.fs.failed_at("clear", at.name))
    }

    fn pin(&self, node: &MemNode) -> Result<MemNode> {
        Ok(node.clone())
    }

    fn open_write(&self, node: &MemNode) -> Result<MemFile> {
        let _tree = self.fs.tree_to_touch().map_err(self.fs.failed("open for writing"))?;
        self.fs.open(node, Access::ReadWrite).map_err(self.fs.failed("open for writing"))
    }

    /// As the trait says; the mode of a symbolic link cannot be changed (`EOPNOTSUPP`, fchmodat(2)).
    fn set_attr(&self, node: &MemNode, set: &SetAttr) -> Result<()> {
        self.change("set attributes", node, |object, state, now| {
            if set.mode.is_some() && object.kind == Kind::Symlink {
                return Err(ErrorKind::Unsupported);
            }
            let atime = set.atime.map(|time| resolve(time, now)).transpose()?;
            let mtime = set.mtime.map(|time| resolve(time, now)).transpose()?;
            state.mode = set.mode.map_or(state.mode, |mode| mode & 0o7777);
            state.uid = set.uid.unwrap_or(state.uid);
            state.gid = set.gid.unwrap_or(state.gid);
            state.atime = atime.unwrap_or(state.atime);
            state.mtime = mtime.unwrap_or(state.mtime);
            if !set.is_empty() {
                state.ctime = now;
            }
            Ok(())
        })
    }

    fn set_xattr(&self, node: &MemNode, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.change("set xattr", node, |_, state, now| {
            state.xattrs.set(name, value, how)?;
            state.ctime = now;
            Ok(())
        })
    }

    fn remove_xattr(&self, node: &MemNode, name: &[u8]) -> Result<()> {
        self.change("remove xattr", node, |_, state, now| {
            state.xattrs.remove(name)?;
            state.ctime = now;
            Ok(())
        })
    }

    /// As the trait says; a mark that the kind of object cannot carry is `ENOTDIR` or `EINVAL`.
    fn mark(&self, node: &MemNode, mark: Mark<'_>) -> Result<()> {
        match mark {
            Mark::Redirect(_) => self.needs(self.fs.features.redirect, "mark")?,
            Mark::Metacopy => self.needs(self.fs.features.metacopy, "mark")?,
            Mark::Nlink(_) => self.needs(self.fs.features.index, "mark")?,
            Mark::Opaque | Mark::OwnData | Mark::Origin(_) | Mark::Impure => {}
        }
        self.change("mark", node, |object, state, _| {
            match (mark, object.kind) {
                (Mark::Opaque | Mark::Impure, kind) if kind != Kind::Dir => {
                    return Err(ErrorKind::NotADirectory);
                }
                (Mark::Metacopy | Mark::OwnData, kind) if kind != Kind::File => {
                    return Err(ErrorKind::InvalidInput);
                }
                _ => {}
            }
            let marks = &mut state.marks;
            match mark {
                Mark::Opaque => marks.opaque = true,
                Mark::Redirect(to) => marks.redirect = Some(to.clone()),
                Mark::Metacopy => marks.metacopy = true,
                Mark::OwnData => marks.metacopy = false,
                Mark::Origin(origin) => marks.origin = Some(origin.clone()),
                Mark::Impure => marks.impure = true,
                Mark::Nlink(base) => marks.nlink = Some(base),
            }
            Ok(())
        })
    }

    fn sync(&self, _node: &MemNode, _how: Sync) -> Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        Ok(())
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(self.fs.space.stat_fs())
    }
}

fn resolve(time: SetTime, now: Time) -> Result<Time, ErrorKind> {
    match time {
        SetTime::Now => Ok(now),
        SetTime::At(time) if time.nanos < NANOS_PER_SEC => Ok(time),
        SetTime::At(_) => Err(ErrorKind::InvalidInput),
    }
}
