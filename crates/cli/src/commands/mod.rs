//! One module for each subcommand: from what was asked, through the library, to what is printed.

pub mod changes;
pub mod check;
pub mod containers;
pub mod diff;
pub mod fs;
pub mod info;
pub mod mount;
pub mod run;

use crate::args::{Durability, New, Whiteouts};
use stratafs::store::ContainerConfig;
use stratafs::{Formats, Untrusted};

/// The configuration that was asked for; `layers` stand in for none.
fn config(new: &New, layers: &[&str]) -> ContainerConfig {
    let mut config = match new.layers.as_slice() {
        [] => ContainerConfig::new(layers),
        asked => ContainerConfig::new(asked),
    };
    for form in &new.whiteouts {
        for layer in &mut config.layers {
            layer.formats = match form {
                Whiteouts::Aufs => Formats { aufs: true, ..layer.formats },
                Whiteouts::FuseOverlayfs => Formats { fuse_overlayfs: true, ..layer.formats },
            };
        }
    }
    match new.durability {
        None => {}
        Some(Durability::Volatile) => config.durability = stratafs::Durability::Volatile,
        Some(Durability::Ordered) => config.durability = stratafs::Durability::Ordered,
        Some(Durability::Strict) => config.durability = stratafs::Durability::Strict,
    }
    if new.untrusted {
        config.untrusted = Untrusted::STRIP;
    }
    config
}

/// Prints a value as JSON, with a newline.
fn print_json(value: &impl serde::Serialize) -> Result<(), crate::failure::Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}
