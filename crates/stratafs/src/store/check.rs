//! Whether the layers are what they were when they were stored: every archive is replayed against its tree, several
//! layers at once. What an image or container refers to and is not there is damage too.

use super::references::{self, of_container};
use super::{LayerKey, LayerSource, PinnedLayer, ScratchId, Store};
use crate::oci::{Limits, Progress, frame};
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use stratafs_core::error::errno;

/// One thing that is wrong with a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDamage {
    /// Which layer: of the store, or a frozen scratch.
    pub layer: LayerSource,
    /// The images (by the file of their record) and containers that refer to it.
    pub users: Vec<String>,
    /// Where in the layer, from its root; empty for the layer as a whole and its root.
    pub path: Vec<u8>,
    /// What is wrong, for people.
    pub what: String,
}

/// Who refers to what, as far as it can be read.
#[derive(Default)]
struct Users {
    layers: BTreeMap<LayerKey, Vec<String>>,
    scratches: BTreeMap<ScratchId, Vec<String>>,
}

impl Store {
    /// Verifies every layer of the store: names, attributes, extended attributes, targets and content of everything in
    /// it. Frozen scratches have no record of what they were; only that they are there is checked. Records that
    /// cannot be read are left to who lists them.
    ///
    /// # Errors
    /// When the store itself cannot be read; `EINTR` when `progress` says to stop. What is wrong with a layer is no
    /// error but part of the answer.
    pub fn check_layers(&self, progress: &dyn Progress) -> Result<Vec<LayerDamage>> {
        let users = self.users()?;
        let mut keys = self.layer_keys()?;
        keys.extend(users.layers.keys());
        let keys: Vec<_> = keys.into_iter().collect();
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                if progress.cancelled() {
                    return;
                }
                let name = key.to_string();
                progress.begin(&name, None);
                let mut damages = self.check_layer(key, &users);
                let note = if damages.is_empty() { None } else { Some("damaged") };
                progress.finish(&name, note);
                found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut damages);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(keys.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if progress.cancelled() {
            let cancelled = Error::new(ErrorKind::Io(errno::EINTR), "check layers");
            return Err(cancelled.because("it was cancelled"));
        }
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (id, users) in &users.scratches {
            if let Err(e) = super::must_be_dir(&id.dir(&self.root).join("upper")) {
                let (layer, users) = (LayerSource::Scratch(id.clone()), users.clone());
                found.push(LayerDamage { layer, users, path: Vec::new(), what: e.to_string() });
            }
        }
        found.sort_by(|a, b| (name_of(&a.layer), &a.path).cmp(&(name_of(&b.layer), &b.path)));
        Ok(found)
    }

    fn check_layer(&self, key: &LayerKey, users: &Users) -> Vec<LayerDamage> {
        let its_users = users.layers.get(key).cloned().unwrap_or_default();
        let damage = |path: Vec<u8>, what: String| LayerDamage {
            layer: LayerSource::Layer(*key),
            users: its_users.clone(),
            path,
            what,
        };
        match self.pin_layer(key).and_then(|layer| layer.as_ref().map(verify).transpose()) {
            Ok(Some(damages)) => damages.into_iter().map(|found| damage(found.path, found.what)).collect(),
            // gc took it just now, which it does only when nobody refers to it.
            Ok(None) if its_users.is_empty() => Vec::new(),
            Ok(None) => vec![damage(Vec::new(), "the layer is missing".to_owned())],
            Err(e) => vec![damage(Vec::new(), e.to_string())],
        }
    }

    fn users(&self) -> Result<Users> {
        let mut users = Users::default();
        let _lock = self.lock_shared()?;
        for listed in self.list()? {
            let Ok(record) = listed.record else { continue };
            let (scratches, layers) = of_container(&record);
            users.add(&record.name.to_string(), layers, scratches);
        }
        for (path, layers) in references::readable_images(self)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            users.add(&name, layers, BTreeSet::new());
        }
        Ok(users)
    }
}

impl Users {
    fn add(&mut self, name: &str, layers: BTreeSet<LayerKey>, scratches: BTreeSet<ScratchId>) {
        for key in layers {
            self.layers.entry(key).or_default().push(name.to_owned());
        }
        for id in scratches {
            self.scratches.entry(id).or_default().push(name.to_owned());
        }
    }
}

/// Compares a layer with its frame.
pub(super) fn verify(layer: &PinnedLayer) -> Result<Vec<frame::Damage>> {
    let diff_id = layer.record().facts.diff_id;
    frame::verify(layer.open_frame()?, &layer.open()?, &diff_id, &Limits::default())
}

fn name_of(layer: &LayerSource) -> String {
    match layer {
        LayerSource::Layer(key) => key.to_string(),
        LayerSource::Scratch(id) => id.to_string(),
        LayerSource::Directory => String::new(),
    }
}
