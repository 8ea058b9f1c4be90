//! The inner side of a run: the first process of the new namespaces. It builds the root, starts the command
//! and stays as its pid 1.

use super::spec::{Channel, Outcome, Spec};
use super::supervise::supervise;
use super::{CANNOT_EXECUTE, FAILED, NOT_FOUND, root};
use crate::sys::Signals;
use crate::text::shown;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::process::{Child, Command};

/// Sets up the view, runs the command and gives its exit code.
pub fn init(mut channel: Channel) -> u8 {
    let started = start(&mut channel);
    match started {
        Ok(Ok((signals, child))) => {
            // The command could reach it through /proc.
            drop(channel);
            supervise(&signals, &child).unwrap_or(FAILED)
        }
        Ok(Err(code)) => code,
        Err(why) => {
            // Nobody is left to tell when even the report fails; the exit code still says it.
            let _ = channel.report(&Outcome::Failed(why));
            FAILED
        }
    }
}

/// The command as a child, or the exit code that stands for why it was not started.
fn start(channel: &mut Channel) -> Result<Result<(Signals, Child), u8>, String> {
    let say = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("{what}: {e}")
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| format!("cannot follow the parent process: {e}"))?;
    let spec = channel.spec().map_err(say("cannot read what to run"))?;
    root::build(&spec)?;
    if let Err(why) = enter_workdir(&spec) {
        channel.report(&Outcome::NotStarted(FAILED, why)).map_err(say("cannot report"))?;
        return Ok(Err(FAILED));
    }
    if spec.as_user.is_none() {
        renounce_the_host().map_err(say("cannot give up capabilities"))?;
    }
    let signals = Signals::block().map_err(say("cannot block signals"))?;
    let (program, arguments) = spec.command.split_first().ok_or("there is no command to run")?;
    let mut command = Command::new(program);
    match spec.only_env {
        true => command.env_clear(),
        // Ours, and of no use where the state cannot be seen.
        false => command.env_remove("STRATA_ROOT"),
    };
    command.args(arguments).envs(spec.env.iter().cloned());
    if let Some(user) = spec.user {
        crate::sys::become_user(&mut command, user);
    }
    let child = match signals.spawn(&mut command) {
        Ok(child) => child,
        Err(e) => {
            let code = if e.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
            let why = format!("cannot run \"{}\": {e}", shown(program.as_bytes()));
            channel.report(&Outcome::NotStarted(code, why)).map_err(say("cannot report"))?;
            return Ok(Err(code));
        }
    };
    channel.report(&Outcome::Started).map_err(say("cannot report"))?;
    Ok(Ok((signals, child)))
}

/// Takes from the command what changes the host and no file: its clock, kernel, ports and log. In a user namespace
/// nobody has these.
fn renounce_the_host() -> io::Result<()> {
    for capability in
        [CapabilitySet::SYS_MODULE, CapabilitySet::SYS_RAWIO, CapabilitySet::SYS_TIME, CapabilitySet::SYSLOG]
    {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Without CAP_SETPCAP somebody else has limited this process already.
            Ok(()) | Err(Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn enter_workdir(spec: &Spec) -> Result<(), String> {
    if spec.make_workdir {
        // What stands in the way is said when it is entered.
        let _ = DirBuilder::new().recursive(true).mode(0o755).create(&spec.workdir);
    }
    match std::env::set_current_dir(&spec.workdir) {
        Err(e) if spec.workdir_required => {
            Err(format!("cannot start in {}: {e}", shown(spec.workdir.as_bytes())))
        }
        Err(_) => std::env::set_current_dir("/").map_err(|e| format!("cannot start in /: {e}")),
        Ok(()) => Ok(()),
    }
}
