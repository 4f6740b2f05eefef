//! What one tenant may use of what all share. The gate itself is the domain's ([`Gate`]), so that no store can be reached
//! without it; its quotas are here.

use tagged_config_domain::{Gate, Quota, Resource};
use tagged_config_stores::Stores;

/// Consistent reads that bypass the cache (`min_version`).
const FORCED_READS: Quota = Quota {
    per_second: 50,
    burst: 50,
};
/// Writes. The journal takes [`ENTRIES_PER_SECOND`](tagged_config_stores::journal::ENTRIES_PER_SECOND) for all tenants and
/// tasks.
const WRITES: Quota = Quota {
    per_second: 100,
    burst: 500,
};
/// Keys of new watches: many watches are opened anew when a task stops.
const WATCHED_KEYS: Quota = Quota {
    per_second: 5_000,
    burst: 50_000,
};
/// Requests that only read the task's own memory.
const REQUESTS: Quota = Quota {
    per_second: 1_000,
    burst: 2_000,
};
/// Large answers under way may use this part of what the cache may use: one in so many. They are copied once or twice.
const ANSWER_PART: u64 = 4;
/// So that one tenant's part of it, a quarter, holds a whole batch.
const MIN_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The gate of a process whose cache has so many bytes.
pub(crate) fn gate(stores: &Stores, cache_bytes: u64) -> Gate {
    let reads = stores
        .all()
        .map(|store| (Resource::Reads(store.backend()), store.read_quota()));
    let others = [
        (Resource::ForcedReads, FORCED_READS),
        (Resource::Writes, WRITES),
        (Resource::WatchedKeys, WATCHED_KEYS),
        (Resource::Requests, REQUESTS),
    ];
    let answer_bytes = (cache_bytes / ANSWER_PART).max(MIN_ANSWER_BYTES);
    Gate::new(reads.chain(others), answer_bytes)
}

#[cfg(test)]
mod tests {
    use tagged_config_stores::journal::ENTRIES_PER_SECOND;

    use super::*;

    /// Also where a tenant creates keys at its quota at every task of `terraform/aws/prod.tfvars`, scaled out.
    #[test]
    fn one_tenant_at_its_write_quota_does_not_use_up_the_journal() {
        let entries = |tasks| u64::from(WRITES.per_second) * tasks;
        assert_eq!(ENTRIES_PER_SECOND, 5_333);
        assert!(entries(3) <= ENTRIES_PER_SECOND / 8, "as it starts");
        assert!(entries(20) <= ENTRIES_PER_SECOND * 4 / 5, "at its largest");
    }
}
