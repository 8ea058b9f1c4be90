//! Smaller cases of a failure: leaves out operations and entries for as long as it still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use stratafs_testkit::StackSpec;
use stratafs_testkit::op::Op;

/// What a run panics with; `None` when it passes.
fn failure(run: &dyn Fn(&StackSpec, &[Op]), stack: &StackSpec, ops: &[Op]) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| run(stack, ops))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
}

/// Panics with the smallest case found of a run that fails; `fixture` is a text of panics that are not the
/// failure that is looked for but a case that makes no sense any more.
///
/// # Panics
/// Always when `run` does.
pub fn check(stack: &StackSpec, ops: &[Op], fixture: &str, run: &dyn Fn(&StackSpec, &[Op])) {
    if failure(run, stack, ops).is_none() {
        return;
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let fails =
        |stack: &StackSpec, ops: &[Op]| failure(run, stack, ops).is_some_and(|text| !text.contains(fixture));
    let (mut stack, mut ops) = (stack.clone(), ops.to_vec());
    let mut chunk = ops.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if fails(&stack, &fewer) {
                ops = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    for layer in 0..stack.layers.len() {
        for entry in (0..stack.layers[layer].entries.len()).rev() {
            let mut smaller = stack.clone();
            smaller.layers[layer].entries.remove(entry);
            if fails(&smaller, &ops) {
                stack = smaller;
            }
        }
    }
    stack.layers.retain(|layer| !layer.entries.is_empty());
    let text = failure(run, &stack, &ops);
    std::panic::set_hook(hook);
    let layers: Vec<String> = stack.layers.iter().map(described).collect();
    let text = text.unwrap_or_else(|| "(not every time)".into());
    panic!("{text}\nlayers, topmost first:\n{}operations: {ops:#?}", layers.concat());
}

fn described(layer: &stratafs_testkit::TreeSpec) -> String {
    let line = |e: &stratafs_testkit::Entry| {
        format!("  {} {:?} {:o} {}:{} xattrs {}\n", e.path, e.what, e.mode, e.uid, e.gid, e.xattrs.len())
    };
    format!(" layer\n{}", layer.entries.iter().map(line).collect::<String>())
}
