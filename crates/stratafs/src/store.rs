//! Containers, layers and images under one root directory that only its owner can enter (mode 0700):
//!
//! ```text
//! ROOT/containers/NAME/config.json    what it is made of
//!                      lock           held while a process uses it
//!                      root           where a run mounts it, in a mount namespace of its own
//!                      boot           of a volatile one in use: since which start of the host
//! ROOT/scratch/ID/upper, work         what a container changed, or once changed: see `scratch.rs`
//!                 works               work directories of a run that mounts more than one overlay
//! ROOT/layers/KEY/                    layers by content: see `layers.rs`
//! ROOT/images/                        images by name
//! ROOT/trash/                         on the way in or out: see `trash.rs`
//! ROOT/lock                           shared while a reference is made: see `lock.rs`
//! ```
//! A directory becomes an image, a container changes it, and the changes an image, a second container, or real:
//!
//! ```
//! use stratafs::oci::Silent;
//! use stratafs::promote::{Promotion, Silent as Quiet};
//! use stratafs::store::{CommitOptions, ImportOptions, Store};
//! # let dir = tempfile::tempdir()?;
//! # std::fs::create_dir(dir.path().join("files"))?;
//! # std::fs::create_dir(dir.path().join("target"))?;
//! # std::fs::write(dir.path().join("files/motd"), "welcome\n")?;
//! # std::fs::write(dir.path().join("target/motd"), "welcome\n")?;
//!
//! let store = Store::open(dir.path().join("store"))?;
//! let options = ImportOptions { name: Some("base".parse()?), ..ImportOptions::default() };
//! for record in store.import(&dir.path().join("files"), &options, &Silent)? {
//!     // Held until the container refers to its layers, so that no gc takes them.
//!     let image = store.pin_image(&record)?;
//!     store.create(Some("work".parse()?), image.container()?)?;
//! }
//! let work = store.open_container(&"work".parse()?)?;
//! work.write("/motd", "changed\n")?;
//! work.close()?;
//!
//! store.commit(&"work".parse()?, &"changed:latest".parse()?, &CommitOptions::default(), &Silent)?;
//! let snapshot = store.snapshot(&"work".parse()?, None)?;
//! store.fork(&"work".parse()?, &"other".parse()?, Some(&snapshot.name))?;
//!
//! let other = store.open_container(&"other".parse()?)?;
//! let base = other.base()?;
//! let promotion = Promotion::of(&other, &base).changes(other.changes()?).since(other.record().began);
//! let planned = promotion.namespace(other.record().config.namespace).plan(dir.path().join("target"))?;
//! assert!(planned.conflicts().is_empty());
//! planned.apply(&Quiet)?;
//! assert_eq!(std::fs::read_to_string(dir.path().join("target/motd"))?, "changed\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants: a container is complete from the moment its name exists (it is built in the trash and renamed),
//! and gone from the moment its removal begins; it has one user at a time; what a configuration names is complete and
//! on disk before; nothing outside the root is ever written, followed to or removed.

mod check;
mod config;
mod disk;
mod file;
mod gc;
mod images;
mod layers;
mod lease;
mod life;
mod lock;
mod name;
mod references;
mod remove;
mod repair;
mod review;
mod scratch;
mod settle;
mod stored;
mod trash;
mod usage;

pub use check::LayerDamage;
pub use config::{ContainerConfig, ImageRef, LayerConfig, LayerSource, Record, Snapshot};
pub use gc::Collected;
pub use images::{
    ArchiveOptions, CommitOptions, Committed, ExportOptions, Exported, ImageLayer, ImageName, ImageRecord,
    ImportOptions, ListedImage, PinnedImage, source_date_epoch,
};
pub use layers::{LayerFacts, LayerKey, LayerRecord, PinnedLayer, StagedLayer};
pub use lease::{Lease, mount_source};
pub use name::{CONTAINER_NAME_MAX, ContainerName, SnapshotName};
pub use review::{changes, changes_since_snapshot};
pub use scratch::ScratchId;
pub use trash::Emptied;
pub use usage::{ContainerUsage, ImageUsage, LayerUsage, Usage};

use crate::{Container, Error, ErrorKind, Image, Result};
use lock::RootLock;
use scratch::Fresh;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use trash::{Building, discard};

/// The containers, layers and images under one root directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A container of a store, open: a [`Container`] and the [`Lease`] that keeps others away from it.
#[derive(Debug)]
pub struct Opened {
    container: Container,
    lease: Lease,
}

impl Deref for Opened {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

impl Opened {
    /// What the store knows of it.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.lease.record()
    }

    /// What it started from, without what it changed and what snapshots froze: what a promotion compares with.
    ///
    /// # Errors
    /// What the layers say.
    pub fn base(&self) -> Result<Container> {
        base(self.record(), &self.container)
    }

    /// Closes the container and releases it; a volatile or strict one is made durable.
    ///
    /// # Errors
    /// What the host says; the container then still counts as not closed.
    pub fn close(self) -> Result<()> {
        drop(self.container);
        self.lease.settle()
    }
}

/// One line of [`Store::list`].
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub name: ContainerName,
    /// What is known of it, or why nothing is.
    pub record: Result<Record>,
    /// Another process uses it, or it is mounted.
    pub in_use: bool,
}

impl Store {
    /// Opens the store at `root`, making it where there is none.
    ///
    /// # Errors
    /// When the directory cannot be made, belongs to another user, or is open to others.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        make_dir_all(root)?;
        let root = fs::canonicalize(root).map_err(at(root, "open store"))?;
        let meta = fs::metadata(&root).map_err(at(&root, "open store"))?;
        if !meta.is_dir() {
            return Err(Error::new(ErrorKind::NotADirectory, "open store").about(root.as_os_str().as_bytes()));
        }
        let refuse = |why: String| {
            Error::new(ErrorKind::NotPermitted, "open store").about(root.as_os_str().as_bytes()).because(why)
        };
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(refuse(format!("it belongs to user {}", meta.uid())));
        }
        if meta.permissions().mode() & 0o077 != 0 {
            let mode = meta.permissions().mode() & 0o7777;
            return Err(refuse(format!("mode {mode:04o} lets other users in: it must be 0700")));
        }
        let store = Self { root };
        for dir in ["containers", "images", "layers", "scratch", "trash"].map(|name| store.root.join(name)) {
            make_private(&dir)?;
        }
        Ok(store)
    }

    /// The root directory, without links.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a container; without a name it gets a fresh one. Directories as layers become absolute paths without
    /// links. Layers of the store have to be held by the caller until this returns.
    ///
    /// # Errors
    /// `AlreadyExists` for a name in use; a layer that is missing or no directory, by its path; what the host
    /// says of the upper.
    pub fn create(&self, name: Option<ContainerName>, config: ContainerConfig) -> Result<Record> {
        self.create_under(&self.lock_shared()?, name, config, None)
    }

    /// As [`Store::create`], where what `config` names was found under the same lock; of a fork with the time when what it
    /// starts from began.
    fn create_under(
        &self,
        _lock: &RootLock,
        name: Option<ContainerName>,
        mut config: ContainerConfig,
        began: Option<SystemTime>,
    ) -> Result<Record> {
        for layer in &mut config.layers {
            layer.path = match layer.source {
                LayerSource::Directory => check_layer(&layer.path)?,
                LayerSource::Layer(ref key) => layers::tree(&self.root, key),
                LayerSource::Scratch(ref id) => id.dir(&self.root).join("upper"),
            };
        }
        if config.base().iter().any(|layer| layer.scratch().is_some()) {
            return Err(Error::new(ErrorKind::InvalidInput, "create container")
                .because("frozen scratches are above all other layers"));
        }
        if let Some(name) = name.as_ref().filter(|name| self.dir(name).exists()) {
            return Err(taken(name));
        }
        let chosen = name.is_some();
        let name = name.unwrap_or_else(ContainerName::random);
        let building = Building::new(&self.trash())?;
        let lock = building.0.join("lock");
        let made = File::create_new(&lock).and_then(|lock| lock.metadata()?.modified());
        let made = made.map_err(at(&lock, "create container"))?;
        let fresh = Fresh::new(self, &config)?;
        let mut record = Record {
            dir: self.dir(&name),
            name,
            created: now(),
            began: began.unwrap_or(made),
            config,
            scratch: Some(fresh.id.clone()),
            home: fresh.dir.clone(),
        };
        // Merging the scratch with the layers proves them, before the name exists.
        open_parts(&record, false)?;
        make_private(&building.0.join("root"))?;
        file::write_new(&building.0.join(config::FILE), &record.text(&fresh.id)?)?;
        sync_dir(&building.0)?;
        sync_dir(&self.scratches())?;
        loop {
            match fs::rename(&building.0, &record.dir) {
                Ok(()) => {
                    fresh.keep();
                    sync_dir(&self.containers())?;
                    return Ok(record);
                }
                // A directory only replaces an empty one, and no container is empty.
                Err(e) if matches!(e.raw_os_error(), Some(17 | 39)) => {
                    if chosen {
                        return Err(taken(&record.name));
                    }
                    record.name = ContainerName::random();
                    record.dir = self.dir(&record.name);
                }
                Err(e) => return Err(at(&record.dir, "create container")(e)),
            }
        }
    }

    /// All containers, by name; those whose configuration cannot be read too.
    ///
    /// # Errors
    /// When the store itself cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let dir = self.containers();
        let mut out = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir, "list containers"))? {
            let entry = entry.map_err(at(&dir, "list containers"))?;
            let Some(Ok(name)) = entry.file_name().to_str().map(ContainerName::new) else { continue };
            let record = Record::read(&self.root, &name, &entry.path());
            if record.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound && !entry.path().exists()) {
                continue;
            }
            let in_use = self.is_in_use(&name).unwrap_or(false);
            out.push(Listed { name, record, in_use });
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// What is known of one container.
    ///
    /// # Errors
    /// `NotFound` for an unknown name; `Corrupt`, naming the file, when its configuration cannot be read.
    pub fn record(&self, name: &ContainerName) -> Result<Record> {
        Record::read(&self.root, name, &self.dir(name))
    }

    /// True when another process uses the container, or the kernel has it mounted where this process sees it.
    ///
    /// # Errors
    /// `NotFound` for an unknown name.
    pub fn is_in_use(&self, name: &ContainerName) -> Result<bool> {
        lease::is_in_use(&self.root, name, &self.dir(name))
    }

    /// Where the kernel has the container mounted, as far as this process sees.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn mounted_at(&self, name: &ContainerName) -> Result<Option<PathBuf>> {
        lease::mount_of(&self.root, name, &self.dir(name))
    }

    /// Takes a container for this process without opening it.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while another process uses it or it is mounted.
    pub fn lease(&self, name: &ContainerName) -> Result<Lease> {
        Lease::take(&self.root, name, &self.dir(name))
    }

    /// Takes and opens a container. When it is volatile and was written to, [`Opened::close`] it.
    ///
    /// # Errors
    /// As [`Store::lease`]; what its layers and its upper say.
    pub fn open_container(&self, name: &ContainerName) -> Result<Opened> {
        let lease = self.lease(name)?;
        let container = open_with(lease.record(), true)?;
        Ok(Opened { container, lease })
    }

    /// Removes a container and everything it changed. What snapshots froze goes with it, unless another container has
    /// it too.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while it is in use or something is mounted in it; what the host says. Once it has
    /// begun, the name is free and what is left goes with the next removal.
    pub fn remove(&self, name: &ContainerName) -> Result<()> {
        let dir = self.dir(name);
        let lock = Lease::take_to_remove(&self.root, name, &dir)?;
        // A damaged one does not say what it has: gc finds that.
        let record = self.record(name).ok();
        // Nothing is made for it: on a full disk this is what helps.
        let grave = self.trash().join(Building::name());
        fs::rename(&dir, &grave).map_err(at(&dir, "remove container"))?;
        sync_dir(&self.containers())?;
        drop(lock);
        if let Some(record) = record {
            if let Some(id) = &record.scratch {
                self.bury(id)?;
            }
            self.bury_unreferenced(&record.config)?;
        }
        discard(&grave)?;
        self.each_left_over(|path, is_dir| match is_dir {
            true => discard(path),
            false => fs::remove_file(path).map_err(at(path, "remove")),
        })
    }

    fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn dir(&self, name: &ContainerName) -> PathBuf {
        self.containers().join(name)
    }
}

/// Opens the container that `lease` holds, for reading: a volatile one gets no mark.
///
/// # Errors
/// What its layers and its upper say.
pub fn open_leased(lease: &Lease) -> Result<Container> {
    open_with(lease.record(), false)
}

/// What a container started from, without what it changed and what snapshots froze.
///
/// # Errors
/// What the layers say.
pub fn base(record: &Record, container: &Container) -> Result<Container> {
    let layers = container.view().layers().iter().skip(record.config.newer());
    let image = layers.fold(Image::builder(), |image, layer| image.layer(layer.clone())).build()?;
    match image.layers().is_empty() {
        true => review::nothing()?.view(),
        false => image.view(),
    }
}

fn open_with(record: &Record, volatile: bool) -> Result<Container> {
    must_be_dir(&record.dir.join("root"))?;
    open_parts(record, volatile)
}

/// Opens what a container is made of, wherever its configuration is.
fn open_parts(record: &Record, volatile: bool) -> Result<Container> {
    must_be_dir(&record.home)?;
    for dir in [record.upper(), record.work(), record.works()] {
        must_be_dir(&dir)?;
    }
    Container::builder(Image::from_config(&record.config)?)
        .upper_and_work(record.upper(), record.work())
        .scratch_options(scratch::options(record, volatile))
        .durability(record.config.durability)
        .untrusted(record.config.untrusted)
        .open()
}

impl Image {
    /// The image of a stored container.
    fn from_config(config: &ContainerConfig) -> Result<Self> {
        let image = Self::from_layers(&config.layers, config)?;
        if config.newer() > 0 && config.base().is_empty() {
            let layers = [image.layers(), review::nothing()?.layers()].concat();
            return layers.into_iter().fold(Self::builder(), crate::ImageBuilder::layer).build();
        }
        Ok(image)
    }

    /// Some of the layers of a stored container.
    fn from_layers(layers: &[LayerConfig], config: &ContainerConfig) -> Result<Self> {
        let mut image = Self::builder();
        for layer in layers {
            match layer.source {
                LayerSource::Directory => drop(check_layer(&layer.path)?),
                // Ours: never a link.
                LayerSource::Layer(_) | LayerSource::Scratch(_) => must_be_dir(&layer.path)?,
            }
            image = image.dir_with(&layer.path, &layer.options(config.namespace))?;
        }
        image.build()
    }
}

/// The time in whole seconds: what records keep of it.
fn now() -> SystemTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

/// The error for a name that a container has already.
fn taken(name: &ContainerName) -> Error {
    Error::new(ErrorKind::AlreadyExists, "create container")
        .about(name.as_str())
        .because("a container of this name exists")
}

/// The absolute path of a layer that must be a directory.
fn check_layer(path: &Path) -> Result<PathBuf> {
    let absolute = fs::canonicalize(path).map_err(at(path, "open layer"))?;
    if !absolute.is_dir() {
        return Err(Error::new(ErrorKind::NotADirectory, "open layer").about(path.as_os_str().as_bytes()));
    }
    Ok(absolute)
}

fn at<'a>(path: &'a Path, operation: &'static str) -> impl Fn(io::Error) -> Error + 'a {
    move |e| Error::io(e, operation).about(path.as_os_str().as_bytes())
}

fn make_private(dir: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => must_be_dir(dir),
        made => made.map_err(at(dir, "create")),
    }
}

/// Refuses a link where a directory of ours has to be: it would lead outside.
fn must_be_dir(dir: &Path) -> Result<()> {
    let refuse = |kind, why| Error::new(kind, "open").about(dir.as_os_str().as_bytes()).because(why);
    match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(refuse(ErrorKind::NotADirectory, "something else stands where a directory has to be")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(refuse(ErrorKind::Corrupt, "the directory is missing"))
        }
        Err(e) => Err(at(dir, "open")(e)),
    }
}

fn make_dir_all(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).create(parent).map_err(at(parent, "create"))?;
    }
    make_private(dir)
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir, "sync"))
}
