//! What the service does, for both transports: the tenant comes in a [`Principal`], the key is checked, its
//! tag picks the store, the cache stands before it.

use std::{collections::HashSet, ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use tagged_config_domain::{
    Admitted, AnswerPermit, Backend, Check, ConfigKey, ConfigName, Current, Gate, KeyPrefix,
    Layers, ListPage, ListRequest, NewValue, Order, Origin, Precondition, Principal, Record,
    Refused, Resource, Role, Store, StoreError, TenantId, Value, ValueStream, Written,
    admission::SMALL_ANSWER_BYTES,
};
use tagged_config_runtime::telemetry;
use tagged_config_stores::{History, Stores};
use tokio::time::{Instant, timeout_at};

use read::LayerState;

use crate::{
    admission,
    api::{
        guard::{Guard, Guarded},
        history::WriteContext,
        page_token::PageTokens,
    },
    cache::{Awaited, Cache, Explained, Source},
    change::sweep::SweepHealth,
    change::{Changes, LastChange},
    errors::ApiError,
    tasks::{Report, Tasks},
    telemetry::metrics::{Bounds, Changed, GaugeSnapshot, Metrics, ReadCounters, ReadResult},
    watch::registry::{TooMany, WatchRegistry},
    watch::{self, Watch},
};

pub(crate) mod breaks;
pub(crate) mod content;
pub(crate) mod diff;
pub(crate) mod guard;
pub(crate) mod history;
pub(crate) mod page_token;
mod read;
pub(crate) mod schema;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod undo;

/// Most keys in one batch.
pub(crate) const MAX_BATCH: usize = 100;
/// Most entries on a page, and how many without a wish.
pub(crate) const MAX_PAGE: usize = 100;
const DEFAULT_PAGE: usize = 50;
/// Keys of one batch that are read at once.
const BATCH_CONCURRENCY: usize = 32;
/// A key that was not read by then fails, where the caller gives no deadline. API Gateway waits 29 s.
const BATCH_TIMEOUT: Duration = Duration::from_secs(25);
/// Bytes of values in one batch's answer. gRPC clients take 4 MiB by default.
pub(crate) const MAX_BATCH_BYTES: usize = 3 * 1024 * 1024;
/// The same in JSON strings, where a byte may take six. API Gateway takes answers of 10 MB.
const MAX_BATCH_JSON_BYTES: usize = 8 * 1024 * 1024;
/// The largest value that is put into a message. What is larger is streamed.
const MAX_MESSAGE_BYTES: u64 = MAX_BATCH_BYTES as u64;
/// Memory that a stream of a value takes: what the transports have buffered.
const STREAM_BYTES: u64 = 256 * 1024;
/// What a secret's read costs: it is decrypted, and never cached.
const REVEAL_UNITS: u32 = 2;
/// A page costs at least one unit for so many entries.
const ENTRIES_PER_UNIT: usize = 10;
/// When a caller may try again whose watch was one too many.
const WATCHES_RETRY: Duration = Duration::from_secs(5);

/// The service's operations. One per process.
pub(crate) struct ConfigApi {
    stores: Stores,
    cache: Arc<Cache>,
    changes: Arc<Changes>,
    registry: Arc<WatchRegistry>,
    gate: Gate,
    sweeps: Arc<SweepHealth>,
    metrics: Arc<Metrics>,
    /// Reads of each backend, counted.
    reads: Vec<(Backend, ReadCounters)>,
    page_tokens: PageTokens,
    history: Option<History>,
    guard: Option<Arc<Guard>>,
    tasks: Option<Tasks>,
    instance: Arc<str>,
}

/// A configuration as it is served.
#[derive(Debug)]
pub(crate) struct Served {
    /// The key.
    pub key: String,
    /// What it holds.
    pub record: Record,
    /// Whose value it is.
    pub origin: Origin,
    /// The backend that it comes from.
    pub source: Backend,
    /// Hit, miss or stale.
    pub result: ReadResult,
    /// How long ago the backend was known to hold it.
    pub age: Duration,
    /// The memory that the answer may use until it is sent.
    pub permit: AnswerPermit,
}

/// What is known of one location of a key.
#[derive(Clone, Debug)]
pub(crate) struct ExplainedLayer {
    /// Whose value it holds.
    pub origin: Origin,
    /// In the backend's terms.
    pub location: String,
    /// What the cache holds.
    pub cached: Explained,
    /// The last change that reached this task.
    pub last_change: Option<LastChange>,
}

/// What a batch found: each distinct key is in one of the three.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Found.
    pub entries: Vec<Served>,
    /// Not there.
    pub missing: Vec<String>,
    /// Failed, each with its reason.
    pub errors: Vec<(String, ApiError)>,
    /// The memory of the whole answer.
    pub permit: AnswerPermit,
}

/// A page of keys.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Served from the source.
    pub entries: Vec<Served>,
    /// Keys that exist and cannot be served.
    pub errors: Vec<(String, ApiError)>,
    /// Continues here; empty at the end.
    pub next_page_token: String,
    /// The memory of the whole answer.
    pub permit: AnswerPermit,
}

/// When a last known value is served instead of waiting for the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fallback {
    /// In time for a caller that waits so long; [`read::FALLBACK_AFTER`] at most.
    Within(Option<Duration>),
    /// At this moment.
    At(Instant),
}

impl Fallback {
    fn at(self) -> Instant {
        match self {
            Self::At(moment) => moment,
            Self::Within(deadline) => {
                let wait = deadline.map_or(read::FALLBACK_AFTER, |deadline| {
                    read::FALLBACK_AFTER.min(deadline * 3 / 4)
                });
                Instant::now() + wait
            }
        }
    }

    /// When a key of a batch that has no last known value fails, so that the others are answered in time.
    fn give_up_at(self) -> Instant {
        match self {
            Self::At(moment) => moment,
            Self::Within(deadline) => {
                Instant::now() + deadline.map_or(BATCH_TIMEOUT, |deadline| deadline * 7 / 8)
            }
        }
    }
}

// === impl ConfigApi ===

impl ConfigApi {
    /// The operations over these stores.
    pub(crate) fn new(
        stores: Stores,
        cache: Arc<Cache>,
        changes: Arc<Changes>,
        sweeps: Arc<SweepHealth>,
        metrics: Arc<Metrics>,
        page_tokens: PageTokens,
        instance: Arc<str>,
    ) -> Self {
        let reads = stores
            .backends()
            .into_iter()
            .map(|backend| (backend, metrics.reads_of(backend)))
            .collect();
        let gate = admission::gate(&stores, cache.capacity());
        Self {
            reads,
            stores,
            registry: Arc::clone(cache.registry()),
            gate,
            cache,
            changes,
            sweeps,
            metrics,
            page_tokens,
            history: None,
            guard: None,
            tasks: None,
            instance,
        }
    }

    /// The same, with the history of what tenants change.
    pub(crate) fn with_history(self, history: Option<History>) -> Self {
        Self { history, ..self }
    }

    /// The same, with schemas that guard values.
    pub(crate) fn with_guard(self, guard: Option<Arc<Guard>>) -> Self {
        Self { guard, ..self }
    }

    /// The same, with the tasks that a write may wait for.
    pub(crate) fn with_tasks(self, tasks: Option<Tasks>) -> Self {
        Self { tasks, ..self }
    }

    /// Waits until every task has what the caller has just written.
    pub(crate) async fn wait_for_tasks(
        &self,
        caller: &Principal,
        key: &str,
        written: Awaited,
    ) -> Result<Report, ApiError> {
        let (key, store) = self.route(key)?;
        let layers = store.locate(caller.tenant(), key.name());
        Ok(match &self.tasks {
            Some(tasks) => tasks.wait(layers.first().id(), written, None).await,
            None => Report::unknown(written),
        })
    }

    fn count(&self, backend: Backend, result: ReadResult) {
        let counters = self.reads.iter().find(|(counted, _)| *counted == backend);
        if let Some((_, counters)) = counters {
            counters.count(result);
        }
    }

    /// The task's name, as answers give it.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// How long a change may stay unseen here at most, whatever is lost.
    pub(crate) fn staleness_bound(&self) -> Duration {
        self.cache.staleness_bound()
    }

    /// The same for a change that is in the journal; `None` while the journal cannot be read.
    pub(crate) fn journal_bound(&self) -> Option<Duration> {
        self.sweeps.bound()
    }

    /// Gauge values, sampled now.
    pub(crate) fn gauges(&self) -> GaugeSnapshot {
        let ttl = self.cache.staleness_bound();
        GaugeSnapshot {
            cache_bytes: self.cache.bytes(),
            cache_entries: self.cache.entries(),
            watches: self.registry.watches(),
            bounds: Bounds {
                push_lost: self.journal_bound().map_or(ttl, |bound| bound.min(ttl)),
                journal_unreachable: ttl,
                source_down: self.cache.max_stale().max(ttl),
            },
        }
    }

    /// What this task knows of a key's locations, in the order in which they are read. Does not read the backend.
    pub(crate) fn explain(
        &self,
        caller: &Principal,
        key: &str,
    ) -> Result<(Backend, Vec<ExplainedLayer>), ApiError> {
        let (key, store) = self.route(key)?;
        require(caller, Role::Admin)?;
        self.gate.admit(caller.tenant(), Resource::Requests, 1)?;
        let now = Instant::now();
        let layers = store.locate(caller.tenant(), key.name());
        let explained = layers
            .iter()
            .map(|layer| ExplainedLayer {
                origin: layer.origin(),
                location: layer.id().to_string(),
                cached: self.cache.explain(layer.id(), now),
                last_change: self.changes.last(layer.id()),
            })
            .collect();
        Ok((store.backend(), explained))
    }

    /// One key. `min_version` 0 sets no condition. Its value is shared with the cache until [`Self::admit_answer`] gives it
    /// memory to be sent.
    pub(crate) async fn get(
        &self,
        caller: &Principal,
        key: &str,
        min_version: i64,
        fallback: Fallback,
    ) -> Result<Served, ApiError> {
        let (key, store) = self.route(key)?;
        let layers = store.locate(caller.tenant(), key.name());
        if min_version < 0 {
            return Err(ApiError::Invalid(
                "min_version must not be negative".to_owned(),
            ));
        }
        if min_version > 0 && store.order() != Order::ConsistentReads {
            return Err(ApiError::Invalid(format!(
                "min_version is not offered for {}: its reads may lag",
                store.backend()
            )));
        }
        if min_version == 0
            && let Some(found) = self.cached(caller.tenant(), store, &layers)
        {
            return self.serve_found(caller, store, &key, &layers, found).await;
        }
        let started = Instant::now();
        let found = self.found(caller.tenant(), store, &layers, min_version, fallback);
        let found = Box::pin(found).await;
        self.metrics.read_took(started.elapsed());
        match found {
            Ok(found) => self.serve_found(caller, store, &key, &layers, found).await,
            Err(error) => {
                self.count(store.backend(), ReadResult::error);
                error.log("get");
                Err(error)
            }
        }
    }

    /// One key of a watch, read like any other; a secret comes without its value. An absence that is only the last known one
    /// is `None`.
    pub(crate) async fn read_watched(
        &self,
        tenant: &TenantId,
        backend: &Backend,
        key: &str,
        layers: &Layers,
    ) -> Result<Option<Served>, ApiError> {
        let store = self
            .stores
            .by_backend(backend.0)
            .ok_or(ApiError::NotFound)?;
        let (origin, state) = match self.cached(tenant, store, layers) {
            Some(found) => found,
            None => {
                self.read_through(tenant, store, layers, Fallback::Within(None).at())
                    .await?
            }
        };
        let state = state.ok_or(ApiError::NotFound)?;
        let Some(record) = state.record else {
            return if state.result == ReadResult::stale {
                Ok(None)
            } else {
                Err(ApiError::NotFound)
            };
        };
        Ok(Some(Served {
            // The value is shared with the cache until it is sent.
            permit: AnswerPermit::default(),
            key: key.to_owned(),
            record,
            origin,
            source: store.backend(),
            result: state.result,
            age: state.since.elapsed(),
        }))
    }

    /// Memory for an answer of so many bytes.
    pub(crate) fn admit_answer(
        &self,
        tenant: &TenantId,
        bytes: u64,
    ) -> Result<AnswerPermit, Refused> {
        self.gate.admit_answer(tenant, bytes)
    }

    /// Memory for a body of so many bytes that is to be written.
    pub(crate) fn admit_body(
        &self,
        tenant: &TenantId,
        bytes: u64,
    ) -> Result<AnswerPermit, Refused> {
        self.gate.admit_body(tenant, bytes)
    }

    /// The highest version that was seen of the first location.
    pub(crate) fn highest_seen_version(&self, layers: &Layers) -> i64 {
        self.cache.highest_seen_version(layers.first().id())
    }

    /// A watch of the caller's keys, each once.
    pub(crate) fn watch(
        self: &Arc<Self>,
        caller: &Principal,
        keys: Vec<String>,
    ) -> Result<Watch, ApiError> {
        if keys.is_empty() || keys.len() > watch::MAX_KEYS {
            return Err(ApiError::Invalid(format!(
                "a watch has 1 to {} keys, not {}",
                watch::MAX_KEYS,
                keys.len()
            )));
        }
        let mut seen = HashSet::new();
        let (mut names, mut backends, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for name in keys {
            let (key, store) = self.route(&name)?;
            if seen.insert(name.clone()) {
                places.push(store.locate(caller.tenant(), key.name()));
                backends.push(store.backend());
                names.push(name);
            }
        }
        let units = u32::try_from(names.len()).unwrap_or(u32::MAX);
        self.gate
            .admit(caller.tenant(), Resource::WatchedKeys, units)?;
        let registration = self
            .registry
            .register(caller.tenant(), places)
            .map_err(|TooMany| ApiError::RateLimited {
                what: "watches",
                retry_after: WATCHES_RETRY,
            })?;
        let caller = caller.role();
        Ok(Watch::new(
            Arc::clone(self),
            caller,
            names,
            backends,
            registration,
        ))
    }

    /// Many keys, each on its own: one failure fails no other. Keys whose values do not fit into [`MAX_BATCH_BYTES`] fail with
    /// RESOURCE_EXHAUSTED.
    pub(crate) async fn batch(
        &self,
        caller: &Principal,
        keys: Vec<String>,
        fallback: Fallback,
    ) -> Result<Batch, ApiError> {
        if keys.len() > MAX_BATCH {
            return Err(ApiError::Invalid(format!(
                "a batch has at most {MAX_BATCH} keys, not {}",
                keys.len()
            )));
        }
        let mut seen = HashSet::new();
        let distinct: Vec<String> = keys
            .into_iter()
            .filter(|key| seen.insert(key.clone()))
            .collect();
        let give_up_at = fallback.give_up_at();
        let fallback = Fallback::At(fallback.at());
        let reads = distinct.into_iter().map(|key| async move {
            let answer = self.get(caller, &key, 0, fallback);
            // One key that was never read must not take the whole batch beyond its deadline.
            let answer = match timeout_at(give_up_at, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(ApiError::DeadlineExceeded),
            };
            (key, answer)
        });
        let mut batch = Batch::default();
        let mut answers = stream::iter(reads).buffered(BATCH_CONCURRENCY);
        let (mut bytes, mut json_bytes) = (0, 0);
        while let Some((key, answer)) = answers.next().await {
            match answer {
                Ok(Served {
                    key,
                    record:
                        Record {
                            value: Value::Remote(remote),
                            ..
                        },
                    ..
                }) => {
                    let bytes = remote.bytes;
                    batch
                        .errors
                        .push((key.clone(), ApiError::LargeValue { key, bytes }));
                }
                Ok(served) => {
                    let value = &served.record.value;
                    let sum = bytes + value.held_bytes();
                    let json_sum = if sum > MAX_BATCH_BYTES {
                        usize::MAX
                    } else {
                        json_bytes + bytes_in_json(value)
                    };
                    if json_sum > MAX_BATCH_JSON_BYTES {
                        batch.errors.push((key, ApiError::BatchFull));
                    } else {
                        (bytes, json_bytes) = (sum, json_sum);
                        batch.entries.push(served);
                    }
                }
                Err(ApiError::NotFound) => batch.missing.push(key),
                Err(error) => batch.errors.push((key, error)),
            }
        }
        batch.permit = self.gate.admit_answer(caller.tenant(), bytes as u64)?;
        Ok(batch)
    }

    /// A page of the caller's own keys, read from the source. `page_size` 0 means 50.
    pub(crate) async fn list(
        &self,
        caller: &Principal,
        prefix: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page, ApiError> {
        let unknown = self.stores.unknown_tag();
        let prefix =
            KeyPrefix::parse(prefix).map_err(|problem| ApiError::bad_key(problem, &unknown))?;
        let store = self
            .stores
            .route(prefix.tag())
            .map_err(|known| ApiError::unknown_tag(&known))?;
        let (limit, after) = self.page(caller, prefix.as_str(), page_size, page_token)?;
        let request = ListRequest {
            prefix: prefix.name(),
            after: after.as_deref(),
            limit,
        };
        let reads = Resource::Reads(store.backend());
        let admitted = self.gate.admit(caller.tenant(), reads, 1)?;
        let mut listed = store
            .list(&admitted, &request)
            .await
            .map_err(|error| logged(error, "list"))?;
        if let Some(guard) = &self.guard {
            guard
                .check_page(store, &admitted, &prefix, &mut listed)
                .await;
        }
        let bytes = bytes_of(&listed) as u64;
        let entries = u32::try_from(listed.entries.len() / ENTRIES_PER_UNIT).unwrap_or(u32::MAX);
        admitted.charge(store.read_units(bytes).max(entries).saturating_sub(1));
        self.to_page(caller, &prefix, prefix.as_str(), store, listed)
    }

    /// How many entries a page has, and where it begins.
    fn page(
        &self,
        caller: &Principal,
        listing: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<(usize, Option<String>), ApiError> {
        let limit = match usize::try_from(page_size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size @ 1..=MAX_PAGE) => size,
            _ => {
                return Err(ApiError::Invalid(format!(
                    "page_size must be 1 to {MAX_PAGE}"
                )));
            }
        };
        if page_token.is_empty() {
            return Ok((limit, None));
        }
        let opened = self.page_tokens.open(caller.tenant(), listing, page_token);
        let after = opened
            .ok_or_else(|| ApiError::Invalid("page_token is not one of this listing".to_owned()))?;
        Ok((limit, Some(after)))
    }

    fn to_page(
        &self,
        caller: &Principal,
        prefix: &KeyPrefix,
        listing: &str,
        store: &Arc<dyn Store>,
        listed: ListPage,
    ) -> Result<Page, ApiError> {
        let bytes = bytes_of(&listed) as u64;
        let mut page = Page {
            permit: self.gate.admit_answer(caller.tenant(), bytes)?,
            ..Page::default()
        };
        for (name, record) in listed.entries {
            // A name outside the grammar was written by hand and cannot be requested.
            let Ok(name) = ConfigName::parse(&name) else {
                continue;
            };
            let key = prefix.key_of(name);
            match record {
                Ok(record) => page.entries.push(Served {
                    permit: AnswerPermit::default(),
                    key,
                    record,
                    origin: Origin::Tenant,
                    source: store.backend(),
                    result: ReadResult::miss,
                    age: Duration::ZERO,
                }),
                Err(error) => page.errors.push((key, error.into())),
            }
        }
        if let Some(after) = listed.next_after {
            page.next_page_token = self.page_tokens.seal(caller.tenant(), listing, &after);
        }
        Ok(page)
    }

    async fn found(
        &self,
        tenant: &TenantId,
        store: &Arc<dyn Store>,
        layers: &Layers,
        min_version: i64,
        fallback: Fallback,
    ) -> Result<(Origin, Option<LayerState>), ApiError> {
        if min_version > 0 {
            let (origin, own) = self.at_least(tenant, store, layers, min_version).await?;
            let holds = own.as_ref().is_some_and(|own| own.record.is_some());
            if holds || layers.iter().count() == 1 {
                return Ok((origin, own));
            }
        }
        self.read_through(tenant, store, layers, fallback.at())
            .await
    }

    /// The same, with its value in memory, as far as a message may hold it.
    pub(crate) async fn get_whole(
        &self,
        caller: &Principal,
        key: &str,
        min_version: i64,
        fallback: Fallback,
    ) -> Result<Served, ApiError> {
        let served = self.get(caller, key, min_version, fallback).await?;
        self.whole(caller, served).await
    }

    /// What was served, with its value in memory, as far as a message may hold it.
    pub(crate) async fn whole(
        &self,
        caller: &Principal,
        mut served: Served,
    ) -> Result<Served, ApiError> {
        if !matches!(served.record.value, Value::Remote(_)) {
            return Ok(served);
        }
        let bytes = served.record.value.len();
        if bytes > MAX_MESSAGE_BYTES {
            let key = served.key;
            return Err(ApiError::LargeValue { key, bytes });
        }
        let mut permit = self.gate.admit_answer(caller.tenant(), bytes)?;
        let (mut stream, _) = self.open(caller, &served, 0..bytes).await?;
        let mut value = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or_default());
        while let Some(piece) = stream.next().await {
            value.extend_from_slice(&piece.map_err(|error| logged(error, "open"))?);
        }
        served.record.value = value.freeze().into();
        std::mem::swap(&mut served.permit, &mut permit);
        Ok(served)
    }

    /// A part of a value that is not in memory, and the memory that its stream takes.
    pub(crate) async fn open(
        &self,
        caller: &Principal,
        served: &Served,
        range: Range<u64>,
    ) -> Result<(ValueStream, AnswerPermit), ApiError> {
        let Value::Remote(remote) = &served.record.value else {
            return Err(ApiError::NotFound);
        };
        let (key, store) = self.route(&served.key)?;
        let bytes = range.end.saturating_sub(range.start);
        let permit = self
            .gate
            .admit_answer(caller.tenant(), bytes.min(STREAM_BYTES))?;
        let reads = Resource::Reads(store.backend());
        let admitted = self.gate.admit(caller.tenant(), reads, 1)?;
        admitted.charge(store.read_units(bytes) - 1);
        let layers = store.locate(caller.tenant(), key.name());
        let location = layers
            .iter()
            .find(|layer| layer.origin() == served.origin)
            .ok_or(ApiError::NotFound)?;
        match store.open(&admitted, location, remote, range).await {
            Ok(stream) => Ok((stream, permit)),
            Err(error) => {
                if matches!(error, StoreError::NotFound) {
                    // Removed for good since it was read: the next read sees what is there now.
                    self.cache.invalidate(location.id());
                }
                Err(logged(error, "open"))
            }
        }
    }

    /// The largest value that a key takes, in bytes.
    pub(crate) fn max_value_bytes(&self, key: &str) -> Result<usize, ApiError> {
        Ok(self.route(key)?.1.max_value_bytes())
    }

    /// Writes a key of the caller's own and returns what it now holds, and whether it is new.
    pub(crate) async fn put(
        &self,
        caller: &Principal,
        key: &str,
        value: Bytes,
        content_type: &str,
        precondition: Precondition,
        context: &WriteContext,
    ) -> Result<Written, ApiError> {
        let new = Write {
            value,
            content_type,
            is_rollback: false,
        };
        self.write(caller, key, new, precondition, context).await
    }

    async fn write(
        &self,
        caller: &Principal,
        key: &str,
        new: Write<'_>,
        precondition: Precondition,
        context: &WriteContext,
    ) -> Result<Written, ApiError> {
        let (key, store) = self.route(key)?;
        require(caller, store.written_by())?;
        let admitted = self.gate.admit(caller.tenant(), Resource::Writes, 1)?;
        let value = value_of(store, new.value)?;
        let content_type = content::check(&value, new.content_type)?;
        self.check(&admitted, &key, store, &value).await?;
        let new = NewValue {
            value: &value,
            content_type: &content_type,
            author: context.author(caller),
            is_rollback: new.is_rollback,
        };
        let mut written = store
            .put(&admitted, key.name(), new, precondition.clone())
            .await;
        if let Err(StoreError::Conflict { .. }) = &written
            && let Some(unserved) = self.unserved(&admitted, &key, store, &precondition).await
        {
            written = store.put(&admitted, key.name(), new, unserved).await;
        }
        let changed = if new.is_rollback {
            Changed::rollback
        } else {
            Changed::put
        };
        self.after_write(
            caller,
            changed,
            &key,
            store,
            written
                .as_ref()
                .map(|written| written.record.revision.version),
        );
        let written = written.map_err(|error| logged(error, changed.as_str()))?;
        let done = Awaited::Written(written.record.revision.version);
        self.settle(caller, &key, done).await;
        Ok(written)
    }

    /// A schema is in force when its write is acknowledged: other tasks would take what breaks it until they know of it.
    async fn settle(&self, caller: &Principal, key: &ConfigKey, done: Awaited) {
        if key.tag() != schema::TAG {
            return;
        }
        if let Some(guard) = &self.guard {
            guard.schema_changed();
        }
        if let Ok(report) = self.wait_for_tasks(caller, key.as_str(), done).await
            && !report.is_live()
        {
            tracing::warn!(
                { telemetry::CONFIG_KEY } = key.as_str(),
                summary = report.summary(),
                "a schema is not in force everywhere yet"
            );
        }
    }

    /// A condition on what is served holds where that is the last good value: then it is one on the invalid value that lies
    /// there.
    async fn unserved(
        &self,
        admitted: &Admitted,
        key: &ConfigKey,
        store: &Arc<dyn Store>,
        precondition: &Precondition,
    ) -> Option<Precondition> {
        let own = store.locate(admitted.tenant(), key.name());
        let read = self
            .guarded(store)
            .read(admitted, std::slice::from_ref(own.first()))
            .await;
        let served = read.ok()?.pop().flatten()?;
        let Check::InsteadOf(invalid) = served.check else {
            return None;
        };
        let holds = precondition.check(Some(Current::from(&served))).is_ok();
        holds.then(|| Precondition::OneOf(vec![invalid]))
    }

    /// Deletes a key of the caller's own and returns the deletion's version.
    pub(crate) async fn delete(
        &self,
        caller: &Principal,
        key: &str,
        precondition: Precondition,
        context: &WriteContext,
    ) -> Result<i64, ApiError> {
        let (key, store) = self.route(key)?;
        require(caller, store.written_by())?;
        let admitted = self.gate.admit(caller.tenant(), Resource::Writes, 1)?;
        let author = context.author(caller);
        let mut deleted = store
            .delete(&admitted, key.name(), precondition.clone(), author)
            .await;
        if let Err(StoreError::Conflict { .. }) = &deleted
            && let Some(unserved) = self.unserved(&admitted, &key, store, &precondition).await
        {
            deleted = store.delete(&admitted, key.name(), unserved, author).await;
        }
        self.after_write(
            caller,
            Changed::delete,
            &key,
            store,
            deleted.as_ref().copied(),
        );
        let version = deleted.map_err(|error| logged(error, "delete"))?;
        self.settle(caller, &key, Awaited::Deleted(version)).await;
        Ok(version)
    }

    /// Whatever the write did, reads that begin here from now on see it; also after a time-out that may
    /// have written all the same.
    fn after_write(
        &self,
        caller: &Principal,
        changed: Changed,
        key: &ConfigKey,
        store: &Arc<dyn Store>,
        outcome: Result<i64, &StoreError>,
    ) {
        self.metrics.changed(changed, outcome.is_ok());
        let operation = changed.as_str();
        let layers = store.locate(caller.tenant(), key.name());
        self.cache.invalidate(layers.first().id());
        match outcome {
            Ok(version) => tracing::info!(
                operation,
                { telemetry::TENANT_ID } = caller.tenant().as_str(),
                { telemetry::CONFIG_KEY } = key.as_str(),
                { telemetry::STORE_BACKEND } = store.backend().0,
                version,
                "configuration changed"
            ),
            Err(error) => {
                let chain = telemetry::chain(error);
                tracing::info!(
                    operation,
                    { telemetry::TENANT_ID } = caller.tenant().as_str(),
                    { telemetry::CONFIG_KEY } = key.as_str(),
                    error = chain,
                    "write refused"
                );
            }
        }
    }

    /// Refuses a value that breaks what its key's values must be.
    async fn check(
        &self,
        admitted: &Admitted,
        key: &ConfigKey,
        store: &Arc<dyn Store>,
        value: &Value,
    ) -> Result<(), ApiError> {
        let Some(guard) = &self.guard else {
            return Ok(());
        };
        if value.len() > store.max_value_bytes() as u64 {
            // Too large anyway, and the store says so.
            return Ok(());
        }
        if key.tag() == schema::TAG {
            self.covered_by(key)?;
        }
        let checked = guard.checked(admitted, key, Origin::Tenant, value).await;
        let (_, broken) = checked.inspect_err(|error| error.log("check"))?;
        if broken.is_empty() {
            return Ok(());
        }
        self.metrics.changed(Changed::put, false);
        Err(ApiError::BreaksSchema(broken))
    }

    fn guarded(&self, store: &Arc<dyn Store>) -> Guarded {
        Guarded::new(store, self.guard.as_ref())
    }

    fn route(&self, key: &str) -> Result<(ConfigKey, &Arc<dyn Store>), ApiError> {
        let key = ConfigKey::parse(key)
            .map_err(|problem| ApiError::bad_key(problem, &self.stores.unknown_tag()))?;
        let store = self
            .stores
            .route(key.tag())
            .map_err(|known| ApiError::unknown_tag(&known))?;
        Ok((key, store))
    }

    /// What was found; read again if it is a secret that was removed meanwhile, which may have hidden a shared one.
    async fn serve_found(
        &self,
        caller: &Principal,
        store: &Arc<dyn Store>,
        key: &ConfigKey,
        layers: &Layers,
        found: (Origin, Option<LayerState>),
    ) -> Result<Served, ApiError> {
        if let Some(served) = self.serve(caller, store, key, layers, found).await? {
            return Ok(served);
        }
        // Boxed: it is rare, and would make the future of every hit larger.
        let fallback_at = Fallback::Within(None).at();
        let found = self.read_through(caller.tenant(), store, layers, fallback_at);
        let found = Box::pin(found).await?;
        let served = self.serve(caller, store, key, layers, found).await?;
        served.ok_or(ApiError::NotFound)
    }

    /// `None` for a secret that is not there any more.
    async fn serve(
        &self,
        caller: &Principal,
        store: &Arc<dyn Store>,
        key: &ConfigKey,
        layers: &Layers,
        (origin, state): (Origin, Option<LayerState>),
    ) -> Result<Option<Served>, ApiError> {
        let Some(LayerState {
            record: Some(mut record),
            since,
            mut result,
        }) = state
        else {
            return Err(ApiError::NotFound);
        };
        if record.secret {
            require(caller, READS_SECRETS)?;
            let location = layers
                .iter()
                .find(|layer| layer.origin() == origin)
                .ok_or(ApiError::NotFound)?;
            let reads = Resource::Reads(store.backend());
            let admitted = self.gate.admit(caller.tenant(), reads, REVEAL_UNITS)?;
            let revealed = store
                .reveal(&admitted, location)
                .await
                .map_err(|error| logged(error, "reveal"))?;
            let Some(revealed) = revealed else {
                self.cache.invalidate(location.id());
                return Ok(None);
            };
            record = revealed;
            result = ReadResult::miss;
        }
        tracing::debug!(
            { telemetry::TENANT_ID } = caller.tenant().as_str(),
            { telemetry::CONFIG_KEY } = key.as_str(),
            { telemetry::STORE_BACKEND } = store.backend().0,
            { telemetry::CACHE_RESULT } = result.as_str(),
            "read"
        );
        let age = since.elapsed();
        Ok(Some(Served {
            key: key.as_str().to_owned(),
            record,
            origin,
            source: store.backend(),
            result,
            age,
            permit: AnswerPermit::default(),
        }))
    }
}

/// A value to be written.
struct Write<'a> {
    value: Bytes,
    content_type: &'a str,
    is_rollback: bool,
}

/// What the store keeps of these bytes.
fn value_of(store: &Arc<dyn Store>, bytes: Bytes) -> Result<Value, ApiError> {
    if store.keeps_bytes() {
        return Ok(Value::Bytes(bytes));
    }
    let backend = store.backend();
    let text = String::from_utf8(bytes.into());
    Ok(text.map_err(|_| StoreError::NotText { backend })?.into())
}

fn bytes_of(listed: &ListPage) -> usize {
    let records = listed.entries.iter();
    records
        .filter_map(|(_, record)| Some(record.as_ref().ok()?.value.held_bytes()))
        .sum()
}

/// Memory for an answer in JSON with this value; an error if no edge would pass it.
pub(crate) fn admit_json(
    api: &ConfigApi,
    caller: &Principal,
    served: &mut Served,
) -> Result<AnswerPermit, ApiError> {
    // Escaped, a byte may take six.
    let bytes = match served.record.value.held_bytes() as u64 {
        bytes if bytes < SMALL_ANSWER_BYTES => bytes,
        _ => bytes_in_json(&served.record.value) as u64,
    };
    if bytes > MAX_BATCH_JSON_BYTES as u64 {
        return Err(ApiError::LargeValue {
            key: served.key.clone(),
            bytes: served.record.value.len(),
        });
    }
    let permit = api.admit_answer(caller.tenant(), bytes)?;
    served.permit = AnswerPermit::default();
    Ok(permit)
}

/// Bytes of a value in a JSON string.
fn bytes_in_json(value: &Value) -> usize {
    let Some(value) = value.as_text() else {
        return value.held_bytes().div_ceil(3) * 4;
    };
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    value.len() + value.bytes().map(escaped).sum::<usize>()
}

/// The error for the caller, after the log has what the caller is not shown.
fn logged(error: StoreError, operation: &'static str) -> ApiError {
    let error = ApiError::from(error);
    error.log(operation);
    error
}

/// Who may read secrets, and learn that one has changed.
pub(crate) const READS_SECRETS: Role = Role::Admin;

fn require(caller: &Principal, role: Role) -> Result<(), ApiError> {
    if caller.role() >= role {
        Ok(())
    } else {
        Err(ApiError::Forbidden(role))
    }
}
