#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
//! Directories as layers of a stack: [`DirLayer`] reads one, [`DirScratch`] is the writable top. Both
//! speak the on-disk format of the Linux kernel's overlayfs, in both directions.

mod dialect;
mod fds;
mod file;
mod layer;
mod marks;
mod namespace;
mod node;
mod options;
mod origin;
mod scratch;
mod stash;
mod sys;
mod tree;

pub use dialect::Formats;
pub use fds::FD_LIMIT;
pub use file::DirFile;
pub use layer::DirLayer;
pub use namespace::Namespace;
pub use node::Node;
pub use options::{LayerOptions, Resolver};
pub use scratch::{DirScratch, Ownership, ScratchFile, ScratchOptions, Staged};
#[cfg(feature = "faults")]
pub use sys::fault as faults;
