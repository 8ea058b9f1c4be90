//! The command line: what can be said, and the help that teaches it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use stratafs::store::ContainerName;

const AFTER: &str = "\
Try a command and see what it would change; nothing outside the container is touched:
  strata run --name try -- sh -c 'echo hello > /etc/motd'
  strata diff try
  strata diff try --patch /etc/motd
  strata rm try

Work on directories of your own, without mount and privilege:
  strata create --layer ./changes --layer ./base --name app
  strata fs app cat /etc/motd
  strata fs app put local.conf /etc/app.conf
  strata diff app

Exit codes:
  0    success
  1    an error; check: problems were found
  2    the command line makes no sense
  3    diff --exit-code: there are changes
  run passes on the command's own code; 128+N when signal N ended it; 127 when it was not found, 126 when it
  could not be executed, 125 when strata failed before it.

State is kept under --root, $STRATA_ROOT, or $XDG_DATA_HOME/strata (~/.local/share/strata; for root
/var/lib/strata).";

const AFTER_RUN: &str = "\
The command sees the merged view as its root directory, with proc, dev, sys and a private tmp. Without --layer
the host's own root directory is the one read-only layer: what is mounted below it (another file system on
/home, say) is empty inside. The network is the host's. A container of the same name is continued.

Not for root only: without privilege a user namespace is used, in which you are root. Files that belong to
others can then be read as their mode allows, and not be changed.

This is no sandbox against hostile programs: it keeps files apart, nothing else.

Examples:
  strata run -- sh                              look around, and see afterwards what you changed
  strata run --rm --stat -- make install        list what an installation writes, keep nothing
  strata run --layer ./top --layer ./base -- /bin/app";

const AFTER_FS: &str = "\
Paths are inside the container. In process: no mount, no privilege, nothing is executed.

Examples:
  strata fs app ls -l /etc
  strata fs app cat /etc/motd
  strata fs app put ./site.conf /etc/site.conf
  strata fs app get -r /var/log ./logs
  strata fs app xattr set /data user.origin upstream";

/// Layered directories: run, review and keep or drop what a command changed.
#[derive(Debug, Parser)]
#[command(name = "strata", version, after_long_help = AFTER, max_term_width = 100)]
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
    #[command(after_long_help = AFTER_RUN)]
    Run(Run),
    /// Make a container without running anything
    Create(Create),
    /// List containers
    Ls(Json),
    /// Show everything about a container
    Inspect(Named),
    /// Remove containers and what they changed
    Rm(Rm),
    /// Show what a container changed
    Diff(Diff),
    /// Work on a container's files, in process
    #[command(after_long_help = AFTER_FS)]
    Fs(Fs),
    /// Mount a container by the kernel's overlayfs
    Mount(Mount),
    /// Unmount what `strata mount` mounted
    Umount {
        /// The mount point, or the container's name
        target: PathBuf,
    },
    /// Look for damage in a container, or in all of them
    Check(Check),
    /// Show version, state directory and what this host can do
    Info(Json),
    /// Print completions for a shell
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
    /// Take no setuid bits, capabilities and devices over from the layers when files are copied up
    /// (by strata's own commands; the kernel, which serves `run` and `mount`, keeps them)
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

#[derive(Debug, Args)]
pub struct Fs {
    /// The container
    pub name: ContainerName,
    #[command(subcommand)]
    pub verb: FsVerb,
}

#[derive(Debug, Subcommand)]
pub enum FsVerb {
    /// List a directory, or show one file
    Ls {
        /// With type, mode, owner, size and time
        #[arg(short)]
        long: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[arg(default_value = "/")]
        path: PathBuf,
    },
    /// Write files to standard output
    Cat {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show attributes; links are not followed
    Stat {
        #[arg(long)]
        json: bool,
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Copy into the container; `-` is standard input
    Put {
        /// A directory with everything in it
        #[arg(short)]
        recursive: bool,
        /// On the host
        from: PathBuf,
        /// In the container
        to: PathBuf,
    },
    /// Copy out of the container; `-` is standard output
    Get {
        /// A directory with everything in it
        #[arg(short)]
        recursive: bool,
        /// In the container
        from: PathBuf,
        /// On the host
        to: PathBuf,
    },
    /// Make directories
    Mkdir {
        /// Parents as well; no error when it exists
        #[arg(short)]
        parents: bool,
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Remove files
    Rm {
        /// Directories with everything in them
        #[arg(short)]
        recursive: bool,
        /// No error for what is missing
        #[arg(short)]
        force: bool,
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Remove empty directories
    Rmdir {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Rename
    Mv {
        /// Do not replace
        #[arg(short = 'n', long)]
        no_replace: bool,
        /// Swap the two
        #[arg(long, conflicts_with = "no_replace")]
        exchange: bool,
        from: PathBuf,
        to: PathBuf,
    },
    /// Make a link
    Ln {
        /// A symbolic one
        #[arg(short)]
        symbolic: bool,
        target: PathBuf,
        path: PathBuf,
    },
    /// Copy a file within the container
    Cp { from: PathBuf, to: PathBuf },
    /// Set permission bits
    Chmod {
        /// Octal, as in 0644
        #[arg(value_parser = octal)]
        mode: u32,
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Set owner and group by number
    Chown {
        /// Of links themselves
        #[arg(short = 'H', long)]
        no_follow: bool,
        /// UID, UID:GID or :GID
        #[arg(value_parser = owner)]
        owner: Owner,
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show and set extended attributes
    Xattr {
        #[command(subcommand)]
        verb: XattrVerb,
    },
    /// Print the target of a link
    Readlink { path: PathBuf },
    /// Set times to now, making missing files
    Touch {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Set a file's size
    Truncate {
        /// Bytes
        size: u64,
        path: PathBuf,
    },
    /// Make a device (needs MAJOR and MINOR), fifo or socket
    Mknod {
        path: PathBuf,
        kind: NodeKind,
        #[arg(requires = "minor")]
        major: Option<u32>,
        minor: Option<u32>,
        /// Permission bits, octal
        #[arg(short, long, default_value = "0644", value_parser = octal)]
        mode: u32,
    },
}

impl FsVerb {
    /// True when the container stays as it is.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Ls { .. }
            | Self::Cat { .. }
            | Self::Stat { .. }
            | Self::Get { .. }
            | Self::Readlink { .. } => true,
            Self::Xattr { verb } => matches!(verb, XattrVerb::Ls { .. } | XattrVerb::Get { .. }),
            _ => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum XattrVerb {
    /// List the names
    Ls {
        #[arg(long)]
        json: bool,
        path: PathBuf,
    },
    /// Write a value to standard output, byte for byte
    Get { path: PathBuf, name: OsString },
    /// Set a value
    Set { path: PathBuf, name: OsString, value: OsString },
    /// Remove one
    Rm { path: PathBuf, name: OsString },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NodeKind {
    /// Character device
    C,
    /// Block device
    B,
    /// Fifo
    P,
    /// Socket
    S,
}

/// An owner to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err("an octal number up to 7777 is needed".into()),
    }
}

fn owner(text: &str) -> Result<Owner, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| format!("\"{digits}\" is not a number")),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    let owner = Owner { uid: number(uid)?, gid: number(gid)? };
    if owner.uid.is_none() && owner.gid.is_none() {
        return Err("UID, UID:GID or :GID is needed".into());
    }
    Ok(owner)
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
    fn owners_and_modes_parse() {
        assert_eq!(owner("1:2").unwrap(), Owner { uid: Some(1), gid: Some(2) });
        assert_eq!(owner("1").unwrap(), Owner { uid: Some(1), gid: None });
        assert_eq!(owner(":2").unwrap(), Owner { uid: None, gid: Some(2) });
        assert!(owner(":").is_err() && owner("root").is_err() && owner("1:x").is_err());
        assert_eq!(octal("0755").unwrap(), 0o755);
        assert!(octal("9").is_err() && octal("10000").is_err() && octal("+7").is_err());
    }

    #[test]
    fn arguments_of_the_command_are_its_own() {
        let cli = Cli::try_parse_from(["strata", "run", "--rm", "ls", "-l", "--json"]).unwrap();
        let Command::Run(run) = cli.command else { panic!() };
        assert_eq!(run.command, ["ls", "-l", "--json"]);
        assert!(run.rm);
    }
}
