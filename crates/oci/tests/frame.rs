//! Frame and tree are the archive, and say what is damaged.
#![allow(clippy::unwrap_used, reason = "tests")]

mod apply_help;

use apply_help::*;
use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;
use stratafs_core::*;
use stratafs_mem::MemScratch;
use stratafs_oci::frame::{SAVED_MAX, rejoin, verify};
use stratafs_oci::tar::Entry;
use stratafs_oci::{ApplyOptions, Digest, Limits, Silent, apply};

/// True when a tool is there; else says what is skipped.
fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    let required = std::env::var("STRATAFS_REQUIRE_ALL").is_ok_and(|v| !v.is_empty() && v != "0");
    assert!(found || !required, "STRATAFS_REQUIRE_ALL is set and this is missing: {name}");
    if !found {
        println!("skipped: {name}");
    }
    found
}

fn run(program: &str, at: &Path, args: &[&str]) {
    let out = Command::new(program).args(args).current_dir(at).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A tree with everything that a plain user can make.
fn tree(at: &Path) {
    use std::os::unix::fs::{FileExt, symlink};
    std::fs::create_dir_all(at.join("dir/sub")).unwrap();
    std::fs::create_dir(at.join("empty")).unwrap();
    for (path, len) in
        [("dir/a", 0), ("dir/b", 1), ("dir/sub/c", 511), ("d", 512), ("e", 513), ("large", 700_001)]
    {
        let bytes: Vec<u8> = (0..len).map(|n| (n % 253) as u8 + 1).collect();
        std::fs::write(at.join(path), bytes).unwrap();
    }
    std::fs::hard_link(at.join("large"), at.join("dir/large too")).unwrap();
    symlink("dir/b", at.join("link")).unwrap();
    symlink("t".repeat(90), at.join("dir/to nowhere")).unwrap();
    std::fs::write(at.join("n".repeat(99)), "99").unwrap();
    let hole = std::fs::File::create(at.join("hole")).unwrap();
    hole.set_len(1 << 22).unwrap();
    for n in 1..8 {
        hole.write_all_at(b"data", n * 300_000).unwrap();
    }
}

#[test]
fn archives_of_other_tools_come_back() {
    let bed = tempfile::tempdir().unwrap();
    let root = bed.path().join("tree");
    tree(&root);
    let mut archives = Vec::new();
    if tool("tar") {
        let long = root.join("l".repeat(200)).join("m".repeat(200));
        for format in ["v7", "ustar", "gnu", "pax", "posix"] {
            for more in [
                &["--sparse"][..],
                &[],
                &["--sparse", "--sparse-version=0.0"],
                &["--sparse", "--sparse-version=0.1"],
                &["-b", "1"],
            ] {
                if format == "pax" {
                    std::fs::create_dir_all(&long).unwrap();
                    std::fs::write(long.join("f"), "long").unwrap();
                }
                let name = format!("../gnu-{format}-{}.tar", more.concat());
                let args = [&["-cf", &name, "--format", format, "--xattrs"], more, &["."]].concat();
                run("tar", &root, &args);
                archives.push(name);
            }
        }
    }
    if tool("python3") {
        for (format, name) in [("USTAR_FORMAT", "u"), ("GNU_FORMAT", "g"), ("PAX_FORMAT", "p")] {
            let out = format!("../py-{name}.tar");
            let code = format!(
                "import tarfile; t = tarfile.open('{out}', 'w', format=tarfile.{format}); t.add('dir'); t.add('large'); t.close()"
            );
            run("python3", &root, &["-c", &code]);
            archives.push(out);
        }
    }
    for name in archives {
        let bytes = std::fs::read(root.join(&name)).unwrap();
        let unpacked = unpack_over(&bytes, None).unwrap();
        let hit = find(&unpacked.scratch, "dir/sub/c");
        assert_eq!(
            content(&unpacked.scratch, &hit.node),
            std::fs::read(root.join("dir/sub/c")).unwrap(),
            "{name}"
        );
        assert!(unpacked.frame.len() < 20_000, "{name}: a frame of {} bytes", unpacked.frame.len());
    }
}

fn sample() -> (Unpacked, Vec<u8>) {
    let attribute = vec![(b"user.a".to_vec(), b"b".to_vec())];
    let mut bytes = archive(&[
        dir("."),
        dir("d"),
        (Entry { xattrs: attribute, ..file("d/f", "content").0 }, b"content".to_vec()),
        file("d/g", "content"),
        hard("d/h", "d/g"),
        link("l", "target"),
        null("null"),
        wh(".wh.gone"),
        dir("opaque"),
        wh("opaque/.wh..wh..opq"),
        file("implied/f", "x"),
    ]);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(sparse("sparse", 1 << 20, &[(4096, b"data"), (500_000, b"more")]));
    let unpacked = unpack_over(&bytes, None).unwrap();
    (unpacked, bytes)
}

/// What is found after `harm`, as text.
fn found(harm: impl FnOnce(&MemScratch, &MemNode)) -> Vec<String> {
    let (unpacked, bytes) = sample();
    harm(&unpacked.scratch, &unpacked.scratch.root().unwrap().node);
    damages(&unpacked, &bytes)
        .into_iter()
        .map(|damage| format!("{}: {}", damage.path.escape_ascii(), damage.what))
        .collect()
}

type MemNode = <MemScratch as Layer>::Node;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn remove(s: &MemScratch, path: &str) {
    let (dir, last) =
        path.rsplit_once('/').map_or((s.root().unwrap().node, path), |(d, n)| (find(s, d).node, n));
    s.remove(&find(s, path).node, At { dir: &dir, name: name(last) }, Leave::Nothing).unwrap();
}

fn put(s: &MemScratch, path: &str, kind: Kind) {
    let (dir, last) =
        path.rsplit_once('/').map_or((s.root().unwrap().node, path), |(d, n)| (find(s, d).node, n));
    let seed = Seed { kind, mode: 0o644, uid: 0, gid: 0, rdev: Device::default(), target: b"x" };
    let staged = s.stage(&seed).unwrap();
    s.publish(staged, At { dir: &dir, name: name(last) }, Over::Nothing).unwrap();
}

fn keep_time(s: &MemScratch, path: &str, harm: impl FnOnce()) {
    let hit = if path.is_empty() { s.root().unwrap() } else { find(s, path) };
    harm();
    s.set_attr(&hit.node, &SetAttr::times_of(&hit.attr)).unwrap();
}

#[test]
fn every_kind_of_damage_is_named() {
    assert_eq!(found(|_, _| {}), Vec::<String>::new());
    let write = |path: &'static str, text: &'static [u8], at: u64| {
        found(move |s, _| {
            keep_time(s, path, || {
                s.open_write(&find(s, path).node).unwrap().write_at(text, at).unwrap();
            });
        })
    };
    assert_eq!(write("d/f", b"C", 0), ["d/f: its content is not what it was"]);
    assert_eq!(write("sparse", b"x", 500_003), ["sparse: its content is not what it was"]);
    assert_eq!(write("sparse", b"x", 9_000), ["sparse: its content is not what it was"]);
    assert_eq!(write("sparse", b"x", (1 << 20) - 1), ["sparse: its content is not what it was"]);
    assert_eq!(write("implied/f", b"y", 0), ["implied/f: its content is not what it was"]);
    let longer = write("d/f", b"content and more", 0);
    assert_eq!(longer, ["d/f: it has 16 bytes and had 7"]);
    let cut =
        found(|s, _| keep_time(s, "d/f", || s.open_write(&find(s, "d/f").node).unwrap().set_len(3).unwrap()));
    assert_eq!(cut, ["d/f: it has 3 bytes and had 7", "d/f: its content is shorter than it was"]);

    let set =
        |path: &'static str, set: SetAttr| found(move |s, _| s.set_attr(&find(s, path).node, &set).unwrap());
    let none = SetAttr::default();
    assert_eq!(set("d/f", SetAttr { mode: Some(0o4644), ..none }), ["d/f: its mode is 4644 and was 0644"]);
    assert_eq!(set("d", SetAttr { uid: Some(9), ..none }), ["d: its owner is 9:0 and was 0:0"]);
    assert_eq!(set("l", SetAttr { gid: Some(9), ..none }), ["l: its owner is 0:9 and was 0:0"]);
    assert_eq!(
        set("implied", SetAttr { mode: Some(0o700), ..none }),
        ["implied: its mode is 0700 and was 0755"]
    );
    let time = Some(SetTime::At(Time { secs: 1, nanos: 2 }));
    assert_eq!(
        set("null", SetAttr { mtime: time, ..none }),
        ["null: its modification time is 1.000000002 and was 1600000000.123456789"]
    );
    let root = found(|s, root| s.set_attr(root, &SetAttr { mode: Some(0o700), ..none }).unwrap());
    assert_eq!(root, [": its mode is 0700 and was 0755"]);

    let attribute = |name: &'static [u8], value: Option<&'static [u8]>| {
        found(move |s, _| match value {
            Some(value) => s.set_xattr(&find(s, "d/f").node, name, value, SetXattr::Any).unwrap(),
            None => s.remove_xattr(&find(s, "d/f").node, name).unwrap(),
        })
    };
    assert_eq!(attribute(b"user.a", Some(b"c")), ["d/f: its attribute user.a is not what it was"]);
    assert_eq!(attribute(b"user.a", None), ["d/f: it lost the attribute user.a"]);
    assert_eq!(attribute(b"user.c", Some(b"")), ["d/f: it has the attribute user.c and had not"]);

    let lost =
        |path: &'static str, dir: &'static str| found(move |s, _| keep_time(s, dir, || remove(s, path)));
    assert_eq!(lost("d/f", "d"), ["d/f: it is missing"]);
    assert_eq!(lost("l", ""), ["l: it is missing"]);
    assert_eq!(lost("d/h", "d"), ["d/g: it has 1 names and had 2", "d/h: it is missing"]);
    let extra = found(|s, _| keep_time(s, "d", || put(s, "d/extra", Kind::File)));
    assert_eq!(extra, ["d/extra: it was not there"]);
    let hidden = found(|s, _| {
        keep_time(s, "d", || s.whiteout(At { dir: &find(s, "d").node, name: name("w") }).unwrap())
    });
    assert_eq!(hidden, ["d/w: a whiteout that was not there"]);
    let other = found(|s, _| {
        keep_time(s, "", || {
            remove(s, "l");
            put(s, "l", Kind::Fifo);
        });
    });
    assert_eq!(other, ["l: it is a Fifo and was a Symlink"]);
    let target = found(|s, _| {
        keep_time(s, "", || {
            let attr = find(s, "l").attr;
            remove(s, "l");
            put(s, "l", Kind::Symlink);
            s.set_attr(&find(s, "l").node, &SetAttr::times_of(&attr)).unwrap();
        });
    });
    assert_eq!(target, ["l: its target is not what it was"]);
    let shown = found(|s, root| {
        keep_time(s, "", || {
            let staged = s.stage(&Seed {
                kind: Kind::Fifo,
                mode: 0,
                uid: 0,
                gid: 0,
                rdev: Device::default(),
                target: b"",
            });
            s.publish(staged.unwrap(), At { dir: root, name: name("gone") }, Over::Whiteout).unwrap();
        });
    });
    assert_eq!(shown, ["gone: it was a whiteout and is an object"]);
    assert_eq!(
        found(|s, _| s.mark(&find(s, "d").node, Mark::Opaque).unwrap()),
        ["d: it hides what is below and did not"]
    );
    let linked = found(|s, _| {
        keep_time(s, "d", || {
            let attr = find(s, "d/h").attr;
            remove(s, "d/h");
            put(s, "d/h", Kind::File);
            let file = s.open_write(&find(s, "d/h").node).unwrap();
            file.write_at(b"content", 0).unwrap();
            s.set_attr(&find(s, "d/h").node, &SetAttr::times_of(&attr)).unwrap();
        });
    });
    assert_eq!(linked.len(), 2, "{linked:?}");
    assert!(
        linked[0].contains("d/g: it has 1 names") && linked[1].contains("not the same object"),
        "{linked:?}"
    );
    let one = found(|s, _| {
        keep_time(s, "d", || {
            remove(s, "d/f");
            s.link(&find(s, "d/g").node, At { dir: &find(s, "d").node, name: name("f") }, Over::Nothing)
                .unwrap();
        });
    });
    assert!(
        one.iter().any(|d| d == "d/f: it has 3 names and had 1") && one.iter().any(|d| d.starts_with("d/g")),
        "{one:?}"
    );
    let redirect = Redirect::parse(b"/etc").unwrap();
    let marked = found(|s, _| s.mark(&find(s, "d").node, Mark::Redirect(&redirect)).unwrap());
    assert_eq!(marked.len(), 1, "{marked:?}");
}

#[test]
fn a_file_that_was_copied_up_for_a_link_is_verified_too() {
    let below = below(|b| b.dir("d", 0o755).file("d/f", "below").mode("d/f", 0o640));
    let bytes = archive(&[hard("h", "d/f")]);
    let unpacked = unpack_over(&bytes, Some(&below)).unwrap();
    let node = find(&unpacked.scratch, "d/f").node;
    let hit = find(&unpacked.scratch, "h");
    unpacked.scratch.open_write(&node).unwrap().write_at(b"B", 0).unwrap();
    unpacked.scratch.set_attr(&node, &SetAttr::times_of(&hit.attr)).unwrap();
    let found = damages(&unpacked, &bytes);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].path.as_slice(), found[0].what.as_str()),
        (&b"h"[..], "its content is not what it was")
    );
}

#[test]
fn a_name_that_such_a_file_keeps_is_missed_and_one_that_it_lost_is_found() {
    let below = below(|b| b.dir("d", 0o755).file("d/f", "below").hard_link("d/g", "d/f"));
    let bytes = archive(&[hard("h", "d/f"), wh("d/.wh.g")]);
    let unpacked = unpack_over(&bytes, Some(&below)).unwrap();
    let (dir, file) = (find(&unpacked.scratch, "d"), find(&unpacked.scratch, "d/f"));
    let time = SetAttr::times_of(&dir.attr);
    let at = |name: &'static [u8]| At { dir: &dir.node, name: Name::new(name).unwrap() };
    unpacked.scratch.link(&file.node, at(b"g"), Over::Whiteout).unwrap();
    unpacked.scratch.remove(&file.node, at(b"f"), Leave::Nothing).unwrap();
    unpacked.scratch.set_attr(&dir.node, &time).unwrap();
    let found = damages(&unpacked, &bytes);
    let said: Vec<_> = found.iter().map(|d| (d.path.as_slice(), d.what.as_str())).collect();
    assert_eq!(said, [(&b"d/f"[..], "it is missing"), (b"d/g", "it was a whiteout and is an object")]);
}

#[test]
fn another_digest_is_named_when_nothing_else_is_wrong() {
    let (unpacked, _) = sample();
    let other = Digest::of(b"other");
    let found = verify(Cursor::new(&unpacked.frame), &unpacked.scratch, &other, &Limits::default()).unwrap();
    assert!(
        found.len() == 1 && found[0].path.is_empty() && found[0].what.contains(&other.to_string()),
        "{found:?}"
    );
}

#[test]
fn rejoining_a_damaged_tree_ends_at_the_damage() {
    let (unpacked, _) = sample();
    unpacked.scratch.open_write(&find(&unpacked.scratch, "d/f").node).unwrap().write_at(b"C", 0).unwrap();
    let mut out = Vec::new();
    let e =
        rejoin(Cursor::new(&unpacked.frame), &unpacked.scratch).unwrap().read_to_end(&mut out).unwrap_err();
    assert!(e.to_string().contains("d/f"), "{e}");
    let empty = MemScratch::new();
    let e = rejoin(Cursor::new(&unpacked.frame), &empty).unwrap().read_to_end(&mut out).unwrap_err();
    assert!(e.to_string().contains("lost"), "{e}");
}

#[test]
fn a_damaged_frame_is_said_so_and_nothing_else_happens() {
    let (unpacked, bytes) = sample();
    let digest = Digest::of(&bytes);
    let limits = Limits::default();
    let tree = &unpacked.scratch;
    let check = |frame: &[u8]| verify(Cursor::new(frame), tree, &digest, &limits);
    for end in 0..unpacked.frame.len() {
        assert_eq!(check(&unpacked.frame[..end]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {end}");
    }
    for at in 0..unpacked.frame.len() {
        for bit in [0, 7] {
            let mut frame = unpacked.frame.clone();
            frame[at] ^= 1 << bit;
            match check(&frame) {
                // The number of the format is a byte like any other.
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    assert!(e.to_string().contains("version"), "{e}")
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Corrupt, "byte {at}: {e}"),
                // Some bits of zstd's header mean nothing.
                Ok(found) => assert_eq!(found, [], "byte {at}"),
            }
        }
    }
    let bomb = zstd::encode_all(std::io::repeat(1).take(64 << 20), 1).unwrap();
    assert_eq!(check(&bomb).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn contents_that_were_replaced_are_kept_up_to_a_limit() {
    let old: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let items =
        [file("f", &old), file("f", "2"), hard("g", "f"), file("f", "3"), link("f", "x"), file("f", "4")];
    unpack(&items).unwrap();
    let large = usize::try_from(SAVED_MAX).unwrap() / 2 + 1;
    let bytes = archive(&[
        file("f", vec![b'1'; large]),
        file("f", vec![b'2'; large]),
        file("f", "3"),
        file("f", "4"),
    ]);
    let (scratch, sink) = (MemScratch::new(), Sink::default());
    let options = ApplyOptions { frame: Some(Box::new(sink.clone())), ..options() };
    apply(bytes.as_slice(), &scratch, &|| Ok(None::<Below>), options, &Silent).unwrap();
    let e = rejoin(Cursor::new(sink.bytes()), &scratch).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    let digest = Digest::of(&bytes);
    let check = || verify(Cursor::new(sink.bytes()), &scratch, &digest, &Limits::default()).unwrap();
    assert_eq!(check(), []);
    scratch.open_write(&find(&scratch, "f").node).unwrap().write_at(b"5", 0).unwrap();
    assert!(check().iter().any(|damage| damage.path == b"f" && damage.what.contains("content")));
}
