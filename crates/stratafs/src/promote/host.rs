//! Attributes of objects of the host: extended attributes under the names that a layer stores them by, and what
//! of a directory is changed in place.

use super::confined::Sys;
use super::path::Bytes;
use crate::Namespace;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::{Errno, retry_on_intr};
use std::collections::BTreeMap;
use stratafs_core::Time;

/// The longest value or list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LARGEST: usize = 64 << 10;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Bytes, Bytes>;

/// Holds an object of any kind, itself and not what it may lead to.
pub(super) fn hold(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| match name {
        b"" => fs::openat(dir, c".", how | OFlags::DIRECTORY, Mode::empty()),
        name => fs::openat(dir, name, how, Mode::empty()),
    })
}

/// The path under which this process reaches exactly what it holds (proc(5)).
fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The extended attributes of a held object as stored, overlayfs's own left out.
pub(super) fn xattrs(held: BorrowedFd<'_>, namespace: Namespace) -> Sys<Xattrs> {
    let at = magic(held);
    let mut list = vec![0; LARGEST];
    let len = match retry_on_intr(|| fs::listxattr(at.as_str(), &mut list[..])) {
        Err(Errno::OPNOTSUPP) => 0,
        len => len?,
    };
    let mut out = Xattrs::new();
    let names = list.get(..len).unwrap_or_default().split(|b| *b == 0).filter(|name| !name.is_empty());
    for name in names {
        if namespace.unescape(name).is_none() {
            continue;
        }
        let mut value = vec![0; LARGEST];
        match retry_on_intr(|| fs::getxattr(at.as_str(), name, &mut value[..])) {
            Ok(len) => {
                value.truncate(len);
                out.insert(name.to_vec(), value);
            }
            // Gone between the two calls.
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

/// Sets an extended attribute of a held object, or with `None` removes it.
pub(super) fn set_xattr(held: BorrowedFd<'_>, name: &[u8], value: Option<&[u8]>) -> Sys<()> {
    let at = magic(held);
    match value {
        Some(value) => retry_on_intr(|| fs::setxattr(at.as_str(), name, value, XattrFlags::empty())),
        None => match retry_on_intr(|| fs::removexattr(at.as_str(), name)) {
            Err(Errno::NODATA) => Ok(()),
            done => done,
        },
    }
}

/// Sets owner and group of a held object.
pub(super) fn chown(held: BorrowedFd<'_>, uid: u32, gid: u32) -> Sys<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    retry_on_intr(|| fs::chownat(held, c"", uid, gid, AtFlags::EMPTY_PATH))
}

/// Sets the permission bits of a held object that is no symbolic link.
pub(super) fn chmod(held: BorrowedFd<'_>, mode: u32) -> Sys<()> {
    let at = magic(held);
    retry_on_intr(|| fs::chmodat(CWD, at.as_str(), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty()))
}

/// Sets the times of an object, each where it is given.
pub(super) fn set_times(
    dir: BorrowedFd<'_>,
    name: &[u8],
    atime: Option<Time>,
    mtime: Option<Time>,
) -> Sys<()> {
    let spec = |time: Option<Time>| match time {
        Some(time) => Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    retry_on_intr(|| match name {
        b"" => fs::utimensat(dir, c".", &times, AtFlags::empty()),
        name => fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    })
}

/// What of a directory is changed where it stands; what is `None` or not named stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    /// Mode, owner, group.
    pub owner: Option<(u32, u32, u32)>,
    /// By stored name; `None`: it is not there.
    pub xattrs: BTreeMap<Bytes, Option<Bytes>>,
}

impl Attributes {
    /// Sets them: the owner first, which takes privilege from a mode, the mode last, which an access list would
    /// change.
    pub fn apply(&self, dir: BorrowedFd<'_>) -> Sys<()> {
        let held = hold(dir, b"")?;
        let held = held.as_fd();
        if let Some((_, uid, gid)) = self.owner {
            let now = super::confined::stat(held, b"")?.ok_or(Errno::NOENT)?;
            if (now.uid, now.gid) != (uid, gid) {
                chown(held, uid, gid)?;
            }
        }
        for (name, value) in &self.xattrs {
            set_xattr(held, name, value.as_deref())?;
        }
        match self.owner {
            Some((mode, _, _)) => chmod(held, mode),
            None => Ok(()),
        }
    }
}
