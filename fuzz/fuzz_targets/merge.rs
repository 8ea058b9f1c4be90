//! The fold over layers that answer anything: it ends, asks each layer no more than a path is long, and gives
//! directories only or one chain of files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratafs_core::merge::{Ceiling, below};
use stratafs_core::{Attr, Device, FileId, Found, Hit, Kind, Marks, Name, Redirect, Time};

const LAYERS: usize = 6;

fn attr(kind: Kind, ino: u64) -> Attr {
    let time = Time::default();
    Attr {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        blocks: 0,
        blksize: 4096,
        rdev: Device::default(),
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
        id: FileId { dev: 1, ino },
    }
}

fn redirect(choice: u8) -> Option<Redirect> {
    let text: &[u8] = match choice % 6 {
        0 => b"a",
        1 => b"/a",
        2 => b"/a/b",
        3 => b"/b/a/b",
        _ => return None,
    };
    Redirect::parse(text).ok()
}

fuzz_target!(|data: &[u8]| {
    let mut tape = data.iter().copied();
    let mut next = move || tape.next().unwrap_or(0);
    let top = Marks {
        opaque: next() % 8 == 0,
        metacopy: next() % 2 == 0,
        redirect: redirect(next()),
        ..Marks::default()
    };
    let ceiling = match next() % 3 {
        0 => None,
        n => Some(Ceiling { is_dir: n == 1, marks: &top }),
    };
    let roots: Vec<u64> = (0..LAYERS as u64).collect();
    let parent: Vec<u64> = (100..100 + LAYERS as u64).collect();
    let mut asked = [0_usize; LAYERS];
    let mut ino = 1000;
    let name = Name::new(b"a").expect("a name");
    let found = below(&roots, parent.iter().enumerate(), name, ceiling, |layer, _, _| {
        asked[layer] += 1;
        ino += 1;
        let kind = match next() % 8 {
            0 | 1 => return Ok(Found::Absent),
            2 => return Ok(Found::Whiteout),
            3 => Kind::File,
            4 => Kind::Symlink,
            _ => Kind::Dir,
        };
        let marks = Marks {
            opaque: next() % 8 == 0,
            metacopy: kind == Kind::File && next() % 2 == 0,
            redirect: redirect(next()),
            ..Marks::default()
        };
        Ok(Found::Node(Hit { node: ino, attr: attr(kind, ino), marks, bare: false }))
    })
    .expect("no layer failed");
    assert!(asked.iter().all(|n| *n <= 16), "{asked:?}");
    assert!(found.windows(2).all(|pair| pair[0].layer < pair[1].layer));
    if found.first().is_some_and(|f| f.attr.kind == Kind::Dir) {
        assert!(found.iter().all(|f| f.attr.kind == Kind::Dir));
    } else if let Some((last, chain)) = found.split_last() {
        assert!(chain.iter().all(|f| f.marks.metacopy) && last.attr.kind != Kind::Dir);
    }
});
