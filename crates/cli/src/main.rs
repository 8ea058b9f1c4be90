//! The `strata` command: thin over the `stratafs` library.

mod args;
mod commands;
mod failure;
mod help;
mod run;
mod state;
mod sys;
mod text;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use failure::{Failure, Outcome};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = run::inner_process(&arguments) {
        return code;
    }
    let cli = Cli::parse();
    log(cli.verbose);
    match dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn log(verbose: bool) {
    let level = if verbose { "debug" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
}

/// Says what went wrong, on one line.
pub(crate) fn complain(failure: &Failure) {
    if failure.message.is_empty() {
        return;
    }
    // With standard error gone the exit code has to do.
    let _ = writeln!(std::io::stderr(), "strata: {}", failure.message);
}

fn dispatch(cli: Cli) -> Outcome {
    let root = cli.root.as_deref();
    let store = || state::store(root);
    match cli.command {
        Command::Run(asked) => commands::run::run(root, asked),
        Command::Create(asked) => commands::containers::create(&store()?, asked),
        Command::Ls(asked) => commands::containers::list(&store()?, &asked),
        Command::Inspect(asked) => commands::containers::inspect(&store()?, &asked),
        Command::Rm(asked) => commands::containers::remove(&store()?, &asked),
        Command::Diff(asked) => commands::diff::diff(&store()?, &asked),
        Command::Fs(asked) => commands::fs::fs(&store()?, asked),
        Command::Mount(asked) => commands::mount::mount(&store()?, &asked),
        Command::Umount { target } => commands::mount::umount(&store()?, &target),
        Command::Check(asked) => commands::check::check(&store()?, &asked),
        Command::Info(asked) => commands::info::info(root, &asked),
        Command::Completions { shell } => {
            // Into memory first: the generator panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "strata", &mut script);
            std::io::stdout().lock().write_all(&script)?;
            Ok(0)
        }
    }
}
