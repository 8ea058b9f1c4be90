//! A store, a place outside that nothing may touch, and images that go in.

use crate::archives::{Item, Layout, flag, tar};
use crate::trees;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stratafs::Result;
use stratafs::oci::{Limits, Silent};
use stratafs::store::{ContainerName, ImageName, ImageRecord, ImportOptions, Store};
use stratafs_testkit::Dump;

/// Where files are in memory.
const SHM: &str = "/dev/shm";

/// A store in a directory of its own. Dropping it removes everything.
#[derive(Debug)]
pub struct Bed {
    dir: tempfile::TempDir,
    outside: Dump,
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    /// On the host's file system for temporary files.
    ///
    /// # Panics
    /// When the host does not let it.
    #[must_use]
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().expect("a directory"))
    }

    /// In memory where the machine has a large enough place there that keeps attributes.
    ///
    /// # Panics
    /// When the host does not let it.
    #[must_use]
    pub fn in_memory() -> Self {
        const ROOM: u64 = 4 << 30;
        let spacious = rustix::fs::statvfs(SHM).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) >= ROOM);
        let keeps = |dir: &tempfile::TempDir| {
            rustix::fs::setxattr(dir.path(), "user.probe", b"1", rustix::fs::XattrFlags::empty()).is_ok()
        };
        let dir = spacious.then(|| tempfile::tempdir_in(SHM).ok()).flatten().filter(keeps);
        Self::at(dir.unwrap_or_else(|| tempfile::tempdir().expect("a directory")))
    }

    /// On the file system of `dir`.
    ///
    /// # Panics
    /// When the host does not let it.
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        Self::at(tempfile::tempdir_in(dir).expect("a directory"))
    }

    fn at(dir: tempfile::TempDir) -> Self {
        for made in ["outside/sub", "outside/empty"] {
            fs::create_dir_all(dir.path().join(made)).expect("make a directory");
        }
        for file in ["outside/f", "outside/sub/f"] {
            fs::write(dir.path().join(file), crate::outside::SECRET).expect("write a file");
        }
        let outside = trees::of_dir(&dir.path().join("outside"));
        Self { dir, outside }
    }

    /// A path beside the store.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The tree that nothing may touch.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.path("outside")
    }

    /// Panics when anything outside is not as it was.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_untouched(&self) {
        trees::assert_same(
            &self.outside,
            &trees::of_dir(&self.outside()),
            &[],
            "the tree outside was changed",
        );
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path("store")
    }

    /// The store.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::open(self.root()).expect("open the store")
    }

    /// Takes an image in.
    ///
    /// # Errors
    /// What the store says.
    pub fn import(&self, from: &Path, name: &str) -> Result<Vec<ImageRecord>> {
        self.import_within(from, name, Limits::default())
    }

    /// Takes an image in, within limits.
    ///
    /// # Errors
    /// What the store says.
    pub fn import_within(&self, from: &Path, name: &str, limits: Limits) -> Result<Vec<ImageRecord>> {
        let options = ImportOptions { name: Some(name.parse()?), limits, ..ImportOptions::default() };
        self.store().import(from, &options, &Silent)
    }

    /// Writes an archive beside the store and takes it in as an image of one layer.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Panics
    /// When the archive cannot be written.
    pub fn import_layer(&self, archive: &[u8], name: &str) -> Result<Vec<ImageRecord>> {
        let at = self.path("layer.tar");
        fs::write(&at, archive).expect("write an archive");
        self.import(&at, name)
    }

    /// Makes a container of an image.
    ///
    /// # Panics
    /// When the store does not.
    #[track_caller]
    pub fn create(&self, image: &str, container: &str) -> ContainerName {
        let store = self.store();
        let image: ImageName = image.parse().expect("the name of an image");
        let name = ContainerName::new(container).expect("the name of a container");
        let image = store.image(&image).unwrap_or_else(|e| panic!("{e}"));
        let pinned = store.pin_image(&image).unwrap_or_else(|e| panic!("{e}"));
        let config = pinned.container().unwrap_or_else(|e| panic!("{e}"));
        store.create(Some(name.clone()), config).unwrap_or_else(|e| panic!("{e}"));
        name
    }

    /// The tree of an image, as a view shows it.
    ///
    /// # Panics
    /// When the store does not show it.
    #[track_caller]
    #[must_use]
    pub fn tree(&self, image: &str) -> Dump {
        let name = self.create(image, "shown");
        let tree = self.container_tree(&name);
        self.store().remove(&name).unwrap_or_else(|e| panic!("{e}"));
        tree
    }

    /// The tree of a container.
    ///
    /// # Panics
    /// When the store does not show it.
    #[track_caller]
    #[must_use]
    pub fn container_tree(&self, name: &ContainerName) -> Dump {
        let opened = self.store().open_container(name).unwrap_or_else(|e| panic!("{e}"));
        let tree = trees::of_view(opened.view()).unwrap_or_else(|e| panic!("{e}"));
        opened.close().unwrap_or_else(|e| panic!("{e}"));
        tree
    }

    /// Panics when a layer is not what it was when it was stored.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_sound(&self, what: &str) {
        let damage = self.store().check_layers(&Silent).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(damage.is_empty(), "{what}: {damage:?}");
    }

    /// Panics when the store holds anything but what every store has.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_empty(&self, what: &str) {
        let held = self.holds(&["containers", "images", "layers", "scratch", "trash"]);
        assert!(held.is_empty(), "{what}: {held:?} was left behind");
    }

    /// What lies in some directories of the store: `images/a:latest.json`, `layers/sha256-...`.
    ///
    /// # Panics
    /// When they cannot be listed.
    #[must_use]
    pub fn holds(&self, dirs: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for dir in dirs {
            for entry in fs::read_dir(self.root().join(dir)).expect("list a directory of the store").flatten()
            {
                found.push(format!("{dir}/{}", entry.file_name().to_string_lossy()));
            }
        }
        found.sort();
        found
    }

    /// Runs one verb in a process of its own, through `store-verb` at `program` with `wrapper` before it.
    #[must_use]
    pub fn verb(&self, program: &str, wrapper: &[&str], words: &[&str]) -> Command {
        let root = self.root().display().to_string();
        let all: Vec<&str> =
            wrapper.iter().copied().chain([program, &root]).chain(words.iter().copied()).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]);
        command
    }
}

/// True for who may make devices.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes an image of three layers in `at`: so many files in each of ten directories; deletions, an opaque directory
/// and a hard link to a file below; one of every other kind.
///
/// # Panics
/// When the host refuses.
#[must_use]
pub fn sample(at: &Path, files: usize) -> Layout {
    let mut base = vec![Item::dir("./"), Item::dir("etc"), Item::file("etc/passwd", b"root\n")];
    for dir in 0..10 {
        base.push(Item::dir(&format!("d{dir}")));
        for file in 0..files {
            let content = vec![b'a' + (file % 26) as u8; 100 + file * 37 % 9_000];
            base.push(Item::file(&format!("d{dir}/f{file}"), &content));
        }
    }
    let over = [
        Item::file("d0/.wh.f0", b""),
        Item::file(".wh.d1", b""),
        Item::dir("d2"),
        Item::file("d2/.wh..wh..opq", b""),
        Item::file("d2/only", b"only"),
        Item::hardlink("etc/linked", "etc/passwd"),
        Item::hardlink("d3/linked", "d4/f0"),
    ];
    let kinds = [
        Item { mode: 0o1777, ..Item::dir("tmp") },
        Item { mode: 0o4755, ..Item::file("tmp/setuid", b"#!").xattr("user.of", b"a\nb\0") },
        Item::symlink("tmp/link", "/etc/passwd"),
        Item::new(flag::FIFO, "tmp/fifo"),
        Item::file("d5", b"a directory was here"),
        Item::hardlink("tmp/setuid-too", "tmp/setuid"),
    ];
    Layout::image(at, &[tar(&base), tar(&over), tar(&kinds)])
}
