//! What a caller says of a layer that is to be unpacked, and what it learns of it afterwards.

use crate::{Digest, Limits};
use std::fmt;
use std::io::Write;
use stratafs_core::Kind;

/// How to unpack a layer.
pub struct ApplyOptions {
    /// Bounds.
    pub limits: Limits,
    /// What to call the layer in errors.
    pub label: String,
    /// Where the [frame](crate::frame) goes.
    pub frame: Option<Box<dyn Write + Send>>,
    /// The prefix of overlay attributes that the scratch keeps apart from its own marks, such as
    /// `DirScratch::namespace().prefix()`. Attributes with it are kept, since they are a user's; those with the other
    /// prefix are dropped: they would be marks for who mounts the layer in the other way. `None` drops both.
    pub escaped: Option<&'static str>,
    /// The scratch stores ownership instead of applying it: links, fifos and sockets keep no owner and no privileged
    /// attributes, which [`verify`](crate::frame::verify) then does not miss.
    pub stashed: bool,
}

impl ApplyOptions {
    /// The defaults for a layer of this name: usual limits, no frame, no overlay attributes, ownership applied.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self { limits: Limits::default(), label: label.into(), frame: None, escaped: None, stashed: false }
    }

    pub(crate) fn rules(&self) -> Rules {
        let escaped = match self.escaped {
            Some(TRUSTED) => 1,
            Some(USER) => 2,
            _ => 0,
        };
        Rules { escaped, stashed: self.stashed }
    }
}

impl fmt::Debug for ApplyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplyOptions")
            .field("label", &self.label)
            .field("limits", &self.limits)
            .field("frame", &self.frame.is_some())
            .field("escaped", &self.escaped)
            .field("stashed", &self.stashed)
            .finish()
    }
}

/// What a layer turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// The digest of the archive.
    pub diff_id: Digest,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of content of regular files, holes of sparse files not counted.
    pub content_bytes: u64,
    /// The tree depends on the layers below: it belongs to this stack, not to the diff id alone.
    pub asked_below: bool,
    /// The archive has an entry for the root, so the root's attributes are the layer's.
    pub says_root: bool,
    /// Extended attributes that were dropped, since they would be bookkeeping of some overlay file system.
    pub dropped_xattrs: u64,
}

const TRUSTED: &str = "trusted.overlay.";
const USER: &str = "user.overlay.";

/// What becomes of attributes and owners; kept in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// 0: none, 1: `trusted.overlay.`, 2: `user.overlay.`.
    pub(crate) escaped: u8,
    pub(crate) stashed: bool,
}

/// True for names of attributes by which fuse-overlayfs, container tools or this store keep book.
fn bookkeeping(name: &[u8]) -> bool {
    name == b"user.containers.override_stat"
        || name.starts_with(b"user.fuseoverlayfs.")
        || name.starts_with(b"user.stratafs.")
}

impl Rules {
    /// Whether an attribute from an archive is set on an object of this kind.
    pub(crate) fn keeps(self, name: &[u8], kind: Kind) -> bool {
        let bare = matches!(kind, Kind::Symlink | Kind::Fifo | Kind::Socket);
        if bookkeeping(name) {
            return false;
        }
        if name.starts_with(TRUSTED.as_bytes()) && self.escaped != 1 {
            return false;
        }
        if name.starts_with(USER.as_bytes()) && self.escaped != 2 {
            return false;
        }
        let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
        !(self.stashed && bare && privileged)
    }

    /// Whether the owner of such an object is kept.
    pub(crate) fn keeps_owner(self, kind: Kind) -> bool {
        !self.stashed || matches!(kind, Kind::File | Kind::Dir | Kind::Char | Kind::Block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_bookkeeping_comes_out_of_an_archive() {
        let rules = |escaped, stashed| Rules { escaped, stashed };
        for name in
            [&b"user.containers.override_stat"[..], b"user.fuseoverlayfs.opaque", b"user.stratafs.trusted.x"]
        {
            for escaped in 0..3 {
                assert!(!rules(escaped, false).keeps(name, Kind::File));
            }
        }
        let overlay = [b"trusted.overlay.redirect".as_slice(), b"user.overlay.redirect"];
        for (escaped, kept) in [(0, [false, false]), (1, [true, false]), (2, [false, true])] {
            assert_eq!(overlay.map(|name| rules(escaped, false).keeps(name, Kind::Dir)), kept);
        }
        assert!(rules(1, true).keeps(b"security.capability", Kind::File));
        assert!(!rules(1, true).keeps(b"security.selinux", Kind::Symlink));
        assert!(rules(1, false).keeps(b"security.selinux", Kind::Symlink));
    }
}
