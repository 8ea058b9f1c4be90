//! Hard links, to what the layer has and to what only the layers below have. The latter is copied, once, as link(2) through
//! an overlay would; when the archive is over, the copy gets all names that the object has below and that the layer
//! leaves as they are, so that they stay one file. Not earlier, since a whiteout, an opaque mark or an entry that takes
//! such a name away may come at any place of the archive.
//!
//! Invariants: one walk through the layers below, however many links there are; memory grows with the files that were
//! copied, not with their names. A copy is known by its last name: where a later entry replaces that, one more link
//! copies again.

use super::below::Described;
use super::content::sum_of;
use super::place::Target;
use super::put::staged;
use super::{OPERATION, Run, go_on, is_a_directory, path};
use crate::frame::Made;
use crate::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::io::Read;
use stratafs_core::{
    Access, At, Attr, Caller, FileId, Found, Inode, Layer, Name, NameBuf, Over, Scratch, Seed, Whole, WriteAt,
};

/// An object of the layers below that the layer has a copy of.
struct Copied<L: Layer, B: Scratch> {
    inode: Inode<L, B>,
    /// Where it is below.
    below: Vec<u8>,
    /// It has more names there.
    more: bool,
    /// Where the copy is.
    at: Vec<u8>,
}

/// The copies in the layer.
pub(super) struct Copies<L: Layer, B: Scratch> {
    of: HashMap<FileId, Copied<L, B>>,
    /// By the names by which they are known.
    at: HashMap<Vec<u8>, FileId>,
}

impl<L: Layer, B: Scratch> Copies<L, B> {
    pub(super) fn new() -> Self {
        Self { of: HashMap::new(), at: HashMap::new() }
    }

    fn add(&mut self, copied: Copied<L, B>) {
        let id = copied.inode.id();
        self.at.insert(copied.at.clone(), id);
        self.of.insert(id, copied);
    }

    /// Where the copy of an object is.
    fn place(&self, inode: &Inode<L, B>) -> Option<Vec<u8>> {
        self.of.get(&inode.id()).map(|copied| copied.at.clone())
    }

    /// A copy got one more name.
    fn renamed(&mut self, from: &[u8], to: &[u8]) {
        if let Some(id) = self.at.remove(from)
            && let Some(copied) = self.of.get_mut(&id)
        {
            copied.at = to.to_vec();
            self.at.insert(to.to_vec(), id);
        }
    }

    /// What is at a path is replaced.
    pub(super) fn forget(&mut self, path: &[u8]) {
        if let Some(id) = self.at.remove(path) {
            self.of.remove(&id);
        }
    }
}

/// What gets the new name.
enum New<S: Scratch> {
    /// An object of the layer.
    Own(S::Node),
    /// A copy that was just made.
    Copy(S::Staged),
}

impl<R: Read, S: Scratch, L: Layer, B: Scratch> Run<'_, R, S, L, B> {
    pub(super) fn hard_link(&mut self, dir: &[Name<'_>], name: Name<'_>, target: &[u8]) -> Result<()> {
        let target_names = path::components(target, self.limits).map_err(|e| {
            let why = format!("the target of the hard link, \"{}\", cannot be: {e}", target.escape_ascii());
            Error::new(e.kind(), OPERATION).because(why)
        })?;
        let found = self.places.find(&target_names)?;
        self.places.enter(dir)?;
        let path = self.places.path(Some(name));
        let itself = |at: &[u8]| match at == path {
            true => {
                Err(Error::new(ErrorKind::InvalidInput, OPERATION).because("it is a hard link to itself"))
            }
            false => Ok(()),
        };
        // The object, where the layer has it, and what is below, where it is about to be copied.
        let (new, at, copied) = match found {
            Target::Own(hit, at) => {
                let at = joined(&at);
                if hit.attr.is_dir() {
                    return Err(one_name("a directory"));
                }
                itself(&at)?;
                (New::<S>::Own(hit.node), at, None)
            }
            Target::Below(inode, below) => {
                let below = joined(&below);
                itself(&below)?;
                match self.copies.place(&inode) {
                    Some(at) => (New::Own(self.copy(&at)?), at, None),
                    None => {
                        let (staged, made) = self.copy_up(&inode, path.clone())?;
                        let more = made.1 > 1;
                        if let Some(frame) = &mut self.reader.tap_mut().0 {
                            frame.made(self.entries, &made.0)?;
                        }
                        let copied = Copied { inode, below, more, at: path.clone() };
                        (New::Copy(staged), path.clone(), Some(copied))
                    }
                }
            }
            Target::Missing => {
                return Err(Error::new(ErrorKind::NotFound, OPERATION).because(format!(
                    "it is a hard link to \"{}\", which neither an earlier entry of the layer nor a layer below has",
                    target.escape_ascii()
                )));
            }
        };
        self.note(dir, Some(name), (at != target).then_some(at.as_slice()))?;
        let scratch = self.places.scratch;
        let over = match scratch.lookup(self.places.here(), name)? {
            Found::Absent => Over::Nothing,
            Found::Whiteout => Over::Whiteout,
            Found::Node(hit) if hit.attr.is_dir() => return Err(is_a_directory()),
            Found::Node(hit) => {
                if let New::Own(node) = &new
                    && hit.attr.id == scratch.attr(node)?.id
                {
                    return Ok(());
                }
                self.save(&hit.node, &hit.attr, name)?;
                Over::Object
            }
        };
        // What stood there may have been a link on the way to other entries.
        if over == Over::Object {
            self.places.forget_way();
        }
        let here = At { dir: self.places.here(), name };
        match new {
            New::Own(node) => scratch.link(&node, here, over)?,
            New::Copy(staged) => scratch.publish(staged, here, over)?,
        };
        self.places.touched();
        match copied {
            Some(copied) => self.copies.add(copied),
            None => self.copies.renamed(&at, &path),
        }
        Ok(())
    }

    /// The copy of an object below.
    fn copy(&self, at: &[u8]) -> Result<S::Node> {
        match self.places.find(&path::components(at, self.limits)?)? {
            Target::Own(hit, _) => Ok(hit.node),
            _ => Err(Error::new(ErrorKind::NotFound, OPERATION).about(at)),
        }
    }

    /// Copies an object of the layers below, as link(2) through overlayfs would. Gives how many names it has there, too.
    fn copy_up(&mut self, inode: &Inode<L, B>, path: Vec<u8>) -> Result<(S::Staged, (Made, u32))> {
        if inode.is_dir() {
            return Err(one_name("a directory of the layers below"));
        }
        let missing = || Error::new(ErrorKind::NotFound, OPERATION);
        let Described { attr, target, xattrs } = self.places.below.describe(inode)?.ok_or_else(missing)?;
        let Attr { kind, mode, uid, gid, rdev, mtime, size, .. } = attr;
        let seed = Seed { kind, mode, uid, gid, rdev, target: &target };
        let whole = Whole { seed, mtime, xattrs: &xattrs };
        let view = self.places.below.view()?.ok_or_else(missing)?;
        let framed = self.reader.tap_mut().0.is_some();
        let mut crc = 0;
        let staged = staged(self.places.scratch, &whole, &mut |file| {
            let from = view.open(inode, Access::read(), &Caller::root())?;
            from.with_file(|from| file.fill(from, size))?;
            if framed {
                crc = sum_of(file, size)?;
            }
            Ok(())
        })?;
        let made = Made { crc, ..Made::new(path, &attr, target, xattrs) };
        Ok((staged, (made, attr.nlink)))
    }

    /// Gives every copy the names that its object has below.
    pub(super) fn names_below(&mut self) -> Result<()> {
        let copies: Vec<_> = std::mem::take(&mut self.copies.of).into_values().collect();
        self.copies.at.clear();
        let (several, single): (Vec<_>, Vec<_>) = copies.into_iter().partition(|copied| copied.more);
        let mut names: Vec<_> = single.into_iter().map(|copied| (copied.below, copied.at)).collect();
        if !several.is_empty() {
            let inodes: Vec<_> = several.iter().map(|copied| copied.inode.clone()).collect();
            let seen = self.places.below.view()?.map(|view| view.names_of(&inodes)).transpose()?;
            let known = seen.into_iter().flatten();
            names.extend(known.filter_map(|(which, path)| Some((path, several.get(which)?.at.clone()))));
        }
        names.sort();
        for (path, at) in names {
            go_on(self.progress)?;
            self.name_below(&path, &at).map_err(|e| e.asked(OPERATION, &path))?;
        }
        Ok(())
    }

    fn name_below(&mut self, path: &[u8], at: &[u8]) -> Result<()> {
        let names = path::components(path, self.limits)?;
        let Some((name, dirs)) = names.split_last().filter(|_| at != path) else { return Ok(()) };
        if !self.places.leaves(&names)? {
            return Ok(());
        }
        let node = self.copy(at)?;
        self.places.enter(dirs)?;
        self.note_made()?;
        if let Some(frame) = &mut self.reader.tap_mut().0 {
            frame.linked(self.entries, path, at)?;
        }
        self.places.scratch.link(&node, At { dir: self.places.here(), name: *name }, Over::Nothing)?;
        self.places.touched();
        Ok(())
    }
}

fn joined(names: &[NameBuf]) -> Vec<u8> {
    names.iter().map(NameBuf::as_bytes).collect::<Vec<_>>().join(&b'/')
}

fn one_name(what: &str) -> Error {
    Error::new(ErrorKind::NotPermitted, OPERATION).because(format!("{what} cannot have a second name"))
}
