//! The images of an OCI layout: from `index.json` through indexes to one manifest for each name, for one platform.
//!
//! Invariants: at most [`Limits::manifests`](crate::Limits) entries are looked at and indexes nest [`DEPTH`] deep at
//! most, so an index that is reached again and again ends in an error. (One that contains itself cannot have the
//! digest by which it is reached.) What is not an image — attestations, artifacts — is passed over as long as there
//! is one.

use super::place::{Member, Place};
use super::{LayerBlob, RefName, SourceImage, SourceOptions, blob_name, check_layers, document};
use crate::image::media::Role;
use crate::image::{Config, Descriptor, Document, Index, Manifest, Platform};
use crate::{Error, ErrorKind, Result};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// How deep indexes nest.
const DEPTH: usize = 8;
/// The name of an image as containerd and podman write it.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
/// The name of an entry of a layout (image-spec, annotations).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images of a layout.
pub(super) fn images(place: &Arc<Place>, options: &SourceOptions) -> Result<Vec<SourceImage>> {
    check_layout(place, options)?;
    let bytes = fixed(place, "index.json", options)?;
    let index = Index::parse(&bytes, "index.json")?;
    let mut reading = Reading { place, options, left: options.limits.manifests };
    let mut out: Vec<(Descriptor, SourceImage)> = Vec::new();
    let mut passed_over = None;
    for (name, entries) in by_name(index.manifests) {
        let chosen = match reading.choose(&name, &entries) {
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                passed_over.get_or_insert(e);
                continue;
            }
            chosen => chosen?,
        };
        let Some(chosen) = chosen else { continue };
        match out.iter_mut().find(|(manifest, _)| manifest.digest == chosen.digest) {
            Some((_, image)) => image.names.extend(name),
            None => {
                let image = reading.image(&chosen, name)?;
                out.push((chosen, image));
            }
        }
    }
    if out.is_empty() {
        return Err(passed_over.unwrap_or_else(|| {
            Error::new(ErrorKind::Corrupt, "read index").about("index.json").because("it names no image")
        }));
    }
    Ok(out.into_iter().map(|(_, image)| image).collect())
}

fn check_layout(place: &Place, options: &SourceOptions) -> Result<()> {
    let bytes = fixed(place, "oci-layout", options)?;
    let layout = Document::parse(&bytes, "read layout", "oci-layout")?;
    let version = layout.root().need("imageLayoutVersion")?.text()?.to_owned();
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(layout.error(ErrorKind::Unsupported, format!("layout version {}", version.escape_debug()))),
    }
}

/// A document of fixed name.
pub(super) fn fixed(place: &Place, name: &str, options: &SourceOptions) -> Result<Vec<u8>> {
    let max = options.limits.json;
    let path = place.path().join(name);
    let refuse =
        |kind, why: String| Error::new(kind, "read image").about(path.as_os_str().as_bytes()).because(why);
    let part = place.open(name)?.ok_or_else(|| refuse(ErrorKind::Corrupt, "it is missing".to_owned()))?;
    if part.len() > max {
        return Err(refuse(ErrorKind::TooLarge, format!("{} bytes, at most {max} are read", part.len())));
    }
    let mut bytes = Vec::new();
    part.take(max)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(e, "read image").about(path.as_os_str().as_bytes()))?;
    Ok(bytes)
}

/// The entries of an index for each name, in the order of the index.
fn by_name(entries: Vec<Descriptor>) -> Vec<(Vec<RefName>, Vec<Descriptor>)> {
    let mut out: Vec<(Vec<RefName>, Vec<Descriptor>)> = Vec::new();
    for entry in entries {
        let name = name_of(&entry);
        match out.iter_mut().find(|(other, _)| *other == name) {
            Some((_, entries)) => entries.push(entry),
            None => out.push((name, vec![entry])),
        }
    }
    out
}

/// What an entry is called. A layout knows tags; many programs write whole names in their place.
fn name_of(entry: &Descriptor) -> Vec<RefName> {
    let named = |key: &str| entry.annotations.get(key).filter(|name| !name.is_empty()).cloned();
    let name = match (named(FULL_NAME), named(REF_NAME)) {
        (Some(name), _) => Some(RefName::Full(name)),
        (None, Some(name)) if name.contains(['/', ':']) => Some(RefName::Full(name)),
        (None, Some(tag)) => Some(RefName::Tag(tag)),
        (None, None) => None,
    };
    name.into_iter().collect()
}

/// A manifest that could be the one.
struct Candidate {
    manifest: Descriptor,
    platform: Platform,
    /// Archives of one platform have indexes that name the others too.
    present: bool,
}

struct Reading<'a> {
    place: &'a Arc<Place>,
    options: &'a SourceOptions,
    /// Entries that may still be looked at.
    left: usize,
}

impl Reading<'_> {
    /// The manifest of one name; `None` when there are only attestations.
    fn choose(&mut self, name: &[RefName], entries: &[Descriptor]) -> Result<Option<Descriptor>> {
        let mut found = Vec::new();
        let mut not_images = None;
        self.collect(entries, 0, &mut found, &mut not_images)?;
        if found.is_empty() {
            return not_images.map_or(Ok(None), Err);
        }
        let refuse = |why: String| {
            let name = match name.first() {
                Some(RefName::Full(name) | RefName::Tag(name)) => name,
                None => "image without a name",
            };
            Error::new(ErrorKind::InvalidInput, "choose platform").about(name).because(why)
        };
        let wanted = self.options.platform.clone().unwrap_or_else(Platform::host);
        let asked = self.options.platform.is_some();
        let mut fitting: Vec<(u32, &Candidate)> = found
            .iter()
            .filter(|candidate| asked || candidate.present)
            .filter_map(|candidate| Some((wanted.suits(&candidate.platform)?, candidate)))
            .collect();
        fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
        match fitting.as_slice() {
            [(best, _), (next, _), ..] if best == next => Err(refuse(format!(
                "there are several for {wanted} under one name: give each its own in the layout's index"
            ))),
            [(_, best), ..] => Ok(Some(best.manifest.clone())),
            [] => {
                let mut present = found.iter().filter(|candidate| candidate.present);
                match (present.next(), present.next()) {
                    // There is nothing to choose; whether it runs here is seen when it is run.
                    (Some(only), None) if !asked => Ok(Some(only.manifest.clone())),
                    _ => {
                        let mut have: Vec<_> = found.iter().map(|c| c.platform.to_string()).collect();
                        have.sort();
                        have.dedup();
                        Err(refuse(format!("there is none for {wanted}, only for {}", have.join(", "))))
                    }
                }
            }
        }
    }

    fn collect(
        &mut self,
        entries: &[Descriptor],
        depth: usize,
        found: &mut Vec<Candidate>,
        not_images: &mut Option<Error>,
    ) -> Result<()> {
        let limits = &self.options.limits;
        for entry in entries {
            let about = entry.digest.to_string();
            let refuse = |kind, why: String| Error::new(kind, "read index").about(&about).because(why);
            self.left = self.left.checked_sub(1).ok_or_else(|| {
                refuse(ErrorKind::TooLarge, format!("more than {} manifests", limits.manifests))
            })?;
            if entry.is_attestation() {
                continue;
            }
            let present = self.place.has(&blob_name(&entry.digest))?;
            match entry.role() {
                Role::Index if !present => {}
                Role::Index if depth == DEPTH => {
                    return Err(refuse(ErrorKind::Loop, format!("indexes nest more than {DEPTH} deep")));
                }
                Role::Index => {
                    let index = Index::parse(&document(self.place, entry, limits)?, &about)?;
                    self.collect(&index.manifests, depth + 1, found, not_images)?;
                }
                Role::Manifest => self.candidate(entry, present, found, not_images)?,
                Role::Schema1 => {
                    let why =
                        "it is of the old form (Docker schema 1), which is not read: convert it with skopeo";
                    not_images.get_or_insert(refuse(ErrorKind::Unsupported, why.to_owned()));
                }
                Role::Config | Role::Layer { .. } | Role::Other => {
                    let kind = entry.media_type.escape_debug();
                    let why = format!("unknown media type \"{kind}\" where a manifest or index was expected");
                    not_images.get_or_insert(refuse(ErrorKind::Unsupported, why));
                }
            }
        }
        Ok(())
    }

    fn candidate(
        &self,
        entry: &Descriptor,
        present: bool,
        found: &mut Vec<Candidate>,
        not_images: &mut Option<Error>,
    ) -> Result<()> {
        if found.iter().any(|other| other.manifest.digest == entry.digest) {
            return Ok(());
        }
        let platform = match &entry.platform {
            Some(platform) => platform.clone(),
            // Only the configuration says it, and what is no image has none.
            None => match self.documents(entry) {
                Ok((_, config)) if config.platform().is_unknown() => return Ok(()),
                Ok((_, config)) => config.platform().clone(),
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    not_images.get_or_insert(e);
                    return Ok(());
                }
                Err(e) => return Err(e),
            },
        };
        found.push(Candidate { manifest: entry.clone(), platform, present });
        Ok(())
    }

    fn documents(&self, entry: &Descriptor) -> Result<(Manifest, Config)> {
        let limits = &self.options.limits;
        let manifest = Manifest::parse(&document(self.place, entry, limits)?, &entry.digest.to_string())?;
        let bytes = document(self.place, &manifest.config, limits)?;
        let config = Config::parse(bytes, &manifest.config.digest.to_string())?;
        Ok((manifest, config))
    }

    fn image(&self, entry: &Descriptor, names: Vec<RefName>) -> Result<SourceImage> {
        let (manifest, config) = self.documents(entry)?;
        check_layers(manifest.layers.len(), &config, &self.options.limits, &entry.digest.to_string())?;
        let count = manifest.layers.len();
        let called = match names.first() {
            Some(RefName::Full(name) | RefName::Tag(name)) => format!("\"{name}\""),
            None => self.place.path().display().to_string(),
        };
        let layers = manifest
            .layers
            .iter()
            .zip(config.diff_ids())
            .enumerate()
            .map(|(i, (layer, diff_id))| {
                let label = format!("layer {} of {count} of {called}", i + 1);
                self.present(layer, &label)?;
                let member = Member::Named(Arc::clone(self.place), blob_name(&layer.digest));
                let (digest, diff_id) = (Some(layer.digest), Some(*diff_id));
                Ok(LayerBlob { diff_id, digest, size: layer.size, label, member })
            })
            .collect::<Result<_>>()?;
        Ok(SourceImage { names, config, annotations: manifest.annotations, layers })
    }

    /// A layer has to be there, and of the announced size.
    fn present(&self, layer: &Descriptor, label: &str) -> Result<()> {
        let refuse = |why: String| {
            Err(Error::new(ErrorKind::Corrupt, "open blob")
                .about(layer.digest.to_string())
                .in_layer(label)
                .because(why))
        };
        match self.place.open(&blob_name(&layer.digest)).map_err(|e| e.in_layer(label))? {
            Some(part) if part.len() == layer.size => Ok(()),
            Some(part) => refuse(format!("the blob has {} bytes, {} were announced", part.len(), layer.size)),
            None if matches!(layer.role(), Role::Layer { foreign: true }) => refuse(format!(
                "the layer is not part of the image; it is to be had from {}",
                match layer.urls.as_slice() {
                    [] => "its maker".to_owned(),
                    urls => urls.join(", ").escape_debug().to_string(),
                }
            )),
            None => refuse("the blob is missing".to_owned()),
        }
    }
}
