//! From a name in a directory to an object: the cache, else one question to the scratch and the fold over the
//! layers below. Invariant: an object that is alive is found again, so one object never has two identities.

use super::object::{Child, Inode, Lower, LowerNames, State};
use super::{View, not_a_directory};
use crate::attr::{Attr, FileId, Kind};
use crate::error::Result;
use crate::layer::{Found, Hit, Layer};
use crate::marks::{Marks, NlinkBase, Origin, Redirect};
use crate::merge::{self, Below, Ceiling};
use crate::name::Name;
use crate::plan::Vacancy;
use crate::scratch::Scratch;
use hashbrown::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// With this many merged directories, and after this many questions to them, their names are read in once:
/// then a miss costs one probe of a table instead of one question to each layer.
const NAMES_MIN_DIRS: usize = 3;
const NAMES_MIN_ASKED: u64 = 24;

impl<L: Layer, S: Scratch> View<L, S> {
    /// Looks one name up in a directory. `None` is a name that is not there.
    ///
    /// # Errors
    /// `ENOTDIR` when `dir` is no directory, and what the backends say.
    pub fn lookup(&self, dir: &Inode<L, S>, name: Name<'_>) -> Result<Option<Inode<L, S>>> {
        match dir.child(name) {
            Some(Ok(inode)) => {
                self.0.cache.keep(&inode);
                return Ok(Some(inode));
            }
            Some(Err(_)) => return Ok(None),
            None => {}
        }
        let part = dir.0.dir.as_ref().ok_or_else(|| not_a_directory("lookup"))?;
        let _names = part.names.read();
        Ok(self.lookup_locked(dir, name)?.ok())
    }

    /// As [`View::lookup`] for a caller that holds the names lock; of a vacant name, what the scratch has.
    pub(crate) fn lookup_locked(
        &self,
        dir: &Inode<L, S>,
        name: Name<'_>,
    ) -> Result<Result<Inode<L, S>, Vacancy>> {
        let vacancy = |whiteout| if whiteout { Vacancy::Whiteout } else { Vacancy::Absent };
        match dir.child(name) {
            Some(Ok(inode)) => return Ok(Ok(inode)),
            Some(Err(whiteout)) => return Ok(Err(vacancy(whiteout))),
            None => {}
        }
        let upper = {
            let state = dir.0.state.read();
            if state.removed {
                return Ok(Err(Vacancy::Absent));
            }
            state.upper.clone()
        };
        let found = match (&upper, &self.0.scratch) {
            (Some(upper), Some(scratch)) => {
                scratch.lookup(upper, name).map_err(|e| e.in_layer(&scratch.caps().label))?
            }
            _ => Found::Absent,
        };
        let made = match found {
            Found::Whiteout => Err(true),
            Found::Absent => {
                let below = self.below(dir, name, None)?;
                match below.first().map(|top| top.attr) {
                    Some(attr) => Ok(self.object_below(dir, name, &attr, below)?),
                    None => Err(false),
                }
            }
            Found::Node(hit) => Ok(self.object_in_scratch(dir, name, hit)?),
        };
        match made {
            Ok(inode) => Ok(Ok(self.adopt(dir, name, inode))),
            Err(whiteout) => {
                dir.set_child(name, Child::Gone { whiteout });
                Ok(Err(vacancy(whiteout)))
            }
        }
    }

    /// Enters an object into its directory's cache; the one that is there already wins.
    pub(crate) fn adopt(&self, dir: &Inode<L, S>, name: Name<'_>, inode: Inode<L, S>) -> Inode<L, S> {
        let inode = match &dir.0.dir {
            Some(part) => {
                let mut children = part.children.write();
                let live = match children.map.get(name.as_bytes()) {
                    Some(Child::Live(weak)) => weak.upgrade().map(Inode),
                    _ => None,
                };
                live.unwrap_or_else(|| {
                    children.insert(name.to_buf(), Child::Live(inode.downgrade()));
                    inode
                })
            }
            None => inode,
        };
        self.0.cache.keep(&inode);
        inode
    }

    /// What the lower layers have for a name of `dir`, whatever the scratch says.
    pub(crate) fn below(
        &self,
        dir: &Inode<L, S>,
        name: Name<'_>,
        ceiling: Option<Ceiling<'_>>,
    ) -> Result<Vec<Below<L::Node>>> {
        let redirect = ceiling.and_then(|c| c.marks.redirect.as_ref());
        if dir.lowers().is_empty() && !matches!(redirect, Some(Redirect::Absolute(_))) {
            return Ok(Vec::new());
        }
        let first = match redirect {
            Some(Redirect::Sibling(other)) => other.as_name(),
            _ => name,
        };
        let skip = match self.lower_names(dir) {
            Some(names) => names.first.get(first.as_bytes()).map_or(dir.lowers().len(), |i| usize::from(*i)),
            None => 0,
        };
        let mut asked = 0;
        let parent = dir.lowers().iter().skip(skip).map(|lower| (lower.layer, &lower.node));
        let found = merge::below(&self.0.roots, parent, name, ceiling, |layer, node, name| {
            asked += 1;
            match self.0.layers.get(layer) {
                Some(layer) => layer.lookup(node, name).map_err(|e| e.in_layer(&layer.caps().label)),
                None => Ok(Found::Absent),
            }
        });
        if let Some(part) = &dir.0.dir {
            part.asked.fetch_add(asked, Ordering::Relaxed);
        }
        found
    }

    fn lower_names<'d>(&self, dir: &'d Inode<L, S>) -> Option<&'d LowerNames> {
        let part = dir.0.dir.as_ref()?;
        if let Some(names) = part.lower_names.get() {
            return names.as_ref();
        }
        let lowers = dir.lowers();
        if lowers.len() < NAMES_MIN_DIRS || part.asked.load(Ordering::Relaxed) < NAMES_MIN_ASKED {
            return None;
        }
        part.lower_names.get_or_init(|| self.read_lower_names(lowers)).as_ref()
    }

    /// `None` when there are more names than the view keeps, or a directory does not read: then the layers are
    /// asked, and the error comes from there.
    fn read_lower_names(&self, lowers: &[Lower<L::Node>]) -> Option<LowerNames> {
        let room = self.0.config.cached_names.saturating_sub(self.0.names_kept.load(Ordering::Relaxed));
        let mut first = HashMap::new();
        for (i, lower) in lowers.iter().enumerate() {
            let position = u16::try_from(i).ok()?;
            let layer = self.0.layers.get(lower.layer)?;
            layer
                .read_dir(&lower.node, &mut |entry| {
                    first.entry(Box::from(entry.name.as_bytes())).or_insert(position);
                    if first.len() > room { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
                .ok()?;
            if first.len() > room {
                return None;
            }
        }
        self.0.names_kept.fetch_add(first.len(), Ordering::Relaxed);
        Some(LowerNames { first, kept: Arc::clone(&self.0.names_kept) })
    }

    fn lowers_of(below: Vec<Below<L::Node>>) -> Vec<Lower<L::Node>> {
        below
            .into_iter()
            .map(|b| Lower { layer: b.layer, node: b.node, attr: b.attr, bare: b.bare })
            .collect()
    }

    fn fresh_state(&self, dir: &Inode<L, S>, name: Name<'_>) -> State<L, S> {
        State {
            upper: None,
            own_data: false,
            parent: Some(dir.clone()),
            name: name.to_buf(),
            removed: false,
            opaque: false,
            impure: false,
            redirect: None,
            has_origin: false,
            index: None,
            nlink: None,
        }
    }

    /// An object that the scratch has nothing of at this name.
    fn object_below(
        &self,
        dir: &Inode<L, S>,
        name: Name<'_>,
        attr: &Attr,
        below: Vec<Below<L::Node>>,
    ) -> Result<Inode<L, S>> {
        let id = attr.id;
        let lowers = Self::lowers_of(below);
        let mut state = self.fresh_state(dir, name);
        if attr.kind == Kind::Dir || attr.nlink <= 1 {
            return Ok(self.new_object(attr.kind, id, lowers, state));
        }
        if let Some(known) = self.0.cache.linked(id) {
            let mut state = known.0.state.write();
            if state.removed {
                state.parent = Some(dir.clone());
                state.name = name.to_buf();
                state.removed = false;
            }
            drop(state);
            return Ok(known);
        }
        if let (Some(scratch), Some(top)) = (&self.0.scratch, lowers.first())
            && scratch.features().index
        {
            let origin = self.layer(top)?.origin(&top.node)?;
            if let Some(hit) = scratch.indexed(&origin)? {
                state.own_data = !hit.marks.metacopy;
                state.redirect = hit.marks.redirect;
                state.has_origin = true;
                state.nlink = merged_nlink(hit.marks.nlink, hit.attr.nlink, attr.nlink);
                state.upper = Some(hit.node);
            }
            state.index = Some(origin);
        }
        Ok(self.0.cache.unify(id, || self.new_object(attr.kind, id, lowers, state)))
    }

    /// An object that the scratch has at this name.
    fn object_in_scratch(&self, dir: &Inode<L, S>, name: Name<'_>, hit: Hit<S::Node>) -> Result<Inode<L, S>> {
        let Hit { node, attr, marks, .. } = hit;
        let is_dir = attr.kind == Kind::Dir;
        let ceiling = Ceiling { is_dir, marks: &marks };
        let mut lowers = Self::lowers_of(self.below(dir, name, Some(ceiling))?);
        if is_dir {
            // A redirect may lead to something that is no directory any more.
            lowers.retain(|lower| lower.attr.kind == Kind::Dir);
        }
        let by_name = self.lower_by_name(dir, name, &attr, &marks, &lowers)?;
        let located = marks.origin.as_ref().and_then(|origin| self.locate(origin));
        let id = match (is_dir, lowers.first(), located) {
            (true, Some(top), _) => top.attr.id,
            (true, None, _) => attr.id,
            (false, _, Some(id)) => id,
            (false, top, None) => top.map(|l| l.attr.id).or(by_name.map(|b| b.id)).unwrap_or(attr.id),
        };
        let indexed = !is_dir && marks.nlink.is_some() && self.is_indexed(marks.origin.as_ref())?;
        let mut state = self.fresh_state(dir, name);
        state.own_data = !marks.metacopy;
        state.opaque = marks.opaque;
        state.impure = marks.impure;
        state.redirect = marks.redirect.clone();
        state.has_origin = marks.origin.is_some();
        if indexed {
            let below = match by_name.filter(|b| b.id == id).or(lowers.first().map(|l| l.attr)) {
                Some(below) => below.nlink,
                None if matches!(marks.nlink, Some(NlinkBase::Lower(_))) => self.count_below(id)?,
                None => 0,
            };
            state.nlink = merged_nlink(marks.nlink, attr.nlink, below);
            state.index = marks.origin.clone();
        }
        let several = !is_dir && (attr.nlink > 1 || indexed);
        if !several {
            state.upper = Some(node);
            return Ok(self.new_object(attr.kind, id, lowers, state));
        }
        state.upper = Some(node.clone());
        let inode = self.0.cache.unify(id, || self.new_object(attr.kind, id, lowers, state));
        // Reached by a name again: from now on through this one.
        let mut known = inode.0.state.write();
        if known.upper.is_some() {
            known.upper = Some(node);
            known.parent = Some(dir.clone());
            known.name = name.to_buf();
            known.removed = false;
        }
        drop(known);
        Ok(inode)
    }

    /// The lower object under the same name, where it is needed to tell what a copied-up file was.
    fn lower_by_name(
        &self,
        dir: &Inode<L, S>,
        name: Name<'_>,
        attr: &Attr,
        marks: &Marks,
        lowers: &[Lower<L::Node>],
    ) -> Result<Option<Attr>> {
        let unknown = marks.origin.as_ref().is_some_and(Origin::is_unknown);
        let counted_below = matches!(marks.nlink, Some(NlinkBase::Lower(_)));
        if attr.kind == Kind::Dir || !lowers.is_empty() || !(unknown || counted_below) {
            return Ok(None);
        }
        let below = self.below(dir, name, None)?;
        Ok(below.first().map(|b| b.attr).filter(|b| b.kind == attr.kind))
    }

    /// False when the index had an entry for what was copied up from `origin` and it went: then the real link count is
    /// right and the mark is what is left of an earlier one.
    fn is_indexed(&self, origin: Option<&Origin>) -> Result<bool> {
        match (&self.0.scratch, origin) {
            (Some(scratch), Some(origin)) if scratch.features().index => {
                Ok(scratch.indexed(origin)?.is_some())
            }
            _ => Ok(true),
        }
    }

    /// The link count of a lower object that is known by its identity only. A crash amid a link leaves a count
    /// relative to it on a file that has another name by now; then it is searched for.
    fn count_below(&self, id: FileId) -> Result<u32> {
        for (layer, root) in self.0.layers.iter().zip(&self.0.roots) {
            let mut dirs = vec![root.clone()];
            while let Some(dir) = dirs.pop() {
                let mut names = Vec::new();
                layer.read_dir(&dir, &mut |entry| {
                    if entry.kind == Some(Kind::Dir) || (entry.kind.is_some() && entry.ino == id.ino) {
                        names.push(entry.name.to_buf());
                    }
                    ControlFlow::Continue(())
                })?;
                for name in names {
                    let Found::Node(hit) = layer.lookup(&dir, name.as_name())? else { continue };
                    match hit.attr.kind {
                        Kind::Dir => dirs.push(hit.node),
                        _ if hit.attr.id == id => return Ok(hit.attr.nlink),
                        _ => {}
                    }
                }
            }
        }
        Ok(0)
    }

    pub(crate) fn locate(&self, origin: &Origin) -> Option<FileId> {
        self.0.layers.iter().find_map(|layer| layer.locate(origin))
    }

    /// The directory that a directory is in; the root is in itself.
    ///
    /// # Errors
    /// `ENOENT` for a directory that was removed.
    pub fn parent(&self, dir: &Inode<L, S>) -> Result<Inode<L, S>> {
        let state = dir.0.state.read();
        if state.removed {
            return Err(
                crate::Error::new(crate::ErrorKind::NotFound, "parent").because("the directory was removed")
            );
        }
        Ok(state.parent.clone().unwrap_or_else(|| self.root()))
    }
}

/// The merged link count by what the scratch noted.
fn merged_nlink(base: Option<NlinkBase>, upper: u32, lower: u32) -> Option<u32> {
    let (real, difference) = match base? {
        NlinkBase::Upper(difference) => (upper, difference),
        NlinkBase::Lower(difference) => (lower, difference),
    };
    Some(real.checked_add_signed(difference).unwrap_or(1).max(1))
}
