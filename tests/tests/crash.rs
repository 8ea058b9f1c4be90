//! Every operation cut after every step of its plan: by a failing verb, and by a process that dies.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use stratafs_core::Durability;
use stratafs_testkit::conformance::Bed;
use stratafs_tests::beds::{DirBed, MemBed};
use stratafs_tests::cuts;

/// What is left in a work directory besides the index, the lock and the shared whiteout.
fn residue(bed: &DirBed) -> Vec<String> {
    let names = |at: &Path| -> Vec<_> {
        let list = std::fs::read_dir(at).into_iter().flatten().flatten();
        list.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    };
    let staging = names(&bed.work.join("work")).into_iter().filter(|n| {
        let file = std::fs::symlink_metadata(bed.work.join("work").join(n));
        !file.is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_char_device(&m.file_type())) && n != "incompat"
    });
    let base = names(&bed.work).into_iter().filter(|n| n != "work" && n != "index");
    staging.chain(base).collect()
}

fn in_memory(durability: Durability) {
    let fresh = |_: &MemBed, _| MemBed::new(&cuts::stack()).expect("memory is everywhere");
    cuts::check::<MemBed>(durability, &fresh, &|_| Vec::new());
}

fn in_directories(durability: Durability) {
    // In memory where possible: this is about steps, not about a disk.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fresh = |bed: &DirBed, n| {
        let mut bed = bed.clone();
        bed.upper = dir.path().join(format!("upper{n}"));
        bed.work = dir.path().join(format!("work{n}"));
        bed
    };
    cuts::check::<DirBed>(durability, &fresh, &residue);
}

#[test]
fn in_memory_volatile() {
    in_memory(Durability::Volatile);
}

#[test]
fn in_memory_ordered() {
    in_memory(Durability::Ordered);
}

#[test]
fn in_memory_strict() {
    in_memory(Durability::Strict);
}

#[test]
fn in_directories_volatile() {
    in_directories(Durability::Volatile);
}

#[test]
fn in_directories_strict() {
    in_directories(Durability::Strict);
}
