//! What a caller chooses when it opens a layer.

use crate::dialect::Formats;
use crate::fds::FD_LIMIT;
use crate::namespace::Namespace;

/// How a directory that is not open any more is reached again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolver {
    /// `openat2` where the kernel and its system call filter have it, else step by step.
    #[default]
    Auto,
    /// Always `openat2(2)` with `RESOLVE_BENEATH`, many components at once; fails where it is missing.
    Openat2,
    /// One component at a time: `openat` with `O_PATH`, `O_NOFOLLOW` and `O_DIRECTORY`. As safe, since no step
    /// follows a link and names are never `..`; slower for deep trees.
    StepByStep,
}

/// How to read a directory as a layer.
#[derive(Debug, Clone)]
pub struct LayerOptions {
    /// The forms of whiteouts and marks that are honoured.
    pub formats: Formats,
    /// Where overlayfs's attributes are.
    pub namespace: Namespace,
    /// Believe the ownership stored in `user.containers.override_stat`.
    pub stashed_ownership: bool,
    /// How directories are reached again.
    pub resolver: Resolver,
    /// How many directories stay open; at least 1.
    pub fd_limit: usize,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            formats: Formats::default(),
            namespace: Namespace::default(),
            stashed_ownership: false,
            resolver: Resolver::default(),
            fd_limit: FD_LIMIT,
        }
    }
}
