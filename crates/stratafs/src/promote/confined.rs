//! Access below the target directory. Invariants: the directory is opened once; every path is a list of plain
//! names below it, reached through no symbolic link, no magic link and no mount; what is done to an object is done
//! by its directory's descriptor and one name, so a path that changes its meaning meanwhile leads to an error,
//! never outside.

use super::path::{self, Bytes};
use crate::{Error, ErrorKind, Resolver, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::{Errno, retry_on_intr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use stratafs_core::{Device, Kind, PATH_MAX, Time};

/// What a system call returns.
pub(super) type Sys<T> = std::result::Result<T, Errno>;

/// How often `openat2` is repeated when a rename elsewhere made it give up (`EAGAIN`).
const AGAIN_MAX: usize = 64;

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An object of the host as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    pub rdev: Device,
    pub mtime: Time,
    pub ctime: Time,
    pub dev: u64,
    pub ino: u64,
    mount: Option<u64>,
}

#[cfg(test)]
impl Seen {
    /// An object with this number, for tests.
    pub fn example(kind: Kind, ino: u64) -> Self {
        let (rdev, time) = (Device::default(), Time { secs: 5, nanos: 0 });
        let (mode, uid, gid, nlink, size) = (0o755, 0, 0, 1, 0);
        Self { kind, mode, uid, gid, nlink, size, rdev, mtime: time, ctime: time, dev: 1, ino, mount: None }
    }
}

/// The target directory.
#[derive(Debug)]
pub(super) struct Confined {
    root: OwnedFd,
    label: Bytes,
    seen: Seen,
    resolver: Resolver,
    /// `openat2` was found missing, or filtered.
    by_steps: AtomicBool,
}

impl Confined {
    /// Opens the directory that the user named; symbolic links in that path are followed, this once.
    pub fn open(at: &Path, resolver: Resolver) -> Result<Self> {
        let label = at.as_os_str().as_bytes().to_vec();
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = retry_on_intr(|| fs::openat(CWD, at, how, Mode::empty()));
        let opened = opened.and_then(|fd| stat(fd.as_fd(), b"").map(|seen| (fd, seen)));
        match opened {
            Ok((root, Some(seen))) => {
                let by_steps = AtomicBool::new(resolver == Resolver::StepByStep);
                Ok(Self { root, label, seen, resolver, by_steps })
            }
            Ok((_, None)) => Err(Error::new(ErrorKind::NotFound, "open target").about(label)),
            Err(e) => Err(Error::io(e.into(), "open target").about(label)),
        }
    }

    /// The path as the user gave it.
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// The directory's own attributes when it was opened.
    pub fn root(&self) -> &Seen {
        &self.seen
    }

    /// True for what is another mount than the target, or where mounts cannot be told, another file system.
    pub fn is_elsewhere(&self, seen: &Seen) -> bool {
        match (self.seen.mount, seen.mount) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => self.seen.dev != seen.dev,
        }
    }

    /// A directory below the target, as `O_PATH`.
    pub fn dir(&self, path: &[u8]) -> Sys<OwnedFd> {
        let names: Vec<&[u8]> = path::names(path).collect();
        let mut at: Option<OwnedFd> = None;
        let mut rest = names.as_slice();
        while let Some((first, others)) = rest.split_first() {
            let from = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            if self.by_steps.load(Ordering::Relaxed) {
                let next = retry_on_intr(|| fs::openat(from, *first, DIRECTORY, Mode::empty()))?;
                let seen = stat(next.as_fd(), b"")?.ok_or(Errno::NOENT)?;
                if self.is_elsewhere(&seen) {
                    return Err(Errno::XDEV);
                }
                at = Some(next);
                rest = others;
                continue;
            }
            let (piece, beyond) = chunk(rest);
            match beneath(from, &piece) {
                Ok(fd) => {
                    at = Some(fd);
                    rest = beyond;
                }
                // A filter answers EPERM for a call that it does not know; the call itself never does for O_PATH.
                Err(Errno::NOSYS | Errno::PERM) if self.resolver == Resolver::Auto => {
                    self.by_steps.store(true, Ordering::Relaxed);
                }
                Err(e) => return Err(e),
            }
        }
        match at {
            Some(fd) => Ok(fd),
            None => retry_on_intr(|| fs::openat(&self.root, c".", DIRECTORY, Mode::empty())),
        }
    }

    /// The directory that holds `path`, and the name in it; of the root, itself and the empty name.
    pub fn parent<'p>(&self, path: &'p [u8]) -> Sys<(OwnedFd, &'p [u8])> {
        let (dir, name) = path::split(path);
        self.dir(dir).map(|fd| (fd, name))
    }

    /// The object at `path`, `None` when there is none.
    pub fn stat(&self, path: &[u8]) -> Sys<Option<Seen>> {
        let (dir, name) = self.parent(path)?;
        stat(dir.as_fd(), name)
    }

    /// The names in a directory.
    pub fn list(&self, path: &[u8]) -> Sys<Vec<Bytes>> {
        list(self.dir(path)?.as_fd())
    }

    /// Makes everything on the target's file system durable.
    pub fn sync(&self) -> Sys<()> {
        fs::syncfs(&self.root)
    }

    /// A number that changes when anything in a directory changes: names, objects, content. What is in `skip` (paths
    /// from the target's root) is left out with all below it.
    pub fn digest(&self, top: &[u8], skip: &dyn Fn(&[u8]) -> bool) -> Sys<u64> {
        let mut sum = 0u64;
        let mut dirs = vec![Bytes::new()];
        while let Some(relative) = dirs.pop() {
            let dir = self.dir(&path::join(top, &relative))?;
            for name in list(dir.as_fd())? {
                let relative = path::join(&relative, &name);
                if skip(&path::join(top, &relative)) {
                    continue;
                }
                let Some(seen) = stat(dir.as_fd(), &name)? else { continue };
                let mut hasher = DefaultHasher::new();
                (&relative, seen.ino, seen.kind).hash(&mut hasher);
                match seen.kind {
                    Kind::Dir => dirs.push(relative),
                    // Not the ctime: our own moves of other names of the same object set it.
                    _ => (seen.size, seen.mtime).hash(&mut hasher),
                }
                // Whatever the order of the listing.
                sum = sum.wrapping_add(hasher.finish());
            }
        }
        Ok(sum)
    }
}

/// The longest path of next steps that one call takes, and the steps after it.
fn chunk<'a, 'n>(rest: &'a [&'n [u8]]) -> (Bytes, &'a [&'n [u8]]) {
    let mut piece = Bytes::new();
    let mut left = rest;
    while let Some((next, others)) = left.split_first() {
        if !piece.is_empty() {
            if piece.len() + 1 + next.len() >= PATH_MAX {
                break;
            }
            piece.push(b'/');
        }
        piece.extend_from_slice(next);
        left = others;
    }
    (piece, left)
}

fn beneath(dir: BorrowedFd<'_>, path: &[u8]) -> Sys<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut left = AGAIN_MAX;
    loop {
        match retry_on_intr(|| fs::openat2(dir, path, DIRECTORY, Mode::empty(), resolve)) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            done => return done,
        }
    }
}

/// One name of a directory, or with the empty name what the descriptor names.
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<Option<Seen>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = match retry_on_intr(|| fs::statx(dir, name, flags, mask)) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat?,
    };
    let mode = u32::from(stat.stx_mode);
    let time = |t: fs::StatxTimestamp| Time { secs: t.tv_sec, nanos: t.tv_nsec };
    Ok(Some(Seen {
        kind: Kind::from_mode(mode).ok_or(Errno::IO)?,
        mode: mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        nlink: stat.stx_nlink,
        size: stat.stx_size,
        rdev: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        dev: fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        mount: (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id),
    }))
}

/// The names in an `O_PATH` directory.
pub(super) fn list(dir: BorrowedFd<'_>) -> Sys<Vec<Bytes>> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| fs::openat(dir, c".", how, Mode::empty()))?;
    let mut names = Vec::new();
    for entry in fs::Dir::new(opened)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Moves a name where nothing is, or swaps two.
pub(super) fn rename(from: (BorrowedFd<'_>, &[u8]), to: (BorrowedFd<'_>, &[u8]), swap: bool) -> Sys<()> {
    let flags = if swap { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    retry_on_intr(|| fs::renameat_with(from.0, from.1, to.0, to.1, flags))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs as std_fs;

    fn both(at: &Path, check: impl Fn(&Confined)) {
        for resolver in [Resolver::Openat2, Resolver::StepByStep] {
            check(&Confined::open(at, resolver).unwrap());
        }
    }

    #[test]
    fn no_link_and_no_mount_is_passed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
        std_fs::create_dir_all(target.join("a/b")).unwrap();
        std_fs::create_dir_all(outside.join("b")).unwrap();
        std::os::unix::fs::symlink("../outside", target.join("out")).unwrap();
        std::os::unix::fs::symlink("a", target.join("in")).unwrap();
        both(&target, |confined| {
            assert!(confined.dir(b"a/b").is_ok());
            for link in [&b"out"[..], b"out/b", b"in/b"] {
                let refused = confined.dir(link).unwrap_err();
                assert!(matches!(refused, Errno::LOOP | Errno::NOTDIR), "{refused:?}");
            }
            assert_eq!(confined.dir(b"a/none").unwrap_err(), Errno::NOENT);
            assert_eq!(confined.stat(b"out").unwrap().unwrap().kind, Kind::Symlink);
        });
        both(Path::new("/"), |confined| assert_eq!(confined.dir(b"proc/self").unwrap_err(), Errno::XDEV));
    }

    #[test]
    fn a_digest_tells_every_change_below_but_what_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        std_fs::create_dir_all(dir.path().join("d/e")).unwrap();
        std_fs::write(dir.path().join("d/e/f"), "x").unwrap();
        let confined = Confined::open(dir.path(), Resolver::Auto).unwrap();
        let before = confined.digest(b"d", &|_| false).unwrap();
        std_fs::write(dir.path().join("d/e/g"), "x").unwrap();
        assert_ne!(confined.digest(b"d", &|_| false).unwrap(), before);
        assert_eq!(confined.digest(b"d", &|path| path == b"d/e/g").unwrap(), before);
    }

    #[test]
    fn paths_longer_than_the_kernel_takes_are_reached_in_pieces() {
        let name = [b'n'; 200];
        let names: Vec<&[u8]> = std::iter::repeat_n(&name[..], 50).collect();
        let (piece, rest) = chunk(&names);
        assert!(piece.len() < PATH_MAX && piece.len() > PATH_MAX - 201);
        assert_eq!(rest.len() + piece.split(|b| *b == b'/').count(), 50);
    }
}
