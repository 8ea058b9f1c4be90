//! Removing a name. The whiteout comes in the same step in which the object goes.

use super::{Durability, Plan, Put, Step, Who, leave};
use crate::marks::NlinkBase;
use crate::scratch::Sync;

/// The facts of removing a name.
#[derive(Debug, Clone, Copy)]
pub struct Remove {
    /// The scratch has an object at the name.
    pub in_upper: bool,
    /// The layers below show something at the name when the scratch says nothing.
    pub below: bool,
    /// Indexed: the merged link count before, and relative to the scratch object's count.
    pub nlink: Option<(u32, i32)>,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans the removal of a name.
#[must_use]
pub fn remove(facts: &Remove) -> Plan {
    let mut plan = Plan::new();
    if let Some((_, relative)) = facts.nlink {
        plan.push(Step::Put(Who::Subject, Put::Nlink(NlinkBase::Upper(relative))));
    }
    plan.push(if facts.in_upper { Step::Remove(leave(facts.below)) } else { Step::Whiteout });
    if matches!(facts.nlink, Some((..=1, _))) {
        plan.push(Step::DropIndexed(Who::Subject));
    }
    if facts.durability == Durability::Strict {
        plan.push(Step::Sync(Who::Parent, Sync::All));
    }
    plan
}
