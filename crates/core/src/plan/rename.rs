//! Renames and exchanges. What makes a moved directory right at its new place (redirect or opaque) is written
//! before it moves, and means the same at the old place, so that every cut between two steps shows the old tree
//! or the new one.

use super::{Durability, Plan, Put, Step, Vacancy, Who, leave};
use crate::marks::NlinkBase;
use crate::scratch::{Over, Sync};

/// What moves. It is in the scratch already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mover {
    /// It needs a redirect that it does not have: a merged directory, or a file whose data is below.
    pub redirect: bool,
    /// It must become opaque: a directory of its own goes where the layers below have one.
    pub opaque: bool,
    /// It was copied up and its new directory is not yet marked impure.
    pub impure: bool,
}

/// What is at the new name.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Nothing that anyone sees.
    Vacant(Vacancy),
    /// An object that only the layers below have.
    Below,
    /// An object in the scratch.
    Object {
        /// A directory, empty for those who look, that holds whiteouts.
        whiteouts: bool,
        /// Indexed: the merged link count before, and relative to the scratch object's count.
        nlink: Option<(u32, i32)>,
    },
}

/// The facts of a rename.
#[derive(Debug, Clone, Copy)]
pub struct Rename {
    /// What moves.
    pub mover: Mover,
    /// The layers below show something at the old name.
    pub below: bool,
    /// What is at the new name.
    pub target: Target,
    /// Both names are in one directory.
    pub same_dir: bool,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans a rename.
#[must_use]
pub fn rename(facts: &Rename) -> Plan {
    let mut plan = Plan::new();
    prepare(&mut plan, Who::Subject, &facts.mover, Who::NewParent);
    let mut gone = false;
    let over = match facts.target {
        Target::Vacant(vacancy) => vacancy.over(),
        Target::Below => Over::Nothing,
        Target::Object { whiteouts, nlink } => {
            if whiteouts {
                plan.push(Step::Clear);
            }
            if let Some((count, relative)) = nlink {
                plan.push(Step::Put(Who::Victim, Put::Nlink(NlinkBase::Upper(relative))));
                gone = count <= 1;
            }
            Over::Object
        }
    };
    plan.push(Step::Rename(leave(facts.below), over));
    if gone {
        plan.push(Step::DropIndexed(Who::Victim));
    }
    finish(&mut plan, facts.same_dir, facts.durability);
    plan
}

/// The facts of an exchange of two objects that are both in the scratch.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The one named first.
    pub subject: Mover,
    /// The other.
    pub victim: Mover,
    /// Both names are in one directory.
    pub same_dir: bool,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans an exchange.
#[must_use]
pub fn exchange(facts: &Exchange) -> Plan {
    let mut plan = Plan::new();
    prepare(&mut plan, Who::Subject, &facts.subject, Who::NewParent);
    prepare(&mut plan, Who::Victim, &facts.victim, Who::Parent);
    plan.push(Step::Exchange);
    finish(&mut plan, facts.same_dir, facts.durability);
    plan
}

fn prepare(plan: &mut Plan, who: Who, mover: &Mover, goes_to: Who) {
    if mover.redirect {
        plan.push(Step::Put(who, Put::Redirect));
    }
    if mover.opaque {
        plan.push(Step::Put(who, Put::Opaque));
    }
    if mover.impure {
        plan.push(Step::Put(goes_to, Put::Impure));
    }
}

fn finish(plan: &mut Plan, same_dir: bool, durability: Durability) {
    if durability == Durability::Strict {
        plan.push(Step::Sync(Who::NewParent, Sync::All));
        if !same_dir {
            plan.push(Step::Sync(Who::Parent, Sync::All));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_before_the_move_and_the_move_is_one_step() {
        for bits in 0..32_u32 {
            for target in [
                Target::Vacant(Vacancy::Absent),
                Target::Vacant(Vacancy::Whiteout),
                Target::Below,
                Target::Object { whiteouts: true, nlink: None },
                Target::Object { whiteouts: false, nlink: Some((1, -1)) },
            ] {
                let plan = rename(&Rename {
                    mover: Mover { redirect: bits & 1 != 0, opaque: bits & 2 != 0, impure: bits & 4 != 0 },
                    below: bits & 8 != 0,
                    target,
                    same_dir: bits & 16 != 0,
                    durability: Durability::Strict,
                });
                let moves: Vec<_> = plan
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| matches!(s, Step::Rename(..)))
                    .map(|(i, _)| i)
                    .collect();
                assert_eq!(moves.len(), 1);
                assert!(plan.iter().skip(moves[0]).all(|s| !matches!(s, Step::Put(..) | Step::Clear)));
            }
        }
    }
}
