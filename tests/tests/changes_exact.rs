//! The change list against an independent comparison: the image's tree and the container's are walked through two
//! views, and after the reported renames were applied to the former, the difference must be the rest of the list.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use stratafs_core::{Config, Stack, View};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::Rng;
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Path, StackSpec, Subject, TreeSpec};
use stratafs_tests::beds::{self, DirBed, MemBed};
use stratafs_tests::exact::{faults, lines, walk};
use stratafs_tests::{minimise, need};

/// What panics say when a minimised stack makes no sense.
const FIXTURE: &str = "layer: ";
/// Operations on one stack.
const OPS: usize = 24;

fn check<B: Bed + Clone + 'static>(stack: &StackSpec, ops: &[Op]) {
    let bed = B::new(stack).unwrap();
    let layers = Stack { layers: bed.layers(), scratch: None::<B::S> };
    let old = walk(&View::new(layers, Config::default()).unwrap());
    let mut subject = ViewSubject::new({
        let bed = bed.clone();
        move || beds::view(&bed)
    });
    // The roots of a fresh scratch and of the image may have different times.
    let fresh = faults(&old, &walk(subject.view()), &subject.view().changes().unwrap());
    assert_eq!(fresh, [""; 0], "before anything was done");
    for op in ops {
        let _ = subject.apply(op);
    }
    let new = walk(subject.view());
    let live = subject.view().changes().unwrap();
    let wrong = faults(&old, &new, &live);
    assert!(wrong.is_empty(), "{wrong:#?}\nof {:#?}", lines(&live));
    subject.reopen();
    let again = subject.view().changes().unwrap();
    let (live, again): (BTreeSet<_>, BTreeSet<_>) = (lines(&live), lines(&again));
    let (lost, found): (Vec<_>, Vec<_>) =
        (live.difference(&again).collect(), again.difference(&live).collect());
    assert!(lost.is_empty() && found.is_empty(), "after reopening: lost {lost:#?}, found {found:#?}");
}

fn sequences<B: Bed + Clone + 'static>(default: u32) {
    let seed = need::seed();
    let cases = need::number("STRATAFS_CASES").unwrap_or(default);
    println!("changes: seed {seed}, {cases} sequences");
    let mut rng = Rng::new(seed);
    for _ in 0..cases {
        let stack = generate::stack(&mut rng);
        let known = Known::of_stack(&stack);
        let ops: Vec<Op> = (0..OPS).map(|_| generate::op(&mut rng, &known)).collect();
        minimise::check(&stack, &ops, FIXTURE, &|stack, ops| check::<B>(stack, ops));
    }
}

#[test]
fn in_memory() {
    sequences::<MemBed>(2000);
}

#[test]
fn in_directories() {
    if need::root() {
        sequences::<DirBed>(150);
    }
}

#[test]
fn the_comparison_notices_what_is_left_out() {
    let bed = MemBed::new(&StackSpec::one(TreeSpec::new().file("f", "x"))).unwrap();
    let old = walk(&beds::view(&bed));
    let mut subject = ViewSubject::new(move || beds::view(&bed));
    subject.apply(&Op::Unlink { path: Path::of("f") }).unwrap();
    let new = walk(subject.view());
    assert_eq!(faults(&old, &new, &[]).len(), 2, "the deletion and the root's time");
}
