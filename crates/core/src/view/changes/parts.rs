//! The two halves of a merged directory that a comparison tells apart: the parts that hold changes (the scratch's and
//! those of the layers above the base) and the tail, which is the base's. Invariant: numbers of layers are the
//! view's, so the base's first layer is number `newer`.

use super::{Raw, Walk, join};
use crate::attr::{FileId, Kind};
use crate::error::Result;
use crate::layer::{Found, Layer};
use crate::marks::Marks;
use crate::merge::{self, Ceiling, Query};
use crate::name::Name;
use crate::scratch::Scratch;
use crate::view::object::{Inode, Lower};
use std::collections::HashSet;
use std::ops::ControlFlow;

impl<L: Layer, S: Scratch> Walk<'_, L, S> {
    fn split(&self, lowers: &[Lower<L::Node>]) -> usize {
        lowers.partition_point(|lower| lower.layer < self.newer)
    }

    /// What of an object is the base's.
    pub(super) fn tail<'i>(&self, inode: &'i Inode<L, S>) -> &'i [Lower<L::Node>] {
        let lowers = inode.lowers();
        lowers.get(self.split(lowers)..).unwrap_or_default()
    }

    /// What of an object is in the layers above the base.
    pub(super) fn frozen<'i>(&self, inode: &'i Inode<L, S>) -> &'i [Lower<L::Node>] {
        let lowers = inode.lowers();
        lowers.get(..self.split(lowers)).unwrap_or_default()
    }

    /// True when the scratch or a layer above the base has a part of the object.
    pub(super) fn is_touched(&self, inode: &Inode<L, S>) -> bool {
        inode.is_upper() || !self.frozen(inode).is_empty()
    }

    /// What the parts of a directory that hold changes say, topmost first: the first word for a name counts.
    pub(super) fn read_raw(&self, dir: &Inode<L, S>) -> Result<Raw> {
        let mut entries = Raw::new();
        let upper = dir.0.state.read().upper.clone();
        if let (Some(upper), Some(scratch)) = (upper, self.view.scratch()) {
            scratch.read_dir(&upper, &mut |entry| {
                entries.push((entry.name.to_buf(), entry.kind));
                ControlFlow::Continue(())
            })?;
        }
        let frozen = self.frozen(dir);
        if frozen.is_empty() {
            return Ok(entries);
        }
        let mut known: HashSet<Vec<u8>> = entries.iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
        for part in frozen {
            let layer = self.view.layer(part)?;
            let read = layer.read_dir(&part.node, &mut |entry| {
                if known.insert(entry.name.as_bytes().to_vec()) {
                    entries.push((entry.name.to_buf(), entry.kind));
                }
                ControlFlow::Continue(())
            });
            read.map_err(|e| e.in_layer(&layer.caps().label))?;
        }
        Ok(entries)
    }

    /// True when a part of a directory may say that it is known elsewhere below.
    pub(super) fn may_be_moved(&self, dir: &Inode<L, S>) -> bool {
        dir.0.state.read().redirect.is_some() || !self.frozen(dir).is_empty()
    }

    /// Where the base has what a directory of the merged view rests on.
    pub(super) fn path_below(&self, dir: &Inode<L, S>) -> Result<Vec<u8>> {
        let mut parts = Vec::new();
        let mut here = dir.clone();
        while let Some((parent, name)) = here.place() {
            let marks = {
                let state = here.0.state.read();
                let marks =
                    Marks { opaque: state.opaque, redirect: state.redirect.clone(), ..Marks::default() };
                state.upper.is_some().then_some(marks)
            };
            let ceiling = marks.as_ref().map(|marks| Ceiling { is_dir: true, marks });
            let above = parent.lowers().iter().map(|lower| (lower.layer, &lower.node));
            let query = merge::query_below(
                &self.view.0.roots,
                above,
                name.as_name(),
                ceiling,
                self.newer,
                |layer, node, name| self.ask(layer, node, name),
            )?;
            match query {
                Some(Query::Sibling(name)) => parts.push(name),
                Some(Query::Path(path)) => {
                    parts.extend(path.into_iter().rev());
                    break;
                }
                None => break,
            }
            here = parent;
        }
        Ok(parts.iter().rev().fold(Vec::new(), |path, part| join(&path, part.as_name())))
    }

    pub(super) fn ask(&self, layer: usize, node: &L::Node, name: Name<'_>) -> Result<Found<L::Node>> {
        match self.view.0.layers.get(layer) {
            Some(layer) => layer.lookup(node, name).map_err(|e| e.in_layer(&layer.caps().label)),
            None => Ok(Found::Absent),
        }
    }

    /// Notes what the files that the layers above the base have under a name were copied up from: a later layer that
    /// copied one up again knows only the copy.
    pub(super) fn note_origins(&mut self, dir: &Inode<L, S>, name: Name<'_>) -> Result<()> {
        for part in self.frozen(dir) {
            if let Found::Node(hit) = self.ask(part.layer, &part.node, name)?
                && let (true, Some(origin)) = (hit.attr.kind != Kind::Dir, &hit.marks.origin)
                && let Some(id) = self.view.locate(origin)
            {
                self.origins.insert(hit.attr.id, id);
            }
        }
        Ok(())
    }

    /// What a file that is not at its place in the base was copied up from, if anything says so.
    pub(super) fn copied_from(&self, inode: &Inode<L, S>) -> Result<Option<FileId>> {
        let known = match (inode.is_upper(), self.frozen(inode).first()) {
            (true, _) => inode.0.state.read().has_origin.then_some(inode.0.id),
            (false, None) => None,
            (false, Some(top)) => {
                let marks = self.view.layer(top)?.marks(&top.node)?;
                marks.origin.and_then(|origin| self.view.locate(&origin))
            }
        };
        Ok(known)
    }

    /// The object of the base that an identity goes back to.
    pub(super) fn first_origin(&self, mut id: FileId) -> FileId {
        for _ in 0..self.newer {
            match self.origins.get(&id) {
                Some(earlier) => id = *earlier,
                None => break,
            }
        }
        id
    }
}
