//! The command line of what makes, runs and shows a container.

use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use stratafs::store::ContainerName;

/// What a new container is made of.
#[derive(Debug, Args)]
pub struct New {
    /// A read-only layer; the first is the topmost
    #[arg(long = "layer", value_name = "DIR")]
    pub layers: Vec<PathBuf>,
    /// The layers of this image, by name or the beginning of its id
    #[arg(long, value_name = "IMAGE", conflicts_with_all = ["layers", "whiteouts"])]
    pub image: Option<String>,
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
        !self.layers.is_empty()
            || self.image.is_some()
            || self.durability.is_some()
            || !self.whiteouts.is_empty()
            || self.untrusted
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
    /// Set a variable for the command, over the inherited ones or those of its image
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = clap::builder::ValueParser::os_string())]
    pub env: Vec<OsString>,
    /// Start in this directory [default: the image's; else the current one if it exists inside, else /]
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Run as this user, by name or number of the container's own /etc/passwd [default: the image's, else root]
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Run this instead of the image's entry point; "" for none
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<OsString>,
    /// The command and its arguments [default: the image's]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
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
    /// What changed since the last snapshot [default: since the image, or the layers that it was made with]
    #[arg(long)]
    pub since_snapshot: bool,
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
