//! [`Digest`]: `sha256:` and 64 hexadecimal digits (OCI image-spec, descriptor). Other algorithms are refused by
//! name: none is in use. Invariant: a digest is always well-formed, so it can be a file name.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// What the algorithm is called in a digest.
const SHA256: &str = "sha256";

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The identity of a stack of layers, by this one's below and the next one's own (OCI image-spec, config,
    /// "ChainID").
    #[must_use]
    pub fn chain(below: Option<&Self>, diff_id: &Self) -> Self {
        match below {
            None => *diff_id,
            Some(below) => Self::of(format!("{below} {diff_id}").as_bytes()),
        }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad =
            |why: &str| Err(Error::new(ErrorKind::InvalidInput, "read digest").about(text).because(why));
        let Some((algorithm, hex)) = text.split_once(':') else {
            return bad("sha256: and 64 hexadecimal digits are needed");
        };
        if algorithm != SHA256 {
            return bad("only sha256 is supported");
        }
        // Upper case would make two names of one thing.
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        let pairs = hex.as_bytes().chunks_exact(2);
        if hex.len() != 64 {
            return bad("64 hexadecimal digits are needed after sha256:");
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            match pair {
                [high, low] => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => *byte = high << 4 | low,
                    _ => return bad("64 lower-case hexadecimal digits are needed after sha256:"),
                },
                _ => return bad("64 hexadecimal digits are needed after sha256:"),
            }
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHA256}:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes and counts what passes through, as a reader or a writer.
#[derive(Debug)]
pub struct Hasher<T> {
    inner: T,
    sha: sha2::Sha256,
    bytes: u64,
}

impl<T> Hasher<T> {
    /// Hashes what passes to or from `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, sha: sha2::Sha256::new(), bytes: 0 }
    }

    /// How many bytes passed.
    pub fn passed(&self) -> u64 {
        self.bytes
    }

    /// What is inside.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The digest of all that passed, how much it was, and what was inside.
    pub fn finish(self) -> (Digest, u64, T) {
        (Digest(self.sha.finalize().into()), self.bytes, self.inner)
    }
}

impl<R: Read> Read for Hasher<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.sha.update(buf.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }
}

impl<W: Write> Write for Hasher<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.sha.update(buf.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A reader of a blob whose digest and size are known. The end of the data is only said when both are right; a byte
/// too many or too few, or other content, is an error of kind [`ErrorKind::Corrupt`] in its place.
#[derive(Debug)]
pub struct Verified<R> {
    /// `None` once the digest was compared.
    hasher: Option<Hasher<R>>,
    digest: Digest,
    size: Option<u64>,
}

impl<R: Read> Verified<R> {
    /// Reads `inner`, which must be `digest`, and `size` bytes long where that is known.
    pub fn new(inner: R, digest: Digest, size: Option<u64>) -> Self {
        Self { hasher: Some(Hasher::new(inner)), digest, size }
    }

    fn corrupt(&self, why: String) -> io::Error {
        let error = Error::new(ErrorKind::Corrupt, "read blob").about(self.digest.to_string()).because(why);
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(hasher) = &mut self.hasher else { return Ok(0) };
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hasher.read(buf)?;
        let bytes = hasher.passed();
        if let Some(size) = self.size
            && (bytes > size || (n == 0 && bytes < size))
        {
            let why = if bytes > size {
                format!("it is longer than the {size} bytes that were announced")
            } else {
                format!("it ends after {bytes} bytes, {size} were announced")
            };
            return Err(self.corrupt(why));
        }
        if n == 0
            && let Some(hasher) = self.hasher.take()
        {
            let (found, ..) = hasher.finish();
            if found != self.digest {
                return Err(self.corrupt(format!("its content is {found}")));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_and_nothing_else_does() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        for bad in
            ["", "sha256", "sha256:", "md5:00", &EMPTY.to_uppercase(), &EMPTY[..70], &format!("{EMPTY}0")]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(format!("sha256:{}", "g".repeat(64)).parse::<Digest>().is_err());
        assert!(format!("sha256:{}", "é".repeat(32)).parse::<Digest>().is_err());
    }

    #[test]
    fn a_blob_ends_only_when_it_is_the_right_one() {
        let read = |bytes: &[u8], digest, size| {
            let mut out = Vec::new();
            Verified::new(bytes, digest, size).read_to_end(&mut out).map(|_| out)
        };
        let good = Digest::of(b"abc");
        assert_eq!(read(b"abc", good, Some(3)).unwrap(), b"abc");
        assert_eq!(read(b"abc", good, None).unwrap(), b"abc");
        assert!(read(b"abd", good, Some(3)).is_err());
        assert!(read(b"abcd", good, Some(3)).is_err());
        assert!(read(b"ab", good, Some(3)).is_err());
    }

    #[test]
    fn a_chain_of_one_layer_is_the_layer() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(Digest::chain(None, &a), a);
        assert_eq!(Digest::chain(Some(&a), &b), Digest::of(format!("{a} {b}").as_bytes()));
    }
}
