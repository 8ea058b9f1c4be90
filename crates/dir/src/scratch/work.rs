//! The staging directory `work/work`: names for what is not published yet, the shared whiteout, and the removal of
//! what is not wanted any more. Everything in it is a leftover after a crash and is removed at the next open.

use super::health::Health;
use crate::node::DirNode;
use crate::sys::{self, Obj, Sys};
use parking_lot::Mutex;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stratafs_core::{Error, Kind, NameBuf, Result};

/// The directory in the staging directory whose entries keep those away who do not know them.
pub(super) const INCOMPAT: &[u8] = b"incompat";
/// In [`INCOMPAT`]: not everything was synced.
pub(super) const VOLATILE: &[u8] = b"volatile";
/// In [`INCOMPAT`]: marks in the `user` namespace that the kernel does not follow.
pub(super) const REDIRECTS: &[u8] = b"strata-redirect";

/// How often a new name may be taken already before that is an error.
const TRIES: usize = 1000;

/// The staging directory.
pub(crate) struct Work {
    /// Its node, for staged objects that have a name.
    pub(super) staging: Arc<DirNode>,
    fd: OwnedFd,
    counter: AtomicU64,
    /// The name here that whiteouts are linked from.
    whiteout: Mutex<Option<NameBuf>>,
    redirects_marked: AtomicBool,
    pub(super) health: Arc<Health>,
}

impl Work {
    pub(super) fn new(fd: OwnedFd, health: Arc<Health>) -> Sys<Self> {
        let id = sys::stat::attr(Obj::Open(fd.as_fd()))?.id;
        let own = sys::open::list(fd.as_fd())?;
        Ok(Self {
            staging: DirNode::fixed(own, id),
            fd,
            counter: AtomicU64::new(0),
            whiteout: Mutex::new(None),
            redirects_marked: AtomicBool::new(false),
            health,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn failed(&self, operation: &'static str) -> impl FnOnce(Errno) -> Error {
        move |e| Error::io(e.into(), operation).about("(work directory)").in_layer(&self.health.label)
    }

    /// Makes something under a new name.
    pub(super) fn make<T>(&self, mut make: impl FnMut(&[u8]) -> Sys<T>) -> Sys<(NameBuf, T)> {
        for _ in 0..TRIES {
            let name = format!("#{:x}", self.counter.fetch_add(1, Ordering::Relaxed));
            match make(name.as_bytes()) {
                Err(Errno::EXIST) => {}
                Ok(made) => {
                    return NameBuf::new(name.as_bytes()).map(|n| (n, made)).map_err(|_| Errno::INVAL);
                }
                Err(e) => return Err(e),
            }
        }
        Err(Errno::EXIST)
    }

    /// Puts a whiteout at a free name, here or in the upper: one more link of the shared one.
    pub(super) fn whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
        for _ in 0..TRIES {
            let known = self.whiteout.lock().clone();
            let Some(shared) = known else {
                let (made, ()) = self.make(|name| sys::name::whiteout(self.fd(), name))?;
                let mut slot = self.whiteout.lock();
                let spare = slot.replace(made);
                drop(slot);
                if let Some(spare) = spare {
                    self.discard(&spare);
                }
                continue;
            };
            match sys::name::link(Obj::At(self.fd(), shared.as_bytes()), dir, name) {
                // Full, or removed by a stranger: go on with a new one.
                Err(Errno::MLINK | Errno::NOENT | Errno::STALE) => {
                    let mut slot = self.whiteout.lock();
                    let same = slot.as_ref() == Some(&shared);
                    if same {
                        *slot = None;
                    }
                    drop(slot);
                    if same {
                        self.discard(&shared);
                    }
                }
                done => return done,
            }
        }
        Err(Errno::MLINK)
    }

    /// A whiteout under a new name here.
    pub(super) fn staged_whiteout(&self) -> Sys<NameBuf> {
        self.make(|name| self.whiteout(self.fd(), name)).map(|(name, ())| name)
    }

    /// Removes what has a name here, if it can; what stays is removed at the next open.
    pub(super) fn discard(&self, name: &NameBuf) {
        if let Err(e) = remove_tree(self, self.fd(), name.as_bytes()) {
            tracing::warn!(layer = %self.health.label, name = ?name, error = %e, "a leftover stays in the work directory");
        }
    }

    /// Keeps the kernel from mounting a scratch with marks that it would not follow.
    pub(super) fn mark_redirects(&self) -> Result<()> {
        if self.redirects_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.mark_incompat(REDIRECTS, b"x", Kind::Dir).map_err(self.failed("mark redirects"))?;
        self.redirects_marked.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes `incompat/WHAT/NAME`.
    pub(super) fn mark_incompat(&self, what: &[u8], name: &[u8], kind: Kind) -> Sys<()> {
        let made = |done| match done {
            Err(Errno::EXIST) => Ok(()),
            done => done,
        };
        made(sys::name::mkdir(self.fd(), INCOMPAT))?;
        let incompat = sys::open::step(self.fd(), INCOMPAT)?;
        made(sys::name::mkdir(incompat.as_fd(), what))?;
        let inner = sys::open::step(incompat.as_fd(), what)?;
        made(match kind {
            Kind::Dir => sys::name::mkdir(inner.as_fd(), name),
            _ => sys::open::create(inner.as_fd(), name).map(drop),
        })
    }

    /// Whether `incompat/WHAT` exists.
    pub(super) fn has_incompat(&self, what: &[u8]) -> Sys<bool> {
        match sys::open::step(self.fd(), INCOMPAT) {
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(e),
            Ok(dir) => match sys::stat::attr(Obj::At(dir.as_fd(), what)) {
                Err(Errno::NOENT) => Ok(false),
                done => done.map(|_| true),
            },
        }
    }

    /// Removes `incompat/WHAT`.
    pub(super) fn clear_incompat(&self, what: &[u8]) -> Sys<()> {
        match sys::open::step(self.fd(), INCOMPAT) {
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e),
            Ok(dir) => {
                remove_tree(self, dir.as_fd(), what)?;
                match sys::name::rmdir(self.fd(), INCOMPAT) {
                    Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
                    done => done,
                }
            }
        }
    }
}

/// The names in an open directory.
pub(super) fn names(dir: BorrowedFd<'_>) -> Sys<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    sys::stat::each_name(dir, |listed| -> Sys<_> {
        names.push(listed.name.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(names)
}

/// Removes `name` in `dir` with everything below it. Directories that are not empty are first moved up into the
/// staging directory, so that depth costs neither stack nor descriptors. Follows no link.
pub(super) fn remove_tree(work: &Work, dir: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    let mut left: Vec<NameBuf> = Vec::new();
    empty_and_remove(work, dir, name, &mut left)?;
    while let Some(next) = left.pop() {
        empty_and_remove(work, work.fd(), next.as_bytes(), &mut left)?;
    }
    Ok(())
}

fn empty_and_remove(work: &Work, dir: BorrowedFd<'_>, name: &[u8], left: &mut Vec<NameBuf>) -> Sys<()> {
    if remove_one(dir, name)? {
        return Ok(());
    }
    let inner = match sys::open::subdirectory(dir, name) {
        Err(Errno::ACCESS) => {
            sys::meta::chmod(Obj::At(dir, name), 0o700)?;
            sys::open::subdirectory(dir, name)?
        }
        done => done?,
    };
    for entry in names(inner.as_fd())? {
        if !remove_one(inner.as_fd(), &entry)? {
            let from = (inner.as_fd(), entry.as_slice());
            let flags = RenameFlags::NOREPLACE;
            let (moved, ()) = work.make(|name| sys::name::rename(from, (work.fd(), name), flags))?;
            left.push(moved);
        }
    }
    sys::name::rmdir(dir, name)
}

/// Removes one object; false for a directory that is not empty.
fn remove_one(dir: BorrowedFd<'_>, name: &[u8]) -> Sys<bool> {
    match sys::name::unlink(dir, name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    match sys::name::rmdir(dir, name) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(e),
    }
}
