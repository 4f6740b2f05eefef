//! One experiment, which `staleness`, `chaos` and `watchers` share: tenants of its own, whose locations writers update
//! while observers read them, and the checker verifies all reads. Everything that is created is removed again.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    Interrupted,
    accounts::{Accounts, Role},
    cli::{Shape, Source},
    client::{Client, connect, signed},
    dataset::Dataset,
    latency::{self, closed::Load, open},
    progress,
    recorder::micros,
    report::{History, Phase},
    scenarios::HOT,
    staleness::{
        cells::{Cell, Clock, Update, Writer, update_at},
        history::{Findings, Read, Write, check},
        observers::{Failure, Notes, Observer, SWEEP, watch_all},
    },
    stop::Stop,
    targets::Targets,
    tokens,
    world::{self, World},
};

/// Tenants that are made at once.
const AT_ONCE: usize = 8;
/// Connections of a load of reads to each replica, and how long one of them may take.
const LOAD_CONNECTIONS: u32 = 2;
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_IN_FLIGHT: u32 = 10_000;
/// Violations that are described one by one.
const DESCRIBED: usize = 100;

/// What an experiment is made of.
pub(crate) struct Setup<'t> {
    pub(crate) targets: &'t Targets,
    pub(crate) accounts: Arc<Accounts>,
    /// How updates are made.
    pub(crate) sources: Vec<Source>,
    /// Locations that each source updates.
    pub(crate) cells: u32,
    /// Where PutConfig is called.
    pub(crate) service: Vec<Channel>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) stop: Stop,
}

/// An experiment whose tenants are there.
pub(crate) struct Experiment {
    pub(crate) cells: Vec<Arc<Cell>>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) observers: Vec<Arc<Observer>>,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
}

/// One run of it.
pub(crate) struct Plan {
    /// Updates a second, on average, by source.
    pub(crate) rates: BTreeMap<Source, f64>,
    /// How long updates are made.
    pub(crate) duration: Duration,
    /// An update that is unseen for so long is lost.
    pub(crate) lost_after: Duration,
    /// Seed of the updates' gaps and of the jitter.
    pub(crate) seed: u64,
}

/// What a run showed.
pub(crate) struct Observed {
    /// When updates began, in microseconds of the run, and when observers stopped.
    pub(crate) begun_us: u64,
    pub(crate) ended_us: u64,
    /// Seconds in which updates were made.
    pub(crate) seconds: f64,
    /// Every write, by source.
    pub(crate) updates: Vec<(Source, Update)>,
    /// Updates that were due and not made, by source.
    pub(crate) passed_over: BTreeMap<Source, u64>,
    pub(crate) reads: Vec<Read>,
    pub(crate) failures: Vec<Failure>,
    /// Its sightings are in the order of `updates`.
    pub(crate) findings: Findings,
}

// === impl Setup ===

impl Setup<'_> {
    /// Creates tenants and their locations, runs the work, and removes what was created, even if the work failed.
    pub(crate) async fn run<T>(
        self,
        work: impl AsyncFnOnce(Experiment) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let writer = Writer::of(self.targets, &self.sources, self.service.clone()).await?;
        let writer = Arc::new(writer);
        // New ones in each run: nothing of an older run is in the way. Those of PutConfig come after those of AWS's own
        // APIs, which share an item, a parameter and an object each.
        let run = &uuid::Uuid::new_v4().simple().to_string()[..6];
        let doubled = self.sources.contains(&Source::PutConfig);
        let tenants: Vec<String> = (1..=self.cells * if doubled { 2 } else { 1 })
            .map(|number| format!("lt-s{run}-{number:03}"))
            .collect();
        let result = match self.prepare(&tenants, &writer).await {
            Ok(cells) => {
                work(Experiment {
                    cells,
                    writer: Arc::clone(&writer),
                    accounts: Arc::clone(&self.accounts),
                    observers: self.observers.into_iter().map(Arc::new).collect(),
                    clock: Clock(Instant::now()),
                    stop: self.stop,
                })
                .await
            }
            Err(error) => Err(error),
        };
        for (number, tenant) in (1..).zip(&tenants) {
            let removed = async {
                writer.table.clear(tenant).await?;
                if self.sources.contains(&Source::ParameterStore) && number <= self.cells {
                    writer.remove_parameter(tenant).await?;
                }
                if self.sources.contains(&Source::S3) && number <= self.cells {
                    writer.remove_object(tenant).await?;
                }
                self.accounts.remove(tenant).await
            };
            if let Err(error) = removed.await {
                eprintln!("warning: tenant {tenant} could not be removed: {error:#}");
            }
        }
        result
    }

    async fn prepare(&self, tenants: &[String], writer: &Writer) -> anyhow::Result<Vec<Arc<Cell>>> {
        let bar = progress::counting("making tenants to update", tenants.len() as u64);
        stream::iter(tenants)
            .map(|tenant| {
                let bar = bar.clone();
                async move {
                    self.accounts.ensure(tenant, Role::Writer).await?;
                    bar.inc(1);
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        bar.finish_and_clear();
        let callers = world::sign_in(&self.accounts, tenants.to_vec(), &self.stop).await?;
        ensure!(callers.len() == tenants.len(), Interrupted);
        tokio::spawn(tokens::keep_fresh(
            Arc::clone(&self.accounts),
            callers.clone(),
        ));
        let mut cells = Vec::new();
        for (number, caller) in (1..).zip(&callers) {
            let through_service = number > self.cells;
            let sources = self.sources.iter();
            let here = sources.filter(|one| (**one == Source::PutConfig) == through_service);
            cells.extend(here.map(|one| Arc::new(Cell::new(*one, Arc::clone(caller), number))));
            // Every tenant has an item, so that order-service can price.
            if !through_service && !self.sources.contains(&Source::Dynamodb) {
                let item = Cell::new(Source::Dynamodb, Arc::clone(caller), number);
                writer.prepare(&item).await?;
            }
        }
        for cell in &cells {
            writer.prepare(cell).await?;
        }
        Ok(cells)
    }
}

/// A connection to each address.
pub(crate) async fn connect_all(addresses: &[String]) -> anyhow::Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for address in addresses {
        channels.push(connect(address).await?);
    }
    Ok(channels)
}

/// Readers of the seeded tenants, at these replicas.
pub(crate) async fn readers(
    targets: &Targets,
    addresses: &[String],
    shape: &Shape,
    accounts: &Arc<Accounts>,
    stop: &Stop,
    seed: u64,
) -> anyhow::Result<Load> {
    let dataset = latency::seeded(targets, Dataset::of(shape), stop).await?;
    let tenants = (1..=dataset.tenants).map(Dataset::tenant).collect();
    let callers = world::sign_in(accounts, tenants, stop).await?;
    ensure!(!callers.is_empty(), Interrupted);
    tokio::spawn(tokens::keep_fresh(Arc::clone(accounts), callers.clone()));
    let client = Client::grpc(addresses, LOAD_CONNECTIONS, LOAD_TIMEOUT, None).await?;
    Ok(Load {
        client: Arc::new(client),
        world: Arc::new(World::new(callers, dataset, 1.0)?),
        seed,
    })
}

/// Their reads in an open loop.
pub(crate) async fn read_at(
    load: Load,
    rate: f64,
    duration: Duration,
    stop: &Stop,
) -> anyhow::Result<Phase> {
    let plan = open::Plan {
        rate,
        duration,
        max_in_flight: MAX_IN_FLIGHT,
        timeout: LOAD_TIMEOUT,
    };
    let mix = HOT.name.parse().map_err(anyhow::Error::msg)?;
    let phase = latency::open_load(load, mix, plan, stop).await;
    Ok(Phase {
        path: "grpc".to_owned(),
        ..phase
    })
}

// === impl Experiment ===

impl Experiment {
    /// Reads every location at every observer once. This also fills every cache: what is measured then is a change that is
    /// pushed, not a miss.
    pub(crate) async fn try_all(&self) -> anyhow::Result<()> {
        for observer in &self.observers {
            if let Err(reason) = observer.try_all(&self.cells).await {
                anyhow::bail!("an observer cannot see what is to be updated: {reason}");
            }
        }
        Ok(())
    }

    /// The longest bound that a replica promises while its sweeps succeed; `None` if one does not read the journal.
    pub(crate) async fn journal_bound(
        &self,
        channels: &[Channel],
    ) -> anyhow::Result<Option<Duration>> {
        let cell = self.cells.first().context("there is nothing to update")?;
        let mut longest = 0;
        for channel in channels {
            let request = GetConfigRequest {
                key: cell.key(),
                freshness: true,
                ..Default::default()
            };
            let mut client = ConfigServiceClient::new(channel.clone());
            let token = cell.caller.token();
            let answer = client.get_config(signed(request, &token, LOAD_TIMEOUT));
            let bound = answer.await?.get_ref().journal_bound_ms;
            if bound <= 0 {
                return Ok(None);
            }
            longest = longest.max(bound.unsigned_abs());
        }
        Ok(Some(Duration::from_millis(longest)))
    }

    /// Updates as planned, with `beside` at the same time and `after` once updates and `beside` have ended. Observers read
    /// until everything was seen, or is lost.
    pub(crate) async fn run<B>(
        &self,
        plan: &Plan,
        beside: impl Future<Output = B>,
        after: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<(Observed, B)> {
        let issued = self.cells.iter().map(|cell| *cell.issued.borrow());
        let before: Vec<_> = issued.collect();
        let (probing, notes) = (Stop::default(), Arc::new(Notes::default()));
        let mut watches = watch_all(
            &self.observers,
            &self.cells,
            &notes,
            self.clock,
            &probing,
            plan.seed,
        );
        let (begun, begun_us) = (Instant::now(), self.clock.us());
        let updating = async {
            let made = self.update(plan).await;
            (made, begun.elapsed().as_secs_f64())
        };
        let ((made, seconds), beside) = tokio::join!(updating, beside);
        after.await?;
        self.await_sightings(plan.lost_after).await;
        probing.set();
        while watches.join_next().await.is_some() {}
        let (updates, passed_over) = made?;
        let reads = std::mem::take(&mut *notes.reads.lock());
        let failures = std::mem::take(&mut *notes.failures.lock());
        // What was there before counts as written before the beginning.
        let before = before.iter().enumerate().map(|(cell, version)| Write {
            cell,
            version: *version,
            issued_us: 0,
            acked_us: None,
        });
        let writes = updates.iter().map(|(_, update)| update.write);
        let writes: Vec<_> = writes.chain(before).collect();
        let findings = check(
            self.observers.len(),
            &writes,
            &reads,
            micros(plan.lost_after),
        );
        let observed = Observed {
            begun_us,
            ended_us: self.clock.us(),
            seconds,
            updates,
            passed_over,
            reads,
            failures,
            findings,
        };
        Ok((observed, beside))
    }

    async fn update(
        &self,
        plan: &Plan,
    ) -> anyhow::Result<(Vec<(Source, Update)>, BTreeMap<Source, u64>)> {
        let mut writers = JoinSet::new();
        for (number, (source, rate)) in (0..).zip(&plan.rates) {
            let (source, cells) = (*source, self.cells.iter().cloned().enumerate());
            let updating = update_at(
                *rate,
                plan.duration,
                cells.filter(|(_, cell)| cell.source == source).collect(),
                Arc::clone(&self.writer),
                self.clock,
                self.stop.clone(),
                plan.seed.wrapping_add(number),
            );
            writers.spawn(async move { updating.await.map(|made| (source, made)) });
        }
        let (mut updates, mut passed_over) = (Vec::new(), BTreeMap::new());
        while let Some(made) = writers.join_next().await {
            let (source, made) = made.context("a writer task failed")??;
            updates.extend(made.made.into_iter().map(|update| (source, update)));
            passed_over.insert(source, made.passed_over);
        }
        Ok((updates, passed_over))
    }

    /// Waits until everything was seen everywhere, or is lost.
    async fn await_sightings(&self, lost_after: Duration) {
        // Only a read that begins after the bound proves a loss: the sweep reads everything within its interval and a half.
        let deadline = Instant::now() + lost_after + SWEEP * 2;
        let all_seen = || {
            let mut observers = self.observers.iter();
            observers.all(|observer| observer.is_up_to_date(&self.cells))
        };
        while !all_seen() && Instant::now() < deadline && !self.stop.is_set() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the checker says, and failed reads by observer and reason, but for those that are excused.
    pub(crate) fn history(
        &self,
        observed: &Observed,
        excused: impl Fn(&Failure) -> bool,
    ) -> History {
        let names: Vec<_> = self.observers.iter().map(|one| one.name.clone()).collect();
        let cells: Vec<String> = self.cells.iter().map(|cell| cell.name()).collect();
        let found = &observed.findings.violations;
        let described = found.iter().take(DESCRIBED);
        let mut violations: Vec<_> = described.map(|one| one.describe(&names, &cells)).collect();
        if found.len() > DESCRIBED {
            violations.push(format!("and {} more", found.len() - DESCRIBED));
        }
        let mut failed_reads: BTreeMap<String, u64> = BTreeMap::new();
        for failure in observed.failures.iter().filter(|one| !excused(one)) {
            let reason = format!("{}: {}", names[failure.observer], failure.code);
            *failed_reads.entry(reason).or_default() += 1;
        }
        History {
            reads: observed.reads.len() as u64,
            failed_reads,
            violations,
        }
    }
}

// === impl Observed ===

impl Observed {
    /// Acknowledged updates that were neither seen everywhere nor proven lost.
    pub(crate) fn undecided(&self) -> u64 {
        let sightings = self.findings.sightings.iter().take(self.updates.len());
        sightings.filter(|one| one.undecided).count() as u64
    }
}
