//! Removal of a tree by flattening: directories that are met are moved up beside the top one and emptied in
//! turn. So it takes three descriptors at any depth, no recursion, follows no link (`*at` calls on names only)
//! and crosses no mount: a mount point cannot be renamed or unlinked (`EBUSY`).

use crate::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Removes everything in `dir`, keeping `dir`. Entries that vanish meanwhile are fine: another process may be
/// emptying the same directory.
pub fn empty(dir: &Path) -> Result<()> {
    let failed = |name: &CStr, e: Errno| {
        let path = dir.join(std::ffi::OsStr::new(&*name.to_string_lossy()));
        let error = Error::io(e.into(), "remove").about(path.as_os_str().as_encoded_bytes());
        match e {
            Errno::BUSY => error.because("something is mounted there: unmount it first"),
            _ => error,
        }
    };
    let top = match rustix::fs::open(dir, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(failed(c"", e)),
    };
    let mut serial = 0u64;
    loop {
        let names = names(top.as_fd()).map_err(|e| failed(c"", e))?;
        if names.is_empty() {
            return Ok(());
        }
        for (name, kind) in names {
            remove_entry(top.as_fd(), &name, kind, &mut serial).map_err(|e| failed(&name, e))?;
        }
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes one entry of `top`; a directory's own directories become entries of `top` first.
fn remove_entry(top: BorrowedFd<'_>, name: &CStr, kind: FileType, serial: &mut u64) -> Result<(), Errno> {
    if kind != FileType::Directory {
        match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            done => return gone_is_fine(done),
        }
    }
    let Some(dir) = open_to_empty(top, name)? else { return Ok(()) };
    for (child, kind) in names(dir.as_fd())? {
        let removed = match kind {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(&dir, &child, AtFlags::empty()),
        };
        match removed {
            Err(Errno::ISDIR | Errno::PERM) => move_up(dir.as_fd(), &child, top, serial)?,
            done => gone_is_fine(done)?,
        }
    }
    gone_is_fine(rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR))
}

/// Opens a directory whose entries are to be moved and unlinked, giving its owner the right to where it is
/// missing (a container's directory may well have mode 0). `None` when it is gone.
fn open_to_empty(top: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
    let opened = match rustix::fs::openat(top, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            make_accessible(top, name)?;
            rustix::fs::openat(top, name, DIRECTORY, Mode::empty())
        }
        opened => opened,
    };
    match opened {
        Ok(dir) => {
            if rustix::fs::accessat(
                &dir,
                c".",
                rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
                AtFlags::empty(),
            )
            .is_err()
            {
                rustix::fs::fchmod(&dir, Mode::RWXU)?;
            }
            Ok(Some(dir))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `chmod u+rwx` of a directory that cannot be opened, without following a link: by a path descriptor, since
/// fchmodat(2) without `AT_SYMLINK_NOFOLLOW` would.
fn make_accessible(top: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(top, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", dir.as_raw_fd()), Mode::RWXU)
}

fn move_up(dir: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>, serial: &mut u64) -> Result<(), Errno> {
    let mut may_chmod = true;
    loop {
        *serial += 1;
        let fresh = CString::new(format!("{}.{serial}", std::process::id())).map_err(|_| Errno::INVAL)?;
        match rustix::fs::renameat_with(dir, name, top, &fresh, rustix::fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // Moving a directory rewrites its `..`, which takes write permission on it.
            Err(Errno::ACCESS) if may_chmod => {
                may_chmod = false;
                make_accessible(dir, name)?;
            }
            done => return gone_is_fine(done),
        }
    }
}

fn gone_is_fine(done: Result<(), Errno>) -> Result<(), Errno> {
    match done {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// The entries of a directory, listed before any is removed.
fn names(dir: BorrowedFd<'_>) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut out = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            out.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn links_are_removed_and_never_followed() {
        let tmp = tempfile::tempdir().unwrap();
        let outside = tmp.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let trash = tmp.path().join("trash");
        fs::create_dir_all(trash.join("a/b")).unwrap();
        symlink(&outside, trash.join("a/b/link")).unwrap();
        symlink(&outside, trash.join("link")).unwrap();
        fs::write(trash.join("a/file"), "x").unwrap();
        empty(&trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert_eq!(fs::read(outside.join("keep")).unwrap(), b"x");
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes_away() {
        let tmp = tempfile::tempdir().unwrap();
        let trash = tmp.path().join("trash");
        fs::create_dir(&trash).unwrap();
        let mut dir = rustix::fs::open(&trash, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "directory", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "directory", DIRECTORY, Mode::empty()).unwrap();
        }
        empty(&trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }

    #[test]
    fn directories_without_permissions_go_away() {
        let tmp = tempfile::tempdir().unwrap();
        let trash = tmp.path().join("trash");
        fs::create_dir_all(trash.join("shut/inner/leaf")).unwrap();
        for dir in ["shut/inner/leaf", "shut/inner", "shut"] {
            fs::set_permissions(trash.join(dir), fs::Permissions::from_mode(0o000)).unwrap();
        }
        empty(&trash).unwrap();
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        empty(&tmp.path().join("never there")).unwrap();
    }
}
