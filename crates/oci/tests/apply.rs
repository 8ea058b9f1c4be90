//! What entries of a layer archive become, rule by rule.
#![allow(clippy::unwrap_used, reason = "tests")]

mod apply_help;

use apply_help::*;
use std::cell::Cell;
use stratafs_core::*;
use stratafs_mem::MemScratch;
use stratafs_oci::tar::{Entry, EntryKind};
use stratafs_oci::{Applied, ApplyOptions, Limits, Progress, Silent, apply};

fn made(items: &[Item]) -> String {
    text(&unpack(items).unwrap().scratch)
}

fn made_over(items: &[Item], below: &Below) -> String {
    text(&unpack_over(&archive(items), Some(below)).unwrap().scratch)
}

fn kind(items: &[Item]) -> ErrorKind {
    refused(items).kind()
}

#[test]
fn an_entry_brings_all_that_it_has() {
    let xattrs = vec![
        (b"security.capability".to_vec(), vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (b"user.b\xc3\xa4".to_vec(), vec![0, 255, b'\n', b'=']),
    ];
    let (mut suid, content) = file("./bin/su", "program");
    suid = Entry { mode: 0o4755, uid: 7, gid: 70_000, xattrs: xattrs.clone(), ..suid };
    suid.mtime = Time { secs: -1, nanos: 999_999_999 };
    let name = "n".repeat(255);
    let items = [
        (Entry { mode: 0o1777, ..dir(".").0 }, Vec::new()),
        dir("bin"),
        (suid, content),
        link("sh", "bin/su"),
        null("null"),
        fifo("pipe"),
        hard("bin/other", "bin/su"),
        file(&name, ""),
    ];
    let unpacked = unpack(&items).unwrap();
    let hit = find(&unpacked.scratch, "bin/other");
    let Attr { mode, uid, gid, mtime, nlink, .. } = hit.attr;
    assert_eq!((mode, uid, gid, nlink), (0o4755, 7, 70_000, 2));
    assert_eq!(mtime, Time { secs: -1, nanos: 999_999_999 });
    for (name, value) in &xattrs {
        assert_eq!(unpacked.scratch.xattr(&hit.node, name).unwrap().as_ref(), Some(value));
    }
    let root = unpacked.scratch.root().unwrap().attr;
    assert_eq!((root.mode, root.mtime), (0o1777, WHEN));
    let text = text(&unpacked.scratch);
    for line in ["bin /", "null Char 1:3", "pipe Fifo 0:0", "sh -> bin/su", "~ bin/other = bin/su"] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let Applied { entries, content_bytes, asked_below, says_root, .. } = unpacked.applied;
    assert_eq!((entries, content_bytes, asked_below, says_root), (8, 7, false, true));
}

#[test]
fn directories_keep_their_time_and_later_ones_count() {
    let late = Time { secs: 5, nanos: 6 };
    let again = Entry {
        mode: 0o700,
        uid: 1,
        mtime: late,
        xattrs: vec![(b"user.b".to_vec(), b"2".to_vec())],
        ..dir("d").0
    };
    let first = Entry { xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())], ..dir("d").0 };
    let items = [
        (first, vec![]),
        file("d/a", "1"),
        dir("d/e"),
        file("d/e/f", "2"),
        (again, vec![]),
        file("d/b", "3"),
        wh("d/.wh.c"),
    ];
    assert_eq!(made(&items), "d / 0700 1:0 @5.6 user.b=2\nd/a \"1\"\nd/b \"3\"\nd/c !\nd/e /\nd/e/f \"2\"");
}

#[test]
fn whiteouts_and_opaque_marks_in_any_place() {
    assert_eq!(made(&[dir("d"), wh("d/.wh.x"), wh(".wh.y")]), "d /\nd/x !\ny !");
    assert_eq!(
        made(&[dir("d"), file("d/a", ""), wh("d/.wh..wh..opq"), file("d/b", "")]),
        "d ^\nd/a \"\"\nd/b \"\""
    );
    assert_eq!(made(&[wh(".wh..wh..opq"), file("a", "")]), "^\na \"\"");
    // Beside an entry of its name a whiteout makes a directory opaque and else says nothing.
    for (items, tree) in [
        (vec![wh(".wh.n"), dir("n"), file("n/f", "")], "n ^\nn/f \"\""),
        (vec![dir("n"), file("n/f", ""), wh(".wh.n")], "n ^\nn/f \"\""),
        (vec![wh(".wh.n"), file("n", "1")], "n \"1\""),
        (vec![file("n", "1"), wh(".wh.n")], "n \"1\""),
        (vec![wh(".wh.n"), link("n", "x"), wh(".wh.n")], "n -> x"),
        (vec![file("f", "1"), wh(".wh.n"), hard("n", "f")], "f \"1\"\nn \"1\"\n~ f = n"),
    ] {
        assert_eq!(made(&items), tree);
    }
    // Of whatever type it is, and whatever it holds.
    let typed =
        [dir(".wh.a"), link(".wh.b", "x"), null(".wh.c"), file(".wh.d", "content"), hard(".wh.e", "nothing")];
    assert_eq!(made(&typed), "a !\nb !\nc !\nd !\ne !");
    // AUFS's own.
    let aufs = [
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", "x"),
        dir("d"),
        file("d/.wh..wh.orph", "y"),
        file("f", ""),
    ];
    assert_eq!(made(&aufs), "d /\nf \"\"");
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for path in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh.."] {
        let e = refused(&[dir("d"), file("d/f", "1"), wh(path)]);
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{path}");
        assert_eq!(e.path(), Some(path.as_bytes()));
    }
    assert_eq!(kind(&[file(".wh.a/b", "")]), ErrorKind::NotADirectory);
    assert_eq!(kind(&[dir(".wh..wh..opq"), file(".wh..wh..opq/b", "")]), ErrorKind::NotADirectory);
}

#[test]
fn paths_that_leave_the_layer_are_refused() {
    for path in ["../x", "a/../x", "a/..", "/x", "//x", ".."] {
        let e = refused(&[dir("a"), file(path, "")]);
        assert_eq!((e.kind(), e.path()), (ErrorKind::InvalidInput, Some(path.as_bytes())), "{e}");
    }
    assert!(refused(&[file("/x", "")]).to_string().contains("without -P"));
    let long = "n".repeat(256);
    assert_eq!(kind(&[file(&long, "")]), ErrorKind::NameTooLong);
    assert_eq!(kind(&[file(&format!("{long}/x"), "")]), ErrorKind::NameTooLong);
    assert_eq!(kind(&[dir(&"d/".repeat(4098))]), ErrorKind::NameTooLong);
    let deep = "d/".repeat(4000) + "f";
    let unpacked = unpack(&[file(&deep, "deep")]).unwrap();
    assert_eq!(content(&unpacked.scratch, &find(&unpacked.scratch, &deep).node), b"deep");
}

#[test]
fn the_root_can_only_be_a_directory() {
    for path in [".", "./."] {
        for item in [file("x", "y"), link("x", "/"), null("x")] {
            let root = (Entry { path: path.into(), ..item.0 }, item.1);
            assert_eq!(kind(&[root]), ErrorKind::NotADirectory);
        }
        assert_eq!(made(&[dir(path)]), "");
    }
    assert_eq!(kind(&[file("f", ""), hard(".", "f")]), ErrorKind::NotADirectory);
}

#[test]
fn missing_parents_are_made_as_below_or_ordinary() {
    let unpacked = unpack(&[file("a/b/f", "1")]).unwrap();
    assert_eq!(text(&unpacked.scratch), "a / @0.0\na/b / @0.0\na/b/f \"1\"");
    assert!(unpacked.applied.asked_below && !unpacked.applied.says_root);
    let below = below(|b| {
        let b = b.dir("a", 0o1770).owner("a", 3, 4).xattr("a", "user.x", "y").file("a/gone", "");
        b.times("a", Time { secs: 9, nanos: 1 })
    });
    let over = unpack_over(&archive(&[file("a/b/f", "1"), wh("a/.wh.gone")]), Some(&below)).unwrap();
    assert!(over.applied.asked_below);
    assert_eq!(text(&over.scratch), "a / 1770 3:4 @9.1 user.x=y\na/b / @0.0\na/b/f \"1\"\na/gone !");
    // In whatever order they come, an entry says it better.
    for items in [vec![dir("a"), file("a/f", "")], vec![file("a/f", ""), dir("a")]] {
        assert_eq!(made_over(&items, &below), "a /\na/f \"\"");
    }
    for items in [vec![wh(".wh.a"), file("a/f", "")], vec![file("a/f", ""), wh(".wh.a")]] {
        assert_eq!(made_over(&items, &below), "a ^ 1770 3:4 @9.1 user.x=y\na/f \"\"");
    }
}

#[test]
fn what_needs_nothing_from_below_does_not_ask() {
    let asked = Cell::new(0);
    let items = [
        dir("a"),
        dir("a/b"),
        file("a/b/f", ""),
        wh("a/.wh.x"),
        wh("a/b/.wh..wh..opq"),
        hard("h", "a/b/f"),
        link("l", "q"),
        file("l", ""),
    ];
    let ask = || -> Result<Option<Below>> {
        asked.set(asked.get() + 1);
        Ok(None)
    };
    let applied = apply(archive(&items).as_slice(), &MemScratch::new(), &ask, options(), &Silent).unwrap();
    assert!(!applied.asked_below && asked.get() == 0);
    let items = [file("x/f", ""), file("y/f", ""), file("x/g", "")];
    let applied = apply(archive(&items).as_slice(), &MemScratch::new(), &ask, options(), &Silent).unwrap();
    assert!(applied.asked_below && asked.get() == 1, "asked once");
    let fails = || -> Result<Option<Below>> { Err(Error::new(ErrorKind::NoSpace, "unpack the layer below")) };
    let e = apply(archive(&items).as_slice(), &MemScratch::new(), &fails, options(), &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoSpace);
}

#[test]
fn links_on_the_way_lead_inside_only() {
    let below = below(|b| {
        b.dir("usr", 0o711)
            .dir("usr/lib", 0o755)
            .symlink("lib", "usr/lib")
            .file("file", "")
            .symlink("up", "../../../usr")
            .times("usr", WHEN)
            .times("usr/lib", WHEN)
    });
    assert_eq!(
        made_over(&[file("lib/a", "1"), file("lib/b", "2"), wh("lib/.wh.c"), file("up/d", "3")], &below),
        "usr / 0711\nusr/d \"3\"\nusr/lib /\nusr/lib/a \"1\"\nusr/lib/b \"2\"\nusr/lib/c !"
    );
    // One of the layer itself comes first; as in a chroot.
    let own = [dir("t"), link("l", "/../t/./"), file("l/f", "1"), wh("l/.wh..wh..opq"), hard("h", "l/f")];
    assert_eq!(made_over(&own, &below), "h \"1\"\nl -> /../t/./\nt ^\nt/f \"1\"\n~ h = t/f");
    // A link that is replaced leads nowhere any more.
    let moved = [dir("a"), dir("b"), link("l", "a"), file("l/f", "1"), link("l", "b"), file("l/f", "2")];
    assert_eq!(made(&moved), "a /\na/f \"1\"\nb /\nb/f \"2\"\nl -> b");
    assert_eq!(kind(&[link("l", "m"), link("m", "l"), file("l/f", "")]), ErrorKind::Loop);
    assert_eq!(kind(&[file("f", ""), link("l", "f"), file("l/x", "")]), ErrorKind::NotADirectory);
    let e = refused_over(&[file("file/x", "")], Some(&below));
    assert_eq!(e.kind(), ErrorKind::NotADirectory);
    // A dangling link is a way to a directory that is not there yet.
    assert_eq!(
        made(&[link("l", "new/one"), file("l/f", "1")]),
        "l -> new/one\nnew / @0.0\nnew/one / @0.0\nnew/one/f \"1\""
    );
    let chain: Vec<_> = (0..41).map(|n| link(&format!("l{n}"), &format!("l{}", n + 1))).collect();
    let with = |n: usize| [&chain[n..], &[dir("l41"), file(&format!("l{n}/f"), "")]].concat();
    assert_eq!(kind(&with(0)), ErrorKind::Loop);
    assert!(unpack(&with(1)).is_ok(), "40 links");
}

#[test]
fn hard_links_to_the_layer_itself() {
    let special =
        [link("s", "x"), hard("s2", "s"), null("n"), hard("n2", "./n"), fifo("p"), hard("d/p2", "p")];
    assert_eq!(
        made(&[&[dir("d")], &special[..]].concat()),
        "d /\nd/p2 Fifo 0:0\nn Char 1:3\nn2 Char 1:3\np Fifo 0:0\ns -> x\ns2 -> x\n~ d/p2 = p\n~ n = n2\n~ s = s2"
    );
    for (target, kind) in [
        ("missing", ErrorKind::NotFound),
        ("d/missing", ErrorKind::NotFound),
        ("f/x", ErrorKind::NotFound),
        ("d", ErrorKind::NotPermitted),
        (".", ErrorKind::NotPermitted),
        ("h", ErrorKind::NotFound),
        ("../f", ErrorKind::InvalidInput),
        ("d/../f", ErrorKind::InvalidInput),
        ("/f", ErrorKind::InvalidInput),
        ("later", ErrorKind::NotFound),
    ] {
        let e = refused(&[file("f", ""), dir("d"), hard("h", target), file("later", "")]);
        assert_eq!((e.kind(), e.path()), (kind, Some(&b"h"[..])), "{target}: {e}");
    }
    assert_eq!(kind(&[file("f", ""), hard("f", "f")]), ErrorKind::InvalidInput);
    assert_eq!(kind(&[file("f", ""), link("l", "."), hard("l/f", "f")]), ErrorKind::InvalidInput);
    assert_eq!(kind(&[file("f", ""), dir("d"), hard("d", "f")]), ErrorKind::IsADirectory);
    assert_eq!(made(&[file("f", "1"), hard("h", "f"), hard("h", "f")]), "f \"1\"\nh \"1\"\n~ f = h");
    // Who is replaced lives on under the other name.
    let replaced = [file("f", "old"), hard("h", "f"), file("f", "new"), file("g", "x"), hard("g", "h")];
    assert_eq!(made(&replaced), "f \"new\"\ng \"old\"\nh \"old\"\n~ g = h");
}

#[test]
fn a_file_below_that_is_linked_to_keeps_all_its_names() {
    let below = below(|b| {
        let b =
            b.dir("d", 0o755).dir("e", 0o700).file("d/f", "x").hard_link("g", "d/f").hard_link("e/h", "d/f");
        b.file("other", "y")
            .hard_link("e/other", "other")
            .times("d/f", WHEN)
            .times("d", WHEN)
            .times("e", WHEN)
    });
    let all = "d /\nd/f \"x\"\ne / 0700\ne/h \"x\"\ng \"x\"\nnew \"x\"\n~ d/f = e/h = g = new";
    assert_eq!(made_over(&[hard("new", "g")], &below), all);
    assert_eq!(made_over(&[hard("new", "d/f"), hard("new", "e/h"), hard("new", "new")][..2], &below), all);
    // A name of its own that it gets in the layer.
    assert_eq!(made_over(&[hard("g", "d/f"), hard("new", "e/h")], &below), all);
    // Who is known by a name that goes is copied again.
    let gone = [hard("new", "g"), file("new", "own"), hard("b", "g")];
    let text = made_over(&gone, &below);
    assert!(text.contains("~ b = d/f = e/h = g") && text.contains("new \"own\""), "{text}");
    let two = made_over(&[hard("new", "g"), hard("n2", "other")], &below);
    assert!(two.contains("~ d/f = e/h = g = new") && two.contains("~ e/other = n2 = other"), "{two}");
}

#[test]
fn what_the_layer_says_of_a_name_wins_over_a_link_to_it_in_any_order() {
    let below = below(|b| {
        let b = b.dir("d", 0o755).dir("e", 0o755).file("d/f", "x").hard_link("e/h", "d/f").file("one", "y");
        b.times("d/f", WHEN).times("d", WHEN).times("e", WHEN).times("one", WHEN)
    });
    let whole = "d/f \"x\"\ne /\ne/h \"x\"\nnew \"x\"";
    for (target, item, tree) in [
        ("one", wh(".wh.one"), "new \"y\"\none !"),
        ("d/f", wh("d/.wh.f"), "d /\nd/f !\ne /\ne/h \"x\"\nnew \"x\"\n~ e/h = new"),
        ("e/h", wh("d/.wh.f"), "d /\nd/f !\ne /\ne/h \"x\"\nnew \"x\"\n~ e/h = new"),
        ("d/f", wh(".wh.d"), "d !\ne /\ne/h \"x\"\nnew \"x\"\n~ e/h = new"),
        ("d/f", wh("d/.wh..wh..opq"), "d ^\ne /\ne/h \"x\"\nnew \"x\"\n~ e/h = new"),
        ("d/f", wh(".wh..wh..opq"), "^\nnew \"x\""),
        ("d/f", file("e/h", "own"), "d /\nd/f \"x\"\ne /\ne/h \"own\"\nnew \"x\"\n~ d/f = new"),
        ("d/f", null("d"), "d Char 1:3\ne /\ne/h \"x\"\nnew \"x\"\n~ e/h = new"),
        ("d/f", dir("d"), &format!("d /\n{whole}\n~ d/f = e/h = new")),
    ] {
        let link = hard("new", target);
        assert_eq!(made_over(&[link.clone(), item.clone()], &below), tree, "{:?} after", item.0.path);
        // An own object in place of the target's directory must come after the link.
        if item.0.path != b"d" || item.0.kind == EntryKind::Dir {
            assert_eq!(made_over(&[item.clone(), link], &below), tree, "{:?} before", item.0.path);
        }
    }
}

#[test]
fn hard_links_to_a_layer_below_copy_the_file_up() {
    let time = Time { secs: 77, nanos: 8 };
    let below = below(|b| {
        let b = b.dir("d", 0o750).sparse("d/f", 1 << 20, &[(0, b"head"), ((1 << 20) - 4, b"tail")]);
        let b = b.mode("d/f", 0o4711).owner("d/f", 5, 6).xattr("d/f", "user.a", "b").xattr(
            "d/f",
            "trusted.overlay.x",
            "y",
        );
        b.symlink("s", "d").times("d/f", time).times("d", time)
    });
    let unpacked =
        unpack_over(&archive(&[hard("h", "s/f"), hard("d/g", "h"), hard("t", "s")]), Some(&below)).unwrap();
    assert!(unpacked.applied.asked_below);
    let hit = find(&unpacked.scratch, "d/f");
    let Attr { mode, uid, gid, mtime, nlink, size, .. } = hit.attr;
    assert_eq!((mode, uid, gid, mtime, nlink, size), (0o4711, 5, 6, time, 3, 1 << 20));
    assert!(
        unpacked.scratch.open(&hit.node).unwrap().seek_hole(0).unwrap().unwrap() < 1 << 19,
        "holes are kept"
    );
    assert_eq!(unpacked.scratch.xattr(&hit.node, b"trusted.overlay.x").unwrap(), Some(b"y".to_vec()));
    let tree = text(&unpacked.scratch);
    assert!(
        tree.contains("d / 0750 @77.8") && tree.contains("~ d/f = d/g = h") && tree.contains("~ s = t"),
        "{tree}"
    );
    assert!(!tree.contains("s/f"), "{tree}");
    assert_eq!(refused_over(&[hard("h", "d")], Some(&below)).kind(), ErrorKind::NotPermitted);
    // The layer's own file of that name counts, when it came before.
    assert_eq!(
        made_over(&[dir("d"), file("d/f", "own"), hard("h", "d/f")], &below),
        "d /\nd/f \"own\"\nh \"own\"\n~ d/f = h"
    );
}

type Maker = fn(&str) -> Item;

#[test]
fn every_pair_of_types_on_one_name() {
    let types: [(&str, Maker); 6] = [
        ("file", |n| file(n, "new")),
        ("dir", dir),
        ("link", |n| link(n, "target")),
        ("hard", |n| hard(n, "target")),
        ("null", null),
        ("fifo", fifo),
    ];
    for (a, first) in types {
        for (b, second) in types {
            for between in [vec![], vec![wh(".wh.n")]] {
                let mut items =
                    vec![dir("target-dir"), file("target-dir/kept", "kept"), file("target", "old")];
                items.push(first("n"));
                items.extend(between);
                items.push(second("n"));
                items.push(file("n-after", ""));
                let done = unpack(&items);
                if (a == "dir") != (b == "dir") {
                    let kind = done.map(|u| text(&u.scratch)).unwrap_err().kind();
                    let expected =
                        if b == "dir" { ErrorKind::NotADirectory } else { ErrorKind::IsADirectory };
                    assert_eq!(kind, expected, "{a}, {b}");
                    continue;
                }
                let tree = text(&done.unwrap().scratch);
                let alone = made(&[file("target", "old"), second("n")]);
                let mut line = alone.lines().find(|l| l.starts_with("n ")).unwrap().to_string();
                if b == "dir" && items.len() == 7 {
                    line = line.replace('/', "^");
                }
                assert!(tree.lines().any(|l| l == line), "{a}, {b}: {line} in\n{tree}");
                assert!(
                    tree.contains("target-dir/kept \"kept\"") && tree.contains("target \"old\""),
                    "{a}, {b}"
                );
            }
        }
    }
}

#[test]
fn zeros_become_holes_and_sparse_files_stay_sparse() {
    let mut bytes = vec![b'x'; 3 << 20];
    bytes[100_000..1_200_000].fill(0);
    bytes[1_500_000..1_520_000].fill(0);
    bytes[2_500_000..].fill(0);
    let unpacked = unpack(&[file("f", &bytes), file("zeros", vec![0; 1 << 20])]).unwrap();
    let hit = find(&unpacked.scratch, "f");
    assert!(content(&unpacked.scratch, &hit.node) == bytes);
    let file = unpacked.scratch.open(&hit.node).unwrap();
    let hole = file.seek_hole(0).unwrap().unwrap();
    let data = file.seek_data(hole).unwrap().unwrap();
    assert!((100_000..110_000).contains(&hole) && (1_190_000..=1_200_000).contains(&data), "{hole} {data}");
    assert!(
        (2_500_000..2_570_000).contains(&file.seek_hole(data).unwrap().unwrap()),
        "short runs are written"
    );
    let zeros = find(&unpacked.scratch, "zeros");
    assert_eq!((zeros.attr.size, zeros.attr.blocks), (1 << 20, 0));

    let (head, tail) = (vec![b'h'; 70_000], vec![b't'; 5]);
    let extents: [(u64, &[u8]); 2] = [(1 << 30, &head), ((1 << 40) - 5, &tail)];
    let unpacked = unpack_over(&sparse("big", 1 << 40, &extents), None).unwrap();
    let big = find(&unpacked.scratch, "big");
    assert_eq!(big.attr.size, 1 << 40);
    let file = unpacked.scratch.open(&big.node).unwrap();
    assert_eq!(file.seek_data(0).unwrap().unwrap() >> 12, (1 << 30) >> 12);
    let mut buf = [0; 6];
    assert_eq!(file.read_at(&mut buf, (1 << 40) - 6).unwrap(), 6);
    assert_eq!(&buf, b"\0ttttt");
    assert_eq!(unpacked.applied.content_bytes, 70_005);
}

#[test]
fn bookkeeping_of_overlays_is_dropped() {
    let names = [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.overlay.metacopy",
        "user.containers.override_stat",
        "user.fuseoverlayfs.opaque",
        "user.stratafs.security.capability",
        "user.kept",
    ];
    let xattrs: Vec<_> = names.iter().map(|name| (name.as_bytes().to_vec(), b"y".to_vec())).collect();
    let bytes = archive(&[(Entry { xattrs, ..dir("d").0 }, vec![])]);
    for (escaped, kept) in [(None, 1), (Some("trusted.overlay."), 3), (Some("user.overlay."), 3)] {
        let scratch = MemScratch::new();
        let options = ApplyOptions { escaped, ..ApplyOptions::new("l") };
        let applied = apply(bytes.as_slice(), &scratch, &|| Ok(None::<Below>), options, &Silent).unwrap();
        let hit = find(&scratch, "d");
        let left = scratch.xattrs(&hit.node).unwrap();
        assert_eq!((left.len(), applied.dropped_xattrs), (kept, 8 - kept as u64), "{left:?}");
        assert!(
            left.iter().all(|name| !name.starts_with(b"user.overlay.") || escaped == Some("user.overlay."))
        );
        assert!(!hit.marks.opaque && hit.marks.redirect.is_none());
    }
}

#[test]
fn whiteout_devices_are_refused() {
    let device = entry("w", EntryKind::Char(Device::default()));
    let e = refused(&[(device, vec![])]);
    assert_eq!(e.kind(), ErrorKind::NotPermitted);
    assert!(e.to_string().contains(".wh."), "{e}");
}

#[test]
fn what_follows_the_end_is_part_of_the_archive() {
    let mut bytes = archive(&[file("a", "1")]);
    bytes.extend(vec![0; 10_000]);
    unpack_over(&bytes, None).unwrap();
    bytes.extend(b"and garbage".repeat(1_000_000));
    unpack_over(&bytes, None).unwrap();
    unpack_over(&bytes[..2048], None).unwrap();
    unpack_over(&[], None).unwrap();
}

#[test]
fn limits_and_cancelling_end_it() {
    struct Cancelled;
    impl Progress for Cancelled {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let bytes = archive(&[file("a", vec![b'x'; 1 << 20]), file("b", "2")]);
    let run = |limits: Limits, progress: &dyn Progress| {
        let options = ApplyOptions { limits, ..ApplyOptions::new("named") };
        apply(bytes.as_slice(), &MemScratch::new(), &|| Ok(None::<Below>), options, progress)
    };
    let e = run(Limits::default(), &Cancelled).unwrap_err();
    assert!(e.to_string().contains("cancelled") && e.to_string().contains("named"), "{e}");
    let mut limits = Limits::default();
    limits.entries = 1;
    assert_eq!(run(limits, &Silent).unwrap_err().kind(), ErrorKind::TooLarge);
    let mut limits = Limits::default();
    limits.layer_bytes = 1 << 19;
    assert_eq!(run(limits, &Silent).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn failures_of_the_scratch_and_of_the_frame_end_it() {
    let bytes = archive(&[file("a/b", vec![b'x'; 1 << 20])]);
    let full = MemScratch::with_limits(stratafs_mem::Limits {
        bytes: Some(4096),
        ..stratafs_mem::Limits::default()
    });
    let e = apply(bytes.as_slice(), &full, &|| Ok(None::<Below>), options(), &Silent).unwrap_err();
    assert_eq!((e.kind(), e.path()), (ErrorKind::NoSpace, Some(&b"a/b"[..])));
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = ApplyOptions { frame: Some(Box::new(Full)), ..options() };
    let e = apply(bytes.as_slice(), &MemScratch::new(), &|| Ok(None::<Below>), options, &Silent).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NoSpace);
    for cut in [100, 511, 512, 1000, 500_000] {
        let e = unpack_over(&bytes[..cut], None).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "cut after {cut} bytes");
    }
}

#[test]
fn a_link_to_a_huge_sparse_file_below_costs_what_the_file_holds() {
    let size = 1 << 45;
    let below = below(|b| b.sparse("f", size, &[(size - (1 << 20) - 5, b"end"), (70_000, b"x")]));
    let unpacked = unpack_over(&archive(&[hard("h", "f")]), Some(&below)).unwrap();
    assert_eq!(find(&unpacked.scratch, "h").attr.size, size);
}

#[test]
fn directories_that_the_archive_lacks_count_as_entries_do() {
    let mut options = options();
    options.limits.entries = 10;
    let bytes = archive(&[file("a/b/c/d/e/f", ""), file("b/b/c/d/e/f", ""), file("c/x", "")]);
    let none = || Ok(None::<Below>);
    let e = apply(bytes.as_slice(), &MemScratch::new(), &none, options, &Silent).unwrap_err();
    assert_eq!((e.kind(), e.path()), (ErrorKind::TooLarge, Some(&b"c/x"[..])), "{e}");
}
