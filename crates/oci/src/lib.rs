#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]
//! Container images as the world ships them: layer archives, OCI image layouts, `docker save` archives, read and
//! written. The engine stays out of archives and archives stay out of the engine: names with `.wh.` exist only here.
//!
//! ```text
//! source ── blob ── compress::decode ── tar::Reader ── apply ──► a Scratch     (in)
//! a View ── changes ── pack ── tar::Writer ── compress::encode ── layout       (out)
//! ```
//! * `tar`: entries out of and into archives, nothing of layers.
//! * `compress`: gzip and zstd, recognised by their first bytes.
//! * `apply`: a layer archive becomes the content of a scratch: whiteouts, links, everything an entry has.
//! * `pack`: what a container changed, or all it shows, becomes an archive, always the same for the same.
//! * `frame`: what an archive has besides the content of files, so that it can be put together again to the byte.
//! * `image`: manifests, indexes and configurations. `source`: images in files and directories. `layout`: written.
//!
//! Every byte that is read here may be hostile: lengths are checked before they are used, all loops and tables are
//! bounded by [`Limits`], and an error names the entry and the layer.

pub mod apply;
pub mod compress;
mod digest;
pub mod frame;
pub mod image;
pub mod layout;
mod limits;
pub mod pack;
mod progress;
pub mod source;
pub mod tar;
pub mod whiteout;

pub use apply::{Applied, ApplyOptions, apply};
pub use digest::{Digest, Hasher, Verified};
pub use limits::Limits;
pub use progress::{Progress, Silent};

pub use stratafs_core::{Error, ErrorKind, Result};
