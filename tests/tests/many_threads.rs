//! Random operations from many threads on one view: nothing hangs, no error that no operation could have had, and
//! what the view shows at the end is what is stored.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{scope, spawn};
use std::time::Duration;
use stratafs_core::error::errno::*;
use stratafs_core::{Caller, Name, New, SetAttr, SetTime, Time};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::Rng;
use stratafs_testkit::view::{ViewSubject, dump};
use stratafs_testkit::{StackSpec, Subject, TreeSpec};
use stratafs_tests::beds::{self, DirBed, MemBed};
use stratafs_tests::need;

const THREADS: u64 = 8;
/// What a round may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Errors that a plain file system could give for these operations, whatever the other threads do.
const EXPECTED: &[i32] = &[
    ENOENT,
    ENOTDIR,
    EISDIR,
    EEXIST,
    ENOTEMPTY,
    EINVAL,
    EPERM,
    EBUSY,
    ELOOP,
    ENXIO,
    ENODATA,
    EBADF,
    EOPNOTSUPP,
    ENAMETOOLONG,
    EACCES,
    ERANGE,
];

fn round<B: Bed + Clone + Send + 'static>(seed: u64, ops: u32)
where
    B::L: Sync,
{
    let mut rng = Rng::new(seed);
    let stack: StackSpec = generate::stack(&mut rng);
    let known = Known::of_stack(&stack);
    let bed = B::new(&stack).unwrap();
    let view = beds::view(&bed);
    let (done, finished) = channel();
    let workers: Vec<_> = (0..THREADS)
        .map(|n| {
            let (view, known, done) = (view.clone(), known.clone(), done.clone());
            spawn(move || {
                let mut rng = Rng::new(seed ^ (n + 1) << 32);
                let mut subject = ViewSubject::new(move || view.clone());
                let mut odd = BTreeMap::<String, usize>::new();
                for _ in 0..ops {
                    let op = generate::op(&mut rng, &known);
                    // A stat of the dump reads attributes and content one after the other.
                    if matches!(op, Op::Reopen | Op::Stat { .. }) {
                        continue;
                    }
                    if let Err(code) = subject.apply(&op)
                        && !EXPECTED.contains(&code)
                    {
                        *odd.entry(format!("errno {code} for {op:?}")).or_default() += 1;
                    }
                }
                subject.close();
                drop(subject);
                done.send(()).unwrap();
                odd
            })
        })
        .collect();
    drop(done);
    for _ in 0..THREADS {
        match finished.recv_timeout(PATIENCE) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("seed {seed}: hung"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let odd: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    assert!(odd.is_empty(), "seed {seed}: {odd:#?}");
    let live = dump(&view).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    drop(view);
    let stored = dump(&beds::view(&bed)).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    live.assert_same(&stored, &format!("seed {seed}: the view and what is stored differ"));
}

fn rounds<B: Bed + Clone + Send + 'static>(default: u64, ops: u32)
where
    B::L: Sync,
{
    let seed = need::seed();
    println!("threads: seed {seed}");
    for n in 0..need::number("STRATAFS_ROUNDS").unwrap_or(default) {
        round::<B>(seed.wrapping_add(n), ops);
    }
}

/// Copying up what is in a directory puts the directory's times back, and must not take those of a change in between.
fn times_of_directories<B: Bed>() {
    const FILES: usize = 300;
    let mut tree = TreeSpec::new().dir("d");
    for n in 0..FILES {
        tree = tree.file(format!("d/{n}"), "x");
    }
    let Some(bed) = B::new(&StackSpec::one(tree)) else { return };
    let view = beds::view(&bed);
    let root = Caller::root();
    let dir = view.lookup(&view.root(), Name::new(b"d").unwrap()).unwrap().unwrap();
    let mtime = || view.attr(&dir).unwrap().mtime;
    scope(|s| {
        s.spawn(|| {
            for n in 0..FILES {
                let name = n.to_string();
                let file = view.lookup(&dir, Name::new(name.as_bytes()).unwrap()).unwrap().unwrap();
                view.set_attr(&file, &SetAttr { mode: Some(0o600), ..SetAttr::default() }, &root).unwrap();
            }
        });
        for n in 0..FILES {
            let name = format!("new{n}");
            view.make(&dir, Name::new(name.as_bytes()).unwrap(), &New::file(0o644), &root).unwrap();
            let made = mtime();
            assert!((0..20).all(|_| mtime() >= made), "a directory's time went back");
        }
        let explicit = Time { secs: i64::from(u32::MAX), nanos: 5 };
        view.set_attr(&dir, &SetAttr { mtime: Some(SetTime::At(explicit)), ..SetAttr::default() }, &root)
            .unwrap();
    });
    assert_eq!(mtime(), Time { secs: i64::from(u32::MAX), nanos: 5 });
}

#[test]
fn times_of_directories_in_memory() {
    for _ in 0..10 {
        times_of_directories::<MemBed>();
    }
}

#[test]
fn times_of_directories_in_directories() {
    times_of_directories::<DirBed>();
}

#[test]
fn in_memory() {
    rounds::<MemBed>(80, 400);
}

#[test]
fn in_directories() {
    if need::root() {
        rounds::<DirBed>(25, 250);
    }
}
