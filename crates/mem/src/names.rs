//! The verbs that change names. Each checks everything first, under the exclusive tree lock, and then makes
//! changes that cannot fail: whoever takes the tree lock sees all of a verb or nothing of it.

use crate::fs::Fs;
use crate::object::{Body, Directory, Entry, MemNode, Object};
use std::sync::{Arc, Weak};
use stratafs_core::{At, Device, ErrorKind, Kind, Leave, Marks, Name, Origin, Over, Seed, Time};

type Checked<T> = Result<T, ErrorKind>;

/// A place whose directory was found to be one of ours, and alive.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: &'a Arc<Object>,
    name: Name<'a>,
}

impl Place<'_> {
    fn entry(&self) -> Checked<Option<Entry>> {
        Ok(self.dir.state.read().dir()?.names.get(self.name.as_bytes()).cloned())
    }

    /// Checks that `object` stands here: `ENOENT` when nothing does, `ESTALE` when another object does.
    fn holds(&self, object: &Arc<Object>) -> Checked<()> {
        match self.entry()? {
            Some(Entry::Object(found)) if Arc::ptr_eq(&found, object) => Ok(()),
            Some(Entry::Object(_)) => Err(ErrorKind::Stale),
            Some(Entry::Whiteout) | None => Err(ErrorKind::NotFound),
        }
    }

    /// Checks that `incoming` may take this place, with rename(2)'s errors; gives the object that has to go,
    /// which may be `incoming` itself.
    fn admits(&self, incoming: &Arc<Object>, over: Over) -> Checked<Option<Arc<Object>>> {
        let old = match (self.entry()?, over) {
            (None, Over::Nothing) | (Some(Entry::Whiteout), Over::Whiteout) => return Ok(None),
            (Some(_), Over::Nothing) | (Some(Entry::Object(_)), Over::Whiteout) => {
                return Err(ErrorKind::AlreadyExists);
            }
            (None, Over::Whiteout | Over::Object) | (Some(Entry::Whiteout), Over::Object) => {
                return Err(ErrorKind::NotFound);
            }
            (Some(Entry::Object(old)), Over::Object) => old,
        };
        if Arc::ptr_eq(&old, incoming) {
            return Ok(Some(old));
        }
        match (incoming.is_dir(), old.is_dir()) {
            (false, true) => Err(ErrorKind::IsADirectory),
            (true, false) => Err(ErrorKind::NotADirectory),
            (true, true) if !old.state.read().dir()?.names.is_empty() => Err(ErrorKind::NotEmpty),
            _ => Ok(Some(old)),
        }
    }

    /// Puts `entry` here, or nothing, and keeps the times and link counts of all that it touches.
    fn set(&self, entry: Option<Entry>, now: Time) {
        let arrives = entry.as_ref().and_then(Entry::object).cloned();
        let leaves = {
            let mut state = self.dir.state.write();
            let Ok(dir) = state.dir_mut() else { return };
            let old = match entry {
                Some(entry) => dir.names.insert(self.name.to_buf(), entry),
                None => dir.names.remove(self.name.as_bytes()),
            };
            let leaves = old.and_then(|old| old.object().cloned());
            let subdirs = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|o| o.is_dir()).into();
            let (more, fewer): (u32, u32) = (subdirs(&arrives), subdirs(&leaves));
            state.nlink = state.nlink.saturating_add(more).saturating_sub(fewer);
            state.modified(now);
            leaves
        };
        if let Some(object) = leaves {
            let mut state = object.state.write();
            state.ctime = now;
            if !object.is_dir() {
                state.nlink = state.nlink.saturating_sub(1);
            }
        }
        if let Some(object) = arrives {
            let mut state = object.state.write();
            state.ctime = now;
            match &mut state.body {
                Body::Dir(dir) => dir.parent = Arc::downgrade(self.dir),
                _ => state.nlink = state.nlink.saturating_add(1),
            }
        }
    }
}

/// What a name becomes when its object leaves.
fn left(leave: Leave) -> Option<Entry> {
    match leave {
        Leave::Nothing => None,
        Leave::Whiteout => Some(Entry::Whiteout),
    }
}

/// For an object that lost a name for good: a directory, which has only one, takes no names any more.
fn bury(object: &Object) {
    let mut state = object.state.write();
    if let Ok(dir) = state.dir_mut() {
        dir.parent = Weak::new();
        dir.names.clear();
        state.nlink = 0;
    }
}

/// Whether `dir` is `top` or below it. Walks up only where `top` has something below it, so that new
/// directories cost the same at any depth.
fn is_within(dir: &Arc<Object>, top: &Arc<Object>) -> bool {
    if !top.state.read().dir().is_ok_and(Directory::holds_objects) {
        return Arc::ptr_eq(dir, top);
    }
    let mut next = Some(Arc::clone(dir));
    while let Some(object) = next {
        if Arc::ptr_eq(&object, top) {
            return true;
        }
        next = object.state.read().dir().ok().and_then(|dir| dir.parent.upgrade());
    }
    false
}

impl Fs {
    /// Checks a place: `ENOTDIR` where it is in no directory, `ENOENT` in a removed one.
    fn place<'a>(&self, at: At<'a, MemNode>) -> Checked<Place<'a>> {
        let dir = self.own(at.dir)?;
        let state = dir.state.read();
        state.dir()?;
        if state.nlink == 0 {
            return Err(ErrorKind::NotFound);
        }
        drop(state);
        Ok(Place { dir, name: at.name })
    }

    /// Gives a staged object its first name.
    pub(crate) fn publish(&self, staged: &MemNode, at: At<'_, MemNode>, over: Over) -> Checked<()> {
        self.add_name(self.own(staged)?, at, over)
    }

    /// Gives an object one more name: `EPERM` for a directory, as link(2) has it.
    pub(crate) fn link(&self, node: &MemNode, at: At<'_, MemNode>, over: Over) -> Checked<()> {
        let object = self.own(node)?;
        if object.is_dir() {
            return Err(ErrorKind::NotPermitted);
        }
        self.add_name(object, at, over)
    }

    fn add_name(&self, object: &Arc<Object>, at: At<'_, MemNode>, over: Over) -> Checked<()> {
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let place = self.place(at)?;
        if is_within(place.dir, object) {
            return Err(ErrorKind::InvalidInput);
        }
        let displaced = place.admits(object, over)?;
        if displaced.as_ref().is_some_and(|old| Arc::ptr_eq(old, object)) {
            return Ok(());
        }
        if object.state.read().nlink == u32::MAX {
            return Err(ErrorKind::TooManyLinks);
        }
        place.set(Some(Entry::Object(Arc::clone(object))), now);
        if let Some(old) = displaced {
            bury(&old);
        }
        Ok(())
    }

    /// Moves a name. Two names of one object stay as they are, as rename(2) has it.
    pub(crate) fn rename(
        &self,
        node: &MemNode,
        from: At<'_, MemNode>,
        to: At<'_, MemNode>,
        leave: Leave,
        over: Over,
    ) -> Checked<()> {
        let object = self.own(node)?;
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let from = self.place(from)?;
        from.holds(object)?;
        let to = self.place(to)?;
        if is_within(to.dir, object) {
            return Err(ErrorKind::InvalidInput);
        }
        let displaced = to.admits(object, over)?;
        if displaced.as_ref().is_some_and(|old| Arc::ptr_eq(old, object)) {
            return Ok(());
        }
        from.set(left(leave), now);
        to.set(Some(Entry::Object(Arc::clone(object))), now);
        if let Some(old) = displaced {
            bury(&old);
        }
        Ok(())
    }

    /// Swaps two names.
    pub(crate) fn exchange(
        &self,
        (a, at_a): (&MemNode, At<'_, MemNode>),
        (b, at_b): (&MemNode, At<'_, MemNode>),
    ) -> Checked<()> {
        let (a, b) = (self.own(a)?, self.own(b)?);
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let (at_a, at_b) = (self.place(at_a)?, self.place(at_b)?);
        at_a.holds(a)?;
        at_b.holds(b)?;
        if Arc::ptr_eq(a, b) {
            return Ok(());
        }
        if is_within(at_b.dir, a) || is_within(at_a.dir, b) {
            return Err(ErrorKind::InvalidInput);
        }
        at_a.set(Some(Entry::Object(Arc::clone(b))), now);
        at_b.set(Some(Entry::Object(Arc::clone(a))), now);
        Ok(())
    }

    /// Removes a name; a directory goes with its whiteouts.
    pub(crate) fn remove(&self, node: &MemNode, at: At<'_, MemNode>, leave: Leave) -> Checked<()> {
        let object = self.own(node)?;
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let place = self.place(at)?;
        place.holds(object)?;
        if object.state.read().dir().is_ok_and(Directory::holds_objects) {
            return Err(ErrorKind::NotEmpty);
        }
        place.set(left(leave), now);
        bury(object);
        Ok(())
    }

    /// Puts a whiteout where nothing is.
    pub(crate) fn whiteout(&self, at: At<'_, MemNode>) -> Checked<()> {
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let place = self.place(at)?;
        if place.entry()?.is_some() {
            return Err(ErrorKind::AlreadyExists);
        }
        place.set(Some(Entry::Whiteout), now);
        Ok(())
    }

    /// Replaces a directory of whiteouts by an empty opaque one. Of its marks only that one stays, since an
    /// opaque directory is merged with nothing: the same as overlayfs does before it removes one.
    pub(crate) fn clear(&self, node: &MemNode, at: At<'_, MemNode>) -> Checked<MemNode> {
        let old = self.own(node)?;
        let now = self.now();
        let _tree = self.tree_to_change()?;
        let place = self.place(at)?;
        place.holds(old)?;
        if old.state.read().dir()?.holds_objects() {
            return Err(ErrorKind::NotEmpty);
        }
        let empty = self.empty_like(old, now)?;
        place.set(Some(Entry::Object(Arc::clone(&empty))), now);
        bury(old);
        Ok(MemNode(empty))
    }

    fn empty_like(&self, old: &Object, now: Time) -> Checked<Arc<Object>> {
        let attr = old.attr();
        let xattrs = old.state.read().xattrs.clone();
        let seed = Seed {
            kind: Kind::Dir,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            rdev: Device::default(),
            target: b"",
        };
        let empty = self.make_at(&seed, now)?;
        let mut state = empty.state.write();
        state.xattrs = xattrs;
        state.atime = attr.atime;
        state.mtime = attr.mtime;
        state.marks = Marks { opaque: true, ..Marks::default() };
        drop(state);
        Ok(empty)
    }

    /// Enters an object into the index, which counts as a name of it: `EPERM` for a directory.
    pub(crate) fn index(&self, node: &MemNode, origin: &Origin) -> Checked<()> {
        let object = self.own(node)?;
        if object.is_dir() {
            return Err(ErrorKind::NotPermitted);
        }
        let now = self.now();
        let mut tree = self.tree_to_change()?;
        if tree.index.contains_key(origin) {
            return Err(ErrorKind::AlreadyExists);
        }
        tree.index.insert(origin.clone(), Arc::clone(object));
        let mut state = object.state.write();
        state.nlink = state.nlink.saturating_add(1);
        state.ctime = now;
        Ok(())
    }

    /// Takes an entry out of the index, if it is there.
    pub(crate) fn unindex(&self, origin: &Origin) -> Checked<()> {
        let now = self.now();
        let mut tree = self.tree_to_change()?;
        if let Some(object) = tree.index.remove(origin) {
            let mut state = object.state.write();
            state.nlink = state.nlink.saturating_sub(1);
            state.ctime = now;
        }
        Ok(())
    }
}
