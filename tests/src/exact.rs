//! A change list against an independent comparison: two trees are walked through two views, and after the reported
//! renames were applied to the older, the difference must be the rest of the list.

use std::collections::{BTreeMap, BTreeSet};
use stratafs_core::{Aspects, Attr, Change, Device, Inode, Kind, Layer, Name, Scratch, Time, View, What};
use stratafs_testkit::Path;
use stratafs_testkit::view::{contents, entries};

/// What can be told of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    kind: Kind,
    metadata: (u32, u32, u32, Device),
    mtime: Time,
    data: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Seen {
    fn of<L: Layer, S: Scratch>(view: &View<L, S>, inode: &Inode<L, S>) -> Self {
        let Attr { kind, mode, uid, gid, rdev, mtime, .. } = view.attr(inode).expect("read attributes");
        let data = match kind {
            Kind::File => contents(view, inode).expect("read a file"),
            Kind::Symlink => view.read_link(inode).expect("read a link"),
            _ => Vec::new(),
        };
        let names = view.xattrs(inode).expect("list attributes").into_iter();
        let value = |name: &[u8]| view.xattr(inode, name).expect("read an attribute").unwrap_or_default();
        let xattrs = names.map(|name| (name.clone(), value(&name))).collect();
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

/// Everything in a tree, its root too.
pub type Tree = BTreeMap<Path, Seen>;

/// Walks through a view.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn walk<L: Layer, S: Scratch>(view: &View<L, S>) -> Tree {
    let mut tree = Tree::from([(Path::root(), Seen::of(view, &view.root()))]);
    let mut dirs = vec![(Path::root(), view.root())];
    while let Some((path, dir)) = dirs.pop() {
        for (name, kind, _) in entries(view, &dir).expect("list a directory") {
            let found = Name::new(&name).and_then(|name| view.lookup(&dir, name)).expect("look up");
            let inode = found.expect("what is listed is there");
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
#[must_use]
pub fn faults(old: &Tree, new: &Tree, changes: &[Change]) -> Vec<String> {
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

/// One change as text.
#[must_use]
pub fn line(path: &[u8], kind: Kind, what: &What) -> String {
    let shown = path.escape_ascii();
    match what {
        What::Renamed { from, aspects } => {
            format!("{shown} {kind:?} renamed from {} {aspects:?}", from.escape_ascii())
        }
        other => format!("{shown} {kind:?} {other:?}"),
    }
}

/// Changes as text.
#[must_use]
pub fn lines(changes: &[Change]) -> BTreeSet<String> {
    changes.iter().map(|c| line(&c.path, c.kind, &c.what)).collect()
}
