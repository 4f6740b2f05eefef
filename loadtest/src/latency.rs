//! `loadtest latency`: each target in each loop, the baseline target before it, and one report of all. Other
//! commands use [`Bench`] and [`open_load`] for their loads.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

use crate::{
    Ended, Interrupted, Usage,
    accounts::Accounts,
    baseline_target::BaselineTarget,
    cli::{LatencyOptions, LoadOptions, Loop, Target, distinct},
    client::{Client, RestClient},
    dataset::{self, Dataset, Table},
    environment::Stopwatch,
    figures::expected,
    latency::closed::Load,
    progress::{self, Live},
    recorder::{Observation, Recorder, per_second, quantiles},
    report::{Begun, Phase, Report, finish_after, table},
    scenarios::{BLOB, Mix, SECRET},
    slo,
    stop::Stop,
    targets::{Targets, need},
    tokens::{self, Caller},
    world::{self, World},
};

pub(crate) mod closed;
pub(crate) mod open;

/// Goose and this harness may differ in what they counted by what a user had in flight at the end.
const COUNT_TOLERANCE_PER_USER: u64 = 1;
/// A lag that is a smaller part of the answers' times is no limit.
pub(crate) const LAG_PART: f64 = 0.2;
/// Nor is one below this: the default of `--max-lag`.
const MAX_LAG: Duration = Duration::from_millis(1);

/// Targets, callers and data of one run, ready to be used.
pub(crate) struct Bench {
    begun: Begun,
    options: LoadOptions,
    targets: Targets,
    world: Arc<World>,
    dataset: Dataset,
    clients: Vec<(Target, Arc<Client>)>,
}

/// `loadtest latency`.
pub(crate) async fn run(options: Box<LatencyOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let options = Box::new(LatencyOptions {
        targets: distinct(&options.targets),
        loops: distinct(&options.loops),
        load: available(&options.load).await?,
        ..*options
    });
    check(&options.load, &options.targets)?;
    slo::check(&options.output.slos, &expected::latency(&options))?;
    options.output.check()?;
    let bench = Bench::prepare(&options.load, &options.targets, &stop).await?;
    let baseline = BaselineTarget::start(bench.dataset).await?;
    let mut run = Run {
        options: &options,
        bench: &bench,
        stop,
        phases: Vec::new(),
        warnings: Vec::new(),
    };
    let ended = run.all(&baseline).await;
    let report = Report {
        warnings: run.warnings,
        phases: run.phases,
        ..bench.report("latency", &run.stop, settings(&options))
    };
    finish_after(ended, report, &options.output)
}

/// The same options without scenarios of tags that the deployment leaves out.
pub(crate) async fn available(options: &LoadOptions) -> anyhow::Result<LoadOptions> {
    let needs_a_tag = |mix: &Mix| mix.has(BLOB) || mix.has(SECRET);
    let Some(mut mix) = options.scenarios.clone().filter(needs_a_tag) else {
        return Ok(options.clone());
    };
    let targets = Targets::find(&options.place).await?;
    for (scenario, store, variable) in [
        (BLOB, &targets.blob_bucket, "BLOB_BUCKET"),
        (SECRET, &targets.secret_root, "SECRET_ROOT"),
    ] {
        if mix.has(scenario) && store.is_empty() {
            eprintln!(
                "warning: the scenario {scenario} is left out: {variable} is not set, and the deployment may lack its tag"
            );
            let rest = mix.without(scenario);
            mix =
                rest.ok_or_else(|| Usage(format!("{variable} is not set: no scenario is left")))?;
        }
    }
    Ok(LoadOptions {
        scenarios: Some(mix),
        ..options.clone()
    })
}

/// Refuses, before anything is made, what a target cannot do.
pub(crate) fn check(options: &LoadOptions, targets: &[Target]) -> Result<(), Usage> {
    if targets.contains(&Target::Grpc) && !mix_of(options, Target::Grpc).fits_grpc() {
        return Err(Usage(
            "the scenario rest has no gRPC form: use --target edge or alb, or leave it out"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The scenarios for this target.
pub(crate) fn mix_of(options: &LoadOptions, target: Target) -> Mix {
    options
        .scenarios
        .clone()
        .unwrap_or_else(|| Mix::default_of(target))
}

// === impl Bench ===

impl Bench {
    /// Finds and connects the targets, seeds what is missing, and signs the callers in.
    pub(crate) async fn prepare(
        options: &LoadOptions,
        targets: &[Target],
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let begun = Begun::now();
        let found = Targets::find(&options.place).await?;
        let mut clients = Vec::new();
        for target in targets {
            let client = connect(options, &found, *target).await?;
            clients.push((*target, Arc::new(client)));
        }
        let reads = |scenario| {
            let mut mixes = targets.iter().map(|target| mix_of(options, *target));
            mixes.any(|mix| mix.has(scenario))
        };
        let dataset = Dataset::of(&options.shape).with(reads(BLOB), reads(SECRET));
        let (callers, admins) = callers(options, &found, dataset, stop).await?;
        Ok(Self {
            begun,
            world: Arc::new(World::new(callers, dataset, options.zipf)?.with_admins(admins)),
            targets: found,
            options: options.clone(),
            dataset,
            clients,
        })
    }

    /// The targets with their clients.
    pub(crate) fn clients(&self) -> &[(Target, Arc<Client>)] {
        &self.clients
    }

    /// Whether a replica is called on this machine.
    pub(crate) fn has_local_replicas(&self) -> bool {
        self.targets.has_local_replicas()
    }

    /// A load of this client.
    pub(crate) fn load(&self, client: &Arc<Client>) -> Load {
        Load {
            client: Arc::clone(client),
            world: Arc::clone(&self.world),
            seed: self.options.seed,
        }
    }

    /// An open loop of these options.
    pub(crate) fn plan(&self, rate: f64, duration: Duration) -> open::Plan {
        open::Plan {
            rate,
            duration,
            max_in_flight: self.options.max_in_flight,
            timeout: self.options.timeout,
        }
    }

    /// A client of the baseline target, with as many connections as the target's has.
    async fn baseline(&self, of: Target, baseline: &BaselineTarget) -> anyhow::Result<Client> {
        let LoadOptions {
            connections,
            timeout,
            ..
        } = self.options;
        let rest = RestClient::new(&baseline.url, connections, timeout)?;
        match of {
            Target::Alb | Target::Edge => Ok(Client::Rest(rest)),
            Target::Grpc => {
                let addresses = vec![baseline.grpc.clone(); self.targets.grpc.len()];
                let raw = RestClient::new(&baseline.url, connections, timeout)?;
                let client = Client::grpc(&addresses, connections, timeout, Some(rest)).await?;
                Ok(client.with_raw(vec![raw]))
            }
        }
    }

    /// A report with nothing measured in it yet.
    pub(crate) fn report(
        &self,
        kind: &str,
        stop: &Stop,
        settings: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Report {
        let options = &self.options;
        let shared = [
            ("tenants", json!(self.dataset.tenants)),
            ("keysPerTenant", json!(self.dataset.keys)),
            ("valueBytes", json!(self.dataset.value_bytes)),
            ("zipf", json!(options.zipf)),
            ("connections", json!(options.connections)),
            ("timeoutSeconds", json!(options.timeout.as_secs_f64())),
            ("maxInFlight", json!(options.max_in_flight)),
            ("maxLagSeconds", json!(options.max_lag.as_secs_f64())),
            ("seed", json!(options.seed)),
        ];
        let settings = settings.into_iter().chain(shared);
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let mixes = self.clients.iter().map(|(target, _)| {
            let mix = mix_of(options, *target);
            let weights = mix
                .weighted()
                .map(|(scenario, weight)| (scenario.name, weight));
            let weights: BTreeMap<_, _> = weights.collect();
            (format!("scenarios.{}", target.name()), json!(weights))
        });
        self.begun
            .report(kind, &self.targets, settings.chain(mixes), stop)
    }
}

async fn connect(
    options: &LoadOptions,
    targets: &Targets,
    target: Target,
) -> anyhow::Result<Client> {
    let rest = async |url: &str| {
        let client = RestClient::new(url, options.connections, options.timeout)?;
        client.check().await?;
        anyhow::Ok(client)
    };
    match target {
        Target::Edge => Ok(Client::Rest(
            rest(need(&targets.api_url, "api-url")?).await?,
        )),
        Target::Alb => Ok(Client::Rest(
            rest(need(&targets.alb_url, "alb-url")?).await?,
        )),
        Target::Grpc => {
            let addresses = targets.need_grpc()?;
            let orders = if mix_of(options, target).has("orders") {
                let url = need(&targets.order_url, "order-url")?;
                Some(RestClient::new(url, options.connections, options.timeout)?)
            } else {
                None
            };
            let raw = if mix_of(options, target).has(BLOB) {
                raw(options, targets)?
            } else {
                Vec::new()
            };
            let client = Client::grpc(addresses, options.connections, options.timeout, orders);
            Ok(client.await?.with_raw(raw))
        }
    }
}

/// REST at each replica.
fn raw(options: &LoadOptions, targets: &Targets) -> anyhow::Result<Vec<RestClient>> {
    need(targets.http.first().map_or("", String::as_str), "http")?;
    let urls = targets
        .http
        .iter()
        .map(|address| format!("http://{address}"));
    urls.map(|url| RestClient::new(&url, options.connections, options.timeout))
        .collect()
}

/// The callers, and the admins if the dataset has any, signed in, once the data that they read is there.
async fn callers(
    options: &LoadOptions,
    targets: &Targets,
    dataset: Dataset,
    stop: &Stop,
) -> anyhow::Result<(Vec<Arc<Caller>>, Vec<Arc<Caller>>)> {
    if let Some(file) = &options.token_file {
        let callers = Caller::from_file(file)?.into_iter();
        let (admins, callers): (Vec<_>, Vec<_>) =
            callers.partition(|caller| Dataset::is_admin(&caller.tenant));
        if admins.is_empty() && !dataset.admins().is_empty() {
            let problem = "the scenarios blob and secret need a token of an admin: --token-file has none of a tenant lt-admin-*";
            return Err(Usage(problem.to_owned()).into());
        }
        return Ok((callers, admins));
    }
    seeded(targets, dataset, stop).await?;
    let accounts = Arc::new(Accounts::of(targets).await?);
    let tenants = (1..=dataset.tenants).map(Dataset::tenant);
    let tenants = tenants.chain(dataset.admins()).collect();
    let mut callers = world::sign_in(&accounts, tenants, stop).await?;
    anyhow::ensure!(!callers.is_empty(), Interrupted);
    tokio::spawn(tokens::keep_fresh(accounts, callers.clone()));
    let admins = callers.split_off(callers.len().min(dataset.tenants as usize));
    Ok((callers, admins))
}

/// This dataset, made if it is not there.
pub(crate) async fn seeded(
    targets: &Targets,
    wanted: Dataset,
    stop: &Stop,
) -> anyhow::Result<Dataset> {
    let there = Table::of(targets).await?.manifest().await?;
    if !there.is_some_and(|there| there.holds(&wanted)) {
        dataset::seed(targets, wanted, stop).await?;
    }
    Ok(wanted)
}

/// A path as progress shows it.
fn shown(path: &str) -> &str {
    if path == "null" { "baseline" } else { path }
}

/// The phases of `loadtest latency`.
struct Run<'o> {
    options: &'o LatencyOptions,
    bench: &'o Bench,
    stop: Stop,
    phases: Vec<Phase>,
    warnings: Vec<String>,
}

// === impl Run ===

impl Run<'_> {
    /// Every target in every loop, the baseline before it.
    async fn all(&mut self, baseline: &BaselineTarget) -> anyhow::Result<()> {
        for (target, client) in &self.bench.clients {
            let mix = mix_of(&self.options.load, *target);
            let overhead = self.bench.baseline(*target, baseline).await?;
            let overhead = self.bench.load(&Arc::new(overhead));
            let load = self.bench.load(client);
            for loop_kind in &self.options.loops {
                for (path, load) in [("null", &overhead), (target.name(), &load)] {
                    if self.stop.is_set() {
                        return Ok(());
                    }
                    let mut phase = match loop_kind {
                        Loop::Closed => self.closed(path, load, &mix).await?,
                        Loop::Open => self.open(path, load, &mix, self.rate(*target)).await,
                    };
                    phase.null_of = (path == "null").then(|| target.name().to_owned());
                    eprintln!("{}", table::line(&phase));
                    self.phases.push(phase);
                }
            }
        }
        Ok(())
    }

    fn rate(&self, target: Target) -> f64 {
        match target {
            Target::Grpc => self.options.rate,
            Target::Alb | Target::Edge => self.options.rest_rate,
        }
    }

    async fn closed(&mut self, path: &str, load: &Load, mix: &Mix) -> anyhow::Result<Phase> {
        let plan = closed::Plan {
            users: self.options.users,
            warm_up: self.options.warm_up,
            duration: self.options.duration,
        };
        let title = format!("{}, closed loop, {} users", shown(path), plan.users);
        let bar = progress::timing(&title, plan.warm_up + plan.duration, &self.stop);
        let outcome = closed::run(load, mix, plan, &Live::beside(&bar), &self.stop).await?;
        bar.finish_and_clear();
        let tolerance = u64::from(plan.users) * COUNT_TOLERANCE_PER_USER;
        if outcome.goose_requests.abs_diff(outcome.own_requests) > tolerance {
            self.warnings.push(format!(
                "{path}, closed loop: goose counted {} requests and this harness {}",
                outcome.goose_requests, outcome.own_requests
            ));
        }
        let recorder = outcome.recorder;
        Ok(Phase {
            path: path.to_owned(),
            loop_kind: "closed".to_owned(),
            null_of: None,
            seconds: outcome.seconds,
            users: Some(plan.users),
            offered_per_second: None,
            answered_per_second: per_second(recorder.count(), outcome.seconds),
            timeout_seconds: Some(self.options.load.timeout.as_secs_f64()),
            sustained: true,
            not_sustained_because: None,
            lag: None,
            harness_limited_because: None,
            cpu: outcome.cpu,
            goose_requests: Some(outcome.goose_requests),
            series: recorder.series(outcome.seconds, true),
            timeline: recorder.timeline(true),
        })
    }

    async fn open(&self, path: &str, load: &Load, mix: &Mix, rate: f64) -> Phase {
        let options = self.options;
        let title = format!("{}, open loop, {rate}/s", shown(path));
        let bar = progress::timing(&title, options.warm_up + options.duration, &self.stop);
        let plan = |duration| self.bench.plan(rate, duration);
        open_load(
            load.warming(),
            mix.clone(),
            plan(options.warm_up),
            &self.stop,
        )
        .await;
        let send = load.clone().requests(mix.clone());
        let live = Live::beside(&bar);
        let phase = open_phase(plan(options.duration), &self.stop, &live, send).await;
        bar.finish_and_clear();
        Phase {
            path: path.to_owned(),
            harness_limited_because: harness_limited(&phase, options.load.max_lag),
            ..phase
        }
    }
}

// === impl Load ===

impl Load {
    /// The same load with other random requests, so that the warm-up does not cache exactly those that are measured.
    pub(crate) fn warming(&self) -> Self {
        Self {
            seed: self.seed.wrapping_add(1),
            ..self.clone()
        }
    }

    /// Its requests, one for each call.
    pub(crate) fn requests(
        self,
        mix: Mix,
    ) -> impl FnMut(Instant) -> futures::future::BoxFuture<'static, Observation> {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        move |due| {
            let (load, scenario) = (self.clone(), mix.pick(&mut rng));
            let mut own = SmallRng::from_rng(&mut rng);
            Box::pin(async move { load.send(scenario, &mut own, due).await })
        }
    }
}

/// One open loop of a load, with all that it measures.
pub(crate) async fn open_load(load: Load, mix: Mix, plan: open::Plan, stop: &Stop) -> Phase {
    open_phase(plan, stop, &Live::default(), load.requests(mix)).await
}

/// One open loop with all that it measures. `send` gets the time at which its request is due.
pub(crate) async fn open_phase<F, A>(
    plan: open::Plan,
    stop: &Stop,
    live: &Live,
    mut send: F,
) -> Phase
where
    F: FnMut(Instant) -> A + Send + 'static,
    A: Future<Output = Observation> + Send + 'static,
{
    let recorder = Arc::new(Recorder::new(Instant::now()));
    let watch = Stopwatch::start();
    let outcome = {
        let (recorder, live) = (Arc::clone(&recorder), live.clone());
        open::run(plan, stop, move |due| {
            let (recorder, live, request) = (Arc::clone(&recorder), live.clone(), send(due));
            async move {
                recorder.left(due);
                let observation = request.await;
                live.record(&observation);
                recorder.record(observation);
            }
        })
        .await
    };
    let trusted = outcome.not_sustained.is_none();
    let mut phase = Phase {
        path: String::new(),
        loop_kind: "open".to_owned(),
        null_of: None,
        seconds: outcome.seconds,
        users: None,
        offered_per_second: Some(plan.rate),
        answered_per_second: per_second(outcome.answered, outcome.seconds),
        timeout_seconds: Some(plan.timeout.as_secs_f64()),
        sustained: trusted,
        harness_limited_because: outcome
            .not_sustained
            .as_ref()
            .filter(|why| why.by_harness)
            .map(|why| why.reason.clone()),
        not_sustained_because: outcome.not_sustained.map(|why| why.reason),
        lag: Some(quantiles(&outcome.lag)),
        cpu: watch.read(),
        goose_requests: None,
        series: recorder.series(outcome.seconds, trusted),
        timeline: recorder.timeline(trusted),
    };
    phase.harness_limited_because = harness_limited(&phase, MAX_LAG);
    phase
}

/// Why the times of an open loop are the harness's as much as the target's, if they are: it could not send the requests, or
/// the 99th percentile of the lag is above `max_lag` and above a fifth of the answers'. Where the times are withheld, the
/// lag alone decides.
pub(crate) fn harness_limited(phase: &Phase, max_lag: Duration) -> Option<String> {
    if phase.harness_limited_because.is_some() && !phase.sustained {
        return phase.harness_limited_because.clone();
    }
    let lag = phase.lag.as_ref()?;
    let answers = phase.times(|_| true, false);
    let (lag, answers) = (
        // Too few for a percentile: the longest.
        lag.p99_us.unwrap_or(lag.max_us) as f64,
        (!answers.is_empty()).then(|| answers.value_at_quantile(0.99) as f64),
    );
    let limit = (max_lag.as_secs_f64() * 1e6).max(LAG_PART * answers.unwrap_or_default());
    (lag > limit).then(|| {
        let answered = answers.map(|us| format!(" and answered within {}", table::time(us)));
        format!(
            "requests were sent {} after they were due{} (99th percentiles); the lag may be {}: a lower rate, or an idle machine",
            table::time(lag),
            answered.unwrap_or_default(),
            table::time(limit)
        )
    })
}

fn settings(options: &LatencyOptions) -> impl IntoIterator<Item = (&'static str, Value)> {
    let loops: Vec<_> = options.loops.iter().map(|one| one.name()).collect();
    [
        ("users", json!(options.users)),
        ("loops", json!(loops)),
        ("ratePerSecond", json!(options.rate)),
        ("restRatePerSecond", json!(options.rest_rate)),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("warmUpSeconds", json!(options.warm_up.as_secs_f64())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        baseline_target::tests::{SHAPE, started},
        recorder::{Answer, CacheResult, histogram},
        report::tests::sample,
        tokens::tests::callers,
    };

    fn open(answers_us: u64, lag_us: u64) -> Phase {
        let recorder = Recorder::new(Instant::now());
        let mut lag = histogram(3);
        for _ in 0..200 {
            lag.saturating_record(lag_us);
            recorder.record(Observation {
                scenario: "hot",
                operation: "get",
                answer: Answer::good(CacheResult::Hit),
                took: Duration::from_micros(answers_us),
            });
        }
        Phase {
            lag: Some(quantiles(&lag)),
            series: recorder.series(1.0, true),
            ..sample().phases[1].clone()
        }
    }

    #[test]
    fn a_lag_that_is_long_and_a_large_part_of_the_times_limits() {
        let limited = |answers, lag| harness_limited(&open(answers, lag), MAX_LAG);
        assert_eq!(limited(1_500, 900), None, "below a millisecond");
        assert_eq!(limited(20_000, 3_000), None, "below a fifth");
        let why = limited(20_000, 5_000).unwrap();
        assert!(why.contains("5.00 ms") && why.contains("20.0 ms"), "{why}");
        assert!(limited(1_500, 1_200).is_some());
        let any = harness_limited(&open(1_500, 1_200), Duration::from_secs(10));
        assert_eq!(any, None, "--max-lag 10s");
        let withheld = Phase {
            sustained: false,
            series: Vec::new(),
            ..open(1_500, 1_200)
        };
        assert!(
            harness_limited(&withheld, MAX_LAG).is_some(),
            "a rate that was not sustained has a lag only"
        );
        let closed = Phase {
            lag: None,
            ..open(1_500, 1_200)
        };
        assert_eq!(
            harness_limited(&closed, MAX_LAG),
            None,
            "a closed loop has none"
        );
    }

    /// A load of the baseline target in this process.
    async fn load() -> anyhow::Result<Load> {
        let (grpc, url) = started(&SHAPE).await;
        let timeout = Duration::from_secs(10);
        let orders = RestClient::new(&url, 2, timeout)?;
        let client = Client::grpc(&[grpc], 2, timeout, Some(orders)).await?;
        let dataset = Dataset::of(&SHAPE);
        Ok(Load {
            client: Arc::new(client),
            world: Arc::new(World::new(
                callers(&["lt-00001", "lt-00002"]),
                dataset,
                1.0,
            )?),
            seed: 1,
        })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_closed_loop_is_measured_when_all_users_run() -> anyhow::Result<()> {
        let plan = closed::Plan {
            users: 20,
            // Shorter than goose takes to begin them all.
            warm_up: Duration::from_millis(1),
            duration: Duration::from_millis(500),
        };
        let (load, mix) = (load().await?, Mix::default_of(Target::Grpc));
        let (live, stop) = (Live::default(), Stop::default());
        let outcome = closed::run(&load, &mix, plan, &live, &stop).await?;
        assert!((0.5..5.0).contains(&outcome.seconds), "{}", outcome.seconds);
        let measured = outcome.recorder.count();
        assert!(
            measured > 0 && measured < outcome.own_requests,
            "{measured}"
        );
        assert!(outcome.goose_requests.abs_diff(outcome.own_requests) <= 20);
        let series = outcome.recorder.series(outcome.seconds, true);
        assert!(series.iter().all(|one| one.errors.is_empty()), "{series:?}");
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_seed_chooses_the_requests_of_an_open_loop() -> anyhow::Result<()> {
        let load = load().await?;
        let plan = open::Plan {
            rate: 200.0,
            duration: Duration::from_millis(500),
            max_in_flight: 1_000,
            timeout: Duration::from_secs(10),
        };
        let counts = async |load: Load| {
            let mix = Mix::default_of(Target::Grpc);
            let phase = open_load(load, mix, plan, &Stop::default()).await;
            let series = phase.series.iter();
            let counts = series.map(|one| (one.scenario.clone(), one.operation.clone(), one.count));
            counts.collect::<Vec<_>>()
        };
        let first = counts(load.clone()).await;
        assert_eq!(first.iter().map(|(.., count)| count).sum::<u64>(), 100);
        assert_eq!(first, counts(load.clone()).await);
        assert_ne!(
            first,
            counts(load.warming()).await,
            "the warm-up's are others"
        );
        Ok(())
    }
}
