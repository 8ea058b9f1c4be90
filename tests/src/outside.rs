//! A tree that no view may read or change: it stands beside the layers, and everything that tries to get out of
//! a layer tries to get there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;
use stratafs_core::{Config, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Resolver, ScratchOptions};
use stratafs_testkit::Dump;

/// What every file outside holds, and no file inside.
pub const SECRET: &[u8] = b"OUTSIDE";
/// What files inside hold.
pub const INSIDE: &[u8] = b"inside";

/// A directory with a layer and a tree outside of it.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
    before: Dump,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Makes an empty layer, and outside of it `sub/f`, `f`, `empty` and a fifo.
    ///
    /// # Panics
    /// When the host does not let it.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        for made in ["outside/sub", "outside/empty", "layer"] {
            fs::create_dir_all(dir.path().join(made)).expect("make a directory");
        }
        for file in ["outside/f", "outside/sub/f"] {
            fs::write(dir.path().join(file), SECRET).expect("write a file");
        }
        let mut place = Self { dir, before: Dump::default() };
        place.before = place.dump();
        place
    }

    fn dump(&self) -> Dump {
        let outside = File::open(self.outside()).expect("open the tree outside");
        stratafs_testkit::host::dump(outside).expect("read the tree outside")
    }

    /// The tree outside.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.at("outside")
    }

    /// A path in the directory; `layer` is the layer.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Panics when anything outside is not as it was.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_untouched(&self) {
        self.before.assert_same(&self.dump(), "the tree outside was changed");
    }

    /// A view over the layer, which keeps nothing open and nothing cached: every question reaches the host.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn view(&self, resolver: Resolver, scratch: &str) -> View<DirLayer, DirScratch> {
        let config = Config { cached_objects: 1, cached_names: 0, ..Config::default() };
        self.open(scratch, resolver, 1, config)
    }

    /// A view as usual.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn usual_view(&self, scratch: &str) -> View<DirLayer, DirScratch> {
        self.open(scratch, Resolver::Auto, stratafs_dir::FD_LIMIT, Config::default())
    }

    fn open(
        &self,
        scratch: &str,
        resolver: Resolver,
        fd_limit: usize,
        config: Config,
    ) -> View<DirLayer, DirScratch> {
        let options = LayerOptions { resolver, fd_limit, ..LayerOptions::default() };
        let layer = DirLayer::open(self.at("layer"), &options).expect("open the layer");
        let options = ScratchOptions { resolver, fd_limit, ..ScratchOptions::default() };
        let at = self.at(scratch);
        let scratch = DirScratch::create(at.join("upper"), at.join("work"), &options).expect("a scratch");
        View::new(Stack { layers: vec![layer], scratch: Some(scratch) }, config).expect("a view")
    }
}

/// Runs `body` on a thread with a stack of this size, and panics when it has not ended in time: something waits
/// that must never wait, such as the opening of a fifo.
///
/// # Panics
/// When `body` does, or takes longer than `limit`.
pub fn in_time(limit: Duration, stack: usize, body: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    let thread = std::thread::Builder::new().stack_size(stack);
    let thread = thread.spawn(move || {
        body();
        let _ = done.send(());
    });
    let thread = thread.expect("start a thread");
    if wait.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("it still waits after {limit:?}");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The descriptors of this process below a path, and whether each would be closed by exec.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn descriptors(below: &Path) -> Vec<(PathBuf, bool)> {
    const CLOEXEC: u32 = 0o2_000_000;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").expect("read /proc").flatten() {
        let Some(target) = fs::read_link(entry.path()).ok().filter(|t| t.starts_with(below)) else {
            continue;
        };
        let info = Path::new("/proc/self/fdinfo").join(entry.file_name());
        let Ok(info) = fs::read_to_string(info) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags =
            flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).expect("flags of a descriptor");
        found.push((target, flags & CLOEXEC != 0));
    }
    found
}
