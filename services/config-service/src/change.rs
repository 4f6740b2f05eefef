//! What becomes of a change, however it is learnt of: by push, or by the sweep of the journal.

pub(crate) mod pause;
pub(crate) mod sweep;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use quick_cache::sync::Cache as QuickCache;
use tagged_config_domain::{Check, ConfigKey, LocationId, Order, Record, Revision, Store, Value};
use tagged_config_proto::v1 as pb;
use tagged_config_stores::{ChangeId, ChangeKind, Entry, Stores};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use tagged_config_runtime::clock::unix_ms;

use crate::{
    api::{guard::Guard, schema},
    cache::{Applied, Awaited, Cache, ChangedTo},
    telemetry::metrics::{Metrics, RepairedBy},
};

/// How long a change is remembered, so that later sweeps, which overlap, skip it.
const MEMORY: Duration = Duration::from_mins(2);
/// More changes than this are not remembered: some are then applied twice, which costs a read.
const MAX_REMEMBERED: usize = 200_000;
/// A push that comes this long after the sweep found its change was under way already: no repair.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// How often a location is checked for a change that a caller waits for. A read in flight that ends without a change notifies
/// nobody, so that no notification can take the place of this.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Locations whose last change can be explained.
const EXPLAINED: usize = 10_000;

/// Applies changes to the cache, each once.
pub(crate) struct Changes {
    stores: Stores,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    guard: Option<Arc<Guard>>,
    seen: Mutex<Seen>,
    last: QuickCache<LocationId, LastChange>,
}

/// What brought a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The invalidator's call.
    Push,
    /// The journal.
    Sweep,
}

/// The last change of a location that reached this task.
#[derive(Clone, Debug)]
pub(crate) struct LastChange {
    /// How.
    pub by: By,
    /// What it did.
    pub applied: Applied,
    /// The version it announced.
    pub version: i64,
    /// When, in unix milliseconds.
    pub at_ms: i64,
}

#[derive(Default)]
struct Seen {
    at: HashMap<ChangeId, Instant>,
    /// Applied by a sweep; by when a push still counts as the one who brought it.
    unconfirmed: HashMap<ChangeId, Instant>,
}

// === impl By ===

impl By {
    /// As messages spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Sweep => "sweep",
        }
    }
}

// === impl Changes ===

impl Changes {
    /// Changes to this cache.
    pub(crate) fn new(
        stores: Stores,
        cache: Arc<Cache>,
        metrics: Arc<Metrics>,
        guard: Option<Arc<Guard>>,
    ) -> Self {
        Self {
            stores,
            cache,
            metrics,
            guard,
            seen: Mutex::default(),
            last: QuickCache::new(EXPLAINED),
        }
    }

    /// The last change of a location, if it is remembered.
    pub(crate) fn last(&self, id: &LocationId) -> Option<LastChange> {
        self.last.get(id)
    }

    /// Waits until no reader here can be answered with what a location held before a change, for so long at most. Whether that
    /// is so. `None` for a backend that is not here, or whose reads may lag.
    pub(crate) async fn await_change(
        &self,
        location: &pb::Location,
        awaited: Awaited,
        limit: Duration,
    ) -> Option<bool> {
        let store = self.stores.by_backend(&location.backend)?;
        if store.order() != Order::ConsistentReads {
            return None;
        }
        let (partition, sort) = (location.partition.as_str(), location.sort.as_str());
        let id = LocationId::new(store.backend(), partition, sort);
        let asked = Instant::now();
        let arrival = async {
            while !self.cache.shows(&id, awaited, asked) {
                sleep(POLL_INTERVAL).await;
            }
        };
        Some(timeout(limit, arrival).await.is_ok())
    }

    /// Applies a change that the invalidator sent.
    pub(crate) fn pushed(&self, change: pb::Change) -> pb::Receipt {
        let location = change.location.clone().unwrap_or_default();
        let Some(store) = self.stores.by_backend(&location.backend) else {
            return pb::Receipt {
                location: Some(location),
                outcome: pb::receipt::Outcome::UnknownBackend.into(),
                version: 0,
            };
        };
        let backend = store.backend();
        let id = LocationId::new(backend, location.partition.as_str(), location.sort.as_str());
        let (written_at_ms, whole_seconds) =
            (change.written_at_ms, change.written_at_whole_seconds);
        let (name, version) = (ChangeId::from_bytes(&change.id), change.version);
        let written = (written_at_ms > 0).then_some(written_at_ms);
        let changed_to = match changed_to(change) {
            // It is checked when it is read.
            ChangedTo::Value(record)
                if record.check == Check::Open && self.is_guarded(&**store, &id) =>
            {
                ChangedTo::Unknown(record.revision, Some(*record.digest()))
            }
            changed_to => changed_to,
        };
        let applied = self.cache.apply(&id, store.order(), changed_to, written);
        if let Some(name) = name {
            let mut seen = self.seen.lock();
            seen.unconfirmed.remove(&name);
            seen.remember(name);
        }
        if matches!(applied, Applied::Updated | Applied::Invalidated)
            && let Some(took) = since(written_at_ms)
        {
            self.metrics.propagated(backend, took, whole_seconds);
        }
        self.note(&id, By::Push, applied, version);
        self.heed(&**store, &id, applied);
        pb::Receipt {
            location: Some(location),
            outcome: outcome(applied).into(),
            version: self.cache.cached_version(&id),
        }
    }

    fn is_guarded(&self, store: &dyn Store, id: &LocationId) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.may_cover(store, id))
    }

    /// Applies what the journal says, unless it is known.
    pub(crate) fn swept(&self, entry: &Entry) {
        if !self.seen.lock().remember(entry.id) {
            return;
        }
        if entry.kind == ChangeKind::Flush {
            self.cache.clear();
            tracing::info!("flushed: the journal says so");
            return;
        }
        let Some(store) = self.stores.by_backend(&entry.backend) else {
            return;
        };
        let id = LocationId::new(
            store.backend(),
            entry.partition.as_str(),
            entry.sort.as_str(),
        );
        let applied = self
            .cache
            .catch_up(&id, store.order(), entry.kind, entry.revision);
        if applied == Applied::Invalidated {
            let deadline = Instant::now() + UNDER_WAY;
            self.seen.lock().unconfirmed.insert(entry.id, deadline);
        }
        if applied != Applied::NotNewer {
            self.note(&id, By::Sweep, applied, entry.revision.version);
            self.heed(&**store, &id, applied);
        }
    }

    /// A schema that changed may be kept by what is served instead of an invalid value, or by that value.
    fn heed(&self, store: &dyn Store, id: &LocationId, applied: Applied) {
        let is_schema = |(_, key): (String, ConfigKey)| key.tag() == schema::TAG;
        if applied != Applied::NotNewer
            && let Some(guard) = &self.guard
            && store.key_at(id).is_some_and(is_schema)
        {
            guard.schema_changed();
        }
    }

    /// After each sweep: counts what no push has confirmed, and forgets what no sweep can find any more.
    pub(crate) fn settle(&self) {
        let now = Instant::now();
        let mut seen = self.seen.lock();
        seen.at.retain(|_, at| now.duration_since(*at) < MEMORY);
        let before = seen.unconfirmed.len();
        seen.unconfirmed.retain(|_, deadline| now < *deadline);
        for _ in seen.unconfirmed.len()..before {
            self.metrics.repaired(RepairedBy::sweep);
        }
    }

    /// Forgets everything that is cached; the entries that were.
    pub(crate) fn flush(&self, id: &[u8]) -> usize {
        if let Some(id) = ChangeId::from_bytes(id) {
            self.seen.lock().remember(id);
        }
        let entries = self.cache.entries();
        self.cache.clear();
        tracing::info!(entries, "flushed");
        entries
    }

    fn note(&self, id: &LocationId, by: By, applied: Applied, version: i64) {
        let at_ms = unix_ms();
        self.last.insert(
            id.clone(),
            LastChange {
                by,
                applied,
                version,
                at_ms,
            },
        );
    }
}

// === impl Seen ===

impl Seen {
    /// Whether it was new.
    fn remember(&mut self, id: ChangeId) -> bool {
        if self.at.len() >= MAX_REMEMBERED {
            self.at.clear();
        }
        self.at.insert(id, Instant::now()).is_none()
    }
}

fn changed_to(change: pb::Change) -> ChangedTo {
    let revision = Revision {
        incarnation: change.incarnation,
        version: change.version,
    };
    match change.state {
        Some(pb::change::State::Value(value)) => {
            let modified_ms = (value.modified_ms != 0).then_some(value.modified_ms);
            let content = if value.data.is_empty() {
                Value::from(value.value)
            } else {
                // It is a part of the message's buffer, which it would keep from being freed.
                Value::from(Bytes::copy_from_slice(&value.data))
            };
            let record = Record::new(content, value.content_type, revision, modified_ms);
            ChangedTo::Value(if value.checked {
                record.written()
            } else {
                record
            })
        }
        Some(pb::change::State::Absent(true)) => ChangedTo::Absent(change.incarnation),
        Some(pb::change::State::Absent(false) | pb::change::State::Unknown(_)) | None => {
            ChangedTo::Unknown(revision, change.digest.as_ref().try_into().ok())
        }
    }
}

fn outcome(applied: Applied) -> pb::receipt::Outcome {
    use pb::receipt::Outcome;
    match applied {
        Applied::Updated => Outcome::Applied,
        Applied::Invalidated => Outcome::Invalidated,
        Applied::NotCached => Outcome::NotCached,
        Applied::NotNewer => Outcome::NotNewer,
    }
}

fn since(written_at_ms: i64) -> Option<Duration> {
    let written_at = u64::try_from(written_at_ms).ok().filter(|ms| *ms > 0)?;
    let now = u64::try_from(unix_ms()).ok()?;
    Some(Duration::from_millis(now.saturating_sub(written_at)))
}
