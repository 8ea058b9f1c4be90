//! [`Descriptor`], [`Index`], [`Manifest`]: what leads from a name to the blobs of an image (OCI image-spec 1.1;
//! Docker's manifests and lists have the same members).

use super::json::{Document, Node};
use super::media::{self, Role};
use super::platform::Platform;
use crate::{Digest, Error, ErrorKind, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Names a blob, and says what it is and how large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it is to be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For which system it is, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// One of these bytes.
    #[must_use]
    pub fn of(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    fn read(node: &Node<'_>) -> Result<Self> {
        Ok(Self {
            media_type: node.need("mediaType")?.text()?.to_owned(),
            digest: node.need("digest")?.digest()?,
            size: node.need("size")?.number()?,
            urls: node.texts("urls")?,
            annotations: node.map_of("annotations")?,
            platform: node
                .member("platform")?
                .map(|platform| Platform::read(&platform))
                .transpose()?
                .flatten(),
            artifact_type: node.text_of("artifactType")?,
        })
    }

    /// What the media type stands for.
    #[must_use]
    pub fn role(&self) -> Role {
        media::role(&self.media_type)
    }

    /// It speaks of an image and is none: an attestation (BuildKit), with an unknown platform.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.platform.as_ref().is_some_and(Platform::is_unknown)
            || self
                .annotations
                .get("vnd.docker.reference.type")
                .is_some_and(|kind| kind == "attestation-manifest")
    }
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifests and further lists.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// Reads the index that `about` names.
    ///
    /// # Errors
    /// `Corrupt` for what is no index, naming the member.
    pub fn parse(bytes: &[u8], about: &str) -> Result<Self> {
        let document = Document::parse(bytes, "read index", about)?;
        let root = document.root();
        check_version(&document)?;
        // Two readings of one document are two images under one digest (CVE-2021-41190).
        for other in ["layers", "config"] {
            if root.member(other)?.is_some() {
                return Err(root.error(&format!("an index has no member \"{other}\"")));
            }
        }
        check_type(&root, Role::Index)?;
        let manifests =
            root.need("manifests")?.list()?.iter().map(Descriptor::read).collect::<Result<_>>()?;
        Ok(Self { manifests })
    }
}

/// The parts of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes by name.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the manifest that `about` names.
    ///
    /// # Errors
    /// `Corrupt` for what is no manifest, naming the member; `Unsupported` for one of the old form (schema 1) and
    /// for an artifact, which is no image.
    pub fn parse(bytes: &[u8], about: &str) -> Result<Self> {
        let document = Document::parse(bytes, "read manifest", about)?;
        let root = document.root();
        check_version(&document)?;
        if root.member("manifests")?.is_some() {
            return Err(root.error("a manifest has no member \"manifests\""));
        }
        check_type(&root, Role::Manifest)?;
        let artifact = |kind: &str| {
            let kind = kind.escape_debug();
            document
                .error(ErrorKind::Unsupported, format!("it is an artifact of type \"{kind}\" and no image"))
        };
        let config = Descriptor::read(&root.need("config")?)?;
        if config.role() != Role::Config {
            return Err(artifact(&root.text_of("artifactType")?.unwrap_or(config.media_type)));
        }
        let layers = match root.member("layers")? {
            Some(layers) => layers.list()?.iter().map(read_layer).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        Ok(Self { config, layers, annotations: root.map_of("annotations")? })
    }

    /// The manifest as JSON, always the same for the same.
    ///
    /// # Errors
    /// None that is known; serialising could fail.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let Self { config, layers, annotations } = self;
        let written = Written { schema_version: 2, media_type: media::MANIFEST, config, layers, annotations };
        serde_json::to_vec(&written).map_err(|e| Error::io(e.into(), "write manifest"))
    }
}

fn read_layer(node: &Node<'_>) -> Result<Descriptor> {
    let layer = Descriptor::read(node)?;
    match layer.role() {
        Role::Layer { .. } => Ok(layer),
        _ => Err(node.error(&format!(
            "unknown media type \"{}\": layers are tar archives, plain or compressed with gzip or zstd",
            layer.media_type.escape_debug()
        ))),
    }
}

fn check_version(document: &Document) -> Result<()> {
    match document.root().member("schemaVersion")?.map(|version| version.number()).transpose()? {
        // OCI demands 2; lists written by hand leave it out.
        Some(2) | None => Ok(()),
        Some(1) => Err(document.error(
            ErrorKind::Unsupported,
            "it is of the old form (Docker schema 1), which is not read: convert it with skopeo copy --format oci",
        )),
        Some(other) => Err(document.error(ErrorKind::Unsupported, format!("unknown schemaVersion {other}"))),
    }
}

/// The type that a document gives itself, if it does.
fn check_type(root: &Node<'_>, wanted: Role) -> Result<()> {
    match root.text_of("mediaType")? {
        Some(own) if media::role(&own) != wanted => {
            Err(root.error(&format!("mediaType \"{}\" is not what led here", own.escape_debug())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config: &str, layer: &str, rest: &str) -> Result<Manifest> {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{EMPTY}","size":2}},
            "layers":[{{"mediaType":"{layer}","digest":"{EMPTY}","size":0}}]{rest}}}"#
        );
        Manifest::parse(text.as_bytes(), "sha256:x")
    }

    #[test]
    fn manifests_of_oci_and_docker_read_and_write_back() {
        for (config, layer) in [
            (media::CONFIG, media::LAYER_ZSTD),
            (
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
        ] {
            let read = manifest(config, layer, r#","annotations":{"a":"b"},"new":[1]"#).unwrap();
            assert_eq!(Manifest::parse(&read.to_json().unwrap(), "x").unwrap(), read);
        }
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let kind = |r: Result<Manifest>| r.unwrap_err().kind();
        let artifact =
            manifest("application/vnd.oci.empty.v1+json", media::LAYER, r#","artifactType":"text/sbom""#);
        assert!(artifact.as_ref().unwrap_err().to_string().contains("text/sbom"));
        assert_eq!(kind(artifact), ErrorKind::Unsupported);
        let unknown = manifest(media::CONFIG, "application/vnd.squash", "");
        assert!(
            unknown
                .unwrap_err()
                .to_string()
                .contains("layers[0]: unknown media type \"application/vnd.squash\"")
        );
        assert_eq!(kind(manifest(media::CONFIG, media::LAYER, r#","manifests":[]"#)), ErrorKind::Corrupt);
        let index = format!(r#","mediaType":"{}""#, media::INDEX);
        assert_eq!(kind(manifest(media::CONFIG, media::LAYER, &index)), ErrorKind::Corrupt);
        assert_eq!(kind(Manifest::parse(br#"{"schemaVersion":1}"#, "x")), ErrorKind::Unsupported);
    }
}
