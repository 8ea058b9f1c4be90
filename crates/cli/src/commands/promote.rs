//! `promote`: a container's changes applied to a real directory.

use super::print_json;
use crate::args::Promote;
use crate::failure::{ERROR, Failure, Outcome};
use crate::progress::Watch;
use crate::text::{JsonPath, harmless, kind_word, shown_path, size_text};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use stratafs::promote::{Action, Conflict, Owners, PlannedStep, Promotion, Recovered, Report, recover};
use stratafs::store::{self, ContainerName, Record, Store, open_leased};
use stratafs::{Change, Container, Image, MemLayer, What};

#[derive(Debug, Serialize)]
struct JsonPromotion {
    container: String,
    to: JsonPath,
    /// It was done; else there were conflicts, or it was a dry run.
    applied: bool,
    /// What became of a promotion to the same directory that was cut off earlier.
    recovered: &'static str,
    conflicts: Vec<JsonConflict>,
    steps: Vec<JsonStep>,
    /// Bytes of content that were written.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct JsonConflict {
    path: JsonPath,
    expected: String,
    found: String,
    /// `--force` overrides it.
    forceable: bool,
}

#[derive(Debug, Serialize)]
struct JsonStep {
    action: &'static str,
    path: JsonPath,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<JsonPath>,
}

/// Applies what was asked for, or says what would be done or is in the way.
pub fn promote(store: &Store, asked: &Promote) -> Outcome {
    match &asked.name {
        Some(name) => apply(store, name, asked),
        None => only_recover(asked),
    }
}

fn only_recover(asked: &Promote) -> Outcome {
    let recovered = recover(&asked.to)?;
    if asked.json {
        print_json(&serde_json::json!({ "recovered": word(recovered) }))?;
    } else {
        writeln!(std::io::stdout().lock(), "{}: {}", shown_path(&asked.to), sentence(recovered))?;
    }
    Ok(0)
}

fn word(recovered: Recovered) -> &'static str {
    match recovered {
        Recovered::Nothing => "nothing",
        Recovered::Discarded => "discarded",
        Recovered::Undone => "undone",
        Recovered::Completed => "completed",
    }
}

fn sentence(recovered: Recovered) -> &'static str {
    match recovered {
        Recovered::Nothing => "nothing was left behind",
        Recovered::Discarded => "a promotion that had changed nothing yet was cleared away",
        Recovered::Undone => "a promotion that was cut off is undone",
        Recovered::Completed => "a promotion that was complete is cleared up",
    }
}

fn apply(store: &Store, name: &ContainerName, asked: &Promote) -> Outcome {
    refuse_the_store(store, &asked.to)?;
    let lease = store.lease(name)?;
    let container = open_leased(&lease)?;
    let record = lease.record();
    let base = base(&container, record)?;
    let changes = store::changes(record, &container)?;
    tell_unchanged(name, &asked.paths, &changes);
    let plan = Promotion::of(&container, &base)
        .changes(changes)
        .since(record.began)
        .owners(if asked.own { Owners::Own } else { Owners::Apply })
        .namespace(record.config.namespace)
        .force(asked.force)
        .recover_first(!asked.dry_run);
    let plan = match asked.paths.as_slice() {
        [] => plan,
        paths => plan.only(paths),
    };
    let plan = plan.plan(&asked.to)?;
    let in_the_way = plan.conflicts().iter().filter(|conflict| !(asked.force && conflict.forceable)).count();
    let conflicts = plan.conflicts().to_vec();
    let (recovered, planned) = (plan.recovered(), plan.steps().to_vec());
    let done = match in_the_way == 0 && !asked.dry_run {
        true => Some(Watch::quiet(asked.json).run(|watch| Ok(plan.apply(watch)?))?),
        false => None,
    };
    let (steps, bytes, left) = match done {
        Some(Report { steps, bytes, left }) => (steps, Some(bytes), left),
        None => (planned, None, None),
    };
    if asked.json {
        print_json(&JsonPromotion {
            container: name.to_string(),
            to: asked.to.as_path().into(),
            applied: bytes.is_some(),
            recovered: word(recovered),
            conflicts: conflicts.iter().map(json_conflict).collect(),
            steps: steps.iter().map(json_step).collect(),
            bytes: bytes.unwrap_or(0),
        })?;
    } else {
        tell(asked, recovered, &conflicts, in_the_way, &steps, bytes)?;
    }
    if let Some(e) = left {
        let why = harmless(&e.to_string());
        crate::complain(&Failure::new(format!("done, but what was replaced could not be removed: {why}")));
    }
    if in_the_way > 0 && !asked.json {
        let forceable = conflicts.iter().filter(|conflict| conflict.forceable).count();
        let hint = match forceable {
            0 => String::new(),
            n if n == in_the_way => "; --force overwrites what is there".to_owned(),
            n => format!("; --force overwrites {n} of them"),
        };
        let nothing = if asked.dry_run { "" } else { ", nothing was done" };
        crate::complain(&Failure::new(format!("conflicts: {in_the_way}{nothing}{hint}")));
    }
    Ok(if in_the_way > 0 { ERROR } else { 0 })
}

/// What is in the store belongs to containers and images: a layer that changed, or another container's upper, would be
/// damage. What cannot be resolved is left to the promotion, which says why.
fn refuse_the_store(store: &Store, to: &Path) -> Result<(), Failure> {
    let resolved = fs::canonicalize(to).ok().zip(fs::canonicalize(store.root()).ok());
    match resolved.filter(|(to, root)| to.starts_with(root)) {
        None => Ok(()),
        Some(_) => Err(Failure::new(format!(
            "{}: lies in the state directory, {}: changes are promoted to directories outside of it; `strata commit` \
             keeps them in an image",
            shown_path(to),
            shown_path(store.root())
        ))),
    }
}

/// Says which of the chosen paths have no change at or below them, so that a slip of the pen is seen.
fn tell_unchanged(name: &ContainerName, chosen: &[PathBuf], changes: &[Change]) {
    for path in chosen {
        let at = path.strip_prefix("/").unwrap_or(path);
        let touched = |change: &Change| {
            let from = match &change.what {
                What::Renamed { from, .. } => from.as_slice(),
                _ => &[],
            };
            [change.path.as_slice(), from].iter().any(|at_change| {
                !at_change.is_empty() && Path::new(OsStr::from_bytes(at_change)).starts_with(at)
            })
        };
        if !at.as_os_str().is_empty() && !changes.iter().any(touched) {
            let path = shown_path(path);
            crate::complain(&Failure::new(format!("{path}: {name} changed nothing at or below it")));
        }
    }
}

/// The layers that the container started from, without what snapshots froze.
fn base(container: &Container, record: &Record) -> Result<Container, Failure> {
    let layers = container.view().layers().iter().skip(record.config.newer());
    let image = layers.fold(Image::builder(), |image, layer| image.layer(layer.clone())).build()?;
    let image = match image.layers().is_empty() {
        true => Image::builder().mem(MemLayer::builder().build()?).build()?,
        false => image,
    };
    Ok(image.view()?)
}

fn tell(
    asked: &Promote,
    recovered: Recovered,
    conflicts: &[Conflict],
    in_the_way: usize,
    steps: &[PlannedStep],
    bytes: Option<u64>,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let to = shown_path(&asked.to);
    if recovered != Recovered::Nothing {
        writeln!(out, "{to}: {}", sentence(recovered))?;
    }
    if in_the_way > 0 {
        for conflict in conflicts {
            writeln!(out, "conflict {}", harmless(&conflict.to_string()))?;
        }
        return Ok(());
    }
    // The times of directories follow from what is done in them.
    let steps: Vec<_> = steps.iter().filter(|step| step.action != Action::Time).collect();
    for step in &steps {
        writeln!(out, "{}", harmless(&step.to_string()))?;
    }
    let count = match steps.len() {
        0 => "nothing".to_owned(),
        1 => "1 change".to_owned(),
        n => format!("{n} changes"),
    };
    match bytes {
        Some(_) if steps.is_empty() => writeln!(out, "{to}: nothing to apply")?,
        Some(bytes) => writeln!(out, "{to}: {count} applied, {} written", size_text(bytes))?,
        None => writeln!(out, "{to}: {count} to apply, and no conflict")?,
    }
    Ok(())
}

fn rooted(path: &[u8]) -> JsonPath {
    JsonPath::new(&[b"/", path].concat())
}

fn json_conflict(conflict: &Conflict) -> JsonConflict {
    JsonConflict {
        path: rooted(&conflict.path),
        expected: conflict.expected.clone(),
        found: conflict.found.clone(),
        forceable: conflict.forceable,
    }
}

fn json_step(step: &PlannedStep) -> JsonStep {
    let (action, from) = match &step.action {
        Action::Create => ("create", None),
        Action::Replace => ("replace", None),
        Action::Remove => ("remove", None),
        Action::Move { from } => ("move", Some(rooted(from))),
        Action::Link { to } => ("link", Some(rooted(to))),
        Action::Attributes => ("attributes", None),
        Action::Time => ("time", None),
        _ => ("other", None),
    };
    JsonStep { action, path: rooted(&step.path), kind: kind_word(step.kind), from }
}
