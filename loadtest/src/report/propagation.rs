//! How updates spread: what `staleness`, `chaos` and `watchers` report.

use std::{collections::BTreeMap, fmt::Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Findings, Phase, Quantiles, Report,
    findings::is_wrong,
    table::{Table, cell, percentile},
};
use crate::{figures::wilson, recorder::quantiles};

/// This part of the updates that were due must have been made.
const SUSTAINED_UPDATES: f64 = 0.9;

/// How updates spread under one background load.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Staleness {
    /// gRPC reads a second beside it.
    pub(crate) background_per_second: f64,
    /// Seconds in which updates were made.
    pub(crate) seconds: f64,
    /// How finely the times of replicas are known: from the start of the last read that did not show an update to the end
    /// of the first that did.
    pub(crate) resolution: Option<Quantiles>,
    /// The same for each observer, and how much it read.
    #[serde(default)]
    pub(crate) observers: Vec<ObserverReads>,
    /// What was observed, by how updates were made.
    pub(crate) sources: Vec<SourceStaleness>,
    /// Violations over all reads.
    pub(crate) history: History,
    /// What the replicas count themselves, if their metrics could be read.
    pub(crate) services: Option<ServiceCounts>,
    /// The background load; absent without one.
    pub(crate) background: Option<Phase>,
}

/// One observer: a replica, the edge or order-service.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ObserverReads {
    /// `replica HOST:PORT`, `the edge`, `the price of an order`.
    pub(crate) name: String,
    /// Reads that were answered.
    pub(crate) reads: u64,
    /// Reads a second: a load that is beside every update.
    pub(crate) reads_per_second: f64,
    /// Reads that failed.
    pub(crate) failed: u64,
    /// How finely its times are known; absent if it saw no update.
    pub(crate) resolution: Option<Quantiles>,
}

/// Updates by one source.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SourceStaleness {
    /// `dynamodb`, `put-config`, `parameter-store`, `s3`.
    pub(crate) source: String,
    /// Updates a second that were wanted.
    pub(crate) wanted_per_second: f64,
    /// Updates that were acknowledged.
    pub(crate) updates: u64,
    /// Writes that failed, by reason.
    pub(crate) failed_writes: BTreeMap<String, u64>,
    /// Updates that were due while their location was still being written, or rested after a failure: not made.
    #[serde(default)]
    pub(crate) passed_over: u64,
    /// Updates that an observer did not see in time.
    pub(crate) lost: u64,
    /// Updates that were undecided when the run ended.
    pub(crate) undecided: u64,
    /// In microseconds. `acknowledge` is the write itself. From its acknowledgement until an update is visible:
    /// `first_replica`, `last_replica`; `edge_first`, `order_first` (the first read that shows it); `edge_all` (the first
    /// read that shows it at the last of all tasks that answer there); `order_all` (the first read after which no read shows
    /// an older one, confirmed by three in a row). As the invalidator's receipts say: `write_to_start` (of its function),
    /// `read`, `discover`, `fanout`. `start_to_last` is the service's own part: from the function's start to the last
    /// replica, counted from the write's start, which is not later than the write.
    pub(crate) stages: BTreeMap<String, Quantiles>,
    /// Lower bounds of the stages that end with a read: the update was not visible before. 0 is at most the resolution.
    #[serde(default)]
    pub(crate) floors: BTreeMap<String, Quantiles>,
    /// By stage: updates that no observer saw. They count with the time until the end of the observation.
    #[serde(default)]
    pub(crate) unseen: BTreeMap<String, u64>,
    /// The distribution of each stage, as in `Series`.
    pub(crate) histograms: BTreeMap<String, Vec<(u64, u64)>>,
    /// Each update; one that a replica did not show has the time until the end of the observation.
    pub(crate) timeline: Vec<Spread>,
    /// Receipts that were found for these updates.
    pub(crate) receipts: u64,
}

/// One update.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread {
    /// When it was acknowledged, in milliseconds since updates began.
    pub(crate) at_ms: u64,
    /// From then until the first replica showed it, in microseconds; 0 if it did before.
    pub(crate) first_us: u64,
    /// And the last.
    pub(crate) last_us: u64,
}

/// What the checker of the history says.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct History {
    /// Reads that were checked.
    pub(crate) reads: u64,
    /// Reads that failed, by observer and reason.
    pub(crate) failed_reads: BTreeMap<String, u64>,
    /// The violations, in words.
    pub(crate) violations: Vec<String>,
}

/// One fault with one seed, and what every replica showed meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FaultRun {
    /// As `--fault` names it.
    pub(crate) name: String,
    /// Title in reports.
    pub(crate) title: String,
    /// Seed of the random choices.
    pub(crate) seed: u64,
    /// The promise: an acknowledged update is visible at every replica after so long, in microseconds.
    pub(crate) promised_us: u64,
    /// The longest time from an acknowledgement until the last replica showed the update; absent without an update.
    pub(crate) worst_us: Option<u64>,
    /// Its lower bound: the start of the last read that did not show it.
    pub(crate) worst_at_least_us: Option<u64>,
    /// Updates that were acknowledged.
    pub(crate) updates: u64,
    /// Writes that failed.
    pub(crate) failed_writes: u64,
    /// Acknowledged updates for which no later read of some replica decides whether they were visible.
    pub(crate) undecided: u64,
    /// Violations over all reads. Its failed reads are those that the fault does not excuse.
    pub(crate) history: History,
    /// Failed reads of a replica that was stopped or down, which the fault excuses.
    pub(crate) excused_reads: u64,
    /// Changes that no push brought and something else repaired.
    pub(crate) repairs: u64,
    /// Keys that a noisy neighbour requested or changed; 0 without one.
    pub(crate) noisy_requested: u64,
    /// Of these, those beyond its quota.
    pub(crate) noisy_refused: u64,
    /// Everything that breaks the promise, in words.
    pub(crate) problems: Vec<String>,
    /// Whether the promise was kept.
    pub(crate) kept: bool,
    /// Reads of quiet tenants beside the fault, in an open loop at the replicas that it does not disturb.
    pub(crate) quiet: Option<Phase>,
    /// What the change history has of the updates, once the fault was over; absent where it was not checked.
    #[serde(default)]
    pub(crate) audit: Option<Audit>,
}

/// The audit of the change history: whether each acknowledged update has exactly one entry, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Audit {
    /// Updates that must have an entry: those that were acknowledged, and that the store still keeps.
    pub(crate) updates: u64,
    /// Of these, those that have one.
    pub(crate) recorded: u64,
    /// Entries that were read.
    pub(crate) entries: u64,
    /// From the end of the fault to the end of the last read, in seconds.
    pub(crate) seconds: f64,
    /// The violations, in words.
    pub(crate) violations: Vec<String>,
}

/// Changes on their way to many calls of WatchConfig.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Watchers {
    /// Calls.
    pub(crate) calls: u32,
    /// Tenants; each has one change.
    pub(crate) tenants: u32,
    /// Connections that carry the calls.
    pub(crate) connections: u32,
    /// From the first call to the last snapshot, in seconds.
    pub(crate) opened_seconds: f64,
    /// Changes that were made.
    pub(crate) changes: u64,
    /// Calls that brought their change.
    pub(crate) heard: u64,
    /// How long the writes took.
    pub(crate) acknowledge: Option<Quantiles>,
    /// From a change's acknowledgement until the last of its watchers has it: a sample for each change.
    pub(crate) last_watcher: Option<Quantiles>,
    /// From a change's acknowledgement until a watcher has it. Watchers of one change are no independent samples.
    pub(crate) each_watcher: Option<Quantiles>,
    /// The distribution of `last_watcher`, as in `Series`.
    pub(crate) last_watcher_histogram: Vec<(u64, u64)>,
    /// The distribution of `each_watcher`, as in `Series`.
    pub(crate) each_watcher_histogram: Vec<(u64, u64)>,
}

/// Differences of the replicas' counters over the run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServiceCounts {
    /// Replicas whose metrics were read.
    pub(crate) replicas: u32,
    /// Changes that push did not bring and something else repaired, by what (`config_repairs_total`).
    pub(crate) repaired: BTreeMap<String, u64>,
    /// Changes that were applied, by source (`config_propagation_seconds_count`).
    pub(crate) applied: BTreeMap<String, u64>,
    /// Mean of their own `config_propagation_seconds`, by source, in microseconds.
    pub(crate) mean_propagation_us: BTreeMap<String, f64>,
}

// === impl Staleness ===

impl Staleness {
    /// Adds what a reader must know.
    pub(super) fn warn(&self, interrupted: bool, found: &mut Findings) {
        for violation in &self.history.violations {
            found.distrust(violation.clone());
        }
        for source in &self.sources {
            let name = &source.source;
            let failed: u64 = source.failed_writes.values().sum();
            let due = source.updates + failed + source.passed_over;
            let made = source.updates;
            // Of a few updates, one that is missing says nothing of the rate.
            let (_, at_most) = wilson(made as f64 / due.max(1) as f64, due.max(1));
            if at_most < SUSTAINED_UPDATES && !interrupted {
                found.distrust(format!(
                    "{name}: {made} updates were made, not {due}: the rate was not sustained ({} were due while their \
                     location was still being written, or rested after a failure)",
                    source.passed_over
                ));
            }
            if source.lost > 0 {
                found.distrust(format!("{name}: {} updates were lost", source.lost));
            }
            if source.undecided > 0 {
                let undecided = source.undecided;
                found.add(
                    !interrupted,
                    format!(
                        "{name}: {undecided} updates were not seen everywhere before the run ended"
                    ),
                );
            }
            for (reason, count) in &source.failed_writes {
                found.warn(format!("{name}: {count} writes failed: {reason}"));
            }
        }
        for (reason, count) in &self.history.failed_reads {
            found.distrust(format!("{count} reads failed: {reason}"));
        }
    }
}

// === impl FaultRun ===

impl FaultRun {
    /// With the reads of quiet tenants. A wrong answer to one breaks the promise, too.
    pub(crate) fn with_quiet(mut self, quiet: Option<Phase>) -> Self {
        let errors = quiet.iter().flat_map(Phase::errors);
        let wrong = errors.filter(|(code, _)| is_wrong(code));
        let problems = wrong.map(|(code, count)| format!("quiet reads: {code} x {count}"));
        self.problems.extend(problems);
        self.kept = self.problems.is_empty();
        Self { quiet, ..self }
    }

    /// With the audit of the change history. Its violations break the promise, too.
    pub(crate) fn with_audit(mut self, audit: Option<Audit>) -> Self {
        let violations = audit.iter().flat_map(|audit| &audit.violations);
        self.problems.extend(violations.cloned());
        self.kept = self.problems.is_empty();
        Self { audit, ..self }
    }

    /// Adds what a reader must know.
    pub(super) fn warn(&self, found: &mut Findings) {
        for problem in &self.problems {
            let (name, seed) = (&self.name, self.seed);
            found.distrust(format!("BROKEN  {name} (seed {seed}): {problem}"));
        }
    }

    /// Times of quiet reads, failures included; `None` where the rate was not sustained.
    pub(crate) fn quiet_times(&self) -> Option<Quantiles> {
        let phase = self.quiet.as_ref().filter(|phase| phase.sustained)?;
        Some(quantiles(&phase.times(|_| true, true)))
    }
}

/// The tables of `chaos` and `watchers`.
pub(super) fn render(report: &Report, text: &mut String) {
    if !report.chaos.is_empty() {
        faults(&report.chaos, text);
    }
    if let Some(found) = &report.watchers {
        watchers(found, text);
    }
}

/// Each row ends with its verdict, `kept` or `BROKEN`.
fn faults(runs: &[FaultRun], text: &mut String) {
    let mut table = Table::new(&[
        "fault",
        "seed",
        "updates",
        "worst",
        "at least",
        "promised",
        "repairs",
        "in history",
        "quiet p50",
        "quiet p99",
        "quiet failed",
        "verdict",
    ]);
    for run in runs {
        let times = run.quiet_times();
        let failed = run.quiet.iter().flat_map(|phase| &phase.series);
        let failed: u64 = failed.flat_map(|series| series.errors.values()).sum();
        table.row([
            run.title.clone(),
            run.seed.to_string(),
            run.updates.to_string(),
            cell(run.worst_us),
            cell(run.worst_at_least_us),
            cell(Some(run.promised_us)),
            run.repairs.to_string(),
            run.audit.as_ref().map_or("-".to_owned(), |audit| {
                format!("{}/{}", audit.recorded, audit.updates)
            }),
            times
                .as_ref()
                .map_or("-".to_owned(), |times| percentile(times, "p50")),
            times
                .as_ref()
                .map_or("-".to_owned(), |times| percentile(times, "p99")),
            failed.to_string(),
            if run.kept { "kept" } else { "BROKEN" }.to_owned(),
        ]);
    }
    let _ = write!(
        text,
        "\n{table}worst, promised: from an update's acknowledgement until the last replica shows it; at least: until the \
         last read that did not show it\nin history: acknowledged updates that have an entry in the change history, once the \
         fault is over\nquiet: reads of other tenants beside the fault, at the replicas that it does not \
         disturb (open loop)\n"
    );
    for run in runs.iter().filter(|run| run.noisy_requested > 0) {
        let _ = writeln!(
            text,
            "{}: the noisy neighbour requested {} keys, {} were beyond its quota",
            run.name, run.noisy_requested, run.noisy_refused
        );
    }
}

fn watchers(found: &Watchers, text: &mut String) {
    let _ = writeln!(
        text,
        "\n{} watchers of {} tenants on {} connections, opened in {:.1} s; {} changes, received by {}",
        found.calls,
        found.tenants,
        found.connections,
        found.opened_seconds,
        found.changes,
        found.heard
    );
    let mut table = Table::new(&[
        "from a change's acknowledgement",
        "samples",
        "p50",
        "p90",
        "p99",
        "max",
    ]);
    for (name, times) in [
        ("until the last of its watchers has it", &found.last_watcher),
        (
            "until a watcher has it (not independent)",
            &found.each_watcher,
        ),
        ("(the write itself)", &found.acknowledge),
    ] {
        if let Some(times) = times {
            table.row([
                name.to_owned(),
                times.count.to_string(),
                percentile(times, "p50"),
                percentile(times, "p90"),
                percentile(times, "p99"),
                cell(Some(times.max_us)),
            ]);
        }
    }
    text.push_str(&table.to_string());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_seen_or_not_answered_makes_a_run_poor() {
        let part = || crate::report::tests::sample().staleness.remove(0);
        let is_poor = |part: &Staleness, interrupted| {
            let mut found = Findings::default();
            part.warn(interrupted, &mut found);
            !found.untrusted.is_empty()
        };
        assert!(!is_poor(&part(), false));
        let mut undecided = part();
        undecided.sources[0].undecided = 1;
        assert!(is_poor(&undecided, false) && !is_poor(&undecided, true));
        let mut failed = part();
        let reason = "replica a: UNAVAILABLE".to_owned();
        failed.history.failed_reads.insert(reason, 1);
        assert!(is_poor(&failed, false));
        let mut slow = part();
        slow.sources[0].passed_over = slow.sources[0].updates;
        assert!(is_poor(&slow, false) && !is_poor(&slow, true));
    }

    /// `make test` counts them.
    #[test]
    fn the_line_of_a_fault_ends_with_its_verdict() -> anyhow::Result<()> {
        let run = |kept: bool| {
            serde_json::from_value::<FaultRun>(json!({
                "name": "dropped", "title": "events dropped", "seed": 1, "promised_us": 4_000_000,
                "worst_us": 2_000_000, "worst_at_least_us": 1_990_000, "updates": 8,
                "failed_writes": 0, "undecided": 0, "excused_reads": 0, "repairs": 8,
                "history": {"reads": 100, "failed_reads": {}, "violations": []},
                "noisy_requested": 0, "noisy_refused": 0, "kept": kept, "quiet": null,
                "problems": if kept { vec![] } else { vec!["lost: update 3"] },
            }))
        };
        let (kept, broken) = (run(true)?, run(false)?);
        let mut quiet = crate::report::tests::sample().phases.remove(2);
        assert!(kept.clone().with_quiet(Some(quiet.clone())).kept);
        quiet.series[0].errors = [("wrong value".to_owned(), 1)].into();
        let wrong = kept.clone().with_quiet(Some(quiet));
        assert_eq!(
            (wrong.kept, &*wrong.problems),
            (false, &["quiet reads: wrong value x 1".to_owned()][..])
        );
        let audit = |violations: Vec<String>| Audit {
            updates: 8,
            recorded: 7,
            violations,
            ..Audit::default()
        };
        let missing = vec!["update 3 has no entry".to_owned()];
        let unrecorded = kept.clone().with_audit(Some(audit(missing.clone())));
        assert_eq!((unrecorded.kept, unrecorded.problems), (false, missing));
        let kept = kept.with_audit(Some(audit(vec![])));
        assert!(kept.kept && broken.clone().with_audit(None).audit.is_none());
        let mut found = Findings::default();
        kept.warn(&mut found);
        assert!(found.warnings.is_empty());
        broken.warn(&mut found);
        let wanted = ["BROKEN  dropped (seed 1): lost: update 3"];
        assert_eq!(
            (&*found.warnings, &*found.untrusted),
            (
                &wanted.map(str::to_owned)[..],
                &wanted.map(str::to_owned)[..]
            )
        );
        let mut text = String::new();
        faults(&[kept, broken], &mut text);
        for verdict in [" kept", " BROKEN"] {
            let lines = text.lines().filter(|line| line.ends_with(verdict));
            assert_eq!(lines.count(), 1, "{text}");
        }
        assert!(text.contains(" 7/8 "), "{text}");
        Ok(())
    }
}
