//! Layer archives and layouts byte by byte, also such as no tool writes; nothing of the project takes part.

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BLOCK: usize = 512;

/// What an entry is, by its type flag.
pub mod flag {
    #![allow(missing_docs, reason = "the names say it")]
    pub const FILE: u8 = b'0';
    pub const HARDLINK: u8 = b'1';
    pub const SYMLINK: u8 = b'2';
    pub const CHAR: u8 = b'3';
    pub const BLOCK: u8 = b'4';
    pub const DIR: u8 = b'5';
    pub const FIFO: u8 = b'6';
    pub const PAX: u8 = b'x';
}

/// One entry, as hostile as one likes.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields of a header")]
pub struct Item {
    pub flag: u8,
    pub path: Vec<u8>,
    pub target: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub rdev: (u32, u32),
    pub data: Vec<u8>,
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Item {
    /// An entry of root with mode 0755 and no content.
    #[must_use]
    pub fn new(flag: u8, path: &str) -> Self {
        Self {
            flag,
            path: path.into(),
            target: Vec::new(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 1_000_000_000,
            rdev: (0, 0),
            data: Vec::new(),
            pax: Vec::new(),
        }
    }

    /// A regular file.
    #[must_use]
    pub fn file(path: &str, data: &[u8]) -> Self {
        Self { data: data.to_vec(), mode: 0o644, ..Self::new(flag::FILE, path) }
    }

    /// A directory.
    #[must_use]
    pub fn dir(path: &str) -> Self {
        Self::new(flag::DIR, path)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(path: &str, target: &str) -> Self {
        Self { target: target.into(), mode: 0o777, ..Self::new(flag::SYMLINK, path) }
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(path: &str, target: &str) -> Self {
        Self { target: target.into(), ..Self::new(flag::HARDLINK, path) }
    }

    /// With one more extended attribute.
    #[must_use]
    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    /// With one more PAX record.
    #[must_use]
    pub fn record(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.into(), value.to_vec()));
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut pax = self.pax.clone();
        for (key, value) in [("path", &self.path), ("linkpath", &self.target)] {
            if value.len() > 100 {
                pax.push((key.into(), value.clone()));
            }
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            block(out, flag::PAX, b"././@PaxHeader", b"", 0o644, &records, self);
        }
        block(out, self.flag, &self.path, &self.target, self.mode, &self.data, self);
    }
}

/// `LENGTH KEY=VALUE\n`, the length counting itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn block(out: &mut Vec<u8>, flag: u8, path: &[u8], target: &[u8], mode: u32, data: &[u8], item: &Item) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let octal = |value: u64, digits: usize| format!("{value:0digits$o}\0").into_bytes();
    put(0, &path[..path.len().min(100)]);
    put(100, &octal(mode.into(), 7));
    put(108, &octal((item.uid & 0o7_777_777).into(), 7));
    put(116, &octal((item.gid & 0o7_777_777).into(), 7));
    put(124, &octal(data.len() as u64, 11));
    put(136, &octal(item.mtime, 11));
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &target[..target.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, &octal(item.rdev.0.into(), 7));
    put(337, &octal(item.rdev.1.into(), 7));
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// An archive of these entries.
#[must_use]
pub fn tar(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.write(&mut out));
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// `bytes` after a program that reads and writes streams, such as `gzip -c`.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn through(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let child = child.as_mut().unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut stdin = child.stdin.take().expect("its input");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let mut out = Vec::new();
    std::io::copy(child.stdout.as_mut().expect("its output"), &mut out).expect("read its output");
    writer.join().expect("a thread").expect("write its input");
    assert!(child.wait().expect("wait for it").success(), "{program} {arguments:?}");
    out
}

/// An OCI layout that is written member by member.
#[derive(Debug)]
pub struct Layout {
    at: PathBuf,
}

/// The media types of layers.
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Layout {
    /// An empty one.
    ///
    /// # Panics
    /// When the host refuses.
    #[must_use]
    pub fn new(at: &Path) -> Self {
        fs::create_dir_all(at.join("blobs/sha256")).expect("make a layout");
        fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write a version");
        Self { at: at.to_path_buf() }
    }

    /// The SHA-256 of some bytes, by `sha256sum`.
    ///
    /// # Panics
    /// Without that program.
    #[must_use]
    pub fn digest(bytes: &[u8]) -> String {
        let said = String::from_utf8(through("sha256sum", &[], bytes)).expect("text");
        format!("sha256:{}", &said[..64])
    }

    /// Where a blob is.
    #[must_use]
    pub fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().expect("a digest");
        self.at.join("blobs").join(digest.replace(':', "/"))
    }

    /// Stores a blob and gives its descriptor.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn put(&self, bytes: &[u8], media: &str) -> Value {
        let made = json!({"mediaType": media, "digest": Self::digest(bytes), "size": bytes.len()});
        fs::write(self.blob(&made), bytes).expect("write a blob");
        made
    }

    /// A configuration with these layers, as they are uncompressed.
    #[must_use]
    pub fn config(archives: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<_> = archives.iter().map(|bytes| Self::digest(bytes)).collect();
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    }

    /// A manifest of this configuration and these layers.
    pub fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let config = self.put(config.to_string().as_bytes(), CONFIG);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.put(manifest.to_string().as_bytes(), MANIFEST)
    }

    /// Writes the index.
    ///
    /// # Panics
    /// When the host refuses.
    pub fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        fs::write(self.at.join("index.json"), index.to_string()).expect("write the index");
    }

    /// An image of these archives, bottom first, plain.
    ///
    /// # Panics
    /// When the host refuses.
    #[must_use]
    pub fn image(at: &Path, archives: &[Vec<u8>]) -> Self {
        let layout = Self::new(at);
        let layers: Vec<_> = archives.iter().map(|bytes| layout.put(bytes, PLAIN)).collect();
        let manifest = layout.manifest(&Self::config(archives), &layers);
        layout.index(&[manifest]);
        layout
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}
