//! Where containers are kept.

use crate::failure::Failure;
use std::path::{Path, PathBuf};
use stratafs::store::Store;

/// The state directory: as asked, or `STRATA_ROOT`, or the platform's place for data. The variable is not read by the parser
/// of the command line, which would name the option in the usage of every error.
pub fn root(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(root) = asked {
        return Ok(root.to_owned());
    }
    if let Some(root) = std::env::var_os("STRATA_ROOT").filter(|root| !root.is_empty()) {
        return Ok(root.into());
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/strata".into());
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let data = data.ok_or_else(|| {
        Failure::usage("no place for containers: neither --root, STRATA_ROOT, XDG_DATA_HOME nor HOME is set")
    })?;
    Ok(data.join("strata"))
}

/// Opens the store there.
pub fn store(asked: Option<&Path>) -> Result<Store, Failure> {
    Ok(Store::open(root(asked)?)?)
}
