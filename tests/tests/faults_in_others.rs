//! Faults seen in other union file systems that need the kernel's overlayfs, a full disk or many files to show
//! themselves. The others are part of the conformance suite, under the same numbers.

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags, renameat_with, setxattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stratafs_core::error::errno::ENOSPC;
use stratafs_core::{Access, Caller, Config, Name, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, Resolver, ScratchOptions};
use stratafs_testkit::view::{contents, dump, entries, find, write};
use stratafs_testkit::{Data, Entry, Op, StackSpec, Subject, TreeSpec, What, host};
use stratafs_tests::beds::layer_options;
use stratafs_tests::ground::{Ground, KERNEL};
use stratafs_tests::{Mounted, need};

const WRITE: Access = Access { read: false, write: true, append: false, truncate: false };

type DirView = View<DirLayer, DirScratch>;

fn open(lowers: &[PathBuf], upper: &Path, work: &Path) -> stratafs_core::Result<DirView> {
    let options = layer_options(Resolver::Auto);
    let layers = lowers.iter().map(|at| DirLayer::open(at, &options)).collect::<Result<_, _>>()?;
    let scratch = DirScratch::create(upper, work, &ScratchOptions::default())?;
    View::new(Stack { layers, scratch: Some(scratch) }, Config::default())
}

/// Layers on a tmpfs, an upper and a work directory.
struct Bench {
    ground: Ground,
    upper: PathBuf,
    work: PathBuf,
}

impl Bench {
    fn new(stack: impl Into<StackSpec>) -> Option<Self> {
        if !need::root() {
            return None;
        }
        let ground = Ground::new(&stack.into()).expect("make the layers");
        let (upper, work) = (ground.make("upper").expect("make"), ground.make("work").expect("make"));
        Some(Self { ground, upper, work })
    }

    fn view(&self) -> DirView {
        open(&self.ground.lowers, &self.upper, &self.work).expect("open the view")
    }

    /// Mounts upper and layers by the kernel, for as long as `body` runs.
    fn kernel<T>(&self, body: impl FnOnce(&Path) -> T) -> T {
        let at = self.ground.make("mounted").expect("make");
        let mounted = self.ground.overlay(&at, &self.upper, &self.work, KERNEL).expect("mount");
        let out = body(&at);
        mounted.unmount().expect("unmount");
        fs::remove_dir(&at).expect("remove the mount point");
        out
    }

    /// The kernel must show what the view showed.
    fn cross(&self, view: DirView) {
        let ours = dump(&view).expect("dump the view");
        drop(view);
        let kernels =
            self.kernel(|at| host::dump(fs::File::open(at).expect("open")).expect("dump the mount"));
        if let Some(diff) = ours.diff(&kernels) {
            panic!("the kernel shows another tree (- ours, + kernel):\n{diff}");
        }
    }
}

fn n(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).expect("a name")
}

#[test]
fn fault_01_copied_up_and_removed_stays_gone_in_the_kernel() {
    let Some(bench) = Bench::new([TreeSpec::new().file("f", "x").dir("d").file("d/g", "y")]) else { return };
    let view = bench.view();
    let root = Caller::root();
    for path in ["f", "d/g"] {
        let node = find(&view, &stratafs_testkit::Path::of(path)).expect("find");
        write(&view.open(&node, WRITE, &root).expect("open"), 0, b"new").expect("write");
    }
    view.unlink(&view.root(), n("f"), &root).expect("unlink");
    let d = view.lookup(&view.root(), n("d")).expect("look up").expect("d");
    view.unlink(&d, n("g"), &root).expect("unlink");
    drop(d);
    bench.cross(view);
    bench.kernel(|at| assert!(!at.join("f").exists() && !at.join("d/g").exists()));
}

#[test]
fn fault_03_directory_made_anew_is_empty_in_the_kernel() {
    let Some(bench) =
        Bench::new([TreeSpec::new().dir("d").file("d/old", "").dir("d/sub").file("d/sub/x", "")])
    else {
        return;
    };
    let ours = bench.view();
    let root = Caller::root();
    let at = |path: &str| find(&ours, &stratafs_testkit::Path::of(path)).expect("find");
    ours.unlink(&at("d/sub"), n("x"), &root).expect("unlink");
    ours.rmdir(&at("d"), n("sub"), &root).expect("rmdir");
    ours.unlink(&at("d"), n("old"), &root).expect("unlink");
    ours.rmdir(&ours.root(), n("d"), &root).expect("rmdir");
    ours.make(&ours.root(), n("d"), &stratafs_core::New::dir(0o755), &root).expect("mkdir");
    bench.cross(ours);
    bench.kernel(|at| assert_eq!(fs::read_dir(at.join("d")).expect("list").count(), 0));
}

/// Everything that the kernel writes into an upper: redirects, metacopies, origins, an index, hard-linked
/// whiteouts, opaque directories, escaped attributes.
fn work_in(at: &Path) {
    let rename = |from: &str, to: &str| fs::rename(at.join(from), at.join(to)).expect("rename");
    rename("d", "moved");
    rename("moved/sub", "e/sub");
    fs::write(at.join("moved/own"), "own").expect("write");
    fs::set_permissions(at.join("f"), fs::Permissions::from_mode(0o600)).expect("chmod");
    rename("f", "e/f");
    fs::write(at.join("g"), "all three").expect("write");
    for path in ["x", "y", "e/z"] {
        fs::remove_file(at.join(path)).expect("remove");
    }
    fs::remove_file(at.join("o/a")).expect("remove");
    fs::remove_dir(at.join("o")).expect("rmdir");
    fs::create_dir(at.join("o")).expect("mkdir");
    fs::hard_link(at.join("single"), at.join("second")).expect("link");
    symlink("target", at.join("s")).expect("symlink");
    setxattr(at.join("o"), "trusted.overlay.opaque", b"user's", XattrFlags::empty()).expect("setxattr");
    renameat_with(CWD, at.join("p"), CWD, at.join("q"), RenameFlags::EXCHANGE).expect("exchange");
}

fn rich() -> TreeSpec {
    TreeSpec::new()
        .dir("d")
        .file("d/a", "1")
        .dir("d/sub")
        .file("d/sub/b", "2")
        .dir("e")
        .file("e/z", "")
        .with(Entry::new("f", What::File(Data::seeded(50_000, 1))).xattr("user.a", "b"))
        .file("g", "one")
        .hard_link("h", "g")
        .hard_link("d/i", "g")
        .file("x", "")
        .file("y", "")
        .dir("o")
        .file("o/a", "")
        .file("single", "s")
        .dir("p")
        .file("p/in", "p")
        .file("q", "q")
}

#[test]
fn fault_07_uppers_are_read_alike_by_both() {
    let Some(bench) = Bench::new([TreeSpec::new().dir("d").file("d/top", "t"), rich()]) else { return };
    let kernels = bench.kernel(|at| {
        work_in(at);
        host::dump(fs::File::open(at).expect("open")).expect("dump the mount")
    });
    let whiteouts = fs::symlink_metadata(bench.upper.join("x")).expect("a whiteout").nlink();
    assert!(whiteouts > 1, "the kernel links its whiteouts");
    let view = bench.view();
    kernels.assert_same(&dump(&view).expect("dump the view"), "we read the kernel's upper differently");
    // On top of it we work on, and the kernel reads that.
    let root = Caller::root();
    let at = |path: &str| find(&view, &stratafs_testkit::Path::of(path)).expect("find");
    let append = Access { append: true, ..WRITE };
    for path in ["e/f", "h", "moved/i", "moved/top", "e/sub/b", "second"] {
        view.open(&at(path), append, &root).expect("open").append(b"+").expect("append");
    }
    view.rename(&view.root(), n("moved"), &at("o"), n("again"), stratafs_core::RenameFlags::empty(), &root)
        .expect("rename");
    view.unlink(&view.root(), n("g"), &root).expect("unlink");
    assert_eq!(contents(&view, &at("h")).expect("read"), b"all three++");
    bench.cross(view);
}

#[test]
fn fault_08_removal_and_whiteout_are_one_step() {
    let Some(bench) = Bench::new([TreeSpec::new().dir("d").file("d/f", "lower")]) else { return };
    let view = bench.view();
    let root = Caller::root();
    let d = view.lookup(&view.root(), n("d")).expect("look up").expect("d");
    let f = view.lookup(&d, n("f")).expect("look up").expect("f");
    write(&view.open(&f, WRITE, &root).expect("open"), 0, b"UPPER").expect("write");
    // Whoever looks while it is removed sees the upper file or nothing, never the lower one.
    let (upper, lower) =
        (bench.upper.join("d/f"), fs::read(bench.ground.lowers[0].join("d/f")).expect("read"));
    std::thread::scope(|s| {
        let watch = s.spawn(|| {
            let mut seen = 0;
            while fs::read(&upper).is_ok_and(|bytes| bytes == b"UPPER") {
                seen += 1;
            }
            let kind = fs::symlink_metadata(&upper).expect("there is no moment without a whiteout");
            assert_eq!((kind.mode() & 0o170_000, kind.rdev()), (0o020_000, 0));
            seen
        });
        view.unlink(&d, n("f"), &root).expect("unlink");
        watch.join().expect("the watcher saw one step");
    });
    assert_eq!(lower, b"lower");
    drop((d, f));
    bench.cross(view);
}

#[test]
fn fault_09_open_files_do_not_pile_up() {
    const FILES: usize = 20_000;
    let files = (0..FILES).fold(TreeSpec::new().dir("d"), |tree, n| tree.file(format!("d/{n}"), "x"));
    let Some(bench) = Bench::new([files]) else { return };
    let view = bench.view();
    let open_fds = || fs::read_dir("/proc/self/fd").expect("list").count();
    let d = view.lookup(&view.root(), n("d")).expect("look up").expect("d");
    let mut kept = Vec::new();
    for file in 0..FILES {
        let node = view.lookup(&d, n(&file.to_string())).expect("look up").expect("a file");
        let access = if file % 10 == 0 { WRITE } else { Access { read: true, write: false, ..WRITE } };
        drop(view.open(&node, access, &Caller::root()).expect("open"));
        kept.push(node);
    }
    assert!(open_fds() < 1024, "{} descriptors are open for {FILES} inodes that are held", open_fds());
    assert_eq!(entries(&view, &d).expect("list").len(), FILES);
}

#[test]
fn fault_09_a_long_copy_up_stops_nobody() {
    let big = Data::seeded(256 << 20, 1);
    let tree = TreeSpec::new().with(Entry::new("big", What::File(big))).file("small", "x").file("other", "y");
    let Some(bench) = Bench::new([tree]) else { return };
    let view = bench.view();
    let root = Caller::root();
    let at = |path: &str| find(&view, &stratafs_testkit::Path::of(path)).expect("find");
    let (big, small) = (at("big"), at("small"));
    let copying = std::sync::atomic::AtomicBool::new(true);
    let mut between = 0;
    std::thread::scope(|s| {
        s.spawn(|| {
            write(&view.open(&big, WRITE, &root).expect("open"), 0, b"!").expect("write");
            copying.store(false, std::sync::atomic::Ordering::Release);
        });
        while copying.load(std::sync::atomic::Ordering::Acquire) {
            write(&view.open(&small, WRITE, &root).expect("open"), 0, b"z").expect("write");
            assert_eq!(view.attr(&big).expect("stat while it is copied").size, 256 << 20);
            between += 1;
        }
    });
    assert!(between > 10, "only {between} operations ran beside the copy");
}

#[test]
fn fault_10_long_names_and_deep_paths_in_the_kernel() {
    let long = "L".repeat(255);
    let tree =
        TreeSpec::new().dir("d").file(format!("d/{long}"), "x").file(b"\xff\xfe", "y").file(".wh.x", "z");
    let Some(bench) = Bench::new([tree]) else { return };
    let view = bench.view();
    let root = Caller::root();
    let mut dir = view.lookup(&view.root(), n("d")).expect("look up").expect("d");
    let file = view.lookup(&dir, n(&long)).expect("look up").expect("file");
    write(&view.open(&file, WRITE, &root).expect("open"), 0, b"X").expect("write");
    for _ in 0..30 {
        // The first one of this name is the file.
        let free = if view.lookup(&dir, n(&long)).expect("look up").is_some() { "next" } else { &long };
        dir = view.make(&dir, n(free), &stratafs_core::New::dir(0o755), &root).expect("mkdir");
    }
    view.make(&dir, n("bottom"), &stratafs_core::New::file(0o644), &root).expect("create");
    drop((dir, file));
    bench.cross(view);
}

#[test]
fn fault_12_hard_links_in_the_kernel() {
    let tree = TreeSpec::new().file("a", "1").hard_link("b", "a").dir("d").hard_link("d/c", "a");
    let Some(bench) = Bench::new([tree]) else { return };
    let view = bench.view();
    let root = Caller::root();
    let b = view.lookup(&view.root(), n("b")).expect("look up").expect("b");
    write(&view.open(&b, WRITE, &root).expect("open"), 1, b"2").expect("write");
    view.unlink(&view.root(), n("a"), &root).expect("unlink");
    drop(b);
    bench.cross(view);
    bench.kernel(|at| {
        let (b, c) = (fs::metadata(at.join("b")).expect("b"), fs::metadata(at.join("d/c")).expect("c"));
        assert_eq!((b.ino(), b.nlink(), c.nlink()), (c.ino(), 2, 2));
        assert_eq!(fs::read(at.join("d/c")).expect("read"), b"12");
    });
}

#[test]
fn fault_13_a_full_disk_leaves_the_lower_version() {
    if !need::root() {
        return;
    }
    let lower = TreeSpec::new()
        .with(Entry::new("big", What::File(Data::seeded(3 << 20, 1))))
        .dir("d")
        .file("d/f", "x")
        .dir("d/sub");
    let ground = Ground::new(&StackSpec::one(lower)).expect("make the layers");
    // From so full that nothing fits to so empty that everything does.
    let mut refused = 0;
    for pages in (1..40).step_by(3) {
        for limit in
            [format!("size={}k,nr_inodes=1000", pages * 4), format!("size=1m,nr_inodes={}", pages / 2 + 8)]
        {
            let at = ground.make("small").expect("make");
            let small = Mounted::tmpfs(&at, &limit).expect("mount a small tmpfs");
            refused += usize::from(full_disk(&ground, &small, &limit));
            small.unmount().expect("nothing holds the tmpfs any more");
            fs::remove_dir(&at).expect("remove the mount point");
        }
    }
    assert!(refused > 8, "only {refused} disks were full");
}

/// True when the disk was too small for something.
fn full_disk(ground: &Ground, small: &Mounted, limit: &str) -> bool {
    let (upper, work) = (small.path().join("upper"), small.path().join("work"));
    let view = match open(&ground.lowers, &upper, &work) {
        Ok(view) => view,
        Err(error) => {
            assert_eq!(error.errno(), ENOSPC, "{limit}: {error}");
            return true;
        }
    };
    let (lowers, dirs) = (ground.lowers.clone(), (upper, work));
    let mut first = Some(view);
    let mut subject = stratafs_testkit::view::ViewSubject::new(move || {
        let again = || open(&lowers, &dirs.0, &dirs.1).expect("open it again");
        first.take().unwrap_or_else(again)
    });
    let path = |text: &str| stratafs_testkit::Path::of(text);
    let mut full = false;
    for op in [
        Op::Chmod { path: path("d/f"), mode: 0o600 },
        Op::Write { path: path("big"), offset: 0, len: 1, fill: b'!' },
        Op::Create { path: path("d/sub/new"), mode: 0o644 },
        Op::Rename { from: path("d"), to: path("e"), how: stratafs_testkit::op::RenameHow::Plain },
        Op::Unlink { path: path("big") },
    ] {
        let before = subject.dump();
        let outcome = subject.apply(&op);
        if let Err(errno) = &outcome {
            assert!([ENOSPC, 2].contains(errno), "{limit}: {op:?}: {errno}");
            full |= *errno == ENOSPC;
            // Only the times of directories that were reached may be others.
            let same = |a: &str, b: &str| a == b || (a.starts_with("Dir") && b.contains("mtime=now"));
            let diff = before.diff_but(&subject.dump(), &same);
            assert!(diff.is_none(), "{limit}: {op:?} failed and left:\n{}", diff.unwrap_or_default());
        }
    }
    let live = subject.dump();
    subject.close();
    // A full disk is no reason not to open what is on it.
    subject.reopen();
    live.assert_same(&subject.dump(), &format!("{limit}: reopening changed the tree"));
    full
}

#[test]
fn kernel_mounts_leave_nothing_open() {
    if !need::root() {
        return;
    }
    let ground = Ground::new(&StackSpec::one(TreeSpec::new().file("f", ""))).expect("make the layers");
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let held = rustix::fs::open(&ground.lowers[0], flags, Mode::empty()).expect("open");
    let at = ground.lowers[0].clone();
    drop((held, ground));
    assert!(!at.exists(), "the ground is gone with its guard");
}
