//! What a layer answers, for both kinds of handle.

use crate::fs::Fs;
use crate::object::{Body, Entry, MemNode};
use std::ops::ControlFlow;
use stratafs_core::{Attr, ErrorKind, Found, Hit, Marks, Name, NameBuf, RawEntry};

/// The number that a whiteout is listed with: it is no object and has none of its own.
const WHITEOUT_INO: u64 = 0;

impl Fs {
    pub(crate) fn lookup(&self, dir: &MemNode, name: Name<'_>) -> Result<Found<MemNode>, ErrorKind> {
        let dir = self.own(dir)?;
        let _tree = self.tree.read();
        let entry = dir.state.read().dir()?.names.get(name.as_bytes()).cloned();
        Ok(match entry {
            None => Found::Absent,
            Some(Entry::Whiteout) => Found::Whiteout,
            Some(Entry::Object(object)) => Found::Node(object.hit()),
        })
    }

    pub(crate) fn hit(&self, node: &MemNode) -> Result<Hit<MemNode>, ErrorKind> {
        let object = self.own(node)?;
        let _tree = self.tree.read();
        Ok(object.hit())
    }

    pub(crate) fn attr(&self, node: &MemNode) -> Result<Attr, ErrorKind> {
        let object = self.own(node)?;
        let _tree = self.tree.read();
        Ok(object.attr())
    }

    pub(crate) fn marks(&self, node: &MemNode) -> Result<Marks, ErrorKind> {
        Ok(self.own(node)?.state.read().marks.clone())
    }

    /// Lists what is there at the call; the sink runs without a lock and may come back for more.
    pub(crate) fn read_dir(
        &self,
        dir: &MemNode,
        sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ErrorKind> {
        let dir = self.own(dir)?;
        let listed: Vec<_> = {
            let _tree = self.tree.read();
            let state = dir.state.read();
            let one = |(name, entry): (&NameBuf, &Entry)| {
                let object = entry.object();
                (name.clone(), object.map(|o| o.kind), object.map_or(WHITEOUT_INO, |o| o.id.ino))
            };
            state.dir()?.names.iter().map(one).collect()
        };
        for (name, kind, ino) in &listed {
            if sink(RawEntry { name: name.as_name(), kind: *kind, ino: *ino }).is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn read_link(&self, node: &MemNode) -> Result<Vec<u8>, ErrorKind> {
        let object = self.own(node)?;
        let target = match &object.state.read().body {
            Body::Symlink(target) => target.to_vec(),
            _ => return Err(ErrorKind::InvalidInput),
        };
        Ok(target)
    }
}
