//! Every system call of the crate goes through here, one small wrapper each. A wrapper takes a file descriptor
//! and at most one name, never follows a symbolic link, retries on `EINTR`, and passes the gate of
//! [`fault`] first, so that tests can fail or cut each call.

pub(crate) mod data;
pub mod fault;
pub(crate) mod meta;
pub(crate) mod name;
pub(crate) mod open;
#[allow(unsafe_code, reason = "the calls that rustix does not have; each block argues its safety")]
mod raw;
pub(crate) mod stat;
pub(crate) mod xattr;

use fault::Call;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// What a system call returns.
pub(crate) type Sys<T> = Result<T, Errno>;

/// How an object is addressed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Obj<'a> {
    /// One name in a directory; the last component is not followed.
    At(BorrowedFd<'a>, &'a [u8]),
    /// The directory that an `O_PATH` descriptor names.
    Dir(BorrowedFd<'a>),
    /// Whatever an `O_PATH` descriptor names, a directory or not.
    Path(BorrowedFd<'a>),
    /// The object behind a descriptor that was opened for reading or writing.
    Open(BorrowedFd<'a>),
}

impl<'a> Obj<'a> {
    /// Directory and name for the `*at` calls; the name is empty for the object itself (`AT_EMPTY_PATH`).
    fn parts(self) -> (BorrowedFd<'a>, &'a [u8]) {
        match self {
            Self::At(dir, name) => (dir, name),
            Self::Dir(fd) | Self::Path(fd) | Self::Open(fd) => (fd, b""),
        }
    }
}

/// Passes the gate and makes the call, again after `EINTR`.
fn call<T>(what: Call, mut make: impl FnMut() -> Sys<T>) -> Sys<T> {
    loop {
        match fault::gate(what).and_then(|()| make()) {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
