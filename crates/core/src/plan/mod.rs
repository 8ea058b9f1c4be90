//! Planning: from facts to a bounded list of steps, without I/O. Each verb of the scratch is atomic, and a plan
//! orders them so that a crash between any two leaves the old state or the new one for everybody who looks
//! (apart from the time of a parent directory, or of a file whose data is being brought up in place).
//! [`exec`] is the only place that runs a plan.
//!
//! [`exec`]: crate::view

mod copy_up;
mod make;
mod remove;
mod rename;

pub use copy_up::{CopyUp, Data, copy_up, own_data};
pub use make::{Link, LinkUp, Make, link, link_up, make};
pub use remove::{Remove, remove};
pub use rename::{Exchange, Mover, Rename, Target, exchange, rename};

use crate::marks::NlinkBase;
use crate::scratch::{Leave, Over, Sync};
use smallvec::SmallVec;

/// What a crash may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// Nothing is synced: a crash may lose or tear whatever the host had not yet written.
    Volatile,
    /// A crash shows each file as it was before or after its copy-up, never empty or torn; what was
    /// acknowledged but not fsynced may be lost.
    #[default]
    Ordered,
    /// Every acknowledged change of names and attributes, and every copy-up, is on disk.
    Strict,
}

/// Which object a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The staged object.
    Staged,
    /// The object that the operation is about, as the scratch has it.
    Subject,
    /// What the operation replaces, or the other one of an exchange.
    Victim,
    /// The directory it is in.
    Parent,
    /// The directory it goes to.
    NewParent,
}

/// A mark that a step sets; the values that are not here come with the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Hide what is below.
    Opaque,
    /// Known below under another name.
    Redirect,
    /// The data is below.
    Metacopy,
    /// The data is here.
    OwnData,
    /// Copied up from the lower object.
    Origin,
    /// The directory may hold copied-up entries.
    Impure,
    /// Link count bookkeeping.
    Nlink(NlinkBase),
}

/// One step. Those that change what others see are atomic verbs of the scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make an object without a name.
    Stage,
    /// Copy the first bytes of the lower data into the object.
    Fill(Who, u64),
    /// Give the object its size, with no data.
    SetLen(Who, u64),
    /// Copy the lower object's extended attributes to the staged one, as the policy allows.
    CopyXattrs,
    /// Set the extended attributes that a new object starts with.
    SeedXattrs,
    /// Set owner, mode and times as the lower object has them.
    CopyAttrs,
    /// Put back the times that the object had before the plan.
    RestoreTimes(Who),
    /// Set a mark.
    Put(Who, Put),
    /// Make an object durable.
    Sync(Who, Sync),
    /// Make the data durable, unless it was shared or there was none.
    SyncFilled(Who),
    /// Give the staged object its name.
    Publish(Over),
    /// Put the staged object into the index.
    PublishIndexed,
    /// Keep the staged object without a name.
    Keep,
    /// Give the subject one more name.
    Link(Over),
    /// Swap the victim directory, which holds only whiteouts, for an empty opaque one.
    Clear,
    /// Move the subject.
    Rename(Leave, Over),
    /// Swap subject and victim.
    Exchange,
    /// Remove the subject's name.
    Remove(Leave),
    /// Put a whiteout where the scratch has nothing.
    Whiteout,
    /// Forget the index entry of the subject or victim.
    DropIndexed(Who),
}

/// A plan: few steps, known before the first one runs.
pub type Plan = SmallVec<[Step; 12]>;

/// What the scratch has at a name that is free in the merged view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing.
    Absent,
    /// A whiteout.
    Whiteout,
}

impl Vacancy {
    fn over(self) -> Over {
        match self {
            Self::Absent => Over::Nothing,
            Self::Whiteout => Over::Whiteout,
        }
    }
}

fn leave(below: bool) -> Leave {
    if below { Leave::Whiteout } else { Leave::Nothing }
}
