//! `loadtest latency`: each target in each loop, the baseline target before it, and one report of all.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;

use crate::{
    Ended, Interrupted, Usage,
    accounts::Accounts,
    baseline_target::BaselineTarget,
    cli::{LatencyOptions, Loop, Target, distinct},
    client::{Client, RestClient},
    dataset::{self, Dataset, Table},
    environment::{Environment, Stopwatch},
    figures::expected,
    latency::closed::Load,
    progress,
    recorder::{Recorder, per_second},
    report::{FORMAT, Phase, Report, finish},
    scenarios::{HOT, Mix},
    slo,
    stop::Stop,
    targets::{Targets, need},
    tokens::{self, Caller},
    world::{self, World},
};

pub(crate) mod closed;
pub(crate) mod open;

/// How long the baseline target is measured, at most.
const BASELINE_DURATION: Duration = Duration::from_secs(4);
/// And warmed up.
const BASELINE_WARM_UP: Duration = Duration::from_secs(1);
/// Goose and this harness may differ in what they counted by what a user had under way at the end.
const COUNT_TOLERANCE_PER_USER: u64 = 1;

/// What the phases share.
struct Run<'o> {
    options: &'o LatencyOptions,
    world: Arc<World>,
    stop: Stop,
    phases: Vec<Phase>,
    warnings: Vec<String>,
}

/// `loadtest latency`.
pub(crate) async fn run(options: Box<LatencyOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let started_at = crate::report::now();
    let options = Box::new(LatencyOptions {
        targets: distinct(&options.targets),
        loops: distinct(&options.loops),
        ..*options
    });
    for target in &options.targets {
        let mix = mix_of(&options, *target);
        if *target == Target::Grpc && !mix.fits_grpc() {
            return Err(Usage(
                "the scenario rest has no gRPC form: use --target edge or alb, or leave it out"
                    .to_owned(),
            )
            .into());
        }
    }
    slo::check(&options.output.slos, &expected::latency(&options))?;
    options.output.check()?;
    let targets = Targets::find(&options.place).await?;
    let mut clients = Vec::new();
    for target in &options.targets {
        clients.push((
            *target,
            Arc::new(connect(&options, &targets, *target).await?),
        ));
    }
    let (callers, dataset) = callers(&options, &targets, &stop).await?;
    let mut run = Run {
        world: Arc::new(World::new(callers, dataset, options.zipf)?),
        options: &options,
        stop,
        phases: Vec::new(),
        warnings: Vec::new(),
    };
    let null = BaselineTarget::start().await?;
    for (target, client) in clients {
        let null_client = Arc::new(match target {
            Target::Grpc => {
                Client::grpc(
                    std::slice::from_ref(&null.grpc),
                    options.connections,
                    options.timeout,
                    None,
                )
                .await?
            }
            Target::Alb | Target::Edge => Client::Rest(RestClient::new(
                &null.url,
                options.connections,
                options.timeout,
            )?),
        });
        for loop_kind in &options.loops {
            if run.stop.is_set() {
                break;
            }
            run.null_phase(target, *loop_kind, null_client.clone())
                .await?;
            if run.stop.is_set() {
                break;
            }
            run.phase(target, *loop_kind, client.clone()).await?;
        }
    }
    let report = Report {
        format: FORMAT.to_owned(),
        kind: "latency".to_owned(),
        started_at,
        seconds: begun.elapsed().as_secs_f64(),
        interrupted: run.stop.is_set(),
        environment: Environment::observe(&targets),
        settings: settings(&options, dataset),
        warnings: run.warnings,
        phases: run.phases,
        staleness: Vec::new(),
        neighbours: Vec::new(),
        chaos: Vec::new(),
        watchers: None,
        slos: Vec::new(),
    };
    finish(report, &options.output)
}

fn mix_of(options: &LatencyOptions, target: Target) -> Mix {
    options
        .scenarios
        .clone()
        .unwrap_or_else(|| Mix::default_of(target))
}

async fn connect(
    options: &LatencyOptions,
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
            Client::grpc(addresses, options.connections, options.timeout, orders).await
        }
    }
}

/// The callers, signed in, and the data that they read, seeded if need be.
async fn callers(
    options: &LatencyOptions,
    targets: &Targets,
    stop: &Stop,
) -> anyhow::Result<(Vec<Arc<Caller>>, Dataset)> {
    if let Some(file) = &options.token_file {
        let caller = Caller::from_file(file)?;
        let dataset = Dataset::of(&options.shape);
        return Ok((vec![Arc::new(caller)], dataset));
    }
    let dataset = seeded(targets, Dataset::of(&options.shape), stop).await?;
    let accounts = Arc::new(Accounts::of(targets).await?);
    let tenants = (1..=dataset.tenants).map(Dataset::tenant).collect();
    let callers = world::sign_in(&accounts, tenants, stop).await?;
    anyhow::ensure!(!callers.is_empty(), Interrupted);
    tokio::spawn(tokens::keep_fresh(accounts, callers.clone()));
    Ok((callers, dataset))
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

impl Run<'_> {
    async fn null_phase(
        &mut self,
        target: Target,
        loop_kind: Loop,
        client: Arc<Client>,
    ) -> anyhow::Result<()> {
        let load = self.load(client, false);
        let duration = BASELINE_DURATION.min(self.options.duration);
        let mix: Mix = HOT.name.parse().map_err(anyhow::Error::msg)?;
        let mut phase = match loop_kind {
            Loop::Closed => {
                self.closed("null", load, &mix, BASELINE_WARM_UP, duration)
                    .await?
            }
            Loop::Open => {
                self.open(
                    "null",
                    load,
                    &mix,
                    self.rate(target),
                    BASELINE_WARM_UP,
                    duration,
                )
                .await
            }
        };
        phase.null_of = Some(target.name().to_owned());
        self.phases.push(phase);
        Ok(())
    }

    async fn phase(
        &mut self,
        target: Target,
        loop_kind: Loop,
        client: Arc<Client>,
    ) -> anyhow::Result<()> {
        let (load, mix) = (self.load(client, true), mix_of(self.options, target));
        let (warm_up, duration) = (self.options.warm_up, self.options.duration);
        let phase = match loop_kind {
            Loop::Closed => {
                self.closed(target.name(), load, &mix, warm_up, duration)
                    .await?
            }
            Loop::Open => {
                self.open(
                    target.name(),
                    load,
                    &mix,
                    self.rate(target),
                    warm_up,
                    duration,
                )
                .await
            }
        };
        self.phases.push(phase);
        Ok(())
    }

    fn load(&self, client: Arc<Client>, checked: bool) -> Load {
        Load {
            client,
            world: Arc::clone(&self.world),
            seed: self.options.seed,
            checked,
        }
    }

    fn rate(&self, target: Target) -> f64 {
        match target {
            Target::Grpc => self.options.rate,
            Target::Alb | Target::Edge => self.options.rest_rate,
        }
    }

    async fn closed(
        &mut self,
        path: &str,
        load: Load,
        mix: &Mix,
        warm_up: Duration,
        duration: Duration,
    ) -> anyhow::Result<Phase> {
        let users = self.options.users;
        let bar = progress::timing(
            &format!("{path}, closed loop, {users} users"),
            warm_up + duration,
            &self.stop,
        );
        let recorder = Arc::new(Recorder::new(Instant::now() + warm_up));
        let watch = Stopwatch::start();
        let outcome =
            closed::run(&load, mix, users, warm_up, duration, &recorder, &self.stop).await?;
        bar.finish_and_clear();
        let tolerance = u64::from(users) * COUNT_TOLERANCE_PER_USER;
        if outcome.goose_requests.abs_diff(outcome.own_requests) > tolerance {
            self.warnings.push(format!(
                "{path}, closed loop: goose counted {} requests and this harness {}",
                outcome.goose_requests, outcome.own_requests
            ));
        }
        Ok(Phase {
            path: path.to_owned(),
            loop_kind: "closed".to_owned(),
            null_of: None,
            seconds: outcome.seconds,
            users: Some(users),
            offered_per_second: None,
            answered_per_second: per_second(recorder.count(), outcome.seconds),
            timeout_seconds: Some(self.options.timeout.as_secs_f64()),
            sustained: true,
            not_sustained_because: None,
            lag: None,
            cpu: watch.read(),
            goose_requests: Some(outcome.goose_requests),
            series: recorder.series(outcome.seconds, true),
            timeline: recorder.timeline(true),
        })
    }

    async fn open(
        &mut self,
        path: &str,
        load: Load,
        mix: &Mix,
        rate: f64,
        warm_up: Duration,
        duration: Duration,
    ) -> Phase {
        let options = self.options;
        let bar = progress::timing(
            &format!("{path}, open loop, {rate}/s"),
            warm_up + duration,
            &self.stop,
        );
        let plan = |duration| open::Plan {
            rate,
            duration,
            max_in_flight: options.max_in_flight,
            timeout: options.timeout,
        };
        // Other questions than those that are measured: it is the cache's work to have them, not ours.
        let warming = Load {
            seed: load.seed.wrapping_add(1),
            ..load.clone()
        };
        open_load(warming, mix.clone(), plan(warm_up), &self.stop).await;
        let phase = open_load(load, mix.clone(), plan(duration), &self.stop).await;
        bar.finish_and_clear();
        Phase {
            path: path.to_owned(),
            ..phase
        }
    }
}

/// One open loop with all that it measures.
pub(crate) async fn open_load(load: Load, mix: Mix, plan: open::Plan, stop: &Stop) -> Phase {
    let recorder = Arc::new(Recorder::new(Instant::now()));
    let watch = Stopwatch::start();
    let rng = Arc::new(Mutex::new(SmallRng::seed_from_u64(load.seed)));
    let outcome = {
        let recorder = Arc::clone(&recorder);
        open::run(plan, stop, move |due| {
            let (load, recorder) = (load.clone(), Arc::clone(&recorder));
            let (scenario, mut own) = {
                let mut rng = rng.lock();
                (mix.pick(&mut rng), SmallRng::from_rng(&mut *rng))
            };
            async move {
                recorder.left(due);
                let observation = load.ask(scenario, &mut own, Some(due)).await;
                recorder.record(observation);
            }
        })
        .await
    };
    let trusted = outcome.not_sustained.is_none();
    Phase {
        path: String::new(),
        loop_kind: "open".to_owned(),
        null_of: None,
        seconds: outcome.seconds,
        users: None,
        offered_per_second: Some(plan.rate),
        answered_per_second: per_second(outcome.answered, outcome.seconds),
        timeout_seconds: Some(plan.timeout.as_secs_f64()),
        sustained: trusted,
        not_sustained_because: outcome.not_sustained,
        lag: Some(outcome.lag),
        cpu: watch.read(),
        goose_requests: None,
        series: recorder.series(outcome.seconds, trusted),
        timeline: recorder.timeline(trusted),
    }
}

fn settings(options: &LatencyOptions, dataset: Dataset) -> BTreeMap<String, serde_json::Value> {
    let mut settings = BTreeMap::from([
        ("tenants".to_owned(), json!(dataset.tenants)),
        ("keysPerTenant".to_owned(), json!(dataset.keys)),
        ("valueBytes".to_owned(), json!(dataset.value_bytes)),
        ("zipf".to_owned(), json!(options.zipf)),
        ("users".to_owned(), json!(options.users)),
        ("ratePerSecond".to_owned(), json!(options.rate)),
        ("restRatePerSecond".to_owned(), json!(options.rest_rate)),
        (
            "durationSeconds".to_owned(),
            json!(options.duration.as_secs_f64()),
        ),
        ("connections".to_owned(), json!(options.connections)),
        (
            "warmUpSeconds".to_owned(),
            json!(options.warm_up.as_secs_f64()),
        ),
        (
            "timeoutSeconds".to_owned(),
            json!(options.timeout.as_secs_f64()),
        ),
        ("seed".to_owned(), json!(options.seed)),
    ]);
    for target in &options.targets {
        let mix = mix_of(options, *target);
        let weights: BTreeMap<_, _> = mix
            .weighted()
            .map(|(scenario, weight)| (scenario.name, weight))
            .collect();
        settings.insert(format!("scenarios.{}", target.name()), json!(weights));
    }
    settings
}
