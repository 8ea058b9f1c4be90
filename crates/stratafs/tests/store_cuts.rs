//! Every verb of a store cut at each step, and failed at each step: this program runs itself under strace(1), which kills
//! it or fails its call at the first, second, third ... call that changes something. Afterwards the store must open, the
//! state be the old or the new one, gc remove the rest, and nothing that is referred to be lost.
//!
//! No harness of its own: the process that is cut must make no other calls.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use stratafs::oci::Digest;
use stratafs::store::{ContainerConfig, ContainerName, LayerFacts, LayerKey, SnapshotName, Store};
use stratafs::{Durability, ErrorKind};

/// Names the verb in the process that is cut.
const VERB: &str = "STRATAFS_CUT_VERB";
/// Names its store.
const ROOT: &str = "STRATAFS_CUT_ROOT";

/// What changes something on disk.
const CALLS: &str = "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,write,pwrite64,fsync,fdatasync,\
                     syncfs,ftruncate,fallocate,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,utimensat,link,\
                     linkat,symlink,symlinkat,mknod,mknodat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,\
                     fremovexattr,flock";
/// Ends the process in front of a call.
const KILL: &str = "signal=KILL";
/// In the state: the layer that is published. Nobody refers to it, so gc takes it.
const NEW_LAYER: &str = "new layer";
/// How many steps of a verb are cut with each fault; all with `STRATAFS_CASES`.
const CUT: usize = 20;
/// No verb makes more of those.
const STEPS_MAX: usize = 400;

const VERBS: [&str; 11] = [
    "create", "snapshot", "strict", "rollback", "discard", "fork", "fork-now", "forget", "remove", "gc",
    "publish",
];

fn name(text: &str) -> ContainerName {
    ContainerName::new(text).unwrap()
}

fn snap(text: &str) -> SnapshotName {
    SnapshotName::new(text).unwrap()
}

fn key(text: &str) -> LayerKey {
    LayerKey::Diff(Digest::of(text.as_bytes()))
}

fn publish(store: &Store, text: &str) -> stratafs::Result<()> {
    let staged = store.stage_layer()?;
    fs::write(staged.frame_path(), text).map_err(|e| stratafs::Error::io(e, "write frame"))?;
    let diff_id = Digest::of(text.as_bytes());
    let facts = LayerFacts { diff_id, bytes: 1, archive_bytes: 2, entries: 3, says_root: false };
    staged.publish(key(text), facts).map(drop)
}

/// Runs a verb on the store that [`prepare`] made.
fn verb(verb: &str, store: &Store) -> stratafs::Result<()> {
    let (c, s) = (name("c"), name("strict"));
    match verb {
        "create" => {
            store.create(Some(name("new")), ContainerConfig::new([store.root().join("../layer")])).map(drop)
        }
        "snapshot" => store.snapshot(&c, None).map(drop),
        "strict" => store.snapshot(&s, None).map(drop),
        "rollback" => store.rollback(&c, Some(&snap("one"))),
        "discard" => store.discard(&c),
        "fork" => store.fork(&c, &name("new"), Some(&snap("one"))).map(drop),
        "fork-now" => store.fork(&c, &name("new"), None).map(drop),
        "forget" => store.remove_snapshot(&c, &snap("one")),
        "remove" => store.remove(&c),
        "gc" => store.gc().map(drop),
        "publish" => publish(store, "new"),
        _ => panic!("{verb}"),
    }
}

/// A store with a container that has a snapshot and changes, another one, an image, and things that nobody needs.
fn prepare(at: &Path) {
    fs::create_dir_all(at.join("layer/dir")).unwrap();
    fs::write(at.join("layer/file"), "lower").unwrap();
    fs::write(at.join("layer/dir/inner"), "lower").unwrap();
    let store = Store::open(at.join("state")).unwrap();
    let config = ContainerConfig::new([at.join("layer")]);
    store.create(Some(name("c")), config.clone()).unwrap();
    let write = |container: &str, text: &str| {
        let opened = store.open_container(&name(container)).unwrap();
        opened.write("/file", text).unwrap();
        opened.close().unwrap();
    };
    write("c", "one");
    store.snapshot(&name("c"), Some(snap("one"))).unwrap();
    write("c", "two");
    store.create(Some(name("strict")), ContainerConfig { durability: Durability::Strict, ..config }).unwrap();
    write("strict", "strict");
    publish(&store, "kept").unwrap();
    publish(&store, "unused").unwrap();
    // What is read of an image's record here is its layers.
    let record = format!("{{\"version\": 1, \"layers\": [{{\"key\": \"{}\"}}]}}", key("kept"));
    fs::write(store.root().join("images/i.json"), record).unwrap();
    fs::create_dir_all(store.root().join("trash/left/over")).unwrap();
    fs::create_dir_all(store.root().join("scratch/0123456789abcdef/upper/x")).unwrap();
}

/// Everything that somebody could notice, and a check that nothing which is referred to is missing.
fn state(store: &Store) -> Vec<String> {
    let mut out = Vec::new();
    for listed in store.list().unwrap() {
        let record = listed.record.unwrap();
        assert!(!listed.in_use, "{} is in use", listed.name);
        let opened = store.open_container(&listed.name).unwrap();
        let read = |path| match opened.read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => "-".to_owned(),
            Err(e) => panic!("{e}"),
        };
        let changes = opened.changes().unwrap().len();
        out.push(format!("{} {} {} {changes}", listed.name, read("/file"), read("/dir/inner")));
        for snapshot in &record.config.snapshots {
            assert!(snapshot.frozen.iter().all(|layer| layer.path.is_dir()), "{snapshot:?}");
            out.push(format!("{} {} {}", listed.name, snapshot.name, snapshot.frozen.len()));
        }
    }
    assert!(store.pin_layer(&key("kept")).unwrap().is_some());
    if store.pin_layer(&key("new")).unwrap().is_some() {
        out.push(NEW_LAYER.to_owned());
    }
    out
}

/// After gc nothing is left that nobody refers to.
fn is_tidy(store: &Store) {
    let mut used = BTreeSet::new();
    for listed in store.list().unwrap() {
        let record = listed.record.unwrap();
        used.insert(record.scratch_dir().to_owned());
        let snapshots = record.config.snapshots.iter().flat_map(|snapshot| &snapshot.frozen);
        let frozen =
            record.config.layers.iter().chain(snapshots).map(|layer| layer.path.parent().unwrap().to_owned());
        used.extend(frozen.filter(|path| path.starts_with(store.root())));
        assert!(!record.dir.join("config.json.new").exists());
    }
    let entries = |dir: &str| {
        let entries = fs::read_dir(store.root().join(dir)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    assert_eq!(entries("scratch"), used);
    assert_eq!(entries("layers").len(), 1);
    assert_eq!(entries("trash").len(), 0);
}

/// A call of the process: the n-th of its kind, counted from 1 as strace counts.
type Step = (String, usize);

/// Runs `verb` on the store at `root`, with a fault at one step; how it ended, what it said, and its steps.
fn run(root: &Path, verb: &str, fault: Option<(&Step, &str)>) -> (Option<i32>, String, Vec<Step>) {
    let log = root.with_file_name("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &format!("trace={CALLS}")]);
    if let Some(((call, n), fault)) = fault {
        strace.args(["-e", &format!("inject={call}:{fault}:when={n}")]);
    }
    let program = std::env::current_exe().unwrap();
    let output = strace.arg(program).env(VERB, verb).env(ROOT, root).stdin(Stdio::null()).output().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let traced = fs::read_to_string(&log).unwrap_or_else(|e| panic!("{}: {e}: {output:?}", log.display()));
    for line in traced.lines() {
        let call = line.split_whitespace().nth(1).and_then(|text| text.split_once('('));
        // Calls that strace has no name for are shown, and cannot be named.
        let Some((call, _)) = call.filter(|(call, _)| CALLS.split(',').any(|known| known == *call)) else {
            continue;
        };
        let earlier = steps.iter().filter(|(other, _)| other == call).count();
        steps.push((call.to_owned(), earlier + 1));
    }
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), steps)
}

/// Some of `all`, evenly from a start that `seed` says.
fn some<T>(all: &[T], seed: u64) -> Vec<&T> {
    if all.len() <= CUT || std::env::var_os("STRATAFS_CASES").is_some() {
        return all.iter().collect();
    }
    let start = usize::try_from(seed).unwrap() % all.len();
    (0..CUT).map(|n| &all[(n * all.len() + start) / CUT]).collect()
}

/// Cuts `verb` at each step with `fault`, or at some of many.
fn every_step(verb_name: &str, fault: &str, seed: u64) {
    let tmp = tempfile::tempdir().unwrap();
    let template = tmp.path().join("template");
    prepare(&template);
    let fresh = |at: &str| {
        let at = tmp.path().join(at);
        let _ = fs::remove_dir_all(&at);
        assert!(Command::new("cp").arg("-a").args([&template, &at]).status().unwrap().success());
        Store::open(at.join("state")).unwrap()
    };
    let store = fresh("whole");
    let old = state(&store);
    let (code, said, steps) = run(store.root(), verb_name, None);
    assert_eq!(code, Some(0), "{verb_name}: {said}");
    assert!((3..STEPS_MAX).contains(&steps.len()), "{verb_name}: {steps:?}");
    let mut allowed = vec![state(&store)];
    if verb_name == "fork-now" {
        // It takes a snapshot first, which is a whole step of its own.
        allowed.push(allowed[0].iter().filter(|line| !line.starts_with("new ")).cloned().collect());
    }
    let cut = some(&steps, seed);
    for step in &cut {
        let store = fresh("cut");
        let (code, said, _) = run(store.root(), verb_name, Some((step, fault)));
        let context = format!("{verb_name} with {fault} at {step:?}: {code:?} {said}");
        let now = state(&Store::open(store.root()).unwrap());
        match code {
            // What is tried on the host, or only clears up, may fail.
            Some(0) if fault != KILL => assert_eq!(now, allowed[0], "{context}"),
            Some(3) if fault != KILL => assert!(said.contains("error: "), "{context}"),
            None if fault == KILL => {}
            _ => panic!("{context}"),
        }
        assert!(now == old || allowed.contains(&now), "{context}\n{now:?}\n{old:?}");
        store.gc().unwrap_or_else(|e| panic!("{context}: {e}"));
        let referred: Vec<_> = now.into_iter().filter(|line| line != NEW_LAYER).collect();
        assert_eq!(state(&store), referred, "{context}");
        is_tidy(&store);
    }
    println!("{verb_name}, {fault}: {} of {} steps", cut.len(), steps.len());
}

fn main() -> ExitCode {
    if let Ok(asked) = std::env::var(VERB) {
        let root = std::env::var_os(ROOT).unwrap();
        return match Store::open(root).and_then(|store| verb(&asked, &store)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("error: {e}");
                ExitCode::from(3)
            }
        };
    }
    let works = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
        assert!(!required, "STRATAFS_REQUIRE_ALL is set and this is missing: strace");
        println!("skipped: strace");
        return ExitCode::SUCCESS;
    }
    let filter: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let chosen =
        VERBS.iter().filter(|verb| filter.is_empty() || filter.iter().any(|f| verb.contains(f.as_str())));
    let seed = match std::env::var("STRATAFS_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    };
    println!("STRATAFS_SEED={seed}");
    std::thread::scope(|scope| {
        for verb in chosen {
            for fault in [KILL, "error=EIO", "error=ENOSPC"] {
                scope.spawn(move || every_step(verb, fault, seed));
            }
        }
    });
    ExitCode::SUCCESS
}
