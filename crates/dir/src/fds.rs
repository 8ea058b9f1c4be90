//! The bound on open directories: a clock over the directories that hold a descriptor. One that was used since the
//! hand last passed is spared once.

use crate::node::DirNode;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// How many directories of a layer or scratch stay open unless the options say otherwise.
pub const FD_LIMIT: usize = 512;

/// The directories that hold a descriptor. Invariant: at most `limit` between two calls. Slots of dropped
/// directories count until the hand passes them.
pub(crate) struct Fds {
    limit: usize,
    ring: Mutex<VecDeque<Weak<DirNode>>>,
}

impl Fds {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), ring: Mutex::new(VecDeque::new()) }
    }

    /// Counts a directory that was just given a descriptor, and closes others as needed.
    pub(crate) fn admit(&self, node: &Arc<DirNode>) {
        let mut evicted = Vec::new();
        {
            let mut ring = self.ring.lock();
            ring.push_back(Arc::downgrade(node));
            let mut spared = 0;
            while ring.len() > self.limit {
                let Some(slot) = ring.pop_front() else { break };
                let Some(victim) = slot.upgrade() else { continue };
                if victim.take_used() && spared < self.limit {
                    spared += 1;
                    ring.push_back(slot);
                } else {
                    victim.evict();
                }
                evicted.push(victim);
            }
        }
        // Dropped here, outside the lock: it may have been the last reference.
        drop(evicted);
    }
}
