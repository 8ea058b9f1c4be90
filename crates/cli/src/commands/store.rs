//! `gc` and `usage`: the store as a whole.

use super::image::name_of;
use super::print_json;
use crate::args::Json;
use crate::failure::{Failure, Outcome};
use crate::text::{harmless, size_text};
use serde::Serialize;
use std::io::Write;
use stratafs::store::{ImageUsage, Store};

#[derive(Debug, Serialize)]
struct JsonCollected {
    layers: u64,
    scratches: u64,
    leftovers: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct JsonUsage {
    containers: Vec<JsonShare>,
    images: Vec<JsonShare>,
    layers: Vec<JsonLayer>,
    unreferenced: u64,
    trash: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
struct JsonShare {
    name: String,
    own: u64,
    shared: u64,
}

#[derive(Debug, Serialize)]
struct JsonLayer {
    layer: String,
    bytes: u64,
    users: usize,
}

/// Removes what nobody refers to.
pub fn gc(store: &Store, asked: &Json) -> Outcome {
    let collected = store.gc()?;
    let (layers, scratches) = (collected.layers, collected.scratches);
    let (leftovers, bytes) = (collected.leftovers, collected.bytes);
    if asked.json {
        print_json(&JsonCollected { layers, scratches, leftovers, bytes })?;
        return Ok(0);
    }
    let plural =
        |n: u64, one: &str, many: &str| (n > 0).then(|| format!("{n} {}", if n == 1 { one } else { many }));
    let parts: Vec<_> = [
        plural(layers, "layer", "layers"),
        plural(scratches, "state of a container", "states of containers"),
        plural(leftovers, "leftover", "leftovers"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut out = std::io::stdout().lock();
    match parts.is_empty() {
        true => writeln!(out, "nothing to remove")?,
        false => writeln!(out, "removed {}: {}", parts.join(", "), size_text(bytes))?,
    }
    Ok(0)
}

/// Prints what everything takes on disk.
pub fn usage(store: &Store, asked: &Json) -> Outcome {
    let usage = store.usage()?;
    let image = |image: ImageUsage| JsonShare {
        name: name_of(&image.record.file_name().unwrap_or_default().to_string_lossy()),
        own: image.own,
        shared: image.shared,
    };
    let usage = JsonUsage {
        containers: usage
            .containers
            .into_iter()
            .map(|one| JsonShare { name: one.name.to_string(), own: one.own, shared: one.shared })
            .collect(),
        images: usage.images.into_iter().map(image).collect(),
        layers: usage
            .layers
            .into_iter()
            .map(|one| JsonLayer { layer: one.key.to_string(), bytes: one.bytes, users: one.users })
            .collect(),
        unreferenced: usage.unreferenced,
        trash: usage.trash,
        total: usage.total,
    };
    if asked.json {
        print_json(&usage)?;
        return Ok(0);
    }
    print(&usage)?;
    Ok(0)
}

fn print(usage: &JsonUsage) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for (title, shares) in [("containers", &usage.containers), ("images", &usage.images)] {
        if shares.is_empty() {
            continue;
        }
        let names: Vec<_> = shares.iter().map(|share| harmless(&share.name)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(title.len());
        writeln!(out, "{title:width$}  {:>8}  {:>8}", "own", "shared")?;
        for (share, name) in shares.iter().zip(&names) {
            writeln!(out, "{name:width$}  {:>8}  {:>8}", size_text(share.own), size_text(share.shared))?;
        }
        writeln!(out)?;
    }
    if !usage.layers.is_empty() {
        writeln!(out, "{:19}  {:>8}  {:>8}", "layers", "size", "users")?;
        for JsonLayer { layer, bytes, users } in &usage.layers {
            // As much of the digest as one knows a layer by.
            let short: String = layer.chars().take(19).collect();
            writeln!(out, "{short:19}  {:>8}  {users:>8}", size_text(*bytes))?;
        }
        writeln!(out)?;
    }
    let free = usage.unreferenced.saturating_add(usage.trash);
    if free > 0 {
        writeln!(out, "{} can be freed with `strata gc`", size_text(free))?;
    }
    Ok(writeln!(out, "{} in all", size_text(usage.total))?)
}
