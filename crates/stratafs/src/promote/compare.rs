//! What is in the target against what the container started from. Invariant: an object is looked at before its
//! content and what is in it are compared, so what changes in between is seen either here or by who acts on it.
//!
//! Where the target is a layer of the container both are one object and comparing says nothing: then it must not
//! have changed (`ctime`) since the container took its copy, or where it took none, since it was made.

use super::confined::{Confined, Seen, stat};
use super::host::{self, Xattrs};
use super::path;
use super::{Conflict, failed};
use crate::container::Engine;
use crate::{Error, ErrorKind, Inode, Namespace, Result};
use rustix::fd::AsFd;
use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno, retry_on_intr};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use stratafs_core::{Access, Attr, Caller, Kind, Layer, Name, Time};

/// Bytes compared at a time.
const CHUNK: usize = 128 << 10;
/// The bits of an inode number that a view leaves as they are.
const INO_MASK: u64 = (1 << 48) - 1;

/// Compares, and collects what is in the way.
pub(super) struct Compare<'a> {
    pub base: &'a Engine,
    pub root: &'a Confined,
    pub namespace: Namespace,
    /// When the container was made.
    pub since: Option<Time>,
    /// The target is a layer of the container.
    pub in_place: bool,
    pub conflicts: Vec<Conflict>,
}

/// What of an object has to be the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// That it is a directory.
    Kind,
    /// The object itself.
    Object,
    /// And of a directory all that is in it; what is missing there is no conflict.
    Below,
    /// And nothing is missing.
    Whole,
}

/// The object at a path of a view, no link followed.
pub(super) fn find(view: &Engine, path: &[u8]) -> Result<Option<Inode>> {
    let mut at = view.root();
    for name in path::names(path) {
        if !at.is_dir() {
            return Ok(None);
        }
        match view.lookup(&at, Name::new(name)?)? {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// True when one of the layers is the target directory itself.
pub(super) fn is_layer(view: &Engine, root: &Seen) -> Result<bool> {
    for layer in view.layers() {
        let attr = layer.root()?.attr;
        if (attr.id.dev, attr.id.ino) == (root.dev, root.ino) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The extended attributes of an object of a view, by the names they are stored under.
pub(super) fn view_xattrs(view: &Engine, inode: &Inode, namespace: Namespace) -> Result<Xattrs> {
    let mut out = Xattrs::new();
    for name in view.xattrs(inode)? {
        if let Some(value) = view.xattr(inode, &name)? {
            out.insert(namespace.escape(&name), value);
        }
    }
    Ok(out)
}

impl Compare<'_> {
    /// Notes what is in the way.
    pub fn conflict(
        &mut self,
        path: &[u8],
        expected: impl Into<String>,
        found: impl Into<String>,
        forceable: bool,
    ) {
        let conflict =
            Conflict { path: path.to_vec(), expected: expected.into(), found: found.into(), forceable };
        if !self.conflicts.contains(&conflict) {
            self.conflicts.push(conflict);
        }
    }

    /// What is at a path of the target. A parent that is missing or no directory, and what is on another mount, is a
    /// conflict that nothing overrides: then, and where nothing is, `None`.
    pub fn look(&mut self, at: &[u8]) -> Result<Option<Seen>> {
        match self.root.stat(at) {
            Ok(Some(seen)) if self.root.is_elsewhere(&seen) => {
                self.conflict(at, "the target's own file system", "a mount point", false);
                Ok(None)
            }
            Ok(seen) => Ok(seen),
            Err(e) => {
                let parent = path::split(at).0;
                let found = match e {
                    Errno::NOENT => "missing",
                    Errno::NOTDIR | Errno::LOOP => "not a directory, or reached through a symbolic link",
                    Errno::XDEV => "on another file system, or a mount point",
                    e => return Err(failed("look at", at)(e)),
                };
                self.conflict(parent, "a directory of the target's own file system", found, false);
                Ok(None)
            }
        }
    }

    /// Compares what is at `at` with what the container started from there. `copy` is what the container has of
    /// it; what `skip` says is compared by itself. `None` where nothing is.
    pub fn check(
        &mut self,
        at: &[u8],
        copy: Option<(&Engine, &Inode)>,
        extent: Extent,
        skip: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<Seen>> {
        let before = self.conflicts.len();
        let Some(seen) = self.look(at)? else {
            if self.conflicts.len() == before && extent != Extent::Below {
                self.conflict(at, "what the container started from", "nothing", extent == Extent::Object);
            }
            return Ok(None);
        };
        let Some(base) = find(self.base, at)? else {
            return Err(Error::new(ErrorKind::InvalidInput, "promote")
                .about(at)
                .because("the base has nothing there: it is not what the container started from"));
        };
        if extent == Extent::Kind {
            if seen.kind != base.kind() {
                self.conflict(at, kind_text(base.kind()), kind_text(seen.kind), false);
            }
            return Ok(Some(seen));
        }
        let limit = match copy {
            Some((view, copy)) if copy.is_upper() => {
                let attr = view.attr(copy)?;
                (attr.id.ino & INO_MASK == base.ino() & INO_MASK).then_some(attr.btime).flatten()
            }
            _ => None,
        };
        self.object(at, &base, &seen, limit)?;
        if seen.kind == Kind::Dir && base.is_dir() && extent != Extent::Object {
            self.below(at, &base, extent, skip)?;
        }
        Ok(Some(seen))
    }

    /// Compares one object; `limit` is when the container took its copy.
    fn object(&mut self, at: &[u8], base: &Inode, seen: &Seen, limit: Option<Time>) -> Result<()> {
        if self.in_place && base.ino() & INO_MASK == seen.ino & INO_MASK {
            let limit = limit.or(self.since).ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "promote").about(at).because(
                    "the target is a layer of the container: say when the container was made, to tell what changed since",
                )
            })?;
            if seen.ctime > limit {
                let found = format!("changed at {}", time_text(seen.ctime));
                self.conflict(at, format!("unchanged since {}", time_text(limit)), found, true);
                return Ok(());
            }
        }
        let attr = self.base.attr(base)?;
        let (mut expected, mut found) = differences(&attr, seen);
        if expected.is_empty() {
            self.insides(at, base, &attr, seen, &mut expected, &mut found)?;
        }
        if !expected.is_empty() {
            self.conflict(at, expected.join(", "), found.join(", "), true);
        }
        Ok(())
    }

    /// Compares what attributes do not tell.
    fn insides(
        &self,
        at: &[u8],
        base: &Inode,
        attr: &Attr,
        seen: &Seen,
        expected: &mut Vec<String>,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let mut differ = |what: &str, now: &str| {
            expected.push(what.to_owned());
            found.push(now.to_owned());
        };
        let (dir, name) = self.root.parent(at).map_err(failed("compare", at))?;
        let held = host::hold(dir.as_fd(), name).map_err(failed("compare", at))?;
        if stat(held.as_fd(), b"").map_err(failed("compare", at))?.map(|now| now.ino) != Some(seen.ino) {
            differ("what it was a moment ago", "another object");
            return Ok(());
        }
        let theirs = host::xattrs(held.as_fd(), self.namespace).map_err(failed("compare", at))?;
        let ours = view_xattrs(self.base, base, self.namespace)?;
        if ours != theirs {
            let names = ours.keys().chain(theirs.keys()).filter(|name| ours.get(*name) != theirs.get(*name));
            let names: BTreeSet<String> = names.map(|name| name.escape_ascii().to_string()).collect();
            let names: Vec<String> = names.into_iter().collect();
            differ("the extended attributes that it had", &format!("others: {}", names.join(" ")));
        }
        match seen.kind {
            Kind::Symlink => {
                let target = retry_on_intr(|| fs::readlinkat(dir.as_fd(), name, Vec::new()))
                    .map_err(failed("compare", at))?
                    .into_bytes();
                let was = self.base.read_link(base)?;
                if target != was {
                    differ(
                        &format!("a link to {}", was.escape_ascii()),
                        &format!("to {}", target.escape_ascii()),
                    );
                }
            }
            Kind::File if attr.mtime != seen.mtime && !self.same_content(at, base, seen)? => {
                let now = format!("another, of {}", time_text(seen.mtime));
                differ(&format!("the content of {}", time_text(attr.mtime)), &now);
            }
            _ => {}
        }
        Ok(())
    }

    fn same_content(&self, at: &[u8], base: &Inode, seen: &Seen) -> Result<bool> {
        same_content(self.root, at, self.base, base, seen)
    }

    /// Compares everything below a directory.
    fn below(
        &mut self,
        top: &[u8],
        base: &Inode,
        extent: Extent,
        skip: &dyn Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let mut dirs = vec![(top.to_vec(), base.clone())];
        while let Some((at, base)) = dirs.pop() {
            let mut missing = BTreeSet::new();
            self.base.open_dir(&base, &Caller::root())?.read(0, &mut |entry| {
                missing.insert(entry.name.as_bytes().to_vec());
                ControlFlow::Continue(())
            })?;
            for name in self.root.list(&at).map_err(failed("compare", &at))? {
                let known = missing.remove(&name);
                let path = path::join(&at, &name);
                if skip(&path) {
                    continue;
                }
                let Some(seen) = self.look(&path)? else { continue };
                let was = if known { self.base.lookup(&base, Name::new(&name)?)? } else { None };
                match was {
                    Some(was) => {
                        self.object(&path, &was, &seen, None)?;
                        if was.is_dir() && seen.kind == Kind::Dir {
                            dirs.push((path, was));
                        }
                    }
                    None => self.conflict(&path, "nothing", kind_text(seen.kind), true),
                }
            }
            if extent == Extent::Whole {
                for path in missing.iter().map(|name| path::join(&at, name)).filter(|path| !skip(path)) {
                    self.conflict(&path, "what the container started from", "nothing", true);
                }
            }
        }
        Ok(())
    }
}

/// The ways in which attributes differ, as they should be and as they are. The time and size of a directory tell of
/// its names only.
fn differences(attr: &Attr, seen: &Seen) -> (Vec<String>, Vec<String>) {
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    if attr.kind != seen.kind {
        return (vec![kind_text(attr.kind).to_owned()], vec![kind_text(seen.kind).to_owned()]);
    }
    let mut differ = |same: bool, was: String, is: String| {
        if !same {
            expected.push(was);
            found.push(is);
        }
    };
    let mode = |mode: u32| format!("mode {mode:04o}");
    differ(attr.kind == Kind::Symlink || attr.mode == seen.mode, mode(attr.mode), mode(seen.mode));
    let owner = |uid: u32, gid: u32| format!("owner {uid}:{gid}");
    let same = (attr.uid, attr.gid) == (seen.uid, seen.gid);
    differ(same, owner(attr.uid, attr.gid), owner(seen.uid, seen.gid));
    let size = |size: u64| format!("{size} bytes");
    let sized = matches!(attr.kind, Kind::File | Kind::Symlink);
    differ(!sized || attr.size == seen.size, size(attr.size), size(seen.size));
    let is_device = matches!(attr.kind, Kind::Char | Kind::Block);
    let device = |d: stratafs_core::Device| format!("device {}:{}", d.major, d.minor);
    differ(!is_device || attr.rdev == seen.rdev, device(attr.rdev), device(seen.rdev));
    (expected, found)
}

/// True when an object of a view and one of the target are the same but for the time of their data.
pub(super) fn is_same(
    root: &Confined,
    at: &[u8],
    view: &Engine,
    inode: &Inode,
    seen: &Seen,
    namespace: Namespace,
) -> Result<bool> {
    let attr = view.attr(inode)?;
    if !differences(&attr, seen).0.is_empty() {
        return Ok(false);
    }
    let (dir, name) = root.parent(at).map_err(failed("compare", at))?;
    let held = host::hold(dir.as_fd(), name).map_err(failed("compare", at))?;
    let theirs = host::xattrs(held.as_fd(), namespace).map_err(failed("compare", at))?;
    if view_xattrs(view, inode, namespace)? != theirs {
        return Ok(false);
    }
    match seen.kind {
        Kind::File => same_content(root, at, view, inode, seen),
        Kind::Symlink => {
            let target = retry_on_intr(|| fs::readlinkat(dir.as_fd(), name, Vec::new()));
            Ok(target.map_err(failed("compare", at))?.into_bytes() == view.read_link(inode)?)
        }
        _ => Ok(true),
    }
}

fn same_content(root: &Confined, at: &[u8], view: &Engine, inode: &Inode, seen: &Seen) -> Result<bool> {
    let fail = failed("compare", at);
    let (dir, name) = root.parent(at).map_err(&fail)?;
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = retry_on_intr(|| fs::openat(&dir, name, how, Mode::empty())).map_err(&fail)?;
    if stat(file.as_fd(), b"").map_err(&fail)?.map(|now| now.ino) != Some(seen.ino) {
        return Ok(false);
    }
    let ours = view.open(inode, Access::read(), &Caller::root())?;
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0u64;
    loop {
        let n = ours.read_at(&mut left, offset)?;
        let mut m = 0;
        while m < n {
            let buffer = right.get_mut(m..n).unwrap_or_default();
            match retry_on_intr(|| io::pread(&file, &mut *buffer, offset + m as u64)).map_err(&fail)? {
                0 => break,
                more => m += more,
            }
        }
        if left.get(..n) != right.get(..m) {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
        offset += n as u64;
    }
}

pub(super) fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Dir => "a directory",
        Kind::Symlink => "a symbolic link",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "a socket",
        Kind::Char => "a character device",
        Kind::Block => "a block device",
    }
}

fn time_text(time: Time) -> String {
    format!("{}.{:09}", time.secs, time.nanos)
}
