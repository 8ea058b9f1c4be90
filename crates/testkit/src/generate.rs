//! Generators: operations over a small alphabet and stacks of one to six layers. Everything is drawn from a
//! [`Source`], so the seeded long runs and the shrinking property tests share one definition.

use crate::dump::Dump;
use crate::op::{Blocks, Mode, Op, RenameHow, SLOTS};
use crate::path::Path;
use crate::rng::{Source, Tape};
use crate::spec::{Data, Entry, StackSpec, TreeSpec, What};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use std::collections::{BTreeMap, BTreeSet};
use stratafs_core::{Device, Kind, SetXattr, Time};

const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
const ODD: [&[u8]; 5] = [b"\xff\xfe", b".wh.a", b"...", b" x\n", b".wh..wh..opq"];
const XATTRS: [&[u8]; 4] = [b"user.a", b"user.b", b"trusted.x", b"trusted.overlay.foo"];
const MODES: [u32; 6] = [0o644, 0o755, 0o600, 0o4755, 0o2770, 0o1777];
const OWNERS: [u32; 3] = [0, 1000, 65_534];

fn name(source: &mut impl Source) -> Vec<u8> {
    if source.chance(4) {
        if source.chance(20) { vec![b'L'; 255] } else { source.pick(&ODD).to_vec() }
    } else {
        source.pick(&NAMES).to_vec()
    }
}

/// A path of one to four components.
pub fn path(source: &mut impl Source) -> Path {
    let depth = [1, 1, 1, 2, 2, 2, 2, 3, 3, 4][source.below(10) as usize];
    Path((0..depth).map(|_| name(source)).collect())
}

/// Paths that likely exist, as a hint for [`op`].
#[derive(Debug, Clone, Default)]
pub struct Known {
    all: Vec<Path>,
    files: Vec<Path>,
}

impl Known {
    /// Of a stack's entries.
    #[must_use]
    pub fn of_stack(stack: &StackSpec) -> Self {
        let entries = || stack.layers.iter().flat_map(|l| &l.entries);
        let all: BTreeSet<_> = entries().map(|e| e.path.clone()).collect();
        let files: BTreeSet<_> =
            entries().filter(|e| matches!(e.what, What::File(_))).map(|e| e.path.clone()).collect();
        Self { all: all.into_iter().collect(), files: files.into_iter().collect() }
    }

    /// Of a tree as it is now.
    #[must_use]
    pub fn of_dump(dump: &Dump) -> Self {
        let all = dump.paths();
        let is_file = |path: &&Path| dump.line(path).is_some_and(|line| line.starts_with("File"));
        Self { files: all.iter().filter(is_file).cloned().collect(), all }
    }
}

/// A path that likely exists, or any.
fn likely(source: &mut impl Source, known: &Known) -> Path {
    if known.all.is_empty() || source.chance(25) { path(source) } else { source.pick(&known.all).clone() }
}

/// A path that is likely a regular file's.
fn file(source: &mut impl Source, known: &Known) -> Path {
    if known.files.is_empty() || source.chance(15) {
        likely(source, known)
    } else {
        source.pick(&known.files).clone()
    }
}

/// A path for a new object: mostly in a directory or under a name that is known.
fn fresh(source: &mut impl Source, known: &Known) -> Path {
    match source.below(3) {
        0 => path(source),
        1 => likely(source, known),
        _ => {
            let base = likely(source, known);
            let dir = if base.0.len() < 4 && source.chance(50) { base } else { base.parent() };
            dir.join(&name(source))
        }
    }
}

fn offset(source: &mut impl Source) -> u64 {
    match source.below(8) {
        0..=3 => u64::from(source.below(64)),
        4 | 5 => u64::from(source.below(10_000)),
        6 => u64::from(source.below(20)) * 4096,
        _ => 65_536 + u64::from(source.below(200_000)),
    }
}

fn len(source: &mut impl Source) -> usize {
    1 + match source.below(4) {
        0..=2 => source.below(100),
        _ => source.below(9000),
    } as usize
}

fn fill(source: &mut impl Source) -> u8 {
    b'A' + source.below(26) as u8
}

/// A time that is long past, so that dumps can tell it from the present.
fn time(source: &mut impl Source) -> Time {
    Time { secs: i64::from(source.below(1_500_000_000)), nanos: source.below(1_000_000_000) }
}

fn device(source: &mut impl Source) -> (Kind, Device) {
    match source.below(4) {
        0 => (Kind::Fifo, Device::default()),
        1 => (Kind::Char, Device { major: 1, minor: 3 }),
        2 => (Kind::Block, Device { major: 7, minor: 200 }),
        _ => (Kind::Socket, Device::default()),
    }
}

/// One operation; `known` are paths that likely exist.
pub fn op(source: &mut impl Source, known: &Known) -> Op {
    let slot = |source: &mut dyn FnMut(u32) -> u32| source(SLOTS as u32) as usize;
    match source.below(100) {
        0..=6 => Op::Create { path: fresh(source, known), mode: *source.pick(&MODES) },
        7..=13 => Op::Write {
            path: file(source, known),
            offset: offset(source),
            len: len(source),
            fill: fill(source),
        },
        14..=19 => {
            Op::Mkdir { path: fresh(source, known), mode: *source.pick(&[0o755, 0o700, 0o2775, 0o1777]) }
        }
        20..=25 => Op::Unlink { path: file(source, known) },
        26..=29 => Op::Rmdir { path: likely(source, known) },
        30..=42 => Op::Rename {
            from: likely(source, known),
            to: fresh(source, known),
            how: *source.pick(&[
                RenameHow::Plain,
                RenameHow::Plain,
                RenameHow::Plain,
                RenameHow::NoReplace,
                RenameHow::Exchange,
            ]),
        },
        43..=44 => Op::Symlink {
            path: fresh(source, known),
            target: source.pick(&[&b"a"[..], b"/b", b"../c", b"none", b"\xff"]).to_vec(),
        },
        45..=50 => Op::Link { from: file(source, known), to: fresh(source, known) },
        51..=53 => Op::Chmod { path: likely(source, known), mode: *source.pick(&MODES) },
        54..=56 => {
            let (uid, gid) = (*source.pick(&OWNERS), *source.pick(&OWNERS));
            let which = source.below(3);
            Op::Chown {
                path: likely(source, known),
                uid: (which != 1).then_some(uid),
                gid: (which != 2).then_some(gid),
            }
        }
        57..=58 => Op::Utimens { path: likely(source, known), atime: time(source), mtime: time(source) },
        59..=62 => Op::SetXattr {
            path: likely(source, known),
            name: source.pick(&XATTRS).to_vec(),
            value: vec![fill(source); source.below(40) as usize],
            how: *source.pick(&[SetXattr::Any, SetXattr::Any, SetXattr::Create, SetXattr::Replace]),
        },
        63 => Op::RemoveXattr { path: likely(source, known), name: source.pick(&XATTRS).to_vec() },
        64 => Op::GetXattr { path: likely(source, known), name: source.pick(&XATTRS).to_vec() },
        65..=66 => {
            let (kind, rdev) = device(source);
            Op::Mknod { path: fresh(source, known), kind, mode: *source.pick(&MODES), rdev }
        }
        67..=68 => Op::Append { path: file(source, known), len: len(source), fill: fill(source) },
        69..=71 => Op::Truncate { path: file(source, known), len: offset(source) },
        72..=73 => Op::Read { path: file(source, known), offset: offset(source), len: len(source) },
        74 => Op::ReadLink { path: likely(source, known) },
        75..=76 => Op::ReadDir { path: likely(source, known) },
        77..=78 => Op::Stat { path: likely(source, known) },
        79..=84 => Op::Open {
            slot: slot(&mut |n| source.below(n)),
            path: file(source, known),
            mode: *source.pick(&[Mode::Read, Mode::Read, Mode::Both, Mode::Write, Mode::Replace]),
        },
        85..=87 => {
            Op::HandleRead { slot: slot(&mut |n| source.below(n)), offset: offset(source), len: len(source) }
        }
        88..=90 => Op::HandleWrite {
            slot: slot(&mut |n| source.below(n)),
            offset: offset(source),
            len: len(source),
            fill: fill(source),
        },
        91 => Op::HandleAppend { slot: slot(&mut |n| source.below(n)), len: len(source), fill: fill(source) },
        92 => Op::HandleTruncate { slot: slot(&mut |n| source.below(n)), len: offset(source) },
        93..=94 => Op::HandleAllocate {
            slot: slot(&mut |n| source.below(n)),
            how: *source.pick(&[Blocks::Punch, Blocks::Reserve, Blocks::ReserveKeepSize]),
            offset: offset(source),
            len: len(source) as u64,
        },
        95..=96 => Op::HandleCopy {
            from: slot(&mut |n| source.below(n)),
            from_offset: offset(source),
            to: slot(&mut |n| source.below(n)),
            offset: offset(source),
            len: len(source) as u64,
        },
        97 => Op::HandleSize { slot: slot(&mut |n| source.below(n)) },
        98 => Op::Close { slot: slot(&mut |n| source.below(n)) },
        _ if source.chance(15) => Op::Reopen,
        _ => Op::Open { slot: slot(&mut |n| source.below(n)), path: file(source, known), mode: Mode::Both },
    }
}

fn entry_of(source: &mut impl Source, path: Path, files: &[Path]) -> Entry {
    let what = match source.below(20) {
        0..=8 => {
            let len = u64::from(match source.below(4) {
                0 => 0,
                1 | 2 => source.below(200),
                _ => source.below(30_000),
            });
            let hole = (len > 9000).then_some((4096, 4096));
            What::File(Data { len, seed: u64::from(source.below(1 << 30)), hole, literal: None })
        }
        9..=12 => What::Dir { opaque: source.chance(20) },
        13 | 14 => What::Whiteout,
        15 => What::Symlink(source.pick(&[&b"a"[..], b"/b/c", b"../x"]).to_vec()),
        16 | 17 if !files.is_empty() => What::HardLink(source.pick(files).clone()),
        18 => {
            let (kind, rdev) = device(source);
            What::Node(kind, rdev)
        }
        _ => What::Dir { opaque: false },
    };
    let mut entry = Entry::new([], what);
    entry.path = path;
    entry.mtime = time(source);
    if source.chance(40) {
        entry.mode = *source.pick(&MODES);
        entry.uid = *source.pick(&OWNERS);
        entry.gid = *source.pick(&OWNERS);
    }
    let user_ok = matches!(entry.what, What::File(_) | What::Dir { .. });
    if user_ok && source.chance(25) {
        entry.xattrs.push((b"user.a".to_vec(), vec![fill(source); source.below(30) as usize]));
    }
    if user_ok && source.chance(10) {
        entry.xattrs.push((b"trusted.x".to_vec(), b"t".to_vec()));
    }
    entry
}

/// A layer of up to `max` drawn entries and the directories they need.
pub fn tree(source: &mut impl Source, max: u32) -> TreeSpec {
    let mut entries = BTreeMap::<Path, Entry>::new();
    let mut closed = BTreeSet::<Path>::new();
    let mut files = Vec::<Path>::new();
    let mut order = Vec::<Path>::new();
    for _ in 0..source.below(max + 1) {
        let at = path(source);
        let above = (0..at.0.len()).map(|n| Path(at.0[..n].to_vec()));
        if entries.contains_key(&at) || above.clone().any(|p| closed.contains(&p)) {
            continue;
        }
        for dir in above.filter(|p| !p.0.is_empty()) {
            if !entries.contains_key(&dir) {
                let mut entry = Entry::new([], What::Dir { opaque: false });
                entry.path = dir.clone();
                entry.mtime = time(source);
                entries.insert(dir.clone(), entry);
                order.push(dir);
            }
        }
        let entry = entry_of(source, at.clone(), &files);
        match entry.what {
            What::Dir { .. } => {}
            What::File(_) => {
                files.push(at.clone());
                closed.insert(at.clone());
            }
            _ => {
                closed.insert(at.clone());
            }
        }
        entries.insert(at.clone(), entry);
        order.push(at);
    }
    TreeSpec { entries: order.iter().filter_map(|path| entries.remove(path)).collect() }
}

/// A stack of one to six layers.
pub fn stack(source: &mut impl Source) -> StackSpec {
    let layers = [1, 2, 2, 3, 3, 4, 5, 6][source.below(8) as usize];
    StackSpec { layers: (0..layers).map(|_| tree(source, 18)).collect() }
}

/// Stacks, shrinking toward fewer layers and entries.
pub fn stacks() -> impl Strategy<Value = StackSpec> {
    vec(any::<u32>(), 0..600).prop_map(|tape| stack(&mut Tape::new(&tape)))
}

/// A stack and operations on it, shrinking toward fewer and simpler operations.
pub fn runs(ops: usize) -> impl Strategy<Value = (StackSpec, Vec<Op>)> {
    (stacks(), vec(vec(any::<u32>(), 24), 0..ops)).prop_map(|(stack, tapes)| {
        let known = Known::of_stack(&stack);
        let ops = tapes.iter().map(|tape| op(&mut Tape::new(tape), &known)).collect();
        (stack, ops)
    })
}
