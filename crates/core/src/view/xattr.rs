//! Extended attributes of merged objects. Invariant: no caller sees or sets what a backend keeps there for
//! itself; the rules are xattr(7)'s.

use super::copy_up::Need;
use super::object::Inode;
use super::{View, resolve::caller_access};
use crate::acl;
use crate::attr::{Kind, SetAttr};
use crate::caller::{Caller, Want};
use crate::error::{Error, ErrorKind, Result, errno};
use crate::layer::Layer;
use crate::plan::Durability;
use crate::scratch::{Scratch, SetXattr, Sync};

/// The longest name of an extended attribute in bytes (`XATTR_NAME_MAX`).
pub const XATTR_NAME_MAX: usize = 255;
/// Attributes of the privileged.
const TRUSTED: &[u8] = b"trusted.";
/// The largest value in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_SIZE_MAX: usize = 65_536;

impl<L: Layer, S: Scratch> View<L, S> {
    /// One extended attribute as a caller may see it: `trusted.*` is not there for the unprivileged, and `user.*`
    /// takes the right to read (xattr(7)).
    ///
    /// # Errors
    /// `EACCES`; as [`View::xattr`].
    pub fn xattr_as(&self, inode: &Inode<L, S>, name: &[u8], caller: &Caller) -> Result<Option<Vec<u8>>> {
        if !caller.privileged && name.starts_with(TRUSTED) {
            return Ok(None);
        }
        if name.starts_with(b"user.") && matches!(inode.kind(), Kind::File | Kind::Dir) {
            caller_access(self, inode, Want::READ, caller)?;
        }
        self.xattr(inode, name)
    }

    /// The full names of the extended attributes that a caller may know of.
    ///
    /// # Errors
    /// As [`View::xattrs`].
    pub fn xattrs_as(&self, inode: &Inode<L, S>, caller: &Caller) -> Result<Vec<Vec<u8>>> {
        let mut names = self.xattrs(inode)?;
        if !caller.privileged {
            names.retain(|name| !name.starts_with(TRUSTED));
        }
        Ok(names)
    }

    /// One extended attribute by its full name, whoever asks; `None` when there is none.
    ///
    /// # Errors
    /// `ERANGE` for a name that is too long or empty; what the backends say.
    pub fn xattr(&self, inode: &Inode<L, S>, name: &[u8]) -> Result<Option<Vec<u8>>> {
        check_name("getxattr", name)?;
        if let Some(value) = self.read_upper(inode, |scratch, node| scratch.xattr(node, name))? {
            return Ok(value);
        }
        match inode.0.lowers.first() {
            Some(lower) if lower.bare => Ok(None),
            Some(lower) => self.layer(lower)?.xattr(&lower.node, name),
            None => Err(Error::new(ErrorKind::Stale, "getxattr")),
        }
    }

    /// The full names of all extended attributes, whoever asks.
    ///
    /// # Errors
    /// What the backends say.
    pub fn xattrs(&self, inode: &Inode<L, S>) -> Result<Vec<Vec<u8>>> {
        if let Some(names) = self.read_upper(inode, |scratch, node| scratch.xattrs(node))? {
            return Ok(names);
        }
        match inode.0.lowers.first() {
            Some(lower) if lower.bare => Ok(Vec::new()),
            Some(lower) => self.layer(lower)?.xattrs(&lower.node),
            None => Err(Error::new(ErrorKind::Stale, "listxattr")),
        }
    }

    /// Sets an extended attribute. An access list also sets the mode, as acl(5) says.
    ///
    /// # Errors
    /// `EPERM` and `EACCES` by xattr(7); `EEXIST` and `ENODATA` as `how` asks; `E2BIG`, `ERANGE`.
    pub fn set_xattr(
        &self,
        inode: &Inode<L, S>,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        caller: &Caller,
    ) -> Result<()> {
        let scratch = self.writable("setxattr")?;
        check_name("setxattr", name)?;
        if value.len() > XATTR_SIZE_MAX {
            return Err(Error::new(ErrorKind::Io(errno::E2BIG), "setxattr")
                .about(name)
                .because("value over 64 KiB"));
        }
        let access_list = name == acl::ACCESS && !value.is_empty();
        let bits = match access_list.then(|| acl::mode_of(value)) {
            Some(None) => {
                return Err(Error::new(ErrorKind::InvalidInput, "setxattr")
                    .about(name)
                    .because("no access list"));
            }
            Some(Some((bits, _))) => Some(bits),
            None => None,
        };
        // Asked before copy-up: a call that must fail leaves nothing behind.
        let (changing, ()) = self.lock_checked(inode, || {
            self.may_set_xattr(inode, name, caller)?;
            match (how, self.xattr(inode, name)?.is_some()) {
                (SetXattr::Create, true) => Err(Error::new(ErrorKind::AlreadyExists, "setxattr").about(name)),
                (SetXattr::Replace, false) => Err(Error::new(ErrorKind::NoData, "setxattr").about(name)),
                _ => Ok(()),
            }
        })?;
        let node = self.copy_up_locked(inode, Need::Metadata, &changing.lock)?;
        let mode = match bits {
            Some(bits) => {
                let before = scratch.attr(&node)?;
                // As chmod(2) does: no setgid of a group that the caller is not in.
                let keeps = caller.privileged || caller.in_group(before.gid);
                Some(before.mode & if keeps { 0o7000 } else { 0o5000 } | bits)
            }
            None => None,
        };
        scratch.set_xattr(&node, name, value, how)?;
        if mode.is_some() {
            scratch.set_attr(&node, &SetAttr { mode, ..SetAttr::default() })?;
        }
        self.sync_if_strict(scratch, &node)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` when there is none; `EPERM` and `EACCES` by xattr(7).
    pub fn remove_xattr(&self, inode: &Inode<L, S>, name: &[u8], caller: &Caller) -> Result<()> {
        let scratch = self.writable("removexattr")?;
        check_name("removexattr", name)?;
        let checked = self.lock_checked(inode, || {
            self.may_set_xattr(inode, name, caller)?;
            let missing = || Error::new(ErrorKind::NoData, "removexattr").about(name);
            self.xattr(inode, name)?.map(drop).ok_or_else(missing)
        });
        let changing = match checked {
            Ok((changing, ())) => changing,
            // Removing an access list that is not there is no error (as the hosts' file systems have it).
            Err(e) if e.kind() == ErrorKind::NoData && [acl::ACCESS, acl::DEFAULT].contains(&name) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let node = self.copy_up_locked(inode, Need::Metadata, &changing.lock)?;
        scratch.remove_xattr(&node, name)?;
        self.sync_if_strict(scratch, &node)
    }

    fn sync_if_strict(&self, scratch: &S, node: &S::Node) -> Result<()> {
        if self.0.config.durability == Durability::Strict {
            scratch.sync(node, Sync::All)?;
        }
        Ok(())
    }

    fn may_set_xattr(&self, inode: &Inode<L, S>, name: &[u8], caller: &Caller) -> Result<()> {
        let refuse =
            |why: &'static str| Err(Error::new(ErrorKind::NotPermitted, "setxattr").about(name).because(why));
        if name.starts_with(b"user.") {
            if !matches!(inode.kind(), Kind::File | Kind::Dir) {
                return refuse("user attributes are for files and directories only");
            }
            let attr = self.attr(inode)?;
            if inode.is_dir() && attr.mode & 0o1000 != 0 && !caller.owns(&attr) {
                return refuse("a sticky directory of another owner");
            }
            return caller_access(self, inode, Want::WRITE, caller);
        }
        if name == acl::ACCESS || name == acl::DEFAULT {
            if name == acl::DEFAULT && !inode.is_dir() {
                return Err(Error::new(ErrorKind::PermissionDenied, "setxattr").about(name));
            }
            return if caller.owns(&self.attr(inode)?) { Ok(()) } else { refuse("not the owner") };
        }
        if name.starts_with(b"trusted.") || name.starts_with(b"security.") {
            return if caller.privileged { Ok(()) } else { refuse("only for the privileged") };
        }
        Err(Error::new(ErrorKind::Unsupported, "setxattr").about(name).because("unknown attribute namespace"))
    }
}

fn check_name(operation: &'static str, name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) {
        return Err(Error::new(ErrorKind::Range, operation)
            .about(name)
            .because("1 to 255 bytes without NUL"));
    }
    Ok(())
}
