//! Stores, and layouts made by hand.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses its own part, and stops at the first surprise"
)]

#[path = "../../../oci/tests/source_made/mod.rs"]
pub mod source;

use source::{CONFIG, LAYER, MANIFEST, Made, config, manifest, named};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use stratafs::oci::tar::{Entry, EntryKind, Writer};
use stratafs::oci::{Digest, Progress};
use stratafs::store::{ContainerName, ImageName, ImageRecord, ImportOptions, Opened, Store};
use stratafs::{Container, Result};

/// A store, and a place for files beside it.
pub struct Bed {
    pub tmp: tempfile::TempDir,
    pub store: Store,
}

impl Bed {
    pub fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(tmp.path().join("store")).unwrap();
        Self { tmp, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// A directory with a layout of this name.
    pub fn layout(&self, name: &str, made: &Made) -> PathBuf {
        let path = self.path(name);
        made.write(&path);
        path
    }

    pub fn import(&self, path: &Path) -> Result<Vec<ImageRecord>> {
        self.store.import(path, &ImportOptions::default(), &Heard::default())
    }

    /// A container over an image.
    pub fn run(&self, image: &ImageRecord, name: &str) -> Opened {
        let pinned = self.store.pin_image(image).unwrap();
        let name = ContainerName::new(name).unwrap();
        self.store.create(Some(name.clone()), pinned.container().unwrap()).unwrap();
        self.store.open_container(&name).unwrap()
    }

    /// Names in a directory of the store.
    pub fn names(&self, dir: &str) -> Vec<String> {
        names(&self.store.root().join(dir))
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn name(text: &str) -> ImageName {
    ImageName::new(text).unwrap()
}

/// What was heard of progress.
#[derive(Default)]
pub struct Heard {
    pub bytes: Mutex<BTreeMap<String, u64>>,
    pub notes: Mutex<Vec<Option<String>>>,
    /// Cancels after so many calls, when it is set.
    pub patience: Option<std::sync::atomic::AtomicI64>,
}

impl Progress for Heard {
    fn advance(&self, what: &str, bytes: u64) {
        *self.bytes.lock().unwrap().entry(what.to_owned()).or_default() += bytes;
    }

    fn finish(&self, _: &str, note: Option<&str>) {
        self.notes.lock().unwrap().push(note.map(str::to_owned));
    }

    fn cancelled(&self) -> bool {
        let left = |p: &std::sync::atomic::AtomicI64| p.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.patience.as_ref().is_some_and(|patience| left(patience) <= 0)
    }
}

/// An entry: a file with content, a directory for a name with a slash at its end, a hard link for `=target`.
pub fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, content) in entries {
        let (kind, content) = match (path.ends_with('/'), content.strip_prefix('=')) {
            (true, _) => (EntryKind::Dir, ""),
            (false, Some(target)) => (EntryKind::Hardlink(target.into()), ""),
            (false, None) => (EntryKind::File, *content),
        };
        let size = if kind == EntryKind::File { content.len() as u64 } else { 0 };
        let mode = if kind == EntryKind::Dir { 0o755 } else { 0o644 };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let entry = Entry { mode, uid, gid, size, ..Entry::new(path.trim_end_matches('/'), kind) };
        writer.append(&entry, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

/// A layout with one image of these layers, the lowest first, for the host.
pub fn image(tag: &str, layers: &[Vec<u8>]) -> Made {
    let mut made = Made::new();
    let entry = add_image(&mut made, layers);
    made.index(&[named(&entry, tag)]);
    made
}

pub fn add_image(made: &mut Made, layers: &[Vec<u8>]) -> String {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let platform = stratafs::oci::image::Platform::host().to_string();
    let config = made.blob(CONFIG, config(&platform, &ids).as_bytes());
    let layers: Vec<String> = layers.iter().map(|layer| made.blob(LAYER, layer)).collect();
    made.blob(MANIFEST, manifest(&config, &layers).as_bytes())
}

/// Every path with what it has, sorted.
pub fn tree(container: &Container) -> Vec<(String, String)> {
    let (mut out, mut todo) = (Vec::new(), vec![String::new()]);
    while let Some(dir) = todo.pop() {
        for entry in container.read_dir(format!("/{dir}")).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
            let meta = container.symlink_metadata(&path).unwrap();
            let text = match meta.file_type() {
                stratafs::Kind::Dir => {
                    todo.push(path.clone());
                    "directory".to_owned()
                }
                stratafs::Kind::File => container.read_to_string(&path).unwrap(),
                other => format!("{other:?}"),
            };
            out.push((path, format!("{:o} {text}", meta.mode())));
        }
    }
    out.sort();
    out
}
