#![forbid(unsafe_code)]
//! The model of a layered copy-on-write file system: read-only [`Layer`]s, a writable [`Scratch`] on top, and the
//! merged [`View`] of both. Backends store, core decides: merging ([`merge`]) and planning ([`plan`]) are pure,
//! and one place runs the plans.
//!
//! This crate touches no file system, clock or environment; embedders use the crate `stratafs`, which has the
//! backends and a face in the style of `std::fs`.

pub mod acl;
pub mod attr;
pub mod caller;
pub mod error;
pub mod layer;
pub mod marks;
pub mod merge;
pub mod name;
pub mod plan;
pub mod scratch;
pub mod view;

pub use attr::{Attr, Device, FileId, Kind, SetAttr, SetTime, StatFs, Time};
pub use caller::{Caller, Want};
pub use error::{Error, ErrorKind, Result};
pub use layer::{Backing, Caps, Found, Hit, Layer, RawEntry, ReadAt};
pub use marks::{Mark, Marks, NlinkBase, Origin, Redirect};
pub use name::{NAME_MAX, Name, NameBuf, PATH_MAX};
pub use plan::Durability;
pub use scratch::{
    Allocate, At, Copied, Features, Leave, Over, Scratch, Seed, SetXattr, Sync, Whole, WriteAt, put_in_steps,
};
pub use view::{
    Access, Aspects, Change, Config, DirEntry, DirHandle, Entry, Follow, Handle, Inode, New, RenameFlags,
    Stack, Untrusted, View, What,
};
