//! Before a scratch becomes a layer: hard links over copy-up are kept by an index, which does not work from a layer. So
//! every name that a copied-up object still has below is given to it in the scratch, and then the index goes.
//!
//! Invariant: the merged tree is the same before and after every verb. Names are linked while the count speaks of the
//! lower object (as every link that nobody sees); the entry of the index goes when all names are there, and a count
//! whose entry is gone is not believed any more: the real one is right from that moment.

use super::View;
use super::changes::join;
use super::object::Inode;
use crate::attr::{FileId, Kind};
use crate::error::Result;
use crate::layer::{Hit, Layer};
use crate::marks::{Mark, NlinkBase, Origin};
use crate::name::NameBuf;
use crate::scratch::Scratch;
use crate::view::copy_up::Need;
use std::collections::{HashMap, HashSet};

/// A name that a lower object has in the merged view and not in the scratch.
pub(crate) struct Sighting<L: Layer, S: Scratch> {
    pub dir: Inode<L, S>,
    pub name: NameBuf,
    /// The path from the root, without a leading slash.
    pub path: Vec<u8>,
    /// The lower object.
    pub id: FileId,
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Makes the scratch complete by itself as far as hard links go, so that as a layer it shows the same tree: every
    /// name that a copied-up object with several names still has below gets into the scratch, then the index is
    /// emptied. Costs nothing when the index is empty; otherwise, where names are missing, the view is searched for
    /// them. Nobody may change the view meanwhile. Nothing is synced.
    ///
    /// A link count that also spoke of names which no layer shows any more is afterwards the number of names
    /// that there are.
    ///
    /// # Errors
    /// What the backends say. The tree is the same then too, and the call can be made again.
    pub fn settle_links(&self) -> Result<()> {
        let Some(scratch) = self.scratch() else { return Ok(()) };
        let entries: Vec<_> =
            scratch.index_entries()?.into_iter().filter(|(_, hit)| hit.attr.kind != Kind::Dir).collect();
        let mut wanted = HashSet::new();
        for (origin, hit) in &entries {
            if let (Some(id), true) = (self.locate(origin), lacks_names(hit)) {
                wanted.insert(id);
            }
        }
        for Sighting { dir, name, path, .. } in self.names_below(&wanted)? {
            self.name_in_scratch(&dir, &name).map_err(|e| e.about(&path))?;
        }
        for (origin, hit) in &entries {
            self.drop_from_index(scratch, origin, hit)?;
        }
        Ok(())
    }

    /// All names of objects that are in the layers alone: which of `inodes`, and the path from the root without a leading
    /// slash, sorted by path. One walk through the whole view, however many they are.
    ///
    /// # Errors
    /// What the backends say.
    pub fn names_of(&self, inodes: &[Inode<L, S>]) -> Result<Vec<(usize, Vec<u8>)>> {
        let lower = |inode: &Inode<L, S>| inode.lowers().first().map(|top| top.attr.id);
        let which: HashMap<_, _> =
            inodes.iter().enumerate().filter_map(|(at, inode)| Some((lower(inode)?, at))).collect();
        let found = self.names_below(&which.keys().copied().collect())?.into_iter();
        let mut names: Vec<_> = found.filter_map(|seen| Some((*which.get(&seen.id)?, seen.path))).collect();
        names.sort_by(|(_, a), (_, b)| a.cmp(b));
        Ok(names)
    }

    fn name_in_scratch(&self, dir: &Inode<L, S>, name: &NameBuf) -> Result<()> {
        let dir_node = self.copy_up(dir, Need::Metadata)?;
        let Some(inode) = self.lookup(dir, name.as_name())? else { return Ok(()) };
        let _lock = inode.0.copy_up.lock();
        let _names = dir.0.dir.as_ref().map(|part| part.names.write());
        self.ensure_linked(&inode, dir, &dir_node, name.as_name())
    }

    fn drop_from_index(&self, scratch: &S, origin: &Origin, hit: &Hit<S::Node>) -> Result<()> {
        let live = self.locate(origin).and_then(|id| self.0.cache.linked(id));
        let _lock = live.as_ref().map(|inode| inode.0.copy_up.lock());
        // The node of the index entry is reached through its name there.
        let node = scratch.pin(&hit.node)?;
        scratch.drop_indexed(origin)?;
        if let Some(inode) = &live {
            let mut state = inode.0.state.write();
            state.index = None;
            state.nlink = None;
        }
        // For the kernel, which believes the mark.
        scratch.mark(&node, Mark::Nlink(NlinkBase::Upper(0)))
    }

    /// The names in the merged view under which lower objects of these identities are seen from below.
    pub(crate) fn names_below(&self, wanted: &HashSet<FileId>) -> Result<Vec<Sighting<L, S>>> {
        let mut found = Vec::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        let mut dirs = vec![(self.root(), Vec::new())];
        while let Some((dir, path)) = dirs.pop() {
            let merged = self.listing(&dir)?;
            for entry in merged.entries() {
                if entry.kind == Kind::Dir {
                    if let Some(child) = self.lookup(&dir, entry.name)? {
                        dirs.push((child, join(&path, entry.name)));
                    }
                    continue;
                }
                let from_layer = dir.lowers().get(entry.source.wrapping_sub(usize::from(dir.is_upper())));
                let id = from_layer.map(|lower| FileId { dev: lower.attr.id.dev, ino: entry.ino });
                if let Some(id) = id.filter(|id| wanted.contains(id)) {
                    let (name, path) = (entry.name.to_buf(), join(&path, entry.name));
                    found.push(Sighting { dir: dir.clone(), name, path, id });
                }
            }
        }
        Ok(found)
    }
}

/// Some of an indexed object's names may not be in the scratch: one link of its own is the index's.
fn lacks_names<N>(hit: &Hit<N>) -> bool {
    match hit.marks.nlink {
        Some(NlinkBase::Upper(more)) => more > -1,
        _ => true,
    }
}
