//! From changes to steps. One pass looks at the target for each change and notes what leaves, what arrives and
//! what is set; [`order`](super::order) puts that into an order that is right whatever is renamed to where:
//!
//! 1. new names for objects of the target, while everything is where the image has it;
//! 2. everything that leaves its place, deepest first, so that each is still at its path of the image;
//! 3. everything that arrives, topmost first, so that each directory is there before what comes into it.
//!
//! What is replaced by something in the same place is swapped with it in one step. Nothing here changes the target.

use super::compare::{Compare, Extent, find, is_same, kind_text, view_xattrs};
use super::confined::Seen;
use super::host::{self, Attributes};
use super::links::Links;
use super::path::{self, Bytes};
use super::places::{Place, Places};
use super::{Action, Options, Owners, PlannedStep, STAGING, failed};
use crate::container::Engine;
use crate::{Error, ErrorKind, Inode, Result};
use rustix::fd::AsFd;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use stratafs_core::{Aspects, Change, Kind, Time, What};

/// What leaves its place.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Where in the container it goes, `None` when it is deleted.
    pub to: Option<Bytes>,
    /// What is there; `None`: nothing, or it need not be touched.
    pub seen: Option<Seen>,
    /// Of a directory that goes: [`Confined::digest`](super::confined::Confined::digest).
    pub digest: Option<u64>,
}

/// What arrives.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Where, in the container.
    pub path: Bytes,
    /// What.
    pub from: From,
    /// What is there then and goes.
    pub over: Option<(Seen, Option<u64>)>,
}

/// Where an arriving object comes from.
#[derive(Debug)]
pub(super) enum From {
    /// It is staged at this place.
    Staged(Bytes),
    /// It left this place of the image.
    Moved(Bytes),
}

/// An object that is staged.
#[derive(Debug)]
pub(super) struct Make {
    /// Where below the staging directory.
    pub place: Bytes,
    /// What it is a copy of, in the container.
    pub path: Bytes,
    /// It is one more name of what was staged there.
    pub name_of: Option<Bytes>,
}

/// A directory whose attributes are set where it stands.
#[derive(Debug)]
pub(super) struct Setting {
    pub image: Bytes,
    pub seen: Seen,
    pub old: Attributes,
    pub new: Attributes,
}

/// What there is to do, in no order yet.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub places: Places,
    pub leaving: BTreeMap<Bytes, Leaving>,
    pub arrivals: Vec<Arrival>,
    pub makes: Vec<Make>,
    /// Objects of the target that get a name in the staging directory: where they are in the image, and the name.
    pub links: Vec<(Bytes, Bytes, Seen)>,
    pub settings: Vec<Setting>,
    /// Directories whose time the container changed: what it is, and what it was.
    pub times: BTreeMap<Bytes, (Time, Time)>,
    pub shown: Vec<PlannedStep>,
    /// How many places of `new` are taken.
    slots: u64,
}

/// Looks at the target for each change.
pub(super) struct Planner<'a, 'c> {
    pub view: &'a Engine,
    pub compare: &'c mut Compare<'a>,
    pub links: Links,
    pub options: Options,
    pub draft: Draft,
    /// What leaves and files that changed: compared by themselves.
    touched: HashSet<Bytes>,
}

impl<'a, 'c> Planner<'a, 'c> {
    pub fn new(view: &'a Engine, compare: &'c mut Compare<'a>, links: Links, options: Options) -> Self {
        Self { view, compare, links, options, draft: Draft::default(), touched: HashSet::new() }
    }

    /// Looks at everything that `changes` touch.
    pub fn run(mut self, changes: &[Change]) -> Result<Draft> {
        for change in changes {
            let from = match &change.what {
                What::Renamed { from, .. } => from.as_slice(),
                _ => b"",
            };
            if [from, &change.path].iter().any(|path| path::names(path).next() == Some(STAGING)) {
                return Err(Error::new(ErrorKind::InvalidInput, "promote")
                    .about(&change.path)
                    .because("a promotion needs this name for itself: leave it out"));
            }
        }
        self.note_leaving(changes)?;
        self.look_at_leaving(changes)?;
        for change in changes {
            self.change(change)?;
        }
        let goes = |(image, leaving): (&Bytes, &Leaving)| match (&leaving.to, leaving.seen) {
            (None, Some(seen)) => {
                Some(PlannedStep { path: image.clone(), kind: seen.kind, action: Action::Remove })
            }
            _ => None,
        };
        let goes: Vec<PlannedStep> = self.draft.leaving.iter().filter_map(goes).collect();
        self.draft.shown.splice(0..0, goes);
        Ok(self.draft)
    }

    fn slot(&mut self) -> Bytes {
        let n = self.draft.slots;
        self.draft.slots += 1;
        format!("new/{n}").into_bytes()
    }

    fn show(&mut self, path: &[u8], kind: Kind, action: Action) {
        self.draft.shown.push(PlannedStep { path: path.to_vec(), kind, action });
    }

    fn find(&self, path: &[u8]) -> Result<Inode> {
        find(self.view, path)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "promote").about(path).because(
                "the changes name it and the container does not have it: they are not its changes now",
            )
        })
    }

    /// Notes what goes from where, before anything is compared.
    fn note_leaving(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes.iter().filter(|change| change.kind == Kind::Dir) {
            if let What::Renamed { from, .. } = &change.what {
                self.draft.places.moved(&change.path, from);
            }
        }
        for change in changes {
            let (image, to) = match &change.what {
                What::Deleted => (self.draft.places.slot(&change.path), None),
                What::Renamed { from, aspects } => {
                    // A file that changed too is made anew.
                    let whole = change.kind == Kind::Dir || aspects.is_empty();
                    (Place::Image(from.clone()), whole.then(|| change.path.clone()))
                }
                What::Modified(_) => {
                    if let (Place::Image(image), false) =
                        (self.draft.places.slot(&change.path), change.kind == Kind::Dir)
                    {
                        self.touched.insert(image);
                    }
                    continue;
                }
                What::Added => continue,
            };
            let Place::Image(image) = image else {
                return Err(Error::new(ErrorKind::InvalidInput, "promote")
                    .about(&change.path)
                    .because("a deletion in a new directory: these are not the changes of a container"));
            };
            if to.is_none() {
                self.draft.places.gone(&image);
            }
            self.touched.insert(image.clone());
            self.draft.leaving.insert(image, Leaving { to, seen: None, digest: None });
        }
        // A new name for what was deleted would hide it: renames are noted last.
        for change in changes {
            if let (What::Renamed { from, .. }, Kind::Dir) = (&change.what, change.kind) {
                self.draft.places.moved(&change.path, from);
            }
        }
        Ok(())
    }

    fn look_at_leaving(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes {
            let (image, extent) = match &change.what {
                What::Deleted => (self.draft.places.slot(&change.path), Extent::Below),
                What::Renamed { from, .. } if change.kind == Kind::Dir => {
                    (Place::Image(from.clone()), Extent::Whole)
                }
                What::Renamed { from, .. } => (Place::Image(from.clone()), Extent::Object),
                _ => continue,
            };
            let Place::Image(image) = image else { continue };
            let digest = match change.what {
                What::Deleted => self.digest(&image)?,
                _ => None,
            };
            let touched = &self.touched;
            let skip = |path: &[u8]| touched.contains(path);
            let seen = self.compare.check(&image, None, extent, &skip)?;
            if let (What::Renamed { .. }, Kind::Dir, Some(now)) = (&change.what, change.kind, &seen)
                && now.kind != Kind::Dir
            {
                self.compare.conflict(&image, "a directory", kind_text(now.kind), false);
            }
            if let Some(leaving) = self.draft.leaving.get_mut(&image) {
                (leaving.seen, leaving.digest) = (seen, digest);
            }
        }
        Ok(())
    }

    /// What is in a directory that goes, so that nothing that comes into it later goes too.
    fn digest(&mut self, image: &[u8]) -> Result<Option<u64>> {
        let Some(Seen { kind: Kind::Dir, .. }) = self.compare.look(image)? else { return Ok(None) };
        let leaving = &self.draft.leaving;
        let skip = |path: &[u8]| leaving.contains_key(path);
        self.compare.root.digest(image, &skip).map(Some).map_err(failed("look at", image))
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        match &change.what {
            What::Deleted => Ok(()),
            What::Added if change.kind == Kind::Dir => self.added_dir(change),
            What::Added => self.added(change),
            What::Modified(aspects) if change.kind == Kind::Dir => {
                let Place::Image(image) = self.draft.places.dir(&change.path) else { return Ok(()) };
                self.changed_dir(&change.path, image, *aspects)
            }
            What::Modified(_) => self.modified(change),
            What::Renamed { from, aspects } => self.renamed(change, from, *aspects),
        }
    }

    fn renamed(&mut self, change: &Change, from: &[u8], aspects: Aspects) -> Result<()> {
        let whole = change.kind == Kind::Dir || aspects.is_empty();
        let there = self.draft.leaving.get(from).and_then(|leaving| leaving.seen);
        let over = self.over(change)?;
        if !whole || there.is_none() {
            // Made anew: it changed, or somebody took it away and the user wants it all the same.
            if change.kind == Kind::Dir {
                return Ok(());
            }
            return self.bring(change, over);
        }
        self.show(&change.path, change.kind, Action::Move { from: from.to_vec() });
        let from_place = From::Moved(from.to_vec());
        self.draft.arrivals.push(Arrival { path: change.path.clone(), from: from_place, over });
        if change.kind == Kind::Dir {
            self.changed_dir(&change.path, from.to_vec(), aspects)?;
        }
        Ok(())
    }

    fn modified(&mut self, change: &Change) -> Result<()> {
        let Place::Image(image) = self.draft.places.slot(&change.path) else { return Ok(()) };
        let copy = self.find(&change.path)?;
        let digest = self.digest(&image)?;
        let seen = self.compare.check(&image, Some((self.view, &copy)), Extent::Object, &|_| false)?;
        self.bring(change, seen.map(|seen| (seen, digest)))
    }

    fn added(&mut self, change: &Change) -> Result<()> {
        let over = self.over(change)?;
        if let (Some((seen, None)), Place::Image(image)) = (&over, self.draft.places.slot(&change.path))
            && !self.draft.leaving.contains_key(&image)
        {
            let copy = self.find(&change.path)?;
            let attr = self.view.attr(&copy)?;
            let compare = &mut *self.compare;
            let same = is_same(compare.root, &image, self.view, &copy, seen, compare.namespace)?;
            if same && attr.nlink <= 1 && attr.mtime == seen.mtime {
                return Ok(());
            }
            if !same {
                compare.conflict(&image, "nothing", kind_text(seen.kind), true);
            }
        }
        self.bring(change, over)
    }

    /// What an arriving object finds in its place: what leaves it in the same moment, or what nobody expects there.
    fn over(&mut self, change: &Change) -> Result<Option<(Seen, Option<u64>)>> {
        let Place::Image(image) = self.draft.places.slot(&change.path) else { return Ok(None) };
        if let Some(leaving) = self.draft.leaving.get_mut(&image) {
            return Ok(match leaving.to {
                Some(_) => None,
                // Taken by the swap.
                None => leaving.seen.take().map(|seen| (seen, leaving.digest)),
            });
        }
        let digest = self.digest(&image)?;
        let Some(seen) = self.compare.look(&image)? else { return Ok(None) };
        let is_new_file = change.what == What::Added && change.kind != Kind::Dir;
        // Of a new file that is there already, its own check says whether it is the same.
        if seen.kind == Kind::Dir || !is_new_file {
            self.compare.conflict(&image, "nothing", kind_text(seen.kind), true);
        }
        Ok(Some((seen, digest)))
    }

    /// Gets a new or changed object to its place.
    fn bring(&mut self, change: &Change, over: Option<(Seen, Option<u64>)>) -> Result<()> {
        let path = &change.path;
        let copy = self.find(path)?;
        let slot = self.draft.places.slot(path);
        let place = match &slot {
            Place::Staged(place) => place.clone(),
            Place::Image(_) => self.slot(),
        };
        let action = match self.kept(&copy)? {
            Some((image, seen)) => {
                self.draft.links.push((image.clone(), place.clone(), seen));
                Action::Link { to: image }
            }
            None => {
                let name_of = self.links.staged(copy.ino(), &place);
                self.draft.makes.push(Make { place: place.clone(), path: path.clone(), name_of });
                if over.is_some() { Action::Replace } else { Action::Create }
            }
        };
        self.show(path, change.kind, action);
        if slot.image().is_some() {
            self.draft.arrivals.push(Arrival { path: path.clone(), from: From::Staged(place), over });
        }
        Ok(())
    }

    /// The name under which the target has this very file, unchanged.
    fn kept(&mut self, copy: &Inode) -> Result<Option<(Bytes, Seen)>> {
        let Some(image) = self.links.kept(copy.ino()) else { return Ok(None) };
        let leaves = self.draft.leaving.get(&image).map(|leaving| leaving.seen);
        let before = self.compare.conflicts.len();
        let seen = match leaves {
            Some(seen) => seen,
            None => self.compare.check(&image, None, Extent::Object, &|_| false)?,
        };
        // With another file there the container's is made, where the user wants it all the same.
        let as_expected = self.compare.conflicts.len() == before;
        Ok(seen.filter(|_| as_expected || !self.options.force).map(|seen| (image, seen)))
    }

    fn added_dir(&mut self, change: &Change) -> Result<()> {
        let path = &change.path;
        let slot = self.draft.places.slot(path);
        let Place::Image(image) = &slot else {
            self.show(path, Kind::Dir, Action::Create);
            if let Place::Staged(place) = &slot {
                self.draft.makes.push(Make { place: place.clone(), path: path.clone(), name_of: None });
            }
            self.draft.places.put(path, slot);
            return Ok(());
        };
        if !self.draft.leaving.contains_key(image)
            && let Some(seen) = self.compare.look(image)?
            && seen.kind == Kind::Dir
        {
            // Somebody made the same directory: what comes into it is looked at by itself.
            let copy = self.find(path)?;
            let compare = &mut *self.compare;
            let same = is_same(compare.root, image, self.view, &copy, &seen, compare.namespace)?;
            if !same {
                compare.conflict(image, "nothing", "a directory with other attributes", true);
            }
            self.draft.places.put(path, slot.clone());
            let aspects = if same { Aspects::empty() } else { Aspects::METADATA | Aspects::XATTRS };
            return self.set(path, image, seen, aspects);
        }
        let over = self.over(change)?;
        self.show(path, Kind::Dir, if over.is_some() { Action::Replace } else { Action::Create });
        let place = self.slot();
        self.draft.makes.push(Make { place: place.clone(), path: path.clone(), name_of: None });
        self.draft.places.put(path, Place::Staged(place.clone()));
        self.draft.arrivals.push(Arrival { path: path.clone(), from: From::Staged(place), over });
        Ok(())
    }

    /// A directory that stays itself and has other attributes.
    fn changed_dir(&mut self, path: &[u8], image: Bytes, aspects: Aspects) -> Result<()> {
        let deep = aspects.intersects(Aspects::METADATA | Aspects::XATTRS);
        let seen = if self.draft.leaving.contains_key(&image) {
            self.draft.leaving.get(&image).and_then(|leaving| leaving.seen)
        } else {
            let copy = self.find(path)?;
            let extent = if deep { Extent::Object } else { Extent::Kind };
            self.compare.check(&image, Some((self.view, &copy)), extent, &|_| false)?
        };
        let Some(seen) = seen else { return Ok(()) };
        if seen.kind != Kind::Dir {
            self.compare.conflict(&image, "a directory", kind_text(seen.kind), false);
            return Ok(());
        }
        if aspects.contains(Aspects::TIMES) {
            let now = self.view.attr(&self.find(path)?)?.mtime;
            let base = find(self.compare.base, &image)?;
            let was =
                base.map(|base| self.compare.base.attr(&base)).transpose()?.map_or(now, |attr| attr.mtime);
            self.draft.times.insert(image.clone(), (now, was));
            if !deep {
                self.show(path, Kind::Dir, Action::Time);
            }
        }
        self.set(path, &image, seen, aspects)
    }

    fn set(&mut self, path: &[u8], image: &[u8], seen: Seen, aspects: Aspects) -> Result<()> {
        if !aspects.intersects(Aspects::METADATA | Aspects::XATTRS) {
            return Ok(());
        }
        let copy = self.find(path)?;
        let (mut old, mut new) = (Attributes::default(), Attributes::default());
        if aspects.contains(Aspects::METADATA) {
            let attr = self.view.attr(&copy)?;
            old.owner = Some((seen.mode, seen.uid, seen.gid));
            let (uid, gid) = match self.options.owners {
                Owners::Apply => (attr.uid, attr.gid),
                Owners::Own => (seen.uid, seen.gid),
            };
            new.owner = Some((attr.mode, uid, gid));
        }
        if aspects.contains(Aspects::XATTRS) {
            let fail = failed("look at", image);
            let dir = self.compare.root.dir(image).map_err(&fail)?;
            let theirs =
                host::xattrs(host::hold(dir.as_fd(), b"").map_err(&fail)?.as_fd(), self.compare.namespace);
            let theirs = theirs.map_err(&fail)?;
            let ours = view_xattrs(self.view, &copy, self.compare.namespace)?;
            let names: BTreeSet<&Bytes> = theirs.keys().chain(ours.keys()).collect();
            for name in names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)) {
                old.xattrs.insert(name.clone(), theirs.get(name).cloned());
                new.xattrs.insert(name.clone(), ours.get(name).cloned());
            }
        }
        if old == new {
            return Ok(());
        }
        self.show(path, Kind::Dir, Action::Attributes);
        self.draft.settings.push(Setting { image: image.to_vec(), seen, old, new });
        Ok(())
    }
}
