//! Listing a directory that is merged from ten layers with 5,000 names each, all different.
//!
//! *first*: in a view or mount that was just opened. *again*: opened and listed anew.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::fs;
use stratafs_benches::{Ground, Host, Strata, System, Vfs, timing};
use stratafs_core::Durability;

const LAYERS: usize = 10;
const NAMES: usize = 5000;

/// Fresh views and mounts for one sample.
const FRESH: u64 = 3;

fn read_dir(c: &mut Criterion) {
    let ground = Ground::host();
    let lowers: Vec<_> = (0..LAYERS).map(|n| ground.make(&format!("{n}"))).collect();
    let plain = ground.make("plain");
    for (layer, lower) in lowers.iter().enumerate() {
        for dir in [lower, &plain] {
            fs::create_dir_all(dir.join("dir")).expect("make a directory");
            for n in 0..NAMES {
                fs::write(dir.join(format!("dir/name-{layer}-{n}")), b"").expect("write");
            }
        }
    }
    let mut group = c.benchmark_group("read_dir, 10 layers of 5,000 names");
    timing::slow(&mut group);
    listings(&mut group, || Strata::new(&ground, &lowers, Durability::Volatile));
    listings(&mut group, || Host::plain(&plain));
    if Host::kernel(&ground, &lowers, "").is_some() {
        listings(&mut group, || Host::kernel(&ground, &lowers, "").expect("mounted before"));
    }
    listings(&mut group, || Vfs::new(&ground, &lowers));
    group.finish();
}

fn listings<S: System>(group: &mut BenchmarkGroup<'_, WallTime>, make: impl Fn() -> S) {
    let system = make();
    let path = system.path("dir");
    assert_eq!(system.list(&path), LAYERS * NAMES);
    group.bench_function(BenchmarkId::new(system.name(), "first"), |b| {
        b.iter_custom(|iters| {
            let ready = || {
                let system = make();
                let path = system.path("dir");
                (system, path)
            };
            timing::fresh(iters, FRESH, ready, |(system, path)| system.list(path))
        });
    });
    group.bench_function(BenchmarkId::new(system.name(), "again"), |b| b.iter(|| system.list(&path)));
}

criterion_group!(benches, read_dir);
criterion_main!(benches);
