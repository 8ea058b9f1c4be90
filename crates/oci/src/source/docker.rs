//! The images of a `docker save` archive: `manifest.json` is a list of configurations with their layers, which are
//! named by path, not by digest. So a layer is verified by its diff id alone.

use super::oci::fixed;
use super::place::{Member, Place};
use super::{LayerBlob, RefName, SourceImage, SourceOptions, check_layers};
use crate::image::{Config, Document, Node, Platform};
use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

/// The images of an archive.
pub(super) fn images(place: &Arc<Place>, options: &SourceOptions) -> Result<Vec<SourceImage>> {
    let bytes = fixed(place, "manifest.json", options)?;
    let document = Document::parse(&bytes, "read manifest", "manifest.json")?;
    let entries = document.root().list()?;
    let refuse = |kind, why: String| Err(document.error(kind, why));
    if entries.is_empty() {
        return refuse(ErrorKind::Corrupt, "it names no image".to_owned());
    }
    if entries.len() > options.limits.manifests {
        return refuse(ErrorKind::TooLarge, format!("more than {} images", options.limits.manifests));
    }
    let mut images = Vec::new();
    for entry in &entries {
        images.push(image(place, entry, options)?);
    }
    let Some(wanted) = &options.platform else { return Ok(images) };
    let have: Vec<String> = images.iter().map(|image| image.config.platform().to_string()).collect();
    images.retain(|image| wanted.suits(image.config.platform()).is_some());
    if images.is_empty() {
        return refuse(
            ErrorKind::InvalidInput,
            format!("there is no image for {wanted}, only for {}", have.join(", ")),
        );
    }
    Ok(images)
}

fn image(place: &Arc<Place>, entry: &Node<'_>, options: &SourceOptions) -> Result<SourceImage> {
    let name = entry.need("Config")?.text()?;
    let config = Config::parse(small(place, name, options)?, name)?;
    if config.platform() == &(Platform { os: "unknown".into(), ..config.platform().clone() }) {
        return Err(entry.error("it is no image"));
    }
    let names: Vec<_> = entry.texts("RepoTags")?.into_iter().map(RefName::Full).collect();
    let called = match names.first() {
        Some(RefName::Full(name) | RefName::Tag(name)) => name.clone(),
        None => name.to_owned(),
    };
    let layers = entry.texts("Layers")?;
    check_layers(layers.len(), &config, &options.limits, name)?;
    let count = layers.len();
    let layers = layers
        .into_iter()
        .zip(config.diff_ids())
        .enumerate()
        .map(|(i, (path, diff_id))| {
            let label = format!("layer {} of {count} of \"{called}\"", i + 1);
            let missing = || {
                Error::new(ErrorKind::Corrupt, "open blob")
                    .about(&path)
                    .because("the archive does not have it")
            };
            let part = place.open(&path).and_then(|part| part.ok_or_else(missing));
            let size = part.map_err(|e| e.in_layer(&label))?.len();
            let member = Member::Named(Arc::clone(place), path);
            Ok(LayerBlob { diff_id: Some(*diff_id), digest: None, size, label, member })
        })
        .collect::<Result<_>>()?;
    Ok(SourceImage { names, config, annotations: BTreeMap::new(), layers })
}

fn small(place: &Place, name: &str, options: &SourceOptions) -> Result<Vec<u8>> {
    let refuse = |kind, why: String| Error::new(kind, "read configuration").about(name).because(why);
    let max = options.limits.json;
    let part = place
        .open(name)?
        .ok_or_else(|| refuse(ErrorKind::Corrupt, "the archive does not have it".to_owned()))?;
    if part.len() > max {
        return Err(refuse(ErrorKind::TooLarge, format!("{} bytes, at most {max} are read", part.len())));
    }
    let mut bytes = Vec::new();
    part.take(max).read_to_end(&mut bytes).map_err(|e| Error::io(e, "read configuration").about(name))?;
    Ok(bytes)
}
