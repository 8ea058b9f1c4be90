//! Removing names.

use super::copy_up::{Need, relative};
use super::exec::Exec;
use super::object::{Child, Inode};
use super::{View, missing, not_a_directory};
use crate::caller::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::{Found, Layer};
use crate::name::Name;
use crate::plan;
use crate::scratch::{At, Scratch};

impl<L: Layer, S: Scratch> View<L, S> {
    /// Removes a name of something other than a directory. Whoever holds the object open keeps it.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`; `EACCES`, `EPERM`; what the scratch says.
    pub fn unlink(&self, dir: &Inode<L, S>, name: Name<'_>, caller: &Caller) -> Result<()> {
        self.remove(dir, name, false, caller).map_err(|e| e.about(name.as_bytes()))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`; `EACCES`, `EPERM`; what the scratch says.
    pub fn rmdir(&self, dir: &Inode<L, S>, name: Name<'_>, caller: &Caller) -> Result<()> {
        self.remove(dir, name, true, caller).map_err(|e| e.about(name.as_bytes()))
    }

    fn remove(&self, dir: &Inode<L, S>, name: Name<'_>, directory: bool, caller: &Caller) -> Result<()> {
        let scratch = self.writable("remove")?;
        loop {
            let victim = self.lookup(dir, name)?.ok_or_else(|| missing("remove", name))?;
            self.may_change_names(dir, caller)?;
            self.may_remove(dir, &victim, caller)?;
            match (directory, victim.is_dir()) {
                (true, false) => return Err(not_a_directory("rmdir")),
                (false, true) => return Err(Error::new(ErrorKind::IsADirectory, "unlink")),
                _ => {}
            }
            let dir_node = self.copy_up(dir, Need::Metadata)?;
            let lock = victim.0.copy_up.lock();
            let (index, _) = Self::index_of(&victim);
            if index.is_some() {
                // The other names must learn of it, so the count needs a place.
                self.copy_up_locked(&victim, Need::Metadata, &lock)?;
            }
            let part = dir.0.dir.as_ref().ok_or_else(|| not_a_directory("remove"))?;
            let _names = part.names.write();
            match self.lookup_locked(dir, name)? {
                Ok(now) if now == victim => {}
                Ok(_) => continue,
                Err(_) => return Err(missing("remove", name)),
            }
            let _inside = victim.0.dir.as_ref().map(|part| part.names.write());
            if directory && !self.listing(&victim)?.is_empty() {
                return Err(Error::new(ErrorKind::NotEmpty, "rmdir"));
            }
            let below = !self.below(dir, name, None)?.is_empty();
            if index.is_some() {
                self.ensure_linked(&victim, dir, &dir_node, name)?;
            }
            let node = victim.0.state.read().upper.clone();
            let real = match &node {
                Some(node) if !directory => scratch.attr(node)?.nlink,
                _ => 1,
            };
            let (_, merged) = Self::index_of(&victim);
            // Nobody finds it by this name any more, or else it could be held in the moment after the question.
            dir.forget_child(name);
            // Other names lead to this inode, or somebody holds it.
            if (real > 1 || self.0.cache.shared_beyond(&victim, 1))
                && let Err(e) = self.pin(&victim)
            {
                dir.set_child(name, Child::Live(victim.downgrade()));
                return Err(e);
            }
            let facts = plan::Remove {
                in_upper: node.is_some(),
                below,
                nlink: merged.map(|merged| (merged, relative(merged, real))),
                durability: self.0.config.durability,
            };
            let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
            exec.at = Some(At { dir: &dir_node, name });
            exec.subject = node;
            exec.origin = index.as_ref();
            let ran = exec.run(&plan::remove(&facts));
            if !exec.committed {
                if let Some(node) = exec.subject.take() {
                    victim.set_upper(node);
                }
                dir.set_child(name, Child::Live(victim.downgrade()));
                return ran;
            }
            dir.set_child(name, Child::Gone { whiteout: below });
            self.gone(&victim, dir, name, real);
            return ran;
        }
    }

    /// An indexed object may be known at a name that only the layers below have: then the scratch gets it too.
    pub(crate) fn ensure_linked(
        &self,
        inode: &Inode<L, S>,
        dir: &Inode<L, S>,
        dir_node: &S::Node,
        name: Name<'_>,
    ) -> Result<()> {
        let scratch = self.writable("link up")?;
        match scratch.lookup(dir_node, name)? {
            Found::Absent => self.link_up(inode, dir, name).map(drop),
            Found::Node(hit) => {
                inode.set_upper(hit.node);
                Ok(())
            }
            Found::Whiteout => Err(missing("link up", name)),
        }
    }

    /// Makes an object independent of the name that it is about to lose.
    pub(crate) fn pin(&self, inode: &Inode<L, S>) -> Result<()> {
        let scratch = self.writable("pin")?;
        let upper = inode.0.state.read().upper.clone();
        if let Some(upper) = upper {
            inode.set_upper(scratch.pin(&upper)?);
        }
        Ok(())
    }

    /// Notes that an object has lost a name; `real` is the scratch's count before.
    pub(crate) fn gone(&self, inode: &Inode<L, S>, dir: &Inode<L, S>, name: Name<'_>, real: u32) {
        let last = {
            let mut state = inode.0.state.write();
            if state.parent.as_ref() == Some(dir) && state.name.as_bytes() == name.as_bytes() {
                state.removed = true;
            }
            state.nlink = state.nlink.map(|n| n.saturating_sub(1));
            state.nlink.unwrap_or(real.saturating_sub(1)) == 0
        };
        if last {
            inode.0.state.write().removed = true;
            self.0.cache.unlink(inode);
        }
        self.0.cache.forget(inode);
    }
}
