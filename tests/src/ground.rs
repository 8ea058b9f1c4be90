//! A tmpfs with layers on it, and overlays of the kernel over them.

use crate::mounts::Mounted;
use rustix::io::Errno;
use std::fs::{File, create_dir};
use std::path::{Path, PathBuf};
use stratafs_testkit::StackSpec;
use stratafs_testkit::host::{HostSubject, Whiteouts, materialise};

/// The overlay options under which the kernel does what this project does.
pub const KERNEL: &str = "redirect_dir=on,index=on,metacopy=on";

/// The same without metacopy, whose copy-ups lose modification times.
pub const KERNEL_PLAIN: &str = "redirect_dir=on,index=on,metacopy=off";

/// A tmpfs with one directory a layer. Dropping it unmounts and removes everything.
#[derive(Debug)]
pub struct Ground {
    /// The layers, topmost first.
    pub lowers: Vec<PathBuf>,
    tmpfs: Mounted,
    _dir: tempfile::TempDir,
}

impl Ground {
    /// Makes the layers of `stack`.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(stack: &StackSpec) -> Result<Self, Errno> {
        let dir = tempfile::tempdir().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        let tmpfs = Mounted::tmpfs(dir.path(), "mode=755")?;
        let mut ground = Self { lowers: Vec::new(), tmpfs, _dir: dir };
        for (n, layer) in stack.layers.iter().enumerate() {
            let at = ground.make(&format!("lower{n}"))?;
            let opened = File::open(&at).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            materialise(layer, &opened, Whiteouts::Trusted)?;
            ground.lowers.push(at);
        }
        Ok(ground)
    }

    /// Makes one more directory on the tmpfs.
    ///
    /// # Errors
    /// What the host says.
    pub fn make(&self, name: &str) -> Result<PathBuf, Errno> {
        let at = self.tmpfs.path().join(name);
        create_dir(&at).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(at)
    }

    /// A kernel overlay of the layers under an upper.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn overlay(&self, at: &Path, upper: &Path, work: &Path, options: &str) -> Result<Mounted, Errno> {
        Mounted::overlay(at, &self.lowers, Some((upper, work)), options)
    }
}

/// A kernel overlay that operations are applied to and that can be mounted anew.
#[derive(Debug)]
pub struct Kernel {
    /// Operations go here.
    pub subject: HostSubject,
    at: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    options: &'static str,
    mounted: Option<Mounted>,
}

impl Kernel {
    /// A new, empty upper.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(ground: &Ground, options: &'static str) -> Result<Self, Errno> {
        let (at, upper, work) =
            (ground.make("merged")?, ground.make("kernel-upper")?, ground.make("kernel-work")?);
        let mounted = Some(ground.overlay(&at, &upper, &work, options)?);
        Ok(Self { subject: HostSubject::new(&at)?, at, upper, work, options, mounted })
    }

    /// Unmounts and mounts again.
    ///
    /// # Errors
    /// What the host says.
    pub fn remount(&mut self, ground: &Ground) -> Result<(), Errno> {
        self.unmount()?;
        self.mounted = Some(ground.overlay(&self.at, &self.upper, &self.work, self.options)?);
        self.subject.acquire()
    }

    /// Unmounts; the upper is at rest afterwards.
    ///
    /// # Errors
    /// What the host says.
    pub fn unmount(&mut self) -> Result<(), Errno> {
        self.subject.release();
        self.mounted.take().map_or(Ok(()), Mounted::unmount)
    }

    /// The upper and work directories.
    #[must_use]
    pub fn dirs(&self) -> (&Path, &Path) {
        (&self.upper, &self.work)
    }
}
