//! A real image: Debian's packages and eight layers over them, made by tools of other people (`recipes/`), with the tree
//! that `umoci unpack` makes of it beside. It is made once and stays below the target directory until the recipe
//! changes; tests share it and must not write to it.

use crate::need;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How many entries its base layer has at the least.
pub const ENTRIES: usize = 10_000;
/// How many layers it has.
pub const LAYERS: usize = 8;

const RECIPE: &str = include_str!("../recipes/image.sh");
const LAYER: &str = include_str!("../recipes/layer.py");
/// What of Debian is in the base.
const PACKAGES: &str = "--include=python3,nano";
/// The programs that the recipe calls, and what to ask them to see that they are there.
const TOOLS: [(&str, &str); 11] = [
    ("bash", "--version"),
    ("/usr/bin/python3", "--version"),
    ("mmdebstrap", "--version"),
    ("umoci", "--version"),
    ("skopeo", "--version"),
    ("tar", "--version"),
    ("gzip", "--version"),
    ("zstd", "--version"),
    ("setcap", "-h"),
    ("setfacl", "--version"),
    ("setfattr", "--version"),
];

/// Where everything of the image is.
#[derive(Debug, Clone)]
pub struct RealImage {
    dir: PathBuf,
}

impl RealImage {
    /// The image; `None` when the machine cannot make it, and that was said.
    ///
    /// # Panics
    /// When the recipe fails.
    #[must_use]
    pub fn get() -> Option<Self> {
        static MADE: OnceLock<Option<RealImage>> = OnceLock::new();
        MADE.get_or_init(Self::find_or_make).clone()
    }

    /// An OCI layout with every layer gzip; `base` is its first layer alone, `real` the image.
    #[must_use]
    pub fn umoci(&self) -> PathBuf {
        self.dir.join("umoci")
    }

    /// An OCI layout with layers gzip, zstd and plain by turns, of `real` only.
    #[must_use]
    pub fn mixed(&self) -> PathBuf {
        self.dir.join("mixed")
    }

    /// [`RealImage::mixed`] in one archive.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.dir.join("mixed.tar")
    }

    /// The same image as `docker save` writes it.
    #[must_use]
    pub fn docker(&self) -> PathBuf {
        self.dir.join("docker.tar")
    }

    /// The tree that umoci makes of it.
    #[must_use]
    pub fn reference(&self) -> PathBuf {
        self.dir.join("reference/rootfs")
    }

    fn find_or_make() -> Option<Self> {
        if !need::root() {
            return None;
        }
        for (tool, question) in TOOLS {
            if !answers(tool, question) {
                need::skip(&format!("{tool}, to make a real image"));
                return None;
            }
        }
        let home = target().join("tmp").join("real-image");
        fs::create_dir_all(&home).expect("make a directory below the target directory");
        let lock = File::create(home.join("lock")).expect("make a lock");
        lock.lock().expect("wait for whoever makes it");
        let mut hash = DefaultHasher::new();
        (RECIPE, LAYER, PACKAGES).hash(&mut hash);
        let dir = home.join(format!("{:016x}", hash.finish()));
        if !dir.exists() {
            make(&home, &dir);
        }
        Some(Self { dir })
    }
}

/// True when a program can be run.
#[must_use]
pub fn answers(program: &str, question: &str) -> bool {
    Command::new(program).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The target directory of whoever runs: programs and tests lie in `deps` or beside it.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("know where this program is");
    let profile = program.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    profile.and_then(Path::parent).map_or_else(std::env::temp_dir, Path::to_path_buf)
}

fn make(home: &Path, dir: &Path) {
    // Older recipes, and what was cut off.
    for entry in fs::read_dir(home).expect("read the directory").flatten() {
        if entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).expect("remove an older image");
        }
    }
    let work = home.join("unfinished");
    fs::create_dir(&work).expect("make a directory");
    let base = work.join("base.tar");
    run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", PACKAGES, "bookworm"]).arg(&base));
    let layer = work.join("layer.py");
    fs::write(&layer, LAYER).expect("write the recipe");
    run(Command::new("bash").args(["-c", RECIPE, "image.sh"]).args([&layer, &base]).current_dir(&work));
    fs::remove_file(base).expect("remove the base");
    fs::rename(work, dir).expect("give the image its name");
}

/// Runs a program that must succeed.
///
/// # Panics
/// When it does not, with what it said.
#[track_caller]
pub fn run(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}");
    out.stdout
}
