//! Prometheus metrics. Names are constants so that dashboards and alarms can be held against them; label
//! values are enums, never anything a caller chooses.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tagged_config_domain::Backend;

/// Reads by backend and result. (The exposition adds `_total`.)
pub(crate) const CONFIG_READS: &str = "config_reads";
/// Time from request to answer of a read that the cache could not answer.
pub(crate) const CONFIG_READ_DURATION: &str = "config_read_duration";
/// Bytes that the cache uses.
pub(crate) const CONFIG_CACHE_BYTES: &str = "config_cache_bytes";
/// Entries in the cache.
pub(crate) const CONFIG_CACHE_ENTRIES: &str = "config_cache_entries";
/// WatchConfig calls under way.
pub(crate) const CONFIG_WATCHES: &str = "config_watches";
/// From a change's writing to its application here.
pub(crate) const CONFIG_PROPAGATION: &str = "config_propagation";
/// Changes that no event brought, by what found them. (The exposition adds `_total`.)
pub(crate) const CONFIG_REPAIRS: &str = "config_repairs";

/// Changes that callers made, by operation. (The exposition adds `_total`.)
pub(crate) const CONFIG_CHANGES: &str = "config_changes";
/// Changes that callers were refused. (The exposition adds `_total`.)
pub(crate) const CONFIG_CHANGES_REFUSED: &str = "config_changes_refused";
/// Reads that found a value that was written past the service and breaks its schema. (The exposition adds `_total`.)
pub(crate) const CONFIG_GUARDED_EDITS: &str = "config_guarded_edits";
/// Sweeps of the journal by result. (The exposition adds `_total`.)
pub(crate) const CONFIG_SWEEPS: &str = "config_sweeps";
/// How long a change may stay unseen at most, by what fails.
pub(crate) const CONFIG_STALENESS_BOUND: &str = "config_staleness_bound";

/// How long ago the issuer's signing keys were fetched. (The exposition adds `_seconds`.)
pub(crate) const CONFIG_SIGNING_KEYS_AGE: &str = "config_signing_keys_age";

/// What found a change that no event brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values")]
pub(crate) enum RepairedBy {
    /// The sweep of the journal.
    sweep,
    /// A read after the TTL.
    ttl,
}

/// How long a change may stay unseen at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Where no push brings it, and it is in the journal.
    pub push_lost: Duration,
    /// Where the journal cannot be read, or does not know of it, either.
    pub journal_unreachable: Duration,
    /// Where the source does not answer either: the age of the last known value.
    pub source_down: Duration,
}

/// Gauge values, sampled at scrape time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GaugeSnapshot {
    /// Bytes that the cache uses.
    pub cache_bytes: u64,
    /// Entries in the cache.
    pub cache_entries: usize,
    /// WatchConfig calls under way.
    pub watches: usize,
    /// What is promised now.
    pub bounds: Bounds,
}

/// How a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values")]
pub(crate) enum ReadResult {
    /// From the cache.
    hit,
    /// From the source.
    miss,
    /// The last known value, since the source did not answer.
    stale,
    /// Not at all.
    error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadLabels {
    backend: &'static str,
    result: ReadResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
    precision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepairLabels {
    by: RepairedBy,
}

/// What a caller changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values")]
pub(crate) enum Changed {
    put,
    delete,
    rollback,
    undo,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    operation: Changed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SweepLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabels {
    failure: &'static str,
}

/// The process's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    reads: Family<ReadLabels, Counter>,
    read_duration: Histogram,
    cache_bytes: Gauge,
    cache_entries: Gauge,
    watches: Gauge,
    propagation: Family<SourceLabels, Histogram>,
    repairs: Family<RepairLabels, Counter>,
    changes: Family<ChangeLabels, Counter>,
    changes_refused: Counter,
    guarded_edits: Counter,
    sweeps: Family<SweepLabels, Counter>,
    bounds: Family<BoundLabels, Gauge<f64, AtomicU64>>,
    keys_age: Gauge<f64, AtomicU64>,
    recent: Mutex<Recent>,
}

/// Reads of one backend by their result.
#[derive(Clone, Debug)]
pub(crate) struct ReadCounters([(ReadResult, Counter); 4]);

/// Samples of the histograms since the last export.
#[derive(Default)]
pub(crate) struct Recent {
    /// Of reads that the cache could not answer, in seconds.
    pub(crate) read_durations: Samples,
    /// Of changes, by source, in seconds.
    pub(crate) propagation: HashMap<&'static str, Samples>,
}

/// A fair sample of at most [`Samples::LIMIT`] values, and the largest of all.
#[derive(Default)]
pub(crate) struct Samples {
    kept: Vec<f64>,
    seen: usize,
    largest: f64,
}

impl Samples {
    const LIMIT: usize = 100;

    fn add(&mut self, value: f64) {
        self.seen += 1;
        self.largest = self.largest.max(value);
        if self.kept.len() < Self::LIMIT {
            self.kept.push(value);
        } else if let Some(slot) = self.kept.get_mut(fastrand::usize(..self.seen)) {
            *slot = value;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The values, the largest among them.
    pub(crate) fn into_values(mut self) -> Vec<f64> {
        if self.seen > self.kept.len()
            && let Some(slot) = self.kept.first_mut()
        {
            *slot = self.largest;
        }
        self.kept
    }
}

/// The age of keys that are not there.
const NO_KEYS: f64 = -1.0;
const SWEEP_RESULTS: [&str; 2] = ["failed", "ok"];

#[cfg(test)]
impl GaugeSnapshot {
    /// A cache of this size.
    pub(crate) fn of(cache_bytes: u64, cache_entries: usize) -> Self {
        let bounds = Bounds {
            push_lost: Duration::from_secs(4),
            journal_unreachable: Duration::from_mins(1),
            source_down: Duration::from_hours(1),
        };
        Self {
            cache_bytes,
            cache_entries,
            watches: 0,
            bounds,
        }
    }
}

impl Bounds {
    /// Each with the failure it holds for, as labels spell it.
    pub(crate) fn by_failure(&self) -> [(&'static str, Duration); 3] {
        [
            ("push_lost", self.push_lost),
            ("journal_unreachable", self.journal_unreachable),
            ("source_down", self.source_down),
        ]
    }
}

impl RepairedBy {
    /// As labels spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::sweep => "sweep",
            Self::ttl => "ttl",
        }
    }
}

impl Changed {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::put, Self::delete, Self::rollback, Self::undo];

    /// As labels and logs spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::put => "put",
            Self::delete => "delete",
            Self::rollback => "rollback",
            Self::undo => "undo",
        }
    }
}

impl ReadResult {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [Self::hit, Self::miss, Self::stale, Self::error];

    /// As headers and logs spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::hit => "hit",
            Self::miss => "miss",
            Self::stale => "stale",
            Self::error => "error",
        }
    }
}

impl ReadCounters {
    /// Counts a read.
    pub(crate) fn count(&self, result: ReadResult) {
        let counter = self.0.iter().find(|(counted, _)| *counted == result);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

impl Metrics {
    /// All metrics at zero.
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::default();
        let reads = Family::default();
        registry.register(CONFIG_READS, "Reads by backend and result", reads.clone());
        let read_duration = Histogram::new(exponential_buckets(0.000_5, 2.0, 14));
        registry.register_with_unit(
            CONFIG_READ_DURATION,
            "Reads that called the backend, request to answer",
            Unit::Seconds,
            read_duration.clone(),
        );
        let cache_bytes = Gauge::default();
        registry.register(
            CONFIG_CACHE_BYTES,
            "Bytes that the cache uses",
            cache_bytes.clone(),
        );
        let cache_entries = Gauge::default();
        registry.register(
            CONFIG_CACHE_ENTRIES,
            "Entries in the cache",
            cache_entries.clone(),
        );
        let watches = Gauge::default();
        registry.register(
            CONFIG_WATCHES,
            "WatchConfig calls under way",
            watches.clone(),
        );
        let propagation = Family::<SourceLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.005, 2.0, 14))
        });
        registry.register_with_unit(
            CONFIG_PROPAGATION,
            "From a change's writing to its application here; precision=second: written at a whole second",
            Unit::Seconds,
            propagation.clone(),
        );
        let repairs = Family::<RepairLabels, Counter>::default();
        registry.register(
            CONFIG_REPAIRS,
            "Changes that no event brought, by what found them",
            repairs.clone(),
        );
        for by in [RepairedBy::sweep, RepairedBy::ttl] {
            drop(repairs.get_or_create(&RepairLabels { by }));
        }
        let changes = Family::<ChangeLabels, Counter>::default();
        registry.register(
            CONFIG_CHANGES,
            "Changes that callers made, by operation",
            changes.clone(),
        );
        for operation in Changed::ALL {
            drop(changes.get_or_create(&ChangeLabels { operation }));
        }
        let changes_refused = Counter::default();
        registry.register(
            CONFIG_CHANGES_REFUSED,
            "Changes that callers were refused",
            changes_refused.clone(),
        );
        let guarded_edits = Counter::default();
        registry.register(
            CONFIG_GUARDED_EDITS,
            "Reads that found a value that was written past the service and breaks its schema",
            guarded_edits.clone(),
        );
        let sweeps = Family::default();
        registry.register(CONFIG_SWEEPS, "Sweeps of the journal", sweeps.clone());
        let bounds = Family::default();
        registry.register_with_unit(
            CONFIG_STALENESS_BOUND,
            "How long a change may stay unseen at most, by what fails",
            Unit::Seconds,
            bounds.clone(),
        );
        let keys_age = Gauge::<f64, AtomicU64>::default();
        registry.register_with_unit(
            CONFIG_SIGNING_KEYS_AGE,
            "How long ago the issuer's signing keys were fetched; -1 without keys",
            Unit::Seconds,
            keys_age.clone(),
        );
        keys_age.set(NO_KEYS);
        Arc::new(Self {
            registry,
            reads,
            read_duration,
            cache_bytes,
            cache_entries,
            watches,
            propagation,
            repairs,
            changes,
            changes_refused,
            guarded_edits,
            sweeps,
            bounds,
            keys_age,
            recent: Mutex::default(),
        })
    }

    /// The counters of a backend's reads. The hot path keeps them: looking them up takes a lock, which
    /// all workers would share.
    pub(crate) fn reads_of(&self, backend: Backend) -> ReadCounters {
        ReadCounters(ReadResult::ALL.map(|result| {
            let labels = ReadLabels {
                backend: backend.0,
                result,
            };
            (result, self.reads.get_or_create_owned(&labels))
        }))
    }

    /// Records how long a read took that the cache could not answer.
    pub(crate) fn read_took(&self, took: Duration) {
        self.read_duration.observe(took.as_secs_f64());
        self.recent.lock().read_durations.add(took.as_secs_f64());
    }

    /// Records how long a change took to arrive.
    pub(crate) fn propagated(&self, source: Backend, took: Duration, whole_seconds: bool) {
        let precision = if whole_seconds {
            "second"
        } else {
            "millisecond"
        };
        self.propagation
            .get_or_create(&SourceLabels {
                source: source.0,
                precision,
            })
            .observe(took.as_secs_f64());
        let mut recent = self.recent.lock();
        let samples = recent.propagation.entry(source.0).or_default();
        samples.add(took.as_secs_f64());
    }

    /// Reads so far.
    pub(crate) fn reads(&self, backend: Backend, result: ReadResult) -> u64 {
        let labels = ReadLabels {
            backend: backend.0,
            result,
        };
        self.reads.get_or_create(&labels).get()
    }

    /// Changes so far that this found.
    pub(crate) fn repairs(&self, by: RepairedBy) -> u64 {
        self.repairs.get_or_create(&RepairLabels { by }).get()
    }

    /// Counts a change that no event brought.
    pub(crate) fn repaired(&self, by: RepairedBy) {
        self.repairs.get_or_create(&RepairLabels { by }).inc();
    }

    /// Counts a change that a caller made, or was refused.
    pub(crate) fn changed(&self, operation: Changed, is_done: bool) {
        if is_done {
            self.changes
                .get_or_create(&ChangeLabels { operation })
                .inc();
        } else {
            self.changes_refused.inc();
        }
    }

    /// Changes so far, by operation.
    pub(crate) fn changes(&self) -> [(&'static str, u64); 4] {
        Changed::ALL.map(|operation| {
            let count = self.changes.get_or_create(&ChangeLabels { operation });
            (operation.as_str(), count.get())
        })
    }

    /// Changes so far that were refused.
    pub(crate) fn changes_refused(&self) -> u64 {
        self.changes_refused.get()
    }

    /// Counts a read that found an invalid value.
    pub(crate) fn guarded(&self) {
        self.guarded_edits.inc();
    }

    /// Reads so far that found an invalid value.
    pub(crate) fn guarded_edits(&self) -> u64 {
        self.guarded_edits.get()
    }

    /// Counts a sweep.
    pub(crate) fn swept(&self, succeeded: bool) {
        let result = SWEEP_RESULTS[usize::from(succeeded)];
        self.sweeps.get_or_create(&SweepLabels { result }).inc();
    }

    /// Sweeps so far, by result.
    pub(crate) fn sweeps(&self) -> [(&'static str, u64); 2] {
        SWEEP_RESULTS.map(|result| {
            let count = self.sweeps.get_or_create(&SweepLabels { result }).get();
            (result, count)
        })
    }

    /// Sets how long ago the issuer's signing keys were fetched; `None` without keys. To be sampled at scrape time.
    pub(crate) fn set_keys_age(&self, age: Option<Duration>) {
        self.keys_age
            .set(age.map_or(NO_KEYS, |age| age.as_secs_f64()));
    }

    /// How old the issuer's signing keys were when they were sampled, in seconds; -1 without keys.
    pub(crate) fn keys_age(&self) -> f64 {
        self.keys_age.get()
    }

    /// What the histograms were given since the last call.
    pub(crate) fn take_recent(&self) -> Recent {
        mem::take(&mut self.recent.lock())
    }

    /// The text exposition.
    pub(crate) fn exposition(&self, gauges: GaugeSnapshot) -> String {
        self.cache_bytes
            .set(i64::try_from(gauges.cache_bytes).unwrap_or(i64::MAX));
        self.cache_entries
            .set(i64::try_from(gauges.cache_entries).unwrap_or(i64::MAX));
        self.watches
            .set(i64::try_from(gauges.watches).unwrap_or(i64::MAX));
        for (failure, bound) in gauges.bounds.by_failure() {
            let labels = BoundLabels { failure };
            self.bounds.get_or_create(&labels).set(bound.as_secs_f64());
        }
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every metric of this service that a dashboard or alarm names is one that is exposed.
    #[test]
    fn dashboards_and_alarms_name_metrics_that_exist() {
        let metrics = Metrics::new();
        metrics.reads_of(Backend("x")).count(ReadResult::hit);
        metrics.propagated(Backend("x"), Duration::ZERO, false);
        metrics.swept(true);
        metrics.set_keys_age(Some(Duration::from_secs(7)));
        let exposition = metrics.exposition(GaugeSnapshot::of(0, 0));
        assert!(
            exposition.contains("config_signing_keys_age_seconds 7.0"),
            "{exposition}"
        );
        assert!(
            exposition.contains("config_staleness_bound_seconds{failure=\"push_lost\"} 4.0"),
            "{exposition}"
        );
        let root = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../terraform/modules/observability"
        );
        let mut named = 0;
        for text in terraform_files(Path::new(root)) {
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            let is_metric = |word: &&str| {
                let ends = ["_total", "_seconds", "_bytes", "_entries"];
                word.starts_with("config_") && ends.iter().any(|end| word.ends_with(end))
            };
            for metric in words.filter(is_metric) {
                named += 1;
                assert!(
                    exposition.contains(metric),
                    "{metric} is on a dashboard and not exposed"
                );
            }
        }
        assert!(named > 5, "the dashboards were not found");
    }

    fn terraform_files(folder: &Path) -> Vec<String> {
        let mut texts = Vec::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                texts.extend(terraform_files(&path));
            } else if path.extension().is_some_and(|extension| extension == "tf") {
                texts.push(fs::read_to_string(path).unwrap());
            }
        }
        texts
    }
}
