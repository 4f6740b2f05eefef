//! `loadtest chaos`: faults around the running local stack, one after the other, while updates are made and every replica
//! is read; the checker judges each history against what was promised for that fault.
//!
//! Faults are the emulator's ([`emulator`]) and the processes' ([`processes`]); no program under test knows of them. What is
//! random comes from the seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    Ended, Interrupted,
    accounts::Accounts,
    chaos::{
        emulator::Emulator,
        faults::{FAULTS, Fault, Process, Promise},
        noise::Churn,
        processes::Replica,
    },
    cli::{ChaosOptions, Source},
    client::signed,
    progress,
    recorder::{histogram, micros, quantiles},
    staleness::{
        cells::{Cell, Clock, Writer, update_at},
        clean_up, connect,
        history::{ObserverName, Read, Rules, Violation, Write, check},
        observers::{self, Eye, Notes, Observer},
        prepare, services, tenants,
    },
    stop::Stop,
    targets::Targets,
};

mod emulator;
mod faults;
mod noise;
mod processes;

/// Every source; a fault says which of them it meets.
const SOURCES: [Source; 3] = [Source::Dynamodb, Source::PutConfig, Source::ParameterStore];
/// Tenants that are updated by each kind of source.
const CELLS: u32 = 2;
/// Updates of each source, a second.
const RATE: f64 = 4.0;
/// How often a replica that lags is asked.
const POLL: Duration = Duration::from_millis(10);
/// From a promise being kept to its being seen: a probe of everything, on a machine with two processors.
const PROBE_LAG: Duration = Duration::from_millis(750);
/// How long the invalidator may need to hear of a change, in microseconds.
const HEARD_US: u64 = 1_500_000;
/// A fault begins when the first updates are under way, and its end is given this long before the next begins.
const SETTLE: Duration = Duration::from_millis(500);

/// What all faults share.
struct Bench {
    cells: Arc<Vec<Arc<Cell>>>,
    writer: Arc<Writer>,
    accounts: Arc<Accounts>,
    channels: Vec<Channel>,
    observers: Vec<Arc<Observer>>,
    replicas: Vec<Replica>,
    emulator: Emulator,
    http: Vec<String>,
    journal_bound: Duration,
    clock: Clock,
    stop: Stop,
}

/// How one fault went.
#[derive(Clone, Debug, Default)]
struct Outcome {
    runs: u32,
    updates: usize,
    worst: Duration,
    bound: Duration,
    repairs: u64,
    /// How long reads took at the 99th percentile, where it was longest.
    read_p99: Duration,
    noise: Churn,
    problems: Vec<String>,
}

/// `loadtest chaos`.
pub(crate) async fn run(options: Box<ChaosOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let wanted: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| options.faults.is_empty() || options.faults.iter().any(|f| f == fault.name))
        .collect();
    ensure!(
        !wanted.is_empty(),
        "no such fault; there are: {}",
        FAULTS.map(|fault| fault.name).join(", ")
    );
    let targets = Targets::find(&options.place).await?;
    let channels = connect(targets.need_grpc()?).await?;
    // PutConfig at one replica only: the others hear of it by push or sweep, and by nothing else.
    let at = channels.last().cloned().into_iter().collect();
    let writer = Arc::new(Writer::of(&targets, &SOURCES, at).await?);
    let accounts = Arc::new(Accounts::of(&targets).await?);
    let names = tenants(CELLS, &SOURCES);
    let emulator = Emulator::connect().await?;
    emulator.clear().await?;
    let result = match prepare(CELLS, &SOURCES, &names, &accounts, &writer, &stop).await {
        Ok(cells) => {
            faults_on(
                &options, &wanted, cells, &targets, channels, &accounts, &writer, emulator, &stop,
            )
            .await
        }
        Err(error) => Err(error),
    };
    clean_up(CELLS, &SOURCES, &names, &accounts, &writer).await;
    let outcomes = result?;
    print_table(&wanted, &outcomes, &options.seeds);
    if stop.is_set() {
        return Err(Interrupted.into());
    }
    let is_good = outcomes.values().all(|outcome| outcome.problems.is_empty());
    Ok(if is_good { Ended::Well } else { Ended::Poorly })
}

#[expect(clippy::too_many_arguments, reason = "the run's parts, used once")]
async fn faults_on(
    options: &ChaosOptions,
    wanted: &[&Fault],
    cells: Vec<Arc<Cell>>,
    targets: &Targets,
    channels: Vec<Channel>,
    accounts: &Arc<Accounts>,
    writer: &Arc<Writer>,
    emulator: Emulator,
    stop: &Stop,
) -> anyhow::Result<BTreeMap<&'static str, Outcome>> {
    let observers: Vec<_> = targets
        .grpc
        .iter()
        .zip(&channels)
        .map(|(address, channel)| {
            let eye = Eye::Replica(channel.clone());
            Arc::new(Observer::new(
                format!("replica {address}"),
                true,
                eye,
                POLL,
                cells.len(),
            ))
        })
        .collect();
    for observer in &observers {
        if let Err(reason) = observer.try_all(&cells).await {
            anyhow::bail!("a replica cannot see what is to be updated: {reason}");
        }
    }
    let bench = Bench {
        journal_bound: journal_bound(&channels, &cells).await?,
        cells: Arc::new(cells),
        writer: Arc::clone(writer),
        accounts: Arc::clone(accounts),
        channels,
        observers,
        replicas: Replica::all(targets.grpc.len()),
        emulator,
        http: targets.http.clone(),
        clock: Clock(Instant::now()),
        stop: stop.clone(),
    };
    let mut outcomes: BTreeMap<&'static str, Outcome> = BTreeMap::new();
    for seed in &options.seeds {
        for fault in wanted {
            if stop.is_set() {
                return Ok(outcomes);
            }
            let outcome = bench.run(fault, *seed, options.duration).await;
            // Whatever happened, the next fault finds a stack without any.
            bench.emulator.clear().await?;
            let outcome = outcome.with_context(|| format!("fault {}", fault.name))?;
            outcomes.entry(fault.name).or_default().add(outcome);
        }
    }
    Ok(outcomes)
}

/// The bound that every replica promises while its sweeps succeed.
async fn journal_bound(channels: &[Channel], cells: &[Arc<Cell>]) -> anyhow::Result<Duration> {
    let cell = cells.first().context("there is nothing to update")?;
    let mut bound = 0;
    for channel in channels {
        let request = GetConfigRequest {
            key: cell.key(),
            freshness: true,
            ..Default::default()
        };
        let token = cell.caller.token();
        let answer = ConfigServiceClient::new(channel.clone())
            .get_config(signed(request, &token, Duration::from_secs(5)))
            .await?
            .into_inner();
        ensure!(
            answer.journal_bound_ms > 0,
            "a replica does not read the journal: what the faults cost is then bounded by its TTL alone"
        );
        bound = bound.max(answer.journal_bound_ms);
    }
    Ok(Duration::from_millis(bound.unsigned_abs()))
}

// === impl Outcome ===

impl Outcome {
    fn add(&mut self, run: Self) {
        self.runs += run.runs;
        self.updates += run.updates;
        self.worst = self.worst.max(run.worst);
        self.bound = self.bound.max(run.bound);
        self.repairs += run.repairs;
        self.read_p99 = self.read_p99.max(run.read_p99);
        self.noise.add(run.noise);
        self.problems.extend(run.problems);
    }
}

// === impl Bench ===

impl Bench {
    async fn run(&self, fault: &Fault, seed: u64, duration: Duration) -> anyhow::Result<Outcome> {
        tokio::time::sleep(SETTLE).await;
        let bar = progress::timing(
            &format!("{} (seed {seed})", fault.name),
            duration,
            &self.stop,
        );
        let bound = self.bound(fault.promise);
        let repairs_before = services::repairs(&self.http).await;
        let before: Vec<_> = self
            .cells
            .iter()
            .map(|cell| cell.issued.load(Ordering::Acquire))
            .collect();
        let probing = Stop::default();
        let notes = Arc::new(Notes::default());
        let mut watches =
            observers::watch_all(&self.observers, &self.cells, &notes, self.clock, &probing);
        let own_key = ProcessEnv.get("AWS_ACCESS_KEY_ID").unwrap_or_default();
        self.emulator.put(fault.document(seed, &own_key)).await?;
        let mut writers = JoinSet::new();
        for source in fault.sources {
            let all = self.cells.iter().enumerate();
            let cells = all
                .filter(|(_, cell)| cell.source == *source)
                .map(|(index, cell)| (index, Arc::clone(cell)))
                .collect();
            writers.spawn(update_at(
                RATE,
                duration,
                cells,
                Arc::clone(&self.writer),
                self.clock,
                self.stop.clone(),
            ));
        }
        let affected = self.disturb(fault.process, duration).await;
        let mut made = Vec::new();
        while let Some(updates) = writers.join_next().await {
            made.extend(updates.context("a writer ended badly")?.made);
        }
        if fault.ends_with_the_updates {
            self.emulator.clear().await?;
        }
        self.await_sightings(bound).await;
        probing.set();
        while watches.join_next().await.is_some() {}
        bar.finish_and_clear();
        let affected = affected?;
        let reads = std::mem::take(&mut *notes.reads.lock());
        let written: Vec<Write> = made.iter().map(|update| update.write).collect();
        let mut problems = self.judge(&written, &before, &reads, bound);
        problems.extend(self.failed_reads(&notes, &affected));
        problems.extend(stale_after(&affected, &written, &reads));
        let worst = worst(&self.names(), &written, &reads);
        if made.iter().all(|update| update.failure.is_some()) {
            problems.push("no update was acknowledged: nothing was tried".to_owned());
        }
        Ok(Outcome {
            runs: 1,
            updates: made.len(),
            worst,
            bound,
            read_p99: read_p99(&reads),
            noise: affected.noise,
            repairs: services::repairs(&self.http)
                .await
                .saturating_sub(repairs_before),
            problems: problems
                .into_iter()
                .map(|problem| format!("{} (seed {seed}): {problem}", fault.name))
                .collect(),
        })
    }

    fn bound(&self, promise: Promise) -> Duration {
        let (journal, extra) = match promise {
            Promise::Journal => (self.journal_bound, Duration::ZERO),
            Promise::JournalAfter(extra) => (self.journal_bound, extra),
            Promise::PushAfter(extra) => (faults::PUSH, extra),
        };
        journal + extra
    }

    /// Does what the fault says to a replica, or beside it: which one, and when it was itself again.
    async fn disturb(&self, process: Process, duration: Duration) -> anyhow::Result<Affected> {
        let Some(replica) = self.replicas.first() else {
            anyhow::bail!("there is no replica");
        };
        tokio::time::sleep(SETTLE).await;
        let since_us = self.clock.us();
        match process {
            Process::None => return Ok(Affected::default()),
            Process::Paused(time) => replica.pause(time).await?,
            Process::Killed => replica.kill_and_restart().await?,
            Process::Restarted => replica.restart().await?,
            Process::UnknownToTheFanOut(time) => {
                replica.hide(time).await?;
                return Ok(Affected::default());
            }
            Process::NoisyNeighbour => {
                let (accounts, table) = (&self.accounts, &self.writer.table);
                let noise = noise::churn(accounts, table, &self.channels, duration).await?;
                return Ok(Affected {
                    noise,
                    ..Default::default()
                });
            }
        }
        Ok(Affected {
            observer: Some(0),
            since_us,
            until_us: self.clock.us(),
            was_paused: matches!(process, Process::Paused(_)),
            noise: Churn::default(),
        })
    }

    async fn await_sightings(&self, bound: Duration) {
        let deadline = Instant::now() + bound + PROBE_LAG + observers::SWEEP * 2;
        let all_seen = || {
            let mut observers = self.observers.iter();
            observers.all(|observer| observer.is_up_to_date(&self.cells))
        };
        while !all_seen() && Instant::now() < deadline && !self.stop.is_set() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn names(&self) -> Vec<ObserverName> {
        let observers = self.observers.iter();
        observers.map(|observer| observer.name.clone()).collect()
    }

    /// What the checker finds.
    fn judge(
        &self,
        writes: &[Write],
        before: &[u64],
        reads: &[Read],
        bound: Duration,
    ) -> Vec<String> {
        // What was there before counts as written before the beginning.
        let before = before.iter().enumerate().map(|(cell, version)| Write {
            cell,
            version: *version,
            issued_us: 0,
            acked_us: None,
        });
        let writes: Vec<_> = writes.iter().copied().chain(before).collect();
        let rules = Rules {
            lost_after_us: micros(bound + PROBE_LAG),
        };
        let cells: Vec<String> = self.cells.iter().map(|cell| cell.name()).collect();
        let names = self.names();
        check(&names, &writes, reads, rules)
            .violations
            .iter()
            .map(|violation: &Violation| violation.describe(&names, &cells))
            .collect()
    }

    /// Reads that failed although the replica had a value, but for those of one that was down or stopped.
    fn failed_reads(&self, notes: &Notes, affected: &Affected) -> Vec<String> {
        let excused = affected
            .observer
            .map(|number| &self.observers[number].name.name);
        notes
            .failures
            .lock()
            .iter()
            .filter(|(reason, _)| !excused.is_some_and(|name| reason.starts_with(name.as_str())))
            .map(|(reason, count)| format!("{count} reads failed: {reason}"))
            .collect()
    }
}

/// A replica that was disturbed, or what was done beside it.
#[derive(Clone, Copy, Debug, Default)]
struct Affected {
    observer: Option<usize>,
    since_us: u64,
    until_us: u64,
    was_paused: bool,
    noise: Churn,
}

/// After a pause, a read that begins sees what was acknowledged during it: nothing is served as fresh before a sweep. (By
/// DynamoDB's own API this can still be on its way to the journal in the last moments.)
fn stale_after(affected: &Affected, writes: &[Write], reads: &[Read]) -> Vec<String> {
    let Some(observer) = affected.observer.filter(|_| affected.was_paused) else {
        return Vec::new();
    };
    let newest = |cell: usize| {
        let of_cell = writes.iter().filter(|write| write.cell == cell);
        of_cell
            .filter(|write| {
                write
                    .acked_us
                    .is_some_and(|us| us > affected.since_us && us + HEARD_US < affected.until_us)
            })
            .map(|write| write.version)
            .max()
    };
    reads
        .iter()
        .filter(|read| {
            read.observer == observer && read.started_us > affected.until_us && !read.stale
        })
        .filter_map(|read| {
            let newest = newest(read.cell).filter(|newest| read.version < *newest)?;
            Some(format!(
                "after the pause version {} was served, {newest} was acknowledged during it",
                read.version
            ))
        })
        .take(3)
        .collect()
}

/// The longest time from an acknowledgement until the last replica showed it.
fn worst(names: &[ObserverName], writes: &[Write], reads: &[Read]) -> Duration {
    let mut worst = 0;
    for write in writes {
        let Some(acked_us) = write.acked_us else {
            continue;
        };
        for observer in 0..names.len() {
            let seen = reads.iter().find(|read| {
                read.observer == observer
                    && read.cell == write.cell
                    && read.version >= write.version
            });
            if let Some(read) = seen {
                worst = worst.max(read.ended_us.saturating_sub(acked_us));
            }
        }
    }
    Duration::from_micros(worst)
}

/// How long the replicas' answers took, at the 99th percentile.
fn read_p99(reads: &[Read]) -> Duration {
    let mut times = histogram(3);
    for read in reads {
        times.saturating_record(read.ended_us.saturating_sub(read.started_us).max(1));
    }
    Duration::from_micros(quantiles(&times).p99_us.unwrap_or_default())
}

fn print_table(wanted: &[&Fault], outcomes: &BTreeMap<&'static str, Outcome>, seeds: &[u64]) {
    println!(
        "{:<34} {:>4} {:>7} {:>11} {:>11} {:>9} {:>7}  verdict",
        "fault", "runs", "updates", "worst", "promised", "read p99", "repairs"
    );
    for fault in wanted {
        let Some(outcome) = outcomes.get(fault.name) else {
            continue;
        };
        println!(
            "{:<34} {:>4} {:>7} {:>8} ms {:>8} ms {:>6} ms {:>7}  {}",
            fault.title,
            outcome.runs,
            outcome.updates,
            outcome.worst.as_millis(),
            outcome.bound.as_millis(),
            outcome.read_p99.as_micros().div_ceil(1_000),
            outcome.repairs,
            if outcome.problems.is_empty() {
                "kept"
            } else {
                "BROKEN"
            }
        );
    }
    let seeds: Vec<_> = seeds.iter().map(ToString::to_string).collect();
    println!(
        "seeds {}; worst and promised: from an update's acknowledgement to the last replica that shows it",
        seeds.join(", ")
    );
    for (name, outcome) in outcomes {
        let Churn { requested, refused } = outcome.noise;
        if requested > 0 {
            println!(
                "{name}: the noisy neighbour requested {requested} keys, {refused} were beyond its quota"
            );
        }
    }
    for problem in outcomes.values().flat_map(|outcome| &outcome.problems) {
        println!("BROKEN  {problem}");
    }
}

/// The document of a fault with the run's seed.
fn seeded(mut document: Value, seed: u64) -> Value {
    document["seed"] = seed.into();
    document
}
