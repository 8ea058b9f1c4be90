//! The systems that are compared, behind one set of operations, so that each does the same work. Paths are prepared
//! before the clock runs.

use crate::ground::{Ground, Scrap};
use crate::mounts::Mounted;
use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Once;
use stratafs_core::{
    Access, Caller, Config, Durability, Error, ErrorKind, Follow, Inode, SetAttr, Stack, View,
};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, ScratchOptions};
use vfs::{OverlayFS, PhysicalFS, VfsPath};

/// A view over directories.
pub type DirView = View<DirLayer, DirScratch>;
/// An object of such a view.
pub type DirInode = Inode<DirLayer, DirScratch>;

/// Bytes of one read.
pub const HEAD: usize = 4096;

/// One of the systems. Operations panic when they fail: a benchmark of failures would be worthless.
pub trait System {
    /// A path, ready to be used.
    type Path;

    /// What it is called in the results.
    fn name(&self) -> &'static str;

    /// Makes a path, relative to the root, ready to be used.
    fn path(&self, relative: &str) -> Self::Path;

    /// Looks a path up and takes its attributes; false when nothing is there.
    fn stat(&self, path: &Self::Path) -> bool;

    /// Looks a path up, opens it and reads its first bytes.
    fn head(&self, path: &Self::Path, buf: &mut [u8; HEAD]) -> usize;

    /// Lists a directory with names, numbers and kinds, as far as the system has them; how many there are.
    fn list(&self, path: &Self::Path) -> usize;

    /// Opens a file for writing and writes one byte.
    fn write_byte(&self, path: &Self::Path);

    /// Gives a file another owner; false where the system cannot.
    fn chown(&self, path: &Self::Path) -> bool;
}

/// This project's view.
#[derive(Debug)]
pub struct Strata {
    /// The view.
    pub view: DirView,
    root: DirInode,
    caller: Caller,
    _dirs: Option<Scrap>,
}

impl Strata {
    /// Over `lowers`, topmost first, with a new scratch.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn new(ground: &Ground, lowers: &[PathBuf], durability: Durability) -> Self {
        let dirs = ground.scrap();
        let strata = Self::open(dirs.path(), lowers, durability);
        Self { _dirs: Some(dirs), ..strata }
    }

    /// Over `lowers`, topmost first, with the scratch in `at`, which stays.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(at: &Path, lowers: &[PathBuf], durability: Durability) -> Self {
        let layer = |path| DirLayer::open(path, &LayerOptions::default()).expect("open a layer");
        let options =
            ScratchOptions { volatile: durability == Durability::Volatile, ..ScratchOptions::default() };
        let scratch =
            DirScratch::create(at.join("upper"), at.join("work"), &options).expect("open a scratch");
        let stack = Stack { layers: lowers.iter().map(layer).collect(), scratch: Some(scratch) };
        let view = View::new(stack, Config { durability, ..Config::default() }).expect("open a view");
        Self { root: view.root(), view, caller: Caller::root(), _dirs: None }
    }

    fn find(&self, path: &[u8]) -> Result<DirInode, Error> {
        self.view.resolve(&self.root, path, Follow::No, &self.caller)
    }

    fn existing(&self, path: &[u8]) -> DirInode {
        self.find(path).expect("it exists")
    }

    /// Walks the merged tree, taking the attributes of everything; how many objects there are.
    ///
    /// # Panics
    /// When something does not read.
    #[must_use]
    pub fn walk(&self) -> usize {
        let mut left = vec![self.root.clone()];
        let mut count = 0;
        while let Some(dir) = left.pop() {
            let handle = self.view.open_dir(&dir, &self.caller).expect("open a directory");
            let mut names = Vec::new();
            let mut note = |entry: stratafs_core::DirEntry<'_>| {
                names.push(entry.name.to_buf());
                ControlFlow::Continue(())
            };
            handle.read(0, &mut note).expect("list a directory");
            for name in &names {
                let inode = self.view.lookup(&dir, name.as_name()).expect("look up").expect("it exists");
                self.view.attr(&inode).expect("take attributes");
                count += 1;
                if inode.is_dir() {
                    left.push(inode);
                }
            }
        }
        count
    }
}

impl System for Strata {
    type Path = Vec<u8>;

    fn name(&self) -> &'static str {
        "strata"
    }

    fn path(&self, relative: &str) -> Vec<u8> {
        relative.as_bytes().to_vec()
    }

    fn stat(&self, path: &Vec<u8>) -> bool {
        match self.find(path) {
            Ok(inode) => self.view.attr(&inode).is_ok(),
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => panic!("{e}"),
        }
    }

    fn head(&self, path: &Vec<u8>, buf: &mut [u8; HEAD]) -> usize {
        let inode = self.existing(path);
        let file = self.view.open(&inode, Access::read(), &self.caller).expect("open");
        file.read_at(buf, 0).expect("read")
    }

    fn list(&self, path: &Vec<u8>) -> usize {
        let handle = self.view.open_dir(&self.existing(path), &self.caller).expect("open a directory");
        let mut count = 0;
        let mut note = |_: stratafs_core::DirEntry<'_>| {
            count += 1;
            ControlFlow::Continue(())
        };
        handle.read(0, &mut note).expect("list");
        count
    }

    fn write_byte(&self, path: &Vec<u8>) {
        let access = Access { write: true, ..Access::default() };
        let file = self.view.open(&self.existing(path), access, &self.caller).expect("open");
        file.write_at(b"x", 0).expect("write");
    }

    fn chown(&self, path: &Vec<u8>) -> bool {
        let set = SetAttr { uid: Some(1), ..SetAttr::default() };
        self.view.set_attr(&self.existing(path), &set, &self.caller).expect("chown");
        true
    }
}

/// A directory of the host by `std::fs`: a plain one, or the kernel's overlayfs.
#[derive(Debug)]
pub struct Host {
    name: &'static str,
    root: PathBuf,
    _mounted: Option<(Mounted, Scrap)>,
}

impl Host {
    /// A plain directory.
    #[must_use]
    pub fn plain(root: &Path) -> Self {
        Self { name: "plain directory", root: root.to_path_buf(), _mounted: None }
    }

    /// The kernel's overlayfs over `lowers`, topmost first, with a new upper. `None`, with the reason printed once,
    /// where the machine cannot.
    ///
    /// # Panics
    /// When its directories cannot be made.
    #[must_use]
    pub fn kernel(ground: &Ground, lowers: &[PathBuf], options: &str) -> Option<Self> {
        static SAID: Once = Once::new();
        let dirs = ground.scrap();
        let make = |name| {
            let at = dirs.path().join(name);
            fs::create_dir(&at).expect("make a directory");
            at
        };
        let (root, upper, work) = (make("merged"), make("upper"), make("work"));
        match Mounted::overlay(&root, lowers, &upper, &work, options) {
            Ok(mounted) => {
                let name = if options.contains("metacopy") { "kernel, metacopy" } else { "kernel" };
                Some(Self { name, root, _mounted: Some((mounted, dirs)) })
            }
            Err(e) => {
                SAID.call_once(|| eprintln!("left out: the kernel's overlayfs ({options}): {e}"));
                None
            }
        }
    }

    /// Walks the tree, taking the attributes of everything; how many objects there are.
    ///
    /// # Panics
    /// When something does not read.
    #[must_use]
    pub fn walk(&self) -> usize {
        let mut left = vec![self.root.clone()];
        let mut count = 0;
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).expect("list a directory") {
                let entry = entry.expect("list a directory");
                count += 1;
                if entry.metadata().expect("take attributes").is_dir() {
                    left.push(entry.path());
                }
            }
        }
        count
    }
}

impl System for Host {
    type Path = PathBuf;

    fn name(&self) -> &'static str {
        self.name
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    fn stat(&self, path: &PathBuf) -> bool {
        fs::symlink_metadata(path).is_ok()
    }

    fn head(&self, path: &PathBuf, buf: &mut [u8; HEAD]) -> usize {
        let file = fs::File::open(path).expect("open");
        file.read_at(buf, 0).expect("read")
    }

    fn list(&self, path: &PathBuf) -> usize {
        fs::read_dir(path)
            .expect("list")
            .filter(|entry| entry.as_ref().is_ok_and(|e| e.file_type().is_ok()))
            .count()
    }

    fn write_byte(&self, path: &PathBuf) {
        let file = fs::OpenOptions::new().write(true).open(path).expect("open");
        file.write_at(b"x", 0).expect("write");
    }

    fn chown(&self, path: &PathBuf) -> bool {
        chown(path, Some(1), None).expect("chown");
        true
    }
}

/// The overlay of the `vfs` crate. It has no owners, numbers or kinds in listings, and writes at the end only.
#[derive(Debug)]
pub struct Vfs {
    root: VfsPath,
    _dirs: Scrap,
}

impl Vfs {
    /// Over `lowers`, topmost first, with a new writable layer.
    #[must_use]
    pub fn new(ground: &Ground, lowers: &[PathBuf]) -> Self {
        let dirs = ground.scrap();
        let mut layers = vec![VfsPath::new(PhysicalFS::new(dirs.path()))];
        layers.extend(lowers.iter().map(|lower| VfsPath::new(PhysicalFS::new(lower))));
        Self { root: OverlayFS::new(&layers).into(), _dirs: dirs }
    }

    /// Removes a file, which leaves this crate's own kind of whiteout.
    ///
    /// # Panics
    /// When it fails.
    pub fn remove(&self, path: &str) {
        self.path(path).remove_file().expect("remove");
    }
}

impl System for Vfs {
    type Path = VfsPath;

    fn name(&self) -> &'static str {
        "vfs"
    }

    fn path(&self, relative: &str) -> VfsPath {
        if relative.is_empty() { self.root.clone() } else { self.root.join(relative).expect("a path") }
    }

    fn stat(&self, path: &VfsPath) -> bool {
        path.metadata().is_ok()
    }

    fn head(&self, path: &VfsPath, buf: &mut [u8; HEAD]) -> usize {
        path.open_file().expect("open").read(buf).expect("read")
    }

    fn list(&self, path: &VfsPath) -> usize {
        path.read_dir().expect("list").count()
    }

    fn write_byte(&self, path: &VfsPath) {
        path.append_file().expect("open").write_all(b"x").expect("write");
    }

    fn chown(&self, _: &VfsPath) -> bool {
        false
    }
}
