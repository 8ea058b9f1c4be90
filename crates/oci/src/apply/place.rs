//! Where the paths of an archive lead: component by component in the new layer and, where that has nothing, in the view
//! below, through symbolic links as in a chroot. Directories that the layer lacks are made.
//!
//! What the layer itself deletes does not count here: whiteouts and opaque marks speak of the layers below only, and
//! may come later in the archive than what they stand beside.
//!
//! Invariants: [`Places::open`] is a chain of directories of the new layer from its root, each in the one before; one
//! that had names added gets its time back when it leaves the chain. Nothing but names of one component reaches the
//! scratch.

use super::below::{Below, Described, Known, Open, Stands};
use super::{OPERATION, put::opaque_dir};
use crate::{Error, ErrorKind, Result};
use stratafs_core::{
    At, Attr, Device, Found, Hit, Inode, Kind, Layer, Name, NameBuf, Scratch, Seed, SetAttr, SetTime, Time,
    Whole,
};

/// How many symbolic links one path may pass (as Linux).
const LINKS_MAX: usize = 40;

/// A directory of the layer.
pub(super) struct Level<N, L: Layer, B: Scratch> {
    name: Option<NameBuf>,
    pub(super) node: N,
    /// What its time is to be.
    mtime: Time,
    /// Names were added since.
    touched: bool,
    below: Known<L, B>,
}

/// The places of one layer.
pub(super) struct Places<'a, S: Scratch, L: Layer, B: Scratch> {
    pub(super) scratch: &'a S,
    pub(super) below: Below<'a, L, B>,
    root: Level<S::Node, L, B>,
    open: Vec<Level<S::Node, L, B>>,
    /// The directory that was asked for last; `open` leads there.
    asked: Option<Vec<u8>>,
    /// Directories that were made because the archive lacks them, for the frame.
    made: Vec<(Vec<u8>, Described)>,
}

/// What stands at the target of a hard link.
pub(super) enum Target<N, L: Layer, B: Scratch> {
    /// In the layer, at this path.
    Own(Box<Hit<N>>, Vec<NameBuf>),
    /// Only below, at this path.
    Below(Inode<L, B>, Vec<NameBuf>),
    Missing,
}

/// One step of a walk that makes nothing.
struct Step<N, L: Layer, B: Scratch> {
    name: Option<NameBuf>,
    own: Option<N>,
    below: Known<L, B>,
}

/// Components that are still to be walked, last first, and how many links that may still take. `None` goes up, which
/// only the target of a link can ask for.
struct Todo {
    names: Vec<Option<NameBuf>>,
    links: usize,
}

impl Todo {
    fn new(names: &[Name<'_>]) -> Self {
        Self { names: names.iter().rev().map(|name| Some(name.to_buf())).collect(), links: LINKS_MAX }
    }

    /// Puts the target of a link in front; true when it begins at the root.
    fn follow(&mut self, target: &[u8]) -> Result<bool> {
        self.links = self.links.checked_sub(1).ok_or_else(|| {
            Error::new(ErrorKind::Loop, OPERATION).because("more than 40 symbolic links on the way")
        })?;
        for part in target.split(|b| *b == b'/').rev().filter(|part| !part.is_empty() && *part != b".") {
            self.names.push(match part {
                b".." => None,
                part => Some(NameBuf::new(part)?),
            });
        }
        Ok(target.starts_with(b"/"))
    }
}

impl<'a, S: Scratch, L: Layer, B: Scratch> Places<'a, S, L, B> {
    pub(super) fn new(scratch: &'a S, below: Open<'a, L, B>) -> Result<Self> {
        let hit = scratch.root()?;
        let root = Level {
            name: None,
            node: hit.node,
            mtime: hit.attr.mtime,
            touched: false,
            below: Known::NotAsked,
        };
        Ok(Self { scratch, below: Below::new(below), root, open: Vec::new(), asked: None, made: Vec::new() })
    }

    fn level(&self, depth: usize) -> &Level<S::Node, L, B> {
        depth.checked_sub(1).and_then(|at| self.open.get(at)).unwrap_or(&self.root)
    }

    fn level_mut(&mut self, depth: usize) -> &mut Level<S::Node, L, B> {
        depth.checked_sub(1).and_then(|at| self.open.get_mut(at)).unwrap_or(&mut self.root)
    }

    /// The directory that was entered last.
    pub(super) fn here(&self) -> &S::Node {
        &self.level(self.open.len()).node
    }

    /// The path of a name in the directory that was entered last.
    pub(super) fn path(&self, name: Option<Name<'_>>) -> Vec<u8> {
        let names = self.open.iter().filter_map(|level| level.name.as_ref().map(NameBuf::as_bytes));
        names.chain(name.as_ref().map(|name| name.as_bytes())).collect::<Vec<_>>().join(&b'/')
    }

    /// A name was added to the directory that was entered last.
    pub(super) fn touched(&mut self) {
        let depth = self.open.len();
        self.level_mut(depth).touched = true;
    }

    /// The root was given attributes.
    pub(super) fn root_time(&mut self, mtime: Time) {
        self.root.mtime = mtime;
    }

    /// Takes what was made for want of an entry.
    pub(super) fn take_made(&mut self) -> Vec<(Vec<u8>, Described)> {
        std::mem::take(&mut self.made)
    }

    /// Notes what was made for want of an entry.
    pub(super) fn note_made(&mut self, path: Vec<u8>, made: Described) {
        self.made.push((path, made));
    }

    /// Leaves directories until so many are open.
    fn leave(&mut self, depth: usize) -> Result<()> {
        while self.open.len() > depth {
            if let Some(level) = self.open.pop() {
                self.settle(&level)?;
            }
        }
        Ok(())
    }

    fn settle(&self, level: &Level<S::Node, L, B>) -> Result<()> {
        if !level.touched {
            return Ok(());
        }
        let time = Some(SetTime::At(level.mtime));
        self.scratch.set_attr(&level.node, &SetAttr { atime: time, mtime: time, ..SetAttr::default() })
    }

    /// Leaves everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.leave(0)?;
        self.settle(&self.root)
    }

    /// A directory was just made in the one that was entered last: what follows is probably inside it.
    pub(super) fn made_dir(&mut self, name: Name<'_>, node: S::Node, mtime: Time) {
        self.asked = None;
        let below = Known::NotAsked;
        self.open.push(Level { name: Some(name.to_buf()), node, mtime, touched: false, below });
    }

    /// Something else was put where perhaps a link was, so what was asked last may lead elsewhere now.
    pub(super) fn forget_way(&mut self) {
        self.asked = None;
    }

    /// Enters a directory, making what is missing.
    pub(super) fn enter(&mut self, names: &[Name<'_>]) -> Result<()> {
        let key: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
        let key = key.join(&b'/');
        if self.asked.as_ref() == Some(&key) {
            return Ok(());
        }
        self.asked = None;
        let mut todo = Todo::new(names);
        let mut depth = 0_usize;
        while let Some(step) = todo.names.pop() {
            let Some(name) = step else {
                depth = depth.saturating_sub(1);
                continue;
            };
            if self.open.get(depth).is_some_and(|level| level.name.as_ref() == Some(&name)) {
                depth += 1;
                continue;
            }
            self.leave(depth)?;
            let is_link = match self.scratch.lookup(self.here(), name.as_name())? {
                Found::Node(hit) if hit.attr.is_dir() => {
                    self.made_dir(name.as_name(), hit.node, hit.attr.mtime);
                    None
                }
                Found::Node(hit) if hit.attr.kind == Kind::Symlink => {
                    Some(self.scratch.read_link(&hit.node)?)
                }
                Found::Node(_) => return Err(self.in_the_way(&name, "the layer has something else")),
                Found::Absent => self.make_or_follow(&name, false)?,
                Found::Whiteout => self.make_or_follow(&name, true)?,
            };
            match is_link {
                None => depth += 1,
                Some(target) if todo.follow(&target)? => depth = 0,
                Some(_) => {}
            }
        }
        self.leave(depth)?;
        self.asked = Some(key);
        Ok(())
    }

    fn in_the_way(&self, name: &NameBuf, who: &str) -> Error {
        let path = self.path(Some(name.as_name())).escape_ascii().to_string();
        Error::new(ErrorKind::NotADirectory, OPERATION)
            .because(format!("{who} at \"{path}\" where a directory is needed"))
    }

    /// Makes a directory as it is below, or an ordinary one, and opens it; or gives the target of a link below.
    fn make_or_follow(&mut self, name: &NameBuf, whiteout: bool) -> Result<Option<Vec<u8>>> {
        let depth = self.open.len();
        self.ask_below(depth)?;
        let described = match self.below.lookup(&self.level(depth).below, name.as_name())? {
            Stands::Object(inode) if matches!(inode.kind(), Kind::Dir | Kind::Symlink) => {
                self.below.describe(&inode)?
            }
            Stands::Object(_) => return Err(self.in_the_way(name, "the layers below have something else")),
            Stands::Nothing => None,
        };
        if let Some(found) = described.as_ref().filter(|found| found.attr.kind == Kind::Symlink) {
            return Ok(Some(found.target.clone()));
        }
        let described = described.unwrap_or_else(ordinary);
        let Attr { mode, uid, gid, mtime, .. } = described.attr;
        let seed = Seed { kind: Kind::Dir, mode, uid, gid, rdev: Device::default(), target: b"" };
        let whole = Whole { seed, mtime, xattrs: &described.xattrs };
        let at = At { dir: self.here(), name: name.as_name() };
        let node = match whiteout {
            true => opaque_dir(self.scratch, at, &whole)?,
            false => self.scratch.put(at, &whole, &mut |_| Ok(()))?,
        };
        self.touched();
        let path = self.path(Some(name.as_name()));
        self.note_made(path, described);
        self.made_dir(name.as_name(), node, mtime);
        Ok(None)
    }

    /// Finds out what is below the open directories, down to a depth.
    fn ask_below(&mut self, depth: usize) -> Result<()> {
        if matches!(self.root.below, Known::NotAsked) {
            self.root.below = self.below.root()?;
        }
        for at in 1..=depth {
            let level = self.level(at);
            let (Known::NotAsked, Some(name)) = (&level.below, &level.name) else { continue };
            let known = match self.below.lookup(&self.level(at - 1).below, name.as_name())? {
                Stands::Object(inode) if inode.is_dir() => Known::Dir(inode),
                // What is no directory is hidden by ours.
                _ => Known::Nothing,
            };
            self.level_mut(at).below = known;
        }
        Ok(())
    }

    /// Finds the target of a hard link; makes nothing.
    pub(super) fn find(&self, names: &[Name<'_>]) -> Result<Target<S::Node, L, B>> {
        let root = || Step { name: None, own: Some(self.root.node.clone()), below: Known::NotAsked };
        let mut walked = vec![root()];
        let mut todo = Todo::new(names);
        while let Some(step) = todo.names.pop() {
            let last = todo.names.is_empty();
            let Some(name) = step else {
                walked.truncate(walked.len().saturating_sub(1).max(1));
                continue;
            };
            let Some(dir) = walked.last() else { break };
            let own = match &dir.own {
                Some(node) => match self.scratch.lookup(node, name.as_name())? {
                    Found::Node(hit) => Some(hit),
                    Found::Absent | Found::Whiteout => None,
                },
                None => None,
            };
            let path = |walked: &[Step<S::Node, L, B>]| -> Vec<NameBuf> {
                walked.iter().filter_map(|step| step.name.clone()).chain([name.clone()]).collect()
            };
            let (is_dir, target) = match own {
                Some(hit) if last => return Ok(Target::Own(Box::new(hit), path(&walked))),
                Some(hit) => {
                    let target = match hit.attr.kind {
                        Kind::Symlink => Some(self.scratch.read_link(&hit.node)?),
                        _ => None,
                    };
                    let is_dir = hit.attr.is_dir();
                    let step = Step { name: Some(name), own: Some(hit.node), below: Known::NotAsked };
                    (is_dir.then_some(step), target)
                }
                None => {
                    self.walk_below(&mut walked)?;
                    let Some(dir) = walked.last() else { break };
                    let Stands::Object(inode) = self.below.lookup(&dir.below, name.as_name())? else {
                        return Ok(Target::Missing);
                    };
                    if last {
                        return Ok(Target::Below(inode, path(&walked)));
                    }
                    let target = match inode.kind() {
                        Kind::Symlink => self.below.describe(&inode)?.map(|found| found.target),
                        _ => None,
                    };
                    let is_dir = inode.is_dir();
                    let step = Step { name: Some(name), own: None, below: Known::Dir(inode) };
                    (is_dir.then_some(step), target)
                }
            };
            match (is_dir, target) {
                (Some(step), _) => walked.push(step),
                (None, Some(target)) => {
                    if todo.follow(&target)? {
                        walked.truncate(1);
                    }
                }
                (None, None) => return Ok(Target::Missing),
            }
        }
        // The way ended at a directory: the root, or through a link that ends with `..`.
        Err(Error::new(ErrorKind::NotPermitted, OPERATION).because("a directory cannot have a second name"))
    }

    /// Whether the layer leaves a name of the layers below as it is: it has nothing there and hides nothing on the way.
    pub(super) fn leaves(&self, names: &[Name<'_>]) -> Result<bool> {
        let mut hit = self.scratch.root()?;
        for name in names {
            if !hit.attr.is_dir() || hit.marks.opaque {
                return Ok(false);
            }
            hit = match self.scratch.lookup(&hit.node, *name)? {
                Found::Node(hit) => hit,
                Found::Absent => return Ok(true),
                Found::Whiteout => return Ok(false),
            };
        }
        Ok(false)
    }

    /// As [`Places::ask_below`], for a walk.
    fn walk_below(&self, walked: &mut [Step<S::Node, L, B>]) -> Result<()> {
        let mut above: Option<&Known<L, B>> = None;
        for step in walked {
            if matches!(step.below, Known::NotAsked) {
                step.below = match (above, &step.name) {
                    (Some(dir), Some(name)) => match self.below.lookup(dir, name.as_name())? {
                        Stands::Object(inode) if inode.is_dir() => Known::Dir(inode),
                        _ => Known::Nothing,
                    },
                    _ => self.below.root()?,
                };
            }
            above = Some(&step.below);
        }
        Ok(())
    }
}

/// A directory that neither the archive nor the layers below have: as GNU tar makes it, with a time that is always the
/// same.
fn ordinary() -> Described {
    let time = Time::default();
    Described {
        attr: Attr {
            kind: Kind::Dir,
            mode: 0o755,
            uid: 0,
            gid: 0,
            nlink: 1,
            size: 0,
            blocks: 0,
            blksize: 0,
            rdev: Device::default(),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
            id: stratafs_core::FileId { dev: 0, ino: 0 },
        },
        target: Vec::new(),
        xattrs: Vec::new(),
    }
}
