//! Holds values against the JSON Schemas of their keys. What callers write must be valid. What somebody wrote past the service
//! is checked when it is read, below the cache: the last good value is served instead of an invalid one.
//!
//! All schemas apply that cover a key ([`schema::names_covering`]): the tenant's own, and those of all tenants. A value that
//! all tenants share is held against the latter alone.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use quick_cache::sync::Cache as QuickCache;
use tagged_config_domain::{
    Admitted, ChangeOperation, Check, ConfigKey, ConfigName, HistoryEntry, HistoryRequest,
    KeyPrefix, ListPage, Location, LocationId, Origin, Record, Revision, Store, StoreError, Value,
    history::sha256_of,
};
use tagged_config_runtime::telemetry;
use tagged_config_stores::{Bulkhead, Entry, History, NewEntry, history::GLOBAL};
use tokio::time::Instant;

use super::schema::{self, Schema, Violation};
use crate::{
    cache::{Cache, Lookup, Source, Wait},
    errors::ApiError,
    telemetry::metrics::Metrics,
};

/// Checks under way at once, and of these, those of one tenant. One may take seconds of a core.
const MAX_CHECKS: usize = 4;
const MAX_CHECKS_OF_A_TENANT: usize = 1;
/// How long a check waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Compiled schemas that are kept.
const COMPILED: usize = 512;
/// Invalid values of which is known that the history has them.
const NOTED: usize = 10_000;
/// Entries of the history among which the last good value is looked for: so many pages of so many.
const MAX_PAGES: usize = 20;
const PAGE: usize = 50;
/// How long to wait for the entry of an edit, which the invalidator writes; each time.
const ENTRY_WAITS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// How far clocks may be apart.
const SKEW_MS: i64 = 3_000;
/// Who rejects, in the history.
const REJECTED_BY: &str = "config-service";
/// So that the entry of a rejection comes after the one of what it rejects, of the same time.
const AFTER_THE_EDIT: &str = "~";

/// The schemas of a deployment, and what is needed to find the last good value.
pub(crate) struct Guard {
    schemas: Arc<dyn Store>,
    cache: Arc<Cache>,
    history: Option<History>,
    compiled: QuickCache<[u8; 16], Arc<Schema>>,
    checks: Bulkhead,
    metrics: Arc<Metrics>,
    /// The edits of which the history says that they were rejected, by their time.
    noted: QuickCache<LocationId, i64>,
    /// Where an invalid value lies, and another one is cached.
    instead: Mutex<HashSet<LocationId>>,
}

/// A store whose values are checked when they are read. What the cache reads from.
#[derive(Clone)]
pub(crate) struct Guarded {
    store: Arc<dyn Store>,
    guard: Option<Arc<Guard>>,
}

/// What to serve where an invalid value lies.
enum Verdict {
    /// That value: it was there before the schema.
    Older,
    /// This one.
    Instead(Record),
    /// There is no good one.
    Nothing,
}

/// A schema that covers a key.
#[derive(Clone, Debug)]
pub(crate) struct Covering {
    /// The key that holds it.
    pub key: Arc<str>,
    /// Compiled.
    pub schema: Arc<Schema>,
    /// Since when it applies, in unix milliseconds; 0 if that is not known.
    pub since_ms: i64,
}

/// What the values of a key must be.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    /// Valid against all of these.
    Valid(Vec<Covering>),
    /// A schema.
    Schema(Arc<str>),
}

/// One way in which a value breaks a schema of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// The key that holds the schema.
    pub schema: Arc<str>,
    /// What is wrong.
    pub violation: Violation,
}

// === impl Guarded ===

impl Guarded {
    /// This store behind this guard; without one, as it is.
    pub(crate) fn new(store: &Arc<dyn Store>, guard: Option<&Arc<Guard>>) -> Self {
        Self {
            store: Arc::clone(store),
            guard: guard.cloned(),
        }
    }
}

#[async_trait::async_trait]
impl Source for Guarded {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let mut records = self.store.read(admitted, locations).await?;
        let Some(guard) = &self.guard else {
            return Ok(records);
        };
        for (location, found) in locations.iter().zip(&mut records) {
            if let Some(record) = found.as_mut().filter(|record| needs_check(record)) {
                let good = guard.good(&self.store, admitted, location, record).await?;
                if let Some(good) = good {
                    *record = good;
                }
            }
        }
        Ok(records)
    }
}

/// Of a secret, only a name is here.
fn needs_check(record: &Record) -> bool {
    record.check == Check::Open && !record.secret
}

// === impl Rules ===

impl Rules {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Valid(schemas) if schemas.is_empty())
    }

    /// Since when there is one of the schemas that were broken, in unix milliseconds.
    fn since_ms(&self, found: &[Broken]) -> i64 {
        let Self::Valid(schemas) = self else {
            return 0;
        };
        let is_broken = |covering: &&Covering| found.iter().any(|f| f.schema == covering.key);
        let broken = schemas.iter().filter(is_broken);
        broken.map(|covering| covering.since_ms).min().unwrap_or(0)
    }

    /// How a value breaks them. May take seconds.
    pub(crate) fn broken_by(&self, value: &Value) -> Vec<Broken> {
        match self {
            Self::Valid(schemas) => {
                let of = |covering: &Covering| {
                    let violations = covering.schema.check(value).err().unwrap_or_default();
                    let schema = Arc::clone(&covering.key);
                    violations.into_iter().map(move |violation| Broken {
                        schema: Arc::clone(&schema),
                        violation,
                    })
                };
                schemas
                    .iter()
                    .flat_map(of)
                    .take(schema::MAX_VIOLATIONS)
                    .collect()
            }
            Self::Schema(key) => {
                let problem = schema_of(value).err();
                let violations = problem.map(Violation::of_whole).unwrap_or_default();
                let broken = |violation| Broken {
                    schema: Arc::clone(key),
                    violation,
                };
                violations.into_iter().map(broken).collect()
            }
        }
    }
}

// === impl Guard ===

impl Guard {
    /// Over the store of schemas.
    pub(crate) fn new(
        schemas: Arc<dyn Store>,
        cache: Arc<Cache>,
        history: Option<History>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            schemas,
            cache,
            history,
            compiled: QuickCache::new(COMPILED),
            checks: Bulkhead::new(MAX_CHECKS, MAX_CHECKS_OF_A_TENANT),
            metrics,
            noted: QuickCache::new(NOTED),
            instead: Mutex::default(),
        }
    }

    /// Whether a schema may cover what lies there: unless the cache knows that there is none. Does not read.
    pub(crate) fn may_cover(&self, store: &dyn Store, id: &LocationId) -> bool {
        let Some((partition, key)) = store.key_at(id) else {
            return false;
        };
        if key.tag() == schema::TAG {
            return true;
        }
        let now = Instant::now();
        let is_known_absent = |id: LocationId| matches!(self.cache.lookup(&id, now), Lookup::Fresh(entry) if entry.record.is_none());
        let backend = self.schemas.backend();
        schema::names_covering(&key).into_iter().any(|name| {
            let sort = tagged_config_stores::Kind::Schema.sort_key(&name);
            let own = LocationId::new(backend, partition.as_str(), sort.as_str());
            let shared = LocationId::new(backend, GLOBAL, sort);
            !is_known_absent(own) || partition != GLOBAL && !is_known_absent(shared)
        })
    }

    /// What a key's values must be: the tenant's own, or those that all share.
    pub(crate) async fn rules(
        self: &Arc<Self>,
        admitted: &Admitted,
        key: &ConfigKey,
        origin: Origin,
    ) -> Result<Rules, ApiError> {
        if key.tag() == schema::TAG {
            return Ok(Rules::Schema(key.as_str().into()));
        }
        let names = schema::names_covering(key);
        let reads = names.iter().filter_map(|name| {
            let name = ConfigName::parse(name).ok()?;
            Some(self.schemas.locate(admitted.tenant(), name))
        });
        let is_of_all = |layer: &Location| layer.id().partition() == GLOBAL;
        let reads = reads.flat_map(|layers| {
            let applies = |layer: &&Location| origin == Origin::Tenant || is_of_all(layer);
            layers.iter().filter(applies).cloned().collect::<Vec<_>>()
        });
        let read = futures::future::join_all(reads.map(|layer| self.covering_at(admitted, layer)));
        let mut covering = Vec::new();
        for found in read.await {
            covering.extend(found?);
        }
        Ok(Rules::Valid(covering))
    }

    async fn covering_at(
        self: &Arc<Self>,
        admitted: &Admitted,
        layer: Location,
    ) -> Result<Option<Covering>, ApiError> {
        let known = self.cache.lookup(layer.id(), Instant::now());
        let record = match known {
            Lookup::Fresh(entry) | Lookup::Stale(entry) => entry.record.clone(),
            Lookup::Miss(fallback) => {
                let source = Guarded::new(&self.schemas, Some(self));
                let layers = std::slice::from_ref(&layer);
                let found = self
                    .cache
                    .fill(&source, admitted, layers, Wait::UntilDone)
                    .await
                    .pop();
                match (found, fallback) {
                    (Some(Ok(found)), _) => found.record,
                    (Some(Err(error)), _) if error.is_an_answer() => {
                        return Err(ApiError::UnusableSchema {
                            key: self.key_at(&layer),
                            reason: error.to_string(),
                        });
                    }
                    (_, Some(entry)) => entry.record.clone(),
                    (Some(Err(error)), None) => return Err(ApiError::Store(error)),
                    (None, None) => None,
                }
            }
        };
        let Some(record) = record else {
            return Ok(None);
        };
        let key = self.key_at(&layer);
        match self.compile(admitted, &record).await? {
            Ok(schema) => Ok(Some(Covering {
                key: key.into(),
                schema,
                since_ms: record.modified_ms.unwrap_or_default(),
            })),
            Err(reason) => Err(ApiError::UnusableSchema { key, reason }),
        }
    }

    fn key_at(&self, layer: &Location) -> String {
        let found = self.schemas.key_at(layer.id());
        found
            .map(|(_, key)| key.as_str().to_owned())
            .unwrap_or_default()
    }

    /// The schema in a record, or why it is none.
    async fn compile(
        &self,
        admitted: &Admitted,
        record: &Record,
    ) -> Result<Result<Arc<Schema>, String>, ApiError> {
        let digest = *record.digest();
        if let Some(known) = self.compiled.get(&digest) {
            return Ok(Ok(known));
        }
        let value = record.value.clone();
        let parsed = self.run(admitted, move || schema_of(&value)).await?;
        Ok(parsed.map(|schema| {
            let schema = Arc::new(schema);
            self.compiled.insert(digest, Arc::clone(&schema));
            schema
        }))
    }

    /// The rule that a new schema is.
    pub(crate) async fn rule(
        &self,
        admitted: &Admitted,
        key: &ConfigKey,
        value: &Value,
    ) -> Result<Rules, ApiError> {
        let value = value.clone();
        let parsed = self.run(admitted, move || schema_of(&value)).await?;
        let key: Arc<str> = key.as_str().into();
        match parsed {
            Ok(schema) => Ok(Rules::Valid(vec![Covering {
                key,
                schema: Arc::new(schema),
                since_ms: 0,
            }])),
            Err(reason) => {
                let violations = Violation::of_whole(reason);
                let broken = |violation| Broken {
                    schema: Arc::clone(&key),
                    violation,
                };
                Err(ApiError::BreaksSchema(
                    violations.into_iter().map(broken).collect(),
                ))
            }
        }
    }

    /// How a value breaks these rules; empty if it does not.
    pub(crate) async fn broken(
        &self,
        admitted: &Admitted,
        rules: &Rules,
        value: &Value,
    ) -> Result<Vec<Broken>, ApiError> {
        if rules.is_empty() {
            return Ok(Vec::new());
        }
        let (rules, value) = (rules.clone(), value.clone());
        self.run(admitted, move || rules.broken_by(&value)).await
    }

    /// Runs off the request threads, in the tenant's turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        admitted: &Admitted,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.checks.acquire(Some(admitted.tenant()), TURN).await;
        let turn = turn.ok_or(ApiError::RateLimited {
            what: "checks of schemas",
            retry_after: TURN,
        })?;
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            check()
        });
        checked.await.map_err(|_| ApiError::DeadlineExceeded)
    }

    /// What is served instead of this value; `None` if it is good.
    async fn good(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        admitted: &Admitted,
        location: &Location,
        record: &Record,
    ) -> Result<Option<Record>, StoreError> {
        let Some((partition, key)) = store.key_at(location.id()) else {
            return Ok(None);
        };
        let checked = self
            .checked(admitted, &key, location.origin(), &record.value)
            .await;
        let (rules, found) = match checked {
            Ok((_, found)) if found.is_empty() => return Ok(None),
            Ok(checked) => checked,
            // Too many checks: later.
            Err(ApiError::RateLimited { .. } | ApiError::DeadlineExceeded) => {
                return Err(StoreError::Throttled {
                    backend: store.backend(),
                });
            }
            Err(error) => {
                // That schemas cannot be read must not take down what lies elsewhere.
                let error = telemetry::chain(&error);
                tracing::warn!(location = %location.id(), error, "served without a check of its schemas");
                return Ok(None);
            }
        };
        let Some(first) = found.first() else {
            return Ok(None);
        };
        let verdict = self
            .verdict(store, admitted, location, &rules, &found, record)
            .await?;
        let last_good = match verdict {
            Verdict::Older => return Ok(None),
            Verdict::Instead(last_good) => Some(last_good),
            Verdict::Nothing => None,
        };
        self.metrics.guarded();
        tracing::warn!(
            location = %location.id(), schema = &*first.schema, pointer = first.violation.pointer,
            reason = first.violation.message, "a value that was written past the service is not served: it breaks its schema"
        );
        let Some(last_good) = last_good else {
            return Err(StoreError::Malformed {
                reason: "it breaks its JSON Schema, and no earlier value is known that does not",
            });
        };
        let place = (partition, key);
        self.note(store, admitted, location, place, record, &last_good, first);
        let mut instead = self.instead.lock();
        if instead.len() >= NOTED {
            instead.clear();
        }
        instead.insert(location.id().clone());
        Ok(Some(last_good.instead_of(record)))
    }

    /// A schema has changed: what is served instead of an invalid value is read again.
    pub(crate) fn schema_changed(&self) {
        for id in self.instead.lock().drain() {
            self.cache.invalidate(&id);
        }
    }

    /// Checks the values of a page like any that are read.
    pub(crate) async fn check_page(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        admitted: &Admitted,
        prefix: &KeyPrefix,
        page: &mut ListPage,
    ) {
        let guarded = Guarded::new(store, Some(self));
        for (name, listed) in &mut page.entries {
            let (Ok(record), Ok(parsed)) = (&listed, ConfigName::parse(name)) else {
                continue;
            };
            if !needs_check(record) {
                continue;
            }
            let Ok(key) = ConfigKey::parse(&prefix.key_of(parsed)) else {
                continue;
            };
            let rules = self.rules(admitted, &key, Origin::Tenant).await;
            if rules.is_ok_and(|rules| rules.is_empty()) {
                continue;
            }
            let layers = store.locate(admitted.tenant(), parsed);
            let read = guarded
                .read(admitted, std::slice::from_ref(layers.first()))
                .await;
            match read.map(|mut read| read.pop().flatten()) {
                Ok(Some(record)) if record.is_instead() => *listed = Ok(record),
                Ok(_) => {}
                Err(error) => *listed = Err(error),
            }
        }
    }

    /// What the values of a key must be, and how this one breaks it.
    pub(crate) async fn checked(
        self: &Arc<Self>,
        admitted: &Admitted,
        key: &ConfigKey,
        origin: Origin,
        value: &Value,
    ) -> Result<(Rules, Vec<Broken>), ApiError> {
        let rules = self.rules(admitted, key, origin).await?;
        let found = self.broken(admitted, &rules, value).await?;
        Ok((rules, found))
    }

    /// What to serve where this value lies: the newest one in the history that the service wrote, which was good then, or that
    /// breaks no rule; else, what the cache knows. A value that was there before the schema that it breaks is served like
    /// any other.
    async fn verdict(
        &self,
        store: &Arc<dyn Store>,
        admitted: &Admitted,
        location: &Location,
        rules: &Rules,
        found: &[Broken],
        invalid: &Record,
    ) -> Result<Verdict, StoreError> {
        let ruled_ms = rules.since_ms(found);
        // In doubt, it came after it: clocks differ, and streams tell whole seconds.
        let is_older = |at_ms: Option<i64>| {
            at_ms.is_some_and(|at_ms| at_ms.saturating_add(SKEW_MS) < ruled_ms)
        };
        // Parameter Store and S3 say themselves when a value was written, whoever wrote it.
        if store.backend() != self.schemas.backend() && is_older(invalid.modified_ms) {
            // Unless it broke an earlier version of it, too.
            let was_rejected = self
                .was_rejected(store, admitted, location, invalid)
                .await?;
            if !was_rejected {
                return Ok(Verdict::Older);
            }
        }
        let sha256 = sha256_of(&invalid.value);
        let is_it = |entry: &HistoryEntry| {
            if entry.sha256.is_empty() {
                entry.version == invalid.revision.version
            } else {
                entry.sha256 == sha256
            }
        };
        let (mut after, mut is_newest, mut served_before) = (None::<String>, true, None);
        let mut unread = None;
        for _ in 0..MAX_PAGES {
            let request = HistoryRequest {
                after: after.as_deref(),
                ..HistoryRequest::newest_before(i64::MAX, PAGE)
            };
            let page = match store.history(admitted, location, &request).await {
                Ok(page) => page,
                Err(StoreError::Unsupported { .. }) => break,
                Err(error) => {
                    unread = Some(error);
                    break;
                }
            };
            for entry in page.entries {
                if entry.operation == ChangeOperation::Delete {
                    // What was not there before is not served either.
                    return Ok(Verdict::Nothing);
                }
                let was_newest = std::mem::replace(&mut is_newest, false);
                let is_rejection = entry.operation == ChangeOperation::Reject;
                if !is_rejection && is_it(&entry) {
                    if was_newest && is_older(Some(entry.at_ms)) {
                        return Ok(Verdict::Older);
                    }
                    continue;
                }
                if is_rejection {
                    // Its value was served. The entry of that value follows, unless its retention is over.
                    served_before = served_before.or(past(entry));
                    continue;
                }
                let is_of_the_service = !entry.role.is_empty();
                let Some(record) = past(entry) else {
                    continue;
                };
                if is_of_the_service || self.is_good(admitted, rules, &record.value).await? {
                    return Ok(Verdict::Instead(record));
                }
            }
            after = page.next_after;
            if after.is_none() {
                break;
            }
        }
        if let Some(record) = served_before {
            return Ok(Verdict::Instead(record));
        }
        let known = self.cache.last_known(location.id());
        if let Some(record) = known.and_then(|entry| entry.record.clone())
            && (record.revision != invalid.revision || record.value != invalid.value)
            && (record.check == Check::Written
                || self.is_good(admitted, rules, &record.value).await?)
        {
            return Ok(Verdict::Instead(record));
        }
        if let Some(error) = unread {
            return Err(error);
        }
        // Of a time before the history.
        if is_newest && is_older(invalid.modified_ms) {
            return Ok(Verdict::Older);
        }
        Ok(Verdict::Nothing)
    }

    async fn was_rejected(
        &self,
        store: &Arc<dyn Store>,
        admitted: &Admitted,
        location: &Location,
        invalid: &Record,
    ) -> Result<bool, StoreError> {
        let (Some(history), Some((_, key))) = (&self.history, store.key_at(location.id())) else {
            return Ok(false);
        };
        let request = HistoryRequest {
            since_ms: invalid.modified_ms.unwrap_or_default(),
            values: false,
            ..HistoryRequest::newest_before(i64::MAX, PAGE)
        };
        let page = history.of_key(admitted, location, &key, &request).await?;
        let mut entries = page.entries.iter();
        Ok(entries.any(|entry| entry.operation == ChangeOperation::Reject))
    }

    async fn is_good(
        &self,
        admitted: &Admitted,
        rules: &Rules,
        value: &Value,
    ) -> Result<bool, StoreError> {
        let found = self.broken(admitted, rules, value).await;
        // Too many checks: later, and not an earlier value than the last good one.
        let found = found.map_err(|_| StoreError::Throttled {
            backend: self.schemas.backend(),
        })?;
        Ok(found.is_empty())
    }

    /// Sees to it that the history says what was rejected, once, behind the entry of the edit itself.
    #[expect(clippy::too_many_arguments, reason = "what an entry consists of")]
    fn note(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        admitted: &Admitted,
        location: &Location,
        (partition, key): (String, ConfigKey),
        invalid: &Record,
        served: &Record,
        broken: &Broken,
    ) {
        let Some(history) = self.history.clone() else {
            return;
        };
        let noted = Arc::clone(self);
        let (store, admitted, location) = (Arc::clone(store), admitted.clone(), location.clone());
        let (invalid, served) = (invalid.clone(), served.clone());
        let note = shortened(format!(
            "{}: {:?} {}",
            broken.schema, broken.violation.pointer, broken.violation.message
        ));
        tokio::spawn(async move {
            for wait in ENTRY_WAITS {
                tokio::time::sleep(wait).await;
                let request = HistoryRequest {
                    values: false,
                    ..HistoryRequest::newest_before(i64::MAX, PAGE)
                };
                let Ok(page) = store.history(&admitted, &location, &request).await else {
                    continue;
                };
                let sha256 = sha256_of(&invalid.value);
                let edit = page.entries.into_iter().find(|entry| {
                    entry.operation != ChangeOperation::Reject
                        && if entry.sha256.is_empty() {
                            entry.version == invalid.revision.version
                        } else {
                            entry.sha256 == sha256
                        }
                });
                let Some(edit) = edit else {
                    continue;
                };
                if noted.noted.get(location.id()) == Some(edit.at_ms) {
                    return;
                }
                let is_in_table = !store.keeps_bytes() && store.keeps_history();
                let entry = NewEntry {
                    key: key.as_str().to_owned(),
                    change: Entry::edited(
                        location.id(),
                        invalid.revision,
                        0,
                        &format!("rejected {sha256}"),
                    )
                    .id,
                    order: AFTER_THE_EDIT.to_owned(),
                    at_ms: edit.at_ms,
                    version: served.revision.version,
                    previous: Some(invalid.revision.version),
                    operation: ChangeOperation::Reject,
                    author: None,
                    kept_from_ms: None,
                    by: Some((REJECTED_BY, &note)),
                    sha256: sha256_of(&served.value),
                    bytes: served.value.len(),
                    content_type: &served.content_type,
                    value: served.value.as_text().filter(|_| is_in_table),
                };
                match history.append(&partition, &entry).await {
                    Ok(_) => {
                        noted.noted.insert(location.id().clone(), edit.at_ms);
                        return;
                    }
                    Err(error) => tracing::warn!(
                        error = telemetry::chain(&error),
                        "a rejection cannot be noted yet"
                    ),
                }
            }
            tracing::warn!(location = %location.id(), "the history does not say that a value was rejected: it has no entry of the edit");
        });
    }
}

fn schema_of(value: &Value) -> Result<Schema, String> {
    let text = value.as_text().ok_or("a schema is text")?;
    Schema::parse(text).map_err(|error| error.to_string())
}

/// An earlier value that is in memory.
fn past(entry: HistoryEntry) -> Option<Record> {
    let value = entry
        .value
        .filter(|value| !matches!(value, Value::Remote(_)))?;
    let revision = Revision {
        incarnation: 0,
        version: entry.version,
    };
    Some(Record::new(
        value,
        entry.content_type,
        revision,
        Some(entry.at_ms),
    ))
}

fn shortened(mut note: String) -> String {
    let end = note.floor_char_boundary(tagged_config_domain::history::MAX_NOTE_BYTES);
    note.truncate(end);
    note
}
