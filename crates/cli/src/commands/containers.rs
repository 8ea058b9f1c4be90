//! `create`, `ls`, `inspect` and `rm`.

use super::life::{self, JsonSnapshot};
use super::{create_new, print_json};
use crate::args::{Create, Json, Named, Rm};
use crate::failure::{ERROR, Failure, Outcome};
use crate::text::{JsonPath, shown, shown_path, time_text, unix_seconds};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use stratafs::store::{LayerSource, Record, Store};
use stratafs::{Durability, Namespace};

/// A container in JSON.
#[derive(Debug, Serialize)]
struct JsonContainer {
    name: String,
    /// Seconds since 1970.
    created: u64,
    in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mounted_at: Option<JsonPath>,
    durability: &'static str,
    namespace: &'static str,
    untrusted: bool,
    dir: JsonPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<JsonImage>,
    layers: Vec<JsonLayer>,
    snapshots: Vec<JsonSnapshot>,
}

/// The image that a container was made from.
#[derive(Debug, Serialize)]
struct JsonImage {
    name: String,
    id: String,
}

#[derive(Debug, Serialize)]
struct JsonLayer {
    path: JsonPath,
    /// `directory`, `layer` of the store, or `snapshot` of this container.
    source: &'static str,
    present: bool,
    whiteouts: Vec<&'static str>,
}

/// A container whose configuration cannot be read.
#[derive(Debug, Serialize)]
struct JsonDamaged {
    name: String,
    error: String,
}

fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Volatile => "volatile",
        Durability::Ordered => "ordered",
        Durability::Strict => "strict",
    }
}

fn describe(record: &Record, in_use: bool, mounted_at: Option<&Path>) -> JsonContainer {
    let layer = |layer: &stratafs::store::LayerConfig| {
        let forms = [
            (layer.formats.overlay, "overlay"),
            (layer.formats.aufs, "aufs"),
            (layer.formats.fuse_overlayfs, "fuse-overlayfs"),
        ];
        JsonLayer {
            path: layer.path.as_path().into(),
            source: match layer.source {
                LayerSource::Layer(_) => "layer",
                LayerSource::Scratch(_) => "snapshot",
                _ => "directory",
            },
            present: layer.path.is_dir(),
            whiteouts: forms.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect(),
        }
    };
    JsonContainer {
        name: record.name.to_string(),
        created: unix_seconds(record.created),
        in_use,
        mounted_at: mounted_at.map(JsonPath::from),
        durability: durability(record.config.durability),
        namespace: match record.config.namespace {
            Namespace::Trusted => "trusted",
            Namespace::User => "user",
        },
        untrusted: record.config.untrusted != stratafs::Untrusted::TRUST,
        dir: record.dir.as_path().into(),
        image: record
            .config
            .image
            .as_ref()
            .map(|image| JsonImage { name: image.name.clone(), id: image.id.to_string() }),
        layers: record.config.layers.iter().map(layer).collect(),
        snapshots: life::describe(&record.config),
    }
}

/// Makes a container and prints its name.
pub fn create(store: &Store, asked: Create) -> Outcome {
    let record = create_new(store, asked.name, &asked.new)?;
    if asked.json {
        print_new(&record)?;
    } else {
        writeln!(std::io::stdout().lock(), "{}", record.name)?;
    }
    Ok(0)
}

/// Prints a container that was made just now, as JSON.
pub fn print_new(record: &Record) -> Result<(), Failure> {
    print_json(&describe(record, false, None))
}

/// Lists all containers; damaged ones too, with what is wrong.
pub fn list(store: &Store, asked: &Json) -> Outcome {
    let listed = store.list()?;
    if asked.json {
        let mut out = Vec::new();
        for entry in &listed {
            out.push(match &entry.record {
                Ok(record) => {
                    let mounted = store.mounted_at(&entry.name)?;
                    serde_json::to_value(describe(record, entry.in_use, mounted.as_deref()))?
                }
                Err(e) => {
                    serde_json::to_value(JsonDamaged { name: entry.name.to_string(), error: e.to_string() })?
                }
            });
        }
        print_json(&out)?;
        return Ok(0);
    }
    let mut out = std::io::stdout().lock();
    let width = listed.iter().map(|l| l.name.as_str().len()).max().unwrap_or(0);
    for entry in listed {
        let name = entry.name;
        match entry.record {
            Ok(record) => {
                let created = time_text(i64::try_from(unix_seconds(record.created)).unwrap_or(0));
                let state = if entry.in_use { "in use" } else { "-" };
                writeln!(out, "{name:width$}  {created}  {state:6}  {}", made_of(&record))?;
            }
            Err(e) => writeln!(out, "{name:width$}  damaged: {e}")?,
        }
    }
    Ok(0)
}

/// The image of a container, or its directories from the topmost down.
fn made_of(record: &Record) -> String {
    if let Some(image) = &record.config.image {
        return format!("image {}", shown(image.name.as_bytes()));
    }
    let layers: Vec<_> = record.config.base().iter().map(|layer| shown_path(&layer.path)).collect();
    layers.join(" ")
}

/// Shows everything about one container.
pub fn inspect(store: &Store, asked: &Named) -> Outcome {
    let record = store.record(&asked.name)?;
    let mounted = store.mounted_at(&asked.name)?;
    let about = describe(&record, store.is_in_use(&asked.name)?, mounted.as_deref());
    if asked.json {
        print_json(&about)?;
        return Ok(0);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "name        {}", about.name)?;
    writeln!(out, "created     {} UTC", time_text(i64::try_from(about.created).unwrap_or(0)))?;
    writeln!(out, "in use      {}", if about.in_use { "yes" } else { "no" })?;
    if let Some(at) = mounted {
        writeln!(out, "mounted at  {}", shown_path(&at))?;
    }
    writeln!(out, "durability  {}", about.durability)?;
    writeln!(out, "xattrs      {}.overlay.*", about.namespace)?;
    writeln!(
        out,
        "untrusted   {}",
        if about.untrusted { "yes: no setuid, capabilities, devices" } else { "no" }
    )?;
    writeln!(out, "upper       {}", shown_path(&record.upper()))?;
    writeln!(out, "work        {}", shown_path(&record.work()))?;
    if let Some(image) = &about.image {
        writeln!(out, "image       {} ({})", shown(image.name.as_bytes()), image.id)?;
    }
    if !about.snapshots.is_empty() {
        writeln!(out, "snapshots   {}; `strata snapshots {}` lists them", about.snapshots.len(), about.name)?;
    }
    writeln!(out, "layers, topmost first")?;
    for (layer, about) in record.config.layers.iter().zip(&about.layers) {
        let missing = if about.present { "" } else { "  (missing)" };
        let path = shown_path(&layer.path);
        match about.source {
            "directory" => writeln!(out, "  {path}  whiteouts: {}{missing}", about.whiteouts.join(", "))?,
            source => writeln!(out, "  {path}  {source}{missing}")?,
        }
    }
    Ok(0)
}

/// Removes containers; goes on after a failure.
pub fn remove(store: &Store, asked: &Rm) -> Outcome {
    let mut code = 0;
    for name in &asked.names {
        if let Err(e) = store.remove(name) {
            crate::complain(&Failure::from(e));
            code = ERROR;
        }
    }
    Ok(code)
}
