//! Entries of an archive from the objects of a view. Invariant: content passes in pieces; what changes while it is read is
//! an error, never a mixture.

use super::plan::{Item, Plan, Steps, path_of};
use super::{OPERATION, Packed};
use crate::apply::{Rules, go_on};
use crate::tar::{Entry, EntryKind, Writer};
use crate::whiteout::{Meaning, OPAQUE, meaning, whiteout_name};
use crate::{Error, ErrorKind, Hasher, Progress, Result};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use stratafs_core::{Access, Attr, Caller, Handle, Inode, Kind, Layer, Name, NameBuf, Scratch, View};

/// What progress calls the work.
const WHAT: &str = "archive";

/// The error for what a view showed a moment ago.
pub(super) fn changed(path: &[u8]) -> Error {
    Error::new(ErrorKind::Busy, OPERATION)
        .about(path)
        .because("it changed meanwhile: stop what runs in the container, or pack a snapshot")
}

pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        [] => name.to_vec(),
        _ => [path, b"/", name].concat(),
    }
}

/// Names and kinds in a directory, by name.
pub(super) fn children<L: Layer, S: Scratch>(
    view: &View<L, S>,
    dir: &Inode<L, S>,
) -> Result<Vec<(NameBuf, Kind)>> {
    let mut names = Vec::new();
    view.open_dir(dir, &Caller::root())?.read(0, &mut |entry| {
        names.push((entry.name.to_buf(), entry.kind));
        ControlFlow::Continue(())
    })?;
    names.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(names)
}

/// Writes an archive.
pub(super) struct Emit<'a, L: Layer, S: Scratch, W: Write> {
    view: &'a View<L, S>,
    writer: Writer<Hasher<W>>,
    progress: &'a dyn Progress,
    /// The first name of every object with several.
    first: HashMap<u64, (Inode<L, S>, Vec<u8>)>,
    entries: u64,
    sockets: u64,
}

impl<'a, L: Layer, S: Scratch, W: Write> Emit<'a, L, S, W> {
    pub(super) fn new(view: &'a View<L, S>, out: W, progress: &'a dyn Progress) -> Self {
        progress.begin(WHAT, None);
        let writer = Writer::new(Hasher::new(out));
        Self { view, writer, progress, first: HashMap::new(), entries: 0, sockets: 0 }
    }

    pub(super) fn finish(self) -> Result<Packed> {
        let (digest, bytes, mut out) = self.writer.finish()?.finish();
        out.flush().map_err(|e| Error::io(e, OPERATION))?;
        if self.sockets > 0 {
            tracing::warn!(sockets = self.sockets, "sockets were left out: an archive has none");
        }
        self.progress.finish(WHAT, None);
        Ok(Packed { digest, bytes, entries: self.entries, sockets: self.sockets })
    }

    /// The entries of a plan.
    pub(super) fn planned(&mut self, plan: &Plan) -> Result<()> {
        let mut steps = Steps::new(self.view);
        for (key, item) in plan {
            let path = path_of(key);
            match item {
                Item::Whiteout => self.whiteout(&path)?,
                Item::Socket => {
                    self.sockets += 1;
                    self.whiteout(&path)?;
                }
                Item::Object { opaque } => {
                    let inode = steps.to(&path)?;
                    self.object(&path, &inode)?;
                    if *opaque {
                        self.mark(join(&path, OPAQUE))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The whole tree.
    pub(super) fn tree(&mut self) -> Result<()> {
        let root = self.view.root();
        self.object(b"", &root)?;
        let listed = |dir: &Inode<L, S>| children(self.view, dir).map(Vec::into_iter);
        let mut dirs = vec![(Vec::new(), root.clone(), listed(&root)?)];
        while let Some((path, dir, rest)) = dirs.last_mut() {
            let Some((name, _)) = rest.next() else {
                dirs.pop();
                continue;
            };
            let path = join(path, name.as_bytes());
            let inode = self.view.lookup(dir, name.as_name())?.ok_or_else(|| changed(&path))?;
            let inner = if inode.is_dir() { Some(listed(&inode)?) } else { None };
            self.object(&path, &inode)?;
            dirs.extend(inner.map(|inner| (path, inode, inner)));
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
            None => (&[][..], path),
        };
        self.mark(join(dir, &whiteout_name(Name::new(name)?)?))
    }

    /// An empty file that means something by its name.
    fn mark(&mut self, path: Vec<u8>) -> Result<()> {
        self.append(&Entry::new(path, EntryKind::File), &mut io::empty())
    }

    fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.writer.append(entry, content)?;
        self.entries += 1;
        Ok(())
    }

    fn object(&mut self, path: &[u8], inode: &Inode<L, S>) -> Result<()> {
        go_on(self.progress)?;
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if !matches!(meaning(name), Ok(Meaning::Plain)) {
            return Err(Error::new(ErrorKind::Unsupported, OPERATION)
                .about(path)
                .because("in an archive a name that begins with .wh. means a deletion: rename the object"));
        }
        self.present(path, inode).map_err(|e| e.asked(OPERATION, path))
    }

    fn present(&mut self, path: &[u8], inode: &Inode<L, S>) -> Result<()> {
        let attr = self.view.attr(inode)?;
        let kind = match attr.kind {
            Kind::File => EntryKind::File,
            Kind::Dir => EntryKind::Dir,
            Kind::Symlink => EntryKind::Symlink(self.view.read_link(inode)?),
            Kind::Char => EntryKind::Char(attr.rdev),
            Kind::Block => EntryKind::Block(attr.rdev),
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => {
                self.sockets += 1;
                return Ok(());
            }
        };
        let shown: &[u8] = if path.is_empty() { b"." } else { path };
        if attr.kind != Kind::Dir && attr.nlink > 1 {
            match self.first.get(&inode.ino()) {
                Some((known, first)) if known == inode => {
                    let link = Entry::new(shown, EntryKind::Hardlink(first.clone()));
                    let link = Entry { xattrs: Vec::new(), ..dressed(link, &attr) };
                    return self.append(&link, &mut io::empty());
                }
                Some(_) => {}
                None => {
                    self.first.insert(inode.ino(), (inode.clone(), path.to_vec()));
                }
            }
        }
        let mut entry = dressed(Entry::new(shown, kind), &attr);
        entry.xattrs = self.xattrs(inode)?;
        if attr.kind != Kind::File {
            return self.append(&entry, &mut io::empty());
        }
        entry.size = attr.size;
        let handle = self.view.open(inode, Access::read(), &Caller::root())?;
        let mut content = Content { handle, offset: 0, progress: self.progress };
        self.append(&entry, &mut content).map_err(|e| match e.kind() {
            ErrorKind::Busy => changed(path),
            _ => e,
        })
    }

    /// What the object has, without anybody's bookkeeping, by name.
    fn xattrs(&self, inode: &Inode<L, S>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let rules = Rules { escaped: 0, stashed: false };
        let mut names = self.view.xattrs(inode)?;
        names.retain(|name| rules.keeps(name, inode.kind()));
        names.sort();
        let mut xattrs = Vec::with_capacity(names.len());
        for name in names {
            if let Some(value) = self.view.xattr(inode, &name)? {
                xattrs.push((name, value));
            }
        }
        Ok(xattrs)
    }
}

fn dressed(entry: Entry, attr: &Attr) -> Entry {
    Entry { mode: attr.mode, uid: attr.uid, gid: attr.gid, mtime: attr.mtime, ..entry }
}

/// A file's bytes, one after the other.
struct Content<'a, L: Layer, S: Scratch> {
    handle: Handle<L, S>,
    offset: u64,
    progress: &'a dyn Progress,
}

impl<L: Layer, S: Scratch> Read for Content<'_, L, S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        go_on(self.progress).map_err(io::Error::other)?;
        let n = self.handle.read_at(buf, self.offset).map_err(io::Error::other)?;
        self.offset += n as u64;
        self.progress.advance(WHAT, n as u64);
        Ok(n)
    }
}
