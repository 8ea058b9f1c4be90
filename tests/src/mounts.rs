//! Mounts that go when their guard does.

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an upper may be in use by others.
const PATIENCE: Duration = Duration::from_secs(20);

/// A mounted file system; dropping it unmounts.
#[derive(Debug)]
#[must_use = "dropping it unmounts"]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// A tmpfs with these mount options, empty for none.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn tmpfs(at: &Path, options: &str) -> Result<Self, Errno> {
        Self::any("tmpfs", at, options)
    }

    /// A ramfs, which has no extended attributes.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn ramfs(at: &Path) -> Result<Self, Errno> {
        Self::any("ramfs", at, "mode=755")
    }

    /// A kernel overlay: `lowers` topmost first, `upper` and `work`, and more options after them. Paths must
    /// hold neither `,` nor `:`.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn overlay(
        at: &Path,
        lowers: &[PathBuf],
        upper: Option<(&Path, &Path)>,
        options: &str,
    ) -> Result<Self, Errno> {
        let lowers: Vec<_> = lowers.iter().map(|p| p.display().to_string()).collect();
        let mut data = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = upper {
            data += &format!(",upperdir={},workdir={}", upper.display(), work.display());
        }
        if !options.is_empty() {
            data += ",";
            data += options;
        }
        Self::any("overlay", at, &data)
    }

    fn any(kind: &str, at: &Path, data: &str) -> Result<Self, Errno> {
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        let started = Instant::now();
        // A mount namespace that someone made meanwhile has a copy of what was unmounted here, and the upper is
        // in use until that namespace is gone.
        while let Err(error) = mount(kind, at, kind, MountFlags::NOATIME, data.as_c_str()) {
            if error != Errno::BUSY || started.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { at: at.to_path_buf() })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts now, and says when something still uses it.
    ///
    /// # Errors
    /// What umount(2) says.
    pub fn unmount(self) -> Result<(), Errno> {
        unmount(&self.at, UnmountFlags::empty())?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}
