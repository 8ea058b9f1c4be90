//! `snapshot`, `snapshots`, `fork`, `rollback` and `discard`.

use super::print_json;
use crate::args::{Fork, Rollback, Snapshot, Snapshots};
use crate::failure::{Failure, Outcome};
use crate::text::{time_text, unix_seconds};
use serde::Serialize;
use std::io::Write;
use stratafs::store::{ContainerConfig, ContainerName, Store};

/// A snapshot in JSON.
#[derive(Debug, Serialize)]
pub struct JsonSnapshot {
    name: String,
    /// Seconds since 1970.
    created: u64,
    /// The container goes on from it.
    current: bool,
}

/// The snapshots of a container, oldest first.
pub fn describe(config: &ContainerConfig) -> Vec<JsonSnapshot> {
    let one = |snapshot: &stratafs::store::Snapshot| JsonSnapshot {
        name: snapshot.name.to_string(),
        created: unix_seconds(snapshot.created),
        current: snapshot.frozen == config.frozen(),
    };
    config.snapshots.iter().map(one).collect()
}

/// Takes a snapshot and prints its name.
pub fn snapshot(store: &Store, asked: Snapshot) -> Outcome {
    let taken = store.snapshot(&asked.name, asked.snapshot)?;
    if asked.json {
        let (name, created) = (taken.name.to_string(), unix_seconds(taken.created));
        print_json(&JsonSnapshot { name, created, current: true })?;
    } else {
        writeln!(std::io::stdout().lock(), "{}", taken.name)?;
    }
    Ok(0)
}

/// Lists the snapshots of a container, or forgets some.
pub fn snapshots(store: &Store, asked: &Snapshots) -> Outcome {
    for name in &asked.rm {
        store.remove_snapshot(&asked.name, name)?;
    }
    let listed = describe(&store.record(&asked.name)?.config);
    if asked.json {
        print_json(&listed)?;
    } else if asked.rm.is_empty() {
        let mut out = std::io::stdout().lock();
        let width = listed.iter().map(|snapshot| snapshot.name.len()).max().unwrap_or(0);
        for JsonSnapshot { name, created, current } in &listed {
            let star = if *current { '*' } else { ' ' };
            let created = time_text(i64::try_from(*created).unwrap_or(0));
            writeln!(out, "{star} {name:width$}  {created}")?;
        }
    }
    Ok(0)
}

/// Makes a second container and prints its name.
pub fn fork(store: &Store, asked: &Fork) -> Outcome {
    let record = store.fork(&asked.name, &asked.new, asked.from.as_ref())?;
    if asked.json {
        super::containers::print_new(&record)?;
    } else {
        writeln!(std::io::stdout().lock(), "{}", record.name)?;
    }
    Ok(0)
}

/// Takes a container back to a snapshot.
pub fn rollback(store: &Store, asked: &Rollback) -> Outcome {
    store.rollback(&asked.name, asked.snapshot.as_ref())?;
    Ok(sweep(store))
}

/// Takes a container back to its image.
pub fn discard(store: &Store, name: &ContainerName) -> Outcome {
    store.discard(name)?;
    Ok(sweep(store))
}

/// Frees what was thrown away. What was asked for is done by then, so a failure here is said and no more.
fn sweep(store: &Store) -> u8 {
    if let Err(e) = store.empty_trash() {
        crate::complain(&Failure::from(e));
    }
    0
}
