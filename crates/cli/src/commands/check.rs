//! `check`: damage in containers, and what to do about it. Everything is read; only what an earlier crash left
//! in the work directory goes, as each opening has it.

use super::print_json;
use crate::args::Check;
use crate::failure::{ERROR, Outcome};
use crate::text::shown;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::store::{ContainerName, Record, Store, open_leased};
use stratafs::{
    AnyScratch, AnyScratchNode, Container, Error, ErrorKind, Found, Hit, Image, Kind, Layer, NameBuf,
};
use stratafs::{Redirect, Scratch};

#[derive(Debug, Serialize)]
struct Report {
    container: String,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    what: String,
    advice: &'static str,
}

/// Checks the containers, all of them if none is named.
pub fn check(store: &Store, asked: &Check) -> Outcome {
    let names = match asked.names.as_slice() {
        [] => store.list()?.into_iter().map(|listed| listed.name).collect(),
        names => names.to_vec(),
    };
    let reports: Vec<_> = names.iter().map(|name| examine(store, name)).collect();
    if asked.json {
        print_json(&reports)?;
    } else {
        let mut out = std::io::stdout().lock();
        for report in &reports {
            if report.problems.is_empty() {
                writeln!(out, "{}: ok", report.container)?;
            }
            for Problem { what, advice } in &report.problems {
                writeln!(out, "{}: {what}\n  {advice}", report.container)?;
            }
        }
    }
    Ok(if reports.iter().all(|report| report.problems.is_empty()) { 0 } else { ERROR })
}

fn examine(store: &Store, name: &ContainerName) -> Report {
    let mut found = Problems::default();
    let lease = match store.lease(name) {
        Ok(lease) => lease,
        Err(e) => {
            let advice = match e.kind() {
                ErrorKind::Corrupt => {
                    "its changes are in the `upper` beside that file; `strata rm` discards them"
                }
                ErrorKind::Busy => "check it again when it is free",
                ErrorKind::NotFound => "`strata ls` lists the containers",
                _ => "see the error",
            };
            found.add(e, advice);
            return found.report(name);
        }
    };
    let record = lease.record();
    for layer in &record.config.layers {
        if let Err(e) = fs::read_dir(&layer.path) {
            let what = format!("layer {}: {e}", shown(layer.path.as_os_str().as_bytes()));
            found.add(what, "bring the directory back, or remove the container");
        }
    }
    leftovers(record, &mut found);
    if !found.0.is_empty() {
        return found.report(name);
    }
    match open_leased(&lease) {
        Ok(container) => walk(&container, &mut found),
        Err(e) => {
            let advice = match e.kind() {
                ErrorKind::Corrupt => "its changes are in the `upper`; `strata rm` discards them",
                _ => "nothing of it can be read until this is solved",
            };
            found.add(e, advice);
        }
    }
    found.report(name)
}

#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, what: impl ToString, advice: &'static str) {
        self.0.push(Problem { what: what.to_string(), advice });
    }

    fn report(self, name: &ContainerName) -> Report {
        Report { container: name.to_string(), problems: self.0 }
    }
}

/// What stands in the container's directory that does not belong there.
fn leftovers(record: &Record, found: &mut Problems) {
    const KNOWN: [&str; 8] = ["config.json", "lock", "upper", "work", "root", "works", "boot", "boot.new"];
    let entries = match fs::read_dir(&record.dir) {
        Ok(entries) => entries,
        Err(e) => return found.add(format!("{}: {e}", record.dir.display()), "check its permissions"),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !KNOWN.iter().any(|known| name == *known) {
            found.add(
                format!("{}: nothing of ours", shown(entry.path().as_os_str().as_bytes())),
                "move it out of the container's directory",
            );
        }
    }
    for (name, advice) in [
        ("upper", "the changes are lost; remove the container"),
        ("work", "make it an empty directory with mode 0700"),
        ("root", "make it an empty directory with mode 0700"),
        ("works", "make it an empty directory with mode 0700"),
    ] {
        let dir = record.dir.join(name);
        if !fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
            found.add(format!("{}: not a directory", shown(dir.as_os_str().as_bytes())), advice);
        }
    }
}

/// A directory of the upper, and where the layers have the same one.
struct Dir {
    node: AnyScratchNode,
    path: PathBuf,
    below: Option<PathBuf>,
}

/// Looks at every object of the upper.
fn walk(container: &Container, found: &mut Problems) {
    let Some(scratch) = container.view().scratch() else { return };
    let layers = container.view().layers().iter().cloned();
    let image = layers.fold(Image::builder(), |image, layer| image.layer(layer)).build();
    let image = match image.and_then(|image| image.view()) {
        Ok(image) => image,
        Err(e) => return found.add(e, "the layers cannot be merged"),
    };
    let root = match scratch.root() {
        Ok(root) => root,
        Err(e) => return found.add(e, "the upper cannot be read"),
    };
    let below = (!root.marks.opaque).then(|| PathBuf::from("/"));
    let mut stack = vec![Dir { node: root.node, path: "/".into(), below }];
    while let Some(dir) = stack.pop() {
        for name in names(scratch, &dir, found) {
            let path = dir.path.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
            match scratch.lookup(&dir.node, name.as_name()) {
                Ok(Found::Node(hit)) => {
                    let below = below_of(&image, &dir, &name, &hit, &path, found);
                    index(scratch, &hit, &path, found);
                    if hit.attr.kind == Kind::Dir {
                        stack.push(Dir { node: hit.node, path, below });
                    }
                }
                Ok(Found::Whiteout | Found::Absent) => {}
                Err(e) => found.add(in_upper(&path, &e), "remove or repair this object in the upper"),
            }
        }
    }
}

fn in_upper(path: &Path, e: &Error) -> String {
    format!("{} in the upper: {e}", shown(path.as_os_str().as_bytes()))
}

fn names(scratch: &AnyScratch, dir: &Dir, found: &mut Problems) -> Vec<NameBuf> {
    let mut names = Vec::new();
    let read = scratch.read_dir(&dir.node, &mut |entry| {
        if entry.kind.is_some() {
            names.push(entry.name.to_buf());
        }
        ControlFlow::Continue(())
    });
    if let Err(e) = read {
        found.add(in_upper(&dir.path, &e), "check the disk and the permissions of this directory");
    }
    names
}

/// Where the layers have the object, after its marks; says what is missing there.
fn below_of(
    image: &Container,
    dir: &Dir,
    name: &NameBuf,
    hit: &Hit<AnyScratchNode>,
    path: &Path,
    found: &mut Problems,
) -> Option<PathBuf> {
    let name = match &hit.marks.redirect {
        Some(Redirect::Absolute(parts)) => {
            let mut to = PathBuf::from("/");
            to.extend(parts.iter().map(|part| std::ffi::OsStr::from_bytes(part.as_bytes())));
            return there(image, to, hit, path, found);
        }
        Some(Redirect::Sibling(name)) => name,
        None => name,
    };
    let to = dir.below.as_ref()?.join(std::ffi::OsStr::from_bytes(name.as_bytes()));
    match hit.marks.redirect.is_some() || hit.marks.metacopy {
        true => there(image, to, hit, path, found),
        false => (!hit.marks.opaque).then_some(to),
    }
}

fn there(
    image: &Container,
    to: PathBuf,
    hit: &Hit<AnyScratchNode>,
    path: &Path,
    found: &mut Problems,
) -> Option<PathBuf> {
    match image.symlink_metadata(&to) {
        Ok(meta) if meta.file_type() == hit.attr.kind => Some(to),
        _ => {
            let (at, to) = (shown(path.as_os_str().as_bytes()), shown(to.as_os_str().as_bytes()));
            let what = match hit.marks.metacopy {
                true => format!("{at} in the upper keeps its data below, at {to}, and no layer has it"),
                false => format!("{at} in the upper was renamed from {to}, and no layer has it"),
            };
            found.add(what, "a layer was changed or replaced: bring back what it was");
            None
        }
    }
}

/// A hard-linked copy must be the one that the index names.
fn index(scratch: &AnyScratch, hit: &Hit<AnyScratchNode>, path: &Path, found: &mut Problems) {
    let Some(origin) = hit.marks.origin.as_ref().filter(|origin| !origin.is_unknown()) else { return };
    if hit.attr.kind == Kind::Dir || hit.marks.nlink.is_none() || !scratch.features().index {
        return;
    }
    let at = shown(path.as_os_str().as_bytes());
    match scratch.indexed(origin) {
        Ok(Some(indexed)) if indexed.attr.id == hit.attr.id => {}
        Ok(Some(_)) => found.add(
            format!("{at} in the upper is not the object that the index has for its origin"),
            "its other names show another content; keep the right one and remove the others",
        ),
        Ok(None) => found.add(
            format!("{at} in the upper is a hard link that the index does not know"),
            "names that were not copied up yet will not be linked with it",
        ),
        Err(e) => found.add(in_upper(path, &e), "the index cannot be read"),
    }
}
