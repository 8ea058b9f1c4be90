//! Directories to build trees in, on a file system that is named.

use crate::mounts::Mounted;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, statfs};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// MiB of a loop image.
const IMAGE: usize = 1536;
/// Files from this size on give their space back early.
const LARGE: u64 = 1 << 20;

/// Which file system an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// ext4, which copies.
    Ext4,
    /// XFS with reflinks, which shares blocks.
    Xfs,
}

impl Image {
    /// The command and its options; what was allocated for the image must stay.
    fn mkfs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-i", "8192", "-E", "nodiscard,lazy_itable_init=0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-K", "-m", "reflink=1"]),
        }
    }
}

/// A temporary directory on a known file system. Dropping it removes everything, after unmounting.
#[derive(Debug)]
pub struct Ground {
    root: PathBuf,
    file_system: &'static str,
    _mounted: Option<Mounted>,
    _dir: TempDir,
}

impl Ground {
    /// On the file system of the temporary directory (`TMPDIR`).
    ///
    /// # Panics
    /// When no directory can be made there.
    #[must_use]
    pub fn host() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let file_system = name_of(dir.path());
        Self { root: dir.path().to_path_buf(), file_system, _mounted: None, _dir: dir }
    }

    /// On a new file system of its own, in a loop image below the temporary directory. `None`, with the reason
    /// printed, where the machine cannot.
    #[must_use]
    pub fn image(kind: Image) -> Option<Self> {
        let made = || -> io::Result<Self> {
            let dir = TempDir::new()?;
            let image = dir.path().join("image");
            fill(&image)?;
            let (command, options) = kind.mkfs();
            let made = Command::new(command).args(options).arg(&image).status()?;
            if !made.success() {
                return Err(io::Error::other(format!("{command} failed")));
            }
            let root = dir.path().join("mounted");
            fs::create_dir(&root)?;
            let mounted = Mounted::image(&image, &root)?;
            Ok(Self { file_system: name_of(&root), root, _mounted: Some(mounted), _dir: dir })
        };
        made().map_err(|e| eprintln!("left out: {kind:?} on a loop image: {e}")).ok()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// What the file system is called.
    #[must_use]
    pub fn file_system(&self) -> &'static str {
        self.file_system
    }

    /// Makes a directory with a name.
    ///
    /// # Panics
    /// When the host refuses.
    #[must_use]
    pub fn make(&self, name: &str) -> PathBuf {
        let at = self.root.join(name);
        fs::create_dir_all(&at).expect("make a directory");
        at
    }

    /// Makes a directory of its own for one use.
    ///
    /// # Panics
    /// When the host refuses.
    #[must_use]
    pub fn scrap(&self) -> Scrap {
        Scrap(TempDir::new_in(&self.root).expect("make a directory").keep())
    }

    /// Writes everything back, so that what is timed next does not pay for what was made before.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn settle(&self) {
        let root = fs::File::open(&self.root).expect("open the ground");
        rustix::fs::syncfs(&root).expect("sync the ground");
    }
}

/// A directory for one use. Dropping it frees the space of large files in it and leaves the rest until the ground goes:
/// ext4 searches long for a free inode after many were freed, which the next measurement would pay for.
#[derive(Debug)]
pub struct Scrap(PathBuf);

impl Scrap {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // Files of a scratch are in a directory of this one.
        let inner =
            fs::read_dir(&self.0).into_iter().flatten().flatten().filter_map(|e| fs::read_dir(e.path()).ok());
        let outer = fs::read_dir(&self.0).into_iter();
        for entry in inner.chain(outer).flatten().flatten() {
            if entry.metadata().is_ok_and(|m| m.is_file() && m.len() >= LARGE) {
                let _ = fs::OpenOptions::new().write(true).truncate(true).open(entry.path());
            }
        }
    }
}

/// Makes a whiteout: the device that the kernel's overlayfs takes for one.
///
/// # Panics
/// When the host refuses.
pub fn whiteout(at: &Path) {
    mknodat(CWD, at, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).expect("make a whiteout");
}

/// Writes an image out: whoever writes first to a block of a sparse file pays for its allocation.
fn fill(image: &Path) -> io::Result<()> {
    let mut file = fs::File::create(image)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..IMAGE {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

fn name_of(path: &Path) -> &'static str {
    match statfs(path).map(|s| s.f_type) {
        Ok(0xef53) => "ext4",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        _ => "host",
    }
}
