//! Opening a scratch: whose it is, whether its directories suit, what an earlier crash left behind.

use super::health::Health;
use super::options::{Ownership, ScratchOptions};
use super::work::{self, Work};
use super::{DirScratch, owner, probe};
use crate::dialect::Formats;
use crate::namespace::Namespace;
use crate::node::DirNode;
use crate::options::LayerOptions;
use crate::sys::{self, Obj, Sys};
use crate::tree::Tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::path::Path;
use std::sync::Arc;
use stratafs_core::{Attr, Error, ErrorKind, Features, FileId, Kind, Result};

/// The staging directory inside the work directory.
const STAGING: &[u8] = b"work";
/// The hard-link index inside the work directory.
const INDEX: &[u8] = b"index";

/// One of the two directories.
struct Part {
    fd: OwnedFd,
    attr: Attr,
    label: String,
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let label = owner::label(path);
        let fail = |e: Errno| {
            let error = Error::io(e.into(), "open scratch").about(&label);
            match e {
                Errno::NOENT => error.because("there is no such directory; create the scratch first"),
                Errno::NOTDIR => error.because("upper and work must be directories"),
                _ => error,
            }
        };
        let fd = sys::open::directory(path).map_err(fail)?;
        let attr = sys::stat::attr(Obj::Open(fd.as_fd())).map_err(fail)?;
        Ok(Self { fd, attr, label })
    }
}

impl DirScratch {
    /// Makes the directories, with their parents, and opens the scratch. Directories that exist are taken as they are.
    ///
    /// # Errors
    /// As [`DirScratch::open`].
    pub fn create(upper: impl AsRef<Path>, work: impl AsRef<Path>, options: &ScratchOptions) -> Result<Self> {
        for path in [upper.as_ref(), work.as_ref()] {
            std::fs::create_dir_all(path)
                .map_err(|e| Error::io(e, "create scratch").about(owner::label(path)))?;
        }
        Self::open(upper, work, options)
    }

    /// Opens the scratch in the directories `upper` and `work`, and removes what an earlier crash left in `work`.
    ///
    /// # Errors
    /// - `NotFound`, `NotADirectory`: one of the directories.
    /// - `CrossDevice`: they are on different file systems. `InvalidInput`: one is inside the other.
    /// - `Unsupported`: the file system lacks something.
    /// - `Busy`: another container, or a mount of the kernel's overlayfs, has it.
    /// - `Corrupt`: it was volatile and not closed; or a name of the layout is taken by something else.
    pub fn open(upper: impl AsRef<Path>, work: impl AsRef<Path>, options: &ScratchOptions) -> Result<Self> {
        let upper = Part::open(upper.as_ref())?;
        let base = Part::open(work.as_ref())?;
        suitable(&upper, &base)?;
        let locks = [
            owner::lock(&upper.fd, upper.attr.id, &upper.label)?,
            owner::lock(&base.fd, base.attr.id, &base.label)?,
        ];
        owner::not_mounted([upper.attr.id, base.attr.id], &upper.label)?;

        let label: Arc<str> = upper.label.as_str().into();
        let staging = inner_dir(&base, STAGING)?;
        let work = Arc::new(
            Work::new(staging, Arc::new(Health::new(Arc::clone(&label))))
                .map_err(|e| failed(&base, STAGING, e))?,
        );
        refuse_volatile(&work, options)?;
        sweep(&work, work.fd(), |name| name != work::INCOMPAT).map_err(work.failed("remove leftovers"))?;
        let abilities = probe::abilities(&work)?;
        let index = options.index.then(|| open_index(&base, &work)).transpose()?;
        if options.volatile {
            work.mark_incompat(work::VOLATILE, b"dirty", Kind::File).map_err(work.failed("mark volatile"))?;
        }

        let namespace = options.namespace.unwrap_or(match abilities.trusted {
            true => Namespace::Trusted,
            false => Namespace::User,
        });
        let stash = match options.ownership {
            Ownership::Auto => !abilities.chown,
            Ownership::Apply => false,
            Ownership::Stash => true,
        };
        let reading = LayerOptions {
            formats: Formats::default(),
            namespace,
            stashed_ownership: stash,
            resolver: options.resolver,
            fd_limit: options.fd_limit,
        };
        let root = sys::open::list(upper.fd.as_fd()).map_err(|e| failed(&upper, b".", e))?;
        let tree = Tree::of(root, label, reading, true).map_err(|e| failed(&upper, b".", e))?;
        Ok(Self {
            tree,
            work,
            features: Features {
                redirect: options.redirect,
                metacopy: options.metacopy.unwrap_or(namespace == Namespace::Trusted),
                index: index.is_some(),
            },
            index,
            stash,
            nameless: abilities.nameless,
            volatile: options.volatile,
            _locks: locks,
        })
    }
}

fn failed(part: &Part, name: &[u8], e: Errno) -> Error {
    Error::io(e.into(), "open scratch").about(name).in_layer(&part.label)
}

/// Checks what the two directories are to each other, and their file system.
fn suitable(upper: &Part, base: &Part) -> Result<()> {
    let refuse = |kind, why: &str| {
        Err(Error::new(kind, "open scratch").about(&base.label).in_layer(&upper.label).because(why))
    };
    if upper.attr.id.dev != base.attr.id.dev {
        return refuse(ErrorKind::CrossDevice, "upper and work must be on the same file system");
    }
    if contains(upper, base)? || contains(base, upper)? {
        return refuse(ErrorKind::InvalidInput, "upper and work must not be inside each other");
    }
    probe::file_system(upper.fd.as_fd(), &upper.label)
}

/// Whether `inner` is `outer` or somewhere below it.
fn contains(outer: &Part, inner: &Part) -> Result<bool> {
    let mut id = inner.attr.id;
    let mut at: Option<OwnedFd> = None;
    while id != outer.attr.id {
        let from = at.as_ref().map_or(inner.fd.as_fd(), AsFd::as_fd);
        let (up, above) = parent(from).map_err(|e| failed(inner, b"..", e))?;
        if above == id {
            return Ok(false);
        }
        id = above;
        at = Some(up);
    }
    Ok(true)
}

fn parent(dir: BorrowedFd<'_>) -> Sys<(OwnedFd, FileId)> {
    let up = sys::open::step(dir, b"..")?;
    let id = sys::stat::attr(Obj::Dir(up.as_fd()))?.id;
    Ok((up, id))
}

/// A directory of the layout, made where it is missing.
fn inner_dir(base: &Part, name: &[u8]) -> Result<OwnedFd> {
    let fail = |e: Errno| match e {
        Errno::NOTDIR | Errno::LOOP => Error::new(ErrorKind::Corrupt, "open scratch")
            .about(name)
            .in_layer(&base.label)
            .because("there must be a directory of this name, and there is something else"),
        other => failed(base, name, other),
    };
    let dir = base.fd.as_fd();
    match sys::open::subdirectory(dir, name) {
        Err(Errno::NOENT) => {
            sys::name::mkdir(dir, name).map_err(fail)?;
            sys::open::subdirectory(dir, name).map_err(fail)
        }
        // The kernel makes them with no permissions at all, which is no way in for an owner without privilege.
        Err(Errno::ACCESS) => {
            sys::meta::chmod(Obj::At(dir, name), 0o700).map_err(fail)?;
            sys::open::subdirectory(dir, name).map_err(fail)
        }
        done => done.map_err(fail),
    }
}

fn refuse_volatile(work: &Work, options: &ScratchOptions) -> Result<()> {
    if !work.has_incompat(work::VOLATILE).map_err(work.failed("look for marks"))? {
        return Ok(());
    }
    if options.accept_volatile {
        return work.clear_incompat(work::VOLATILE).map_err(work.failed("take a mark away"));
    }
    Err(Error::new(ErrorKind::Corrupt, "open scratch").in_layer(&work.health.label).because(
        "it was used without syncs (volatile) and not closed; files may be empty or torn after a crash. \
         Discard it, or accept that with the option accept_volatile",
    ))
}

/// The hard-link index, without what the kernel or we left in it unfinished.
fn open_index(base: &Part, work: &Work) -> Result<Arc<DirNode>> {
    let fail = |e| failed(base, INDEX, e);
    let fd = inner_dir(base, INDEX)?;
    sweep(work, fd.as_fd(), |name| name.starts_with(b"#")).map_err(fail)?;
    let id = sys::stat::attr(Obj::Open(fd.as_fd())).map_err(fail)?.id;
    Ok(DirNode::fixed(fd, id))
}

/// Removes what `leftover` chooses.
fn sweep(work: &Work, dir: BorrowedFd<'_>, leftover: impl Fn(&[u8]) -> bool) -> Sys<()> {
    for name in work::names(dir)?.iter().filter(|name| leftover(name)) {
        work::remove_tree(work, dir, name)?;
    }
    Ok(())
}
