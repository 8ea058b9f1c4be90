//! [`Subject`]: anything that operations can be applied to and that can be dumped.

use crate::dump::Dump;
use crate::op::{Op, Outcome};

/// The model, a view, or a directory of the host.
pub trait Subject {
    /// Applies one operation.
    fn apply(&mut self, op: &Op) -> Outcome;

    /// The whole tree as text.
    fn dump(&self) -> Dump;
}

/// Applies `ops` to both and panics at the first outcome that differs, then compares the dumps.
///
/// # Panics
/// When the two disagree.
pub fn assert_agree(expected: &mut dyn Subject, actual: &mut dyn Subject, ops: &[Op]) {
    for (n, op) in ops.iter().enumerate() {
        let (want, got) = (expected.apply(op), actual.apply(op));
        assert!(want == got, "operation {n}, {op:?}: expected {want:?}, got {got:?}\nafter {:#?}", &ops[..n]);
    }
    expected.dump().assert_same(&actual.dump(), &format!("trees differ after {ops:#?}"));
}
