//! Archives written by hand, byte by byte, so that they can say what no tool would write.

/// An archive.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// Adds an entry of a type (`0` file, `5` directory, `2` symbolic link, `1` hard link).
    pub fn entry(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name);
        for (at, text) in [
            (100, format!("{:07o}", if kind == b'5' { 0o755 } else { 0o644 })),
            (108, "0000000".to_owned()),
            (116, "0000000".to_owned()),
            (124, format!("{:011o}", content.len())),
            (136, format!("{:011o}", 1_000_000_000)),
        ] {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link);
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(b'0', name.as_bytes(), b"", content)
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", b"")
    }

    /// The bytes, with the end.
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// An archive as `docker save` writes it: one image of one layer.
pub fn docker(name: &str, config: &serde_json::Value, layer: &[u8]) -> Vec<u8> {
    let (json, tar) = (format!("{}.json", "a".repeat(64)), format!("{}/layer.tar", "b".repeat(64)));
    let manifest = serde_json::json!([{"Config": json, "RepoTags": [name], "Layers": [tar]}]);
    Tar::default()
        .file("manifest.json", manifest.to_string().as_bytes())
        .file(&json, config.to_string().as_bytes())
        .file(&tar, layer)
        .bytes()
}
