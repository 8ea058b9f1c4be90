//! The staging directory of a target: `.strata-promotion` at its root.
//!
//! ```text
//! new/N       what comes, ready but for its place
//! old/N       what was there
//! journal     the steps; from when it is there until it is renamed, the target is neither old nor new
//! done        the same, all steps done: only clearing away is left
//! undone      the same, all steps undone
//! ```
//! Invariants: it belongs to this user, nobody else can enter it, and one process at a time holds its lock (on the
//! directory itself, so it goes with the process). Nothing in it is removed while there is a `journal`.

use super::confined::{Confined, Seen, Sys, stat};
use super::host;
use super::journal::Journal;
use super::path::{self, Bytes};
use super::{STAGING, failed};
use crate::{Error, ErrorKind, Namespace, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{self, Errno, retry_on_intr};
use stratafs_core::{Kind, Time};

/// How far a promotion came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// `journal`.
    Applying,
    /// `done`.
    Done,
    /// `undone`.
    Undone,
}

impl Phase {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Applying => b"journal",
            Self::Done => b"done",
            Self::Undone => b"undone",
        }
    }
}

/// A journal that is not complete yet.
const UNFINISHED: &[u8] = b"journal.new";
/// The largest journal that is read: some millions of steps.
const JOURNAL_MAX: u64 = 4 << 30;

/// The staging directory, locked.
#[derive(Debug)]
pub(super) struct Staging<'r> {
    root: &'r Confined,
    dir: OwnedFd,
}

/// The path of a place in the staging directory, from the target's root.
pub(super) fn inside(place: &[u8]) -> Bytes {
    path::join(STAGING, place)
}

impl<'r> Staging<'r> {
    /// Makes an empty one.
    ///
    /// # Errors
    /// `Busy` when there is one; what the host says.
    pub fn make(root: &'r Confined) -> Result<Self> {
        let fail = failed("make staging directory", STAGING);
        let at = root.dir(b"").map_err(&fail)?;
        match retry_on_intr(|| fs::mkdirat(&at, STAGING, Mode::from_raw_mode(0o700))) {
            Err(Errno::EXIST) => {
                return Err(Error::new(ErrorKind::Busy, "make staging directory")
                    .about(STAGING)
                    .because("another promotion to this directory has begun"));
            }
            made => made.map_err(&fail)?,
        }
        let made = Self::open(root).and_then(|staging| staging.ok_or_else(|| fail(Errno::NOENT)));
        let staging = match made {
            Ok(staging) => staging,
            Err(e) => {
                if e.kind() != ErrorKind::Busy {
                    // Still empty, and nobody else's: what fails here is found by the next promotion.
                    let _ = fs::unlinkat(&at, STAGING, AtFlags::REMOVEDIR);
                }
                return Err(e);
            }
        };
        match staging.prepare() {
            Ok(()) => Ok(staging),
            Err(e) => {
                let cleared = staging.clear();
                let time = Some(root.root().mtime);
                // As above; the first error says more.
                let _ = cleared.and_then(|()| host::set_times(at.as_fd(), b"", None, time));
                Err(fail(e))
            }
        }
    }

    /// Takes over the one that is there, if any.
    ///
    /// # Errors
    /// `Busy` while another process has it; `NotPermitted` for one that is not ours.
    pub fn open(root: &'r Confined) -> Result<Option<Self>> {
        let fail = failed("open staging directory", STAGING);
        let refuse =
            |kind, why: &str| Err(Error::new(kind, "open staging directory").about(STAGING).because(why));
        let at = root.dir(b"").map_err(&fail)?;
        let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match retry_on_intr(|| fs::openat(&at, STAGING, how, Mode::empty())) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return refuse(
                    ErrorKind::NotPermitted,
                    "the name is taken by something else than a directory",
                );
            }
            dir => dir.map_err(&fail)?,
        };
        let seen = stat(dir.as_fd(), b"").map_err(&fail)?.ok_or_else(|| fail(Errno::NOENT))?;
        if seen.uid != rustix::process::geteuid().as_raw() || seen.mode & 0o077 != 0 {
            let why = format!(
                "it belongs to user {}, mode {:04o}: it has to be this user's, mode 0700",
                seen.uid, seen.mode
            );
            return refuse(ErrorKind::NotPermitted, &why);
        }
        if root.is_elsewhere(&seen) {
            return refuse(ErrorKind::CrossDevice, "it is on another file system than the target");
        }
        match retry_on_intr(|| fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)) {
            Err(Errno::WOULDBLOCK) => {
                return refuse(ErrorKind::Busy, "another process promotes to this directory at this moment");
            }
            locked => locked.map_err(&fail)?,
        }
        // Whoever had it may have removed it before the lock was ours.
        match stat(at.as_fd(), STAGING).map_err(&fail)? {
            Some(now) if now.ino == seen.ino => {}
            _ => return refuse(ErrorKind::Busy, "another process has just promoted to this directory"),
        }
        let staging = Self { root, dir };
        for name in super::confined::list(staging.dir.as_fd()).map_err(&fail)? {
            let known: [&[u8]; 6] = [b"new", b"old", b"journal", b"done", b"undone", UNFINISHED];
            if !known.contains(&name.as_slice()) {
                let why = format!("\"{}\" in it is not a promotion's", name.escape_ascii());
                return refuse(ErrorKind::NotPermitted, &why);
            }
        }
        Ok(Some(staging))
    }

    /// Everything that the target's root hands down to new directories is taken away again.
    fn prepare(&self) -> Sys<()> {
        for name in host::xattrs(self.dir.as_fd(), Namespace::Trusted)?.keys() {
            if name.starts_with(b"system.posix_acl_") {
                host::set_xattr(self.dir.as_fd(), name, None)?;
            }
        }
        host::chmod(self.dir.as_fd(), 0o700)?;
        for name in ["new", "old"] {
            retry_on_intr(|| fs::mkdirat(&self.dir, name, Mode::from_raw_mode(0o700)))?;
        }
        // The root's time before the staging directory was made; nothing gets into `old` before the journal, which has
        // it too.
        host::set_times(self.dir.as_fd(), b"old", None, Some(self.root.root().mtime))
    }

    /// The root's time as it was, where the staging came so far and no further.
    pub fn root_time(&self) -> Sys<Option<Time>> {
        Ok(stat(self.dir.as_fd(), b"old")?.map(|seen| seen.mtime))
    }

    /// An object in it.
    pub fn stat(&self, place: &[u8]) -> Sys<Option<Seen>> {
        match self.root.stat(&inside(place)) {
            Err(Errno::NOENT) => Ok(None),
            seen => seen,
        }
    }

    /// The directory of a place in it, and the name there.
    pub fn parent<'p>(&self, place: &'p [u8]) -> Sys<(OwnedFd, &'p [u8])> {
        let (dir, name) = path::split(place);
        self.root.dir(&inside(dir)).map(|fd| (fd, name))
    }

    /// Writes the journal: when this returns, it is on disk, and not before.
    pub fn write(&self, journal: &Journal) -> Result<()> {
        let write = || {
            let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = retry_on_intr(|| fs::openat(&self.dir, UNFINISHED, how, Mode::from_raw_mode(0o600)))?;
            let stored = journal.encode();
            let mut rest = stored.as_slice();
            while !rest.is_empty() {
                let n = retry_on_intr(|| io::write(&file, rest))?;
                rest = rest.get(n..).unwrap_or_default();
            }
            retry_on_intr(|| fs::fsync(&file))?;
            let dir = self.dir.as_fd();
            super::confined::rename((dir, UNFINISHED), (dir, Phase::Applying.name()), false)?;
            retry_on_intr(|| fs::fsync(&self.dir))
        };
        write().map_err(failed("write journal", STAGING))
    }

    /// The journal and how far it came, where there is one.
    pub fn read(&self) -> Result<Option<(Phase, Journal)>> {
        let fail = failed("read journal", STAGING);
        for phase in [Phase::Applying, Phase::Done, Phase::Undone] {
            let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match retry_on_intr(|| fs::openat(&self.dir, phase.name(), how, Mode::empty())) {
                Err(Errno::NOENT) => continue,
                file => file.map_err(&fail)?,
            };
            let seen = stat(file.as_fd(), b"").map_err(&fail)?.ok_or_else(|| fail(Errno::NOENT))?;
            if seen.kind != Kind::File || seen.size > JOURNAL_MAX {
                return Err(Error::new(ErrorKind::Corrupt, "read journal").about(STAGING));
            }
            let mut stored = Bytes::new();
            let mut piece = vec![0; 1 << 16];
            loop {
                let n = retry_on_intr(|| io::read(&file, &mut piece[..])).map_err(&fail)?;
                if n == 0 {
                    break;
                }
                stored.extend_from_slice(piece.get(..n).unwrap_or_default());
            }
            return Journal::decode(&stored)
                .map(|journal| Some((phase, journal)))
                .map_err(|e| e.about(STAGING));
        }
        Ok(None)
    }

    /// Notes that all is done, or undone: from here on only clearing away is left.
    pub fn settle(&self, phase: Phase) -> Sys<()> {
        let dir = self.dir.as_fd();
        super::confined::rename((dir, Phase::Applying.name()), (dir, phase.name()), false)?;
        retry_on_intr(|| fs::fsync(&self.dir))
    }

    /// Removes everything and the directory itself, the journal last; steps over directories without recursion.
    pub fn clear(self) -> Sys<()> {
        for top in [&b"new"[..], b"old"] {
            self.clear_tree(top)?;
        }
        let remove = |name: &[u8]| match retry_on_intr(|| fs::unlinkat(&self.dir, name, AtFlags::empty())) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        };
        for name in [UNFINISHED, Phase::Done.name(), Phase::Undone.name()] {
            remove(name)?;
        }
        let at = self.root.dir(b"")?;
        retry_on_intr(|| fs::unlinkat(&at, STAGING, AtFlags::REMOVEDIR))
    }

    fn clear_tree(&self, top: &[u8]) -> Sys<()> {
        let mut dirs = vec![top.to_vec()];
        let mut next = 0;
        while let Some(place) = dirs.get(next).cloned() {
            next += 1;
            let dir = match self.root.dir(&inside(&place)) {
                Err(Errno::NOENT) => continue,
                dir => dir?,
            };
            if stat(dir.as_fd(), b"")?.is_some_and(|seen| seen.mode & 0o700 != 0o700) {
                // Without these its own names cannot be removed by who is not privileged.
                host::chmod(dir.as_fd(), 0o700)?;
            }
            for name in super::confined::list(dir.as_fd())? {
                match retry_on_intr(|| fs::unlinkat(&dir, name.as_slice(), AtFlags::empty())) {
                    Err(Errno::ISDIR | Errno::PERM) if is_dir(&dir, &name)? => {
                        dirs.push(path::join(&place, &name));
                    }
                    done => done?,
                }
            }
        }
        for place in dirs.iter().rev() {
            let (dir, name) = match self.parent(place) {
                Err(Errno::NOENT) => continue,
                parent => parent?,
            };
            match retry_on_intr(|| fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)) {
                Err(Errno::NOENT) => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn is_dir(dir: &OwnedFd, name: &[u8]) -> Sys<bool> {
    Ok(stat(dir.as_fd(), name)?.is_some_and(|seen| seen.kind == Kind::Dir))
}
