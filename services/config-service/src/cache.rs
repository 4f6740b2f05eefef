//! The local cache, keyed by the backend's own location. See `ARCHITECTURE.md`, "Cache invariants": each
//! has a test below this module.
//!
//! Readers look up without a lock of ours. All that changes an entry happens under the lock of the
//! location's stripe, together with the table of reads that are under way ([`Flights`]): so an invalidation
//! and the end of a read can never interleave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tagged_config_domain::{
    Location, LocationId, Order, Record, Revision, Store, StoreError, TenantId,
};
use tagged_config_stores::ChangeKind;
use tokio::time::Instant;

use crate::{
    cache::{
        partitions::{Charge, Places},
        single_flight::{Flights, Outcome, Ticket},
    },
    change::pause::{Epoch, Trust},
    telemetry::metrics::{Metrics, Repairer},
    watch::registry::Hub,
};

mod partitions;
mod single_flight;
#[cfg(test)]
mod tests;

/// After a failed read the last known value is served without asking again for this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// After this part of its TTL a value is read again while it is still served.
const RENEW_AT: f64 = 0.8;
/// How long a value is served that is known to be older than one that was announced.
const LAGGING_TTL: Duration = Duration::from_millis(250);

/// Settings of [`Cache`].
#[derive(Clone, Debug)]
pub(crate) struct CacheConfig {
    /// How long an entry is served without asking the source. Jittered downwards by up to a tenth.
    pub ttl: Duration,
    /// How old the last known value may get while the source does not answer.
    pub max_stale: Duration,
    /// Bytes in all, an eighth of them for absences.
    pub bytes: u64,
}

/// Values and absences by location.
pub(crate) struct Cache {
    config: CacheConfig,
    places: Places,
    flights: Flights,
    jitter: fn() -> f64,
    trust: Arc<Trust>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

/// What is known of one location.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What the source held, `None` for nothing.
    pub record: Option<Record>,
    /// When the source was last known to hold it: for a read, when it began.
    pub since: Instant,
    /// Whose it is, where that is known.
    owner: Option<TenantId>,
    charge: Option<Arc<Charge>>,
    learnt: Epoch,
    /// From here to `fresh_until` a reader has it read again without waiting.
    renew_from: Instant,
    renewing: OnceFlag,
    fresh_until: Instant,
    /// A change was announced that this entry does not show.
    invalidated: bool,
    /// Highest revision that was ever seen here, also if the present one is lower (a hand edit).
    peak: Revision,
    retry_after: Option<Instant>,
}

/// The answer to a look-up.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// Within its TTL, and no change was announced.
    Fresh(Arc<Entry>),
    /// The source failed a moment ago: the last known state.
    Stale(Arc<Entry>),
    /// To be read; with the last known state, in case the source does not answer.
    Miss(Option<Arc<Entry>>),
}

/// What a change event says of a location.
#[derive(Clone, Debug)]
pub(crate) enum ChangedTo {
    /// This value, of this revision.
    Value(Record),
    /// Nothing any more. For [`Order::Revisions`]: what was there was last modified at or before these unix
    /// milliseconds; up to 999 ms later is undecided.
    Absent(i64),
    /// Something: read it. The revision is the announced one, or the lowest.
    Unknown(Revision),
}

/// What a change event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The cache holds the new state.
    Updated,
    /// The next read asks the source.
    Invalidated,
    /// Nothing was cached.
    NotCached,
    /// The cache holds this or newer.
    NotNewer,
}

/// What Explain tells of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// What a read would do.
    pub state: State,
    /// The version that is cached, 0 for none.
    pub version: i64,
    /// How long ago the source was known to hold it.
    pub age: Duration,
}

/// What a read of an entry would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Ask: nothing is cached.
    NotCached,
    /// Answer with the value.
    Value,
    /// Answer that there is none.
    Absent,
    /// Ask: a change was announced.
    Invalidated,
    /// Ask: it is too old, or not trusted after a pause.
    Expired,
}

/// True once; a copy starts anew.
#[derive(Debug, Default)]
struct OnceFlag(AtomicBool);

impl Clone for OnceFlag {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl OnceFlag {
    fn take(&self) -> bool {
        !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Relaxed)
    }
}

/// When a read began: what it brings is true as of then.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    epoch: Epoch,
}

impl Applied {
    /// As messages spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::Invalidated => "invalidated",
            Self::NotCached => "not-cached",
            Self::NotNewer => "not-newer",
        }
    }
}

// === impl Cache ===

impl Cache {
    /// An empty cache. `jitter` gives 0.0 to 1.0.
    pub(crate) fn new(
        config: CacheConfig,
        jitter: fn() -> f64,
        trust: Arc<Trust>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            places: Places::new(config.bytes),
            flights: Flights::new(),
            config,
            jitter,
            trust,
            hub,
            metrics,
        }
    }

    /// How long a change may stay unseen here at most, whatever is lost.
    pub(crate) fn staleness_bound(&self) -> Duration {
        self.config.ttl
    }

    /// How old the last known value may get while the source does not answer.
    pub(crate) fn max_stale(&self) -> Duration {
        self.config.max_stale
    }

    /// Who is told of changes.
    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Bytes in use, values and absences.
    pub(crate) fn bytes(&self) -> u64 {
        self.places.bytes()
    }

    /// Entries, values and absences.
    pub(crate) fn entries(&self) -> usize {
        self.places.len()
    }

    /// What is known of a location now.
    pub(crate) fn lookup(&self, id: &LocationId, now: Instant) -> Lookup {
        let Some(entry) = self.places.get(id) else {
            return Lookup::Miss(None);
        };
        if !entry.invalidated && now < entry.fresh_until && self.trust.holds(entry.learnt) {
            return Lookup::Fresh(entry);
        }
        if now.saturating_duration_since(entry.since) > self.config.max_stale {
            return Lookup::Miss(None);
        }
        if entry.retry_after.is_some_and(|retry| now < retry) {
            Lookup::Stale(entry)
        } else {
            Lookup::Miss(Some(entry))
        }
    }

    /// Whether this reader is the one to have a fresh entry read again, before it expires.
    pub(crate) fn is_to_renew(entry: &Entry, now: Instant) -> bool {
        now >= entry.renew_from
            && entry.retry_after.is_none_or(|retry| now >= retry)
            && entry.renewing.take()
    }

    /// What is known of a location, for operators.
    pub(crate) fn explain(&self, id: &LocationId, now: Instant) -> Explained {
        let Some(entry) = self.peek(id) else {
            return Explained {
                state: State::NotCached,
                version: 0,
                age: Duration::ZERO,
            };
        };
        let state = if entry.invalidated {
            State::Invalidated
        } else if now >= entry.fresh_until || !self.trust.holds(entry.learnt) {
            State::Expired
        } else if entry.record.is_some() {
            State::Value
        } else {
            State::Absent
        };
        Explained {
            state,
            version: entry
                .record
                .as_ref()
                .map_or(0, |record| record.revision.version),
            age: now.saturating_duration_since(entry.since),
        }
    }

    /// Forgets everything, also what reads under way will bring.
    pub(crate) fn clear(&self) {
        self.flights.cancel_all();
        self.places.clear();
        self.hub.all_changed();
    }

    /// Reads these locations of one store, sharing what others read already: one call for all that nobody
    /// reads yet. The call outlives its callers. In the order of `locations`.
    pub(crate) async fn fill(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        locations: &[Location],
    ) -> Vec<Outcome> {
        let began = Began {
            at: Instant::now(),
            epoch: self.trust.epoch(),
        };
        let mut tickets = Vec::with_capacity(locations.len());
        let mut led = Vec::new();
        for location in locations {
            match self.flights.join_or_lead(location.id(), began.epoch) {
                Ticket::Join(waiter) => tickets.push(waiter),
                Ticket::Lead(leader, waiter) => {
                    led.push((location.clone(), leader));
                    tickets.push(waiter);
                }
            }
        }
        if !led.is_empty() {
            let (cache, store) = (Arc::clone(self), Arc::clone(store));
            tokio::spawn(async move { cache.lead(&*store, led, began).await });
        }
        let mut outcomes = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            outcomes.push(ticket.outcome(store.backend()).await);
        }
        outcomes
    }

    /// Like a change event of which nothing more is known: reads that begin from now on are right.
    pub(crate) fn invalidate(&self, id: &LocationId, revision: Revision) -> Applied {
        self.apply(id, Order::ConsistentReads, ChangedTo::Unknown(revision))
    }

    /// Takes in a change event.
    pub(crate) fn apply(&self, id: &LocationId, order: Order, change: ChangedTo) -> Applied {
        let applied = self.take_in(id, order, change);
        if applied != Applied::NotNewer {
            self.hub.changed(id);
        }
        applied
    }

    fn take_in(&self, id: &LocationId, order: Order, change: ChangedTo) -> Applied {
        let mut flights = self.flights.lock(id);
        let was_read = flights.cancel(id);
        let now = Instant::now();
        let Some(entry) = self.peek(id) else {
            return match change {
                ChangedTo::Value(record) if was_read => {
                    let peak = record.revision;
                    let began = Began {
                        at: now,
                        epoch: self.trust.epoch(),
                    };
                    self.store(id, self.entry(Some(record), None, began, peak));
                    Applied::Updated
                }
                _ => Applied::NotCached,
            };
        };
        // Trusted no more than what was there: of other changes in between nothing is known.
        let told = Began {
            at: now,
            epoch: entry.learnt,
        };
        match change {
            ChangedTo::Value(record) => {
                let same =
                    entry.record.as_ref().is_some_and(|held| *held == record) && !entry.invalidated;
                if record.revision > entry.peak {
                    let peak = record.revision;
                    self.store(
                        id,
                        self.entry(Some(record), entry.owner.clone(), told, peak),
                    );
                    Applied::Updated
                } else if same || order == Order::Revisions && !entry.invalidated {
                    Applied::NotNewer
                } else if order == Order::Revisions && record.revision == entry.peak {
                    self.store(
                        id,
                        self.entry(Some(record), entry.owner.clone(), told, entry.peak),
                    );
                    Applied::Updated
                } else {
                    self.mark_invalidated(id, &entry, entry.peak)
                }
            }
            ChangedTo::Absent(until_ms) => match (&entry.record, order) {
                (Some(held), Order::Revisions) if held.revision.incarnation <= until_ms => {
                    self.store(id, self.entry(None, entry.owner.clone(), told, entry.peak));
                    Applied::Updated
                }
                (Some(held), Order::Revisions)
                    if held.revision.incarnation > until_ms.saturating_add(999) =>
                {
                    Applied::NotNewer
                }
                (None, Order::Revisions) if !entry.invalidated => Applied::NotNewer,
                _ => self.mark_invalidated(id, &entry, entry.peak),
            },
            ChangedTo::Unknown(revision) => {
                if order == Order::Revisions
                    && revision != Revision::default()
                    && revision <= entry.peak
                    && !entry.invalidated
                {
                    return Applied::NotNewer;
                }
                self.mark_invalidated(id, &entry, entry.peak.max(revision))
            }
        }
    }

    /// Takes in what the journal says: the next read asks the source, unless what is cached is that new.
    pub(crate) fn catch_up(
        &self,
        id: &LocationId,
        order: Order,
        kind: ChangeKind,
        revision: Revision,
    ) -> Applied {
        let mut flights = self.flights.lock(id);
        let Some(entry) = self.peek(id) else {
            flights.cancel(id);
            self.hub.changed(id);
            return Applied::NotCached;
        };
        let is_known = match (kind, &entry.record, order) {
            (ChangeKind::Written, ..) => entry.peak >= revision,
            (ChangeKind::Removed, None, _) => true,
            (ChangeKind::Removed, Some(held), Order::ConsistentReads) => held.revision > revision,
            (ChangeKind::Removed, Some(held), Order::Revisions) => {
                held.revision.incarnation > revision.incarnation.saturating_add(999)
            }
            (ChangeKind::Edited | ChangeKind::Flush, ..) => false,
        };
        if is_known {
            return Applied::NotNewer;
        }
        flights.cancel(id);
        if entry.invalidated {
            return Applied::NotNewer;
        }
        // Of consistent reads the push that may still come brings the value; of others, old copies must be told.
        let peak = match order {
            Order::ConsistentReads => entry.peak,
            Order::Revisions => entry.peak.max(revision),
        };
        let applied = self.mark_invalidated(id, &entry, peak);
        self.hub.changed(id);
        applied
    }

    /// The version that is cached, 0 for none.
    pub(crate) fn cached_version(&self, id: &LocationId) -> i64 {
        self.peek(id)
            .and_then(|entry| entry.record.as_ref().map(|record| record.revision.version))
            .unwrap_or(0)
    }

    /// The highest version that is known of a location, 0 for none.
    pub(crate) fn peak_version(&self, id: &LocationId) -> i64 {
        self.peek(id).map_or(0, |entry| entry.peak.version)
    }

    async fn lead(
        &self,
        store: &dyn Store,
        led: Vec<(Location, single_flight::Leader)>,
        began: Began,
    ) {
        let (locations, leaders): (Vec<_>, Vec<_>) = led.into_iter().unzip();
        let outcomes: Vec<Outcome> = match store.read(&locations).await {
            Ok(records) => records.into_iter().map(Ok).collect(),
            Err(error) => {
                let error = Arc::new(error);
                leaders.iter().map(|_| Err(Arc::clone(&error))).collect()
            }
        };
        for ((location, leader), outcome) in locations.iter().zip(leaders).zip(outcomes) {
            let outcome = self.land(location, store.order(), &leader, began, outcome);
            leader.finish(outcome);
        }
    }

    /// Takes in what a read brought, unless the location changed while it was under way; then it is still
    /// the answer for those who asked before the change.
    fn land(
        &self,
        location: &Location,
        order: Order,
        leader: &single_flight::Leader,
        began: Began,
        outcome: Outcome,
    ) -> Outcome {
        let id = location.id();
        let mut flights = self.flights.lock(id);
        if !flights.complete(id, leader) {
            if let Ok(record) = &outcome
                && self.doubt(location, began, record.as_ref())
            {
                // One that was made before this one may still be under way: its answer must not be taken in after it.
                flights.cancel(id);
            }
            return outcome;
        }
        let now = Instant::now();
        let old = self.peek(id);
        match &outcome {
            Err(error) => {
                if let Some(old) = old.filter(|_| !error.is_an_answer()) {
                    let retry_after = Some(now + RETRY_AFTER);
                    self.store(
                        id,
                        Entry {
                            retry_after,
                            ..(*old).clone()
                        },
                    );
                }
                outcome
            }
            Ok(record) => {
                let Some(old) = old else {
                    let peak = record.as_ref().map(|r| r.revision).unwrap_or_default();
                    self.store(
                        id,
                        self.entry(record.clone(), location.owner().cloned(), began, peak),
                    );
                    self.hub.changed(id);
                    return outcome;
                };
                let revision = record.as_ref().map(|r| r.revision);
                if order == Order::Revisions && revision.is_some_and(|revision| revision < old.peak)
                {
                    return Ok(self.land_older_copy(id, record.clone(), &old, began));
                }
                let missed = !old.invalidated && old.retry_after.is_none() && old.record != *record;
                if missed {
                    self.metrics.repaired(Repairer::ttl);
                }
                let peak = old.peak.max(revision.unwrap_or_default());
                self.store(
                    id,
                    self.entry(record.clone(), location.owner().cloned(), began, peak),
                );
                if old.record != *record {
                    self.hub.changed(id);
                }
                outcome
            }
        }
    }

    /// A read brought something else than what is cached, and was detached from it by a change: what is cached is doubtful, and
    /// what stands in while the source does not answer must not go back behind what readers were given. Whether they were
    /// given something newer.
    fn doubt(&self, location: &Location, began: Began, record: Option<&Record>) -> bool {
        let Some(old) = self.peek(location.id()) else {
            let Some(record) = record else {
                return false;
            };
            let owner = location.owner().cloned();
            let mut entry = self.entry(Some(record.clone()), owner, began, record.revision);
            entry.invalidated = true;
            self.store(location.id(), entry);
            return true;
        };
        let known = old.record.as_ref();
        let is_newer = known.map(|known| known.revision) < record.map(|record| record.revision);
        // A read that began before what is cached was learnt is the older one, unless its version says that it was made late.
        if known == record || began.at <= old.since && !is_newer {
            return false;
        }
        let mut entry = (*old).clone();
        entry.invalidated = true;
        if let Some(record) = record.filter(|_| is_newer) {
            entry.peak = entry.peak.max(record.revision);
            entry.record = Some(record.clone());
            entry.since = began.at;
            entry.learnt = began.epoch;
        }
        self.store(location.id(), entry);
        is_newer
    }

    /// The last known state of a location, however old.
    pub(crate) fn last_known(&self, id: &LocationId) -> Option<Arc<Entry>> {
        self.peek(id)
    }

    /// A lagging replica answered with less than we know of. What we hold stays if it is that newer value;
    /// either way we ask again soon.
    fn land_older_copy(
        &self,
        id: &LocationId,
        copy: Option<Record>,
        old: &Entry,
        began: Began,
    ) -> Option<Record> {
        let now = Instant::now();
        let held_is_newer =
            old.record.as_ref().map(|r| r.revision) >= copy.as_ref().map(|r| r.revision);
        let record = if held_is_newer || old.record.is_none() && !old.invalidated {
            old.record.clone()
        } else {
            copy
        };
        self.store(
            id,
            Entry {
                record: record.clone(),
                fresh_until: now + LAGGING_TTL,
                renew_from: now + LAGGING_TTL,
                learnt: began.epoch,
                invalidated: false,
                ..old.clone()
            },
        );
        record
    }

    fn entry(
        &self,
        record: Option<Record>,
        owner: Option<TenantId>,
        began: Began,
        peak: Revision,
    ) -> Entry {
        let Began {
            at: since,
            epoch: learnt,
        } = began;
        let ttl = self
            .config
            .ttl
            .mul_f64(1.0 - 0.1 * (self.jitter)().clamp(0.0, 1.0));
        Entry {
            record,
            since,
            owner,
            charge: None,
            learnt,
            renew_from: since + ttl.mul_f64(RENEW_AT),
            renewing: OnceFlag::default(),
            fresh_until: since + ttl,
            invalidated: false,
            peak,
            retry_after: None,
        }
    }

    fn mark_invalidated(&self, id: &LocationId, entry: &Entry, peak: Revision) -> Applied {
        self.store(
            id,
            Entry {
                invalidated: true,
                retry_after: None,
                peak,
                ..entry.clone()
            },
        );
        Applied::Invalidated
    }

    fn store(&self, id: &LocationId, entry: Entry) {
        self.places.store(id, entry);
    }

    fn peek(&self, id: &LocationId) -> Option<Arc<Entry>> {
        self.places.peek(id)
    }
}

/// The failure of a read whose task ended without a result.
fn abandoned(backend: tagged_config_domain::Backend) -> Arc<StoreError> {
    Arc::new(StoreError::Unavailable {
        backend,
        source: "the read was abandoned".into(),
    })
}
