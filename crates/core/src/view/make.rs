//! Making files, directories, links and nodes.

use super::copy_up::Need;
use super::exec::Exec;
use super::handle::{Access, Handle};
use super::object::{Inode, State};
use super::{View, missing};
use crate::acl;
use crate::attr::{Attr, Device, Kind};
use crate::caller::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::name::{Name, NameBuf, PATH_MAX};
use crate::plan::{self, Make, Vacancy};
use crate::scratch::{At, Scratch, Seed};

/// What is to be made.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// What it will be.
    pub kind: Kind,
    /// Permission bits asked for.
    pub mode: u32,
    /// Bits that the caller's umask takes away, unless the directory has a default access list.
    pub umask: u32,
    /// Device number, for devices.
    pub rdev: Device,
    /// The target, for symbolic links.
    pub target: &'a [u8],
}

impl<'a> New<'a> {
    /// An object of `kind` with exactly `mode`.
    #[must_use]
    pub fn node(kind: Kind, mode: u32, rdev: Device) -> Self {
        Self { kind, mode, umask: 0, rdev, target: b"" }
    }

    /// A regular file.
    #[must_use]
    pub fn file(mode: u32) -> Self {
        Self::node(Kind::File, mode, Device::default())
    }

    /// A directory.
    #[must_use]
    pub fn dir(mode: u32) -> Self {
        Self::node(Kind::Dir, mode, Device::default())
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(target: &'a [u8]) -> Self {
        Self { target, ..Self::node(Kind::Symlink, 0o777, Device::default()) }
    }

    /// The same with a umask.
    #[must_use]
    pub fn umask(self, umask: u32) -> Self {
        Self { umask, ..self }
    }

    fn check(&self, caller: &Caller) -> Result<()> {
        let error = |kind, why: &'static str| Err(Error::new(kind, "make").because(why));
        match self.kind {
            Kind::Symlink if self.target.is_empty() => error(ErrorKind::NotFound, "an empty target"),
            Kind::Symlink if self.target.len() >= PATH_MAX => error(ErrorKind::NameTooLong, "the target"),
            Kind::Symlink if self.target.contains(&0) => error(ErrorKind::InvalidInput, "NUL in the target"),
            Kind::Char if self.rdev == Device::default() => {
                error(ErrorKind::NotPermitted, "character device 0/0 is a whiteout")
            }
            Kind::Char | Kind::Block if !caller.privileged => {
                error(ErrorKind::NotPermitted, "device nodes are for the privileged")
            }
            _ => Ok(()),
        }
    }
}

/// What a new object gets from its caller and its directory.
struct Born {
    mode: u32,
    gid: u32,
    xattrs: Vec<(&'static [u8], Vec<u8>)>,
}

impl<L: Layer, S: Scratch> View<L, S> {
    /// Makes an object under a name that is free.
    ///
    /// # Errors
    /// `EEXIST`; `ENOENT` in a removed directory; `EACCES`, `EPERM`; `EROFS` without a scratch; what the
    /// scratch says.
    pub fn make(
        &self,
        dir: &Inode<L, S>,
        name: Name<'_>,
        new: &New<'_>,
        caller: &Caller,
    ) -> Result<Inode<L, S>> {
        let exists = || Error::new(ErrorKind::AlreadyExists, "make").about(name.as_bytes());
        if self.lookup(dir, name)?.is_some() {
            return Err(exists());
        }
        self.writable("make")?;
        self.check_name_fits(name)?;
        self.may_change_names(dir, caller)?;
        new.check(caller).map_err(|e| e.about(name.as_bytes()))?;
        let dir_node = self.copy_up(dir, Need::Metadata)?;
        let part = dir.0.dir.as_ref().ok_or_else(|| super::not_a_directory("make"))?;
        let _names = part.names.write();
        if dir.0.state.read().removed {
            return Err(missing("make", name));
        }
        let Err(vacancy) = self.lookup_locked(dir, name)? else { return Err(exists()) };
        let at = At { dir: &dir_node, name };
        let made = self.make_in(&dir_node, Some((at, vacancy)), new, caller);
        // Also after an error: a later step than the one that gave it its name may have failed.
        dir.forget_child(name);
        let (attr, node) = made.map_err(|e| e.about(name.as_bytes()))?;
        let opaque = new.kind == Kind::Dir && vacancy == Vacancy::Whiteout;
        let inode = self.made(node, &attr, Some((dir.clone(), name.to_buf())), opaque)?;
        Ok(self.adopt(dir, name, inode))
    }

    /// Makes a regular file without a name in the scratch and opens it for reading and writing (`O_TMPFILE`).
    ///
    /// # Errors
    /// As [`View::make`].
    pub fn tmpfile(&self, dir: &Inode<L, S>, mode: u32, caller: &Caller) -> Result<Handle<L, S>> {
        self.writable("tmpfile")?;
        self.may_change_names(dir, caller)?;
        let dir_node = self.copy_up(dir, Need::Metadata)?;
        let (attr, node) = self.make_in(&dir_node, None, &New::file(mode), caller)?;
        let inode = self.made(node, &attr, None, false)?;
        let access = Access { read: true, write: true, ..Access::default() };
        self.open(&inode, access, &Caller { privileged: true, ..caller.clone() })
    }

    fn make_in(
        &self,
        dir: &S::Node,
        at: Option<(At<'_, S::Node>, Vacancy)>,
        new: &New<'_>,
        caller: &Caller,
    ) -> Result<(Attr, S::Node)> {
        let scratch = self.writable("make")?;
        let born = born(scratch, dir, new, caller)?;
        let mut exec: Exec<'_, L, S> = Exec::new(scratch, self.0.config.untrusted);
        exec.at = at.map(|(at, _)| at);
        exec.seed = Some(Seed {
            kind: new.kind,
            mode: born.mode,
            uid: caller.uid,
            gid: born.gid,
            rdev: new.rdev,
            target: new.target,
        });
        exec.xattrs = &born.xattrs;
        let facts = Make {
            kind: new.kind,
            at: at.map(|(_, vacancy)| vacancy),
            xattrs: !born.xattrs.is_empty(),
            durability: self.0.config.durability,
        };
        exec.run(&plan::make(&facts))?;
        let node = exec.subject.take().ok_or_else(|| Error::new(ErrorKind::Stale, "make"))?;
        Ok((scratch.attr(&node)?, node))
    }

    fn made(
        &self,
        node: S::Node,
        attr: &Attr,
        place: Option<(Inode<L, S>, NameBuf)>,
        opaque: bool,
    ) -> Result<Inode<L, S>> {
        let (parent, name) = match place {
            Some((parent, name)) => (Some(parent), name),
            None => (None, NameBuf::new(b"unnamed")?),
        };
        let state = State {
            upper: Some(node),
            own_data: true,
            parent,
            name,
            removed: false,
            opaque,
            impure: false,
            redirect: None,
            has_origin: false,
            index: None,
            nlink: None,
        };
        Ok(self.new_object(attr.kind, attr.id, Vec::new(), state))
    }
}

/// Group, mode and access lists of a new object: inode(7) for setgid directories, acl(5) for default lists.
fn born<S: Scratch>(scratch: &S, dir: &S::Node, new: &New<'_>, caller: &Caller) -> Result<Born> {
    let parent = scratch.attr(dir)?;
    let inherits_group = parent.mode & 0o2000 != 0;
    let gid = if inherits_group { parent.gid } else { caller.gid };
    let mut mode = new.mode & 0o7777;
    let mut xattrs = Vec::new();
    if new.kind == Kind::Symlink {
        return Ok(Born { mode: 0o777, gid, xattrs });
    }
    let default = match scratch.xattr(dir, acl::DEFAULT) {
        Err(e) if e.kind() == ErrorKind::Unsupported => None,
        other => other?,
    };
    match default.as_deref().and_then(|list| acl::inherit(list, mode)) {
        Some((bits, access)) => {
            mode = bits;
            xattrs.extend(access.map(|list| (acl::ACCESS, list)));
            if new.kind == Kind::Dir {
                xattrs.extend(default.map(|list| (acl::DEFAULT, list)));
            }
        }
        None => mode &= !new.umask,
    }
    if inherits_group {
        if new.kind == Kind::Dir {
            mode |= 0o2000;
        } else if mode & 0o2010 == 0o2010 && !caller.privileged && !caller.in_group(gid) {
            mode &= !0o2000;
        }
    }
    Ok(Born { mode, gid, xattrs })
}
