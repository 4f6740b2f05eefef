//! What is logged of each change, and the metrics, in CloudWatch's embedded metric format.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{io::Write, time::Duration};

use serde_json::{Value, json};
use tagged_config_domain::Backend;
use tagged_config_runtime::{clock::unix_ms, telemetry};

use crate::{change::Change, fanout::Fanout, journal::Journalled};

/// CloudWatch's namespace.
pub(crate) const NAMESPACE: &str = "TaggedConfig";
/// Metric: tasks that a change was sent to.
pub(crate) const FANOUT_TARGETS: &str = "refresh_fanout_targets";
/// Metric: tasks that did not acknowledge.
pub(crate) const FANOUT_FAILURES: &str = "refresh_fanout_failures";
/// Metric: from a change's writing to the end of its fan-out, in milliseconds.
pub(crate) const CHANGE_AGE: &str = "refresh_change_age_ms";
/// Metric: the fan-out alone, in milliseconds.
pub(crate) const FANOUT_DURATION: &str = "refresh_fanout_ms";

/// Metric: batches of a stream that are to be tried again. To Lambda the invocation has succeeded, so that its own
/// `Errors` counts none of them.
const HISTORY_FAILURES: &str = "history_append_failures";
pub(crate) const BATCH_FAILURES: &str = "refresh_batch_failures";

/// The times of the stages before the fan-out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    /// When the function began, in unix milliseconds.
    pub started_ms: i64,
    /// Time that reading the source took.
    pub reading: Duration,
}

/// Metric: changes that the journal did not take.
pub(crate) const JOURNAL_FAILURES: &str = "refresh_journal_failures";

/// Logs a receipt for each change and emits the metrics.
pub(crate) fn emit(changes: &[Change], journalled: Journalled, stages: Stages, fanout: &Fanout) {
    for change in changes {
        let event_ms = if change.written_at_ms > 0 {
            stages.started_ms - change.written_at_ms
        } else {
            0
        };
        tracing::info!(
            location = %change.id,
            { telemetry::STORE_BACKEND } = change.id.backend().0,
            version = change.revision.version,
            incarnation = change.revision.incarnation,
            journalled = journalled == Journalled::Yes,
            targets = fanout.targets,
            acknowledged = fanout.acknowledged,
            laggards = fanout.laggards.len(),
            write_to_start_ms = event_ms,
            write_time_whole_seconds = change.whole_seconds,
            read_ms = millis(stages.reading),
            discover_ms = millis(fanout.discovering),
            fanout_ms = millis(fanout.calling),
            "receipt"
        );
        print(&metrics(change, journalled, fanout, unix_ms()));
    }
}

/// Emits that a batch of a source's stream is to be tried again.
pub(crate) fn emit_failed_batch(source: Backend) {
    let values = json!({"source": source.0, BATCH_FAILURES: 1});
    print(&embedded(&[(BATCH_FAILURES, "Count")], values, unix_ms()));
}

/// Emits that a change is not in the history.
pub(crate) fn emit_history_failure() {
    let values = json!({HISTORY_FAILURES: 1});
    print(&embedded(&[(HISTORY_FAILURES, "Count")], values, unix_ms()));
}

fn print(metrics: &Value) {
    let mut line = metrics.to_string();
    line.push('\n');
    // Nothing can be done if standard output is closed.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

fn metrics(change: &Change, journalled: Journalled, fanout: &Fanout, now_ms: i64) -> Value {
    let names = [
        (FANOUT_TARGETS, "Count"),
        (FANOUT_FAILURES, "Count"),
        (CHANGE_AGE, "Milliseconds"),
        (FANOUT_DURATION, "Milliseconds"),
        (JOURNAL_FAILURES, "Count"),
    ];
    let values = json!({
        "source": change.id.backend().0,
        FANOUT_TARGETS: fanout.targets,
        FANOUT_FAILURES: fanout.laggards.len(),
        CHANGE_AGE: if change.written_at_ms > 0 { (now_ms - change.written_at_ms).max(0) } else { 0 },
        FANOUT_DURATION: millis(fanout.calling),
        JOURNAL_FAILURES: u8::from(journalled == Journalled::No),
    });
    embedded(&names, values, now_ms)
}

/// The values with their declaration, by source and in all.
fn embedded(names: &[(&str, &str)], mut values: Value, now_ms: i64) -> Value {
    let metrics: Vec<_> = names
        .iter()
        .map(|(name, unit)| json!({"Name": name, "Unit": unit}))
        .collect();
    values["_aws"] = json!({
        "Timestamp": now_ms,
        "CloudWatchMetrics": [{
            "Namespace": NAMESPACE,
            "Dimensions": [["source"], []],
            "Metrics": metrics,
        }],
    });
    values
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::{Backend, LocationId, Revision};
    use tagged_config_stores::Entry;

    use super::*;
    use crate::change::NewState;

    #[test]
    fn metrics_are_well_formed() {
        let id = LocationId::new(Backend("dynamodb"), "TENANT#A", "CONFIG#x");
        let change = Change {
            entry: Entry::edited(&id, Revision::default(), 1_000, "1"),
            id,
            revision: Revision::default(),
            state: NewState::Unknown,
            written_at_ms: 1_000,
            whole_seconds: true,
            noted: None,
        };
        let fanout = Fanout {
            targets: 3,
            acknowledged: 3,
            ..Fanout::default()
        };
        let emitted = metrics(&change, Journalled::No, &fanout, 1_250);
        assert_eq!(emitted[CHANGE_AGE], 250);
        assert_eq!(emitted[FANOUT_TARGETS], 3);
        assert_eq!(emitted[JOURNAL_FAILURES], 1);
        let declared = emitted["_aws"]["CloudWatchMetrics"][0]["Metrics"]
            .as_array()
            .unwrap();
        assert!(
            declared
                .iter()
                .all(|metric| emitted[metric["Name"].as_str().unwrap()].is_number())
        );
        assert!(
            !emitted.to_string().contains("TENANT#A"),
            "no tenant in a metric"
        );
    }

    #[test]
    fn a_failed_batch_has_its_metric() {
        let values = json!({"source": "dynamodb", BATCH_FAILURES: 1});
        let emitted = embedded(&[(BATCH_FAILURES, "Count")], values, 1);
        let declared = &emitted["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(declared["Metrics"][0]["Name"], BATCH_FAILURES);
        assert_eq!(declared["Dimensions"], json!([["source"], []]));
        assert_eq!(
            (&emitted[BATCH_FAILURES], &emitted["source"]),
            (&json!(1), &json!("dynamodb"))
        );
    }
}
