//! One verb of a store in a process of its own, so that tests can kill it, fail its calls and measure it:
//! `store-verb ROOT VERB ARGUMENT...`. After the verb it prints `done` and the most memory that it ever held, in KiB; an
//! error goes to standard error, with exit code 1.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use stratafs::oci::Silent;
use stratafs::store::{CommitOptions, ContainerName, ImageName, ImportOptions, SnapshotName, Store};
use stratafs::{Error, ErrorKind, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match verb(&words) {
        Ok(()) => {
            // Standard output may be what fails.
            let _ = writeln!(std::io::stdout(), "done {}", peak());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn verb(words: &[&str]) -> Result<()> {
    let [root, verb, arguments @ ..] = words else {
        return Err(Error::new(ErrorKind::InvalidInput, "read arguments").because("ROOT and VERB are needed"));
    };
    let store = Store::open(root)?;
    match (*verb, arguments) {
        ("import", [from, name]) => {
            let options = ImportOptions { name: Some(name.parse()?), ..ImportOptions::default() };
            store.import(Path::new(from), &options, &Silent).map(drop)
        }
        ("commit", [container, image]) => {
            let (container, image) = (ContainerName::new(container)?, image.parse::<ImageName>()?);
            store.commit(&container, &image, &CommitOptions::default(), &Silent).map(drop)
        }
        ("rmi", [image]) => store.remove_image(&image.parse()?),
        ("rm", [container]) => store.remove(&ContainerName::new(container)?),
        ("gc", []) => store.gc().map(drop),
        ("snapshot", [container, name]) => {
            store.snapshot(&ContainerName::new(container)?, Some(SnapshotName::new(name)?)).map(drop)
        }
        ("rollback", [container, name]) => {
            store.rollback(&ContainerName::new(container)?, Some(&SnapshotName::new(name)?))
        }
        ("fork", [container, new]) => {
            store.fork(&ContainerName::new(container)?, &ContainerName::new(new)?, None).map(drop)
        }
        ("discard", [container]) => store.discard(&ContainerName::new(container)?),
        _ => Err(Error::new(ErrorKind::InvalidInput, "read arguments").about(*verb).because("unknown")),
    }
}

/// The most memory that was resident, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
