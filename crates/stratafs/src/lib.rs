#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]
//! Layered copy-on-write file systems for container runtimes, tests and tools: an [`Image`] is an ordered list
//! of read-only layers, a [`Container`] puts one writable scratch above it and shows both as one tree. No
//! mount, no privilege, no daemon; calls in this process.
//!
//! ```
//! use stratafs::{Container, Image, MemLayer};
//!
//! let base = MemLayer::builder().file("etc/motd", "welcome\n").file("etc/hosts", "localhost\n").build()?;
//! let image = Image::builder().mem(base).build()?;
//! let container = Container::builder(image).in_memory().open()?;
//!
//! container.write("/etc/motd", "changed\n")?;
//! container.remove_file("/etc/hosts")?;
//! assert_eq!(container.read_to_string("/etc/motd")?, "changed\n");
//! for change in container.changes()? {
//!     println!("{change:?}"); // etc/hosts deleted, etc/motd modified
//! }
//! # Ok::<(), stratafs::Error>(())
//! ```
//!
//! With directories it is `Image::from_dirs(["top", "base"])?` and `.scratch_dir("state")`: the directories are
//! the kernel's overlayfs format, both ways.
//!
//! # Where to look
//! * By path, as with [`std::fs`]: the methods of [`Container`], [`OpenOptions`], [`File`].
//! * By inode and handle, as FUSE and 9p need it: [`Container::view`] and the types of [`stratafs_core`].
//! * Containers by name under one directory, with locks: [`store`].
//! * Errors: one opaque [`Error`] with a kind, an errno, the operation and the path that the caller gave. It
//!   converts into [`std::io::Error`].
//!
//! Paths are bytes. Resolution never leaves the container, whatever links or `..` say: an absolute link starts
//! at the container's root, and the parent of the root is the root.

mod any;
mod container;
mod file;
pub mod host;
mod image;
mod metadata;
pub mod mountinfo;
pub mod promote;
mod read_dir;
pub mod store;

pub use any::{AnyFile, AnyLayer, AnyNode, AnyScratch, AnyScratchFile, AnyScratchNode, AnyStaged};
pub use container::{Container, ContainerBuilder};
pub use file::{File, OpenOptions};
pub use image::{Image, ImageBuilder};
pub use metadata::Metadata;
pub use read_dir::{DirEntry, ReadDir};

pub use stratafs_oci as oci;

pub use stratafs_core::view::LAYERS_MAX;
pub use stratafs_core::{
    Access, Allocate, Aspects, Attr, Caller, Change, Config, Device, Durability, Error, ErrorKind, Features,
    Follow, Found, Hit, Kind, Layer, Name, NameBuf, New, Redirect, RenameFlags, Result, Scratch, SetAttr,
    SetTime, SetXattr, Stack, StatFs, Time, Untrusted, View, What,
};
pub use stratafs_dir::{
    DirLayer, DirScratch, Formats, LayerOptions, Namespace, Ownership, Resolver, ScratchOptions,
};
pub use stratafs_mem::{LayerBuilder, MemLayer, MemScratch};

/// The example in the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// An object of a [`Container`], for its [`View`].
pub type Inode = stratafs_core::Inode<AnyLayer, AnyScratch>;
/// An open file of a [`Container`]'s [`View`].
pub type Handle = stratafs_core::Handle<AnyLayer, AnyScratch>;
