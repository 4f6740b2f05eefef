//! `loadtest staleness`: updates at a rate, observers at every place where they must arrive, one clock. Every read is
//! kept, and the checker judges the whole history.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    Ended, Interrupted, Usage,
    accounts::{Accounts, Role},
    cli::{Source, StalenessOptions, distinct},
    client::{self, Client, RestClient},
    dataset::Dataset,
    environment::Environment,
    latency::{self, closed::Load, open},
    progress,
    report::{FORMAT, Phase, Report, Staleness, finish},
    scenarios::HOT,
    slo::{self, Measured},
    staleness::{
        cells::{Cell, Clock, Updates, Writer, update_at},
        judge::Observed,
        observers::{Eye, Notes, Observer},
        receipts::Receipts,
    },
    stop::Stop,
    targets::{Targets, need},
    tokens,
    world::{self, World},
};

pub(crate) mod cells;
pub(crate) mod history;
mod judge;
pub(crate) mod observers;
mod receipts;
pub(crate) mod services;

/// Seeds of updated tenants under way at once.
const AT_ONCE: usize = 8;
/// Between what was made and what is measured, so that the one's events are no part of the other.
const SETTLE: Duration = Duration::from_secs(1);
/// Connections of the background load to each replica, and how long one of its questions may take.
const BACKGROUND_CONNECTIONS: u32 = 2;
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_IN_FLIGHT: u32 = 10_000;
/// Receipts need some time to be in the logs: how often, and how many times they are asked for.
const LOG_DELAY: Duration = Duration::from_secs(2);
const LOG_ATTEMPTS: u32 = 10;

/// What all parts of a run share.
struct Bench<'o> {
    options: &'o StalenessOptions,
    targets: Targets,
    cells: Arc<Vec<Arc<Cell>>>,
    writer: Arc<Writer>,
    observers: Vec<Arc<Observer>>,
    clock: Clock,
    stop: Stop,
    warnings: Vec<String>,
}

/// `loadtest staleness`.
pub(crate) async fn run(options: Box<StalenessOptions>, stop: Stop) -> anyhow::Result<Ended> {
    let begun = Instant::now();
    let started_at = crate::report::now();
    let options = Box::new(StalenessOptions {
        sources: distinct(&options.sources),
        background: distinct(&options.background),
        ..*options
    });
    slo::check(&options.output.slos, &Measured::staleness(&options))?;
    options.output.check()?;
    let targets = Targets::find(&options.place).await?;
    // Before anything is made: what cannot be observed is not measured.
    observers(&options, &targets, &[], 0)?;
    let channels = connect(targets.need_grpc()?).await?;
    let writer = Arc::new(Writer::of(&targets, &options.sources, channels.clone()).await?);
    let accounts = Arc::new(Accounts::of(&targets).await?);
    let background = if options.background.iter().any(|rate| *rate > 0.0) {
        Some(background(&options, &targets, &accounts, &stop).await?)
    } else {
        None
    };
    let tenants = tenants(options.cells, &options.sources);
    let made = prepare(
        options.cells,
        &options.sources,
        &tenants,
        &accounts,
        &writer,
        &stop,
    )
    .await;
    let result = match made {
        Ok(cells) => {
            let bench = Bench {
                observers: observers(&options, &targets, &channels, cells.len())?,
                cells: Arc::new(cells),
                writer: Arc::clone(&writer),
                clock: Clock(Instant::now()),
                stop: stop.clone(),
                warnings: Vec::new(),
                options: &options,
                targets: targets.clone(),
            };
            measure(bench, background).await
        }
        Err(error) => Err(error),
    };
    clean_up(
        options.cells,
        &options.sources,
        &tenants,
        &accounts,
        &writer,
    )
    .await;
    let (parts, warnings) = result?;
    let report = Report {
        format: FORMAT.to_owned(),
        kind: "staleness".to_owned(),
        started_at,
        seconds: begun.elapsed().as_secs_f64(),
        interrupted: stop.is_set(),
        environment: Environment::observe(&targets),
        settings: settings(&options, targets.grpc.len()),
        warnings,
        phases: Vec::new(),
        staleness: parts,
        neighbours: Vec::new(),
        capacity: Vec::new(),
        soak: None,
        slos: Vec::new(),
    };
    finish(report, &options.output)
}

pub(crate) async fn connect(addresses: &[String]) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for address in addresses {
        channels.push(client::connect(address).await?);
    }
    Ok(channels)
}

/// The readers of the background load.
async fn background(
    options: &StalenessOptions,
    targets: &Targets,
    accounts: &Arc<Accounts>,
    stop: &Stop,
) -> anyhow::Result<Load> {
    let dataset = latency::seeded(targets, Dataset::of(&options.shape), stop).await?;
    let tenants = (1..=dataset.tenants).map(Dataset::tenant).collect();
    let callers = world::sign_in(accounts, tenants, stop).await?;
    anyhow::ensure!(!callers.is_empty(), Interrupted);
    tokio::spawn(tokens::keep_fresh(Arc::clone(accounts), callers.clone()));
    let client = Client::grpc(
        &targets.grpc,
        BACKGROUND_CONNECTIONS,
        BACKGROUND_TIMEOUT,
        None,
    )
    .await?;
    Ok(Load {
        client: Arc::new(client),
        world: Arc::new(World::new(callers, dataset, 1.0)?),
        seed: 1,
    })
}

/// Ids of the tenants whose locations are updated, new ones in each run: nothing of an older run is in the way. Those of
/// PutConfig come after those of AWS's own APIs, which share an item and a parameter each.
pub(crate) fn tenants(cells: u32, sources: &[Source]) -> Vec<String> {
    let run = &uuid::Uuid::new_v4().simple().to_string()[..6];
    let through_service = sources.contains(&Source::PutConfig);
    let count = cells * if through_service { 2 } else { 1 };
    (1..=count)
        .map(|number| format!("lt-s{run}-{number:03}"))
        .collect()
}

/// Makes the tenants, and the location of each source for each of the first `cells`; PutConfig has tenants of its own.
pub(crate) async fn prepare(
    cells_of_source: u32,
    sources: &[Source],
    tenants: &[String],
    accounts: &Arc<Accounts>,
    writer: &Arc<Writer>,
    stop: &Stop,
) -> anyhow::Result<Vec<Arc<Cell>>> {
    let bar = progress::counting("making tenants to update", tenants.len() as u64);
    stream::iter(tenants)
        .map(|tenant| {
            let (accounts, bar) = (Arc::clone(accounts), bar.clone());
            async move {
                accounts.ensure(tenant, Role::Writer).await?;
                bar.inc(1);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    bar.finish_and_clear();
    let callers = world::sign_in(accounts, tenants.to_vec(), stop).await?;
    anyhow::ensure!(callers.len() == tenants.len(), Interrupted);
    tokio::spawn(tokens::keep_fresh(Arc::clone(accounts), callers.clone()));
    let mut cells = Vec::new();
    for (number, caller) in (1_u32..).zip(&callers) {
        let through_service = number > cells_of_source;
        for source in sources {
            if (*source == Source::PutConfig) == through_service {
                cells.push(Arc::new(Cell::new(*source, Arc::clone(caller), number)));
            }
        }
        // Every tenant has an item, so that order-service can price.
        if !through_service && !sources.contains(&Source::Dynamodb) {
            writer
                .prepare(&Cell::new(Source::Dynamodb, Arc::clone(caller), number))
                .await?;
        }
    }
    for cell in &cells {
        writer.prepare(cell).await?;
    }
    Ok(cells)
}

/// Removes what was made; says what could not be.
pub(crate) async fn clean_up(
    cells: u32,
    sources: &[Source],
    tenants: &[String],
    accounts: &Arc<Accounts>,
    writer: &Arc<Writer>,
) {
    for (number, tenant) in (1_u32..).zip(tenants) {
        let removed = async {
            writer.table.clear(tenant).await?;
            if sources.contains(&Source::ParameterStore) && number <= cells {
                writer.remove_parameter(tenant).await?;
            }
            accounts.remove(tenant).await
        };
        if let Err(error) = removed.await {
            eprintln!("warning: tenant {tenant} could not be removed: {error:#}");
        }
    }
}

fn observers(
    options: &StalenessOptions,
    targets: &Targets,
    channels: &[Channel],
    cells: usize,
) -> anyhow::Result<Vec<Arc<Observer>>> {
    let mut observers = Vec::new();
    for (address, channel) in targets.grpc.iter().zip(channels) {
        observers.push(Observer::new(
            format!("replica {address}"),
            true,
            Eye::Replica(channel.clone()),
            options.poll,
            cells,
        ));
    }
    let rest = |url: &str| RestClient::new(url, 2, Duration::from_secs(5));
    if !options.no_edge {
        if targets.api_url.is_empty() {
            return Err(Usage(
                "--api-url is not known: give it, or leave the edge out with --no-edge".to_owned(),
            )
            .into());
        }
        let eye = Eye::Edge(rest(&targets.api_url)?);
        observers.push(Observer::new(
            "the edge".to_owned(),
            true,
            eye,
            options.edge_poll,
            cells,
        ));
    }
    if !options.no_orders {
        let url = need(&targets.order_url, "order-url")?;
        let eye = Eye::Orders(rest(url)?);
        observers.push(Observer::new(
            "the price of an order".to_owned(),
            false,
            eye,
            options.edge_poll,
            cells,
        ));
    }
    Ok(observers.into_iter().map(Arc::new).collect())
}

/// A part for each background load.
async fn measure(
    mut bench: Bench<'_>,
    background: Option<Load>,
) -> anyhow::Result<(Vec<Staleness>, Vec<String>)> {
    for observer in &bench.observers {
        // Also fills every cache: what is measured is a change that is pushed, not a miss.
        if let Err(reason) = observer.try_all(&bench.cells).await {
            bail!("an observer cannot see what is to be updated: {reason}");
        }
    }
    let mut parts = Vec::new();
    for rate in &bench.options.background.clone() {
        if bench.stop.is_set() {
            break;
        }
        tokio::time::sleep(SETTLE).await;
        let part = bench.part(*rate, background.as_ref()).await?;
        parts.push(part);
    }
    Ok((parts, bench.warnings))
}

impl Bench<'_> {
    async fn part(&mut self, rate: f64, background: Option<&Load>) -> anyhow::Result<Staleness> {
        let options = self.options;
        let bar = progress::timing(
            &format!("updates beside {rate} reads/s"),
            options.duration,
            &self.stop,
        );
        let start_ms = receipts::now_ms()?;
        let before = self.counters().await;
        let probing = Stop::default();
        let notes = Arc::new(Notes::default());
        let mut watches =
            observers::watch_all(&self.observers, &self.cells, &notes, self.clock, &probing);
        let (begun, begun_us) = (Instant::now(), self.clock.us());
        let before_versions: Vec<_> = self
            .cells
            .iter()
            .map(|cell| cell.issued.load(Ordering::Acquire))
            .collect();
        let load = self.background(rate, background);
        let mut writers = JoinSet::new();
        for source in options.sources.clone() {
            let (cells, writer) = (self.cells_of(source), Arc::clone(&self.writer));
            let (clock, stop, duration) = (self.clock, self.stop.clone(), options.duration);
            let rate = self.wanted(source);
            writers.spawn(async move {
                (
                    source,
                    update_at(rate, duration, cells, writer, clock, stop).await,
                )
            });
        }
        let mut updates: BTreeMap<Source, Updates> = BTreeMap::new();
        while let Some(written) = writers.join_next().await {
            let (source, made) = written.context("a writer ended badly")?;
            updates.insert(source, made);
        }
        let seconds = begun.elapsed().as_secs_f64();
        bar.finish_and_clear();
        self.await_sightings().await;
        probing.set();
        while watches.join_next().await.is_some() {}
        let background = match load {
            Some(load) => Some(load.await.context("the background load ended badly")?),
            None => None,
        };
        let services = match (before, self.counters().await) {
            (Ok(before), Ok(after)) => Some(after.since(&before, self.targets.http.len())),
            (Err(error), _) | (_, Err(error)) => {
                self.warn_once(format!("the replicas' own counts are missing: {error:#}"));
                None
            }
        };
        let made = updates.values().map(|updates| updates.made.len()).sum();
        let receipts = self.receipts(start_ms, made).await;
        Ok(self.judge(
            &Observed {
                rate,
                seconds,
                begun_us,
                before_versions,
                updates,
                services,
                receipts,
                background,
            },
            &notes,
        ))
    }

    fn background(&self, rate: f64, load: Option<&Load>) -> Option<tokio::task::JoinHandle<Phase>> {
        let load = load.filter(|_| rate > 0.0)?.clone();
        let plan = open::Plan {
            rate,
            duration: self.options.duration,
            max_in_flight: MAX_IN_FLIGHT,
            timeout: BACKGROUND_TIMEOUT,
        };
        let (mix, stop) = (HOT.name.parse().ok()?, self.stop.clone());
        Some(tokio::spawn(async move {
            let phase = latency::open_load(load, mix, plan, &stop).await;
            Phase {
                path: "grpc".to_owned(),
                ..phase
            }
        }))
    }

    fn cells_of(&self, source: Source) -> Vec<(usize, Arc<Cell>)> {
        let all = self.cells.iter().enumerate();
        all.filter(|(_, cell)| cell.source == source)
            .map(|(index, cell)| (index, Arc::clone(cell)))
            .collect()
    }

    fn wanted(&self, source: Source) -> f64 {
        match source {
            Source::Dynamodb | Source::PutConfig => self.options.rate,
            Source::ParameterStore => self.options.parameter_rate,
        }
    }

    /// Waits until everything was seen everywhere, or is lost.
    async fn await_sightings(&self) {
        // And one probe more, since only a probe proves that something is lost.
        let deadline = Instant::now() + self.options.lost_after + observers::SWEEP * 2;
        let all_seen = || {
            self.observers
                .iter()
                .all(|observer| observer.is_up_to_date(&self.cells))
        };
        while !all_seen() && Instant::now() < deadline && !self.stop.is_set() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn counters(&self) -> anyhow::Result<services::Counters> {
        services::read(&self.targets.http).await
    }

    /// Asks until there is one for each update, or no more come.
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

fn settings(options: &StalenessOptions, replicas: usize) -> BTreeMap<String, serde_json::Value> {
    BTreeMap::from([
        ("replicas".to_owned(), json!(replicas)),
        ("updatesPerSecond".to_owned(), json!(options.rate)),
        (
            "parameterUpdatesPerSecond".to_owned(),
            json!(options.parameter_rate),
        ),
        ("cellsPerSource".to_owned(), json!(options.cells)),
        (
            "lostAfterSeconds".to_owned(),
            json!(options.lost_after.as_secs_f64()),
        ),
        ("pollSeconds".to_owned(), json!(options.poll.as_secs_f64())),
        (
            "edgePollSeconds".to_owned(),
            json!(options.edge_poll.as_secs_f64()),
        ),
        (
            "durationSeconds".to_owned(),
            json!(options.duration.as_secs_f64()),
        ),
    ])
}
