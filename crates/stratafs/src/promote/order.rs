//! The order of the steps. Pure: from what leaves, arrives and is set to steps, each with what must be true of the
//! object that it takes away. Why this order is right is said in [`plan`](super::plan).

use super::confined::Seen;
use super::journal::{DirTime, Step};
use super::path::{self, Bytes};
use super::places::{Place, Places};
use super::plan::{Arrival, Draft, From, Make, Setting};
use crate::Result;
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
    stat: impl Fn(&[u8]) -> Result<Option<Seen>>,
    time: impl Fn(&[u8]) -> Result<Option<Time>>,
) -> Result<Ordered> {
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
    order.times(&draft.times, &stat)?;
    for path in std::mem::take(&mut order.new_dirs) {
        if let Some(time) = time(&path)? {
            let dir = DirTime { before: None, after: Some(path), ino: 0, old: time, new: time };
            order.ordered.times.push(dir);
        }
    }
    Ok(order.ordered)
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

    fn times(
        &mut self,
        wanted: &BTreeMap<Bytes, (Time, Time)>,
        stat: &dyn Fn(&[u8]) -> Result<Option<Seen>>,
    ) -> Result<()> {
        for image in std::mem::take(&mut self.dirs) {
            let Some(seen) = stat(&image)? else { continue };
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Attributes;
    use super::super::plan::Leaving;
    use super::*;

    fn seen(ino: u64) -> Seen {
        Seen::example(Kind::Dir, ino)
    }

    fn leaves(draft: &mut Draft, image: &str, ino: u64, to: Option<&str>) {
        let to = to.map(|to| to.as_bytes().to_vec());
        match &to {
            Some(to) => draft.places.moved(to, image.as_bytes()),
            None => draft.places.gone(image.as_bytes()),
        }
        draft.leaving.insert(image.into(), Leaving { to, seen: Some(seen(ino)), digest: Some(1) });
    }

    fn arrives(draft: &mut Draft, path: &str, from: From, over: Option<u64>) {
        let over = over.map(|ino| (seen(ino), None));
        draft.arrivals.push(Arrival { path: path.into(), from, over });
    }

    fn moved(from: &str) -> From {
        From::Moved(from.into())
    }

    fn ordered(draft: &Draft) -> Ordered {
        let stat = |image: &[u8]| Ok(Some(seen(100 + image.len() as u64)));
        order(draft, stat, |_| Ok(Some(Time { secs: 9, nanos: 0 }))).unwrap()
    }

    fn text(ordered: &Ordered) -> Vec<String> {
        let name = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let step = |(step, _): &(Step, Guard)| match step {
            Step::Link { from, to, .. } => format!("link {} {}", name(from), name(to)),
            Step::Set { path, .. } => format!("set {}", name(path)),
            Step::Detach { path, slot, .. } => format!("{} out {}", name(path), name(slot)),
            Step::Attach { slot, path, .. } => format!("{} in {}", name(slot), name(path)),
            Step::Swap { slot, path, .. } => format!("{} for {}", name(slot), name(path)),
        };
        ordered.steps.iter().map(step).collect()
    }

    #[test]
    fn two_directories_that_change_places_leave_before_either_arrives() {
        let mut draft = Draft::default();
        leaves(&mut draft, "a", 1, Some("b"));
        leaves(&mut draft, "b", 2, Some("a"));
        arrives(&mut draft, "a", moved("b"), None);
        arrives(&mut draft, "b", moved("a"), None);
        assert_eq!(text(&ordered(&draft)), ["a out old/0", "b out old/1", "old/1 in a", "old/0 in b"]);
    }

    #[test]
    fn what_is_saved_from_a_directory_leaves_before_it_and_arrives_after_its_new_parent() {
        let mut draft = Draft::default();
        leaves(&mut draft, "d", 1, None);
        leaves(&mut draft, "d/s/x", 2, Some("e/new/x"));
        leaves(&mut draft, "f", 3, Some("e"));
        arrives(&mut draft, "e/new/x", moved("d/s/x"), None);
        arrives(&mut draft, "e", moved("f"), None);
        arrives(&mut draft, "e/new", From::Staged(b"new/0".to_vec()), None);
        draft.places.put(b"e/new", Place::Staged(b"new/0".to_vec()));
        let ordered = ordered(&draft);
        assert_eq!(
            text(&ordered),
            [
                "d/s/x out old/0",
                "d out old/1",
                "f out old/2",
                "old/2 in e",
                "new/0 in e/new",
                "old/0 in e/new/x"
            ]
        );
        let digests: Vec<bool> = ordered.steps.iter().map(|(_, guard)| guard.digest.is_some()).collect();
        assert_eq!(
            digests,
            [false, true, false, false, false, false],
            "only what is removed is looked through"
        );
        let time =
            |path: &str| ordered.times.iter().find(|time| time.after.as_deref() == Some(path.as_bytes()));
        assert_eq!(time("e/new").unwrap().new.secs, 9, "of the new directory, as in the container");
        assert_eq!(time("e").unwrap().before.as_deref(), Some(&b"f"[..]), "kept over the move");
        let gone = ordered.times.iter().find(|time| time.before.as_deref() == Some(b"d/s")).unwrap();
        assert_eq!(gone.after, None, "of what goes the time is only put back when it is undone");
    }

    #[test]
    fn rights_are_given_before_the_moves_and_taken_after_them() {
        let mut draft = Draft::default();
        for (image, mode) in [("opened", 0o755), ("closed", 0o555)] {
            let new = Attributes { owner: Some((mode, 0, 0)), ..Attributes::default() };
            let set = Setting { image: image.into(), seen: seen(1), old: Attributes::default(), new };
            draft.settings.push(set);
        }
        leaves(&mut draft, "closed", 1, Some("shut"));
        arrives(&mut draft, "shut", moved("closed"), None);
        assert_eq!(text(&ordered(&draft)), ["set opened", "closed out old/0", "old/0 in shut", "set shut"]);
    }

    #[test]
    fn links_come_first_and_keep_nobody_from_seeing_a_change() {
        let mut draft = Draft::default();
        let file = Seen::example(Kind::File, 7);
        draft.links.push((b"f".to_vec(), b"new/0".to_vec(), file));
        draft
            .leaving
            .insert(b"f".to_vec(), Leaving { to: Some(b"g".to_vec()), seen: Some(file), digest: None });
        arrives(&mut draft, "g", moved("f"), None);
        arrives(&mut draft, "h", From::Staged(b"new/0".to_vec()), Some(8));
        let ordered = ordered(&draft);
        assert_eq!(text(&ordered), ["link f new/0", "f out old/0", "old/0 in g", "new/0 for h"]);
        assert!(ordered.steps.iter().all(|(_, guard)| !guard.ctime), "the link sets the ctime itself");
    }
}
