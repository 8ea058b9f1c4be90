#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
//! What the benchmarks share: grounds to build trees on, the systems that are compared, and timing of operations
//! that need something fresh each time. A system that the machine cannot run is left out, with a line that says why.

pub mod ground;
pub mod image;
pub mod mounts;
pub mod rounds;
pub mod system;
pub mod timing;

pub use ground::Ground;
pub use mounts::Mounted;
pub use system::{Host, Strata, System, Vfs};
