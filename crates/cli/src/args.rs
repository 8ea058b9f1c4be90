//! The command line: what can be said, and the help that teaches it.

mod container;
mod fs;
mod image;
mod life;

pub use container::{Check, Create, Diff, Durability, Mount, New, Rm, Run, Whiteouts};
pub use fs::{Fs, FsVerb, NodeKind, XattrVerb};
pub use image::{Commit, Compression, ExportImage, Image, ImageNamed, ImageVerb, Import, Pack};
pub use life::{Fork, Promote, Rollback, Snapshot, Snapshots};

use crate::help;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use stratafs::store::ContainerName;

/// Where the options of every subcommand stand in its help: behind its own.
const LAST: usize = 900;

/// Layered directories: run, review and keep or drop what a command changed.
#[derive(Debug, Parser)]
#[command(name = "strata", version, after_long_help = help::STRATA, max_term_width = 80)]
pub struct Cli {
    /// Where containers are kept [env: STRATA_ROOT]
    #[arg(long, global = true, value_name = "DIR", display_order = LAST)]
    pub root: Option<PathBuf>,
    /// Say what happens inside (the same as RUST_LOG=debug)
    #[arg(long, short, global = true, display_order = LAST)]
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
    /// Work with images: import, list, inspect, remove, export
    #[command(after_help = help::image::IMAGE)]
    Image(Image),
    /// Make an image of a container
    #[command(after_help = help::image::COMMIT)]
    Commit(Commit),
    /// Write everything that a container shows as a tar archive
    #[command(after_help = help::image::FLATTEN)]
    Export(Pack),
    /// Write what a container changed as a layer archive
    #[command(after_help = help::image::LAYER)]
    Layer(Pack),
    /// Keep a container's state, to go back to or to fork from
    #[command(after_help = help::life::SNAPSHOT)]
    Snapshot(Snapshot),
    /// List a container's snapshots
    #[command(after_help = help::life::SNAPSHOTS)]
    Snapshots(Snapshots),
    /// Make a second container with the state of a first one
    #[command(after_help = help::life::FORK)]
    Fork(Fork),
    /// Take a container back to a snapshot
    #[command(after_help = help::life::ROLLBACK)]
    Rollback(Rollback),
    /// Throw away everything that a container changed
    #[command(after_help = help::life::DISCARD)]
    Discard {
        /// The container
        name: ContainerName,
    },
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
    /// Apply what a container changed to a real directory
    #[command(after_long_help = help::life::PROMOTE)]
    Promote(Promote),
    /// Remove what nobody needs any more
    #[command(after_help = help::life::GC)]
    Gc(Json),
    /// Show what containers, images and layers take on disk
    #[command(after_help = help::life::USAGE)]
    Usage(Json),
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
            let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty(), "{}: {wide:?}", command.get_name());
            all.extend(command.get_subcommands());
        }
        let texts = Cli::command().render_long_help().to_string();
        assert!(
            texts.lines().skip_while(|line| !line.starts_with("Try a")).all(|line| line.len() <= 80),
            "{texts}"
        );
    }
}
