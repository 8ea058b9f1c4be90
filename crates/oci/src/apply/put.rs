//! Putting objects where something stands already: a whiteout, or an earlier entry of the same archive.

use crate::Result;
use stratafs_core::{At, Kind, Mark, Over, Scratch, SetAttr, SetTime, SetXattr, Whole};

/// Makes an object with everything in one step over what is there.
pub(super) fn replace<S: Scratch>(
    scratch: &S,
    at: At<'_, S::Node>,
    whole: &Whole<'_>,
    over: Over,
    fill: &mut dyn FnMut(&S::File) -> Result<()>,
) -> Result<S::Node> {
    scratch.publish(staged(scratch, whole, fill)?, at, over)
}

/// Makes an object with everything but a name.
pub(super) fn staged<S: Scratch>(
    scratch: &S,
    whole: &Whole<'_>,
    fill: &mut dyn FnMut(&S::File) -> Result<()>,
) -> Result<S::Staged> {
    let staged = scratch.stage(&whole.seed)?;
    let node = scratch.staged(&staged);
    if whole.seed.kind == Kind::File {
        fill(&scratch.open_write(node)?)?;
    }
    dress(scratch, node, whole)?;
    Ok(staged)
}

/// Makes a directory that hides what is below, over a whiteout.
pub(super) fn opaque_dir<S: Scratch>(scratch: &S, at: At<'_, S::Node>, whole: &Whole<'_>) -> Result<S::Node> {
    let staged = scratch.stage(&whole.seed)?;
    let node = scratch.staged(&staged);
    scratch.mark(node, Mark::Opaque)?;
    dress(scratch, node, whole)?;
    scratch.publish(staged, at, Over::Whiteout)
}

/// Everything but owner and content: a write takes setuid and capabilities, so they come after it.
fn dress<S: Scratch>(scratch: &S, node: &S::Node, whole: &Whole<'_>) -> Result<()> {
    for (name, value) in whole.xattrs {
        scratch.set_xattr(node, name, value, SetXattr::Any)?;
    }
    let mode = (whole.seed.kind != Kind::Symlink).then_some(whole.seed.mode);
    let time = Some(SetTime::At(whole.mtime));
    scratch.set_attr(node, &SetAttr { mode, atime: time, mtime: time, ..SetAttr::default() })
}

/// Gives a directory that is there exactly these attributes.
pub(super) fn redress<S: Scratch>(scratch: &S, node: &S::Node, whole: &Whole<'_>) -> Result<()> {
    let seed = &whole.seed;
    let owner = SetAttr { uid: Some(seed.uid), gid: Some(seed.gid), ..SetAttr::default() };
    scratch.set_attr(node, &owner)?;
    for name in scratch.xattrs(node)? {
        if !whole.xattrs.iter().any(|(kept, _)| *kept == name) {
            scratch.remove_xattr(node, &name)?;
        }
    }
    dress(scratch, node, whole)
}
