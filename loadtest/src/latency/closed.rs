//! A closed loop: goose's users, each of which sends a request when it has the answer to the last one. Goose runs them and
//! counts, too; its count is compared with ours.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use goose::{
    GooseAttack,
    config::GooseConfiguration,
    goose::{GooseUser, Scenario as GooseScenario, Transaction, TransactionResult},
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::sync::Notify;

use crate::{
    client::Client,
    environment::Stopwatch,
    progress::Live,
    recorder::{Observation, Recorder},
    report::Cpu,
    scenarios::{Mix, Scenario},
    stop::Stop,
    world::World,
};

/// A load: a client, and what its requests are chosen from.
#[derive(Clone)]
pub(crate) struct Load {
    /// How the service is called.
    pub(crate) client: Arc<Client>,
    /// What scenarios choose from.
    pub(crate) world: Arc<World>,
    /// Seed of the random choices.
    pub(crate) seed: u64,
}

/// So many users, for a time.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Users.
    pub(crate) users: u32,
    /// How long they run before they are measured, from when the last of them began.
    pub(crate) warm_up: Duration,
    /// How long they are measured.
    pub(crate) duration: Duration,
}

/// How it went.
pub(crate) struct Outcome {
    /// Seconds that were measured.
    pub(crate) seconds: f64,
    /// What was measured.
    pub(crate) recorder: Arc<Recorder>,
    /// CPU use during the measurement.
    pub(crate) cpu: Cpu,
    /// Requests that goose counted, the warm-up included.
    pub(crate) goose_requests: u64,
    /// Requests that we counted, the warm-up included.
    pub(crate) own_requests: u64,
}

/// Interval at which goose is told to stop, since it loses a stop that is sent before it has started.
const KILL_INTERVAL: Duration = Duration::from_millis(50);
/// Goose begins all users within this part of a second.
const STARTS_A_SECOND: u32 = 10;

/// What all users share.
struct Shared {
    load: Load,
    mix: Mix,
    live: Live,
    users: u32,
    started: AtomicU32,
    all_started: Notify,
    /// There from the end of the warm-up.
    recorder: OnceLock<Arc<Recorder>>,
    over: AtomicBool,
    counted: AtomicU64,
}

/// What goose keeps for a user: its random numbers.
#[derive(Clone)]
struct Memory(SmallRng);

impl Load {
    /// Sends one request, timed from `since`.
    pub(crate) async fn send(
        &self,
        scenario: Scenario,
        rng: &mut SmallRng,
        since: Instant,
    ) -> Observation {
        let call = (scenario.next)(&self.world, rng);
        let answer = self.client.send(&call.caller, &call.operation).await;
        Observation {
            scenario: scenario.name,
            operation: call.operation.name(),
            answer,
            took: since.elapsed(),
        }
    }
}

/// Runs so many users, first unmeasured, then measured.
pub(crate) async fn run(
    load: &Load,
    mix: &Mix,
    plan: Plan,
    live: &Live,
    stop: &Stop,
) -> anyhow::Result<Outcome> {
    let shared = Arc::new(Shared {
        load: load.clone(),
        mix: mix.clone(),
        live: live.clone(),
        users: plan.users,
        started: AtomicU32::new(0),
        all_started: Notify::new(),
        recorder: OnceLock::new(),
        over: AtomicBool::new(false),
        counted: AtomicU64::new(0),
    });
    let mut configuration = GooseConfiguration::default();
    // Nothing is fetched from there: every request is a custom one.
    configuration.host = Some("http://127.0.0.1".to_owned());
    configuration.users = Some(plan.users as usize);
    configuration.increase_rate = Some((plan.users * STARTS_A_SECOND).to_string());
    configuration.quiet = 3;
    configuration.no_telnet = true;
    configuration.no_print_metrics = true;
    configuration.no_error_summary = true;
    configuration.no_reset_metrics = true;
    configuration.no_transaction_metrics = true;
    configuration.no_scenario_metrics = true;
    let mut attack = GooseAttack::initialize_with_config(configuration).context("goose")?;
    // One scenario of goose's for all: it gives each user one for good, and few users would not keep the weights.
    let transaction = Transaction::new(user_of(&shared));
    attack = attack.register_scenario(GooseScenario::new("mix").register_transaction(transaction));
    let ended = Stop::default();
    let timer = tokio::spawn(time(Arc::clone(&shared), plan, stop.clone(), ended.clone()));
    let metrics = Box::pin(attack.execute()).await.context("goose");
    ended.set();
    let (seconds, cpu) = timer.await?;
    let goose_requests: usize = metrics?
        .requests
        .values()
        .map(|request| request.success_count + request.fail_count)
        .sum();
    let own_requests = shared.counted.load(Ordering::Acquire);
    Ok(Outcome {
        seconds,
        // A run that was stopped in the warm-up has none.
        recorder: Arc::clone(shared.recorder.get_or_init(new_recorder)),
        cpu,
        goose_requests: u64::try_from(goose_requests).unwrap_or(u64::MAX),
        own_requests,
    })
}

/// Measures for a time, and stops goose. Returns the seconds that were measured.
async fn time(shared: Arc<Shared>, plan: Plan, stop: Stop, ended: Stop) -> (f64, Cpu) {
    let mut measured = (0.0, Cpu::default());
    let warmed_up = async {
        shared.all_started.notified().await;
        tokio::time::sleep(plan.warm_up).await;
    };
    let is_warm = tokio::select! {
        () = warmed_up => true,
        () = stop.wait() => false,
        () = ended.wait() => false,
    };
    if is_warm {
        let (begun, watch) = (Instant::now(), Stopwatch::start());
        shared.recorder.get_or_init(new_recorder);
        tokio::select! {
            () = tokio::time::sleep(plan.duration) => {}
            () = stop.wait() => {}
        }
        shared.over.store(true, Ordering::Release);
        measured = (begun.elapsed().as_secs_f64(), watch.read());
    }
    while !ended.is_set() {
        goose::trigger_killswitch("measured");
        tokio::time::sleep(KILL_INTERVAL).await;
    }
    measured
}

fn new_recorder() -> Arc<Recorder> {
    Arc::new(Recorder::new(Instant::now()))
}

type Future<'u> = Pin<Box<dyn std::future::Future<Output = TransactionResult> + Send + 'u>>;
type Function = Arc<dyn for<'u> Fn(&'u mut GooseUser) -> Future<'u> + Send + Sync>;

/// One request after the other, as goose calls it.
fn user_of(shared: &Arc<Shared>) -> Function {
    let shared = Arc::clone(shared);
    Arc::new(move |user| {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            if user.get_session_data::<Memory>().is_none() {
                let number = user.weighted_users_index as u64;
                let seed = shared.load.seed ^ (number << 32);
                user.set_session_data(Memory(SmallRng::seed_from_u64(seed)));
                if shared.started.fetch_add(1, Ordering::AcqRel) + 1 == shared.users {
                    shared.all_started.notify_one();
                }
            }
            let Some(Memory(rng)) = user.get_session_data_mut::<Memory>() else {
                return Ok(());
            };
            // What began in time counts, also if its answer comes late or never.
            let is_over = shared.over.load(Ordering::Acquire);
            let recorder = shared.recorder.get().filter(|_| !is_over);
            let scenario = shared.mix.pick(rng);
            let observation = shared.load.send(scenario, rng, Instant::now()).await;
            let error = observation.answer.error.as_deref();
            user.record_custom_request_duration(
                observation.scenario,
                observation.operation,
                observation.took,
                error.is_none(),
                None,
                error,
            )
            .await?;
            shared.counted.fetch_add(1, Ordering::AcqRel);
            if let Some(recorder) = recorder {
                shared.live.record(&observation);
                recorder.record(observation);
            }
            Ok(())
        })
    })
}
