//! The command line of a container's life: snapshots, forks, promotion; and of the store as a whole.

use clap::Args;
use std::path::PathBuf;
use stratafs::store::{ContainerName, SnapshotName};

#[derive(Debug, Args)]
pub struct Snapshot {
    /// The container
    pub name: ContainerName,
    /// What the snapshot is called [default: a number, which is printed]
    pub snapshot: Option<SnapshotName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Snapshots {
    /// The container
    pub name: ContainerName,
    /// Forget this snapshot; the container stays as it is
    #[arg(long, value_name = "SNAPSHOT")]
    pub rm: Vec<SnapshotName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Fork {
    /// The container to begin from
    pub name: ContainerName,
    /// What the new one is called
    pub new: ContainerName,
    /// Begin from this snapshot [default: from what the container is now]
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<SnapshotName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The container
    pub name: ContainerName,
    /// Back to this snapshot [default: the last]
    pub snapshot: Option<SnapshotName>,
}

#[derive(Debug, Args)]
pub struct Promote {
    /// The container
    #[arg(required_unless_present = "recover")]
    pub name: Option<ContainerName>,
    /// Only what changed at and below these paths of the container [default: everything]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The directory to apply the changes to
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Compare and tell, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace also what changed in the directory meanwhile
    #[arg(long)]
    pub force: bool,
    /// What is new belongs to you, whoever has it in the container; without this, and without the privilege to give files
    /// away, such files are an error
    #[arg(long)]
    pub own: bool,
    /// Only undo or complete a promotion that was cut off in this directory
    #[arg(long, conflicts_with_all = ["name", "paths", "dry_run", "force", "own"])]
    pub recover: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
