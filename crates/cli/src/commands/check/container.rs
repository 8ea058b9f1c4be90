//! What can be wrong with a container: its files in the store, its layers, its upper and what that says of the layers.
//! Everything is read; only what an earlier crash left in the work directory goes, as each opening has it.

use super::Problem;
use crate::text::{shown, shown_path};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::store::{ContainerName, Record, Store, open_leased};
use stratafs::{
    AnyScratch, AnyScratchNode, Container, Error, ErrorKind, Found, Hit, Image, Kind, Layer, NameBuf,
};
use stratafs::{Redirect, Scratch};

/// Everything that is wrong with a container.
pub fn examine(store: &Store, name: &ContainerName) -> Vec<Problem> {
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
            return found.0;
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
        return found.0;
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
    found.0
}

#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, what: impl ToString, advice: &'static str) {
        self.0.push(Problem::new(what, advice));
    }
}

/// What stands in the container's directory that does not belong there.
fn leftovers(record: &Record, found: &mut Problems) {
    const OWN: [&str; 6] = ["config.json", "config.json.new", "lock", "root", "boot", "boot.new"];
    const SCRATCH: [&str; 3] = ["upper", "work", "works"];
    // The first format had all of it in one directory.
    let in_place = record.scratch_dir() == record.dir;
    let own: Vec<_> = OWN.into_iter().chain(SCRATCH.into_iter().filter(|_| in_place)).collect();
    strangers(&record.dir, &own, found);
    if !in_place {
        strangers(record.scratch_dir(), &SCRATCH, found);
    }
    let empty = "make it an empty directory with mode 0700";
    for (dir, advice) in [
        (record.upper(), "the changes are lost; remove the container, or roll back to a snapshot"),
        (record.work(), empty),
        (record.dir.join("root"), empty),
        (record.works(), empty),
    ] {
        if !fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()) {
            found.add(format!("{}: not a directory", shown(dir.as_os_str().as_bytes())), advice);
        }
    }
}

/// What stands in `dir` besides what is known.
fn strangers(dir: &Path, known: &[&str], found: &mut Problems) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return found.add(format!("{}: {e}", shown_path(dir)), "check its permissions"),
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !known.iter().any(|known| name == *known) {
            let what = format!("{}: nothing of ours", shown(entry.path().as_os_str().as_bytes()));
            found.add(what, "move it out of there");
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
