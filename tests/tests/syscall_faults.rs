//! Every system call of every operation fails once, is interrupted, moves less than it was asked for, or is the
//! last one of a process that dies: afterwards the tree is the old or the new one, through the living view as
//! after reopening; the errno is the one that was injected; nothing is left over and no descriptor leaks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use stratafs_core::error::errno::{EDQUOT, EINTR, EIO, EMFILE, ENOSPC};
use stratafs_core::{Config, Durability, Stack, View};
use stratafs_dir::faults::{Call, Plan, What, with};
use stratafs_dir::{DirLayer, DirScratch, ScratchOptions};
use stratafs_testkit::host::{Whiteouts, materialise};
use stratafs_testkit::view::{ViewSubject, dump};
use stratafs_testkit::{Dump, Op, Outcome, Subject};
use stratafs_tests::beds::layer_options;
use stratafs_tests::{cuts, need};

type Subjected = ViewSubject<DirLayer, DirScratch>;

/// The layers, and room for one scratch after another.
struct Ground {
    dir: tempfile::TempDir,
    lowers: Vec<PathBuf>,
    durability: Durability,
    scratches: usize,
}

impl Ground {
    /// In memory where possible: this is about calls, not about a disk.
    fn new(durability: Durability) -> Option<Self> {
        if !need::root() {
            return None;
        }
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut lowers = Vec::new();
        for (n, layer) in cuts::stack().layers.iter().enumerate() {
            let at = dir.path().join(format!("lower{n}"));
            std::fs::create_dir(&at).unwrap();
            materialise(layer, std::fs::File::open(&at).unwrap(), Whiteouts::Trusted).unwrap();
            lowers.push(at);
        }
        Some(Self { dir, lowers, durability, scratches: 0 })
    }

    /// A scratch of its own, with everything done that comes before.
    fn prepare(&mut self, before: &[Op]) -> Bench {
        self.scratches += 1;
        let at = self.dir.path().join(self.scratches.to_string());
        let bench = Bench { at, lowers: self.lowers.clone(), durability: self.durability };
        if !before.is_empty() {
            let mut subject = bench.open();
            before.iter().for_each(|op| drop(subject.apply(op).expect("the set-up works")));
        }
        bench
    }
}

/// One scratch.
struct Bench {
    at: PathBuf,
    lowers: Vec<PathBuf>,
    durability: Durability,
}

impl Bench {
    fn open(&self) -> Subjected {
        let (at, lowers, durability) = (self.at.clone(), self.lowers.clone(), self.durability);
        ViewSubject::new(move || {
            let options = layer_options(stratafs_dir::Resolver::Auto);
            let layers = lowers.iter().map(|at| DirLayer::open(at, &options).unwrap()).collect();
            let scratch = DirScratch::create(at.join("upper"), at.join("work"), &ScratchOptions::default());
            let stack = Stack { layers, scratch: Some(scratch.unwrap()) };
            View::new(stack, Config { durability, ..Config::default() }).unwrap()
        })
    }

    /// What is in the staging directory besides the shared whiteout.
    fn residue(&self) -> Vec<String> {
        let staged = std::fs::read_dir(self.at.join("work/work")).unwrap().map(Result::unwrap);
        let other = staged.filter(|e| !e.file_type().unwrap().is_char_device());
        other.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    fn remove(self) {
        std::fs::remove_dir_all(&self.at).unwrap();
    }
}

fn fds_below(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    links.filter_map(|e| std::fs::read_link(e.unwrap().path()).ok()).filter(|p| p.starts_with(path)).count()
}

/// What an operation does when nothing fails, and what it does when it is done again.
struct Reference {
    calls: Vec<Call>,
    old: Dump,
    first: (Outcome, Dump),
    second: (Outcome, Dump),
}

fn reference(ground: &mut Ground, before: &[Op], op: &Op) -> Reference {
    let bench = ground.prepare(before);
    let mut subject = bench.open();
    let old = subject.dump();
    subject.reopen();
    let (outcome, calls) = with(None, || subject.apply(op));
    let first = (outcome, subject.dump());
    subject.reopen();
    let again = subject.apply(op);
    let second = (again, subject.dump());
    drop(subject);
    bench.remove();
    Reference { calls, old, first, second }
}

fn is(tree: &Dump, want: &Dump) -> bool {
    tree.diff_but(want, &cuts::same).is_none()
}

impl Reference {
    #[track_caller]
    fn judge(&self, tree: &Dump, outcome: &Outcome, what: &str) {
        if !is(tree, &self.old) && !is(tree, &self.first.1) {
            let against = |dump: &Dump| dump.diff(tree).unwrap_or_default();
            let (old, new) = (against(&self.old), against(&self.first.1));
            panic!("{what}: neither old nor new\nagainst old:\n{old}against new:\n{new}{outcome:?}");
        }
        if outcome.is_ok() {
            assert!(is(tree, &self.first.1), "{what}: said done, and the tree is the old one");
        }
    }

    /// Done again in the state that it is in, the operation does what it does there.
    #[track_caller]
    fn judge_again(&self, tree: &Dump, again: &(Outcome, Dump), what: &str) {
        let fits =
            |from: &Dump, to: &(Outcome, Dump)| is(tree, from) && to.0 == again.0 && is(&again.1, &to.1);
        assert!(
            fits(&self.old, &self.first) || fits(&self.first.1, &self.second),
            "{what}: done again: {:?}, expected {:?} or {:?}\n{:?}",
            again.0,
            self.first.0,
            self.second.0,
            again.1.diff(&self.first.1)
        );
    }
}

/// Each case with each fault at each call.
fn check(durability: Durability, faults: &[What]) {
    let Some(mut ground) = Ground::new(durability) else { return };
    let mut points = 0;
    for (before, op) in cuts::cases() {
        let clean = reference(&mut ground, &before, &op);
        for (at, call) in clean.calls.iter().enumerate() {
            let moves_data = matches!(call, Call::Read | Call::Write | Call::CopyRange);
            for what in faults.iter().filter(|what| **what != What::Short || moves_data) {
                point(&mut ground, &clean, &before, &op, Plan { at, what: *what });
                points += 1;
            }
        }
    }
    println!("syscalls: {points} points, {durability:?}");
    assert!(points > 500, "operations make calls");
}

fn point(ground: &mut Ground, clean: &Reference, before: &[Op], op: &Op, plan: Plan) {
    let what = format!("{op:?} after {before:?}, {plan:?} of {} calls", clean.calls.len());
    let bench = ground.prepare(before);
    let mut subject = bench.open();
    let (outcome, live) = match plan.what {
        What::Die => {
            let outcome = with(Some(plan), || {
                let outcome = subject.apply(op);
                subject.close();
                outcome
            });
            (outcome.0, None)
        }
        _ => {
            let outcome = with(Some(plan), || subject.apply(op)).0;
            let live = dump(subject.view()).unwrap_or_else(|e| panic!("{what}: {e}"));
            // What a clean-up after success cannot remove goes at the next opening.
            if outcome.is_err() {
                assert_eq!(bench.residue(), [""; 0], "{what}");
            }
            subject.close();
            (outcome, Some(live))
        }
    };
    match (plan.what, &outcome) {
        (What::Fail(EINTR) | What::Short, _) => assert_eq!(outcome, clean.first.0, "{what}"),
        (What::Fail(errno), Err(got)) if clean.first.0.is_ok() => assert_eq!(*got, errno, "{what}"),
        _ => {}
    }
    assert_eq!(fds_below(&bench.at), 0, "{what}: descriptors leak");
    let mut subject = bench.open();
    assert_eq!(bench.residue(), [""; 0], "{what}: after reopening");
    let tree = subject.dump();
    clean.judge(&tree, &outcome, &what);
    if let Some(live) = live {
        live.assert_same(&tree, &format!("{what}: reopening changed the tree"));
    }
    let again = (subject.apply(op), subject.dump());
    clean.judge_again(&tree, &again, &what);
    drop(subject);
    bench.remove();
}

#[test]
fn every_call_fails_with_eio() {
    check(Durability::Ordered, &[What::Fail(EIO)]);
}

#[test]
fn every_call_fails_with_enospc_or_edquot() {
    check(Durability::Volatile, &[What::Fail(ENOSPC), What::Fail(EDQUOT)]);
}

#[test]
fn every_call_fails_with_emfile() {
    check(Durability::Strict, &[What::Fail(EMFILE)]);
}

#[test]
fn every_call_is_interrupted_or_short() {
    check(Durability::Ordered, &[What::Fail(EINTR), What::Short]);
}

#[test]
fn every_call_is_the_last_one() {
    check(Durability::Ordered, &[What::Die]);
}

#[test]
fn every_call_is_the_last_one_strict() {
    check(Durability::Strict, &[What::Die]);
}
