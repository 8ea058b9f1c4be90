//! The command line: what can be said, and the help that teaches it.

mod fs;

pub use fs::{Fs, FsVerb, NodeKind, XattrVerb};

use crate::help;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use stratafs::store::ContainerName;

/// Layered directories: run, review and keep or drop what a command changed.
#[derive(Debug, Parser)]
#[command(name = "strata", version, after_long_help = help::STRATA, max_term_width = 100)]
pub struct Cli {
    /// Where containers are kept
    #[arg(long, global = true, value_name = "DIR", env = "STRATA_ROOT", hide_env_values = true)]
    pub root: Option<PathBuf>,
    /// Say what happens inside (the same as RUST_LOG=debug)
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command on a merged view and keep what it changed
    #[command(after_long_help = help::RUN)]
    Run(Run),
    /// Make a container without running anything
    #[command(after_help = help::CREATE)]
    Create(Create),
    /// List containers
    #[command(after_help = help::LS)]
    Ls(Json),
    /// Show everything about a container
    #[command(after_help = help::INSPECT)]
    Inspect(Named),
    /// Remove containers and what they changed
    #[command(after_help = help::RM)]
    Rm(Rm),
    /// Show what a container changed
    #[command(after_help = help::DIFF)]
    Diff(Diff),
    /// Work on a container's files, in process
    #[command(after_long_help = help::FS)]
    Fs(Fs),
    /// Mount a container by the kernel's overlayfs
    #[command(after_help = help::MOUNT)]
    Mount(Mount),
    /// Unmount what `strata mount` mounted
    #[command(after_help = help::UMOUNT)]
    Umount {
        /// The mount point, or the container's name
        target: PathBuf,
    },
    /// Look for damage in a container, or in all of them
    #[command(after_help = help::CHECK)]
    Check(Check),
    /// Show version, state directory and what this host can do
    #[command(after_help = help::INFO)]
    Info(Json),
    /// Print completions for a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Named {
    /// The container
    pub name: ContainerName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a new container is made of.
#[derive(Debug, Args)]
pub struct New {
    /// A read-only layer; the first is the topmost
    #[arg(long = "layer", value_name = "DIR")]
    pub layers: Vec<PathBuf>,
    /// What a crash may cost [default: ordered]
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Whiteouts that the layers use besides overlayfs's own
    #[arg(long, value_enum, value_name = "FORM")]
    pub whiteouts: Vec<Whiteouts>,
    /// Trust no setuid bits, capabilities and devices of the layers: strata's own commands drop them when files
    /// are copied up; in `run` and `mount` the kernel keeps them, without effect
    #[arg(long)]
    pub untrusted: bool,
}

impl New {
    /// True when anything was asked for.
    pub fn is_given(&self) -> bool {
        !self.layers.is_empty() || self.durability.is_some() || !self.whiteouts.is_empty() || self.untrusted
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Nothing is synced
    Volatile,
    /// A crash shows old or new files, never torn ones
    Ordered,
    /// Every change is on disk when it is done; of a run, when the run ends
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Whiteouts {
    /// `.wh.NAME` and `.wh..wh..opq`, as in image layers
    Aufs,
    /// What fuse-overlayfs writes
    FuseOverlayfs,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub new: New,
    /// Name of the container: a new one, or one to continue [default: a fresh name]
    #[arg(long)]
    pub name: Option<ContainerName>,
    /// Remove the container afterwards
    #[arg(long)]
    pub rm: bool,
    /// Always list what changed afterwards, on standard error (else a summary, on a terminal)
    #[arg(long)]
    pub stat: bool,
    /// Set a variable for the command, over the inherited ones
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = clap::builder::ValueParser::os_string())]
    pub env: Vec<OsString>,
    /// Start in this directory [default: the current one if it exists inside, else /]
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub new: New,
    /// Name of the container [default: a fresh name, which is printed]
    #[arg(long)]
    pub name: Option<ContainerName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// The containers
    #[arg(required = true)]
    pub names: Vec<ContainerName>,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The container
    pub name: ContainerName,
    /// Only count
    #[arg(long, conflicts_with = "patch")]
    pub stat: bool,
    /// Show one text file as a unified diff
    #[arg(long, value_name = "PATH", conflicts_with_all = ["json", "all"])]
    pub patch: Option<PathBuf>,
    /// Also directories of which only times changed
    #[arg(long)]
    pub all: bool,
    /// Exit with 3 when there are changes
    #[arg(long)]
    pub exit_code: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Mount {
    /// The container
    pub name: ContainerName,
    /// An existing directory
    pub target: PathBuf,
}

#[derive(Debug, Args)]
pub struct Check {
    /// The containers [default: all]
    pub names: Vec<ContainerName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_the_command_are_its_own() {
        let cli = Cli::try_parse_from(["strata", "run", "--rm", "ls", "-l", "--json"]).unwrap();
        let Command::Run(run) = cli.command else { panic!() };
        assert_eq!(run.command, ["ls", "-l", "--json"]);
        assert!(run.rm);
    }

    #[test]
    fn every_help_teaches_by_example() {
        let mut command = Cli::command();
        command.build();
        let mut all: Vec<_> = command.get_subcommands().collect();
        while let Some(command) = all.pop() {
            if command.get_name() == "help" {
                continue;
            }
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("xample"), "{}", command.get_name());
            all.extend(command.get_subcommands());
        }
        let texts = Cli::command().render_long_help().to_string();
        assert!(
            texts.lines().skip_while(|line| !line.starts_with("Try a")).all(|line| line.len() <= 80),
            "{texts}"
        );
    }
}
