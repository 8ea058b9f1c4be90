//! Running a command on a merged view: three processes of this one program. The outer one stays on the host
//! and keeps the container's lease; the one between makes the namespaces; the inner one is pid 1, builds the
//! root and starts the command. Each dies with its parent, and every mount with the inner one.

mod inner;
mod outer;
pub mod overlay;
pub mod plan;
mod root;
pub mod spec;
mod supervise;

pub use outer::{Ended, run, user_namespaces_work};
pub use root::MOUNT_POINTS;

use spec::Channel;
use std::process::ExitCode;

/// Exit code of a run that failed before the command, as with env(1) and `chroot`.
pub const FAILED: u8 = 125;
/// Exit code when the command was found and could not be run.
pub const CANNOT_EXECUTE: u8 = 126;
/// Exit code when the command was not found.
pub const NOT_FOUND: u8 = 127;

/// The part of an inner process, when that is what this process was started as.
pub fn inner_process(arguments: &[std::ffi::OsString]) -> Option<ExitCode> {
    let (role, number) = match arguments {
        [_, role] if role == outer::PROBE => return Some(ExitCode::from(outer::probe())),
        [_, role, number] => (role, number),
        _ => return None,
    };
    let part = match role.to_str()? {
        outer::ENTER => outer::enter,
        outer::INIT => inner::init,
        _ => return None,
    };
    let channel = number.to_str()?.parse().ok().and_then(|n| Channel::inherited(n).ok());
    Some(ExitCode::from(channel.map_or(FAILED, part)))
}
