//! How the command ends other than well: one line for people, one code for scripts.

use std::fmt::Display;

/// Exit code of an error, and of problems that `check` found.
pub const ERROR: u8 = 1;
/// Exit code of a command line that makes no sense; clap uses the same.
pub const USAGE: u8 = 2;
/// Exit code of `diff --exit-code` when there are changes.
pub const CHANGES: u8 = 3;

/// Exit code when the reader of our output went away: what a shell gives for SIGPIPE.
pub const PIPE: u8 = 141;

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

    /// Nothing to say: nobody reads any more.
    fn pipe() -> Self {
        Self { code: PIPE, message: String::new() }
    }

    /// The same with another exit code.
    pub fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl From<stratafs::Error> for Failure {
    /// What an archive is called or says can stand in it.
    fn from(error: stratafs::Error) -> Self {
        Self::new(crate::text::harmless(&error.to_string()))
    }
}

/// Of writing what we print: every other place says what it was about.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::pipe(),
            _ => Self::new(format!("standard output: {error}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        std::io::Error::from(error).into()
    }
}
