//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod bed;

use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use stratafs_core::{Found, Hit, Kind, Layer, Name, ReadAt};

/// Says that a test cannot run here; fails where everything must run.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("STRATAFS_REQUIRE_ALL").is_none(), "missing on this machine: {missing}");
    println!("skipped: {missing}");
}

/// In the test binary `old_kernel`, hides what has a fallback.
pub fn choose_kernel() {
    #[cfg(feature = "faults")]
    if module_path!().starts_with("old_kernel") {
        stratafs_dir::faults::pretend_old_kernel();
    }
}

/// Whether regular files can be made without a name.
pub fn has_nameless() -> bool {
    !module_path!().starts_with("old_kernel")
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// Walks `path` from the root, each component by a lookup.
pub fn find<L: Layer>(layer: &L, path: &str) -> Found<L::Node> {
    let mut at = layer.root().unwrap();
    let mut parts = path.split('/').filter(|p| !p.is_empty()).peekable();
    while let Some(part) = parts.next() {
        match layer.lookup(&at.node, name(part)).unwrap() {
            Found::Node(hit) => at = hit,
            other if parts.peek().is_none() => return other,
            _ => return Found::Absent,
        }
    }
    Found::Node(at)
}

pub fn hit<L: Layer>(layer: &L, path: &str) -> Hit<L::Node> {
    match find(layer, path) {
        Found::Node(hit) => hit,
        other => panic!("{path}: {other:?}"),
    }
}

pub fn is_whiteout<L: Layer>(layer: &L, path: &str) -> bool {
    matches!(find(layer, path), Found::Whiteout)
}

pub fn is_absent<L: Layer>(layer: &L, path: &str) -> bool {
    matches!(find(layer, path), Found::Absent)
}

/// The listing, sorted by name; whiteouts have no kind.
pub fn list<L: Layer>(layer: &L, path: &str) -> Vec<(String, Option<Kind>)> {
    let mut out = Vec::new();
    layer
        .read_dir(&hit(layer, path).node, &mut |e| {
            out.push((String::from_utf8_lossy(e.name.as_bytes()).into_owned(), e.kind));
            ControlFlow::Continue(())
        })
        .unwrap();
    out.sort();
    out
}

pub fn read<L: Layer>(layer: &L, path: &str) -> Vec<u8> {
    read_all(&layer.open(&hit(layer, path).node).unwrap())
}

pub fn read_all(file: &dyn ReadAt) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    let mut at = 0;
    while at < out.len() {
        match file.read_at(&mut out[at..], at as u64).unwrap() {
            0 => break,
            n => at += n,
        }
    }
    out.truncate(at);
    out
}

pub fn set(path: impl AsRef<Path>, attribute: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path.as_ref(), attribute, value, rustix::fs::XattrFlags::empty()).unwrap();
}

pub fn get(path: impl AsRef<Path>, attribute: &str) -> Option<Vec<u8>> {
    let mut buf = vec![0; 4096];
    let len = rustix::fs::lgetxattr(path.as_ref(), attribute, &mut buf[..]).ok()?;
    buf.truncate(len);
    Some(buf)
}

pub fn mknod(path: impl AsRef<Path>, kind: rustix::fs::FileType, device: u64) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path.as_ref(), kind, mode, device).unwrap();
}

pub fn whiteout(path: impl AsRef<Path>) {
    mknod(path, rustix::fs::FileType::CharacterDevice, 0);
}

pub fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A mount that goes away with the value.
pub struct Mount(pub PathBuf);

impl Mount {
    /// Mounts by mount(8); `None` when the machine cannot.
    pub fn new(args: &[&str], at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let done = Command::new("mount").args(args).arg(at).output().ok()?;
        if !done.status.success() {
            println!("mount {args:?}: {}", String::from_utf8_lossy(&done.stderr));
            return None;
        }
        Some(Self(at.to_path_buf()))
    }

    /// The kernel's overlayfs over one lower.
    pub fn overlay(lower: &Path, upper: &Path, work: &Path, options: &str, at: &Path) -> Option<Self> {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{options}",
            lower.display(),
            upper.display(),
            work.display()
        );
        Self::new(&["-t", "overlay", "overlay", "-o", &options], at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A directory in memory where there is one: some tests are about us, not about a disk.
pub fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs the tests of the calling binary once more without privilege.
pub fn again_as_nobody() {
    if !is_root() {
        return println!("this is the run without privilege");
    }
    let dir = tempfile::tempdir().unwrap();
    let tests = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    let tmp = dir.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    for path in [dir.path(), &tests, &tmp] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::chown(&tmp, Some(65534), Some(65534)).unwrap();
    let run = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(&tests)
        .env("TMPDIR", &tmp)
        .output();
    let Ok(run) = run else { return skip("setpriv") };
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
}
