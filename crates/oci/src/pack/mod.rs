//! A view becomes a layer archive: what was changed in it ([`layer`]), or all that it shows ([`flatten`]).
//!
//! The archive is a function of what it says: entries in the order of their paths, parents before what is in them, a
//! whiteout where the name would be that it deletes; no names of users and no other times than those of the last change. So
//! the same changes give the same digest, in whatever order they were made. (The same tree reached by other changes, such as a
//! directory renamed or its files moved one by one, can give another layer.)
//!
//! * `plan`: which paths the layer of a change list has, and what stands there. `emit`: entries.
//!
//! Rules of a layer:
//! * Every directory above an entry is an entry too, with the attributes that the view shows.
//! * What is gone is a whiteout. A directory that stands in place of another one, as a whole, is opaque. A renamed
//!   directory is there with everything in it. A deletion that no whiteout can say (a name over 251 bytes, or one that
//!   begins with `.wh.`) makes its directory opaque, with everything that is left in it.
//! * A hard link's first name in the order carries the data, the others are links to it. All names of an object are in
//!   the layer as soon as one is, so that the layer stands alone.
//! * Extended attributes that overlay file systems or container tools keep book in are left out: another reader would
//!   take them for marks. A container has them only if somebody set them inside.
//! * Sockets are left out, since an archive has none; [`Packed::sockets`] counts them.
//!
//! A link count that also speaks of names which nobody sees is not in an archive.

mod emit;
mod plan;

use crate::{Digest, Progress, Result};
use emit::Emit;
use std::io::Write;
use stratafs_core::{Change, Layer, Scratch, View};

const OPERATION: &str = "pack";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packed {
    /// The digest of the archive: the diff id of the layer.
    pub digest: Digest,
    /// Bytes of the archive.
    pub bytes: u64,
    /// Entries in it, whiteouts included.
    pub entries: u64,
    /// Sockets that were left out.
    pub sockets: u64,
}

/// Writes the layer of `changes`, which [`View::changes`] or [`View::changes_since`] gave: over the base that they are
/// relative to it shows the tree of `view`. Memory grows with the number of entries of the layer, not with content.
///
/// # Errors
/// `Unsupported` for an object whose name begins with `.wh.`, which in an archive means a deletion; `Busy` when the
/// view changed meanwhile; `Io(EINTR)` after [`Progress::cancelled`]; what the view and the output say.
pub fn layer<L: Layer, S: Scratch, W: Write>(
    view: &View<L, S>,
    changes: &[Change],
    out: W,
    progress: &dyn Progress,
) -> Result<Packed> {
    let plan = plan::plan(view, changes, progress)?;
    let mut emit = Emit::new(view, out, progress);
    emit.planned(&plan)?;
    emit.finish()
}

/// Writes the whole tree of `view` as one archive. Memory grows with the depth of the tree, the size of its largest
/// directories and the number of hard links.
///
/// # Errors
/// As [`layer`].
pub fn flatten<L: Layer, S: Scratch, W: Write>(
    view: &View<L, S>,
    out: W,
    progress: &dyn Progress,
) -> Result<Packed> {
    let mut emit = Emit::new(view, out, progress);
    emit.tree()?;
    emit.finish()
}
