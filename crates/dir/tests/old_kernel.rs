//! The tests of the scratch and the layer once more with the fallbacks: no `openat2`, no `getxattrat`, no
//! `fchmodat2`, no `O_TMPFILE`, no file handles.
#![cfg(all(target_os = "linux", feature = "faults"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "scratch.rs"]
mod scratch;
