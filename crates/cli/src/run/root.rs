//! The root directory of a run: the merged view with proc, dev, sys and a private tmp on it. The view is
//! mounted on a directory of ours; everything else is mounted after the change of root, on descriptors of
//! directories that are no links, so that nothing in a layer can lead a mount elsewhere.

use super::overlay;
use super::spec::{Spec, Split, View};
use crate::text::{shown, shown_path};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use stratafs::mountinfo;

/// Devices that a command may expect; all are safe to share.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of proc that act on the host; with real privileges they become read-only.
const HOST_CONTROLS: [&str; 4] = ["sys", "sysrq-trigger", "irq", "bus"];

fn refused(what: &str) -> impl FnOnce(io::Error) -> String {
    move |e| format!("cannot mount the overlay of {what}: {e}: {}", overlay::reason(&e))
}

/// The mount points that [`build`] needs in the merged view.
pub const MOUNT_POINTS: [&str; 4] = ["proc", "dev", "sys", "tmp"];

/// A directory that every host has and nobody needs here any more, once it was cloned: covered for moments by what goes
/// into a view and is not its root.
const ASIDE: &str = "/sys";

fn step<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |e| format!("{what}: {e}")
}

/// Makes the merged view this process' root. The process is alone in its mount namespace.
pub fn build(spec: &Spec) -> Result<(), String> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("cannot make mounts private"))?;
    let devices = device_mounts()?;
    let terminal = terminal();
    let sys = clone_tree("/sys").map_err(step("cannot clone /sys"))?;
    let stage = Path::new(&spec.stage);
    match &spec.view {
        View::Whole(view) => overlay::mount_wrapped(view, stage, Path::new(ASIDE)).map_err(refused("/"))?,
        View::Split(split) => build_split(split, stage)?,
    }
    let proc = new_mount("proc", &[], no_programs()).map_err(step("cannot mount proc"))?;
    change_root(stage).map_err(step("cannot change the root"))?;

    attach(&proc, "/proc")?;
    attach(&sys, "/sys")?;
    make_read_only("/sys").map_err(step("cannot make /sys read-only"))?;
    if spec.as_user.is_none() {
        shield_proc().map_err(step("cannot make /proc/sys read-only"))?;
    }
    build_dev(devices, terminal, spec.as_user.is_none())?;
    let tmp = new_mount(
        "tmpfs",
        &[("mode", "1777")],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    );
    attach(&tmp.map_err(step("cannot make the private /tmp"))?, "/tmp")?;
    spec.hidden.iter().try_for_each(|dir| hide(Path::new(dir)))
}

fn no_programs() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// A read-only root in memory, with an overlay on each top-level directory.
fn build_split(split: &Split, stage: &Path) -> Result<(), String> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", stage, "tmpfs", flags, c"mode=0755,size=1m")
        .map_err(step("cannot mount a tmpfs"))?;
    for name in &split.empty {
        fs::create_dir(stage.join(name)).map_err(step("cannot make a mount point"))?;
    }
    for (name, target) in &split.links {
        symlink(target, stage.join(name)).map_err(step("cannot copy a link"))?;
    }
    for (name, view) in &split.overlays {
        let at = stage.join(name);
        fs::create_dir(&at).map_err(step("cannot make a mount point"))?;
        overlay::mount_wrapped(view, &at, Path::new(ASIDE))
            .map_err(refused(&format!("/{}", shown(name.as_bytes()))))?;
    }
    for (name, source) in &split.read_only {
        let at = stage.join(name);
        bind_read_only(Path::new(source), &at)
            .map_err(step(format_args!("cannot show {} read-only", shown(source.as_bytes()))))?;
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::BIND;
    rustix::mount::mount_remount(stage, flags, c"").map_err(step("cannot make the root read-only"))
}

fn bind_read_only(source: &Path, at: &Path) -> io::Result<()> {
    if source.is_dir() {
        fs::create_dir(at)?;
    } else {
        fs::File::create_new(at)?;
    }
    rustix::mount::mount_bind_recursive(source, at)?;
    make_read_only(at)
}

/// Remounts everything at and below `dir` read-only, keeping the other flags: in a user namespace those are
/// locked. What another user's FUSE file system refuses even to be asked about is left to its own rules.
fn make_read_only(dir: impl AsRef<Path>) -> io::Result<()> {
    for mount in mountinfo::below(dir.as_ref()).map_err(io::Error::from)? {
        let flags = mount.options.iter().fold(MountFlags::RDONLY | MountFlags::BIND, |flags, option| {
            flags
                | match option.as_str() {
                    "nosuid" => MountFlags::NOSUID,
                    "nodev" => MountFlags::NODEV,
                    "noexec" => MountFlags::NOEXEC,
                    "noatime" => MountFlags::NOATIME,
                    "nodiratime" => MountFlags::NODIRATIME,
                    "relatime" => MountFlags::RELATIME,
                    _ => MountFlags::empty(),
                }
        });
        rustix::mount::mount_remount(&mount.target, flags, c"")?;
    }
    Ok(())
}

/// A new file system, not attached yet.
fn new_mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(&context, *key, *value)?;
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What is at `path` and mounted below it, as a mount that is not attached yet.
fn clone_tree(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(rustix::fs::CWD, path.as_ref(), flags)?)
}

/// Attaches a mount to a directory of the new root that must be one, not a link to one.
fn attach(mount: &OwnedFd, at: impl AsRef<Path>) -> Result<(), String> {
    let at = at.as_ref();
    let attached = (|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(at, flags, Mode::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount, "", dir.as_fd(), "", flags)
    })();
    attached.map_err(|e| match e {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
            format!("{} in the layers is not a directory", shown_path(at))
        }
        e => format!("cannot mount {}: {e}", shown_path(at)),
    })
}

fn change_root(stage: &Path) -> io::Result<()> {
    std::env::set_current_dir(stage)?;
    // With both names the same the old root lies on top of the new one until it is unmounted (pivot_root(2)).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

fn shield_proc() -> io::Result<()> {
    for name in HOST_CONTROLS {
        let path = PathBuf::from("/proc").join(name);
        if path.exists() {
            rustix::mount::mount_bind(&path, &path)?;
            make_read_only(&path)?;
        }
    }
    Ok(())
}

fn device_mounts() -> Result<Vec<(&'static str, OwnedFd)>, String> {
    let there = |name: &&str| Path::new("/dev").join(name).exists();
    let cloned = |name| {
        let mount =
            clone_tree(format!("/dev/{name}")).map_err(step(format_args!("cannot clone /dev/{name}")))?;
        Ok((name, mount))
    };
    DEVICES.into_iter().filter(there).map(cloned).collect()
}

/// The caller's terminal, where it has one whose name is known here: programs look for theirs below `/dev`.
fn terminal() -> Option<OwnedFd> {
    let standard = [
        (io::stdin().is_terminal(), "/proc/self/fd/0"),
        (io::stdout().is_terminal(), "/proc/self/fd/1"),
        (io::stderr().is_terminal(), "/proc/self/fd/2"),
    ];
    let (_, link) = standard.into_iter().find(|(is_terminal, _)| *is_terminal)?;
    let path = fs::read_link(link).ok().filter(|path| path.starts_with("/dev"))?;
    clone_tree(path).ok()
}

/// A small `/dev` of its own: the devices above, terminals, shared memory and the usual links.
fn build_dev(
    devices: Vec<(&'static str, OwnedFd)>,
    terminal: Option<OwnedFd>,
    privileged: bool,
) -> Result<(), String> {
    let failed = || step("cannot fill /dev");
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Not sticky: the kernel refuses to open what others own in such directories for writing (protected_regular).
    let nodev = attributes | MountAttrFlags::MOUNT_ATTR_NODEV;
    let dev =
        new_mount("tmpfs", &[("mode", "0755"), ("size", "64k")], nodev).map_err(step("cannot mount /dev"))?;
    attach(&dev, "/dev")?;
    // Device nodes made beside them open nothing.
    for (name, mount) in devices.into_iter().chain(terminal.map(|mount| ("console", mount))) {
        let path = format!("/dev/{name}");
        fs::File::create_new(&path).map_err(failed())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", rustix::fs::CWD, path.as_str(), flags)
            .map_err(step(format_args!("cannot mount {path}")))?;
    }
    for dir in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(dir).map_err(failed())?;
    }
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if privileged {
        // The group `tty`, the same number everywhere; not mapped in a user namespace.
        options.push(("gid", "5"));
    }
    let pts = new_mount("devpts", &options, attributes).map_err(step("cannot mount /dev/pts"))?;
    attach(&pts, "/dev/pts")?;
    let shm =
        new_mount("tmpfs", &[("mode", "1777")], no_programs()).map_err(step("cannot mount /dev/shm"))?;
    attach(&shm, "/dev/shm")?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, Path::new("/dev").join(name)).map_err(failed())?;
    }
    Ok(())
}

/// Covers a directory, where it can be seen, with an empty read-only one.
fn hide(dir: &Path) -> Result<(), String> {
    if !dir.is_dir() {
        return Ok(());
    }
    let empty = new_mount(
        "tmpfs",
        &[("mode", "0555"), ("size", "4k")],
        no_programs() | MountAttrFlags::MOUNT_ATTR_RDONLY,
    );
    attach(&empty.map_err(step("cannot hide the state directory"))?, dir)
}
