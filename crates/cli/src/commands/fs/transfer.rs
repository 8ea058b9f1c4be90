//! `fs cat`, `put` and `get`: bytes in and out, streamed. Trees go directory by directory, without recursion;
//! links are copied and never followed.

use crate::failure::{ERROR, Failure, Outcome};
use crate::text::{kind_word, shown, shown_path};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stratafs::{Container, ErrorKind, File, Kind, OpenOptions, SetTime, Time};

const BUFFER: usize = 1 << 18;

fn inside<'a>(path: &'a Path, what: &'a str) -> impl Fn(io::Error) -> Failure + 'a {
    move |e| Failure::new(format!("{what} {} in the container: {e}", shown(path.as_os_str().as_bytes())))
}

fn on_host<'a>(path: &'a Path, what: &'a str) -> impl Fn(io::Error) -> Failure + 'a {
    move |e| Failure::new(format!("{what} {} on the host: {e}", shown(path.as_os_str().as_bytes())))
}

/// Writes a file to standard output.
pub fn cat(container: &Container, path: &Path) -> Result<(), Failure> {
    refuse_special(container, path)?;
    stream(&mut container.open(path)?, inside(path, "read"), &mut io::stdout().lock(), Failure::from)
}

/// Refuses devices, pipes and sockets: nothing of a container is opened on the host in its place.
pub fn refuse_special(container: &Container, path: &Path) -> Result<(), Failure> {
    match container.metadata(path) {
        Ok(meta) if is_special(meta.file_type()) => Err(special(path, kind_word(meta.file_type()))),
        // What cannot be looked at cannot be opened either, which says why.
        _ => Ok(()),
    }
}

fn is_special(kind: Kind) -> bool {
    !matches!(kind, Kind::File | Kind::Dir | Kind::Symlink)
}

fn special(path: &Path, kind: &str) -> Failure {
    Failure::new(format!("{}: not a file, directory or link ({kind})", shown(path.as_os_str().as_bytes())))
}

fn stream(
    from: &mut impl Read,
    cannot_read: impl Fn(io::Error) -> Failure,
    to: &mut impl Write,
    cannot_write: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = match from.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(&cannot_read)?,
        };
        match buffer.get(..read) {
            Some([]) | None => return to.flush().map_err(&cannot_write),
            Some(bytes) => to.write_all(bytes).map_err(&cannot_write)?,
        }
    }
}

/// Gives the code for a tree of which some entries may have been left out.
fn code(complete: bool) -> u8 {
    if complete { 0 } else { ERROR }
}

/// Copies with `fill` into the file at `to`, which is removed again when it was made for this and that fails.
fn put_into(
    container: &Container,
    to: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    refuse_special(container, to)?;
    let new = container.metadata(to).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    let mut options = OpenOptions::new();
    let mut target = container.open_with(to, options.write(true).create(true).truncate(true))?;
    fill(&mut target).map_err(|failure| {
        drop(target);
        let state = match new && container.remove_file(to).is_ok() {
            true => "nothing was kept of it",
            false => "the file is incomplete now",
        };
        Failure::new(format!("{}; {state}", failure.message))
    })
}

/// Copies from the host into the container.
pub fn put(container: &Container, from: &Path, to: &Path, recursive: bool) -> Outcome {
    if from == Path::new("-") {
        let cannot_read = |e| Failure::new(format!("standard input: {e}"));
        let fill =
            |target: &mut File| stream(&mut io::stdin().lock(), cannot_read, target, inside(to, "write"));
        return put_into(container, to, fill).map(|()| 0);
    }
    let meta = if recursive { fs::symlink_metadata(from) } else { fs::metadata(from) };
    let meta = meta.map_err(on_host(from, "read"))?;
    if meta.is_dir() && !recursive {
        return Err(Failure::usage(format!("{} is a directory: say -r to copy it", shown_path(from))));
    }
    let into_dir = container.metadata(to).is_ok_and(|meta| meta.is_dir());
    let to = match from.file_name().filter(|_| into_dir) {
        Some(name) => to.join(name),
        None => to.to_owned(),
    };
    let mut queue = VecDeque::from([(from.to_owned(), to, meta)]);
    // Directories get their times last, when nothing is made in them any more.
    let mut dirs = Vec::new();
    let mut complete = true;
    while let Some((from, to, meta)) = queue.pop_front() {
        if meta.is_dir() {
            match container.create_dir(&to) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                made => made?,
            }
            let failed = on_host(&from, "read");
            for entry in fs::read_dir(&from).map_err(&failed)? {
                let entry = entry.map_err(&failed)?;
                let meta = entry.metadata().map_err(&failed)?;
                queue.push_back((entry.path(), to.join(entry.file_name()), meta));
            }
            dirs.push((to, meta));
        } else if !meta.is_file() && !meta.is_symlink() {
            let failure = special(&from, "on the host");
            if !recursive {
                return Err(failure);
            }
            crate::complain(&failure);
            complete = false;
        } else {
            put_one(container, &from, &to, &meta)?;
        }
    }
    for (dir, meta) in dirs.into_iter().rev() {
        container.set_permissions(&dir, meta.mode())?;
        set_times(container, &dir, &meta)?;
    }
    Ok(code(complete))
}

fn set_times(container: &Container, path: &Path, meta: &fs::Metadata) -> Result<(), Failure> {
    let time = |secs, nanos| Some(SetTime::At(Time { secs, nanos: u32::try_from(nanos).unwrap_or(0) }));
    let (accessed, modified) = (time(meta.atime(), meta.atime_nsec()), time(meta.mtime(), meta.mtime_nsec()));
    Ok(container.set_symlink_times(path, accessed, modified)?)
}

fn put_one(container: &Container, from: &Path, to: &Path, meta: &fs::Metadata) -> Result<(), Failure> {
    let failed = on_host(from, "read");
    if meta.is_symlink() {
        container.symlink(fs::read_link(from).map_err(failed)?, to)?;
        return set_times(container, to, meta);
    }
    let mut source = fs::File::open(from).map_err(&failed)?;
    put_into(container, to, |target| {
        // Nobody else sees the content before the mode is right.
        target.set_permissions(0o600)?;
        if meta.blocks().saturating_mul(512) < meta.len() {
            put_sparse(&source, target, meta.len()).map_err(inside(to, "write"))?;
        } else {
            stream(&mut source, &failed, target, inside(to, "write"))?;
        }
        Ok(target.set_permissions(meta.mode())?)
    })?;
    set_times(container, to, meta)
}

/// Copies the data and leaves out the holes.
fn put_sparse(source: &fs::File, target: &File, len: u64) -> io::Result<()> {
    use rustix::fs::SeekFrom as At;
    let (mut source, mut target) = (source, target);
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(source, At::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = rustix::fs::seek(source, At::Hole(start))?;
        source.seek(SeekFrom::Start(start))?;
        target.seek(SeekFrom::Start(start))?;
        io::copy(&mut source.take(end - start), &mut target)?;
        at = end;
    }
    Ok(target.set_len(len)?)
}

/// Copies from the container to the host.
pub fn get(container: &Container, from: &Path, to: &Path, recursive: bool) -> Outcome {
    if to == Path::new("-") {
        return cat(container, from).map(|()| 0);
    }
    let meta = if recursive { container.symlink_metadata(from) } else { container.metadata(from) }?;
    if meta.is_dir() && !recursive {
        return Err(Failure::usage(format!("{} is a directory: say -r to copy it", shown_path(from))));
    }
    let to = match from.file_name().filter(|_| to.is_dir()) {
        Some(name) => to.join(name),
        None => to.to_owned(),
    };
    let mut complete = true;
    let mut queue: VecDeque<(PathBuf, PathBuf)> = VecDeque::from([(from.to_owned(), to)]);
    while let Some((from, to)) = queue.pop_front() {
        let meta = if recursive { container.symlink_metadata(&from) } else { container.metadata(&from) }?;
        match meta.file_type() {
            Kind::Dir => {
                make_host_dir(&to)?;
                for entry in container.read_dir(&from)? {
                    let entry = entry?;
                    queue.push_back((entry.path(), to.join(entry.file_name())));
                }
            }
            Kind::Symlink => {
                symlink(container.read_link(&from)?, &to).map_err(on_host(&to, "create"))?;
            }
            Kind::File => get_file(container, &from, &to, meta.mode())?,
            kind @ (Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block) => {
                let failure = special(&from, kind_word(kind));
                if !recursive {
                    return Err(failure);
                }
                crate::complain(&failure);
                complete = false;
            }
        }
    }
    Ok(code(complete))
}

/// A directory that is there already must really be one: a link in its place would lead outside.
fn make_host_dir(dir: &Path) -> Result<(), Failure> {
    let made = match fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return match fs::symlink_metadata(dir).map_err(on_host(dir, "read"))?.is_dir() {
                true => Ok(()),
                false => Err(Failure::new(format!("{} on the host is not a directory", shown_path(dir)))),
            };
        }
        made => made,
    };
    made.map_err(on_host(dir, "create"))
}

/// Never through a link, and never with setuid: whoever owns the file on the host did not ask for that.
fn get_file(container: &Container, from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    let mut source = container.open(from)?;
    let failed = on_host(to, "write");
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(to);
    let mut target = opened.map_err(&failed)?;
    stream(&mut source, inside(from, "read"), &mut target, &failed)?;
    target.set_permissions(fs::Permissions::from_mode(mode & 0o777)).map_err(failed)
}
