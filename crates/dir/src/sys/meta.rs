//! Setting attributes.

use super::fault::Call;
use super::open::magic;
use super::{Obj, Sys, call, raw};
use rustix::fs::{self, AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::io::Errno;
use stratafs_core::SetTime;

/// Sets owner and group; `None` leaves one alone.
pub(crate) fn chown(obj: Obj<'_>, uid: Option<u32>, gid: Option<u32>) -> Sys<()> {
    let (dir, name) = obj.parts();
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    call(Call::Chown, || fs::chownat(dir, name, uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags))
}

/// Sets the permission bits of anything but a symbolic link.
pub(crate) fn chmod(obj: Obj<'_>, mode: u32) -> Sys<()> {
    let bits = Mode::from_raw_mode(mode & 0o7777);
    if let Obj::Open(fd) = obj {
        return call(Call::Chmod, || fs::fchmod(fd, bits));
    }
    let (dir, name) = obj.parts();
    match call(Call::Chmod, || raw::fchmodat2(dir, name, mode & 0o7777)) {
        Err(Errno::NOSYS) => {}
        done => return done,
    }
    // Before Linux 6.6: hold the object, check that it is no link, and change it through its descriptor.
    let held = match obj {
        Obj::At(dir, name) => Some(super::open::path(dir, name)?),
        _ => None,
    };
    let fd = held.as_ref().map_or(dir, rustix::fd::AsFd::as_fd);
    if super::stat::attr(Obj::Path(fd))?.kind == stratafs_core::Kind::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    call(Call::Chmod, || fs::chmodat(CWD, magic(fd).as_str(), bits, AtFlags::empty()))
}

/// Sets access and modification time; `None` leaves one alone.
pub(crate) fn utimens(obj: Obj<'_>, atime: Option<SetTime>, mtime: Option<SetTime>) -> Sys<()> {
    let (dir, name) = obj.parts();
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    if let Obj::Open(fd) = obj {
        return call(Call::Utimens, || fs::futimens(fd, &times));
    }
    if name.is_empty() {
        match call(Call::Utimens, || fs::utimensat(dir, "", &times, AtFlags::EMPTY_PATH)) {
            Err(Errno::INVAL | Errno::NOENT) => {}
            done => return done,
        }
        let path = magic(dir);
        return call(Call::Utimens, || fs::utimensat(CWD, path.as_str(), &times, AtFlags::empty()));
    }
    call(Call::Utimens, || fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW))
}

fn spec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(t)) => Timespec { tv_sec: t.secs, tv_nsec: t.nanos.into() },
    }
}
