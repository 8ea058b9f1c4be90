//! The outer side of a run: the process that leaves the host's namespaces, and the wait for it.

use super::FAILED;
use super::spec::{Channel, Ids, Outcome, Spec};
use super::supervise::supervise;
use crate::sys::{self, Signals};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;
use std::io;
use std::process::Command;

/// The hidden subcommand of the process that makes the namespaces.
pub const ENTER: &str = "__enter";
/// The hidden subcommand of the first process inside them.
pub const INIT: &str = "__init";

/// The hidden subcommand that only tries to make a user namespace.
pub const PROBE: &str = "__probe";

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The command's exit code, or what stands for it.
    pub code: u8,
    /// How far it came; `None` when the inner processes died without a word.
    pub outcome: Option<Outcome>,
}

/// Runs `spec` to its end in a child process. This process stays where it is.
pub fn run(spec: &Spec) -> io::Result<Ended> {
    tracing::debug!(?spec, "starting a run");
    sys::keep_descriptors_here()?;
    let mut channel = Channel::new(spec)?;
    let signals = Signals::block()?;
    let code = respawn(ENTER, spec.only_env, &channel, &signals)?;
    let outcome = channel.outcome()?;
    Ok(Ended { code, outcome })
}

/// The process between: makes the namespaces, of which a new process id namespace takes effect only for its
/// child, and passes everything through.
pub fn enter(mut channel: Channel) -> u8 {
    let entered = (|| {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let spec = channel.spec()?;
        namespaces(spec.as_user).map(|()| spec.only_env)
    })();
    let code = entered.and_then(|only_env| {
        channel.pass_on()?;
        let signals = Signals::block()?;
        respawn(INIT, only_env, &channel, &signals)
    });
    code.unwrap_or_else(|e| {
        // Nobody is left to tell when even the report fails; the exit code still says it.
        let _ = channel.report(&Outcome::Failed(format!("cannot make namespaces: {e}")));
        FAILED
    })
}

/// Starts this program in another part. What the command is not to inherit is not left with its pid 1 either, where it
/// could be read.
fn respawn(subcommand: &str, only_env: bool, channel: &Channel, signals: &Signals) -> io::Result<u8> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(subcommand).arg(channel.number().to_string());
    if only_env {
        command.env_clear();
    }
    let child = signals.spawn(&mut command)?;
    supervise(signals, &child)
}

fn namespaces(as_user: Option<Ids>) -> io::Result<()> {
    let inner = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    let Some(ids) = as_user else { return sys::unshare(inner) };
    sys::unshare(inner | UnshareFlags::NEWUSER)?;
    // Without privilege a group map needs setgroups(2) switched off first (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("0 {} 1", ids.gid))?;
    std::fs::write("/proc/self/uid_map", format!("0 {} 1", ids.uid))
}

/// True when this host lets this process make a user namespace: tried in a child process.
pub fn user_namespaces_work() -> bool {
    let Ok(this) = std::env::current_exe() else { return false };
    Command::new(this).arg(PROBE).status().is_ok_and(|status| status.success())
}

/// The child process of that trial.
pub fn probe() -> u8 {
    let ids = Ids { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    u8::from(namespaces(Some(ids)).is_err())
}
