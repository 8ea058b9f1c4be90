//! Operations with verbs of the scratch that fail here and there: whatever a failure left behind, the view goes on
//! with what is stored.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use stratafs_core::error::errno::{EIO, ENOSPC};
use stratafs_core::{Config, Durability, Stack, View};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::faulty::{Fault, Faulty, Switch};
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::{Rng, Source};
use stratafs_testkit::view::{ViewSubject, dump};
use stratafs_testkit::{StackSpec, Subject};
use stratafs_tests::beds::{self, DirBed, MemBed};
use stratafs_tests::{minimise, need};

const OPS: usize = 40;
/// What panics say when a minimised stack makes no sense.
const FIXTURE: &str = "layer: ";

/// Which verb of an operation fails, and how: a function of the operation, so that leaving others out changes nothing.
fn fault(op: &Op, seed: u64) -> Option<(usize, Fault)> {
    let text = format!("{op:?}");
    let mut rng = Rng::new(seed ^ stratafs_testkit::dump::hash(text.as_bytes()));
    rng.chance(50).then(|| (rng.below(9) as usize, Fault::Fail(*rng.pick(&[EIO, ENOSPC]))))
}

fn check<B: Bed + Clone + 'static>(stack: &StackSpec, ops: &[Op], seed: u64) {
    let bed = B::new(stack).unwrap();
    let switch = Switch::default();
    let durability = [Durability::Volatile, Durability::Ordered, Durability::Strict][(seed % 3) as usize];
    let open = {
        let (bed, switch) = (bed.clone(), switch.clone());
        move || {
            let scratch = Faulty::new(bed.scratch(), switch.clone());
            let stack = Stack { layers: bed.layers(), scratch: Some(scratch) };
            View::new(stack, Config { durability, ..Config::default() }).unwrap()
        }
    };
    let mut subject = ViewSubject::new(open);
    for op in ops {
        switch.arm(fault(op, seed));
        let _ = subject.apply(op);
        switch.disarm();
        let _ = subject.dump();
    }
    let live = subject.dump();
    subject.close();
    let stored = dump(&beds::view(&bed)).unwrap();
    live.assert_same(&stored, "the view and what is stored differ");
}

fn sequences<B: Bed + Clone + 'static>(default: u32) {
    let seed = need::seed();
    println!("faults: seed {seed}");
    let mut rng = Rng::new(seed);
    for n in 0..need::number("STRATAFS_CASES").unwrap_or(default) {
        let stack = generate::stack(&mut rng);
        let known = Known::of_stack(&stack);
        let ops: Vec<Op> = (0..OPS).map(|_| generate::op(&mut rng, &known)).collect();
        let seed = seed.wrapping_add(u64::from(n));
        minimise::check(&stack, &ops, FIXTURE, &|stack, ops| check::<B>(stack, ops, seed));
    }
}

#[test]
fn in_memory() {
    sequences::<MemBed>(500);
}

#[test]
fn in_directories() {
    if need::root() {
        sequences::<DirBed>(80);
    }
}
