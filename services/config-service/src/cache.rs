//! The local cache, keyed by the backend's own location. See `ARCHITECTURE.md`, "Cache invariants": each has a test below
//! this module.
//!
//! [`entry`] is the state machine of one location, and decides everything. This module is its concurrent shell: readers look
//! entries up without a lock of ours; all that changes an entry happens under the lock of the location's stripe, together
//! with the table of reads in flight ([`single_flight`]), so that a change and the end of a read cannot interleave.

use std::{ops::Deref, sync::Arc, time::Duration};

use async_trait::async_trait;
use tagged_config_domain::{
    Admitted, Location, LocationId, Order, Record, Revision, Store, StoreError,
};
use tagged_config_stores::ChangeKind;
use tokio::time::Instant;

pub(crate) use self::{
    entry::{Applied, Awaited, ChangedTo},
    partitions::Cached,
    single_flight::{Found, Outcome},
};
use self::{
    entry::{Began, Context, Effects, Event, Use},
    partitions::Partitions,
    single_flight::{Flights, Leader, Stripe, Ticket},
};
use crate::{
    change::pause::PauseDetector,
    telemetry::metrics::{Metrics, RepairedBy},
    watch::registry::WatchRegistry,
};

mod entry;
mod partitions;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttle_tests;
mod single_flight;
mod sync;
#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests;

/// What the cache reads from.
#[async_trait]
pub(crate) trait Source: Clone + Send + Sync + 'static {
    /// The store behind it.
    fn store(&self) -> &dyn Store;

    /// As [`Store::read`].
    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        self.store().read(admitted, locations).await
    }
}

impl Source for Arc<dyn Store> {
    fn store(&self) -> &dyn Store {
        &**self
    }
}

/// Settings of [`Cache`].
#[derive(Clone, Debug)]
pub(crate) struct CacheConfig {
    /// How long an entry is served without a read of the backend. Jittered downwards by up to a tenth.
    pub ttl: Duration,
    /// How old the last known value may get while the backend does not answer.
    pub max_stale: Duration,
    /// Bytes in all, an eighth of them for negative entries.
    pub bytes: u64,
}

/// What a cache takes from its surroundings, so that tests can replace it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// 0.0 to 1.0.
    pub jitter: fn() -> f64,
    /// Unix milliseconds.
    pub unix_ms: fn() -> i64,
}

/// Values and negative entries by location.
pub(crate) struct Cache {
    config: CacheConfig,
    entries: Partitions,
    flights: Flights,
    surroundings: Surroundings,
    pauses: Arc<PauseDetector>,
    registry: Arc<WatchRegistry>,
    metrics: Arc<Metrics>,
}

/// The answer to a look-up.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// Within its TTL, and no change was announced.
    Fresh(Arc<Cached>),
    /// The backend failed a moment ago: the last known state, to be served without waiting.
    Stale(Arc<Cached>),
    /// To be read; with the last known state as a fallback, if there is one that is not too old.
    Miss(Option<Arc<Cached>>),
}

/// How long a reader waits for a read in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// Until it ends.
    UntilDone,
    /// At most so long after the read began, and not beyond a moment.
    AtMost(Duration, Instant),
}

/// What Explain says of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// What a read would do.
    pub state: State,
    /// The version that is cached, 0 for none.
    pub version: i64,
    /// How long ago the backend was known to hold it.
    pub age: Duration,
}

/// What a read of an entry would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Read the backend: nothing is cached.
    NotCached,
    /// Answer with the value.
    Value,
    /// Answer that there is none.
    Absent,
    /// Read the backend: a change was announced, or the last read failed.
    Invalidated,
    /// Read the backend: the entry is too old, or not trusted after a pause.
    Expired,
}

// === impl Cache ===

impl Cache {
    /// An empty cache.
    pub(crate) fn new(
        config: CacheConfig,
        surroundings: Surroundings,
        pauses: Arc<PauseDetector>,
        registry: Arc<WatchRegistry>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            entries: Partitions::new(config.bytes),
            flights: Flights::new(),
            config,
            surroundings,
            pauses,
            registry,
            metrics,
        }
    }

    /// How long a change may stay unseen here at most, whatever is lost.
    pub(crate) fn staleness_bound(&self) -> Duration {
        self.config.ttl
    }

    /// How old the last known value may get while the backend does not answer.
    pub(crate) fn max_stale(&self) -> Duration {
        self.config.max_stale
    }

    /// The watches that are notified of changes.
    pub(crate) fn registry(&self) -> &Arc<WatchRegistry> {
        &self.registry
    }

    /// The bytes that it may use.
    pub(crate) fn capacity(&self) -> u64 {
        self.config.bytes
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.bytes()
    }

    /// Values and negative entries.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// What is known of a location now.
    pub(crate) fn lookup(&self, id: &LocationId, now: Instant) -> Lookup {
        let Some(entry) = self.entries.get(id) else {
            return Lookup::Miss(None);
        };
        let is_trusted = self.pauses.is_trusted(entry.epoch);
        match entry.usable(now, is_trusted, self.config.max_stale) {
            Use::Fresh => Lookup::Fresh(entry),
            Use::Stale => Lookup::Stale(entry),
            Use::Fallback => Lookup::Miss(Some(entry)),
            Use::None => Lookup::Miss(None),
        }
    }

    /// What is known of a location, for operators.
    pub(crate) fn explain(&self, id: &LocationId, now: Instant) -> Explained {
        let Some(entry) = self.entries.peek(id) else {
            return Explained {
                state: State::NotCached,
                version: 0,
                age: Duration::ZERO,
            };
        };
        let state = match entry.state {
            entry::State::Fresh { until, .. }
                if now >= until || !self.pauses.is_trusted(entry.epoch) =>
            {
                State::Expired
            }
            entry::State::Fresh { .. } if entry.record.is_some() => State::Value,
            entry::State::Fresh { .. } => State::Absent,
            entry::State::Invalidated | entry::State::Failing { .. } => State::Invalidated,
        };
        Explained {
            state,
            version: version_of(&entry),
            age: now.saturating_duration_since(entry.since),
        }
    }

    /// Whether no reader that comes now can be answered with what a location held before a change. For backends with consistent
    /// reads. `asked` is a moment after the change: a read in flight from before it may have found less, and be cached.
    pub(crate) fn shows(&self, id: &LocationId, awaited: Awaited, asked: Instant) -> bool {
        let flights = self.flights.lock(id);
        if flights.has_read_from(id, asked) {
            return false;
        }
        let entry = self.entries.peek(id);
        entry.is_none_or(|entry| entry.shows(awaited, Instant::now()))
    }

    /// Drops all entries, and detaches all reads in flight.
    pub(crate) fn clear(&self) {
        self.flights.detach_all();
        self.entries.clear();
        self.registry.all_changed();
    }

    /// Reads these locations of one store, sharing reads in flight: one call for all that nobody reads yet, which goes on
    /// when its callers leave. In the order of `locations`.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        source: &impl Source,
        admitted: &Admitted,
        locations: &[Location],
        wait: Wait,
    ) -> Vec<Outcome> {
        let began = self.began();
        let mut waiters = Vec::with_capacity(locations.len());
        let mut led = Vec::new();
        for location in locations {
            match self.flights.join_or_lead(location.id(), began) {
                Ticket::Follow(waiter) => waiters.push(waiter),
                Ticket::Lead(leader, waiter) => {
                    led.push((location.clone(), leader));
                    waiters.push(waiter);
                }
            }
        }
        if !led.is_empty() {
            let (cache, source) = (Arc::clone(self), source.clone());
            let admitted = admitted.clone();
            tokio::spawn(async move { cache.lead(&source, &admitted, led).await });
        }
        let mut outcomes = Vec::with_capacity(waiters.len());
        for waiter in waiters {
            let deadline = match wait {
                Wait::UntilDone => None,
                Wait::AtMost(after, until) => Some(until.min(waiter.began() + after)),
            };
            outcomes.push(waiter.outcome(source.store().backend(), deadline).await);
        }
        outcomes
    }

    /// Like a change event that says nothing more: reads that begin from now on are right.
    pub(crate) fn invalidate(&self, id: &LocationId) -> Applied {
        let change = ChangedTo::Unknown(Revision::default(), None);
        self.apply(id, Order::ConsistentReads, change, None)
    }

    /// Applies a change event. `written_at_ms`: when the backend was written, where known, rounded down.
    pub(crate) fn apply(
        &self,
        id: &LocationId,
        order: Order,
        change: ChangedTo,
        written_at_ms: Option<i64>,
    ) -> Applied {
        let event = Event::Pushed {
            change,
            written_at_ms,
        };
        let mut flights = self.flights.lock(id);
        self.step(&mut flights, id, order, event).0
    }

    /// Applies an entry of the change journal: the next read reads the backend, unless what is cached is that new.
    pub(crate) fn catch_up(
        &self,
        id: &LocationId,
        order: Order,
        kind: ChangeKind,
        revision: Revision,
    ) -> Applied {
        let mut flights = self.flights.lock(id);
        self.step(&mut flights, id, order, Event::Journal { kind, revision })
            .0
    }

    /// The version that is cached, 0 for none.
    pub(crate) fn cached_version(&self, id: &LocationId) -> i64 {
        self.entries.peek(id).map_or(0, |entry| version_of(&entry))
    }

    /// The highest version that was seen of a location, 0 for none.
    pub(crate) fn highest_seen_version(&self, id: &LocationId) -> i64 {
        let entry = self.entries.peek(id);
        entry.map_or(0, |entry| entry.highest_seen.version)
    }

    /// The last known state of a location, however old.
    pub(crate) fn last_known(&self, id: &LocationId) -> Option<Arc<Cached>> {
        self.entries.peek(id)
    }

    fn began(&self) -> Began {
        Began {
            at: Instant::now(),
            at_ms: (self.surroundings.unix_ms)(),
            epoch: self.pauses.epoch(),
        }
    }

    async fn lead(&self, source: &impl Source, admitted: &Admitted, led: Vec<(Location, Leader)>) {
        let store = source.store();
        let (locations, leaders): (Vec<_>, Vec<_>) = led.into_iter().unzip();
        let outcomes: Vec<Result<_, Arc<StoreError>>> =
            match source.read(admitted, &locations).await {
                Ok(records) => {
                    let bytes = |record: &Option<Record>| {
                        record.as_ref().map_or(0, |r| r.value.held_bytes() as u64)
                    };
                    let units = records.iter().map(|r| store.read_units(bytes(r)) - 1);
                    admitted.charge(units.fold(0, u32::saturating_add));
                    records.into_iter().map(Ok).collect()
                }
                Err(error) => {
                    let error = Arc::new(error);
                    leaders.iter().map(|_| Err(Arc::clone(&error))).collect()
                }
            };
        for ((location, leader), outcome) in locations.iter().zip(leaders).zip(outcomes) {
            self.complete(location, store.order(), leader, outcome);
        }
    }

    /// Ends a read: caches what it found unless it was detached, and answers its waiters.
    fn complete(
        &self,
        location: &Location,
        order: Order,
        leader: Leader,
        outcome: Result<Option<Record>, Arc<StoreError>>,
    ) {
        let id = location.id();
        let began = leader.began;
        let mut flights = self.flights.lock(id);
        let is_attached = flights.complete(id, &leader);
        let owner = location.owner().cloned();
        let outcome = match outcome {
            Ok(record) => {
                let event = if is_attached {
                    Event::Read {
                        began,
                        record: record.clone(),
                        owner,
                    }
                } else {
                    Event::DetachedRead {
                        began,
                        record: record.clone(),
                        owner,
                    }
                };
                let (_, effects) = self.step(&mut flights, id, order, event);
                // Of a lagging copy, what is known is the answer, and as old as it is.
                let known = effects.is_lagging.then(|| self.entries.peek(id)).flatten();
                Ok(known.map_or(
                    Found {
                        record,
                        since: began.at,
                    },
                    |known| Found {
                        record: known.record.clone(),
                        since: known.since,
                    },
                ))
            }
            Err(error) => {
                if is_attached && !error.is_an_answer() {
                    self.step(&mut flights, id, order, Event::ReadFailed);
                }
                Err(error)
            }
        };
        drop(flights);
        leader.finish(outcome);
    }

    /// Runs the state machine of a location, under its lock.
    fn step(
        &self,
        flights: &mut Stripe,
        id: &LocationId,
        order: Order,
        event: Event,
    ) -> (Applied, Effects) {
        let old = self.entries.peek(id);
        let jitter = (self.surroundings.jitter)().clamp(0.0, 1.0);
        let context = Context {
            order,
            now: Instant::now(),
            now_ms: (self.surroundings.unix_ms)(),
            ttl: self.config.ttl.mul_f64(1.0 - 0.1 * jitter),
            is_trusted: old
                .as_ref()
                .is_some_and(|old| self.pauses.is_trusted(old.epoch)),
        };
        let step = entry::step(old.as_deref().map(Deref::deref), event, &context);
        if step.effects.detach {
            flights.detach(id);
        }
        if let Some(entry) = step.entry {
            self.entries.store(id, entry);
        }
        if step.effects.is_repair {
            self.metrics.repaired(RepairedBy::ttl);
        }
        if step.effects.notify {
            self.registry.changed(id);
        }
        (step.applied, step.effects)
    }
}

fn version_of(entry: &Cached) -> i64 {
    let record = entry.record.as_ref();
    record.map_or(0, |record| record.revision.version)
}
