//! The journal: every step of a promotion with what it takes to do it and to undo it, and the times that
//! directories have before and after. It is the record that steps are executed from, so it cannot say anything else.
//!
//! Layout: magic, version, length of the body, body, CRC-32 of all before it; numbers little-endian, byte strings
//! with their length in front. A journal that does not read is `Corrupt`, never half-believed.

use super::host::Attributes;
use super::path::{self, Bytes};
use crate::{Error, ErrorKind, Name, Result};
use std::collections::BTreeMap;
use stratafs_core::Time;

const MAGIC: &[u8; 8] = b"strataPJ";
const VERSION: u32 = 1;
/// Magic, version, length.
const HEAD: usize = 8 + 4 + 8;
/// The checksum.
const TAIL: usize = 4;

/// One atomic change of the target. Places below the staging directory are paths in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// One more name for an object of the target, in the staging directory.
    Link {
        /// In the target, before anything is moved.
        from: Bytes,
        /// In the staging directory.
        to: Bytes,
        /// The object.
        ino: u64,
    },
    /// Attributes of a directory, where it stands.
    Set {
        /// In the target when the step's turn comes.
        path: Bytes,
        /// The directory.
        ino: u64,
        /// As they were.
        old: Attributes,
        /// As they are to be.
        new: Attributes,
    },
    /// An object of the target moves into the staging directory.
    Detach {
        /// In the target, before anything above it is moved.
        path: Bytes,
        /// In the staging directory.
        slot: Bytes,
        /// The object.
        ino: u64,
    },
    /// An object of the staging directory gets its place, where nothing is.
    Attach {
        /// In the staging directory.
        slot: Bytes,
        /// In the target.
        path: Bytes,
        /// The object.
        ino: u64,
    },
    /// An object of the staging directory changes places with one of the target.
    Swap {
        /// In the staging directory.
        slot: Bytes,
        /// In the target.
        path: Bytes,
        /// The object that comes.
        ino: u64,
        /// The object that goes.
        old: u64,
    },
}

/// The time of a directory whose names change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirTime {
    /// Where it was; `None`: it is new.
    pub before: Option<Bytes>,
    /// Where it is in the end; `None`: it goes.
    pub after: Option<Bytes>,
    /// The directory; 0 for a new one.
    pub ino: u64,
    /// When its names had changed last.
    pub old: Time,
    /// What that is to be.
    pub new: Time,
}

/// All of a promotion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Journal {
    pub steps: Vec<Step>,
    pub times: Vec<DirTime>,
}

#[derive(Default)]
struct Out(Bytes);

impl Out {
    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn maybe(&mut self, value: Option<&[u8]>) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            self.bytes(value);
        }
    }

    fn time(&mut self, time: Time) {
        self.0.extend_from_slice(&time.secs.to_le_bytes());
        self.number(time.nanos.into());
    }

    fn attributes(&mut self, set: &Attributes) {
        self.byte(u8::from(set.owner.is_some()));
        if let Some((mode, uid, gid)) = set.owner {
            for number in [mode, uid, gid] {
                self.number(number.into());
            }
        }
        self.number(set.xattrs.len() as u64);
        for (name, value) in &set.xattrs {
            self.bytes(name);
            self.maybe(value.as_deref());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Link { from, to, ino } => {
                self.byte(1);
                self.bytes(from);
                self.bytes(to);
                self.number(*ino);
            }
            Step::Set { path, ino, old, new } => {
                self.byte(2);
                self.bytes(path);
                self.number(*ino);
                self.attributes(old);
                self.attributes(new);
            }
            Step::Detach { path, slot, ino } => {
                self.byte(3);
                self.bytes(path);
                self.bytes(slot);
                self.number(*ino);
            }
            Step::Attach { slot, path, ino } => {
                self.byte(4);
                self.bytes(slot);
                self.bytes(path);
                self.number(*ino);
            }
            Step::Swap { slot, path, ino, old } => {
                self.byte(5);
                self.bytes(slot);
                self.bytes(path);
                self.number(*ino);
                self.number(*old);
            }
        }
    }
}

/// What is wrong with a journal.
type Read<T> = std::result::Result<T, &'static str>;

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Read<u8> {
        self.take(1)?.first().copied().ok_or("it ends too early")
    }

    fn number(&mut self) -> Read<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| "it ends too early")?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn small(&mut self) -> Read<u32> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag is neither 0 nor 1"),
        }
    }

    fn bytes(&mut self) -> Read<Bytes> {
        let len = usize::try_from(self.number()?).map_err(|_| "a length is too large")?;
        self.take(len).map(<[u8]>::to_vec)
    }

    fn path(&mut self) -> Read<Bytes> {
        let path = self.bytes()?;
        let plain = path.is_empty() || path.split(|b| *b == b'/').all(|name| Name::new(name).is_ok());
        if plain { Ok(path) } else { Err("a path is not made of plain names") }
    }

    /// A path below the staging directory, never that itself.
    fn slot(&mut self) -> Read<Bytes> {
        let slot = self.path()?;
        let whose = path::names(&slot).next();
        if path::depth(&slot) >= 2 && matches!(whose, Some(b"new" | b"old")) {
            return Ok(slot);
        }
        Err("a place is not one of the staging directory")
    }

    fn maybe<T>(&mut self, read: fn(&mut Self) -> Read<T>) -> Read<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    fn time(&mut self) -> Read<Time> {
        let secs = i64::from_le_bytes(self.take(8)?.try_into().map_err(|_| "it ends too early")?);
        Ok(Time { secs, nanos: self.small()? })
    }

    fn attributes(&mut self) -> Read<Attributes> {
        let owner = match self.flag()? {
            true => Some((self.small()?, self.small()?, self.small()?)),
            false => None,
        };
        let mut xattrs = BTreeMap::new();
        for _ in 0..self.number()? {
            let name = self.bytes()?;
            xattrs.insert(name, self.maybe(Self::bytes)?);
        }
        Ok(Attributes { owner, xattrs })
    }

    fn step(&mut self) -> Read<Step> {
        Ok(match self.byte()? {
            1 => Step::Link { from: self.path()?, to: self.slot()?, ino: self.number()? },
            2 => Step::Set {
                path: self.path()?,
                ino: self.number()?,
                old: self.attributes()?,
                new: self.attributes()?,
            },
            3 => Step::Detach { path: self.path()?, slot: self.slot()?, ino: self.number()? },
            4 => Step::Attach { slot: self.slot()?, path: self.path()?, ino: self.number()? },
            5 => Step::Swap {
                slot: self.slot()?,
                path: self.path()?,
                ino: self.number()?,
                old: self.number()?,
            },
            _ => return Err("a step is of no known kind"),
        })
    }

    fn dir_time(&mut self) -> Read<DirTime> {
        Ok(DirTime {
            before: self.maybe(Self::path)?,
            after: self.maybe(Self::path)?,
            ino: self.number()?,
            old: self.time()?,
            new: self.time()?,
        })
    }

    fn many<T>(&mut self, read: fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        // Each takes at least a byte, so what is there bounds the loop and the memory.
        (0..self.number()?).map(|_| read(self)).collect()
    }
}

impl Journal {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut body = Out::default();
        body.number(self.steps.len() as u64);
        self.steps.iter().for_each(|step| body.step(step));
        body.number(self.times.len() as u64);
        for time in &self.times {
            body.maybe(time.before.as_deref());
            body.maybe(time.after.as_deref());
            body.number(time.ino);
            body.time(time.old);
            body.time(time.new);
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(body.0.len() as u64).to_le_bytes());
        out.extend_from_slice(&body.0);
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// From what was stored.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` for another version.
    pub fn decode(stored: &[u8]) -> Result<Self> {
        let corrupt = |why: &str| {
            Error::new(ErrorKind::Corrupt, "read journal")
                .because(format!("the journal of a promotion: {why}"))
        };
        let mut head = In(stored);
        if head.take(MAGIC.len()).map_err(corrupt)? != MAGIC {
            return Err(corrupt("it does not begin as one"));
        }
        if head.take(4).map_err(corrupt)? != VERSION.to_le_bytes() {
            let why = format!("another version of the journal, this program knows {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, "read journal").because(why));
        }
        let len = head.number().map_err(corrupt)?;
        let whole = usize::try_from(len).ok().and_then(|len| len.checked_add(HEAD + TAIL));
        if whole != Some(stored.len()) {
            return Err(corrupt("its length is wrong"));
        }
        let (summed, sum) =
            stored.split_at_checked(stored.len() - TAIL).ok_or_else(|| corrupt("too short"))?;
        if crc32fast::hash(summed).to_le_bytes() != sum {
            return Err(corrupt("its checksum is wrong"));
        }
        let mut body = In(summed.get(HEAD..).unwrap_or_default());
        let steps = body.many(In::step).map_err(corrupt)?;
        let times = body.many(In::dir_time).map_err(corrupt)?;
        if !body.0.is_empty() {
            return Err(corrupt("something follows its end"));
        }
        Ok(Self { steps, times })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Journal {
        let set = |mode| Attributes {
            owner: Some((mode, 1, 2)),
            xattrs: BTreeMap::from([(b"user.a".to_vec(), Some(vec![0, 255])), (b"user.b".to_vec(), None)]),
        };
        let slot = b"new/0".to_vec();
        Journal {
            steps: vec![
                Step::Link { from: b"a".to_vec(), to: b"new/1/x".to_vec(), ino: 7 },
                Step::Set { path: Bytes::new(), ino: 2, old: set(0o755), new: set(0o700) },
                Step::Detach { path: b"d/\xff".to_vec(), slot: b"old/0".to_vec(), ino: u64::MAX },
                Step::Attach { slot: slot.clone(), path: b"b".to_vec(), ino: 9 },
                Step::Swap { slot, path: b"c".to_vec(), ino: 10, old: 11 },
            ],
            times: vec![DirTime {
                before: Some(Bytes::new()),
                after: None,
                ino: 2,
                old: Time { secs: -1, nanos: 5 },
                new: Time { secs: 9, nanos: 0 },
            }],
        }
    }

    #[test]
    fn a_journal_comes_back_as_it_was_written() {
        let journal = example();
        assert_eq!(Journal::decode(&journal.encode()).unwrap(), journal);
        assert_eq!(Journal::decode(&Journal::default().encode()).unwrap(), Journal::default());
    }

    #[test]
    fn a_journal_cut_or_changed_anywhere_is_refused() {
        let stored = example().encode();
        for len in 0..stored.len() {
            assert!(Journal::decode(&stored[..len]).is_err(), "cut to {len}");
        }
        for at in 0..stored.len() {
            let mut changed = stored.clone();
            changed[at] ^= 1;
            assert!(Journal::decode(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_well_formed_journal_with_bad_paths_is_refused() {
        let steps = [
            Step::Detach { path: b"../x".to_vec(), slot: b"old/0".to_vec(), ino: 1 },
            Step::Detach { path: b"a//x".to_vec(), slot: b"old/0".to_vec(), ino: 1 },
            Step::Detach { path: b"/x".to_vec(), slot: b"old/0".to_vec(), ino: 1 },
            Step::Detach { path: b"x".to_vec(), slot: b"old".to_vec(), ino: 1 },
            Step::Detach { path: b"x".to_vec(), slot: b"journal/x".to_vec(), ino: 1 },
        ];
        for step in steps {
            let stored = Journal { steps: vec![step.clone()], times: Vec::new() }.encode();
            assert_eq!(Journal::decode(&stored).unwrap_err().kind(), ErrorKind::Corrupt, "{step:?}");
        }
    }
}
