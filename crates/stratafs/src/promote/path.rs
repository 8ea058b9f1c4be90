//! Paths as the change list has them: plain names joined by `/`, no leading slash, the root being empty.

use std::cmp::Reverse;

/// A path, a name or a value.
pub(super) type Bytes = Vec<u8>;

/// The names of a path.
pub(super) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty())
}

/// The directory of a path, and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// The path of `rest` below `dir`.
pub(super) fn join(dir: &[u8], rest: &[u8]) -> Bytes {
    match (dir, rest) {
        (b"", path) | (path, b"") => path.to_vec(),
        _ => [dir, b"/", rest].concat(),
    }
}

/// What of `path` is below `dir`: empty for `dir` itself.
pub(super) fn below<'p>(path: &'p [u8], dir: &[u8]) -> Option<&'p [u8]> {
    match path.strip_prefix(dir)? {
        rest if dir.is_empty() || rest.is_empty() => Some(rest),
        rest => rest.strip_prefix(b"/"),
    }
}

/// A path and the directories above it, the nearest first, the root last.
pub(super) fn upwards(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |at| (!at.is_empty()).then(|| split(at).0))
}

/// How many names a path has; a key by which directories come before what is in them.
pub(super) fn depth(path: &[u8]) -> usize {
    names(path).count()
}

/// A key by which directories come after what is in them.
pub(super) fn deepest_first(path: &[u8]) -> (Reverse<usize>, Bytes) {
    (Reverse(depth(path)), path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_joined_and_compared_by_name() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b""), b"a");
        assert_eq!(join(b"a", b"b"), b"a/b");
        assert_eq!(below(b"a/b", b"a"), Some(&b"b"[..]));
        assert_eq!(below(b"a", b"a"), Some(&b""[..]));
        assert_eq!(below(b"ab", b"a"), None);
        assert_eq!(below(b"ab", b""), Some(&b"ab"[..]));
        assert_eq!(upwards(b"a/b").collect::<Vec<_>>(), [&b"a/b"[..], b"a", b""]);
        assert_eq!(upwards(b"").collect::<Vec<_>>(), [b""]);
    }
}
