//! Operations on a host directory, by the system calls that they are named after.

use super::dump::{names, object, xattr};
use super::make::{file_type, raw_device, write_all};
use super::{find, magic, walk};
use crate::dump::{Dump, listing, stat_line};
use crate::op::{self, Blocks, Op, Outcome, RenameHow, SLOTS, Value};
use crate::path::Path;
use crate::subject::Subject;
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, copy_file_range, fallocate, fstat, ftruncate, linkat, mkdirat, mknodat, open, openat,
    readlinkat, removexattr, renameat_with, setxattr, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pread};
use std::path::{Path as HostPath, PathBuf};
use stratafs_core::{SetXattr, Time};

type Done<T = ()> = Result<T, Errno>;

/// A directory of the host. The process's umask must be 0.
#[derive(Debug)]
pub struct HostSubject {
    at: PathBuf,
    root: Option<OwnedFd>,
    slots: [Option<OwnedFd>; SLOTS],
}

impl HostSubject {
    /// Opens `at`. Sets the process's umask to 0.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(at: impl AsRef<HostPath>) -> Done<Self> {
        rustix::process::umask(Mode::empty());
        let at = at.as_ref().to_path_buf();
        let root = Some(open_dir(&at)?);
        Ok(Self { at, root, slots: Default::default() })
    }

    /// Closes every descriptor, so that the directory can be unmounted.
    pub fn release(&mut self) {
        self.root = None;
        self.slots = Default::default();
    }

    /// Opens the directory again after [`HostSubject::release`].
    ///
    /// # Errors
    /// What the host says.
    pub fn acquire(&mut self) -> Done {
        self.root = Some(open_dir(&self.at)?);
        Ok(())
    }

    fn root(&self) -> Done<&OwnedFd> {
        self.root.as_ref().ok_or(Errno::BADF)
    }

    fn place<'p>(&self, path: &'p Path) -> Done<(OwnedFd, &'p [u8])> {
        let (dir, name) = path.split().ok_or(Errno::BUSY)?;
        Ok((walk(self.root()?, dir)?, name))
    }

    fn find(&self, path: &Path) -> Done<OwnedFd> {
        find(self.root()?, path)
    }

    fn open_file(&self, path: &Path, flags: OFlags) -> Done<OwnedFd> {
        let (dir, name) = match path.split() {
            None => return Err(Errno::ISDIR),
            Some((dir, name)) => (walk(self.root()?, dir)?, name),
        };
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                openat(dir, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            }
            FileType::Directory => Err(Errno::ISDIR),
            FileType::Symlink => Err(Errno::LOOP),
            _ => Err(Errno::NXIO),
        }
    }

    fn slot(&self, slot: usize) -> Done<&OwnedFd> {
        self.slots[slot].as_ref().ok_or(Errno::BADF)
    }

    fn rename(&self, from: &Path, to: &Path, how: RenameHow) -> Done {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let flags = match how {
            RenameHow::Plain => RenameFlags::empty(),
            RenameHow::NoReplace => RenameFlags::NOREPLACE,
            RenameHow::Exchange => RenameFlags::EXCHANGE,
        };
        renameat_with(from_dir, from_name, to_dir, to_name, flags)
    }

    fn link(&self, from: &Path, to: &Path) -> Done {
        let (from_dir, from_name) = self.place(from)?;
        rustix::fs::statat(&from_dir, from_name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (to_dir, to_name) = self.place(to)?;
        linkat(from_dir, from_name, to_dir, to_name, AtFlags::empty())
    }

    fn chmod(&self, path: &Path, mode: u32) -> Done {
        let node = self.find(path)?;
        if FileType::from_raw_mode(fstat(&node)?.st_mode) == FileType::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        rustix::fs::chmod(magic(&node), Mode::from_raw_mode(mode))
    }

    fn utimens(&self, path: &Path, atime: Time, mtime: Time) -> Done {
        let spec = |t: Time| Timespec { tv_sec: t.secs, tv_nsec: i64::from(t.nanos) };
        let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
        let (dir, name) = self.place(path)?;
        utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn open(&mut self, slot: usize, path: &Path, mode: op::Mode) -> Done {
        self.slots[slot] = None;
        let flags = match mode {
            op::Mode::Read => OFlags::RDONLY,
            op::Mode::Write => OFlags::WRONLY,
            op::Mode::Both => OFlags::RDWR,
            op::Mode::Replace => OFlags::WRONLY | OFlags::TRUNC,
        };
        self.slots[slot] = Some(self.open_file(path, flags)?);
        Ok(())
    }

    fn copy(
        &self,
        (from, mut from_offset): (usize, u64),
        (to, mut offset): (usize, u64),
        len: u64,
    ) -> Done<u64> {
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        let size = u64::try_from(fstat(from)?.st_size).unwrap_or(0);
        // Within one file, what the copy itself appends is not copied again.
        let len = len.min(size.saturating_sub(from_offset).max(1));
        let mut done = 0;
        while done < len {
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut from_offset), to, Some(&mut offset), left)? {
                0 => break,
                n => done += n as u64,
            }
        }
        Ok(done)
    }

    fn run(&mut self, op: &Op) -> Done<Value> {
        let permissions = |mode: &u32| Mode::from_raw_mode(*mode);
        match op {
            Op::Create { path, mode } => {
                let (dir, name) = self.place(path)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(dir, name, flags, permissions(mode))?;
            }
            Op::Mkdir { path, mode } => {
                let (dir, name) = self.place(path)?;
                let sticky = *mode & 0o6000;
                mkdirat(&dir, name, permissions(mode))?;
                if sticky != 0 {
                    // mkdir(2) takes no setuid or setgid bit.
                    let had = fstat(self.find(path)?)?.st_mode & 0o7777;
                    self.chmod(path, had | sticky)?;
                }
            }
            Op::Symlink { path, target } => {
                let (dir, name) = self.place(path)?;
                symlinkat(target.as_slice(), dir, name)?;
            }
            Op::Mknod { path, kind, mode, rdev } => {
                let (dir, name) = self.place(path)?;
                mknodat(dir, name, file_type(*kind), permissions(mode), raw_device(*rdev))?;
            }
            Op::Link { from, to } => self.link(from, to)?,
            Op::Unlink { path } => {
                let (dir, name) = self.place(path)?;
                unlinkat(dir, name, AtFlags::empty())?;
            }
            Op::Rmdir { path } => {
                let (dir, name) = self.place(path)?;
                unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            }
            Op::Rename { from, to, how } => self.rename(from, to, *how)?,
            Op::Write { path, offset, len, fill } => {
                write_all(&self.open_file(path, OFlags::WRONLY)?, &vec![*fill; *len], *offset)?;
                return Ok(Value::Count(*len as u64));
            }
            Op::Append { path, len, fill } => {
                return append(&self.open_file(path, OFlags::WRONLY)?, *len, *fill);
            }
            Op::Truncate { path, len } => ftruncate(self.open_file(path, OFlags::WRONLY)?, *len)?,
            Op::Read { path, offset, len } => {
                return read(&self.open_file(path, OFlags::RDONLY)?, *offset, *len);
            }
            Op::ReadLink { path } => {
                let node = self.find(path)?;
                if FileType::from_raw_mode(fstat(&node)?.st_mode) != FileType::Symlink {
                    return Err(Errno::INVAL);
                }
                return Ok(Value::Bytes(readlinkat(node, c"", Vec::new())?.into_bytes()));
            }
            Op::ReadDir { path } => {
                return Ok(Value::Text(listing(names(&walk(self.root()?, &path.0)?)?)));
            }
            Op::Stat { path } => {
                let object = match path.split() {
                    None => object(self.root()?, b".")?,
                    Some((dir, name)) => object(&walk(self.root()?, dir)?, name)?,
                };
                return Ok(Value::Text(stat_line(path, object)));
            }
            Op::Chmod { path, mode } => self.chmod(path, *mode)?,
            Op::Chown { path, uid, gid } => {
                let (dir, name) = self.place(path)?;
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Op::Utimens { path, atime, mtime } => self.utimens(path, *atime, *mtime)?,
            Op::SetXattr { path, name, value, how } => {
                let flags = match how {
                    SetXattr::Any => XattrFlags::empty(),
                    SetXattr::Create => XattrFlags::CREATE,
                    SetXattr::Replace => XattrFlags::REPLACE,
                };
                setxattr(magic(&self.find(path)?), name.as_slice(), value, flags)?;
            }
            Op::RemoveXattr { path, name } => removexattr(magic(&self.find(path)?), name.as_slice())?,
            Op::GetXattr { path, name } => return xattr(&self.find(path)?, name).map(Value::Bytes),
            Op::Open { slot, path, mode } => self.open(*slot, path, *mode)?,
            Op::HandleRead { slot, offset, len } => return read(self.slot(*slot)?, *offset, *len),
            Op::HandleWrite { slot, offset, len, fill } => {
                write_all(self.slot(*slot)?, &vec![*fill; *len], *offset)?;
                return Ok(Value::Count(*len as u64));
            }
            Op::HandleAppend { slot, len, fill } => return append(self.slot(*slot)?, *len, *fill),
            Op::HandleTruncate { slot, len } => ftruncate(self.slot(*slot)?, *len)?,
            Op::HandleAllocate { slot, how, offset, len } => {
                let how = match how {
                    Blocks::Reserve => FallocateFlags::empty(),
                    Blocks::ReserveKeepSize => FallocateFlags::KEEP_SIZE,
                    Blocks::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                };
                fallocate(self.slot(*slot)?, how, *offset, *len)?;
            }
            Op::HandleCopy { from, from_offset, to, offset, len } => {
                return self.copy((*from, *from_offset), (*to, *offset), *len).map(Value::Count);
            }
            Op::HandleSize { slot } => {
                return Ok(Value::Count(u64::try_from(fstat(self.slot(*slot)?)?.st_size).unwrap_or(0)));
            }
            Op::Close { slot } => {
                self.slots[*slot].take().ok_or(Errno::BADF)?;
            }
            Op::Reopen => self.slots = Default::default(),
        }
        Ok(Value::Done)
    }
}

fn open_dir(at: &HostPath) -> Done<OwnedFd> {
    open(at, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn append(file: &OwnedFd, len: usize, fill: u8) -> Done<Value> {
    let end = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
    write_all(file, &vec![fill; len], end)?;
    Ok(Value::Count(len as u64))
}

fn read(file: &OwnedFd, offset: u64, len: usize) -> Done<Value> {
    let mut out = vec![0; len];
    let mut done = 0;
    while done < len {
        match pread(file, &mut out[done..], offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    out.truncate(done);
    Ok(Value::Bytes(out))
}

impl Subject for HostSubject {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.run(op).map_err(Errno::raw_os_error)
    }

    /// # Panics
    /// When the directory cannot be read.
    fn dump(&self) -> Dump {
        super::dump(self.root.as_ref().expect("the directory is open")).expect("dump the directory")
    }
}
