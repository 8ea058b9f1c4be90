//! Memory and descriptors stay within bounds, whatever is opened and looked up. The bounds have names; they are what
//! `docs/benchmarks.md` promises.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use stratafs_core::{Access, Caller, Config, Follow, Name, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions};
use tempfile::TempDir;

/// Descriptors that a view holds beyond those of its layers' directories: roots, locks, the work directory.
const FDS_OF_A_VIEW: usize = 64;
/// Bytes for each object that the cache may keep (`Config::cached_objects`), its name included.
const BYTES_OF_AN_OBJECT: usize = 1536;
/// Bytes of everything else.
const BYTES_BESIDES: usize = 16 << 20;

/// One at a time: both measure the whole process.
static MEASURING: Mutex<()> = Mutex::new(());

type DirView = View<DirLayer, DirScratch>;

/// In memory where the machine has such a place: a million files are made.
fn ground() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary directory")
}

fn view(layers: &[PathBuf]) -> DirView {
    let open = |path| DirLayer::open(path, &LayerOptions::default()).expect("open a layer");
    View::new(Stack { layers: layers.iter().map(open).collect(), scratch: None }, Config::default())
        .expect("open a view")
}

fn fds() -> usize {
    fs::read_dir("/proc/self/fd").expect("list descriptors").count()
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("read the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Files `d0/f0`, `d0/f1`, ...
fn populate(root: &Path, dirs: usize, files: usize) {
    for dir in 0..dirs {
        let at = root.join(format!("d{dir}"));
        fs::create_dir(&at).expect("make a directory");
        for file in 0..files {
            fs::File::create(at.join(format!("f{file}"))).expect("create");
        }
    }
}

#[test]
fn twenty_thousand_files_open_and_close() {
    let _alone = MEASURING.lock();
    let ground = ground();
    let layers: Vec<_> = (0..2).map(|n| ground.path().join(format!("{n}"))).collect();
    for layer in &layers {
        fs::create_dir(layer).expect("make a directory");
        populate(layer, 200, 100);
    }
    let before = fds();
    let view = view(&layers);
    let root = Caller::root();
    let mut most = 0;
    let mut held = Vec::new();
    for n in 0..20_000 {
        let path = format!("d{}/f{}", n / 100, n % 100);
        let inode = view.resolve(&view.root(), path.as_bytes(), Follow::Yes, &root).expect("it exists");
        view.open(&inode, Access::read(), &root).expect("open").read_at(&mut [0; 8], 0).expect("read");
        // Holding an object must not hold a descriptor.
        held.push(inode);
        if n % 100 == 0 {
            most = most.max(fds());
        }
    }
    let bound = before + layers.len() * stratafs_dir::FD_LIMIT + FDS_OF_A_VIEW;
    assert!(most.max(fds()) <= bound, "{most} descriptors, and at most {bound} should be open");
    println!("20,000 files: {most} descriptors, bound {bound}");
    drop((held, view));
    assert_eq!(fds(), before, "descriptors were left open");
}

/// In both orders: directory after directory, and round and round, so that no directory rests.
#[test]
fn a_million_entries_looked_up() {
    const DIRS: usize = 1000;
    const FILES: usize = 1000;
    let _alone = MEASURING.lock();
    let ground = ground();
    populate(ground.path(), DIRS, FILES);
    let name = |text: &str| stratafs_core::NameBuf::new(text.as_bytes()).expect("a name");
    let files: Vec<_> = (0..FILES).map(|n| name(&format!("f{n}"))).collect();
    let dirs: Vec<_> = (0..DIRS).map(|n| name(&format!("d{n}"))).collect();
    // What an earlier round freed may still be the process's own: all growth counts from here.
    let (fds_before, before) = (fds(), resident());
    for round in [false, true] {
        let view = view(&[ground.path().to_path_buf()]);
        let look = |dir: Name<'_>, file: Name<'_>| {
            let dir = view.lookup(&view.root(), dir).expect("look up").expect("it exists");
            assert!(view.lookup(&dir, file).expect("look up").is_some());
        };
        let mut most = 0;
        for outer in 0..DIRS {
            most = most.max(resident());
            for inner in 0..FILES {
                let (dir, file) = if round { (inner, outer) } else { (outer, inner) };
                look(dirs[dir].as_name(), files[file].as_name());
            }
        }
        let grown = most.max(resident()).saturating_sub(before);
        let bound = view.config().cached_objects * BYTES_OF_AN_OBJECT + BYTES_BESIDES;
        println!("1,000,000 entries: {} MiB more, bound {} MiB", grown >> 20, bound >> 20);
        assert!(
            grown <= bound,
            "{grown} bytes more, and at most {bound} should be (round and round: {round})"
        );
        assert!(view.cached() <= view.config().cached_objects);
        assert!(fds() <= fds_before + stratafs_dir::FD_LIMIT + FDS_OF_A_VIEW);
        drop(view);
        assert_eq!(fds(), fds_before, "descriptors were left open");
    }
}
