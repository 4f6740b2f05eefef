//! Observers: every replica directly, the edge, and order-service's prices. Each probes what lags as often as it may,
//! and at everything now and then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::{
    client::{RestClient, code_name, order, signed},
    staleness::{
        cells::{Cell, Clock, ORDER_CENTS, Version},
        history::{ObserverName, Read},
    },
    stop::Stop,
};

/// How often everything is looked at.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);
/// How long one probe may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is probed.
pub(crate) enum Eye {
    /// One replica's gRPC.
    Replica(Channel),
    /// REST through the edge.
    Edge(RestClient),
    /// The price of an order.
    Orders(RestClient),
}

/// An observer.
pub(crate) struct Observer {
    /// For people, and for the checker.
    pub(crate) name: ObserverName,
    eye: Eye,
    every: Duration,
    /// By cell: the newest version seen.
    seen: Vec<AtomicU64>,
}

/// What observers bring home.
#[derive(Default)]
pub(crate) struct Notes {
    /// Every answer, in the order of each observer.
    pub(crate) reads: Mutex<Vec<Read>>,
    /// What was no answer, by observer and reason.
    pub(crate) failures: Mutex<BTreeMap<String, u64>>,
    servers: Mutex<HashMap<String, u32>>,
}

/// What one probe shows.
struct Sight {
    version: Version,
    own: bool,
    stale: bool,
    server: String,
}

impl Observer {
    /// An observer of so many cells, that probes so often.
    pub(crate) fn new(
        name: String,
        ordered: bool,
        eye: Eye,
        every: Duration,
        cells: usize,
    ) -> Self {
        Self {
            name: ObserverName { name, ordered },
            eye,
            every,
            seen: (0..cells).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether it is a replica.
    pub(crate) fn is_replica(&self) -> bool {
        matches!(self.eye, Eye::Replica(_))
    }

    /// Whether it is the edge.
    pub(crate) fn is_edge(&self) -> bool {
        matches!(self.eye, Eye::Edge(_))
    }

    /// Whether it has seen everything that was acknowledged.
    pub(crate) fn is_up_to_date(&self, cells: &[Arc<Cell>]) -> bool {
        cells
            .iter()
            .zip(&self.seen)
            .all(|(cell, seen)| seen.load(Ordering::Acquire) >= cell.acked.load(Ordering::Acquire))
    }

    /// Probes each cell once. Fails with the reason if a cell cannot be read.
    pub(crate) async fn try_all(&self, cells: &[Arc<Cell>]) -> Result<(), String> {
        for cell in cells {
            let problem = |reason: &str| format!("{}: {reason} of {}", self.name.name, cell.name());
            let sight = self.probe(cell).await.map_err(|reason| problem(&reason))?;
            if !sight.own {
                return Err(problem("not the value"));
            }
        }
        Ok(())
    }

    /// Probes until it is stopped.
    async fn watch(
        self: Arc<Self>,
        number: usize,
        cells: Arc<Vec<Arc<Cell>>>,
        notes: Arc<Notes>,
        clock: Clock,
        stop: Stop,
    ) {
        let mut interval = tokio::time::interval(self.every);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut swept = None::<Instant>;
        while !stop.is_set() {
            tokio::select! {
                _ = interval.tick() => {}
                () = stop.wait() => break,
            }
            let all = swept.is_none_or(|swept| swept.elapsed() >= SWEEP);
            if all {
                swept = Some(Instant::now());
            }
            let wanted = cells.iter().enumerate().filter(|(index, cell)| {
                all || self.seen[*index].load(Ordering::Acquire)
                    < cell.issued.load(Ordering::Acquire)
            });
            let probes = wanted.map(|(index, cell)| {
                let notes = &notes;
                let observer = &self;
                async move {
                    let started_us = clock.us();
                    match observer.probe(cell).await {
                        Ok(sight) => {
                            observer.seen[index].fetch_max(sight.version, Ordering::AcqRel);
                            let read = Read {
                                observer: number,
                                server: notes.server(&sight.server),
                                cell: index,
                                version: sight.version,
                                own: sight.own,
                                stale: sight.stale,
                                started_us,
                                ended_us: clock.us(),
                            };
                            notes.reads.lock().push(read);
                        }
                        Err(reason) => {
                            let reason = format!("{}: {reason}", observer.name.name);
                            *notes.failures.lock().entry(reason).or_default() += 1;
                        }
                    }
                }
            });
            join_all(probes).await;
        }
    }

    async fn probe(&self, cell: &Cell) -> Result<Sight, String> {
        match tokio::time::timeout(TIMEOUT, self.ask(cell)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn ask(&self, cell: &Cell) -> Result<Sight, String> {
        let token = cell.caller.token();
        let sight = |found: Option<(Version, bool)>,
                     stale: bool,
                     server: String|
         -> Result<Sight, String> {
            // A value of another kind is nobody's of these.
            let (version, own) = found.unwrap_or((0, false));
            Ok(Sight {
                version,
                own,
                stale,
                server,
            })
        };
        match &self.eye {
            Eye::Replica(channel) => {
                let request = GetConfigRequest {
                    key: cell.key(),
                    ..Default::default()
                };
                let answer = ConfigServiceClient::new(channel.clone())
                    .get_config(signed(request, &token, TIMEOUT))
                    .await
                    .map_err(|status| code_name(status.code()))?
                    .into_inner();
                sight(cell.version_of(&answer.value), answer.stale, String::new())
            }
            Eye::Edge(client) => {
                let url = client.url(&format!("/v1/config/{}?freshness=true", cell.key()));
                let entry = json(client.client().get(url), token.header.clone()).await?;
                let server = entry["servedBy"].as_str().unwrap_or_default().to_owned();
                let value = entry["value"].as_str().unwrap_or_default();
                sight(cell.version_of(value), entry["stale"] == true, server)
            }
            Eye::Orders(client) => {
                let post = client
                    .client()
                    .post(client.url("/v1/orders"))
                    .json(&order(ORDER_CENTS));
                let priced = json(post, token.header.clone()).await?;
                sight(cell.version_of_order(&priced), false, String::new())
            }
        }
    }
}

async fn json(
    request: reqwest::RequestBuilder,
    authorization: reqwest::header::HeaderValue,
) -> Result<Value, String> {
    let answer = request
        .header(reqwest::header::AUTHORIZATION, authorization)
        .send()
        .await
        .map_err(|error| {
            if error.is_connect() {
                "cannot connect".to_owned()
            } else {
                "connection broke".to_owned()
            }
        })?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("HTTP {}", status.as_u16()));
    }
    answer
        .json()
        .await
        .map_err(|_| "not the agreed JSON".to_owned())
}

/// Has all of them probe until they are stopped.
pub(crate) fn watch_all(
    observers: &[Arc<Observer>],
    cells: &Arc<Vec<Arc<Cell>>>,
    notes: &Arc<Notes>,
    clock: Clock,
    stop: &Stop,
) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    for (number, observer) in observers.iter().enumerate() {
        let (observer, cells, notes) = (Arc::clone(observer), Arc::clone(cells), Arc::clone(notes));
        watches.spawn(observer.watch(number, cells, notes, clock, stop.clone()));
    }
    watches
}

impl Notes {
    fn server(&self, name: &str) -> u32 {
        let mut servers = self.servers.lock();
        let next = u32::try_from(servers.len()).unwrap_or(u32::MAX);
        *servers.entry(name.to_owned()).or_insert(next)
    }
}
