//! Extended attributes of an object without following it: by `getxattrat` and its siblings (Linux 6.13), else by
//! `lgetxattr` and its siblings on a path through `/proc/self/fd`.

use super::fault::Call;
use super::open::magic;
use super::{Obj, Sys, call, raw};
use rustix::fd::BorrowedFd;
use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;

/// What most values and lists fit into; a longer one costs a second call.
const SMALL: usize = 256;
/// The longest value or list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const LARGEST: usize = 64 << 10;

enum Way<'a> {
    At(BorrowedFd<'a>, &'a [u8]),
    Fd(BorrowedFd<'a>),
    Followed(String),
    Unfollowed(Vec<u8>),
}

/// Makes the call in the way that suits the object and the kernel.
fn by_way<T>(what: Call, obj: Obj<'_>, mut make: impl FnMut(&Way<'_>) -> Sys<T>) -> Sys<T> {
    let way = match obj {
        Obj::Open(fd) => Way::Fd(fd),
        Obj::At(dir, name) if raw::has_xattrat() => Way::At(dir, name),
        Obj::At(dir, name) => {
            let mut path = magic(dir).into_bytes();
            path.push(b'/');
            path.extend_from_slice(name);
            Way::Unfollowed(path)
        }
        Obj::Dir(fd) if raw::has_xattrat() => Way::At(fd, b"."),
        Obj::Dir(fd) | Obj::Path(fd) => Way::Followed(magic(fd)),
    };
    match (call(what, || make(&way)), obj) {
        // A directory without search permission: "." is not reachable in it, its own descriptor is.
        (Err(Errno::ACCESS), Obj::Dir(fd)) => call(what, || make(&Way::Followed(magic(fd)))),
        (done, _) => done,
    }
}

/// The value; `None` when it is not there or the object can have none.
pub(crate) fn get(obj: Obj<'_>, name: &[u8]) -> Sys<Option<Vec<u8>>> {
    let value = sized(|buf| {
        by_way(Call::Getxattr, obj, |way| match way {
            Way::At(dir, at) => raw::getxattrat(*dir, at, name, buf),
            Way::Fd(fd) => fs::fgetxattr(fd, name, &mut *buf),
            Way::Followed(path) => fs::getxattr(path.as_str(), name, &mut *buf),
            Way::Unfollowed(path) => fs::lgetxattr(path.as_slice(), name, &mut *buf),
        })
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All names, each ended by NUL; empty where the file system has no extended attributes.
pub(crate) fn list(obj: Obj<'_>) -> Sys<Vec<u8>> {
    let names = sized(|buf| {
        by_way(Call::Listxattr, obj, |way| match way {
            Way::At(dir, at) => raw::listxattrat(*dir, at, buf),
            Way::Fd(fd) => fs::flistxattr(fd, &mut *buf),
            Way::Followed(path) => fs::listxattr(path.as_str(), &mut *buf),
            Way::Unfollowed(path) => fs::llistxattr(path.as_slice(), &mut *buf),
        })
    });
    match names {
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        done => done,
    }
}

/// Sets a value.
pub(crate) fn set(obj: Obj<'_>, name: &[u8], value: &[u8], flags: XattrFlags) -> Sys<()> {
    by_way(Call::Setxattr, obj, |way| match way {
        Way::At(dir, at) => raw::setxattrat(*dir, at, name, value, flags),
        Way::Fd(fd) => fs::fsetxattr(fd, name, value, flags),
        Way::Followed(path) => fs::setxattr(path.as_str(), name, value, flags),
        Way::Unfollowed(path) => fs::lsetxattr(path.as_slice(), name, value, flags),
    })
}

/// Removes a value; `ENODATA` when it is not there.
pub(crate) fn remove(obj: Obj<'_>, name: &[u8]) -> Sys<()> {
    by_way(Call::Removexattr, obj, |way| match way {
        Way::At(dir, at) => raw::removexattrat(*dir, at, name),
        Way::Fd(fd) => fs::fremovexattr(fd, name),
        Way::Followed(path) => fs::removexattr(path.as_str(), name),
        Way::Unfollowed(path) => fs::lremovexattr(path.as_slice(), name),
    })
}

/// Reads into a small buffer first, into the largest possible one when that was too small.
fn sized(mut read: impl FnMut(&mut [u8]) -> Sys<usize>) -> Sys<Vec<u8>> {
    let mut small = [0; SMALL];
    match read(&mut small) {
        Ok(len) => Ok(small.get(..len).ok_or(Errno::RANGE)?.to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; LARGEST];
            let len = read(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(e) => Err(e),
    }
}

/// Whether the file system has user attributes at all.
pub(crate) fn probe(obj: Obj<'_>) -> Sys<bool> {
    let mut nothing = [0u8; 1];
    let name: &[u8] = b"user.stratafs.probe";
    let asked = by_way(Call::Getxattr, obj, |way| match way {
        Way::At(dir, at) => raw::getxattrat(*dir, at, name, &mut nothing),
        Way::Fd(fd) => fs::fgetxattr(fd, name, &mut nothing),
        Way::Followed(path) => fs::getxattr(path.as_str(), name, &mut nothing),
        Way::Unfollowed(path) => fs::lgetxattr(path.as_slice(), name, &mut nothing),
    });
    match asked {
        Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::ACCESS | Errno::PERM) => Ok(true),
        Err(Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(e),
    }
}
