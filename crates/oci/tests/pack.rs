//! What a packed layer has in it, rule by rule; that it means the right thing is in `algebra.rs`.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use stratafs_core::{Access, Caller, Config, Device, ErrorKind, Kind, Name, SetXattr, Stack, Time, View};
use stratafs_mem::{Clock, MemLayer, MemScratch};
use stratafs_oci::pack::{self, Packed};
use stratafs_oci::tar::{Entry, EntryKind, Reader};
use stratafs_oci::{Limits, Progress, Result, Silent};
use stratafs_testkit::op::{Op, RenameHow};
use stratafs_testkit::view::{ViewSubject, find};
use stratafs_testkit::{Path, Subject};

type MemView = View<MemLayer, MemScratch>;

fn scratch() -> MemScratch {
    MemScratch::with_clock(Clock::new(|| Time { secs: 1_600_000_000, nanos: 0 }))
}

fn open(layers: &[MemLayer], scratch: &MemScratch) -> MemView {
    let stack = Stack { layers: layers.to_vec(), scratch: Some(scratch.clone()) };
    View::new(stack, Config::default()).unwrap()
}

/// A view over `layers` in which this was done.
fn run(layers: &[MemLayer], ops: &[Op]) -> (MemView, MemScratch) {
    let scratch = scratch();
    let (layers, own) = (layers.to_vec(), scratch.clone());
    let mut subject = ViewSubject::new({
        let layers = layers.clone();
        move || open(&layers, &own)
    });
    for op in ops {
        subject.apply(op).unwrap_or_else(|e| panic!("{op:?}: errno {e}"));
    }
    drop(subject);
    (open(&layers, &scratch), scratch)
}

/// `d/{a,b,sub/deep}`, `e/x`, `f`, `g`.
fn base() -> MemLayer {
    let ops = [
        mkdir("d"),
        create("d/a"),
        create("d/b"),
        mkdir("d/sub"),
        create("d/sub/deep"),
        mkdir("e"),
        create("e/x"),
        create("f"),
        create("g"),
    ];
    let (view, scratch) = run(&[], &ops);
    view.settle_links().unwrap();
    drop(view);
    scratch.seal()
}

fn p(text: &str) -> Path {
    Path::of(text)
}

fn mkdir(path: &str) -> Op {
    Op::Mkdir { path: p(path), mode: 0o755 }
}

fn create(path: &str) -> Op {
    Op::Create { path: p(path), mode: 0o640 }
}

fn unlink(path: &str) -> Op {
    Op::Unlink { path: p(path) }
}

fn rmdir(path: &str) -> Op {
    Op::Rmdir { path: p(path) }
}

fn chmod(path: &str) -> Op {
    Op::Chmod { path: p(path), mode: 0o600 }
}

fn link(from: &str, to: &str) -> Op {
    Op::Link { from: p(from), to: p(to) }
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename { from: p(from), to: p(to), how: RenameHow::Plain }
}

fn pack(view: &MemView) -> Result<(Vec<u8>, Packed)> {
    let mut out = Vec::new();
    let packed = pack::layer(view, &view.changes()?, &mut out, &Silent)?;
    Ok((out, packed))
}

fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(archive, &Limits::default());
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// What is in the layer of some operations over [`base`], but for the root: names, `/` behind directories, targets.
fn layer(ops: &[Op]) -> Vec<String> {
    let (archive, packed) = pack(&run(&[base()], ops).0).unwrap();
    let entries = entries(&archive);
    assert_eq!(packed.entries, entries.len() as u64);
    entries.iter().filter(|e| e.path != b".").map(show).collect()
}

fn show(entry: &Entry) -> String {
    let path = entry.path.escape_ascii();
    match &entry.kind {
        EntryKind::Dir => format!("{path}/"),
        EntryKind::Hardlink(target) => format!("{path} = {}", target.escape_ascii()),
        EntryKind::Symlink(target) => format!("{path} -> {}", target.escape_ascii()),
        _ => path.to_string(),
    }
}

#[test]
fn nothing_changed_is_an_empty_archive() {
    let (archive, packed) = pack(&run(&[base()], &[]).0).unwrap();
    assert_eq!((archive.len() as u64, packed.bytes, packed.entries), (1024, 1024, 0));
}

#[test]
fn parents_come_first_with_the_attributes_that_the_view_shows() {
    let (view, _) =
        run(&[base()], &[Op::Chown { path: p("d"), uid: Some(7), gid: None }, chmod("d/sub/deep")]);
    let entries = entries(&pack(&view).unwrap().0);
    let shown: Vec<_> = entries.iter().map(show).collect();
    assert_eq!(shown, ["./", "d/", "d/sub/", "d/sub/deep"]);
    assert_eq!(entries.iter().map(|e| (e.uid, e.mode)).nth(1), Some((7, 0o755)));
}

#[test]
fn a_deletion_is_one_whiteout_in_its_directory() {
    assert_eq!(layer(&[unlink("d/a")]), ["d/", "d/.wh.a"]);
    let all = ["d/a", "d/b", "d/sub/deep"].map(unlink);
    assert_eq!(layer(&[&all[..], &[rmdir("d/sub"), rmdir("d")]].concat()), [".wh.d"]);
}

#[test]
fn a_renamed_directory_is_there_with_everything_and_gone_from_its_place() {
    let moved = ["moved/", "moved/a", "moved/b", "moved/sub/", "moved/sub/deep"];
    assert_eq!(layer(&[rename("d", "moved")]), [&[".wh.d"], &moved[..]].concat());
    assert_eq!(
        layer(&[rename("d", "moved"), unlink("moved/a"), rename("moved/sub", "sub")]),
        [".wh.d", "moved/", "moved/b", "sub/", "sub/deep"]
    );
}

#[test]
fn a_directory_in_the_place_of_another_is_opaque() {
    let moved = ["d/.wh..wh..opq", "e/", "e/.wh..wh..opq", "e/a", "e/b", "e/sub/", "e/sub/deep"];
    let swap = Op::Rename { from: p("d"), to: p("e"), how: RenameHow::Exchange };
    let both = [&["d/"], &moved[..1], &["d/x"], &moved[1..]].concat();
    assert_eq!(layer(&[swap]), both);
    assert_eq!(
        layer(&[rename("d", "moved"), mkdir("d"), create("d/a")])[..3],
        ["d/", "d/.wh..wh..opq", "d/a"]
    );
    assert_eq!(layer(&[unlink("e/x"), rename("d", "e")]), [&[".wh.d"], &moved[1..]].concat());
    // A file hides nothing that a directory would show.
    assert_eq!(layer(&[unlink("f"), mkdir("f"), create("f/in")]), ["f/", "f/in"]);
    assert_eq!(layer(&[unlink("e/x"), rmdir("e"), create("e")]), ["e"]);
}

#[test]
fn an_object_with_several_names_is_there_with_all_of_them() {
    // `f` did not change, and the layer would say that the two are two.
    assert_eq!(layer(&[link("f", "d/linked")]), ["d/", "d/linked", "f = d/linked"]);
    assert_eq!(layer(&[link("f", "z"), rename("f", "y")]), [".wh.f", "y", "z = y"]);
    let linked = {
        let (view, scratch) = run(&[base()], &[link("f", "d/h"), link("f", "e/h")]);
        view.settle_links().unwrap();
        drop(view);
        scratch.seal()
    };
    let (view, _) = run(&[linked.clone(), base()], &[rename("d", "moved")]);
    let shown: Vec<_> = entries(&pack(&view).unwrap().0).iter().map(show).collect();
    for line in ["e/h", "f = e/h", "moved/h = e/h"] {
        assert!(shown.contains(&line.to_string()), "{line}: {shown:?}");
    }
    let (view, _) = run(&[linked, base()], &[chmod("e/h")]);
    let shown: Vec<_> = entries(&pack(&view).unwrap().0).iter().map(show).collect();
    assert_eq!(shown, ["./", "d/", "d/h", "e/", "e/h = d/h", "f = d/h"]);
}

#[test]
fn a_name_that_would_be_a_whiteout_is_refused_by_its_path() {
    for name in ["d/.wh.", "d/.wh.a", "d/.wh..wh..opq"] {
        let error = pack(&run(&[base()], &[create(name)]).0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
        let error = pack::flatten(&run(&[base()], &[create(name)]).0, io::sink(), &Silent).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_deletion_that_no_whiteout_can_say_makes_the_directory_opaque() {
    let long = format!("e/{}", "L".repeat(252));
    let (view, scratch) =
        run(&[base()], &[create(&long), create("e/.wh.odd"), mkdir("e/sub"), create("e/sub/in")]);
    drop(view);
    let layers = [scratch.seal(), base()];
    let short = [create("e/new"), unlink("e/x")];
    let (view, _) = run(&layers, &[&[unlink(&long), unlink("e/.wh.odd")], &short[..]].concat());
    let shown: Vec<_> = entries(&pack(&view).unwrap().0).iter().map(show).collect();
    assert_eq!(shown, ["./", "e/", "e/.wh..wh..opq", "e/new", "e/sub/", "e/sub/in", "e/.wh.x"]);
}

#[test]
fn sockets_are_left_out_and_hide_what_they_replaced() {
    let socket = |path| Op::Mknod { path: p(path), kind: Kind::Socket, mode: 0o600, rdev: Device::default() };
    let (view, _) = run(&[base()], &[socket("d/s"), unlink("f"), socket("f")]);
    let (archive, packed) = pack(&view).unwrap();
    let shown: Vec<_> = entries(&archive).iter().map(show).collect();
    assert_eq!((shown, packed.sockets), (vec!["./".into(), "d/".into(), ".wh.f".into()], 2));
    assert_eq!(pack::flatten(&view, io::sink(), &Silent).unwrap().sockets, 2);
}

#[test]
fn attributes_that_others_would_take_for_marks_are_left_out() {
    let set = |name: &str| Op::SetXattr {
        path: p("f"),
        name: name.into(),
        value: b"y".to_vec(),
        how: SetXattr::Any,
    };
    let (view, _) = run(
        &[base()],
        &[
            set("user.b"),
            set("user.a"),
            set("security.capability"),
            set("trusted.overlay.opaque"),
            set("user.overlay.redirect"),
            set("user.fuseoverlayfs.opaque"),
        ],
    );
    let found = entries(&pack(&view).unwrap().0).into_iter().find(|e| e.path == b"f").unwrap();
    let names: Vec<_> = found.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.a", b"user.b"]);
}

#[test]
fn times_are_kept_to_the_nanosecond_and_are_a_change_by_themselves() {
    let mtime = Time { secs: -5, nanos: 123_456_789 };
    let (view, _) = run(&[base()], &[Op::Utimens { path: p("d"), atime: mtime, mtime }]);
    let entries = entries(&pack(&view).unwrap().0);
    let found: Vec<_> = entries.iter().map(|e| (show(e), e.mtime)).filter(|(path, _)| path != "./").collect();
    assert_eq!(found, [("d/".to_string(), mtime)]);
}

#[test]
fn the_root_is_said_with_every_change() {
    let (view, _) = run(&[base()], &[Op::Chmod { path: Path::root(), mode: 0o711 }]);
    let entries = entries(&pack(&view).unwrap().0);
    assert_eq!(entries.iter().map(|e| (show(e), e.mode)).collect::<Vec<_>>(), [("./".to_string(), 0o711)]);
}

#[test]
fn whiteouts_say_nothing_but_their_names() {
    let (view, _) = run(&[base()], &[unlink("f")]);
    let found = entries(&pack(&view).unwrap().0).into_iter().find(|e| e.path == b".wh.f").unwrap();
    let offset = found.offset;
    assert_eq!(found, Entry { offset, ..Entry::new(".wh.f", EntryKind::File) });
}

#[test]
fn a_flattened_tree_is_in_the_order_of_its_paths() {
    let (view, _) = run(&[base()], &[create("d.x"), create("d-x"), link("f", "d/linked")]);
    let mut out = Vec::new();
    let packed = pack::flatten(&view, &mut out, &Silent).unwrap();
    let shown: Vec<_> = entries(&out).iter().map(show).collect();
    let want = "./ d/ d/a d/b d/linked d/sub/ d/sub/deep d-x d.x e/ e/x f = d/linked g";
    assert_eq!(shown.join(" "), want);
    assert_eq!(packed.entries, shown.len() as u64);
}

/// Writes to a file of the container when so many bytes were packed.
struct Meddler<'a> {
    view: &'a MemView,
    left: usize,
    grow: bool,
}

impl Write for Meddler<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.left > 0 {
            self.left = self.left.saturating_sub(buf.len());
            if self.left == 0 {
                let file = find(self.view, &p("big")).unwrap();
                let len = if self.grow { 1 << 21 } else { 1 << 18 };
                self.view.truncate(&file, len, &Caller::root()).unwrap();
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_an_error() {
    for grow in [true, false] {
        let big = Op::Truncate { path: p("big"), len: 1 << 20 };
        let (view, _) = run(&[base()], &[create("big"), big]);
        let meddler = Meddler { view: &view, left: 300_000, grow };
        let error = pack::layer(&view, &view.changes().unwrap(), meddler, &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("big") && error.to_string().contains("changed"), "{error}");
    }
}

#[test]
fn a_change_list_that_is_not_true_any_more_is_an_error() {
    let (view, _) = run(&[base()], &[create("d/new")]);
    let changes = view.changes().unwrap();
    let dir = find(&view, &p("d")).unwrap();
    view.unlink(&dir, Name::new(b"new").unwrap(), &Caller::root()).unwrap();
    let error = pack::layer(&view, &changes, io::sink(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("d/new"), "{error}");
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(28))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_output_is_passed_on() {
    let (view, _) = run(&[base()], &[create("new")]);
    let error = pack::layer(&view, &view.changes().unwrap(), Full, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

/// Stops after the first bytes of content.
#[derive(Default)]
struct Stop(AtomicBool);

impl Progress for Stop {
    fn advance(&self, _: &str, _: u64) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn packing_can_be_cancelled_amid_a_file() {
    let (view, _) = run(&[base()], &[create("big"), Op::Truncate { path: p("big"), len: 1 << 20 }]);
    let before = find(&view, &p("big")).unwrap();
    assert_eq!(view.open(&before, Access::read(), &Caller::root()).unwrap().size().unwrap(), 1 << 20);
    let mut out = Vec::new();
    let error = pack::layer(&view, &view.changes().unwrap(), &mut out, &Stop::default()).unwrap_err();
    assert_eq!(error.errno(), stratafs_core::error::errno::EINTR);
    assert!(out.len() < 1 << 20);
}
