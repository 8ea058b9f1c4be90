//! Hard links.

use super::copy_up::{Need, relative};
use super::exec::Exec;
use super::object::{Child, Inode};
use super::{View, missing};
use crate::attr::Kind;
use crate::caller::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::marks::Redirect;
use crate::name::Name;
use crate::plan::{self, Put, Who};
use crate::scratch::{At, Scratch};

impl<L: Layer, S: Scratch> View<L, S> {
    /// Gives an object one more name.
    ///
    /// # Errors
    /// `EPERM` for a directory; `EEXIST`; `ENOENT` for an object that has lost its last name or a removed
    /// directory; `EMLINK`; `EACCES`; what copy-up and the scratch say.
    pub fn link(
        &self,
        inode: &Inode<L, S>,
        dir: &Inode<L, S>,
        name: Name<'_>,
        caller: &Caller,
    ) -> Result<()> {
        let exists = || Error::new(ErrorKind::AlreadyExists, "link").about(name.as_bytes());
        let scratch = self.writable("link")?;
        if self.lookup(dir, name)?.is_some() {
            return Err(exists());
        }
        if inode.kind() == Kind::Dir {
            return Err(Error::new(ErrorKind::NotPermitted, "link").because("directories have one name"));
        }
        self.check_name_fits(name)?;
        self.may_change_names(dir, caller)?;
        let dir_node = self.copy_up(dir, Need::Metadata)?;
        self.copy_up_parents(inode)?;
        let lock = inode.0.copy_up.lock();
        let node = self.copy_up_locked(inode, Need::Metadata, &lock)?;
        let _rename = self.0.rename.lock();
        let part = dir.0.dir.as_ref().ok_or_else(|| super::not_a_directory("link"))?;
        let _names = part.names.write();
        if dir.0.state.read().removed {
            return Err(missing("link", name));
        }
        let Err(vacancy) = self.lookup_locked(dir, name)? else { return Err(exists()) };
        let real = scratch.attr(&node)?.nlink;
        let (merged, needs_redirect, has_origin) = {
            let state = inode.0.state.read();
            let absolute = matches!(state.redirect, Some(Redirect::Absolute(_)));
            if state.removed && state.nlink.unwrap_or(real) == 0 {
                return Err(missing("link", name));
            }
            (state.nlink, state.is_metacopy() && !absolute, state.has_origin)
        };
        let redirect = match needs_redirect {
            true => Some(self.redirect_of(inode, true)?),
            false => None,
        };
        let facts = plan::Link {
            at: vacancy,
            redirect: redirect.is_some(),
            nlink: merged.map(|merged| relative(merged, real)),
            impure: has_origin && !dir.0.state.read().impure,
            durability: self.0.config.durability,
        };
        let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
        exec.to = Some(At { dir: &dir_node, name });
        exec.subject = Some(node);
        exec.redirect = redirect.as_ref();
        let ran = exec.run(&plan::link(&facts)).map_err(|e| e.about(name.as_bytes()));
        if let (Some(redirect), true) = (&redirect, exec.marked.contains(&(Who::Subject, Put::Redirect))) {
            inode.0.state.write().redirect = Some(redirect.clone());
        }
        if !exec.committed {
            return ran;
        }
        if let Some(node) = exec.subject.take() {
            inode.set_upper(node);
        }
        {
            let mut state = inode.0.state.write();
            state.parent = Some(dir.clone());
            state.name = name.to_buf();
            state.removed = false;
            state.nlink = state.nlink.map(|n| n + 1);
        }
        if facts.impure {
            dir.0.state.write().impure = true;
        }
        self.0.cache.unify(inode.0.id, || inode.clone());
        dir.set_child(name, Child::Live(inode.downgrade()));
        ran
    }
}
