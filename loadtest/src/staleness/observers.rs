//! Observers: every replica directly, the edge, and order-service's prices. Each has a task for every location, which
//! polls it while it lags, and every [`SWEEP`] otherwise. All intervals are jittered by half, so that no poll keeps a phase.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use reqwest::{StatusCode, header};
use serde_json::Value;
use tagged_config_proto::v1::{GetConfigRequest, config_service_client::ConfigServiceClient};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Code, Status, transport::Channel};

use crate::{
    client::{RestClient, code_name, order, signed, text_of},
    staleness::{
        cells::{Cell, Clock, ORDER_CENTS, Version},
        history::{CONFIRMATIONS, Read, Shown},
    },
    stop::Stop,
};

/// How often a location that does not lag is read.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);
/// How long one read may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The code of a call that waited for a connection which the server closed: it never left, so no server cut it off.
pub(crate) const NEVER_SENT: &str = "never sent";
/// Reads of one observer in flight, through load balancer or edge, and at a replica. More would be a load
/// that delays what they observe.
const REST_AT_ONCE: usize = 2;
const GRPC_AT_ONCE: usize = 64;
/// From a read that failed to the next one, at least.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What is read.
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
    /// Name in reports.
    pub(crate) name: String,
    eye: Eye,
    every: Duration,
    at_once: Semaphore,
    /// The tasks that answered there, with their numbers.
    tasks: Mutex<BTreeMap<String, u32>>,
    /// By cell: the newest version that all tasks there have shown.
    shown: Mutex<HashMap<usize, Arc<AtomicU64>>>,
}

/// Every read of a run.
#[derive(Default)]
pub(crate) struct Notes {
    /// Those that were answered.
    pub(crate) reads: Mutex<Vec<Read>>,
    /// Those that were not.
    pub(crate) failures: Mutex<Vec<Failure>>,
}

/// A read that was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The observer's number.
    pub(crate) observer: usize,
    /// gRPC's code, the HTTP status, or how the connection failed.
    pub(crate) code: String,
    /// When it began.
    pub(crate) started_us: u64,
    /// When it had failed.
    pub(crate) ended_us: u64,
}

/// An answer.
struct Answer {
    shown: Shown,
    stale: bool,
    server: Option<u32>,
}

/// What one task of one observer has seen of its location.
#[derive(Default)]
struct Progress {
    /// The newest version that each task showed.
    by_task: HashMap<u32, Version>,
    /// The last versions, where answers do not name their task.
    unnamed: VecDeque<Version>,
}

impl Observer {
    /// An observer that polls locations that lag at this interval.
    pub(crate) fn new(name: String, eye: Eye, every: Duration) -> Self {
        let at_once = match eye {
            Eye::Replica(_) => GRPC_AT_ONCE,
            Eye::Edge(_) | Eye::Orders(_) => REST_AT_ONCE,
        };
        Self {
            name,
            eye,
            every,
            at_once: Semaphore::new(at_once),
            tasks: Mutex::default(),
            shown: Mutex::default(),
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

    /// Whether it is order-service.
    pub(crate) fn is_orders(&self) -> bool {
        matches!(self.eye, Eye::Orders(_))
    }

    /// Whether all tasks there have shown everything that was acknowledged.
    pub(crate) fn is_up_to_date(&self, cells: &[Arc<Cell>]) -> bool {
        cells.iter().enumerate().all(|(number, cell)| {
            self.shown_of(number).load(Ordering::Acquire) >= cell.acked.load(Ordering::Acquire)
        })
    }

    fn shown_of(&self, cell: usize) -> Arc<AtomicU64> {
        Arc::clone(self.shown.lock().entry(cell).or_default())
    }

    /// Reads each cell once. Fails with the reason if a cell cannot be read.
    pub(crate) async fn try_all(&self, cells: &[Arc<Cell>]) -> Result<(), String> {
        for cell in cells {
            let problem = |reason: &str| format!("{}: {reason} of {}", self.name, cell.name());
            let answer = self.read(cell).await.map_err(|reason| problem(&reason))?;
            if !matches!(answer.shown, Shown::Version(_)) {
                return Err(problem("not the value"));
            }
        }
        Ok(())
    }

    /// Reads one cell until it is stopped.
    async fn watch(
        self: Arc<Self>,
        (number, index): (usize, usize),
        cell: Arc<Cell>,
        notes: Arc<Notes>,
        clock: Clock,
        stop: Stop,
        mut rng: SmallRng,
    ) {
        let mut issued = cell.issued.subscribe();
        let shown = self.shown_of(index);
        let mut progress = Progress::default();
        let mut pause = self.every;
        while !stop.is_set() {
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(rng.random_range(0.5..1.5))) => {}
                // Whoever waits for the next sweep begins to poll.
                Ok(()) = issued.changed(), if pause == SWEEP => {
                    pause = self.every;
                    continue;
                }
                () = stop.wait() => break,
            }
            let Ok(permit) = self.at_once.acquire().await else {
                break;
            };
            let started_us = clock.us();
            let answer = self.read(&cell).await;
            let ended_us = clock.us();
            drop(permit);
            match answer {
                Ok(answer) => {
                    progress.add(&answer);
                    let version = progress.shown_by_all(&self.tasks.lock());
                    shown.fetch_max(version, Ordering::AcqRel);
                    let lags = version < cell.awaited(*issued.borrow_and_update());
                    let took = Duration::from_micros(ended_us - started_us);
                    // A place that answers slowly is not read more often than it can answer.
                    pause = if lags { self.every.max(took) } else { SWEEP };
                    notes.reads.lock().push(Read {
                        observer: number,
                        server: answer.server,
                        cell: index,
                        shown: answer.shown,
                        stale: answer.stale,
                        started_us,
                        ended_us,
                    });
                }
                Err(code) => {
                    pause = self.every.max(AFTER_FAILURE);
                    notes.failures.lock().push(Failure {
                        observer: number,
                        code,
                        started_us,
                        ended_us,
                    });
                }
            }
        }
    }

    async fn read(&self, cell: &Cell) -> Result<Answer, String> {
        match tokio::time::timeout(TIMEOUT, self.ask(cell)).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn ask(&self, cell: &Cell) -> Result<Answer, String> {
        let token = cell.caller.token();
        // A shared default in its place: the tenant's own value is absent.
        let of = |value: &str, origin: &str| match origin {
            "global" => Shown::Absent,
            _ => cell.shown(value),
        };
        match &self.eye {
            Eye::Replica(channel) => {
                let request = GetConfigRequest {
                    key: cell.key(),
                    ..Default::default()
                };
                let mut client = ConfigServiceClient::new(channel.clone());
                let answer = client.get_config(signed(request, &token, TIMEOUT)).await;
                let (shown, stale) = match answer {
                    Ok(answer) => {
                        let entry = answer.get_ref();
                        (of(text_of(entry), &entry.origin), entry.stale)
                    }
                    Err(status) if status.code() == Code::NotFound => (Shown::Absent, false),
                    Err(status) if was_never_sent(&status) => return Err(NEVER_SENT.to_owned()),
                    Err(status) => return Err(code_name(status.code())),
                };
                Ok(Answer {
                    shown,
                    stale,
                    server: Some(0),
                })
            }
            Eye::Edge(client) => {
                let url = client.url(&format!("/v1/config/{}?freshness=true", cell.key()));
                let Some(entry) = json(client.client().get(url), token.header.clone()).await?
                else {
                    return Ok(Answer {
                        shown: Shown::Absent,
                        stale: false,
                        server: None,
                    });
                };
                let text = |name: &str| entry[name].as_str();
                let value = text("value").ok_or("not the agreed JSON")?;
                Ok(Answer {
                    shown: of(value, text("origin").unwrap_or_default()),
                    stale: entry["stale"] == true,
                    server: text("servedBy").map(|name| self.task(name)),
                })
            }
            Eye::Orders(client) => {
                let post = client
                    .client()
                    .post(client.url("/v1/orders"))
                    .json(&order(ORDER_CENTS));
                let priced = json(post, token.header.clone()).await?;
                let shown = priced.and_then(|priced| cell.shown_by_order(&priced));
                Ok(Answer {
                    shown: shown.ok_or("not the agreed JSON")?,
                    stale: false,
                    server: None,
                })
            }
        }
    }

    fn task(&self, name: &str) -> u32 {
        let mut tasks = self.tasks.lock();
        let next = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
        *tasks.entry(name.to_owned()).or_insert(next)
    }
}

// === impl Progress ===

impl Progress {
    fn add(&mut self, answer: &Answer) {
        let version = match answer.shown {
            Shown::Version(version) => version,
            _ => 0,
        };
        if let Some(task) = answer.server {
            let newest = self.by_task.entry(task).or_default();
            *newest = version.max(*newest);
        } else if self.by_task.is_empty() {
            self.unnamed.push_back(version);
            if self.unnamed.len() > CONFIRMATIONS {
                self.unnamed.pop_front();
            }
        }
    }

    /// The newest version that each of these tasks has shown; without names, that the last answers have shown.
    fn shown_by_all(&self, tasks: &BTreeMap<String, u32>) -> Version {
        let of = |task: &u32| self.by_task.get(task).copied().unwrap_or(0);
        let named = tasks.values().map(of).min();
        let known = self.by_task.values().copied().min();
        let unnamed = (!self.unnamed.is_empty()).then(|| match self.unnamed.len() {
            CONFIRMATIONS => self.unnamed.iter().copied().min().unwrap_or(0),
            _ => 0,
        });
        let all = [named, known, unnamed].into_iter().flatten();
        all.min().unwrap_or(0)
    }
}

/// Whether the HTTP client gave the call back unsent, which tonic calls CANCELLED.
fn was_never_sent(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        let sent_back = error.downcast_ref().is_some_and(hyper::Error::is_canceled);
        if sent_back {
            return true;
        }
        next = error.source();
    }
    false
}

/// The JSON of an answer; `None` if the service says that there is no such key.
async fn json(
    request: reqwest::RequestBuilder,
    authorization: header::HeaderValue,
) -> Result<Option<Value>, String> {
    let request = request.header(header::AUTHORIZATION, authorization);
    let answer = request.send().await.map_err(|error| {
        let reason = if error.is_connect() {
            "cannot connect"
        } else {
            "connection broke"
        };
        reason.to_owned()
    })?;
    let status = answer.status();
    let body = answer.json().await;
    let body: Value = match status {
        StatusCode::OK => body.map_err(|_| "not the agreed JSON".to_owned())?,
        _ => body.unwrap_or_default(),
    };
    match status {
        StatusCode::OK => Ok(Some(body)),
        // A load balancer's or gateway's own 404 says nothing about the key.
        StatusCode::NOT_FOUND if body["type"] == "urn:tagged-config:problem:not-found" => Ok(None),
        other => Err(format!("HTTP {}", other.as_u16())),
    }
}

/// Has all of them read every cell until they are stopped.
pub(crate) fn watch_all(
    observers: &[Arc<Observer>],
    cells: &[Arc<Cell>],
    notes: &Arc<Notes>,
    clock: Clock,
    stop: &Stop,
    seed: u64,
) -> JoinSet<()> {
    let mut seeds = SmallRng::seed_from_u64(seed);
    let mut watches = JoinSet::new();
    for (number, observer) in observers.iter().enumerate() {
        for (index, cell) in cells.iter().enumerate() {
            watches.spawn(Arc::clone(observer).watch(
                (number, index),
                Arc::clone(cell),
                Arc::clone(notes),
                clock,
                stop.clone(),
                SmallRng::from_rng(&mut seeds),
            ));
        }
    }
    watches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: Version, server: Option<u32>) -> Answer {
        Answer {
            shown: Shown::Version(version),
            stale: false,
            server,
        }
    }

    #[test]
    fn an_observer_polls_on_until_all_tasks_have_shown_an_update() {
        let mut edge = Progress::default();
        let tasks = BTreeMap::from([("a".to_owned(), 0), ("b".to_owned(), 1)]);
        edge.add(&answer(3, Some(0)));
        assert_eq!(edge.shown_by_all(&tasks), 0, "b has not answered");
        edge.add(&answer(2, Some(1)));
        assert_eq!(edge.shown_by_all(&tasks), 2);
        let mut price = Progress::default();
        for (version, wanted) in [(2, 0), (2, 0), (2, 2), (1, 1), (2, 1), (2, 1), (2, 2)] {
            price.add(&answer(version, None));
            assert_eq!(price.shown_by_all(&BTreeMap::new()), wanted);
        }
    }
}
