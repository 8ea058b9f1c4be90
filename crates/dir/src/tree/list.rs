//! Listing a directory: which stored names are entries, which are whiteouts, which nobody sees.

use super::Tree;
use super::read::is_whiteout;
use crate::dialect::{self, Meaning};
use crate::marks;
use crate::node::{DirNode, Node};
use crate::stash::{self, Stash};
use crate::sys::stat::Listed;
use crate::sys::{self, Obj, Sys};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::{Error, Kind, Name, RawEntry, Result};

/// Why a listing stopped: the host's call, or what was read.
enum Stop {
    Host(Errno),
    Read(Error),
}

impl From<Errno> for Stop {
    fn from(e: Errno) -> Self {
        Self::Host(e)
    }
}

/// What stands under a listed name.
enum Stands {
    Entry(Kind),
    Whiteout,
    Vanished,
}

impl Tree {
    /// Lists a directory in its stored order.
    pub(crate) fn read_dir(
        &self,
        node: &Node,
        sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let dir = self.as_dir(node, "list")?;
        let path = self.dir_fd(dir)?;
        let list = sys::open::list(path.as_fd()).map_err(self.failed("list", node))?;
        let fd = list.as_fd();
        let xwhiteouts = self.options.formats.overlay
            && self.shared.is_none()
            && sys::xattr::get(Obj::Open(fd), &self.namespace().own(marks::OPAQUE))
                .map_err(self.failed("list", node))?
                .is_some_and(|value| value == marks::XWHITEOUTS);
        let wh_names = self.options.formats.wh_names();
        let done = sys::stat::each_name(fd, |listed| -> Result<_, Stop> {
            let meaning = if wh_names { dialect::meaning(listed.name) } else { Meaning::Entry };
            let (name, stands) = match meaning {
                Meaning::Hidden => return Ok(ControlFlow::Continue(())),
                // An entry of the same layer wins over its whiteout, and is listed by itself.
                Meaning::Whiteout(name) => match sys::stat::attr(Obj::At(fd, name)) {
                    Err(Errno::NOENT) => (name, Stands::Whiteout),
                    Err(e) => return Err(e.into()),
                    Ok(_) => return Ok(ControlFlow::Continue(())),
                },
                Meaning::Entry => (listed.name, self.stands(fd, &listed, xwhiteouts, dir)?),
            };
            let kind = match stands {
                Stands::Entry(kind) => Some(kind),
                Stands::Whiteout => None,
                Stands::Vanished => return Ok(ControlFlow::Continue(())),
            };
            Ok(sink(RawEntry { name: Name::new(name).map_err(Stop::Read)?, kind, ino: listed.ino }))
        });
        done.map_err(|stop| match stop {
            Stop::Host(e) => self.failed("list", node)(e),
            Stop::Read(e) => self.located(node)(e),
        })
    }

    fn stands(
        &self,
        fd: BorrowedFd<'_>,
        listed: &Listed<'_>,
        xwhiteouts: bool,
        dir: &Arc<DirNode>,
    ) -> Result<Stands, Stop> {
        let obj = Obj::At(fd, listed.name);
        let known = match listed.kind {
            FileType::Directory => Some(Kind::Dir),
            FileType::Symlink => Some(Kind::Symlink),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::Socket => Some(Kind::Socket),
            FileType::BlockDevice => Some(Kind::Block),
            FileType::RegularFile if !xwhiteouts => Some(Kind::File),
            _ => None,
        };
        let kind = match known {
            Some(kind) => kind,
            None => {
                let Some(attr) = present(sys::stat::attr(obj))? else { return Ok(Stands::Vanished) };
                if is_whiteout(&attr) {
                    return Ok(Stands::Whiteout);
                }
                if xwhiteouts && attr.kind == Kind::File && attr.size == 0 {
                    let mark = self.namespace().own(marks::WHITEOUT);
                    if present(sys::xattr::get(obj, &mark))?.flatten().is_some() {
                        return Ok(Stands::Whiteout);
                    }
                }
                attr.kind
            }
        };
        if kind == Kind::File && self.options.stashed_ownership {
            return self.stashed_kind(obj, listed.name, dir);
        }
        Ok(Stands::Entry(kind))
    }

    /// The kind of a regular file, which may stand for a device.
    fn stashed_kind(&self, obj: Obj<'_>, name: &[u8], dir: &Arc<DirNode>) -> Result<Stands, Stop> {
        let Some(value) = present(sys::xattr::get(obj, stash::XATTR))? else { return Ok(Stands::Vanished) };
        let stash = value.as_deref().map(Stash::parse).transpose();
        let stash = stash.map_err(|e| Stop::Read(e.about(self.path_at(dir, Some(name)))))?;
        let kind = stash.and_then(|stash| stash.kind).map(|(kind, _)| kind).filter(|kind| *kind != Kind::Dir);
        Ok(Stands::Entry(kind.unwrap_or(Kind::File)))
    }
}

/// `None` for a name that went away after it was listed.
fn present<T>(asked: Sys<T>) -> Sys<Option<T>> {
    match asked {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
