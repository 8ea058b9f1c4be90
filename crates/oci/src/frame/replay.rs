//! An archive read again from frame and tree: what each of its entries did, and what was done for it.

use super::record::{Made, corrupt};
use super::rejoin::{Heard, Note};
use crate::apply::{Asked, parse};
use crate::tar::{Entry, EntryKind, NoTap, Reader};
use crate::{Limits, Result};
use std::io::Read;
use stratafs_core::Name;

/// What happened to the tree.
pub(super) enum Event<'e> {
    /// This was made for want of an entry.
    Made(&'e Made),
    /// An entry that is no hard link is at this path; the empty one is the root.
    Entry(&'e Entry, &'e [u8]),
    /// A path is one more name of another, or the only one of what was made for it.
    Link(&'e [u8], &'e [u8]),
    Whiteout(&'e [u8]),
    /// The directory hides what is below.
    Opaque(&'e [u8]),
}

/// Reads `archive` to its end, telling `each` with the number of the entry.
pub(super) fn replay(
    archive: impl Read,
    heard: &Heard,
    limits: &Limits,
    mut each: impl FnMut(u64, Event<'_>) -> Result<()>,
) -> Result<()> {
    let mut reader: Reader<_, NoTap> = Reader::new(archive, limits);
    let mut nth = 0;
    while let Some(entry) = reader.next()? {
        let [place, resolved] = notes(heard, nth, &mut each)?;
        one(&entry, nth, place, resolved, limits, &mut each)
            .map_err(|e| corrupt(e.to_string()).about(&entry.path))?;
        nth += 1;
    }
    notes(heard, nth, &mut each).map(drop)
}

/// Tells what was done for an entry, or after the last one; gives where it went and where its target is.
fn notes(
    heard: &Heard,
    nth: u64,
    each: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
) -> Result<[Option<Vec<u8>>; 2]> {
    let mut went = [None, None];
    loop {
        let note = heard.notes.borrow_mut().pop_front_if(|(of, _)| *of <= nth);
        match note {
            None => return Ok(went),
            Some((_, Note::Made(made))) => each(nth, Event::Made(&made))?,
            Some((_, Note::Linked(path, target))) => each(nth, Event::Link(&path, &target))?,
            Some((_, Note::Place(path, target))) => went = [path, target],
        }
    }
}

fn one(
    entry: &Entry,
    nth: u64,
    place: Option<Vec<u8>>,
    resolved: Option<Vec<u8>>,
    limits: &Limits,
    each: &mut impl FnMut(u64, Event<'_>) -> Result<()>,
) -> Result<()> {
    let asked = parse(&entry.path, limits)?;
    let at = |names: &[Name<'_>], last: Option<Name<'_>>| {
        place.clone().unwrap_or_else(|| {
            let names: Vec<_> = names.iter().chain(&last).map(Name::as_bytes).collect();
            names.join(&b'/')
        })
    };
    match (asked, &entry.kind) {
        (Asked::Ignored, _) => Ok(()),
        (Asked::Root, _) => each(nth, Event::Entry(entry, b"")),
        (Asked::Opaque(dir), _) => each(nth, Event::Opaque(&at(&dir, None))),
        (Asked::Whiteout(dir, name), _) => {
            let dir = at(&dir, None);
            let path =
                if dir.is_empty() { name.as_bytes().to_vec() } else { [&dir, name.as_bytes()].join(&b'/') };
            each(nth, Event::Whiteout(&path))
        }
        (Asked::Object(dir, name), EntryKind::Hardlink(target)) => {
            let target = resolved.as_ref().unwrap_or(target);
            each(nth, Event::Link(&at(&dir, Some(name)), target))
        }
        (Asked::Object(dir, name), _) => each(nth, Event::Entry(entry, &at(&dir, Some(name)))),
    }
}
