//! Finding paths in an unpacked tree: no link is followed, and the way to the last directory is remembered.

use crate::Result;
use stratafs_core::{Found, Hit, Layer, Name};

/// Finds paths in a tree.
pub(super) struct Finder<'t, L: Layer> {
    pub(super) tree: &'t L,
    /// The way to the directory that was used last.
    open: Vec<(Vec<u8>, L::Node)>,
}

impl<'t, L: Layer> Finder<'t, L> {
    pub(super) fn new(tree: &'t L) -> Self {
        Self { tree, open: Vec::new() }
    }

    /// What stands at a path; the empty one is the root.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Found<L::Node>> {
        let mut names = path.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
        let mut depth = 0;
        loop {
            let Some(name) = names.next() else { return Ok(Found::Node(self.tree.root()?)) };
            if names.peek().is_some() && self.open.get(depth).is_some_and(|(known, _)| known == name) {
                depth += 1;
                continue;
            }
            self.open.truncate(depth);
            let Ok(checked) = Name::new(name) else { return Ok(Found::Absent) };
            let found = match self.open.last() {
                Some((_, dir)) => self.tree.lookup(dir, checked)?,
                None => self.tree.lookup(&self.tree.root()?.node, checked)?,
            };
            if names.peek().is_none() {
                return Ok(found);
            }
            match found {
                Found::Node(hit) if hit.attr.is_dir() => self.open.push((name.to_vec(), hit.node)),
                _ => return Ok(Found::Absent),
            }
            depth += 1;
        }
    }

    /// The object at a path, if there is one.
    pub(super) fn object(&mut self, path: &[u8]) -> Result<Option<Hit<L::Node>>> {
        Ok(match self.find(path)? {
            Found::Node(hit) => Some(hit),
            Found::Absent | Found::Whiteout => None,
        })
    }
}
