//! Ownership that could not be applied, stored instead: the attribute `user.containers.override_stat` that
//! containers/storage and fuse-overlayfs read and write, `uid:gid:mode[:type]` with an octal mode.
//!
//! User attributes exist only on regular files and directories. A stashed device is an empty regular file whose
//! stash names its type; the owner of a symbolic link cannot be stored and stays the real one.
//!
//! Attributes that only the privileged may set (`security.*` such as capabilities, `trusted.*`) are kept beside it, as
//! user attributes under one more prefix.

use stratafs_core::{Attr, Device, Error, ErrorKind, Kind, Result};

/// The attribute's name.
pub(crate) const XATTR: &[u8] = b"user.containers.override_stat";

/// What the name of a privileged attribute is put behind.
const KEPT: &[u8] = b"user.stratafs.";

/// True for attributes that are kept under another name where ownership is.
fn privileged(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

/// Under which name a privileged attribute is kept.
pub(crate) fn kept_name(name: &[u8]) -> Option<Vec<u8>> {
    privileged(name).then(|| [KEPT, name].concat())
}

/// The name of the privileged attribute that is kept under `stored`.
pub(crate) fn name_kept(stored: &[u8]) -> Option<&[u8]> {
    stored.strip_prefix(KEPT).filter(|name| privileged(name))
}

/// What an object is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stash {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `mode & 0o7777`.
    pub(crate) mode: u32,
    /// Kind and device number, where the real kind is not the meant one.
    pub(crate) kind: Option<(Kind, Device)>,
}

impl Stash {
    /// Reads a stored value.
    pub(crate) fn parse(value: &[u8]) -> Result<Self> {
        let read = || {
            let mut parts = std::str::from_utf8(value).ok()?.split(':');
            let stash = Self {
                uid: parts.next()?.parse().ok()?,
                gid: parts.next()?.parse().ok()?,
                mode: u32::from_str_radix(parts.next()?.trim_start_matches("0o"), 8).ok()? & 0o7777,
                kind: match parts.next() {
                    Some(text) => Some(parse_kind(text)?),
                    None => None,
                },
            };
            parts.next().is_none().then_some(stash)
        };
        read().ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read stored ownership")
                .because(format!("\"{}\" is not uid:gid:mode[:type]", value.escape_ascii()))
        })
    }

    /// Writes the stored value.
    pub(crate) fn encode(&self) -> String {
        let Self { uid, gid, mode, kind } = self;
        match kind {
            None => format!("{uid}:{gid}:0{mode:o}"),
            Some((kind, device)) => format!("{uid}:{gid}:0{mode:o}:{}", kind_text(*kind, *device)),
        }
    }

    /// What the attributes of the real object are meant to be.
    pub(crate) fn over(&self, real: Attr) -> Attr {
        let mut attr = Attr { uid: self.uid, gid: self.gid, mode: self.mode, ..real };
        if let Some((kind, device)) = self.kind
            && real.kind == Kind::File
            && kind != Kind::Dir
        {
            attr.kind = kind;
            attr.rdev = device;
        }
        attr
    }

    /// The stash that says what `attr` says.
    pub(crate) fn of(attr: &Attr) -> Self {
        let device = matches!(attr.kind, Kind::Char | Kind::Block);
        Self { uid: attr.uid, gid: attr.gid, mode: attr.mode, kind: device.then_some((attr.kind, attr.rdev)) }
    }
}

fn kind_text(kind: Kind, device: Device) -> String {
    match kind {
        Kind::File => "file".into(),
        Kind::Dir => "dir".into(),
        Kind::Symlink => "symlink".into(),
        Kind::Fifo => "pipe".into(),
        Kind::Socket => "socket".into(),
        Kind::Char => format!("char-{}-{}", device.major, device.minor),
        Kind::Block => format!("block-{}-{}", device.major, device.minor),
    }
}

fn parse_kind(text: &str) -> Option<(Kind, Device)> {
    let plain = |kind| Some((kind, Device::default()));
    match text {
        "file" => plain(Kind::File),
        "dir" => plain(Kind::Dir),
        "symlink" => plain(Kind::Symlink),
        "pipe" => plain(Kind::Fifo),
        "socket" => plain(Kind::Socket),
        device => {
            let mut parts = device.split('-');
            let kind = match parts.next()? {
                "char" => Kind::Char,
                "block" => Kind::Block,
                _ => return None,
            };
            let device = Device { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? };
            parts.next().is_none().then_some((kind, device))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_ownership_reads_back() {
        let plain = Stash { uid: 1, gid: 2, mode: 0o4755, kind: None };
        assert_eq!(plain.encode(), "1:2:04755");
        let device = Stash { kind: Some((Kind::Block, Device { major: 8, minor: 1 })), mode: 0o660, ..plain };
        assert_eq!(device.encode(), "1:2:0660:block-8-1");
        for stash in [plain, device, Stash { kind: Some((Kind::Fifo, Device::default())), ..plain }] {
            assert_eq!(Stash::parse(stash.encode().as_bytes()).unwrap(), stash);
        }
        assert_eq!(Stash::parse(b"0:0:100644").unwrap().mode, 0o644);
        assert_eq!(Stash::parse(b"0:0:0o755:dir").unwrap().mode, 0o755);
    }

    #[test]
    fn privileged_attributes_keep_their_names() {
        for name in [&b"security.capability"[..], b"trusted.x", b"trusted.overlay.opaque"] {
            let kept = kept_name(name).unwrap();
            assert!(kept.starts_with(b"user.") && kept_name(&kept).is_none());
            assert_eq!(name_kept(&kept), Some(name));
        }
        for other in [&b"user.a"[..], b"system.posix_acl_access", b"user.stratafs.a", b"user.stratafs."] {
            assert!(kept_name(other).is_none() && name_kept(other).is_none());
        }
    }

    #[test]
    fn damaged_ownership_is_said_so() {
        for bad in [
            &b""[..],
            b"1",
            b"1:2",
            b"1:2:9",
            b"a:2:7",
            b"1:2:7:x",
            b"1:2:7:char-1",
            b"1:2:7:file:z",
            b"\xff",
        ] {
            assert_eq!(Stash::parse(bad).unwrap_err().kind(), ErrorKind::Corrupt, "{}", bad.escape_ascii());
        }
    }
}
