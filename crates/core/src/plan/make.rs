//! Making new objects and new names of old ones.

use super::{Durability, Plan, Put, Step, Vacancy, Who};
use crate::attr::Kind;
use crate::marks::NlinkBase;
use crate::scratch::{Over, Sync};

/// The facts of making an object.
#[derive(Debug, Clone, Copy)]
pub struct Make {
    /// What it will be.
    pub kind: Kind,
    /// What the scratch has at the name; `None` makes an object without a name.
    pub at: Option<Vacancy>,
    /// It starts with extended attributes (inherited access lists).
    pub xattrs: bool,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans a new object. A directory over a whiteout is opaque from its first moment: nothing of what was deleted
/// may shine through.
#[must_use]
pub fn make(facts: &Make) -> Plan {
    let mut plan = Plan::new();
    plan.push(Step::Stage);
    if facts.xattrs {
        plan.push(Step::SeedXattrs);
    }
    let Some(vacancy) = facts.at else {
        plan.push(Step::Keep);
        return plan;
    };
    if facts.kind == Kind::Dir && vacancy == Vacancy::Whiteout {
        plan.push(Step::Put(Who::Staged, Put::Opaque));
    }
    let strict = facts.durability == Durability::Strict;
    if strict {
        plan.push(Step::Sync(Who::Staged, Sync::All));
    }
    plan.push(Step::Publish(vacancy.over()));
    if strict {
        plan.push(Step::Sync(Who::Parent, Sync::All));
    }
    plan
}

/// The facts of one more name for an object that is in the scratch.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// What the scratch has at the new name.
    pub at: Vacancy,
    /// The object needs this redirect first: its data is found by name, and it will have two.
    pub redirect: bool,
    /// Indexed: the merged link count, relative to the scratch object's count.
    pub nlink: Option<i32>,
    /// The object was copied up and the directory is not yet marked impure.
    pub impure: bool,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans a hard link.
#[must_use]
pub fn link(facts: &Link) -> Plan {
    let mut plan = Plan::new();
    if facts.redirect {
        plan.push(Step::Put(Who::Subject, Put::Redirect));
    }
    if let Some(relative) = facts.nlink {
        plan.push(Step::Put(Who::Subject, Put::Nlink(NlinkBase::Upper(relative))));
    }
    if facts.impure {
        plan.push(Step::Put(Who::NewParent, Put::Impure));
    }
    plan.push(Step::Link(facts.at.over()));
    if facts.durability == Durability::Strict {
        plan.push(Step::Sync(Who::Subject, Sync::All));
        plan.push(Step::Sync(Who::NewParent, Sync::All));
    }
    plan
}

/// The facts of giving an indexed object a name in the scratch that only the layers below have.
#[derive(Debug, Clone, Copy)]
pub struct LinkUp {
    /// The merged link count, relative to the lower object's.
    pub below: i32,
    /// The same, relative to the scratch object's when it has the name.
    pub then: i32,
    /// The directory is not yet marked impure.
    pub impure: bool,
}

/// Plans a link that nobody sees: the merged view has the name before and after. So the merged count is bound to the
/// lower object's while the scratch's own grows.
#[must_use]
pub fn link_up(facts: &LinkUp) -> Plan {
    let mut plan = Plan::new();
    plan.push(Step::Put(Who::Subject, Put::Nlink(NlinkBase::Lower(facts.below))));
    if facts.impure {
        plan.push(Step::Put(Who::Parent, Put::Impure));
    }
    plan.push(Step::Link(Over::Nothing));
    plan.push(Step::RestoreTimes(Who::Parent));
    plan.push(Step::Put(Who::Subject, Put::Nlink(NlinkBase::Upper(facts.then))));
    plan
}
