//! Archives by hand, layers in memory, and trees as text.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use stratafs_core::*;
use stratafs_mem::{LayerBuilder, MemLayer, MemScratch};
use stratafs_oci::frame::{Damage, rejoin, verify};
use stratafs_oci::tar::{Entry, EntryKind, Extent, Writer};
use stratafs_oci::{Applied, ApplyOptions, Digest, Limits, Silent, apply};

/// When things of archives changed, unless they say otherwise.
pub const WHEN: Time = Time { secs: 1_600_000_000, nanos: 123_456_789 };

pub fn entry(path: impl AsRef<[u8]>, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Dir { 0o755 } else { 0o644 };
    Entry { mode, mtime: WHEN, ..Entry::new(path.as_ref(), kind) }
}

/// Entries with the contents of files.
pub type Item = (Entry, Vec<u8>);

pub fn file(path: &str, content: impl AsRef<[u8]>) -> Item {
    let content = content.as_ref().to_vec();
    (Entry { size: content.len() as u64, ..entry(path, EntryKind::File) }, content)
}

pub fn dir(path: &str) -> Item {
    (entry(path, EntryKind::Dir), Vec::new())
}

pub fn link(path: &str, target: &str) -> Item {
    (entry(path, EntryKind::Symlink(target.into())), Vec::new())
}

pub fn hard(path: &str, target: &str) -> Item {
    (entry(path, EntryKind::Hardlink(target.into())), Vec::new())
}

pub fn null(path: &str) -> Item {
    (entry(path, EntryKind::Char(Device { major: 1, minor: 3 })), Vec::new())
}

pub fn fifo(path: &str) -> Item {
    (entry(path, EntryKind::Fifo), Vec::new())
}

/// A whiteout, or an opaque mark.
pub fn wh(path: &str) -> Item {
    file(path, "")
}

pub fn archive(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in items {
        writer.append(entry, &mut content.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// What a frame is written to.
#[derive(Debug, Clone, Default)]
pub struct Sink(pub Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// A layer that was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    pub scratch: MemScratch,
    pub applied: Applied,
    pub frame: Vec<u8>,
}

pub type Below = View<MemLayer, MemScratch>;

pub fn view(layers: Vec<MemLayer>) -> Below {
    View::new(Stack { layers, scratch: None }, Config::default()).unwrap()
}

pub fn below(build: impl FnOnce(LayerBuilder) -> LayerBuilder) -> Below {
    view(vec![build(MemLayer::builder()).build().unwrap()])
}

pub fn options() -> ApplyOptions {
    ApplyOptions { escaped: Some("trusted.overlay."), ..ApplyOptions::new("the layer") }
}

/// Unpacks an archive over a view, and checks that frame and tree are the archive.
pub fn unpack_over(archive: &[u8], below: Option<&Below>) -> Result<Unpacked> {
    let (scratch, sink) = (MemScratch::new(), Sink::default());
    let options = ApplyOptions { frame: Some(Box::new(sink.clone())), ..options() };
    let applied = apply(archive, &scratch, &|| Ok(below.cloned()), options, &Silent)?;
    let unpacked = Unpacked { scratch, applied, frame: sink.bytes() };
    assert_eq!(unpacked.applied.diff_id, Digest::of(archive));
    assert_eq!(unpacked.applied.archive_bytes, archive.len() as u64);
    assert!(rejoined(&unpacked.frame, &unpacked.scratch) == archive, "frame and tree are the archive");
    assert_eq!(damages(&unpacked, archive), []);
    Ok(unpacked)
}

pub fn unpack(items: &[Item]) -> Result<Unpacked> {
    unpack_over(&archive(items), None)
}

pub fn rejoined<L: Layer>(frame: &[u8], tree: &L) -> Vec<u8> {
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut rejoin(Cursor::new(frame), tree).unwrap(), &mut all).unwrap();
    all
}

pub fn damages(unpacked: &Unpacked, archive: &[u8]) -> Vec<Damage> {
    verify(Cursor::new(&unpacked.frame), &unpacked.scratch, &Digest::of(archive), &Limits::default()).unwrap()
}

/// What a failed unpacking said.
pub fn refused(items: &[Item]) -> Error {
    refused_over(items, None)
}

pub fn refused_over(items: &[Item], below: Option<&Below>) -> Error {
    let e = unpack_over(&archive(items), below).map(|u| text(&u.scratch)).unwrap_err();
    assert!(e.to_string().contains("the layer"), "names the layer: {e}");
    e
}

/// Everything in a layer as text, one line an object, sorted; `!` is a whiteout, `^` an opaque directory.
pub fn text<L: Layer>(layer: &L) -> String {
    let root = layer.root().unwrap();
    let mut lines = Vec::new();
    if root.marks.opaque {
        lines.push("^".to_string());
    }
    let mut first = std::collections::HashMap::new();
    let mut dirs = vec![(String::new(), root.node)];
    let mut all = Vec::new();
    while let Some((at, node)) = dirs.pop() {
        layer
            .read_dir(&node, &mut |entry| {
                all.push((
                    format!("{at}{}", entry.name.as_bytes().escape_ascii()),
                    node.clone(),
                    entry.name.to_buf(),
                ));
                ControlFlow::Continue(())
            })
            .unwrap();
        while let Some((path, dir, name)) = all.pop() {
            let hit = match layer.lookup(&dir, name.as_name()).unwrap() {
                Found::Whiteout => {
                    lines.push(format!("{path} !"));
                    continue;
                }
                Found::Node(hit) => hit,
                Found::Absent => panic!("{path} is listed and not there"),
            };
            if hit.attr.is_dir() {
                dirs.push((format!("{path}/"), hit.node.clone()));
            }
            lines.push(format!("{path} {}", object(layer, &hit)));
            if hit.attr.nlink > 1 && !hit.attr.is_dir() {
                first.entry(hit.attr.id).or_insert_with(Vec::new).push(path);
            }
        }
    }
    for mut names in first.into_values() {
        names.sort();
        lines.push(format!("~ {}", names.join(" = ")));
    }
    lines.sort();
    lines.join("\n")
}

fn object<L: Layer>(layer: &L, hit: &Hit<L::Node>) -> String {
    let Attr { kind, mode, uid, gid, mtime, rdev, .. } = hit.attr;
    let mut out = match kind {
        Kind::Dir if hit.marks.opaque => "^".into(),
        Kind::Dir => "/".into(),
        Kind::File => format!("{:?}", String::from_utf8_lossy(&content(layer, &hit.node))),
        Kind::Symlink => format!("-> {}", layer.read_link(&hit.node).unwrap().escape_ascii()),
        kind => format!("{kind:?} {}:{}", rdev.major, rdev.minor),
    };
    if !matches!((kind, mode), (Kind::Dir, 0o755) | (Kind::Symlink, _) | (_, 0o644)) {
        out += &format!(" {mode:04o}");
    }
    if (uid, gid) != (0, 0) {
        out += &format!(" {uid}:{gid}");
    }
    if mtime != WHEN {
        out += &format!(" @{}.{}", mtime.secs, mtime.nanos);
    }
    let mut names = layer.xattrs(&hit.node).unwrap();
    names.sort();
    for name in names {
        let value = layer.xattr(&hit.node, &name).unwrap().unwrap();
        out += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
    }
    out
}

pub fn content<L: Layer>(layer: &L, node: &L::Node) -> Vec<u8> {
    let file = layer.open(node).unwrap();
    let mut out = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], done as u64).unwrap() {
            0 => break,
            n => done += n,
        }
    }
    out
}

/// The object at a path of a layer.
pub fn find<L: Layer>(layer: &L, path: &str) -> Hit<L::Node> {
    let mut hit = layer.root().unwrap();
    for name in path.split('/') {
        hit = match layer.lookup(&hit.node, Name::new(name.as_bytes()).unwrap()).unwrap() {
            Found::Node(hit) => hit,
            other => panic!("{path}: {other:?}"),
        };
    }
    hit
}

/// A file of GNU's PAX format 1.0 for sparse files, since the writer writes none.
pub fn sparse(path: &str, size: u64, extents: &[(u64, &[u8])]) -> Vec<u8> {
    let mut map = format!("{}\n", extents.len());
    for (offset, bytes) in extents {
        map += &format!("{offset}\n{}\n", bytes.len());
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    for (_, bytes) in extents {
        data.extend_from_slice(bytes);
    }
    let mut records = Vec::new();
    for (key, value) in [
        ("GNU.sparse.major", "1".to_string()),
        ("GNU.sparse.minor", "0".into()),
        ("GNU.sparse.name", path.into()),
        ("GNU.sparse.realsize", size.to_string()),
    ] {
        let rest = format!(" {key}={value}\n");
        let len = (1..).find(|len: &usize| len.to_string().len() + rest.len() == *len).unwrap();
        records.extend(format!("{len}{rest}").into_bytes());
    }
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, bytes) in [(tar::EntryType::XHeader, &records), (tar::EntryType::Regular, &data)] {
        let mut header = tar::Header::new_ustar();
        header.set_path("sparse").unwrap();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn extent(offset: u64, len: u64) -> Extent {
    Extent { offset, len }
}
