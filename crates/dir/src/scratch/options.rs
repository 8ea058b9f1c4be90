//! What a caller chooses when it opens a scratch.

use crate::fds::FD_LIMIT;
use crate::namespace::Namespace;
use crate::options::Resolver;

/// What becomes of owners, modes and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// Apply where this process may give files away, else stash.
    #[default]
    Auto,
    /// Set them on the files.
    Apply,
    /// Store them in `user.containers.override_stat` and keep the files our own. The owner of a symbolic link, a fifo
    /// or a socket cannot be stored (only regular files and directories have user attributes) and stays the real one.
    Stash,
}

/// How to open a scratch. The choices are not recorded in it: pass the same ones each time.
#[derive(Debug, Clone)]
pub struct ScratchOptions {
    /// Where overlayfs's attributes go; `None`: `trusted` where this process may set them, else `user`.
    pub namespace: Option<Namespace>,
    /// Leave the mark of overlayfs's `volatile`: after a crash the scratch is refused, here and by the kernel.
    /// [`crate::DirScratch::close`] syncs and takes it away.
    pub volatile: bool,
    /// Open a scratch that carries that mark; what was written last before it was left may be missing or torn.
    pub accept_volatile: bool,
    /// Store redirects. In the `user` namespace the kernel does not follow them and is kept from mounting.
    pub redirect: bool,
    /// Store metacopy marks; `None`: in the `trusted` namespace. The same applies as for `redirect`.
    pub metacopy: Option<bool>,
    /// Keep hard links over copy-up by an index.
    pub index: bool,
    /// What becomes of owners.
    pub ownership: Ownership,
    /// How directories are reached again.
    pub resolver: Resolver,
    /// How many directories stay open; at least 1.
    pub fd_limit: usize,
}

impl Default for ScratchOptions {
    fn default() -> Self {
        Self {
            namespace: None,
            volatile: false,
            accept_volatile: false,
            redirect: true,
            metacopy: None,
            index: true,
            ownership: Ownership::default(),
            resolver: Resolver::default(),
            fd_limit: FD_LIMIT,
        }
    }
}
