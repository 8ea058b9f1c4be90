//! Many threads on one view.

#![allow(missing_docs, reason = "a case is named after what must hold")]

use super::world::{READ, WRITE, name};
use super::{Bed, open_world};
use crate::spec::{Data, Entry, TreeSpec, What};
use crate::view::{contents, entries, read};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use stratafs_core::error::errno::*;
use stratafs_core::{Access, Caller, New, RenameFlags};

const THREADS: usize = 8;

pub fn appenders_lose_nothing_through_one_copy_up<B: Bed>() {
    const EACH: usize = 50;
    let start = Data::seeded(2 << 20, 7).bytes();
    let w = open_world!(B, [TreeSpec::new().with(Entry::new("f", What::File(Data::seeded(2 << 20, 7))))]);
    let (view, node) = (w.view(), w.node("f"));
    scope(|s| {
        for thread in 0..THREADS {
            let node = node.clone();
            s.spawn(move || {
                let handle = view.open(&node, Access { append: true, ..WRITE }, &Caller::root()).unwrap();
                for n in 0..EACH {
                    let line = format!("<{thread}:{n:03}>");
                    assert_eq!(handle.append(line.as_bytes()).unwrap().1, line.len());
                }
            });
        }
    });
    let all = contents(view, &node).unwrap();
    assert!(all[..start.len()] == start, "the lower part is whole");
    let tail = String::from_utf8(all[start.len()..].to_vec()).unwrap();
    assert_eq!(tail.len(), THREADS * EACH * "<0:000>".len());
    for thread in 0..THREADS {
        let mut from = 0;
        for n in 0..EACH {
            let line = format!("<{thread}:{n:03}>");
            from += tail[from..].find(&line).unwrap_or_else(|| panic!("{line} is lost or out of order"));
        }
    }
}

pub fn listings_under_churn_show_stable_names_once<B: Bed>() {
    let mut tree = TreeSpec::new().dir("d");
    for n in 0..100 {
        tree = tree.file(format!("d/stable{n}"), "");
    }
    let w = open_world!(B, [tree.file("d/churn", "")]);
    let (view, dir, done) = (w.view(), w.node("d"), AtomicBool::new(false));
    scope(|s| {
        let (dir, done) = (&dir, &done);
        s.spawn(move || {
            for n in 0..300 {
                let new = format!("new{n}");
                view.make(dir, name(&new), &New::file(0o644), &Caller::root()).unwrap();
                view.rename(dir, name(&new), dir, name("churn"), RenameFlags::empty(), &Caller::root())
                    .unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let mut seen = BTreeMap::new();
                    for (name, ..) in entries(view, dir).unwrap() {
                        *seen.entry(name).or_insert(0) += 1;
                    }
                    for n in 0..100 {
                        assert_eq!(seen.get(format!("stable{n}").as_bytes()), Some(&1), "stable{n}");
                    }
                    assert!(seen.values().all(|count| *count == 1));
                }
            });
        }
    });
}

pub fn atomic_replacement_is_never_seen_half<B: Bed>() {
    const SIZE: usize = 20_000;
    let w = open_world!(B, [TreeSpec::new().file("f", "a".repeat(SIZE))]);
    let (view, root, done) = (w.view(), w.view().root(), AtomicBool::new(false));
    scope(|s| {
        let (root, done) = (&root, &done);
        s.spawn(move || {
            for n in 0..200 {
                let node = view.make(root, name("tmp"), &New::file(0o644), &Caller::root()).unwrap();
                let handle = view.open(&node, WRITE, &Caller::root()).unwrap();
                crate::view::write(&handle, 0, &vec![b'a' + n % 26; SIZE]).unwrap();
                view.rename(root, name("tmp"), root, name("f"), RenameFlags::empty(), &Caller::root())
                    .unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let node = view.lookup(root, name("f")).unwrap().expect("the name is always there");
                    let attr = view.attr(&node).unwrap();
                    assert_eq!(attr.size, SIZE as u64);
                    let handle = view.open(&node, READ, &Caller::root()).unwrap();
                    let bytes = read(&handle, 0, SIZE + 1).unwrap();
                    assert_eq!(bytes.len(), SIZE);
                    assert!(bytes.iter().all(|b| *b == bytes[0]), "one version or the other");
                }
            });
        }
    });
}

pub fn renames_against_copy_ups<B: Bed>() {
    const FILES: usize = 40;
    let mut tree = TreeSpec::new().dir("a").dir("b");
    for n in 0..FILES {
        tree = tree.file(format!("a/{n}"), "x");
    }
    let mut w = open_world!(B, [tree]);
    let nodes: Vec<_> = (0..FILES).map(|n| w.node(&format!("a/{n}"))).collect();
    let (a, b) = (w.node("a"), w.node("b"));
    let view = w.view();
    scope(|s| {
        let (nodes, a, b) = (&nodes, &a, &b);
        s.spawn(move || {
            for n in 0..FILES {
                let n = n.to_string();
                view.rename(a, name(&n), b, name(&n), RenameFlags::empty(), &Caller::root()).unwrap();
            }
        });
        for _ in 0..2 {
            s.spawn(move || {
                for node in nodes {
                    let handle = view.open(node, Access { append: true, ..WRITE }, &Caller::root()).unwrap();
                    handle.append(b"y").unwrap();
                }
            });
        }
    });
    drop((nodes, a, b));
    w.reopen();
    assert_eq!(w.ls("a"), "");
    for n in 0..FILES {
        assert_eq!(w.text(&format!("b/{n}")), "xyy");
    }
}

pub fn links_against_copy_ups<B: Bed>() {
    let mut w =
        open_world!(B, [TreeSpec::new().file("a", "x").hard_link("b", "a").hard_link("c", "a").dir("d")]);
    let (view, d) = (w.view(), w.node("d"));
    let nodes = ["a", "b", "c"].map(|path| w.node(path));
    scope(|s| {
        for (n, node) in nodes.iter().enumerate() {
            let d = &d;
            s.spawn(move || {
                for i in 0..20 {
                    view.link(node, d, name(&format!("{n}-{i}")), &Caller::root()).unwrap();
                    let handle = view.open(node, Access { append: true, ..WRITE }, &Caller::root()).unwrap();
                    handle.append(b"y").unwrap();
                }
            });
        }
    });
    drop((nodes, d));
    for _ in 0..2 {
        assert_eq!((w.attr("a").nlink, w.attr("d/2-19").nlink), (63, 63));
        assert_eq!(w.text("b").len(), 61);
        assert_eq!(w.node("a").ino(), w.node("d/0-0").ino());
        w.reopen();
    }
}

pub fn directories_move_under_lookups<B: Bed>() {
    let w = open_world!(B, [TreeSpec::new().dir("x").dir("y").dir("x/d").dir("x/d/e").file("x/d/e/f", "1")]);
    let (view, done) = (w.view(), AtomicBool::new(false));
    let (x, y) = (w.node("x"), w.node("y"));
    scope(|s| {
        let (x, y, done) = (&x, &y, &done);
        s.spawn(move || {
            for _ in 0..100 {
                view.rename(x, name("d"), y, name("d"), RenameFlags::empty(), &Caller::root()).unwrap();
                view.rename(y, name("d"), x, name("d"), RenameFlags::empty(), &Caller::root()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        for base in [x, y] {
            s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    match view.resolve(base, b"d/e/f", stratafs_core::Follow::Yes, &Caller::root()) {
                        Ok(node) => assert_eq!(contents(view, &node).unwrap(), b"1"),
                        Err(error) => assert_eq!(error.errno(), ENOENT, "{error}"),
                    }
                }
            });
        }
    });
}
