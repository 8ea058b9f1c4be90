//! Containers by name, under one root directory that only its owner can enter (mode 0700):
//!
//! ```text
//! ROOT/containers/NAME/config.json    what it is made of
//!                      lock           held while a process uses it
//!                      upper, work    its scratch
//!                      root           where a run mounts it, in a mount namespace of its own
//!                      works          work directories of a run that mounts more than one overlay
//!                      boot           of a volatile one in use: since which start of the host
//! ROOT/trash/                         on the way out
//! ```
//! Invariants: a container is complete from the moment its name exists (it is built in the trash and renamed),
//! and gone from the moment its removal begins; it has one user at a time; nothing outside the root is ever
//! written, followed to or removed.

mod config;
mod disk;
mod file;
mod layers;
mod lease;
mod name;
mod remove;
mod settle;

pub use config::{ContainerConfig, LayerConfig, Record};
pub use layers::{LayerFacts, LayerKey, LayerRecord, PinnedLayer, StagedLayer};
pub use lease::{Lease, mount_source};
pub use name::{CONTAINER_NAME_MAX, ContainerName};

use crate::{Container, Durability, Error, ErrorKind, Image, LayerOptions, Result, ScratchOptions};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The containers under one root directory.
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

    /// Makes a container; without a name it gets a fresh one. Its layers become absolute paths without links.
    ///
    /// # Errors
    /// `AlreadyExists` for a name in use; a layer that is missing or no directory, by its path; what the host
    /// says of the upper.
    pub fn create(&self, name: Option<ContainerName>, mut config: ContainerConfig) -> Result<Record> {
        for layer in &mut config.layers {
            layer.path = check_layer(&layer.path)?;
        }
        let created = now();
        let chosen = name.is_some();
        let mut name = name.unwrap_or_else(ContainerName::random);
        let building = Building::new(&self.trash())?;
        self.build(&building.0, &config)?;
        loop {
            let record = Record { name: name.clone(), dir: self.dir(&name), created, config: config.clone() };
            let _ = fs::remove_file(building.0.join("config.json"));
            record.write(&building.0)?;
            sync_dir(&building.0)?;
            match fs::rename(&building.0, &record.dir) {
                Ok(()) => {
                    sync_dir(&self.containers())?;
                    return Ok(record);
                }
                // A directory only replaces an empty one, and no container is empty.
                Err(e) if matches!(e.raw_os_error(), Some(17 | 39)) => {
                    if chosen {
                        return Err(Error::new(ErrorKind::AlreadyExists, "create container")
                            .about(name.as_str())
                            .because("a container of this name exists"));
                    }
                    name = ContainerName::random();
                }
                Err(e) => return Err(at(&record.dir, "create container")(e)),
            }
        }
    }

    /// Everything of a container but its configuration.
    fn build(&self, dir: &Path, config: &ContainerConfig) -> Result<()> {
        let container = Image::from_config(config)?;
        File::create_new(dir.join("lock")).map_err(at(dir, "create container"))?;
        for name in ["root", "works"] {
            make_private(&dir.join(name))?;
        }
        // Making the scratch and merging it with the image proves both, before the name exists.
        let options = ScratchOptions { namespace: Some(config.namespace), ..ScratchOptions::default() };
        Container::builder(container)
            .upper_and_work(dir.join("upper"), dir.join("work"))
            .scratch_options(options)
            .durability(config.durability)
            .untrusted(config.untrusted)
            .open()
            .map(drop)
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
            let record = Record::read(&name, &entry.path());
            if record.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound && !entry.path().exists()) {
                continue;
            }
            let in_use = lease::is_in_use(&name, &entry.path()).unwrap_or(false);
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
        Record::read(name, &self.dir(name))
    }

    /// True when another process uses the container, or the kernel has it mounted where this process sees it.
    ///
    /// # Errors
    /// `NotFound` for an unknown name.
    pub fn is_in_use(&self, name: &ContainerName) -> Result<bool> {
        lease::is_in_use(name, &self.dir(name))
    }

    /// Where the kernel has the container mounted, as far as this process sees.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn mounted_at(&self, name: &ContainerName) -> Result<Option<PathBuf>> {
        lease::mount_of(&self.dir(name))
    }

    /// Takes a container for this process without opening it.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while another process uses it or it is mounted.
    pub fn lease(&self, name: &ContainerName) -> Result<Lease> {
        Lease::take(name, &self.dir(name))
    }

    /// Takes and opens a container. When it is volatile and was written to, [`Opened::close`] it.
    ///
    /// # Errors
    /// As [`Store::lease`]; what its layers and its upper say.
    pub fn open_container(&self, name: &ContainerName) -> Result<Opened> {
        let lease = self.lease(name)?;
        let volatile = lease.record().config.durability == Durability::Volatile;
        let container = open_with(lease.record(), volatile)?;
        Ok(Opened { container, lease })
    }

    /// Removes a container and everything it changed.
    ///
    /// # Errors
    /// `NotFound`; `Busy` while it is in use or something is mounted in it; what the host says. Once it has
    /// begun, the name is free and what is left goes with the next removal.
    pub fn remove(&self, name: &ContainerName) -> Result<()> {
        let dir = self.dir(name);
        let lock = Lease::take_to_remove(name, &dir)?;
        // Nothing is made for it: on a full disk this is what helps.
        let grave = self.trash().join(ContainerName::random());
        fs::rename(&dir, &grave).map_err(at(&dir, "remove container"))?;
        sync_dir(&self.containers())?;
        drop(lock);
        discard(&grave)?;
        self.sweep()
    }

    /// Empties the trash: what was cut off while it was made or removed.
    fn sweep(&self) -> Result<()> {
        let trash = self.trash();
        for entry in fs::read_dir(&trash).map_err(at(&trash, "read trash"))? {
            let path = entry.map_err(at(&trash, "read trash"))?.path();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::open(&path, flags, Mode::empty()).map(File::from) {
                // Its maker holds a lock on it while it lives.
                Ok(dir) if dir.try_lock().is_ok() => discard(&path)?,
                Ok(_) | Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => fs::remove_file(&path).map_err(at(&path, "remove"))?,
                Err(e) => return Err(at(&path, "empty trash")(e.into())),
            }
        }
        Ok(())
    }

    fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    fn trash(&self) -> PathBuf {
        self.root.join("trash")
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

fn open_with(record: &Record, volatile: bool) -> Result<Container> {
    for name in ["upper", "work", "root", "works"] {
        must_be_dir(&record.dir.join(name))?;
    }
    let namespace = Some(record.config.namespace);
    let options = ScratchOptions { namespace, volatile, ..ScratchOptions::default() };
    Container::builder(Image::from_config(&record.config)?)
        .upper_and_work(record.upper(), record.work())
        .scratch_options(options)
        .durability(record.config.durability)
        .untrusted(record.config.untrusted)
        .open()
}

impl Image {
    /// The image of a stored container.
    fn from_config(config: &ContainerConfig) -> Result<Self> {
        let mut image = Self::builder();
        for layer in &config.layers {
            check_layer(&layer.path)?;
            // A kernel mount reads marks of layers under the same prefix as those of the upper.
            let (formats, namespace) = (layer.formats, config.namespace);
            let options = LayerOptions { formats, namespace, ..LayerOptions::default() };
            image = image.dir_with(&layer.path, &options)?;
        }
        image.build()
    }
}

/// The time in whole seconds: what records keep of it.
fn now() -> SystemTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + std::time::Duration::from_secs(seconds)
}

/// A directory in the trash that belongs to this process while it lives: nobody sweeps it away.
#[derive(Debug)]
struct Building(PathBuf, File);

impl Building {
    fn new(trash: &Path) -> Result<Self> {
        loop {
            let path = trash.join(ContainerName::random());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    // Until it is locked, who empties the trash may take it: then another one.
                    let dir = match File::open(&path) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        dir => dir.map_err(at(&path, "open"))?,
                    };
                    dir.lock().map_err(at(&path, "lock"))?;
                    let held = dir.metadata().map_err(at(&path, "open"))?;
                    match fs::symlink_metadata(&path) {
                        Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {
                            return Ok(Self(path, dir));
                        }
                        _ => continue,
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(at(&path, "create")(e)),
            }
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // Gone already after a success; after a failure the next sweep tries again.
        let _ = discard(&self.0);
        let _ = self.1.unlock();
    }
}

fn discard(dir: &Path) -> Result<()> {
    remove::empty(dir)?;
    match fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(dir, "remove")(e)),
        _ => Ok(()),
    }
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
