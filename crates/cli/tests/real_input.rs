//! The main job on real input: a Debian root file system as the one layer, packages installed and removed in a
//! container on it, and the change list compared with what an independent walk of both trees finds.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, skip};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the layer has at the least.
const ENTRIES: usize = 10_000;

/// What is done in the container: everything that a package manager and an administrator do to files.
const JOB: &str = "set -e
dpkg -i /root/package.deb
dpkg --purge --force-depends nano
python3 -m compileall -q /usr/lib/python3.11/email
mv /usr/share/doc /usr/share/papers
mv /usr/share/papers/dpkg /usr/share/papers/dpkg-moved
chown -R 1000:1000 /etc/apt
chmod 0700 /etc/skel
ln /etc/passwd /etc/passwd.link
rm -rf /usr/share/locale; mkdir /usr/share/locale; echo new > /usr/share/locale/README
rm /etc/issue; mkdir /etc/issue
truncate -s 100 /etc/services
touch -d '2001-02-03 04:05:06.789' /etc/hosts
mkfifo /run/pipe
rm -rf /usr/share/man";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    kind: &'static str,
    owner: (u32, u32, u32, u64),
    mtime: (i64, i64),
    content: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

type Tree = BTreeMap<String, Seen>;

fn look(path: &Path) -> Seen {
    let meta = fs::symlink_metadata(path).unwrap();
    let kind = meta.file_type();
    let mut hasher = DefaultHasher::new();
    if kind.is_file() {
        fs::read(path).unwrap().hash(&mut hasher);
    } else if kind.is_symlink() {
        fs::read_link(path).unwrap().hash(&mut hasher);
    }
    let mut xattrs = BTreeMap::new();
    let mut names = vec![0_u8; 65_536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    for name in names[..len].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0_u8; 65_536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        xattrs.insert(name.to_vec(), value[..len].to_vec());
    }
    Seen {
        kind: match kind {
            _ if kind.is_dir() => "directory",
            _ if kind.is_file() => "file",
            _ if kind.is_symlink() => "symlink",
            _ if kind.is_fifo() => "fifo",
            _ => "other",
        },
        owner: (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.rdev()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content: hasher.finish(),
        xattrs,
    }
}

fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let seen = look(&path);
            if seen.kind == "directory" {
                todo.push(path.clone());
            }
            tree.insert(format!("/{}", path.strip_prefix(root).unwrap().to_str().unwrap()), seen);
        }
    }
    tree.insert("/".into(), look(root));
    tree
}

fn aspects(old: &Seen, new: &Seen) -> BTreeSet<&'static str> {
    let mut out = BTreeSet::new();
    for (differs, name) in [
        (old.content != new.content, "data"),
        (old.owner != new.owner, "metadata"),
        (old.xattrs != new.xattrs, "xattrs"),
        (old.mtime != new.mtime, "times"),
    ] {
        if differs {
            out.insert(name);
        }
    }
    out
}

/// A change as both sides write it down: path, what, and the aspects.
type Line = (String, &'static str, BTreeSet<String>);

fn expected(old: &Tree, new: &Tree) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    let own = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
    for (path, before) in old {
        match new.get(path) {
            Some(after) if after.kind == before.kind => {
                let aspects = aspects(before, after);
                if !aspects.is_empty() {
                    lines.insert((path.clone(), "modified", own(aspects)));
                }
            }
            _ => {
                let parent = Path::new(path).parent().unwrap().to_str().unwrap();
                // What was in a directory that is gone went with it.
                if new.get(parent).is_some_and(|p| p.kind == "directory") {
                    lines.insert((path.clone(), "deleted", BTreeSet::new()));
                }
            }
        }
    }
    for (path, after) in new {
        if old.get(path).is_none_or(|before| before.kind != after.kind) {
            lines.insert((path.clone(), "added", BTreeSet::new()));
        }
    }
    lines
}

/// Moves what is at `from` and below it to `to`: how the old tree looks to those who know of the rename.
fn moved(tree: &mut Tree, from: &str, to: &str) {
    let inside = |path: &str| path == from || path.starts_with(&format!("{from}/"));
    let paths: Vec<String> = tree.keys().filter(|path| inside(path)).cloned().collect();
    for path in paths {
        let seen = tree.remove(&path).unwrap();
        tree.insert(format!("{to}{}", &path[from.len()..]), seen);
    }
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

#[test]
fn packages_on_a_debian_root() {
    if !can_mount() {
        return skip("the right to mount");
    }
    if !installed("mmdebstrap") || !installed("apt-get") {
        return skip("mmdebstrap and apt-get");
    }
    let strata = Strata::new();
    let (layer, mnt) = (strata.path("debian"), strata.path("mnt"));
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--include=python3,nano", "bookworm"])
        .arg(&layer)
        .status();
    assert!(made.unwrap().success(), "mmdebstrap");
    let fetched = Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download", "hello"])
        .current_dir(strata.tmp.path())
        .status();
    assert!(fetched.unwrap().success(), "apt-get download");
    let package = fs::read_dir(strata.tmp.path()).unwrap().map(|e| e.unwrap().path());
    let package = package.into_iter().find(|p| p.extension().is_some_and(|e| e == "deb")).unwrap();

    let before = walk(&layer);
    assert!(before.len() >= ENTRIES, "{} entries", before.len());
    strata.run(&["create", "--layer", layer.to_str().unwrap(), "--name", "real"]).ok();
    strata.run(&["fs", "real", "put", package.to_str().unwrap(), "/root/package.deb"]).ok();
    strata.run(&["run", "--name", "real", "--", "sh", "-c", JOB]).ok();

    let listed = strata.run(&["diff", "real", "--all", "--json"]).json();
    fs::create_dir(&mnt).unwrap();
    strata.run(&["mount", "real", mnt.to_str().unwrap()]).ok();
    let after = walk(&mnt);
    strata.run(&["umount", mnt.to_str().unwrap()]).ok();

    let mut old = before.clone();
    let mut renames = BTreeSet::new();
    let mut reported = BTreeSet::new();
    for change in listed["changes"].as_array().unwrap() {
        let text = |key: &str| change[key].as_str().unwrap().to_owned();
        let aspects: BTreeSet<String> =
            change["aspects"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        let what = match text("change").as_str() {
            "renamed" => {
                renames.insert((text("from"), text("path")));
                if aspects.is_empty() {
                    continue;
                }
                "modified"
            }
            "added" => "added",
            "modified" => "modified",
            _ => "deleted",
        };
        assert!(reported.insert((text("path"), what, aspects)), "{change} twice");
    }
    // Both names of a rename are given: the old one as the image has it, so inner ones move first.
    for (from, to) in renames.iter().rev() {
        moved(&mut old, from, to);
    }
    let expected = expected(&old, &after);
    let missing: Vec<_> = expected.difference(&reported).collect();
    let invented: Vec<_> = reported.difference(&expected).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing {missing:#?}\ninvented {invented:#?}");
    assert!(renames.contains(&("/usr/share/doc".into(), "/usr/share/papers".into())), "{renames:?}");
    assert_eq!(walk(&layer), before, "the layer changed");
    strata.run(&["check", "real"]).ok();
    println!("real input: {} entries, {} changes, {} renames", before.len(), reported.len(), renames.len());
    strata.run(&["rm", "real"]).ok();
}
