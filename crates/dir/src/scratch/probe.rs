//! What the file system of a scratch and this process can do, tried out in the staging directory.

use super::work::Work;
use crate::namespace::Namespace;
use crate::sys::{self, Obj};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{RenameFlags, XattrFlags};
use rustix::io::Errno;
use stratafs_core::{Error, ErrorKind, NameBuf, Result};

/// `f_type` of the kernel's overlayfs (linux/magic.h).
const OVERLAYFS: u64 = 0x794c_7630;
/// `f_type` of FUSE.
const FUSE: u64 = 0x6573_5546;

/// The outcome.
pub(super) struct Abilities {
    /// `trusted.*` attributes can be set.
    pub(super) trusted: bool,
    /// Files can be given away.
    pub(super) chown: bool,
    /// Files without a name can be made.
    pub(super) nameless: bool,
}

fn unsuitable(label: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "open scratch").in_layer(label).because(format!(
        "the file system cannot be used for a scratch: {what}; use ext4, XFS, btrfs or tmpfs"
    ))
}

/// Refuses file systems whose type says enough.
pub(super) fn file_system(fd: BorrowedFd<'_>, label: &str) -> Result<()> {
    let fail = |e: Errno| Error::io(e.into(), "open scratch").in_layer(label);
    match sys::stat::fs_type(fd).map_err(fail)? {
        OVERLAYFS => Err(unsuitable(label, "it is an overlayfs itself")),
        FUSE => Err(unsuitable(label, "it is served by FUSE")),
        _ => Ok(()),
    }
}

/// Tries what is needed. On a full disk nothing can be tried: then what such a process can commonly do is assumed, so
/// that a full container can be opened to make room in it; what is missing all the same shows at its use.
pub(super) fn abilities(work: &Work) -> Result<Abilities> {
    match tried(work) {
        Err(e) if matches!(e.kind(), ErrorKind::NoSpace | ErrorKind::Quota) => {
            tracing::warn!(error = %e, "no room to try out the file system");
            let root = is_root_of_the_host();
            Ok(Abilities { trusted: root, chown: root, nameless: true })
        }
        done => done,
    }
}

/// Root, and not just of a user namespace.
fn is_root_of_the_host() -> bool {
    let everyone = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(everyone)
}

fn tried(work: &Work) -> Result<Abilities> {
    let label = &*work.health.label;
    let fail = |e: Errno| work.failed("try out the file system")(e);
    let (dir, ()) = work.make(|name| sys::name::mkdir(work.fd(), name)).map_err(fail)?;
    let guard = Tried { work, name: &dir };
    let obj = Obj::At(work.fd(), dir.as_bytes());
    let set = |namespace: Namespace| sys::xattr::set(obj, &namespace.own("probe"), b"y", XattrFlags::empty());
    let trusted = match set(Namespace::Trusted) {
        Ok(()) => true,
        Err(Errno::PERM | Errno::OPNOTSUPP) => false,
        Err(e) => return Err(fail(e)),
    };
    match set(Namespace::User) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::PERM) if trusted => {}
        Err(Errno::OPNOTSUPP | Errno::PERM) => {
            return Err(unsuitable(label, "it has no extended attributes"));
        }
        Err(e) => return Err(fail(e)),
    }
    let inner = sys::open::step(work.fd(), dir.as_bytes()).map_err(fail)?;
    match sys::name::whiteout(inner.as_fd(), b"a") {
        Ok(()) => {}
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
            return Err(unsuitable(label, "no whiteout (character device 0/0) can be made on it"));
        }
        Err(e) => return Err(fail(e)),
    }
    match sys::name::rename((inner.as_fd(), b"a"), (inner.as_fd(), b"b"), RenameFlags::WHITEOUT) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
            return Err(unsuitable(label, "it has no RENAME_WHITEOUT"));
        }
        Err(e) => return Err(fail(e)),
    }
    let nameless = match sys::open::nameless(work.fd(), 0o600) {
        Ok(_) => true,
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => false,
        Err(e) => return Err(fail(e)),
    };
    // Someone else, whoever we are, to try whether files can be given away.
    let stranger = if rustix::process::geteuid().as_raw() == 1 { 2 } else { 1 };
    let chown = match sys::meta::chown(obj, Some(stranger), Some(stranger)) {
        Ok(()) => true,
        // Not allowed, or nobody of that number here (user_namespaces(7)). Any other error says nothing of what can be
        // done, and what is stored as if owners could not be set stays so.
        Err(Errno::PERM | Errno::INVAL | Errno::OVERFLOW | Errno::OPNOTSUPP | Errno::NOSYS) => false,
        Err(e) => return Err(fail(e)),
    };
    drop(guard);
    Ok(Abilities { trusted, chown, nameless })
}

/// Removes what was tried with.
struct Tried<'a> {
    work: &'a Work,
    name: &'a NameBuf,
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        self.work.discard(self.name);
    }
}
