//! `fs`: a container's files, in process.

mod show;
mod transfer;

use crate::args::{Fs, FsVerb, NodeKind, XattrVerb};
use crate::failure::{ERROR, Failure, Outcome, PIPE};
use crate::text::{JsonPath, shown, shown_path};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::store::{Store, open_leased};
use stratafs::{Container, Device, ErrorKind, Kind, OpenOptions, RenameFlags, SetTime};

/// Opens the container and does what was asked, relative paths starting at its root.
pub fn fs(store: &Store, asked: Fs) -> Outcome {
    if asked.verb.only_reads() {
        let lease = store.lease(&asked.name)?;
        return act(&open_leased(&lease)?, asked.verb);
    }
    let opened = store.open_container(&asked.name)?;
    let done = act(&opened, asked.verb);
    let closed = opened.close();
    done.and_then(|code| Ok(closed.map(|()| code)?))
}

fn act(container: &Container, verb: FsVerb) -> Outcome {
    match verb {
        FsVerb::Ls { long, json, path } => show::list(container, &path, long, json)?,
        FsVerb::Cat { paths } => return each(&paths, |path| transfer::cat(container, path)),
        FsVerb::Stat { json, paths } => show::stat(container, &paths, json)?,
        FsVerb::Put { recursive, from, to } => return transfer::put(container, &from, &to, recursive),
        FsVerb::Get { recursive, from, to } => return transfer::get(container, &from, &to, recursive),
        FsVerb::Mkdir { parents: true, paths } => {
            return each(&paths, |path| Ok(container.create_dir_all(path)?));
        }
        FsVerb::Mkdir { parents: false, paths } => {
            return each(&paths, |path| Ok(container.create_dir(path)?));
        }
        FsVerb::Rm { recursive, force, paths } => {
            return each(&paths, |path| remove(container, path, recursive, force));
        }
        FsVerb::Rmdir { paths } => return each(&paths, |path| Ok(container.remove_dir(path)?)),
        FsVerb::Mv { no_replace, exchange, from, to } => {
            let flags = match (no_replace, exchange) {
                (true, _) => RenameFlags::NO_REPLACE,
                (_, true) => RenameFlags::EXCHANGE,
                _ => RenameFlags::empty(),
            };
            let to = if exchange { to } else { inside(container, &from, to) };
            container.rename_with(&from, to, flags)?;
        }
        FsVerb::Ln { symbolic: true, target, path } => container.symlink(target, path)?,
        FsVerb::Ln { symbolic: false, target, path } => {
            let path = inside(container, &target, path);
            container.hard_link(target, path)?;
        }
        FsVerb::Cp { from, to } => {
            let to = inside(container, &from, to);
            transfer::refuse_special(container, &from)?;
            container.copy(from, to)?;
        }
        FsVerb::Chmod { mode, paths } => {
            return each(&paths, |path| Ok(container.set_permissions(path, mode)?));
        }
        FsVerb::Chown { no_follow: false, owner, paths } => {
            return each(&paths, |path| Ok(container.chown(path, owner.uid, owner.gid)?));
        }
        FsVerb::Chown { no_follow: true, owner, paths } => {
            return each(&paths, |path| Ok(container.lchown(path, owner.uid, owner.gid)?));
        }
        FsVerb::Xattr { verb } => xattr(container, verb)?,
        FsVerb::Readlink { path } => print_line(container.read_link(path)?.as_os_str().as_bytes())?,
        FsVerb::Touch { paths } => return each(&paths, |path| touch(container, path)),
        FsVerb::Truncate { size, path } => container.truncate(path, size)?,
        FsVerb::Mknod { path, kind, major, minor, mode } => {
            mknod(container, &path, kind, major.zip(minor), mode)?
        }
    }
    Ok(0)
}

/// Does it for each path; goes on after a failure.
fn each(paths: &[PathBuf], act: impl Fn(&Path) -> Result<(), Failure>) -> Outcome {
    let mut code = 0;
    for path in paths {
        if let Err(failure) = act(path) {
            if failure.code == PIPE {
                return Err(failure);
            }
            crate::complain(&failure);
            code = ERROR;
        }
    }
    Ok(code)
}

/// Into a directory goes under its own name, as with mv(1) and cp(1).
fn inside(container: &Container, from: &Path, to: PathBuf) -> PathBuf {
    let is_dir = container.metadata(&to).is_ok_and(|meta| meta.is_dir());
    match from.file_name() {
        Some(name) if is_dir => to.join(name),
        _ => to,
    }
}

fn remove(container: &Container, path: &Path, recursive: bool, force: bool) -> Result<(), Failure> {
    let removed = if recursive { container.remove_dir_all(path) } else { container.remove_file(path) };
    match removed {
        Err(e) if force && e.kind() == ErrorKind::NotFound => Ok(()),
        removed => Ok(removed?),
    }
}

fn touch(container: &Container, path: &Path) -> Result<(), Failure> {
    match container.set_times(path, Some(SetTime::Now), Some(SetTime::Now)) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            container.open_with(path, options.write(true).create(true))?;
            Ok(())
        }
        done => Ok(done?),
    }
}

fn mknod(
    container: &Container,
    path: &Path,
    kind: NodeKind,
    device: Option<(u32, u32)>,
    mode: u32,
) -> Result<(), Failure> {
    let (kind, device) = match (kind, device) {
        (NodeKind::C, Some(device)) => (Kind::Char, device),
        (NodeKind::B, Some(device)) => (Kind::Block, device),
        (NodeKind::P, None) => (Kind::Fifo, (0, 0)),
        (NodeKind::S, None) => (Kind::Socket, (0, 0)),
        (NodeKind::C | NodeKind::B, None) => return Err(Failure::usage("a device needs MAJOR and MINOR")),
        _ => return Err(Failure::usage("only devices take MAJOR and MINOR")),
    };
    Ok(container.mknod(path, kind, mode, Device { major: device.0, minor: device.1 })?)
}

fn xattr(container: &Container, verb: XattrVerb) -> Result<(), Failure> {
    match verb {
        XattrVerb::Ls { json, path } => {
            let names = container.symlink_xattrs(path)?;
            if json {
                return super::print_json(&names.iter().map(|n| JsonPath::new(n)).collect::<Vec<_>>());
            }
            for name in names {
                print_line(shown(&name).as_bytes())?;
            }
        }
        XattrVerb::Get { path, name } => {
            let value = container.symlink_xattr(&path, &name)?;
            let missing =
                || Failure::new(format!("{}: no attribute {}", shown_path(&path), shown(name.as_bytes())));
            let mut out = std::io::stdout().lock();
            out.write_all(&value.ok_or_else(missing)?)?;
            out.flush()?;
        }
        XattrVerb::Set { path, name, value } => {
            container.set_symlink_xattr(path, name, value.as_bytes())?;
        }
        XattrVerb::Rm { path, name } => container.remove_symlink_xattr(path, name)?,
    }
    Ok(())
}

fn print_line(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.write_all(b"\n")?)
}
