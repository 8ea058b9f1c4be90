//! [`Spec`]: everything the inner processes of a run need to know, and [`Channel`]: how it gets to them. They
//! are this same program, started anew with the descriptor of an anonymous file that all of them share.

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};

/// What to mount, and what to run in it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// How the merged view is mounted.
    pub view: View,
    /// An empty directory to build the new root on.
    pub stage: OsString,
    /// Where the state of all containers would show inside: covered by empty directories.
    pub hidden: Vec<OsString>,
    /// Where to start.
    pub workdir: OsString,
    /// True when `workdir` was asked for, so that its absence inside is an error; else the root will do.
    pub workdir_required: bool,
    /// Makes `workdir` where it is missing, as an image may expect.
    pub make_workdir: bool,
    /// Makes a user namespace in which this user is root.
    pub as_user: Option<Ids>,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(OsString, OsString)>,
    /// Those are all; else they are set over the inherited ones.
    pub only_env: bool,
    /// As whom the command runs; without it as the root that the inner process is.
    pub user: Option<Identity>,
}

/// The numbers of whom a command runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, all of them.
    pub groups: Vec<u32>,
}

/// Who is root inside.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How the merged view becomes a root directory.
#[derive(Debug, Serialize, Deserialize)]
pub enum View {
    /// One overlay mount.
    Whole(Overlay),
    /// A read-only root with one overlay for each top-level directory: what an unprivileged mount of a layer
    /// with mounts below it comes to.
    Split(Split),
}

/// One mount of the kernel's overlayfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// What the mount table names as the source.
    pub source: OsString,
    /// The layers, topmost first.
    pub lowers: Vec<OsString>,
    /// Where changes go; without it the mount is read-only.
    pub writable: Option<Writable>,
    /// Setuid bits and capabilities have no effect: the layers are not trusted.
    pub nosuid: bool,
    /// The other options.
    pub options: Vec<String>,
    /// The lowest layer holds another one, which the kernel refuses to stack: it is mounted by an overlay of its own
    /// first, and that becomes the layer.
    pub wrapped: bool,
}

/// Where changes of an overlay go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writable {
    /// Takes the changes.
    pub upper: OsString,
    /// The kernel's own.
    pub work: OsString,
}

/// The top level of a split view, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Directories with an overlay each.
    pub overlays: Vec<(OsString, Overlay)>,
    /// Files, and directories that hold mounts, with their path on the host: bound read-only.
    pub read_only: Vec<(OsString, OsString)>,
    /// Empty directories: mount points.
    pub empty: Vec<OsString>,
    /// Symbolic links and their targets.
    pub links: Vec<(OsString, OsString)>,
}

/// How far a run came; written by the inner process, read by the outer one.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The command was started, so the exit code is its own.
    Started,
    /// The command could not be started: the exit code says why, in the shell's terms.
    NotStarted(u8, String),
    /// The view could not be set up.
    Failed(String),
}

/// The file that the processes of one run share.
#[derive(Debug)]
pub struct Channel(File);

impl Channel {
    /// A new one that holds `spec`; children of this process inherit it.
    pub fn new(spec: &Spec) -> io::Result<Self> {
        let mut file = File::from(rustix::fs::memfd_create("strata run", MemfdFlags::empty())?);
        serde_json::to_writer(&mut file, spec)?;
        file.flush()?;
        Ok(Self(file))
    }

    /// The one that the parent passed.
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        crate::sys::inherited(number).map(|fd| Self(File::from(fd)))
    }

    /// The number under which a child finds it.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Lets the children of this process inherit it as well.
    pub fn pass_on(&self) -> io::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.0, rustix::io::FdFlags::empty())?)
    }

    /// What the outer process wrote.
    pub fn spec(&mut self) -> io::Result<Spec> {
        Ok(serde_json::from_slice(&self.content()?)?)
    }

    /// Replaces the content by the outcome.
    pub fn report(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.seek(SeekFrom::Start(0))?;
        Ok(serde_json::to_writer(&mut self.0, outcome)?)
    }

    /// What the inner processes reported, if they came that far.
    pub fn outcome(&mut self) -> io::Result<Option<Outcome>> {
        Ok(serde_json::from_slice(&self.content()?).ok())
    }

    fn content(&mut self) -> io::Result<Vec<u8>> {
        self.0.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
