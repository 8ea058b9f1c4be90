//! `export` and `layer`: archives of a container.

use crate::args::{Compression, Pack};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Watch;
use crate::text::{shown_path, size_text};
use serde::Serialize;
use std::io::Write;
use stratafs::oci::compress;
use stratafs::store::{ArchiveOptions, Store};

/// What was written, in JSON.
#[derive(Debug, Serialize)]
struct JsonPacked {
    /// The digest of the archive before compression: the diff id of a layer.
    digest: String,
    /// Bytes of it.
    bytes: u64,
    entries: u64,
    /// Sockets, which no archive can hold.
    sockets_left_out: u64,
}

/// What goes into the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// All that is seen.
    Everything,
    /// What was changed since the image.
    Changes,
}

impl From<Compression> for compress::Compression {
    fn from(asked: Compression) -> Self {
        match asked {
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
            Compression::None => Self::None,
        }
    }
}

/// Writes the archive.
pub fn pack(store: &Store, asked: &Pack, what: What) -> Outcome {
    if asked.json && asked.output.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(Failure::usage("--json and the archive cannot both go to standard output"));
    }
    let mut out = Output::open(asked.output.as_deref(), asked.force)?;
    let watch = Watch::new(asked.json);
    let to_file = matches!(out, Output::File(_));
    let options = ArchiveOptions { compression: asked.compression.into(), threads: None };
    let packed = watch.run(|watch| {
        let packed = match what {
            What::Everything => store.export_container(&asked.name, &mut out, &options, watch),
            What::Changes => store.export_layer(&asked.name, &mut out, &options, watch),
        };
        let packed = packed.map_err(gone_or)?;
        out.finish()?;
        Ok(packed)
    })?;
    let result = JsonPacked {
        digest: packed.digest.to_string(),
        bytes: packed.bytes,
        entries: packed.entries,
        sockets_left_out: packed.sockets,
    };
    watch.result(&result, || {
        if let (Some(path), true) = (&asked.output, to_file) {
            let (entries, size) = (packed.entries, size_text(packed.bytes));
            writeln!(
                std::io::stdout().lock(),
                "{}: {entries} entries, {size}, {}",
                shown_path(path),
                packed.digest
            )?;
        }
        if packed.sockets > 0 {
            let sockets = packed.sockets;
            crate::complain(&Failure::new(format!("sockets are not part of an archive: {sockets} left out")));
        }
        Ok(())
    })?;
    Ok(0)
}

/// A closed pipe is no error to speak of: its reader has had enough.
pub fn gone_or(error: stratafs::Error) -> Failure {
    match error.errno() {
        libc::EPIPE => std::io::Error::from(std::io::ErrorKind::BrokenPipe).into(),
        _ => error.into(),
    }
}
