//! The kernel's overlayfs as oracle: the same operations on a kernel mount and on a view over the same layers;
//! the same trees after every batch, after reopening both, after the kernel mounts our upper and after we open
//! the kernel's. The operation count comes from `STRATAFS_ORACLE_OPS`, the seed from `STRATAFS_SEED`.
//!
//! Tolerated differences, each a shortcoming of the kernel's:
//! - With metacopy, copying up a file's data after its attributes changes its modification time.
//! - It makes no redirect over 256 bytes (`EXDEV`), though it follows those that we make. The stack ends there. It also
//!   says so before it looks whether the directory that would be replaced is empty.
//! - A directory that is not merged lists whiteouts which stand in it: the stacks have no such whiteouts.

use std::path::{Path, PathBuf};
use stratafs_core::error::errno::{ENOTEMPTY, EXDEV};
use stratafs_core::{Config, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, Resolver, ScratchOptions};
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::rng::{Rng, Source};
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Dump, Model, Op, Outcome, StackSpec, Subject, Value};
use stratafs_tests::beds::layer_options;
use stratafs_tests::ground::{Ground, KERNEL, KERNEL_PLAIN, Kernel};
use stratafs_tests::{minimise, need};

const OPERATIONS: usize = 20_000;
const BATCH: usize = 60;
const BATCHES: usize = 4;
/// What panics say when a minimised stack makes no sense.
const FIXTURE: &str = "make the layers";

/// True when two lines of dumps are the same but for what is tolerated.
fn same(kernel: &str, ours: &str) -> bool {
    let split = |line: &str| {
        let (head, tail) = line.split_once(" mtime=")?;
        let (time, tail) = tail.split_once(' ').unwrap_or((tail, ""));
        Some((time.to_string(), format!("{head} {tail}")))
    };
    let metacopy_lost_the_time = || {
        let ((time, kernel_rest), (_, our_rest)) = split(kernel).zip(split(ours))?;
        Some(kernel.starts_with("File") && time == "now" && kernel_rest == our_rest)
    };
    kernel == ours || metacopy_lost_the_time().unwrap_or(false)
}

fn same_outcome(kernel: &Outcome, ours: &Outcome) -> bool {
    match (kernel, ours) {
        (Ok(Value::Text(a)), Ok(Value::Text(b))) => same(a, b),
        _ => kernel == ours,
    }
}

fn open(lowers: &[PathBuf], upper: &Path, work: &Path) -> View<DirLayer, DirScratch> {
    let options = layer_options(Resolver::Auto);
    let layers = lowers.iter().map(|at| DirLayer::open(at, &options).expect("open a layer")).collect();
    let scratch = DirScratch::create(upper, work, &ScratchOptions::default()).expect("open the scratch");
    View::new(Stack { layers, scratch: Some(scratch) }, Config::default()).expect("open the view")
}

/// One stack: both sides, and what was done to them.
struct Round {
    ground: Ground,
    kernel: Kernel,
    ours: ViewSubject<DirLayer, DirScratch>,
    our_dirs: (PathBuf, PathBuf),
}

impl Round {
    fn new(stack: &StackSpec, options: &'static str) -> Self {
        let ground = Ground::new(stack).expect("make the layers");
        let kernel = Kernel::new(&ground, options).expect("mount the kernel's overlay");
        let our_dirs =
            (ground.make("our-upper").expect("make it"), ground.make("our-work").expect("make it"));
        let (lowers, (upper, work)) = (ground.lowers.clone(), our_dirs.clone());
        let ours = ViewSubject::new(move || open(&lowers, &upper, &work));
        Self { ground, kernel, ours, our_dirs }
    }

    /// `false` when the kernel cannot go on.
    fn apply(&mut self, op: &Op) -> bool {
        let (kernel, ours) = (self.kernel.subject.apply(op), self.ours.apply(op));
        if kernel == Err(EXDEV) && ours == Ok(Value::Done) {
            return false;
        }
        if kernel == Err(EXDEV) && ours == Err(ENOTEMPTY) {
            return true;
        }
        assert!(same_outcome(&kernel, &ours), "{op:?}: kernel {kernel:?}, ours {ours:?}");
        true
    }

    fn compare(&self, kernel: &Dump, ours: &Dump, when: &str) {
        if let Some(diff) = kernel.diff_but(ours, &same) {
            panic!("{when} (- kernel, + ours):\n{diff}");
        }
    }

    /// Each side alone, opened again, then both against each other.
    fn reopen(&mut self) {
        let (kernel, ours) = (self.kernel.subject.dump(), self.ours.dump());
        self.compare(&kernel, &ours, "after a batch");
        self.ours.reopen();
        if let Some(diff) = ours.diff(&self.ours.dump()) {
            panic!("our tree changed by reopening:\n{diff}");
        }
        self.kernel.remount(&self.ground).expect("mount again");
        kernel.assert_same(&self.kernel.subject.dump(), "the kernel's tree changed by mounting again");
    }

    /// The kernel mounts our upper, and we open the kernel's.
    fn cross(mut self) {
        let (kernel, ours) = (self.kernel.subject.dump(), self.ours.dump());
        self.ours.close();
        self.kernel.unmount().expect("unmount");
        let (kernel_upper, kernel_work) = self.kernel.dirs();
        let by_us = open(&self.ground.lowers, kernel_upper, kernel_work);
        let read = stratafs_testkit::view::dump(&by_us);
        drop(by_us);
        match read {
            Ok(read) => {
                if let Some(diff) = kernel.diff(&read) {
                    panic!("we read the kernel's upper differently (- kernel, + we):\n{diff}");
                }
            }
            Err(error) => panic!("we cannot read the kernel's upper: {error}\n"),
        }
        let at = self.ground.make("cross").expect("make a mount point");
        let (upper, work) = &self.our_dirs;
        let mounted = self.ground.overlay(&at, upper, work, KERNEL).expect("the kernel mounts our upper");
        let opened = std::fs::File::open(&at).expect("open the mount");
        let read = stratafs_testkit::host::dump(&opened);
        drop(opened);
        let read = read.unwrap_or_else(|e| panic!("the kernel cannot read our upper: {e}"));
        if let Some(diff) = ours.diff(&read) {
            panic!("the kernel reads our upper differently (- ours, + kernel):\n{diff}");
        }
        mounted.unmount().expect("unmount our upper");
    }
}

/// Operations with names that exist by then: the model says which.
fn operations(stack: &StackSpec, rng: &mut Rng) -> Vec<Op> {
    let mut known = Known::of_stack(stack);
    let mut model = Model::from_stack(stack);
    let mut ops = Vec::new();
    for _ in 0..BATCHES {
        for _ in 0..BATCH {
            let op = generate::op(rng, &known);
            let _ = model.apply(&op);
            ops.push(op);
        }
        known = Known::of_dump(&model.dump());
    }
    ops
}

#[test]
fn views_agree_with_the_kernel() {
    if !need::root() {
        return;
    }
    let seed = need::seed();
    println!("oracle: seed {seed}");
    let mut rng = Rng::new(seed);
    let (mut done, mut mounts) = (0, 0);
    while done < need::number("STRATAFS_ORACLE_OPS").unwrap_or(OPERATIONS) {
        let stack = Model::without_idle_whiteouts(generate::stack(&mut rng));
        let options = if rng.chance(50) { KERNEL } else { KERNEL_PLAIN };
        let ops = operations(&stack, &mut rng);
        minimise::check(&stack, &ops, FIXTURE, &|stack, ops| {
            let mut round = Round::new(stack, options);
            round.compare(&round.kernel.subject.dump(), &round.ours.dump(), "the layers alone");
            for batch in ops.chunks(BATCH) {
                if !batch.iter().all(|op| round.apply(op)) {
                    return;
                }
                round.reopen();
            }
            round.cross();
        });
        done += ops.len();
        mounts += 3 + ops.len() / BATCH;
    }
    println!("oracle: {done} operations, seed {seed}, {mounts} mounts");
}

/// The model itself is checked by the kernel too: an independent merge of the same layers.
#[test]
fn model_agrees_with_the_kernel() {
    if !need::root() {
        return;
    }
    let seed = need::seed();
    println!("oracle: seed {seed}");
    let mut rng = Rng::new(seed);
    for _ in 0..need::number("STRATAFS_CASES").unwrap_or(40) {
        let stack = Model::without_idle_whiteouts(generate::stack(&mut rng));
        let ground = Ground::new(&stack).expect("make the layers");
        let mut kernel = Kernel::new(&ground, KERNEL_PLAIN).expect("mount");
        let mut model = Model::from_stack(&stack);
        let known = Known::of_stack(&stack);
        let mut ops = Vec::new();
        for _ in 0..120 {
            ops.push(generate::op(&mut rng, &known));
            let op = &ops[ops.len() - 1];
            let got = kernel.subject.apply(op);
            if got == Err(EXDEV) {
                // A redirect that would be too long: the model knows none.
                continue;
            }
            let want = model.apply(op);
            assert!(want == got, "{op:?}: model {want:?}, kernel {got:?}\n{ops:#?}\n{stack:#?}");
        }
        let dump = kernel.subject.dump();
        model.dump().assert_same(&dump, &format!("{ops:#?} on {stack:#?}"));
    }
}
