//! The cache's memory, in three partitions: values, negative entries, and the entries of tenants beyond their share. Each
//! has a budget in bytes. A location is in at most one of them, but for a moment in which a reader finds the old entry or the
//! new one.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use quick_cache::{Weighter, sync::Cache as QuickCache};
use tagged_config_domain::{LocationId, Record, TenantId};

use super::entry::Entry;
use tokio::time::Instant;

/// What an entry takes beyond its texts, in bytes: its structs and the table's slot. Measured as resident memory of 100,000
/// entries (`make bench-peers`).
const ENTRY_OVERHEAD: usize = 480;
/// The part of the budget that is kept for negative entries: one in so many.
const NEGATIVE_SHARE: u64 = 8;
/// The part of the budget that one tenant may fill: one in so many. What is beyond is kept in a part that all such tenants
/// share, so that they push out each other and nobody else.
const TENANT_SHARE: u64 = 4;
const OVERFLOW_SHARE: u64 = 16;
/// Tenants whose use is counted.
const COUNTED_TENANTS: usize = 10_000;

type Part = QuickCache<LocationId, Arc<Cached>, ByBytes>;

pub(super) struct Partitions {
    values: Part,
    negatives: Part,
    overflow: Part,
    /// Bytes of each tenant in the first two.
    used: QuickCache<TenantId, Arc<AtomicU64>>,
    /// What one tenant may have there.
    share: u64,
}

/// An entry in its partition.
#[derive(Debug)]
pub(crate) struct Cached {
    entry: Entry,
    charge: Option<Charge>,
    /// A reader has it read in the background.
    is_refreshing: AtomicBool,
}

/// A tenant's entries are more than one tenant's share.
struct OverShare;

/// Bytes of a tenant, until the entry is dropped.
#[derive(Debug)]
struct Charge {
    counter: Arc<AtomicU64>,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

// === impl Partitions ===

impl Partitions {
    /// Room for so many bytes in all.
    pub(super) fn new(bytes: u64) -> Self {
        let negatives = (bytes / NEGATIVE_SHARE).max(1);
        let overflow = (bytes / OVERFLOW_SHARE).max(1);
        let values = bytes.saturating_sub(negatives + overflow).max(1);
        Self {
            values: part(values),
            negatives: part(negatives),
            overflow: part(overflow),
            used: QuickCache::new(COUNTED_TENANTS),
            share: bytes / TENANT_SHARE,
        }
    }

    pub(super) fn get(&self, id: &LocationId) -> Option<Arc<Cached>> {
        let found = self.values.get(id).or_else(|| self.negatives.get(id));
        found.or_else(|| self.overflow.get(id))
    }

    /// The same, without counting as a use.
    pub(super) fn peek(&self, id: &LocationId) -> Option<Arc<Cached>> {
        let found = self.values.peek(id).or_else(|| self.negatives.peek(id));
        found.or_else(|| self.overflow.peek(id))
    }

    /// Puts an entry where it belongs.
    pub(super) fn store(&self, id: &LocationId, entry: Entry) {
        let charge = self.charge(id, &entry);
        let (into, others) = match (&charge, &entry.record) {
            (Err(OverShare), _) => (&self.overflow, [&self.values, &self.negatives]),
            (Ok(_), Some(_)) => (&self.values, [&self.negatives, &self.overflow]),
            (Ok(_), None) => (&self.negatives, [&self.values, &self.overflow]),
        };
        let cached = Cached {
            entry,
            charge: charge.ok().flatten(),
            is_refreshing: AtomicBool::new(false),
        };
        into.insert(id.clone(), Arc::new(cached));
        for other in others {
            other.remove(id);
        }
    }

    pub(super) fn clear(&self) {
        for part in self.parts() {
            part.clear();
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts().map(Part::weight).iter().sum()
    }

    pub(super) fn len(&self) -> usize {
        self.parts().map(Part::len).iter().sum()
    }

    fn parts(&self) -> [&Part; 3] {
        [&self.values, &self.negatives, &self.overflow]
    }

    /// Counts an entry as its owner's, unless that would be more than one tenant's share.
    fn charge(&self, id: &LocationId, entry: &Entry) -> Result<Option<Charge>, OverShare> {
        let Some(owner) = &entry.owner else {
            return Ok(None);
        };
        let counter = self.used.get_or_insert_with(owner, || {
            Ok::<_, std::convert::Infallible>(Arc::new(AtomicU64::new(0)))
        });
        let Ok(counter) = counter;
        let bytes = ByBytes::of(id, entry.record.as_ref());
        let replaced = self.peek(id);
        let replaced = replaced
            .as_ref()
            .and_then(|old| old.charge.as_ref())
            .map_or(0, |charge| charge.bytes);
        let used = counter.load(Ordering::Relaxed).saturating_sub(replaced);
        if used + bytes > self.share {
            return Err(OverShare);
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        Ok(Some(Charge { counter, bytes }))
    }
}

// === impl Cached ===

impl Cached {
    /// Whether this reader is the one to have the entry read in the background now: true once for each entry.
    pub(crate) fn starts_refresh(&self, now: Instant) -> bool {
        self.entry.is_refresh_due(now)
            && !self.is_refreshing.load(Ordering::Relaxed)
            && !self.is_refreshing.swap(true, Ordering::Relaxed)
    }
}

impl Deref for Cached {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

fn part(bytes: u64) -> Part {
    let items = usize::try_from(bytes / 1_024).unwrap_or(usize::MAX);
    QuickCache::with_weighter(items.clamp(64, 1 << 20), bytes, ByBytes)
}

impl Weighter<LocationId, Arc<Cached>> for ByBytes {
    fn weight(&self, id: &LocationId, entry: &Arc<Cached>) -> u64 {
        Self::of(id, entry.record.as_ref())
    }
}

impl ByBytes {
    fn of(id: &LocationId, record: Option<&Record>) -> u64 {
        let texts = record.map_or(0, |record| {
            record.value.held_bytes() + record.content_type.len()
        });
        // What the allocator rounds up: at most a quarter of a text, an eighth on average.
        (ENTRY_OVERHEAD + id.heap_bytes() + texts + texts / 8) as u64
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
