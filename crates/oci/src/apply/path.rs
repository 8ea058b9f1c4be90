//! Paths of an archive, judged: components from the root, and what the last one means.
//!
//! Invariant: a path that passes has no `..`, is not absolute, and is within the limits; where it leads is
//! [`super::place`]'s affair.

use crate::whiteout::{self, Meaning};
use crate::{Error, ErrorKind, Limits, Result};
use stratafs_core::{NAME_MAX, Name};

/// What an entry's path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked<'p> {
    /// The root itself.
    Root,
    /// An object at a name of a directory.
    Object(Vec<Name<'p>>, Name<'p>),
    /// A whiteout of a name of a directory.
    Whiteout(Vec<Name<'p>>, Name<'p>),
    /// An opaque mark for a directory.
    Opaque(Vec<Name<'p>>),
    /// Nothing.
    Ignored,
}

/// The path of an entry.
pub(crate) fn parse<'p>(path: &'p [u8], limits: &Limits) -> Result<Asked<'p>> {
    let mut names = components(path, limits)?;
    for (at, name) in names.iter().enumerate() {
        let last = at + 1 == names.len();
        match whiteout::meaning(name.as_bytes())? {
            Meaning::Plain => {}
            Meaning::Ignored => return Ok(Asked::Ignored),
            Meaning::Whiteout(hidden) if last => {
                names.truncate(at);
                return Ok(Asked::Whiteout(names, hidden));
            }
            Meaning::Opaque if last => {
                names.truncate(at);
                return Ok(Asked::Opaque(names));
            }
            Meaning::Whiteout(_) | Meaning::Opaque => {
                return Err(Error::new(ErrorKind::NotADirectory, "read path")
                    .because("the name of a whiteout is used for a directory"));
            }
        }
    }
    Ok(match names.pop() {
        Some(last) => Asked::Object(names, last),
        None => Asked::Root,
    })
}

/// The components of a path, `.` and empty ones left out.
pub(crate) fn components<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<Name<'p>>> {
    let bad = |kind, why: String| Err(Error::new(kind, "read path").because(why));
    if path.is_empty() || path.contains(&0) {
        return bad(ErrorKind::InvalidInput, "a path is not empty and has no NUL".into());
    }
    if path.starts_with(b"/") {
        let why = "it is absolute; paths in a layer are relative to its root (tar writes them so without -P)";
        return bad(ErrorKind::InvalidInput, why.into());
    }
    if path.len() > limits.path {
        return bad(ErrorKind::NameTooLong, format!("a path has at most {} bytes", limits.path));
    }
    let mut names = Vec::new();
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return bad(
                ErrorKind::InvalidInput,
                "a component is \"..\", which could lead out of the layer".into(),
            );
        }
        if part.len() > NAME_MAX {
            return bad(ErrorKind::NameTooLong, format!("a component has more than {NAME_MAX} bytes"));
        }
        if names.len() == limits.depth {
            return bad(ErrorKind::NameTooLong, format!("it is deeper than {} directories", limits.depth));
        }
        names.push(Name::new(part)?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &[u8]) -> Result<String> {
        let text = |names: &[Name<'_>]| {
            let names: Vec<_> = names.iter().map(|n| n.as_bytes().escape_ascii().to_string()).collect();
            names.join("/")
        };
        Ok(match parse(path, &Limits::default())? {
            Asked::Root => "root".into(),
            Asked::Object(dir, name) => format!("{} + {}", text(&dir), text(&[name])),
            Asked::Whiteout(dir, name) => format!("{} - {}", text(&dir), text(&[name])),
            Asked::Opaque(dir) => format!("{} !", text(&dir)),
            Asked::Ignored => "ignored".into(),
        })
    }

    #[test]
    fn paths_are_what_they_say() {
        for (path, meant) in [
            (&b"."[..], "root"),
            (b"./", "root"),
            (b"././/.", "root"),
            (b"a", " + a"),
            (b"./a//b/./c/", "a/b + c"),
            (b"...", " + ..."),
            (b".wh.a", " - a"),
            (b"a/.wh.b", "a - b"),
            (b".wh..wh..opq", " !"),
            (b"a/b/.wh..wh..opq", "a/b !"),
            (b".wh..wh.plnk", "ignored"),
            (b"a/.wh..wh.plnk/1.2", "ignored"),
            (b"\xff/\n", "\\xff + \\n"),
        ] {
            assert_eq!(asked(path).unwrap(), meant);
        }
    }

    #[test]
    fn paths_that_lead_out_or_nowhere_are_refused() {
        let long = [b'x'; 256];
        let deep = b"d/".repeat(Limits::default().depth + 1);
        for (path, kind) in [
            (&b""[..], ErrorKind::InvalidInput),
            (b"/", ErrorKind::InvalidInput),
            (b"/a", ErrorKind::InvalidInput),
            (b"..", ErrorKind::InvalidInput),
            (b"a/..", ErrorKind::InvalidInput),
            (b"a/../b", ErrorKind::InvalidInput),
            (b"a\0b", ErrorKind::InvalidInput),
            (b".wh.", ErrorKind::InvalidInput),
            (b"a/.wh..", ErrorKind::InvalidInput),
            (b".wh...", ErrorKind::InvalidInput),
            (b".wh.a/b", ErrorKind::NotADirectory),
            (b".wh..wh..opq/b", ErrorKind::NotADirectory),
            (&long, ErrorKind::NameTooLong),
            (&deep, ErrorKind::NameTooLong),
            (&b"x/".repeat(1 << 16), ErrorKind::NameTooLong),
        ] {
            assert_eq!(asked(path).unwrap_err().kind(), kind, "{}", path.escape_ascii());
        }
    }
}
