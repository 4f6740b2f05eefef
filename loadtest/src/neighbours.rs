//! `loadtest neighbours`: how much slower a quiet tenant's cold reads become beside a noisy neighbour.
//!
//! The quiet tenant reads keys that were never read before, at a fixed rate ([`open`]), half of them from DynamoDB and half
//! from Parameter Store. Each is timed from when it was due. The noisy neighbour ([`noise`]) does one expensive thing, or
//! all of them. Reads by DynamoDB's own API are the control: how much slower the backend itself became. Measurements alone and
//! beside the neighbour alternate over several rounds, so that a machine
//! that becomes slower affects both. Everything that is created is removed again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::json;
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tonic::{Code, transport::Channel};

use crate::{
    Ended,
    accounts::{Accounts, Role},
    cli::NeighboursOptions,
    client::signed,
    dataset::Table,
    environment::Stopwatch,
    figures::expected,
    latency::{LAG_PART, open},
    neighbours::{
        noise::{Counts, NoisyNeighbour},
        samples::{Samples, ratio_of_p99},
    },
    progress,
    recorder::micros,
    report::{Begun, Neighbour, Ratio, Report, finish_after},
    slo,
    staleness::experiment::connect_all,
    stop::Stop,
    targets::Targets,
    tokens::Caller,
};

mod noise;
mod samples;

pub(crate) use noise::Noise;

/// How long a quiet read may take. A read that fails counts as one that took so long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Far more than are in flight before they time out.
const MAX_IN_FLIGHT: u32 = 10_000;
/// The neighbour is noisy for this long before quiet reads are measured beside it.
const WARM_UP: Duration = Duration::from_secs(2);
/// From making the neighbour's data to the first measurement.
const AFTER_MAKING: Duration = Duration::from_secs(10);
/// After the noise, before quiet reads are measured alone again.
const SETTLE: Duration = Duration::from_secs(2);

/// Where the quiet tenant reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Backend {
    DynamoDb,
    ParameterStore,
    /// DynamoDB by its own API, past the service: the control.
    Control,
}

/// The quiet tenant.
struct Quiet {
    caller: Arc<Caller>,
    channels: Vec<Channel>,
    table: Arc<Table>,
    /// Part of every key, so that no run reads another's.
    run: String,
    next: AtomicU64,
    rate: f64,
    max_lag: Duration,
}

/// Quiet times by noise and backend, and the noisy neighbour's counts.
#[derive(Default)]
struct Measured {
    /// Why the times of a noise, or those without it, are the harness's: times beside the noise are then upper bounds, and
    /// those alone prove nothing.
    limited_beside: BTreeMap<Noise, String>,
    limited_alone: BTreeMap<Noise, String>,
    alone: BTreeMap<(Noise, Backend), Samples>,
    beside: BTreeMap<(Noise, Backend), Samples>,
    counts: BTreeMap<Noise, Counts>,
    /// The busiest round.
    machine_busy: BTreeMap<Noise, f64>,
}

// === impl Backend ===

impl Backend {
    const ALL: [Self; 3] = [Self::DynamoDb, Self::ParameterStore, Self::Control];

    fn name(self) -> &'static str {
        match self {
            Self::DynamoDb => "dynamodb",
            Self::ParameterStore => "parameter-store",
            Self::Control => "control",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::DynamoDb | Self::Control => "tenant",
            Self::ParameterStore => "param",
        }
    }
}

/// `loadtest neighbours`.
pub(crate) async fn run(options: Box<NeighboursOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Begun::now();
    slo::check(&options.output.slos, &expected::neighbours(&options))?;
    options.output.check()?;
    let targets = Targets::find(&options.place).await?;
    let accounts = Accounts::of(&targets).await?;
    let table = Arc::new(Table::of(&targets).await?);
    let run = uuid::Uuid::new_v4().simple().to_string()[..6].to_owned();
    let quiet_tenant = format!("lt-q{run}");
    let noisy = noise::Place::of(&targets, format!("lt-n{run}")).await?;
    let measuring = async {
        let wanted: Vec<Noise> = crate::cli::distinct(&options.noise);
        noisy.make(&accounts, &table, &wanted).await?;
        // What was made is announced to every replica meanwhile.
        tokio::time::sleep(AFTER_MAKING).await;
        accounts.ensure(&quiet_tenant, Role::Reader).await?;
        let quiet = Quiet {
            caller: Arc::new(Caller::sign_in(&accounts, &quiet_tenant).await?),
            channels: connect_all(targets.need_grpc()?).await?,
            table: Arc::clone(&table),
            run,
            next: AtomicU64::new(0),
            rate: options.rate,
            max_lag: options.max_lag,
        };
        let caller = Caller::sign_in(&accounts, &noisy.tenant).await?;
        // On connections of its own: what shares a connection shares its flow control too.
        let neighbour = NoisyNeighbour::new(caller, connect_all(targets.need_grpc()?).await?);
        anyhow::Ok(measure(&options, &wanted, Arc::new(quiet), &neighbour, &stop).await)
    };
    let measured = measuring.await;
    let removed = tokio::join!(
        noisy.remove(&accounts, &table),
        accounts.remove(&quiet_tenant)
    );
    let measured = measured?;
    let report = Report {
        neighbours: measured.rows(options.limit),
        ..begun.report("neighbours", &targets, settings(&options), &stop)
    };
    // What was measured stays measured.
    let removed = removed.0.and(removed.1);
    finish_after(removed, report, &options.output)
}

async fn measure(
    options: &NeighboursOptions,
    wanted: &[Noise],
    quiet: Arc<Quiet>,
    neighbour: &NoisyNeighbour,
    stop: &Stop,
) -> Measured {
    let mut measured = Measured::default();
    quiet.read_for(WARM_UP, stop).await;
    for round in 1..=options.rounds {
        for noise in wanted.iter().copied() {
            let title = format!("{}, round {round} of {}", noise.name(), options.rounds);
            let bar = progress::timing(&title, options.duration * 2 + WARM_UP + SETTLE, stop);
            let alone = quiet.read_for(options.duration, stop).await;
            let enough = Stop::default();
            let noisy = async {
                let counts = neighbour.be_noisy(noise, &enough).await;
                (counts, tokio::time::sleep(SETTLE).await)
            };
            let beside = async {
                tokio::time::sleep(WARM_UP).await;
                let watch = Stopwatch::start();
                let beside = quiet.read_for(options.duration, stop).await;
                enough.set();
                (beside, watch.read())
            };
            let ((counts, ()), (beside, cpu)) = tokio::join!(noisy, beside);
            bar.finish_and_clear();
            if stop.is_set() {
                return measured;
            }
            let ((alone, before), (beside, during)) = (alone, beside);
            if let Some(reason) = before {
                measured.limited_alone.insert(noise, reason);
            }
            if let Some(reason) = during {
                measured.limited_beside.insert(noise, reason);
            }
            for (backend, samples) in alone {
                measured
                    .alone
                    .entry((noise, backend))
                    .or_default()
                    .append(samples);
            }
            for (backend, samples) in beside {
                measured
                    .beside
                    .entry((noise, backend))
                    .or_default()
                    .append(samples);
            }
            measured.counts.entry(noise).or_default().add(counts);
            let busy = measured.machine_busy.entry(noise).or_default();
            *busy = busy.max(cpu.machine_busy.unwrap_or_default());
        }
    }
    measured
}

// === impl Quiet ===

impl Quiet {
    /// Cold reads of each backend, for a time; and why their times are not the service's, if they are not.
    async fn read_for(
        self: &Arc<Self>,
        duration: Duration,
        stop: &Stop,
    ) -> (Vec<(Backend, Samples)>, Option<String>) {
        let loops = Backend::ALL.map(|backend| async move {
            let samples = Arc::new(Mutex::new(Samples::default()));
            let (quiet, record, begun) = (Arc::clone(self), Arc::clone(&samples), Instant::now());
            let plan = open::Plan {
                rate: self.rate,
                duration,
                max_in_flight: MAX_IN_FLIGHT,
                timeout: TIMEOUT,
            };
            let outcome = open::run(plan, stop, move |due| {
                let (quiet, record) = (Arc::clone(&quiet), Arc::clone(&record));
                async move {
                    let answered = quiet.read(backend).await;
                    let took = if answered {
                        due.elapsed()
                    } else {
                        TIMEOUT.max(due.elapsed())
                    };
                    let second = due.saturating_duration_since(begun).as_secs();
                    record.lock().push(second, micros(took), answered);
                }
            })
            .await;
            let samples = std::mem::take(&mut *samples.lock());
            let lag = Duration::from_micros(outcome.lag.value_at_quantile(0.99));
            let answers = samples.quantiles().p99_us.unwrap_or_default();
            let most = self
                .max_lag
                .max(Duration::from_micros(answers).mul_f64(LAG_PART));
            let limited = outcome.not_sustained.map(|why| why.reason).or_else(|| {
                let late = lag > most;
                late.then(|| {
                    format!("requests were sent {lag:.1?} after they were due (99th percentile)")
                })
            });
            ((backend, samples), limited)
        });
        let (samples, limited): (_, Vec<_>) =
            futures::future::join_all(loops).await.into_iter().unzip();
        (samples, limited.into_iter().flatten().next())
    }

    /// Reads a key that was never read before. Returns whether the service answered: there is no such key.
    async fn read(&self, backend: Backend) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if backend == Backend::Control {
            let key = format!("cold/{}/{number}", self.run);
            let read = self.table.read_absent(&self.caller.tenant, &key);
            return tokio::time::timeout(TIMEOUT, read).await == Ok(true);
        }
        let index = usize::try_from(number).unwrap_or_default() % self.channels.len();
        let request = GetConfigRequest {
            key: format!("{}_config_cold/{}/{number}", backend.tag(), self.run),
            ..Default::default()
        };
        let mut client = ConfigServiceClient::new(self.channels[index].clone());
        let call = client.get_config(signed(request, &self.caller.token(), TIMEOUT));
        let answer = tokio::time::timeout(TIMEOUT, call).await;
        matches!(answer, Ok(Err(status)) if status.code() == Code::NotFound)
    }
}

// === impl Measured ===

impl Measured {
    fn rows(&self, limit: f64) -> Vec<Neighbour> {
        let row = |((noise, backend), alone): (&(Noise, Backend), &Samples)| {
            if *backend == Backend::Control {
                return None;
            }
            let beside = self.beside.get(&(*noise, *backend))?;
            let control = (*noise, Backend::Control);
            let control = ratio_of_p99(self.alone.get(&control)?, self.beside.get(&control)?);
            let counts = self.counts.get(noise).copied().unwrap_or_default();
            // Where reads fail without any noise, there is nothing to compare with.
            let ratio = ratio_of_p99(alone, beside).filter(|_| alone.failed() == 0);
            let within = ratio.as_ref().and_then(|ratio| within(ratio, limit));
            // Within the limit in spite of the lag is within the limit.
            let beside_noise = self.limited_beside.get(noise);
            let beside_noise = beside_noise.filter(|_| within != Some(true));
            let limited = self.limited_alone.get(noise).or(beside_noise);
            let no_verdict_because = if alone.failed() > 0 {
                let (failed, of) = (alone.failed(), alone.quantiles().count);
                Some(format!(
                    "{failed} of {of} quiet reads failed without the noise: there is nothing to compare with"
                ))
            } else if ratio.is_none() {
                let of = beside.quantiles().count;
                Some(format!(
                    "{of} reads are too few for a 99th percentile: a longer --duration, or more --rounds"
                ))
            } else if let Some(reason) = limited {
                Some(format!("the harness was the limit: {reason}"))
            } else if within.is_none() {
                Some(
                    "the limit lies within the interval: a longer --duration, or more --rounds"
                        .to_owned(),
                )
            } else {
                None
            };
            Some(Neighbour {
                noise: noise.name().to_owned(),
                backend: backend.name().to_owned(),
                alone: alone.quantiles(),
                beside: beside.quantiles(),
                alone_failed: alone.failed(),
                beside_failed: beside.failed(),
                within_limit: within.filter(|_| no_verdict_because.is_none()),
                no_verdict_because,
                ratio_of_p99: ratio,
                control,
                limit,
                accepted: counts.accepted,
                refused: counts.refused,
                failed: counts.failed,
                machine_busy: self.machine_busy.get(noise).copied(),
            })
        };
        self.alone.iter().filter_map(row).collect()
    }
}

/// The verdict, from the whole interval.
fn within(ratio: &Ratio, limit: f64) -> Option<bool> {
    if ratio.high <= limit {
        Some(true)
    } else {
        (ratio.low > limit).then_some(false)
    }
}

fn settings(
    options: &NeighboursOptions,
) -> impl IntoIterator<Item = (&'static str, serde_json::Value)> {
    [
        ("ratePerSecond", json!(options.rate)),
        ("rounds", json!(options.rounds)),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("limit", json!(options.limit)),
        ("maxLagSeconds", json!(options.max_lag.as_secs_f64())),
    ]
}
