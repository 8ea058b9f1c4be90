//! The change list of 100 changes over 60,000 entries, beside walks that take the attributes of everything: what a
//! tool without a change list has to do at least.
//!
//! *first*: in a view or mount that was just opened; *again*: in one that was asked before.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::cell::LazyCell;
use std::fs;
use stratafs_benches::{Ground, Host, Strata, System, timing};
use stratafs_core::{Caller, Durability, Kind, Name, New};

const DIRS: usize = 594;
const FILES: usize = 100;
const ENTRIES: usize = DIRS * (FILES + 1);
/// Of each kind of change.
const EACH: usize = 25;

/// Fresh views and mounts for one sample.
const FRESH: u64 = 2;

/// Makes the changes, each kind in as many directories: a write, another owner, a removal, a new file.
fn change(strata: &Strata) {
    let root = Caller::root();
    for n in 0..EACH {
        let dir = format!("d{}", n * (DIRS / EACH));
        let path = |name: &str| strata.path(&format!("{dir}/{name}"));
        strata.write_byte(&path("f1"));
        strata.chown(&path("f2"));
        let name = |name| Name::new(name).expect("a name");
        let inode = strata.view.lookup(&strata.view.root(), name(dir.as_bytes())).expect("look up");
        let inode = inode.expect("it exists");
        strata.view.unlink(&inode, name(b"f3"), &root).expect("unlink");
        strata.view.make(&inode, name(b"new"), &New::file(0o644), &root).expect("create");
    }
}

fn timed<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    make: impl Fn() -> T,
    count: impl Fn(&T) -> usize,
    expected: usize,
) {
    group.bench_function(BenchmarkId::new(name, "first"), |b| {
        b.iter_custom(|iters| timing::fresh(iters, FRESH, &make, |made| assert_eq!(count(made), expected)));
    });
    let made = LazyCell::new(|| {
        let made = make();
        count(&made);
        made
    });
    group.bench_function(BenchmarkId::new(name, "again"), |b| b.iter(|| assert_eq!(count(&made), expected)));
}

fn changes(c: &mut Criterion) {
    let ground = Ground::host();
    let (lower, plain) = (ground.make("lower"), ground.make("plain"));
    for n in 0..DIRS {
        for root in [&lower, &plain] {
            let dir = root.join(format!("d{n}"));
            fs::create_dir(&dir).expect("make a directory");
            for file in 0..FILES {
                fs::write(dir.join(format!("f{file}")), b"").expect("write");
            }
        }
    }
    let lowers = [lower];
    let scratch = ground.make("scratch");
    let open = || Strata::open(&scratch, &lowers, Durability::Ordered);
    change(&open());

    let mut group = c.benchmark_group("100 changes over 60,000 entries");
    timing::slow(&mut group);
    // Directories are listed besides, for their times.
    let files = |strata: &Strata| {
        let list = strata.view.changes().expect("the change list");
        list.iter().filter(|change| change.kind != Kind::Dir).count()
    };
    timed(&mut group, "strata, changes()", open, files, 4 * EACH);
    timed(&mut group, "strata, walk", open, Strata::walk, ENTRIES);
    timed(&mut group, "plain directory, walk", || Host::plain(&plain), Host::walk, ENTRIES);
    if Host::kernel(&ground, &lowers, "").is_some() {
        let mount = || Host::kernel(&ground, &lowers, "").expect("mounted before");
        timed(&mut group, "kernel, walk", mount, Host::walk, ENTRIES);
    }
    group.finish();
}

criterion_group!(benches, changes);
criterion_main!(benches);
