//! How a layer's directory says what it deletes: the forms that a layer may use besides overlayfs's own, and the
//! meaning of `.wh.` names.

/// Which forms of whiteouts and marks are honoured in a layer. A character device 0/0 always is a whiteout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// overlayfs's extended attributes: opaque, redirect, metacopy, origin, xattr whiteouts. They are hidden.
    pub overlay: bool,
    /// fuse-overlayfs's: `user.fuseoverlayfs.opaque`, and the `.wh.` names that it writes.
    pub fuse_overlayfs: bool,
    /// AUFS's and OCI's: `.wh.NAME` hides NAME below, `.wh..wh..opq` makes a directory opaque, other `.wh..wh.`
    /// names are bookkeeping. All of them are hidden.
    pub aufs: bool,
}

impl Default for Formats {
    /// Only overlayfs's: the others would change a tree that happens to hold such names.
    fn default() -> Self {
        Self { overlay: true, fuse_overlayfs: false, aufs: false }
    }
}

impl Formats {
    /// True when `.wh.` names have a meaning.
    pub(crate) fn wh_names(self) -> bool {
        self.fuse_overlayfs || self.aufs
    }
}

/// The opaque mark of fuse-overlayfs.
pub(crate) const FUSE_OPAQUE: &[u8] = b"user.fuseoverlayfs.opaque";
/// The prefix of fuse-overlayfs's own attributes.
pub(crate) const FUSE_PREFIX: &[u8] = b"user.fuseoverlayfs.";
/// The name whose presence makes its directory opaque.
pub(crate) const WH_OPAQUE: &[u8] = b".wh..wh..opq";

const WH: &[u8] = b".wh.";
const WH_META: &[u8] = b".wh..wh.";

/// What a stored name means where `.wh.` names have a meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// An entry.
    Entry,
    /// The whiteout of another name.
    Whiteout(&'a [u8]),
    /// Bookkeeping; no entry.
    Hidden,
}

/// The meaning of `name`. A bare `.wh.`, and what would delete `.` or `..`, deletes nothing.
pub(crate) fn meaning(name: &[u8]) -> Meaning<'_> {
    match name.strip_prefix(WH) {
        None => Meaning::Entry,
        Some(_) if name.starts_with(WH_META) => Meaning::Hidden,
        Some(b"" | b"." | b"..") => Meaning::Hidden,
        Some(hidden) => Meaning::Whiteout(hidden),
    }
}

/// The name that hides `name`.
pub(crate) fn hider(name: &[u8]) -> Vec<u8> {
    [WH, name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_delete_nothing() {
        for name in [&b".wh."[..], b".wh..", b".wh...", b".wh..wh..opq", b".wh..wh.plnk", b".wh..wh.aufs"] {
            assert_eq!(meaning(name), Meaning::Hidden, "{}", name.escape_ascii());
        }
        assert_eq!(meaning(b".wh.a"), Meaning::Whiteout(b"a"));
        assert_eq!(meaning(b".wh....a"), Meaning::Whiteout(b"...a"));
        assert_eq!(meaning(b"a.wh.b"), Meaning::Entry);
        assert_eq!(hider(b"a"), b".wh.a");
    }
}
