//! Archives that try to reach outside, unpacked into directories of the host; and unpacking there as whoever runs the
//! test.
#![allow(clippy::unwrap_used, reason = "tests")]

mod apply_help;

use apply_help::*;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Mutex;
use stratafs_core::*;
use stratafs_dir::{DirScratch, LayerOptions, Namespace, Ownership, ScratchOptions};
use stratafs_oci::frame::verify;
use stratafs_oci::tar::Entry;
use stratafs_oci::{Applied, ApplyOptions, Digest, Limits, Silent, apply};
use stratafs_testkit::Dump;

/// A place for a layer, and a tree outside of it.
struct Place {
    dir: tempfile::TempDir,
    before: Dump,
}

const SECRET: &str = "OUTSIDE";

fn dump(at: PathBuf) -> Dump {
    stratafs_testkit::host::dump(File::open(at).unwrap()).unwrap()
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in ["outside/sub", "outside/empty"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in ["outside/f", "outside/sub/f"] {
            fs::write(dir.path().join(path), SECRET).unwrap();
        }
        let before = dump(dir.path().join("outside"));
        Self { dir, before }
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").to_str().unwrap().to_owned()
    }

    fn scratch(&self, name: &str, options: &ScratchOptions) -> DirScratch {
        let at = self.dir.path().join(name);
        DirScratch::create(at.join("upper"), at.join("work"), options).unwrap()
    }

    fn untouched(&self, what: &str) {
        self.before.assert_same(&dump(self.dir.path().join("outside")), what);
    }
}

fn unpack_into(scratch: &DirScratch, bytes: &[u8]) -> Result<(Applied, Vec<u8>)> {
    let sink = Sink::default();
    let options = ApplyOptions {
        frame: Some(Box::new(sink.clone())),
        escaped: Some(scratch.namespace().prefix()),
        stashed: scratch.stashes_ownership(),
        ..ApplyOptions::new("the layer")
    };
    let applied = apply(bytes, scratch, &|| Ok(None::<Below>), options, &Silent)?;
    let frame = sink.bytes();
    assert!(rejoined(&frame, scratch) == bytes);
    let found = verify(Cursor::new(&frame), scratch, &Digest::of(bytes), &Limits::default()).unwrap();
    assert_eq!(found, []);
    Ok((applied, frame))
}

#[test]
fn nothing_outside_is_touched_by_any_way_out() {
    let place = Place::new();
    let out = place.outside();
    let up = format!("{}/{}", "../".repeat(40), out.trim_start_matches('/'));
    for target in
        [out.as_str(), &up, "../../outside", "/proc/self/cwd", "/proc/self/root", &format!("{out}/f")]
    {
        let attacks: Vec<Vec<Item>> = vec![
            vec![file("l/f", "x")],
            vec![file("l/sub/f", "x")],
            vec![dir("l/sub")],
            vec![dir("l/new")],
            vec![link("l/f", "y")],
            vec![hard("l/g", "kept")],
            vec![hard("g", "l/f")],
            vec![hard("g", "l")],
            vec![wh("l/.wh.f")],
            vec![wh("l/.wh.sub")],
            vec![wh("l/.wh..wh..opq")],
            vec![file("l", "x")],
            vec![wh(".wh.l"), file("l/f", "x")],
            vec![fifo("l/f")],
            vec![hard("m", "l"), file("m/f", "x"), file("m", "y")],
            vec![dir("d"), link("d/l", ".."), file("d/l/l/f", "x")],
            vec![(Entry { mode: 0, uid: 12, ..dir("l/empty").0 }, vec![])],
        ];
        for attack in attacks {
            for first in [
                vec![file("kept", "inside"), link("l", target)],
                vec![dir("x"), link("x/y", target), link("l", "x/y"), file("kept", "")],
            ] {
                let name = tempfile::Builder::new().tempdir_in(place.dir.path()).unwrap();
                let scratch = DirScratch::create(
                    name.path().join("upper"),
                    name.path().join("work"),
                    &ScratchOptions::default(),
                )
                .unwrap();
                let items = [first, attack.clone()].concat();
                let done = unpack_into(&scratch, &archive(&items));
                let what: Vec<_> =
                    items.iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect();
                place.untouched(&format!("{what:?} with {target}: {done:?}"));
                assert!(!text(&scratch).contains(SECRET), "{what:?}");
            }
        }
    }
}

#[test]
fn everything_comes_into_a_directory_as_it_was() {
    let root = rustix::process::geteuid().is_root();
    let place = Place::new();
    let mut items = vec![
        (Entry { mode: 0o750, ..dir(".").0 }, vec![]),
        (Entry { mode: 0o1777, uid: 1, gid: 2, ..dir("d").0 }, vec![]),
        file("d/f", vec![b'x'; 700_000]),
        (Entry { mode: 0o4755, uid: 3, gid: 4, ..file("d/suid", "s").0 }, b"s".to_vec()),
        (Entry { mode: 0, ..file("d/shut", "s").0 }, b"s".to_vec()),
        link("d/l", "f"),
        hard("d/h", "d/f"),
        null("null"),
        fifo("pipe"),
        wh(".wh.gone"),
        dir("opaque"),
        wh("opaque/.wh..wh..opq"),
        wh(".wh.again"),
        dir("again"),
        file("again/f", "1"),
        file("d/f2", "old"),
        file("d/f2", "new"),
        file("d/sub/implied", "2"),
    ];
    let capability = vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = [
        ("security.capability", capability),
        ("trusted.x", vec![0, 1]),
        ("user.overlay.opaque", b"y".to_vec()),
        ("trusted.overlay.opaque", b"y".to_vec()),
        ("user.containers.override_stat", b"0:0:0".to_vec()),
    ];
    let xattrs: Vec<_> = xattrs.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect();
    for (entry, _) in
        items.iter_mut().filter(|(entry, _)| [&b"d/suid"[..], b"again"].contains(&entry.path.as_slice()))
    {
        entry.xattrs = xattrs.clone();
    }
    let bytes = archive(&items);
    let mut ways = vec![("stash", Ownership::Stash, Namespace::User)];
    if root {
        ways.push(("apply", Ownership::Apply, Namespace::Trusted));
        ways.push(("user", Ownership::Apply, Namespace::User));
    } else {
        println!("skipped: root, for ownership that is applied");
    }
    for (way, ownership, namespace) in ways {
        let options = ScratchOptions { ownership, namespace: Some(namespace), ..ScratchOptions::default() };
        let scratch = place.scratch(way, &options);
        let (applied, frame) = unpack_into(&scratch, &bytes).unwrap();
        assert!(applied.says_root && applied.dropped_xattrs == 4, "{applied:?}");
        let tree = text(&scratch);
        for line in [
            "d / 1777 1:2",
            "d/f2 \"new\"",
            "d/shut \"s\" 0000",
            "null Char 1:3",
            "again ^",
            "again/f \"1\"",
            "gone !",
            "opaque ^",
            "~ d/f = d/h",
        ] {
            assert!(
                tree.lines().any(|l| l.starts_with(line)),
                "{way}: {line} in\n{}",
                &tree[..500.min(tree.len())]
            );
        }
        let hit = find(&scratch, "d/suid");
        assert_eq!((hit.attr.mode, hit.attr.uid, hit.attr.gid), (0o4755, 3, 4), "{way}");
        assert_eq!(
            scratch.xattr(&hit.node, b"security.capability").unwrap().map(|v| v.len()),
            Some(20),
            "{way}"
        );
        assert_eq!(scratch.root().unwrap().attr.mode, 0o750);
        // Neither form of mount takes anything from the archive for a mark.
        let at = place.dir.path().join(way).join("upper");
        for namespace in [Namespace::Trusted, Namespace::User] {
            let options = LayerOptions { namespace, ..LayerOptions::default() };
            let layer = stratafs_dir::DirLayer::open(&at, &options).unwrap();
            assert!(!find(&layer, "d/suid").marks.metacopy && !find(&layer, "d").marks.opaque, "{way}");
        }
        // The same layer as a layer.
        let reading =
            LayerOptions { namespace, stashed_ownership: way == "stash", ..LayerOptions::default() };
        let layer = stratafs_dir::DirLayer::open(&at, &reading).unwrap();
        assert_eq!(verify(Cursor::new(&frame), &layer, &Digest::of(&bytes), &Limits::default()).unwrap(), []);
        assert_eq!(rejoined(&frame, &layer), bytes);
        fs::write(at.join("d/f2"), "NEW").unwrap();
        let found = verify(Cursor::new(&frame), &layer, &Digest::of(&bytes), &Limits::default()).unwrap();
        assert!(found.iter().all(|damage| damage.path == b"d/f2") && found.len() == 2, "{found:?}");
    }
}

#[test]
fn a_plain_user_unpacks_everything_with_stored_ownership() {
    const USER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        // Who runs this is that user: the test above is this one.
        return;
    }
    let place = tempfile::tempdir().unwrap();
    rustix::fs::chmod(place.path(), rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
    let at = place.path().to_owned();
    let outcome = Mutex::new(None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The identity of this thread only; it ends with it.
            let (uid, gid) = (rustix::process::Uid::from_raw(USER), rustix::process::Gid::from_raw(USER));
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            let scratch =
                DirScratch::create(at.join("upper"), at.join("work"), &ScratchOptions::default()).unwrap();
            assert!(scratch.stashes_ownership());
            let capability = (
                b"security.capability".to_vec(),
                vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            );
            let selinux = (b"security.selinux".to_vec(), b"label".to_vec());
            let items = [
                (Entry { mode: 0o555, ..dir("shut").0 }, vec![]),
                (
                    Entry { uid: 5, xattrs: vec![capability.clone()], ..file("shut/ping", "p").0 },
                    b"p".to_vec(),
                ),
                (Entry { mode: 0o400, uid: 1, ..file("shut/f", "1").0 }, b"1".to_vec()),
                (Entry { uid: 9, xattrs: vec![selinux], ..link("shut/l", "f").0 }, vec![]),
                null("shut/null"),
                fifo("pipe"),
                wh("shut/.wh.x"),
                file("shut/f", "2"),
                (Entry { mode: 0o500, uid: 7, ..dir("shut").0 }, vec![]),
                file("shut/late", "3"),
            ];
            unpack_into(&scratch, &archive(&items)).unwrap();
            let ping = find(&scratch, "shut/ping");
            assert_eq!(scratch.xattr(&ping.node, &capability.0).unwrap(), Some(capability.1));
            *outcome.lock().unwrap() = Some(text(&scratch));
        });
    });
    let tree = outcome.into_inner().unwrap().unwrap();
    assert!(
        tree.contains("shut / 0500 7:0\n")
            && tree.contains("shut/null Char 1:3\n")
            && tree.contains("shut/x !"),
        "{tree}"
    );
}

#[test]
fn devices_without_privilege_say_what_to_do() {
    // A scratch that applies ownership, as root of nothing: made unprivileged by asking for what nobody may.
    if rustix::process::geteuid().is_root() {
        println!("skipped: a plain user");
        return;
    }
    let place = Place::new();
    let options = ScratchOptions { ownership: Ownership::Apply, ..ScratchOptions::default() };
    let scratch = place.scratch("apply", &options);
    let e = unpack_into(&scratch, &archive(&[null("null")])).unwrap_err();
    assert_eq!((e.kind(), e.path()), (ErrorKind::NotPermitted, Some(&b"null"[..])));
    assert!(e.to_string().contains("stored"), "{e}");
}
