#![forbid(unsafe_code)]
//! What the tests here share: beds to run the conformance suite on, mounts that clean up after themselves,
//! and the rule for skipping. A test that the machine cannot run prints `skipped: ` and what is missing, and
//! passes; with `STRATAFS_REQUIRE_ALL=1` it fails instead.

pub mod archives;
pub mod beds;
pub mod cuts;
pub mod disk;
pub mod exact;
pub mod ground;
pub mod minimise;
pub mod mounts;
pub mod need;
pub mod outside;
pub mod real_image;
pub mod runs;
pub mod store_bed;
pub mod trees;

pub use mounts::Mounted;
