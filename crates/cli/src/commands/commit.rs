//! `commit`: a container becomes an image.

use super::image::{describe, short};
use crate::args::Commit;
use crate::failure::{Failure, Outcome};
use crate::progress::Watch;
use crate::text::size_text;
use serde::Serialize;
use std::io::Write;
use stratafs::store::{CommitOptions, Store, source_date_epoch};

/// The new layer, in JSON.
#[derive(Debug, Serialize)]
struct JsonLayer {
    diff_id: String,
    /// Bytes of its archive, not compressed.
    bytes: u64,
    entries: u64,
    /// Sockets, which no layer can hold.
    sockets_left_out: u64,
}

/// Makes the image.
pub fn commit(store: &Store, asked: Commit) -> Outcome {
    let watch = Watch::new(asked.json);
    let options = CommitOptions {
        message: asked.message,
        author: asked.author,
        changes: asked.change,
        created: source_date_epoch()?,
        ..CommitOptions::default()
    };
    let committed = watch.run(|watch| Ok(store.commit(&asked.name, &asked.image, &options, watch)?))?;
    let image = describe(store, &committed.record);
    let layer = committed.layer.map(|packed| JsonLayer {
        diff_id: packed.digest.to_string(),
        bytes: packed.bytes,
        entries: packed.entries,
        sockets_left_out: packed.sockets,
    });
    watch.result(&serde_json::json!({ "image": image, "layer": layer }), || {
        let mut out = std::io::stdout().lock();
        let (name, id) = (&committed.record.name, short(&committed.record.id().to_string()));
        match &layer {
            None => writeln!(out, "{name}  {id}  nothing changed, no new layer")?,
            Some(JsonLayer { entries, bytes, .. }) => {
                writeln!(out, "{name}  {id}  {entries} entries, {}", size_text(*bytes))?;
            }
        }
        if let Some(JsonLayer { sockets_left_out: sockets @ 1.., .. }) = &layer {
            crate::complain(&Failure::new(format!("sockets are not part of an image: {sockets} left out")));
        }
        Ok(())
    })?;
    Ok(0)
}
