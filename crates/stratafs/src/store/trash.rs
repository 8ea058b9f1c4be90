//! `ROOT/trash`: what is on the way in or out. What is being made there belongs to its maker while that one lives (a
//! lock on the directory); all the rest is left over, and anybody may remove it.

use super::lock::Locked;
use super::{Store, at, disk, layers, remove};
use crate::Result;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory in the trash that belongs to this process while it lives: nobody sweeps it away. Its path, its lock, and
/// whether it goes with this.
#[derive(Debug)]
pub(super) struct Building(pub(super) PathBuf, File, bool);

impl Building {
    /// A name that nobody has.
    pub(super) fn name() -> String {
        format!("{:016x}", RandomState::new().hash_one(std::time::SystemTime::now()))
    }

    pub(super) fn new(trash: &Path) -> Result<Self> {
        loop {
            let path = trash.join(Self::name());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    // Until it is locked, who empties the trash may take it: then another one.
                    let dir = match File::open(&path) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        dir => dir.map_err(at(&path, "open"))?,
                    };
                    dir.lock().map_err(at(&path, "lock"))?;
                    let held = dir.metadata().map_err(at(&path, "open"))?;
                    match fs::symlink_metadata(&path) {
                        Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {
                            return Ok(Self(path, dir, true));
                        }
                        _ => continue,
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(at(&path, "create")(e)),
            }
        }
    }
}

impl Building {
    /// Leaves what is there now to who empties the trash.
    pub(super) fn leave(mut self) {
        self.2 = false;
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.2 {
            // Gone already after a success; after a failure the next sweep tries again.
            let _ = discard(&self.0);
        }
        let _ = self.1.unlock();
    }
}

/// Removes a directory with everything in it. That it is gone is fine.
pub(super) fn discard(dir: &Path) -> Result<()> {
    remove::empty(dir)?;
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(dir, "remove")(e)),
        _ => Ok(()),
    }
}

/// What emptying the trash came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Emptied {
    /// What was in it, as top-level entries.
    pub entries: u64,
    /// Bytes that were freed on disk.
    pub bytes: u64,
}

impl Store {
    /// Removes what rollback, discard and removals left to be removed, and what was cut off while it was made. The only
    /// step of those whose cost depends on the size, so it is one of its own.
    ///
    /// # Errors
    /// What the host says; what is left goes with the next one.
    pub fn empty_trash(&self) -> Result<Emptied> {
        let mut emptied = Emptied::default();
        self.each_left_over(|path, is_dir| {
            let bytes = disk::allocated([path])?;
            if is_dir {
                discard(path)?;
            } else {
                fs::remove_file(path).map_err(at(path, "remove"))?;
            }
            emptied = Emptied { entries: emptied.entries + 1, bytes: emptied.bytes.saturating_add(bytes) };
            Ok(())
        })?;
        Ok(emptied)
    }

    /// What is in the trash and belongs to nobody.
    pub(super) fn each_left_over(&self, mut each: impl FnMut(&Path, bool) -> Result<()>) -> Result<()> {
        let trash = self.trash();
        for entry in fs::read_dir(&trash).map_err(at(&trash, "read trash"))? {
            let path = entry.map_err(at(&trash, "read trash"))?.path();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()).map(File::from) {
                // Its maker holds a lock on it while it lives.
                Ok(dir) if dir.try_lock().is_ok() => {
                    let _lock = Locked(dir);
                    // A layer that was replaced, and that somebody still reads.
                    if !layers::is_held(&path) {
                        each(&path, true)?;
                    }
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => each(&path, false)?,
                Err(e) => return Err(at(&path, "empty trash")(e.into())),
            }
        }
        Ok(())
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}
