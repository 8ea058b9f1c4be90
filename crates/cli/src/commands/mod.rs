//! One module for each subcommand: from what was asked, through the library, to what is printed.

pub mod changes;
pub mod check;
pub mod commit;
pub mod containers;
pub mod diff;
pub mod fs;
pub mod image;
pub mod info;
pub mod life;
pub mod mount;
pub mod pack;
pub mod promote;
pub mod run;
pub mod store;

use crate::args::{Durability, New, Whiteouts};
use crate::failure::Failure;
use stratafs::store::{ContainerConfig, ContainerName, Record, Store};
use stratafs::{Formats, Untrusted};

/// Makes the container that was asked for: of an image, of directories, or of the host's own root.
fn create_new(store: &Store, name: Option<ContainerName>, new: &New) -> Result<Record, Failure> {
    if let Some(image) = &new.image {
        // Its layers are held until the container refers to them.
        let image = store.pin_image(&store.find_image(image)?)?;
        return Ok(store.create(name, configured(image.container()?, new))?);
    }
    let config = match new.layers.as_slice() {
        [] => ContainerConfig::new(["/"]),
        asked => ContainerConfig::new(asked),
    };
    Ok(store.create(name, configured(config, new))?)
}

/// The configuration with what else was asked for.
fn configured(mut config: ContainerConfig, new: &New) -> ContainerConfig {
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
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}
