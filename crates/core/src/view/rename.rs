//! Renames. A directory that the layers below know under its old name takes a redirect along, so that the cost
//! does not grow with what is in it.

use super::copy_up::{Need, relative};
use super::exec::Exec;
use super::object::{Child, Inode};
use super::{View, missing, not_a_directory};
use crate::attr::Kind;
use crate::caller::{Caller, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::marks::{REDIRECT_MAX, Redirect};
use crate::name::{Name, NameBuf};
use crate::plan::{self, Mover, Put, Target, Who};
use crate::scratch::{At, Scratch};
use bitflags::bitflags;
use parking_lot::RwLockWriteGuard;
use std::ops::ControlFlow;

bitflags! {
    /// What renameat2(2) can be asked for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RenameFlags: u32 {
        /// Fail with `EEXIST` when the new name is taken.
        const NO_REPLACE = 1;
        /// Swap the two objects.
        const EXCHANGE = 2;
    }
}

/// One end of a rename.
struct End<'a, L: Layer, S: Scratch> {
    dir: &'a Inode<L, S>,
    name: Name<'a>,
    node: S::Node,
}

/// What the locks found at both ends.
struct Ends<'a, L: Layer, S: Scratch> {
    from: End<'a, L, S>,
    to: End<'a, L, S>,
    src: &'a Inode<L, S>,
    dst: Option<&'a Inode<L, S>>,
    vacancy: plan::Vacancy,
    same_dir: bool,
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Moves an object to another name, replacing what may be replaced there; or swaps two.
    ///
    /// # Errors
    /// As renameat2(2); `EXDEV` only where a directory would need a redirect that the scratch cannot store.
    pub fn rename(
        &self,
        from_dir: &Inode<L, S>,
        from: Name<'_>,
        to_dir: &Inode<L, S>,
        to: Name<'_>,
        flags: RenameFlags,
        caller: &Caller,
    ) -> Result<()> {
        if flags.contains(RenameFlags::all()) {
            return Err(Error::new(ErrorKind::InvalidInput, "rename").because("NO_REPLACE with EXCHANGE"));
        }
        self.writable("rename")?;
        self.check_name_fits(to)?;
        while !self
            .rename_once(from_dir, from, to_dir, to, flags, caller)
            .map_err(|e| e.about(from.as_bytes()))?
        {}
        Ok(())
    }

    /// `false` when the names changed before they were locked.
    fn rename_once(
        &self,
        from_dir: &Inode<L, S>,
        from: Name<'_>,
        to_dir: &Inode<L, S>,
        to: Name<'_>,
        flags: RenameFlags,
        caller: &Caller,
    ) -> Result<bool> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let src = self.lookup(from_dir, from)?.ok_or_else(|| missing("rename", from))?;
        let dst = self.lookup(to_dir, to)?;
        match &dst {
            None if exchange => return Err(missing("rename", to)),
            Some(_) if flags.contains(RenameFlags::NO_REPLACE) => {
                return Err(Error::new(ErrorKind::AlreadyExists, "rename").about(to.as_bytes()));
            }
            _ => {}
        }
        self.check_loops(from_dir, to_dir, &src, dst.as_ref(), exchange)?;
        if dst.as_ref() == Some(&src) {
            // Two names of one object: rename(2) leaves both, and Linux asks for no rights to it.
            return Ok(true);
        }
        self.may_rename(from_dir, to_dir, &src, dst.as_ref(), exchange, caller)?;
        let from_node = self.copy_up(from_dir, Need::Metadata)?;
        let to_node = self.copy_up(to_dir, Need::Metadata)?;
        self.copy_up(&src, Need::Metadata)?;
        if let Some(dst) = dst.as_ref().filter(|dst| exchange || Self::index_of(dst).0.is_some()) {
            self.copy_up(dst, Need::Metadata)?;
        }
        // Two copy-up locks: by serial, whoever comes first.
        let (first, second) = match &dst {
            Some(dst) if dst.0.serial < src.0.serial => (dst, Some(&src)),
            Some(dst) => (&src, Some(dst)),
            None => (&src, None),
        };
        let _first = first.0.copy_up.lock();
        let _second = second.map(|object| object.0.copy_up.lock());
        let _rename = self.0.rename.lock();
        self.check_loops(from_dir, to_dir, &src, dst.as_ref(), exchange)?;
        let _names = self.lock_names(from_dir, to_dir)?;
        if from_dir.0.state.read().removed || to_dir.0.state.read().removed {
            return Err(missing("rename", from));
        }
        if self.lookup_locked(from_dir, from)?.ok().as_ref() != Some(&src) {
            return Ok(false);
        }
        let now = self.lookup_locked(to_dir, to)?;
        let vacancy = now.as_ref().err().copied().unwrap_or(plan::Vacancy::Absent);
        if now.ok() != dst {
            return Ok(false);
        }
        let ends = Ends {
            from: End { dir: from_dir, name: from, node: from_node },
            to: End { dir: to_dir, name: to, node: to_node },
            src: &src,
            dst: dst.as_ref(),
            vacancy,
            same_dir: from_dir == to_dir,
        };
        if exchange { self.exchange_locked(&ends) } else { self.rename_locked(&ends) }?;
        Ok(true)
    }

    fn may_rename(
        &self,
        from_dir: &Inode<L, S>,
        to_dir: &Inode<L, S>,
        src: &Inode<L, S>,
        dst: Option<&Inode<L, S>>,
        exchange: bool,
        caller: &Caller,
    ) -> Result<()> {
        self.may_change_names(from_dir, caller)?;
        self.may_change_names(to_dir, caller)?;
        self.may_remove(from_dir, src, caller)?;
        if let Some(dst) = dst {
            self.may_remove(to_dir, dst, caller)?;
            if !exchange && dst != src {
                let wrong = match (src.is_dir(), dst.is_dir()) {
                    (true, false) => Some(not_a_directory("rename")),
                    (false, true) => Some(Error::new(ErrorKind::IsADirectory, "rename")),
                    _ => None,
                };
                if let Some(wrong) = wrong {
                    // Linux names a loop first.
                    let _rename = self.0.rename.lock();
                    self.check_loops(from_dir, to_dir, src, Some(dst), exchange)?;
                    return Err(wrong);
                }
            }
        }
        // A directory that gets another parent has its `..` rewritten.
        if from_dir != to_dir && !caller.privileged {
            for moved in [Some(src), dst.filter(|_| exchange)].into_iter().flatten().filter(|m| m.is_dir()) {
                super::resolve::caller_access(self, moved, Want::WRITE, caller)?;
            }
        }
        Ok(())
    }

    /// No directory goes into itself. Asked first, as Linux does, and again under the rename lock: then places do
    /// not change meanwhile.
    fn check_loops(
        &self,
        from_dir: &Inode<L, S>,
        to_dir: &Inode<L, S>,
        src: &Inode<L, S>,
        dst: Option<&Inode<L, S>>,
        exchange: bool,
    ) -> Result<()> {
        if src.is_dir() && self.is_within(to_dir, src) {
            return Err(
                Error::new(ErrorKind::InvalidInput, "rename").because("a directory cannot go into itself")
            );
        }
        match dst {
            Some(dst) if dst.is_dir() && self.is_within(from_dir, dst) => Err(if exchange {
                Error::new(ErrorKind::InvalidInput, "rename").because("a directory cannot go into itself")
            } else {
                Error::new(ErrorKind::NotEmpty, "rename")
            }),
            _ => Ok(()),
        }
    }

    fn is_within(&self, inode: &Inode<L, S>, ancestor: &Inode<L, S>) -> bool {
        let mut next = Some(inode.clone());
        while let Some(here) = next {
            if here == *ancestor {
                return true;
            }
            next = here.place().map(|(parent, _)| parent);
        }
        false
    }

    fn lock_names<'d>(
        &self,
        a: &'d Inode<L, S>,
        b: &'d Inode<L, S>,
    ) -> Result<(RwLockWriteGuard<'d, ()>, Option<RwLockWriteGuard<'d, ()>>)> {
        let part = |dir: &'d Inode<L, S>| dir.0.dir.as_ref().ok_or_else(|| not_a_directory("rename"));
        if a == b {
            return Ok((part(a)?.names.write(), None));
        }
        let a_first = self.is_within(b, a) || (!self.is_within(a, b) && a.0.serial < b.0.serial);
        let (first, second) = if a_first { (a, b) } else { (b, a) };
        let first = part(first)?.names.write();
        Ok((first, Some(part(second)?.names.write())))
    }

    fn rename_locked(&self, ends: &Ends<'_, L, S>) -> Result<()> {
        let scratch = self.writable("rename")?;
        let Ends { from, to, .. } = ends;
        let (src, dst) = (ends.src, ends.dst);
        let inside = dst.and_then(|dst| dst.0.dir.as_ref()).map(|part| part.names.write());
        let mut target = Target::Vacant(ends.vacancy);
        let mut victim_index = None;
        let mut real = 1;
        if let Some(dst) = dst {
            if dst.is_dir() && !self.listing(dst)?.is_empty() {
                return Err(Error::new(ErrorKind::NotEmpty, "rename").about(to.name.as_bytes()));
            }
            let (index, merged) = Self::index_of(dst);
            if index.is_some() {
                self.ensure_linked(dst, to.dir, &to.node, to.name)?;
            }
            let node = dst.0.state.read().upper.clone();
            target = match &node {
                None => Target::Below,
                Some(node) if dst.is_dir() => {
                    Target::Object { whiteouts: has_entries(scratch, node)?, nlink: None }
                }
                Some(node) => {
                    real = scratch.attr(node)?.nlink;
                    Target::Object { whiteouts: false, nlink: merged.map(|m| (m, relative(m, real))) }
                }
            };
            victim_index = index;
        }
        if Self::index_of(src).0.is_some() {
            self.ensure_linked(src, from.dir, &from.node, from.name)?;
        }
        let below = !self.below(from.dir, from.name, None)?.is_empty();
        let (mover, redirect) = self.mover(src, from, to, ends.same_dir)?;
        let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
        // Before the victim is pinned: the step works on the named object.
        exec.victim = dst.and_then(|dst| dst.0.state.read().upper.clone());
        // Whoever has resolved the name just now still reads the object that it meant.
        if let Some(dst) = dst {
            self.pin(dst)?;
        }
        exec.subject = src.0.state.read().upper.clone();
        exec.at = Some(At { dir: &from.node, name: from.name });
        exec.to = Some(At { dir: &to.node, name: to.name });
        exec.redirect = redirect.as_ref();
        exec.victim_origin = victim_index.as_ref();
        let facts = plan::Rename {
            mover,
            below,
            target,
            same_dir: ends.same_dir,
            durability: self.0.config.durability,
        };
        let ran = exec.run(&plan::rename(&facts));
        Self::note_marks(Who::Subject, src, &exec.marked, redirect.as_ref());
        Self::note_impure(&mover, &exec.marked, Who::NewParent, to.dir);
        if !exec.committed {
            if let (Some(dst), Some(node)) = (dst, exec.victim.take()) {
                dst.set_upper(node);
                if exec.cleared {
                    dst.set_cleared();
                }
            }
            return ran;
        }
        Self::note_place(src, exec.subject.take(), to.dir, to.name);
        drop(inside);
        if let Some(dst) = dst {
            self.gone(dst, to.dir, to.name, real);
        }
        from.dir.set_child(from.name, Child::Gone { whiteout: below });
        to.dir.set_child(to.name, Child::Live(src.downgrade()));
        ran
    }

    fn exchange_locked(&self, ends: &Ends<'_, L, S>) -> Result<()> {
        let scratch = self.writable("rename")?;
        let Ends { from, to, .. } = ends;
        let src = ends.src;
        let dst = ends.dst.ok_or_else(|| missing("rename", to.name))?;
        for (inode, end) in [(src, from), (dst, to)] {
            if Self::index_of(inode).0.is_some() {
                self.ensure_linked(inode, end.dir, &end.node, end.name)?;
            }
        }
        let (subject, redirect) = self.mover(src, from, to, ends.same_dir)?;
        let (victim, victim_redirect) = self.mover(dst, to, from, ends.same_dir)?;
        let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
        exec.subject = src.0.state.read().upper.clone();
        exec.victim = dst.0.state.read().upper.clone();
        exec.at = Some(At { dir: &from.node, name: from.name });
        exec.to = Some(At { dir: &to.node, name: to.name });
        exec.redirect = redirect.as_ref();
        exec.victim_redirect = victim_redirect.as_ref();
        let facts =
            plan::Exchange { subject, victim, same_dir: ends.same_dir, durability: self.0.config.durability };
        let ran = exec.run(&plan::exchange(&facts));
        Self::note_marks(Who::Subject, src, &exec.marked, redirect.as_ref());
        Self::note_marks(Who::Victim, dst, &exec.marked, victim_redirect.as_ref());
        Self::note_impure(&subject, &exec.marked, Who::NewParent, to.dir);
        Self::note_impure(&victim, &exec.marked, Who::Parent, from.dir);
        if !exec.committed {
            return ran;
        }
        Self::note_place(src, exec.subject.take(), to.dir, to.name);
        Self::note_place(dst, exec.victim.take(), from.dir, from.name);
        from.dir.set_child(from.name, Child::Live(dst.downgrade()));
        to.dir.set_child(to.name, Child::Live(src.downgrade()));
        ran
    }

    /// What an object needs before it moves.
    fn mover(
        &self,
        inode: &Inode<L, S>,
        from: &End<'_, L, S>,
        to: &End<'_, L, S>,
        same_dir: bool,
    ) -> Result<(Mover, Option<Redirect>)> {
        let scratch = self.writable("rename")?;
        let is_dir = inode.is_dir();
        let merged = is_dir && !inode.lowers().is_empty();
        let (metacopy, opaque, has_origin, known, upper, nlink) = {
            let state = inode.0.state.read();
            let known = state.redirect.as_ref().map(|r| matches!(r, Redirect::Absolute(_)));
            let metacopy = inode.kind() == Kind::File && state.is_metacopy();
            (metacopy, state.opaque, state.has_origin, known, state.upper.clone(), state.nlink)
        };
        let several = match (nlink, upper) {
            (Some(nlink), _) => metacopy && nlink > 1,
            (None, Some(node)) => metacopy && scratch.attr(&node)?.nlink > 1,
            (None, None) => false,
        };
        let absolute = !same_dir || several;
        let needs = (merged || metacopy) && (known.is_none() || (absolute && known == Some(false)));
        if needs && !scratch.features().redirect {
            return Err(Error::new(ErrorKind::CrossDevice, "rename").because(
                "the directory is part of a lower layer and this scratch stores no redirects: copy it instead",
            ));
        }
        let redirect = if needs { Some(self.redirect_of(inode, absolute)?) } else { None };
        let hides = is_dir && !merged && !opaque && !self.below(to.dir, to.name, None)?.is_empty();
        let impure = (has_origin || merged) && from.dir != to.dir && !to.dir.0.state.read().impure;
        Ok((Mover { redirect: redirect.is_some(), opaque: hides, impure }, redirect))
    }

    /// Under which name the layers below know an object: as overlayfs has it, a sibling's name or the path from
    /// the root, by way of the redirects of the directories above.
    pub(crate) fn redirect_of(&self, inode: &Inode<L, S>, absolute: bool) -> Result<Redirect> {
        let own_name = |inode: &Inode<L, S>| -> (Option<NameBuf>, Option<Vec<NameBuf>>) {
            let state = inode.0.state.read();
            match &state.redirect {
                Some(Redirect::Absolute(path)) => (None, Some(path.clone())),
                Some(Redirect::Sibling(name)) => (Some(name.clone()), None),
                None => (Some(state.name.clone()), None),
            }
        };
        if !absolute {
            let name = inode.0.state.read().name.clone();
            return Ok(Redirect::Sibling(name));
        }
        let mut parts = Vec::new();
        let mut here = inode.clone();
        while let Some((parent, _)) = here.place() {
            match own_name(&here) {
                (Some(name), _) => parts.push(name),
                (None, path) => {
                    parts.extend(path.unwrap_or_default().into_iter().rev());
                    break;
                }
            }
            here = parent;
        }
        parts.reverse();
        if parts.iter().map(|p| p.as_bytes().len() + 1).sum::<usize>() > REDIRECT_MAX {
            return Err(Error::new(ErrorKind::CrossDevice, "rename")
                .because("the path below is longer than a redirect can be"));
        }
        Ok(Redirect::Absolute(parts))
    }

    /// Notes the marks that a moved object has got. They are written before the move and mean the same at both
    /// places, so they count also when the move failed.
    fn note_marks(who: Who, inode: &Inode<L, S>, marked: &[(Who, Put)], redirect: Option<&Redirect>) {
        let mut state = inode.0.state.write();
        if let (Some(redirect), true) = (redirect, marked.contains(&(who, Put::Redirect))) {
            state.redirect = Some(redirect.clone());
        }
        state.opaque |= marked.contains(&(who, Put::Opaque));
    }

    fn note_impure(mover: &Mover, marked: &[(Who, Put)], who: Who, dir: &Inode<L, S>) {
        if mover.impure && marked.contains(&(who, Put::Impure)) {
            dir.0.state.write().impure = true;
        }
    }

    fn note_place(inode: &Inode<L, S>, node: Option<S::Node>, dir: &Inode<L, S>, name: Name<'_>) {
        {
            let mut state = inode.0.state.write();
            state.parent = Some(dir.clone());
            state.name = name.to_buf();
            state.removed = false;
        }
        if let Some(node) = node {
            inode.set_upper(node);
        }
    }
}

/// True when the scratch's directory itself holds anything, be it whiteouts.
fn has_entries<S: Scratch>(scratch: &S, dir: &S::Node) -> Result<bool> {
    let mut any = false;
    scratch.read_dir(dir, &mut |_| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}
