//! Copy-up: the staged copy is complete, and where durability asks for it synced, before it gets its name; only
//! then can anybody see it.

use super::{Durability, Plan, Put, Step, Who};
use crate::attr::Kind;
use crate::marks::NlinkBase;
use crate::scratch::{Over, Sync};

/// What of the data is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// The object has none.
    None,
    /// None yet: the file says that its data is below (metacopy), and has so many bytes.
    Below(u64),
    /// The first so many bytes.
    Copy(u64),
}

/// The facts of a copy-up.
#[derive(Debug, Clone, Copy)]
pub struct CopyUp {
    /// What the object is.
    pub kind: Kind,
    /// What of its data is copied.
    pub data: Data,
    /// It has several lower names and an index keeps them together.
    pub indexed: bool,
    /// Its origin may be stored: one name, or indexed.
    pub origin: bool,
    /// It still has a name (an open file may have lost its last).
    pub named: bool,
    /// The parent is already marked impure.
    pub parent_impure: bool,
    /// What a crash may cost.
    pub durability: Durability,
}

/// Plans the copy-up of one object whose parent is in the scratch.
#[must_use]
pub fn copy_up(facts: &CopyUp) -> Plan {
    let mut plan = Plan::new();
    plan.push(Step::Stage);
    match facts.data {
        Data::None | Data::Copy(0) => {}
        Data::Below(len) => plan.push(Step::SetLen(Who::Staged, len)),
        Data::Copy(len) => plan.push(Step::Fill(Who::Staged, len)),
    }
    // After the data: a write would drop security.capability.
    plan.push(Step::CopyXattrs);
    if facts.origin {
        plan.push(Step::Put(Who::Staged, Put::Origin));
    }
    if matches!(facts.data, Data::Below(_)) {
        plan.push(Step::Put(Who::Staged, Put::Metacopy));
    }
    if facts.indexed {
        plan.push(Step::Put(Who::Staged, Put::Nlink(NlinkBase::Lower(0))));
    }
    plan.push(Step::CopyAttrs);
    match facts.durability {
        Durability::Volatile => {}
        Durability::Ordered => plan.push(Step::SyncFilled(Who::Staged)),
        Durability::Strict => plan.push(Step::Sync(Who::Staged, Sync::All)),
    }
    if facts.named && facts.origin && !facts.parent_impure {
        plan.push(Step::Put(Who::Parent, Put::Impure));
    }
    match (facts.indexed, facts.named) {
        (true, false) => plan.push(Step::PublishIndexed),
        (true, true) => plan.extend([Step::PublishIndexed, Step::Link(Over::Nothing)]),
        (false, true) => plan.push(Step::Publish(Over::Nothing)),
        (false, false) => plan.push(Step::Keep),
    }
    if facts.named {
        plan.push(Step::RestoreTimes(Who::Parent));
        if facts.durability == Durability::Strict {
            plan.push(Step::Sync(Who::Parent, Sync::All));
        }
    }
    plan
}

/// Plans to bring the first `len` bytes of data up into a file whose metadata is in the scratch already. The
/// data is written in place: nobody reads it before the metacopy mark goes, which is the commit point.
#[must_use]
pub fn own_data(len: u64, durability: Durability) -> Plan {
    let mut plan = Plan::new();
    if len == 0 {
        plan.push(Step::SetLen(Who::Subject, 0));
    } else {
        plan.push(Step::Fill(Who::Subject, len));
        if durability >= Durability::Ordered {
            plan.push(Step::SyncFilled(Who::Subject));
        }
    }
    plan.push(Step::Put(Who::Subject, Put::OwnData));
    plan.push(Step::RestoreTimes(Who::Subject));
    if durability == Durability::Strict {
        plan.push(Step::Sync(Who::Subject, Sync::All));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = CopyUp> {
        let datas = [Data::None, Data::Below(9), Data::Copy(0), Data::Copy(9)];
        let levels = [Durability::Volatile, Durability::Ordered, Durability::Strict];
        (0..16_u32).flat_map(move |bits| {
            datas.into_iter().flat_map(move |data| {
                levels.into_iter().map(move |durability| CopyUp {
                    kind: Kind::File,
                    data,
                    indexed: bits & 1 != 0,
                    origin: bits & 2 != 0,
                    named: bits & 4 != 0,
                    parent_impure: bits & 8 != 0,
                    durability,
                })
            })
        })
    }

    fn at(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> Option<usize> {
        plan.iter().position(wanted)
    }

    #[test]
    fn nothing_touches_the_staged_object_after_it_is_published() {
        for facts in all() {
            let plan = copy_up(&facts);
            let published =
                at(&plan, |s| matches!(s, Step::Publish(_) | Step::PublishIndexed | Step::Keep)).unwrap();
            let last = plan
                .iter()
                .rposition(|s| {
                    matches!(
                        s,
                        Step::Fill(..)
                            | Step::SetLen(..)
                            | Step::CopyXattrs
                            | Step::CopyAttrs
                            | Step::Put(Who::Staged, _)
                    )
                })
                .unwrap();
            assert!(last < published, "{facts:?}: {plan:?}");
        }
    }

    #[test]
    fn copied_data_is_synced_before_it_gets_a_name_unless_volatile() {
        for facts in all().filter(|f| matches!(f.data, Data::Copy(1..))) {
            let plan = copy_up(&facts);
            let synced = at(&plan, |s| matches!(s, Step::SyncFilled(_) | Step::Sync(Who::Staged, _)));
            let published =
                at(&plan, |s| matches!(s, Step::Publish(_) | Step::PublishIndexed | Step::Keep)).unwrap();
            match facts.durability {
                Durability::Volatile => assert!(synced.is_none()),
                _ => assert!(synced.unwrap() < published),
            }
        }
    }

    #[test]
    fn the_metacopy_mark_goes_last() {
        for durability in [Durability::Volatile, Durability::Ordered, Durability::Strict] {
            for len in [0, 7] {
                let plan = own_data(len, durability);
                let commit = at(&plan, |s| *s == Step::Put(Who::Subject, Put::OwnData)).unwrap();
                let data = at(&plan, |s| matches!(s, Step::Fill(..) | Step::SetLen(..))).unwrap();
                assert!(data < commit);
            }
        }
    }
}
