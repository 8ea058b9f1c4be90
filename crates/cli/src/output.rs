//! Where an archive goes: standard output, or a file that appears under its name only when it is complete.

use crate::failure::Failure;
use crate::text::shown_path;
use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// How many names are tried for a file in the making.
const TRIES: u32 = 100;

/// Something to write an archive to. A file that is not [finished](Output::finish) goes again.
#[derive(Debug)]
pub enum Output {
    Standard(io::Stdout),
    /// A device or pipe that is there already: written in place.
    Special(File, PathBuf),
    File(NewFile),
}

/// A file in the making, under another name beside its own.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    making: PathBuf,
    path: PathBuf,
    replace: bool,
}

impl Output {
    /// Opens `asked`; `-` and none are standard output. What exists is replaced only with `force`.
    ///
    /// # Errors
    /// A terminal as standard output; a file that exists; what the host says.
    pub fn open(asked: Option<&Path>, force: bool) -> Result<Self, Failure> {
        let path = match asked {
            None => return Self::standard(),
            Some(path) if path == Path::new("-") => return Self::standard(),
            Some(path) => path,
        };
        let failed = |e: io::Error| Failure::new(format!("{}: {e}", shown_path(path)));
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                return Err(Failure::new(format!("{}: is a directory", shown_path(path))));
            }
            Ok(meta) if !meta.is_file() => {
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Self::Special(file, path.to_owned()));
            }
            Ok(_) if !force => return Err(exists(path)),
            _ => {}
        }
        // A link at its place is replaced, not followed: fs::rename and fs::hard_link have it so.
        for number in 0..TRIES {
            let making = path.with_file_name(format!(".strata-{}-{number}", std::process::id()));
            match File::create_new(&making) {
                Ok(file) => {
                    return Ok(Self::File(NewFile { file, making, path: path.to_owned(), replace: force }));
                }
                // Left by a process of the same number that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    fn standard() -> Result<Self, Failure> {
        let out = io::stdout();
        match out.is_terminal() {
            true => {
                Err(Failure::usage("an archive is not for a terminal: name a file with -o, or use a pipe"))
            }
            false => Ok(Self::Standard(out)),
        }
    }

    /// What was written gets its name, whole and on disk.
    pub fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Standard(mut out) => Ok(out.flush()?),
            Self::Special(mut file, path) => {
                file.flush().map_err(|e| Failure::new(format!("{}: {e}", shown_path(&path))))
            }
            Self::File(file) => file.publish(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(buf),
            Self::Special(file, _) | Self::File(NewFile { file, .. }) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::Special(file, _) | Self::File(NewFile { file, .. }) => file.flush(),
        }
    }
}

impl NewFile {
    fn publish(self) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::new(format!("{}: {e}", shown_path(&self.path)));
        self.file.sync_all().map_err(failed)?;
        if self.replace {
            return fs::rename(&self.making, &self.path).map_err(failed);
        }
        match rustix::fs::renameat_with(CWD, &self.making, CWD, &self.path, RenameFlags::NOREPLACE) {
            // Some file systems cannot: a link does not replace either, and the name in the making goes on drop.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::linkat(CWD, &self.making, CWD, &self.path, AtFlags::empty()) {
                    Err(Errno::EXIST) => Err(exists(&self.path)),
                    linked => linked.map_err(|e| failed(e.into())),
                }
            }
            Err(Errno::EXIST) => Err(exists(&self.path)),
            renamed => renamed.map_err(|e| failed(e.into())),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After a success it has its own name, and this one is gone.
        let _ = fs::remove_file(&self.making);
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(format!("{}: exists; --force replaces it", shown_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let mut out = Output::open(Some(&path), false).unwrap();
        out.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(out);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left of a failure");
        let mut out = Output::open(Some(&path), false).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Output::open(Some(&path), false).unwrap_err().message.contains("--force"));
        let mut out = Output::open(Some(&path), true).unwrap();
        out.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole", "the old one stays until the new one is there");
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(Output::open(Some(dir.path()), true).unwrap_err().message.contains("is a directory"));
    }

    #[test]
    fn who_comes_second_does_not_replace_who_came_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let late = Output::open(Some(&path), false).unwrap();
        fs::write(&path, "first").unwrap();
        assert!(late.finish().unwrap_err().message.contains("exists"));
        assert_eq!(fs::read(&path).unwrap(), b"first");
    }

    #[test]
    fn devices_are_written_in_place() {
        let mut out = Output::open(Some(Path::new("/dev/null")), false).unwrap();
        out.write_all(b"x").unwrap();
        out.finish().unwrap();
    }
}
