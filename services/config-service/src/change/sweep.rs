//! The sweep: reads the journal every few seconds and applies what no push brought, so that a lost event costs
//! seconds and not the TTL.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tagged_config_domain::StoreError;
use tagged_config_runtime::telemetry;
use tagged_config_stores::{Entry, Journal};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, timeout},
};

use crate::{
    change::pause::{Clock, PauseDetector},
    change::{Changes, unix_ms},
    telemetry::metrics::Metrics,
};

/// The interval of the [`PauseDetector`]'s heartbeat.
const REPORTS: Duration = Duration::from_millis(200);
/// Reports further apart than this are a pause: shorter ones go unnoticed, and add themselves to the bound.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// One sweep; a longer one has failed.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);
/// The first sweep after a gap has more to read.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer gap than this is not caught up with: all entries are invalidated. Well within the journal's retention.
const MAX_GAP: Duration = Duration::from_mins(10);

/// Somewhere to read what changed.
pub(crate) trait ReadJournal: Send + Sync + 'static {
    /// What became readable since then, and perhaps more.
    fn read(
        &self,
        since_ms: i64,
        now_ms: i64,
    ) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;
}

impl ReadJournal for Journal {
    async fn read(&self, since_ms: i64, now_ms: i64) -> Result<Vec<Entry>, StoreError> {
        Journal::read(self, since_ms, now_ms).await
    }
}

/// Sweeps; and reports to [`PauseDetector`], also where there is no journal.
pub(crate) struct Sweeper<J> {
    journal: Option<J>,
    interval: Duration,
    /// Everything before is known: the start of the last sweep that succeeded.
    since_ms: i64,
    changes: Arc<Changes>,
    pauses: Arc<PauseDetector>,
    health: Arc<SweepHealth>,
    metrics: Arc<Metrics>,
    failing: bool,
}

/// Reports to [`PauseDetector`], also during a sweep that takes long.
async fn report(detector: Arc<PauseDetector>, paused: Arc<Notify>) {
    let mut last = detector.heartbeat();
    let mut ticks = tokio::time::interval(REPORTS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let epoch = detector.heartbeat();
        if epoch != last {
            last = epoch;
            paused.notify_one();
        }
    }
}

/// Whether the sweeps keep their promise.
pub(crate) struct SweepHealth {
    clock: Clock,
    bound: Duration,
    last_success_ms: AtomicU64,
}

// === impl SweepHealth ===

impl SweepHealth {
    /// For sweeps this far apart.
    pub(crate) fn new(clock: Clock, interval: Duration) -> Self {
        Self {
            clock,
            bound: interval.max(SWEEP_TIMEOUT) + SWEEP_TIMEOUT,
            last_success_ms: AtomicU64::new(0),
        }
    }

    /// How long a change that is in the journal may stay unseen at most: from just after a sweep to the end of the
    /// next one. `None` while sweeps fail.
    pub(crate) fn bound(&self) -> Option<Duration> {
        let last = self.last_success_ms.load(Ordering::Acquire);
        let age = Duration::from_millis((self.clock)().saturating_sub(last));
        (last != 0 && age <= self.bound).then_some(self.bound)
    }

    /// What [`Self::bound`] gives while sweeps succeed.
    pub(crate) fn promise(&self) -> Duration {
        self.bound
    }

    fn succeeded(&self, started_ms: u64) {
        self.last_success_ms.store(started_ms, Ordering::Release);
    }
}

// === impl Sweeper ===

impl<J: ReadJournal> Sweeper<J> {
    /// A sweeper whose cursor is now: make it before the first entry is cached.
    pub(crate) fn new(
        journal: Option<J>,
        interval: Duration,
        changes: Arc<Changes>,
        pauses: Arc<PauseDetector>,
        health: Arc<SweepHealth>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            journal,
            interval,
            since_ms: unix_ms(),
            changes,
            pauses,
            health,
            metrics,
            failing: false,
        }
    }

    /// Sweeps until it is dropped; at once after a pause.
    pub(crate) async fn run(mut self) {
        let paused = Arc::new(Notify::new());
        let detector = Arc::clone(&self.pauses);
        tokio::join!(report(detector, Arc::clone(&paused)), async {
            let mut ticks = tokio::time::interval(self.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = paused.notified() => {}
                }
                self.sweep().await;
            }
        });
    }

    async fn sweep(&mut self) {
        let epoch = self.pauses.heartbeat();
        let Some(journal) = &self.journal else {
            return;
        };
        let (started_ms, started) = (unix_ms(), (self.health.clock)());
        let gap = Duration::from_millis(
            started_ms
                .saturating_sub(self.since_ms)
                .max(0)
                .unsigned_abs(),
        );
        if gap > MAX_GAP {
            tracing::warn!(
                ?gap,
                "too long without a sweep: all entries are invalidated"
            );
            self.pauses.invalidate_all();
            self.since_ms = started_ms;
        }
        let limit = if gap > 3 * self.interval {
            CATCH_UP_TIMEOUT
        } else {
            SWEEP_TIMEOUT
        };
        let error = match timeout(limit, journal.read(self.since_ms, started_ms)).await {
            Ok(Ok(entries)) => {
                for entry in &entries {
                    self.changes.swept(entry);
                }
                self.changes.settle();
                self.since_ms = started_ms;
                self.pauses.caught_up(epoch);
                self.health.succeeded(started);
                self.metrics.swept(true);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the journal is read again");
                }
                return;
            }
            Ok(Err(error)) => telemetry::chain(&error),
            Err(_) => format!("no answer in {limit:?}"),
        };
        self.metrics.swept(false);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                error,
                "the journal cannot be read: lost events are found by the TTL only"
            );
        }
    }
}

#[cfg(test)]
mod tests;
