//! Deciding how a merged view is mounted: pure, from facts that are gathered before.

use super::MOUNT_POINTS;
use super::spec::{Overlay, Split, View, Writable};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use stratafs::store::{ContainerConfig, LayerConfig, LayerSource, Record, mount_source};
use stratafs::{Durability, Features, Kind, Namespace};

/// A top-level entry of the only layer.
#[derive(Debug)]
pub struct Top {
    /// Its name.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
    /// Of a link, what it says.
    pub target: OsString,
    /// Other file systems are mounted below it.
    pub has_mounts: bool,
    /// Of a directory without, what it is made of below the upper, topmost first: in snapshots, and in the layer.
    pub lowers: Vec<PathBuf>,
    /// The last of those holds another one.
    pub wrapped: bool,
}

/// The options of an overlay mount that shows what this library shows.
pub fn options(config: &ContainerConfig, features: Features) -> Vec<String> {
    let on = |yes: bool| if yes { "on" } else { "off" };
    let mut options = match config.namespace {
        // Redirects and metacopy are not for mounts with user attributes (overlayfs documentation).
        Namespace::User => vec!["userxattr".to_owned()],
        Namespace::Trusted => vec![
            format!("redirect_dir={}", on(features.redirect)),
            format!("metacopy={}", on(features.metacopy)),
            format!("index={}", on(features.index)),
        ],
    };
    if config.durability == Durability::Volatile {
        options.push("volatile".to_owned());
    }
    options
}

/// The layers that the kernel has to stack, topmost first. It takes none twice, and an image may have one twice (an
/// empty one, mostly): of a layer of the store, which has no redirects, the lower one shows nothing that the upper one
/// does not show or hide.
pub fn layers(config: &ContainerConfig) -> Vec<&LayerConfig> {
    let mut out: Vec<&LayerConfig> = Vec::new();
    for layer in &config.layers {
        let again = matches!(layer.source, LayerSource::Layer(_)) && out.iter().any(|l| l.path == layer.path);
        if !again {
            out.push(layer);
        }
    }
    out
}

/// Whether the lowest layer holds another one, as the host's root holds the snapshots of a container over it. The
/// kernel takes an overlay over it instead.
///
/// # Errors
/// The two directories, where another than the lowest layer holds one: nothing helps then.
pub fn wrapped<'a>(
    layers: &[&'a LayerConfig],
    inside: impl Fn(&Path, &Path) -> bool,
) -> Result<bool, (&'a LayerConfig, &'a LayerConfig)> {
    let mut wrapped = false;
    for (at, inner) in layers.iter().enumerate() {
        for (other, outer) in layers.iter().enumerate() {
            if at == other || !inside(&inner.path, &outer.path) {
                continue;
            }
            // Of a layer that is there twice the lower one would only show what it hides.
            if other + 1 != layers.len() || inner.path == outer.path {
                return Err((inner, outer));
            }
            wrapped = true;
        }
    }
    Ok(wrapped)
}

/// One overlay over all layers.
pub fn whole(record: &Record, features: Features, wrapped: bool) -> Overlay {
    Overlay {
        source: mount_source(&record.dir),
        lowers: layers(&record.config).into_iter().map(|layer| layer.path.clone().into()).collect(),
        writable: Some(Writable { upper: record.upper().into(), work: record.work().into() }),
        nosuid: record.config.untrusted.clear_setid,
        options: options(&record.config, features),
        wrapped,
    }
}

/// One overlay for each top-level directory of the only layer that is no snapshot; `lower` is its path. Directories with
/// mounts below cannot be a layer in a user namespace and become read-only.
pub fn split(record: &Record, features: Features, lower: &Path, top: Vec<Top>) -> View {
    let mut split = Split::default();
    for name in MOUNT_POINTS {
        split.empty.push(name.into());
    }
    for Top { name, kind, target, has_mounts, lowers, wrapped } in top {
        if split.empty.contains(&name) {
            continue;
        }
        let path = lower.join(&name);
        match kind {
            Kind::Symlink => split.links.push((name, target)),
            Kind::Dir if !lowers.is_empty() => {
                let overlay = Overlay {
                    source: mount_source(&record.dir),
                    lowers: lowers.into_iter().map(OsString::from).collect(),
                    writable: Some(Writable {
                        upper: record.upper().join(&name).into(),
                        work: works(record, &name).into(),
                    }),
                    nosuid: record.config.untrusted.clear_setid,
                    options: options(&record.config, features),
                    wrapped,
                };
                split.overlays.push((name, overlay));
            }
            Kind::Dir if !has_mounts => {}
            Kind::Dir | Kind::File => split.read_only.push((name, path.into())),
            Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {}
        }
    }
    View::Split(split)
}

/// Where the state at `root` shows in a view of `layers`.
pub fn shown_in<'a>(layers: impl Iterator<Item = &'a Path>, root: &Path) -> Vec<PathBuf> {
    layers.filter_map(|layer| Some(Path::new("/").join(root.strip_prefix(layer).ok()?))).collect()
}

/// The topmost of `mounts` that are below `layer`, as paths inside: what an overlay shows as empty directories. Those
/// that a run covers anyway are left out.
pub fn empty_inside<'a>(layer: &Path, mounts: impl Iterator<Item = &'a Path>) -> BTreeSet<PathBuf> {
    let mut inside: Vec<_> = mounts
        .filter_map(|mount| mount.strip_prefix(layer).ok())
        .filter(|path| {
            !path.as_os_str().is_empty() && !MOUNT_POINTS.iter().any(|point| path.starts_with(point))
        })
        .collect();
    inside.sort();
    inside.dedup_by(|later, earlier| later.starts_with(earlier));
    inside.into_iter().map(|path| Path::new("/").join(path)).collect()
}

/// The work directory of one overlay of a split view.
pub fn works(record: &Record, name: &OsStr) -> PathBuf {
    record.works().join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_layer_are_named_once_and_as_seen_inside() {
        let mounts = ["/", "/proc", "/dev/shm", "/home", "/home/a", "/homes", "/var/lib/x", "/tmp/y"];
        let named = |layer: &str| {
            let named = empty_inside(Path::new(layer), mounts.iter().map(Path::new));
            named.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(named("/"), ["/home", "/homes", "/var/lib/x"]);
        assert_eq!(named("/var"), ["/lib/x"]);
        assert!(named("/home/a").is_empty());
    }

    #[test]
    fn only_the_lowest_layer_may_hold_others() {
        let layers =
            ["/s/1", "/s/2", "/a", "/"].map(|path| LayerConfig::dir(path, stratafs::Formats::default()));
        let inside = |inner: &Path, outer: &Path| inner.starts_with(outer);
        let wrapped = |picked: &[usize]| {
            let layers: Vec<_> = picked.iter().map(|at| &layers[*at]).collect();
            wrapped(&layers, inside).map_err(|(inner, outer)| (inner.path.clone(), outer.path.clone()))
        };
        assert_eq!(wrapped(&[0, 1, 2]), Ok(false));
        assert_eq!(wrapped(&[0, 1, 3]), Ok(true));
        assert_eq!(wrapped(&[3, 2]), Err(("/a".into(), "/".into())));
        assert_eq!(wrapped(&[2, 2]), Err(("/a".into(), "/a".into())));
    }

    #[test]
    fn the_state_is_found_in_every_layer_that_holds_it() {
        let layers = ["/", "/var", "/usr", "/var/lib/strata/containers/c/upper"].map(Path::new);
        let found = shown_in(layers.into_iter(), Path::new("/var/lib/strata"));
        assert_eq!(found, ["/var/lib/strata", "/lib/strata"].map(PathBuf::from));
    }
}
