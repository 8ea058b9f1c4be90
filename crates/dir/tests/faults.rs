//! Every system call of every verb fails once, or is the last one before a crash: afterwards the tree is the old or
//! the new one, nothing is left over, no descriptor leaks, and the errno is the one that was injected.
#![cfg(all(target_os = "linux", feature = "faults"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use std::fs;
use std::path::Path;
use stratafs_core::error::errno;
use stratafs_core::*;
use stratafs_dir::faults::{Plan, What, with};
use stratafs_dir::{DirScratch, Namespace, Node, ScratchOptions};

fn options() -> ScratchOptions {
    ScratchOptions { namespace: Some(Namespace::User), ..ScratchOptions::default() }
}

fn seed(kind: Kind) -> Seed<'static> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let target: &[u8] = if kind == Kind::Symlink { b"to" } else { b"" };
    Seed { kind, mode: 0o640, uid, gid, rdev: Device::default(), target }
}

fn put(s: &DirScratch, dir: &Node, n: &str, kind: Kind, over: Over) -> Result<Node> {
    s.publish(s.stage(&seed(kind))?, At { dir, name: name(n) }, over)
}

/// The tree that every verb starts from.
fn prepare(s: &DirScratch) {
    let root = s.root().unwrap().node;
    for (n, len) in [("f", 1), ("g", 2)] {
        let file = put(s, &root, n, Kind::File, Over::Nothing).unwrap();
        s.open_write(&file).unwrap().set_len(len).unwrap();
    }
    let d = put(s, &root, "d", Kind::Dir, Over::Nothing).unwrap();
    s.whiteout(At { dir: &d, name: name("hidden") }).unwrap();
    s.whiteout(At { dir: &root, name: name("w") }).unwrap();
    put(s, &root, "e", Kind::Dir, Over::Nothing).unwrap();
}

/// Names, kinds and sizes below a directory; whiteouts say so.
fn dump(at: &Path) -> Vec<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut out = Vec::new();
    let mut left = vec![at.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let what = match kind.is_char_device() {
                true => "whiteout".to_string(),
                false => format!("{:o} {}", meta.mode(), if kind.is_dir() { 0 } else { meta.size() }),
            };
            let opaque = get(&path, "user.overlay.opaque").map_or("", |_| " opaque");
            out.push(format!("{} {what}{opaque}", path.strip_prefix(at).unwrap().display()));
            if kind.is_dir() {
                left.push(path);
            }
        }
    }
    out.sort();
    out
}

type Verb = fn(&DirScratch) -> Result<()>;

/// Each verb, on the tree of [`prepare`]; each has one commit point.
fn verbs() -> Vec<(&'static str, Verb)> {
    fn of(s: &DirScratch, n: &str) -> Result<Node> {
        match s.lookup(&s.root()?.node, name(n))? {
            Found::Node(hit) => Ok(hit.node),
            other => panic!("{other:?}"),
        }
    }
    fn root(s: &DirScratch) -> Result<Node> {
        Ok(s.root()?.node)
    }
    fn make(s: &DirScratch, kind: Kind, n: &str, over: Over) -> Result<()> {
        put(s, &root(s)?, n, kind, over).map(drop)
    }
    fn remove(s: &DirScratch, n: &str, leave: Leave) -> Result<()> {
        s.remove(&of(s, n)?, At { dir: &root(s)?, name: name(n) }, leave)
    }
    fn rename(s: &DirScratch, from: &str, to: &str, leave: Leave, over: Over) -> Result<()> {
        let root = root(s)?;
        let at = |n| At { dir: &root, name: n };
        s.rename(&of(s, from)?, at(name(from)), at(name(to)), leave, over).map(drop)
    }
    vec![
        ("create a file", |s| make(s, Kind::File, "new", Over::Nothing)),
        ("create a file over a whiteout", |s| make(s, Kind::File, "w", Over::Whiteout)),
        ("create a file over a file", |s| make(s, Kind::File, "f", Over::Object)),
        ("create a link", |s| make(s, Kind::Symlink, "new", Over::Nothing)),
        ("create a fifo over a whiteout", |s| make(s, Kind::Fifo, "w", Over::Whiteout)),
        ("create a directory", |s| make(s, Kind::Dir, "new", Over::Nothing)),
        ("create a directory over a whiteout", |s| make(s, Kind::Dir, "w", Over::Whiteout)),
        ("create a directory over a directory", |s| make(s, Kind::Dir, "d", Over::Object)),
        ("whiteout", |s| s.whiteout(At { dir: &root(s)?, name: name("new") })),
        ("unlink", |s| remove(s, "f", Leave::Nothing)),
        ("unlink to a whiteout", |s| remove(s, "f", Leave::Whiteout)),
        ("rmdir", |s| remove(s, "e", Leave::Nothing)),
        ("rmdir with whiteouts", |s| remove(s, "d", Leave::Nothing)),
        ("rmdir to a whiteout", |s| remove(s, "d", Leave::Whiteout)),
        ("rename", |s| rename(s, "f", "new", Leave::Nothing, Over::Nothing)),
        ("rename to a whiteout", |s| rename(s, "f", "g", Leave::Whiteout, Over::Object)),
        ("rename over a whiteout", |s| rename(s, "f", "w", Leave::Whiteout, Over::Whiteout)),
        ("rename a directory", |s| rename(s, "d", "new", Leave::Whiteout, Over::Nothing)),
        ("rename a directory over a whiteout", |s| rename(s, "d", "w", Leave::Whiteout, Over::Whiteout)),
        ("rename a directory over an empty one", |s| rename(s, "d", "e", Leave::Nothing, Over::Object)),
        ("link", |s| s.link(&of(s, "f")?, At { dir: &root(s)?, name: name("new") }, Over::Nothing).map(drop)),
        ("link over a whiteout", |s| {
            s.link(&of(s, "f")?, At { dir: &root(s)?, name: name("w") }, Over::Whiteout).map(drop)
        }),
        ("exchange", |s| {
            let root = root(s)?;
            let at = |n| At { dir: &root, name: n };
            s.exchange((&of(s, "f")?, at(name("f"))), (&of(s, "d")?, at(name("d")))).map(drop)
        }),
        ("clear", |s| s.clear(&of(s, "d")?, At { dir: &root(s)?, name: name("d") }).map(drop)),
    ]
}

struct Run {
    before: Vec<String>,
    after: Vec<String>,
    calls: usize,
}

/// What the verb does when nothing fails.
fn reference(verb: Verb) -> Run {
    let dir = fast_dir();
    let (upper, work) = (dir.path().join("u"), dir.path().join("w"));
    let s = DirScratch::create(&upper, &work, &options()).unwrap();
    prepare(&s);
    let before = dump(&upper);
    let (done, calls) = with(None, || verb(&s));
    done.unwrap();
    Run { before, after: dump(&upper), calls: calls.len() }
}

/// Only whiteouts that hide nothing may differ from the new tree: none of these verbs has such a window.
fn old_or_new(run: &Run, now: &[String], what: &str) -> bool {
    assert!(
        now == run.before || now == run.after,
        "{what}:\nbefore {:#?}\nafter {:#?}\nnow {now:#?}",
        run.before,
        run.after
    );
    now == run.after
}

fn each_failure(errno: i32) {
    for (what, verb) in verbs() {
        let run = reference(verb);
        assert_ne!(run.before, run.after, "{what}");
        for at in 0..run.calls {
            let dir = fast_dir();
            let (upper, work) = (dir.path().join("u"), dir.path().join("w"));
            let s = DirScratch::create(&upper, &work, &options()).unwrap();
            prepare(&s);
            let fds = fds_below(dir.path());
            let (done, _) = with(Some(Plan { at, what: What::Fail(errno) }), || verb(&s));
            let what = format!("{what}, call {at}, errno {errno}");
            let new = old_or_new(&run, &dump(&upper), &what);
            match done {
                Ok(()) => assert!(new, "{what}: said done"),
                Err(e) => {
                    assert_eq!(e.errno(), errno, "{what}: {e}");
                    assert!(!new, "{what}: said failed: {e}");
                    let left = fs::read_dir(work.join("work")).unwrap().count();
                    assert!(left <= 1, "{what}: more than the shared whiteout is left");
                }
            }
            assert!(fds_below(dir.path()) <= fds + 3, "{what}: descriptors leak");
            drop(s);
            let s = DirScratch::open(&upper, &work, &options()).unwrap();
            assert_eq!(fs::read_dir(work.join("work")).unwrap().count(), 0, "{what}");
            old_or_new(&run, &dump(&upper), &what);
            drop(s);
            assert_eq!(fds_below(dir.path()), 0, "{what}: descriptors leak");
        }
    }
}

fn fds_below(path: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    links.filter_map(|e| fs::read_link(e.unwrap().path()).ok()).filter(|p| p.starts_with(path)).count()
}

#[test]
fn every_call_fails_with_eio() {
    each_failure(errno::EIO);
}

#[test]
fn every_call_fails_with_enospc() {
    each_failure(errno::ENOSPC);
}

#[test]
fn every_call_fails_with_edquot() {
    each_failure(errno::EDQUOT);
}

#[test]
fn every_call_fails_with_emfile() {
    each_failure(errno::EMFILE);
}

#[test]
fn an_interrupted_call_is_made_again() {
    for (what, verb) in verbs() {
        let run = reference(verb);
        for at in 0..run.calls {
            let dir = fast_dir();
            let upper = dir.path().join("u");
            let s = DirScratch::create(&upper, dir.path().join("w"), &options()).unwrap();
            prepare(&s);
            with(Some(Plan { at, what: What::Fail(errno::EINTR) }), || verb(&s)).0.unwrap();
            assert_eq!(dump(&upper), run.after, "{what}, call {at}");
        }
    }
}

#[test]
fn a_crash_at_every_call_leaves_the_old_or_the_new_tree() {
    for (what, verb) in verbs() {
        let run = reference(verb);
        for at in 0..run.calls {
            let dir = fast_dir();
            let (upper, work) = (dir.path().join("u"), dir.path().join("w"));
            let s = DirScratch::create(&upper, &work, &options()).unwrap();
            prepare(&s);
            let (done, _) = with(Some(Plan { at, what: What::Die }), || {
                let done = verb(&s);
                drop(s);
                done
            });
            let what = format!("{what}, cut at call {at}");
            let new = old_or_new(&run, &dump(&upper), &what);
            assert!(new || done.is_err(), "{what}: said done");
            let s = DirScratch::open(&upper, &work, &options()).unwrap();
            old_or_new(&run, &dump(&upper), &what);
            assert_eq!(fs::read_dir(work.join("work")).unwrap().count(), 0, "{what}");
            drop(s);
        }
    }
}

#[test]
fn short_transfers_lose_nothing() {
    let dir = fast_dir();
    let s = DirScratch::create(dir.path().join("u"), dir.path().join("w"), &options()).unwrap();
    let root = s.root().unwrap().node;
    let data: Vec<u8> = (0..2_500_000_u32).map(|i| (i % 253) as u8).collect();
    let source = put(&s, &root, "source", Kind::File, Over::Nothing).unwrap();
    let from = s.open_write(&source).unwrap();
    let mut at = 0;
    while at < data.len() {
        at += from.write_at(&data[at..], at as u64).unwrap();
    }
    let copy = |plan| {
        let staged = s.stage(&seed(Kind::File)).unwrap();
        let to = s.open_write(s.staged(&staged)).unwrap();
        let ((), calls) = with(plan, || to.fill(&from, data.len() as u64).map(drop).unwrap());
        assert!(read_all(&to) == data, "{plan:?}");
        calls.len()
    };
    for at in 0..copy(None) {
        copy(Some(Plan { at, what: What::Short }));
    }
}

#[test]
fn nothing_is_written_after_a_failed_sync() {
    let dir = fast_dir();
    let (upper, work) = (dir.path().join("u"), dir.path().join("w"));
    let s = DirScratch::create(&upper, &work, &options()).unwrap();
    let root = s.root().unwrap().node;
    let f = put(&s, &root, "f", Kind::File, Over::Nothing).unwrap();
    let file = s.open_write(&f).unwrap();
    let plan = Plan { at: 0, what: What::Fail(errno::EIO) };
    assert_eq!(with(Some(plan), || file.sync(Sync::Data)).0.unwrap_err().errno(), errno::EIO);
    for refused in
        [file.write_at(b"x", 0).map(drop), file.sync(Sync::Data), s.sync_all(), s.open_write(&f).map(drop)]
    {
        let e = refused.unwrap_err();
        assert!(e.errno() == errno::EIO && e.to_string().contains("open the scratch anew"), "{e}");
    }
    assert!(file.read_at(&mut [0; 4], 0).is_ok());
    drop((file, s));
    let s = DirScratch::open(&upper, &work, &options()).unwrap();
    s.open_write(&hit(&s, "f").node).unwrap().write_at(b"x", 0).unwrap();
}
