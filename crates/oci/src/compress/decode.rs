//! [`Decoder`]: what is inside a compressed stream.
//!
//! * gzip: any number of members one after the other, as parallel writers and `cat` make them. Whatever else follows
//!   the last one, zeros too, is an error, as in Go's reader; gzip(1) would warn and drop it. A member may be empty.
//! * zstd: any number of frames, skippable ones too. A window larger than 128 MiB is refused (the library's bound), which needs
//!   `--long` or `--ultra` to make.
//! * An empty input is an empty archive.
//!
//! The end is said when the compressed input is at its end too, so a digest over the blob is complete by then.

use super::{Compression, FIRST, detect, refused};
use crate::{Error, ErrorKind, Limits, Result};
use flate2::bufread::MultiGzDecoder;
use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

const OPERATION: &str = "decompress";

/// Compressed bytes are taken in pieces of this size.
const BUFFER: usize = 1 << 16;

type Input<R> = Counter<Chain<Cursor<Vec<u8>>, R>>;

/// Decodes `input` by its first bytes.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for compressions that are known and not supported; what reading says. The reader's errors carry
/// an [`Error`]: [`ErrorKind::Corrupt`] for what cannot be decoded, is cut off or goes on after its end,
/// [`ErrorKind::TooLarge`] for more than [`Limits::layer_bytes`], or than [`Limits::ratio`] times what was read
/// once it is past [`Limits::ratio_from`].
pub fn decode<R: Read>(mut input: R, limits: &Limits) -> Result<Decoder<R>> {
    let mut first = Vec::with_capacity(FIRST);
    (&mut input).take(FIRST as u64).read_to_end(&mut first).map_err(ours)?;
    let compression = detect(&first);
    if let Some(name) = refused(&first) {
        let why = format!("it is compressed with {name}; gzip, zstd and plain archives are supported");
        return Err(Error::new(ErrorKind::Unsupported, OPERATION).because(why));
    }
    let input = Counter { inner: Cursor::new(first).chain(input), bytes: 0, failed: false };
    let kind = match compression {
        Compression::None => Kind::Plain(input),
        Compression::Gzip => {
            Kind::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, input))))
        }
        Compression::Zstd => {
            let input = BufReader::with_capacity(BUFFER, input);
            Kind::Zstd(zstd::stream::read::Decoder::with_buffer(input).map_err(ours)?)
        }
    };
    Ok(Decoder { kind, compression, limits: limits.clone(), bytes: 0, failed: false })
}

/// Reads what is inside a compressed stream; made by [`decode`].
pub struct Decoder<R: Read> {
    kind: Kind<R>,
    compression: Compression,
    limits: Limits,
    bytes: u64,
    /// After an error there is no end that could be believed.
    failed: bool,
}

enum Kind<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Input<R>>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Input<R>>>),
}

impl<R: Read> Decoder<R> {
    /// How the input is compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    fn input(&self) -> &Input<R> {
        match &self.kind {
            Kind::Plain(input) => input,
            Kind::Gzip(decoder) => decoder.get_ref().get_ref(),
            Kind::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// What is past the limits, if anything is.
    fn beyond(&self) -> Option<String> {
        let Limits { layer_bytes, ratio, ratio_from, .. } = self.limits;
        if self.bytes > layer_bytes {
            return Some(format!("it unpacks to more than {layer_bytes} bytes, the limit of a layer"));
        }
        let read = self.input().bytes;
        if self.bytes > ratio_from && self.bytes > read.saturating_mul(ratio) {
            return Some(format!(
                "{read} bytes unpack to more than {ratio} times as much, the limit of a layer"
            ));
        }
        None
    }

    fn failure(&self, error: io::Error) -> io::Error {
        // What the source says stands, be it the host's or a digest's.
        if self.input().failed {
            return error;
        }
        let at = self.input().bytes;
        let why = if error.kind() == io::ErrorKind::UnexpectedEof {
            format!("the compressed data ends too early, after {at} bytes")
        } else {
            format!("the compressed data cannot be decoded near byte {at}: {error}")
        };
        carried(Error::new(ErrorKind::Corrupt, OPERATION).because(why))
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            let why = "an earlier error ended it";
            return Err(carried(Error::new(ErrorKind::Corrupt, OPERATION).because(why)));
        }
        let read = match &mut self.kind {
            Kind::Plain(input) => input.read(buf),
            Kind::Gzip(decoder) => decoder.read(buf),
            Kind::Zstd(decoder) => decoder.read(buf),
        };
        let n = match read {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.failed = true;
                return Err(self.failure(error));
            }
        };
        self.bytes += n as u64;
        match self.beyond() {
            None => Ok(n),
            Some(why) => {
                self.failed = true;
                Err(carried(Error::new(ErrorKind::TooLarge, OPERATION).because(why)))
            }
        }
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Decoder");
        shown.field("compression", &self.compression).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Counts what the decoder takes, and knows whose error it was.
struct Counter<R> {
    inner: R,
    bytes: u64,
    failed: bool,
}

impl<R: Read> Read for Counter<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(n) => {
                self.bytes += n as u64;
                Ok(n)
            }
            Err(error) => {
                self.failed = error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

fn ours(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::io(error, OPERATION),
    }
}

/// An error of ours through `std::io`.
fn carried(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
