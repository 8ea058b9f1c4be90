//! A scratch in a temporary directory.

use super::{choose_kernel, name};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use stratafs_core::*;
use stratafs_dir::{DirScratch, Namespace, Node, ScratchOptions};
use tempfile::{TempDir, tempdir};

pub struct Bed {
    pub dir: TempDir,
    pub scratch: DirScratch,
}

pub fn options() -> ScratchOptions {
    ScratchOptions { namespace: Some(Namespace::User), ..ScratchOptions::default() }
}

pub fn bed_with(options: &ScratchOptions) -> Bed {
    choose_kernel();
    let dir = tempdir().unwrap();
    let scratch = DirScratch::create(dir.path().join("upper"), dir.path().join("work"), options).unwrap();
    Bed { dir, scratch }
}

pub fn bed() -> Bed {
    bed_with(&options())
}

pub fn seed(kind: Kind, mode: u32) -> Seed<'static> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Seed {
        kind,
        mode,
        uid,
        gid,
        rdev: Device::default(),
        target: if kind == Kind::Symlink { b"to" } else { b"" },
    }
}

impl Bed {
    pub fn upper(&self, path: &str) -> PathBuf {
        self.dir.path().join("upper").join(path)
    }

    pub fn root(&self) -> Node {
        self.scratch.root().unwrap().node
    }

    pub fn put(&self, dir: &Node, n: &str, kind: Kind, over: Over) -> Result<Node> {
        let staged = self.scratch.stage(&seed(kind, 0o755))?;
        self.scratch.publish(staged, At { dir, name: name(n) }, over)
    }

    pub fn file(&self, n: &str) -> Node {
        self.put(&self.root(), n, Kind::File, Over::Nothing).unwrap()
    }

    pub fn mkdir(&self, n: &str) -> Node {
        self.put(&self.root(), n, Kind::Dir, Over::Nothing).unwrap()
    }

    pub fn is_whiteout(&self, path: &str) -> bool {
        fs::symlink_metadata(self.upper(path)).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
    }

    /// No residue: the staging directory holds at most the shared whiteout.
    pub fn leftovers(&self) -> Vec<String> {
        leftovers(&self.dir.path().join("work/work"))
    }
}

pub fn leftovers(work: &Path) -> Vec<String> {
    fs::read_dir(work)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| {
            e.metadata().is_ok_and(|m| !m.file_type().is_char_device()) && e.file_name() != "incompat"
        })
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}
