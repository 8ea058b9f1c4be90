#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
//! Directories as layers of a stack: [`DirLayer`] reads one. It speaks the on-disk format of the Linux kernel's
//! overlayfs.

mod dialect;
mod fds;
mod file;
mod layer;
mod marks;
mod namespace;
mod node;
mod options;
mod origin;
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
#[cfg(feature = "faults")]
pub use sys::fault as faults;
