//! The change list: what the scratch, and layers that were frozen out of earlier ones, make different from the layers
//! below them, the base. It walks what they hold and nothing else, so that it costs what changed and not what exists.
//!
//! One exception: a lower file with several names that was copied up through one of them changes under the
//! others too, and the scratch does not know these. Only while such a file exists its other names are searched
//! for in the listings of the view.
//!
//! Invariant: applying the list to the image's tree gives the container's tree. Paths inside a renamed directory
//! are given at its new place; where something was is said by its path in the image. A removed directory stands for everything that was in it.

mod compare;
mod parts;

use super::View;
use super::object::{Inode, Lower};
use super::settle::Sighting;
use crate::attr::{FileId, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::merge::{self, Below, ListingBuilder};
use crate::name::{Name, NameBuf};
use crate::scratch::Scratch;
use bitflags::bitflags;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

bitflags! {
    /// What of an object is different.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Aspects: u8 {
        /// The content: of a symbolic link, its target.
        const DATA = 1;
        /// Mode, owner, group or device number.
        const METADATA = 2;
        /// Extended attributes, access lists and capabilities.
        const XATTRS = 4;
        /// The time of the last change of the data.
        const TIMES = 8;
    }
}

/// What happened at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    /// Something is there that was not.
    Added,
    /// What was there is different.
    Modified(Aspects),
    /// What was there is gone, with everything in it.
    Deleted,
    /// What is there was elsewhere, with everything in it.
    Renamed {
        /// Where it was in the image.
        from: Vec<u8>,
        /// What is different besides.
        aspects: Aspects,
    },
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    /// The path from the root, without a leading slash; the root itself is empty.
    pub path: Vec<u8>,
    /// What is there now; of a deletion, what was there.
    pub kind: Kind,
    /// What happened.
    pub what: What,
}

/// A directory that is to be compared.
struct Todo<L: Layer, S: Scratch> {
    dir: Inode<L, S>,
    /// What the image has at this place.
    base: Vec<Lower<L::Node>>,
    place: Place,
}

/// A path, and where it is in the image: elsewhere, inside a renamed directory.
#[derive(Clone, Default)]
struct Place {
    path: Vec<u8>,
    image: Vec<u8>,
}

impl Place {
    fn join(&self, name: Name<'_>) -> Self {
        Self { path: join(&self.path, name), image: join(&self.image, name) }
    }
}

/// A file that is gone from its place: the place, and what it was.
type Departed<N> = (Place, Vec<Lower<N>>);

/// What the changed parts of a directory hold, each name once; `None` is a whiteout.
type Raw = Vec<(NameBuf, Option<Kind>)>;

struct Walk<'v, L: Layer, S: Scratch> {
    view: &'v View<L, S>,
    /// How many layers are above the base.
    newer: usize,
    out: Vec<Change>,
    todo: Vec<Todo<L, S>>,
    /// The changed parts of directories as they were read first, by serial.
    raw: HashMap<u64, Raw>,
    /// Lower directories that are elsewhere now.
    left: HashSet<FileId>,
    /// Files that are gone from their place, by identity.
    deleted: HashMap<FileId, Departed<L::Node>>,
    /// Added files that were copied up from somewhere: path, file, and what it was copied up from.
    arrived: Vec<(Vec<u8>, Inode<L, S>, FileId)>,
    /// What copies in the layers above the base were copied up from.
    origins: HashMap<FileId, FileId>,
    /// How many names of an object are in the changed parts.
    names: HashMap<FileId, u32>,
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// What the container changed, sorted by path; where something was replaced by something of another kind,
    /// the deletion comes before the addition. A read-only view has changed nothing.
    ///
    /// # Errors
    /// What the backends say.
    pub fn changes(&self) -> Result<Vec<Change>> {
        self.compared(0, self.root().lowers().to_vec())
    }

    /// As [`View::changes`], against a base further down: `base` is a view of this one's layers without the topmost
    /// `newer`, which are scratches of earlier times ([`View::settle_links`] was called on each before it was
    /// frozen). The cost is what the scratch and those layers hold.
    ///
    /// A renamed file is told as a deletion and an addition where it came out of a directory that a later one
    /// of those layers replaced as a whole.
    ///
    /// # Errors
    /// `InvalidInput` when `base` is no such view; what the backends say.
    pub fn changes_since(&self, base: &Self, newer: usize) -> Result<Vec<Change>> {
        let wrong = |why: &str| Err(Error::new(ErrorKind::InvalidInput, "compare views").because(why));
        if base.scratch().is_some() {
            return wrong("the base must be read-only: open it without a scratch");
        }
        if base.layers().len() + newer != self.layers().len() {
            return wrong("the base must have this view's layers without the newer ones");
        }
        let mut lowers = base.root().lowers().to_vec();
        for lower in &mut lowers {
            lower.layer += newer;
            if self.layer(lower)?.root()?.attr.id != lower.attr.id {
                return wrong("the base has other layers than this view");
            }
        }
        // Nodes are the backend's and belong to the layer that made them.
        for lower in &mut lowers {
            lower.node = self.layer(lower)?.root()?.node;
        }
        self.compared(newer, lowers)
    }

    fn compared(&self, newer: usize, base: Vec<Lower<L::Node>>) -> Result<Vec<Change>> {
        let mut walk = Walk {
            view: self,
            newer,
            out: Vec::new(),
            todo: Vec::new(),
            raw: HashMap::new(),
            left: HashSet::new(),
            deleted: HashMap::new(),
            arrived: Vec::new(),
            origins: HashMap::new(),
            names: HashMap::new(),
        };
        if !walk.is_touched(&self.root()) {
            return Ok(Vec::new());
        }
        walk.find_renamed()?;
        walk.root(base)?;
        while let Some(todo) = walk.todo.pop() {
            walk.directory(&todo)?;
        }
        walk.match_renamed_files()?;
        walk.other_names()?;
        let mut out = walk.out;
        out.sort_by(|a, b| {
            (&a.path, a.what != What::Deleted, a.kind).cmp(&(&b.path, b.what != What::Deleted, b.kind))
        });
        Ok(out)
    }
}

pub(super) fn join(path: &[u8], name: Name<'_>) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.as_bytes());
    joined
}

fn same_place<N>(a: &[Lower<N>], b: &[Lower<N>]) -> bool {
    match (a.first(), b.first()) {
        (None, None) => true,
        (Some(a), Some(b)) => a.layer == b.layer && a.attr.id == b.attr.id,
        _ => false,
    }
}

fn to_lowers<N>(below: Vec<Below<N>>) -> Vec<Lower<N>> {
    below.into_iter().map(|b| Lower { layer: b.layer, node: b.node, attr: b.attr, bare: b.bare }).collect()
}

impl<L: Layer, S: Scratch> Walk<'_, L, S> {
    fn push(&mut self, path: Vec<u8>, kind: Kind, what: What) {
        self.out.push(Change { path, kind, what });
    }

    /// What the image has for a name of a place in it.
    fn base_of(&self, base: &[Lower<L::Node>], name: Name<'_>) -> Result<Vec<Lower<L::Node>>> {
        let parent = base.iter().map(|lower| (lower.layer, &lower.node));
        let below = merge::below(&self.view.0.roots, parent, name, None, |layer, node, name| {
            self.ask(layer, node, name)
        })?;
        Ok(to_lowers(below))
    }

    /// What the image has at the place of an object, where the object itself knows it: it is merged with that, or
    /// has its data there, and was not renamed.
    fn base_known(
        &self,
        dir: &Inode<L, S>,
        base: &[Lower<L::Node>],
        child: &Inode<L, S>,
    ) -> Option<Vec<Lower<L::Node>>> {
        if self.newer > 0 {
            return None;
        }
        let state = child.0.state.read();
        let rests_below = child.is_dir() || state.is_metacopy();
        let by_name = state.redirect.is_none() && state.parent.as_ref() == Some(dir);
        let known = rests_below && by_name && state.nlink.is_none() && same_place(dir.lowers(), base);
        (known && !child.lowers().is_empty()).then(|| child.lowers().to_vec())
    }

    /// Finds the directories that were renamed, so that what they left is not taken for what came after.
    fn find_renamed(&mut self) -> Result<()> {
        let mut dirs = vec![self.view.root()];
        while let Some(dir) = dirs.pop() {
            let raw = self.read_raw(&dir)?;
            for (name, _) in raw.iter().filter(|(_, kind)| *kind == Some(Kind::Dir)) {
                let Some(child) = self.view.lookup(&dir, name.as_name())? else { continue };
                if let (Some(top), true) = (self.tail(&child).first(), self.may_be_moved(&child)) {
                    let base = self.base_of(self.tail(&dir), name.as_name())?;
                    if base.first().is_none_or(|here| here.attr.id != top.attr.id) {
                        self.left.insert(top.attr.id);
                    }
                }
                dirs.push(child);
            }
            self.raw.insert(dir.0.serial, raw);
        }
        Ok(())
    }

    fn root(&mut self, base: Vec<Lower<L::Node>>) -> Result<()> {
        let root = self.view.root();
        if let Some(top) = base.first() {
            let aspects = self.aspects(&root, top, None)?;
            if !aspects.is_empty() {
                self.push(Vec::new(), Kind::Dir, What::Modified(aspects));
            }
        }
        self.todo.push(Todo { dir: root, base, place: Place::default() });
        Ok(())
    }

    fn directory(&mut self, todo: &Todo<L, S>) -> Result<()> {
        let Todo { dir, base, place } = todo;
        let raw = match self.raw.remove(&dir.0.serial) {
            Some(raw) => raw,
            None => self.read_raw(dir)?,
        };
        let same = same_place(self.tail(dir), base);
        if !same {
            self.vanished(base, place, &raw)?;
        }
        for (name, kind) in raw {
            let name = name.as_name();
            let place = place.join(name);
            self.note_origins(dir, name)?;
            match kind {
                None if same => {
                    let below = self.base_of(base, name)?;
                    self.deleted(&place, &below);
                }
                None => {}
                Some(_) => {
                    let Some(child) = self.view.lookup(dir, name)? else { continue };
                    let below = match self.base_known(dir, base, &child) {
                        Some(below) => below,
                        None => self.base_of(base, name)?,
                    };
                    self.child(&child, below, &place)?;
                }
            }
        }
        Ok(())
    }

    /// Names that the image has in a directory which does not show it any more, and that are not there again.
    fn vanished(
        &mut self,
        base: &[Lower<L::Node>],
        place: &Place,
        raw: &[(NameBuf, Option<Kind>)],
    ) -> Result<()> {
        let now: HashSet<&[u8]> =
            raw.iter().filter(|(_, kind)| kind.is_some()).map(|(name, _)| name.as_bytes()).collect();
        let mut builder = ListingBuilder::new(base.len());
        for lower in base {
            self.view.layer(lower)?.read_dir(&lower.node, &mut |entry| {
                builder.add(entry);
                ControlFlow::Continue(())
            })?;
            builder.next_directory();
        }
        let listing = builder.finish();
        for entry in listing.from(0).filter(|entry| !now.contains(entry.name.as_bytes())) {
            let below = self.base_of(base, entry.name)?;
            self.deleted(&place.join(entry.name), &below);
        }
        Ok(())
    }

    fn deleted(&mut self, place: &Place, below: &[Lower<L::Node>]) {
        let Some(top) = below.first() else { return };
        if self.left.contains(&top.attr.id) {
            return;
        }
        if top.attr.kind != Kind::Dir && top.attr.nlink <= 1 {
            self.deleted.insert(top.attr.id, (place.clone(), below.to_vec()));
        }
        self.push(place.path.clone(), top.attr.kind, What::Deleted);
    }

    fn child(&mut self, child: &Inode<L, S>, below: Vec<Lower<L::Node>>, place: &Place) -> Result<()> {
        // What stood here as a directory and was renamed is not what is here now.
        let left = below.first().is_some_and(|top| self.left.contains(&top.attr.id));
        let below = if left { Vec::new() } else { below };
        if child.is_dir() {
            self.child_dir(child, &below, place)
        } else {
            self.child_other(child, &below, place)
        }
    }

    fn child_dir(&mut self, child: &Inode<L, S>, below: &[Lower<L::Node>], place: &Place) -> Result<()> {
        let was_dir = below.first().is_some_and(|top| top.attr.kind == Kind::Dir);
        let base = below.to_vec();
        let mut image = place.image.clone();
        let (base, what) = match self.tail(child).first() {
            Some(_) if was_dir && same_place(self.tail(child), &base) => (base, None),
            Some(top) => {
                let from = self.path_below(child)?;
                let aspects = self.aspects(child, top, None)?;
                self.deleted(place, below);
                image.clone_from(&from);
                (self.tail(child).to_vec(), Some(What::Renamed { from, aspects }))
            }
            None if was_dir => (base, None),
            None => {
                self.deleted(place, below);
                (Vec::new(), Some(What::Added))
            }
        };
        let what = match (what, base.first()) {
            (Some(what), _) => Some(what),
            (None, Some(top)) => Some(What::Modified(self.aspects(child, top, None)?)),
            (None, None) => None,
        };
        if let Some(what) = what.filter(|what| *what != What::Modified(Aspects::empty())) {
            self.push(place.path.clone(), Kind::Dir, what);
        }
        if self.is_touched(child) {
            let place = Place { path: place.path.clone(), image };
            self.todo.push(Todo { dir: child.clone(), base, place });
        }
        Ok(())
    }

    fn child_other(&mut self, child: &Inode<L, S>, below: &[Lower<L::Node>], place: &Place) -> Result<()> {
        *self.names.entry(child.0.id).or_default() += 1;
        match below.first() {
            Some(top) if top.attr.kind == child.kind() => {
                let aspects = self.aspects(child, top, below.last())?;
                if !aspects.is_empty() {
                    self.push(place.path.clone(), child.kind(), What::Modified(aspects));
                }
            }
            _ => {
                self.deleted(place, below);
                if let Some(from) = self.copied_from(child)? {
                    self.arrived.push((place.path.clone(), child.clone(), from));
                }
                self.push(place.path.clone(), child.kind(), What::Added);
            }
        }
        Ok(())
    }

    /// A file that is gone from one place and, by its origin, arrived at another was renamed.
    fn match_renamed_files(&mut self) -> Result<()> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_by(|a, b| a.0.cmp(&b.0));
        let mut gone = HashSet::new();
        let mut renamed = HashMap::new();
        for (path, inode, id) in arrived {
            let Some((from, base)) = self.deleted.remove(&self.first_origin(id)) else { continue };
            let Some(top) = base.first() else { continue };
            let aspects = self.aspects(&inode, top, base.last())?;
            gone.insert(from.path);
            renamed.insert(path, What::Renamed { from: from.image, aspects });
        }
        self.out.retain(|change| change.what != What::Deleted || !gone.contains(&change.path));
        for change in self.out.iter_mut().filter(|change| change.what == What::Added) {
            if let Some(what) = renamed.remove(&change.path) {
                change.what = what;
            }
        }
        Ok(())
    }

    /// Other names of copied-up files, under which the scratch does not know them.
    fn other_names(&mut self) -> Result<()> {
        let Some(scratch) = self.view.scratch() else { return Ok(()) };
        let mut wanted = HashSet::new();
        for (origin, hit) in scratch.index_entries()? {
            let Some(id) = self.view.locate(&origin) else {
                continue;
            };
            // Some of the names may be whiteouts by now; the search below finds out.
            let known = self.names.get(&id).copied().unwrap_or(0);
            let merged = self.view.0.cache.linked(id).and_then(|inode| inode.0.state.read().nlink);
            let merged = merged.unwrap_or(match hit.marks.nlink {
                Some(crate::NlinkBase::Upper(more)) => hit.attr.nlink.saturating_add_signed(more),
                _ => u32::MAX,
            });
            if merged > known {
                wanted.insert(id);
            }
        }
        let reported: BTreeSet<Vec<u8>> = self.out.iter().map(|change| change.path.clone()).collect();
        for Sighting { dir, name, path, .. } in self.view.names_below(&wanted)? {
            if reported.contains(&path) {
                continue;
            }
            let Some(child) = self.view.lookup(&dir, name.as_name())? else { continue };
            // Not the object's own lower part: found by its name in the scratch it has none.
            let base = self.base_of(self.tail(&dir), name.as_name())?;
            let Some(top) = base.first() else { continue };
            let aspects = self.aspects(&child, top, base.last())?;
            if !aspects.is_empty() {
                self.push(path, child.kind(), What::Modified(aspects));
            }
        }
        Ok(())
    }
}
