//! What a container is made of, and where its parts are. The configuration is a file, replaced in one durable step:
//! whatever changes a container's life is the writing of another one.

use super::scratch::ScratchId;
use super::stored;
use super::{ContainerName, LayerKey, PinnedLayer, SnapshotName, file};
use crate::oci::Digest;
use crate::{Durability, Error, Formats, LayerOptions, Namespace, Result, Untrusted};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file in a container's directory.
pub(super) const FILE: &str = "config.json";
/// Its successor, until it takes its place. Only who has the store's lock shared writes it.
pub(super) const FRESH: &str = "config.json.new";

/// What a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// The layers, topmost first. Frozen scratches of earlier times lead: see [`ContainerConfig::newer`].
    pub layers: Vec<LayerConfig>,
    /// What a crash may cost.
    pub durability: Durability,
    /// What is done with setuid files, capabilities and devices of the layers.
    pub untrusted: Untrusted,
    /// Under which prefix the upper keeps overlayfs's attributes.
    pub namespace: Namespace,
    /// The image that it was made from.
    pub image: Option<ImageRef>,
    /// That image's configuration for running: environment, command, user, as the image has it.
    pub runtime: Option<serde_json::Value>,
    /// The snapshots that can be gone back to, oldest first.
    pub snapshots: Vec<Snapshot>,
}

impl ContainerConfig {
    /// A container over these directories, topmost first, with defaults that fit this process: without
    /// privilege the upper uses overlayfs's unprivileged form.
    pub fn new(layers: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            layers: layers.into_iter().map(|path| LayerConfig::dir(path, Formats::default())).collect(),
            durability: Durability::Ordered,
            untrusted: Untrusted::TRUST,
            namespace: if crate::host::has_sys_admin() { Namespace::Trusted } else { Namespace::User },
            image: None,
            runtime: None,
            snapshots: Vec::new(),
        }
    }

    /// A container over the layers of an image, the lowest first as images name them. Hold the layers until the
    /// container is made.
    pub fn from_image<'a>(
        image: ImageRef,
        runtime: Option<serde_json::Value>,
        layers: impl IntoIterator<Item = &'a PinnedLayer>,
    ) -> Self {
        let mut layers: Vec<_> = layers.into_iter().map(LayerConfig::stored).collect();
        layers.reverse();
        Self { layers, image: Some(image), runtime, ..Self::new(Vec::<PathBuf>::new()) }
    }

    /// How many of the leading layers are frozen scratches: what came on top of the image by snapshots.
    #[must_use]
    pub fn newer(&self) -> usize {
        self.layers.iter().take_while(|layer| layer.scratch().is_some()).count()
    }

    /// Those layers.
    #[must_use]
    pub fn frozen(&self) -> &[LayerConfig] {
        self.layers.get(..self.newer()).unwrap_or_default()
    }

    /// The layers that it was made with: its image, or the directories that were named.
    #[must_use]
    pub fn base(&self) -> &[LayerConfig] {
        self.layers.get(self.newer()..).unwrap_or_default()
    }

    /// The layer whose root says what the container's root is like at first: the topmost that says it.
    pub(super) fn root_layer(&self) -> Option<&LayerConfig> {
        self.layers.iter().find(|layer| layer.says_root)
    }
}

/// Which image a container was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Its name at that time.
    pub name: String,
    /// The digest of its configuration.
    pub id: Digest,
}

/// Where a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerSource {
    /// A directory that the store knows by its path only.
    Directory,
    /// A layer of the store.
    Layer(LayerKey),
    /// A scratch of the store that was frozen by a snapshot.
    Scratch(ScratchId),
}

/// One layer of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerConfig {
    /// The directory: an absolute path without links. For what the store keeps it follows from `source`.
    pub path: PathBuf,
    /// Which whiteouts are honoured in it.
    pub formats: Formats,
    /// Where it comes from.
    pub source: LayerSource,
    /// Owners are stored in attributes (`user.containers.override_stat`) and read from there.
    pub stashed: bool,
    /// Under which prefix it keeps overlayfs's attributes, where that is not the container's.
    pub namespace: Option<Namespace>,
    /// Its root directory has attributes that mean something.
    pub says_root: bool,
    /// It holds marks that the kernel does not follow, so a scratch above it keeps the kernel away.
    pub keeps_kernel_away: bool,
}

impl LayerConfig {
    /// A directory as a layer.
    pub fn dir(path: impl Into<PathBuf>, formats: Formats) -> Self {
        Self {
            path: path.into(),
            formats,
            source: LayerSource::Directory,
            stashed: false,
            namespace: None,
            says_root: true,
            keeps_kernel_away: false,
        }
    }

    /// A layer of the store.
    #[must_use]
    pub fn stored(layer: &PinnedLayer) -> Self {
        let record = layer.record();
        Self {
            source: LayerSource::Layer(layer.key()),
            stashed: record.stashed,
            namespace: Some(record.namespace),
            says_root: record.facts.says_root,
            ..Self::dir(layer.tree(), Formats::default())
        }
    }

    /// The frozen scratch that it is, if it is one.
    pub(super) fn scratch(&self) -> Option<&ScratchId> {
        match &self.source {
            LayerSource::Scratch(id) => Some(id),
            LayerSource::Directory | LayerSource::Layer(_) => None,
        }
    }

    /// How it is read, in a container whose marks are in `namespace`: a kernel mount reads the marks of all layers
    /// under one prefix.
    pub(super) fn options(&self, namespace: Namespace) -> LayerOptions {
        LayerOptions {
            formats: self.formats,
            namespace: self.namespace.unwrap_or(namespace),
            stashed_ownership: self.stashed,
            ..LayerOptions::default()
        }
    }
}

/// A state of a container that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name, unique in the container.
    pub name: SnapshotName,
    /// When it was taken.
    pub created: SystemTime,
    /// The frozen scratches above the image, topmost first; none when nothing was changed by then.
    pub frozen: Vec<LayerConfig>,
}

/// What the store knows of one container.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub name: ContainerName,
    /// Where its configuration, lock and mount point are.
    pub dir: PathBuf,
    /// When it was made, in whole seconds.
    pub created: SystemTime,
    /// From when on its layers had to stay as they were: when it was made, by the clock of its file system; of a fork,
    /// when the container was made whose state it began with.
    pub began: SystemTime,
    /// What it is made of.
    pub config: ContainerConfig,
    /// Which scratch takes its changes; `None` in the first format, which had it in the container's directory.
    pub(super) scratch: Option<ScratchId>,
    /// Where `upper` and `work` are.
    pub(super) home: PathBuf,
}

impl Record {
    /// Where its changes are.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.home.join("upper")
    }

    /// The work directory of its upper.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    /// Holds the work directories of a run that mounts more than one overlay.
    #[must_use]
    pub fn works(&self) -> PathBuf {
        self.home.join("works")
    }

    /// What holds `upper`, `work` and `works`: part of the container's directory in the first format.
    #[must_use]
    pub fn scratch_dir(&self) -> &Path {
        &self.home
    }

    /// Reads the record of the container at `dir`, of the store at `root`.
    pub(super) fn read(root: &Path, name: &ContainerName, dir: &Path) -> Result<Self> {
        const OPERATION: &str = "read container";
        // A link in its place would lead outside.
        if std::fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_dir()) {
            super::must_be_dir(dir)?;
        }
        let path = dir.join(FILE);
        let Some(opened) = file::open(&path, OPERATION)? else {
            if !dir.exists() {
                return Err(super::lease::unknown(name));
            }
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(Error::io(missing, OPERATION).about(path.as_os_str().as_bytes()));
        };
        let text = file::content(&opened, &path, OPERATION)?;
        let stored::Parts { created, began, scratch, config } =
            stored::parse(&text, root).map_err(|why| file::corrupt(&path, OPERATION, why))?;
        let home = scratch.as_ref().map_or_else(|| dir.to_owned(), |id| id.dir(root));
        Ok(Self { name: name.clone(), dir: dir.to_owned(), created, began, config, scratch, home })
    }

    /// Replaces the configuration by one whose changes go to `scratch`: the commit point of everything that changes a
    /// container. `before` makes durable what is new in it; the directory is not synced. The caller has the lease, and
    /// the store's lock shared.
    pub(super) fn put(&self, scratch: &ScratchId, before: impl FnOnce() -> Result<()>) -> Result<()> {
        file::put(&self.dir.join(FILE), &self.dir.join(FRESH), &self.text(scratch)?, before)
    }

    /// The configuration as it is stored, with its changes going to `scratch`.
    pub(super) fn text(&self, scratch: &ScratchId) -> Result<Vec<u8>> {
        stored::text(self, scratch).map_err(|e| {
            Error::io(e.into(), "write container").about(self.dir.join(FILE).as_os_str().as_bytes())
        })
    }
}
