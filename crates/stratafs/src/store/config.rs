//! A container's `config.json`: what it is made of. Written once, when the container is made; versioned, so
//! that a later format is refused by name and not misread; anything unknown in it is refused as well.

use super::ContainerName;
use crate::{Durability, Error, ErrorKind, Formats, Namespace, Result, Untrusted};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The version that is written; the only one that is read.
const VERSION: u32 = 1;
/// The largest file that is read: 500 layers with the longest paths fit.
const SIZE_MAX: u64 = 16 << 20;

/// What a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// The layers, topmost first.
    pub layers: Vec<LayerConfig>,
    /// What a crash may cost.
    pub durability: Durability,
    /// What is done with setuid files, capabilities and devices of the layers.
    pub untrusted: Untrusted,
    /// Under which prefix the upper keeps overlayfs's attributes.
    pub namespace: Namespace,
}

impl ContainerConfig {
    /// A container over these directories, topmost first, with defaults that fit this process: without
    /// privilege the upper uses overlayfs's unprivileged form.
    pub fn new(layers: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let layer = |path: PathBuf| LayerConfig { path, formats: Formats::default() };
        Self {
            layers: layers.into_iter().map(|path| layer(path.into())).collect(),
            durability: Durability::Ordered,
            untrusted: Untrusted::TRUST,
            namespace: if crate::host::has_sys_admin() { Namespace::Trusted } else { Namespace::User },
        }
    }
}

/// One layer of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerConfig {
    /// The directory; stored as an absolute path without links.
    pub path: PathBuf,
    /// Which whiteouts are honoured in it.
    pub formats: Formats,
}

/// What the store knows of one container.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub name: ContainerName,
    /// Where it is: `config.json`, `upper`, `work`.
    pub dir: PathBuf,
    /// When it was made.
    pub created: SystemTime,
    /// What it is made of.
    pub config: ContainerConfig,
}

impl Record {
    /// Where its changes are.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// The work directory of its upper.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Reads the record of the container at `dir`.
    pub(super) fn read(name: &ContainerName, dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let about = |e: Error| e.about(path.as_os_str().as_bytes());
        let io = |e: std::io::Error| about(Error::io(e, "read container"));
        // Never a link, and a fifo planted there must not block.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) if !dir.exists() => return Err(super::lease::unknown(name)),
            Err(e) => return Err(io(e.into())),
        };
        let corrupt = |why: String| about(Error::new(ErrorKind::Corrupt, "read container").because(why));
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(corrupt("not a regular file".into()));
        }
        let mut text = Vec::new();
        file.take(SIZE_MAX + 1).read_to_end(&mut text).map_err(io)?;
        if text.len() as u64 > SIZE_MAX {
            return Err(corrupt(format!("larger than {SIZE_MAX} bytes")));
        }
        let Version { version } = serde_json::from_slice(&text)
            .map_err(|e| corrupt(format!("not the configuration of a container: {e}")))?;
        if version != VERSION {
            return Err(corrupt(format!("format version {version}, this program reads {VERSION}")));
        }
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|e| corrupt(format!("not the configuration of a container: {e}")))?;
        let created = SystemTime::UNIX_EPOCH
            .checked_add(std::time::Duration::from_secs(stored.created))
            .ok_or_else(|| corrupt("the time of creation is out of range".into()))?;
        Ok(Self { name: name.clone(), dir: dir.to_owned(), created, config: stored.into_config() })
    }

    /// Writes the record into its directory, durably. Only for directories that no one else can see yet.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join("config.json");
        let io = |e: std::io::Error| Error::io(e, "write container").about(path.as_os_str().as_bytes());
        let mut text = serde_json::to_vec_pretty(&Stored::from_record(self)).map_err(|e| io(e.into()))?;
        text.push(b'\n');
        let mut file = File::create_new(&path).map_err(io)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io)
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Seconds since 1970 UTC.
    created: u64,
    durability: StoredDurability,
    clear_setid: bool,
    drop_capabilities: bool,
    refuse_devices: bool,
    namespace: StoredNamespace,
    layers: Vec<StoredLayer>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredDurability {
    Volatile,
    Ordered,
    Strict,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredNamespace {
    Trusted,
    User,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLayer {
    path: StoredPath,
    overlay: bool,
    fuse_overlayfs: bool,
    aufs: bool,
}

/// A path: text where it is UTF-8, else its bytes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&Path> for StoredPath {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
    }
}

impl From<StoredPath> for PathBuf {
    fn from(path: StoredPath) -> Self {
        match path {
            StoredPath::Text(text) => text.into(),
            StoredPath::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

impl Stored {
    fn from_record(record: &Record) -> Self {
        let ContainerConfig { layers, durability, untrusted, namespace } = &record.config;
        let since = record.created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            version: VERSION,
            created: since.as_secs(),
            durability: match durability {
                Durability::Volatile => StoredDurability::Volatile,
                Durability::Ordered => StoredDurability::Ordered,
                Durability::Strict => StoredDurability::Strict,
            },
            clear_setid: untrusted.clear_setid,
            drop_capabilities: untrusted.drop_capabilities,
            refuse_devices: untrusted.refuse_devices,
            namespace: match namespace {
                Namespace::Trusted => StoredNamespace::Trusted,
                Namespace::User => StoredNamespace::User,
            },
            layers: layers
                .iter()
                .map(|layer| StoredLayer {
                    path: layer.path.as_path().into(),
                    overlay: layer.formats.overlay,
                    fuse_overlayfs: layer.formats.fuse_overlayfs,
                    aufs: layer.formats.aufs,
                })
                .collect(),
        }
    }

    fn into_config(self) -> ContainerConfig {
        ContainerConfig {
            layers: self
                .layers
                .into_iter()
                .map(|layer| LayerConfig {
                    path: layer.path.into(),
                    formats: Formats {
                        overlay: layer.overlay,
                        fuse_overlayfs: layer.fuse_overlayfs,
                        aufs: layer.aufs,
                    },
                })
                .collect(),
            durability: match self.durability {
                StoredDurability::Volatile => Durability::Volatile,
                StoredDurability::Ordered => Durability::Ordered,
                StoredDurability::Strict => Durability::Strict,
            },
            untrusted: Untrusted {
                clear_setid: self.clear_setid,
                drop_capabilities: self.drop_capabilities,
                refuse_devices: self.refuse_devices,
            },
            namespace: match self.namespace {
                StoredNamespace::Trusted => Namespace::Trusted,
                StoredNamespace::User => Namespace::User,
            },
        }
    }
}
