//! The layers below, asked only when an entry cannot do without them.

use crate::Result;
use std::cell::OnceCell;
use stratafs_core::{Attr, Inode, Kind, Layer, Name, Scratch, View};

/// Opens the view below; it may wait until that is ready.
pub(super) type Open<'b, L, B> = &'b dyn Fn() -> Result<Option<View<L, B>>>;

/// The view below, once it was asked.
pub(super) struct Below<'b, L: Layer, B: Scratch> {
    open: Open<'b, L, B>,
    view: OnceCell<Option<View<L, B>>>,
}

/// A directory below, as far as it is known.
pub(super) enum Known<L: Layer, B: Scratch> {
    NotAsked,
    Nothing,
    Dir(Inode<L, B>),
}

/// What stands at a name below.
pub(super) enum Stands<L: Layer, B: Scratch> {
    Nothing,
    Object(Inode<L, B>),
}

impl<'b, L: Layer, B: Scratch> Below<'b, L, B> {
    pub(super) fn new(open: Open<'b, L, B>) -> Self {
        Self { open, view: OnceCell::new() }
    }

    /// Whether anything depends on what is below.
    pub(super) fn was_asked(&self) -> bool {
        self.view.get().is_some()
    }

    pub(super) fn view(&self) -> Result<Option<&View<L, B>>> {
        if let Some(view) = self.view.get() {
            return Ok(view.as_ref());
        }
        let opened = (self.open)()?;
        Ok(self.view.get_or_init(|| opened).as_ref())
    }

    /// The root below.
    pub(super) fn root(&self) -> Result<Known<L, B>> {
        Ok(self.view()?.map_or(Known::Nothing, |view| Known::Dir(view.root())))
    }

    /// What stands in a directory that was asked for.
    pub(super) fn lookup(&self, dir: &Known<L, B>, name: Name<'_>) -> Result<Stands<L, B>> {
        let (Known::Dir(dir), Some(view)) = (dir, self.view()?) else { return Ok(Stands::Nothing) };
        Ok(view.lookup(dir, name)?.map_or(Stands::Nothing, Stands::Object))
    }

    /// The attributes and extended attributes of an object below.
    pub(super) fn describe(&self, inode: &Inode<L, B>) -> Result<Option<Described>> {
        let Some(view) = self.view()? else { return Ok(None) };
        let mut xattrs = Vec::new();
        for name in view.xattrs(inode)? {
            if let Some(value) = view.xattr(inode, &name)? {
                xattrs.push((name, value));
            }
        }
        let attr = view.attr(inode)?;
        let target = if attr.kind == Kind::Symlink { view.read_link(inode)? } else { Vec::new() };
        Ok(Some(Described { attr, target, xattrs }))
    }
}

/// Everything but the content.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) attr: Attr,
    pub(super) target: Vec<u8>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}
