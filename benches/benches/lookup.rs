//! From a path to attributes, and to the first bytes: by depth and number of layers.
//!
//! *warm*: asked before. *cold*: the first question to a view or mount that was just opened, over directories that the
//! kernel has in its caches; a plain directory is never cold in this sense. Views and kernel mounts have a scratch.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::cell::Cell;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use stratafs_benches::system::HEAD;
use stratafs_benches::{Ground, Host, Strata, System, Vfs, ground, timing};
use stratafs_core::Durability;

/// Fresh views and mounts for one sample of a cold lookup.
const FRESH: u64 = 4;
/// Files that are read for the first time in one sample.
const FILES: u64 = 1000;

/// Layers that all have the same chain of directories. At its end the lowest has the file `hit`, and the file `gone`
/// that the topmost hides.
struct Stacked {
    ground: Ground,
    lowers: Vec<PathBuf>,
    plain: PathBuf,
    dir: String,
}

impl Stacked {
    fn new(layers: usize, depth: usize) -> Self {
        let ground = Ground::host();
        let dir: String = (1..depth).map(|n| format!("d{n}/")).collect();
        let lowers: Vec<_> = (0..layers).map(|n| ground.make(&format!("{n}"))).collect();
        let plain = ground.make("plain");
        for root in lowers.iter().chain([&plain]) {
            fs::create_dir_all(root.join(&dir)).expect("make directories");
        }
        let lowest = lowers.last().expect("a layer").join(&dir);
        for file in [lowest.join("hit"), plain.join(&dir).join("hit")] {
            fs::write(file, [7; HEAD]).expect("write");
        }
        if layers > 1 {
            fs::write(lowest.join("gone"), b"").expect("write");
        }
        ground::whiteout(&lowers[0].join(&dir).join("gone"));
        Self { ground, lowers, plain, dir }
    }

    fn strata(&self) -> Strata {
        Strata::new(&self.ground, &self.lowers, Durability::Volatile)
    }

    fn kernel(&self) -> Option<Host> {
        Host::kernel(&self.ground, &self.lowers, "")
    }
}

fn warm<S: System>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    system: &S,
    case: &str,
    path: &str,
    there: bool,
) {
    let path = system.path(path);
    assert_eq!(system.stat(&path), there, "{}: {case}", system.name());
    group.bench_function(BenchmarkId::new(system.name(), case), |b| b.iter(|| system.stat(black_box(&path))));
}

fn cold<S: System>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    make: impl Fn() -> S,
    case: &str,
    path: &str,
    there: bool,
) {
    let name = make().name();
    group.bench_function(BenchmarkId::new(name, case), |b| {
        b.iter_custom(|iters| {
            let ready = || {
                let system = make();
                let path = system.path(path);
                (system, path)
            };
            timing::fresh(iters, FRESH, ready, |(system, path)| assert_eq!(system.stat(path), there))
        });
    });
}

fn stat(c: &mut Criterion) {
    for (layers, depth) in [(8, 1), (8, 16), (1, 4), (8, 4), (64, 4), (500, 4)] {
        let stacked = Stacked::new(layers, depth);
        let strata = stacked.strata();
        let plain = Host::plain(&stacked.plain);
        let kernel = stacked.kernel();
        let vfs = Vfs::new(&stacked.ground, &stacked.lowers);
        for (kind, name, there) in
            [("hit", "hit", true), ("miss", "none", false), ("whiteout", "gone", false)]
        {
            let path = format!("{}{name}", stacked.dir);
            let case = format!("{kind}, {layers} layers, depth {depth}");
            if kind == "whiteout" && layers > 1 {
                vfs.remove(&path);
            }
            let mut group = c.benchmark_group("stat, warm");
            timing::short(&mut group);
            warm(&mut group, &strata, &case, &path, there);
            warm(&mut group, &plain, &case, &path, there);
            if let Some(kernel) = &kernel {
                warm(&mut group, kernel, &case, &path, there);
            }
            // Of one layer alone it would find the device that is our whiteout.
            if kind != "whiteout" || layers > 1 {
                warm(&mut group, &vfs, &case, &path, there);
            }
            group.finish();

            let mut group = c.benchmark_group("stat, cold");
            timing::slow(&mut group);
            cold(&mut group, || stacked.strata(), &case, &path, there);
            if kernel.is_some() {
                cold(&mut group, || stacked.kernel().expect("mounted before"), &case, &path, there);
            }
            group.finish();
        }
    }
}

/// Names that nobody asked for before, and one name again and again.
fn miss(c: &mut Criterion) {
    let stacked = Stacked::new(64, 1);
    let strata = stacked.strata();
    let plain = Host::plain(&stacked.plain);
    let kernel = stacked.kernel();
    let vfs = Vfs::new(&stacked.ground, &stacked.lowers);
    let mut group = c.benchmark_group("miss in 64 layers");
    timing::short(&mut group);
    misses(&mut group, &strata);
    misses(&mut group, &plain);
    if let Some(kernel) = &kernel {
        misses(&mut group, kernel);
    }
    misses(&mut group, &vfs);
    group.finish();
}

fn misses<S: System>(group: &mut BenchmarkGroup<'_, WallTime>, system: &S) {
    let next = Cell::new(0_u64);
    let fresh = || {
        next.set(next.get() + 1);
        system.path(&format!("none-{}", next.get()))
    };
    group.bench_function(BenchmarkId::new(system.name(), "new names"), |b| {
        b.iter_batched(fresh, |path| system.stat(&path), BatchSize::SmallInput);
    });
    let path = system.path("none");
    group.bench_function(BenchmarkId::new(system.name(), "one name"), |b| {
        b.iter(|| system.stat(black_box(&path)));
    });
}

/// Lookup, open and a read of 4 KiB, through three layers.
fn head(c: &mut Criterion) {
    let ground = Ground::host();
    let lowers: Vec<_> = (0..3).map(|n| ground.make(&format!("{n}"))).collect();
    let plain = ground.make("plain");
    for n in 0..FILES {
        let lower = &lowers[usize::try_from(n).expect("small") % lowers.len()];
        for root in [lower, &plain] {
            fs::write(root.join(format!("f{n}")), [7; HEAD]).expect("write");
        }
    }
    let mut group = c.benchmark_group("open and read 4 KiB, 3 layers");
    timing::short(&mut group);
    heads(&mut group, || Strata::new(&ground, &lowers, Durability::Volatile));
    heads(&mut group, || Host::plain(&plain));
    if Host::kernel(&ground, &lowers, "").is_some() {
        heads(&mut group, || Host::kernel(&ground, &lowers, "").expect("mounted before"));
    }
    heads(&mut group, || Vfs::new(&ground, &lowers));
    group.finish();
}

fn heads<S: System>(group: &mut BenchmarkGroup<'_, WallTime>, make: impl Fn() -> S) {
    let mut buf = [0; HEAD];
    let system = make();
    let path = system.path("f2");
    assert_eq!(system.head(&path, &mut buf), HEAD);
    group.bench_function(BenchmarkId::new(system.name(), "one file again"), |b| {
        b.iter(|| system.head(black_box(&path), &mut buf));
    });
    group.bench_function(BenchmarkId::new(system.name(), "each file once"), |b| {
        b.iter_custom(|iters| {
            let ready = || {
                let system = make();
                let paths: Vec<_> = (0..FILES).map(|n| system.path(&format!("f{n}"))).collect();
                (system, paths)
            };
            timing::in_turn(iters, FILES, ready, |(system, paths), n| {
                let path = &paths[usize::try_from(n).expect("small")];
                system.head(path, &mut buf);
            })
        });
    });
}

criterion_group!(benches, head, miss, stat);
criterion_main!(benches);
