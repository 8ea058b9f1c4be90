//! One mount of the kernel's overlayfs. Paths go into the option string as they are where they can; where they
//! hold separators, or are too many for the one page that mount(2) takes, by the numbers of open descriptors.

use super::spec::{Overlay, Writable};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// mount(2) takes one page of options, with the closing NUL.
const OPTIONS_MAX: usize = 4095;

/// How often a busy upper is tried again. An overlay that was unmounted, or whose run ended, lives on for moments in
/// the mount namespaces that other processes cloned while it was there.
const BUSY_RETRIES: u32 = 40;
/// The pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(25);

/// Mounts `overlay` on `target`, which is absolute. Leaves the working directory at `/`.
pub fn mount(overlay: &Overlay, target: &Path) -> io::Result<()> {
    let plain = options(overlay);
    if plain.len() <= OPTIONS_MAX && paths(overlay).all(is_plain) {
        return mount_with(overlay, target, plain);
    }
    let mut open = Vec::new();
    let mut number = |path: &OsString| -> io::Result<OsString> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(Path::new(path), flags, Mode::empty())?;
        let name = fd.as_raw_fd().to_string().into();
        open.push(fd);
        Ok(name)
    };
    let mut short = overlay.clone();
    short.lowers = overlay.lowers.iter().map(&mut number).collect::<io::Result<_>>()?;
    if let Some(Writable { upper, work }) = &overlay.writable {
        short.writable = Some(Writable { upper: number(upper)?, work: number(work)? });
    }
    let short = options(&short);
    if short.len() > OPTIONS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many layers for one mount"));
    }
    std::env::set_current_dir("/proc/self/fd")?;
    let mounted = mount_with(overlay, target, short);
    std::env::set_current_dir("/")?;
    mounted
}

/// As [`mount`], where the lowest layer may be [`wrapped`](Overlay::wrapped). `stage` is another empty directory of this
/// process' own mount namespace, and is so afterwards.
pub fn mount_wrapped(overlay: &Overlay, target: &Path, stage: &Path) -> io::Result<()> {
    if !overlay.wrapped {
        return mount(overlay, target);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", stage, "tmpfs", flags, c"mode=0700,size=64k")?;
    let mounted = wrap_and_mount(overlay, target, stage);
    // The view keeps what it is made of.
    rustix::mount::unmount(stage, UnmountFlags::DETACH)?;
    mounted
}

fn wrap_and_mount(overlay: &Overlay, target: &Path, stage: &Path) -> io::Result<()> {
    let [empty, lowest] = ["empty", "lowest"].map(|name| stage.join(name));
    for dir in [&empty, &lowest] {
        fs::create_dir(dir)?;
    }
    let mut overlay = overlay.clone();
    let Some(wrapped) = overlay.lowers.pop() else { return Err(Errno::INVAL.into()) };
    // The options for writing mean nothing there.
    let options = overlay.options.iter().filter(|option| *option == "userxattr").cloned().collect();
    let lowers = vec![empty.into(), wrapped];
    mount(&Overlay { lowers, options, writable: None, ..overlay.clone() }, &lowest)?;
    overlay.lowers.push(lowest.into());
    mount(&overlay, target)
}

/// What a refusal of the kernel means; it keeps its own words for its log.
pub fn reason(e: &io::Error) -> &'static str {
    match e.raw_os_error() {
        Some(libc::EPERM) => "mounting takes CAP_SYS_ADMIN",
        Some(libc::ENODEV) => "this kernel has no overlayfs",
        Some(libc::EINVAL) => {
            "overlayfs does not take these directories: the upper must not be on overlayfs, FUSE or NFS (dmesg may \
             say more)"
        }
        Some(libc::ESTALE) => "a layer is not the one that this container was mounted with before",
        Some(libc::ELOOP) => "a layer lies inside of another one",
        Some(libc::EBUSY) => "the upper is in use by another mount",
        _ => "the kernel refused the mount",
    }
}

fn mount_with(overlay: &Overlay, target: &Path, options: Vec<u8>) -> io::Result<()> {
    let options = CString::new(options)?;
    // Device nodes of a layer or made inside must not open the host's devices.
    let flags = if overlay.nosuid { MountFlags::NODEV | MountFlags::NOSUID } else { MountFlags::NODEV };
    let mut patience = BUSY_RETRIES;
    loop {
        match rustix::mount::mount(overlay.source.as_os_str(), target, "overlay", flags, options.as_c_str()) {
            Err(Errno::BUSY) if patience > 0 => patience -= 1,
            done => return Ok(done?),
        }
        std::thread::sleep(BUSY_PAUSE);
    }
}

fn options(overlay: &Overlay) -> Vec<u8> {
    let lowers: Vec<&[u8]> = overlay.lowers.iter().map(|l| l.as_bytes()).collect();
    let mut out = [b"lowerdir=", lowers.join(&b':').as_slice()].concat();
    if let Some(Writable { upper, work }) = &overlay.writable {
        out.extend([b",upperdir=", upper.as_bytes(), b",workdir=", work.as_bytes()].concat());
    }
    for option in &overlay.options {
        out.push(b',');
        out.extend(option.as_bytes());
    }
    out
}

fn paths(overlay: &Overlay) -> impl Iterator<Item = &OsString> {
    let writable = overlay.writable.iter().flat_map(|Writable { upper, work }| [upper, work]);
    overlay.lowers.iter().chain(writable)
}

/// True for a path without anything that the option string gives a meaning to.
fn is_plain(path: &OsString) -> bool {
    path.as_bytes().starts_with(b"/") && !path.as_bytes().iter().any(|b| matches!(b, b',' | b':' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_keep_the_order_of_the_layers() {
        let overlay = Overlay {
            source: "strata:/c".into(),
            lowers: vec!["/top".into(), "/bottom".into()],
            writable: Some(Writable { upper: "/u".into(), work: "/w".into() }),
            nosuid: false,
            options: vec!["userxattr".into()],
            wrapped: false,
        };
        let text = options(&overlay);
        assert_eq!(text, b"lowerdir=/top:/bottom,upperdir=/u,workdir=/w,userxattr");
        assert!(paths(&overlay).all(is_plain));
        assert!(!is_plain(&"/a:b".into()) && !is_plain(&"/a,b".into()) && !is_plain(&"relative".into()));
    }
}
