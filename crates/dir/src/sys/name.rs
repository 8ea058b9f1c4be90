//! Making, linking, moving and removing names.

use super::fault::Call;
use super::open::magic;
use super::{Obj, Sys, call};
use rustix::fd::BorrowedFd;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use stratafs_core::{Device, Kind};

/// A new directory, mode 0700.
pub(crate) fn mkdir(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    mkdir_as(dir, name, 0o700)
}

/// A new directory with `mode` but for what the umask takes.
pub(crate) fn mkdir_as(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Sys<()> {
    call(Call::Mkdir, || fs::mkdirat(dir, name, Mode::from_raw_mode(mode)))
}

/// A new fifo, socket or device, mode 0600.
pub(crate) fn mknod(dir: BorrowedFd<'_>, name: &[u8], kind: Kind, device: Device) -> Sys<()> {
    let kind = FileType::from_raw_mode(kind.mode_bits());
    let device = fs::makedev(device.major, device.minor);
    call(Call::Mknod, || fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), device))
}

/// A new whiteout: character device 0/0, mode 0.
pub(crate) fn whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    call(Call::Mknod, || fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0))
}

/// A new symbolic link.
pub(crate) fn symlink(dir: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> Sys<()> {
    call(Call::Symlink, || fs::symlinkat(target, dir, name))
}

/// One more name for an object. Without a name of its own it takes a privilege, or `/proc`.
pub(crate) fn link(from: Obj<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    match from {
        Obj::At(from_dir, from_name) => {
            call(Call::Link, || fs::linkat(from_dir, from_name, dir, name, AtFlags::empty()))
        }
        Obj::Dir(fd) | Obj::Path(fd) | Obj::Open(fd) => {
            match call(Call::Link, || fs::linkat(fd, "", dir, name, AtFlags::EMPTY_PATH)) {
                Err(Errno::NOENT | Errno::PERM) => {
                    let path = magic(fd);
                    call(Call::Link, || fs::linkat(CWD, path.as_str(), dir, name, AtFlags::SYMLINK_FOLLOW))
                }
                done => done,
            }
        }
    }
}

/// Removes a name that is not a directory's.
pub(crate) fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    call(Call::Unlink, || fs::unlinkat(dir, name, AtFlags::empty()))
}

/// Removes an empty directory.
pub(crate) fn rmdir(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    call(Call::Unlink, || fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
}

/// Moves a name (renameat2(2)).
pub(crate) fn rename(
    from: (BorrowedFd<'_>, &[u8]),
    to: (BorrowedFd<'_>, &[u8]),
    flags: RenameFlags,
) -> Sys<()> {
    call(Call::Rename, || fs::renameat_with(from.0, from.1, to.0, to.1, flags))
}
