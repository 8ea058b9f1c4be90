//! The frame of a layer: what its archive has besides the content of regular files. Frame and unpacked tree together
//! give the archive again, to the byte, and so say of every path whether it still is what it was.
//!
//! A frame is a zstd stream of records in the order of the archive (`record`): literal bytes (headers, padding, the
//! end and what follows it), and contents by the path in the tree, with size, extents and CRC-32. Beside them stands
//! what the archive alone does not tell: where an entry went whose path leads through links (`place`), objects that no
//! entry stands for, such as directories that the archive lacks and files that were copied up for a hard link (`made`),
//! names that such a file keeps (`linked`), and contents that a later entry of the archive replaced (`saved`), up to [`SAVED_MAX`] bytes for a layer.
//! Past that the frame says so: the layer is checked as before, but the archive cannot be put together again.
//!
//! Invariants: a record about an entry comes before the last byte of its header; what is damaged is an error of kind
//! [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt); memory follows the bytes that are there, not the lengths that are
//! announced.

mod compare;
mod expect;
mod find;
mod read;
mod record;
mod rejoin;
mod replay;
mod verify;
mod write;

pub use rejoin::{Rejoined, rejoin};
pub use verify::{Damage, verify};

pub(crate) use record::{Content, Made};
pub(crate) use write::{FrameTap, FrameWriter};

/// How many bytes of replaced contents a frame keeps.
pub const SAVED_MAX: u64 = 64 << 20;

/// What a frame begins with.
const MAGIC: &[u8; 8] = b"strata\x00f";
/// The format; a reader refuses others.
const VERSION: u8 = 1;
/// The largest window that a frame may ask a reader for, as a power of 2 (zstd).
const WINDOW_LOG: u32 = 23;
