//! Mounts that go when their guard does.

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; dropping it unmounts.
#[derive(Debug)]
#[must_use = "dropping it unmounts"]
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// An overlay of the kernel: `lowers` topmost first. Options are separated by commas.
    ///
    /// # Errors
    /// What the kernel says. The options go in one by one: mount(2) would take no more than a page of them.
    pub fn overlay(
        at: &Path,
        lowers: &[PathBuf],
        upper: &Path,
        work: &Path,
        options: &str,
    ) -> io::Result<Self> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in lowers {
            fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, option)?,
            }
        }
        fsconfig_create(&context)?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        move_mount(&mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Self { at: at.to_path_buf() })
    }

    /// The file system in an image, through a loop device that goes with the mount.
    ///
    /// # Errors
    /// When mount(8) is missing or refuses.
    pub fn image(image: &Path, at: &Path) -> io::Result<Self> {
        let done = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
        }
        Ok(Self { at: at.to_path_buf() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}
