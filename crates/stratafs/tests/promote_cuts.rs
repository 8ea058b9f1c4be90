//! A promotion that is cut: killed at each system call that changes anything, or failed there. Afterwards the target is
//! the old or the new tree exactly and nothing is left. Runs this very program under strace as the process that dies.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod promote_common;

use promote_common::{Bed, assert_same, dump, merged, number, root, seed, skip, staging};
use std::path::{Path, PathBuf};
use std::process::Command;
use stratafs::promote::{Promotion, Recovered, Silent, recover};
use stratafs::{Container, Image};
use stratafs_testkit::{Data, Entry, TreeSpec, What};

/// What the child is to do, and where.
const CHILD: &str = "STRATAFS_PROMOTE_CHILD";
/// How the child says that it ended with an error.
const FAILED: i32 = 3;
/// How a program of tests ends when one fails.
const PANICKED: i32 = 101;

/// Every call that changes a directory, in the order of a promotion.
const CALLS: [&str; 14] = [
    "mkdirat",
    "linkat",
    "symlinkat",
    "mknodat",
    "ftruncate",
    "fchownat",
    "setxattr",
    "syncfs",
    "write",
    "fsync",
    "renameat2",
    "utimensat",
    "unlinkat",
    "flock",
];

fn tree() -> TreeSpec {
    let long = Entry::new("big", What::File(Data::seeded(40_000, 5)));
    TreeSpec::new()
        .dir("keep")
        .file("keep/mod", "old")
        .file("keep/gone", "gone")
        .dir("moved")
        .file("moved/inner", "inner")
        .dir("deleted")
        .dir("deleted/sub")
        .file("deleted/sub/f", "f")
        .file("deleted/saved", "saved")
        .file("type", "a file")
        .file("one", "one")
        .dir("x")
        .dir("y")
        .file("x/in-x", "x")
        .file("y/in-y", "y")
        .with(long)
}

fn change(c: &Container) {
    c.write("/keep/mod", "new content").unwrap();
    c.remove_file("/keep/gone").unwrap();
    c.rename("/moved", "/keep/moved").unwrap();
    c.write("/keep/moved/inner", "changed").unwrap();
    c.rename("/deleted/saved", "/saved").unwrap();
    c.remove_dir_all("/deleted").unwrap();
    c.remove_file("/type").unwrap();
    c.create_dir("/type").unwrap();
    c.write("/type/inside", "inside").unwrap();
    c.symlink("nowhere", "/type/link").unwrap();
    c.mkfifo("/type/fifo", 0o600).unwrap();
    c.hard_link("/one", "/type/two").unwrap();
    c.hard_link("/type/inside", "/inside-too").unwrap();
    c.set_permissions("/keep", 0o700).unwrap();
    c.set_xattr("/keep", "user.a", "b").unwrap();
    c.chown("/keep/mod", Some(7), Some(8)).unwrap();
    c.rename_with("/x", "/y", stratafs::RenameFlags::EXCHANGE).unwrap();
}

/// The process that is cut: not a test of its own.
#[test]
fn child() {
    let Ok(asked) = std::env::var(CHILD) else { return };
    let (what, dir) = asked.split_once(':').unwrap();
    let dir = Path::new(dir);
    let target = std::env::var("STRATAFS_PROMOTE_TARGET").unwrap();
    let done = match what {
        "recover" => recover(&target).map(drop),
        _ => {
            let image = Image::from_dirs([dir.join("base")]).unwrap();
            let base = image.view().unwrap();
            let container = Container::builder(image).scratch_dir(dir.join("state")).open().unwrap();
            let promotion = Promotion::of(&container, &base).plan(&target).unwrap();
            promotion.apply(&Silent).map(|report| assert!(report.left.is_none() || what == "fail"))
        }
    };
    if let Err(e) = done {
        eprintln!("{e}");
        std::process::exit(FAILED);
    }
}

struct Cuts {
    bed: Bed,
    old: String,
    new: String,
    seed: u64,
}

impl Cuts {
    fn new() -> Option<Self> {
        if !root() {
            return None;
        }
        if !Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success()) {
            skip("strace");
            return None;
        }
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let bed = Bed::within(dir, &tree());
        let container = bed.container();
        change(&container);
        let new = merged(&container);
        drop(container);
        let old = dump(&bed.dir.path().join("base")).to_string();
        Some(Self { bed, old, new, seed: seed() })
    }

    /// Runs the child with one call injected: its code, `None` when it was killed, and what it said.
    fn run(&self, what: &str, target: &Path, inject: &str) -> (Option<i32>, String) {
        let (code, said, _) = self.traced(what, target, inject);
        (code, said)
    }

    /// As [`Cuts::run`], with the calls of that kind.
    fn traced(&self, what: &str, target: &Path, inject: &str) -> (Option<i32>, String, String) {
        let (call, _) = inject.split_once(':').unwrap();
        let trace =
            self.bed.dir.path().join(format!("trace-{call}-{}", target.file_name().unwrap().display()));
        let out = Command::new("strace")
            .args(["-f", "-qq", "-e", &format!("inject={inject}"), "-e", &format!("trace={call}"), "-o"])
            .arg(&trace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{what}:{}", self.bed.dir.path().display()))
            .env("STRATAFS_PROMOTE_TARGET", target)
            .output()
            .unwrap();
        let calls = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(trace).unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned(), calls)
    }

    fn is_whole(&self, target: &Path, told: &str) -> bool {
        assert!(!staging(target).exists(), "left behind: {told}");
        let now = dump(target).to_string();
        if now == self.new {
            return true;
        }
        assert_same(&self.old, &now, told);
        false
    }

    /// A target that is removed again, so that memory does not fill up.
    fn with_target(&self, check: impl FnOnce(&Path)) {
        let target = self.bed.target();
        check(&target);
        std::fs::remove_dir_all(&target).unwrap();
    }

    /// Which of the calls of one kind are cut, counted from 1: evenly, from a random start, not more than `most`; all with
    /// `STRATAFS_CASES`. `begun` brings the target to where `what` starts.
    fn numbers(&self, what: &str, call: &str, most: usize, begun: impl Fn(&Path)) -> Vec<usize> {
        let mut calls = 0;
        self.with_target(|target| {
            begun(target);
            let (.., trace) = self.traced(what, target, &format!("{call}:error=EIO:when={NEVER}"));
            calls = trace.lines().filter(|line| line.contains(&format!(" {call}("))).count();
        });
        if calls <= most || number::<u64>("STRATAFS_CASES").is_some() {
            return (1..=calls).collect();
        }
        let start = usize::try_from(self.seed % calls as u64).unwrap();
        println!("{what}, {call}: {most} of {calls}, STRATAFS_SEED={}", self.seed);
        (0..most).map(|n| (n * calls + start) / most + 1).collect()
    }
}

/// No process makes so many calls; strace(1) takes no more.
const NEVER: usize = 60_000;
/// How many calls of each kind are cut.
const MOST: usize = 12;
/// The same, of recoveries.
const MOST_RECOVERIES: usize = 5;

#[test]
fn killed_at_any_call_the_target_is_old_or_new_after_recovery() {
    let Some(cuts) = Cuts::new() else { return };
    let (mut killed, mut undone, mut completed) = (0, 0, 0);
    for call in CALLS {
        for n in cuts.numbers("apply", call, MOST, |_| ()) {
            cuts.with_target(|target| {
                let told = format!("killed at {call} {n}");
                let (code, text) = cuts.run("apply", target, &format!("{call}:signal=KILL:when={n}"));
                if code == Some(0) {
                    assert!(cuts.is_whole(target, &told), "it said that it was done: {told}");
                    return;
                }
                assert_eq!(code, None, "{told}: {text}");
                killed += 1;
                match recover(target).unwrap_or_else(|e| panic!("{told}: {e}")) {
                    Recovered::Undone => undone += 1,
                    Recovered::Completed => completed += 1,
                    Recovered::Nothing | Recovered::Discarded => {}
                }
                cuts.is_whole(target, &told);
                assert_eq!(recover(target).unwrap(), Recovered::Nothing, "{told}");
            });
        }
    }
    println!("{killed} killed, {undone} undone, {completed} completed");
    assert!(undone > 8 && completed > 1);
}

#[test]
fn a_recovery_that_is_cut_itself_goes_on_the_next_time() {
    let Some(cuts) = Cuts::new() else { return };
    for after in [4, 9, 14] {
        let killed = |target: &Path| {
            let (code, said) = cuts.run("apply", target, &format!("renameat2:signal=KILL:when={after}"));
            assert_eq!(code, None, "killed at renameat2 {after}: {said}");
        };
        for call in ["renameat2", "utimensat", "setxattr", "syncfs", "unlinkat"] {
            for n in cuts.numbers("recover", call, MOST_RECOVERIES, killed) {
                cuts.with_target(|target| {
                    let told = format!("killed at renameat2 {after}, recovery at {call} {n}");
                    killed(target);
                    let (code, text) = cuts.run("recover", target, &format!("{call}:signal=KILL:when={n}"));
                    assert!(code == Some(0) || code.is_none(), "{told}: {text}");
                    recover(target).unwrap_or_else(|e| panic!("{told}: {e}"));
                    assert!(!cuts.is_whole(target, &told), "{told}");
                });
            }
        }
    }
}

#[test]
fn failed_at_any_call_the_target_is_as_it_was_and_the_error_says_why() {
    let Some(cuts) = Cuts::new() else { return };
    let mut failed = 0;
    let looks = &["openat2", "statx", "getdents64", "listxattr"][..];
    let full = &["mkdirat", "linkat", "write", "renameat2"][..];
    for (calls, error) in [(&CALLS[..], "EIO"), (looks, "EIO"), (full, "ENOSPC")] {
        for call in calls {
            for n in cuts.numbers("fail", call, MOST, |_| ()) {
                cuts.with_target(|target| {
                    let told = format!("{call} {n} fails with {error}");
                    let inject = format!("{call}:error={error}:when={n}");
                    let (code, text) = cuts.run("fail", target, &inject);
                    match code {
                        Some(0) => {
                            // Done, or the failed call was one after the last step: then what is left can be removed.
                            recover(target).unwrap_or_else(|e| panic!("{told}: {e}"));
                            assert!(cuts.is_whole(target, &told), "{told}");
                        }
                        Some(FAILED) => {
                            failed += 1;
                            let why = if error == "EIO" { "input/output error" } else { "no space left" };
                            assert!(text.to_lowercase().contains(why), "{told}: {text}");
                            if text.contains("--recover") {
                                recover(target).unwrap_or_else(|e| panic!("{told}: {e}"));
                                cuts.is_whole(target, &told);
                            } else {
                                assert!(!cuts.is_whole(target, &told), "{told}: {text}");
                            }
                        }
                        // Not a call of the promotion, but of what the program does besides.
                        Some(PANICKED) => {
                            recover(target).unwrap_or_else(|e| panic!("{told}: {e}"));
                            cuts.is_whole(target, &told);
                        }
                        other => panic!("{told}: {other:?} {text}"),
                    }
                });
            }
        }
    }
    println!("{failed} failed");
    assert!(failed > 50);
}

/// So that an unused part of the common code is no surprise.
#[test]
fn the_scenario_has_every_kind_of_step() {
    if !root() {
        return;
    }
    let bed = Bed::new(&tree());
    let container = bed.container();
    change(&container);
    let (base, target): (_, PathBuf) = (bed.base(), bed.target());
    let promotion = Promotion::of(&container, &base).plan(&target).unwrap();
    assert_eq!(promotion.conflicts(), []);
    let text: String = promotion.steps().iter().map(|step| format!("{step}\n")).collect();
    for word in ["create", "replace", "remove", "move", "link", "set attributes", "set time"] {
        assert!(text.lines().any(|line| line.starts_with(word)), "{word} in\n{text}");
    }
    promotion.apply(&Silent).unwrap();
    assert_same(&merged(&container), &dump(&target).to_string(), "the scenario");
}
