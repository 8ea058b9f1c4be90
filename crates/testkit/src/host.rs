//! Directories of the host: a [`crate::Subject`] over one (a kernel mount or a plain directory), and layers made from
//! a [`crate::TreeSpec`]. Every path is walked one component at a time and no symbolic link is followed.

mod dump;
mod make;
mod subject;

pub use dump::dump;
pub use make::{Whiteouts, materialise};
pub use subject::HostSubject;

use crate::path::Path;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

const WALK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory at `parts` below `root`.
fn walk(root: &impl AsFd, parts: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    let mut dir = openat(root, c".", WALK | OFlags::DIRECTORY, Mode::empty())?;
    for name in parts {
        dir = openat(&dir, name.as_slice(), WALK | OFlags::DIRECTORY, Mode::empty())?;
    }
    Ok(dir)
}

/// Any object, the root too.
fn find(root: &impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    match path.split() {
        None => walk(root, &[]),
        Some((dir, name)) => openat(walk(root, dir)?, name, WALK, Mode::empty()),
    }
}

/// A path that the kernel takes for exactly this object.
fn magic(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
