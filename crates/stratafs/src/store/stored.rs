//! The format of `config.json`. Versioned, so that a later format is refused by name and not misread; anything
//! unknown in it is refused as well. Version 1 had the scratch in the container's directory, no snapshots and no
//! image; it is read and never written. Paths of what the store keeps follow from names, so that a store can be moved.

use super::config::{ContainerConfig, ImageRef, LayerConfig, LayerSource, Record, Snapshot};
use super::scratch::ScratchId;
use super::{LayerKey, SnapshotName, layers};
use crate::oci::Digest;
use crate::{Durability, Formats, Namespace, Untrusted};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version that is written.
const VERSION: u32 = 2;
/// The version whose scratch is in the container's directory.
const IN_PLACE: u32 = 1;

/// What a configuration says.
pub(super) struct Parts {
    pub(super) created: SystemTime,
    pub(super) began: SystemTime,
    pub(super) scratch: Option<ScratchId>,
    pub(super) config: ContainerConfig,
}

/// Reads a configuration of a store at `root`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &[u8], root: &Path) -> Result<Parts, String> {
    let not_one = |e: serde_json::Error| format!("not the configuration of a container: {e}");
    let Version { version } = serde_json::from_slice(text).map_err(not_one)?;
    match version {
        IN_PLACE => serde_json::from_slice::<StoredInPlace>(text).map_err(not_one)?.into_parts(),
        VERSION => serde_json::from_slice::<Stored>(text).map_err(not_one)?.into_parts(root),
        other => Err(format!("format version {other}, this program reads {IN_PLACE} and {VERSION}")),
    }
}

/// Writes one, of a container whose changes go to `scratch`.
pub(super) fn text(record: &Record, scratch: &ScratchId) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&Stored::from_record(record, scratch))?;
    text.push(b'\n');
    Ok(text)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredInPlace {
    #[serde(rename = "version")]
    _version: u32,
    created: u64,
    durability: StoredDurability,
    clear_setid: bool,
    drop_capabilities: bool,
    refuse_devices: bool,
    namespace: StoredNamespace,
    layers: Vec<StoredDirectory>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Seconds since 1970 UTC.
    created: u64,
    /// When the state that it goes on from began, where that is known better than by whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<StoredTime>,
    durability: StoredDurability,
    clear_setid: bool,
    drop_capabilities: bool,
    refuse_devices: bool,
    namespace: StoredNamespace,
    /// Which scratch takes the changes.
    scratch: ScratchId,
    /// Scratches that snapshots froze, topmost first.
    frozen: Vec<StoredFrozen>,
    /// What is below those, topmost first.
    layers: Vec<StoredLayer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<StoredSnapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<StoredImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<serde_json::Value>,
}

/// Since 1970 UTC.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTime {
    seconds: u64,
    nanoseconds: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSnapshot {
    name: String,
    /// Seconds since 1970 UTC.
    created: u64,
    frozen: Vec<StoredFrozen>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFrozen {
    scratch: ScratchId,
    stashed: bool,
    keeps_kernel_away: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredImage {
    name: String,
    id: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredLayer {
    Directory(StoredDirectory),
    Layer(StoredKept),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredDirectory {
    path: StoredPath,
    overlay: bool,
    fuse_overlayfs: bool,
    aufs: bool,
}

/// A layer of the store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKept {
    key: LayerKey,
    namespace: StoredNamespace,
    stashed: bool,
    says_root: bool,
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

impl From<Durability> for StoredDurability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Volatile => Self::Volatile,
            Durability::Ordered => Self::Ordered,
            Durability::Strict => Self::Strict,
        }
    }
}

impl From<StoredDurability> for Durability {
    fn from(stored: StoredDurability) -> Self {
        match stored {
            StoredDurability::Volatile => Self::Volatile,
            StoredDurability::Ordered => Self::Ordered,
            StoredDurability::Strict => Self::Strict,
        }
    }
}

impl From<Namespace> for StoredNamespace {
    fn from(namespace: Namespace) -> Self {
        match namespace {
            Namespace::Trusted => Self::Trusted,
            Namespace::User => Self::User,
        }
    }
}

impl From<StoredNamespace> for Namespace {
    fn from(stored: StoredNamespace) -> Self {
        match stored {
            StoredNamespace::Trusted => Self::Trusted,
            StoredNamespace::User => Self::User,
        }
    }
}

impl From<StoredDirectory> for LayerConfig {
    fn from(stored: StoredDirectory) -> Self {
        let StoredDirectory { path, overlay, fuse_overlayfs, aufs } = stored;
        Self::dir(path, Formats { overlay, fuse_overlayfs, aufs })
    }
}

impl StoredFrozen {
    fn of(layers: &[LayerConfig]) -> Vec<Self> {
        let frozen = |layer: &LayerConfig| {
            let LayerConfig { stashed, keeps_kernel_away, .. } = *layer;
            Some(Self { scratch: layer.scratch()?.clone(), stashed, keeps_kernel_away })
        };
        layers.iter().filter_map(frozen).collect()
    }

    fn into_layer(self, root: &Path) -> LayerConfig {
        let layer = self.scratch.as_layer(root, self.stashed);
        LayerConfig { keeps_kernel_away: self.keeps_kernel_away, ..layer }
    }
}

impl StoredLayer {
    fn of(layer: &LayerConfig) -> Option<Self> {
        match &layer.source {
            LayerSource::Directory => Some(Self::Directory(StoredDirectory {
                path: layer.path.as_path().into(),
                overlay: layer.formats.overlay,
                fuse_overlayfs: layer.formats.fuse_overlayfs,
                aufs: layer.formats.aufs,
            })),
            LayerSource::Layer(key) => Some(Self::Layer(StoredKept {
                key: *key,
                namespace: layer.namespace.unwrap_or_default().into(),
                stashed: layer.stashed,
                says_root: layer.says_root,
            })),
            LayerSource::Scratch(_) => None,
        }
    }

    fn into_layer(self, root: &Path) -> LayerConfig {
        match self {
            Self::Directory(stored) => stored.into(),
            Self::Layer(kept) => LayerConfig {
                source: LayerSource::Layer(kept.key),
                stashed: kept.stashed,
                namespace: Some(kept.namespace.into()),
                says_root: kept.says_root,
                ..LayerConfig::dir(layers::tree(root, &kept.key), Formats::default())
            },
        }
    }
}

impl StoredInPlace {
    fn into_parts(self) -> Result<Parts, String> {
        let config = ContainerConfig {
            layers: self.layers.into_iter().map(LayerConfig::from).collect(),
            durability: self.durability.into(),
            untrusted: Untrusted {
                clear_setid: self.clear_setid,
                drop_capabilities: self.drop_capabilities,
                refuse_devices: self.refuse_devices,
            },
            namespace: self.namespace.into(),
            image: None,
            runtime: None,
            snapshots: Vec::new(),
        };
        let created = time(self.created, 0)?;
        Ok(Parts { created, began: created, scratch: None, config })
    }
}

impl Stored {
    fn from_record(record: &Record, scratch: &ScratchId) -> Self {
        let config = &record.config;
        let ContainerConfig { durability, untrusted, namespace, image, runtime, snapshots, .. } = config;
        Self {
            version: VERSION,
            created: seconds(record.created),
            began: Some(StoredTime {
                seconds: seconds(record.began),
                nanoseconds: record.began.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos(),
            }),
            durability: (*durability).into(),
            clear_setid: untrusted.clear_setid,
            drop_capabilities: untrusted.drop_capabilities,
            refuse_devices: untrusted.refuse_devices,
            namespace: (*namespace).into(),
            scratch: scratch.clone(),
            frozen: StoredFrozen::of(config.frozen()),
            layers: config.base().iter().filter_map(StoredLayer::of).collect(),
            snapshots: snapshots
                .iter()
                .map(|snapshot| StoredSnapshot {
                    name: snapshot.name.to_string(),
                    created: seconds(snapshot.created),
                    frozen: StoredFrozen::of(&snapshot.frozen),
                })
                .collect(),
            image: image.as_ref().map(|image| StoredImage { name: image.name.clone(), id: image.id }),
            runtime: runtime.clone(),
        }
    }

    fn into_parts(self, root: &Path) -> Result<Parts, String> {
        let frozen = |stored: Vec<StoredFrozen>| stored.into_iter().map(|frozen| frozen.into_layer(root));
        let mut layers: Vec<_> = frozen(self.frozen).collect();
        layers.extend(self.layers.into_iter().map(|layer| layer.into_layer(root)));
        let snapshot = |stored: StoredSnapshot| {
            Ok(Snapshot {
                name: SnapshotName::new(&stored.name).map_err(|e| e.to_string())?,
                created: time(stored.created, 0)?,
                frozen: frozen(stored.frozen).collect(),
            })
        };
        let config = ContainerConfig {
            layers,
            durability: self.durability.into(),
            untrusted: Untrusted {
                clear_setid: self.clear_setid,
                drop_capabilities: self.drop_capabilities,
                refuse_devices: self.refuse_devices,
            },
            namespace: self.namespace.into(),
            image: self.image.map(|image| ImageRef { name: image.name, id: image.id }),
            runtime: self.runtime,
            snapshots: self.snapshots.into_iter().map(snapshot).collect::<Result<_, String>>()?,
        };
        let created = time(self.created, 0)?;
        let began = match self.began {
            Some(StoredTime { seconds, nanoseconds }) => time(seconds, nanoseconds)?,
            // A fork is younger than the snapshots that it has.
            None => config.snapshots.iter().map(|snapshot| snapshot.created).fold(created, SystemTime::min),
        };
        Ok(Parts { created, began, scratch: Some(self.scratch), config })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64, nanoseconds: u32) -> Result<SystemTime, String> {
    let since = (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds));
    let time = since.and_then(|since| UNIX_EPOCH.checked_add(since));
    time.ok_or_else(|| "a time of creation is out of range".into())
}
