//! Doing the steps, and undoing them. There is one way to undo, used after an error and after a crash: it goes by
//! what it finds, in reverse order, so it does not matter how far the steps came, nor an earlier attempt to undo.
//!
//! An interrupted promotion is undone and not completed: everything that was replaced is kept until the last step, so
//! going back needs nothing but what is there; going on would need the checks of each object once more, and the
//! caller, who was told nothing, has to ask again anyway.
//!
//! Why going by what is there is right: a step has been done if and only if its object is not in its slot of the
//! staging directory any more (or, of one that leaves, is there). A slot that is left twice (out of the target, then
//! to another place) is told apart by whether that place has the object.

use super::confined::{Confined, Seen, Sys, rename, stat};
use super::failed;
use super::host;
use super::journal::{DirTime, Journal, Step};
use super::order::Guard;
use super::staging::{Phase, Staging, inside};
use crate::{Error, ErrorKind, Result};
use rustix::fd::AsFd;
use rustix::fs::{self, AtFlags};
use rustix::io::{Errno, retry_on_intr};

/// The error for what changed under our hands.
pub(super) fn moved_on(path: &[u8]) -> Error {
    Error::new(ErrorKind::Busy, "promote").about(path).because("it changed while it was promoted: look again")
}

/// True when an object is still what was compared.
fn holds(guard: &Guard, now: &Seen) -> bool {
    let Some(seen) = guard.seen else { return true };
    let data = seen.kind == stratafs_core::Kind::Dir || (seen.size, seen.mtime) == (now.size, now.mtime);
    (seen.ino, seen.kind) == (now.ino, now.kind) && data && (!guard.ctime || seen.ctime == now.ctime)
}

/// Does steps in one target.
pub(super) struct Apply<'a> {
    pub root: &'a Confined,
    pub staging: &'a Staging<'a>,
}

impl Apply<'_> {
    /// Does one step, after a last look at what it takes away.
    pub fn step(&self, step: &Step, guard: &Guard) -> Result<()> {
        match step {
            Step::Link { from, to, ino } => self.link(from, to, *ino, guard),
            Step::Set { path, ino, new, .. } => {
                let fail = failed("set attributes", path);
                let dir = self.root.dir(path).map_err(&fail)?;
                match stat(dir.as_fd(), b"").map_err(&fail)? {
                    Some(now) if now.ino == *ino => new.apply(dir.as_fd()).map_err(fail),
                    _ => Err(moved_on(path)),
                }
            }
            Step::Detach { path, slot, .. } => self.exchange(slot, path, guard, Way::Out),
            Step::Attach { slot, path, .. } => self.exchange(slot, path, guard, Way::In),
            Step::Swap { slot, path, .. } => self.exchange(slot, path, guard, Way::Both),
        }
    }

    fn link(&self, from: &[u8], to: &[u8], ino: u64, guard: &Guard) -> Result<()> {
        let fail = failed("link", from);
        let (dir, name) = self.root.parent(from).map_err(&fail)?;
        let (to_dir, to_name) = self.staging.parent(to).map_err(&fail)?;
        match stat(dir.as_fd(), name).map_err(&fail)? {
            Some(now) if holds(&Guard { ctime: false, ..*guard }, &now) => {}
            _ => return Err(moved_on(from)),
        }
        retry_on_intr(|| fs::linkat(&dir, name, &to_dir, to_name, AtFlags::empty())).map_err(&fail)?;
        match stat(to_dir.as_fd(), to_name).map_err(&fail)? {
            Some(now) if now.ino == ino => Ok(()),
            _ => Err(moved_on(from)),
        }
    }

    fn exchange(&self, slot: &[u8], path: &[u8], guard: &Guard, way: Way) -> Result<()> {
        let fail = failed("move", path);
        let (dir, name) = self.root.parent(path).map_err(&fail)?;
        let (slot_dir, slot_name) = self.staging.parent(slot).map_err(&fail)?;
        let (place, slot_at) = ((dir.as_fd(), name), (slot_dir.as_fd(), slot_name));
        let (from, to) = if way == Way::Out { (place, slot_at) } else { (slot_at, place) };
        if way != Way::In {
            match stat(dir.as_fd(), name).map_err(&fail)? {
                Some(now) if holds(guard, &now) => {}
                _ => return Err(moved_on(path)),
            }
        }
        rename(from, to, way == Way::Both).map_err(|e| match e {
            Errno::EXIST => moved_on(path),
            e => fail(e),
        })?;
        if way == Way::In {
            return Ok(());
        }
        // What came out is looked at where nobody else reaches it: between look and move it may have changed.
        let out = stat(slot_dir.as_fd(), slot_name).map_err(&fail)?;
        let same = out.is_some_and(|now| holds(&Guard { ctime: false, ..*guard }, &now));
        let whole = match guard.digest {
            Some(digest) if same => self.root.digest(&inside(slot), &|_| false).map_err(&fail)? == digest,
            _ => true,
        };
        if same && whole {
            return Ok(());
        }
        if !same {
            // Not the object that the journal knows: it goes back here and now.
            rename(to, from, way == Way::Both).map_err(&fail)?;
        }
        Err(moved_on(path))
    }

    /// Sets the times of directories: of all that are there in the end, or as they were.
    pub fn times(&self, times: &[DirTime], forward: bool) -> Result<()> {
        for time in times {
            let (path, mtime) = if forward { (&time.after, time.new) } else { (&time.before, time.old) };
            let Some(path) = path else { continue };
            let fail = failed("set time", path);
            let dir = reached(self.root.dir(path)).map_err(&fail)?;
            let seen = dir.as_ref().map(|dir| stat(dir.as_fd(), b"")).transpose().map_err(&fail)?.flatten();
            match (dir, seen) {
                (Some(dir), Some(now)) if time.ino == 0 || now.ino == time.ino => {
                    host::set_times(dir.as_fd(), b"", None, Some(mtime)).map_err(fail)?;
                }
                _ if forward => return Err(moved_on(path)),
                // Somebody else moved it: its time is not worth keeping everything else from going back.
                _ => {}
            }
        }
        Ok(())
    }

    /// Undoes whatever of the steps has been done.
    pub fn undo(&self, journal: &Journal) -> Result<()> {
        for step in journal.steps.iter().rev() {
            self.undo_step(step)?;
        }
        self.nothing_kept(journal)?;
        self.times(&journal.times, false)?;
        self.root.sync().map_err(failed("sync", b""))
    }

    fn undo_step(&self, step: &Step) -> Result<()> {
        match step {
            // Goes with the staging directory.
            Step::Link { .. } => Ok(()),
            Step::Set { path, ino, old, .. } => {
                let fail = failed("restore attributes", path);
                let Some(dir) = reached(self.root.dir(path)).map_err(&fail)? else { return Ok(()) };
                match stat(dir.as_fd(), b"").map_err(&fail)? {
                    Some(now) if now.ino == *ino => old.apply(dir.as_fd()).map_err(fail),
                    _ => Ok(()),
                }
            }
            Step::Detach { path, slot, ino } => match self.in_slot(slot)? {
                Some(now) if now == *ino => self.back(slot, path, Way::In),
                _ => Ok(()),
            },
            Step::Attach { slot, path, ino } => match self.in_slot(slot)? {
                Some(_) => Ok(()),
                None if self.at(path)? == Some(*ino) => self.back(slot, path, Way::Out),
                None => Ok(()),
            },
            Step::Swap { slot, path, ino, old } => match self.in_slot(slot)? {
                Some(now) if now == *old && self.at(path)? == Some(*ino) => self.back(slot, path, Way::Both),
                _ => Ok(()),
            },
        }
    }

    fn in_slot(&self, slot: &[u8]) -> Result<Option<u64>> {
        let seen = self.staging.stat(slot).map_err(failed("undo", slot))?;
        Ok(seen.map(|seen| seen.ino))
    }

    /// Which object is at a path, if that leads anywhere.
    fn at(&self, path: &[u8]) -> Result<Option<u64>> {
        match reached(self.root.stat(path)) {
            Ok(seen) => Ok(seen.flatten().map(|seen| seen.ino)),
            Err(e) => Err(failed("undo", path)(e)),
        }
    }

    fn back(&self, slot: &[u8], path: &[u8], way: Way) -> Result<()> {
        let fail = failed("undo", path);
        let (dir, name) = self.root.parent(path).map_err(&fail)?;
        let (slot_dir, slot_name) = self.staging.parent(slot).map_err(&fail)?;
        let (place, slot_at) = ((dir.as_fd(), name), (slot_dir.as_fd(), slot_name));
        let (from, to) = if way == Way::Out { (place, slot_at) } else { (slot_at, place) };
        rename(from, to, way == Way::Both).map_err(fail)
    }

    /// Nothing of the target may be left in the staging directory, for that is removed next.
    fn nothing_kept(&self, journal: &Journal) -> Result<()> {
        for step in &journal.steps {
            let (slot, path, kept) = match step {
                Step::Detach { path, slot, ino } => (slot, path, *ino),
                Step::Swap { slot, path, old, .. } => (slot, path, *old),
                Step::Attach { .. } | Step::Link { .. } | Step::Set { .. } => continue,
            };
            if self.in_slot(slot)? == Some(kept) {
                return Err(Error::new(ErrorKind::Busy, "undo").about(path).because(format!(
                    "what was there is in {} and cannot go back: something else has taken its place",
                    inside(slot).escape_ascii()
                )));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
    Both,
}

/// `None` for a path that leads nowhere now.
fn reached<T>(found: Sys<T>) -> Sys<Option<T>> {
    match found {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        found => found.map(Some),
    }
}

/// What follows the last step, and what follows a crash after it: the staging directory goes, and with it the
/// change of the root's time that it made. Without a journal nothing has been done.
pub(super) fn clear(
    root: &Confined,
    staging: Staging<'_>,
    phase: Phase,
    journal: Option<&Journal>,
) -> Result<()> {
    let fail = failed("remove staging directory", super::STAGING);
    let is_root = |dir: &&DirTime| dir.before.as_deref() == Some(b"");
    let time = match journal {
        Some(journal) => journal.times.iter().find(is_root).map(|dir| match phase {
            Phase::Done => dir.new,
            Phase::Applying | Phase::Undone => dir.old,
        }),
        None => staging.root_time().map_err(&fail)?,
    };
    staging.clear().map_err(&fail)?;
    let dir = root.dir(b"").map_err(&fail)?;
    match time {
        Some(time) => host::set_times(dir.as_fd(), b"", None, Some(time)).map_err(fail),
        None => Ok(()),
    }
}
