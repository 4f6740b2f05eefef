//! The same metrics for CloudWatch, under the same names: lines of embedded metric format on standard output, which
//! CloudWatch Logs turns into metrics without a call to any API.
//!
//! Counters are written as what was added since the last line. Of a histogram's values each interval keeps a fair
//! sample of at most 100, CloudWatch's limit for one line, and always the largest: percentiles and maximum hold, the
//! sample count is the sample's.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{collections::HashMap, io::Write, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};
use tagged_config_domain::Backend;
use tagged_config_runtime::clock::unix_ms;
use tagged_config_stores::history;
use tokio::time::MissedTickBehavior;

use crate::telemetry::metrics::{
    CONFIG_CACHE_BYTES, CONFIG_CACHE_ENTRIES, CONFIG_CHANGES, CONFIG_CHANGES_REFUSED,
    CONFIG_GUARDED_EDITS, CONFIG_PROPAGATION, CONFIG_READ_DURATION, CONFIG_READS, CONFIG_REPAIRS,
    CONFIG_SIGNING_KEYS_AGE, CONFIG_STALENESS_BOUND, CONFIG_SWEEPS, CONFIG_WATCHES, GaugeSnapshot,
    Metrics, ReadResult, RepairedBy,
};

/// CloudWatch's namespace, the invalidator's too.
const NAMESPACE: &str = "TaggedConfig";
const SERVICE: &str = "config-service";
/// Writes that went on without their entry in the history.
const HISTORY_FAILURES: &str = "history_failures";

/// Writes the metrics every interval, and once more when `stop` ends.
pub(crate) async fn emit_every(
    interval: Duration,
    metrics: Arc<Metrics>,
    sample: impl Fn() -> GaugeSnapshot,
    backends: Vec<Backend>,
    stop: impl Future<Output = ()>,
) {
    let mut emitter = Emitter::new(metrics, backends);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        let stopped = tokio::select! {
            _ = ticks.tick() => false,
            () = &mut stop => true,
        };
        let mut text = String::new();
        for line in emitter.lines(sample(), unix_ms()) {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        // If standard output is closed, there is nowhere to report it.
        let _ = std::io::stdout().write_all(text.as_bytes());
        if stopped {
            return;
        }
    }
}

/// Remembers what was written, to write what was added since.
struct Emitter {
    metrics: Arc<Metrics>,
    backends: Vec<Backend>,
    written: HashMap<(&'static str, &'static str), u64>,
}

// === impl Emitter ===

impl Emitter {
    fn new(metrics: Arc<Metrics>, backends: Vec<Backend>) -> Self {
        Self {
            metrics,
            backends,
            written: HashMap::new(),
        }
    }

    /// One line for each set of dimensions that has something to say.
    fn lines(&mut self, gauges: GaugeSnapshot, now_ms: i64) -> Vec<Value> {
        let mut lines = vec![line(
            now_ms,
            &[],
            vec![
                (
                    CONFIG_CACHE_BYTES.to_owned(),
                    "Bytes",
                    json!(gauges.cache_bytes),
                ),
                (
                    CONFIG_CACHE_ENTRIES.to_owned(),
                    "Count",
                    json!(gauges.cache_entries),
                ),
                (CONFIG_WATCHES.to_owned(), "Count", json!(gauges.watches)),
                (
                    seconds_of(CONFIG_SIGNING_KEYS_AGE),
                    "Seconds",
                    json!(self.metrics.keys_age()),
                ),
            ],
        )];
        for backend in self.backends.clone() {
            for result in ReadResult::ALL {
                let total = self.metrics.reads(backend, result);
                let added = self.added((backend.0, result.as_str()), total);
                if added > 0 {
                    let dimensions = [("backend", backend.0), ("result", result.as_str())];
                    let value = (total_of(CONFIG_READS), "Count", json!(added));
                    lines.push(line(now_ms, &dimensions, vec![value]));
                }
            }
        }
        for by in [RepairedBy::sweep, RepairedBy::ttl] {
            let added = self.added((CONFIG_REPAIRS, by.as_str()), self.metrics.repairs(by));
            let value = (total_of(CONFIG_REPAIRS), "Count", json!(added));
            lines.push(line(now_ms, &[("by", by.as_str())], vec![value]));
        }
        for (result, total) in self.metrics.sweeps() {
            let added = self.added((CONFIG_SWEEPS, result), total);
            let value = (total_of(CONFIG_SWEEPS), "Count", json!(added));
            lines.push(line(now_ms, &[("result", result)], vec![value]));
        }
        for (operation, total) in self.metrics.changes() {
            let added = self.added((CONFIG_CHANGES, operation), total);
            if added > 0 {
                let value = (total_of(CONFIG_CHANGES), "Count", json!(added));
                lines.push(line(now_ms, &[("operation", operation)], vec![value]));
            }
        }
        let refused = self.metrics.changes_refused();
        let refused = self.added((CONFIG_CHANGES_REFUSED, ""), refused);
        let guarded = self.metrics.guarded_edits();
        let guarded = self.added((CONFIG_GUARDED_EDITS, ""), guarded);
        let unnoted = self.added((HISTORY_FAILURES, ""), history::failures());
        let counts = vec![
            (total_of(CONFIG_CHANGES_REFUSED), "Count", json!(refused)),
            (total_of(CONFIG_GUARDED_EDITS), "Count", json!(guarded)),
            (HISTORY_FAILURES.to_owned(), "Count", json!(unnoted)),
        ];
        lines.push(line(now_ms, &[], counts));
        for (failure, bound) in gauges.bounds.by_failure() {
            let value = json!(bound.as_secs_f64());
            let value = (seconds_of(CONFIG_STALENESS_BOUND), "Seconds", value);
            lines.push(line(now_ms, &[("failure", failure)], vec![value]));
        }
        let recent = self.metrics.take_recent();
        if !recent.read_durations.is_empty() {
            let values = json!(recent.read_durations.into_values());
            let value = (seconds_of(CONFIG_READ_DURATION), "Seconds", values);
            lines.push(line(now_ms, &[], vec![value]));
        }
        for (source, samples) in recent.propagation {
            let values = json!(samples.into_values());
            let value = (seconds_of(CONFIG_PROPAGATION), "Seconds", values);
            lines.push(line(now_ms, &[("source", source)], vec![value]));
        }
        lines
    }

    fn added(&mut self, series: (&'static str, &'static str), total: u64) -> u64 {
        let before = self.written.insert(series, total).unwrap_or_default();
        total.saturating_sub(before)
    }
}

/// As the text exposition spells them.
fn total_of(counter: &str) -> String {
    format!("{counter}_total")
}

fn seconds_of(histogram: &str) -> String {
    format!("{histogram}_seconds")
}

/// Values with `service` as their dimension, and with `dimensions` beside it.
fn line(
    now_ms: i64,
    dimensions: &[(&str, &str)],
    values: Vec<(String, &'static str, Value)>,
) -> Value {
    let names: Vec<&str> = std::iter::once("service")
        .chain(dimensions.iter().map(|(name, _)| *name))
        .collect();
    let sets = if dimensions.is_empty() {
        json!([names])
    } else {
        json!([["service"], names])
    };
    let declared: Vec<Value> = values
        .iter()
        .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}))
        .collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": declared}],
        }),
    );
    line.insert("service".to_owned(), json!(SERVICE));
    for (name, value) in dimensions {
        line.insert((*name).to_owned(), json!(value));
    }
    for (name, _, value) in values {
        line.insert(name, value);
    }
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMODB: Backend = Backend("dynamodb");

    fn with<'l>(lines: &'l [Value], metric: &str) -> Vec<&'l Value> {
        lines
            .iter()
            .filter(|line| !line[metric].is_null())
            .collect()
    }

    #[test]
    fn counters_are_written_as_what_was_added() {
        let metrics = Metrics::new();
        let mut emitter = Emitter::new(Arc::clone(&metrics), vec![DYNAMODB]);
        for _ in 0..3 {
            metrics.reads_of(DYNAMODB).count(ReadResult::hit);
        }
        let lines = emitter.lines(GaugeSnapshot::of(10, 1), 1);
        let reads = with(&lines, "config_reads_total");
        assert_eq!(reads.len(), 1, "results that did not occur are left out");
        assert_eq!(reads[0]["config_reads_total"], 3);
        assert_eq!(reads[0]["result"], "hit");
        metrics.reads_of(DYNAMODB).count(ReadResult::hit);
        let lines = emitter.lines(GaugeSnapshot::of(10, 1), 2);
        assert_eq!(
            with(&lines, "config_reads_total")[0]["config_reads_total"],
            1
        );
        assert!(
            with(
                &emitter.lines(GaugeSnapshot::of(10, 1), 3),
                "config_reads_total"
            )
            .is_empty()
        );
    }

    #[test]
    fn every_declared_metric_and_dimension_is_there() {
        let metrics = Metrics::new();
        metrics.reads_of(DYNAMODB).count(ReadResult::miss);
        metrics.read_took(Duration::from_millis(3));
        metrics.propagated(DYNAMODB, Duration::from_millis(50), false);
        metrics.repaired(RepairedBy::ttl);
        let lines = Emitter::new(metrics, vec![DYNAMODB]).lines(GaugeSnapshot::of(5, 2), 1_000);
        assert_eq!(lines.len(), 12);
        for line in &lines {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            let names = directive["Metrics"].as_array().unwrap().iter();
            let names = names.map(|metric| &metric["Name"]);
            let dimensions = directive["Dimensions"].as_array().unwrap().iter();
            let dimensions = dimensions.flat_map(|set| set.as_array().unwrap());
            for name in names.chain(dimensions) {
                assert!(!line[name.as_str().unwrap()].is_null(), "{name}: {line}");
            }
        }
    }

    #[test]
    fn a_busy_interval_is_sampled_and_keeps_its_maximum() {
        let metrics = Metrics::new();
        metrics.read_took(Duration::from_secs(9));
        for _ in 0..5_000 {
            metrics.read_took(Duration::from_millis(1));
        }
        let lines = Emitter::new(metrics, vec![]).lines(GaugeSnapshot::of(0, 0), 1);
        let line = with(&lines, "config_read_duration_seconds")[0];
        let values = line["config_read_duration_seconds"].as_array().unwrap();
        assert_eq!(values.len(), 100);
        assert!(values.contains(&json!(9.0)));
    }
}
