#![forbid(unsafe_code)]
//! Layers and a scratch in memory: [`MemLayer`] is a read-only layer, [`MemScratch`] the writable top.
//!
//! Both are handles of one tree of reference-counted objects. An object lives as long as a name, the index,
//! a node or an open file refers to it, so nothing needs to be done to pin one. A whiteout is a variant of a
//! directory's entries and never an object; marks are fields and never extended attributes.
//!
//! # Locks
//! In this order, and none is held while a caller's code (a clock, a sink, another file) runs:
//!
//! 1. The tree lock, one for each file system. Verbs that change names hold it exclusively; everything that
//!    reads names or changes one object holds it shared. It also guards the index and the seal.
//! 2. One object's lock: attributes, extended attributes, marks, entries, data. A thread holds at most one of
//!    these at a time, so objects need no order among themselves.
//!
//! Reading an open file takes only the object's lock. Long copies take both anew for each piece.

mod builder;
mod clock;
mod data;
mod file;
mod fs;
mod layer;
mod limits;
mod names;
mod object;
mod read;
mod scratch;
mod xattr;

pub use builder::LayerBuilder;
pub use clock::Clock;
pub use data::PAGE;
pub use file::MemFile;
pub use fs::Options;
pub use layer::MemLayer;
pub use limits::Limits;
pub use object::MemNode;
pub use scratch::{MemScratch, MemStaged};
pub use xattr::{XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX};
