//! Asking about objects: attributes, link targets, listings, file handles, the file system.

use super::fault::{self, Call};
use super::{Obj, Sys, call, raw};
use rustix::fd::BorrowedFd;
use rustix::fs::{self, AtFlags, FileType, RawDir, Statx, StatxFlags};
use std::ops::ControlFlow;
use stratafs_core::{Attr, Device, FileId, Kind, StatFs, Time};

pub(crate) use raw::FileHandle;

/// Bytes asked of one `getdents64` call.
const LIST_BUFFER: usize = 64 << 10;

/// All attributes.
pub(crate) fn attr(obj: Obj<'_>) -> Sys<Attr> {
    let (dir, name) = obj.parts();
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let stat = call(Call::Statx, || fs::statx(dir, name, flags, mask))?;
    Kind::from_mode(u32::from(stat.stx_mode)).map(|kind| convert(&stat, kind)).ok_or(rustix::io::Errno::IO)
}

fn convert(stat: &Statx, kind: Kind) -> Attr {
    let time = |t: fs::StatxTimestamp| Time { secs: t.tv_sec, nanos: t.tv_nsec };
    Attr {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: stat.stx_nlink,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        blksize: stat.stx_blksize,
        rdev: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(stat.stx_btime)),
        id: FileId { dev: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino },
    }
}

/// The target of a symbolic link.
pub(crate) fn link_target(obj: Obj<'_>) -> Sys<Vec<u8>> {
    let (dir, name) = obj.parts();
    call(Call::Readlink, || fs::readlinkat(dir, name, Vec::with_capacity(256)))
        .map(std::ffi::CString::into_bytes)
}

/// One name of a listing.
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) ino: u64,
    pub(crate) kind: FileType,
}

/// Lists an open directory from its start, `.` and `..` left out.
pub(crate) fn each_name<E: From<rustix::io::Errno>>(
    dir: BorrowedFd<'_>,
    mut sink: impl FnMut(Listed<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut buffer = Vec::with_capacity(LIST_BUFFER);
    let mut list = RawDir::new(dir, buffer.spare_capacity_mut());
    loop {
        if list.is_buffer_empty() {
            call(Call::Getdents, || Ok(()))?;
        }
        let Some(entry) = list.next() else { return Ok(()) };
        let entry = match entry {
            // A directory that was removed while it is open has no entries, not even "." and "..".
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if sink(Listed { name, ino: entry.ino(), kind: entry.file_type() })?.is_break() {
            return Ok(());
        }
    }
}

/// Space and limits of the file system.
pub(crate) fn space(fd: BorrowedFd<'_>) -> Sys<StatFs> {
    let s = call(Call::Statvfs, || fs::fstatvfs(fd))?;
    Ok(StatFs {
        block_size: s.f_frsize,
        blocks: s.f_blocks,
        blocks_free: s.f_bfree,
        blocks_available: s.f_bavail,
        files: s.f_files,
        files_free: s.f_ffree,
        name_max: s.f_namemax,
    })
}

/// The type of the file system (statfs(2), `f_type`).
pub(crate) fn fs_type(fd: BorrowedFd<'_>) -> Sys<u64> {
    #[allow(clippy::cast_sign_loss, reason = "a magic number, 32 bits wide on every file system")]
    call(Call::Statvfs, || fs::fstatfs(fd)).map(|s| s.f_type as u64 & 0xffff_ffff)
}

/// The object's file handle and the number of its mount (name_to_handle_at(2)).
pub(crate) fn handle(obj: Obj<'_>) -> Sys<FileHandle> {
    let (dir, name) = obj.parts();
    if fault::old_kernel() {
        return Err(rustix::io::Errno::OPNOTSUPP);
    }
    call(Call::Handle, || raw::handle(dir, name))
}

/// The file system's UUID, where it tells one; `fd` must not be `O_PATH`.
pub(crate) fn fs_uuid(fd: BorrowedFd<'_>) -> Sys<Option<[u8; 16]>> {
    call(Call::Ioctl, || Ok(raw::fs_uuid(fd)))
}
