//! `loadtest chaos`: faults around the running local stack, one after the other, while updates are made and every replica
//! is read; the checker verifies each history against the bound that is promised under that fault. When the fault is over,
//! the change history of what was updated is audited ([`change_history`]).
//!
//! Faults are the emulator's ([`emulator`]) and the processes' ([`processes`]); no program under test knows of them. What is
//! random comes from the seed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use serde_json::json;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tonic::transport::Channel;

use crate::{
    Ended, Usage,
    accounts::Accounts,
    chaos::{
        change_history::{Before, ChangeHistory},
        emulator::Emulator,
        faults::{FAULTS, Fault, Process, Promise},
        noise::{Churn, NoisyNeighbour},
        processes::Replica,
    },
    cli::{ChaosOptions, Shape, Source},
    client::Client,
    figures::expected,
    latency::closed::Load,
    progress,
    recorder::micros,
    report::{Begun, FaultRun, Report, finish_after},
    slo,
    staleness::{
        cells::Update,
        experiment::{Experiment, Observed, Plan, Setup, connect_all, read_at, readers},
        history::{Read, Seen, Shown},
        observers::{Failure, NEVER_SENT},
        replicas, services,
    },
    stop::Stop,
    targets::Targets,
};

mod audit;
mod change_history;
mod emulator;
mod faults;
mod noise;
mod processes;

/// The sources that every deployment has; a fault says which of them it meets.
const SOURCES: [Source; 3] = [Source::Dynamodb, Source::PutConfig, Source::ParameterStore];
/// Tenants that are updated by each kind of source.
const CELLS: u32 = 2;
/// Updates of each source, a second.
const RATE: f64 = 4.0;
/// How often a replica that lags is read, on average.
const POLL: Duration = Duration::from_millis(10);
/// How long the journal may need to receive a change that bypassed the service, in microseconds.
const HEARD_US: u64 = 1_500_000;
/// Pause from the first update to the start of a fault, and from its end to the next fault.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a client may need to connect again after a graceful replacement, in microseconds.
const RECONNECT_US: u64 = 1_000_000;
/// What quiet tenants read during the faults.
const QUIET: Shape = Shape {
    tenants: 5,
    keys: 20,
    value_bytes: 200,
};
const WARM_UP: Duration = Duration::from_secs(1);
const NO_HISTORY: &str =
    "this deployment keeps no change history: it is not checked that it has each update";

/// What all faults share.
struct Bench<'o> {
    options: &'o ChaosOptions,
    experiment: Experiment,
    channels: Vec<Channel>,
    replicas: Vec<Replica>,
    emulator: Emulator,
    http: Vec<String>,
    journal_bound: Duration,
    /// Absent where the deployment keeps none.
    history: Option<ChangeHistory>,
    /// Reads of quiet tenants at all replicas, and at those that faults of processes do not disturb.
    quiet: Load,
    quiet_at_others: Option<Load>,
}

/// The updates of a run, by source.
type Updates = Vec<(Source, Update)>;

/// What a fault did to a replica, and when, in microseconds of the run.
#[derive(Clone, Copy, Debug)]
struct Disturbed {
    observer: usize,
    since_us: u64,
    /// When it had recovered.
    until_us: u64,
    kind: Disturbance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    /// It was stopped until shortly after this, when SIGCONT was sent.
    Paused {
        resumed_us: u64,
    },
    Killed,
    /// It was replaced as a deployment does.
    Replaced,
}

/// `loadtest chaos`.
pub(crate) async fn run(options: Box<ChaosOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Begun::now();
    let known = FAULTS.map(|fault| fault.name);
    if let Some(unknown) = options
        .faults
        .iter()
        .find(|name| !known.contains(&name.as_str()))
    {
        let known = known.join(", ");
        return Err(Usage(format!("--fault {unknown}: there are {known}")).into());
    }
    let is_wanted =
        |name: &str| options.faults.is_empty() || options.faults.iter().any(|f| f == name);
    let targets = Targets::find(&options.place).await?;
    let wanted = FAULTS.iter().filter(|fault| is_wanted(fault.name));
    let (wanted, left_out): (Vec<&Fault>, Vec<_>) =
        wanted.partition(|fault| fault.lacks(&targets).is_none());
    for fault in left_out {
        eprintln!(
            "warning: the fault {} is left out: {} is not set, and the stack may lack its tag",
            fault.name,
            fault.lacks(&targets).unwrap_or_default()
        );
    }
    if wanted.is_empty() {
        return Err(Usage("no fault is left".to_owned()).into());
    }
    let names = wanted.iter().map(|fault| fault.name);
    slo::check(&options.output.slos, &expected::chaos(&options, names))?;
    options.output.check()?;
    let channels = connect_all(targets.need_grpc()?).await?;
    let accounts = Arc::new(Accounts::of(&targets).await?);
    let emulator = Emulator::connect().await?;
    emulator.clear().await?;
    let mut sources = SOURCES.to_vec();
    if wanted
        .iter()
        .any(|fault| fault.sources.contains(&Source::S3))
    {
        sources.push(Source::S3);
    }
    let setup = Setup {
        targets: &targets,
        accounts: Arc::clone(&accounts),
        sources,
        cells: CELLS,
        // PutConfig at one replica only: the others receive it by push or sweep only.
        service: channels.last().cloned().into_iter().collect(),
        observers: replicas(&targets, &channels, POLL),
        stop: stop.clone(),
    };
    let (mut runs, mut warnings) = (Vec::new(), Vec::new());
    let causing = setup.run(async |experiment: Experiment| {
        experiment.try_all().await?;
        let promised = experiment.journal_bound(&channels).await?;
        let history = find_history(&experiment, &channels).await?;
        if history.is_none() {
            warnings.push(NO_HISTORY.to_owned());
        }
        let quiet = readers(&targets, &targets.grpc, &QUIET, &accounts, &stop, 1).await?;
        let others = targets.grpc.get(1..).unwrap_or_default();
        let quiet_at_others = if others.is_empty() {
            None
        } else {
            let client = Client::grpc(others, 2, Duration::from_secs(10), None).await?;
            Some(Load {
                client: Arc::new(client),
                ..quiet.clone()
            })
        };
        read_at(quiet.clone(), options.quiet_rate, WARM_UP, &stop).await?;
        let bench = Bench {
            options: &options,
            experiment,
            replicas: Replica::all(targets.grpc.len()),
            channels,
            emulator,
            http: targets.http.clone(),
            journal_bound: promised.context(
                "a replica does not read the journal: what the faults cost is then bounded by its TTL alone",
            )?,
            history,
            quiet,
            quiet_at_others,
        };
        bench.run_all(&wanted, &mut runs).await
    });
    let ended = causing.await;
    let report = Report {
        chaos: runs,
        warnings,
        ..begun.report(
            "chaos",
            &targets,
            settings(&options, targets.grpc.len()),
            &stop,
        )
    };
    finish_after(ended, report, &options.output)
}

/// At the replica that no fault of processes disturbs, if there are several.
async fn find_history(
    experiment: &Experiment,
    channels: &[Channel],
) -> anyhow::Result<Option<ChangeHistory>> {
    let channel = channels.last().context("there is no replica")?;
    let cell = experiment.cells.first();
    let cell = cell.context("there is nothing to update")?;
    ChangeHistory::find(channel.clone(), &cell.caller).await
}

// === impl Bench ===

impl Bench<'_> {
    async fn run_all(&self, wanted: &[&Fault], runs: &mut Vec<FaultRun>) -> anyhow::Result<()> {
        for seed in &self.options.seeds {
            for fault in wanted {
                if self.experiment.stop.is_set() {
                    return Ok(());
                }
                let before = Before::of(&self.experiment.cells);
                let run = self.run(fault, *seed).await;
                // Faults are cleared even after an error, so that the next one begins on a clean stack.
                let cleared = self.emulator.clear().await;
                let (run, updates) = run.with_context(|| format!("fault {}", fault.name))?;
                let audit = match &self.history {
                    Some(history) if cleared.is_ok() => {
                        let dead_letters = fault.leaves_dead_letters();
                        history
                            .audit(&self.experiment, &before, &updates, dead_letters)
                            .await
                    }
                    _ => None,
                };
                runs.push(run.with_audit(audit));
                cleared?;
            }
        }
        Ok(())
    }

    async fn run(&self, fault: &Fault, seed: u64) -> anyhow::Result<(FaultRun, Updates)> {
        let noisy = match fault.process {
            Process::NoisyNeighbour(tag) => {
                let (accounts, table) = (&self.experiment.accounts, &self.experiment.writer.table);
                Some(NoisyNeighbour::make(accounts, table, tag).await?)
            }
            _ => None,
        };
        let run = self.run_beside(fault, seed, noisy.as_ref()).await;
        if let Some(noisy) = noisy {
            let removed = noisy.remove().await;
            return run.and_then(|run| removed.map(|()| run));
        }
        run
    }

    async fn run_beside(
        &self,
        fault: &Fault,
        seed: u64,
        noisy: Option<&NoisyNeighbour<'_>>,
    ) -> anyhow::Result<(FaultRun, Updates)> {
        let (duration, stop) = (self.options.duration, &self.experiment.stop);
        tokio::time::sleep(SETTLE).await;
        let title = format!("{} (seed {seed})", fault.name);
        let bar = progress::timing(&title, duration, stop);
        let promised = self.bound(fault.promise);
        let repairs_before = services::repairs(&self.http).await;
        let own_key = ProcessEnv.get("AWS_ACCESS_KEY_ID").unwrap_or_default();
        self.emulator.put(fault.document(seed, &own_key)).await?;
        let plan = Plan {
            rates: fault.sources.iter().map(|source| (*source, RATE)).collect(),
            duration,
            lost_after: promised,
            seed,
        };
        let quiet = match fault.process {
            Process::None | Process::NoisyNeighbour(_) => Some(&self.quiet),
            _ => self.quiet_at_others.as_ref(),
        };
        let reading = async {
            match quiet {
                Some(load) => {
                    let rate = self.options.quiet_rate;
                    Some(read_at(load.clone(), rate, duration, stop).await)
                }
                None => None,
            }
        };
        let beside = async { tokio::join!(self.disturb(fault.process, noisy), reading) };
        let after = async {
            if fault.ends_with_the_updates {
                self.emulator.clear().await?;
            }
            Ok(())
        };
        let run = self.experiment.run(&plan, beside, after).await;
        bar.finish_and_clear();
        let (observed, (disturbed, quiet)) = run?;
        let (disturbed, churn) = disturbed?;
        let repairs = services::repairs(&self.http).await;
        let run = FaultRun {
            repairs: repairs.saturating_sub(repairs_before),
            noisy_requested: churn.requested,
            noisy_refused: churn.refused,
            ..self.judge(fault, seed, promised, &observed, disturbed)
        };
        Ok((run.with_quiet(quiet.transpose()?), observed.updates))
    }

    fn bound(&self, promise: Promise) -> Duration {
        let own = match promise {
            Promise::Journal => self.journal_bound,
            Promise::JournalAfter(extra) => self.journal_bound + extra,
            Promise::PushAfter(extra) => faults::PUSH + extra,
        };
        self.options.promise.unwrap_or(own)
    }

    /// Applies the fault to the first replica, or runs the noisy neighbour.
    async fn disturb(
        &self,
        process: Process,
        noisy: Option<&NoisyNeighbour<'_>>,
    ) -> anyhow::Result<(Option<Disturbed>, Churn)> {
        let clock = self.experiment.clock;
        let replica = self.replicas.first().context("there is no replica")?;
        tokio::time::sleep(SETTLE).await;
        let mut since_us = clock.us();
        let kind = match process {
            Process::None => return Ok((None, Churn::default())),
            Process::NoisyNeighbour(_) => {
                let Some(noisy) = noisy else {
                    return Ok((None, Churn::default()));
                };
                let churn = noisy.churn(&self.channels, self.options.duration).await;
                return Ok((None, churn));
            }
            Process::UnknownToTheFanOut(time) => {
                replica.hide(time).await?;
                return Ok((None, Churn::default()));
            }
            Process::Paused(time) => {
                replica.signal("STOP").await?;
                since_us = clock.us();
                tokio::time::sleep(time).await;
                let resumed_us = clock.us();
                replica.signal("CONT").await?;
                Disturbance::Paused { resumed_us }
            }
            Process::Killed => {
                replica.kill_and_restart().await?;
                Disturbance::Killed
            }
            Process::Restarted => {
                replica.restart().await?;
                Disturbance::Replaced
            }
        };
        let disturbed = Disturbed {
            observer: 0,
            since_us,
            until_us: clock.us(),
            kind,
        };
        Ok((Some(disturbed), Churn::default()))
    }

    fn judge(
        &self,
        fault: &Fault,
        seed: u64,
        promised: Duration,
        observed: &Observed,
        disturbed: Option<Disturbed>,
    ) -> FaultRun {
        let excused = |failure: &Failure| disturbed.is_some_and(|it| it.excuses(failure, promised));
        let history = self.experiment.history(observed, excused);
        let mut problems = history.violations.clone();
        let failed = history.failed_reads.iter();
        problems.extend(failed.map(|(reason, count)| format!("{count} reads failed: {reason}")));
        if let Some(disturbed) = disturbed {
            problems.extend(disturbed.served_as_fresh(&observed.updates, &observed.reads));
        }
        let undecided = observed.undecided();
        if undecided > 0 {
            problems.push(format!(
                "undecided: {undecided} updates were not shown by every replica, and no read proves them lost"
            ));
        }
        let made = observed.updates.len() as u64;
        let acked = observed
            .updates
            .iter()
            .filter(|(_, it)| it.failure.is_none());
        let updates = acked.count() as u64;
        if updates == 0 {
            problems.push("no update was acknowledged: nothing was tested".to_owned());
        }
        let worst = worst(observed);
        FaultRun {
            name: fault.name.to_owned(),
            title: fault.title.to_owned(),
            seed,
            promised_us: u64::try_from(promised.as_micros()).unwrap_or(u64::MAX),
            worst_us: worst.map(|(by, _)| by),
            worst_at_least_us: worst.map(|(_, after)| after),
            updates,
            failed_writes: made - updates,
            undecided,
            excused_reads: observed.failures.iter().filter(|one| excused(one)).count() as u64,
            history,
            repairs: 0,
            noisy_requested: 0,
            noisy_refused: 0,
            kept: problems.is_empty(),
            problems,
            quiet: None,
            audit: None,
        }
    }
}

// === impl Disturbed ===

impl Disturbed {
    /// Whether a read may have failed for this: at the same replica, and not later than the promise after its return.
    ///
    /// A graceful replacement must answer what it accepted. A client whose only address is this replica's cannot connect
    /// until the new one listens, which is UNAVAILABLE, and a call that waited for the closed connection never left. Any other
    /// failure was a call that was cut off.
    fn excuses(&self, failure: &Failure, promised: Duration) -> bool {
        let is_refused = ["UNAVAILABLE", NEVER_SENT].contains(&failure.code.as_str());
        let after_us = match self.kind {
            Disturbance::Replaced => RECONNECT_US,
            Disturbance::Paused { .. } | Disturbance::Killed => micros(promised),
        };
        failure.observer == self.observer
            && failure.ended_us >= self.since_us
            && failure.started_us <= self.until_us.saturating_add(after_us)
            && (is_refused || self.kind != Disturbance::Replaced)
    }

    /// After a pause nothing may be served as fresh before a sweep, so each fresh answer must show what was acknowledged in
    /// the pause. A read that began in the pause and was answered after SIGCONT was answered by the resumed process.
    /// A change that bypassed the service may not have reached the journal yet.
    fn served_as_fresh(&self, updates: &[(Source, Update)], reads: &[Read]) -> Vec<String> {
        let Disturbance::Paused { resumed_us } = self.kind else {
            return Vec::new();
        };
        let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
        for (source, update) in updates {
            let heard_us = match source {
                Source::PutConfig => 0,
                Source::Dynamodb | Source::ParameterStore | Source::S3 => HEARD_US,
            };
            let write = update.write;
            let in_pause = |us| us > self.since_us && us + heard_us < resumed_us;
            if write.acked_us.is_some_and(in_pause) {
                let newest = newest.entry(write.cell).or_default();
                *newest = write.version.max(*newest);
            }
        }
        let after = reads.iter().filter(|read| {
            let since = read.started_us > self.since_us && read.ended_us >= resumed_us;
            read.observer == self.observer && since && !read.stale
        });
        let older = after.filter_map(|read| {
            let newest = newest.get(&read.cell)?;
            let shown = match read.shown {
                Shown::Version(version) => version,
                _ => 0,
            };
            (shown < *newest).then(|| {
                format!(
                    "after the pause version {shown} was served as fresh, {newest} was acknowledged during it"
                )
            })
        });
        older.take(3).collect()
    }
}

/// The longest time from an acknowledgement until the last replica showed the update, with its lower bound. An update that was
/// not shown counts with the time until the end of the observation.
fn worst(observed: &Observed) -> Option<(u64, u64)> {
    let updates = observed.updates.iter().zip(&observed.findings.sightings);
    let times = updates.filter_map(|((_, update), sighting)| {
        let acked_us = update.write.acked_us?;
        let seen = Seen::of_all(sighting.seen.iter().copied()).all;
        let (by, after) = seen.map_or((observed.ended_us, observed.ended_us), |window| {
            (window.by_us, window.after_us)
        });
        Some((by.saturating_sub(acked_us), after.saturating_sub(acked_us)))
    });
    times.max()
}

fn settings(
    options: &ChaosOptions,
    replicas: usize,
) -> impl IntoIterator<Item = (&'static str, serde_json::Value)> {
    [
        ("replicas", json!(replicas)),
        ("updatesPerSecond", json!(RATE)),
        ("quietReadsPerSecond", json!(options.quiet_rate)),
        ("pollSeconds", json!(POLL.as_secs_f64())),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("seeds", json!(options.seeds)),
        ("faults", json!(options.faults)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staleness::history::Write;

    fn disturbed(kind: Disturbance) -> Disturbed {
        Disturbed {
            observer: 1,
            since_us: 1_000_000,
            until_us: 3_000_000,
            kind,
        }
    }

    fn failure(observer: usize, started_us: u64, code: &str) -> Failure {
        Failure {
            observer,
            code: code.to_owned(),
            started_us,
            ended_us: started_us + 10,
        }
    }

    #[test]
    fn only_the_disturbed_replica_is_excused_and_only_for_a_time() {
        let promised = Duration::from_secs(2);
        let excuses = |kind, one: Failure| disturbed(kind).excuses(&one, promised);
        let killed = Disturbance::Killed;
        assert!(excuses(killed, failure(1, 1_500_000, "UNKNOWN")));
        assert!(excuses(killed, failure(1, 4_900_000, "UNAVAILABLE")));
        assert!(
            !excuses(killed, failure(1, 5_100_000, "UNAVAILABLE")),
            "for ever"
        );
        assert!(
            !excuses(killed, failure(1, 500_000, "UNAVAILABLE")),
            "before"
        );
        assert!(
            !excuses(killed, failure(10, 1_500_000, "UNAVAILABLE")),
            "another one"
        );
        let replaced = Disturbance::Replaced;
        assert!(excuses(replaced, failure(1, 1_500_000, "UNAVAILABLE")));
        assert!(
            !excuses(replaced, failure(1, 1_500_000, "CANCELLED")),
            "cut off"
        );
        assert!(!excuses(replaced, failure(1, 4_100_000, "UNAVAILABLE")));
    }

    #[test]
    fn an_old_value_in_the_moment_after_a_pause_is_found() {
        let pause = disturbed(Disturbance::Paused {
            resumed_us: 2_800_000,
        });
        let update = |version, acked_us| Update {
            write: Write {
                cell: 0,
                version,
                issued_us: acked_us - 10,
                acked_us: Some(acked_us),
            },
            store_version: 0,
            failure: None,
        };
        let read = |version, started_us, ended_us| Read {
            observer: 1,
            server: Some(0),
            cell: 0,
            shown: Shown::Version(version),
            stale: false,
            started_us,
            ended_us,
        };
        let found = |source, read| {
            let updates = [(source, update(4, 900_000)), (source, update(5, 2_700_000))];
            pause.served_as_fresh(&updates, &[read]).len()
        };
        // It began in the pause, and was answered before the signal's sender had ended.
        let old = read(4, 1_500_000, 2_900_000);
        assert_eq!(found(Source::PutConfig, old), 1);
        assert_eq!(found(Source::Dynamodb, old), 0, "on its way to the journal");
        assert_eq!(found(Source::PutConfig, read(5, 1_500_000, 2_900_000)), 0);
        assert_eq!(found(Source::PutConfig, Read { stale: true, ..old }), 0);
        assert_eq!(found(Source::PutConfig, read(4, 900_000, 1_010_000)), 0);
    }
}
