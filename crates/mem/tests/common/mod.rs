//! What the tests of this crate share: short ways to say which object goes where.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use stratafs_core::{
    At, Device, Error, Found, Hit, Kind, Layer, Name, Over, Result, Scratch, Seed, Time, WriteAt,
};
use stratafs_mem::{Clock, MemNode, MemScratch};

pub fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

pub fn at<'a>(dir: &'a MemNode, text: &'a str) -> At<'a, MemNode> {
    At { dir, name: name(text) }
}

pub fn seed(kind: Kind) -> Seed<'static> {
    Seed {
        kind,
        mode: 0o640,
        uid: 7,
        gid: 8,
        rdev: Device::default(),
        target: if kind == Kind::Symlink { b"to" } else { b"" },
    }
}

pub fn root(layer: &impl Layer<Node = MemNode>) -> MemNode {
    layer.root().unwrap().node
}

pub fn put(scratch: &MemScratch, dir: &MemNode, text: &str, kind: Kind) -> MemNode {
    try_put(scratch, dir, text, kind, Over::Nothing).unwrap()
}

pub fn try_put(scratch: &MemScratch, dir: &MemNode, text: &str, kind: Kind, over: Over) -> Result<MemNode> {
    let staged = scratch.stage(&seed(kind))?;
    scratch.publish(staged, at(dir, text), over)
}

pub fn put_bytes(scratch: &MemScratch, dir: &MemNode, text: &str, bytes: &[u8]) -> MemNode {
    let node = put(scratch, dir, text, Kind::File);
    assert_eq!(scratch.open_write(&node).unwrap().write_at(bytes, 0).unwrap(), bytes.len());
    node
}

pub fn hit(layer: &impl Layer<Node = MemNode>, dir: &MemNode, text: &str) -> Hit<MemNode> {
    match layer.lookup(dir, name(text)).unwrap() {
        Found::Node(hit) => hit,
        other => panic!("{text}: {other:?}"),
    }
}

pub fn is_absent(layer: &impl Layer<Node = MemNode>, dir: &MemNode, text: &str) -> bool {
    matches!(layer.lookup(dir, name(text)).unwrap(), Found::Absent)
}

pub fn is_whiteout(layer: &impl Layer<Node = MemNode>, dir: &MemNode, text: &str) -> bool {
    matches!(layer.lookup(dir, name(text)).unwrap(), Found::Whiteout)
}

pub fn nlink(layer: &impl Layer<Node = MemNode>, node: &MemNode) -> u32 {
    layer.attr(node).unwrap().nlink
}

/// Names with their kinds, `None` for a whiteout, as listed.
pub fn list(layer: &impl Layer<Node = MemNode>, dir: &MemNode) -> Vec<(String, Option<Kind>)> {
    let mut out = Vec::new();
    let mut sink = |entry: stratafs_core::RawEntry<'_>| {
        out.push((String::from_utf8(entry.name.as_bytes().to_vec()).unwrap(), entry.kind));
        ControlFlow::Continue(())
    };
    layer.read_dir(dir, &mut sink).unwrap();
    out
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> i32 {
    result.unwrap_err().errno()
}

/// A clock that stands until it is moved.
#[derive(Clone, Default)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    pub fn clock(&self) -> Clock {
        let secs = Arc::clone(&self.0);
        Clock::new(move || secs_at(secs.load(Ordering::SeqCst)))
    }

    /// Moves the clock on by a second and says what it shows.
    pub fn tick(&self) -> Time {
        self.advance(1)
    }

    pub fn advance(&self, secs: i64) -> Time {
        secs_at(self.0.fetch_add(secs, Ordering::SeqCst) + secs)
    }
}

pub fn secs_at(secs: i64) -> Time {
    Time { secs, nanos: 0 }
}
