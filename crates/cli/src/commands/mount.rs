//! `mount` and `umount`: the kernel's overlayfs over a container's directories.

use crate::args::Mount;
use crate::failure::{Failure, Outcome};
use crate::run::{overlay, plan};
use crate::text::shown_path;
use rustix::mount::UnmountFlags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use stratafs::store::{ContainerName, Record, Store, open_leased};
use stratafs::{DirScratch, Features, Ownership, Scratch, ScratchOptions};

/// Mounts a container on a directory. The mount itself keeps others away until it is unmounted.
pub fn mount(store: &Store, asked: &Mount) -> Outcome {
    let target = std::fs::canonicalize(&asked.target)
        .map_err(|e| Failure::new(format!("{}: {e}", shown_path(&asked.target))))?;
    if !target.is_dir() {
        return Err(Failure::new(format!("{}: not a directory", shown_path(&asked.target))));
    }
    let lease = store.lease(&asked.name)?;
    // Proves the layers and the upper before the kernel gets them: its own reasons only go to its log.
    drop(open_leased(&lease)?);
    let Mountable { features, wrapped } = mountable(lease.record(), Ownership::Auto)?;
    if wrapped {
        return Err(Failure::new(format!(
            "{}: one of its layers, or a snapshot, lies inside its lowest layer, and the kernel does not stack these in \
             one mount: `strata run` and `strata fs` work",
            asked.name
        )));
    }
    let view = plan::whole(lease.record(), features, false);
    overlay::mount(&view, &target).map_err(|e| {
        let (name, reason) = (&asked.name, overlay::reason(&e));
        Failure::new(format!("cannot mount {name}: {e}: {reason}; `strata fs` works without a mount"))
    })?;
    Ok(0)
}

/// What a mount of a container has to know.
#[derive(Debug)]
pub struct Mountable {
    /// What the scratch uses.
    pub features: Features,
    /// The lowest layer needs an overlay of its own: see [`plan::wrapped`].
    pub wrapped: bool,
}

/// How the kernel can mount the container, when it can read all of it. `Ownership::Apply` leaves out the
/// question whether owners are stored: in a user namespace there is one owner, whatever is stored.
pub fn mountable(record: &Record, ownership: Ownership) -> Result<Mountable, Failure> {
    if let Some(layer) = record.config.layers.iter().find(|l| l.formats.aufs || l.formats.fuse_overlayfs) {
        return Err(Failure::new(format!(
            "{}: the kernel does not know the whiteouts of the layer {} and would show what they hide; `strata fs` \
             works",
            record.name,
            shown_path(&layer.path)
        )));
    }
    let stashed = record.config.layers.iter().find(|layer| layer.stashed);
    if let Some(layer) = stashed.filter(|_| ownership != Ownership::Apply) {
        return Err(Failure::new(format!(
            "{}: owners and modes of the layer {} are stored in user.containers.override_stat, which the kernel does \
             not apply; `strata fs` works",
            record.name,
            shown_path(&layer.path)
        )));
    }
    let namespace = record.config.namespace;
    if let Some(layer) = record.config.layers.iter().find(|l| l.namespace.is_some_and(|n| n != namespace)) {
        return Err(Failure::new(format!(
            "{}: the layer {} keeps its marks under another prefix than the container, and the kernel reads only one; \
             `strata fs` works",
            record.name,
            shown_path(&layer.path)
        )));
    }
    let layers = plan::layers(&record.config);
    let wrapped = plan::wrapped(&layers, lies_inside).map_err(|(inner, outer)| {
        Failure::new(format!(
            "{}: the layer {} is, or lies inside, another one, {}: the kernel does not stack these; `strata fs` works",
            record.name,
            shown_path(&inner.path),
            shown_path(&outer.path)
        ))
    })?;
    let namespace = Some(record.config.namespace);
    let options = ScratchOptions { namespace, ownership, ..ScratchOptions::default() };
    let scratch = DirScratch::open(record.upper(), record.work(), &options)?;
    scratch.kernel_mountable()?;
    Ok(Mountable { features: scratch.features(), wrapped })
}

/// True when the kernel takes one directory for a part of the other: it looks no further than their file system.
pub fn lies_inside(inner: &Path, outer: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    inner.starts_with(outer) && device(inner) == device(outer)
}

/// Unmounts a container by its mount point or its name, and nothing that is not ours.
pub fn umount(store: &Store, target: &Path) -> Outcome {
    let mounted = |name: &ContainerName| store.mounted_at(name);
    let by_name = target.to_str().and_then(|text| ContainerName::new(text).ok());
    let by_name = by_name.map(|name| mounted(&name)).transpose()?.flatten();
    let point = match by_name {
        Some(point) => point,
        None => by_path(store, target)?,
    };
    rustix::mount::unmount(&point, UnmountFlags::NOFOLLOW).map_err(|e| {
        let hint = if e == rustix::io::Errno::BUSY { ": a process still works in it" } else { "" };
        Failure::new(format!("cannot unmount {}: {e}{hint}", shown_path(&point)))
    })?;
    Ok(0)
}

fn by_path(store: &Store, target: &Path) -> Result<PathBuf, Failure> {
    let point = std::fs::canonicalize(target).map_err(|e| {
        Failure::new(format!("{}: neither a mounted container nor a mount point: {e}", shown_path(target)))
    })?;
    for listed in store.list()? {
        if store.mounted_at(&listed.name)?.as_deref() == Some(&*point) {
            return Ok(point);
        }
    }
    Err(Failure::new(format!("{}: no container of this store is mounted there", shown_path(target))))
}
