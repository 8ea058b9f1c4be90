//! Staging and publishing. A regular file has no name until it is published (`O_TMPFILE`), other objects have one in
//! the staging directory. A [`Staged`] that is dropped is removed.

use super::DirScratch;
use super::work::Work;
use crate::marks;
use crate::node::{DirNode, Held, Kept, Node};
use crate::origin::{index_name, indexed_origin};
use crate::stash::{self, Stash};
use crate::sys::{self, Obj, Sys};
use rustix::fd::AsFd;
use rustix::fs::{RenameFlags, XattrFlags};
use rustix::io::Errno;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::{
    At, Attr, Device, Error, ErrorKind, Found, Hit, Kind, NAME_MAX, Name, NameBuf, Origin, Over, Result, Seed,
};

/// An object without a place in the tree. Dropping it removes it.
pub struct Staged {
    node: Node,
    /// Its name in the staging directory, if it has one.
    name: Option<NameBuf>,
    work: Arc<Work>,
}

impl Staged {
    pub(super) fn node(&self) -> &Node {
        &self.node
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staged({:?})", self.node)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.work.discard(&name);
        }
    }
}

impl DirScratch {
    pub(super) fn stage_object(&self, seed: &Seed<'_>) -> Result<Staged> {
        self.no_whiteout_device(seed)?;
        let fail = |e: Errno| self.work.failed("create")(e);
        let staged = match seed.kind {
            // Nobody else can reach it yet, and a mode that is right needs no second call.
            Kind::File if !self.stash => self.stage_file(seed.mode & 0o777),
            Kind::File | Kind::Char | Kind::Block if self.stash => self.stage_file(0o600),
            _ => self.stage_named(seed),
        }
        .map_err(fail)?;
        if seed.kind == Kind::Symlink || !self.stash {
            self.own(&staged, seed).map_err(fail)?;
        } else {
            self.stash_own(&staged, seed).map_err(fail)?;
        }
        Ok(staged)
    }

    /// Refuses to make an object that reads as a whiteout.
    pub(super) fn no_whiteout_device(&self, seed: &Seed<'_>) -> Result<()> {
        if seed.kind == Kind::Char && seed.rdev == Device::default() {
            return Err(Error::new(ErrorKind::NotPermitted, "create")
                .in_layer(&self.tree.label)
                .because("a character device 0/0 is a whiteout and cannot be an object"));
        }
        Ok(())
    }

    fn stage_file(&self, mode: u32) -> Sys<Staged> {
        let work = Arc::clone(&self.work);
        if self.nameless {
            let node = Node::loose(sys::open::nameless(work.fd(), mode)?, true);
            return Ok(Staged { node, name: None, work });
        }
        let (name, _) = work.make(|name| sys::open::create(work.fd(), name))?;
        Ok(self.staged_under(name))
    }

    fn stage_named(&self, seed: &Seed<'_>) -> Sys<Staged> {
        let dir = self.work.fd();
        let (name, ()) = self.work.make(|name| match seed.kind {
            Kind::Dir => sys::name::mkdir(dir, name),
            Kind::Symlink => sys::name::symlink(dir, name, seed.target),
            kind => sys::name::mknod(dir, name, kind, seed.rdev),
        })?;
        let mut staged = self.staged_under(name.clone());
        if seed.kind == Kind::Dir {
            let id = sys::stat::attr(Obj::At(dir, name.as_bytes()))?.id;
            // A directory that was here before and whose number was free again has nothing to do with this one.
            self.tree.forget(id);
            staged.node = Node::dir(self.tree.dir_node(&self.work.staging, name, id));
        }
        Ok(staged)
    }

    fn staged_under(&self, name: NameBuf) -> Staged {
        let node = Node::entry(Arc::clone(&self.work.staging), name.clone());
        Staged { node, name: Some(name), work: Arc::clone(&self.work) }
    }

    /// The object by its name in the staging directory, which needs no descriptor, or by its own.
    fn obj<'a>(&'a self, staged: &'a Staged) -> Obj<'a> {
        match (&staged.name, &staged.node.0) {
            (Some(name), _) => Obj::At(self.work.fd(), name.as_bytes()),
            (None, Kept::Loose(loose)) => Obj::Open(loose.fd.as_fd()),
            (None, _) => Obj::Path(self.work.fd()),
        }
    }

    /// Owner and mode exactly as seeded, with no call for what is right already.
    fn own(&self, staged: &Staged, seed: &Seed<'_>) -> Sys<()> {
        let obj = self.obj(staged);
        let is = sys::stat::attr(obj)?;
        if !(self.stash) && (is.uid, is.gid) != (seed.uid, seed.gid) {
            let (uid, gid) = (Some(seed.uid), Some(seed.gid));
            sys::meta::chown(obj, uid, gid).map_err(unmapped)?;
        }
        if seed.kind != Kind::Symlink && is.mode != seed.mode {
            sys::meta::chmod(obj, seed.mode)?;
        }
        Ok(())
    }

    /// Owner and mode stored, the real file ours and accessible.
    fn stash_own(&self, staged: &Staged, seed: &Seed<'_>) -> Sys<()> {
        let obj = self.obj(staged);
        let is = sys::stat::attr(obj)?;
        let meant =
            Attr { kind: seed.kind, mode: seed.mode, uid: seed.uid, gid: seed.gid, rdev: seed.rdev, ..is };
        self.store_ownership(obj, &is, &meant)
    }

    /// Makes the attributes of an object those of `meant`: as far as possible for real, the rest stored.
    pub(super) fn store_ownership(&self, obj: Obj<'_>, is: &Attr, meant: &Attr) -> Sys<()> {
        if self.store_new_ownership(obj, is, meant)? {
            return Ok(());
        }
        match sys::xattr::remove(obj, stash::XATTR) {
            Err(Errno::NODATA) => Ok(()),
            done => done,
        }
    }

    /// [`DirScratch::store_ownership`] of an object that has nothing stored yet. True when it has or needs none: it is
    /// not one that could, or it was stored.
    pub(super) fn store_new_ownership(&self, obj: Obj<'_>, is: &Attr, meant: &Attr) -> Sys<bool> {
        let real_mode = match is.kind {
            Kind::File => (meant.mode & 0o777) | 0o600,
            Kind::Dir => (meant.mode & 0o777) | 0o700,
            _ => meant.mode,
        };
        if is.mode != real_mode {
            sys::meta::chmod(obj, real_mode)?;
        }
        if !matches!(is.kind, Kind::File | Kind::Dir) {
            return Ok(true);
        }
        if (is.uid, is.gid, real_mode, is.kind) == (meant.uid, meant.gid, meant.mode, meant.kind) {
            return Ok(false);
        }
        let value = Stash::of(meant).encode();
        sys::xattr::set(obj, stash::XATTR, value.as_bytes(), XattrFlags::empty())?;
        Ok(true)
    }

    pub(super) fn publish_at(&self, mut staged: Staged, at: At<'_, Node>, over: Over) -> Result<Node> {
        let dir = self.tree.as_dir(at.dir, "publish")?;
        let fd = self.tree.dir_fd(dir)?;
        let name = at.name.as_bytes();
        let fail = |e| self.tree.failed_at("publish", dir, name)(e);
        let to = (fd.as_fd(), name);
        let is_dir = matches!(staged.node.0, Kept::Dir(_));
        let replaced = self.check(at, over, is_dir)?;
        let Some(staged_name) = staged.name.clone() else {
            self.give_name(&staged.node, dir, at.name, over)?;
            return Ok(Node::known(Arc::clone(dir), at.name.to_buf(), staged.node.ino()));
        };
        let from = (self.work.fd(), staged_name.as_bytes());
        let still = is_dir.then(|| self.tree.moves.write());
        if is_dir && over == Over::Object {
            self.only_whiteouts(to.0, to.1).map_err(fail)?;
        }
        match over {
            Over::Nothing => sys::name::rename(from, to, RenameFlags::NOREPLACE).map_err(fail)?,
            Over::Whiteout | Over::Object if is_dir => {
                sys::name::rename(from, to, RenameFlags::EXCHANGE).map_err(fail)?;
            }
            Over::Whiteout | Over::Object => {
                sys::name::rename(from, to, RenameFlags::empty()).map_err(fail)?
            }
        }
        staged.name = None;
        let node = match &staged.node.0 {
            Kept::Dir(node) => {
                node.moved(Arc::clone(dir), at.name.to_buf());
                staged.node.clone()
            }
            _ => Node::known(Arc::clone(dir), at.name.to_buf(), staged.node.ino()),
        };
        drop(still);
        if let Some(old) = replaced.filter(|_| is_dir) {
            self.tree.forget(old.id);
            self.work.discard(&staged_name);
        }
        Ok(node)
    }

    /// Gives an object that is held open a name.
    pub(super) fn give_name(
        &self,
        node: &Node,
        dir: &Arc<DirNode>,
        name: Name<'_>,
        over: Over,
    ) -> Result<()> {
        let fd = self.tree.dir_fd(dir)?;
        let held = self.tree.held(node)?;
        let fail = |e| self.tree.failed_at("link", dir, name.as_bytes())(e);
        if over == Over::Nothing {
            return sys::name::link(held.obj(), fd.as_fd(), name.as_bytes()).map_err(fail);
        }
        let link = |staged: &[u8]| sys::name::link(held.obj(), self.work.fd(), staged);
        let (staged, ()) = self.work.make(link).map_err(fail)?;
        let from = (self.work.fd(), staged.as_bytes());
        let done = sys::name::rename(from, (fd.as_fd(), name.as_bytes()), RenameFlags::empty());
        // rename(2) of two names of one object changes nothing and leaves both.
        let same = over == Over::Object && !matches!(&held, Held::Loose(loose) if loose.open);
        if done.is_err() || same {
            self.work.discard(&staged);
        }
        done.map_err(fail)
    }

    pub(super) fn publish_in_index(&self, mut staged: Staged, origin: &Origin) -> Result<Node> {
        let (index, name) = self.index_entry(origin)?;
        let fd = self.tree.dir_fd(index)?;
        let fail = |e| self.tree.failed_at("publish in the index", index, name.as_bytes())(e);
        if matches!(staged.node.0, Kept::Dir(_)) {
            return Err(fail(Errno::ISDIR));
        }
        let mark = self.tree.namespace().own(marks::ORIGIN);
        sys::xattr::set(self.obj(&staged), &mark, origin.as_bytes(), XattrFlags::empty()).map_err(fail)?;
        match &staged.name {
            None => sys::name::link(self.obj(&staged), fd.as_fd(), name.as_bytes()),
            Some(old) => {
                let from = (self.work.fd(), old.as_bytes());
                sys::name::rename(from, (fd.as_fd(), name.as_bytes()), RenameFlags::NOREPLACE)
            }
        }
        .map_err(fail)?;
        staged.name = None;
        Ok(Node::known(Arc::clone(index), name, staged.node.ino()))
    }

    /// Where there is no `O_TMPFILE`, a kept file cannot be linked any more: the kernel lets no object without names
    /// have one again.
    pub(super) fn keep_nameless(&self, mut staged: Staged) -> Result<Node> {
        let Some(name) = staged.name.clone() else { return Ok(staged.node.clone()) };
        let kept = self.tree.pin(&staged.node)?;
        let fd = self.work.fd();
        match &staged.node.0 {
            Kept::Dir(node) => {
                sys::name::rmdir(fd, name.as_bytes()).map_err(self.work.failed("keep"))?;
                self.tree.forget(node.id());
            }
            _ => sys::name::unlink(fd, name.as_bytes()).map_err(self.work.failed("keep"))?,
        }
        staged.name = None;
        Ok(kept)
    }

    pub(super) fn find_indexed(&self, origin: &Origin) -> Result<Option<Hit<Node>>> {
        if self.index.is_none() || origin.is_unknown() {
            return Ok(None);
        }
        let (index, name) = self.index_entry(origin)?;
        match self.tree.lookup(&Node::dir(Arc::clone(index)), name.as_name())? {
            Found::Node(hit) => Ok(Some(hit)),
            Found::Absent | Found::Whiteout => Ok(None),
        }
    }

    pub(super) fn all_indexed(&self) -> Result<Vec<(Origin, Hit<Node>)>> {
        let Some(index) = &self.index else { return Ok(Vec::new()) };
        let dir = Node::dir(Arc::clone(index));
        let mut origins = Vec::new();
        self.tree.read_dir(&dir, &mut |entry| {
            origins.extend(indexed_origin(entry.name.as_bytes()));
            ControlFlow::Continue(())
        })?;
        let mut entries = Vec::with_capacity(origins.len());
        for origin in origins {
            if let Some(hit) = self.find_indexed(&origin)? {
                entries.push((origin, hit));
            }
        }
        Ok(entries)
    }

    pub(super) fn remove_indexed(&self, origin: &Origin) -> Result<()> {
        if self.index.is_none() || origin.is_unknown() {
            return Ok(());
        }
        let (index, name) = self.index_entry(origin)?;
        let fd = self.tree.dir_fd(index)?;
        match sys::name::unlink(fd.as_fd(), name.as_bytes()) {
            Err(Errno::NOENT) => Ok(()),
            done => done.map_err(self.tree.failed_at("drop from the index", index, name.as_bytes())),
        }
    }

    /// Directory and name of an origin's index entry.
    fn index_entry(&self, origin: &Origin) -> Result<(&Arc<DirNode>, NameBuf)> {
        let unsupported = |why: String| {
            Error::new(ErrorKind::Unsupported, "use the index").in_layer(&self.tree.label).because(why)
        };
        let index =
            self.index.as_ref().ok_or_else(|| unsupported("the scratch was opened without one".into()))?;
        let name = index_name(origin);
        if name.len() > NAME_MAX {
            let why = format!("an origin of {} bytes does not fit into a name", origin.as_bytes().len());
            return Err(unsupported(why));
        }
        Ok((index, NameBuf::new(name.as_bytes())?))
    }
}

/// An owner that has no number in this user namespace is `EOVERFLOW`, as the kernel's overlayfs has it.
pub(super) fn unmapped(e: Errno) -> Errno {
    if e == Errno::INVAL { Errno::OVERFLOW } else { e }
}
