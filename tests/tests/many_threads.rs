//! Random operations from many threads on one view: nothing hangs, no error that no operation could have had, and
//! what the view shows at the end is what is stored.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::Duration;
use stratafs_core::error::errno::*;
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::Rng;
use stratafs_testkit::view::{ViewSubject, dump};
use stratafs_testkit::{StackSpec, Subject};
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
