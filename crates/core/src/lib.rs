#![forbid(unsafe_code)]
//! The model of a layered copy-on-write file system: names, layers, the merged view, whiteouts, copy-up.

pub mod attr;
pub mod error;
pub mod layer;
pub mod marks;
pub mod name;
pub mod scratch;

pub use attr::{Attr, Device, FileId, Kind, SetAttr, SetTime, StatFs, Time};
pub use error::{Error, ErrorKind, Result};
pub use layer::{Backing, Caps, Found, Hit, Layer, RawEntry, ReadAt};
pub use marks::{Mark, Marks, NlinkBase, Origin, Redirect};
pub use name::{NAME_MAX, Name, NameBuf, PATH_MAX};
pub use scratch::{Allocate, At, Copied, Features, Leave, Over, Scratch, Seed, SetXattr, Sync, WriteAt};
