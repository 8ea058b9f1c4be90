//! The first change of a lower file: by size, kind and durability, on ext4 and on XFS with reflinks, each in a new loop
//! image; without privilege on the file system of the temporary directory.
//!
//! Like stands beside like: `volatile` beside the kernel's `volatile` and beside copies without a sync; `ordered`
//! beside the kernel's default, which syncs data before it publishes, and beside a copy that is synced. Nobody else
//! has `strict`. The plain directory's part is what a program does by itself: copy to a new name by `std::fs::copy`
//! (which shares blocks where it can), change that, sync it, rename it over the old one.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::cell::LazyCell;
use std::fs;
use std::os::unix::fs::{FileExt, chown};
use std::path::PathBuf;
use stratafs_benches::ground::{Image, Scrap};
use stratafs_benches::{Ground, Host, Strata, System, Vfs, timing};
use stratafs_core::Durability;

/// Which change is the first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Byte,
    Owner,
}

/// What the lower files are.
struct Files {
    what: &'static str,
    change: Change,
    len: u64,
    sparse: bool,
    /// How many there are, which is how many are changed in one sample.
    count: u64,
}

const FILES: [Files; 6] = [
    Files { what: "one byte into 1 B", change: Change::Byte, len: 1, sparse: false, count: 128 },
    Files { what: "one byte into 4 KiB", change: Change::Byte, len: 4 << 10, sparse: false, count: 128 },
    Files { what: "one byte into 1 MiB", change: Change::Byte, len: 1 << 20, sparse: false, count: 16 },
    Files { what: "one byte into 256 MiB", change: Change::Byte, len: 256 << 20, sparse: false, count: 1 },
    Files {
        what: "one byte into a hole of 256 MiB",
        change: Change::Byte,
        len: 256 << 20,
        sparse: true,
        count: 16,
    },
    Files { what: "chown of 1 B", change: Change::Owner, len: 1, sparse: false, count: 256 },
];

/// The least work that gives a changed copy of a file.
struct Copier {
    lower: PathBuf,
    dir: Scrap,
    sync: bool,
}

impl Copier {
    fn change(&self, name: &str, change: Change) {
        let (from, to) = (self.lower.join(name), self.dir.path().join(format!("{name}.new")));
        fs::copy(&from, &to).expect("copy");
        let file = fs::OpenOptions::new().write(true).open(&to).expect("open");
        match change {
            Change::Byte => {
                file.write_at(b"x", 0).expect("write");
            }
            Change::Owner => chown(&to, Some(1), None).expect("chown"),
        }
        if self.sync {
            file.sync_all().expect("sync");
        }
        fs::rename(&to, self.dir.path().join(name)).expect("rename");
    }
}

struct Setting<'a, F> {
    ground: &'a Ground,
    lower: &'a LazyCell<Scrap, F>,
    files: &'a Files,
    case: &'static str,
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

impl<F: FnOnce() -> Scrap> Setting<'_, F> {
    fn names(&self) -> impl Iterator<Item = String> {
        (0..self.files.count).map(|n| format!("f{n}"))
    }

    fn system<S: System>(&self, group: &mut Group<'_>, name: &str, make: impl Fn(&Ground, &[PathBuf]) -> S) {
        group.bench_function(BenchmarkId::new(name, self.case), |b| {
            let lowers = [self.lower.path().to_path_buf()];
            b.iter_custom(|iters| {
                let ready = || {
                    let system = make(self.ground, &lowers);
                    let paths: Vec<_> = self.names().map(|name| system.path(&name)).collect();
                    self.ground.settle();
                    (system, paths)
                };
                timing::in_turn(iters, self.files.count, ready, |(system, paths), n| {
                    let path = &paths[usize::try_from(n).expect("small")];
                    match self.files.change {
                        Change::Byte => system.write_byte(path),
                        Change::Owner => assert!(system.chown(path)),
                    }
                })
            });
        });
    }

    fn kernel(&self, group: &mut Group<'_>, name: &str, options: &str) {
        if Host::kernel(self.ground, &[self.ground.make("empty")], options).is_some() {
            self.system(group, name, |ground, lowers| {
                Host::kernel(ground, lowers, options).expect("mounted before")
            });
        }
    }

    fn copy(&self, group: &mut Group<'_>, sync: bool) {
        group.bench_function(BenchmarkId::new("plain copy", self.case), |b| {
            b.iter_custom(|iters| {
                let ready = || {
                    let copier =
                        Copier { lower: self.lower.path().to_path_buf(), dir: self.ground.scrap(), sync };
                    let names: Vec<_> = self.names().collect();
                    self.ground.settle();
                    (copier, names)
                };
                timing::in_turn(iters, self.files.count, ready, |(copier, names), n| {
                    copier.change(&names[usize::try_from(n).expect("small")], self.files.change);
                })
            });
        });
    }
}

/// Makes the lower files.
fn lower(ground: &Ground, files: &Files) -> Scrap {
    let dir = ground.scrap();
    for n in 0..files.count {
        let file = fs::File::create(dir.path().join(format!("f{n}"))).expect("create");
        if files.sparse {
            file.set_len(files.len).expect("set the length");
        } else {
            let chunk = vec![7; usize::try_from(files.len.min(1 << 20)).expect("small")];
            for at in (0..files.len).step_by(1 << 20) {
                file.write_all_at(&chunk, at).expect("write");
            }
        }
    }
    dir
}

fn copy_up_on(c: &mut Criterion, ground: &Ground) {
    for files in &FILES {
        let lower = LazyCell::new(|| lower(ground, files));
        let mut group = c.benchmark_group(format!("{}, {}", files.what, ground.file_system()));
        timing::slow(&mut group);
        for (case, durability) in [
            ("volatile", Durability::Volatile),
            ("ordered", Durability::Ordered),
            ("strict", Durability::Strict),
        ] {
            let at = Setting { ground, lower: &lower, files, case };
            at.system(&mut group, "strata", |ground, lowers| Strata::new(ground, lowers, durability));
            let kernel = match durability {
                Durability::Volatile => "volatile",
                Durability::Ordered => "",
                Durability::Strict => continue,
            };
            at.kernel(&mut group, "kernel", kernel);
            at.kernel(&mut group, "kernel, metacopy", &format!("metacopy=on,redirect_dir=on,{kernel}"));
            at.copy(&mut group, durability == Durability::Ordered);
            if durability == Durability::Volatile && files.change == Change::Byte && !files.sparse {
                at.system(&mut group, "vfs", Vfs::new);
            }
        }
        group.finish();
    }
}

fn copy_up(c: &mut Criterion) {
    let images = [Image::Ext4, Image::Xfs].map(Ground::image);
    for ground in images.iter().flatten() {
        copy_up_on(c, ground);
    }
    if images.iter().all(Option::is_none) {
        copy_up_on(c, &Ground::host());
    }
}

criterion_group!(benches, copy_up);
criterion_main!(benches);
