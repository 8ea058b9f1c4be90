//! The inner side of a run: the first process of the new namespaces. It builds the root, starts the command
//! and stays as its pid 1.

use super::spec::{Channel, Outcome, Spec};
use super::supervise::supervise;
use super::{CANNOT_EXECUTE, FAILED, NOT_FOUND, root};
use crate::sys::Signals;
use rustix::process::Signal;
use std::io;
use std::path::Path;
use std::process::Command;

/// Sets up the view, runs the command and gives its exit code.
pub fn init(mut channel: Channel) -> u8 {
    match start(&mut channel) {
        Ok(code) => code,
        Err(why) => {
            // Nobody is left to tell when even the report fails; the exit code still says it.
            let _ = channel.report(&Outcome::Failed(why));
            FAILED
        }
    }
}

fn start(channel: &mut Channel) -> Result<u8, String> {
    let say = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("{what}: {e}")
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| format!("cannot follow the parent process: {e}"))?;
    let spec = channel.spec().map_err(say("cannot read what to run"))?;
    root::build(&spec)?;
    enter_workdir(&spec)?;
    let signals = Signals::block().map_err(say("cannot block signals"))?;
    let (program, arguments) = spec.command.split_first().ok_or("there is no command to run")?;
    let mut command = Command::new(program);
    let child = match signals.spawn(command.args(arguments).envs(spec.env.iter().cloned())) {
        Ok(child) => child,
        Err(e) => {
            let code = if e.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
            let why = format!("cannot run {}: {e}", Path::new(program).display());
            channel.report(&Outcome::NotStarted(code, why)).map_err(say("cannot report"))?;
            return Ok(code);
        }
    };
    channel.report(&Outcome::Started).map_err(say("cannot report"))?;
    supervise(&signals, &child).map_err(say("cannot wait for the command"))
}

fn enter_workdir(spec: &Spec) -> Result<(), String> {
    match std::env::set_current_dir(&spec.workdir) {
        Err(e) if spec.workdir_required => {
            Err(format!("cannot start in {}: {e}", Path::new(&spec.workdir).display()))
        }
        Err(_) => std::env::set_current_dir("/").map_err(|e| format!("cannot start in /: {e}")),
        Ok(()) => Ok(()),
    }
}
