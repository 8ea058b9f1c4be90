//! [`Path`]: a list of components below the root. Nothing in it is ever followed as a symbolic link, so that
//! the model, a view and a kernel mount agree on what it names.

use std::fmt;

/// Components from the root; empty is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(pub Vec<Vec<u8>>);

impl Path {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// From text with `/` between the components; a leading slash changes nothing.
    #[must_use]
    pub fn of(text: impl AsRef<[u8]>) -> Self {
        let parts = text.as_ref().split(|b| *b == b'/').filter(|p| !p.is_empty());
        Self(parts.map(<[u8]>::to_vec).collect())
    }

    /// The path of `name` below this one.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut parts = self.0.clone();
        parts.push(name.to_vec());
        Self(parts)
    }

    /// The directory and the name in it; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(&[Vec<u8>], &[u8])> {
        self.0.split_last().map(|(last, dir)| (dir, last.as_slice()))
    }

    /// The directory that holds it; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.split().map(|(dir, _)| dir.to_vec()).unwrap_or_default())
    }

    /// True when `other` is somewhere below this directory.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        other.0.len() > self.0.len() && other.0.starts_with(&self.0)
    }

    /// The bytes with `/` between the components, without a leading one.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &[u8]| match name.len() {
            0..=40 => name.escape_ascii().to_string(),
            len => format!("{}..({len})", name[..8].escape_ascii()),
        };
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|name| write!(f, "/{}", shown(name)))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
