//! How the command ends other than well: one line for people, one code for scripts.

use std::fmt::Display;

/// Exit code of an error, and of problems that `check` found.
pub const ERROR: u8 = 1;
/// Exit code of a command line that makes no sense; clap uses the same.
pub const USAGE: u8 = 2;
/// Exit code of `diff --exit-code` when there are changes.
pub const CHANGES: u8 = 3;

/// A failure: its exit code and what to say.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

/// What a command gives: its exit code.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// An error.
    pub fn new(message: impl Display) -> Self {
        Self { code: ERROR, message: message.to_string() }
    }

    /// A request that makes no sense.
    pub fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// The same with another exit code.
    pub fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl From<stratafs::Error> for Failure {
    fn from(error: stratafs::Error) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
