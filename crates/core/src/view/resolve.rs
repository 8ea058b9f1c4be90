//! Paths to objects. Invariant: a walk never leaves the view. `..` and absolute links are resolved among merged
//! objects, never by the host; the root's parent is the root; a directory that moves meanwhile still has its
//! parents inside. A mount table will hook in where a step arrives at a directory ([`Walk::arrive`]).

use super::object::Inode;
use super::{View, not_a_directory};
use crate::acl;
use crate::attr::Kind;
use crate::caller::{Caller, Want};
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::name::{Name, NameBuf, PATH_MAX};
use crate::scratch::Scratch;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The most symbolic links that one walk follows, as on Linux.
pub const SYMLINKS_MAX: usize = 40;

/// Whether the last component is followed when it is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// As stat(2).
    Yes,
    /// As lstat(2).
    No,
}

/// A place for a name: where a path leads, apart from its last component.
#[derive(Debug)]
pub struct Entry<L: Layer, S: Scratch> {
    /// The directory.
    pub dir: Inode<L, S>,
    /// The last component.
    pub name: NameBuf,
    /// The path ended in a slash: only a directory will do.
    pub must_be_dir: bool,
}

/// Checks a caller's right to an object, with its access list where there is one.
pub(crate) fn caller_access<L: Layer, S: Scratch>(
    view: &View<L, S>,
    inode: &Inode<L, S>,
    want: Want,
    caller: &Caller,
) -> Result<()> {
    if caller.privileged && !want.contains(Want::EXEC) {
        return Ok(());
    }
    let attr = view.attr(inode)?;
    let list = if caller.privileged { None } else { view.xattr(inode, acl::ACCESS).unwrap_or(None) };
    caller.check(&attr, list.as_deref(), want)
}

/// One walk: what is still to be walked, as a stack of path pieces.
struct Walk<'v, L: Layer, S: Scratch> {
    view: &'v View<L, S>,
    caller: &'v Caller,
    links: usize,
    at: Inode<L, S>,
    /// Pieces of paths, the next one last, each with the offset that was reached. The first one is the path itself.
    rest: SmallVec<[(Cow<'v, [u8]>, usize); 1]>,
}

/// One component of a path, checked. Most names of most paths need no allocation.
struct Component(SmallVec<[u8; 40]>);

impl Component {
    fn new(name: &[u8]) -> Result<Self> {
        Name::new(name).map(|name| Self(SmallVec::from_slice(name.as_bytes())))
    }

    fn as_name(&self) -> Result<Name<'_>> {
        Name::new(&self.0)
    }
}

enum Part {
    Name(Component),
    Up,
    Here,
}

impl<L: Layer, S: Scratch> Walk<'_, L, S> {
    /// Takes the next component; also says whether it is the last one, and whether slashes follow it.
    fn next(&mut self) -> Result<Option<(Part, bool, bool)>> {
        loop {
            let Some((piece, at)) = self.rest.last_mut() else { return Ok(None) };
            let left = piece.get(*at..).unwrap_or_default();
            let start = left.iter().take_while(|b| **b == b'/').count();
            let left = left.get(start..).unwrap_or_default();
            if left.is_empty() {
                self.rest.pop();
                continue;
            }
            let len = left.iter().position(|b| *b == b'/').unwrap_or(left.len());
            let (part, behind) = left.split_at(len);
            *at += start + len;
            let slash = !behind.is_empty();
            let ends = behind.iter().all(|b| *b == b'/');
            let part = match part {
                b"." => Part::Here,
                b".." => Part::Up,
                name => Part::Name(Component::new(name)?),
            };
            if ends {
                self.rest.pop();
            }
            // What is left of a piece always names something, so nothing left means the end of the path.
            return Ok(Some((part, self.rest.is_empty(), slash)));
        }
    }

    fn enter(&mut self, name: &Component) -> Result<Option<Inode<L, S>>> {
        self.may_pass()?;
        self.view.lookup(&self.at, name.as_name()?)
    }

    fn may_pass(&self) -> Result<()> {
        if !self.at.is_dir() {
            return Err(not_a_directory("walk"));
        }
        if self.caller.privileged {
            return Ok(());
        }
        caller_access(self.view, &self.at, Want::EXEC, self.caller)
    }

    /// Arrives at the object of a step. What is mounted on it would take its place here.
    fn arrive(&mut self, inode: Inode<L, S>) {
        self.at = inode;
    }

    /// Puts the target of a link in front of what is still to be walked.
    fn follow(&mut self, link: &Inode<L, S>, slash: bool) -> Result<()> {
        self.links += 1;
        if self.links > SYMLINKS_MAX {
            return Err(Error::new(ErrorKind::Loop, "walk"));
        }
        let mut target = self.view.read_link(link)?;
        if target.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "walk").because("an empty symbolic link"));
        }
        if target.first() == Some(&b'/') {
            let root = self.view.root();
            self.arrive(root);
        }
        if slash {
            target.push(b'/');
        }
        self.rest.push((Cow::Owned(target), 0));
        Ok(())
    }

    fn up(&mut self) -> Result<()> {
        self.may_pass()?;
        let parent = self.view.parent(&self.at)?;
        self.arrive(parent);
        Ok(())
    }
}

impl<L: Layer, S: Scratch> View<L, S> {
    fn walk<'v>(&'v self, base: &Inode<L, S>, path: &'v [u8], caller: &'v Caller) -> Result<Walk<'v, L, S>> {
        if path.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "walk").because("an empty path"));
        }
        if path.len() >= PATH_MAX {
            return Err(
                Error::new(ErrorKind::NameTooLong, "walk").because("a path is shorter than 4096 bytes")
            );
        }
        if path.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidInput, "walk").because("a path holds no NUL"));
        }
        let at = if path.first() == Some(&b'/') { self.root() } else { base.clone() };
        Ok(Walk { view: self, caller, links: 0, at, rest: SmallVec::from_iter([(Cow::Borrowed(path), 0)]) })
    }

    /// Walks a path to its object. Relative paths begin at `base`, absolute ones at the view's root.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ELOOP`, `ENAMETOOLONG`, `EACCES` on the way; they name the path.
    pub fn resolve(
        &self,
        base: &Inode<L, S>,
        path: &[u8],
        follow: Follow,
        caller: &Caller,
    ) -> Result<Inode<L, S>> {
        self.resolve_inner(base, path, follow, caller).map_err(|e| e.about(path))
    }

    fn resolve_inner(
        &self,
        base: &Inode<L, S>,
        path: &[u8],
        follow: Follow,
        caller: &Caller,
    ) -> Result<Inode<L, S>> {
        let mut walk = self.walk(base, path, caller)?;
        let mut must_be_dir = false;
        while let Some((part, last, slash)) = walk.next()? {
            must_be_dir |= last && slash;
            match part {
                Part::Here => walk.may_pass()?,
                Part::Up => walk.up()?,
                Part::Name(name) => {
                    let found = walk.enter(&name)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "walk"))?;
                    if found.kind() == Kind::Symlink && (!last || slash || follow == Follow::Yes) {
                        walk.follow(&found, slash)?;
                    } else {
                        walk.arrive(found);
                    }
                }
            }
        }
        if must_be_dir && !walk.at.is_dir() {
            return Err(not_a_directory("walk"));
        }
        Ok(walk.at)
    }

    /// Walks a path up to its last component, which need not exist and is not followed.
    ///
    /// # Errors
    /// As [`View::resolve`]; `EINVAL` for a path that ends in `.`, `ENOTEMPTY` in `..`, `EBUSY` for the root.
    pub fn resolve_parent(&self, base: &Inode<L, S>, path: &[u8], caller: &Caller) -> Result<Entry<L, S>> {
        self.resolve_parent_inner(base, path, caller).map_err(|e| e.about(path))
    }

    fn resolve_parent_inner(&self, base: &Inode<L, S>, path: &[u8], caller: &Caller) -> Result<Entry<L, S>> {
        let mut walk = self.walk(base, path, caller)?;
        while let Some((part, last, slash)) = walk.next()? {
            match part {
                Part::Here if last => {
                    return Err(Error::new(ErrorKind::InvalidInput, "walk").because("the path ends in `.`"));
                }
                Part::Up if last => {
                    return Err(Error::new(ErrorKind::NotEmpty, "walk").because("the path ends in `..`"));
                }
                Part::Here => walk.may_pass()?,
                Part::Up => walk.up()?,
                Part::Name(name) if last => {
                    walk.may_pass()?;
                    return Ok(Entry { dir: walk.at, name: name.as_name()?.to_buf(), must_be_dir: slash });
                }
                Part::Name(name) => {
                    let found = walk.enter(&name)?.ok_or_else(|| Error::new(ErrorKind::NotFound, "walk"))?;
                    if found.kind() == Kind::Symlink {
                        walk.follow(&found, slash)?;
                    } else {
                        walk.arrive(found);
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Busy, "walk").because("the root has no name"))
    }

    /// Checks a caller's rights to an object: access(2).
    ///
    /// # Errors
    /// `EACCES`; `EROFS` for writing to a view without a scratch.
    pub fn access(&self, inode: &Inode<L, S>, want: Want, caller: &Caller) -> Result<()> {
        let special = matches!(inode.kind(), Kind::Char | Kind::Block | Kind::Fifo | Kind::Socket);
        if want.contains(Want::WRITE) && !special {
            self.writable("access")?;
        }
        caller_access(self, inode, want, caller)
    }

    /// The rights that changing a directory's names takes; also the attributes, for what else is checked.
    pub(crate) fn may_change_names(&self, dir: &Inode<L, S>, caller: &Caller) -> Result<()> {
        if !dir.is_dir() {
            return Err(not_a_directory("change directory"));
        }
        if caller.privileged {
            return Ok(());
        }
        caller_access(self, dir, Want::WRITE | Want::EXEC, caller)
    }

    /// The sticky rule for removing `victim` from `dir`.
    pub(crate) fn may_remove(&self, dir: &Inode<L, S>, victim: &Inode<L, S>, caller: &Caller) -> Result<()> {
        if caller.privileged {
            return Ok(());
        }
        caller.check_sticky(&self.attr(dir)?, &self.attr(victim)?)
    }

    /// A name checked against what the scratch can hold.
    pub(crate) fn check_name_fits(&self, name: Name<'_>) -> Result<()> {
        let max = self.0.scratch.as_ref().map_or(crate::NAME_MAX, |s| s.caps().name_max);
        if name.as_bytes().len() > max {
            return Err(Error::new(ErrorKind::NameTooLong, "name").about(name.as_bytes()));
        }
        Ok(())
    }
}
