//! Promotion: what a container changed is applied to a real directory of the host, all of it or chosen paths, whole or
//! not at all.
//!
//! ```no_run
//! # use stratafs::{Container, Image, promote::{Promotion, Silent}};
//! # fn main() -> Result<(), stratafs::Error> {
//! let image = Image::from_dirs(["/srv/site"])?;
//! let base = image.view()?;
//! let container = Container::builder(image).scratch_dir("/var/tmp/work").open()?;
//! // ... changes, and a look at them ...
//! let promotion = Promotion::of(&container, &base).only(["conf"]).plan("/srv/site")?;
//! for step in promotion.steps() {
//!     println!("{step}");
//! }
//! if promotion.conflicts().is_empty() {
//!     promotion.apply(&Silent)?;
//! }
//! # Ok(()) }
//! ```
//!
//! 1. **Compare.** What is there now must be what the container started from: kind, mode, owner, size, link target,
//!    extended attributes, and the time or else the content. Everything else is a [`Conflict`]; all are found before
//!    anything is done. A directory's own time tells only of its names, which are compared where they matter. Below a
//!    directory that goes or moves everything is compared.
//! 2. **Stage.** All that is new is made in `.strata-promotion` at the target's root, with every attribute, and synced.
//!    Then the journal is: from that moment a crash is undone by [`recover`] or the next promotion.
//! 3. **Apply.** Every step is a rename or an exchange (or sets attributes of a directory that stays), checked once more
//!    right before. What is replaced is kept until the end. An error undoes everything.
//!
//! Nothing outside the target is touched whatever happens in it meanwhile: every object is reached from the opened
//! target through no symbolic link and no mount.
//!
//! **Times.** Directories get the time that the container gave them where that change was chosen, and keep theirs
//! elsewhere. Where somebody else changed names in one, it gets the later time of both.
//!
//! **What a choice takes along** is said at [`PromotionBuilder::only`]. Overlayfs's own attributes are never written; a
//! user's attribute of such a name is stored as layers store it, so a target that is a layer stays one.

mod apply;
mod compare;
mod confined;
mod content;
mod host;
mod journal;
mod links;
mod order;
mod path;
mod places;
mod plan;
mod select;
mod stage;
mod staging;

use crate::{Change, Container, Error, ErrorKind, Kind, Namespace, Resolver, Result, Time};
use apply::Apply;
use compare::Compare;
use confined::Confined;
use journal::{Journal, Step};
use links::Links;
use order::Guard;
use plan::{Make, Planner};
use rustix::io::Errno;
use staging::{Phase, Staging};
use std::collections::HashSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
pub use stratafs_oci::{Progress, Silent};

/// The staging directory's name, at the target's root.
const STAGING: &[u8] = b".strata-promotion";

/// What becomes of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Each object gets the owner that it has in the container; where this process cannot give it, the promotion
    /// fails before anything is changed.
    #[default]
    Apply,
    /// New objects belong to this process; setuid and setgid bits of files that belong to somebody else in the
    /// container are dropped. Owners of directories that stay are left alone.
    Own,
}

/// Something in the target that is not what the container started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where, from the target's root, without a leading slash.
    pub path: Vec<u8>,
    /// What the container started from.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// [`PromotionBuilder::force`] overrides it. It does not override a directory above that is missing or none, nor
    /// mount points.
    pub forceable: bool,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: expected {}, found {}", shown(&self.path), self.expected, self.found)
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

/// What is done to an object of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It is made.
    Create,
    /// It takes the place of what is there.
    Replace,
    /// It goes, with all that is in it.
    Remove,
    /// It comes from another place of the target, with all that is in it.
    Move {
        /// Where it is now.
        from: Vec<u8>,
    },
    /// It becomes one more name of a file of the target.
    Link {
        /// Where that is now.
        to: Vec<u8>,
    },
    /// A directory gets other attributes.
    Attributes,
    /// A directory gets the time of the container's.
    Time,
}

/// One thing that a promotion does, as people want to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// Where, from the target's root, without a leading slash: of what goes where it is, else where it will be.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// What is done.
    pub action: Action,
}

impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(&self.path);
        let slash = if self.kind == Kind::Dir && !self.path.is_empty() { "/" } else { "" };
        match &self.action {
            Action::Create => write!(f, "create /{path}{slash}"),
            Action::Replace => write!(f, "replace /{path}{slash}"),
            Action::Remove => write!(f, "remove /{path}{slash}"),
            Action::Move { from } => write!(f, "move /{}{slash} -> /{path}{slash}", shown(from)),
            Action::Link { to } => write!(f, "link /{path} = /{}", shown(to)),
            Action::Attributes => write!(f, "set attributes of /{path}{slash}"),
            Action::Time => write!(f, "set time of /{path}{slash}"),
        }
    }
}

/// What a promotion did.
#[derive(Debug)]
pub struct Report {
    /// What was done, as [`Promotion::steps`] said before.
    pub steps: Vec<PlannedStep>,
    /// Bytes of content that were staged.
    pub bytes: u64,
    /// The promotion is complete and durable; what it replaced could not be removed for this reason. [`recover`]
    /// tries again.
    pub left: Option<Error>,
}

/// What [`recover`] found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// Nothing was left behind.
    Nothing,
    /// A promotion ended before it changed anything; what it had staged is removed.
    Discarded,
    /// A promotion was interrupted: the target is as before it.
    Undone,
    /// A promotion was complete; what it replaced is removed.
    Completed,
}

/// Puts a [`Promotion`] together.
#[derive(Debug)]
#[must_use]
pub struct PromotionBuilder<'a> {
    container: &'a Container,
    base: &'a Container,
    changes: Option<Vec<Change>>,
    chosen: Option<Vec<Vec<u8>>>,
    options: Options,
}

#[derive(Debug, Clone, Copy)]
struct Options {
    force: bool,
    since: Option<Time>,
    owners: Owners,
    namespace: Namespace,
    resolver: Resolver,
    recover: bool,
}

/// A promotion that was compared with its target and can be applied.
#[derive(Debug)]
#[must_use = "it does nothing until it is applied"]
pub struct Promotion<'a> {
    container: &'a Container,
    root: Confined,
    options: Options,
    conflicts: Vec<Conflict>,
    makes: Vec<Make>,
    steps: Vec<(Step, Guard)>,
    times: Vec<journal::DirTime>,
    shown: Vec<PlannedStep>,
    recovered: Recovered,
}

/// Puts an operation and the path of the target into what a system call returned.
fn failed(operation: &'static str, path: &[u8]) -> impl Fn(Errno) -> Error + use<> {
    let path = path.to_vec();
    move |e| Error::io(e.into(), operation).about(&path)
}

impl<'a> PromotionBuilder<'a> {
    /// These changes instead of [`Container::changes`]: all that make the container out of the base.
    pub fn changes(mut self, changes: Vec<Change>) -> Self {
        self.changes = Some(changes);
        self
    }

    /// Only what is at or below these paths of the container; a leading slash changes nothing, symbolic links are not
    /// followed. With it come, since they cannot be had apart: new and renamed directories above; both ends of a
    /// rename, whichever was chosen; what leaves a name that something chosen takes; what is moved out of a directory
    /// that goes; all changed names of a file that has several. [`Promotion::steps`] shows them.
    pub fn only(mut self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let plain = |path: &Path| {
            let path = path.as_os_str().as_bytes();
            path::names(path).filter(|name| *name != b".").collect::<Vec<_>>().join(&b'/')
        };
        self.chosen = Some(paths.into_iter().map(|path| plain(path.as_ref())).collect());
        self
    }

    /// Overwrites what conflicts, where that can be.
    pub fn force(mut self, yes: bool) -> Self {
        self.options.force = yes;
        self
    }

    /// When the container was made. Needed where the target is one of its layers: what is deleted or renamed must not
    /// have changed since.
    pub fn since(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        self.options.since = Some(Time { secs, nanos: since.subsec_nanos() });
        self
    }

    /// What becomes of owners; [`Owners::Apply`] unless said otherwise.
    pub fn owners(mut self, owners: Owners) -> Self {
        self.options.owners = owners;
        self
    }

    /// Under which prefix the target keeps overlayfs's own attributes; as the container's layers unless said otherwise,
    /// that is [`Namespace::Trusted`].
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.options.namespace = namespace;
        self
    }

    /// How directories of the target are reached.
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.options.resolver = resolver;
        self
    }

    /// Whether [`PromotionBuilder::plan`] first undoes an interrupted promotion to the same directory. Without, there
    /// being one is `Busy`: a dry run changes nothing. On unless said otherwise.
    pub fn recover_first(mut self, yes: bool) -> Self {
        self.options.recover = yes;
        self
    }

    /// Compares everything with the directory `to`, and says what would be done. Changes nothing there, but for an
    /// interrupted promotion, which is undone first.
    ///
    /// # Errors
    /// What the layers and the target say; `InvalidInput` for changes that are not this container's, or when the target
    /// is a layer and nothing says since when. Conflicts are no error here.
    pub fn plan(self, to: impl AsRef<Path>) -> Result<Promotion<'a>> {
        let Self { container, base, changes, chosen, options } = self;
        let root = Confined::open(to.as_ref(), options.resolver)?;
        let recovered = match (options.recover, root.stat(STAGING).map_err(failed("look at", STAGING))?) {
            (_, None) => Recovered::Nothing,
            (true, Some(_)) => recover_in(&root)?,
            (false, Some(_)) => {
                return Err(Error::new(ErrorKind::Busy, "promote").about(root.label()).because(format!(
                    "a promotion to it was interrupted, or goes on: strata promote --recover --to {}",
                    shown(root.label())
                )));
            }
        };
        // What was undone has changed the root since it was opened.
        let root = if recovered == Recovered::Nothing {
            root
        } else {
            Confined::open(to.as_ref(), options.resolver)?
        };
        let view = container.view();
        let all = match changes {
            Some(changes) => changes,
            None => container.changes()?,
        };
        let links = Links::of(view, &all)?;
        let changes = match &chosen {
            Some(chosen) => select::choose(&all, chosen, &|change| links.file(change)),
            None => all,
        };
        let in_place = compare::is_layer(view, root.root())?;
        let mut compare = Compare {
            base: base.view(),
            root: &root,
            namespace: options.namespace,
            since: options.since,
            in_place,
            conflicts: Vec::new(),
        };
        let planner = Planner::new(view, &mut compare, links, options);
        let draft = planner.run(&changes)?;
        let conflicts = compare.conflicts;
        let stat = |image: &[u8]| match root.stat(image) {
            Ok(seen) => Ok(seen.filter(|seen| seen.kind == Kind::Dir)),
            // A conflict by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(e) => Err(failed("look at", image)(e)),
        };
        let time = |path: &[u8]| {
            let dir = compare::find(view, path)?;
            dir.map(|dir| view.attr(&dir).map(|attr| attr.mtime)).transpose()
        };
        let ordered = order::order(&draft, stat, time)?;
        let (steps, times) = (ordered.steps, ordered.times);
        let (makes, shown) = (draft.makes, draft.shown);
        Ok(Promotion { container, root, options, conflicts, makes, steps, times, shown, recovered })
    }
}

impl<'a> Promotion<'a> {
    /// Starts a promotion of what makes `container` out of `base`: the read-only view of the layers that it started
    /// from ([`crate::Image::view`]), opened anew, so that it shows them as they are.
    #[allow(clippy::new_ret_no_self, reason = "as the other builders")]
    pub fn of(container: &'a Container, base: &'a Container) -> PromotionBuilder<'a> {
        let options = Options {
            force: false,
            since: None,
            owners: Owners::default(),
            namespace: Namespace::default(),
            resolver: Resolver::default(),
            recover: true,
        };
        PromotionBuilder { container, base, changes: None, chosen: None, options }
    }

    /// What is not as the container started from, all of it, by path.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// What is going to be done. With conflicts: what would be, if they were overridden.
    #[must_use]
    pub fn steps(&self) -> &[PlannedStep] {
        &self.shown
    }

    /// What was done with an interrupted promotion to the same directory.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Does it: when this returns `Ok`, everything is done and on disk.
    ///
    /// # Errors
    /// `InvalidInput` while there are conflicts that are not overridden; `Busy` when something changed since it was
    /// compared, or another process promotes to the same directory; what the host says. The target is then as it
    /// was, unless the error says that undoing failed and how to go on.
    pub fn apply(mut self, progress: &dyn Progress) -> Result<Report> {
        let refused = self.conflicts.iter().filter(|c| !(self.options.force && c.forceable));
        if let Some(first) = refused.clone().next() {
            return Err(Error::new(ErrorKind::InvalidInput, "promote").about(&first.path).because(format!(
                "{} conflicts, the first: expected {}, found {}",
                refused.count(),
                first.expected,
                first.found
            )));
        }
        if self.steps.is_empty() && self.times.iter().all(|time| time.old == time.new) {
            return Ok(Report { steps: self.shown, bytes: 0, left: None });
        }
        let root = &self.root;
        let staging = Staging::make(root)?;
        let staged =
            stage_all(&mut self.steps, &self.makes, self.container, self.options, &staging, root, progress);
        let steps = self.steps.iter().map(|(step, _)| step.clone()).collect();
        let journal = Journal { steps, times: self.times };
        let staged = staged.and_then(|bytes| {
            root.sync().map_err(failed("sync", b""))?;
            staging.write(&journal).map(|()| bytes)
        });
        let applied = staged.and_then(|bytes| {
            let apply = Apply { root, staging: &staging };
            self.steps.iter().try_for_each(|(step, guard)| apply.step(step, guard))?;
            apply.times(&journal.times, true)?;
            root.sync().map_err(failed("sync", b""))?;
            staging.settle(Phase::Done).map_err(failed("finish", STAGING))?;
            Ok(bytes)
        });
        match applied {
            Ok(bytes) => {
                let left = apply::clear(root, staging, Phase::Done, Some(&journal)).err();
                Ok(Report { steps: self.shown, bytes, left })
            }
            Err(e) => match give_up(root, staging, &journal) {
                Ok(()) => Err(e),
                Err(again) => Err(not_undone(root, &e, &again)),
            },
        }
    }
}

/// Makes everything that comes, and notes the numbers of the objects in the steps.
fn stage_all(
    steps: &mut [(Step, Guard)],
    makes: &[Make],
    container: &Container,
    options: Options,
    staging: &Staging<'_>,
    root: &Confined,
    progress: &dyn Progress,
) -> Result<u64> {
    let (owners, namespace) = (options.owners, options.namespace);
    let mut stager = stage::Stager { view: container.view(), staging, namespace, owners, progress, bytes: 0 };
    stager.all(makes)?;
    let links: Vec<(Vec<u8>, u64)> = steps
        .iter()
        .filter_map(|(step, _)| match step {
            Step::Link { to, ino, .. } => Some((to.clone(), *ino)),
            _ => None,
        })
        .collect();
    let mut staged = HashSet::new();
    for (step, _) in &mut *steps {
        if let Step::Attach { slot, ino, .. } | Step::Swap { slot, ino, .. } = step
            && *ino == 0
        {
            // What is linked is there only after the first steps.
            *ino = match links.iter().find(|(to, _)| to == slot) {
                Some((_, linked)) => *linked,
                None => stage::number(root, slot)?,
            };
            if !links.iter().any(|(to, _)| to == slot) {
                staged.insert(*ino);
            }
        }
    }
    match replaced_already(steps, &staged) {
        Some(path) => Err(apply::moved_on(path)),
        None => Ok(stager.bytes),
    }
}

/// The place of an object that is to leave and is gone already: one that was staged has its number. Undoing goes by
/// numbers and could not tell the two apart.
fn replaced_already<'s>(steps: &'s [(Step, Guard)], staged: &HashSet<u64>) -> Option<&'s [u8]> {
    steps.iter().find_map(|(step, _)| match step {
        Step::Detach { path, ino: leaves, .. } | Step::Swap { path, old: leaves, .. } => {
            staged.contains(leaves).then_some(path.as_slice())
        }
        _ => None,
    })
}

/// Goes back to what was before, from wherever a promotion is.
fn give_up(root: &Confined, staging: Staging<'_>, journal: &Journal) -> Result<()> {
    match staging.read()? {
        Some((Phase::Applying, _)) => {
            Apply { root, staging: &staging }.undo(journal)?;
            staging.settle(Phase::Undone).map_err(failed("undo", STAGING))?;
        }
        // It failed after the last step was noted: that is not certain to be on disk, but what was there is.
        Some((Phase::Done, _)) => {
            return Err(Error::new(ErrorKind::Io(5), "finish").about(STAGING));
        }
        Some((Phase::Undone, _)) | None => {}
    }
    apply::clear(root, staging, Phase::Undone, Some(journal))
}

fn not_undone(root: &Confined, first: &Error, again: &Error) -> Error {
    let kind = first.kind();
    Error::new(kind, "promote").about(root.label()).because(format!(
        "{first}; and going back failed: {again}; when that is mended: strata promote --recover --to {}",
        shown(root.label())
    ))
}

/// Finishes what an interrupted promotion left in a directory: undoes it, unless all its steps were done. Does nothing
/// where nothing was left; may itself be interrupted and called again.
///
/// # Errors
/// `Busy` while a promotion to it goes on, or when something has taken the place of what was there; `NotPermitted` for a
/// staging directory of another user; `Corrupt`; what the host says.
pub fn recover(to: impl AsRef<Path>) -> Result<Recovered> {
    recover_in(&Confined::open(to.as_ref(), Resolver::default())?)
}

fn recover_in(root: &Confined) -> Result<Recovered> {
    let Some(staging) = Staging::open(root)? else { return Ok(Recovered::Nothing) };
    let (phase, journal) = match staging.read()? {
        Some(found) => found,
        None => {
            apply::clear(root, staging, Phase::Undone, None)?;
            return Ok(Recovered::Discarded);
        }
    };
    if phase == Phase::Applying {
        Apply { root, staging: &staging }.undo(&journal)?;
        staging.settle(Phase::Undone).map_err(failed("undo", STAGING))?;
    }
    let phase = if phase == Phase::Done { Phase::Done } else { Phase::Undone };
    apply::clear(root, staging, phase, Some(&journal))?;
    Ok(if phase == Phase::Done { Recovered::Completed } else { Recovered::Undone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_a_staged_object_got_says_that_the_old_object_is_gone() {
        let swap = |ino, old| Step::Swap { slot: b"new/0".to_vec(), path: b"etc/motd".to_vec(), ino, old };
        let detach = |ino| Step::Detach { path: b"var".to_vec(), slot: b"old/0".to_vec(), ino };
        let steps = |step| [(step, Guard::default())];
        let staged = HashSet::from([7]);
        assert_eq!(replaced_already(&steps(swap(7, 5)), &staged), None);
        assert_eq!(replaced_already(&steps(swap(7, 7)), &staged), Some(&b"etc/motd"[..]));
        assert_eq!(replaced_already(&steps(detach(7)), &staged), Some(&b"var"[..]));
        assert_eq!(replaced_already(&steps(detach(8)), &staged), None);
    }
}
