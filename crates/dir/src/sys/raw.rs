//! The calls that rustix does not wrap: the `*xattrat` family, `fchmodat2`, `name_to_handle_at` and the ioctls that
//! tell a file system's UUID. The only unsafe code of the crate.

use super::{Sys, fault};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_int, c_long, c_uint, c_void};
use std::sync::OnceLock;

// Numbers of the tables that all architectures share since Linux 5.x; libc does not name them everywhere yet.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_GETXATTRAT: c_long = 464;
const SYS_LISTXATTRAT: c_long = 465;
const SYS_REMOVEXATTRAT: c_long = 466;

/// `_IOR(0x15, 0, struct fsuuid2)` of linux/fs.h.
const FS_IOC_GETFSUUID: c_long = 0x8011_1500;
/// `_IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)` of linux/btrfs.h.
const BTRFS_IOC_FS_INFO: c_long = 0x8400_941f;

/// `struct xattr_args` of linux/xattr.h.
#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// The largest file handle (`MAX_HANDLE_SZ`).
const HANDLE_MAX: usize = 128;

/// `struct file_handle` of fcntl.h with room for the largest.
#[repr(C)]
struct RawHandle {
    bytes: c_uint,
    kind: c_int,
    data: [u8; HANDLE_MAX],
}

/// An object's file handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHandle {
    /// How to read `bytes` (`FILEID_*` of linux/exportfs.h).
    pub(crate) kind: i32,
    /// The handle.
    pub(crate) bytes: Vec<u8>,
    /// The mount that it was reached through, this boot's number.
    pub(crate) mount: i32,
}

fn text(bytes: &[u8]) -> Sys<CString> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn result(returned: c_long) -> Sys<usize> {
    usize::try_from(returned).map_err(|_| {
        std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
    })
}

/// Whether this kernel, and its system call filter, has the `*xattrat` family. Asked once.
pub(super) fn has_xattrat() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    !fault::old_kernel()
        && *HAS.get_or_init(|| {
            // SAFETY: the path is a NUL-terminated constant, and with size 0 the kernel writes nothing through the
            // null list.
            let asked = result(unsafe {
                libc::syscall(
                    SYS_LISTXATTRAT,
                    c_long::from(libc::AT_FDCWD),
                    c".".as_ptr(),
                    0 as c_long,
                    std::ptr::null_mut::<c_void>(),
                    0 as c_long,
                )
            });
            !matches!(asked, Err(Errno::NOSYS | Errno::PERM))
        })
}

fn nofollow() -> c_long {
    c_long::from(libc::AT_SYMLINK_NOFOLLOW)
}

pub(super) fn getxattrat(dir: BorrowedFd<'_>, path: &[u8], name: &[u8], buf: &mut [u8]) -> Sys<usize> {
    let (path, name) = (text(path)?, text(name)?);
    let size = u32::try_from(buf.len()).map_err(|_| Errno::INVAL)?;
    let mut args = XattrArgs { value: buf.as_mut_ptr() as u64, size, flags: 0 };
    // SAFETY: both strings end in NUL and outlive the call; `args` points at `buf`, which is exclusively borrowed
    // and `size` bytes long, so the kernel writes only there.
    result(unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            c_long::from(dir.as_raw_fd()),
            path.as_ptr(),
            nofollow(),
            name.as_ptr(),
            &raw mut args,
            size_of::<XattrArgs>(),
        )
    })
}

pub(super) fn listxattrat(dir: BorrowedFd<'_>, path: &[u8], buf: &mut [u8]) -> Sys<usize> {
    let path = text(path)?;
    // SAFETY: `path` ends in NUL and outlives the call; the kernel writes at most `buf.len()` bytes into `buf`,
    // which is exclusively borrowed.
    result(unsafe {
        libc::syscall(
            SYS_LISTXATTRAT,
            c_long::from(dir.as_raw_fd()),
            path.as_ptr(),
            nofollow(),
            buf.as_mut_ptr(),
            buf.len(),
        )
    })
}

pub(super) fn setxattrat(
    dir: BorrowedFd<'_>,
    path: &[u8],
    name: &[u8],
    value: &[u8],
    flags: XattrFlags,
) -> Sys<()> {
    let (path, name) = (text(path)?, text(name)?);
    let size = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    let args = XattrArgs { value: value.as_ptr() as u64, size, flags: flags.bits() };
    // SAFETY: both strings end in NUL and outlive the call; the kernel only reads `args` and the `size` bytes of
    // `value` that it points at.
    result(unsafe {
        libc::syscall(
            SYS_SETXATTRAT,
            c_long::from(dir.as_raw_fd()),
            path.as_ptr(),
            nofollow(),
            name.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    })
    .map(drop)
}

pub(super) fn removexattrat(dir: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Sys<()> {
    let (path, name) = (text(path)?, text(name)?);
    // SAFETY: both strings end in NUL and outlive the call, which writes no memory of ours.
    result(unsafe {
        libc::syscall(
            SYS_REMOVEXATTRAT,
            c_long::from(dir.as_raw_fd()),
            path.as_ptr(),
            nofollow(),
            name.as_ptr(),
        )
    })
    .map(drop)
}

/// `ENOSYS` before Linux 6.6, and where a system call filter does not know the call.
pub(super) fn fchmodat2(dir: BorrowedFd<'_>, path: &[u8], mode: u32) -> Sys<()> {
    static FILTERED: OnceLock<bool> = OnceLock::new();
    let ask = |dir: c_int, path: &CStr, flags: c_int| {
        // SAFETY: the path ends in NUL and outlives the call, which writes no memory of ours.
        result(unsafe {
            libc::syscall(
                SYS_FCHMODAT2,
                c_long::from(dir),
                path.as_ptr(),
                c_long::from(mode),
                c_long::from(flags),
            )
        })
    };
    // A flag that does not exist is EINVAL from a kernel that has the call, whatever the object.
    if fault::old_kernel()
        || *FILTERED.get_or_init(|| !matches!(ask(libc::AT_FDCWD, c".", 0x4000_0000), Err(Errno::INVAL)))
    {
        return Err(Errno::NOSYS);
    }
    let path = text(path)?;
    ask(dir.as_raw_fd(), &path, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH).map(drop)
}

/// The file handle of `name` in `dir`, or of `dir` itself when the name is empty. Links are not followed.
pub(super) fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<FileHandle> {
    let name = text(name)?;
    let mut handle = RawHandle { bytes: HANDLE_MAX as c_uint, kind: 0, data: [0; HANDLE_MAX] };
    let mut mount: c_int = 0;
    // SAFETY: `name` ends in NUL; `handle` has the layout of `struct file_handle` with the room that its `bytes`
    // announces; `mount` is an int, as the call wants. All are exclusively borrowed for the call.
    result(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at as c_long,
            c_long::from(dir.as_raw_fd()),
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            c_long::from(libc::AT_EMPTY_PATH),
        )
    })?;
    let bytes = handle.data.get(..handle.bytes as usize).ok_or(Errno::OVERFLOW)?.to_vec();
    Ok(FileHandle { kind: handle.kind, bytes, mount })
}

/// The UUID as overlayfs sees it (`s_uuid` of the super block), where one of the ioctls tells it.
pub(super) fn fs_uuid(fd: BorrowedFd<'_>) -> Option<[u8; 16]> {
    let mut generic = [0u8; 17];
    // SAFETY: the ioctl writes a `struct fsuuid2`, 17 bytes, into the exclusively borrowed array of that size.
    let asked = result(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), FS_IOC_GETFSUUID as _, generic.as_mut_ptr())
    }));
    if asked.is_ok() {
        let [16, uuid @ ..] = generic else { return None };
        return Some(uuid);
    }
    let mut info = [0u8; 1024];
    // SAFETY: the ioctl writes a `struct btrfs_ioctl_fs_info_args`, 1024 bytes, into the exclusively borrowed array
    // of that size.
    result(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), BTRFS_IOC_FS_INFO as _, info.as_mut_ptr()) }))
        .ok()?;
    info.get(16..32)?.try_into().ok()
}
