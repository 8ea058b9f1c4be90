//! What an archive is: images, or a layer. Decided by the names in it, in their order: the first one that no image has
//! at its top makes it a layer, so that a layer is not read to its end for this.

use super::SourceOptions;
use super::place::{Part, unnamed};
use crate::compress::{self, Compression};
use crate::tar::{BLOCK, EntryKind, Reader};
use crate::{Error, ErrorKind, Limits, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Members that an archive of images may have.
const MEMBERS_MAX: usize = 100_000;
/// Bytes of a member's name: digests are far shorter, and all names are kept.
const NAME_MAX: usize = 512;
/// Links in a row.
const LINKS_MAX: usize = 16;
/// Names of which only one may be there.
const DOCUMENTS: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];

/// The members of an archive of images.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    members: HashMap<String, What>,
}

#[derive(Debug)]
enum What {
    File { at: u64, len: u64 },
    Link { target: String },
    Other(&'static str),
}

impl Archive {
    /// Something of this name is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Opens a member; links lead to other members only.
    pub(super) fn open(&self, name: &str) -> Result<Option<Part>> {
        let refuse = |why: &str| Error::new(ErrorKind::Corrupt, "open image").about(name).because(why);
        let mut at = clean(name.as_bytes());
        for _ in 0..LINKS_MAX {
            match at.as_deref().and_then(|name| self.members.get(name)) {
                None => return Ok(None),
                Some(What::File { at, len }) => {
                    return Ok(Some(Part::new(Arc::clone(&self.file), *at, *len)));
                }
                Some(What::Other(what)) => {
                    return Err(refuse(&format!("{what} stands where a regular file has to be")));
                }
                Some(What::Link { target }) => at = Some(target.clone()),
            }
        }
        Err(refuse("too many links in a row"))
    }
}

/// The members of the archive in `file`, decompressed beside it first where it must be; `None` for a layer.
pub(super) fn look(file: &Arc<File>, options: &SourceOptions) -> Result<Option<Archive>> {
    let len = file.metadata().map_err(failed)?.len();
    let whole = || Part::new(Arc::clone(file), 0, len);
    let mut first = Vec::new();
    whole().take(BLOCK as u64).read_to_end(&mut first).map_err(failed)?;
    let file = match compress::detect(&first) {
        Compression::None if looks_like_tar(&first) => Arc::clone(file),
        Compression::None if !first.is_empty() => {
            // The decoder knows the names of what it cannot read.
            drop(compress::decode(whole(), &options.limits)?);
            return Err(Error::new(ErrorKind::Corrupt, "open image").because(
                "it is no archive: an OCI image layout, an archive of `docker save`, or a layer as tar, tar.gz or tar.zst \
                 is needed",
            ));
        }
        _ => match decompress(whole(), options)? {
            Some(file) => Arc::new(file),
            None => return Ok(None),
        },
    };
    let Some(members) = index(&file, &options.limits)? else { return Ok(None) };
    let archive = Archive { file, members };
    Ok(archive.is_of_images()?.then_some(archive))
}

/// A header where one has to be, or the end of an archive.
fn looks_like_tar(first: &[u8]) -> bool {
    first.len() == BLOCK && (first.get(257..262) == Some(b"ustar") || first.contains(&0))
}

impl Archive {
    fn is_of_images(&self) -> Result<bool> {
        if self.has("oci-layout") && self.has("index.json") {
            return Ok(true);
        }
        // A layer may have a file of this name; that of docker save is a list.
        let Some(What::File { .. }) = self.members.get("manifest.json") else { return Ok(false) };
        let mut first = Vec::new();
        if let Some(part) = self.open("manifest.json")? {
            part.take(64).read_to_end(&mut first).map_err(failed)?;
        }
        Ok(first.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['))
    }
}

/// Where the members are: each header is read by position, so that content is skipped and not read. `None` once it
/// cannot be an archive of images.
fn index(file: &Arc<File>, limits: &Limits) -> Result<Option<HashMap<String, What>>> {
    let end = file.metadata().map_err(failed)?.len();
    let mut members = HashMap::new();
    let mut at = 0;
    while at < end {
        let mut reader = Reader::new(Part::new(Arc::clone(file), at, end - at), limits);
        let Some(entry) = reader.next()? else { break };
        let refuse = |kind, why: &str| Err(Error::new(kind, "read archive").about(&entry.path).because(why));
        let Some(name) = clean(&entry.path).filter(|name| is_of_an_image(name)) else { return Ok(None) };
        let (start, len) = (at.saturating_add(reader.position()), entry.stored());
        if start.saturating_add(len) > end {
            return refuse(ErrorKind::Corrupt, "the archive ends in the middle of this member");
        }
        at = start.saturating_add(len).saturating_add((BLOCK as u64 - len % BLOCK as u64) % BLOCK as u64);
        let what = match &entry.kind {
            EntryKind::File if entry.sparse.is_some() => What::Other("a sparse member"),
            EntryKind::File => What::File { at: start, len },
            EntryKind::Dir => What::Other("a directory"),
            EntryKind::Hardlink(target) => link(clean(target)),
            EntryKind::Symlink(target) => {
                let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                link(clean(&[dir.as_bytes(), b"/", target].concat()).filter(|_| !target.starts_with(b"/")))
            }
            EntryKind::Fifo => What::Other("a fifo"),
            EntryKind::Char(_) | EntryKind::Block(_) => What::Other("a device"),
        };
        if members.len() >= MEMBERS_MAX {
            return refuse(ErrorKind::TooLarge, "an archive of images has fewer members than this one");
        }
        let document = DOCUMENTS.contains(&name.as_str());
        if members.insert(name, what).is_some() && document {
            return refuse(ErrorKind::Corrupt, "it is there twice");
        }
    }
    Ok(Some(members))
}

fn link(target: Option<String>) -> What {
    let target = target.filter(|target| target.len() <= NAME_MAX);
    target.map_or(What::Other("a link that leads out"), |target| What::Link { target })
}

/// The name without `.`, `..` and doubled slashes; `None` when it leads out or is no text.
fn clean(path: &[u8]) -> Option<String> {
    let mut out: Vec<&str> = Vec::new();
    for part in std::str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(out.pop()?),
            part => out.push(part),
        }
    }
    Some(out.join("/"))
}

/// A name that archives of images have: the documents, `blobs/ALGORITHM/HEX`, and docker's `HEX/layer.tar`, `HEX.json`
/// and `HEX.tar`, with or without `sha256:` before and a compression behind.
fn is_of_an_image(name: &str) -> bool {
    if name.len() > NAME_MAX {
        return false;
    }
    let mut parts = name.split('/');
    let (first, depth) = (parts.next().unwrap_or_default(), parts.count());
    match first {
        "" => true,
        "oci-layout" | "index.json" | "manifest.json" | "repositories" | "config.json" => depth == 0,
        "blobs" => depth <= 2,
        other => {
            let other = other.strip_prefix("sha256:").unwrap_or(other);
            depth <= 1 && other.len() >= 12 && other.bytes().take(12).all(|b| b.is_ascii_hexdigit())
        }
    }
}

/// Takes a copy of what is read.
struct Tee<R> {
    from: R,
    to: Spool,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.to.write_all(buf.get(..n).unwrap_or_default())?;
        Ok(n)
    }
}

/// A file of bounded size that grows at its end.
struct Spool {
    file: File,
    len: u64,
    max: u64,
}

impl Spool {
    fn new(options: &SourceOptions) -> Result<Self> {
        Ok(Self { file: unnamed(&options.spool)?, len: 0, max: options.limits.layer_bytes })
    }
}

impl Write for Spool {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.len.saturating_add(buf.len() as u64) > self.max {
            let why = format!("more than {} bytes", self.max);
            return Err(Error::new(ErrorKind::TooLarge, "read archive").because(why).into());
        }
        self.file.write_all_at(buf, self.len)?;
        self.len += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses an archive of images into a file; `None` for a layer, which is known after its first entries.
fn decompress(input: Part, options: &SourceOptions) -> Result<Option<File>> {
    let decoded = compress::decode(input, &options.limits)?;
    let mut tee = Tee { from: decoded, to: Spool::new(options)? };
    let mut reader = Reader::new(&mut tee, &options.limits);
    let mut seen = 0;
    while let Some(entry) = reader.next()? {
        seen += 1;
        if seen > MEMBERS_MAX || !clean(&entry.path).is_some_and(|name| is_of_an_image(&name)) {
            return Ok(None);
        }
    }
    drop(reader);
    io::copy(&mut tee, &mut io::sink()).map_err(failed)?;
    Ok(Some(tee.to.file))
}

/// What cannot be read by position, as a file.
pub(super) fn spool(input: &mut dyn Read, options: &SourceOptions) -> Result<File> {
    let mut spool = Spool::new(options)?;
    io::copy(input, &mut spool).map_err(failed)?;
    Ok(spool.file)
}

fn failed(e: io::Error) -> Error {
    e.downcast::<Error>().unwrap_or_else(|e| Error::io(e, "read archive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_members_only() {
        assert_eq!(clean(b"./a//b/../c").as_deref(), Some("a/c"));
        assert_eq!(clean(b"../a"), None);
        assert_eq!(clean(b"a/../../b"), None);
        assert_eq!(clean(b"\xff"), None);
    }

    #[test]
    fn names_of_images_are_told_from_those_of_a_root() {
        let hex = "0123456789abcdef".repeat(4);
        for name in [
            "",
            "oci-layout",
            "blobs",
            "blobs/sha256",
            &format!("blobs/sha256/{hex}"),
            &hex,
            &format!("{hex}/layer.tar"),
            &format!("{hex}.json"),
            &format!("sha256:{hex}"),
            &format!("{hex}.tar.gz"),
        ] {
            assert!(is_of_an_image(name), "{name}");
        }
        for name in [
            "bin",
            "etc/passwd",
            "blobs/a/b/c",
            "manifest.json/x",
            "abc",
            "lib64",
            &format!("{hex}/a/b"),
            &format!("blobs/sha256/{}", "a".repeat(600)),
        ] {
            assert!(!is_of_an_image(name), "{name}");
        }
    }
}
