//! Reaching a directory that is not open: up to the nearest open ancestor, then down again, without recursion and
//! through no symbolic link.

use super::Tree;
use crate::node::{DirNode, Place};
use crate::options::Resolver;
use crate::sys::{self, Obj, Sys};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stratafs_core::{Error, ErrorKind, NameBuf, PATH_MAX, Result};

/// Set once `openat2` was found missing, or filtered.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

impl Tree {
    /// The descriptor of a directory, opened again where it was closed meanwhile.
    pub(crate) fn dir_fd(&self, node: &Arc<DirNode>) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = node.cached() {
            return Ok(fd);
        }
        let still = self.moves.read_recursive();
        let (base, names) = self.climb(node)?;
        if names.is_empty() {
            // Another thread opened it meanwhile.
            return Ok(base);
        }
        let fresh = self.descend(&base, &names).map_err(|e| self.lost(e, node))?;
        if self.shared.is_some() {
            let found = sys::stat::attr(Obj::Path(fresh.as_fd())).map_err(|e| self.lost(e, node))?.id;
            if found != node.id() {
                return Err(self.lost(Errno::STALE, node));
            }
        }
        drop(still);
        let (fd, counted) = node.store(fresh);
        if counted {
            self.fds.admit(node);
        }
        Ok(fd)
    }

    /// The nearest open ancestor, and the names from the node up to it.
    fn climb(&self, node: &Arc<DirNode>) -> Result<(Arc<OwnedFd>, Vec<NameBuf>)> {
        let mut names = Vec::new();
        let mut at = Arc::clone(node);
        loop {
            if let Some(fd) = at.cached() {
                return Ok((fd, names));
            }
            match at.place() {
                Place::In(parent, name) => {
                    names.push(name);
                    at = parent;
                }
                Place::Fixed | Place::Gone => return Err(self.lost(Errno::STALE, node)),
            }
        }
    }

    /// Goes down `names`, last first, in as few calls as the resolver allows.
    fn descend(&self, base: &Arc<OwnedFd>, names: &[NameBuf]) -> Sys<OwnedFd> {
        let mut at: Option<OwnedFd> = None;
        let mut rest = names;
        while let Some((next, others)) = rest.split_last() {
            let from = at.as_ref().map_or(base.as_fd(), AsFd::as_fd);
            let single = others.is_empty() || self.options.resolver == Resolver::StepByStep;
            let auto = self.options.resolver == Resolver::Auto;
            if (single && self.options.resolver != Resolver::Openat2)
                || (auto && NO_OPENAT2.load(Ordering::Relaxed))
            {
                at = Some(sys::open::step(from, next.as_bytes())?);
                rest = others;
                continue;
            }
            let (path, beyond) = chunk(rest);
            match sys::open::beneath(from, &path) {
                Ok(fd) => {
                    at = Some(fd);
                    rest = beyond;
                }
                // A filter answers EPERM for a call that it does not know; the call itself never does for O_PATH.
                Err(Errno::NOSYS | Errno::PERM) if auto => NO_OPENAT2.store(true, Ordering::Relaxed),
                Err(e) => return Err(e),
            }
        }
        at.ok_or(Errno::STALE)
    }

    fn lost(&self, e: Errno, node: &Arc<DirNode>) -> Error {
        let path = self.path_at(node, None);
        let error = match e {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE => {
                Error::new(ErrorKind::Stale, "reach directory")
                    .because("the directory was removed or replaced while it was in use")
            }
            other => Error::io(other.into(), "reach directory"),
        };
        error.about(path).in_layer(&self.label)
    }
}

/// The longest path of next steps that one call takes, and the steps after it.
fn chunk(rest: &[NameBuf]) -> (Vec<u8>, &[NameBuf]) {
    let mut path = Vec::new();
    let mut left = rest;
    while let Some((next, others)) = left.split_last() {
        if !path.is_empty() {
            if path.len() + 1 + next.as_bytes().len() >= PATH_MAX {
                break;
            }
            path.push(b'/');
        }
        path.extend_from_slice(next.as_bytes());
        left = others;
    }
    (path, left)
}
