//! `loadtest staleness`: updates at a rate, observers at every place where they must arrive, one clock. Every read is
//! kept, and the checker verifies the whole history.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tonic::transport::Channel;

use crate::{
    Ended, Usage,
    accounts::Accounts,
    cli::{Source, StalenessOptions, distinct},
    client::RestClient,
    figures::expected,
    latency::closed::Load,
    progress,
    report::{Begun, Report, Staleness, finish_after},
    slo,
    staleness::{
        experiment::{Experiment, Plan, Setup, connect_all, read_at, readers},
        judge::Beside,
        observers::{Eye, Observer},
        receipts::Receipts,
    },
    stop::Stop,
    targets::{Targets, need},
};

pub(crate) mod cells;
pub(crate) mod experiment;
pub(crate) mod history;
mod judge;
pub(crate) mod observers;
mod receipts;
pub(crate) mod services;

/// Pause after the setup, so that its events are not measured.
const SETTLE: Duration = Duration::from_secs(1);
/// How long one read through the edge or of a price may take.
const REST_TIMEOUT: Duration = Duration::from_secs(5);
/// Receipts need some time to be in the logs: how often, and how many times they are read.
const LOG_DELAY: Duration = Duration::from_secs(2);
const LOG_ATTEMPTS: u32 = 10;

/// The updates beside one background load.
struct Part<'r> {
    options: &'r StalenessOptions,
    targets: &'r Targets,
    experiment: &'r Experiment,
    lost_after: Duration,
    warnings: &'r mut Vec<String>,
}

/// `loadtest staleness`.
pub(crate) async fn run(options: Box<StalenessOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Begun::now();
    let options = Box::new(StalenessOptions {
        sources: distinct(&options.sources),
        background: distinct(&options.background),
        ..*options
    });
    slo::check(&options.output.slos, &expected::staleness(&options))?;
    options.output.check()?;
    let targets = Targets::find(&options.place).await?;
    let channels = connect_all(targets.need_grpc()?).await?;
    // Before anything is made: what cannot be observed is not measured.
    let observers = observers(&options, &targets, &channels)?;
    let accounts = Arc::new(Accounts::of(&targets).await?);
    let background = if options.background.iter().any(|rate| *rate > 0.0) {
        let (shape, seed) = (&options.shape, options.seed);
        Some(readers(&targets, &targets.grpc, shape, &accounts, &stop, seed).await?)
    } else {
        None
    };
    let mut warnings = Vec::new();
    let setup = Setup {
        targets: &targets,
        accounts,
        sources: options.sources.clone(),
        cells: options.cells,
        service: channels.clone(),
        observers,
        stop: stop.clone(),
    };
    let (mut parts, mut bound) = (Vec::new(), None);
    let measuring = setup.run(async |experiment: Experiment| {
        experiment.try_all().await?;
        let mut part = Part {
            lost_after: lost_after(&options, &experiment, &channels).await?,
            options: &options,
            targets: &targets,
            experiment: &experiment,
            warnings: &mut warnings,
        };
        bound = Some(part.lost_after);
        for rate in &options.background {
            if !experiment.stop.is_set() {
                tokio::time::sleep(SETTLE).await;
                parts.push(part.measure(*rate, background.as_ref()).await?);
            }
        }
        Ok(())
    });
    let ended = measuring.await;
    let report = Report {
        staleness: parts,
        warnings,
        ..begun.report(
            "staleness",
            &targets,
            settings(&options, targets.grpc.len(), bound),
            &stop,
        )
    };
    finish_after(ended, report, &options.output)
}

fn observers(
    options: &StalenessOptions,
    targets: &Targets,
    channels: &[Channel],
) -> anyhow::Result<Vec<Observer>> {
    let mut observers = replicas(targets, channels, options.poll);
    let rest = |url: &str| RestClient::new(url, 2, REST_TIMEOUT);
    if !options.no_edge {
        if targets.api_url.is_empty() {
            return Err(Usage(
                "--api-url is not known: give it, or leave the edge out with --no-edge".to_owned(),
            )
            .into());
        }
        let eye = Eye::Edge(rest(&targets.api_url)?);
        observers.push(Observer::new("the edge".to_owned(), eye, options.edge_poll));
    }
    if !options.no_orders {
        if options.sources.contains(&Source::S3) {
            let problem = "no price depends on a blob: --source s3 needs --no-orders";
            return Err(Usage(problem.to_owned()).into());
        }
        let eye = Eye::Orders(rest(need(&targets.order_url, "order-url")?)?);
        let name = "the price of an order".to_owned();
        observers.push(Observer::new(name, eye, options.edge_poll));
    }
    Ok(observers)
}

/// One observer for each replica; it polls locations that lag at this interval.
pub(crate) fn replicas(targets: &Targets, channels: &[Channel], poll: Duration) -> Vec<Observer> {
    let replicas = targets.grpc.iter().zip(channels);
    replicas
        .map(|(address, channel)| {
            let eye = Eye::Replica(channel.clone());
            Observer::new(format!("replica {address}"), eye, poll)
        })
        .collect()
}

/// The service's own bound, where none is given.
async fn lost_after(
    options: &StalenessOptions,
    experiment: &Experiment,
    channels: &[Channel],
) -> anyhow::Result<Duration> {
    if let Some(given) = options.lost_after {
        return Ok(given);
    }
    let promised = experiment.journal_bound(channels).await?;
    promised.ok_or_else(|| {
        let problem =
            "a replica does not read the journal, so that it promises no bound: give --lost-after";
        Usage(problem.to_owned()).into()
    })
}

impl Part<'_> {
    async fn measure(&mut self, rate: f64, background: Option<&Load>) -> anyhow::Result<Staleness> {
        let (options, stop) = (self.options, &self.experiment.stop);
        let title = format!("updates beside {rate} reads/s");
        let bar = progress::timing(&title, options.duration, stop);
        let start_ms = receipts::now_ms()?;
        let before = services::read(&self.targets.http).await;
        let sources = options.sources.iter();
        let plan = Plan {
            rates: sources
                .map(|source| (*source, self.rate(*source)))
                .collect(),
            duration: options.duration,
            lost_after: self.lost_after,
            seed: options.seed,
        };
        let load = async {
            match background.filter(|_| rate > 0.0) {
                Some(load) => Some(read_at(load.clone(), rate, options.duration, stop).await),
                None => None,
            }
        };
        let run = self.experiment.run(&plan, load, async { Ok(()) }).await;
        bar.finish_and_clear();
        let (observed, load) = run?;
        let services = match (before, services::read(&self.targets.http).await) {
            (Ok(before), Ok(after)) => Some(after.since(&before, self.targets.http.len())),
            (Err(error), _) | (_, Err(error)) => {
                self.warn_once(format!("the replicas' own counts are missing: {error:#}"));
                None
            }
        };
        let receipts = self.receipts(start_ms, observed.updates.len()).await;
        let beside = Beside {
            rate,
            load: load.transpose()?,
            services,
            receipts,
        };
        Ok(self.judge(&observed, beside))
    }

    fn rate(&self, source: Source) -> f64 {
        match source {
            Source::Dynamodb | Source::PutConfig | Source::S3 => self.options.rate,
            Source::ParameterStore => self.options.parameter_rate,
        }
    }

    /// Reads the log until there is a receipt for each update, or no more come.
    async fn receipts(&mut self, start_ms: i64, updates: usize) -> Receipts {
        if self.targets.log_group.is_empty() {
            self.warn_once(
                "no parts of the way are known: --log-group, where the invalidator's receipts are, is not given"
                    .to_owned(),
            );
            return Receipts::new();
        }
        let mut found = Receipts::new();
        for _ in 0..LOG_ATTEMPTS {
            tokio::time::sleep(LOG_DELAY).await;
            match receipts::since(&self.targets.log_group, start_ms).await {
                Ok(receipts) => {
                    let grew = receipts.len() > found.len();
                    found = receipts;
                    if found.len() >= updates || !grew && !found.is_empty() {
                        break;
                    }
                }
                Err(error) => {
                    self.warn_once(format!("the invalidator's receipts are missing: {error:#}"));
                    break;
                }
            }
        }
        if found.is_empty() {
            self.warn_once(format!(
                "the invalidator left no receipts in {}: the parts of the way are not known",
                self.targets.log_group
            ));
        }
        found
    }

    fn warn_once(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn settings(
    options: &StalenessOptions,
    replicas: usize,
    lost_after: Option<Duration>,
) -> impl IntoIterator<Item = (&'static str, serde_json::Value)> {
    let sources: Vec<_> = options.sources.iter().map(|source| source.name()).collect();
    [
        ("replicas", json!(replicas)),
        ("sources", json!(sources)),
        ("background", json!(options.background)),
        ("updatesPerSecond", json!(options.rate)),
        ("parameterUpdatesPerSecond", json!(options.parameter_rate)),
        ("cellsPerSource", json!(options.cells)),
        (
            "lostAfterSeconds",
            json!(lost_after.map(|bound| bound.as_secs_f64())),
        ),
        ("pollSeconds", json!(options.poll.as_secs_f64())),
        ("edgePollSeconds", json!(options.edge_poll.as_secs_f64())),
        ("durationSeconds", json!(options.duration.as_secs_f64())),
        ("seed", json!(options.seed)),
    ]
}
