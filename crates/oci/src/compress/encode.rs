//! [`Encoder`]: a compressed stream out of the bytes that are written to it.

use super::Compression;
use super::gzip::Gzip;
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::io::{self, Write};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder as Zstd;

const OPERATION: &str = "compress";

/// Threads that one encoder may have: more only cost memory.
const THREADS: usize = 64;

/// zstd's own default; the strongest level that is still faster than a disk.
const ZSTD_LEVEL: i32 = 3;

/// What one thread compresses at a time. zstd would choose it by level and size; fixed, so that a later version of the
/// library does not cut elsewhere.
const ZSTD_JOB: u32 = 4 << 20;

/// Compresses what is written and writes it to `out`, by so many threads, at least one and at most 64. Memory: a few MiB for
/// each thread.
///
/// # Errors
/// When the library or the threads cannot be had.
pub fn encode<W: Write>(out: W, compression: Compression, threads: usize) -> Result<Encoder<W>> {
    let threads = threads.clamp(1, THREADS);
    let failed = |error| Error::io(error, OPERATION);
    let kind = match compression {
        Compression::None => Kind::Plain(out),
        Compression::Gzip => Kind::Gzip(Gzip::new(out, threads).map_err(failed)?),
        Compression::Zstd => {
            let mut encoder = Zstd::new(out, ZSTD_LEVEL).map_err(failed)?;
            // With one worker too: without any, the library takes another way and other bytes come out.
            let workers = u32::try_from(threads).unwrap_or(1);
            for parameter in [
                CParameter::NbWorkers(workers),
                CParameter::JobSize(ZSTD_JOB),
                CParameter::ChecksumFlag(true),
            ] {
                encoder.set_parameter(parameter).map_err(failed)?;
            }
            Kind::Zstd(encoder)
        }
    };
    Ok(Encoder { kind })
}

/// Compresses what is written to it; made by [`encode`]. Without [`Encoder::finish`] the output is cut off.
///
/// `flush` only flushes the output: what is still to be compressed stays, since the result must not depend on when it was
/// called.
pub struct Encoder<W: Write> {
    kind: Kind<W>,
}

enum Kind<W: Write> {
    Plain(W),
    Gzip(Gzip<W>),
    Zstd(Zstd<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Writes what is left, and the end, and gives back the output, which is not flushed.
    ///
    /// # Errors
    /// What the output says.
    pub fn finish(self) -> Result<W> {
        let out = match self.kind {
            Kind::Plain(out) => Ok(out),
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        };
        out.map_err(|error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::io(error, OPERATION),
        })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Plain(out) => out.write(buf),
            Kind::Gzip(encoder) => encoder.write(buf),
            Kind::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Plain(out) => out.flush(),
            Kind::Gzip(encoder) => encoder.get_mut().flush(),
            Kind::Zstd(encoder) => encoder.get_mut().flush(),
        }
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Plain(_) => "Encoder(plain)",
            Kind::Gzip(_) => "Encoder(gzip)",
            Kind::Zstd(_) => "Encoder(zstd)",
        })
    }
}

/// A thread that went away, which only a panic in it explains.
pub(super) fn lost() -> io::Error {
    let error = Error::new(ErrorKind::Io(stratafs_core::error::errno::EIO), OPERATION);
    io::Error::other(error.because("a thread ended too early"))
}
