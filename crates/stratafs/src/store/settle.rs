//! Closing a container that was used without syncs. The mark that such a use leaves says "not closed", and a
//! container with it is refused. That is right after a crash of the host and wrong after the end of a process,
//! however sudden: the kernel still has every byte. So the use is noted together with the start of the host that
//! saw it, and in the same one the next user closes what was left open.

use super::Record;
use crate::{Durability, Error, Result};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Names the running start of the host (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Before a use: closes what an earlier process of the same start of the host left open, and notes this use.
pub(super) fn begin(record: &Record) -> Result<()> {
    if record.config.durability != Durability::Volatile {
        return Ok(());
    }
    // Without /proc every unclosed use is refused, which is the safe side.
    let Ok(now) = fs::read(BOOT_ID) else { return Ok(()) };
    if !fs::symlink_metadata(record.work()).is_ok_and(|meta| meta.is_dir()) {
        // Opening it will say so.
        return Ok(());
    }
    let note = record.dir.join("boot");
    if fs::symlink_metadata(&note).is_ok_and(|meta| meta.is_file()) && fs::read(&note).is_ok_and(|n| n == now)
    {
        settle(record)?;
    }
    if marks(record)?.iter().any(|mark| fs::symlink_metadata(mark).is_ok()) {
        return Ok(());
    }
    let fresh = record.dir.join("boot.new");
    let written = gone(fs::remove_file(&fresh)).and_then(|()| {
        let mut options = File::options();
        io::Write::write_all(&mut options.write(true).create_new(true).mode(0o600).open(&fresh)?, &now)?;
        fs::rename(&fresh, &note)
    });
    match written {
        // Whoever only reads needs no note, and who writes fails soon enough.
        Err(e) if matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::StorageFull) => Ok(()),
        written => written.map_err(failed("note the use of", &note)),
    }
}

/// After a use: makes a strict or volatile container durable and takes the marks away.
pub(super) fn settle(record: &Record) -> Result<()> {
    if record.config.durability == Durability::Ordered {
        return Ok(());
    }
    let upper = record.upper();
    File::open(&upper).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).map_err(failed("sync", &upper))?;
    if record.config.durability != Durability::Volatile {
        return Ok(());
    }
    for mark in marks(record)? {
        // A directory with one entry, of either kind.
        for at in [mark.join("dirty"), mark] {
            let removed = match fs::remove_dir(&at) {
                Err(e) if e.kind() == ErrorKind::NotADirectory => fs::remove_file(&at),
                removed => removed,
            };
            match gone(removed) {
                Err(e) if e.kind() == ErrorKind::NotADirectory => {}
                removed => removed.map_err(failed("remove", &at))?,
            }
        }
    }
    let note = record.dir.join("boot");
    gone(fs::remove_file(&note)).map_err(failed("remove", &note))
}

/// Where the marks of all work directories are, made reachable: the kernel makes theirs with no permissions.
fn marks(record: &Record) -> Result<Vec<PathBuf>> {
    let works = record.works();
    let split = match fs::read_dir(&works) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        entries => entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .map_err(failed("read", &works))?,
    };
    let mut marks = Vec::new();
    for work in split.into_iter().chain([record.work()]) {
        for dir in [work.join("work"), work.join("work/incompat"), work.join("work/incompat/volatile")] {
            let shut = |meta: fs::Metadata| meta.is_dir() && meta.permissions().mode() & 0o700 != 0o700;
            if fs::symlink_metadata(&dir).is_ok_and(shut) {
                let opened = fs::set_permissions(&dir, Permissions::from_mode(0o700));
                gone(opened).map_err(failed("open", &dir))?;
            }
        }
        marks.push(work.join("work/incompat/volatile"));
    }
    Ok(marks)
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |e| Error::io(e, what).about(path.as_os_str().as_bytes())
}
