//! `image`: images into the store, out of it, and what there is.

use super::print_json;
use crate::args::{ExportImage, ImageNamed, ImageVerb, Import, Json};
use crate::failure::{ERROR, Failure, Outcome};
use crate::progress::Watch;
use crate::text::{JsonPath, harmless, shown, shown_path, size_text, time_text, unix_seconds};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::Path;
use stratafs::ErrorKind;
use stratafs::oci::layout::Target;
use stratafs::store::{ExportOptions, ImageLayer, ImageName, ImageRecord, ImportOptions, Store};

/// As many digits of an id as one knows an image by.
const ID_SHOWN: usize = 12;

/// An image in JSON, shortly.
#[derive(Debug, Serialize)]
pub struct JsonImage {
    name: String,
    id: String,
    layers: usize,
    /// Bytes of the files of its layers; what is stored several times counts several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// When it was made, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    /// When it got its name here, in seconds since 1970.
    stored: u64,
    platform: String,
}

/// An image whose record cannot be read.
#[derive(Debug, Serialize)]
struct JsonDamaged {
    name: String,
    error: String,
}

/// All of an image in JSON.
#[derive(Debug, Serialize)]
struct JsonWhole<'a> {
    #[serde(flatten)]
    image: JsonImage,
    /// All names that this image has.
    names: Vec<String>,
    /// The lowest first.
    stack: Vec<JsonLayer>,
    annotations: &'a BTreeMap<String, String>,
    config: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct JsonLayer {
    layer: String,
    diff_id: String,
    /// What is wrong with it, where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Bytes of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Bytes of its archive, not compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    /// Bytes on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    allocated: Option<u64>,
}

/// Does what was asked.
pub fn image(store: &Store, asked: ImageVerb) -> Outcome {
    match asked {
        ImageVerb::Import(asked) => import(store, asked),
        ImageVerb::Ls(asked) => list(store, &asked),
        ImageVerb::Inspect(asked) => inspect(store, &asked),
        ImageVerb::Rm { names } => remove(store, &names),
        ImageVerb::Tag { image, name } => {
            store.tag_image(&store.find_image(&image)?, &name)?;
            Ok(0)
        }
        ImageVerb::Export(asked) => export(store, &asked),
    }
}

/// An image, shortly.
pub fn describe(store: &Store, record: &ImageRecord) -> JsonImage {
    JsonImage {
        name: record.name.to_string(),
        id: record.id().to_string(),
        layers: record.layers.len(),
        bytes: record
            .layers
            .iter()
            .map(|layer| Some(store.pin_layer(&layer.key).ok()??.record().facts.bytes))
            .sum(),
        created: record.config.created().map(str::to_owned),
        stored: unix_seconds(record.stored),
        platform: record.config.platform().to_string(),
    }
}

/// A digest as people know it: without the algorithm, shortened.
pub fn short(id: &str) -> String {
    id.split_once(':').map_or(id, |(_, hex)| hex).chars().take(ID_SHOWN).collect()
}

/// The name of an image by the name of its record's file, whether that can be read or not; other names stay as they are.
pub fn name_of(file: &str) -> String {
    match file.strip_suffix(".json") {
        // Names of containers have no colon.
        Some(name) if name.contains(':') => name.replace('+', "/"),
        _ => file.to_owned(),
    }
}

/// Prints a line for each image that came to be.
pub fn tell(images: &[JsonImage]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for JsonImage { name, id, .. } in images {
        writeln!(out, "{name}  {}", short(id))?;
    }
    Ok(())
}

fn import(store: &Store, asked: Import) -> Outcome {
    let standard = asked.from == Path::new("-");
    if standard && std::io::stdin().is_terminal() {
        return Err(Failure::usage("standard input is a terminal: name a file, or use a pipe"));
    }
    let watch = Watch::new(asked.json);
    let options = ImportOptions {
        name: asked.name,
        platform: asked.platform,
        verify: asked.verify,
        ..ImportOptions::default()
    };
    let images = watch.run(|watch| {
        if standard {
            crate::stdin::give_up_when(watch.interrupted())
                .map_err(|e| Failure::new(format!("standard input: {e}")))?;
        }
        store.import(&asked.from, &options, watch).map_err(|e| match options.name {
            // Of an archive that says nothing, and a file whose own name cannot be one.
            None if e.kind() == ErrorKind::InvalidInput => {
                Failure::new(format!("{}; --name NAME", Failure::from(e).message))
            }
            _ => Failure::from(e),
        })
    })?;
    let images: Vec<_> = images.iter().map(|record| describe(store, record)).collect();
    watch.result(&serde_json::json!({ "images": images }), || tell(&images))?;
    Ok(0)
}

fn list(store: &Store, asked: &Json) -> Outcome {
    let listed = store.images()?;
    if asked.json {
        let mut out = Vec::new();
        for image in listed {
            out.push(match image.record {
                Ok(record) => serde_json::to_value(describe(store, &record))?,
                Err(e) => {
                    serde_json::to_value(JsonDamaged { name: image.name.to_string(), error: e.to_string() })?
                }
            });
        }
        print_json(&out)?;
        return Ok(0);
    }
    let mut out = std::io::stdout().lock();
    let width = listed.iter().map(|image| image.name.to_string().len()).max().unwrap_or(0);
    for image in listed {
        let name = image.name.to_string();
        match image.record {
            Ok(record) => {
                let JsonImage { id, layers, bytes, created, .. } = describe(store, &record);
                let plural = if layers == 1 { "layer " } else { "layers" };
                let size = bytes.map_or_else(|| "incomplete".to_owned(), size_text);
                let (id, created) = (short(&id), short_time(created.as_deref()));
                writeln!(out, "{name:width$}  {id}  {created:19}  {layers:3} {plural}  {size:>8}")?;
            }
            Err(e) => writeln!(out, "{name:width$}  damaged: {}", Failure::from(e).message)?,
        }
    }
    Ok(0)
}

/// `2026-01-31 23:59:59` out of what an image says.
fn short_time(created: Option<&str>) -> String {
    match created {
        Some(created) => shown(created.as_bytes()).replacen('T', " ", 1).chars().take(19).collect(),
        None => "-".to_owned(),
    }
}

fn inspect(store: &Store, asked: &ImageNamed) -> Outcome {
    let record = store.find_image(&asked.image)?;
    let others = store.images()?.into_iter().filter_map(|image| image.record.ok());
    let names: Vec<_> =
        others.filter(|image| image.id() == record.id()).map(|image| image.name.to_string()).collect();
    let stack: Vec<_> = record.layers.iter().map(|layer| describe_layer(store, layer)).collect();
    let image = describe(store, &record);
    if asked.json {
        let config: &RawValue = serde_json::from_str(record.config.as_str())?;
        print_json(&JsonWhole { image, names, stack, annotations: &record.annotations, config })?;
        return Ok(0);
    }
    let mut out = std::io::stdout().lock();
    let text = |text: &str| shown(text.as_bytes());
    writeln!(out, "name        {}", names.join(", "))?;
    writeln!(out, "id          {}", image.id)?;
    writeln!(out, "created     {}", image.created.as_deref().map_or_else(|| "-".to_owned(), text))?;
    writeln!(out, "stored      {} UTC", time_text(i64::try_from(image.stored).unwrap_or(0)))?;
    writeln!(out, "platform    {}", text(&image.platform))?;
    if let Some(author) = record.config.author() {
        writeln!(out, "author      {}", text(author))?;
    }
    let runtime = record.config.runtime();
    for (title, words) in [("entrypoint", &runtime.entrypoint), ("command", &runtime.cmd)] {
        if !words.is_empty() {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            writeln!(out, "{title:10}  {}", words.join(" "))?;
        }
    }
    for (title, value) in
        [("directory", &runtime.working_dir), ("user", &runtime.user), ("stop with", &runtime.stop_signal)]
    {
        if let Some(value) = value {
            writeln!(out, "{title:10}  {}", text(value))?;
        }
    }
    for (title, values) in
        [("variable", &runtime.env), ("port", &runtime.exposed_ports), ("volume", &runtime.volumes)]
    {
        for value in values {
            writeln!(out, "{title:10}  {}", text(value))?;
        }
    }
    for (name, value) in &runtime.labels {
        writeln!(out, "label       {}={}", text(name), text(value))?;
    }
    writeln!(out, "layers, topmost first")?;
    for layer in stack.iter().rev() {
        match (layer.bytes, layer.entries) {
            (Some(bytes), Some(entries)) => {
                writeln!(out, "  {}  {entries} entries, {}", layer.diff_id, size_text(bytes))?;
            }
            _ => writeln!(out, "  {}  {}", layer.diff_id, layer.error.as_deref().unwrap_or("missing"))?,
        }
    }
    Ok(0)
}

fn describe_layer(store: &Store, layer: &ImageLayer) -> JsonLayer {
    let (key, diff_id) = (layer.key.to_string(), layer.diff_id.to_string());
    let none = JsonLayer {
        layer: key,
        diff_id,
        error: None,
        bytes: None,
        archive_bytes: None,
        entries: None,
        allocated: None,
    };
    match store.pin_layer(&layer.key) {
        Ok(Some(pinned)) => {
            let record = pinned.record();
            JsonLayer {
                bytes: Some(record.facts.bytes),
                archive_bytes: Some(record.facts.archive_bytes),
                entries: Some(record.facts.entries),
                allocated: Some(record.allocated),
                ..none
            }
        }
        Ok(None) => JsonLayer { error: Some("missing".to_owned()), ..none },
        Err(e) => JsonLayer { error: Some(Failure::from(e).message), ..none },
    }
}

/// A word of a command line as it could be typed.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", harmless(word).replace('\'', r"'\''")),
    }
}

/// Removes names; goes on after a failure.
fn remove(store: &Store, names: &[ImageName]) -> Outcome {
    let mut code = 0;
    for name in names {
        if let Err(e) = store.remove_image(name) {
            crate::complain(&Failure::from(e));
            code = ERROR;
        }
    }
    Ok(code)
}

fn export(store: &Store, asked: &ExportImage) -> Outcome {
    let standard = asked.output == Path::new("-");
    if standard && (asked.json || asked.dir) {
        return Err(Failure::usage("on standard output goes one archive, and nothing else"));
    }
    if standard && std::io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not for a terminal: name a file with -o, or use a pipe"));
    }
    let images = asked.images.iter().map(|image| store.find_image(image)).collect::<Result<Vec<_>, _>>()?;
    let options = ExportOptions { compression: asked.compression.into(), threads: None };
    let spool = std::env::temp_dir();
    let path = shown_path(&asked.output);
    let kind = fs::metadata(&asked.output).map(|meta| meta.file_type()).ok();
    let target = match (standard, asked.dir, kind) {
        (true, ..) => Target::Stream { out: Box::new(std::io::stdout()), spool: &spool },
        (_, true, Some(kind)) if !kind.is_dir() => {
            return Err(Failure::new(format!("{path}: exists and is no directory, as --dir needs one")));
        }
        (_, true, _) => Target::Directory(&asked.output),
        (_, false, Some(kind)) if kind.is_dir() => {
            return Err(Failure::new(format!("{path}: is a directory; --dir writes a layout into it")));
        }
        // A device or pipe that is there already is written in place.
        (_, false, Some(kind)) if !kind.is_file() => {
            let out = File::options().write(true).open(&asked.output);
            let out = out.map_err(|e| Failure::new(format!("{path}: {e}")))?;
            Target::Stream { out: Box::new(out), spool: &spool }
        }
        (_, false, _) => Target::File { path: &asked.output, replace: asked.force },
    };
    let watch = Watch::new(asked.json);
    let exported = watch.run(|watch| {
        store.export_images(&images, target, &options, watch).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists if !asked.dir => {
                Failure::new(format!("{}: exists; --force replaces it", shown_path(&asked.output)))
            }
            _ => super::pack::gone_or(e),
        })
    })?;
    let result = serde_json::json!({
        "output": JsonPath::from(asked.output.as_path()),
        "images": images.iter().map(|record| describe(store, record)).collect::<Vec<_>>(),
        "warnings": exported.warnings,
    });
    watch.result(&result, || {
        for warning in &exported.warnings {
            crate::complain(&Failure::new(warning));
        }
        if !standard {
            let names: Vec<_> = images.iter().map(|image| image.name.to_string()).collect();
            writeln!(std::io::stdout().lock(), "{path}: {}", names.join(", "))?;
        }
        Ok(())
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_harmless_and_short() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_time(Some("2026-01-31T23:59:59.123Z")), "2026-01-31 23:59:59");
        assert!(!short_time(Some("\x1b[2J")).contains('\x1b'));
        assert_eq!(short_time(None), "-");
        assert_eq!(quoted("a b'c\n"), r"'a b'\''c\n'");
        assert_eq!(quoted("--x=/y"), "--x=/y");
    }
}
