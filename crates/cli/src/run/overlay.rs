//! One mount of the kernel's overlayfs. Paths go into the option string as they are where they can; where they
//! hold separators, or are too many for the one page that mount(2) takes, by the numbers of open descriptors.

use super::spec::Overlay;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
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
    let plain = options(overlay, &overlay.lowers, &overlay.upper, &overlay.work);
    if plain.len() <= OPTIONS_MAX && paths(overlay).all(is_plain) {
        return mount_with(overlay, target, plain);
    }
    let open = |path: &OsString| -> io::Result<(OwnedFd, OsString)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(Path::new(path), flags, Mode::empty())?;
        let name = fd.as_raw_fd().to_string().into();
        Ok((fd, name))
    };
    let lowers = overlay.lowers.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let (upper, work) = (open(&overlay.upper)?, open(&overlay.work)?);
    let names: Vec<OsString> = lowers.iter().map(|(_, name)| name.clone()).collect();
    let short = options(overlay, &names, &upper.1, &work.1);
    if short.len() > OPTIONS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many layers for one mount"));
    }
    std::env::set_current_dir("/proc/self/fd")?;
    let mounted = mount_with(overlay, target, short);
    std::env::set_current_dir("/")?;
    mounted
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

fn options(overlay: &Overlay, lowers: &[OsString], upper: &OsStr, work: &OsStr) -> Vec<u8> {
    let lowers: Vec<&[u8]> = lowers.iter().map(|l| l.as_bytes()).collect();
    let mut out = [b"lowerdir=", lowers.join(&b':').as_slice()].concat();
    out.extend([b",upperdir=", upper.as_bytes(), b",workdir=", work.as_bytes()].concat());
    for option in &overlay.options {
        out.push(b',');
        out.extend(option.as_bytes());
    }
    out
}

fn paths(overlay: &Overlay) -> impl Iterator<Item = &OsString> {
    overlay.lowers.iter().chain([&overlay.upper, &overlay.work])
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
            upper: "/u".into(),
            work: "/w".into(),
            nosuid: false,
            options: vec!["userxattr".into()],
        };
        let text = options(&overlay, &overlay.lowers, &overlay.upper, &overlay.work);
        assert_eq!(text, b"lowerdir=/top:/bottom,upperdir=/u,workdir=/w,userxattr");
        assert!(paths(&overlay).all(is_plain));
        assert!(!is_plain(&"/a:b".into()) && !is_plain(&"/a,b".into()) && !is_plain(&"relative".into()));
    }
}
