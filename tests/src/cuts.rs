//! One operation at a time, cut after every step: the tree is the old one or the new one and nothing else.

use crate::beds;
use stratafs_core::error::errno::ENOSPC;
use stratafs_core::{Config, Device, Durability, Kind, SetXattr, Stack, Time, View};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::faulty::{Fault, Faulty, Switch};
use stratafs_testkit::op::{Mode, Op, RenameHow};
use stratafs_testkit::view::ViewSubject;
use stratafs_testkit::{Data, Dump, Entry, Outcome, Path, StackSpec, Subject, TreeSpec, What};

/// The layers that every operation starts from.
#[must_use]
pub fn stack() -> StackSpec {
    let file = |path: &str, seed| Entry::new(path, What::File(Data::seeded(9000, seed))).xattr("user.a", "1");
    let sparse = Data { len: 40_000, seed: 9, hole: Some((4096, 20_480)), literal: None };
    StackSpec::from([
        TreeSpec::new().dir("d").whiteout("d/hidden").file("d/top", "t"),
        TreeSpec::new()
            .dir("d")
            .with(file("d/f", 1))
            .file("d/hidden", "h")
            .dir("d/sub")
            .with(file("d/sub/deep", 2))
            .dir("e")
            .file("e/x", "x")
            .dir("empty")
            .with(file("f", 3))
            .hard_link("g", "f")
            .hard_link("d/h", "f")
            .with(Entry::new("sparse", What::File(sparse)).mode(0o4755).owner(5, 6))
            .symlink("s", "f")
            .with(Entry::new("fifo", What::Node(Kind::Fifo, Device::default()))),
    ])
}

/// What is done before: the operation, and what the tree is made of when it comes.
#[must_use]
pub fn cases() -> Vec<(Vec<Op>, Op)> {
    let p = |text: &str| Path::of(text);
    let unlink = |path: &str| Op::Unlink { path: p(path) };
    let rename = |from: &str, to: &str, how| Op::Rename { from: p(from), to: p(to), how };
    let create = |path: &str| Op::Create { path: p(path), mode: 0o640 };
    let write = |path: &str| Op::Write { path: p(path), offset: 5000, len: 10, fill: b'W' };
    let chmod = |path: &str| Op::Chmod { path: p(path), mode: 0o611 };
    let mkdir = |path: &str| Op::Mkdir { path: p(path), mode: 0o750 };
    let rmdir = |path: &str| Op::Rmdir { path: p(path) };
    let now = |op: Op| (Vec::new(), op);
    let (plain, exchange) = (RenameHow::Plain, RenameHow::Exchange);
    vec![
        now(create("new")),
        now(create("d/sub/new")),
        now(Op::Mkdir { path: p("d/new"), mode: 0o750 }),
        (vec![unlink("d/top")], Op::Mkdir { path: p("d/top"), mode: 0o755 }),
        (vec![unlink("d/f")], create("d/f")),
        now(Op::Symlink { path: p("new"), target: b"t".to_vec() }),
        now(Op::Mknod { path: p("new"), kind: Kind::Fifo, mode: 0o600, rdev: Device::default() }),
        now(write("d/sub/deep")),
        now(write("g")),
        (vec![chmod("f")], write("d/h")),
        (vec![chmod("d/f")], write("d/f")),
        now(Op::Append { path: p("d/f"), len: 7, fill: b'A' }),
        now(Op::Truncate { path: p("sparse"), len: 30_000 }),
        (vec![chmod("sparse")], Op::Truncate { path: p("sparse"), len: 30_000 }),
        now(Op::Open { slot: 0, path: p("d/f"), mode: Mode::Replace }),
        now(chmod("d/f")),
        now(chmod("sparse")),
        now(chmod("d/h")),
        now(chmod("s2")),
        now(Op::Chown { path: p("sparse"), uid: Some(9), gid: None }),
        now(Op::Utimens {
            path: p("d/sub"),
            atime: Time { secs: 1, nanos: 2 },
            mtime: Time { secs: 3, nanos: 4 },
        }),
        now(Op::SetXattr {
            path: p("d/f"),
            name: b"user.a".to_vec(),
            value: b"2".to_vec(),
            how: SetXattr::Any,
        }),
        now(Op::RemoveXattr { path: p("d/f"), name: b"user.a".to_vec() }),
        now(unlink("d/f")),
        now(unlink("d/top")),
        now(unlink("g")),
        (vec![unlink("g"), unlink("f")], unlink("d/h")),
        (vec![create("new")], unlink("new")),
        now(Op::Rmdir { path: p("empty") }),
        (vec![unlink("e/x")], rmdir("e")),
        now(Op::Link { from: p("d/sub/deep"), to: p("e/linked") }),
        now(Op::Link { from: p("g"), to: p("e/linked") }),
        now(rename("d/f", "e/moved", plain)),
        now(rename("d", "moved", plain)),
        now(rename("d/sub", "e/sub", plain)),
        now(rename("f", "e/x", plain)),
        now(rename("d/f", "g", plain)),
        now(rename("d", "empty", plain)),
        (vec![unlink("e/x")], rename("d", "e", plain)),
        (vec![create("new")], rename("new", "d/f", plain)),
        now(Op::Truncate { path: p("d/f"), len: 0 }),
        now(Op::Truncate { path: p("g"), len: 100 }),
        (vec![chmod("f")], Op::Append { path: p("g"), len: 3, fill: b'A' }),
        (vec![unlink("s")], Op::Symlink { path: p("s"), target: b"other".to_vec() }),
        (
            vec![unlink("fifo")],
            Op::Mknod { path: p("fifo"), kind: Kind::Fifo, mode: 0o622, rdev: Device::default() },
        ),
        (vec![unlink("d/sub/deep"), rmdir("d/sub")], Op::Mkdir { path: p("d/sub"), mode: 0o700 }),
        (vec![unlink("d/f")], rename("d/sub", "d/f", plain)),
        (vec![unlink("d/f")], rename("f", "d/f", plain)),
        (vec![unlink("e/x"), unlink("d/f"), chmod("d/top")], rename("d/top", "d/f", plain)),
        (vec![create("new"), chmod("f")], rename("new", "f", plain)),
        (vec![create("new"), unlink("g")], rename("f", "new", plain)),
        (vec![chmod("d/f")], rename("d/f", "moved", plain)),
        (vec![mkdir("new"), create("new/y")], rename("new", "empty", plain)),
        (vec![mkdir("new"), create("new/y"), unlink("e/x")], rename("new", "e", plain)),
        (vec![mkdir("new")], rename("d", "new", plain)),
        (vec![rename("d", "moved", plain)], rename("moved", "e/again", plain)),
        (vec![rename("d", "moved", plain)], rename("moved", "d", plain)),
        (vec![rename("d", "moved", plain)], Op::Mkdir { path: p("d"), mode: 0o755 }),
        (vec![mkdir("new"), create("new/y")], rename("new", "d", exchange)),
        (vec![create("new")], rename("new", "d/f", exchange)),
        now(rename("f", "d/sub/deep", exchange)),
        (vec![chmod("d/f")], Op::Link { from: p("d/f"), to: p("linked") }),
        (vec![unlink("e/x")], Op::Link { from: p("d/f"), to: p("e/x") }),
        (vec![create("new")], Op::Link { from: p("new"), to: p("d/linked") }),
        (vec![unlink("d/f"), unlink("d/top"), unlink("d/h")], unlink("d/sub/deep")),
        (
            vec![unlink("d/f"), unlink("d/top"), unlink("d/h"), unlink("d/sub/deep"), rmdir("d/sub")],
            rmdir("d"),
        ),
        now(rename("d", "f", exchange)),
        now(rename("d/sub", "e", exchange)),
    ]
}

/// A bed whose scratch fails when its switch says so.
#[derive(Clone)]
struct Cut<B> {
    bed: B,
    switch: Switch,
    durability: Durability,
}

type Subjected<B> = ViewSubject<<B as Bed>::L, Faulty<<B as Bed>::S>>;

impl<B: Bed + Clone + 'static> Cut<B> {
    fn new(bed: B, durability: Durability) -> Self {
        Self { bed, switch: Switch::default(), durability }
    }

    fn subject(&self) -> Subjected<B> {
        let this = self.clone();
        ViewSubject::new(move || {
            let scratch = Faulty::new(this.bed.scratch(), this.switch.clone());
            let stack = Stack { layers: this.bed.layers(), scratch: Some(scratch) };
            let config = Config { durability: this.durability, ..Config::default() };
            View::new(stack, config).expect("open the view")
        })
    }

    /// The tree and the operation's outcome with a fault, before and after reopening.
    fn run(&self, before: &[Op], op: &Op, plan: Option<(usize, Fault)>) -> Run {
        let mut subject = self.subject();
        for op in before {
            subject.apply(op).expect("the set-up works");
        }
        let old = subject.dump();
        self.switch.arm(plan);
        let outcome = subject.apply(op);
        let live = (!matches!(plan, Some((_, Fault::Die)))).then(|| {
            let (plan, seen) = (None, self.switch.disarm());
            let live = subject.dump();
            self.switch.arm(plan);
            (live, seen)
        });
        // What died is closed while it is dead: nothing cleans up.
        subject.close();
        let seen = self.switch.disarm();
        let (live, seen) = live.map_or((None, seen), |(live, seen)| (Some(live), seen));
        let reopened = beds::view(&self.bed);
        let after = stratafs_testkit::view::dump(&reopened).expect("read the tree after the fault");
        Run { old, outcome, live, after, seen }
    }
}

struct Run {
    old: Dump,
    outcome: Outcome,
    live: Option<Dump>,
    after: Dump,
    seen: usize,
}

/// Cuts every case after every step. `fresh` gives the same layers with another scratch, `residue` what a bed has
/// left over.
///
/// # Panics
/// When a tree is neither old nor new, or an error is swallowed or another one.
pub fn check<B: Bed + Clone + 'static>(
    durability: Durability,
    fresh: &dyn Fn(&B, usize) -> B,
    residue: &dyn Fn(&B) -> Vec<String>,
) {
    let mut cuts = 0;
    let Some(bed) = B::new(&stack()) else { return };
    let mut scratches = 0;
    let mut cut = || {
        scratches += 1;
        Cut::new(fresh(&bed, scratches), durability)
    };
    for (before, op) in cases() {
        let clean = cut().run(&before, &op, None);
        for step in 0..clean.seen {
            for fault in [Fault::Die, Fault::Fail(ENOSPC)] {
                let cut = cut();
                let run = cut.run(&before, &op, Some((step, fault)));
                let what = format!("{op:?} after {before:?}, {fault:?} at step {step} of {}", clean.seen);
                judge(&clean, &run, fault, &what);
                let left = residue(&cut.bed);
                assert!(left.is_empty(), "{what}: left over {left:?}");
                cuts += 1;
            }
        }
    }
    println!("crash: {cuts} cut points, {durability:?}");
    assert!(cuts > 300, "the cases have steps");
}

/// Publishing in a directory changes its time, filling a file changes the file's, and copy-up sets both back:
/// what stops in between leaves such a time behind, and no more.
#[must_use]
pub fn same(got: &str, want: &str) -> bool {
    let rest = |line: &str| {
        let (head, tail) = line.split_once(" mtime=")?;
        Some((head.to_string(), tail.split_once(' ').map(|(_, rest)| rest.to_string())))
    };
    let only_the_time = got.contains(" mtime=now") && rest(got) == rest(want);
    got == want || only_the_time
}

#[track_caller]
fn judge(clean: &Run, run: &Run, fault: Fault, what: &str) {
    let is = |dump: &Dump, want: &Dump| dump.diff_but(want, &same).is_none();
    if !is(&run.after, &run.old) && !is(&run.after, &clean.after) {
        let old = run.old.diff(&run.after).unwrap_or_default();
        let new = clean.after.diff(&run.after).unwrap_or_default();
        panic!(
            "{what}: neither old nor new.\nagainst old:\n{old}against new:\n{new}outcome {:?}",
            run.outcome
        );
    }
    match (fault, &run.outcome) {
        (Fault::Fail(code), Err(got)) => assert_eq!(*got, code, "{what}: another errno"),
        (Fault::Fail(_), Ok(_)) => {
            assert!(is(&run.after, &clean.after), "{what}: success was claimed, and the tree is the old one");
        }
        (Fault::Die, Err(_)) => {}
        (Fault::Die, Ok(_)) => {
            assert!(is(&run.after, &clean.after), "{what}: success was claimed before the end");
        }
    }
    if let Some(live) = &run.live {
        live.assert_same(&run.after, &format!("{what}: reopening changed the tree"));
    }
}
