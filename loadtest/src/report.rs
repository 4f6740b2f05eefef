//! The result of a run. Its JSON is a stable contract (`schema/result.schema.json`, checked in and tested); the page and
//! the table are drawn from it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Ended, Interrupted,
    cli::{Output, ReportOptions},
    environment::Environment,
    figures::figures,
    recorder::{histogram, micros, quantiles, restored},
    report::{capacity::Capacity, soak::Soak},
    slo::Verdict,
    stop::Stop,
    targets::Targets,
};

pub(crate) mod capacity;
pub(crate) mod export;
pub(crate) mod findings;
pub(crate) mod page;
mod propagation;
pub(crate) mod soak;
pub(crate) mod table;

pub(crate) use findings::Findings;
pub(crate) use propagation::*;

/// The contract's name and version. Fields may be added within a version, and are optional then.
pub(crate) const FORMAT: &str = "tagged-config-loadtest/1";

/// One run of a command that measures.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    /// Name and version of this format.
    pub(crate) format: String,
    /// The command: `latency`, `capacity`, `soak`, `staleness`, `chaos`, `watchers`, `neighbours`.
    pub(crate) kind: String,
    /// When the run began, RFC 3339.
    pub(crate) started_at: String,
    /// How long it took in all, in seconds.
    pub(crate) seconds: f64,
    /// Whether it was interrupted: what there is was measured, and is not all that was wanted.
    pub(crate) interrupted: bool,
    /// What was measured, from where.
    pub(crate) environment: Environment,
    /// The command line's settings.
    pub(crate) settings: BTreeMap<String, Value>,
    /// What a reader must know before believing a figure.
    pub(crate) warnings: Vec<String>,
    /// Loads, in the order in which they ran.
    pub(crate) phases: Vec<Phase>,
    /// Propagation of updates, a part for each background load; only in `staleness`.
    #[serde(default)]
    pub(crate) staleness: Vec<Staleness>,
    /// A quiet tenant's cold reads alone and beside a noisy neighbour, by noise and backend; only in `neighbours`.
    #[serde(default)]
    pub(crate) neighbours: Vec<Neighbour>,
    /// The knee of each path; only in `capacity`.
    #[serde(default)]
    pub(crate) capacity: Vec<Capacity>,
    /// Windows and trends; only in `soak`.
    #[serde(default)]
    pub(crate) soak: Option<Soak>,
    /// Faults and what readers saw meanwhile, in the order in which they were caused; only in `chaos`.
    #[serde(default)]
    pub(crate) chaos: Vec<FaultRun>,
    /// Changes on their way to many calls of WatchConfig; only in `watchers`.
    #[serde(default)]
    pub(crate) watchers: Option<Watchers>,
    /// Why the figures must not be trusted; empty if they may. The run then exits with 1.
    #[serde(default)]
    pub(crate) untrusted_because: Vec<String>,
    /// What was demanded, and whether it was met.
    pub(crate) slos: Vec<Verdict>,
}

/// A quiet tenant's cold reads from one backend, alone and beside one noise. A read that failed counts as one that took its
/// whole time limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Neighbour {
    /// What the noisy neighbour did: `secrets`, `lists`, `batches`, `watches`, `writes`, `all`.
    pub(crate) noise: String,
    /// Where the quiet tenant read from: `dynamodb`, `parameter-store`.
    pub(crate) backend: String,
    /// The quiet tenant's times without the noise.
    pub(crate) alone: Quantiles,
    /// And with it.
    pub(crate) beside: Quantiles,
    /// Quiet reads that failed without the noise.
    pub(crate) alone_failed: u64,
    /// And with it.
    pub(crate) beside_failed: u64,
    /// p99 beside the noise through p99 alone; absent with too few reads, or if any failed without the noise.
    pub(crate) ratio_of_p99: Option<Ratio>,
    /// The ratio that is allowed.
    pub(crate) limit: f64,
    /// True if the whole interval is within the limit, false if all of it is above; absent if neither.
    pub(crate) within_limit: Option<bool>,
    /// Why there is no verdict; absent where there is one.
    #[serde(default)]
    pub(crate) no_verdict_because: Option<String>,
    /// The same ratio of reads by DynamoDB's own API, at the same times: how much slower the backend itself became. More
    /// than that is the service's part.
    #[serde(default)]
    pub(crate) control: Option<Ratio>,
    /// Calls of the noisy neighbour that were answered.
    pub(crate) accepted: u64,
    /// Calls that were refused with RESOURCE_EXHAUSTED, as a whole or in part.
    pub(crate) refused: u64,
    /// Calls that failed otherwise, or had no answer in time.
    pub(crate) failed: u64,
    /// Part of the machine's processors that was busy, in the busiest round; absent if unknown.
    pub(crate) machine_busy: Option<f64>,
}

/// A ratio with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ratio {
    /// As measured.
    pub(crate) value: f64,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// A load in one loop at one target.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Phase {
    /// `grpc`, `alb`, `edge`; `null` is the harness itself, at a target that does nothing.
    pub(crate) path: String,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub(crate) loop_kind: String,
    /// Of the baseline target: the path whose client it measured.
    #[serde(default)]
    pub(crate) null_of: Option<String>,
    /// Seconds that were measured, the warm-up excluded.
    pub(crate) seconds: f64,
    /// Users of a closed loop.
    pub(crate) users: Option<u32>,
    /// Requests a second that an open loop was to send.
    pub(crate) offered_per_second: Option<f64>,
    /// Answers a second, right or wrong. The figure `rate` counts right answers only.
    pub(crate) answered_per_second: f64,
    /// How long a request may take, in seconds. A failure counts as at least this long where all answers are summed up.
    #[serde(default)]
    pub(crate) timeout_seconds: Option<f64>,
    /// False: the rate was not sustained, and no time of this phase is given.
    pub(crate) sustained: bool,
    /// Why it was not.
    pub(crate) not_sustained_because: Option<String>,
    /// How long after they were due requests were sent: the part of the times that is the harness's own. Open loop only.
    pub(crate) lag: Option<Quantiles>,
    /// Why the harness was the limit: the 99th percentile of the lag was above the limit and above a fifth of the answers'.
    /// The times are then the harness's as much as the target's.
    #[serde(default)]
    pub(crate) harness_limited_because: Option<String>,
    /// The processors while it ran.
    pub(crate) cpu: Cpu,
    /// Requests that goose counted itself, for comparison; closed loop only.
    pub(crate) goose_requests: Option<u64>,
    /// Counts and times by scenario, operation and cache result.
    pub(crate) series: Vec<Series>,
    /// A point for each second.
    pub(crate) timeline: Vec<Tick>,
}

/// One kind of request with one kind of result.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Series {
    /// The scenario.
    pub(crate) scenario: String,
    /// The operation.
    pub(crate) operation: String,
    /// `hit`, `miss`, `stale`, `absent`, `none` (has no cache result), `failed`.
    pub(crate) result: String,
    /// How many.
    pub(crate) count: u64,
    /// How many a second.
    pub(crate) per_second: f64,
    /// How long they took; absent where the rate was not sustained.
    pub(crate) latency: Option<Quantiles>,
    /// The whole distribution: microseconds (to three digits), and how many took them. Ascending.
    pub(crate) histogram: Vec<(u64, u64)>,
    /// Failures by code.
    pub(crate) errors: BTreeMap<String, u64>,
}

/// Times in microseconds. A percentile is given from 1 / (1 - quantile) samples (100 for p99, 1,000 for p99.9): with fewer,
/// no sample is expected above it. It is shown without its interval from ten times as many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Quantiles {
    /// Samples.
    pub(crate) count: u64,
    /// Shortest.
    pub(crate) min_us: u64,
    /// Mean.
    pub(crate) mean_us: f64,
    /// Median.
    pub(crate) p50_us: Option<u64>,
    /// 90 of 100 are not longer.
    pub(crate) p90_us: Option<u64>,
    /// 99 of 100 are not longer.
    pub(crate) p99_us: Option<u64>,
    /// 999 of 1,000 are not longer.
    pub(crate) p999_us: Option<u64>,
    /// Longest.
    pub(crate) max_us: u64,
    /// 95 % intervals of the percentiles by name: `p50`, `p90`, `p99`, `p99.9`.
    #[serde(default)]
    pub(crate) intervals: BTreeMap<String, Interval>,
}

/// Between which times a percentile of the distribution lies with a probability of 95 %, whatever the distribution is:
/// exact binomial order statistics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Interval {
    /// Lower end.
    pub(crate) low_us: u64,
    /// Upper end; absent: unbounded, since there are too few samples for one.
    pub(crate) high_us: Option<u64>,
}

/// One second of a phase, or ten in the later part of a long one. A request counts in the second in which it was due.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Tick {
    /// Since the phase began.
    pub(crate) second: u64,
    /// How many seconds it holds.
    #[serde(default = "one")]
    pub(crate) seconds: u64,
    /// Answers.
    pub(crate) count: u64,
    /// Failures among them.
    pub(crate) errors: u64,
    /// Median, in microseconds.
    pub(crate) p50_us: Option<u64>,
    /// 99th percentile, in microseconds.
    pub(crate) p99_us: Option<u64>,
    /// Longest, in microseconds.
    pub(crate) max_us: Option<u64>,
    /// The largest lag of a request, in microseconds; open loop only.
    #[serde(default)]
    pub(crate) lag_max_us: Option<u64>,
}

/// Use of the processors.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Cpu {
    /// Processors that the harness kept busy, on average; absent where the system does not say.
    pub(crate) harness_cores: Option<f64>,
    /// Processors that the machine has.
    pub(crate) machine_cores: u32,
    /// Part of one processor that the harness's busiest thread used, 0 to 1.
    #[serde(default)]
    pub(crate) busiest_thread: Option<f64>,
    /// The part of them that was busy with anything, 0 to 1.
    pub(crate) machine_busy: Option<f64>,
    /// Steal time as a part of them, 0 to 1; not in `machine_busy`.
    #[serde(default)]
    pub(crate) machine_steal: Option<f64>,
    /// What limited the figures, if it was a processor: `harness` or `machine`.
    pub(crate) limited_by: Option<String>,
}

/// The beginning of a run.
pub(crate) struct Begun {
    at: Instant,
    started_at: String,
}

impl Begun {
    /// Now.
    pub(crate) fn now() -> Self {
        Self {
            at: Instant::now(),
            started_at: now(),
        }
    }

    /// The result of this command, which ends now, without any figure.
    pub(crate) fn report<N: Into<String>>(
        &self,
        kind: &str,
        targets: &Targets,
        settings: impl IntoIterator<Item = (N, Value)>,
        stop: &Stop,
    ) -> Report {
        let settings = settings.into_iter();
        Report {
            format: FORMAT.to_owned(),
            kind: kind.to_owned(),
            started_at: self.started_at.clone(),
            seconds: self.at.elapsed().as_secs_f64(),
            interrupted: stop.is_set(),
            environment: Environment::observe(targets),
            settings: settings.map(|(name, value)| (name.into(), value)).collect(),
            warnings: Vec::new(),
            phases: Vec::new(),
            staleness: Vec::new(),
            neighbours: Vec::new(),
            capacity: Vec::new(),
            soak: None,
            chaos: Vec::new(),
            watchers: None,
            untrusted_because: Vec::new(),
            slos: Vec::new(),
        }
    }
}

impl Report {
    /// Reads a result from its file.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let json: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not JSON; was it cut off?", file.display()))?;
        match json["format"].as_str() {
            Some(FORMAT) => {}
            Some(other) => bail!(
                "{} has the format {other}; this version reads {FORMAT}",
                file.display()
            ),
            None => bail!("{} is no result of a load test", file.display()),
        }
        let mut report: Self = serde_json::from_value(json)
            .with_context(|| format!("{} does not follow {FORMAT}", file.display()))?;
        report.complete();
        Ok(report)
    }

    /// Adds the intervals that results of earlier versions lack: their distributions are whole.
    fn complete(&mut self) {
        let beside = self.staleness.iter_mut();
        let phases = beside
            .filter_map(|part| part.background.as_mut())
            .chain(&mut self.phases);
        for series in phases.flat_map(|phase| &mut phase.series) {
            if let Some(times) = series.latency.as_mut() {
                times.complete(&series.histogram);
            }
        }
        for source in self.staleness.iter_mut().flat_map(|part| &mut part.sources) {
            for (stage, times) in &mut source.stages {
                if let Some(histogram) = source.histograms.get(stage) {
                    times.complete(histogram);
                }
            }
        }
    }

    /// Writes `result.json` and `report.html` into a folder; both whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let (json, html) = (folder.join("result.json"), folder.join("report.html"));
        let drafts = (
            Draft::write(&json, &serde_json::to_string(self)?)?,
            Draft::write(&html, &page::render(self)?)?,
        );
        drafts.0.publish()?;
        drafts.1.publish()?;
        Ok((json, html))
    }

    /// Requests, reads and writes of all phases but the baseline's, and failures among them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let backgrounds = self
            .staleness
            .iter()
            .filter_map(|part| part.background.as_ref());
        let phases = self
            .phases
            .iter()
            .chain(backgrounds)
            .filter(|phase| phase.path != "null");
        let series = phases.flat_map(|phase| &phase.series);
        let mut beside = (0, 0);
        for part in &self.staleness {
            let failed_reads: u64 = part.history.failed_reads.values().sum();
            beside.0 += part.history.reads + failed_reads;
            beside.1 += failed_reads;
            for source in &part.sources {
                let failed: u64 = source.failed_writes.values().sum();
                beside.0 += source.updates + failed;
                beside.1 += failed;
            }
        }
        for fault in &self.chaos {
            let failed: u64 = fault.history.failed_reads.values().sum();
            beside.0 += fault.history.reads + fault.updates + fault.failed_writes + failed;
            beside.1 += fault.failed_writes + failed;
        }
        beside.0 += self.watchers.as_ref().map_or(0, |it| it.heard);
        for one in &self.neighbours {
            beside.0 += one.alone.count + one.beside.count;
            beside.1 += one.alone_failed + one.beside_failed;
        }
        for step in self.capacity.iter().flat_map(|one| &one.steps) {
            beside.0 += step.requests;
            beside.1 += step.failed;
        }
        series.fold(beside, |(count, errors), one| {
            (count + one.count, errors + one.errors.values().sum::<u64>())
        })
    }
}

impl Quantiles {
    fn complete(&mut self, histogram: &[(u64, u64)]) {
        if self.intervals.is_empty() {
            self.intervals = quantiles(&restored(histogram)).intervals;
        }
    }

    /// The percentile of this name, as [`PERCENTILES`](crate::recorder::PERCENTILES) has it.
    pub(crate) fn at(&self, name: &str) -> Option<u64> {
        match name {
            "p50" => self.p50_us,
            "p90" => self.p90_us,
            "p99" => self.p99_us,
            "p99.9" => self.p999_us,
            _ => None,
        }
    }
}

impl Phase {
    /// The times of some of its answers together. With `charged`, a failure counts as at least the time-out: an answer that
    /// never came must not make the percentiles better.
    pub(crate) fn times(&self, wanted: impl Fn(&Series) -> bool, charged: bool) -> Histogram<u64> {
        let timeout_us = self
            .timeout_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|_| charged)
            .map_or(0, micros);
        let mut times = histogram(3);
        for series in self.series.iter().filter(|series| wanted(series)) {
            let least = if series.result == "failed" {
                timeout_us
            } else {
                0
            };
            for (us, count) in &series.histogram {
                times.saturating_record_n((*us).max(least), *count);
            }
        }
        times
    }
}

/// A file that is written whole beside its place, and removed again if it does not get there.
pub(crate) struct Draft {
    draft: PathBuf,
    file: PathBuf,
}

// === impl Draft ===

impl Draft {
    pub(crate) fn write(file: &Path, text: &str) -> anyhow::Result<Self> {
        let draft = Self {
            draft: file.with_extension("draft"),
            file: file.to_owned(),
        };
        std::fs::write(&draft.draft, text)
            .with_context(|| format!("cannot write {}", draft.draft.display()))?;
        Ok(draft)
    }

    pub(crate) fn publish(self) -> anyhow::Result<()> {
        std::fs::rename(&self.draft, &self.file)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After publishing there is nothing left to remove.
        let _ = std::fs::remove_file(&self.draft);
    }
}

/// Ends a run that may have failed half-way: what was measured until then is reported, marked as incomplete.
pub(crate) fn finish_after(
    ended: anyhow::Result<()>,
    mut report: Report,
    output: &Output,
) -> anyhow::Result<Ended> {
    let Err(error) = ended else {
        return finish(report, output);
    };
    if report.totals().0 > 0 {
        let reason = format!("incomplete: {error:#}");
        report.warnings.push(reason.clone());
        report.untrusted_because.push(reason);
        if let Err(also) = finish(report, output) {
            eprintln!("{also:#}");
        }
    }
    Err(error)
}

/// Ends a run: adds warnings, evaluates SLOs, writes and prints the result.
pub(crate) fn finish(mut report: Report, output: &Output) -> anyhow::Result<Ended> {
    let (count, errors) = report.totals();
    if count == 0 && report.interrupted {
        return Err(Interrupted.into());
    }
    let updates: u64 = report
        .staleness
        .iter()
        .flat_map(|part| &part.sources)
        .map(|source| source.updates)
        .sum();
    if count == 0 && updates == 0 {
        bail!("nothing was measured: no report is written");
    }
    let poor = report.warn();
    let found = figures(&report);
    report.slos = output.slos.iter().map(|slo| slo.judge(&found)).collect();
    // Shown before it is written: a full disk costs the files, and not the result.
    println!("{}", table::render(&report));
    let written = report.write(&output.out);
    let exported = export::write(std::slice::from_ref(&report), &output.export);
    if let Ok((json, html)) = &written {
        println!("result: {}", json.display());
        println!("page:   {}", html.display());
    }
    for verdict in report.slos.iter().filter(|verdict| !verdict.met) {
        eprintln!("SLO breached: {} ({})", verdict.slo, verdict.measured);
    }
    for one in report
        .neighbours
        .iter()
        .filter(|one| one.within_limit == Some(false))
    {
        eprintln!(
            "limit breached: p99 of cold reads from {} beside {} is more than {} times p99 alone",
            one.backend, one.noise, one.limit
        );
    }
    written.context("measured, but not written")?;
    exported.context("measured, but not written")?;
    let slow = |one: &Neighbour| one.within_limit == Some(false);
    let grows = report.soak.as_ref().is_some_and(Soak::grows);
    if report.slos.iter().any(|verdict| !verdict.met) || report.neighbours.iter().any(slow) || grows
    {
        return Ok(Ended::Breached);
    }
    if report.interrupted {
        return Ok(Ended::Interrupted);
    }
    if updates == 0 && report.kind == "staleness" {
        bail!("no update was acknowledged: there is nothing to say about staleness");
    }
    if errors == count && count > 0 {
        bail!("every request failed: see the errors above");
    }
    Ok(if poor { Ended::Poorly } else { Ended::Well })
}

/// `loadtest report`.
pub(crate) fn command(options: &ReportOptions) -> anyhow::Result<Ended> {
    let report = Report::read(&options.result)?;
    let beside = || options.result.with_file_name("report.html");
    let html = options.html.clone().unwrap_or_else(beside);
    println!("{}", table::render(&report));
    export::write(std::slice::from_ref(&report), &options.export)?;
    Draft::write(&html, &page::render(&report)?)?.publish()?;
    println!("page: {}", html.display());
    Ok(Ended::Well)
}

fn one() -> u64 {
    1
}

/// RFC 3339.
fn now() -> String {
    time::OffsetDateTime::now_utc()
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}

/// The JSON schema of results.
pub(crate) fn schema_text() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(
        Report
    ))?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cli::Export;

    /// A small result with everything in it.
    pub(crate) fn sample() -> Report {
        let text = include_str!("../tests/sample-result.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_schema_is_the_checked_in_one() {
        let checked_in = include_str!("../schema/result.schema.json");
        assert_eq!(
            checked_in.trim(),
            schema_text().unwrap().trim(),
            "run: cargo run -p loadtest -- schema > loadtest/schema/result.schema.json"
        );
    }

    #[test]
    fn results_follow_the_schema() {
        let schema: Value = serde_json::from_str(&schema_text().unwrap()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let result = serde_json::to_value(sample()).unwrap();
        assert!(
            validator.is_valid(&result),
            "{:?}",
            validator.iter_errors(&result).next()
        );
        let mut broken = result;
        broken["phases"][0]["seconds"] = "many".into();
        assert!(!validator.is_valid(&broken));
    }

    fn folder() -> PathBuf {
        std::env::temp_dir().join(uuid::Uuid::new_v4().to_string())
    }

    fn output(out: PathBuf) -> Output {
        Output {
            out,
            slos: Vec::new(),
            repeat: 1,
            export: Export::default(),
        }
    }

    #[test]
    fn an_output_folder_that_cannot_be_used_is_refused_before_anything_is_measured()
    -> anyhow::Result<()> {
        let folder = folder();
        output(folder.join("deep/below")).check()?;
        assert_eq!(
            std::fs::read_dir(folder.join("deep/below"))?.count(),
            0,
            "the probe is gone"
        );
        let file = folder.join("file");
        std::fs::write(&file, "")?;
        // A file, below a file, and a file system that takes no folders.
        for out in [file.clone(), file.join("below"), "/proc/nope".into()] {
            let error = output(out.clone()).check().unwrap_err();
            assert!(error.is::<crate::Usage>(), "exit code 64");
            assert!(error.to_string().starts_with("--out "), "{error}");
        }
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[test]
    fn a_result_that_cannot_be_written_leaves_the_one_before_and_no_half_file() -> anyhow::Result<()>
    {
        let folder = folder();
        let (json, html) = sample().write(&folder)?;
        let before = std::fs::read_to_string(&json)?;
        // Stands in for a full disk: the page's draft cannot be written.
        std::fs::create_dir(html.with_extension("draft"))?;
        let mut report = sample();
        report.warnings.push("another".to_owned());
        let error = finish(report, &output(folder.clone())).unwrap_err();
        assert!(
            error.to_string().contains("not written"),
            "exit code 1: {error}"
        );
        assert_eq!(std::fs::read_to_string(&json)?, before);
        assert!(!json.with_extension("draft").exists());
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[test]
    fn a_result_that_was_cut_off_is_named_plainly() -> anyhow::Result<()> {
        let folder = folder();
        let (json, _) = sample().write(&folder)?;
        let whole = std::fs::read_to_string(&json)?;
        std::fs::write(&json, &whole[..whole.len() / 2])?;
        let options = ReportOptions {
            result: json,
            html: None,
            export: Export::default(),
        };
        let error = command(&options).unwrap_err().to_string();
        assert!(error.ends_with("is not JSON; was it cut off?"), "{error}");
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    fn neighbour(ratio: Option<f64>) -> Neighbour {
        let times = |us| Quantiles {
            count: 360,
            min_us: us,
            mean_us: 1.0,
            p50_us: Some(us),
            p90_us: None,
            p99_us: Some(us),
            p999_us: None,
            max_us: us,
            intervals: BTreeMap::new(),
        };
        Neighbour {
            noise: "lists".to_owned(),
            backend: "dynamodb".to_owned(),
            alone: times(2_000),
            beside: times(5_000),
            alone_failed: 0,
            beside_failed: 3,
            ratio_of_p99: ratio.map(|value| Ratio {
                value,
                low: value - 0.1,
                high: value + 0.1,
            }),
            control: None,
            limit: 2.0,
            within_limit: ratio.map(|value| value <= 2.0),
            no_verdict_because: ratio.is_none().then(|| "too few reads".to_owned()),
            accepted: 10,
            refused: 20,
            failed: 0,
            machine_busy: Some(0.5),
        }
    }

    fn neighbours(ratio: Option<f64>) -> Report {
        Report {
            kind: "neighbours".to_owned(),
            phases: Vec::new(),
            staleness: Vec::new(),
            slos: Vec::new(),
            neighbours: vec![neighbour(ratio)],
            ..sample()
        }
    }

    #[test]
    fn a_ratio_above_the_limit_breaches_it_and_too_few_reads_are_no_verdict() -> anyhow::Result<()>
    {
        let folder = folder();
        let ended = |ratio| finish(neighbours(ratio), &output(folder.clone()));
        assert_eq!(ended(Some(1.9))?, Ended::Well);
        assert_eq!(ended(Some(2.1))?, Ended::Breached);
        assert_eq!(ended(None)?, Ended::Poorly);
        let text = table::render(&Report::read(&folder.join("result.json"))?);
        for wanted in ["lists", "dynamodb", "2.00 ms", "5.00 ms", "no verdict"] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
        assert!(table::render(&neighbours(Some(2.1))).contains("2.10 (2.00 to 2.20)"));
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[test]
    fn a_result_survives_its_file() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let (json, html) = sample().write(&folder)?;
        assert_eq!(
            serde_json::to_value(Report::read(&json)?)?,
            serde_json::to_value(sample())?
        );
        let page = std::fs::read_to_string(html)?;
        for outside in ["src=\"http", "href=\"http", "url(", "@import"] {
            assert!(!page.contains(outside), "the page loads {outside}");
        }
        let mut older = sample();
        for series in &mut older.phases[2].series {
            series.latency.as_mut().unwrap().intervals.clear();
        }
        older.write(&folder)?;
        assert_eq!(
            serde_json::to_value(Report::read(&json)?)?,
            serde_json::to_value(sample())?,
            "the intervals of an older result"
        );
        std::fs::write(&json, "{\"format\": \"other/1\"}")?;
        assert!(
            Report::read(&json)
                .unwrap_err()
                .to_string()
                .contains("other/1")
        );
        std::fs::write(&json, "{\"half\": ")?;
        assert!(Report::read(&json).is_err());
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }
}
