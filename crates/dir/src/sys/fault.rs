//! Fault injection at the border to the kernel. Without the cargo feature `faults` the gate is an empty inline
//! function. With it, [`with`] counts the system calls that this thread makes through the crate, and fails the
//! n-th, lets the process "die" there (that call and all later ones on the thread fail, so that no clean-up
//! runs either, as after a crash), or cuts a transfer short.
//!
//! [`pretend_old_kernel`] hides the calls that have a fallback, so that a new kernel tests those too.
//!
//! Closing a descriptor is not gated: a crash closes descriptors too.

use super::Sys;

/// The system calls of the crate, as the injector reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the call of its name")]
#[non_exhaustive]
pub enum Call {
    Open,
    Openat2,
    Getdents,
    Statx,
    Statvfs,
    Readlink,
    Mkdir,
    Mknod,
    Symlink,
    Link,
    Unlink,
    Rename,
    Chown,
    Chmod,
    Utimens,
    Getxattr,
    Listxattr,
    Setxattr,
    Removexattr,
    Read,
    Write,
    Seek,
    Truncate,
    Allocate,
    Clone,
    CopyRange,
    Fsync,
    Syncfs,
    Flock,
    Handle,
    Ioctl,
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(super) fn gate(_: Call) -> Sys<()> {
    Ok(())
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(super) fn limit(_: Call, len: usize) -> usize {
    len
}

#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(super) fn old_kernel() -> bool {
    false
}

#[cfg(feature = "faults")]
pub use armed::{Plan, What, pretend_old_kernel, with};
#[cfg(feature = "faults")]
pub(super) use armed::{gate, limit, old_kernel};

#[cfg(feature = "faults")]
mod armed {
    use super::{Call, Sys};
    use rustix::io::Errno;
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What happens at the chosen call.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum What {
        /// It fails with this errno; later calls work.
        Fail(i32),
        /// It and all later calls of the thread fail with `EIO`.
        Die,
        /// A read, write or copy moves half of what it was asked for (at least a byte); other calls work.
        Short,
    }

    /// Which call is hit, and how.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Plan {
        /// The position of the call among those of the closure, from 0.
        pub at: usize,
        /// What happens there.
        pub what: What,
    }

    struct State {
        plan: Option<Plan>,
        seen: Vec<Call>,
        short: bool,
    }

    thread_local! {
        static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
    }

    static OLD_KERNEL: AtomicBool = AtomicBool::new(false);

    /// From now on, for the whole process, `openat2`, `getxattrat` and its siblings, `fchmodat2`, `O_TMPFILE` and file
    /// handles do not exist.
    pub fn pretend_old_kernel() {
        OLD_KERNEL.store(true, Ordering::Relaxed);
    }

    pub(in crate::sys) fn old_kernel() -> bool {
        OLD_KERNEL.load(Ordering::Relaxed)
    }

    struct Disarm;

    impl Drop for Disarm {
        fn drop(&mut self) {
            STATE.with(|s| *s.borrow_mut() = None);
        }
    }

    /// Runs `body` with the injector armed on this thread, and returns what it returned and the calls it made.
    /// `None` only counts.
    pub fn with<T>(plan: Option<Plan>, body: impl FnOnce() -> T) -> (T, Vec<Call>) {
        STATE.with(|s| *s.borrow_mut() = Some(State { plan, seen: Vec::new(), short: false }));
        let disarm = Disarm;
        let out = body();
        let seen = STATE.with(|s| s.borrow_mut().take()).map(|s| s.seen).unwrap_or_default();
        drop(disarm);
        (out, seen)
    }

    pub(in crate::sys) fn gate(call: Call) -> Sys<()> {
        STATE.with(|s| {
            let mut s = s.borrow_mut();
            let Some(state) = s.as_mut() else { return Ok(()) };
            let n = state.seen.len();
            state.seen.push(call);
            match state.plan {
                Some(Plan { at, what: What::Fail(errno) }) if n == at => Err(Errno::from_raw_os_error(errno)),
                Some(Plan { at, what: What::Die }) if n >= at => Err(Errno::IO),
                Some(Plan { at, what: What::Short }) => {
                    state.short = n == at;
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    pub(in crate::sys) fn limit(_: Call, len: usize) -> usize {
        let short = STATE.with(|s| s.borrow_mut().as_mut().is_some_and(|s| std::mem::take(&mut s.short)));
        if short { (len / 2).max(len.min(1)) } else { len }
    }
}
