//! The same bytes in the kernel: its origins and index names are ours, its upper reads here, ours mounts there.
//! Needs root and an overlayfs in the kernel.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stratafs_core::*;
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Namespace, Ownership, ScratchOptions};
use tempfile::TempDir;

/// Directories `l`, `u`, `w` and `m` for one kernel overlay.
struct Bed {
    at: PathBuf,
    _fs: Option<Mount>,
    _dir: TempDir,
}

impl Bed {
    fn on(dir: TempDir, fs: Option<Mount>) -> Self {
        let at = fs.as_ref().map_or(dir.path().to_path_buf(), |m| m.0.clone());
        for n in ["l", "u", "w", "m"] {
            fs::create_dir(at.join(n)).unwrap();
        }
        Self { at, _fs: fs, _dir: dir }
    }

    fn path(&self, n: &str) -> PathBuf {
        self.at.join(n)
    }

    fn mount(&self, options: &str) -> Option<Mount> {
        Mount::overlay(&self.path("l"), &self.path("u"), &self.path("w"), options, &self.path("m"))
    }

    fn layer(&self) -> DirLayer {
        DirLayer::open(self.path("l"), &LayerOptions::default()).unwrap()
    }

    fn scratch(&self) -> DirScratch {
        DirScratch::open(self.path("u"), self.path("w"), &ScratchOptions::default()).unwrap()
    }
}

fn plain() -> Option<Bed> {
    if !is_root() {
        skip("root, to mount the kernel's overlayfs");
        return None;
    }
    let bed = Bed::on(TempDir::new().unwrap(), None);
    if bed.mount("").is_none() {
        skip("the kernel's overlayfs");
        return None;
    }
    Some(bed)
}

/// A fresh file system of `kind` in a file, or tmpfs.
fn fresh(kind: &str) -> Option<Bed> {
    if !is_root() {
        skip("root, to mount file systems");
        return None;
    }
    let dir = TempDir::new().unwrap();
    let at = dir.path().join("fs");
    let mounted = if kind == "tmpfs" {
        Mount::new(&["-t", "tmpfs", "tmpfs"], &at)
    } else {
        let image = dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let made = std::process::Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image).output();
        match made {
            Ok(out) if out.status.success() => Mount::new(&["-o", "loop", &image.to_string_lossy()], &at),
            _ => None,
        }
    };
    if mounted.is_none() {
        skip(&format!("a {kind} file system"));
    }
    mounted.map(|m| Bed::on(dir, Some(m)))
}

fn origins_agree(bed: &Bed) {
    let l = bed.path("l");
    fs::create_dir(l.join("d")).unwrap();
    fs::write(l.join("d/f"), b"data").unwrap();
    fs::hard_link(l.join("d/f"), l.join("second")).unwrap();
    std::os::unix::fs::symlink("x", l.join("link")).unwrap();
    let Some(mount) = bed.mount(",index=on") else { return skip("an overlay with index=on here") };
    let m = bed.path("m");
    fs::OpenOptions::new().append(true).open(m.join("d/f")).unwrap();
    std::os::unix::fs::lchown(m.join("link"), Some(1), None).unwrap();
    drop(mount);
    let layer = bed.layer();
    for path in ["d", "d/f", "link"] {
        let written = get(bed.path("u").join(path), "trusted.overlay.origin").unwrap();
        let node = hit(&layer, path);
        assert_eq!(layer.origin(&node.node).unwrap(), Origin::new(written), "{path}");
        assert_eq!(layer.locate(&layer.origin(&node.node).unwrap()), Some(node.attr.id), "{path}");
    }
    let mut index: Vec<_> =
        fs::read_dir(bed.path("w/index")).unwrap().map(|e| e.unwrap().file_name()).collect();
    index.retain(|n| !n.to_string_lossy().starts_with('#'));
    assert_eq!(index.len(), 1);
    let origin = layer.origin(&hit(&layer, "second").node).unwrap();
    let scratch = bed.scratch();
    let indexed = scratch.indexed(&origin).unwrap().unwrap();
    assert_eq!(indexed.attr.id, hit(&scratch, "d/f").attr.id);
    assert!(indexed.marks.nlink.is_some());
    assert_eq!(scratch.index_entries().unwrap().len(), 1);
    // An origin of the upper is no object of a lower layer, not even on the same file system.
    assert_eq!(indexed.marks.origin, Some(origin));
}

#[test]
fn origins_are_the_kernels_here() {
    if let Some(bed) = plain() {
        origins_agree(&bed);
    }
}

#[test]
fn origins_are_the_kernels_on_other_file_systems() {
    for kind in ["tmpfs", "ext4", "xfs", "btrfs"] {
        if let Some(bed) = fresh(kind) {
            println!("{kind}");
            origins_agree(&bed);
        }
    }
}

#[test]
fn an_upper_of_the_kernel_reads_here() {
    let Some(bed) = plain() else { return };
    let l = bed.path("l");
    fs::create_dir_all(l.join("d/sub")).unwrap();
    fs::create_dir(l.join("gone")).unwrap();
    fs::write(l.join("f"), b"lower").unwrap();
    fs::write(l.join("x"), b"x").unwrap();
    let Some(mount) = bed.mount(",redirect_dir=on,metacopy=on,index=on") else {
        return skip("an overlay with redirect_dir, metacopy and index");
    };
    let m = bed.path("m");
    let busy = DirScratch::open(bed.path("u"), bed.path("w"), &ScratchOptions::default()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy);
    assert!(busy.to_string().contains(&*m.to_string_lossy()), "{busy}");
    fs::rename(m.join("d"), m.join("moved")).unwrap();
    fs::set_permissions(m.join("f"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_dir(m.join("gone")).unwrap();
    fs::create_dir(m.join("gone")).unwrap();
    fs::remove_file(m.join("x")).unwrap();
    drop(mount);
    let s = bed.scratch();
    assert!(is_whiteout(&s, "d") && is_whiteout(&s, "x"));
    assert_eq!(hit(&s, "moved").marks.redirect, Some(Redirect::sibling(name("d"))));
    assert!(hit(&s, "gone").marks.opaque);
    let f = hit(&s, "f");
    assert!(f.marks.metacopy && f.attr.size == 5 && f.attr.mode == 0o600);
    assert!(s.root().unwrap().marks.impure);
    assert!(s.xattrs(&f.node).unwrap().iter().all(|n| !n.starts_with(b"trusted.overlay.")));
}

#[test]
fn an_upper_of_ours_mounts_in_the_kernel() {
    let Some(bed) = plain() else { return };
    let l = bed.path("l");
    fs::create_dir_all(l.join("d/sub")).unwrap();
    fs::create_dir_all(l.join("opaque/hidden")).unwrap();
    fs::write(l.join("f"), b"lower").unwrap();
    fs::write(l.join("x"), b"x").unwrap();
    fs::write(l.join("hard"), b"h").unwrap();
    fs::hard_link(l.join("hard"), l.join("hard2")).unwrap();
    let (s, layer) = (bed.scratch(), bed.layer());
    assert_eq!(s.namespace(), Namespace::Trusted);
    let root = s.root().unwrap().node;
    let at = |n| At { dir: &root, name: name(n) };
    let seed = |kind| Seed { kind, mode: 0o750, uid: 1, gid: 2, rdev: Device::default(), target: b"" };
    let dir = |n, mark: Mark<'_>| {
        let staged = s.stage(&seed(Kind::Dir)).unwrap();
        s.mark(s.staged(&staged), mark).unwrap();
        s.publish(staged, at(n), Over::Nothing).unwrap()
    };
    s.whiteout(at("x")).unwrap();
    s.whiteout(at("d")).unwrap();
    dir("moved", Mark::Redirect(&Redirect::parse(b"/d").unwrap()));
    dir("opaque", Mark::Opaque);
    let meta = s.stage(&seed(Kind::File)).unwrap();
    let origin = layer.origin(&hit(&layer, "f").node).unwrap();
    s.open_write(s.staged(&meta)).unwrap().set_len(5).unwrap();
    s.mark(s.staged(&meta), Mark::Metacopy).unwrap();
    s.mark(s.staged(&meta), Mark::Origin(&origin)).unwrap();
    s.publish(meta, at("f"), Over::Nothing).unwrap();
    let hard = s.stage(&seed(Kind::File)).unwrap();
    s.open_write(s.staged(&hard)).unwrap().write_at(b"H", 0).unwrap();
    let origin = layer.origin(&hit(&layer, "hard").node).unwrap();
    let indexed = s.publish_indexed(hard, &origin).unwrap();
    s.mark(&indexed, Mark::Nlink(NlinkBase::Lower(0))).unwrap();
    s.link(&indexed, at("hard"), Over::Nothing).unwrap();
    s.set_xattr(&hit(&s, "f").node, b"trusted.overlay.mine", b"1", SetXattr::Any).unwrap();
    s.kernel_mountable().unwrap();
    drop(s);
    let Some(mount) = bed.mount(",redirect_dir=on,metacopy=on,index=on") else {
        panic!("the kernel refused")
    };
    let m = bed.path("m");
    assert!(!m.join("x").exists() && !m.join("d").exists());
    assert!(m.join("moved/sub").is_dir());
    assert_eq!(fs::read_dir(m.join("opaque")).unwrap().count(), 0);
    let f = fs::metadata(m.join("f")).unwrap();
    assert_eq!((f.mode() & 0o7777, f.uid(), f.gid()), (0o750, 1, 2));
    assert_eq!(fs::read(m.join("f")).unwrap(), b"lower");
    assert_eq!(get(m.join("f"), "trusted.overlay.mine").unwrap(), b"1");
    for n in ["hard", "hard2"] {
        assert_eq!(fs::read(m.join(n)).unwrap(), b"H", "{n}");
        assert_eq!(fs::metadata(m.join(n)).unwrap().nlink(), 2);
    }
    drop(mount);
    assert_eq!(bed.scratch().index_entries().unwrap().len(), 1);
}

#[test]
fn the_kernel_refuses_what_it_would_not_understand() {
    let Some(bed) = plain() else { return };
    let options = ScratchOptions {
        namespace: Some(Namespace::User),
        ownership: Ownership::Apply,
        ..ScratchOptions::default()
    };
    let s = DirScratch::open(bed.path("u"), bed.path("w"), &options).unwrap();
    s.kernel_mountable().unwrap();
    drop(s);
    let mount = bed.mount(",userxattr").expect("a scratch without redirects mounts");
    drop(mount);
    let s = DirScratch::open(bed.path("u"), bed.path("w"), &options).unwrap();
    let seed = Seed { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, rdev: Device::default(), target: b"" };
    let staged = s.stage(&seed).unwrap();
    s.mark(s.staged(&staged), Mark::Redirect(&Redirect::sibling(name("a")))).unwrap();
    assert!(s.kernel_mountable().is_err());
    drop(staged);
    drop(s);
    assert!(bed.mount(",userxattr").is_none());
    refuses_volatile(&bed.path("w"), &bed);
}

fn refuses_volatile(work: &Path, bed: &Bed) {
    fs::remove_dir_all(work.join("work")).unwrap();
    let options = ScratchOptions { volatile: true, ..ScratchOptions::default() };
    let s = DirScratch::open(bed.path("u"), work, &options).unwrap();
    assert!(s.kernel_mountable().is_err());
    drop(s);
    assert!(bed.mount("").is_none());
    let accept = ScratchOptions { accept_volatile: true, ..options };
    DirScratch::open(bed.path("u"), work, &accept).unwrap().close().unwrap();
    let Some(mount) = bed.mount(",volatile") else { panic!("the kernel refused") };
    drop(mount);
    let e = DirScratch::open(bed.path("u"), work, &ScratchOptions::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Corrupt);
}

#[test]
fn an_overlay_is_no_place_for_a_scratch() {
    let Some(bed) = plain() else { return };
    let Some(mount) = bed.mount("") else { return };
    for n in ["u2", "w2"] {
        fs::create_dir(bed.path("m").join(n)).unwrap();
    }
    let m = bed.path("m");
    let e = DirScratch::open(m.join("u2"), m.join("w2"), &ScratchOptions::default()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
    drop(mount);
}
