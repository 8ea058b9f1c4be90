//! Layer archives that hold anything, unpacked over a small view: no panic, memory and time within the limits, and
//! what was accepted comes back from frame and tree, which finds itself undamaged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::{Cursor, Read, Write};
use std::sync::{Arc, LazyLock, Mutex};
use stratafs_core::{Config, Device, Stack, Time, View};
use stratafs_mem::{MemLayer, MemScratch};
use stratafs_oci::frame::{rejoin, verify};
use stratafs_oci::tar::{Entry, EntryKind, Writer};
use stratafs_oci::{ApplyOptions, Limits, Silent, apply};

/// The layers below.
static BELOW: LazyLock<View<MemLayer, MemScratch>> = LazyLock::new(|| {
    let layer = MemLayer::builder()
        .dir("a", 0o750)
        .dir("a/b", 0o755)
        .file("a/f", "below")
        .symlink("l", "a/b")
        .symlink("out", "/../../a")
        .symlink("loop", "loop")
        .file("f", "below")
        .build()
        .expect("a layer");
    View::new(Stack { layers: vec![layer], scratch: None }, Config::default()).expect("a view")
});

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Parts of paths that mean something.
const PARTS: [&str; 16] = [
    "a",
    "b",
    "f",
    "l",
    "out",
    "loop",
    ".wh.a",
    ".wh.f",
    ".wh..wh..opq",
    ".wh..wh.plnk",
    ".wh.",
    ".",
    "..",
    "",
    "new",
    ".wh.l",
];

/// A well-formed archive of odd entries, from a tape of choices.
fn structured(data: &[u8]) -> Vec<u8> {
    let mut tape = data.iter().copied();
    let mut writer = Writer::new(Vec::new());
    while let (Some(what), Some(path), Some(more)) = (tape.next(), tape.next(), tape.next()) {
        let join = |n: u8, m: u8| {
            let parts = [n & 15, n >> 4, m & 15, m >> 4].map(|part| PARTS[usize::from(part)]);
            let used = &parts[..1 + usize::from(m % 3)];
            used.join("/")
        };
        let target = join(more, path).into_bytes();
        let target = if target.is_empty() { b"f".to_vec() } else { target };
        let kind = match what % 8 {
            0 | 1 => EntryKind::File,
            2 | 3 => EntryKind::Dir,
            4 => EntryKind::Symlink(target),
            5 => EntryKind::Hardlink(target),
            6 => EntryKind::Char(Device { major: u32::from(more & 1), minor: u32::from(more >> 1) }),
            _ => EntryKind::Fifo,
        };
        let content = vec![more; if kind == EntryKind::File { usize::from(path) * 7 } else { 0 }];
        let mut entry = Entry::new(join(path, more), kind);
        entry.mode = u32::from(what) << 4 & 0o7777;
        entry.mtime = Time { secs: i64::from(path), nanos: u32::from(more) };
        entry.size = content.len() as u64;
        if what & 0x80 != 0 && entry.kind != EntryKind::Fifo {
            entry.xattrs.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
        }
        // What the writer refuses is in no archive.
        let _ = writer.append(&entry, &mut content.as_slice());
    }
    writer.finish().expect("a whole archive")
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let archive = if first % 2 == 0 { rest.to_vec() } else { structured(rest) };
    let mut limits = Limits::default();
    limits.layer_bytes = 1 << 20;
    limits.entries = 1_000;
    let (scratch, sink) = (MemScratch::new(), Sink::default());
    let options = ApplyOptions {
        limits: limits.clone(),
        frame: Some(Box::new(sink.clone())),
        escaped: Some("trusted.overlay."),
        ..ApplyOptions::new("fuzz")
    };
    let below = || Ok((first % 4 < 2).then(|| BELOW.clone()));
    let Ok(applied) = apply(archive.as_slice(), &scratch, &below, options, &Silent) else { return };
    let frame = sink.0.lock().expect("one thread").clone();
    let mut back = Vec::new();
    rejoin(Cursor::new(&frame), &scratch).expect("a whole frame").read_to_end(&mut back).expect("its tree");
    assert!(back == archive);
    let found = verify(Cursor::new(&frame), &scratch, &applied.diff_id, &limits).expect("a whole frame");
    assert!(found.is_empty(), "{found:?}");
});
