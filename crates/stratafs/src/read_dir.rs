//! [`ReadDir`]: the entries of a merged directory, in its stable order. The merge happens once, when the
//! directory is opened; entries are fetched in batches of bounded size.

use crate::container::Engine;
use crate::{AnyLayer, AnyScratch, Kind, Metadata, Result};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use stratafs_core::{DirHandle, Name};

/// How many entries are fetched at once.
const BATCH: usize = 256;

/// The entries of a directory, without `.` and `..`.
#[derive(Debug)]
pub struct ReadDir {
    view: Engine,
    path: PathBuf,
    dir: crate::Inode,
    handle: DirHandle<AnyLayer, AnyScratch>,
    batch: VecDeque<Listed>,
    next: u64,
    done: bool,
}

#[derive(Debug)]
struct Listed {
    name: OsString,
    ino: u64,
    kind: Kind,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct DirEntry {
    view: Engine,
    dir: crate::Inode,
    path: PathBuf,
    name: OsString,
    ino: u64,
    kind: Kind,
}

impl ReadDir {
    pub(crate) fn new(
        view: Engine,
        path: &Path,
        dir: crate::Inode,
        handle: DirHandle<AnyLayer, AnyScratch>,
    ) -> Self {
        Self { view, path: path.to_owned(), dir, handle, batch: VecDeque::new(), next: 0, done: false }
    }

    fn fetch(&mut self) -> Result<()> {
        let (batch, next) = (&mut self.batch, &mut self.next);
        self.done = true;
        let done = &mut self.done;
        self.handle.read(*next, &mut |entry| {
            let name = OsStr::from_bytes(entry.name.as_bytes()).to_owned();
            batch.push_back(Listed { name, ino: entry.ino, kind: entry.kind });
            *next = entry.next;
            if batch.len() < BATCH {
                return ControlFlow::Continue(());
            }
            *done = false;
            ControlFlow::Break(())
        })
    }
}

impl Iterator for ReadDir {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty()
            && !self.done
            && let Err(e) = self.fetch()
        {
            return Some(Err(e.about(self.path.as_os_str().as_bytes())));
        }
        let Listed { name, ino, kind } = self.batch.pop_front()?;
        let path = self.path.join(&name);
        Some(Ok(DirEntry { view: self.view.clone(), dir: self.dir.clone(), path, name, ino, kind }))
    }
}

impl DirEntry {
    /// The name.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.name.clone()
    }

    /// The name as bytes.
    #[must_use]
    pub fn file_name_bytes(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// The directory's path as it was given, and the name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// What it was when the directory was read.
    #[must_use]
    pub fn file_type(&self) -> Kind {
        self.kind
    }

    /// The object's number in the container.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Its attributes now; a link is not followed.
    ///
    /// # Errors
    /// `NotFound` when the name is gone.
    pub fn metadata(&self) -> Result<Metadata> {
        let about = |e: crate::Error| e.about(self.path.as_os_str().as_bytes());
        let view = &self.view;
        let name = self.name.clone().into_vec();
        let name = Name::new(&name).map_err(about)?;
        match view.lookup(&self.dir, name).map_err(about)? {
            Some(node) => view.attr(&node).map(Metadata::from).map_err(about),
            None => Err(about(crate::Error::new(crate::ErrorKind::NotFound, "metadata"))),
        }
    }
}
