//! Names that go: removal, with a whiteout in the same step where one is due, and the emptying of a directory.

use super::DirScratch;
use crate::marks;
use crate::node::{Kept, Node};
use crate::sys::{self, Obj, Sys};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{RenameFlags, XattrFlags};
use rustix::io::Errno;
use stratafs_core::{At, Attr, FileId, Leave, Result, SetTime};

impl DirScratch {
    pub(super) fn remove_name(&self, node: &Node, at: At<'_, Node>, leave: Leave) -> Result<()> {
        let dir = self.tree.as_dir(at.dir, "remove")?;
        let fd = self.tree.dir_fd(dir)?;
        let name = at.name.as_bytes();
        let done = match &node.0 {
            Kept::Dir(gone) => self.remove_dir(fd.as_fd(), name, leave).map(|()| self.tree.forget(gone.id())),
            _ => match leave {
                Leave::Nothing => sys::name::unlink(fd.as_fd(), name),
                Leave::Whiteout => self.replace_by_whiteout(fd.as_fd(), name),
            },
        };
        done.map_err(self.tree.failed_at("remove", dir, name))
    }

    fn remove_dir(&self, dir: BorrowedFd<'_>, name: &[u8], leave: Leave) -> Sys<()> {
        if leave == Leave::Nothing {
            match sys::name::rmdir(dir, name) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                done => return done,
            }
        }
        self.only_whiteouts(dir, name)?;
        let old = match leave {
            Leave::Nothing => {
                let to_work = |staged: &[u8]| {
                    sys::name::rename((dir, name), (self.work.fd(), staged), RenameFlags::NOREPLACE)
                };
                self.work.make(to_work)?.0
            }
            Leave::Whiteout => {
                let staged = self.work.staged_whiteout()?;
                let from = (self.work.fd(), staged.as_bytes());
                if let Err(e) = sys::name::rename(from, (dir, name), RenameFlags::EXCHANGE) {
                    self.work.discard(&staged);
                    return Err(e);
                }
                staged
            }
        };
        self.work.discard(&old);
        Ok(())
    }

    pub(super) fn clear_dir(&self, node: &Node, at: At<'_, Node>) -> Result<Node> {
        let dir = self.tree.as_dir(at.dir, "clear")?;
        let target = self.tree.as_dir(node, "clear")?;
        let fd = self.tree.dir_fd(dir)?;
        let name = at.name.as_bytes();
        let fail = |e| self.tree.failed_at("clear", dir, name)(e);
        self.only_whiteouts(fd.as_fd(), name).map_err(fail)?;
        let still = self.tree.moves.write();
        let fresh = self.swap_in_empty(fd.as_fd(), name).map_err(fail)?;
        self.tree.replaced(target.id(), fresh);
        drop(still);
        Ok(node.clone())
    }

    /// Puts an empty opaque directory with the same attributes in the place of one, and says which it is.
    pub(super) fn swap_in_empty(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<FileId> {
        let old = Obj::At(dir, name);
        let attr = sys::stat::attr(old)?;
        let (staged, ()) = self.work.make(|name| sys::name::mkdir(self.work.fd(), name))?;
        let from = (self.work.fd(), staged.as_bytes());
        let done = self
            .dress_like(old, Obj::At(from.0, from.1), &attr)
            .and_then(|id| sys::name::rename(from, (dir, name), RenameFlags::EXCHANGE).map(|()| id));
        // Now the old directory, or after an error the new one.
        self.work.discard(&staged);
        done
    }

    /// Gives a new directory what the old one has, and the opaque mark; says which it is.
    fn dress_like(&self, old: Obj<'_>, new: Obj<'_>, attr: &Attr) -> Sys<FileId> {
        let is = sys::stat::attr(new)?;
        if (is.uid, is.gid) != (attr.uid, attr.gid) {
            sys::meta::chown(new, Some(attr.uid), Some(attr.gid))?;
        }
        let namespace = self.tree.namespace();
        for stored in sys::xattr::list(old)?.split(|b| *b == 0).filter(|stored| !stored.is_empty()) {
            let kept = match namespace.own_name(stored) {
                Some(own) => own == marks::ORIGIN.as_bytes(),
                None => true,
            };
            if kept && let Some(value) = sys::xattr::get(old, stored)? {
                match sys::xattr::set(new, stored, &value, XattrFlags::empty()) {
                    // A label that the security module guards and sets by itself.
                    Err(Errno::PERM | Errno::OPNOTSUPP) if guarded(stored) => {}
                    done => done?,
                }
            }
        }
        sys::xattr::set(new, &namespace.own(marks::OPAQUE), marks::YES, XattrFlags::empty())?;
        sys::meta::chmod(new, attr.mode)?;
        sys::meta::utimens(new, Some(SetTime::At(attr.atime)), Some(SetTime::At(attr.mtime)))?;
        Ok(is.id)
    }
}

/// True for attributes that not everyone may set although everyone may read them.
fn guarded(name: &[u8]) -> bool {
    name.starts_with(b"security.")
}
