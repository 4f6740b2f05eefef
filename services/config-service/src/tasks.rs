//! Where a change has arrived. A write can wait until every task of the service has it: this task asks all of them, itself
//! included, by their internal port. Whatever becomes of that, the write is done: each failure is a part of the report.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use tagged_config_discovery::{CloudMap, CloudMapConfig, DiscoveryError};
use tagged_config_domain::LocationId;
use tagged_config_proto::v1 as pb;
use tagged_config_runtime::telemetry;
use tagged_config_stores::aws::SdkConfig;
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};
use tonic::{Code, Status};

use self::grpc::GrpcPeers;
use crate::{cache::Awaited, transport::refresh::RefreshCredentials};

mod grpc;
#[cfg(test)]
mod tests;

/// How long a write waits for the tasks if its caller does not say.
pub(crate) const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// How long it waits at most.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long an answer of Cloud Map is used.
const DISCOVERY_TTL: Duration = Duration::from_secs(1);
/// Before a task whose connection failed is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// A task answers so long before the deadline, so that its answer arrives in time.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Writes that wait at once. Each costs a call to every task.
const MAX_WAITING: usize = 512;
/// Tasks that a summary names.
const MAX_NAMED: usize = 5;

const NOT_FOUND: &str = "the tasks cannot be found";
const NOT_CONFIGURED: &str = "TAGGED_CONFIG_CLOUD_MAP_NAMESPACE is not set";
const NONE_REGISTERED: &str = "no task is registered";
const TOO_MANY: &str = "too many writes are waiting";
const NO_ANSWER: &str = "no answer";
const NOT_YET: &str = "still has what was before";

/// The tasks of the service, as a write sees them.
pub(crate) struct Tasks {
    peers: Box<dyn Peers>,
    found: Mutex<Option<Found>>,
    waiting: Semaphore,
}

/// Where a change has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The change.
    pub awaited: Awaited,
    /// Every task that was asked and is still there.
    pub tasks: Vec<TaskReport>,
    /// How long it took.
    pub after: Duration,
    /// Why no task could be asked.
    pub problem: Option<String>,
}

/// Whether a change has arrived in one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskReport {
    /// The task's name, as `served_by` has it; its internal address if it gave no answer.
    pub task: String,
    /// Whether no reader there can be answered with what was before.
    pub is_live: bool,
    /// From the end of the write to the task's answer.
    pub after: Duration,
    /// Why it is not live.
    pub problem: Option<String>,
}

/// How the tasks are found and asked.
#[tonic::async_trait]
pub(crate) trait Peers: Send + Sync {
    /// The internal addresses of all tasks, healthy or not.
    async fn find(&self) -> Result<Vec<SocketAddr>, DiscoveryError>;

    /// Asks a task to wait for a change.
    async fn ask(
        &self,
        task: SocketAddr,
        change: pb::AwaitChangeRequest,
    ) -> Result<pb::AwaitChangeResponse, Status>;

    /// Drops the connection to a task: it did not answer in time, and the connection may be dead.
    fn disconnect(&self, task: SocketAddr);
}

/// What Cloud Map answered.
struct Found {
    tasks: Vec<SocketAddr>,
    at: Instant,
}

/// A change that a write waits for.
struct Waiting {
    change: pb::AwaitChangeRequest,
    started: Instant,
    deadline: Instant,
}

// === impl Tasks ===

impl Tasks {
    /// The tasks that Cloud Map knows, if their names there are set. They are called with the current credential, and with the
    /// previous one if they refuse it.
    pub(crate) fn configured(
        sdk: &SdkConfig,
        config: Option<CloudMapConfig>,
        credentials: &RefreshCredentials,
    ) -> Option<Self> {
        let cloud_map = CloudMap::new(sdk, config?);
        Some(Self::of(GrpcPeers::new(cloud_map, credentials)))
    }

    /// The tasks that are found and asked in this way.
    pub(crate) fn of(peers: impl Peers + 'static) -> Self {
        Self {
            peers: Box::new(peers),
            found: Mutex::new(None),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Waits until a change is live in every task, for [`DEFAULT_WAIT`] without a `limit`, and [`MAX_WAIT`] at most. Call it after
    /// the write has succeeded.
    pub(crate) async fn wait(
        &self,
        id: &LocationId,
        awaited: Awaited,
        limit: Option<Duration>,
    ) -> Report {
        let started = Instant::now();
        let waiting = Waiting {
            change: change(id, awaited),
            started,
            deadline: started + limit.unwrap_or(DEFAULT_WAIT).min(MAX_WAIT),
        };
        let (tasks, problem) = match self.ask_all(&waiting).await {
            Ok(tasks) => (tasks, None),
            Err(problem) => (Vec::new(), Some(problem.to_owned())),
        };
        Report {
            awaited,
            tasks,
            after: started.elapsed(),
            problem,
        }
    }

    async fn ask_all(&self, waiting: &Waiting) -> Result<Vec<TaskReport>, &'static str> {
        let _permit = self.waiting.try_acquire().map_err(|_| TOO_MANY)?;
        let tasks = match timeout_at(waiting.deadline, self.find()).await {
            Ok(Ok(tasks)) => tasks,
            Ok(Err(error)) => {
                let chain = telemetry::chain(&error);
                tracing::warn!(error = chain, "a write cannot wait for the tasks");
                return Err(NOT_FOUND);
            }
            Err(_) => return Err(NOT_FOUND),
        };
        let calls = tasks.into_iter().map(|task| self.follow(task, waiting));
        let reports: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        if reports.is_empty() {
            return Err(NONE_REGISTERED);
        }
        Ok(reports)
    }

    /// Asks one task until it answers, or the time is over. `None` if it is not registered any more.
    async fn follow(&self, task: SocketAddr, waiting: &Waiting) -> Option<TaskReport> {
        loop {
            let call = self.peers.ask(task, waiting.request());
            match timeout_at(waiting.deadline, call).await {
                Ok(Ok(answer)) => return Some(waiting.answered(answer)),
                Ok(Err(status)) => {
                    tracing::debug!(%task, code = ?status.code(), message = status.message(), "a task did not take the call");
                    if let Some(problem) = refusal(status.code()) {
                        return Some(waiting.failed(task, problem));
                    }
                }
                Err(_) => {
                    self.peers.disconnect(task);
                    return Some(waiting.failed(task, NO_ANSWER));
                }
            }
            let retry_at = Instant::now() + RETRY_AFTER;
            sleep_until(retry_at.min(waiting.deadline)).await;
            // A task that stopped refuses connections until it is gone from Cloud Map.
            if let Ok(Ok(tasks)) = timeout_at(waiting.deadline, self.find()).await
                && !tasks.contains(&task)
            {
                return None;
            }
            if Instant::now() >= waiting.deadline {
                return Some(waiting.failed(task, NO_ANSWER));
            }
        }
    }

    /// The tasks, as Cloud Map knew them less than [`DISCOVERY_TTL`] ago.
    async fn find(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let mut found = self.found.lock().await;
        if let Some(known) = found.as_ref()
            && known.at.elapsed() < DISCOVERY_TTL
        {
            return Ok(known.tasks.clone());
        }
        let at = Instant::now();
        let tasks = self.peers.find().await?;
        *found = Some(Found {
            tasks: tasks.clone(),
            at,
        });
        Ok(tasks)
    }
}

// === impl Waiting ===

impl Waiting {
    /// A task waits until shortly before the deadline.
    fn request(&self) -> pb::AwaitChangeRequest {
        let left = self.deadline.saturating_duration_since(Instant::now());
        pb::AwaitChangeRequest {
            wait_ms: millis(left.saturating_sub(ANSWER_TIME)),
            ..self.change.clone()
        }
    }

    fn answered(&self, answer: pb::AwaitChangeResponse) -> TaskReport {
        TaskReport {
            task: answer.served_by,
            is_live: answer.is_live,
            after: self.started.elapsed(),
            problem: (!answer.is_live).then(|| NOT_YET.to_owned()),
        }
    }

    fn failed(&self, task: SocketAddr, problem: &str) -> TaskReport {
        TaskReport {
            task: task.to_string(),
            is_live: false,
            after: self.started.elapsed(),
            problem: Some(problem.to_owned()),
        }
    }
}

// === impl Report ===

impl Report {
    /// Of a deployment that does not say where its tasks are.
    pub(crate) fn unknown(awaited: Awaited) -> Self {
        Self {
            awaited,
            tasks: Vec::new(),
            after: Duration::ZERO,
            problem: Some(NOT_CONFIGURED.to_owned()),
        }
    }

    /// Whether every task has the change.
    pub(crate) fn is_live(&self) -> bool {
        self.problem.is_none() && self.tasks.iter().all(|task| task.is_live)
    }

    /// A sentence: "version 18 is live on 2/2 tasks after 61 ms".
    pub(crate) fn summary(&self) -> String {
        let change = match self.awaited {
            Awaited::Written(version) => format!("version {version}"),
            Awaited::Deleted(_) => "the deletion".to_owned(),
        };
        if let Some(problem) = &self.problem {
            return format!("it is not known where {change} is live: {problem}");
        }
        let behind: Vec<&TaskReport> = self.tasks.iter().filter(|task| !task.is_live).collect();
        let all = self.tasks.len();
        let live = all - behind.len();
        let mut summary = format!(
            "{change} is live on {live}/{all} tasks after {} ms",
            self.after.as_millis()
        );
        if behind.is_empty() {
            return summary;
        }
        let mut named: Vec<String> = behind
            .iter()
            .take(MAX_NAMED)
            .map(|behind| {
                let problem = behind.problem.as_deref().unwrap_or(NOT_YET);
                format!("{} ({problem})", behind.task)
            })
            .collect();
        if behind.len() > MAX_NAMED {
            named.push(format!("{} more", behind.len() - MAX_NAMED));
        }
        summary.push_str("; not on ");
        summary.push_str(&named.join(", "));
        summary
    }
}

impl From<Report> for pb::TasksReport {
    fn from(report: Report) -> Self {
        Self {
            summary: report.summary(),
            milliseconds: if report.is_live() {
                // 0 says that one of them has it not.
                millis(report.after).max(1)
            } else {
                0
            },
            tasks: report.tasks.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<TaskReport> for pb::TaskReport {
    fn from(report: TaskReport) -> Self {
        Self {
            task: report.task,
            live: report.is_live,
            milliseconds: millis(report.after),
            problem: report.problem.unwrap_or_default(),
        }
    }
}

/// The message without its time.
fn change(id: &LocationId, awaited: Awaited) -> pb::AwaitChangeRequest {
    let (version, deleted) = match awaited {
        Awaited::Written(version) => (version, false),
        Awaited::Deleted(version) => (version, true),
    };
    pb::AwaitChangeRequest {
        location: Some(pb::Location {
            backend: id.backend().0.to_owned(),
            partition: id.partition().to_owned(),
            sort: id.sort().to_owned(),
        }),
        version,
        deleted,
        wait_ms: 0,
    }
}

/// Why a task will not answer, however often it is asked.
fn refusal(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some("it refuses the credential"),
        Code::Unimplemented => Some("its release cannot tell"),
        Code::NotFound | Code::InvalidArgument => Some("it cannot tell"),
        _ => None,
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
