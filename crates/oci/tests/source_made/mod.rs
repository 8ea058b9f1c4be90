//! Layouts made by hand, so that each part can be wrong.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses its own part, and a panic is how it fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use stratafs_oci::image::Platform;
use stratafs_oci::source::{Input, SourceImage, SourceOptions, open};
use stratafs_oci::tar::{Entry, EntryKind, Writer};
use stratafs_oci::{Digest, Limits, Result};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Files by path: a layout before it is written.
#[derive(Clone, Default)]
pub struct Made(pub BTreeMap<String, Vec<u8>>);

/// A tar archive of files by name.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let entry = Entry { mode: 0o644, size: content.len() as u64, ..Entry::new(*name, EntryKind::File) };
        writer.append(&entry, &mut &**content).unwrap();
    }
    writer.finish().unwrap()
}

pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Made {
    pub fn new() -> Self {
        let mut made = Self::default();
        made.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        made
    }

    /// Adds a blob; gives its descriptor, whose object is not closed.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes);
        self.0.insert(blob_path(&digest), bytes.to_vec());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}"#, bytes.len())
    }

    /// Adds an image of one layer; gives the descriptor of its manifest, not closed.
    pub fn image(&mut self, platform: &str, content: &str) -> String {
        let layer = tar(&[("file", content.as_bytes())]);
        let config = config(platform, &[Digest::of(&layer)]);
        let config = self.blob(CONFIG, config.as_bytes());
        let layer = self.blob(LAYER, &layer);
        self.blob(MANIFEST, manifest(&config, &[layer]).as_bytes())
    }

    /// Sets the index; the descriptors are not closed.
    pub fn index(&mut self, entries: &[String]) {
        self.0.insert("index.json".into(), index(entries).into_bytes());
    }

    pub fn write(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub fn tar(&self) -> Vec<u8> {
        tar(&self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
    }

    /// The blob that a descriptor names.
    pub fn find(&self, descriptor: &str) -> String {
        let hex = descriptor.split("sha256:").nth(1).unwrap();
        format!("blobs/sha256/{}", &hex[..64])
    }
}

pub fn config(platform: &str, diff_ids: &[Digest]) -> String {
    let (os, architecture) = platform.split_once('/').unwrap();
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!(
        r#"{{"os":"{os}","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
}

pub fn manifest(config: &str, layers: &[String]) -> String {
    let layers: Vec<String> = layers.iter().map(|layer| format!("{layer}}}")).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config}}},"layers":[{}]}}"#,
        layers.join(",")
    )
}

pub fn index(entries: &[String]) -> String {
    let entries: Vec<String> = entries.iter().map(|entry| format!("{entry}}}")).collect();
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
}

/// Adds a platform to a descriptor.
pub fn of(descriptor: &str, platform: &str) -> String {
    let (os, architecture) = platform.split_once('/').unwrap();
    format!(r#"{descriptor},"platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
}

/// Adds a name to a descriptor.
pub fn named(descriptor: &str, name: &str) -> String {
    format!(r#"{descriptor},"annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

pub fn options(spool: &Path) -> SourceOptions {
    SourceOptions {
        spool: spool.to_owned(),
        limits: Limits::default(),
        platform: Some("linux/amd64".parse::<Platform>().unwrap()),
    }
}

pub fn images(path: &Path, options: &SourceOptions) -> Result<Vec<SourceImage>> {
    match open(path, options)? {
        Input::Images(images) => Ok(images),
        other => panic!("{other:?}"),
    }
}

/// The content of the only file of the only layer.
pub fn content(image: &SourceImage) -> Result<String> {
    let mut archive = Vec::new();
    image.layers[0]
        .open()?
        .read_to_end(&mut archive)
        .map_err(|e| e.downcast::<stratafs_oci::Error>().unwrap())?;
    let mut reader = stratafs_oci::tar::Reader::new(&archive[..], &Limits::default());
    let entry = reader.next()?.unwrap();
    let mut text = vec![0; entry.size as usize];
    let mut at = 0;
    while let Some((_, n)) = reader.next_data(&mut text[at..])? {
        at += n;
        if at == text.len() {
            break;
        }
    }
    Ok(String::from_utf8(text).unwrap())
}
