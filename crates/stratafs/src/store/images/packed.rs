//! A tree that becomes a layer: packed and unpacked at the same time, so that it is what its archive would be.

use super::pipe::{EPIPE, PipeWriter, pipe};
use super::unpack::{Below, apply_staged, publish};
use crate::oci::pack::Packed;
use crate::oci::{Digest, Limits, Progress};
use crate::store::{PinnedLayer, Store};
use crate::{Error, ErrorKind, Result};
use std::io;
use std::thread;

/// What a layer is packed for.
pub(super) struct Packing<'a> {
    /// What to call it.
    pub(super) label: &'a str,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a dyn Progress,
    /// The layers below.
    pub(super) below: &'a dyn Fn() -> Result<Option<Below>>,
    /// Their chain id.
    pub(super) chain_below: Option<Digest>,
    /// Whether one that is stored already is verified.
    pub(super) verify: bool,
}

impl Store {
    /// Stores the layer whose archive `write` writes.
    pub(super) fn packed(
        &self,
        with: &Packing<'_>,
        write: impl FnOnce(&mut PipeWriter) -> Result<Packed> + Send,
    ) -> Result<(PinnedLayer, Packed)> {
        let staged = self.stage_layer()?;
        let (applied, packed) = thread::scope(|scope| {
            let (mut out, input) = pipe();
            let writer = thread::Builder::new().name("strata-pack".into()).spawn_scoped(scope, move || {
                let packed = write(&mut out)?;
                out.finish().map_err(|e| Error::io(e, "pack"))?;
                Ok(packed)
            });
            let writer = writer.map_err(|e| Error::io(e, "start a thread"))?;
            let applied = apply_staged(input, &staged, with.below, with.limits, with.label, with.progress);
            let packed =
                writer.join().unwrap_or_else(|_| Err(Error::io(io::Error::other("a thread died"), "pack")));
            match (applied, packed) {
                // Its reader gave up before.
                (Err(applied), Err(packed)) if packed.kind() == GONE => Err(applied),
                (_, Err(packed)) => Err(packed),
                (applied, Ok(packed)) => Ok((applied?, packed)),
            }
        })?;
        if applied.diff_id != packed.digest {
            let why = format!("{} was written, {} was read", packed.digest, applied.diff_id);
            return Err(Error::new(ErrorKind::Corrupt, "pack").in_layer(with.label).because(why));
        }
        let chain_id = Digest::chain(with.chain_below.as_ref(), &applied.diff_id);
        Ok((publish(staged, &applied, chain_id, with.verify)?, packed))
    }
}

/// A pipe lost its reader.
const GONE: ErrorKind = ErrorKind::Io(EPIPE);
