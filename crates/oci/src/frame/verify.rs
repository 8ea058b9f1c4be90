//! Whether an unpacked layer still is what its archive said: the archive is replayed against the tree. First its
//! names only, to know which entry counts for which path; then every entry beside the object that it made, while
//! the contents pass and the archive is hashed; last the names that the tree has.

use super::compare::Was;
use super::expect::{Expected, Is, Source};
use super::find::Finder;
use super::read::{Scan, scan};
use super::rejoin::{Heard, Listen, Rejoined};
use super::replay::{Event, replay};
use crate::apply::Rules;
use crate::{Digest, Error, Hasher, Limits, Result};
use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use stratafs_core::{Found, Kind, Layer, NameBuf};

/// Something that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// Where, from the root of the layer; empty for the layer as a whole and its root.
    pub path: Vec<u8>,
    /// What is wrong, for people.
    pub what: String,
}

/// Compares the tree of a layer with what was unpacked; empty when all is as it was, sorted by path.
///
/// Modification times beyond 1901 and 2038, which not every file system keeps, are not compared; nor are owners and modes
/// of links, fifos and sockets where ownership is stored instead of applied.
///
/// # Errors
/// `Corrupt` for a damaged frame; what goes wrong with reading it. What cannot be read of the tree is a damage.
pub fn verify<F: Read + Seek, L: Layer>(
    mut frame: F,
    tree: &L,
    diff_id: &Digest,
    limits: &Limits,
) -> Result<Vec<Damage>> {
    let failed = |e| Error::io(e, "read frame");
    let start = frame.stream_position().map_err(failed)?;
    let found = scan(&mut frame)?;
    let (rules, whole) = (found.rules, found.whole());
    let mut check = Check { tree, rules, damages: BTreeSet::new() };

    let mut expected = Expected::new();
    check.run(&mut frame, found, limits, false, &mut |_, nth, event| {
        expected.take(nth, &event);
        Ok(())
    })?;
    frame.seek(SeekFrom::Start(start)).map_err(failed)?;

    let found = scan(&mut frame)?;
    let mut now = Expected::new();
    let mut finder = Finder::new(tree);
    let digest = check.run(&mut frame, found, limits, true, &mut |check, nth, event| {
        let source = now.take(nth, &event);
        check.event(&mut finder, &expected, source, &event);
        Ok(())
    })?;
    check.names(&mut expected);
    // A damaged file says more than the sum; without one the sum is what found it.
    if whole && digest != *diff_id && check.damages.is_empty() {
        check.damaged(b"", format!("together it is {digest} and was {diff_id}"));
    }
    Ok(check.damages.into_iter().collect())
}

struct Check<'t, L: Layer> {
    tree: &'t L,
    rules: Rules,
    damages: BTreeSet<Damage>,
}

type Each<'e, 't, L> = &'e mut dyn FnMut(&mut Check<'t, L>, u64, Event<'_>) -> Result<()>;

impl<'t, L: Layer> Check<'t, L> {
    fn damaged(&mut self, path: &[u8], what: impl Into<String>) {
        self.damages.insert(Damage { path: path.to_vec(), what: what.into() });
    }

    /// Replays the archive once; gives its digest.
    fn run(
        &mut self,
        frame: &mut impl Read,
        scan: Scan,
        limits: &Limits,
        contents: bool,
        each: Each<'_, 't, L>,
    ) -> Result<Digest> {
        let heard = Heard::default();
        let listen = Listen { heard: &heard, contents };
        let archive = Rejoined::new(frame, scan, Finder::new(self.tree), Some(listen))?;
        let mut archive = Hasher::new(archive);
        let hashed: &mut dyn Read = if contents { &mut archive } else { archive.get_mut() };
        replay(hashed, &heard, limits, |nth, event| each(self, nth, event))?;
        for (path, what) in heard.damaged.take() {
            self.damaged(&path, what);
        }
        let (digest, ..) = archive.finish();
        Ok(digest)
    }

    /// Compares what an entry made with what is there.
    fn event(
        &mut self,
        finder: &mut Finder<'t, L>,
        expected: &Expected,
        source: Option<Source>,
        event: &Event<'_>,
    ) {
        let done = match event {
            Event::Made(made) => self.object(finder, expected, source, &made.path, &Was::made(made)),
            Event::Entry(entry, path) => self.object(finder, expected, source, path, &Was::entry(entry)),
            Event::Link(path, _) => match finder.find(path) {
                Ok(Found::Node(_)) => Ok(()),
                Ok(_) => {
                    self.damaged(path, "it is missing");
                    Ok(())
                }
                Err(e) => Err((path.to_vec(), e)),
            },
            Event::Whiteout(path) if expected.get(path) == Some(Is::Whiteout) => match finder.find(path) {
                Ok(Found::Whiteout) => Ok(()),
                Ok(Found::Absent) => {
                    self.damaged(path, "the whiteout is missing");
                    Ok(())
                }
                Ok(Found::Node(_)) => {
                    self.damaged(path, "it was a whiteout and is an object");
                    Ok(())
                }
                Err(e) => Err((path.to_vec(), e)),
            },
            Event::Whiteout(_) | Event::Opaque(_) => Ok(()),
        };
        if let Err((path, e)) = done {
            self.damaged(&path, format!("it cannot be read: {e}"));
        }
    }

    fn object(
        &mut self,
        finder: &mut Finder<'t, L>,
        expected: &Expected,
        source: Option<Source>,
        path: &[u8],
        was: &Was<'_>,
    ) -> Result<(), (Vec<u8>, Error)> {
        // A later entry of the same name counts.
        let Some(path) = source.and_then(|source| expected.surviving(source, path)) else { return Ok(()) };
        let found = match finder.find(&path) {
            Ok(Found::Node(hit)) => {
                let names = source.map_or(1, |source| expected.names_of(source));
                if !hit.attr.is_dir() && hit.attr.nlink != names {
                    self.damaged(&path, format!("it has {} names and had {names}", hit.attr.nlink));
                }
                was.compare(self.tree, &hit, self.rules)
            }
            Ok(Found::Whiteout) => Ok(vec!["it is deleted".into()]),
            Ok(Found::Absent) => Ok(vec!["it is missing".into()]),
            Err(e) => Err(e),
        };
        for what in found.map_err(|e| (path.clone(), e))? {
            self.damaged(&path, what);
        }
        Ok(())
    }

    /// Looks at every name that the tree has.
    fn names(&mut self, expected: &mut Expected) {
        let mut dirs = match self.tree.root() {
            Ok(root) => {
                self.opaque(b"", root.marks.opaque, expected.get(b""));
                vec![(Vec::new(), root.node)]
            }
            Err(e) => {
                self.damaged(b"", format!("it cannot be read: {e}"));
                return;
            }
        };
        while let Some((path, dir)) = dirs.pop() {
            let mut names: Vec<(NameBuf, Option<Kind>, u64)> = Vec::new();
            let listed = self.tree.read_dir(&dir, &mut |entry| {
                names.push((entry.name.to_buf(), entry.kind, entry.ino));
                ControlFlow::Continue(())
            });
            if let Err(e) = listed {
                self.damaged(&path, format!("it cannot be listed: {e}"));
            }
            for (name, kind, ino) in names {
                let path = match path.is_empty() {
                    true => name.as_bytes().to_vec(),
                    false => [path.as_slice(), name.as_bytes()].join(&b'/'),
                };
                match (expected.get(&path), kind) {
                    (None, None) => self.damaged(&path, "a whiteout that was not there"),
                    (None, Some(_)) => self.damaged(&path, "it was not there"),
                    (Some(Is::Other { source }), Some(kind)) if kind != Kind::Dir => {
                        self.links(&path, ino, source, expected);
                    }
                    (is @ Some(Is::Dir { .. }), Some(Kind::Dir)) => {
                        match self.tree.lookup(&dir, name.as_name()) {
                            Ok(Found::Node(hit)) => {
                                self.opaque(&path, hit.marks.opaque, is);
                                dirs.push((path, hit.node));
                            }
                            Ok(_) => {}
                            Err(e) => self.damaged(&path, format!("it cannot be read: {e}")),
                        }
                    }
                    // Another kind was found with its entry.
                    _ => {}
                }
            }
        }
    }

    fn opaque(&mut self, path: &[u8], is: bool, was: Option<Is>) {
        let Some(Is::Dir { opaque, .. }) = was else { return };
        match (is, opaque) {
            (true, false) => self.damaged(path, "it hides what is below and did not"),
            (false, true) => self.damaged(path, "it does not hide any more what is below"),
            _ => {}
        }
    }

    /// Names of one object must be that, and no others.
    fn links(&mut self, path: &[u8], ino: u64, source: Source, expected: &mut Expected) {
        let together = match expected.linked(source) {
            Some(linked) => *linked.ino.get_or_insert(ino) == ino,
            None => true,
        };
        if !together {
            self.damaged(path, "it is not the same object any more as its other names");
        }
    }
}
