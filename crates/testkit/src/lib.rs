#![forbid(unsafe_code)]
//! Everything that tests of stratafs share: a reference model, generators of operations and stacks, tree
//! dumps, the conformance suite that any backend must pass, and injected faults.

pub mod conformance;
pub mod dump;
pub mod faulty;
pub mod generate;
#[cfg(target_os = "linux")]
pub mod host;
pub mod model;
pub mod op;
pub mod path;
pub mod rng;
pub mod spec;
pub mod subject;
pub mod view;

pub use dump::Dump;
pub use faulty::Faulty;
pub use model::Model;
pub use op::{Op, Outcome, Value};
pub use path::Path;
pub use spec::{Data, Entry, StackSpec, TreeSpec, What};
pub use subject::Subject;
