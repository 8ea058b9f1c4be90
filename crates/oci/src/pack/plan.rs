//! From a change list to the paths of a layer. Invariant: over the base, the items of a plan hide what is gone and name
//! what is there; every item's parents are items, and whoever is below an opaque directory is an item too.

use super::emit::{changed, children, join};
use crate::apply::go_on;
use crate::whiteout::whiteout_name;
use crate::{Progress, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use stratafs_core::{Change, Inode, Kind, Layer, Name, Scratch, View, What};

/// What a layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// The object that the view shows.
    Object {
        /// It is a directory that hides what the base has there.
        opaque: bool,
    },
    /// The name is deleted.
    Whiteout,
    /// A socket in place of something of the base: no archive has sockets, so all that can be said is the deletion.
    Socket,
}

/// The paths of a layer in order, as [`key`]s.
pub(super) type Plan = BTreeMap<Vec<u8>, Item>;

/// A path in a form whose byte order puts a directory right before what is in it: no name has a NUL.
pub(super) fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
}

/// The path of a key.
pub(super) fn path_of(key: &[u8]) -> Vec<u8> {
    key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect()
}

/// The path of the directory that a path is in; `None` for the root.
fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    path.get(..end)
}

fn name_of(path: &[u8]) -> Result<Name<'_>> {
    Name::new(path.rsplit(|b| *b == b'/').next().unwrap_or_default())
}

/// The directories above a path, nearest first, without the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(path), |path| parent(path)).filter(|path| !path.is_empty())
}

/// What leaves a place of the base.
struct Gone {
    was_dir: bool,
}

pub(super) fn plan<L: Layer, S: Scratch>(
    view: &View<L, S>,
    changes: &[Change],
    progress: &dyn Progress,
) -> Result<Plan> {
    let mut planner = Planner { view, progress, plan: Plan::new() };
    // Directories that came as a whole: what a change list says of places inside is about what they brought along.
    let arrived: BTreeSet<&[u8]> = changes
        .iter()
        .filter(|c| c.kind == Kind::Dir && matches!(c.what, What::Added | What::Renamed { .. }))
        .map(|c| c.path.as_slice())
        .collect();
    let mut gone = BTreeMap::<&[u8], Gone>::new();
    for change in changes {
        go_on(progress)?;
        let was_dir = change.kind == Kind::Dir;
        match &change.what {
            What::Deleted if above(&change.path).any(|dir| arrived.contains(dir)) => {}
            What::Deleted => {
                gone.entry(&change.path).or_insert(Gone { was_dir }).was_dir |= was_dir;
            }
            What::Renamed { from, .. } => {
                gone.entry(from).or_insert(Gone { was_dir }).was_dir |= was_dir;
                planner.object(&change.path)?;
                if was_dir {
                    planner.everything_in(&change.path)?;
                }
            }
            What::Added | What::Modified(_) => planner.object(&change.path)?,
        }
    }
    for (path, Gone { was_dir }) in &gone {
        // What was in a directory that is gone went with it.
        if !above(path).any(|dir| gone.contains_key(dir)) {
            planner.gone(path, *was_dir)?;
        }
    }
    planner.all_names()?;
    if !planner.plan.is_empty() {
        planner.plan.entry(Vec::new()).or_insert(Item::Object { opaque: false });
    }
    Ok(planner.plan)
}

struct Planner<'a, L: Layer, S: Scratch> {
    view: &'a View<L, S>,
    progress: &'a dyn Progress,
    plan: Plan,
}

impl<L: Layer, S: Scratch> Planner<'_, L, S> {
    fn parents(&mut self, path: &[u8]) {
        for dir in above(path) {
            self.plan.entry(key(dir)).or_insert(Item::Object { opaque: false });
        }
    }

    fn object(&mut self, path: &[u8]) -> Result<()> {
        self.parents(path);
        self.plan.entry(key(path)).or_insert(Item::Object { opaque: false });
        go_on(self.progress)
    }

    /// The object at a path, if there is one.
    fn find(&self, path: &[u8]) -> Result<Option<Inode<L, S>>> {
        let mut here = self.view.root();
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            if !here.is_dir() {
                return Ok(None);
            }
            match self.view.lookup(&here, Name::new(part)?)? {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn everything_in(&mut self, path: &[u8]) -> Result<()> {
        let dir = self.find(path)?.filter(Inode::is_dir).ok_or_else(|| changed(path))?;
        let mut dirs = vec![(path.to_vec(), dir)];
        while let Some((path, dir)) = dirs.pop() {
            for (name, kind) in children(self.view, &dir)? {
                let path = join(&path, name.as_bytes());
                self.object(&path)?;
                if kind == Kind::Dir {
                    let child = self.view.lookup(&dir, name.as_name())?.ok_or_else(|| changed(&path))?;
                    dirs.push((path, child));
                }
            }
        }
        Ok(())
    }

    fn gone(&mut self, path: &[u8], was_dir: bool) -> Result<()> {
        match self.find(path)?.map(|now| now.kind()) {
            Some(Kind::Dir) if was_dir => {
                self.object(path)?;
                self.plan.insert(key(path), Item::Object { opaque: true });
                Ok(())
            }
            Some(Kind::Socket) => self.hide(path, Item::Socket),
            // Whatever else stands there hides what is below by itself.
            Some(_) => Ok(()),
            None => self.hide(path, Item::Whiteout),
        }
    }

    fn hide(&mut self, path: &[u8], item: Item) -> Result<()> {
        self.parents(path);
        match (whiteout_name(name_of(path)?), parent(path)) {
            (Err(_), Some(dir)) => {
                self.plan.insert(key(dir), Item::Object { opaque: true });
                self.everything_in(dir)
            }
            (said, _) => {
                said?;
                self.plan.insert(key(path), item);
                Ok(())
            }
        }
    }

    /// Adds the names that are missing of objects which have several.
    fn all_names(&mut self) -> Result<()> {
        let mut linked = HashMap::<u64, (Inode<L, S>, u32)>::new();
        let mut walk = Steps::new(self.view);
        for (key, item) in &self.plan {
            if !matches!(item, Item::Object { .. }) {
                continue;
            }
            let path = path_of(key);
            let inode = walk.to(&path)?;
            if !inode.is_dir() {
                let nlink = self.view.attr(&inode)?.nlink;
                if nlink > 1 {
                    let (_, missing) = linked.entry(inode.ino()).or_insert((inode, nlink));
                    *missing = missing.saturating_sub(1);
                }
            }
        }
        linked.retain(|_, (_, missing)| *missing > 0);
        if linked.is_empty() {
            return Ok(());
        }
        let mut dirs = vec![(Vec::new(), self.view.root())];
        while let Some((path, dir)) = dirs.pop() {
            let mut seen = Vec::new();
            self.view.open_dir(&dir, &stratafs_core::Caller::root())?.read(0, &mut |entry| {
                if entry.kind == Kind::Dir || linked.contains_key(&entry.ino) {
                    seen.push(entry.name.to_buf());
                }
                std::ops::ControlFlow::Continue(())
            })?;
            for name in seen {
                let path = join(&path, name.as_bytes());
                let inode = self.view.lookup(&dir, name.as_name())?.ok_or_else(|| changed(&path))?;
                if inode.is_dir() {
                    dirs.push((path, inode));
                } else if linked.get(&inode.ino()).is_some_and(|(known, _)| *known == inode) {
                    self.object(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Looks up paths that come in the order of a plan, each directory once.
pub(super) struct Steps<'a, L: Layer, S: Scratch> {
    view: &'a View<L, S>,
    dirs: Vec<(Vec<u8>, Inode<L, S>)>,
}

impl<'a, L: Layer, S: Scratch> Steps<'a, L, S> {
    pub(super) fn new(view: &'a View<L, S>) -> Self {
        Self { view, dirs: Vec::new() }
    }

    /// The object at a path, which the plan says is there.
    pub(super) fn to(&mut self, path: &[u8]) -> Result<Inode<L, S>> {
        let Some(dir) = parent(path) else { return Ok(self.view.root()) };
        let within = |inner: &[u8], outer: &[u8]| {
            inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(b"/"))
        };
        while self.dirs.last().is_some_and(|(known, _)| !within(dir, known)) {
            self.dirs.pop();
        }
        let here = self.dirs.last().map_or_else(|| self.view.root(), |(_, inode)| inode.clone());
        // Parents come first, so that the directory is the last one that was passed.
        let found = self.view.lookup(&here, name_of(path)?)?.ok_or_else(|| changed(path))?;
        if found.is_dir() {
            self.dirs.push((path.to_vec(), found.clone()));
        }
        Ok(found)
    }
}
