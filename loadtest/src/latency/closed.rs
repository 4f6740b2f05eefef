//! A closed loop: goose's users, each asking again when it has its answer. Goose runs them and counts too; its count is
//! held against ours.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

use crate::{
    client::Client,
    recorder::{Observation, Recorder},
    scenarios::{Mix, Scenario},
    stop::Stop,
    world::World,
};

/// Who asks whom, and what.
#[derive(Clone)]
pub(crate) struct Load {
    /// How the service is asked.
    pub(crate) client: Arc<Client>,
    /// What scenarios choose from.
    pub(crate) world: Arc<World>,
    /// Seed of the random choices.
    pub(crate) seed: u64,
    /// False: answers are not looked at, since the target says nothing.
    pub(crate) checked: bool,
}

/// How it went.
pub(crate) struct Outcome {
    /// Seconds that were measured.
    pub(crate) seconds: f64,
    /// Requests that goose counted, the warm-up included.
    pub(crate) goose_requests: u64,
    /// Requests that we counted, the warm-up included.
    pub(crate) own_requests: u64,
}

/// How often goose is told to stop.
const KILL_INTERVAL: Duration = Duration::from_millis(50);

/// What a user of goose's keeps: its random numbers.
#[derive(Clone)]
struct Memory(SmallRng);

impl Load {
    /// Asks one question; the answer as it counts.
    pub(crate) async fn ask(
        &self,
        scenario: Scenario,
        rng: &mut SmallRng,
        since: Option<Instant>,
    ) -> Observation {
        let call = (scenario.next)(&self.world, rng);
        let since = since.unwrap_or_else(Instant::now);
        let mut answer = self.client.ask(&call.caller, &call.question).await;
        let took = since.elapsed();
        if !self.checked && answer.error.as_deref() == Some("wrong value") {
            answer = crate::recorder::Answer::good(crate::recorder::CacheResult::None);
        }
        Observation {
            scenario: scenario.name,
            operation: call.question.operation(),
            answer,
            took,
        }
    }
}

/// Runs so many users, first unmeasured, then measured.
pub(crate) async fn run(
    load: &Load,
    mix: &Mix,
    users: u32,
    warm_up: Duration,
    duration: Duration,
    recorder: &Arc<Recorder>,
    stop: &Stop,
) -> anyhow::Result<Outcome> {
    let measuring = Arc::new(AtomicBool::new(false));
    let counted = Arc::new(AtomicU64::new(0));
    let mut configuration = GooseConfiguration::default();
    // Nothing is fetched from there: every request is a custom one.
    configuration.host = Some("http://127.0.0.1".to_owned());
    configuration.users = Some(users as usize);
    configuration.increase_rate = Some(users.to_string());
    configuration.quiet = 3;
    configuration.no_telnet = true;
    configuration.no_print_metrics = true;
    configuration.no_error_summary = true;
    configuration.no_reset_metrics = true;
    configuration.no_transaction_metrics = true;
    configuration.no_scenario_metrics = true;
    let mut attack = GooseAttack::initialize_with_config(configuration).context("goose")?;
    // One scenario of goose's for all: it gives each user one for good, and few users would not keep the weights.
    let question = Transaction::new(user_of(load, mix, &measuring, recorder, &counted));
    attack = attack.register_scenario(GooseScenario::new("mix").register_transaction(question));
    let ended = Stop::default();
    let timer = {
        let (measuring, stop, ended) = (Arc::clone(&measuring), stop.clone(), ended.clone());
        tokio::spawn(async move {
            let mut seconds = 0.0;
            if wait(warm_up, &stop).await {
                measuring.store(true, Ordering::Release);
                let begun = Instant::now();
                wait(duration, &stop).await;
                measuring.store(false, Ordering::Release);
                seconds = begun.elapsed().as_secs_f64();
            }
            // More than once: goose forgets what it was told before it began.
            while !ended.is_set() {
                goose::trigger_killswitch("measured");
                tokio::time::sleep(KILL_INTERVAL).await;
            }
            seconds
        })
    };
    let metrics = Box::pin(attack.execute()).await.context("goose");
    ended.set();
    let seconds = timer.await?;
    let goose_requests: usize = metrics?
        .requests
        .values()
        .map(|request| request.success_count + request.fail_count)
        .sum();
    Ok(Outcome {
        seconds,
        goose_requests: u64::try_from(goose_requests).unwrap_or(u64::MAX),
        own_requests: counted.load(Ordering::Acquire),
    })
}

type Future<'u> = Pin<Box<dyn std::future::Future<Output = TransactionResult> + Send + 'u>>;
type Function = Arc<dyn for<'u> Fn(&'u mut GooseUser) -> Future<'u> + Send + Sync>;

/// One question after the other, as goose calls it.
fn user_of(
    load: &Load,
    mix: &Mix,
    measuring: &Arc<AtomicBool>,
    recorder: &Arc<Recorder>,
    counted: &Arc<AtomicU64>,
) -> Function {
    let (load, mix, measuring) = (load.clone(), Arc::new(mix.clone()), Arc::clone(measuring));
    let (recorder, counted) = (Arc::clone(recorder), Arc::clone(counted));
    Arc::new(move |user| {
        let (load, mix, measuring) = (load.clone(), Arc::clone(&mix), Arc::clone(&measuring));
        let (recorder, counted) = (Arc::clone(&recorder), Arc::clone(&counted));
        Box::pin(async move {
            if user.get_session_data::<Memory>().is_none() {
                let number = user.weighted_users_index as u64;
                user.set_session_data(Memory(SmallRng::seed_from_u64(load.seed ^ (number << 32))));
            }
            let Some(Memory(rng)) = user.get_session_data_mut::<Memory>() else {
                return Ok(());
            };
            // What began in time counts, also if its answer comes late or never.
            let counts = measuring.load(Ordering::Acquire);
            let scenario = mix.pick(rng);
            let observation = load.ask(scenario, rng, None).await;
            let error = observation.answer.error.clone();
            user.record_custom_request_duration(
                observation.scenario,
                observation.operation,
                observation.took,
                error.is_none(),
                None,
                error.as_deref(),
            )
            .await?;
            counted.fetch_add(1, Ordering::AcqRel);
            if counts {
                recorder.record(observation);
            }
            Ok(())
        })
    })
}

/// False if it was stopped before.
async fn wait(duration: Duration, stop: &Stop) -> bool {
    tokio::select! {
        () = tokio::time::sleep(duration) => true,
        () = stop.wait() => false,
    }
}
