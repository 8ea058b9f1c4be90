//! Files with several names: which changed names show one file of the container, and where the target has that
//! file already, unchanged, so that new names become links to it and not copies.

use super::compare::find;
use super::path::{self, Bytes};
use super::places::Places;
use crate::container::Engine;
use crate::{Name, Result};
use std::collections::HashMap;
use std::ops::ControlFlow;
use stratafs_core::{Caller, Change, Kind, What};

/// What is known of files with several names, by number in the container.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Where the image has it.
    kept: HashMap<u64, Bytes>,
    /// Where the first name is staged; empty until it is.
    staged: HashMap<u64, Option<Bytes>>,
    /// By path.
    files: HashMap<Bytes, u64>,
}

impl Links {
    /// Looks at all changed names. Only where a changed file has names that did not change is the rest of the
    /// container searched for them: nothing else knows these.
    pub fn of(view: &Engine, changes: &[Change]) -> Result<Self> {
        let mut links = Self::default();
        let mut names = HashMap::<u64, (u32, u32)>::new();
        for change in changes.iter().filter(|change| change.kind != Kind::Dir) {
            if change.what == What::Deleted {
                continue;
            }
            let Some(inode) = find(view, &change.path)? else { continue };
            let nlink = view.attr(&inode)?.nlink;
            if nlink <= 1 {
                continue;
            }
            names.entry(inode.ino()).or_insert((0, nlink)).0 += 1;
            links.files.insert(change.path.clone(), inode.ino());
            links.staged.insert(inode.ino(), None);
            if let What::Renamed { from, aspects } = &change.what
                && aspects.is_empty()
            {
                links.kept.insert(inode.ino(), from.clone());
            }
        }
        let open = |(ino, (known, nlink)): (&u64, &(u32, u32))| {
            (known < nlink && !links.kept.contains_key(ino)).then_some(*ino)
        };
        let wanted: Vec<u64> = names.iter().filter_map(open).collect();
        if !wanted.is_empty() {
            links.search(view, &wanted, changes)?;
        }
        Ok(links)
    }

    fn search(&mut self, view: &Engine, wanted: &[u64], changes: &[Change]) -> Result<()> {
        let places = Places::of(changes.iter());
        let mut dirs = vec![(view.root(), Bytes::new())];
        while let Some((dir, path)) = dirs.pop() {
            let mut below = Vec::new();
            view.open_dir(&dir, &Caller::root())?.read(0, &mut |entry| {
                let path = path::join(&path, entry.name.as_bytes());
                if entry.kind == Kind::Dir {
                    below.push((entry.name.as_bytes().to_vec(), path));
                } else if wanted.contains(&entry.ino)
                    && !self.files.contains_key(&path)
                    && let Some(image) = places.slot(&path).image()
                {
                    self.kept.entry(entry.ino).or_insert_with(|| image.to_vec());
                }
                ControlFlow::Continue(())
            })?;
            for (name, path) in below {
                if let Some(next) = view.lookup(&dir, Name::new(&name)?)? {
                    dirs.push((next, path));
                }
            }
        }
        Ok(())
    }

    /// Which file a change's object is, where it has several names.
    pub fn file(&self, change: &Change) -> Option<u64> {
        match change.what {
            What::Deleted => None,
            _ => self.files.get(&change.path).copied(),
        }
    }

    /// Where the image has a file.
    pub fn kept(&self, ino: u64) -> Option<Bytes> {
        self.kept.get(&ino).cloned()
    }

    /// Where a file with several names was staged first; this place, when it is the first.
    pub fn staged(&mut self, ino: u64, place: &[u8]) -> Option<Bytes> {
        let first = self.staged.get_mut(&ino)?;
        let known = first.clone();
        if known.is_none() {
            *first = Some(place.to_vec());
        }
        known
    }
}
