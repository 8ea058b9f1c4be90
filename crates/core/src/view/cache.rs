//! What a view keeps in memory: a clock of recently used objects, the objects with several names, and the
//! mapping of backing numbers to the view's own. Invariants: at most the configured number of objects is kept
//! alive by the cache itself; dropping an object never happens under a lock of the cache.

use super::object::{Inode, Object};
use crate::attr::FileId;
use crate::layer::Layer;
use crate::scratch::Scratch;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

struct Clock<L: Layer, S: Scratch> {
    ring: Vec<Inode<L, S>>,
    hand: usize,
}

/// The identity of an object with several names: of the lower one where it has one.
pub(crate) type Key = FileId;

pub(crate) struct Cache<L: Layer, S: Scratch> {
    capacity: usize,
    clock: Mutex<Clock<L, S>>,
    linked: Mutex<Linked<L, S>>,
    devices: RwLock<Vec<u64>>,
}

struct Linked<L: Layer, S: Scratch> {
    map: HashMap<Key, Weak<Object<L, S>>>,
    prune_at: usize,
}

/// Bits of a number that a backing file system may use where layers lie on several: the rest says which.
const INO_BITS: u32 = 48;

impl<L: Layer, S: Scratch> Cache<L, S> {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            clock: Mutex::new(Clock { ring: Vec::new(), hand: 0 }),
            linked: Mutex::new(Linked { map: HashMap::new(), prune_at: 1024 }),
            devices: RwLock::new(Vec::new()),
        }
    }

    /// Keeps `inode` alive for a while, in the place of one that was not used lately.
    pub fn keep(&self, inode: &Inode<L, S>) {
        inode.touch();
        if inode.0.cached.swap(true, Ordering::Relaxed) {
            return;
        }
        let evicted = {
            let mut clock = self.clock.lock();
            if clock.ring.len() < self.capacity {
                inode.0.slot.store(clock.ring.len(), Ordering::Relaxed);
                clock.ring.push(inode.clone());
                return;
            }
            let len = clock.ring.len();
            // Bounded: a full turn clears every mark.
            let mut hand = clock.hand % len;
            for _ in 0..len {
                if clock.ring.get(hand).is_some_and(|seen| !seen.0.used.swap(false, Ordering::Relaxed)) {
                    break;
                }
                hand = (hand + 1) % len;
            }
            clock.hand = hand + 1;
            inode.0.slot.store(hand, Ordering::Relaxed);
            clock.ring.get_mut(hand).map(|slot| std::mem::replace(slot, inode.clone()))
        };
        if let Some(evicted) = &evicted {
            evicted.0.cached.store(false, Ordering::Relaxed);
        }
        drop(evicted);
    }

    /// Lets go of one object: it has lost a name, and what it keeps open should go with its last holder.
    pub fn forget(&self, inode: &Inode<L, S>) {
        let released = {
            let mut clock = self.clock.lock();
            let slot = inode.0.slot.load(Ordering::Relaxed);
            if !inode.0.cached.load(Ordering::Relaxed) || clock.ring.get(slot) != Some(inode) {
                return;
            }
            inode.0.cached.store(false, Ordering::Relaxed);
            let released = clock.ring.swap_remove(slot);
            if let Some(moved) = clock.ring.get(slot) {
                moved.0.slot.store(slot, Ordering::Relaxed);
            }
            released
        };
        drop(released);
    }

    /// Somebody besides the caller's `own` references and the cache holds the object. Asked under the lock: the
    /// flag `cached` goes ahead of the reference that it stands for.
    pub fn shared_beyond(&self, inode: &Inode<L, S>, own: usize) -> bool {
        let clock = self.clock.lock();
        let kept = clock.ring.get(inode.0.slot.load(Ordering::Relaxed)) == Some(inode);
        Arc::strong_count(&inode.0) > own + usize::from(kept)
    }

    /// Lets go of everything that only the cache holds.
    pub fn clear(&self) {
        let ring = {
            let mut clock = self.clock.lock();
            clock.hand = 0;
            std::mem::take(&mut clock.ring)
        };
        for inode in &ring {
            inode.0.cached.store(false, Ordering::Relaxed);
        }
    }

    /// How many objects the cache itself keeps alive.
    pub fn len(&self) -> usize {
        self.clock.lock().ring.len()
    }

    /// The live object with this identity among those with several names; `make` is kept if there is none.
    pub fn unify(&self, key: Key, make: impl FnOnce() -> Inode<L, S>) -> Inode<L, S> {
        let mut linked = self.linked.lock();
        if let Some(object) = linked.map.get(&key).and_then(Weak::upgrade) {
            return Inode(object);
        }
        if linked.map.len() >= linked.prune_at {
            linked.map.retain(|_, weak| weak.strong_count() > 0);
            linked.prune_at = 1024.max(linked.map.len() * 2);
        }
        let inode = make();
        linked.map.insert(key, inode.downgrade());
        inode
    }

    /// The live object with this identity among those with several names.
    pub fn linked(&self, key: Key) -> Option<Inode<L, S>> {
        self.linked.lock().map.get(&key).and_then(Weak::upgrade).map(Inode)
    }

    /// Forgets an identity whose object has lost its last name: its number may be used again.
    pub fn unlink(&self, inode: &Inode<L, S>) {
        let mut linked = self.linked.lock();
        let same = |weak: &Weak<Object<L, S>>| std::ptr::eq(weak.as_ptr(), &raw const *inode.0);
        if linked.map.get(&inode.0.id).is_some_and(same) {
            linked.map.remove(&inode.0.id);
        }
    }

    /// The view's number for a backing object: its own where all lie on one file system, otherwise with the
    /// file system's index above the bits that such numbers commonly use.
    pub fn ino(&self, id: FileId) -> u64 {
        let known = self.devices.read().iter().position(|dev| *dev == id.dev);
        let index = known.unwrap_or_else(|| {
            let mut devices = self.devices.write();
            devices.iter().position(|dev| *dev == id.dev).unwrap_or_else(|| {
                devices.push(id.dev);
                devices.len() - 1
            })
        }) as u64;
        if index == 0 {
            return id.ino;
        }
        let folded = if id.ino >> INO_BITS == 0 {
            id.ino
        } else {
            (id.ino ^ (id.ino >> INO_BITS)) & ((1 << INO_BITS) - 1)
        };
        folded | (index << INO_BITS)
    }
}
