//! What a container changed, as lines and as JSON. Used by `diff` and after a run.

use crate::text::{JsonPath, kind_word, shown};
use serde::Serialize;
use std::fmt;
use stratafs::{Aspects, Change, Kind, What};

/// The changes without the times of directories: those change with every name in them.
pub fn without_times_of_directories(changes: Vec<Change>) -> Vec<Change> {
    let quiet = |mut change: Change| {
        match &mut change.what {
            What::Modified(aspects) if *aspects == Aspects::TIMES => return None,
            What::Modified(aspects) | What::Renamed { aspects, .. } => aspects.remove(Aspects::TIMES),
            What::Added | What::Deleted => {}
        }
        Some(change)
    };
    let quiet = |change: Change| if change.kind == Kind::Dir { quiet(change) } else { Some(change) };
    changes.into_iter().filter_map(quiet).collect()
}

/// One line: `A path`, `M path (data, mode or owner)`, `D path`, `R from -> to`.
pub struct Line<'a>(pub &'a Change);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { path, kind, what } = self.0;
        let slash = if *kind == Kind::Dir && !path.is_empty() { "/" } else { "" };
        let path = format!("/{}{slash}", shown(path));
        match what {
            What::Added => write!(f, "A {path}"),
            What::Deleted => write!(f, "D {path}"),
            What::Modified(aspects) => write!(f, "M {path} ({})", words(*aspects).join(", ")),
            What::Renamed { from, aspects } => {
                write!(f, "R /{}{slash} -> {path}", shown(from))?;
                match words(*aspects).as_slice() {
                    [] => Ok(()),
                    words => write!(f, " ({})", words.join(", ")),
                }
            }
        }
    }
}

fn words(aspects: Aspects) -> Vec<&'static str> {
    let names = [
        (Aspects::DATA, "data"),
        (Aspects::METADATA, "mode or owner"),
        (Aspects::XATTRS, "xattrs"),
        (Aspects::TIMES, "times"),
    ];
    names.into_iter().filter(|(aspect, _)| aspects.contains(*aspect)).map(|(_, word)| word).collect()
}

/// One change in JSON.
#[derive(Debug, Serialize)]
pub struct JsonChange {
    /// `added`, `modified`, `deleted`, `renamed`.
    change: &'static str,
    /// From the container's root, with a leading slash.
    path: JsonPath,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<JsonPath>,
    kind: &'static str,
    /// What of it changed.
    aspects: Vec<&'static str>,
}

impl From<&Change> for JsonChange {
    fn from(change: &Change) -> Self {
        let rooted = |path: &[u8]| JsonPath::new(&[b"/", path].concat());
        let (word, from, aspects) = match &change.what {
            What::Added => ("added", None, Aspects::empty()),
            What::Deleted => ("deleted", None, Aspects::empty()),
            What::Modified(aspects) => ("modified", None, *aspects),
            What::Renamed { from, aspects } => ("renamed", Some(rooted(from)), *aspects),
        };
        let names = [
            (Aspects::DATA, "data"),
            (Aspects::METADATA, "metadata"),
            (Aspects::XATTRS, "xattrs"),
            (Aspects::TIMES, "times"),
        ];
        Self {
            change: word,
            path: rooted(&change.path),
            from,
            kind: kind_word(change.kind),
            aspects: names.into_iter().filter(|(a, _)| aspects.contains(*a)).map(|(_, w)| w).collect(),
        }
    }
}

/// How many of each.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Count {
    pub added: usize,
    pub modified: usize,
    pub deleted: usize,
    pub renamed: usize,
}

impl Count {
    /// Counts.
    pub fn of(changes: &[Change]) -> Self {
        changes.iter().fold(Self::default(), |mut count, change| {
            *match change.what {
                What::Added => &mut count.added,
                What::Modified(_) => &mut count.modified,
                What::Deleted => &mut count.deleted,
                What::Renamed { .. } => &mut count.renamed,
            } += 1;
            count
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, modified, deleted, renamed } = self;
        if *self == Self::default() {
            return f.write_str("nothing changed");
        }
        let parts = [(added, "added"), (modified, "modified"), (deleted, "deleted"), (renamed, "renamed")];
        let parts: Vec<_> =
            parts.iter().filter(|(n, _)| **n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, kind: Kind, what: What) -> Change {
        Change { path: path.into(), kind, what }
    }

    #[test]
    fn lines_say_what_and_where() {
        let line = |c: Change| Line(&c).to_string();
        assert_eq!(line(change("a", Kind::Dir, What::Added)), "A /a/");
        let aspects = Aspects::DATA | Aspects::TIMES;
        assert_eq!(line(change("a/b", Kind::File, What::Modified(aspects))), "M /a/b (data, times)");
        let renamed = What::Renamed { from: b"x\n".to_vec(), aspects: Aspects::empty() };
        assert_eq!(line(change("y", Kind::File, renamed)), r"R /x\n -> /y");
    }

    #[test]
    fn only_times_of_directories_are_noise() {
        let all = vec![
            change("", Kind::Dir, What::Modified(Aspects::TIMES)),
            change("d", Kind::Dir, What::Modified(Aspects::TIMES | Aspects::METADATA)),
            change("f", Kind::File, What::Modified(Aspects::TIMES)),
        ];
        let kept = without_times_of_directories(all);
        assert_eq!(kept.iter().map(|c| c.path.as_slice()).collect::<Vec<_>>(), [b"d", b"f"]);
        assert_eq!(Count::of(&kept).to_string(), "2 modified");
        assert_eq!(Count::default().to_string(), "nothing changed");
    }
}
