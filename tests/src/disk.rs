//! A file system in a file, on a loop device, that can lose its power. Root only, and where the tools are.

use crate::need;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Enough for what tests write, and for the smallest XFS. The file is sparse.
const IMAGE_LEN: u64 = 400 << 20;

/// A mounted file system of its own. Dropping it unmounts and removes it.
#[derive(Debug)]
pub struct Disk {
    dir: tempfile::TempDir,
    mounted: bool,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let sbin = "/usr/sbin:/sbin:/usr/bin:/bin";
    let path = std::env::var("PATH").map_or(sbin.into(), |path| format!("{path}:{sbin}"));
    let out = Command::new(program).args(args).env("PATH", path).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {said}")) }
}

impl Disk {
    /// Makes and mounts one of a kind, such as `ext4`; `None` when the machine cannot (and that was said).
    ///
    /// # Panics
    /// When there is no room for the image.
    #[must_use]
    pub fn new(kind: &str) -> Option<Self> {
        if !need::root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("make a directory");
        let mut disk = Self { dir, mounted: false };
        File::create(disk.image()).and_then(|f| f.set_len(IMAGE_LEN)).expect("make an image");
        std::fs::create_dir(disk.path()).expect("make a mount point");
        let image = disk.image().display().to_string();
        let force = if kind == "ext4" { "-F" } else { "-f" };
        let made = run("xfs_io", &["-V"]).and_then(|()| run(&format!("mkfs.{kind}"), &["-q", force, &image]));
        if let Err(missing) = made.and_then(|()| disk.mount()) {
            need::skip(&format!("{kind} on a loop device: {missing}"));
            return None;
        }
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&mut self) -> Result<(), String> {
        let (image, at) = (self.image().display().to_string(), self.path().display().to_string());
        run("mount", &["-o", "loop", &image, &at])?;
        self.mounted = true;
        Ok(())
    }

    /// Everything written so far is on the disk.
    ///
    /// # Panics
    /// When the disk cannot be written.
    pub fn settle(&self) {
        let dir = File::open(self.path()).expect("open the file system");
        rustix::fs::syncfs(dir).expect("sync the file system");
    }

    /// From now on nothing reaches the disk; what was not written by then, journal included, is lost.
    ///
    /// # Panics
    /// When the file system knows no shutdown.
    pub fn lose_power(at: &Path) {
        run("xfs_io", &["-x", "-c", "shutdown", &at.display().to_string()]).expect("shut down");
    }

    /// Mounts again, which replays the journal. Nothing of this process may be open on it; others may hold it for a
    /// moment, such as a mount namespace that was copied, and then it is the dead file system that is mounted again.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn restart(&mut self) {
        let mut said = String::new();
        for _ in 0..200 {
            let at = self.path().display().to_string();
            let unmounted = if self.mounted { run("umount", &[&at]) } else { Ok(()) };
            match unmounted {
                Ok(()) => {
                    self.mounted = false;
                    match self.mount() {
                        Ok(()) if File::create(self.path().join("alive")).is_ok() => return,
                        Ok(()) => said = "it is still shut down".into(),
                        Err(error) => said = error,
                    }
                }
                Err(error) => said = error,
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the file system does not come up again: {said}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let at = self.path().display().to_string();
            let _ = run("umount", &[&at]).or_else(|_| run("umount", &["-l", &at]));
        }
    }
}
