//! What a media type stands for: those of the OCI image-spec 1.1 and Docker's own for the same things. The
//! compression of a layer is not taken from here: the first bytes of a blob say it, and tools that repack a blob
//! have been known to keep its type.

/// An index (image-spec, media-types).
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer, not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer, compressed with gzip.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer, compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// What a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A list of manifests and of further lists.
    Index,
    /// One image.
    Manifest,
    /// A manifest of the old form, with the configuration in signed pieces.
    Schema1,
    /// The configuration of an image.
    Config,
    /// A layer archive.
    Layer {
        /// It may lie elsewhere than the image: its licence did not allow to pass it on.
        foreign: bool,
    },
    /// Anything else.
    Other,
}

/// What a media type stands for.
#[must_use]
pub fn role(media_type: &str) -> Role {
    match media_type {
        INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => Role::Index,
        MANIFEST | "application/vnd.docker.distribution.manifest.v2+json" => Role::Manifest,
        "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Role::Schema1,
        CONFIG | "application/vnd.docker.container.image.v1+json" => Role::Config,
        LAYER
        | LAYER_GZIP
        | LAYER_ZSTD
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Role::Layer { foreign: false },
        "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Role::Layer { foreign: true },
        _ => Role::Other,
    }
}
