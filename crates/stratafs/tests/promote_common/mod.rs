//! A base directory, a container over it, and targets that begin as copies of the base.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::fs::{File, create_dir};
use std::path::{Path, PathBuf};
use stratafs::{Container, Image};
use stratafs_testkit::host::{Whiteouts, materialise};
use stratafs_testkit::{Dump, TreeSpec, What, host, view};

/// True for root; else says that the test is skipped.
pub fn root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    skip("root");
    false
}

pub fn skip(what: &str) {
    let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
    assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: {what}");
    println!("skipped: {what}");
}

pub fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

pub fn seed() -> u64 {
    number("STRATAFS_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_secs() ^ u64::from(now.subsec_nanos()) << 20
    })
}

/// Without what says something of layers below: a plain directory.
pub fn plain(mut tree: TreeSpec) -> TreeSpec {
    tree.entries.retain(|entry| entry.what != What::Whiteout);
    for entry in &mut tree.entries {
        if let What::Dir { opaque } = &mut entry.what {
            *opaque = false;
        }
    }
    tree
}

pub struct Bed {
    pub dir: tempfile::TempDir,
    pub tree: TreeSpec,
    targets: std::cell::Cell<usize>,
}

impl Bed {
    pub fn new(tree: &TreeSpec) -> Self {
        Self::within(tempfile::tempdir().unwrap(), tree)
    }

    pub fn within(dir: tempfile::TempDir, tree: &TreeSpec) -> Self {
        rustix::process::umask(rustix::fs::Mode::empty());
        let bed = Self { dir, tree: plain(tree.clone()), targets: Default::default() };
        bed.copy("base");
        bed
    }

    pub fn copy(&self, name: &str) -> PathBuf {
        let at = self.dir.path().join(name);
        create_dir(&at).unwrap();
        materialise(&self.tree, File::open(&at).unwrap(), Whiteouts::Trusted).unwrap();
        at
    }

    /// One more copy of the base.
    pub fn target(&self) -> PathBuf {
        self.targets.set(self.targets.get() + 1);
        self.copy(&format!("target{}", self.targets.get()))
    }

    pub fn image(&self) -> Image {
        Image::from_dirs([self.dir.path().join("base")]).unwrap()
    }

    /// What the container started from.
    pub fn base(&self) -> Container {
        self.image().view().unwrap()
    }

    pub fn container(&self) -> Container {
        Container::builder(self.image()).scratch_dir(self.dir.path().join("state")).open().unwrap()
    }
}

pub fn dump(at: &Path) -> Dump {
    host::dump(File::open(at).unwrap()).unwrap()
}

/// The container's tree with attributes under the names by which a directory stores them.
pub fn merged(container: &Container) -> String {
    let text = view::dump(container.view()).unwrap().to_string();
    text.replace(" trusted.overlay.", " trusted.overlay.overlay.")
}

/// Panics with the lines that differ.
#[track_caller]
pub fn assert_same(expected: &str, actual: &str, what: &str) {
    if expected == actual {
        return;
    }
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    let lost = expected.lines().filter(|line| !has(actual, line)).map(|line| format!("- {line}\n"));
    let new = actual.lines().filter(|line| !has(expected, line)).map(|line| format!("+ {line}\n"));
    panic!("{what}:\n{}{}", lost.collect::<String>(), new.collect::<String>());
}

/// Lines by path, without what other names and other files decide: links, and times of directories.
pub fn lines(dump: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for line in dump.lines() {
        // A name may hold blanks; the kind follows the path.
        let kinds = [" File ", " Dir ", " Symlink ", " Fifo ", " Socket ", " Char ", " Block "];
        let Some(at) = kinds.iter().filter_map(|kind| line.find(kind)).min() else { continue };
        let (path, rest) = line.split_at(at);
        // That comes last, and is a path again.
        let (rest, _) = rest.split_once(" same-as=").unwrap_or((rest, ""));
        let words = rest.split(' ').filter(|word| !word.starts_with("nlink="));
        let is_dir = rest.starts_with(" Dir ");
        let words: Vec<&str> = words.filter(|word| !is_dir || !word.starts_with("mtime=")).collect();
        out.insert(path.to_owned(), words.join(" "));
    }
    out
}

pub fn staging(target: &Path) -> PathBuf {
    target.join(".strata-promotion")
}
