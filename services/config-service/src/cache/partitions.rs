//! Where entries lie, and who may fill how much of it: values, absences, and what a tenant keeps beyond its share. A
//! location is in one of them at most, but for a moment in which a reader finds the old entry or the new one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quick_cache::{Weighter, sync::Cache as QuickCache};
use tagged_config_domain::{LocationId, Record, TenantId};

use super::Entry;

/// What an entry takes beyond its texts, in bytes: its structs and the table's slot. Measured as resident memory of 100,000
/// entries (`make bench-peers`).
const ENTRY_OVERHEAD: usize = 480;
/// The part of the budget that is kept for absences: one in so many.
const ABSENCE_SHARE: u64 = 8;
/// The part of the budget that one tenant may fill: one in so many. What is beyond is kept in a part that all such tenants
/// share, so that they push out each other and nobody else.
const TENANT_SHARE: u64 = 4;
const OVERFLOW_SHARE: u64 = 16;
/// Tenants whose use is counted.
const COUNTED_TENANTS: usize = 10_000;

type Part = QuickCache<LocationId, Arc<Entry>, ByBytes>;

pub(super) struct Places {
    values: Part,
    absences: Part,
    overflow: Part,
    /// Bytes of each tenant in the first two.
    used: QuickCache<TenantId, Arc<AtomicU64>>,
    /// What one tenant may have there.
    share: u64,
}

/// Bytes of a tenant's, until the entry is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    counter: Arc<AtomicU64>,
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

// === impl Places ===

impl Places {
    /// Room for so many bytes in all.
    pub(super) fn new(bytes: u64) -> Self {
        let absences = (bytes / ABSENCE_SHARE).max(1);
        let overflow = (bytes / OVERFLOW_SHARE).max(1);
        let values = bytes.saturating_sub(absences + overflow).max(1);
        Self {
            values: part(values),
            absences: part(absences),
            overflow: part(overflow),
            used: QuickCache::new(COUNTED_TENANTS),
            share: bytes / TENANT_SHARE,
        }
    }

    pub(super) fn get(&self, id: &LocationId) -> Option<Arc<Entry>> {
        let found = self.values.get(id).or_else(|| self.absences.get(id));
        found.or_else(|| self.overflow.get(id))
    }

    /// The same, without counting as a use.
    pub(super) fn peek(&self, id: &LocationId) -> Option<Arc<Entry>> {
        let found = self.values.peek(id).or_else(|| self.absences.peek(id));
        found.or_else(|| self.overflow.peek(id))
    }

    /// Puts an entry where it belongs.
    pub(super) fn store(&self, id: &LocationId, mut entry: Entry) {
        entry.charge = None;
        let fits = self.charge(id, &mut entry);
        let (into, others) = match (fits, &entry.record) {
            (false, _) => (&self.overflow, [&self.values, &self.absences]),
            (true, Some(_)) => (&self.values, [&self.absences, &self.overflow]),
            (true, None) => (&self.absences, [&self.values, &self.overflow]),
        };
        into.insert(id.clone(), Arc::new(entry));
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
        [&self.values, &self.absences, &self.overflow]
    }

    /// Counts an entry as its owner's; `false` if that would be more than one tenant's share.
    fn charge(&self, id: &LocationId, entry: &mut Entry) -> bool {
        let Some(owner) = &entry.owner else {
            return true;
        };
        let counter = self.used.get_or_insert_with(owner, || {
            Ok::<_, std::convert::Infallible>(Arc::new(AtomicU64::new(0)))
        });
        let Ok(counter) = counter;
        let bytes = ByBytes::of(id, entry.record.as_ref());
        let replaced = self.peek(id).and_then(|old| old.charge.clone());
        let replaced = replaced.map_or(0, |charge| charge.bytes);
        let used = counter.load(Ordering::Relaxed).saturating_sub(replaced);
        if used + bytes > self.share {
            return false;
        }
        counter.fetch_add(bytes, Ordering::Relaxed);
        entry.charge = Some(Arc::new(Charge { counter, bytes }));
        true
    }
}

fn part(bytes: u64) -> Part {
    let items = usize::try_from(bytes / 1_024).unwrap_or(usize::MAX);
    QuickCache::with_weighter(items.clamp(64, 1 << 20), bytes, ByBytes)
}

impl Weighter<LocationId, Arc<Entry>> for ByBytes {
    fn weight(&self, id: &LocationId, entry: &Arc<Entry>) -> u64 {
        Self::of(id, entry.record.as_ref())
    }
}

impl ByBytes {
    fn of(id: &LocationId, record: Option<&Record>) -> u64 {
        let texts = record.map_or(0, |record| record.value.len() + record.content_type.len());
        // What the allocator rounds up: at most a quarter of a text, an eighth on average.
        (ENTRY_OVERHEAD + id.heap_bytes() + texts + texts / 8) as u64
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
