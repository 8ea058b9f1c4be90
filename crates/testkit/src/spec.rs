//! Stacks of layers as plain data: what a fixture turns into real layers, and the model into one tree.

use crate::path::Path;
use crate::rng::mix;
use stratafs_core::{Device, Kind, Time};

/// A regular file's bytes, made from a seed; a range of them may be a hole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Data {
    /// Size in bytes.
    pub len: u64,
    /// What the bytes are made from.
    pub seed: u64,
    /// Offset and length of zeros that are not stored.
    pub hole: Option<(u64, u64)>,
    /// Exactly these bytes instead.
    pub literal: Option<Vec<u8>>,
}

impl Data {
    /// `len` bytes from `seed`.
    #[must_use]
    pub fn seeded(len: u64, seed: u64) -> Self {
        Self { len, seed, ..Self::default() }
    }

    /// Exactly `bytes`.
    #[must_use]
    pub fn literal(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, literal: Some(bytes.to_vec()), ..Self::default() }
    }

    /// All bytes, holes as zeros.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        if let Some(bytes) = &self.literal {
            return bytes.clone();
        }
        let mut out = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        for block in 0..self.len.div_ceil(8) {
            out.extend_from_slice(&mix(self.seed ^ block.wrapping_mul(0x1234_5678_9abc_def1)).to_le_bytes());
        }
        out.truncate(usize::try_from(self.len).unwrap_or(0));
        if let Some((start, len)) = self.hole {
            let end = (start + len).min(self.len);
            out[start.min(end) as usize..end as usize].fill(0);
        }
        out
    }

    /// The ranges that are stored, as offset and bytes.
    #[must_use]
    pub fn segments(&self) -> Vec<(u64, Vec<u8>)> {
        let bytes = self.bytes();
        let (start, len) = self.hole.unwrap_or((self.len, 0));
        let (start, end) = (start.min(self.len) as usize, (start + len).min(self.len) as usize);
        [(0, &bytes[..start]), (end as u64, &bytes[end..])]
            .into_iter()
            .filter(|(_, part)| !part.is_empty())
            .map(|(at, part)| (at, part.to_vec()))
            .collect()
    }
}

/// What stands at a path of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File(Data),
    /// A directory, opaque or not.
    Dir {
        /// Hides what is below.
        opaque: bool,
    },
    /// A symbolic link to these bytes.
    Symlink(Vec<u8>),
    /// One more name of an earlier entry of the same layer.
    HardLink(Path),
    /// A fifo, socket or device.
    Node(Kind, Device),
    /// The name is deleted.
    Whiteout,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands; its directory comes earlier in the list.
    pub path: Path,
    /// What it is.
    pub what: What,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the data; long past, so that a dump can tell it from now.
    pub mtime: Time,
    /// Extended attributes by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An entry with usual attributes.
    #[must_use]
    pub fn new(path: impl AsRef<[u8]>, what: What) -> Self {
        let mode = match what {
            What::Dir { .. } => 0o755,
            What::Symlink(_) => 0o777,
            _ => 0o644,
        };
        Self {
            path: Path::of(path),
            what,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time { secs: 1_000_000_000, nanos: 123_456_789 },
            xattrs: Vec::new(),
        }
    }

    /// With these permission bits.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// With this owner and group.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// With one more extended attribute.
    #[must_use]
    pub fn xattr(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Changed last at `secs` and `nanos`.
    #[must_use]
    pub fn time(mut self, secs: i64, nanos: u32) -> Self {
        self.mtime = Time { secs, nanos };
        self
    }
}

/// One layer: entries, each after its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeSpec {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl TreeSpec {
    /// An empty layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more entry.
    #[must_use]
    pub fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// With a regular file of exactly `bytes`.
    #[must_use]
    pub fn file(self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::File(Data::literal(bytes.as_ref()))))
    }

    /// With a directory.
    #[must_use]
    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::Dir { opaque: false }))
    }

    /// With an opaque directory.
    #[must_use]
    pub fn opaque(self, path: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::Dir { opaque: true }))
    }

    /// With a symbolic link.
    #[must_use]
    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::Symlink(target.as_ref().to_vec())))
    }

    /// With one more name of `target`.
    #[must_use]
    pub fn hard_link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::HardLink(Path::of(target))))
    }

    /// With a whiteout.
    #[must_use]
    pub fn whiteout(self, path: impl AsRef<[u8]>) -> Self {
        self.with(Entry::new(path, What::Whiteout))
    }
}

/// A stack of read-only layers, topmost first, as views take them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackSpec {
    /// The layers.
    pub layers: Vec<TreeSpec>,
}

impl StackSpec {
    /// A stack of one layer.
    #[must_use]
    pub fn one(layer: TreeSpec) -> Self {
        Self { layers: vec![layer] }
    }
}

impl<const N: usize> From<[TreeSpec; N]> for StackSpec {
    fn from(layers: [TreeSpec; N]) -> Self {
        Self { layers: layers.into() }
    }
}
