//! The names of extended attributes: which are overlayfs's own, and how a user's attribute of such a name is kept
//! apart from them (escaped by one more `overlay.`, as the kernel does it).

/// Under which prefix overlayfs's own attributes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Namespace {
    /// `trusted.overlay.`: the privileged form.
    #[default]
    Trusted,
    /// `user.overlay.`: the form of mounts with `userxattr`.
    User,
}

/// What follows the prefix in an escaped name once more.
const ESCAPE: &[u8] = b"overlay.";

impl Namespace {
    /// The prefix, with its last dot.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }

    /// The full name of one of overlayfs's own attributes.
    pub(crate) fn own(self, short: &str) -> Vec<u8> {
        [self.prefix().as_bytes(), short.as_bytes()].concat()
    }

    /// The short name of a stored attribute that is overlayfs's own.
    pub(crate) fn own_name(self, stored: &[u8]) -> Option<&[u8]> {
        stored.strip_prefix(self.prefix().as_bytes()).filter(|rest| !rest.starts_with(ESCAPE))
    }

    /// Under which name a user's attribute is stored.
    #[must_use]
    pub fn escape(self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(self.prefix().as_bytes()) {
            Some(rest) => [self.prefix().as_bytes(), ESCAPE, rest].concat(),
            None => name.to_vec(),
        }
    }

    /// The name that a user sees for a stored attribute; `None` for overlayfs's own.
    #[must_use]
    pub fn unescape(self, stored: &[u8]) -> Option<Vec<u8>> {
        match stored.strip_prefix(self.prefix().as_bytes()) {
            Some(rest) => rest.strip_prefix(ESCAPE).map(|rest| [self.prefix().as_bytes(), rest].concat()),
            None => Some(stored.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_keeps_every_name_apart_and_comes_back() {
        for ns in [Namespace::Trusted, Namespace::User] {
            for short in ["foo", "overlay.foo", "overlay.overlay.x", "overlay.", "opaque"] {
                let name = ns.own(short);
                let stored = ns.escape(&name);
                assert_ne!(stored, name);
                assert_eq!(ns.own_name(&stored), None);
                assert_eq!(ns.unescape(&stored), Some(name));
            }
            assert_eq!(ns.escape(b"user.x"), b"user.x");
            assert_eq!(ns.unescape(&ns.own("opaque")), None);
            assert_eq!(ns.own_name(&ns.own("opaque")), Some(&b"opaque"[..]));
        }
        assert_eq!(
            Namespace::Trusted.unescape(b"user.overlay.opaque"),
            Some(b"user.overlay.opaque".to_vec())
        );
    }
}
