//! Views as subjects: operations through the engine's interface by inode and handle.

use crate::dump::{Content, Dump, Object, Stamp, listing, stat_line};
use crate::op::{Blocks, Mode, Op, Outcome, RenameHow, SLOTS, Value};
use crate::path::Path;
use crate::subject::Subject;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use stratafs_core::{
    Access, Allocate, Caller, Error, ErrorKind, Handle, Inode, Kind, Layer, Name, New, RenameFlags, Result,
    Scratch, SetAttr, SetTime, View,
};

const ACCESS: Access = Access { read: false, write: false, append: false, truncate: false };

/// The directory at `parts`.
///
/// # Errors
/// `ENOENT` and `ENOTDIR`, and what the view says.
pub fn walk<L: Layer, S: Scratch>(view: &View<L, S>, parts: &[Vec<u8>]) -> Result<Inode<L, S>> {
    let mut dir = view.root();
    for part in parts {
        dir = child(view, &dir, part)?;
        if dir.kind() != Kind::Dir {
            return Err(Error::new(ErrorKind::NotADirectory, "walk").about(part));
        }
    }
    Ok(dir)
}

fn child<L: Layer, S: Scratch>(view: &View<L, S>, dir: &Inode<L, S>, name: &[u8]) -> Result<Inode<L, S>> {
    let found = view.lookup(dir, Name::new(name)?)?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, "look up").about(name))
}

/// The object at `path`, no symbolic link followed.
///
/// # Errors
/// `ENOENT` and `ENOTDIR`, and what the view says.
pub fn find<L: Layer, S: Scratch>(view: &View<L, S>, path: &Path) -> Result<Inode<L, S>> {
    match path.split() {
        None => Ok(view.root()),
        Some((dir, name)) => child(view, &walk(view, dir)?, name),
    }
}

/// Reads up to `len` bytes at `offset`.
///
/// # Errors
/// What the handle says.
pub fn read<L: Layer, S: Scratch>(handle: &Handle<L, S>, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; len];
    let mut done = 0;
    while done < len {
        match handle.read_at(&mut out[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    out.truncate(done);
    Ok(out)
}

/// Writes all of `data` at `offset`.
///
/// # Errors
/// What the handle says.
pub fn write<L: Layer, S: Scratch>(handle: &Handle<L, S>, mut offset: u64, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let n = handle.write_at(data, offset)?;
        data = &data[n..];
        offset += n as u64;
    }
    Ok(())
}

/// All bytes of a file.
///
/// # Errors
/// What the view says.
pub fn contents<L: Layer, S: Scratch>(view: &View<L, S>, node: &Inode<L, S>) -> Result<Vec<u8>> {
    let handle = view.open(node, Access { read: true, ..ACCESS }, &Caller::root())?;
    let size = usize::try_from(handle.size()?).unwrap_or(usize::MAX);
    read(&handle, 0, size)
}

/// Names, kinds and inode numbers of a directory, in the view's order.
///
/// # Errors
/// What the view says.
pub fn entries<L: Layer, S: Scratch>(
    view: &View<L, S>,
    dir: &Inode<L, S>,
) -> Result<Vec<(Vec<u8>, Kind, u64)>> {
    let mut out = Vec::new();
    view.open_dir(dir, &Caller::root())?.read(0, &mut |entry| {
        out.push((entry.name.as_bytes().to_vec(), entry.kind, entry.ino));
        ControlFlow::Continue(())
    })?;
    Ok(out)
}

/// One object as dumps show it.
///
/// # Errors
/// What the view says; `Corrupt` when the inode's number and its attributes' disagree.
pub fn object<L: Layer, S: Scratch>(view: &View<L, S>, node: &Inode<L, S>) -> Result<Object> {
    let attr = view.attr(node)?;
    if attr.id.ino != node.ino() {
        let why = format!("attributes say inode {}, the inode {}", attr.id.ino, node.ino());
        return Err(Error::new(ErrorKind::Corrupt, "dump").because(why));
    }
    let mut xattrs = BTreeMap::new();
    for name in view.xattrs(node)? {
        let value = view.xattr(node, &name)?;
        xattrs.insert(name, value.ok_or_else(|| Error::new(ErrorKind::NoData, "dump"))?);
    }
    Ok(Object {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        nlink: attr.nlink,
        mtime: Stamp::from(attr.mtime),
        id: (attr.id.dev, attr.id.ino),
        xattrs,
        content: match attr.kind {
            Kind::File => {
                let bytes = contents(view, node)?;
                if bytes.len() as u64 != attr.size {
                    let why = format!("size {} but {} bytes", attr.size, bytes.len());
                    return Err(Error::new(ErrorKind::Corrupt, "dump").because(why));
                }
                Content::file(&bytes)
            }
            Kind::Symlink => Content::Target(view.read_link(node)?),
            _ => Content::None,
        },
    })
}

/// The tree of a view as text.
///
/// # Errors
/// What the view says; `Corrupt` when a listing and what it lists disagree.
pub fn dump<L: Layer, S: Scratch>(view: &View<L, S>) -> Result<Dump> {
    let mut objects = Vec::new();
    let mut dirs = vec![(Path::root(), view.root())];
    while let Some((path, dir)) = dirs.pop() {
        for (name, kind, ino) in entries(view, &dir)? {
            let path = path.join(&name);
            let node = child(view, &dir, &name).map_err(|e| e.about(path.bytes()))?;
            if (node.kind(), node.ino()) != (kind, ino) {
                let why = format!("listed as {kind:?} {ino}, found as {:?} {}", node.kind(), node.ino());
                return Err(Error::new(ErrorKind::Corrupt, "dump").about(path.bytes()).because(why));
            }
            let object = object(view, &node).map_err(|e| e.about(path.bytes()))?;
            objects.push((path.clone(), object));
            if kind == Kind::Dir {
                dirs.push((path, node));
            }
        }
    }
    Ok(Dump::new(objects))
}

/// A view that operations are applied to, by a privileged caller with umask 0.
pub struct ViewSubject<L: Layer, S: Scratch> {
    view: Option<View<L, S>>,
    open: Box<dyn FnMut() -> View<L, S>>,
    slots: [Option<Handle<L, S>>; SLOTS],
    caller: Caller,
}

impl<L: Layer, S: Scratch> fmt::Debug for ViewSubject<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewSubject").finish_non_exhaustive()
    }
}

impl<L: Layer, S: Scratch> ViewSubject<L, S> {
    /// A subject that `open` opens, and opens again after everything of the view before was dropped.
    pub fn new(mut open: impl FnMut() -> View<L, S> + 'static) -> Self {
        let view = Some(open());
        Self { view, open: Box::new(open), slots: Default::default(), caller: Caller::root() }
    }

    /// The view.
    ///
    /// # Panics
    /// After [`ViewSubject::close`].
    #[must_use]
    pub fn view(&self) -> &View<L, S> {
        self.view.as_ref().expect("the view is open")
    }

    /// Drops the handles and the view; only reopening is of use afterwards.
    pub fn close(&mut self) {
        self.slots = Default::default();
        self.view = None;
    }

    /// Closes and opens again.
    pub fn reopen(&mut self) {
        self.close();
        self.view = Some((self.open)());
    }

    fn place<'p>(&self, path: &'p Path) -> Result<(Inode<L, S>, Name<'p>)> {
        let (dir, name) = path.split().ok_or_else(|| Error::new(ErrorKind::Busy, "root"))?;
        Ok((walk(self.view(), dir)?, Name::new(name)?))
    }

    fn find(&self, path: &Path) -> Result<Inode<L, S>> {
        find(self.view(), path)
    }

    fn file(&self, path: &Path) -> Result<Inode<L, S>> {
        let node = self.find(path)?;
        let wrong = match node.kind() {
            Kind::File => return Ok(node),
            Kind::Dir => ErrorKind::IsADirectory,
            Kind::Symlink => ErrorKind::Loop,
            _ => ErrorKind::NoSuchRange,
        };
        Err(Error::new(wrong, "open"))
    }

    fn open_at(&self, path: &Path, access: Access) -> Result<Handle<L, S>> {
        self.view().open(&self.file(path)?, access, &self.caller)
    }

    fn slot(&self, slot: usize) -> Result<&Handle<L, S>> {
        self.slots[slot].as_ref().ok_or_else(|| Error::new(ErrorKind::BadHandle, "slot"))
    }

    fn make(&self, path: &Path, new: &New<'_>) -> Result<()> {
        let (dir, name) = self.place(path)?;
        let made = self.view().make(&dir, name, new, &self.caller)?;
        assert_eq!(made.kind(), new.kind, "the made object is of the kind that was asked for");
        Ok(())
    }

    fn set(&self, path: &Path, set: &SetAttr) -> Result<()> {
        self.view().set_attr(&self.find(path)?, set, &self.caller)
    }

    fn rename(&self, from: &Path, to: &Path, how: RenameHow) -> Result<()> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let flags = match how {
            RenameHow::Plain => RenameFlags::empty(),
            RenameHow::NoReplace => RenameFlags::NO_REPLACE,
            RenameHow::Exchange => RenameFlags::EXCHANGE,
        };
        self.view().rename(&from_dir, from_name, &to_dir, to_name, flags, &self.caller)
    }

    fn open_slot(&mut self, slot: usize, path: &Path, mode: Mode) -> Result<()> {
        self.slots[slot] = None;
        let truncate = mode == Mode::Replace;
        let access = Access { read: mode.reads(), write: mode.writes(), truncate, append: false };
        self.slots[slot] = Some(self.open_at(path, access)?);
        Ok(())
    }

    fn copy(&self, (from, from_offset): (usize, u64), (to, offset): (usize, u64), len: u64) -> Result<u64> {
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        // Within one file, what the copy itself appends is not copied again.
        let len = len.min(from.size()?.saturating_sub(from_offset).max(1));
        let mut done = 0;
        while done < len {
            match to.copy_range(from, from_offset + done, offset + done, len - done)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn run(&mut self, op: &Op) -> Result<Value> {
        let write_only = Access { write: true, ..ACCESS };
        match op {
            Op::Create { path, mode } => self.make(path, &New::file(*mode))?,
            Op::Mkdir { path, mode } => self.make(path, &New::dir(*mode))?,
            Op::Symlink { path, target } => self.make(path, &New::symlink(target))?,
            Op::Mknod { path, kind, mode, rdev } => self.make(path, &New::node(*kind, *mode, *rdev))?,
            Op::Link { from, to } => {
                let node = self.find(from)?;
                let (dir, name) = self.place(to)?;
                self.view().link(&node, &dir, name, &self.caller)?;
            }
            Op::Unlink { path } => {
                let (dir, name) = self.place(path)?;
                self.view().unlink(&dir, name, &self.caller)?;
            }
            Op::Rmdir { path } => {
                let (dir, name) = self.place(path)?;
                self.view().rmdir(&dir, name, &self.caller)?;
            }
            Op::Rename { from, to, how } => self.rename(from, to, *how)?,
            Op::Write { path, offset, len, fill } => {
                write(&self.open_at(path, write_only)?, *offset, &vec![*fill; *len])?;
                return Ok(Value::Count(*len as u64));
            }
            Op::Append { path, len, fill } => {
                let handle = self.open_at(path, Access { append: true, ..write_only })?;
                return append(&handle, *len, *fill);
            }
            Op::Truncate { path, len } => self.view().truncate(&self.file(path)?, *len, &self.caller)?,
            Op::Read { path, offset, len } => {
                let handle = self.open_at(path, Access { read: true, ..ACCESS })?;
                return read(&handle, *offset, *len).map(Value::Bytes);
            }
            Op::ReadLink { path } => return self.view().read_link(&self.find(path)?).map(Value::Bytes),
            Op::ReadDir { path } => {
                let entries = entries(self.view(), &walk(self.view(), &path.0)?)?;
                return Ok(Value::Text(listing(entries.into_iter().map(|(n, k, _)| (n, k)).collect())));
            }
            Op::Stat { path } => {
                return Ok(Value::Text(stat_line(path, object(self.view(), &self.find(path)?)?)));
            }
            Op::Chmod { path, mode } => {
                self.set(path, &SetAttr { mode: Some(*mode), ..SetAttr::default() })?
            }
            Op::Chown { path, uid, gid } => {
                self.set(path, &SetAttr { uid: *uid, gid: *gid, ..SetAttr::default() })?;
            }
            Op::Utimens { path, atime, mtime } => {
                let (atime, mtime) = (Some(SetTime::At(*atime)), Some(SetTime::At(*mtime)));
                self.set(path, &SetAttr { atime, mtime, ..SetAttr::default() })?;
            }
            Op::SetXattr { path, name, value, how } => {
                self.view().set_xattr(&self.find(path)?, name, value, *how, &self.caller)?;
            }
            Op::RemoveXattr { path, name } => {
                self.view().remove_xattr(&self.find(path)?, name, &self.caller)?;
            }
            Op::GetXattr { path, name } => {
                let value = self.view().xattr(&self.find(path)?, name)?;
                return value.map(Value::Bytes).ok_or_else(|| Error::new(ErrorKind::NoData, "xattr"));
            }
            Op::Open { slot, path, mode } => self.open_slot(*slot, path, *mode)?,
            Op::HandleRead { slot, offset, len } => {
                return read(self.slot(*slot)?, *offset, *len).map(Value::Bytes);
            }
            Op::HandleWrite { slot, offset, len, fill } => {
                write(self.slot(*slot)?, *offset, &vec![*fill; *len])?;
                return Ok(Value::Count(*len as u64));
            }
            Op::HandleAppend { slot, len, fill } => return append(self.slot(*slot)?, *len, *fill),
            Op::HandleTruncate { slot, len } => self.slot(*slot)?.set_len(*len)?,
            Op::HandleAllocate { slot, how, offset, len } => {
                let how = match how {
                    Blocks::Reserve => Allocate::Reserve,
                    Blocks::ReserveKeepSize => Allocate::ReserveKeepSize,
                    Blocks::Punch => Allocate::PunchHole,
                };
                self.slot(*slot)?.allocate(how, *offset, *len)?;
            }
            Op::HandleCopy { from, from_offset, to, offset, len } => {
                return self.copy((*from, *from_offset), (*to, *offset), *len).map(Value::Count);
            }
            Op::HandleSize { slot } => return self.slot(*slot)?.size().map(Value::Count),
            Op::Close { slot } => {
                self.slot(*slot)?;
                self.slots[*slot] = None;
            }
            Op::Reopen => self.reopen(),
        }
        Ok(Value::Done)
    }
}

fn append<L: Layer, S: Scratch>(handle: &Handle<L, S>, len: usize, fill: u8) -> Result<Value> {
    let mut data = &vec![fill; len][..];
    while !data.is_empty() {
        let (_, n) = handle.append(data)?;
        data = &data[n..];
    }
    Ok(Value::Count(len as u64))
}

impl<L: Layer, S: Scratch> Subject for ViewSubject<L, S> {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.run(op).map_err(|e| e.errno())
    }

    /// # Panics
    /// When the view cannot be read.
    fn dump(&self) -> Dump {
        dump(self.view()).expect("dump the view")
    }
}
