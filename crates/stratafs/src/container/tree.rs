//! Compositions: what std has as one call and the engine does in several steps.

use super::{Container, asked, asked_two, from_io};
use crate::{Error, ErrorKind, Inode, Kind, NameBuf, OpenOptions, Result};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use stratafs_core::Follow;
use stratafs_core::view::SYMLINKS_MAX;

/// A directory that is being emptied, and its directories that are still to be.
struct Frame {
    dir: Inode,
    name: NameBuf,
    parent: Inode,
    pending: Vec<NameBuf>,
}

impl Container {
    /// Makes a directory and every one above it that is missing.
    ///
    /// # Errors
    /// As [`Container::create_dir`]; `NotADirectory` when something else is in the way.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|p| !p.as_os_str().is_empty())
            .take_while(|p| !self.metadata(p).is_ok_and(|m| m.is_dir()))
            .collect();
        for dir in missing.into_iter().rev() {
            match self.create_dir(dir) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists && self.metadata(dir)?.is_dir() => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    return Err(asked(dir, "create directory")(Error::new(
                        ErrorKind::NotADirectory,
                        "mkdir",
                    )));
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Removes a directory and everything in it; a link is removed and never followed. Takes memory by depth
    /// and not stack, and works by directory and name: nothing that is moved meanwhile leads it elsewhere.
    ///
    /// # Errors
    /// As [`Container::remove_file`] and [`Container::remove_dir`]; what was removed until then stays removed.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = asked(path, "remove tree");
        let entry = self.parent_of(path, "remove tree")?;
        let top = self.view.lookup(&entry.dir, entry.name.as_name()).map_err(&failed)?;
        let top = top.ok_or_else(|| failed(Error::new(ErrorKind::NotFound, "remove tree")))?;
        if top.kind() != Kind::Dir {
            if entry.must_be_dir {
                return Err(failed(Error::new(ErrorKind::NotADirectory, "remove tree")));
            }
            return self.view.unlink(&entry.dir, entry.name.as_name(), &self.caller).map_err(failed);
        }
        let mut stack = vec![self.enter(entry.dir, entry.name, top).map_err(&failed)?];
        while let Some(frame) = stack.last_mut() {
            if let Some(name) = frame.pending.pop() {
                let parent = frame.dir.clone();
                match self.view.lookup(&parent, name.as_name()).map_err(&failed)? {
                    Some(dir) if dir.kind() == Kind::Dir => {
                        stack.push(self.enter(parent, name, dir).map_err(&failed)?);
                    }
                    Some(_) => self.unlink_if_there(&parent, &name).map_err(&failed)?,
                    None => {}
                }
            } else if let Some(done) = stack.pop() {
                match self.view.rmdir(&done.parent, done.name.as_name(), &self.caller) {
                    Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes everything in `dir` but its directories, which it lists.
    fn enter(&self, parent: Inode, name: NameBuf, dir: Inode) -> Result<Frame> {
        let mut pending = Vec::new();
        let mut others = Vec::new();
        self.view.open_dir(&dir, &self.caller)?.read(0, &mut |entry| {
            let list = if entry.kind == Kind::Dir { &mut pending } else { &mut others };
            list.push(entry.name.to_buf());
            ControlFlow::Continue(())
        })?;
        for other in &others {
            self.unlink_if_there(&dir, other)?;
        }
        Ok(Frame { dir, name, parent, pending })
    }

    fn unlink_if_there(&self, dir: &Inode, name: &NameBuf) -> Result<()> {
        match self.view.unlink(dir, name.as_name(), &self.caller) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The whole content of a file.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let mut file = self.open(path)?;
        file.read_to_end(&mut bytes).map_err(|e| asked(path, "read")(from_io(e, "read")))?;
        Ok(bytes)
    }

    /// The whole content of a file that is UTF-8.
    ///
    /// # Errors
    /// As [`Container::open`]; `InvalidInput` for anything but UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        String::from_utf8(self.read(path)?).map_err(|_| {
            asked(path, "read")(
                Error::new(ErrorKind::InvalidInput, "read").because("the content is not UTF-8"),
            )
        })
    }

    /// Makes or replaces the content of a file.
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = path.as_ref();
        let mut file = self.create(path)?;
        file.write_all(content.as_ref()).map_err(|e| asked(path, "write")(from_io(e, "write")))
    }

    /// Copies a file's content, holes kept, and its permission bits to `to`, which is made or replaced. By
    /// the best way the host offers; gives the number of bytes.
    ///
    /// # Errors
    /// As [`Container::open`] and [`Container::create`].
    pub fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let failed = asked_two(from, to, "copy");
        let source = self.open(from)?;
        let mode = source.metadata()?.mode() & 0o777;
        let mut options = OpenOptions::new();
        let target = self.open_with(to, options.write(true).create(true).mode(mode))?;
        if target.metadata()?.ino() == source.metadata()?.ino() {
            return Err(failed(Error::new(ErrorKind::InvalidInput, "copy").because("both are one file")));
        }
        target.set_len(0).map_err(&failed)?;
        let len = source.metadata()?.len();
        let mut at = 0;
        while let Some(start) = source.seek_data(at).map_err(&failed)?.filter(|start| *start < len) {
            let end = source.seek_hole(start).map_err(&failed)?.unwrap_or(len).min(len);
            at = start;
            while at < end {
                match target.copy_range(&source, at, at, end - at).map_err(&failed)? {
                    0 => return Ok(at),
                    copied => at += copied,
                }
            }
        }
        target.set_len(len).map_err(&failed)?;
        target.set_permissions(mode).map_err(failed)?;
        Ok(len)
    }

    /// The absolute path without links, `.` and `..`.
    ///
    /// # Errors
    /// What resolution says: all of it must exist.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let failed = asked(path, "canonicalize");
        self.resolve(path, Follow::Yes, "canonicalize")?;
        let mut done = PathBuf::from("/");
        let start = if path.is_absolute() { PathBuf::new() } else { self.path_of(self.base.clone())? };
        let mut rest: Vec<_> =
            start.join(path).components().rev().map(|c| c.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => done = PathBuf::from("/"),
                Some(Component::ParentDir) => {
                    done.pop();
                }
                Some(Component::Normal(name)) => {
                    done.push(name);
                    let node = self.resolve(&done, Follow::No, "canonicalize")?;
                    if node.kind() == Kind::Symlink {
                        links += 1;
                        if links > SYMLINKS_MAX {
                            return Err(failed(Error::new(ErrorKind::Loop, "canonicalize")));
                        }
                        let target = self.view.read_link(&node).map_err(&failed)?;
                        done.pop();
                        let target = Path::new(OsStr::from_bytes(&target));
                        rest.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
                    }
                }
                _ => {}
            }
        }
        Ok(done)
    }

    /// The path of a directory: its names, found by number in each parent.
    fn path_of(&self, mut dir: Inode) -> Result<PathBuf> {
        let root = self.view.root();
        let mut names = Vec::new();
        while dir != root {
            let parent = self.view.parent(&dir)?;
            let mut found = None;
            self.view.open_dir(&parent, &self.caller)?.read(0, &mut |entry| {
                if entry.ino == dir.ino() {
                    found = Some(entry.name.to_buf());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            names.push(found.ok_or_else(|| Error::new(ErrorKind::NotFound, "path of a directory"))?);
            dir = parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(names.iter().rev().map(|name| OsStr::from_bytes(name.as_bytes())));
        Ok(path)
    }
}
