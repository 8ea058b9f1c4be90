//! Opening a scratch: what is refused and why, who has it, what a crash left behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::bed::*;
use common::*;
use rustix::fs::FileType;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use stratafs_core::ErrorKind;
use stratafs_dir::{DirScratch, ScratchOptions};
use tempfile::tempdir;

/// All tests of this file once more, as nobody.
#[test]
fn everything_works_without_privilege() {
    again_as_nobody();
}

#[test]
fn unsuitable_directories_are_refused_by_name() {
    let dir = tempdir().unwrap();
    let p = |n: &str| dir.path().join(n);
    let open = |u: &str, w: &str| DirScratch::open(p(u), p(w), &options()).unwrap_err();
    fs::create_dir_all(p("u/w")).unwrap();
    fs::create_dir_all(p("w/u")).unwrap();
    fs::write(p("file"), b"").unwrap();
    assert_eq!(open("none", "w").kind(), ErrorKind::NotFound);
    assert_eq!(open("u", "none").kind(), ErrorKind::NotFound);
    assert_eq!(open("file", "w").kind(), ErrorKind::NotADirectory);
    for (u, w) in [("u", "u"), ("u", "u/w"), ("w/u", "w")] {
        assert_eq!(open(u, w).kind(), ErrorKind::InvalidInput, "{u} {w}");
    }
    assert!(fs::read_dir(p("u/w")).unwrap().next().is_none(), "nothing was made");
    if let Ok(other) = tempfile::tempdir_in("/dev/shm") {
        let e = DirScratch::open(p("u"), other.path(), &options()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::CrossDevice);
    }
    fs::create_dir(p("planted")).unwrap();
    for (i, plant) in ["work", "index"].into_iter().enumerate() {
        let outside = tempdir().unwrap();
        fs::write(outside.path().join("keep"), b"").unwrap();
        let _ = fs::remove_dir_all(p("planted"));
        fs::create_dir(p("planted")).unwrap();
        symlink(outside.path(), p("planted").join(plant)).unwrap();
        assert_eq!(open("u", "planted").kind(), ErrorKind::Corrupt, "{i}");
        assert!(outside.path().join("keep").exists());
        fs::remove_file(p("planted").join(plant)).unwrap();
        mknod(p("planted").join(plant), FileType::Fifo, 0);
        assert_eq!(open("u", "planted").kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_scratch_has_one_owner() {
    let bed = bed();
    let again = DirScratch::open(bed.upper(""), bed.dir.path().join("work"), &options()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Busy);
    assert!(again.to_string().contains(&std::process::id().to_string()), "{again}");
    let Bed { dir, scratch } = bed;
    drop(scratch);
    DirScratch::open(dir.path().join("upper"), dir.path().join("work"), &options()).unwrap();
}

#[test]
fn leftovers_go_and_links_in_them_are_not_followed() {
    let bed = bed();
    let Bed { dir, scratch } = bed;
    drop(scratch);
    let work = dir.path().join("work/work");
    let outside = tempdir().unwrap();
    fs::write(outside.path().join("keep"), b"").unwrap();
    fs::create_dir_all(work.join("#7/a/b/c")).unwrap();
    fs::write(work.join("#7/a/b/f"), b"").unwrap();
    symlink(outside.path(), work.join("#7/a/link")).unwrap();
    symlink(outside.path(), work.join("#0")).unwrap();
    fs::create_dir(work.join("locked")).unwrap();
    fs::write(work.join("locked/f"), b"").unwrap();
    fs::set_permissions(work.join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::write(dir.path().join("work/index/#3"), b"").unwrap();
    fs::write(dir.path().join("work/index/00fb"), b"").unwrap();
    let scratch = DirScratch::open(dir.path().join("upper"), dir.path().join("work"), &options()).unwrap();
    assert_eq!(leftovers(&work), Vec::<String>::new());
    assert_eq!(leftovers(&dir.path().join("work/index")), ["00fb"]);
    assert!(outside.path().join("keep").exists());
    drop(scratch);
}

#[test]
fn a_volatile_scratch_must_be_closed() {
    let bed = bed_with(&ScratchOptions { volatile: true, ..options() });
    let Bed { dir, scratch } = bed;
    assert!(dir.path().join("work/work/incompat/volatile/dirty").exists());
    let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
    drop(scratch);
    assert_eq!(DirScratch::open(&upper, &work, &options()).unwrap_err().kind(), ErrorKind::Corrupt);
    let accepting = ScratchOptions { accept_volatile: true, volatile: true, ..options() };
    let scratch = DirScratch::open(&upper, &work, &accepting).unwrap();
    scratch.close().unwrap();
    assert!(!work.join("work/incompat").exists());
    DirScratch::open(&upper, &work, &options()).unwrap();
}
