//! An image to import: layers like those of real images in number and size of files, always the same, and the layouts
//! that hold them. Layouts with gzip are made by umoci where it is installed, so that it can read them.

use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Entries of the layers, in sixtieths of all, bottom first.
const SHARES: [usize; 4] = [36, 12, 9, 3];
/// Files in a directory.
pub const IN_DIR: usize = 29;
/// What the contents are made of: text and programs compress to a third or so.
const WORDS: [&str; 16] = [
    "the ", "layer", "\n", " = ", "return ", "{\n    ", "}\n", "0x", "file", "::", "name", "();\n", "if ",
    "// ", "\t", "_",
];

/// How the layers of a layout are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As most registries have them.
    Gzip,
    /// Not at all.
    Plain,
}

impl Form {
    /// What it is called in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip layers",
            Self::Plain => "plain layers",
        }
    }
}

/// An image in files.
#[derive(Debug)]
pub struct Layout {
    /// The directory, an OCI image layout with one image, `bench`.
    pub path: PathBuf,
    /// The blobs of its layers, bottom first.
    pub blobs: Vec<PathBuf>,
}

/// Runs a program, which must succeed.
///
/// # Errors
/// When it is not there or fails, with what it said.
pub fn run(command: &mut Command) -> io::Result<()> {
    let out = command.stdin(Stdio::null()).output()?;
    let said = || io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr)));
    if out.status.success() { Ok(()) } else { Err(said()) }
}

/// Makes an image of so many entries in `at`, in both forms: gzip, plain. `None`, with the reason printed, where umoci
/// is missing.
///
/// # Panics
/// When the host refuses.
#[must_use]
pub fn make(at: &Path, entries: usize) -> Option<(Layout, Layout)> {
    let gzip = at.join("gzip");
    let made = run(Command::new("umoci").args(["init", "--layout"]).arg(&gzip));
    if let Err(e) = made {
        eprintln!("left out: umoci, which makes the image: {e}");
        return None;
    }
    let image = format!("{}:bench", gzip.display());
    let umoci = |words: &[&str]| {
        run(Command::new("umoci").args(words)).unwrap_or_else(|e| panic!("{e}"));
    };
    umoci(&["new", "--image", &image]);
    let mut archives = Vec::new();
    for (n, share) in SHARES.iter().enumerate() {
        let archive = at.join(format!("{n}.tar"));
        layer(&archive, n, entries * share / 60).expect("write a layer");
        umoci(&["raw", "add-layer", "--image", &image, archive.to_str().expect("a plain path")]);
        archives.push(archive);
    }
    umoci(&["gc", "--layout", gzip.to_str().expect("a plain path")]);
    let plain = at.join("plain");
    let plain = plain_of(&gzip, &plain, &archives);
    let blobs =
        manifest(&gzip).1["layers"].as_array().expect("layers").iter().map(|l| blob(&gzip, l)).collect();
    Some((Layout { path: gzip, blobs }, plain))
}

/// Layer `n`, with so many entries: directories of files, and in upper layers some files of the base again or gone.
fn layer(path: &Path, n: usize, entries: usize) -> io::Result<()> {
    let mut out = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    out.mode(tar::HeaderMode::Deterministic);
    let mut left = entries;
    let mut dir = 0;
    while left > 0 {
        let at = format!("usr/lib/layer{n}/package{dir}");
        append(&mut out, &format!("{at}/"), 0o755, &[])?;
        left -= 1;
        for file in 0..IN_DIR.min(left) {
            let seed = mix((n as u64) << 48 | (dir as u64) << 16 | file as u64);
            append(&mut out, &format!("{at}/file{file}.txt"), 0o644, &content(seed))?;
            left -= 1;
        }
        dir += 1;
    }
    if n > 0 {
        for dir in 0..10 {
            let at = format!("usr/lib/layer0/package{}", dir * 3 + n);
            append(&mut out, &format!("{at}/.wh.file1.txt"), 0o644, &[])?;
            append(&mut out, &format!("{at}/file2.txt"), 0o644, b"again")?;
        }
    }
    out.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn append(out: &mut tar::Builder<impl io::Write>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(if path.ends_with('/') {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(bytes.len() as u64);
    out.append_data(&mut header, path, bytes)
}

/// Most files are small, few are large: 7 KiB in the mean, as where many packages of a scripting language are.
fn content(seed: u64) -> Vec<u8> {
    let (kind, random) = (seed % 200, mix(seed ^ 1));
    let len = match kind {
        0 => 256 << 10,
        1..=10 => (16 << 10) + random % (48 << 10),
        11..=99 => (2 << 10) + random % (10 << 10),
        _ => random % (2 << 10),
    };
    let len = usize::try_from(len).expect("a small number");
    let (mut out, mut state) = (Vec::with_capacity(len + 16), seed);
    while out.len() < len {
        state = mix(state);
        let mut bits = state;
        for _ in 0..12 {
            out.extend_from_slice(WORDS[(bits & 15) as usize].as_bytes());
            bits >>= 4;
        }
        out.extend_from_slice(&state.to_le_bytes()[..2]);
    }
    out.truncate(len);
    out
}

/// SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a digest");
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn json_file(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

/// The descriptor of the manifest, and the manifest.
fn manifest(layout: &Path) -> (Value, Value) {
    let index = json_file(&layout.join("index.json"));
    let entry = index["manifests"][0].clone();
    let manifest = json_file(&blob(layout, &entry));
    (entry, manifest)
}

/// The same image with the layers as they are in `archives`, which are moved.
fn plain_of(gzip: &Path, at: &Path, archives: &[PathBuf]) -> Layout {
    fs::create_dir_all(at.join("blobs/sha256")).expect("make a directory");
    let (mut entry, mut manifest) = manifest(gzip);
    let put = |from: &Path| -> (String, u64) {
        let out = Command::new("sha256sum").arg(from).output().expect("run sha256sum");
        let hex = String::from_utf8_lossy(&out.stdout[..64]).into_owned();
        let size = fs::metadata(from).expect("stat").len();
        fs::rename(from, at.join("blobs/sha256").join(&hex)).expect("move a blob");
        (format!("sha256:{hex}"), size)
    };
    let scrap = at.join("blob");
    fs::copy(blob(gzip, &manifest["config"]), &scrap).expect("copy the configuration");
    put(&scrap);
    let mut blobs = Vec::new();
    for (n, archive) in archives.iter().enumerate() {
        let (digest, size) = put(archive);
        let layer =
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size});
        blobs.push(blob(at, &layer));
        manifest["layers"][n] = layer;
    }
    fs::write(&scrap, manifest.to_string()).expect("write the manifest");
    let (digest, size) = put(&scrap);
    entry["digest"] = digest.into();
    entry["size"] = size.into();
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(at.join("index.json"), index.to_string()).expect("write the index");
    fs::copy(gzip.join("oci-layout"), at.join("oci-layout")).expect("copy the version");
    Layout { path: at.to_path_buf(), blobs }
}

/// Reads a file, so that it is in the host's cache.
///
/// # Panics
/// When it cannot be read.
pub fn warm(path: &Path) {
    let mut file = File::open(path).expect("open");
    io::copy(&mut file.by_ref(), &mut io::sink()).expect("read");
}
