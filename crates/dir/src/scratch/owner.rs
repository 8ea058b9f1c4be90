//! Who has a scratch: a lock on both of its directories among us, `/proc/self/mountinfo` for the kernel's overlayfs.
//! A mount whose options name its directories by a relative path, or that another mount namespace holds, is not seen.

use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use stratafs_core::{Error, ErrorKind, FileId, Result};

fn busy(label: &str, who: &str) -> Error {
    Error::new(ErrorKind::Busy, "open scratch").in_layer(label).because(who)
}

/// A directory that is ours as long as this lives.
pub(super) struct Owned(OwnedFd);

impl Drop for Owned {
    /// Unlocks by name: a child process that was just forked has the descriptor too, until it runs its program.
    fn drop(&mut self) {
        if let Err(e) = sys::open::unlock(self.0.as_fd()) {
            tracing::warn!(error = %e, "the lock goes when its last descriptor is closed");
        }
    }
}

/// Takes the lock.
pub(super) fn lock(fd: &OwnedFd, id: FileId, label: &str) -> Result<Owned> {
    let own = rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| lock_failed(e, label))?;
    match sys::open::lock(own.as_fd()) {
        Ok(true) => Ok(Owned(own)),
        Ok(false) => Err(match holder(&fs::read_to_string("/proc/locks").unwrap_or_default(), id) {
            Some(pid) => {
                busy(label, &format!("another container has it, in process {pid}; close that one first"))
            }
            None => busy(label, "another container has it; close that one first"),
        }),
        Err(e) => Err(lock_failed(e, label)),
    }
}

fn lock_failed(e: Errno, label: &str) -> Error {
    Error::io(e.into(), "lock scratch").in_layer(label)
}

/// The process that holds a flock on `id`, from the text of `/proc/locks`.
fn holder(locks: &str, id: FileId) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(id.dev), rustix::fs::minor(id.dev));
    let wanted = format!("{major:02x}:{minor:02x}:{}", id.ino);
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, object, ..] if object == wanted => pid.parse().ok(),
            _ => None,
        }
    })
}

/// Refuses when a kernel overlay is mounted over one of the directories.
pub(super) fn not_mounted(ids: [FileId; 2], label: &str) -> Result<()> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    for mount in overlays(&mounts) {
        for path in [&mount.upper, &mount.work] {
            let same = |path: &PathBuf| {
                use std::os::unix::fs::MetadataExt;
                let there = fs::metadata(path).ok().filter(|_| path.is_absolute())?;
                Some(ids.contains(&FileId { dev: there.dev(), ino: there.ino() }))
            };
            if same(path).unwrap_or(false) {
                let at = mount.at.display();
                return Err(busy(
                    label,
                    &format!("the kernel's overlayfs has it mounted at {at}; unmount that first"),
                ));
            }
        }
    }
    Ok(())
}

struct Overlay {
    at: PathBuf,
    upper: PathBuf,
    work: PathBuf,
}

/// The writable overlays in a mountinfo (proc_pid_mountinfo(5)).
fn overlays(mountinfo: &[u8]) -> impl Iterator<Item = Overlay> {
    mountinfo.split(|b| *b == b'\n').filter_map(|line| {
        let fields: Vec<_> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().position(|field| *field == b"-")?;
        let [kind, _, options] = fields.get(dash + 1..dash + 4)? else { return None };
        if *kind != b"overlay" {
            return None;
        }
        let option =
            |name: &[u8]| split_options(options).find_map(|option| option.strip_prefix(name).map(path));
        Some(Overlay { at: path(fields.get(4)?), upper: option(b"upperdir=")?, work: option(b"workdir=")? })
    })
}

/// Splits at commas that are not escaped.
fn split_options(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    options.split(move |b| {
        let split = *b == b',' && !escaped;
        escaped = *b == b'\\' && !escaped;
        split
    })
}

/// Undoes the escapes: `\ooo` of the listing, then `\x` of the option.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            (b'\\', None) => rest = others,
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// What a scratch is called in errors.
pub(super) fn label(path: &std::path::Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read() {
        let text = b"22 1 0:20 / /proc rw - proc proc rw\n\
            90 22 0:50 / /m\\040x rw,relatime shared:1 - overlay overlay rw,lowerdir=/l\\054,upperdir=/u\\040v,workdir=/w\n\
            91 22 0:51 / /ro ro - overlay overlay ro,lowerdir=/a:/b\n\nbroken - overlay\n";
        let found: Vec<_> = overlays(text).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, PathBuf::from("/m x"));
        assert_eq!(found[0].upper, PathBuf::from("/u v"));
        assert_eq!(found[0].work, PathBuf::from("/w"));
    }

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let id = FileId { dev: rustix::fs::makedev(254, 0), ino: 77 };
        let text =
            "1: POSIX  ADVISORY  WRITE 5 fe:00:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 4242 fe:00:77 0 EOF\n";
        assert_eq!(holder(text, id), Some(4242));
        assert_eq!(holder(text, FileId { ino: 78, ..id }), None);
    }
}
