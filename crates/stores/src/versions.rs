//! How the writers of a store give versions that rise: from the clock, above what is there, and never before the clock has
//! reached them, so that what is given later, by another writer, too, is higher (ADR 6).

use std::time::Duration;

use tagged_config_domain::{StoreError, VersionClock};
use time::OffsetDateTime;

/// A version above `old`; returns when the clock has reached it.
pub(crate) async fn reach_version_above(clock: &VersionClock, old: i64) -> Result<i64, StoreError> {
    let version = clock.next(old).ok_or(StoreError::VersionExhausted)?;
    if let Some(wait) = clock.until(version) {
        tokio::time::sleep(wait).await;
    }
    Ok(version)
}

/// A deletion's version, above `old` if there is a higher one; returns when the clock is past it, so that what is created
/// afterwards gets a higher one.
pub(crate) async fn deletion_above(clock: &VersionClock, old: i64) -> i64 {
    // What has the highest version of all can still be deleted.
    let version = clock.next(old).unwrap_or_else(|| clock.now_ms());
    if let Some(wait) = clock.until(version.saturating_add(1)) {
        tokio::time::sleep(wait).await;
    }
    version
}

/// Waits before another attempt, longer each time.
pub(crate) async fn back_off(attempt: u32) {
    // Spread by the clock's nanoseconds: enough to part two writers.
    let jitter = u64::from(OffsetDateTime::now_utc().nanosecond() % 1_000);
    let base = 1_000_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_micros(base + base * jitter / 1_000)).await;
}
