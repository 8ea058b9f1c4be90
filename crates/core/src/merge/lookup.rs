//! The fold of one name over the lower layers, top to bottom, by overlayfs's rules: a whiteout, an opaque
//! directory or an object of another kind ends it; redirects change the name that the layers further down are
//! asked for; metadata-only files go on to the layer that has the data.
//!
//! Invariants: at most one question for each layer and path component; the answer is empty, or directories
//! only, or one chain of files whose last has the data.

use crate::attr::{Attr, Kind};
use crate::error::Result;
use crate::layer::Found;
use crate::marks::{Marks, Redirect};
use crate::name::{Name, NameBuf};

/// One lower object that is part of a merged one.
#[derive(Debug, Clone)]
pub struct Below<N> {
    /// The layer it is in, counted from the topmost.
    pub layer: usize,
    /// The object there.
    pub node: N,
    /// Its attributes; a lower layer does not change, so they stay right.
    pub attr: Attr,
    /// Its marks.
    pub marks: Marks,
    /// It has no extended attributes at all.
    pub bare: bool,
}

/// What stands above the layers that are asked, and so what the fold begins with.
#[derive(Debug, Clone, Copy)]
pub struct Ceiling<'a> {
    /// The object above is a directory.
    pub is_dir: bool,
    /// Its marks.
    pub marks: &'a Marks,
}

/// Where the layers further down are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// By one name, in the parent's lower directories.
    Sibling(NameBuf),
    /// By components from the root of each layer.
    Path(Vec<NameBuf>),
}

struct Fold {
    query: Query,
    is_dir: bool,
    metacopy: bool,
    stop: bool,
}

impl Fold {
    /// Applies the redirect of the object that stands `after` components before the end of the query.
    fn redirect(&mut self, redirect: &Redirect, after: usize) {
        match (redirect, &mut self.query) {
            (Redirect::Absolute(path), query) => {
                let mut path = path.clone();
                if let Query::Path(old) = query {
                    path.extend_from_slice(old.get(old.len() - after..).unwrap_or_default());
                }
                *query = Query::Path(path);
                // An opaque ancestor ended the walk by name; an absolute path starts over from the root.
                self.stop = false;
            }
            (Redirect::Sibling(name), Query::Sibling(old)) => *old = name.clone(),
            (Redirect::Sibling(name), Query::Path(path)) => {
                let at = path.len() - 1 - after;
                if let Some(part) = path.get_mut(at) {
                    *part = name.clone();
                }
            }
        }
    }

    /// Takes one layer's answer for the component that has `after` components behind it.
    fn take<N>(&mut self, found: Found<N>, layer: usize, after: usize) -> Option<Below<N>> {
        let hit = match found {
            Found::Absent => return None,
            Found::Whiteout => {
                self.stop = true;
                return None;
            }
            Found::Node(hit) => hit,
        };
        let last = after == 0;
        if last && self.metacopy && hit.attr.kind != Kind::File {
            self.stop = true;
            return None;
        }
        if hit.attr.kind == Kind::Dir {
            if last {
                self.is_dir = true;
            }
            if hit.marks.opaque {
                self.stop = true;
            } else if let Some(redirect) = &hit.marks.redirect {
                self.redirect(redirect, after);
            }
        } else {
            if self.is_dir || !last {
                self.stop = true;
                return None;
            }
            self.metacopy = hit.marks.metacopy;
            self.stop = !self.metacopy;
            if let (true, Some(redirect)) = (self.metacopy, &hit.marks.redirect) {
                self.redirect(redirect, after);
            }
        }
        Some(Below { layer, node: hit.node, attr: hit.attr, marks: hit.marks, bare: hit.bare })
    }
}

/// Finds what the lower layers have for `name`.
///
/// `roots` are the root directories of all lower layers, `parent` the lower directories of the parent as
/// `(layer, node)`, both topmost first (a caller who knows that some lack the name leaves them out); `ceiling`
/// is the object above, if the scratch has one. `ask` is [`Layer::lookup`].
///
/// [`Layer::lookup`]: crate::Layer::lookup
///
/// # Errors
/// Whatever `ask` fails with.
pub fn below<'n, N: Clone + 'n>(
    roots: &[N],
    parent: impl IntoIterator<Item = (usize, &'n N)>,
    name: Name<'_>,
    ceiling: Option<Ceiling<'_>>,
    ask: impl FnMut(usize, &N, Name<'_>) -> Result<Found<N>>,
) -> Result<Vec<Below<N>>> {
    Ok(descend(roots, parent, name, ceiling, usize::MAX, ask)?.0)
}

/// How the layers from number `until` on are asked for what [`below`] finds, after those above them were; `None` when
/// they are not asked at all.
///
/// # Errors
/// Whatever `ask` fails with.
pub fn query_below<'n, N: Clone + 'n>(
    roots: &[N],
    parent: impl IntoIterator<Item = (usize, &'n N)>,
    name: Name<'_>,
    ceiling: Option<Ceiling<'_>>,
    until: usize,
    ask: impl FnMut(usize, &N, Name<'_>) -> Result<Found<N>>,
) -> Result<Option<Query>> {
    let (_, fold) = descend(roots, parent, name, ceiling, until, ask)?;
    Ok((!fold.stop).then_some(fold.query))
}

fn descend<'n, N: Clone + 'n>(
    roots: &[N],
    parent: impl IntoIterator<Item = (usize, &'n N)>,
    name: Name<'_>,
    ceiling: Option<Ceiling<'_>>,
    until: usize,
    mut ask: impl FnMut(usize, &N, Name<'_>) -> Result<Found<N>>,
) -> Result<(Vec<Below<N>>, Fold)> {
    let mut fold = Fold { query: Query::Sibling(name.to_buf()), is_dir: false, metacopy: false, stop: false };
    if let Some(top) = ceiling {
        fold.is_dir = top.is_dir;
        fold.metacopy = !top.is_dir && top.marks.metacopy;
        fold.stop = if top.is_dir { top.marks.opaque } else { !top.marks.metacopy };
        if let (false, Some(redirect)) = (fold.stop, &top.marks.redirect) {
            fold.redirect(redirect, 0);
        }
    }
    let mut found = Vec::new();
    let mut siblings = parent.into_iter();
    let mut next_layer = 0;
    while !fold.stop {
        let hit = match fold.query.clone() {
            Query::Sibling(name) => {
                let Some((layer, dir)) = siblings.next().filter(|(layer, _)| *layer < until) else { break };
                next_layer = layer + 1;
                let answer = ask(layer, dir, name.as_name())?;
                fold.take(answer, layer, 0)
            }
            Query::Path(path) => {
                let Some(root) = roots.get(next_layer).filter(|_| next_layer < until) else { break };
                let layer = next_layer;
                next_layer += 1;
                walk(&mut fold, root, layer, &path, &mut ask)?
            }
        };
        found.extend(hit);
    }
    Ok((found, fold))
}

/// Walks the components of `path` in one layer. Redirects found on the way change the query for the layers
/// further down; what remains to be walked here stays the same.
fn walk<N: Clone>(
    fold: &mut Fold,
    root: &N,
    layer: usize,
    path: &[NameBuf],
    ask: &mut impl FnMut(usize, &N, Name<'_>) -> Result<Found<N>>,
) -> Result<Option<Below<N>>> {
    let mut dir = root.clone();
    for (i, part) in path.iter().enumerate() {
        let after = path.len() - 1 - i;
        let answer = ask(layer, &dir, part.as_name())?;
        match fold.take(answer, layer, after) {
            Some(hit) if after == 0 => return Ok(Some(hit)),
            Some(hit) => dir = hit.node,
            None => return Ok(None),
        }
    }
    Ok(None)
}
