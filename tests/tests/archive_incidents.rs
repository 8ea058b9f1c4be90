//! What went wrong when other systems took in archives and images, and may not happen here: each test is named after
//! one such thing, goes through the whole import of a store, and hashes a tree outside before and after.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::time::Duration;
use stratafs::oci::Limits;
use stratafs_testkit::Path as TreePath;
use stratafs_testkit::rng::{Rng, Source};
use stratafs_tests::archives::{self, Item, Layout, flag, tar};
use stratafs_tests::outside::{INSIDE, SECRET, in_time};
use stratafs_tests::store_bed::{Bed, is_root};
use stratafs_tests::{need, trees};

/// The program that does one verb.
const VERB: &str = env!("CARGO_BIN_EXE_store-verb");
/// How long an import of a few entries may take, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const STACK: usize = 256 << 10;

fn limited(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

fn line(bed: &Bed, image: &str, path: &str) -> Option<String> {
    bed.tree(image).line(&TreePath::of(path)).map(str::to_owned)
}

/// Takes in one layer that must be refused, with nothing left behind and nothing outside touched.
#[track_caller]
fn refused(bed: &Bed, items: &[Item], names: &[&str]) {
    let error = bed.import_layer(&tar(items), "bad").map(drop).unwrap_err();
    let text = error.to_string();
    for name in names {
        assert!(text.contains(name), "{name:?} in {text:?}");
    }
    bed.assert_empty(&text);
    bed.assert_untouched();
}

/// go-archive CVE-2026-17106, podman CVE-2025-11395: a path that was judged as text and then resolved by the host.
#[test]
fn what_goes_through_a_link_stays_inside() {
    let bed = Bed::in_memory();
    let outside = bed.outside().display().to_string();
    let up = format!("{}{outside}", "../".repeat(30));
    for target in [outside.as_str(), up.as_str(), "/proc/self/root", "/proc/self/cwd", "/dev/fd"] {
        let link = Item::symlink("way", target);
        let through = [
            Item::file("way/f", INSIDE),
            Item::dir("way/sub"),
            Item::dir("way/made"),
            Item::symlink("way/f", "elsewhere"),
            Item::hardlink("way/linked", "way/f"),
            Item::hardlink("stolen", "way/f"),
            Item::new(flag::FIFO, "way/fifo"),
            Item::file("way/.wh.f", b""),
            Item::file("way/.wh..wh..opq", b""),
            Item { mode: 0o777, uid: 12345, ..Item::dir("way") },
        ];
        for item in through {
            // In one layer and over two; what comes of it is the image's affair, but not the host's.
            let one = tar(&[link.clone(), item.clone()]);
            let layout =
                Layout::image(&bed.path("layout"), &[tar(std::slice::from_ref(&link)), tar(&[item])]);
            for from in [Ok(one), Err(layout.path())] {
                let done = match from {
                    Ok(archive) => bed.import_layer(&archive, "x"),
                    Err(layout) => bed.import(layout, "x"),
                };
                if done.is_ok() {
                    let tree = format!("{:?}", bed.tree("x"));
                    let secret = stratafs_testkit::dump::Content::file(SECRET);
                    let stratafs_testkit::dump::Content::File { hash, .. } = secret else { unreachable!() };
                    assert!(!tree.contains(&format!("{hash:016x}")), "the secret came in: {tree}");
                    bed.store().remove_image(&"x".parse().unwrap()).unwrap();
                }
                bed.assert_untouched();
            }
            fs::remove_dir_all(bed.path("layout")).unwrap();
        }
    }
}

/// umoci CVE-2021-29136.
#[test]
fn the_root_of_a_layer_can_only_be_a_directory() {
    let bed = Bed::in_memory();
    for root in [".", "./", "./.", "././"] {
        for kind in [flag::FILE, flag::FIFO, flag::CHAR, flag::BLOCK] {
            refused(&bed, &[Item { rdev: (1, 3), ..Item::new(kind, root) }], &[]);
        }
        let outside = bed.outside().display().to_string();
        refused(&bed, &[Item::symlink(root, &outside), Item::file("f", INSIDE)], &[]);
        refused(&bed, &[Item::file("f", INSIDE), Item::hardlink(root, "f")], &[]);
    }
    bed.import_layer(&tar(&[Item { mode: 0o711, ..Item::dir("./") }]), "good").unwrap();
    assert!(line(&bed, "good", "").unwrap().contains("0711"));
}

#[test]
fn paths_that_cannot_be_are_refused_by_name() {
    let bed = Bed::in_memory();
    let long = format!("a/{}", "n".repeat(256));
    for path in ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "/", "//x", long.as_str()] {
        for item in
            [Item::file(path, INSIDE), Item::dir(path), Item::symlink(path, "t"), Item::hardlink(path, "a/f")]
        {
            refused(&bed, &[Item::dir("a"), Item::file("a/f", INSIDE), item], &[&path[..path.len().min(20)]]);
        }
        refused(&bed, &[Item::dir("a"), Item::hardlink("b", path)], &["b"]);
    }
}

/// tar-rs RUSTSEC-2026-0067, CVE-2018-20990, CVE-2021-38511.
#[test]
fn every_ordered_pair_of_kinds_on_one_name() {
    let bed = Bed::in_memory();
    let outside = bed.outside().display().to_string();
    let kinds = |mode: u32| {
        let whiteout = Item::file(".wh.x", b"");
        [
            Some(Item { mode, ..Item::file("x", INSIDE) }),
            Some(Item { mode, ..Item::dir("x") }),
            Some(Item { mode, ..Item::symlink("x", &outside) }),
            Some(Item { mode, ..Item::symlink("x", "y") }),
            Some(Item { mode, ..Item::hardlink("x", "y") }),
            Some(Item { mode, ..Item::new(flag::FIFO, "x") }),
            is_root().then(|| Item { mode, rdev: (1, 3), ..Item::new(flag::CHAR, "x") }),
            is_root().then(|| Item { mode, rdev: (7, 0), ..Item::new(flag::BLOCK, "x") }),
            Some(whiteout),
            Some(Item { mode, ..Item::file("x/child", INSIDE) }),
            Some(Item::file("x/.wh..wh..opq", b"")),
        ]
        .into_iter()
        .flatten()
    };
    let kind_of = |item: &Item| match (item.flag, item.path.as_slice()) {
        (flag::FILE | flag::HARDLINK, b"x") => Some("File"),
        (flag::DIR, _) => Some("Dir"),
        (flag::SYMLINK, _) => Some("Symlink"),
        (flag::FIFO, _) => Some("Fifo"),
        (flag::CHAR, _) => Some("Char"),
        (flag::BLOCK, _) => Some("Block"),
        _ => None,
    };
    let (mut taken, mut refused) = (0, 0);
    for first in kinds(0o700) {
        for second in kinds(0o777) {
            let start = [Item::dir("./"), Item::file("y", INSIDE)];
            let pair = [first.clone(), second.clone()];
            let what = format!("{:?} then {:?}", kind_of(&first), kind_of(&second));
            let one = bed.import_layer(&tar(&[&start[..], &pair].concat()), "one");
            bed.assert_untouched();
            if let Ok(images) = &one {
                // The later entry counts, but a whiteout speaks of what is below and a child wants a directory.
                let want = kind_of(&second).or(kind_of(&first));
                let (tree, path) = (bed.tree("one"), TreePath::of("x"));
                let is = tree.line(&path);
                match want {
                    Some(kind) => {
                        assert!(is.is_some_and(|l| l.starts_with(kind)), "{what}: {is:?}, {images:?}")
                    }
                    None => assert!(is.is_none_or(|l| l.starts_with("Dir")), "{what}: {is:?}"),
                }
                taken += 1;
                bed.store().remove_image(&"one".parse().unwrap()).unwrap();
            } else {
                refused += 1;
            }
            // Over two layers everything may replace everything; only a child cannot be in what is no directory.
            let below = tar(&[&start[..], std::slice::from_ref(&first)].concat());
            let layout = Layout::image(&bed.path("layout"), &[below, tar(std::slice::from_ref(&second))]);
            let two = bed.import(layout.path(), "two");
            bed.assert_untouched();
            if two.is_ok() {
                let (tree, path) = (bed.tree("two"), TreePath::of("x"));
                let is = tree.line(&path);
                match (kind_of(&second), second.path.as_slice()) {
                    (Some(kind), _) => assert!(is.is_some_and(|l| l.starts_with(kind)), "{what}: {is:?}"),
                    (None, b".wh.x") => assert_eq!(is, None, "{what}"),
                    _ => {}
                }
                bed.store().remove_image(&"two".parse().unwrap()).unwrap();
            } else {
                let inside = second.path.starts_with(b"x/");
                assert!(inside || kind_of(&first).is_none(), "{what}, over two layers: {two:?}");
            }
            fs::remove_dir_all(bed.path("layout")).unwrap();
        }
    }
    println!("pairs: {taken} taken, {refused} refused");
    assert!(taken > refused, "most pairs have a meaning");
}

/// stereoscope #647: a bare `.wh.` that deletes its parent.
#[test]
fn whiteouts_of_nothing_delete_nothing() {
    let bed = Bed::in_memory();
    let base = tar(&[Item::dir("./"), Item::dir("d"), Item::file("d/f", INSIDE), Item::file("f", INSIDE)]);
    let over = |name: &str| {
        let layer = tar(&[Item::file(name, b"")]);
        let layout = Layout::image(&bed.path("layout"), &[base.clone(), layer]);
        let done = bed.import(layout.path(), "x");
        fs::remove_dir_all(bed.path("layout")).unwrap();
        bed.assert_untouched();
        done.map(|_| {
            let tree = bed.tree("x");
            bed.store().remove_image(&"x".parse().unwrap()).unwrap();
            tree.paths().iter().map(ToString::to_string).collect::<Vec<_>>()
        })
    };
    for bare in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        let error = over(bare).unwrap_err();
        assert!(error.to_string().contains(bare), "{error}");
    }
    assert_eq!(over(".wh..wh..opq").unwrap(), ["/"], "an opaque root hides everything");
    let all = ["/", "/d", "/d/f", "/f"];
    for nothing in [".wh..wh.plnk", ".wh..wh.aufs", "d/.wh..wh.orph", ".wh..wh.plnk/f"] {
        assert_eq!(over(nothing).unwrap(), all, "{nothing}");
    }
    assert!(over(".wh.d/f").is_err(), "a whiteout is not a directory");
    assert_eq!(over(".wh.d").unwrap(), ["/", "/f"]);
}

/// A mark that is applied late removes the layer's own files.
#[test]
fn entries_in_any_order_give_the_same_tree() {
    let seed = need::seed();
    let mut rng = Rng::new(seed);
    let bed = Bed::in_memory();
    let base = tar(&[
        Item::dir("./"),
        Item::dir("d"),
        Item::file("d/old", INSIDE),
        Item::file("d/both", INSIDE),
        Item::dir("e"),
        Item::dir("e/sub"),
        Item::file("e/sub/f", INSIDE),
        Item::file("gone", INSIDE),
        Item::symlink("kind", "d"),
    ]);
    let items = vec![
        Item { mode: 0o710, ..Item::dir("d") },
        Item::file("d/.wh..wh..opq", b""),
        Item::file("d/both", b"new"),
        Item { mode: 0o700, ..Item::dir("d/made") },
        Item::file("d/made/f", b"made"),
        Item::file("e/.wh.sub", b""),
        Item { mode: 0o770, ..Item::dir("e/sub") },
        Item::file("e/sub/new", b"new"),
        Item::file(".wh.gone", b""),
        Item::file("new", b"new"),
        Item::symlink("l", "new"),
        Item::file(".wh.kind", b""),
        Item { mode: 0o705, mtime: 77, ..Item::dir("./") },
    ];
    let mut first = None;
    for round in 0..60 {
        let mut order = items.clone();
        for n in (1..order.len()).rev() {
            order.swap(n, rng.below(u32::try_from(n + 1).unwrap()) as usize);
        }
        let layout = Layout::image(&bed.path("layout"), &[base.clone(), tar(&order)]);
        bed.import(layout.path(), "x").unwrap_or_else(|e| panic!("seed {seed}, round {round}: {e}"));
        let tree = bed.tree("x");
        let paths: Vec<_> = order.iter().map(|i| String::from_utf8_lossy(&i.path).into_owned()).collect();
        match &first {
            None => first = Some(tree),
            Some(first) => trees::assert_same(first, &tree, &[], &format!("seed {seed}: {paths:?}")),
        }
        fs::remove_dir_all(bed.path("layout")).unwrap();
    }
    let paths: Vec<_> = first.unwrap().paths().iter().map(ToString::to_string).collect();
    let want = ["/", "/d", "/d/both", "/d/made", "/d/made/f", "/e", "/e/sub", "/e/sub/new", "/l", "/new"];
    assert_eq!(paths, want);
}

/// umoci before 0.4.7, and what a library does that unpacks attributes: an archive speaks in overlayfs's own marks.
#[test]
fn overlay_attributes_in_an_archive_mean_nothing() {
    let bed = Bed::in_memory();
    let base = tar(&[Item::dir("./"), Item::dir("d"), Item::file("d/below", INSIDE), Item::dir("secret")]);
    let up = format!("{}{}", "/..".repeat(20), bed.outside().display());
    for prefix in ["trusted", "user"] {
        let marks = [
            ("opaque", &b"y"[..]),
            ("opaque", b"x"),
            ("whiteout", b"y"),
            ("redirect", b"/secret"),
            ("redirect", up.as_bytes()),
            ("metacopy", b""),
            ("origin", b""),
            ("impure", b"y"),
            ("nlink", b"U+5"),
            ("overlay.opaque", b"y"),
        ];
        for (name, value) in marks {
            let name = format!("{prefix}.overlay.{name}");
            let layer = tar(&[
                Item::dir("d").xattr(&name, value),
                Item::file("f", INSIDE).xattr(&name, value),
                Item::file("empty", b"").xattr(&name, value),
            ]);
            let layout = Layout::image(&bed.path("layout"), &[base.clone(), layer]);
            match bed.import(layout.path(), "x") {
                Ok(_) => {
                    let tree = bed.tree("x");
                    let paths: Vec<_> = tree.paths().iter().map(ToString::to_string).collect();
                    let want = ["/", "/d", "/d/below", "/empty", "/f", "/secret"];
                    assert_eq!(paths, want, "{name}={}", value.escape_ascii());
                    assert!(tree.line(&TreePath::of("f")).unwrap().contains("size=6"), "{tree:?}");
                    bed.store().remove_image(&"x".parse().unwrap()).unwrap();
                }
                Err(error) => assert!(error.to_string().contains(&name), "{error}"),
            }
            fs::remove_dir_all(bed.path("layout")).unwrap();
            bed.assert_untouched();
        }
    }
    let device = Item { rdev: (0, 0), ..Item::new(flag::CHAR, "d/below") };
    let layout = Layout::image(&bed.path("layout"), &[base, tar(&[device])]);
    let error = bed.import(layout.path(), "x").unwrap_err();
    assert!(error.to_string().contains("d/below"), "a whiteout of overlayfs is not an object: {error}");
}

/// Imports in a process of its own; gives the most memory that it held, in MiB, and what it said.
fn peak(bed: &Bed, from: &Path) -> (u64, String) {
    let out = bed.verb(VERB, &[], &["import", from.to_str().unwrap(), "x"]).output().unwrap();
    let (said, complaint) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8_lossy(&out.stderr));
    let peak = said.lines().find_map(|line| line.strip_prefix("done ")).map_or(0, |kib| kib.parse().unwrap());
    (peak >> 10, complaint.into_owned())
}

/// CVE-2017-14992.
#[test]
fn a_decompression_bomb_is_refused_before_it_costs_anything() {
    let bed = Bed::in_memory();
    // A file of seven gibibytes of zeros; compressed, the same piece again and again.
    let header = {
        let mut item = tar(&[Item::file("bomb", b"")]);
        item.truncate(512);
        let size = format!("{:011o}\0", 7_u64 << 30);
        item[124..136].copy_from_slice(size.as_bytes());
        item[148..156].copy_from_slice(b"        ");
        let sum: u64 = item.iter().map(|b| u64::from(*b)).sum();
        item[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        item
    };
    let mebibyte = vec![0; 1 << 20];
    for (program, arguments) in [("gzip", ["-1c"]), ("zstd", ["-qc"])] {
        let head = archives::through(program, &arguments, &header);
        let piece = archives::through(program, &arguments, &mebibyte.repeat(256));
        let bomb = [head, piece.repeat(28)].concat();
        println!("{program}: {} bytes for 7 GiB", bomb.len());
        let at = bed.path("bomb");
        fs::write(&at, &bomb).unwrap();
        let limits = limited(|l| (l.ratio, l.ratio_from) = (100, 16 << 20));
        let error = bed.import_within(&at, "x", limits).unwrap_err();
        assert!(error.to_string().contains("100"), "the limit is named: {error}");
        let limits = limited(|l| l.layer_bytes = 64 << 20);
        let error = bed.import_within(&at, "x", limits).unwrap_err();
        assert!(error.to_string().contains("67108864"), "the limit is named: {error}");
        bed.assert_empty(program);
    }
}

/// Memory is bounded by what is in an archive at one place, whatever its size.
#[test]
fn memory_of_an_import_is_bounded() {
    /// MiB: two layers' buffers, decompression windows and the program itself, unoptimised.
    const BOUND: u64 = 96;
    let bed = Bed::in_memory();
    let many: Vec<Item> = (0..60_000).map(|n| Item::file(&format!("d{}/f{n}", n % 500), b"x")).collect();
    let xattrs: Vec<Item> = (0..2_000)
        .map(|n| {
            (0..100).fold(Item::file(&format!("f{n}"), b""), |i, x| i.xattr(&format!("user.x{x}"), b"v"))
        })
        .collect();
    let large = Item::file("large", &vec![7; 200 << 20]);
    let cases = [("many entries", many), ("many attributes", xattrs), ("one large file", vec![large])];
    for (what, items) in cases {
        let at = bed.path("layer.tar");
        fs::write(&at, tar(&items)).unwrap();
        let (peak, said) = peak(&bed, &at);
        println!("{what}: {peak} MiB {said}");
        assert!(peak <= BOUND, "{what}: {peak} MiB");
        // ext4 has no room for a hundred attributes in one block: then the error names the entry.
        assert!(peak > 0 || said.contains('f'), "{what}: {said}");
    }
}

/// A million tiny attributes, headers that announce gigabytes, records without end.
#[test]
fn headers_past_the_limits_are_refused_by_name() {
    let bed = Bed::in_memory();
    let million = (0..5_000).fold(Item::file("many", b""), |i, n| i.xattr(&format!("user.{n}"), b""));
    refused(&bed, &[million], &["4096"]);
    refused(&bed, &[Item::file("large", b"").xattr("user.v", &vec![b'v'; 5 << 20])], &["4194304"]);
    let deep = "d/".repeat(5_000);
    refused(&bed, &[Item::dir(&deep)], &["d/d/"]);
    let limits = limited(|l| l.entries = 10);
    let at = bed.path("layer.tar");
    fs::write(&at, tar(&(0..11).map(|n| Item::file(&format!("f{n}"), b"")).collect::<Vec<_>>())).unwrap();
    let error = bed.import_within(&at, "x", limits).unwrap_err();
    assert!(error.to_string().contains("10"), "{error}");
    // The size of an extended header is announced, not there.
    let mut lie = tar(&[Item::file("f", b"").record("comment", b"c")]);
    lie[124..136].copy_from_slice(format!("{:011o}\0", 7_u64 << 30).as_bytes());
    lie[148..156].copy_from_slice(b"        ");
    let sum: u64 = lie[..512].iter().map(|b| u64::from(*b)).sum();
    lie[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bed.import_layer(&lie, "x").unwrap_err();
    bed.assert_empty("limits");
}

/// erofs-utils #15, #18.
#[test]
fn deep_trees_need_no_deep_stack() {
    in_time(SOON, STACK, || {
        let bed = Bed::in_memory();
        let part = "p".repeat(200);
        let mut items: Vec<Item> = Vec::new();
        for depth in 1..=300 {
            items.push(Item::dir(&vec![part.as_str(); depth].join("/")));
        }
        items.push(Item::file(&format!("{}/f", vec![part.as_str(); 300].join("/")), INSIDE));
        bed.import_layer(&tar(&items), "deep").unwrap();
        let tree = bed.tree("deep");
        assert_eq!(tree.paths().len(), 302);
        bed.store().remove_image(&"deep".parse().unwrap()).unwrap();
        bed.store().gc().unwrap();
        bed.assert_empty("a deep tree");
    });
}
