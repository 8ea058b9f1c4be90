//! `fs ls` and `fs stat`.

use crate::commands::print_json;
use crate::failure::Failure;
use crate::text::{JsonPath, kind_word, mode_text, shown, time_text};
use serde::Serialize;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::{Container, Kind, Metadata, Time};

#[derive(Debug, Serialize)]
struct JsonEntry {
    name: JsonPath,
    kind: &'static str,
    ino: u64,
}

#[derive(Debug, Serialize)]
struct JsonStat {
    path: JsonPath,
    kind: &'static str,
    /// Permission bits, octal.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    nlink: u32,
    ino: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<JsonPath>,
    accessed: JsonTime,
    modified: JsonTime,
    changed: JsonTime,
}

#[derive(Debug, Serialize)]
struct JsonTime {
    secs: i64,
    nanos: u32,
}

impl From<Time> for JsonTime {
    fn from(time: Time) -> Self {
        Self { secs: time.secs, nanos: time.nanos }
    }
}

fn json_stat(container: &Container, path: &Path, meta: &Metadata) -> Result<JsonStat, Failure> {
    let attr = meta.attr();
    let device = matches!(attr.kind, Kind::Char | Kind::Block);
    Ok(JsonStat {
        path: path.into(),
        kind: kind_word(attr.kind),
        mode: format!("{:04o}", attr.mode),
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        nlink: attr.nlink,
        ino: attr.id.ino,
        device: device.then_some((attr.rdev.major, attr.rdev.minor)),
        target: match meta.is_symlink() {
            true => Some(container.read_link(path)?.as_path().into()),
            false => None,
        },
        accessed: attr.atime.into(),
        modified: attr.mtime.into(),
        changed: attr.ctime.into(),
    })
}

/// Lists a directory by name, or shows the one object at `path`.
pub fn list(container: &Container, path: &Path, long: bool, json: bool) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if !container.metadata(path).or_else(|_| container.symlink_metadata(path))?.is_dir() {
        let meta = container.symlink_metadata(path)?;
        if json {
            return print_json(&[json_stat(container, path, &meta)?]);
        }
        return Ok(writeln!(out, "{}", line(container, path, path.as_os_str().as_bytes(), &meta, long)?)?);
    }
    let mut entries = container.read_dir(path)?.collect::<stratafs::Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.file_name_bytes().cmp(b.file_name_bytes()));
    if json && long {
        let stat = |entry: &stratafs::DirEntry| json_stat(container, &entry.path(), &entry.metadata()?);
        return print_json(&entries.iter().map(stat).collect::<Result<Vec<_>, _>>()?);
    }
    if json {
        let list = entries.iter().map(|entry| JsonEntry {
            name: JsonPath::new(entry.file_name_bytes()),
            kind: kind_word(entry.file_type()),
            ino: entry.ino(),
        });
        return print_json(&list.collect::<Vec<_>>());
    }
    for entry in &entries {
        if long {
            let text = line(container, &entry.path(), entry.file_name_bytes(), &entry.metadata()?, true)?;
            writeln!(out, "{text}")?;
        } else {
            writeln!(out, "{}", shown(entry.file_name_bytes()))?;
        }
    }
    Ok(())
}

fn line(
    container: &Container,
    path: &Path,
    name: &[u8],
    meta: &Metadata,
    long: bool,
) -> Result<String, Failure> {
    let mut name = shown(name);
    if !long {
        return Ok(name);
    }
    if meta.is_symlink() {
        name.push_str(" -> ");
        name.push_str(&shown(container.read_link(path)?.as_os_str().as_bytes()));
    }
    let attr = meta.attr();
    let size = match attr.kind {
        Kind::Char | Kind::Block => format!("{}, {}", attr.rdev.major, attr.rdev.minor),
        _ => attr.size.to_string(),
    };
    let (mode, time) = (mode_text(attr.st_mode()), time_text(attr.mtime.secs));
    Ok(format!("{mode} {:3} {:6} {:6} {size:>12} {time} {name}", attr.nlink, attr.uid, attr.gid))
}

/// Shows all attributes of each path.
pub fn stat(container: &Container, paths: &[PathBuf], json: bool) -> Result<(), Failure> {
    let stat = |path: &PathBuf| json_stat(container, path, &container.symlink_metadata(path)?);
    let stats = paths.iter().map(stat).collect::<Result<Vec<_>, Failure>>()?;
    if json {
        return print_json(&stats);
    }
    let mut out = std::io::stdout().lock();
    for (path, stat) in paths.iter().zip(stats) {
        let time = |t: &JsonTime| format!("{}.{:09} UTC", time_text(t.secs), t.nanos);
        writeln!(out, "path      {}", shown(path.as_os_str().as_bytes()))?;
        writeln!(out, "kind      {}", stat.kind)?;
        writeln!(out, "mode      {}", stat.mode)?;
        writeln!(out, "owner     {}:{}", stat.uid, stat.gid)?;
        writeln!(out, "size      {}", stat.size)?;
        if let Some((major, minor)) = stat.device {
            writeln!(out, "device    {major}, {minor}")?;
        }
        writeln!(out, "links     {}", stat.nlink)?;
        writeln!(out, "inode     {}", stat.ino)?;
        writeln!(out, "accessed  {}", time(&stat.accessed))?;
        writeln!(out, "modified  {}", time(&stat.modified))?;
        writeln!(out, "changed   {}", time(&stat.changed))?;
    }
    Ok(())
}
