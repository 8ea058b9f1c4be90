//! Which changes a choice of paths takes. Pure.
//!
//! A path stands for itself and everything below it. With that come, since they cannot be had apart:
//! new and renamed directories above; both ends of a rename; what has to leave a name before something else takes
//! it; what is moved out of a directory before that is deleted; and all changed names of a file that has several, for
//! they show one content. What comes along brings only itself, not what is below it.

use super::path::{self, Bytes};
use super::places::Places;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use stratafs_core::{Change, What};

/// The changes that `chosen` paths take, in their order; `group` says which file a change's object is where it has
/// several names.
pub(super) fn choose(
    changes: &[Change],
    chosen: &[Bytes],
    group: &dyn Fn(&Change) -> Option<u64>,
) -> Vec<Change> {
    let mut choice = Choice::new(changes, group);
    let within = |path: &[u8]| chosen.iter().any(|top| path::below(path, top).is_some());
    for (n, change) in changes.iter().enumerate() {
        let from = match &change.what {
            // Where it was, and where that would be now.
            What::Renamed { from, .. } => {
                let (dir, name) = path::split(from);
                let now = choice.places.now(dir).map(|dir| path::join(&dir, name));
                within(from) || now.is_some_and(|now| within(&now))
            }
            _ => false,
        };
        if from || within(&change.path) {
            choice.take(n);
        }
    }
    while let Some(n) = choice.todo.pop() {
        choice.bring(n);
    }
    let taken = choice.taken;
    changes.iter().zip(taken).filter(|(_, taken)| *taken).map(|(change, _)| change.clone()).collect()
}

struct Choice<'c> {
    changes: &'c [Change],
    taken: Vec<bool>,
    todo: Vec<usize>,
    places: Places,
    by_path: HashMap<&'c [u8], Vec<usize>>,
    /// Renames, by where they start in the image.
    leaves: BTreeMap<&'c [u8], usize>,
    groups: HashMap<u64, Vec<usize>>,
    /// Of which file a change is a name.
    files: HashMap<usize, u64>,
}

impl<'c> Choice<'c> {
    fn new(changes: &'c [Change], group: &dyn Fn(&Change) -> Option<u64>) -> Self {
        let mut choice = Self {
            changes,
            taken: vec![false; changes.len()],
            todo: Vec::new(),
            places: Places::of(changes.iter()),
            by_path: HashMap::new(),
            leaves: BTreeMap::new(),
            groups: HashMap::new(),
            files: HashMap::new(),
        };
        for (n, change) in changes.iter().enumerate() {
            choice.by_path.entry(&change.path).or_default().push(n);
            if let What::Renamed { from, .. } = &change.what {
                choice.leaves.insert(from, n);
            }
            if let Some(file) = group(change) {
                choice.groups.entry(file).or_default().push(n);
                choice.files.insert(n, file);
            }
        }
        choice
    }

    fn take(&mut self, n: usize) {
        if let Some(taken) = self.taken.get_mut(n).filter(|taken| !**taken) {
            *taken = true;
            self.todo.push(n);
        }
    }

    fn take_all(&mut self, which: Vec<usize>) {
        for n in which {
            self.take(n);
        }
    }

    /// Takes what a change cannot be without.
    fn bring(&mut self, n: usize) {
        let Some(change) = self.changes.get(n) else { return };
        let arrives = matches!(change.what, What::Added | What::Renamed { .. });
        for above in path::upwards(path::split(&change.path).0) {
            let parents = self.by_path.get(above).cloned().unwrap_or_default();
            let is_new = |n: &usize| {
                self.changes.get(*n).is_some_and(|c| matches!(c.what, What::Added | What::Renamed { .. }))
            };
            self.take_all(parents.into_iter().filter(is_new).collect());
        }
        if arrives {
            let here = self.by_path.get(change.path.as_slice()).cloned().unwrap_or_default();
            self.take_all(here);
        }
        let slot = self.places.slot(&change.path);
        let Some(image) = slot.image() else { return self.bring_names(n) };
        if arrives && let Some(leaves) = self.leaves.get(image) {
            self.take(*leaves);
        }
        if change.what == What::Deleted {
            let from: (Bound<&[u8]>, _) = (Bound::Excluded(image), Bound::Unbounded);
            let inside = self.leaves.range::<[u8], _>(from);
            // Other names sort in between (`d-x` before `d/x`), so only the prefix ends the search.
            let inside = inside.take_while(|(path, _)| path.starts_with(image));
            let inside = inside.filter(|(path, _)| path::below(path, image).is_some());
            let inside: Vec<usize> = inside.map(|(_, n)| *n).collect();
            self.take_all(inside);
        }
        self.bring_names(n);
    }

    fn bring_names(&mut self, n: usize) {
        let names = self.files.get(&n).and_then(|file| self.groups.get(file)).cloned();
        self.take_all(names.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs_core::{Aspects, Kind};

    fn added(path: &str, kind: Kind) -> Change {
        Change { path: path.into(), kind, what: What::Added }
    }

    fn deleted(path: &str, kind: Kind) -> Change {
        Change { path: path.into(), kind, what: What::Deleted }
    }

    fn modified(path: &str) -> Change {
        Change { path: path.into(), kind: Kind::File, what: What::Modified(Aspects::DATA) }
    }

    fn renamed(path: &str, from: &str, kind: Kind) -> Change {
        let what = What::Renamed { from: from.into(), aspects: Aspects::empty() };
        Change { path: path.into(), kind, what }
    }

    fn paths(changes: &[Change], chosen: &[&str]) -> Vec<String> {
        let chosen: Vec<Bytes> = chosen.iter().map(|path| path.as_bytes().to_vec()).collect();
        let taken = choose(changes, &chosen, &|_| None);
        taken.iter().map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
    }

    #[test]
    fn a_path_takes_what_is_below_and_the_new_directories_above() {
        let changes = [
            added("new", Kind::Dir),
            added("new/other", Kind::File),
            added("new/sub", Kind::Dir),
            added("new/sub/f", Kind::File),
            modified("newer"),
        ];
        assert_eq!(paths(&changes, &["new/sub"]), ["new", "new/sub", "new/sub/f"]);
        assert_eq!(paths(&changes, &["newer"]), ["newer"]);
        assert_eq!(paths(&changes, &["none"]), [""; 0]);
        assert_eq!(paths(&changes, &[""]).len(), 5);
    }

    #[test]
    fn a_rename_is_taken_whole_from_either_end() {
        let changes = [renamed("etc/b", "var/a", Kind::File), modified("etc/c")];
        assert_eq!(paths(&changes, &["var"]), ["etc/b"]);
        assert_eq!(paths(&changes, &["etc/b"]), ["etc/b"]);
        let nested = [renamed("new", "old", Kind::Dir), renamed("out", "old/in", Kind::File)];
        assert_eq!(paths(&nested, &["new"]), ["new", "out"], "it is not in new");
    }

    #[test]
    fn what_stands_in_the_way_goes_along() {
        let swapped = [renamed("a", "b", Kind::Dir), renamed("b", "a", Kind::Dir), modified("c")];
        assert_eq!(paths(&swapped, &["a"]), ["a", "b"]);
        let replaced = [deleted("p", Kind::File), added("p", Kind::Dir), added("p/x", Kind::File)];
        assert_eq!(paths(&replaced, &["p/x"]), ["p", "p", "p/x"]);
        let chained = [renamed("b", "a", Kind::File), renamed("c", "b", Kind::File), modified("d")];
        assert_eq!(paths(&chained, &["b"]), ["b", "c"]);
        assert_eq!(paths(&chained, &["c"]), ["c"], "what follows into its place need not come");
    }

    #[test]
    fn nothing_is_lost_with_a_directory_that_goes() {
        let changes =
            [deleted("d", Kind::Dir), added("d-other", Kind::File), renamed("saved", "d/sub/x", Kind::File)];
        assert_eq!(paths(&changes, &["d"]), ["d", "saved"]);
        let through =
            [renamed("e", "d", Kind::Dir), deleted("e/s", Kind::Dir), renamed("x", "d/s/x", Kind::File)];
        assert_eq!(paths(&through, &["e/s"]), ["e", "e/s", "x"]);
    }

    #[test]
    fn names_of_one_file_stay_together() {
        let changes = [modified("f"), modified("g"), modified("h")];
        let group = |change: &Change| (change.path != b"h").then_some(7);
        let taken = choose(&changes, &[b"g".to_vec()], &group);
        assert_eq!(taken.len(), 2);
    }
}
