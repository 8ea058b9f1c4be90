//! The documents of an image: [`Index`], [`Manifest`], [`Config`] (OCI image-spec 1.1, and Docker's forms of the
//! same). Read strictly and with bounds, written always the same for the same; a configuration is carried as the
//! text it came as and edited member by member, so that what is unknown here stays.

mod change;
mod config;
mod json;
mod manifest;
pub mod media;
mod members;
mod platform;
mod time;

pub use change::ConfigChange;
pub use config::{Config, Edit, History, Runtime};
pub use manifest::{Descriptor, Index, Manifest};
pub use platform::Platform;
pub use time::rfc3339;

pub(crate) use json::{Document, Node};
pub(crate) use members::Members;
