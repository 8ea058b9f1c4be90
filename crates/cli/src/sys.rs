//! The system calls that have no safe wrapper: the only unsafe code of the command. Signals are waited for,
//! never handled, so no code runs in a signal handler.

use crate::run::spec::Identity;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr;

/// Leaves the namespaces in `flags` for new ones (unshare(2)).
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the danger of unshare is `CLONE_FILES`, which would take descriptors away from other threads;
    // callers pass namespaces only, and the process has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Takes ownership of the descriptor that the parent process passed under this number, and keeps it from
/// being passed on.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(Errno::BADF.into());
    }
    // SAFETY: F_SETFD takes an integer and touches no memory; it fails for a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open (fcntl succeeded), and nothing in this process owns it: it came through
    // exec, and this runs once, before anything else is opened.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Keeps every descriptor but the standard three from programs that are executed after this. What the caller left
/// open may lead outside the container.
pub fn keep_descriptors_here() -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: close_range(2) takes three integers; with CLOSE_RANGE_CLOEXEC it closes nothing now.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets `command` run as `user`: without the privileges of this process, unless that is root.
pub fn become_user(command: &mut Command, user: Identity) {
    // SAFETY: the closure runs between fork and exec in a process with one thread; setgroups, setresgid and setresuid
    // are plain system calls there, on memory that the closure owns, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            let Identity { uid, gid, groups } = &user;
            // The groups first: without the user's privilege they cannot be set any more.
            let done = libc::setgroups(groups.len(), groups.as_ptr()) == 0
                && libc::setresgid(*gid, *gid, *gid) == 0
                && libc::setresuid(*uid, *uid, *uid) == 0;
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
}

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// A child changed state.
    Child,
    /// A process sent this one.
    Sent(i32),
    /// The kernel sent it, as a terminal does to its whole foreground group.
    Kernel,
}

/// Signals that are waited for instead of having their effect.
#[derive(Debug)]
pub struct Signals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Signals {
    const WAITED: [i32; 9] = [
        libc::SIGCHLD,
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGWINCH,
    ];

    /// What asks a program to end.
    const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

    /// Blocks the waited signals in this thread, the only one of the process.
    pub fn block() -> io::Result<Self> {
        Self::block_these(&Self::WAITED)
    }

    /// As [`Signals::block`], only those that ask a program to end. Threads that are made afterwards have them
    /// blocked as well.
    pub fn block_ending() -> io::Result<Self> {
        Self::block_these(&Self::ENDING)
    }

    fn block_these(signals: &[i32]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given; sigaddset and pthread_sigmask get that set,
        // valid signal numbers and a place for the old mask, which is filled on success.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            let set = set.assume_init();
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) {
                0 => Ok(Self { set, before: before.assume_init() }),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    }

    /// Starts a child with the mask from before: a blocked signal would stay blocked in whatever it executes.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = self.before;
        // SAFETY: the closure runs between fork and exec; it calls only sigprocmask, which is
        // async-signal-safe (signal-safety(7)), on a set that it owns, and allocates nothing.
        unsafe {
            command.pre_exec(move || match libc::sigprocmask(libc::SIG_SETMASK, &before, ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        command.spawn()
    }

    /// Waits for the next one; its number, whoever sent it.
    pub fn wait_number(&self) -> io::Result<i32> {
        loop {
            // SAFETY: the set is initialised; a null pointer says that nothing but the number is wanted.
            match unsafe { libc::sigwaitinfo(&self.set, ptr::null_mut()) } {
                -1 => match io::Error::last_os_error() {
                    e if e.kind() == io::ErrorKind::Interrupted => {}
                    e => return Err(e),
                },
                signal => return Ok(signal),
            }
        }
    }

    /// Waits for the next one.
    pub fn wait(&self) -> io::Result<Arrived> {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        loop {
            // SAFETY: both pointers are valid for the call; on success the kernel has filled `info`.
            let signal = unsafe { libc::sigwaitinfo(&self.set, info.as_mut_ptr()) };
            if signal == -1 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            if signal == libc::SIGCHLD {
                return Ok(Arrived::Child);
            }
            // SAFETY: sigwaitinfo returned a signal, so `info` is initialised.
            let code = unsafe { info.assume_init() }.si_code;
            // si_code is positive where the kernel is the sender (sigaction(2)).
            return Ok(if code > 0 { Arrived::Kernel } else { Arrived::Sent(signal) });
        }
    }
}
