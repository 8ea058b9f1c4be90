//! The kernel's overlayfs as oracle: the same operations on a kernel mount, on a view over the same layers and
//! on the model, the same trees after every batch, after reopening, after the kernel mounts our upper and
//! after we open the kernel's.

use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::rng::Rng;
use stratafs_testkit::{Model, Op, Subject};
use stratafs_tests::ground::{Ground, Kernel};
use stratafs_tests::need;

const OPERATIONS: u32 = 20_000;
const BATCH: u32 = 60;
const BATCHES: u32 = 4;

#[test]
fn model_agrees_with_the_kernel() {
    if !need::root() {
        return;
    }
    let seed = need::seed();
    println!("oracle: seed {seed}");
    let mut rng = Rng::new(seed);
    let (mut done, mut mounts) = (0, 0);
    while done < need::number("STRATAFS_ORACLE_OPS").unwrap_or(OPERATIONS) {
        let stack = Model::without_idle_whiteouts(generate::stack(&mut rng));
        let ground = Ground::new(&stack).expect("make the layers");
        let mut kernel = Kernel::new(&ground).expect("mount");
        let mut model = Model::from_stack(&stack);
        mounts += 1;
        kernel.subject.dump().assert_same(&model.dump(), "fresh");
        let mut known = Known::of_stack(&stack);
        for _ in 0..BATCHES {
            let mut ops = Vec::new();
            for _ in 0..BATCH {
                let op = generate::op(&mut rng, &known);
                ops.push(op);
                let op = &ops[ops.len() - 1];
                let k = kernel.subject.apply(op);
                if k == Err(18) {
                    continue;
                }
                let m = model.apply(op);
                assert!(
                    k == m || same_outcome(&k, &m),
                    "{op:?}: kernel {k:?} model {m:?} after {ops:#?} on {stack:#?}"
                );
            }
            let dump = model.dump();
            if let Some(diff) = kernel.subject.dump().diff_but(&dump, &same) {
                panic!("{diff} after {ops:#?} on {stack:#?}");
            }
            known = Known::of_dump(&dump);
            done += BATCH;
            model.apply(&Op::Reopen);
            kernel.remount(&ground).expect("mount again");
            if let Some(diff) = kernel.subject.dump().diff_but(&dump, &same) {
                panic!("remounted: {diff} after {ops:#?} on {stack:#?}");
            }
        }
    }
    println!("oracle: {done} operations, seed {seed}, {mounts} mounts");
}

fn same(kernel: &str, ours: &str) -> bool {
    let without = |line: &str| {
        let (head, tail) = line.split_once(" mtime=")?;
        let (time, tail) = tail.split_once(' ').unwrap_or((tail, ""));
        Some((time.to_string(), format!("{head} {tail}")))
    };
    match (without(kernel), without(ours)) {
        (Some((time, a)), Some((_, b))) => {
            kernel == ours || time == "now" && kernel.starts_with("File") && a == b
        }
        _ => kernel == ours,
    }
}
fn same_outcome(kernel: &stratafs_testkit::Outcome, ours: &stratafs_testkit::Outcome) -> bool {
    use stratafs_testkit::Value::Text;
    matches!((kernel, ours), (Ok(Text(a)), Ok(Text(b))) if same(a, b))
}
