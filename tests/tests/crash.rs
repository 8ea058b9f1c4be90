//! Every operation cut after every step of its plan: by a failing verb, and by a process that dies.

use std::path::Path;
use stratafs_core::Durability;
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

#[test]
fn in_memory() {
    cuts::check::<MemBed>(Durability::Ordered, &|_| Vec::new());
}

#[test]
fn in_directories() {
    cuts::check::<DirBed>(Durability::Volatile, &residue);
}

#[test]
fn in_memory_strict() {
    cuts::check::<MemBed>(Durability::Strict, &|_| Vec::new());
}
