//! The change list against an independent comparison: the image's tree and the container's are walked through two
//! views, and after the reported renames were applied to the former, the difference must be the rest of the list.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use stratafs_core::{
    Aspects, Attr, Change, Config, Device, Inode, Kind, Layer, Name, Scratch, Stack, Time, View, What,
};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::Rng;
use stratafs_testkit::view::{ViewSubject, contents, entries};
use stratafs_testkit::{Path, StackSpec, Subject, TreeSpec};
use stratafs_tests::beds::{self, DirBed, MemBed};
use stratafs_tests::{minimise, need};

/// What panics say when a minimised stack makes no sense.
const FIXTURE: &str = "layer: ";
/// Operations on one stack.
const OPS: usize = 24;

/// What can be told of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: Kind,
    metadata: (u32, u32, u32, Device),
    mtime: Time,
    data: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Seen {
    fn of<L: Layer, S: Scratch>(view: &View<L, S>, inode: &Inode<L, S>) -> Self {
        let Attr { kind, mode, uid, gid, rdev, mtime, .. } = view.attr(inode).unwrap();
        let data = match kind {
            Kind::File => contents(view, inode).unwrap(),
            Kind::Symlink => view.read_link(inode).unwrap(),
            _ => Vec::new(),
        };
        let names = view.xattrs(inode).unwrap().into_iter();
        let xattrs = names.map(|n| (n.clone(), view.xattr(inode, &n).unwrap().unwrap())).collect();
        Self { kind, metadata: (mode, uid, gid, rdev), mtime, data, xattrs }
    }

    fn aspects(&self, new: &Self) -> Aspects {
        let mut aspects = Aspects::empty();
        aspects.set(Aspects::DATA, self.data != new.data);
        aspects.set(Aspects::METADATA, self.metadata != new.metadata);
        aspects.set(Aspects::XATTRS, self.xattrs != new.xattrs);
        aspects.set(Aspects::TIMES, self.mtime != new.mtime);
        aspects
    }
}

type Tree = BTreeMap<Path, Seen>;

fn walk<L: Layer, S: Scratch>(view: &View<L, S>) -> Tree {
    let mut tree = Tree::from([(Path::root(), Seen::of(view, &view.root()))]);
    let mut dirs = vec![(Path::root(), view.root())];
    while let Some((path, dir)) = dirs.pop() {
        for (name, kind, _) in entries(view, &dir).unwrap() {
            let inode = view.lookup(&dir, Name::new(&name).unwrap()).unwrap().unwrap();
            let path = path.join(&name);
            tree.insert(path.clone(), Seen::of(view, &inode));
            if kind == Kind::Dir {
                dirs.push((path, inode));
            }
        }
    }
    tree
}

/// Where an object of the image is looked for in the container.
struct Place {
    path: Path,
    /// A rename says that it is here.
    moved: bool,
}

/// Says every way in which the list is not exact.
fn faults(old: &Tree, new: &Tree, changes: &[Change]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut renames = BTreeMap::new();
    for change in changes {
        if let What::Renamed { from, .. } = &change.what
            && renames.insert(Path::of(from), Path::of(&change.path)).is_some()
        {
            faults.push(format!("renamed twice: {change:?}"));
        }
    }
    let taken: BTreeSet<&Path> = renames.values().collect();
    let mut expected = BTreeSet::new();
    let mut add = |path: &Path, kind: Kind, what: What| expected.insert(line(&path.bytes(), kind, &what));
    // By path, so that a directory comes before what is in it; `None`: it is gone.
    let mut places = BTreeMap::<&Path, Option<Place>>::new();
    let mut found = BTreeSet::new();
    for (path, was) in old {
        let place = match (renames.get(path), path.split()) {
            (Some(to), _) => Some(Place { path: to.clone(), moved: true }),
            (None, None) => Some(Place { path: Path::root(), moved: false }),
            (None, Some((_, name))) => match places.get(&path.parent()) {
                Some(Some(parent)) => Some(Place { path: parent.path.join(name), moved: false }),
                _ => None,
            },
        };
        let Some(place) = place else {
            places.insert(path, None);
            continue;
        };
        let is = new.get(&place.path).filter(|is| is.kind == was.kind);
        match is {
            Some(is) if place.moved || !taken.contains(&place.path) => {
                let aspects = was.aspects(is);
                if place.moved {
                    add(&place.path, was.kind, What::Renamed { from: path.bytes(), aspects });
                } else if !aspects.is_empty() {
                    add(&place.path, was.kind, What::Modified(aspects));
                }
                found.insert(place.path.clone());
                places.insert(path, Some(place));
            }
            _ => {
                add(&place.path, was.kind, What::Deleted);
                places.insert(path, None);
            }
        }
    }
    for (path, is) in new.iter().filter(|(path, _)| !found.contains(*path)) {
        add(path, is.kind, What::Added);
    }
    let mut reported = BTreeSet::new();
    for change in changes {
        let line = line(&change.path, change.kind, &change.what);
        if !reported.insert(line.clone()) {
            faults.push(format!("twice: {line}"));
        }
    }
    faults.extend(expected.difference(&reported).map(|line| format!("missing: {line}")));
    faults.extend(reported.difference(&expected).map(|line| format!("invented: {line}")));
    faults
}

fn line(path: &[u8], kind: Kind, what: &What) -> String {
    let shown = path.escape_ascii();
    match what {
        What::Renamed { from, aspects } => {
            format!("{shown} {kind:?} renamed from {} {aspects:?}", from.escape_ascii())
        }
        other => format!("{shown} {kind:?} {other:?}"),
    }
}

fn check<B: Bed + Clone + 'static>(stack: &StackSpec, ops: &[Op]) {
    let bed = B::new(stack).unwrap();
    let layers = Stack { layers: bed.layers(), scratch: None::<B::S> };
    let old = walk(&View::new(layers, Config::default()).unwrap());
    let mut subject = ViewSubject::new({
        let bed = bed.clone();
        move || beds::view(&bed)
    });
    // The roots of a fresh scratch and of the image may have different times.
    let fresh = faults(&old, &walk(subject.view()), &subject.view().changes().unwrap());
    assert_eq!(fresh, [""; 0], "before anything was done");
    for op in ops {
        let _ = subject.apply(op);
    }
    let new = walk(subject.view());
    let live = subject.view().changes().unwrap();
    let wrong = faults(&old, &new, &live);
    assert!(wrong.is_empty(), "{wrong:#?}\nof {:#?}", lines(&live));
    subject.reopen();
    let again = subject.view().changes().unwrap();
    let (live, again): (BTreeSet<_>, BTreeSet<_>) = (lines(&live), lines(&again));
    let (lost, found): (Vec<_>, Vec<_>) =
        (live.difference(&again).collect(), again.difference(&live).collect());
    assert!(lost.is_empty() && found.is_empty(), "after reopening: lost {lost:#?}, found {found:#?}");
}

fn lines(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|c| line(&c.path, c.kind, &c.what)).collect()
}

fn sequences<B: Bed + Clone + 'static>(default: u32) {
    let seed = need::seed();
    let cases = need::number("STRATAFS_CASES").unwrap_or(default);
    println!("changes: seed {seed}, {cases} sequences");
    let mut rng = Rng::new(seed);
    for _ in 0..cases {
        let stack = generate::stack(&mut rng);
        let known = Known::of_stack(&stack);
        let ops: Vec<Op> = (0..OPS).map(|_| generate::op(&mut rng, &known)).collect();
        minimise::check(&stack, &ops, FIXTURE, &|stack, ops| check::<B>(stack, ops));
    }
}

#[test]
fn in_memory() {
    sequences::<MemBed>(2000);
}

#[test]
fn in_directories() {
    if need::root() {
        sequences::<DirBed>(150);
    }
}

#[test]
fn the_comparison_notices_what_is_left_out() {
    let bed = MemBed::new(&StackSpec::one(TreeSpec::new().file("f", "x"))).unwrap();
    let old = walk(&beds::view(&bed));
    let mut subject = ViewSubject::new(move || beds::view(&bed));
    subject.apply(&Op::Unlink { path: Path::of("f") }).unwrap();
    let new = walk(subject.view());
    assert_eq!(faults(&old, &new, &[]).len(), 2, "the deletion and the root's time");
}
