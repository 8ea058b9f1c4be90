//! The `strata` command: thin over the `stratafs` library.

mod args;
mod commands;
mod failure;
mod help;
mod output;
mod progress;
mod run;
mod state;
mod stdin;
mod sys;
mod text;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use commands::pack::What;
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
    let lines: Vec<_> = failure.message.lines().map(text::harmless).collect();
    let _ = writeln!(std::io::stderr(), "strata: {}", lines.join("\n"));
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
        Command::Image(asked) => commands::image::image(&store()?, asked.verb),
        Command::Commit(asked) => commands::commit::commit(&store()?, asked),
        Command::Export(asked) => commands::pack::pack(&store()?, &asked, What::Everything),
        Command::Layer(asked) => commands::pack::pack(&store()?, &asked, What::Changes),
        Command::Snapshot(asked) => commands::life::snapshot(&store()?, asked),
        Command::Snapshots(asked) => commands::life::snapshots(&store()?, &asked),
        Command::Fork(asked) => commands::life::fork(&store()?, &asked),
        Command::Rollback(asked) => commands::life::rollback(&store()?, &asked),
        Command::Discard { name } => commands::life::discard(&store()?, &name),
        Command::Mount(asked) => commands::mount::mount(&store()?, &asked),
        Command::Umount { target } => commands::mount::umount(&store()?, &target),
        Command::Check(asked) => commands::check::check(&store()?, &asked),
        Command::Promote(asked) => commands::promote::promote(&store()?, &asked),
        Command::Gc(asked) => commands::store::gc(&store()?, &asked),
        Command::Usage(asked) => commands::store::usage(&store()?, &asked),
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
