//! Operation sequences on a view and on the model, side by side.

use crate::beds;
use crate::need;
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::generate::{self, Known};
use stratafs_testkit::op::Op;
use stratafs_testkit::rng::Rng;
use stratafs_testkit::subject::assert_agree;
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Model, StackSpec, Subject};

type Viewed<B> = ViewSubject<<B as Bed>::L, <B as Bed>::S>;

/// A view over a bed as a subject, and the model of the same stack.
fn pair<B: Bed + Clone + 'static>(stack: &StackSpec) -> Option<(Model, Viewed<B>)> {
    let bed = B::new(stack)?;
    Some((Model::from_stack(stack), ViewSubject::new(move || beds::view(&bed))))
}

/// Applies `ops` to both, then compares again after reopening.
///
/// # Panics
/// When the view disagrees with the model.
pub fn check<B: Bed + Clone + 'static>(stack: &StackSpec, ops: &[Op]) {
    let Some((mut model, mut view)) = pair::<B>(stack) else { return };
    model.dump().assert_same(&view.dump(), "the stack itself reads differently");
    assert_agree(&mut model, &mut view, ops);
    view.reopen();
    model.dump().assert_same(&view.dump(), &format!("after reopening, after {ops:#?}"));
}

/// Long seeded runs: `stacks` stacks, on each some batches of operations with names that exist by then.
///
/// # Panics
/// When the view disagrees with the model.
pub fn long<B: Bed + Clone + 'static>(stacks: u32) {
    const BATCH: usize = 80;
    let seed = need::seed();
    println!("model: seed {seed}");
    let mut rng = Rng::new(seed);
    let mut done = 0;
    for _ in 0..need::number("STRATAFS_CASES").unwrap_or(stacks) {
        let stack = generate::stack(&mut rng);
        let Some((mut model, mut view)) = pair::<B>(&stack) else { return };
        let mut known = Known::of_stack(&stack);
        let mut all = Vec::new();
        for _ in 0..4 {
            let ops: Vec<Op> = (0..BATCH).map(|_| generate::op(&mut rng, &known)).collect();
            all.extend(ops.iter().cloned());
            run(&mut model, &mut view, &ops, &stack, &all);
            known = Known::of_dump(&model.dump());
            done += ops.len();
        }
        let _ = model.apply(&Op::Reopen);
        view.reopen();
        model.dump().assert_same(&view.dump(), &format!("after reopening, {stack:#?} {all:#?}"));
    }
    println!("model: {done} operations, seed {seed}");
}

fn run(model: &mut Model, view: &mut dyn Subject, ops: &[Op], stack: &StackSpec, all: &[Op]) {
    for op in ops {
        let (want, got) = (model.apply(op), view.apply(op));
        assert!(want == got, "{op:?}: expected {want:?}, got {got:?}\n{stack:#?}\n{all:#?}");
    }
    model.dump().assert_same(&view.dump(), &format!("trees differ: {stack:#?}\n{all:#?}"));
}
