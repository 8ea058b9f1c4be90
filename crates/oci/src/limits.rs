//! [`Limits`]: how much of everything an archive or an image may ask for. What is beyond is refused by name.

/// Bounds for what is read. The defaults let every image pass that is known to be real.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that one layer may unpack to, as a stream.
    pub layer_bytes: u64,
    /// How many times larger than the compressed blob a layer may become, once it is past [`Limits::ratio_from`].
    pub ratio: u64,
    /// Unpacked bytes from which on the ratio counts; small archives of zeros are harmless.
    pub ratio_from: u64,
    /// Entries in one layer.
    pub entries: u64,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a path or link target.
    pub path: usize,
    /// Bytes of the extended header of one entry: all its attributes, path and target.
    pub header: usize,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Extents of one sparse file.
    pub extents: usize,
    /// Bytes of a manifest, index or configuration.
    pub json: u64,
    /// Layers of an image.
    pub layers: usize,
    /// Manifests that one import looks at; indexes may hold indexes.
    pub manifests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 256 << 30,
            ratio: 2_000,
            ratio_from: 1 << 30,
            entries: 10_000_000,
            depth: 4_096,
            path: 1 << 16,
            header: 4 << 20,
            xattrs: 4_096,
            extents: 1 << 20,
            json: 16 << 20,
            layers: stratafs_core::view::LAYERS_MAX,
            manifests: 1_000,
        }
    }
}
