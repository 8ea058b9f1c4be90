//! `info`: the version, where state is kept, and what this host can do. Abilities are tried, not guessed.

use super::print_json;
use crate::args::Json;
use crate::failure::{Failure, Outcome};
use crate::run;
use crate::state;
use crate::text::{JsonPath, shown};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, XattrFlags};
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::host;

#[derive(Debug, Serialize)]
struct Info {
    version: &'static str,
    kernel: String,
    root: JsonPath,
    /// The type of the file system that the root is on.
    file_system: String,
    /// Under which prefix new containers keep their marks: `trusted` or `user`.
    namespace: &'static str,
    /// This process may mount.
    sys_admin: bool,
    /// The kernel knows overlayfs, loaded or built in.
    overlayfs: bool,
    /// A user namespace can be made.
    user_namespaces: bool,
    openat2: bool,
    /// The root's file system shares blocks between files.
    reflink: bool,
    user_xattrs: bool,
    trusted_xattrs: bool,
}

/// Prints it all.
pub fn info(root: Option<&Path>, asked: &Json) -> Outcome {
    let store = state::store(root)?;
    // Where nothing can be written nothing is known to work.
    let probed = Probe::new(store.root());
    let tried = |try_it: fn(&Probe) -> bool| probed.as_ref().is_ok_and(try_it);
    let sys_admin = host::has_sys_admin();
    let info = Info {
        version: env!("CARGO_PKG_VERSION"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        root: store.root().into(),
        file_system: file_system(store.root())?,
        namespace: if sys_admin { "trusted" } else { "user" },
        sys_admin,
        overlayfs: fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\toverlay\n")),
        user_namespaces: run::user_namespaces_work(),
        openat2: openat2(),
        reflink: tried(Probe::reflink),
        user_xattrs: tried(|probe| probe.xattr("user.strata.probe")),
        trusted_xattrs: tried(|probe| probe.xattr("trusted.strata.probe")),
    };
    if asked.json {
        print_json(&info)?;
        return Ok(0);
    }
    let mut out = std::io::stdout().lock();
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    writeln!(out, "strata           {}", info.version)?;
    writeln!(out, "kernel           {}", info.kernel)?;
    writeln!(out, "state            {} ({})", shown(store.root().as_os_str().as_bytes()), info.file_system)?;
    writeln!(out, "marks            {}.overlay.*", info.namespace)?;
    writeln!(out, "may mount        {}", yes(info.sys_admin))?;
    writeln!(out, "overlayfs        {}", yes(info.overlayfs))?;
    writeln!(out, "user namespaces  {}", yes(info.user_namespaces))?;
    writeln!(out, "openat2          {}", yes(info.openat2))?;
    writeln!(out, "reflink          {}", yes(info.reflink))?;
    writeln!(out, "user xattrs      {}", yes(info.user_xattrs))?;
    writeln!(out, "trusted xattrs   {}", yes(info.trusted_xattrs))?;
    Ok(0)
}

/// The type of the file system as the mount table has it: that of the last mount above `path`.
fn file_system(path: &Path) -> Result<String, Failure> {
    let mounts = stratafs::mountinfo::mounts()?;
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.target));
    let nearest = above.max_by_key(|mount| mount.target.components().count());
    Ok(nearest.map_or_else(|| "unknown".to_owned(), |mount| mount.kind.clone()))
}

fn openat2() -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, ".", flags, Mode::empty(), ResolveFlags::BENEATH).is_ok()
}

/// Two files in the state directory to try things on; gone afterwards.
struct Probe {
    paths: [PathBuf; 2],
    files: [File; 2],
}

impl Probe {
    fn new(root: &Path) -> std::io::Result<Self> {
        let path = |n: u8| root.join(format!("probe-{}-{n}", std::process::id()));
        let paths = [path(1), path(2)];
        let [a, b] = &paths;
        let create = |path: &PathBuf| File::options().read(true).write(true).create_new(true).open(path);
        let files = [create(a)?, create(b)?];
        Ok(Self { paths, files })
    }

    fn reflink(&self) -> bool {
        let [from, to] = &self.files;
        rustix::io::write(from, &[1; 4096]).is_ok() && rustix::fs::ioctl_ficlone(to, from).is_ok()
    }

    fn xattr(&self, name: &str) -> bool {
        rustix::fs::fsetxattr(&self.files[0], name, b"1", XattrFlags::empty()).is_ok()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        for path in &self.paths {
            // Nothing depends on them; a leftover is a few bytes in a private directory.
            let _ = fs::remove_file(path);
        }
    }
}
