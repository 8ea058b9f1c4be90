//! Layers made to harm: marks that lie, privileges to smuggle, trees too deep, names that others take for one.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rustix::fs::{FileType, Mode, XattrFlags, lsetxattr, mknodat};
use std::fs;
use std::path::Path;
use std::time::Duration;
use stratafs_core::error::errno::*;
use stratafs_core::{
    Access, Caller, Config, ErrorKind, Follow, Inode, Kind, Name, New, Result, SetAttr, SetXattr, Stack,
    Untrusted, View,
};
use stratafs_dir::{DirLayer, DirScratch, Formats, LayerOptions, Namespace, ScratchOptions};
use stratafs_mem::{MemLayer, MemScratch};
use stratafs_testkit::view::{contents, dump, entries, find, walk, write};
use stratafs_testkit::{Path as TreePath, TreeSpec};
use stratafs_tests::beds::{DirBed, MemBed, view};
use stratafs_tests::outside::{INSIDE, Place, in_time};
use stratafs_tests::{Mounted, need};

type Dirs = View<DirLayer, DirScratch>;
type Node = Inode<DirLayer, DirScratch>;

const WATCHDOG: Duration = Duration::from_secs(60);
const STACK: usize = 2 << 20;

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn resolve(view: &Dirs, path: &str) -> Result<Node> {
    view.resolve(&view.root(), path.as_bytes(), Follow::Yes, &Caller::root())
}

fn set(path: impl AsRef<Path>, attribute: &str, value: &[u8]) {
    lsetxattr(path.as_ref(), attribute, value, XattrFlags::empty()).unwrap();
}

/// umoci before 0.4.7, the tar crate: attributes of a layer's files are read as overlay marks. A redirect that
/// leads outside is refused where it stands, and the rest can be read.
#[test]
fn redirects_out_of_the_layers_are_refused_at_lookup() {
    if !need::root() {
        return;
    }
    for value in [
        &b"/../../etc"[..],
        b"..",
        b"../outside",
        b"/..",
        b"/a/../../outside",
        b"",
        b"/",
        b"a/b",
        b"/a//b",
        b".",
        b"/./a",
        b"/x\0y",
        &[b'n'; 256],
        &[b'/'; 5000],
    ] {
        for at in ["upper", "layer"] {
            let place = Place::new();
            for dir in [
                "scratch/upper/bad",
                "scratch/upper/good",
                "layer/bad",
                "layer/good",
                "below/bad",
                "below/etc",
            ] {
                fs::create_dir_all(place.at(dir)).unwrap();
            }
            fs::write(place.at("layer/good/f"), INSIDE).unwrap();
            let holder = if at == "upper" { "scratch/upper/bad" } else { "layer/bad" };
            if lsetxattr(place.at(holder), "trusted.overlay.redirect", value, XattrFlags::empty()).is_err() {
                continue;
            }
            let open = |dir: &str| DirLayer::open(place.at(dir), &LayerOptions::default()).unwrap();
            let scratch = place.at("scratch");
            let scratch =
                DirScratch::create(scratch.join("upper"), scratch.join("work"), &ScratchOptions::default());
            let stack = Stack { layers: vec![open("layer"), open("below")], scratch: Some(scratch.unwrap()) };
            let view = View::new(stack, Config::default()).unwrap();
            let error = resolve(&view, "bad").unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {text}", value.escape_ascii());
            assert!(text.contains("redirect") && text.contains(place.at("").to_str().unwrap()), "{text}");
            assert_eq!(contents(&view, &resolve(&view, "good/f").unwrap()).unwrap(), INSIDE);
            place.assert_untouched();
        }
    }
}

/// Redirects that lead to each other: each layer is asked for a name once, so it ends.
#[test]
fn redirects_that_loop_come_to_an_end() {
    if !need::root() {
        return;
    }
    in_time(WATCHDOG, STACK, || {
        let place = Place::new();
        let mut layers = Vec::new();
        for n in 0..5 {
            for dir in ["a", "b", "c/d"] {
                fs::create_dir_all(place.at(&format!("l{n}/{dir}"))).unwrap();
            }
            for (dir, to) in [("a", "b"), ("b", "a"), ("c", "/c/d"), ("c/d", "/c")] {
                set(place.at(&format!("l{n}/{dir}")), "trusted.overlay.redirect", to.as_bytes());
            }
            layers.push(DirLayer::open(place.at(&format!("l{n}")), &LayerOptions::default()).unwrap());
        }
        fs::write(place.at("l4/a/f"), INSIDE).unwrap();
        let stack: Stack<DirLayer, DirScratch> = Stack { layers, scratch: None };
        let view = View::new(stack, Config::default()).unwrap();
        let dump = dump(&view).unwrap();
        assert!(dump.paths().len() < 100, "{dump:?}");
        assert_eq!(contents(&view, &resolve(&view, "a/f").unwrap()).unwrap(), INSIDE);
    });
}

/// CVE-2021-3493, CVE-2023-2640: attributes were set without a check, and became overlay marks below. Those that
/// a caller sets through the view are stored under other names, and who has no privilege sets few.
#[test]
fn cve_2023_2640_overlay_attributes_are_escaped_and_guarded() {
    if !need::root() {
        return;
    }
    for namespace in [Namespace::Trusted, Namespace::User] {
        let place = Place::new();
        fs::create_dir(place.at("layer/d")).unwrap();
        fs::write(place.at("layer/d/f"), INSIDE).unwrap();
        let options = ScratchOptions { namespace: Some(namespace), ..ScratchOptions::default() };
        let open = || {
            let layer =
                DirLayer::open(place.at("layer"), &LayerOptions { namespace, ..LayerOptions::default() });
            let scratch = DirScratch::create(place.at("upper"), place.at("work"), &options).unwrap();
            let stack = Stack { layers: vec![layer.unwrap()], scratch: Some(scratch) };
            View::new(stack, Config::default()).unwrap()
        };
        let view = open();
        let d = resolve(&view, "d").unwrap();
        let user = Caller::user(1000, 1000);
        let everyone = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        view.set_attr(&d, &everyone, &Caller::root()).unwrap();
        for refused in ["trusted.overlay.opaque", "trusted.x", "security.capability", "security.x"] {
            let e = view.set_xattr(&d, refused.as_bytes(), b"y", SetXattr::Any, &user).unwrap_err();
            assert_eq!(e.errno(), EPERM, "{refused}");
        }
        for prefix in ["trusted.overlay.", "user.overlay."] {
            for mark in ["opaque", "redirect", "metacopy", "whiteout", "origin", "overlay.opaque"] {
                let full = format!("{prefix}{mark}");
                let caller = if prefix.starts_with("user") { &user } else { &Caller::root() };
                view.set_xattr(&d, full.as_bytes(), b"y", SetXattr::Any, caller).unwrap();
            }
        }
        drop((d, view));
        let view = open();
        let d = resolve(&view, "d").unwrap();
        assert_eq!(entries(&view, &d).unwrap().len(), 1, "what is below shows");
        let names = view.xattrs(&d).unwrap();
        assert_eq!(names.len(), 12, "{names:?}");
        for name in names {
            assert_eq!(view.xattr(&d, &name).unwrap().unwrap(), b"y");
        }
    }
}

/// overlayfs CVE-2016-1576, CVE-2023-0386, CVE-2021-3847: copy-up took setuid bits and capabilities from a layer
/// that nobody vouched for.
#[test]
fn cve_2023_0386_untrusted_layers_give_no_privilege() {
    const CAPABILITY: &[u8] = &[0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = || -> MemLayer {
        let layer = MemLayer::builder();
        let layer = ["su", "write"].iter().fold(layer, |layer, path| {
            let layer = layer.file(path, b"program").mode(path, 0o6755);
            layer.xattr(path, b"security.capability", CAPABILITY)
        });
        let null = stratafs_core::Device { major: 1, minor: 3 };
        let layer = layer.node("null", Kind::Char, null).dir("sticky", 0o3777);
        layer.file("nobody", b"x").owner("nobody", u32::MAX, u32::MAX).build().unwrap()
    };
    let caller = Caller::root();
    let touch = SetAttr { mtime: Some(stratafs_core::SetTime::Now), ..SetAttr::default() };
    for (untrusted, mode, capability, device) in
        [(Untrusted::TRUST, 0o6755, true, None), (Untrusted::STRIP, 0o755, false, Some(EPERM))]
    {
        let stack = Stack { layers: vec![layer()], scratch: Some(MemScratch::new()) };
        let view = View::new(stack, Config { untrusted, ..Config::default() }).unwrap();
        let at = |path: &str| find(&view, &TreePath::of(path)).unwrap();
        view.set_attr(&at("su"), &touch, &caller).unwrap();
        assert_eq!(view.attr(&at("su")).unwrap().mode, mode);
        assert_eq!(view.xattr(&at("su"), b"security.capability").unwrap().is_some(), capability);
        assert_eq!(view.set_attr(&at("null"), &touch, &caller).err().map(|e| e.errno()), device);
        let e = view.set_attr(&at("nobody"), &touch, &caller).unwrap_err();
        assert_eq!(e.errno(), EOVERFLOW, "{e}");
        view.set_attr(&at("sticky"), &touch, &caller).unwrap();
        assert_eq!(view.attr(&at("sticky")).unwrap().mode, 0o3777, "a directory's bits give no privilege");
        // A write by somebody without privilege clears all of it, whatever the policy.
        view.set_attr(&at("write"), &SetAttr { uid: Some(5), ..SetAttr::default() }, &caller).unwrap();
        view.set_attr(&at("write"), &SetAttr { mode: Some(0o6755), ..SetAttr::default() }, &caller).unwrap();
        view.set_xattr(&at("write"), b"security.capability", CAPABILITY, SetXattr::Any, &caller).unwrap();
        write(&view.open(&at("write"), Access::read_write(), &Caller::user(5, 5)).unwrap(), 0, b"P").unwrap();
        assert_eq!(view.attr(&at("write")).unwrap().mode, 0o755);
        assert_eq!(view.xattr(&at("write"), b"security.capability").unwrap(), None);
    }
}

/// erofs-utils #15 and #18: recursion. A hundred thousand levels on a stack of 256 KiB, in memory.
#[test]
fn a_tree_of_100_000_levels_needs_no_stack_in_memory() {
    in_time(WATCHDOG * 2, 256 << 10, || {
        let bed = MemScratch::new();
        let open = || {
            let stack: Stack<MemLayer, MemScratch> = Stack { layers: Vec::new(), scratch: Some(bed.clone()) };
            View::new(stack, Config::default()).unwrap()
        };
        let view = open();
        let mut dir = view.root();
        for _ in 0..100_000 {
            dir = view.make(&dir, name("d"), &New::dir(0o755), &Caller::root()).unwrap();
        }
        drop((dir, view));
        let view = open();
        let mut dir = view.root();
        for _ in 0..100_000 {
            dir = view.lookup(&dir, name("d")).unwrap().unwrap();
        }
        assert_eq!(entries(&view, &dir).unwrap(), []);
        view.make(&dir, name("f"), &New::file(0o600), &Caller::root()).unwrap();
        for _ in 0..100_000 {
            dir = view.parent(&dir).unwrap();
        }
        assert_eq!(dir, view.root());
        drop((dir, view));
    });
}

/// The same in a directory of the host, down to the copy-up of a file at the bottom.
#[test]
fn a_tree_of_100_000_levels_needs_no_stack_in_directories() {
    if !need::root() {
        return;
    }
    in_time(WATCHDOG * 2, 256 << 10, || {
        let place = Place::new();
        let Ok(tmpfs) = Mounted::tmpfs(&place.at("layer"), "mode=755") else { return need::skip("tmpfs") };
        let mut at = rustix::fs::open(place.at("layer"), rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..100_000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        }
        drop(at);
        let view = place.usual_view("scratch");
        let mut dir = view.root();
        for _ in 0..100_000 {
            dir = view.lookup(&dir, name("d")).unwrap().unwrap();
        }
        assert_eq!(entries(&view, &dir).unwrap(), []);
        assert!(view.changes().unwrap().iter().all(|change| change.path.is_empty()));
        drop((dir, view));
        tmpfs.unmount().unwrap();
    });
}

/// The same row: a file 3,000 levels down, its path of 600 kB, is copied up, found again and listed.
#[test]
fn a_path_of_600_kb_is_copied_up() {
    const LEVELS: usize = 3000;
    if !need::root() {
        return;
    }
    in_time(WATCHDOG * 2, 256 << 10, || {
        let place = Place::new();
        let long = "n".repeat(200);
        let Ok(tmpfs) = Mounted::tmpfs(&place.at("layer"), "mode=755") else { return need::skip("tmpfs") };
        let mut at = rustix::fs::open(place.at("layer"), rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..LEVELS {
            rustix::fs::mkdirat(&at, &long, Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, &long, rustix::fs::OFlags::PATH, Mode::empty()).unwrap();
        }
        mknodat(&at, "f", FileType::RegularFile, Mode::from_raw_mode(0o644), 0).unwrap();
        drop(at);
        fs::create_dir(place.at("scratch")).unwrap();
        let Ok(upper) = Mounted::tmpfs(&place.at("scratch"), "mode=755") else { return need::skip("tmpfs") };
        let parts = vec![long.into_bytes(); LEVELS];
        let open = || place.usual_view("scratch");
        let view = open();
        let dir = walk(&view, &parts).unwrap();
        let file = view.lookup(&dir, name("f")).unwrap().unwrap();
        write(&view.open(&file, Access::read_write(), &Caller::root()).unwrap(), 0, INSIDE).unwrap();
        drop((dir, file, view));
        let view = open();
        let dir = walk(&view, &parts).unwrap();
        let file = view.lookup(&dir, name("f")).unwrap().unwrap();
        assert_eq!(contents(&view, &file).unwrap(), INSIDE);
        let changes = view.changes().unwrap();
        let longest = changes.iter().map(|change| change.path.len()).max();
        assert_eq!(longest, Some(LEVELS * 201 + 1));
        drop((dir, file, view));
        upper.unmount().unwrap();
        tmpfs.unmount().unwrap();
    });
}

/// git CVE-2014-9390, CVE-2024-32002: names that some file system takes for one. Here they are as many as they
/// have bytes.
fn variants<B: stratafs_testkit::conformance::Bed>() {
    let names: Vec<Vec<u8>> = [
        "A",
        "a",
        ".GIT",
        ".git",
        ".g\u{200c}it",
        "GIT~1",
        "f:s",
        "CON",
        "dot.",
        "dot",
        "space ",
        "space",
        "caf\u{e9}",
        "cafe\u{301}",
        "i",
        "I",
        "\u{131}",
        "\u{130}",
        "k",
        "K",
        "\u{212a}",
        ".wh.x",
        ".wh.",
        ".wh..",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        "\\",
        "a\\b",
        "\n",
        "...",
        "*",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .chain([vec![0xff, 0xfe], vec![b'n'; 255], vec![0x80; 255], [&b".wh."[..], &[b'w'; 251]].concat()])
    .collect();
    let below = names
        .iter()
        .step_by(2)
        .fold(TreeSpec::new().symlink("a-link", "a"), |tree, name| tree.file(name, name));
    let Some(bed) = B::new(&[below].into()) else { return };
    let open = || {
        let stack = Stack { layers: bed.layers(), scratch: Some(bed.scratch()) };
        View::new(stack, Config::default()).unwrap()
    };
    let view = open();
    let (root, caller) = (view.root(), Caller::root());
    for name in names.iter().skip(1).step_by(2) {
        let made = view.make(&root, Name::new(name).unwrap(), &New::file(0o644), &caller).unwrap();
        write(&view.open(&made, Access::read_write(), &caller).unwrap(), 0, name).unwrap();
    }
    for name in names.iter().step_by(4) {
        let node = view.lookup(&root, Name::new(name).unwrap()).unwrap().unwrap();
        view.open(&node, Access::read_write(), &caller).unwrap();
    }
    drop((root, view));
    let view = open();
    for name in &names {
        let node = view.lookup(&view.root(), Name::new(name).unwrap()).unwrap().unwrap();
        assert_eq!(&contents(&view, &node).unwrap(), name, "{}", name.escape_ascii());
    }
    assert_eq!(entries(&view, &view.root()).unwrap().len(), names.len() + 1);
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'n'; 256]] {
        assert!(Name::new(bad).is_err(), "{}", bad.escape_ascii());
    }
}

#[test]
fn cve_2014_9390_names_stay_what_they_are_in_memory() {
    variants::<MemBed>();
}

#[test]
fn cve_2014_9390_names_stay_what_they_are_in_directories() {
    variants::<DirBed>();
}

/// stereoscope #647: a bare `.wh.` deleted its parent. In a layer of that dialect it hides nothing.
#[test]
fn stereoscope_647_bare_whiteout_names_hide_nothing() {
    let place = Place::new();
    for dir in ["layer/d", "below/d", "below/keep"] {
        fs::create_dir_all(place.at(dir)).unwrap();
    }
    for wh in [".wh.", ".wh..", ".wh...", ".wh..wh.plnk", ".wh..wh.aufs", "d/.wh.", "d/.wh..", "d/.wh.gone"] {
        fs::write(place.at("layer").join(wh), b"").unwrap();
    }
    for file in ["below/f", "below/d/f", "below/d/gone", "below/keep/f"] {
        fs::write(place.at(file), INSIDE).unwrap();
    }
    let formats = Formats { aufs: true, ..Formats::default() };
    let open = |dir: &str| {
        DirLayer::open(place.at(dir), &LayerOptions { formats, ..LayerOptions::default() }).unwrap()
    };
    let stack: Stack<_, DirScratch> = Stack { layers: vec![open("layer"), open("below")], scratch: None };
    let view = View::new(stack, Config::default()).unwrap();
    for path in ["f", "d/f", "keep/f"] {
        assert_eq!(contents(&view, &resolve(&view, path).unwrap()).unwrap(), INSIDE, "{path}");
    }
    assert_eq!(resolve(&view, "d/gone").unwrap_err().errno(), ENOENT);
}

/// fuse-overlayfs #306: a whiteout inside an opaque directory. We leave none there, and read past others'.
#[test]
fn fuse_overlayfs_306_no_whiteouts_in_opaque_directories() {
    if !need::root() {
        return;
    }
    let bed = <DirBed as stratafs_testkit::conformance::Bed>::new(
        &[
            TreeSpec::new().opaque("o").whiteout("o/gone").file("o/f", "1"),
            TreeSpec::new().dir("o").file("o/gone", "").file("o/below", "").dir("d").file("d/f", ""),
        ]
        .into(),
    )
    .unwrap();
    let view = view(&bed);
    let (caller, root) = (Caller::root(), view.root());
    assert_eq!(entries(&view, &resolve(&view, "o").unwrap()).unwrap().len(), 1);
    let d = resolve(&view, "d").unwrap();
    view.unlink(&d, name("f"), &caller).unwrap();
    view.rmdir(&root, name("d"), &caller).unwrap();
    let d = view.make(&root, name("d"), &New::dir(0o755), &caller).unwrap();
    view.make(&d, name("f"), &New::file(0o600), &caller).unwrap();
    view.unlink(&d, name("f"), &caller).unwrap();
    assert_eq!(fs::read_dir(bed.upper.join("d")).unwrap().count(), 0);
}
