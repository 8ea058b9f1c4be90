//! A layout as one archive: the documents first, the blobs by digest, all times 0 and all owners root. Beside the
//! layout's own documents it has the `manifest.json` of docker, whose layers are the same blobs.

use super::blobs::Blobs;
use super::{Image, LAYOUT, index};
use crate::Result;
use crate::tar::{Entry, EntryKind, Writer};
use serde::Serialize;
use std::io::Write;

/// An entry of docker's list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes the archive.
pub(super) fn write(blobs: &Blobs, images: &[Image], out: &mut dyn Write) -> Result<()> {
    let mut archive = Writer::new(out);
    let mut document =
        |name: &str, content: &[u8]| archive.append(&file(name, content.len() as u64), &mut &*content);
    document("oci-layout", LAYOUT)?;
    document("index.json", index(None, images)?.as_bytes())?;
    document("manifest.json", docker(images)?.as_bytes())?;
    for name in ["blobs", "blobs/sha256"] {
        let entry = Entry { mode: 0o755, ..Entry::new(name, EntryKind::Dir) };
        archive.append(&entry, &mut std::io::empty())?;
    }
    for (digest, size) in blobs.added() {
        archive.append(&file(&blob(digest), size), &mut blobs.open(digest)?)?;
    }
    archive.finish().map(drop)
}

fn file(name: &str, size: u64) -> Entry {
    Entry { mode: 0o644, size, ..Entry::new(name, EntryKind::File) }
}

fn blob(digest: &crate::Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker(images: &[Image]) -> Result<String> {
    let listed: Vec<Listed> = images
        .iter()
        .map(|image| Listed {
            config: blob(&image.config),
            repo_tags: vec![format!("{}:{}", image.repository, image.tag)],
            layers: image.layers.iter().map(blob).collect(),
        })
        .collect();
    Ok(super::raw(&listed)?.get().to_owned())
}
