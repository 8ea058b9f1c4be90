//! [`Lease`]: the right to use one container, held by one process at a time. It is an flock(2) on the
//! container's `lock` file, so that the kernel releases it whenever the holder ends; a mount of the container
//! by the kernel outlives its maker and counts as use as well.

use super::lock::Locked;
use super::{ContainerName, LayerSource, Record, layers, scratch, settle};
use crate::{Error, ErrorKind, Result, mountinfo};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `strata:` and a container's directory give as the source of its mounts.
const SOURCE: &[u8] = b"strata:";

/// The exclusive use of one container. Dropping it releases the container.
#[derive(Debug)]
pub struct Lease {
    /// Kept open for its lock.
    _lock: Locked,
    /// Its layers: one that is replaced meanwhile stays until this use ends.
    _layers: Vec<Locked>,
    record: Record,
}

impl Lease {
    /// Takes the container at `dir`, if nobody has it.
    pub(super) fn take(root: &Path, name: &ContainerName, dir: &Path) -> Result<Self> {
        let lock = lock(name, dir)?;
        if let Some(mount) = mount_of(root, name, dir)? {
            return Err(busy(name).because(format!("it is mounted at {}", mount.display())));
        }
        let record = Record::read(root, name, dir)?;
        scratch::finish_move(&record)?;
        settle::begin(&record)?;
        // Damaged or missing ones are for who opens them to name.
        let stored =
            record.config.layers.iter().filter(|layer| matches!(layer.source, LayerSource::Layer(_)));
        let layers = stored.filter_map(|layer| layers::hold(layer.path.parent()?)).collect();
        Ok(Self { _lock: lock, _layers: layers, record })
    }

    /// Makes a volatile or strict container durable after it was written to, by this library or a mount, and
    /// takes away the mark of a volatile one that it was not closed. An ordered one needs nothing.
    ///
    /// # Errors
    /// What the host says.
    pub fn settle(&self) -> Result<()> {
        settle::settle(&self.record)
    }

    /// Takes the container for removal: its configuration may be damaged.
    pub(super) fn take_to_remove(root: &Path, name: &ContainerName, dir: &Path) -> Result<Locked> {
        let lock = lock(name, dir)?;
        if let Some(mount) = mount_of(root, name, dir)? {
            return Err(busy(name).because(format!("it is mounted at {}", mount.display())));
        }
        let home = Record::read(root, name, dir).map(|record| record.home).unwrap_or_else(|_| dir.to_owned());
        let mounts = mountinfo::mounts()?;
        if let Some(mount) = mounts.iter().find(|m| m.target.starts_with(dir) || m.target.starts_with(&home))
        {
            let why = format!("something is mounted in it, at {}", mount.target.display());
            return Err(busy(name).because(why));
        }
        Ok(lock)
    }

    /// The container that is held.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

fn busy(name: &ContainerName) -> Error {
    Error::new(ErrorKind::Busy, "use container").about(name.as_str())
}

/// True when another process holds the container at `dir`, or it is mounted.
pub(super) fn is_in_use(root: &Path, name: &ContainerName, dir: &Path) -> Result<bool> {
    match lock(name, dir) {
        Ok(_) => Ok(mount_of(root, name, dir)?.is_some()),
        Err(e) if e.kind() == ErrorKind::Busy => Ok(true),
        Err(e) => Err(e),
    }
}

fn lock(name: &ContainerName, dir: &Path) -> Result<Locked> {
    if std::fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_dir()) {
        super::must_be_dir(dir)?;
    }
    let path = dir.join("lock");
    let failed = |e: std::io::Error| Error::io(e, "lock").about(path.as_os_str().as_bytes());
    // Never a link, and a fifo planted there must not block. Reading is enough, on a read-only disk too.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map(File::from);
    let file = match open(flags) {
        Err(Errno::NOENT) if !dir.exists() => return Err(unknown(name)),
        // Somebody removed it; without one the container could not even be thrown away.
        Err(Errno::NOENT) => open(flags | OFlags::CREATE).map_err(|e| failed(e.into()))?,
        opened => opened.map_err(|e| failed(e.into()))?,
    };
    if !file.metadata().map_err(failed)?.is_file() {
        let corrupt = Error::new(ErrorKind::Corrupt, "lock").about(path.as_os_str().as_bytes());
        return Err(corrupt.because("something else stands where the lock file has to be: remove it"));
    }
    // A listing holds the lock for a moment to see whether it is free: that is not use.
    for patience in (0..10).rev() {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if patience > 0 => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::WouldBlock) => {
                return Err(busy(name).because("another process is using it"));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
    // Between open and lock the container may have been removed, and even made anew under the same name.
    let file = Locked(file);
    let (held, now) = (file.0.metadata().map_err(failed)?, std::fs::symlink_metadata(&path));
    match now {
        Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => Ok(file),
        _ => Err(unknown(name)),
    }
}

/// The error for a name that no container has.
pub(super) fn unknown(name: &ContainerName) -> Error {
    Error::new(ErrorKind::NotFound, "open container")
        .about(name.as_str())
        .because("there is no such container")
}

/// What to name as the source when the kernel mounts the container at `dir`, so that [`Lease`] recognises it.
#[must_use]
pub fn mount_source(dir: &Path) -> std::ffi::OsString {
    let mut source = SOURCE.to_vec();
    source.extend_from_slice(dir.as_os_str().as_bytes());
    std::os::unix::ffi::OsStringExt::from_vec(source)
}

/// Where the kernel's overlayfs has the upper of the container at `dir` mounted, as far as this process sees. Of one
/// whose configuration cannot be read only what we mounted is recognised.
pub(super) fn mount_of(root: &Path, name: &ContainerName, dir: &Path) -> Result<Option<PathBuf>> {
    let source = mount_source(dir);
    let upper = Record::read(root, name, dir).map(|record| record.upper()).ok();
    let upper = upper.as_ref().map(|upper| upper.as_os_str().as_bytes());
    let ours = |m: &mountinfo::Mount| {
        m.kind == "overlay"
            && (m.source == source.as_bytes()
                || m.super_option("upperdir").is_some_and(|u| Some(&*u) == upper))
    };
    Ok(mountinfo::mounts()?.into_iter().find(ours).map(|m| m.target))
}
