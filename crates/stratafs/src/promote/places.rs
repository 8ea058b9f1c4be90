//! Where things are: a path of the container, the place that it has in the image (and so in the target, before
//! anything is moved), and back. Pure.
//!
//! Invariant: a directory that was renamed is, with all in it, at its new path in the container and at its old one in
//! the image; what is in a new directory has no place in the image.

use super::path::{self, Bytes};
use std::collections::HashMap;
use stratafs_core::{Change, Kind, What};

/// Where a path of the container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At this path of the image.
    Image(Bytes),
    /// In a new directory: at this path below the staging directory.
    Staged(Bytes),
}

impl Place {
    pub fn join(&self, rest: &[u8]) -> Self {
        match self {
            Self::Image(at) => Self::Image(path::join(at, rest)),
            Self::Staged(at) => Self::Staged(path::join(at, rest)),
        }
    }

    /// The path in the image.
    pub fn image(&self) -> Option<&[u8]> {
        match self {
            Self::Image(at) => Some(at),
            Self::Staged(_) => None,
        }
    }
}

/// The directories that are elsewhere, or new.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// By path in the container.
    dirs: HashMap<Bytes, Place>,
    /// Paths in the container by path in the image: of renamed directories and files; `None` is gone.
    now: HashMap<Bytes, Option<Bytes>>,
}

impl Places {
    /// From changes; new directories have no place yet but a name that nothing else has.
    pub fn of<'c>(changes: impl Iterator<Item = &'c Change>) -> Self {
        let mut places = Self::default();
        for change in changes.filter(|change| change.kind == Kind::Dir) {
            match &change.what {
                What::Renamed { from, .. } => places.moved(&change.path, from),
                What::Added => places.put(&change.path, Place::Staged(Bytes::new())),
                What::Modified(_) | What::Deleted => {}
            }
        }
        places
    }

    /// Notes where a directory is.
    pub fn put(&mut self, path: &[u8], place: Place) {
        self.dirs.insert(path.to_vec(), place);
    }

    /// Notes a directory that was renamed.
    pub fn moved(&mut self, path: &[u8], from: &[u8]) {
        self.put(path, Place::Image(from.to_vec()));
        self.now.insert(from.to_vec(), Some(path.to_vec()));
    }

    /// Notes that what the image has at a path goes, with all below it that is not moved.
    pub fn gone(&mut self, image: &[u8]) {
        self.now.insert(image.to_vec(), None);
    }

    /// Where a directory is.
    pub fn dir(&self, path: &[u8]) -> Place {
        for above in path::upwards(path) {
            if let Some(place) = self.dirs.get(above) {
                return place.join(path::below(path, above).unwrap_or_default());
            }
        }
        Place::Image(path.to_vec())
    }

    /// The place of a name: in what its directory is, whatever stands there.
    pub fn slot(&self, path: &[u8]) -> Place {
        let (dir, name) = path::split(path);
        self.dir(dir).join(name)
    }

    /// Where in the container a directory of the image is, `None` when it is gone.
    pub fn now(&self, image: &[u8]) -> Option<Bytes> {
        for above in path::upwards(image) {
            if let Some(now) = self.now.get(above) {
                let rest = path::below(image, above).unwrap_or_default();
                return now.as_ref().map(|now| path::join(now, rest));
            }
        }
        Some(image.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs_core::Aspects;

    fn change(path: &str, what: What) -> Change {
        Change { path: path.into(), kind: Kind::Dir, what }
    }

    fn renamed(from: &str) -> What {
        What::Renamed { from: from.into(), aspects: Aspects::empty() }
    }

    #[test]
    fn the_nearest_renamed_or_new_directory_decides() {
        let changes = [
            change("b", renamed("a")),
            change("b/y", renamed("a/x")),
            change("b/new", What::Added),
            change("a", renamed("c")),
        ];
        let mut places = Places::of(changes.iter());
        let image = |path: &[u8]| Place::Image(path.to_vec());
        assert_eq!(places.dir(b"b/f"), image(b"a/f"));
        assert_eq!(places.dir(b"b/y/f"), image(b"a/x/f"));
        assert_eq!(places.dir(b"a/f"), image(b"c/f"));
        assert_eq!(places.dir(b"d"), image(b"d"));
        assert_eq!(places.slot(b"b/y"), image(b"a/y"), "the name in its directory, not what stands there");
        assert_eq!(places.slot(b"b/new"), image(b"a/new"));
        assert_eq!(places.slot(b"b/new/f").image(), None);
        assert_eq!(places.now(b"a/x/f").unwrap(), b"b/y/f");
        assert_eq!(places.now(b"a/z").unwrap(), b"b/z");
        assert_eq!(places.now(b"d").unwrap(), b"d");
        places.gone(b"d");
        assert_eq!(places.now(b"d/e"), None);
    }
}
