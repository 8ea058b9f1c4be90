//! Who asks: the identity that permission checks and new objects' owners go by. Pure decisions only.

use crate::attr::{Attr, Kind, SetAttr, SetTime};
use crate::error::{Error, ErrorKind, Result};
use bitflags::bitflags;

/// The identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Owner of what it makes (fsuid).
    pub uid: u32,
    /// Group of what it makes (fsgid), unless the directory has setgid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// May do everything: no permission is checked, as with `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_CHOWN`,
    /// `CAP_FSETID`, `CAP_MKNOD` and `CAP_SYS_ADMIN` in the container.
    pub privileged: bool,
}

bitflags! {
    /// What a caller wants to do with an object: access(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Want: u32 {
        /// Run it, or pass through the directory.
        const EXEC = 1;
        /// Change it, or its names if it is a directory.
        const WRITE = 2;
        /// Read it.
        const READ = 4;
    }
}

impl Caller {
    /// Root in the container.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), privileged: true }
    }

    /// A user without privilege.
    #[must_use]
    pub fn user(uid: u32, gid: u32) -> Self {
        Self { uid, gid, groups: Vec::new(), privileged: false }
    }

    /// True when `gid` is one of the caller's groups.
    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// True when the caller owns the object or may act as its owner.
    #[must_use]
    pub fn owns(&self, attr: &Attr) -> bool {
        self.privileged || self.uid == attr.uid
    }

    /// Checks mode bits and, where there is one, the access ACL (its `system.posix_acl_access` value).
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, attr: &Attr, acl: Option<&[u8]>, want: Want) -> Result<()> {
        if self.privileged {
            // Even the privileged run only what somebody may run.
            if want.contains(Want::EXEC) && attr.kind == Kind::File && attr.mode & 0o111 == 0 {
                return Err(Error::new(ErrorKind::PermissionDenied, "access"));
            }
            return Ok(());
        }
        let granted = if self.uid == attr.uid {
            attr.mode >> 6
        } else if let Some(granted) = acl.and_then(|acl| crate::acl::granted(acl, self, attr)) {
            granted
        } else if self.in_group(attr.gid) {
            attr.mode >> 3
        } else {
            attr.mode
        };
        if Want::from_bits_truncate(granted).contains(want) {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::PermissionDenied, "access"))
        }
    }

    /// Checks that a name may be removed from a directory with the sticky bit.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_sticky(&self, dir: &Attr, victim: &Attr) -> Result<()> {
        if self.privileged || dir.mode & 0o1000 == 0 || self.uid == dir.uid || self.uid == victim.uid {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotPermitted, "remove").because("the directory is sticky and another's"))
    }

    /// The mode of a file after the caller wrote to it or changed its owner: no setuid, and no setgid where it
    /// means privilege or the group is not the caller's.
    #[must_use]
    pub fn mode_after_write(&self, attr: &Attr) -> u32 {
        let cleared = without_privilege(attr.mode);
        if self.privileged || self.in_group(attr.gid) { cleared } else { cleared & !0o2000 }
    }

    /// Checks a change of attributes by the rules of chmod(2), chown(2) and utimensat(2), and completes it:
    /// a change of owner clears setuid and setgid, a foreign group loses setgid.
    ///
    /// # Errors
    /// `EPERM`, `EACCES`, `EOVERFLOW` for an owner of -1.
    pub fn check_set(&self, attr: &Attr, acl: Option<&[u8]>, set: &SetAttr) -> Result<SetAttr> {
        let refuse =
            |why: &'static str| Err(Error::new(ErrorKind::NotPermitted, "set attributes").because(why));
        let mut set = *set;
        if set.uid == Some(u32::MAX) || set.gid == Some(u32::MAX) {
            return Err(Error::new(ErrorKind::Overflow, "set owner").because("-1 is no owner"));
        }
        if attr.kind == Kind::Symlink && set.mode.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "set mode").because("a symbolic link has none"));
        }
        if !self.privileged {
            if set.uid.is_some_and(|uid| uid != attr.uid || self.uid != attr.uid) {
                return refuse("only the privileged give files away");
            }
            if set.gid.is_some_and(|gid| self.uid != attr.uid || (gid != attr.gid && !self.in_group(gid))) {
                return refuse("not the owner, or not a member of that group");
            }
            if set.mode.is_some() && !self.owns(attr) {
                return refuse("not the owner");
            }
            let times = [set.atime, set.mtime];
            if times.iter().any(Option::is_some) && !self.owns(attr) {
                if times.iter().any(|t| !matches!(t, Some(SetTime::Now))) {
                    return refuse("only the owner sets arbitrary times");
                }
                self.check(attr, acl, Want::WRITE)?;
            }
        }
        if let Some(mode) = &mut set.mode {
            *mode &= 0o7777;
            let gid = set.gid.unwrap_or(attr.gid);
            if !self.privileged && !self.in_group(gid) {
                *mode &= !0o2000;
            }
        } else if (set.uid.is_some() || set.gid.is_some()) && !matches!(attr.kind, Kind::Dir | Kind::Symlink)
        {
            let cleared = self.mode_after_write(attr);
            set.mode = (cleared != attr.mode).then_some(cleared);
        }
        Ok(set)
    }
}

/// A mode without setuid, and without setgid where it means privilege.
#[must_use]
pub fn without_privilege(mode: u32) -> u32 {
    let mut cleared = mode & !0o4000;
    if mode & 0o010 != 0 {
        cleared &= !0o2000;
    }
    cleared
}
