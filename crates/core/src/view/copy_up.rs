//! Copy-up of an object and of the directories above it. Invariant: an object is copied up under its own
//! copy-up lock only, so that a long copy stops nobody who does not need that very object in the scratch.

use super::View;
use super::exec::{Exec, Source};
use super::object::{Inode, Object};
use crate::attr::{Kind, SetAttr};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::marks::{NlinkBase, Origin};
use crate::name::Name;
use crate::plan::{self, CopyUp, Data, Durability, LinkUp, Put, Who};
use crate::scratch::{At, Scratch, Seed};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;

/// How much of an object has to be in the scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Names and attributes.
    Metadata,
    /// The data too, or its first so many bytes: the rest is about to be cut off.
    Data(u64),
}

impl Need {
    pub const ALL: Self = Self::Data(u64::MAX);
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Brings an object and all directories above it into the scratch; returns its node there.
    pub(crate) fn copy_up(&self, inode: &Inode<L, S>, need: Need) -> Result<S::Node> {
        if let Some(upper) = present(&inode.0, need) {
            return Ok(upper);
        }
        self.copy_up_parents(inode)?;
        let lock = inode.0.copy_up.lock();
        self.copy_up_locked(inode, need, &lock)
    }

    /// Copies up the directories above an object, topmost first and one by one.
    pub(crate) fn copy_up_parents(&self, inode: &Inode<L, S>) -> Result<()> {
        if inode.0.state.read().removed {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut next = inode.place();
        while let Some((parent, _)) = next {
            if parent.is_upper() {
                break;
            }
            next = parent.place();
            missing.push(parent);
        }
        for dir in missing.iter().rev() {
            let lock = dir.0.copy_up.lock();
            self.copy_up_locked(dir, Need::Metadata, &lock)?;
        }
        Ok(())
    }

    /// As [`View::copy_up`], for the holder of the object's copy-up lock whose parents are in the scratch.
    pub(crate) fn copy_up_locked(
        &self,
        inode: &Inode<L, S>,
        need: Need,
        _lock: &MutexGuard<'_, ()>,
    ) -> Result<S::Node> {
        if let Some(upper) = present(&inode.0, need) {
            return Ok(upper);
        }
        if inode.is_upper() {
            self.bring_data(inode, need)
        } else {
            self.copy_object(inode, need, &SetAttr::default())
        }
    }

    /// Copies an object up with other attributes than it had below: nobody sees it with the old ones.
    pub(crate) fn copy_up_changed(
        &self,
        inode: &Inode<L, S>,
        set: &SetAttr,
        _lock: &MutexGuard<'_, ()>,
    ) -> Result<S::Node> {
        self.copy_object(inode, Need::Metadata, set)
    }

    fn copy_object(&self, inode: &Inode<L, S>, need: Need, set: &SetAttr) -> Result<S::Node> {
        let scratch = self.writable("copy up")?;
        let object = &*inode.0;
        let Some(top) = object.lowers.first() else {
            return Err(Error::new(ErrorKind::Stale, "copy up").because("the object has no lower part"));
        };
        let attr = &top.attr;
        self.check_policy(attr.kind, attr.uid, attr.gid)?;
        let (place, removed, index) = {
            let state = object.state.read();
            (state.parent.clone().map(|p| (p, state.name.clone())), state.removed, state.index.clone())
        };
        let parent = match &place {
            Some((parent, name)) if !removed => {
                let state = parent.0.state.read();
                state.upper.clone().map(|node| (node, name, state.impure))
            }
            _ => None,
        };
        let layer = self.layer(top)?;
        let origin = match &index {
            Some(origin) => Some(origin.clone()),
            None if attr.kind == Kind::Dir || attr.nlink <= 1 => Some(layer.origin(&top.node)?),
            None => None,
        };
        let facts = CopyUp {
            kind: attr.kind,
            data: match (attr.kind, need) {
                (Kind::File, Need::Data(keep)) => Data::Copy(keep.min(attr.size)),
                (Kind::File, Need::Metadata) if attr.size > 0 && scratch.features().metacopy => {
                    Data::Below(attr.size)
                }
                (Kind::File, Need::Metadata) => Data::Copy(attr.size),
                _ => Data::None,
            },
            indexed: index.is_some(),
            origin: origin.is_some(),
            named: parent.is_some(),
            parent_impure: parent.as_ref().is_some_and(|(_, _, impure)| *impure),
            durability: self.0.config.durability,
        };
        let target = match attr.kind {
            Kind::Symlink => layer.read_link(&top.node)?,
            _ => Vec::new(),
        };
        let mut exec = Exec::new(scratch, self.0.config.untrusted);
        exec.at = parent.as_ref().map(|(dir, name, _)| At { dir, name: name.as_name() });
        exec.names = place.as_ref().and_then(|(parent, _)| parent.0.dir.as_ref()).map(|part| &part.names);
        exec.seed = Some(Seed {
            kind: attr.kind,
            mode: staging_mode(set.mode.unwrap_or(attr.mode)),
            uid: set.uid.unwrap_or(attr.uid),
            gid: set.gid.unwrap_or(attr.gid),
            rdev: attr.rdev,
            target: &target,
        });
        exec.source = Some(Source { layer, lower: top });
        exec.set = *set;
        exec.data = self.data_source(object)?;
        exec.cut = matches!((facts.data, need), (Data::Copy(keep), Need::Data(_)) if keep < attr.size);
        exec.origin = origin.as_ref();
        let ran = exec.run(&plan::copy_up(&facts)).map_err(|e| about_place(e, &place));
        let Some(node) = exec.subject.take() else {
            return Err(ran.err().unwrap_or_else(|| Error::new(ErrorKind::Stale, "copy up")));
        };
        // Published, perhaps only into the index: from here on that is where the object is.
        let ran = match ran {
            Err(e) if facts.indexed && !exec.committed && facts.durability != Durability::Strict => {
                // Found through the index by every name; this one is linked when something needs it.
                tracing::debug!(error = %e, "copied up without a name");
                Ok(())
            }
            ran => ran,
        };
        let own_data = !matches!(facts.data, Data::Below(_));
        {
            let mut state = object.state.write();
            state.upper = Some(node.clone());
            state.own_data = own_data;
            state.has_origin = facts.origin;
            if facts.indexed {
                state.nlink = Some(attr.nlink);
            }
        }
        if own_data {
            object.epoch.fetch_add(1, Ordering::Release);
        }
        if let (true, false, Some((parent, _))) = (facts.named, facts.parent_impure, &place) {
            parent.0.state.write().impure |= facts.origin;
        }
        ran?;
        if facts.indexed {
            self.note_nlink(scratch, &node, attr.nlink)?;
        }
        Ok(node)
    }

    /// Brings the data of a metadata-only copy up.
    fn bring_data(&self, inode: &Inode<L, S>, need: Need) -> Result<S::Node> {
        let scratch = self.writable("copy up")?;
        let object = &*inode.0;
        let place = inode.place();
        let (upper, index) = {
            let state = object.state.read();
            (state.upper.clone(), state.nlink)
        };
        let upper = upper.ok_or_else(|| Error::new(ErrorKind::Stale, "copy up"))?;
        let size = scratch.attr(&upper)?.size;
        let keep = match need {
            Need::Data(keep) => keep.min(size),
            Need::Metadata => size,
        };
        let mut exec = Exec::new(scratch, self.0.config.untrusted);
        exec.subject = Some(upper.clone());
        exec.data = self.data_source(object)?;
        exec.cut = keep < size;
        if exec.data.is_none() && keep > 0 {
            return Err(about_place(no_data(), &place));
        }
        exec.run(&plan::own_data(keep, self.0.config.durability)).map_err(|e| about_place(e, &place))?;
        object.state.write().own_data = true;
        object.epoch.fetch_add(1, Ordering::Release);
        tracing::debug!(ino = object.ino, bytes = keep, linked = index.is_some(), "brought data up");
        Ok(upper)
    }

    fn data_source<'a>(&'a self, object: &'a Object<L, S>) -> Result<Option<Source<'a, L>>> {
        match object.data_below() {
            Some(lower) if object.kind == Kind::File => Ok(Some(Source { layer: self.layer(lower)?, lower })),
            _ => Ok(None),
        }
    }

    fn check_policy(&self, kind: Kind, uid: u32, gid: u32) -> Result<()> {
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Error::new(ErrorKind::Overflow, "copy up")
                .because("the lower object's owner has no number here (unmapped)"));
        }
        if self.0.config.untrusted.refuse_devices && matches!(kind, Kind::Char | Kind::Block) {
            return Err(Error::new(ErrorKind::NotPermitted, "copy up")
                .because("the policy for untrusted layers refuses device nodes"));
        }
        Ok(())
    }

    /// Notes the merged link count relative to the scratch object's, for whoever finds it by any name.
    pub(crate) fn note_nlink(&self, scratch: &S, node: &S::Node, merged: u32) -> Result<()> {
        let relative = relative(merged, scratch.attr(node)?.nlink);
        scratch.mark(node, crate::Mark::Nlink(NlinkBase::Upper(relative)))
    }

    /// Gives an indexed object this very name in the scratch, where only the layers below have it; the merged
    /// view does not change. The caller holds the copy-up lock and the names lock.
    pub(crate) fn link_up(&self, inode: &Inode<L, S>, dir: &Inode<L, S>, name: Name<'_>) -> Result<S::Node> {
        let scratch = self.writable("link up")?;
        let (node, merged) = {
            let state = inode.0.state.read();
            (state.upper.clone(), state.nlink.unwrap_or(1))
        };
        // By this name, since an object that was found through the scratch need not know what is below.
        let lower = self.below(dir, name, None)?.first().map_or(1, |below| below.attr.nlink);
        let node = node.ok_or_else(|| Error::new(ErrorKind::Stale, "link up"))?;
        let (dir_node, impure) = {
            let state = dir.0.state.read();
            (state.upper.clone(), state.impure)
        };
        let dir_node = dir_node.ok_or_else(|| Error::new(ErrorKind::Stale, "link up"))?;
        let real = scratch.attr(&node)?.nlink;
        let facts =
            LinkUp { below: relative(merged, lower), then: relative(merged, real + 1), impure: !impure };
        let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
        exec.at = Some(At { dir: &dir_node, name });
        exec.subject = Some(node);
        let ran = exec.run(&plan::link_up(&facts));
        if exec.marked.contains(&(Who::Parent, Put::Impure)) {
            dir.0.state.write().impure = true;
        }
        let node = exec.subject.take().ok_or_else(|| Error::new(ErrorKind::Stale, "link up"))?;
        inode.set_upper(node.clone());
        ran.map(|()| node)
    }

    /// The key under which the index holds an object, for the plans.
    pub(crate) fn index_of(inode: &Inode<L, S>) -> (Option<Origin>, Option<u32>) {
        let state = inode.0.state.read();
        (state.index.clone(), state.nlink)
    }
}

/// The object in the scratch, if as much of it as is needed is there.
fn present<L: Layer, S: Scratch>(object: &Object<L, S>, need: Need) -> Option<S::Node> {
    let state = object.state.read();
    if object.kind == Kind::File && !state.own_data && need != Need::Metadata {
        return None;
    }
    state.upper.clone()
}

/// The mode while an object is being made: its own, writable for the owner, without setuid and setgid. An
/// unprivileged process may set attributes only of what it may write.
pub(crate) fn staging_mode(mode: u32) -> u32 {
    mode & !0o6000 | 0o600
}

/// One count relative to another.
pub(crate) fn relative(count: u32, to: u32) -> i32 {
    i32::try_from(i64::from(count) - i64::from(to)).unwrap_or(0)
}

/// The error of a file whose data should be in a layer below, and is not.
pub(crate) fn no_data() -> Error {
    Error::new(ErrorKind::Corrupt, "find data").because(
        "the file says that its data is in a lower layer, and no layer of this stack has it: \
         open the scratch over the layers it was made with",
    )
}

fn about_place<L: Layer, S: Scratch>(error: Error, place: &Option<(Inode<L, S>, crate::NameBuf)>) -> Error {
    match place {
        Some((_, name)) => error.about(name.as_bytes()),
        None => error,
    }
}
