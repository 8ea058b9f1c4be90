//! Origins: an object's lasting identity in the kernel's form (`struct ovl_fb` of fs/overlayfs), the value of the
//! `origin` mark and, as lowercase hexadecimal digits, the name in the hard-link index.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 1 | version, 0 |
//! | 1 | 1 | magic, 0xfb |
//! | 2 | 1 | length of the whole |
//! | 3 | 1 | flags: 1 big-endian, 2 any byte order, 4 an object of the upper |
//! | 4 | 1 | type of the file handle |
//! | 5 | 16 | the file system's UUID, zeros where it has none |
//! | 21 | | the file handle |
//!
//! Where the file system has no handles, the type is [`SYNTHETIC`], which no file system uses, and the handle is
//! inode number and, for an object on a file system mounted inside the layer, device number: two `u64`, little-endian.

use crate::sys::stat::FileHandle;
use stratafs_core::{FileId, Origin};

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
const HEADER: usize = 21;
const BIG_ENDIAN: u8 = 1;
const ANY_ENDIAN: u8 = 2;
const OF_UPPER: u8 = 4;
const OUR_ENDIAN: u8 = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };

/// 32-bit inode number and generation (ext4 and most others); tmpfs: generation and 64-bit inode number.
const INO32_GEN: u8 = 0x01;
/// 64-bit inode number and 32-bit generation (XFS, and generic since Linux 6.6).
const INO64_GEN: u8 = 0x81;
/// btrfs: 64-bit object id, 64-bit subvolume, 32-bit generation.
const BTRFS: u8 = 0x4d;
/// Ours, where there are no file handles.
pub(crate) const SYNTHETIC: u8 = 0xf5;

/// What origins of one layer have in common; asked of the kernel once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home {
    /// The file system's UUID, zeros where it tells none.
    pub(crate) uuid: [u8; 16],
    /// The layer's `st_dev`.
    pub(crate) dev: u64,
    /// The handle of the layer's root, where the file system has handles.
    pub(crate) root: Option<FileHandle>,
}

impl Home {
    /// The origin of the object that `handle` names.
    pub(crate) fn of_handle(&self, handle: &FileHandle) -> Option<Origin> {
        let kind = u8::try_from(handle.kind).ok().filter(|kind| *kind != SYNTHETIC)?;
        self.build(kind, OUR_ENDIAN, &handle.bytes)
    }

    /// The origin of an object that has no handle.
    pub(crate) fn of_id(&self, id: FileId) -> Option<Origin> {
        let foreign = if id.dev == self.dev { 0 } else { id.dev };
        let bytes = [id.ino.to_le_bytes(), foreign.to_le_bytes()].concat();
        self.build(SYNTHETIC, ANY_ENDIAN, &bytes)
    }

    fn build(&self, kind: u8, flags: u8, handle: &[u8]) -> Option<Origin> {
        let len = u8::try_from(HEADER + handle.len()).ok()?;
        let mut value = vec![VERSION, MAGIC, len, flags, kind];
        value.extend_from_slice(&self.uuid);
        value.extend_from_slice(handle);
        Some(Origin::new(value))
    }

    /// Which object of this file system `origin` names.
    pub(crate) fn locate(&self, origin: &Origin) -> Option<FileId> {
        let value = origin.as_bytes();
        let (head, handle) = value.split_at_checked(HEADER)?;
        let [VERSION, MAGIC, len, flags, kind, uuid @ ..] = head else { return None };
        let foreign_order = flags & ANY_ENDIAN == 0 && flags & BIG_ENDIAN != OUR_ENDIAN;
        if usize::from(*len) != value.len() || *uuid != self.uuid || foreign_order || flags & OF_UPPER != 0 {
            return None;
        }
        let ino = match (*kind, handle.len()) {
            (INO32_GEN, 8) => u64::from(u32::from_ne_bytes(word(handle, 0)?)),
            (INO32_GEN, 12) => {
                let (low, high) =
                    (u32::from_ne_bytes(word(handle, 4)?), u32::from_ne_bytes(word(handle, 8)?));
                u64::from(high) << 32 | u64::from(low)
            }
            (INO64_GEN, 12) => u64::from_ne_bytes(word(handle, 0)?),
            (BTRFS, 20) => {
                let root = &self.root.as_ref()?.bytes;
                (handle.get(8..16) == root.get(8..16)).then_some(u64::from_ne_bytes(word(handle, 0)?))?
            }
            (SYNTHETIC, 16) => {
                let foreign = u64::from_le_bytes(word(handle, 8)?);
                let ino = u64::from_le_bytes(word(handle, 0)?);
                return Some(FileId { dev: if foreign == 0 { self.dev } else { foreign }, ino });
            }
            _ => return None,
        };
        Some(FileId { dev: self.dev, ino })
    }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The name of an origin in the index.
pub(crate) fn index_name(origin: &Origin) -> String {
    use std::fmt::Write;
    origin.as_bytes().iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// The origin whose index name this is; `None` for other names.
pub(crate) fn indexed_origin(name: &[u8]) -> Option<Origin> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if name.is_empty() || !name.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = name
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes.map(Origin::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        let root = FileHandle { kind: 0x4d, bytes: [[9u8; 8], [5; 8]].concat(), mount: 1 };
        Home { uuid: [7; 16], dev: 42, root: Some(root) }
    }

    fn handle(kind: i32, bytes: &[u8]) -> FileHandle {
        FileHandle { kind, bytes: bytes.to_vec(), mount: 1 }
    }

    #[test]
    fn every_known_handle_is_located() {
        let home = home();
        let ino = 0x0102_0304_u32;
        let long = 0x0102_0304_0506_0708_u64;
        let mut tmpfs = vec![1, 2, 3, 4];
        tmpfs.extend_from_slice(&0x0506_0708_u32.to_ne_bytes());
        tmpfs.extend_from_slice(&0x0102_0304_u32.to_ne_bytes());
        let cases = [
            (handle(1, &[ino.to_ne_bytes(), [1; 4]].concat()), u64::from(ino)),
            (handle(1, &tmpfs), long),
            (handle(0x81, &[&long.to_ne_bytes()[..], &[1; 4]].concat()), long),
            (handle(0x4d, &[&long.to_ne_bytes()[..], &[5; 8], &[1; 4]].concat()), long),
        ];
        for (handle, ino) in cases {
            let origin = home.of_handle(&handle).unwrap();
            assert_eq!(home.locate(&origin), Some(FileId { dev: 42, ino }), "{handle:?}");
            let other = Home { uuid: [8; 16], ..home.clone() };
            assert_eq!(other.locate(&origin), None);
        }
        for id in [FileId { dev: 42, ino: long }, FileId { dev: 43, ino: 1 }] {
            assert_eq!(home.locate(&home.of_id(id).unwrap()), Some(id));
        }
    }

    #[test]
    fn nothing_else_is() {
        let home = home();
        let good = home.of_handle(&handle(1, &[1; 8])).unwrap();
        for at in 0..5 {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at] ^= 0x5;
            assert_eq!(home.locate(&Origin::new(bytes)), None, "byte {at}");
        }
        for len in 0..good.as_bytes().len() {
            assert_eq!(home.locate(&Origin::new(&good.as_bytes()[..len])), None);
        }
        let subvolume = handle(0x4d, &[&[1; 8][..], &[6; 8], &[1; 4]].concat());
        assert_eq!(home.locate(&home.of_handle(&subvolume).unwrap()), None);
        assert!(home.of_handle(&handle(i32::from(SYNTHETIC), &[0; 16])).is_none());
    }

    #[test]
    fn the_index_name_is_hexadecimal() {
        let origin = Origin::new([0x00, 0xfb, 0x1d]);
        assert_eq!(index_name(&origin), "00fb1d");
        assert_eq!(indexed_origin(b"00fb1d"), Some(origin));
        for other in [&b""[..], b"#3", b"0", b"00FB", b"zz", b"00fb1"] {
            assert_eq!(indexed_origin(other), None);
        }
    }
}
