//! What trees take on disk: allocated blocks, an object with several names once. No recursion, no link is followed, two
//! descriptors at any depth. Of a tree that others write meanwhile the answer is near the truth: what vanishes or
//! moves may be missed, and so is what is in a directory that this process may not read.

use super::at;
use crate::Result;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Bytes of one block in `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Bytes that the trees and files at `paths` take.
pub(super) fn allocated<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<u64> {
    let mut sum = Sum::default();
    for path in paths {
        sum.add(path).map_err(|e| at(path, "measure")(e.into()))?;
    }
    Ok(sum.bytes)
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    /// Objects with more than one name that were counted.
    seen: HashSet<(u64, u64)>,
}

/// A directory on the way: what is still to be entered in it, and which one it is.
struct Level {
    left: Vec<CString>,
    id: (u64, u64),
}

impl Sum {
    fn add(&mut self, path: &Path) -> Result<(), Errno> {
        let stat = match rustix::fs::lstat(path) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.count(&stat);
            return Ok(());
        }
        let Some((mut dir, top)) = self.enter(CWD, path)? else { return Ok(()) };
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.left.pop() {
                if let Some((inner, level)) = self.enter(dir.as_fd(), name.as_c_str())? {
                    dir = inner;
                    levels.push(level);
                }
                continue;
            }
            levels.pop();
            let Some(above) = levels.last() else { break };
            let up = rustix::fs::openat(&dir, c"..", DIRECTORY, Mode::empty())?;
            if id(&rustix::fs::fstat(&up)?) != above.id {
                // It was moved elsewhere: the way back is lost.
                break;
            }
            dir = up;
        }
        Ok(())
    }

    /// Opens a directory, counts it and what is directly in it; `None` when it is gone or shut.
    fn enter(
        &mut self,
        at: BorrowedFd<'_>,
        name: impl rustix::path::Arg,
    ) -> Result<Option<(OwnedFd, Level)>, Errno> {
        let dir = match rustix::fs::openat(at, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(None),
            dir => dir?,
        };
        let own = rustix::fs::fstat(&dir)?;
        self.count(&own);
        let mut left = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    left.push(name.to_owned());
                }
                Ok(stat) => self.count(&stat),
                Err(Errno::NOENT | Errno::ACCESS) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some((dir, Level { left, id: id(&own) })))
    }

    fn count(&mut self, stat: &Stat) {
        let several = FileType::from_raw_mode(stat.st_mode) != FileType::Directory && stat.st_nlink > 1;
        if !several || self.seen.insert(id(stat)) {
            self.bytes =
                self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK));
        }
    }
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_with_two_names_counts_once_and_a_hole_not_at_all() {
        let tmp = tempfile::tempdir().unwrap();
        let tree = tmp.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        let before = allocated([tree.as_path()]).unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        let file = fs::File::create(tree.join("hole")).unwrap();
        file.set_len(1 << 30).unwrap();
        let once = allocated([tree.as_path()]).unwrap() - before;
        assert!((1 << 20..2 << 20).contains(&once), "{once}");
        fs::hard_link(tree.join("a/b/file"), tree.join("other")).unwrap();
        assert_eq!(allocated([tree.as_path()]).unwrap() - before, once);
        std::os::unix::fs::symlink("/usr", tree.join("link")).unwrap();
        assert!(allocated([tree.as_path()]).unwrap() - before < 2 << 20);
        assert_eq!(allocated([tmp.path().join("none").as_path()]).unwrap(), 0);
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_measured() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut dir = rustix::fs::open(&top, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..2500 {
            rustix::fs::mkdirat(&dir, "directory", Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, "directory", DIRECTORY, Mode::empty()).unwrap();
        }
        allocated([top.as_path()]).unwrap();
        super::super::remove::empty(&top).unwrap();
    }
}
