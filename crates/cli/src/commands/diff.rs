//! `diff`: what a container changed.

use super::changes::{Count, JsonChange, Line, without_times_of_directories};
use super::print_json;
use crate::args::Diff;
use crate::failure::{CHANGES, Failure, Outcome};
use crate::text::shown;
use serde::Serialize;
use similar::TextDiff;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::store::{self, Store, open_leased};
use stratafs::{Change, Container, ErrorKind, Image, What};

/// The largest file that is shown as a patch.
const PATCH_MAX: u64 = 64 << 20;

#[derive(Debug, Serialize)]
struct JsonDiff<'a> {
    container: &'a str,
    #[serde(flatten)]
    count: Count,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<JsonChange>>,
}

/// Prints the changes as lines, counts, JSON or a patch.
pub fn diff(store: &Store, asked: &Diff) -> Outcome {
    let lease = store.lease(&asked.name)?;
    let opened = open_leased(&lease)?;
    let (all, newer) = match asked.since_snapshot {
        true => (store::changes_since_snapshot(lease.record(), &opened)?, 0),
        false => (store::changes(lease.record(), &opened)?, lease.record().config.newer()),
    };
    if let Some(path) = &asked.patch {
        let changed = patch(&opened, newer, &all, path)?;
        return Ok(if changed && asked.exit_code { CHANGES } else { 0 });
    }
    let changes = if asked.all { all } else { without_times_of_directories(all) };
    let count = Count::of(&changes);
    if asked.json {
        let list = (!asked.stat).then(|| changes.iter().map(JsonChange::from).collect());
        print_json(&JsonDiff { container: asked.name.as_str(), count, changes: list })?;
    } else if asked.stat {
        writeln!(std::io::stdout().lock(), "{count}")?;
    } else {
        let mut out = std::io::stdout().lock();
        for change in &changes {
            writeln!(out, "{}", Line(change))?;
        }
    }
    Ok(if asked.exit_code && !changes.is_empty() { CHANGES } else { 0 })
}

/// Prints one file's unified diff against what is below the topmost `newer` layers; true when there is one.
fn patch(container: &Container, newer: usize, changes: &[Change], path: &Path) -> Result<bool, Failure> {
    let new_path = Path::new("/").join(path);
    let old_path = path_below(&new_path, changes);
    let below = Image::builder();
    let below =
        container.view().layers().iter().skip(newer).fold(below, |image, layer| image.layer(layer.clone()));
    let old = match below.build()? {
        image if image.layers().is_empty() => None,
        image => text(&image.view()?, &old_path)?,
    };
    let new = text(container, &new_path)?;
    if old.is_none() && new.is_none() {
        return Err(Failure::new(format!("{}: no such file, neither now nor below", display(&new_path))));
    }
    let name = |side: &str, there: bool, path: &Path| match there {
        true => format!("{side}{}", display(path)),
        false => "/dev/null".to_owned(),
    };
    let header = (name("a", old.is_some(), &old_path), name("b", new.is_some(), &new_path));
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    if old == new && header.0 != "/dev/null" && header.1 != "/dev/null" {
        return Ok(false);
    }
    let mut out = std::io::stdout().lock();
    if old.contains(&0) || new.contains(&0) {
        writeln!(out, "Binary files {} and {} differ", header.0, header.1)?;
        return Ok(true);
    }
    if old == new {
        // An empty file, made or removed: no line tells of it.
        writeln!(out, "--- {}\n+++ {}", header.0, header.1)?;
        return Ok(true);
    }
    let diff = TextDiff::from_lines(old.as_slice(), new.as_slice());
    diff.unified_diff().header(&header.0, &header.1).to_writer(&mut out)?;
    Ok(true)
}

fn display(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Where the layers have what is at `path` now: the nearest renamed directory above it decides.
fn path_below(path: &Path, changes: &[Change]) -> PathBuf {
    let renames = changes.iter().filter_map(|change| match &change.what {
        What::Renamed { from, .. } => Some((Path::new(std::ffi::OsStr::from_bytes(&change.path)), from)),
        _ => None,
    });
    let relative = path.strip_prefix("/").unwrap_or(path);
    let nearest =
        renames.filter(|(to, _)| relative.starts_with(to)).max_by_key(|(to, _)| to.components().count());
    let Some((to, from)) = nearest else { return path.to_owned() };
    let rest = relative.strip_prefix(to).unwrap_or(Path::new(""));
    let from = Path::new("/").join(std::ffi::OsStr::from_bytes(from));
    if rest.as_os_str().is_empty() { from } else { from.join(rest) }
}

/// The content of a regular file, `None` when nothing is there.
fn text(container: &Container, path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let meta = match container.symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    if meta.is_symlink() {
        let mut target = container.read_link(path)?.into_os_string().into_encoded_bytes();
        target.push(b'\n');
        return Ok(Some(target));
    }
    if !meta.is_file() {
        return Err(Failure::new(format!("{}: not a regular file", display(path))));
    }
    if meta.len() > PATCH_MAX {
        return Err(Failure::new(format!(
            "{}: over {PATCH_MAX} bytes, too large for a patch",
            display(path)
        )));
    }
    Ok(Some(container.read(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs::{Aspects, Kind};

    #[test]
    fn the_nearest_renamed_directory_says_where_a_file_was() {
        let renamed = |from: &str, to: &str| Change {
            path: to.into(),
            kind: Kind::Dir,
            what: What::Renamed { from: from.into(), aspects: Aspects::empty() },
        };
        let changes = [renamed("a", "b"), renamed("a/x", "b/y")];
        assert_eq!(path_below(Path::new("/b/f"), &changes), Path::new("/a/f"));
        assert_eq!(path_below(Path::new("/b/y/f"), &changes), Path::new("/a/x/f"));
        assert_eq!(path_below(Path::new("/b"), &changes), Path::new("/a"));
        assert_eq!(path_below(Path::new("/bb"), &changes), Path::new("/bb"));
    }
}
