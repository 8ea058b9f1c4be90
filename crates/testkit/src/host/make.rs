//! Real layers from specifications: whiteouts as the kernel makes them, or as xattrs.

use super::{find, magic, walk};
use crate::spec::{Entry, TreeSpec, What};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, linkat, makedev,
    mkdirat, mknodat, openat, setxattr, symlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};
use stratafs_core::{Device, Kind};

/// How whiteouts and opaque directories are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Character devices 0/0 and `trusted.overlay.opaque`.
    Trusted,
    /// Character devices 0/0 and `user.overlay.opaque`.
    User,
}

/// Makes the entries of `tree` in the empty directory `root`. Needs root for owners, devices and `trusted.`
/// attributes.
///
/// # Errors
/// What the host says.
pub fn materialise(tree: &TreeSpec, root: impl AsFd, how: Whiteouts) -> Result<(), Errno> {
    let root = walk(&root, &[])?;
    for entry in &tree.entries {
        make(&root, entry, how)?;
    }
    // Entries change their directory's times, so times come last.
    for entry in &tree.entries {
        if !matches!(entry.what, What::Whiteout | What::HardLink(_)) {
            let time = Timespec { tv_sec: entry.mtime.secs, tv_nsec: i64::from(entry.mtime.nanos) };
            let (dir, name) = place(&root, entry)?;
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

fn place<'e>(root: &OwnedFd, entry: &'e Entry) -> Result<(OwnedFd, &'e [u8]), Errno> {
    let (dir, name) = entry.path.split().ok_or(Errno::INVAL)?;
    Ok((walk(root, dir)?, name))
}

fn make(root: &OwnedFd, entry: &Entry, how: Whiteouts) -> Result<(), Errno> {
    let (dir, name) = place(root, entry)?;
    let all = Mode::from_raw_mode(0o700);
    match &entry.what {
        What::Whiteout => return mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0),
        What::HardLink(target) => {
            let (from, from_name) = target.split().ok_or(Errno::INVAL)?;
            return linkat(walk(root, from)?, from_name, dir, name, AtFlags::empty());
        }
        What::File(data) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(&dir, name, flags, all)?;
            rustix::fs::ftruncate(&file, data.len)?;
            for (offset, bytes) in data.segments() {
                write_all(&file, &bytes, offset)?;
            }
        }
        What::Dir { .. } => mkdirat(&dir, name, all)?,
        What::Symlink(target) => symlinkat(target.as_slice(), &dir, name)?,
        What::Node(kind, rdev) => mknodat(&dir, name, file_type(*kind), all, raw_device(*rdev))?,
    }
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    let node = find(root, &entry.path)?;
    if !matches!(entry.what, What::Symlink(_)) {
        rustix::fs::chmod(magic(&node), Mode::from_raw_mode(entry.mode))?;
    }
    let opaque: &[u8] = match how {
        Whiteouts::Trusted => b"trusted.overlay.opaque",
        Whiteouts::User => b"user.overlay.opaque",
    };
    if entry.what == (What::Dir { opaque: true }) {
        setxattr(magic(&node), opaque, b"y", XattrFlags::empty())?;
    }
    for (name, value) in &entry.xattrs {
        setxattr(magic(&node), name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
}

pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let n = pwrite(file, bytes, offset)?;
        bytes = &bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

pub(super) fn raw_device(rdev: Device) -> u64 {
    makedev(rdev.major, rdev.minor)
}
