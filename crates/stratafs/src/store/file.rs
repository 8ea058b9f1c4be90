//! Small files of the store: read with suspicion, replaced in one durable step. A fixed name that is a link, a fifo or
//! anything else than a regular file is refused; nothing is read past a limit.

use super::at;
use crate::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The largest record that is read: 500 layers with the longest paths fit.
pub(crate) const SIZE_MAX: u64 = 16 << 20;

/// Opens a regular file for reading; `None` when the name does not exist. Never a link, and a fifo planted there does
/// not block.
pub(crate) fn open(path: &Path, operation: &'static str) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(at(path, operation)(e.into())),
    };
    if !file.metadata().map_err(at(path, operation))?.is_file() {
        return Err(corrupt(path, operation, "not a regular file"));
    }
    Ok(Some(file))
}

/// Everything in a file that [`open`] gave, up to [`SIZE_MAX`] bytes.
pub(crate) fn content(file: &File, path: &Path, operation: &'static str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut text).map_err(at(path, operation))?;
    if text.len() as u64 > SIZE_MAX {
        return Err(corrupt(path, operation, format!("larger than {SIZE_MAX} bytes")));
    }
    Ok(text)
}

/// Writes a new file durably. Its directory is not synced.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(at(path, "write"))
}

/// Puts `content` in the place of `path` in one step, after `before`, which makes durable what the content names: on most
/// file systems the one journal commit of the content's own sync has done most of that. `fresh` is a name in the same
/// directory that only the holder of a lock uses; what stands there is left over and goes. To survive a crash of the
/// host the directory must be synced afterwards: that is a step of its own, since its failure does not undo this one.
///
/// # Errors
/// What the host and `before` say; the old content stands then.
pub(crate) fn put(
    path: &Path,
    fresh: &Path,
    content: &[u8],
    before: impl FnOnce() -> Result<()>,
) -> Result<()> {
    match fs::remove_file(fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(fresh, "remove")(e)),
        _ => {}
    }
    let put = write_new(fresh, content)
        .and_then(|()| before())
        .and_then(|()| fs::rename(fresh, path).map_err(at(path, "replace")));
    if put.is_err() {
        // What cannot be removed now goes with the next one.
        let _ = fs::remove_file(fresh);
    }
    put
}

/// The error for a file of ours that is not what it has to be.
pub(crate) fn corrupt(path: &Path, operation: &'static str, why: impl Into<Box<str>>) -> Error {
    Error::new(ErrorKind::Corrupt, operation).about(path.as_os_str().as_bytes()).because(why)
}
