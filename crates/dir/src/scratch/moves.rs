//! Names that are taken: what may stand there, hard links, renames, exchanges.

use super::DirScratch;
use super::work;
use crate::marks;
use crate::node::{DirNode, Kept, Node};
use crate::sys::{self, Obj, Sys};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::sync::Arc;
use stratafs_core::{At, Attr, Device, ErrorKind, Kind, Leave, Name, Over, Result};

impl DirScratch {
    /// Checks that what stands at a name is what the verb may replace, and says what it is. What a directory holds
    /// is not looked at.
    pub(super) fn check(&self, at: At<'_, Node>, over: Over, by_dir: bool) -> Result<Option<Attr>> {
        if over == Over::Nothing {
            return Ok(None);
        }
        let dir = self.tree.as_dir(at.dir, "replace")?;
        let fd = self.tree.dir_fd(dir)?;
        let name = at.name.as_bytes();
        let fail = |e| self.tree.failed_at("replace", dir, name)(e);
        let obj = Obj::At(fd.as_fd(), name);
        let there = sys::stat::attr(obj).map_err(fail)?;
        let whiteout = self.is_whiteout(obj, &there).map_err(fail)?;
        match (over, whiteout) {
            (Over::Whiteout, None) => return Err(fail(Errno::EXIST)),
            (Over::Whiteout, Some(Form::Attribute)) => {
                // An upper shows xattr whiteouts in its listings, so none may be left where it could stay.
                self.replace_by_whiteout(fd.as_fd(), name).map_err(fail)?;
            }
            (Over::Object, Some(_)) => return Err(fail(Errno::NOENT)),
            (Over::Object, None) if by_dir && there.kind != Kind::Dir => return Err(fail(Errno::NOTDIR)),
            (Over::Object, None) if !by_dir && there.kind == Kind::Dir => return Err(fail(Errno::ISDIR)),
            _ => {}
        }
        Ok(Some(there))
    }

    /// In which form an object is a whiteout.
    fn is_whiteout(&self, obj: Obj<'_>, attr: &Attr) -> Sys<Option<Form>> {
        if attr.kind == Kind::Char && attr.rdev == Device::default() {
            return Ok(Some(Form::Device));
        }
        if attr.kind != Kind::File || attr.size != 0 {
            return Ok(None);
        }
        let mark = self.tree.namespace().own(marks::WHITEOUT);
        Ok(sys::xattr::get(obj, &mark)?.map(|_| Form::Attribute))
    }

    /// Puts a whiteout over something that is not a directory, in one step.
    pub(super) fn replace_by_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
        let staged = self.work.staged_whiteout()?;
        let from = (self.work.fd(), staged.as_bytes());
        let done = sys::name::rename(from, (dir, name), RenameFlags::empty());
        if done.is_err() {
            self.work.discard(&staged);
        }
        done
    }

    /// The whiteouts in a directory; `ENOTEMPTY` when it holds anything else.
    pub(super) fn only_whiteouts(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<usize> {
        let inner = sys::open::subdirectory(dir, name)?;
        let names = work::names(inner.as_fd())?;
        for entry in &names {
            let obj = Obj::At(inner.as_fd(), entry);
            if self.is_whiteout(obj, &sys::stat::attr(obj)?)?.is_none() {
                return Err(Errno::NOTEMPTY);
            }
        }
        Ok(names.len())
    }

    pub(super) fn link_at(&self, node: &Node, at: At<'_, Node>, over: Over) -> Result<Node> {
        if matches!(node.0, Kept::Dir(_)) {
            return Err(self.tree.error(ErrorKind::NotPermitted, "link", node));
        }
        let dir = self.tree.as_dir(at.dir, "link")?;
        self.check(at, over, false)?;
        self.give_name(node, dir, at.name, over)?;
        Ok(Node::known(Arc::clone(dir), at.name.to_buf(), node.ino()))
    }

    pub(super) fn rename_to(
        &self,
        node: &Node,
        from: At<'_, Node>,
        to: At<'_, Node>,
        leave: Leave,
        over: Over,
    ) -> Result<Node> {
        let from_dir = self.tree.as_dir(from.dir, "rename")?;
        let to_dir = self.tree.as_dir(to.dir, "rename")?;
        let (from_fd, to_fd) = (self.tree.dir_fd(from_dir)?, self.tree.dir_fd(to_dir)?);
        let a = (from_fd.as_fd(), from.name.as_bytes());
        let b = (to_fd.as_fd(), to.name.as_bytes());
        let moving = match &node.0 {
            Kept::Dir(dir) => Some(dir),
            _ => None,
        };
        let replaced = self.check(to, over, moving.is_some())?;
        let fail = |e| self.tree.failed_at("rename", from_dir, a.1)(e);
        if let Some(old) = replaced.filter(|_| over == Over::Object && moving.is_none())
            && sys::stat::attr(Obj::At(a.0, a.1)).map_err(fail)?.id == old.id
        {
            // rename(2) of two names of one object changes nothing; to move it is to remove the first.
            self.remove_name(node, from, leave)?;
            return Ok(self.arrived(node, to_dir, to.name));
        }
        let exchange = moving.is_some() && over == Over::Whiteout;
        let mut flags = match over {
            Over::Nothing => RenameFlags::NOREPLACE,
            _ if exchange => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        if leave == Leave::Whiteout && !exchange {
            flags |= RenameFlags::WHITEOUT;
        }
        let still = moving.map(|_| self.tree.moves.write());
        let mut old_dir = replaced.filter(|old| old.kind == Kind::Dir).map(|old| old.id);
        if let Some(old) = old_dir
            && self.only_whiteouts(b.0, b.1).map_err(fail)? > 0
        {
            let fresh = self.swap_in_empty(b.0, b.1).map_err(fail)?;
            self.tree.replaced(old, fresh);
            old_dir = Some(fresh);
        }
        sys::name::rename(a, b, flags).map_err(fail)?;
        let moved = self.arrived(node, to_dir, to.name);
        drop(still);
        if let Some(old) = old_dir {
            self.tree.forget(old);
        }
        if exchange && leave == Leave::Nothing {
            // A crash before this leaves a whiteout where nothing is below: it hides nothing.
            if let Err(e) = sys::name::unlink(a.0, a.1) {
                tracing::warn!(layer = %self.tree.label, name = ?from.name, error = %e, "a needless whiteout stays");
            }
        }
        Ok(moved)
    }

    pub(super) fn swap(&self, a: (&Node, At<'_, Node>), b: (&Node, At<'_, Node>)) -> Result<(Node, Node)> {
        let a_dir = self.tree.as_dir(a.1.dir, "exchange")?;
        let b_dir = self.tree.as_dir(b.1.dir, "exchange")?;
        let (a_fd, b_fd) = (self.tree.dir_fd(a_dir)?, self.tree.dir_fd(b_dir)?);
        let still = self.tree.moves.write();
        let at = (a_fd.as_fd(), a.1.name.as_bytes());
        sys::name::rename(at, (b_fd.as_fd(), b.1.name.as_bytes()), RenameFlags::EXCHANGE)
            .map_err(self.tree.failed_at("exchange", a_dir, at.1))?;
        let now = (self.arrived(b.0, a_dir, a.1.name), self.arrived(a.0, b_dir, b.1.name));
        drop(still);
        Ok(now)
    }

    /// The node of an object that just came to a new name. The caller holds [`crate::tree::Tree::moves`] where it is
    /// a directory.
    fn arrived(&self, node: &Node, dir: &Arc<DirNode>, name: Name<'_>) -> Node {
        match &node.0 {
            Kept::Dir(moved) => {
                let known = self.tree.dir_node(dir, name.to_buf(), moved.id());
                known.moved(Arc::clone(dir), name.to_buf());
                Node::dir(known)
            }
            _ => Node::known(Arc::clone(dir), name.to_buf(), node.ino()),
        }
    }
}

/// How a whiteout is stored.
enum Form {
    Device,
    Attribute,
}
