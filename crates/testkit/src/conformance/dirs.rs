//! Directories: merged listings, renames with redirects, whiteouts and opaque marks, cookies.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{Node, errno, name};
use super::{Bed, World, open_world};
use crate::path::Path;
use crate::spec::{Entry, TreeSpec, What};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use stratafs_core::error::errno::*;
use stratafs_core::{Caller, DirHandle, Kind, New, RenameFlags};

pub fn merged_listings<B: Bed>() {
    let mut w = open_world!(
        B,
        [
            TreeSpec::new().dir("d").file("d/top", "").whiteout("d/gone").file("d/both", "top"),
            TreeSpec::new().dir("d").file("d/mid", "").file("d/gone", "").opaque("d/o").file("d/o/mine", ""),
            TreeSpec::new()
                .dir("d")
                .file("d/low", "")
                .file("d/both", "low")
                .dir("d/o")
                .file("d/o/hidden", ""),
        ]
    );
    for _ in 0..2 {
        assert_eq!(
            (w.ls("d").as_str(), w.text("d/both").as_str(), w.ls("d/o").as_str()),
            ("both low mid o top", "top", "mine")
        );
        assert!(!w.exists("d/gone") && !w.exists("d/o/hidden"));
        w.reopen();
    }
    w.unlink("d/low").unwrap();
    w.put("d/new", "");
    w.put("d/gone", "back");
    w.reopen();
    assert_eq!(w.ls("d"), "both gone mid new o top");
}

fn lower_tree() -> TreeSpec {
    TreeSpec::new().dir("d").file("d/f", "1").dir("d/sub").file("d/sub/g", "2").dir("e").file("e/x", "3")
}

pub fn renamed_lower_directories_keep_children<B: Bed>() {
    let mut w = open_world!(B, [lower_tree()]);
    let ino = w.node("d").ino();
    w.mv("d", "renamed");
    for _ in 0..2 {
        assert_eq!((w.ls("/").as_str(), w.ls("renamed").as_str()), ("e renamed", "f sub"));
        assert_eq!((w.text("renamed/f"), w.text("renamed/sub/g")), ("1".into(), "2".into()));
        assert_eq!(w.node("renamed").ino(), ino);
        assert!(!w.exists("d"));
        w.reopen();
    }
}

pub fn renamed_merged_directories_take_new_children<B: Bed>() {
    let mut w = open_world!(B, [lower_tree()]);
    w.put("d/own", "o");
    w.unlink("d/f").unwrap();
    w.mv("d", "e/d");
    w.put("e/d/later", "l");
    w.add("e/d/sub/g", "2");
    for _ in 0..2 {
        assert_eq!(w.ls("e/d"), "later own sub");
        assert_eq!((w.text("e/d/sub/g"), w.text("e/d/own")), ("22".into(), "o".into()));
        w.reopen();
    }
    w.mv("e/d/sub", "sub");
    w.mv("e", "top");
    w.reopen();
    assert_eq!(
        (w.ls("/").as_str(), w.ls("top").as_str(), w.ls("top/d").as_str()),
        ("sub top", "d x", "later own")
    );
    assert_eq!(w.text("sub/g"), "22");
}

pub fn renaming_back_and_forth<B: Bed>() {
    let mut w = open_world!(B, [lower_tree()]);
    for round in 0..3 {
        w.mv("d", "t");
        w.mv("t", "e/t");
        w.reopen();
        w.mv("e/t", "d");
        assert_eq!(
            (w.ls("/").as_str(), w.ls("d").as_str(), w.ls("e").as_str()),
            ("d e", "f sub", "x"),
            "{round}"
        );
        w.reopen();
        assert_eq!(
            (w.ls("/").as_str(), w.ls("d").as_str(), w.ls("e").as_str()),
            ("d e", "f sub", "x"),
            "{round}"
        );
    }
    assert_eq!(w.text("d/sub/g"), "2");
}

pub fn directories_move_into_moved_directories<B: Bed>() {
    let mut w = open_world!(B, [lower_tree().dir("a").dir("a/b").dir("a/b/c").file("a/b/c/deep", "4")]);
    w.mv("a", "d/a");
    w.mv("d/a/b/c", "c");
    w.mv("d", "e/d");
    w.mv("c", "e/d/sub/c");
    w.reopen();
    assert_eq!(w.text("e/d/sub/c/deep"), "4");
    assert_eq!((w.ls("e/d/a/b").as_str(), w.ls("/").as_str()), ("", "e"));
    assert_eq!(w.text("e/d/sub/g"), "2");
}

pub fn old_names_can_be_used_again<B: Bed>() {
    let mut w = open_world!(B, [lower_tree()]);
    w.mv("d", "moved");
    w.mkdir("d");
    assert_eq!(w.ls("d"), "");
    w.put("d/f", "new");
    w.reopen();
    assert_eq!((w.ls("d").as_str(), w.text("d/f").as_str(), w.text("moved/f").as_str()), ("f", "new", "1"));
    w.mv("moved", "d/inner");
    w.put("moved", "a file now");
    w.reopen();
    assert_eq!(
        (w.ls("d").as_str(), w.text("d/inner/f").as_str(), w.text("moved").as_str()),
        ("f inner", "1", "a file now")
    );
}

pub fn directories_replace_empty_directories<B: Bed>() {
    let mut w = open_world!(
        B,
        [lower_tree().dir("empty").dir("cleared").file("cleared/x", "").file("cleared/y", "")]
    );
    w.unlink("cleared/x").unwrap();
    w.unlink("cleared/y").unwrap();
    w.mv("d", "cleared");
    assert_eq!(w.ls("cleared"), "f sub");
    w.mkdir("own");
    w.put("own/o", "");
    w.mv("own", "empty");
    w.reopen();
    assert_eq!(
        (w.ls("/").as_str(), w.ls("cleared").as_str(), w.ls("empty").as_str()),
        ("cleared e empty", "f sub", "o")
    );
    assert_eq!(errno(w.rename("cleared", "e", RenameFlags::empty())), ENOTEMPTY);
}

pub fn exchange_swaps_anything<B: Bed>() {
    let mut w = open_world!(B, [lower_tree().file("file", "plain").symlink("s", "t")]);
    w.rename("d", "file", RenameFlags::EXCHANGE).unwrap();
    w.rename("e", "file/sub", RenameFlags::EXCHANGE).unwrap();
    w.put("new", "n");
    w.rename("new", "s", RenameFlags::EXCHANGE).unwrap();
    for _ in 0..2 {
        assert_eq!(
            (w.text("d").as_str(), w.ls("file").as_str(), w.ls("file/sub").as_str(), w.ls("e").as_str()),
            ("plain", "f sub", "x", "g")
        );
        assert_eq!((w.text("s").as_str(), w.target("new").as_str()), ("n", "t"));
        w.reopen();
    }
    assert_eq!(errno(w.rename("d", "none", RenameFlags::EXCHANGE)), ENOENT);
}

pub fn loops_are_refused<B: Bed>() {
    let w = open_world!(B, [lower_tree()]);
    let none = RenameFlags::empty();
    assert_eq!(errno(w.rename("d", "d/sub/d", none)), EINVAL);
    assert_eq!(errno(w.rename("d", "d/d", none)), EINVAL);
    assert_eq!(errno(w.rename("d/sub", "d", none)), ENOTEMPTY);
    assert_eq!(errno(w.rename("d/sub", "d", RenameFlags::EXCHANGE)), EINVAL);
    assert_eq!(errno(w.rename("d", "d/sub", RenameFlags::EXCHANGE)), EINVAL);
    assert_eq!(errno(w.rename("d/sub", "d", RenameFlags::NO_REPLACE)), EEXIST);
    let both = RenameFlags::NO_REPLACE | RenameFlags::EXCHANGE;
    assert_eq!(errno(w.rename("d", "e", both)), EINVAL);
    // With a file in the way, Linux still names the loop first.
    assert_eq!(errno(w.rename("d", "d/f", none)), EINVAL);
    assert_eq!(errno(w.rename("d/f", "d", none)), ENOTEMPTY);
    assert_eq!(w.ls("d"), "f sub");
}

pub fn parents_follow_renames<B: Bed>() {
    let w = open_world!(B, [lower_tree()]);
    let sub = w.node("d/sub");
    let root = w.view().root();
    assert_eq!(w.view().parent(&sub).unwrap(), w.node("d"));
    assert_eq!(w.view().parent(&root).unwrap(), root);
    w.mv("d/sub", "e/sub");
    assert_eq!(w.view().parent(&sub).unwrap(), w.node("e"));
    assert_eq!(w.view().parent(&w.node("e")).unwrap(), root);
    assert_eq!(w.node("e/sub"), sub);
}

fn page<B: Bed>(handle: &DirHandle<B::L, B::S>, from: u64, limit: usize) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    handle
        .read(from, &mut |entry| {
            out.push((entry.name.as_bytes().escape_ascii().to_string(), entry.next));
            if out.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    out
}

fn layers_of_names(each: usize) -> [TreeSpec; 3] {
    [0, 1, 2].map(|layer| {
        (0..each).fold(TreeSpec::new().dir("d"), |tree, n| {
            if n % 10 == 3 && layer < 2 {
                tree.whiteout(format!("d/n{:05}", n + (layer + 1) * each / 2))
            } else {
                tree.with(Entry::new(format!("d/n{:05}", n + layer * each / 2), What::Symlink(b"x".to_vec())))
            }
        })
    })
}

fn open_dir<B: Bed>(w: &World<B>, path: &str) -> (Node<B>, DirHandle<B::L, B::S>) {
    let node = w.node(path);
    let handle = w.view().open_dir(&node, &Caller::root()).unwrap();
    (node, handle)
}

pub fn cookies_resume_anywhere<B: Bed>() {
    let mut tree = TreeSpec::new().dir("d");
    for n in 0..50 {
        tree = tree.file(format!("d/{n}"), "");
    }
    let w = open_world!(B, [TreeSpec::new().dir("d").file("d/top", "").whiteout("d/7"), tree]);
    let (_, handle) = open_dir(&w, "d");
    let all = page::<B>(&handle, 0, usize::MAX);
    assert_eq!(all.len(), 50);
    for (n, (_, cookie)) in all.iter().enumerate() {
        assert_eq!(page::<B>(&handle, *cookie, usize::MAX), all[n + 1..], "after entry {n}");
    }
    let mut paged = Vec::new();
    let mut from = 0;
    while let Some((name, next)) = page::<B>(&handle, from, 1).pop() {
        paged.push((name, next));
        from = next;
    }
    assert_eq!(paged, all);
}

pub fn cookies_survive_changes<B: Bed>() {
    let mut tree = TreeSpec::new().dir("d");
    for n in 0..40 {
        tree = tree.file(format!("d/f{n:02}"), "");
    }
    let w = open_world!(B, [tree]);
    let (_, handle) = open_dir(&w, "d");
    let first = page::<B>(&handle, 0, 20);
    let seen: BTreeSet<_> = first.iter().map(|(n, _)| n.clone()).collect();
    for n in 0..10 {
        w.put(&format!("d/new{n}"), "");
    }
    let gone = first[3].0.clone();
    w.unlink(&format!("d/{gone}")).unwrap();
    let rest = page::<B>(&handle, first[19].1, usize::MAX);
    let old: Vec<_> = rest.iter().map(|(n, _)| n.clone()).filter(|n| n.starts_with('f')).collect();
    assert_eq!(old.len(), 20, "every name that was there all the time comes once");
    assert!(old.iter().all(|n| !seen.contains(n)));
    handle.rewind();
    let again: BTreeSet<_> = page::<B>(&handle, 0, usize::MAX).into_iter().map(|(n, _)| n).collect();
    assert!(again.contains("new3") && !again.contains(&gone) && again.len() == 49);
}

pub fn large_directories<B: Bed>() {
    let mut w = open_world!(B, layers_of_names(2000));
    let model = crate::model::Model::from_stack(&layers_of_names(2000).into());
    let want = crate::subject::Subject::dump(&model);
    for _ in 0..2 {
        let names: BTreeSet<_> = w.list("d").into_iter().collect();
        let listed: BTreeSet<_> = want
            .paths()
            .into_iter()
            .filter(|p| p.0.len() == 2)
            .map(|p| String::from_utf8(p.0[1].clone()).unwrap())
            .collect();
        assert!(names == listed, "{} names, expected {}", names.len(), listed.len());
        assert_eq!(w.list("d").len(), names.len(), "each once");
        w.reopen();
    }
}

pub fn deep_paths<B: Bed>() {
    const DEPTH: usize = 250;
    let mut w = open_world!(B, [TreeSpec::new().dir("d")]);
    let mut dir = w.node("d");
    for _ in 0..DEPTH {
        dir = w.view().make(&dir, name("down"), &New::dir(0o755), &Caller::root()).unwrap();
    }
    w.view().make(&dir, name("bottom"), &New::file(0o600), &Caller::root()).unwrap();
    drop(dir);
    w.mv("d", "moved");
    w.reopen();
    let path = format!("moved/{}bottom", "down/".repeat(DEPTH));
    assert_eq!(w.resolve(&path).unwrap().kind(), Kind::File);
    assert_eq!(w.dump().paths().len(), DEPTH + 2);
}

pub fn odd_names<B: Bed>() {
    let odd: [&[u8]; 9] = [
        b"\xff\xfe",
        b".wh.a",
        b".wh..wh..opq",
        b"...",
        b" ",
        b"new\nline",
        &[b'L'; 255],
        "\u{fc}".as_bytes(),
        b"#1",
    ];
    let mut tree = TreeSpec::new().file("a", "stays").dir("d");
    for (n, name) in odd.iter().enumerate() {
        tree = tree.file(name, n.to_string()).file([b"d/", *name].concat(), "low");
    }
    let mut w = open_world!(B, [tree]);
    for name in odd {
        let (root, dir) = (w.view().root(), w.node("d"));
        let as_name = stratafs_core::Name::new(name).unwrap();
        w.view().unlink(&root, as_name, &Caller::root()).unwrap();
        let node = w.view().make(&root, as_name, &New::file(0o600), &Caller::root()).unwrap();
        let low = w.view().lookup(&dir, as_name).unwrap().unwrap();
        for node in [&node, &low] {
            let handle = w.view().open(node, super::world::WRITE, &Caller::root()).unwrap();
            crate::view::write(&handle, 0, b"up!").unwrap();
        }
    }
    w.reopen();
    assert_eq!(
        (w.list("/").len(), w.list("d").len(), w.text("a").as_str()),
        (odd.len() + 2, odd.len(), "stays")
    );
    for name in odd {
        for path in [Path(vec![name.to_vec()]), Path(vec![b"d".to_vec(), name.to_vec()])] {
            let node = crate::view::find(w.view(), &path).unwrap();
            assert_eq!(crate::view::contents(w.view(), &node).unwrap(), b"up!", "{path}");
        }
    }
}

pub fn opaque_directories_hide_what_is_below<B: Bed>() {
    let mut w = open_world!(
        B,
        [
            TreeSpec::new().opaque("d").file("d/top", ""),
            TreeSpec::new().dir("d").file("d/low", "").dir("d/sub").file("d/sub/x", ""),
        ]
    );
    assert_eq!(w.ls("d"), "top");
    w.mkdir("d/sub");
    w.put("d/low", "new");
    w.mv("d", "e");
    w.reopen();
    assert_eq!((w.ls("/").as_str(), w.ls("e").as_str(), w.ls("e/sub").as_str()), ("e", "low sub top", ""));
}

pub fn root_attributes_are_kept<B: Bed>() {
    let mut w = open_world!(B, [TreeSpec::new().file("f", "")]);
    w.chmod("/", 0o711);
    w.chown("/", 12, 13);
    w.view()
        .set_xattr(&w.view().root(), b"user.r", b"v", stratafs_core::SetXattr::Any, &Caller::root())
        .unwrap();
    w.reopen();
    let attr = w.attr("/");
    assert_eq!((attr.mode, attr.uid, attr.gid), (0o711, 12, 13));
    assert_eq!(w.view().xattr(&w.view().root(), b"user.r").unwrap(), Some(b"v".to_vec()));
    assert_eq!(w.ls("/"), "f");
}
