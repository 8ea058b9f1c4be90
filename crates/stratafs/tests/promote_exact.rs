//! Promotion as a property: whatever a container did, afterwards the target is the container's tree; with chosen
//! paths, nothing else changed; with somebody else's changes in the target, either it is untouched or both are there.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod promote_common;

use promote_common::{Bed, assert_same, dump, lines, merged, number, root, seed, staging};
use std::collections::BTreeSet;
use stratafs::promote::{Action, Promotion, Silent};
use stratafs::{Container, Resolver};
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::host::HostSubject;
use stratafs_testkit::rng::{Rng, Source};
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Op, StackSpec, Subject};

/// A container with random changes over a random directory; what was done, for who reads a failure.
fn changed(rng: &mut Rng, ops: usize) -> (Bed, Container, Vec<Op>) {
    let bed = Bed::new(&generate::tree(rng, 24));
    let known = Known::of_stack(&StackSpec::one(bed.tree.clone()));
    let ops: Vec<Op> = (0..ops).map(|_| generate::op(rng, &known)).filter(|op| *op != Op::Reopen).collect();
    let container = bed.container();
    let view = container.view().clone();
    let mut subject = ViewSubject::new(move || view.clone());
    let done = ops.into_iter().filter(|op| subject.apply(op).is_ok()).collect();
    drop(subject);
    (bed, container, done)
}

fn cases(default: u64) -> u64 {
    number("STRATAFS_CASES").unwrap_or(default)
}

#[test]
fn the_target_becomes_what_the_container_is() {
    if !root() {
        return;
    }
    let seed = seed();
    println!("seed {seed}");
    for case in 0..cases(60) {
        let mut rng = Rng::new(seed + case);
        let (bed, container, ops) = changed(&mut rng, 30);
        let told = || format!("seed {}, {ops:#?}\n{:#?}", seed + case, container.changes().unwrap());
        let target = bed.target();
        let base = bed.base();
        let resolver = if case % 2 == 0 { Resolver::Auto } else { Resolver::StepByStep };
        let promotion = Promotion::of(&container, &base).resolver(resolver).plan(&target);
        let promotion = promotion.unwrap_or_else(|e| panic!("{e}\n{}", told()));
        assert_eq!(promotion.conflicts(), [], "{}", told());
        let report = promotion.apply(&Silent).unwrap_or_else(|e| panic!("{e}\n{}", told()));
        assert!(report.left.is_none(), "{:?}", report.left);
        assert_same(&merged(&container), &dump(&target).to_string(), &told());
        assert!(!staging(&target).exists());
    }
}

#[test]
fn a_dry_run_says_what_is_done_and_changes_nothing() {
    if !root() {
        return;
    }
    let seed = seed();
    println!("seed {seed}");
    for case in 0..cases(10) {
        let (bed, container, _) = changed(&mut Rng::new(seed + case), 20);
        let (target, base) = (bed.target(), bed.base());
        let before = dump(&target);
        let dry = Promotion::of(&container, &base).recover_first(false).plan(&target).unwrap();
        let said = dry.steps().to_vec();
        drop(dry);
        before.assert_same(&dump(&target), "a plan changes nothing");
        let report = Promotion::of(&container, &base).plan(&target).unwrap().apply(&Silent).unwrap();
        assert_eq!(report.steps, said);
    }
}

#[test]
fn with_chosen_paths_only_these_differ() {
    if !root() {
        return;
    }
    let seed = seed();
    println!("seed {seed}");
    for case in 0..cases(60) {
        let mut rng = Rng::new(seed + case);
        let (bed, container, ops) = changed(&mut rng, 24);
        let changes = container.changes().unwrap();
        let real: Vec<_> = changes.iter().filter(|change| !change.path.is_empty()).collect();
        if real.is_empty() {
            continue;
        }
        let chosen = String::from_utf8_lossy(&rng.pick(&real).path).into_owned();
        if chosen.contains('\u{fffd}') {
            continue;
        }
        let told = format!("seed {}, chosen {chosen}, {ops:#?}\n{changes:#?}", seed + case);
        let (target, base) = (bed.target(), bed.base());
        let before = lines(&dump(&target).to_string());
        let promotion = Promotion::of(&container, &base).only([&chosen]).plan(&target);
        let promotion = promotion.unwrap_or_else(|e| panic!("{e}\n{told}"));
        assert_eq!(promotion.conflicts(), [], "{told}");
        let report = promotion.apply(&Silent).unwrap_or_else(|e| panic!("{e}\n{told}"));
        let mut touched = BTreeSet::new();
        for step in &report.steps {
            touched.insert(shown(&step.path));
            if let Action::Move { from } = &step.action {
                touched.insert(shown(from));
            }
        }
        let is_touched =
            |path: &str| touched.iter().any(|top| path == top || path.starts_with(&format!("{top}/")));
        let (wanted, after) = (lines(&merged(&container)), lines(&dump(&target).to_string()));
        let all: BTreeSet<&String> = wanted.keys().chain(after.keys()).chain(before.keys()).collect();
        let top = format!("/{chosen}");
        for path in all {
            if *path == top || path.starts_with(&format!("{top}/")) {
                assert_eq!(after.get(path), wanted.get(path), "{path}: {told}\n{:#?}", report.steps);
            } else if !is_touched(path) {
                assert_eq!(after.get(path), before.get(path), "{path}: {told}\n{:#?}", report.steps);
            }
        }
    }
}

fn shown(path: &[u8]) -> String {
    stratafs_testkit::Path::of(path).to_string()
}

#[test]
fn with_changes_of_others_both_are_there_or_nothing_is_done() {
    if !root() {
        return;
    }
    let seed = seed();
    println!("seed {seed}");
    let (mut refused, mut done) = (0, 0);
    for case in 0..cases(80) {
        let mut rng = Rng::new(seed + case);
        let (bed, container, ops) = changed(&mut rng, 12);
        let (target, base) = (bed.target(), bed.base());
        let before = lines(&dump(&target).to_string());
        let mut others = HostSubject::new(&target).unwrap();
        let known = Known::of_dump(&dump(&target));
        let foreign: Vec<Op> = (0..4).map(|_| generate::op(&mut rng, &known)).collect();
        // Overlayfs's own attributes in a directory of the host say nothing to anybody here.
        let own = |op: &Op| matches!(op, Op::SetXattr { name, .. } if name.starts_with(b"trusted.overlay."));
        let foreign = foreign.into_iter().filter(|op| !own(op));
        let foreign: Vec<Op> = foreign.filter(|op| others.apply(op).is_ok()).collect();
        let told = format!("seed {}, {ops:#?}\nothers {foreign:#?}\n{:#?}", seed + case, container.changes());
        let theirs = dump(&target);
        let promotion = Promotion::of(&container, &base).plan(&target);
        let promotion = promotion.unwrap_or_else(|e| panic!("{e}\n{told}"));
        if !promotion.conflicts().is_empty() {
            refused += 1;
            promotion.apply(&Silent).unwrap_err();
            theirs.assert_same(&dump(&target), &told);
            continue;
        }
        done += 1;
        promotion.apply(&Silent).unwrap_or_else(|e| panic!("{e}\n{told}"));
        let (ours, theirs) = (lines(&merged(&container)), lines(&theirs.to_string()));
        let after = lines(&dump(&target).to_string());
        let all: BTreeSet<&String> = ours.keys().chain(theirs.keys()).chain(after.keys()).collect();
        for path in all {
            let (ours, theirs, was) = (ours.get(path), theirs.get(path), before.get(path));
            let expected = if ours == was { theirs } else { ours };
            assert_eq!(after.get(path), expected, "{path}: {told}");
            // Another time with the same content is nobody's work.
            let timeless = |line: Option<&String>| {
                let words = line.map(|line| line.split(' ').filter(|word| !word.starts_with("mtime=")));
                words.map(|words| words.collect::<Vec<_>>().join(" "))
            };
            let untouched = timeless(theirs) == timeless(was) || ours == was || ours == theirs;
            assert!(untouched, "overwritten {path}: {told}");
        }
    }
    println!("{refused} refused, {done} done");
    assert!(number::<u64>("STRATAFS_CASES").is_some() || refused > 0 && done > 0);
}
