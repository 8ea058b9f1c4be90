//! Dumps of host directories.

use super::{WALK, magic, walk};
use crate::dump::{Content, Dump, Object, Stamp};
use crate::path::Path;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, fgetxattr, getxattr, listxattr, major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use stratafs_core::{Device, Kind, Time};

/// The tree below `root` as text.
///
/// # Errors
/// What the host says.
pub fn dump(root: impl AsFd) -> Result<Dump, Errno> {
    let mut objects = Vec::new();
    let mut dirs = vec![Path::root()];
    while let Some(path) = dirs.pop() {
        let dir = walk(&root, &path.0)?;
        for (name, _) in names(&dir)? {
            let object = object(&dir, &name)?;
            let path = path.join(&name);
            if object.kind == Kind::Dir {
                dirs.push(path.clone());
            }
            objects.push((path, object));
        }
    }
    Ok(Dump::new(objects))
}

/// Names and kinds in a directory, `.` and `..` left out.
pub(super) fn names(dir: &OwnedFd) -> Result<Vec<(Vec<u8>, Kind)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut out = Vec::new();
    for entry in Dir::new(openat(dir, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let kind = Kind::from_mode(entry.file_type().as_raw_mode()).ok_or(Errno::IO)?;
            out.push((name.to_vec(), kind));
        }
    }
    Ok(out)
}

/// One object, `.` being the directory itself.
pub(super) fn object(dir: &OwnedFd, name: &[u8]) -> Result<Object, Errno> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = Kind::from_mode(stat.st_mode).ok_or(Errno::IO)?;
    let node = openat(dir, name, WALK, Mode::empty())?;
    let content = match kind {
        Kind::File => Content::file(&read_all(dir, name)?),
        Kind::Symlink => Content::Target(readlinkat(dir, name, Vec::new())?.into_bytes()),
        _ => Content::None,
    };
    Ok(Object {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: Device { major: major(stat.st_rdev), minor: minor(stat.st_rdev) },
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        mtime: Stamp::from(Time {
            secs: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }),
        id: (stat.st_dev, stat.st_ino),
        xattrs: xattrs(&node)?,
        content,
    })
}

fn read_all(dir: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::empty())?;
    let mut out = vec![0; 64 << 10];
    let mut len = 0;
    loop {
        if len == out.len() {
            out.resize(2 * len, 0);
        }
        match rustix::io::pread(&file, &mut out[len..], len as u64)? {
            0 => break,
            n => len += n,
        }
    }
    out.truncate(len);
    Ok(out)
}

fn xattrs(node: &OwnedFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = magic(node);
    let mut list = vec![0; 64 << 10];
    let len = match listxattr(&path, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut out = BTreeMap::new();
    for name in list[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        out.insert(name.to_vec(), xattr(node, name)?);
    }
    Ok(out)
}

/// One extended attribute.
pub(super) fn xattr(node: &OwnedFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 64 << 10];
    let len = match fgetxattr(node, name, &mut value[..]) {
        Err(Errno::BADF) => getxattr(magic(node), name, &mut value[..])?,
        other => other?,
    };
    value.truncate(len);
    Ok(value)
}
