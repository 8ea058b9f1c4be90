//! The order of the steps. Pure: from what leaves, arrives and is set to steps, each with what must be true of the
//! object that it takes away. Why this order is right is said in [`plan`](super::plan).

use super::confined::Seen;
use super::journal::{DirTime, Step};
use super::path::{self, Bytes};
use super::places::{Place, Places};
use super::plan::{Arrival, Draft, From, Make, Setting};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use stratafs_core::{Kind, Time};

/// What must be true, right before a step, of the object that it takes from its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Guard {
    /// As it was when it was compared.
    pub seen: Option<Seen>,
    /// Nothing of this promotion sets its ctime before the step.
    pub ctime: bool,
    /// Of a directory that goes: what is in it.
    pub digest: Option<u64>,
}

/// Everything that is done, in order. Numbers of staged objects are 0 until they are staged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ordered {
    pub steps: Vec<(Step, Guard)>,
    pub times: Vec<DirTime>,
}

struct Order<'d> {
    places: &'d Places,
    ordered: Ordered,
    /// Directories of the image in which names come or go.
    dirs: BTreeSet<Bytes>,
    /// New directories into which something comes later, by path in the container.
    new_dirs: BTreeSet<Bytes>,
    /// Objects that get another name first, which sets their ctime.
    linked: HashSet<u64>,
}

/// Orders a draft. `stat` gives the target's directory at a path of the image, and `time` the time of a new one by
/// its path in the container.
pub(super) fn order(
    draft: &Draft,
    mut stat: impl FnMut(&[u8]) -> Option<Seen>,
    mut time: impl FnMut(&[u8]) -> Option<Time>,
) -> Ordered {
    let mut order = Order {
        places: &draft.places,
        ordered: Ordered::default(),
        dirs: BTreeSet::from([Bytes::new()]),
        new_dirs: BTreeSet::new(),
        linked: draft.links.iter().map(|(_, _, seen)| seen.ino).collect(),
    };
    for (from, to, seen) in &draft.links {
        let guard = order.guard(*seen, None);
        let step = Step::Link { from: from.clone(), to: to.clone(), ino: seen.ino };
        order.ordered.steps.push((step, guard));
    }
    let opens = |set: &&Setting| set.new.owner.is_none_or(|(mode, _, _)| mode & 0o300 == 0o300);
    // Who is not privileged needs what a mode gives before, and what it takes after.
    for set in draft.settings.iter().filter(opens) {
        order.set(set, set.image.clone());
    }
    let slots = order.leave(draft);
    order.arrive(draft, &slots);
    for set in draft.settings.iter().filter(|set| !opens(set)) {
        if let Some(now) = draft.places.now(&set.image) {
            order.set(set, now);
        }
    }
    order.links_into_new(&draft.makes, &draft.links);
    order.dirs.extend(draft.times.keys().cloned());
    order.times(&draft.times, &mut stat);
    for path in std::mem::take(&mut order.new_dirs) {
        if let Some(time) = time(&path) {
            let dir = DirTime { before: None, after: Some(path), ino: 0, old: time, new: time };
            order.ordered.times.push(dir);
        }
    }
    order.ordered
}

impl Order<'_> {
    fn guard(&self, seen: Seen, digest: Option<u64>) -> Guard {
        // Another name of the same object may have been moved before; the ctime is the object's.
        let ctime = seen.kind != Kind::Dir && seen.nlink <= 1 && !self.linked.contains(&seen.ino);
        Guard { seen: Some(seen), ctime, digest }
    }

    fn set(&mut self, set: &Setting, path: Bytes) {
        let step = Step::Set { path, ino: set.seen.ino, old: set.old.clone(), new: set.new.clone() };
        self.ordered.steps.push((step, self.guard(set.seen, None)));
    }

    /// What leaves, deepest first; says where it went.
    fn leave(&mut self, draft: &Draft) -> HashMap<Bytes, (Bytes, u64)> {
        let mut slots = HashMap::new();
        let mut leaving: Vec<_> = draft.leaving.iter().collect();
        leaving.sort_by_key(|(image, _)| path::deepest_first(image));
        for (image, leaving) in leaving {
            let Some(seen) = leaving.seen else { continue };
            let slot = format!("old/{}", slots.len()).into_bytes();
            slots.insert(image.clone(), (slot.clone(), seen.ino));
            let step = Step::Detach { path: image.clone(), slot, ino: seen.ino };
            let digest = leaving.digest.filter(|_| leaving.to.is_none());
            self.ordered.steps.push((step, self.guard(seen, digest)));
            self.dirs.insert(path::split(image).0.to_vec());
            if leaving.to.is_some() && seen.kind == Kind::Dir {
                // Some file systems note a new parent as a change of the directory.
                self.dirs.insert(image.clone());
            }
        }
        slots
    }

    fn arrive(&mut self, draft: &Draft, slots: &HashMap<Bytes, (Bytes, u64)>) {
        let mut arrivals: Vec<&Arrival> = draft.arrivals.iter().collect();
        arrivals.sort_by_key(|arrival| (path::depth(&arrival.path), &arrival.path));
        for arrival in arrivals {
            let (slot, ino) = match &arrival.from {
                From::Staged(place) => (place.clone(), 0),
                From::Moved(image) => match slots.get(image) {
                    Some((slot, ino)) => (slot.clone(), *ino),
                    None => continue,
                },
            };
            let path = arrival.path.clone();
            self.comes_into(path::split(&path).0);
            let step = match arrival.over {
                Some((seen, digest)) => {
                    (Step::Swap { slot, path, ino, old: seen.ino }, self.guard(seen, digest))
                }
                None => (Step::Attach { slot, path, ino }, Guard::default()),
            };
            self.ordered.steps.push(step);
        }
    }

    fn comes_into(&mut self, dir: &[u8]) {
        match self.places.dir(dir) {
            Place::Image(image) => self.dirs.insert(image),
            Place::Staged(_) => self.new_dirs.insert(dir.to_vec()),
        };
    }

    /// Names that links of the target take in directories that are staged as a whole.
    fn links_into_new(&mut self, makes: &[Make], links: &[(Bytes, Bytes, Seen)]) {
        let holds: HashMap<&[u8], &[u8]> =
            makes.iter().map(|make| (make.place.as_slice(), make.path.as_slice())).collect();
        for (_, place, _) in links {
            if let Some(dir) = holds.get(path::split(place).0) {
                self.new_dirs.insert(dir.to_vec());
            }
        }
    }

    fn times(&mut self, wanted: &BTreeMap<Bytes, (Time, Time)>, stat: &mut dyn FnMut(&[u8]) -> Option<Seen>) {
        for image in std::mem::take(&mut self.dirs) {
            let Some(seen) = stat(&image) else { continue };
            let new = match wanted.get(&image) {
                Some((now, was)) if seen.mtime == *was => *now,
                // Somebody else changed names here too: the later of both.
                Some((now, _)) => seen.mtime.max(*now),
                None => seen.mtime,
            };
            let after = self.places.now(&image);
            let dir = DirTime { before: Some(image), after, ino: seen.ino, old: seen.mtime, new };
            self.ordered.times.push(dir);
        }
    }
}
