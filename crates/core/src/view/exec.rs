//! The only place that runs a plan. Invariant: steps run in order and the first failure ends the run; what was
//! staged and not published by then is rolled back when the [`Exec`] is dropped.

use super::Untrusted;
use super::object::Lower;
use crate::acl;
use crate::attr::{Attr, Kind, SetAttr, SetTime};
use crate::caller::without_privilege;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::Layer;
use crate::marks::{Mark, Origin, Redirect};
use crate::plan::{Plan, Put, Step, Who};
use crate::scratch::{At, Copied, Scratch, Seed, SetXattr, WriteAt};
use parking_lot::RwLock;

/// A lower object as the source of a copy.
pub(crate) struct Source<'a, L: Layer> {
    pub layer: &'a L,
    pub lower: &'a Lower<L::Node>,
}

/// What the steps of one plan refer to, and what they leave behind.
pub(crate) struct Exec<'a, L: Layer, S: Scratch> {
    pub scratch: &'a S,
    pub untrusted: Untrusted,
    /// The names that the operation is about, in directories of the scratch.
    pub at: Option<At<'a, S::Node>>,
    pub to: Option<At<'a, S::Node>>,
    /// What the new object starts as.
    pub seed: Option<Seed<'a>>,
    pub xattrs: &'a [(&'a [u8], Vec<u8>)],
    /// Where attributes are copied from, and where data is.
    pub source: Option<Source<'a, L>>,
    pub data: Option<Source<'a, L>>,
    pub redirect: Option<&'a Redirect>,
    pub victim_redirect: Option<&'a Redirect>,
    pub origin: Option<&'a Origin>,
    pub victim_origin: Option<&'a Origin>,
    pub subject: Option<S::Node>,
    pub victim: Option<S::Node>,
    /// Attributes that the copy gets instead of the lower object's.
    pub set: SetAttr,
    /// The copy takes only what is left after a cut, which is a change of the data now.
    pub cut: bool,
    /// The step that others see was done; if a later one fails, the operation still happened.
    pub committed: bool,
    /// An empty opaque directory has taken the victim's place.
    pub cleared: bool,
    /// The marks that were set: what memory may believe, also when a later step failed.
    pub marked: Vec<(Who, Put)>,
    staged: Option<S::Staged>,
    copied: Option<Copied>,
    /// Held from the moment in which the parent's times are read until they are put back, so that a change of its
    /// names in between does not lose its time.
    pub names: Option<&'a RwLock<()>>,
    /// The times that are put back.
    times: Vec<(Who, Attr)>,
}

impl<'a, L: Layer, S: Scratch> Exec<'a, L, S> {
    pub fn new(scratch: &'a S, untrusted: Untrusted) -> Self {
        Self {
            scratch,
            untrusted,
            at: None,
            to: None,
            seed: None,
            xattrs: &[],
            source: None,
            data: None,
            redirect: None,
            victim_redirect: None,
            origin: None,
            victim_origin: None,
            subject: None,
            victim: None,
            set: SetAttr::default(),
            cut: false,
            committed: false,
            marked: Vec::new(),
            cleared: false,
            staged: None,
            copied: None,
            names: None,
            times: Vec::new(),
        }
    }

    /// Runs the plan. Whether it succeeds or not, `subject` and `victim` are the objects as they are reached
    /// afterwards.
    pub fn run(&mut self, plan: &Plan) -> Result<()> {
        let restores = |who| plan.contains(&Step::RestoreTimes(who));
        if restores(Who::Subject) {
            self.note_times(Who::Subject)?;
        }
        let mut names = None;
        for step in plan {
            tracing::trace!(?step);
            if matches!(step, Step::Publish(_) | Step::Link(_)) && restores(Who::Parent) {
                names = self.names.map(|names| names.write());
                self.note_times(Who::Parent)?;
            }
            self.step(*step).map_err(|e| e.in_layer(&self.scratch.caps().label))?;
            self.committed |= matches!(
                step,
                Step::Publish(_)
                    | Step::Link(_)
                    | Step::Rename(..)
                    | Step::Exchange
                    | Step::Remove(_)
                    | Step::Whiteout
            );
        }
        drop(names);
        Ok(())
    }

    fn note_times(&mut self, who: Who) -> Result<()> {
        let attr = self.scratch.attr(self.node(who)?)?;
        self.times.push((who, attr));
        Ok(())
    }

    /// The times that a copy of an object with `attr` has.
    fn times(&self, attr: &Attr) -> SetAttr {
        let times = SetAttr::times_of(attr);
        if self.cut { SetAttr { mtime: Some(SetTime::Now), ..times } } else { times }
    }

    fn missing(what: &'static str) -> Error {
        Error::new(ErrorKind::Io(crate::error::errno::EIO), "run plan").because(what)
    }

    fn at(&self) -> Result<At<'a, S::Node>> {
        self.at.ok_or_else(|| Self::missing("the plan names no place"))
    }

    fn to(&self) -> Result<At<'a, S::Node>> {
        self.to.or(self.at).ok_or_else(|| Self::missing("the plan names no new place"))
    }

    fn take_staged(&mut self) -> Result<S::Staged> {
        self.staged.take().ok_or_else(|| Self::missing("nothing is staged"))
    }

    fn node(&self, who: Who) -> Result<&S::Node> {
        let node = match who {
            Who::Staged => self.staged.as_ref().map(|staged| self.scratch.staged(staged)),
            Who::Subject => self.subject.as_ref(),
            Who::Victim => self.victim.as_ref(),
            Who::Parent => self.at.map(|at| at.dir),
            Who::NewParent => self.to.or(self.at).map(|to| to.dir),
        };
        node.ok_or_else(|| Self::missing("the plan speaks of an object that is not there"))
    }

    fn source(&self) -> Result<&Source<'a, L>> {
        self.source.as_ref().ok_or_else(|| Self::missing("the plan copies from nowhere"))
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let scratch = self.scratch;
        match step {
            Step::Stage => {
                let seed = self.seed.ok_or_else(|| Self::missing("the plan stages nothing"))?;
                self.staged = Some(scratch.stage(&seed)?);
            }
            Step::Fill(who, len) => self.fill(who, len)?,
            Step::SetLen(who, len) => scratch.open_write(self.node(who)?)?.set_len(len)?,
            Step::CopyXattrs => self.copy_xattrs()?,
            Step::SeedXattrs => {
                for (name, value) in self.xattrs {
                    scratch.set_xattr(self.node(Who::Staged)?, name, value, SetXattr::Any)?;
                }
            }
            Step::CopyAttrs => self.copy_attrs()?,
            Step::RestoreTimes(who) => {
                let before = self.times.iter().find(|(of, _)| *of == who).map(|(_, attr)| *attr);
                if let Some(attr) = before {
                    let times =
                        if who == Who::Subject { self.times(&attr) } else { SetAttr::times_of(&attr) };
                    scratch.set_attr(self.node(who)?, &times)?;
                }
            }
            Step::Put(who, put) => self.put(who, put)?,
            Step::Sync(who, how) => scratch.sync(self.node(who)?, how)?,
            Step::SyncFilled(who) => {
                if matches!(self.copied, Some(Copied::Bytes(_))) {
                    scratch.sync(self.node(who)?, crate::scratch::Sync::Data)?;
                }
            }
            Step::Publish(over) => {
                let staged = self.take_staged()?;
                self.subject = Some(scratch.publish(staged, self.at()?, over)?);
            }
            Step::PublishIndexed => {
                let origin =
                    self.origin.ok_or_else(|| Self::missing("the plan indexes without an origin"))?;
                let staged = self.take_staged()?;
                self.subject = Some(scratch.publish_indexed(staged, origin)?);
            }
            Step::Keep => {
                let staged = self.take_staged()?;
                self.subject = Some(scratch.keep(staged)?);
            }
            Step::Link(over) => {
                self.subject = Some(scratch.link(self.node(Who::Subject)?, self.to()?, over)?);
            }
            Step::Clear => {
                self.victim = Some(scratch.clear(self.node(Who::Victim)?, self.to()?)?);
                self.cleared = true;
            }
            Step::Rename(leave, over) => {
                let moved = scratch.rename(self.node(Who::Subject)?, self.at()?, self.to()?, leave, over)?;
                self.subject = Some(moved);
            }
            Step::Exchange => {
                let (subject, victim) = (self.node(Who::Subject)?, self.node(Who::Victim)?);
                let (at_old, at_new) = scratch.exchange((subject, self.at()?), (victim, self.to()?))?;
                self.victim = Some(at_old);
                self.subject = Some(at_new);
            }
            Step::Remove(leave) => scratch.remove(self.node(Who::Subject)?, self.at()?, leave)?,
            Step::Whiteout => scratch.whiteout(self.at()?)?,
            Step::DropIndexed(who) => {
                let origin = if who == Who::Victim { self.victim_origin } else { self.origin };
                if let Some(origin) = origin {
                    scratch.drop_indexed(origin)?;
                }
            }
        }
        Ok(())
    }

    fn fill(&mut self, who: Who, len: u64) -> Result<()> {
        let from = self.data.as_ref().ok_or_else(|| Self::missing("the plan copies data from nowhere"))?;
        let from = from.layer.open(&from.lower.node).map_err(|e| e.in_layer(&from.layer.caps().label))?;
        let node = self.node(who)?;
        // Hosts take capabilities from whatever is written to; this is not a write that anyone asked for.
        let capability = match who {
            Who::Staged => None,
            _ => self.scratch.xattr(node, CAPABILITY).unwrap_or(None),
        };
        let copied = self.scratch.open_write(node)?.fill(&from, len)?;
        if let Some(capability) = capability {
            self.scratch.set_xattr(node, CAPABILITY, &capability, SetXattr::Any)?;
        }
        self.copied = Some(copied);
        Ok(())
    }

    /// What the seed did not have yet: setuid and setgid, times, and what is set on this occasion.
    fn copy_attrs(&mut self) -> Result<()> {
        let attr = self.source()?.lower.attr;
        let kept = match self.untrusted.clear_setid && attr.kind == Kind::File {
            true => without_privilege(attr.mode),
            false => attr.mode,
        };
        let mode = self.set.mode.unwrap_or(kept);
        let staged_as = self.seed.map_or(mode, |seed| seed.mode);
        let times = self.times(&attr);
        let set = SetAttr {
            mode: (attr.kind != Kind::Symlink && mode != staged_as).then_some(mode),
            atime: self.set.atime.or(times.atime),
            mtime: self.set.mtime.or(times.mtime),
            ..SetAttr::default()
        };
        self.scratch.set_attr(self.node(Who::Staged)?, &set)
    }

    /// Access lists and security attributes must come along; others may be beyond the scratch's host.
    fn copy_xattrs(&mut self) -> Result<()> {
        let Source { layer, lower } = self.source()?;
        if lower.bare {
            return Ok(());
        }
        let staged = self.node(Who::Staged)?;
        let changes_owner = self.set.uid.is_some() || self.set.gid.is_some();
        let drop_capability =
            self.untrusted.drop_capabilities || (changes_owner && lower.attr.kind == Kind::File);
        for name in layer.xattrs(&lower.node)? {
            if drop_capability && name == CAPABILITY {
                continue;
            }
            let Some(value) = layer.xattr(&lower.node, &name)? else { continue };
            let set = self.scratch.set_xattr(staged, &name, &value, SetXattr::Any);
            match set {
                Err(e) if e.kind() == ErrorKind::Unsupported && !must_copy(&name) => {}
                other => other.map_err(|e| e.about(&name))?,
            }
        }
        Ok(())
    }

    fn put(&mut self, who: Who, put: Put) -> Result<()> {
        let redirect = if who == Who::Victim { self.victim_redirect } else { self.redirect };
        let mark = match put {
            Put::Opaque => Mark::Opaque,
            Put::Redirect => {
                Mark::Redirect(redirect.ok_or_else(|| Self::missing("the plan redirects nowhere"))?)
            }
            Put::Metacopy => Mark::Metacopy,
            Put::OwnData => Mark::OwnData,
            Put::Origin => {
                Mark::Origin(self.origin.ok_or_else(|| Self::missing("the plan knows no origin"))?)
            }
            Put::Impure => Mark::Impure,
            Put::Nlink(base) => Mark::Nlink(base),
        };
        self.scratch.mark(self.node(who)?, mark)?;
        self.marked.push((who, put));
        Ok(())
    }
}

/// The attribute that holds file capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

fn must_copy(name: &[u8]) -> bool {
    name == acl::ACCESS || name == acl::DEFAULT || name.starts_with(b"security.")
}
