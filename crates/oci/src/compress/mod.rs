//! gzip and zstd around an archive: recognised by the first bytes, decoded within limits, encoded by several threads.
//!
//! * `decode`: a reader of what is inside. `encode`: a writer. `gzip`: one gzip member, compressed in blocks by threads.
//!
//! Invariants: what is decoded is bounded by [`Limits`](crate::Limits), and its end is only said when the input is
//! complete and read to its end; what is encoded depends on the bytes alone, neither on the number of threads nor on how the
//! bytes were cut into writes.

mod decode;
mod encode;
mod gzip;

pub use decode::{Decoder, decode};
pub use encode::{Encoder, encode};

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// How many bytes at the beginning say what it is.
pub(crate) const FIRST: usize = 16;

/// What begins like `first`, of which 16 bytes suffice. What is neither gzip nor zstd counts as not compressed;
/// [`decode`] refuses the other compressions that it knows by name.
#[must_use]
pub fn detect(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one that is to be skipped, with which some writers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The name of a compression that is not supported. The patterns are long enough that no name of a first entry is meant.
fn refused(first: &[u8]) -> Option<&'static str> {
    Some(match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => "bzip2",
        [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [b'L', b'Z', b'I', b'P', 1, ..] => "lzip",
        [0x5d, 0, 0, _, _, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => "lzma",
        [0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a, ..] => "lzop",
        [0x1f, 0x9d | 0xa0, ..] => "compress",
        [b'P', b'K', 3, 4, ..] => "zip",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_not_taken_for_compressions() {
        for name in [
            &b"BZh91.txt\0\0\0\0\0\0\0"[..],
            b"LZIP\0\0",
            b"PK/\0",
            b"]\0\0\0\0\0\0\0\0\0\0\0\0",
            b"",
            b"\x1f",
        ] {
            assert_eq!(detect(name), Compression::None);
            assert_eq!(refused(name), None);
        }
    }
}
