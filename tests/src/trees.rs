//! Trees to the last detail, as directories and as views show them: kind, mode, owner, time to the nanosecond, device,
//! content, target, every attribute, and which names are one object; the root too. Unlike the dumps of the testkit
//! they do not forgive times. The host is read by path and by `std`, which knows nothing of this project.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path as HostPath, PathBuf};
use stratafs_core::{Device, Kind, Layer, Name, Result, Scratch, Time, View};
use stratafs_testkit::dump::{Content, Object, Stamp};
use stratafs_testkit::view::{entries, object};
use stratafs_testkit::{Dump, Path};

/// The longest list of names, and value, that the kernel gives.
const XATTRS: usize = 64 << 10;

/// The tree at `root`.
///
/// # Panics
/// When the host does not let it be read.
#[must_use]
pub fn of_dir(root: &HostPath) -> Dump {
    let mut objects = vec![(Path::root(), host_object(root))];
    let mut dirs = vec![(Path::root(), root.to_path_buf())];
    while let Some((path, at)) = dirs.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let entry = entry.expect("read a directory");
            let (path, at): (_, PathBuf) = (path.join(entry.file_name().as_bytes()), entry.path());
            let object = host_object(&at);
            if object.kind == Kind::Dir {
                dirs.push((path.clone(), at));
            }
            objects.push((path, object));
        }
    }
    Dump::new(objects)
}

fn host_object(path: &HostPath) -> Object {
    let said = |e: std::io::Error| -> ! { panic!("{}: {e}", path.display()) };
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| said(e));
    let is = meta.file_type();
    let kind = match is {
        _ if is.is_dir() => Kind::Dir,
        _ if is.is_file() => Kind::File,
        _ if is.is_symlink() => Kind::Symlink,
        _ if is.is_fifo() => Kind::Fifo,
        _ if is.is_char_device() => Kind::Char,
        _ if is.is_block_device() => Kind::Block,
        _ => Kind::Socket,
    };
    let content = match kind {
        Kind::File => Content::file(&fs::read(path).unwrap_or_else(|e| said(e))),
        Kind::Symlink => {
            let target = fs::read_link(path).unwrap_or_else(|e| said(e));
            Content::Target(target.as_os_str().as_bytes().to_vec())
        }
        _ => Content::None,
    };
    let rdev = meta.rdev();
    Object {
        kind,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: Device { major: rustix::fs::major(rdev), minor: rustix::fs::minor(rdev) },
        nlink: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        mtime: Stamp::At(Time {
            secs: meta.mtime(),
            nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(u32::MAX),
        }),
        id: (meta.dev(), meta.ino()),
        xattrs: host_xattrs(path),
        content,
    }
}

fn host_xattrs(path: &HostPath) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; XATTRS];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTRS];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..])
            .unwrap_or_else(|e| panic!("{}: {}: {e}", path.display(), name.escape_ascii()));
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    found
}

/// The tree that `view` shows.
///
/// # Errors
/// What the view says.
pub fn of_view<L: Layer, S: Scratch>(view: &View<L, S>) -> Result<Dump> {
    let exact = |node: &_| -> Result<Object> {
        Ok(Object { mtime: Stamp::At(view.attr(node)?.mtime), ..object(view, node)? })
    };
    let mut objects = vec![(Path::root(), exact(&view.root())?)];
    let mut dirs = vec![(Path::root(), view.root())];
    while let Some((path, dir)) = dirs.pop() {
        for (name, kind, _) in entries(view, &dir)? {
            let path = path.join(&name);
            let node = view.lookup(&dir, Name::new(&name)?)?;
            let node = node.unwrap_or_else(|| panic!("{path} is listed and not there"));
            objects.push((path.clone(), exact(&node).map_err(|e| e.about(path.bytes()))?));
            if kind == Kind::Dir {
                dirs.push((path, node));
            }
        }
    }
    Ok(Dump::new(objects))
}

/// Panics when trees differ in more than the paths that `but` names, each with the reason, which must be needed: a
/// path that does not differ is no exception any more.
///
/// # Panics
/// Then, with the first lines that differ.
#[track_caller]
pub fn assert_same(want: &Dump, got: &Dump, but: &[(&str, &str)], what: &str) {
    const SHOWN: usize = 60;
    let (mut wrong, mut needed) = (Vec::new(), vec![false; but.len()]);
    let paths = want.paths().into_iter().chain(got.paths().into_iter().filter(|p| want.line(p).is_none()));
    for path in paths {
        let (left, right) = (want.line(&path), got.line(&path));
        if left == right {
            continue;
        }
        let text = path.to_string();
        match but.iter().position(|(excepted, _)| *excepted == text) {
            Some(at) => needed[at] = true,
            None => {
                wrong.push(format!("- {path} {}\n+ {path} {}", left.unwrap_or("–"), right.unwrap_or("–")))
            }
        }
    }
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    assert!(wrong.is_empty(), "{what}:\n{}\nand {more} more", wrong.join("\n"));
    for ((path, reason), needed) in but.iter().zip(needed) {
        assert!(needed, "{what}: {path} is the same by now: {reason}");
    }
}
