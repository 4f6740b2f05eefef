//! `loadtest soak`: one open loop for a long time. The 99th percentile of each window, and the memory and descriptors of the
//! replicas that are processes of this machine, must not grow more than is allowed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tagged_config_runtime::env::{Env, ProcessEnv};

use crate::{
    Ended,
    cli::SoakOptions,
    figures::expected,
    latency::{self, Bench, harness_limited, open_phase},
    progress::{self, Live},
    recorder::{histogram, micros},
    report::{
        Phase, Ratio, Report, finish,
        soak::{Soak, Trend, Window},
    },
    slo,
    stop::Stop,
};

/// The 99th percentile is noisier than memory: its limit is so many times theirs.
const P99_SLACK: f64 = 5.0;
/// Fewer samples have no trend.
const FEWEST: usize = 8;
/// Fewer requests have no 99th percentile.
const FEWEST_OF_P99: u64 = 100;
/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;
/// What the kernel calls a replica (proc(5), `/proc/PID/comm`, 15 characters).
const PROGRAM: &str = "config-service";
const MIB: f64 = 1_048_576.0;

/// `loadtest soak`.
pub(crate) async fn run(options: Box<SoakOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let options = Box::new(SoakOptions {
        load: latency::available(&options.load).await?,
        ..*options
    });
    let target = options.target;
    latency::check(&options.load, &[target])?;
    slo::check(&options.output.slos, &expected::soak(&options))?;
    options.output.check()?;
    let bench = Bench::prepare(&options.load, &[target], &stop).await?;
    let mix = latency::mix_of(&options.load, target);
    let (_, client) = bench.clients().first().context("no target")?;
    let load = bench.load(client);
    let title = format!("{}, {}/s", target.name(), options.rate);
    let bar = progress::timing(&title, options.warm_up + options.duration, &stop);
    let plan = |duration| bench.plan(options.rate, duration);
    latency::open_load(load.warming(), mix.clone(), plan(options.warm_up), &stop).await;
    let begun = Instant::now();
    let windows = Arc::new(Mutex::new(Windows::new(begun, options.window)));
    let mut replicas = replicas(&bench);
    let timeout = options.load.timeout;
    let send = {
        let (windows, mut requests) = (Arc::clone(&windows), load.requests(mix));
        move |due| {
            let (windows, sent) = (Arc::clone(&windows), requests(due));
            async move {
                let observation = sent.await;
                let failed = observation.answer.error.is_some();
                // A fast failure must not make the percentiles better.
                let least = if failed { timeout } else { Duration::ZERO };
                windows
                    .lock()
                    .record(due, observation.took.max(least), failed);
                observation
            }
        }
    };
    let (live, ended) = (Live::beside(&bar), Stop::default());
    let measuring = async {
        let phase = open_phase(plan(options.duration), &stop, &live, send).await;
        ended.set();
        phase
    };
    let sampling = sample(&mut replicas, begun, options.window, &ended);
    let (phase, ()) = tokio::join!(measuring, sampling);
    bar.finish_and_clear();
    let mut windows = windows.lock().take();
    if !phase.sustained {
        // Requests that were not sent are in none of them.
        windows.clear();
    }
    let mut warnings = Vec::new();
    if replicas.is_empty() {
        warnings.push(
            "no replica is a process of this machine: memory and descriptors are left out"
                .to_owned(),
        );
    }
    let soak = soak(&options, windows, replicas, phase.seconds);
    let report = Report {
        warnings,
        phases: vec![Phase {
            path: target.name().to_owned(),
            harness_limited_because: harness_limited(&phase, options.load.max_lag),
            ..phase
        }],
        soak: Some(soak),
        ..bench.report("soak", &stop, settings(&options))
    };
    finish(report, &options.output)
}

/// Requests by the window in which they were due. A window is closed, and its histogram gone, when the one after the next
/// begins: the memory is bounded. What is answered later than that counts in the oldest open window.
struct Windows {
    begun: Instant,
    length: Duration,
    open: BTreeMap<u32, (Histogram<u64>, u64)>,
    closed: Vec<Window>,
}

// === impl Windows ===

impl Windows {
    fn new(begun: Instant, length: Duration) -> Self {
        Self {
            begun,
            length,
            open: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    fn record(&mut self, due: Instant, took: Duration, failed: bool) {
        let since = due.saturating_duration_since(self.begun);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a day has 86,400 windows of a second"
        )]
        let index = since.div_duration_f64(self.length) as u32;
        let index = index.max(u32::try_from(self.closed.len()).unwrap_or(u32::MAX));
        let (times, errors) = self.open.entry(index).or_insert_with(|| (histogram(3), 0));
        times.saturating_record(micros(took));
        *errors += u64::from(failed);
        self.close_before(index.saturating_sub(1));
    }

    fn close_before(&mut self, index: u32) {
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() < index) {
            let (index, (times, errors)) = entry.remove_entry();
            self.closed.push(Window {
                at_seconds: f64::from(index) * self.length.as_secs_f64(),
                count: times.len(),
                errors,
                p50_us: times.value_at_quantile(0.5),
                p99_us: (times.len() >= FEWEST_OF_P99).then(|| times.value_at_quantile(0.99)),
            });
        }
    }

    /// All windows. A partial last one is left out, unless it is the only one.
    fn take(&mut self) -> Vec<Window> {
        self.close_before(u32::MAX);
        let mut windows = std::mem::take(&mut self.closed);
        let most = windows.iter().map(|one| one.count).max().unwrap_or(0);
        if windows.len() > 1 && windows.last().is_some_and(|last| last.count < most / 2) {
            windows.pop();
        }
        windows
    }
}

/// A replica's process, and its samples: seconds since the loop began, and what was used.
struct Replica {
    name: String,
    folder: PathBuf,
    memory_mib: Vec<(f64, f64)>,
    descriptors: Vec<(f64, f64)>,
}

/// The launcher's record of a process.
#[derive(Deserialize)]
struct Record {
    pid: u32,
}

/// The replicas that the launcher of the local stack started as processes, if they are the target.
fn replicas(bench: &Bench) -> Vec<Replica> {
    if !bench.has_local_replicas() {
        return Vec::new();
    }
    let stack = ProcessEnv.get("TAGGED_CONFIG_STACK_DIR");
    let stack = stack.unwrap_or_else(|| ".local".to_owned());
    let mut found = processes(&Path::new(&stack).join("pids"), Path::new("/proc"));
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn processes(records: &Path, proc: &Path) -> Vec<Replica> {
    let files = std::fs::read_dir(records).into_iter().flatten().flatten();
    let process = |file: std::fs::DirEntry| {
        let name = file.path().file_stem()?.to_string_lossy().into_owned();
        let record: Record = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        let folder = proc.join(record.pid.to_string());
        let program = std::fs::read_to_string(folder.join("comm")).ok()?;
        // The record of a process that is gone may name another one.
        (program.trim() == PROGRAM).then_some(Replica {
            name,
            folder,
            memory_mib: Vec::new(),
            descriptors: Vec::new(),
        })
    };
    files.filter_map(process).collect()
}

// === impl Replica ===

impl Replica {
    /// Resident memory and open descriptors (proc(5), `VmRSS` of `/proc/PID/status`, `/proc/PID/fd`).
    fn sample(&mut self, at: f64) {
        let status = std::fs::read_to_string(self.folder.join("status")).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
            .and_then(|kib| kib.parse::<f64>().ok());
        if let Some(kib) = kib {
            self.memory_mib.push((at, kib * 1_024.0 / MIB));
        }
        if let Ok(open) = std::fs::read_dir(self.folder.join("fd")) {
            let open = u32::try_from(open.count()).unwrap_or(u32::MAX);
            self.descriptors.push((at, f64::from(open)));
        }
    }
}

async fn sample(replicas: &mut [Replica], begun: Instant, every: Duration, ended: &Stop) {
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = ended.wait() => return,
        }
        let at = begun.elapsed().as_secs_f64();
        for replica in &mut *replicas {
            replica.sample(at);
        }
    }
}

fn soak(options: &SoakOptions, windows: Vec<Window>, replicas: Vec<Replica>, seconds: f64) -> Soak {
    let p99 = windows
        .iter()
        .filter_map(|window| Some((window.at_seconds, window.p99_us? as f64)));
    let limit = options.max_growth;
    let mut trends = vec![trend(
        ("p99", options.target.name(), "us"),
        p99.collect(),
        limit * P99_SLACK,
        seconds,
    )];
    // The samples of a replica that went away half-way say nothing about the rest.
    let enough = windows.len().div_ceil(2);
    for mut one in replicas {
        if one.memory_mib.len() < enough {
            (one.memory_mib, one.descriptors) = (Vec::new(), Vec::new());
        }
        trends.push(trend(
            ("memory", &one.name, "MiB"),
            one.memory_mib,
            limit,
            seconds,
        ));
        trends.push(trend(
            ("descriptors", &one.name, ""),
            one.descriptors,
            limit,
            seconds,
        ));
    }
    Soak {
        window_seconds: options.window.as_secs_f64(),
        windows,
        trends,
    }
}

fn trend(
    (what, of, unit): (&str, &str, &str),
    samples: Vec<(f64, f64)>,
    limit: f64,
    seconds: f64,
) -> Trend {
    let mut values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    let median = median(&mut values);
    let growth = theil_sen(&samples)
        .filter(|_| median > 0.0)
        .map(|slope| Ratio {
            value: slope.value * seconds / median,
            low: slope.low * seconds / median,
            high: slope.high * seconds / median,
        });
    let within_limit = growth.and_then(|growth| {
        if growth.high <= limit {
            Some(true)
        } else {
            (growth.low > limit).then_some(false)
        }
    });
    Trend {
        what: what.to_owned(),
        of: of.to_owned(),
        unit: unit.to_owned(),
        samples,
        median,
        growth,
        limit,
        within_limit,
    }
}

/// The middle value; the upper one of two, and 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The median of the slopes between all pairs of samples, a second, with its 95 % interval (P. K. Sen, "Estimates of the
/// Regression Coefficient Based on Kendall's Tau", 1968). A few outliers do not move it.
fn theil_sen(samples: &[(f64, f64)]) -> Option<Ratio> {
    if samples.len() < FEWEST {
        return None;
    }
    let mut slopes: Vec<f64> = Vec::new();
    for (index, (at, value)) in samples.iter().enumerate() {
        for (later, higher) in &samples[index + 1..] {
            if later > at {
                slopes.push((higher - value) / (later - at));
            }
        }
    }
    let value = median(&mut slopes);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a day has 1,440 minutes, and so a million pairs"
    )]
    let (below, above) = {
        let (n, pairs) = (samples.len() as f64, slopes.len() as f64);
        let half_width = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        // The ranks from 1 on, as Sen has them.
        let below = ((pairs - half_width) / 2.0).floor().max(1.0);
        let above = f64::midpoint(pairs, half_width).ceil() + 1.0;
        (below as usize - 1, above as usize - 1)
    };
    Some(Ratio {
        value,
        low: *slopes.get(below)?,
        high: *slopes.get(above).or(slopes.last())?,
    })
}

fn settings(options: &SoakOptions) -> impl IntoIterator<Item = (&'static str, Value)> {
    [
        ("ratePerSecond", json!(options.rate)),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("warmUpSeconds", json!(options.warm_up.as_secs_f64())),
        ("windowSeconds", json!(options.window.as_secs_f64())),
        ("maxGrowth", json!(options.max_growth)),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::{
        baseline_target::tests::{SHAPE, started},
        cli::{Cli, Command},
        tokens::tests::TokenFile,
    };

    fn samples(count: u32, slope: f64, noise: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let value =
            |at: f64, rng: &mut SmallRng| 100.0 + slope * at + noise * (rng.random::<f64>() - 0.5);
        (0..count)
            .map(|at| (f64::from(at), value(f64::from(at), &mut rng)))
            .collect()
    }

    #[test]
    fn an_interval_of_95_percent_holds_the_slope_as_often() {
        let holds = |seed: &u64| {
            let found = theil_sen(&samples(40, 0.2, 10.0, *seed)).unwrap();
            found.low <= 0.2 && 0.2 <= found.high
        };
        let count = (0..400).filter(holds).count();
        assert!((360..=396).contains(&count), "{count} of 400");
    }

    #[test]
    fn a_replica_that_went_away_half_way_has_no_verdict() {
        let Command::Soak(options) = Cli::try_parse_from(["loadtest", "soak"]).unwrap().command
        else {
            panic!("another command");
        };
        for (count, verdict) in [(40, Some(true)), (15, None)] {
            let replica = Replica {
                name: "config-1".to_owned(),
                folder: PathBuf::new(),
                memory_mib: samples(count, 0.0, 2.0, 1),
                descriptors: samples(count, 0.0, 2.0, 1),
            };
            let found = soak(&options, vec![Window::default(); 40], vec![replica], 40.0);
            let verdicts = found.trends[1..].iter().map(|trend| trend.within_limit);
            assert_eq!(
                verdicts.collect::<Vec<_>>(),
                [verdict; 2],
                "{count} samples"
            );
        }
    }

    #[test]
    fn a_leak_grows_and_an_outlier_does_not() {
        let judged = |samples| trend(("memory", "config-1", "MiB"), samples, 0.1, 60.0);
        assert_eq!(
            judged(samples(60, 1.0, 2.0, 1)).within_limit,
            Some(false),
            "60 % in a minute"
        );
        let steady = judged(samples(60, 0.0, 2.0, 1));
        assert_eq!(steady.within_limit, Some(true), "{steady:?}");
        let mut spikes = samples(60, 0.0, 2.0, 1);
        spikes[58].1 = 5_000.0;
        spikes[59].1 = 5_000.0;
        assert_eq!(judged(spikes).within_limit, Some(true));
        assert_eq!(
            judged(samples(60, 0.2, 90.0, 1)).within_limit,
            None,
            "too much noise"
        );
        assert_eq!(
            judged(samples(5, 0.0, 0.0, 1)).within_limit,
            None,
            "too few samples"
        );
        let constant = judged((0..20).map(|at| (f64::from(at), 42.0)).collect());
        assert_eq!((constant.median, constant.within_limit), (42.0, Some(true)));
    }

    #[test]
    fn a_request_counts_in_the_window_in_which_it_was_due() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        let mut windows = Windows::new(begun, second);
        for due in 0..50_u32 {
            // Ten a second; the ones of the second window take long.
            let slow = (10..20).contains(&due);
            let took = if slow { second * 3 } else { second / 1_000 };
            windows.record(begun + second / 10 * due, took, due == 11);
        }
        assert!(windows.open.len() <= 2, "memory is bounded");
        // Late by more than two windows: it counts all the same.
        windows.record(begun, second * 5, true);
        let found = windows.take();
        let counts: Vec<_> = found.iter().map(|one| (one.count, one.errors)).collect();
        assert_eq!(counts, [(10, 0), (10, 1), (10, 0), (11, 1), (10, 0)]);
        assert!(
            found[1].p50_us > 2_900_000 && found[0].p50_us < 1_100,
            "{found:?}"
        );
        assert_eq!(found[0].p99_us, None, "10 requests have no 99th percentile");
        for _ in 0..FEWEST_OF_P99 {
            windows.record(begun + second * 9, Duration::from_millis(2), false);
        }
        assert!(windows.take().pop().unwrap().p99_us >= Some(2_000));
    }

    #[test]
    fn only_a_process_that_is_a_replica_is_sampled() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let (records, proc) = (folder.join("pids"), folder.join("proc"));
        std::fs::create_dir_all(&records)?;
        for (name, pid, program) in [("config-1", 7, PROGRAM), ("order-1", 8, "order-service")] {
            std::fs::write(
                records.join(format!("{name}.json")),
                format!(r#"{{"pid": {pid}}}"#),
            )?;
            std::fs::create_dir_all(proc.join(format!("{pid}/fd")))?;
            std::fs::write(proc.join(format!("{pid}/comm")), format!("{program}\n"))?;
        }
        std::fs::write(records.join("config-2.json"), "{half")?;
        std::fs::write(proc.join("7/status"), "Name:\tx\nVmRSS:\t    2048 kB\n")?;
        std::fs::write(proc.join("7/fd/0"), "")?;
        let mut found = processes(&records, &proc);
        assert_eq!(
            found
                .iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>(),
            ["config-1"]
        );
        found[0].sample(3.0);
        assert_eq!(found[0].memory_mib, [(3.0, 2.0)]);
        assert_eq!(found[0].descriptors, [(3.0, 1.0)]);
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_load_is_reported_by_windows_with_a_verdict_for_each_trend() -> anyhow::Result<()> {
        let ((grpc, url), tokens) = (started(&SHAPE).await, TokenFile::new(&["lt-00001"]));
        let out = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let line = [
            "loadtest",
            "soak",
            "--grpc",
            &grpc,
            "--order-url",
            &url,
            "--token-file",
            tokens.path(),
            "--out",
            out.to_str().unwrap(),
            "--rate",
            "600",
            "--duration",
            "2s",
            "--warm-up",
            "50ms",
            "--window",
            "200ms",
            "--max-growth",
            "100000%",
            "--max-lag",
            "10s",
            "--tenants",
            "1",
            "--keys",
            "5",
        ];
        let Command::Soak(options) = Cli::try_parse_from(line).unwrap().command else {
            panic!("another command");
        };
        assert_eq!(run(options, Stop::default()).await?, Ended::Well);
        let report = Report::read(&out.join("result.json"))?;
        let soak = report.soak.as_ref().unwrap();
        let count: u64 = soak.windows.iter().map(|window| window.count).sum();
        assert!(
            (1_000..=1_200).contains(&count) && soak.windows.len() >= 8,
            "{:?}",
            soak.windows
        );
        assert_eq!(
            (soak.trends[0].what.as_str(), soak.trends[0].within_limit),
            ("p99", Some(true))
        );
        let text = crate::report::table::render(&report);
        assert!(text.contains("steady") && text.contains("soak: "), "{text}");
        std::fs::remove_dir_all(out)?;
        Ok(())
    }
}
