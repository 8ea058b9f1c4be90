//! Opening: directories as `O_PATH`, lists, data, nameless files, and several components at once.

use super::fault::{self, Call};
use super::{Obj, Sys, call};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::Path;

/// How often `openat2` is repeated when a rename elsewhere made it give up (`EAGAIN`).
const AGAIN_MAX: usize = 64;

/// The directory that a user named; symbolic links in that path are followed.
pub(crate) fn directory(path: &Path) -> Sys<OwnedFd> {
    call(Call::Open, || {
        fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    })
}

/// A name as `O_PATH`, whatever it is.
pub(crate) fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    call(Call::Open, || {
        fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    })
}

/// One step down: `name` must be a directory.
pub(crate) fn step(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    call(Call::Open, || {
        let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(dir, name, how, Mode::empty())
    })
}

/// Several steps down at once, beneath `dir` and through no symbolic link. Mounts are crossed: a layer may hold
/// some.
pub(crate) fn beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Sys<OwnedFd> {
    let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut left = AGAIN_MAX;
    if fault::old_kernel() {
        return Err(Errno::NOSYS);
    }
    loop {
        match call(Call::Openat2, || fs::openat2(dir, path, how, Mode::empty(), resolve)) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            done => return done,
        }
    }
}

/// A directory under `name`, for listing and syncing.
pub(crate) fn subdirectory(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call(Call::Open, || fs::openat(dir, name, how, Mode::empty()))
}

/// The directory itself, for listing and syncing.
pub(crate) fn list(dir: BorrowedFd<'_>) -> Sys<OwnedFd> {
    call(Call::Open, || {
        fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    })
}

/// The data of a file, never waiting for a fifo's other end and never taking a terminal. The caller checks what
/// was opened. `extra` is `O_RDONLY` or `O_RDWR`, and `O_NOATIME` where wanted.
pub(crate) fn data(obj: Obj<'_>, extra: OFlags) -> Sys<OwnedFd> {
    let how = extra | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match obj {
        Obj::At(dir, name) => {
            call(Call::Open, || fs::openat(dir, name, how | OFlags::NOFOLLOW, Mode::empty()))
        }
        Obj::Dir(fd) | Obj::Path(fd) | Obj::Open(fd) => {
            let path = magic(fd);
            call(Call::Open, || fs::openat(CWD, path.as_str(), how, Mode::empty()))
        }
    }
}

/// A regular file without a name in the file system of `dir`, with `mode` but for what the umask takes.
pub(crate) fn nameless(dir: BorrowedFd<'_>, mode: u32) -> Sys<OwnedFd> {
    if fault::old_kernel() {
        return Err(Errno::OPNOTSUPP);
    }
    let how = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    call(Call::Open, || fs::openat(dir, ".", how, Mode::from_raw_mode(mode)))
}

/// A new regular file under `name`, mode 0600.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    create_as(dir, name, 0o600)
}

/// A new regular file under `name` with `mode` but for what the umask takes.
pub(crate) fn create_as(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Sys<OwnedFd> {
    let how = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    call(Call::Open, || fs::openat(dir, name, how, Mode::from_raw_mode(mode)))
}

/// The path under which this process reaches what `fd` names (proc(5)).
pub(super) fn magic(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Lets the whole-file lock go, whoever else has the open description.
pub(crate) fn unlock(fd: BorrowedFd<'_>) -> Sys<()> {
    call(Call::Flock, || fs::flock(fd, fs::FlockOperation::NonBlockingUnlock))
}

/// Takes the whole-file lock without waiting; false when another open description holds it.
pub(crate) fn lock(fd: BorrowedFd<'_>) -> Sys<bool> {
    match call(Call::Flock, || fs::flock(fd, fs::FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e),
    }
}
