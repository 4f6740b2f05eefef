//! Sends changes to every task, in parallel, each with a deadline and some retries. A task that does not answer in
//! time is a laggard: it is counted, and the batch does not wait for it.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures::future::join_all;
use prost::Message as _;
use tagged_config_discovery::Discover;
use tagged_config_proto::{
    REFRESH_CREDENTIAL_HEADER,
    v1::{self as pb, refresh_service_client::RefreshServiceClient},
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{change::Change, credential::Credential};

/// One call to one task, connecting included. The next batch waits for the slowest task.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);
/// Longer than [`DEADLINE`]: an address that drops packets ends as a time-out, and is not mistaken for a task that
/// refused the call and may be tried again at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 pings on an idle connection, and the time in which each must be acknowledged: a connection whose other end
/// vanished is closed before the next batch waits for it.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Waits before each attempt at one task.
const WAITS_MS: [u64; 3] = [0, 50, 200];
/// Bytes of changes in one call; a task accepts 4 MiB, and one item has 400 KB at most.
const MAX_CALL_BYTES: usize = 2 * 1024 * 1024;

/// What is sent to a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// Changes to apply.
    Refresh(pb::RefreshRequest),
    /// The order to drop everything that is cached.
    Flush(pb::FlushRequest),
}

/// Sends messages to tasks.
pub(crate) trait Refresher: Send + Sync {
    /// Sends one message to one task.
    fn send(
        &self,
        target: SocketAddr,
        message: Message,
    ) -> impl Future<Output = Result<(), Status>> + Send;

    /// Drops the connection to a task. Returns `true` if an answer had come by it: then the connection may have died
    /// while the function was frozen, with the task alive, and a new one is worth a try.
    fn disconnect(&self, target: SocketAddr) -> bool;
}

/// The result of a fan-out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fanout {
    /// Tasks that the messages were sent to.
    pub targets: usize,
    /// Tasks that applied all changes.
    pub acknowledged: usize,
    /// Tasks that did not acknowledge and are still registered.
    pub laggards: Vec<SocketAddr>,
    /// Time that the two discoveries took.
    pub discovering: Duration,
    /// Time from the first call to the last answer.
    pub calling: Duration,
}

/// What follows when a task does not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTimeout {
    /// The message is sent again: without the journal, the task would serve the old value until its TTL.
    Retry,
    /// The task is left alone: it finds the changes in the journal, and the next batch does not wait.
    DeferToJournal,
}

/// Sends the messages to all tasks. Fails only if no discovery succeeds.
pub(crate) async fn run(
    messages: &[Message],
    on_timeout: OnTimeout,
    discover: &impl Discover,
    refresher: &impl Refresher,
) -> anyhow::Result<Fanout> {
    let started = Instant::now();
    let targets = discover.discover().await?;
    let mut discovering = started.elapsed();
    let started = Instant::now();
    let failed = call_all(&targets, messages, on_timeout, refresher).await;
    let all_timed_out = failed
        .iter()
        .all(|(_, code)| *code == Code::DeadlineExceeded);
    if failed.is_empty() || on_timeout == OnTimeout::DeferToJournal && all_timed_out {
        return Ok(Fanout {
            targets: targets.len(),
            acknowledged: targets.len() - failed.len(),
            laggards: failed.into_iter().map(|(target, _)| target).collect(),
            discovering,
            calling: started.elapsed(),
        });
    }
    // Some tasks may have stopped meanwhile, and others started: a second discovery, and calls to those not reached.
    let again = Instant::now();
    let now_there = discover
        .discover()
        .await
        .unwrap_or_else(|_| targets.clone());
    discovering += again.elapsed();
    let reached: Vec<_> = targets
        .iter()
        .filter(|target| !failed.iter().any(|(failed, _)| failed == *target))
        .copied()
        .collect();
    let rest: Vec<_> = now_there
        .into_iter()
        .filter(|target| !reached.contains(target))
        .collect();
    let laggards = call_all(&rest, messages, on_timeout, refresher).await;
    let laggards: Vec<_> = laggards.into_iter().map(|(target, _)| target).collect();
    Ok(Fanout {
        targets: reached.len() + rest.len(),
        acknowledged: reached.len() + rest.len() - laggards.len(),
        laggards,
        discovering,
        calling: started.elapsed(),
    })
}

/// Sends all messages to all targets. Returns the targets that did not acknowledge every message, with the reason.
async fn call_all(
    targets: &[SocketAddr],
    messages: &[Message],
    on_timeout: OnTimeout,
    refresher: &impl Refresher,
) -> Vec<(SocketAddr, Code)> {
    let calls = targets.iter().map(|target| async move {
        for message in messages {
            if let Err(status) = call(*target, message, on_timeout, refresher).await {
                tracing::warn!(%target, code = ?status.code(), message = status.message(), "a task was not refreshed");
                return Some((*target, status.code()));
            }
        }
        None
    });
    join_all(calls).await.into_iter().flatten().collect()
}

async fn call(
    target: SocketAddr,
    message: &Message,
    on_timeout: OnTimeout,
    refresher: &impl Refresher,
) -> Result<(), Status> {
    let mut last = Status::unavailable("not tried");
    for wait in WAITS_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match tokio::time::timeout(DEADLINE, refresher.send(target, message.clone())).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => last = status,
            Err(_) => {
                last = Status::deadline_exceeded("no answer in time");
                let may_be_the_connection = refresher.disconnect(target);
                if on_timeout == OnTimeout::DeferToJournal && !may_be_the_connection {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// The changes in as few calls as their size allows.
pub(crate) fn messages(changes: &[Change]) -> Vec<Message> {
    requests(changes)
        .into_iter()
        .map(Message::Refresh)
        .collect()
}

fn requests(changes: &[Change]) -> Vec<pb::RefreshRequest> {
    let mut requests: Vec<pb::RefreshRequest> = Vec::new();
    let mut bytes = 0;
    for change in changes.iter().map(Change::to_wire) {
        let size = change.encoded_len() + 8;
        match requests.last_mut() {
            Some(request) if bytes + size <= MAX_CALL_BYTES => {
                bytes += size;
                request.changes.push(change);
            }
            _ => {
                bytes = size;
                requests.push(pb::RefreshRequest {
                    changes: vec![change],
                });
            }
        }
    }
    requests
}

/// Calls over gRPC, on connections that live as long as the function's environment.
pub(crate) struct GrpcRefresher {
    credential: Credential,
    channels: Mutex<HashMap<SocketAddr, Kept>>,
    connect: Box<dyn Fn(&Endpoint) -> Channel + Send + Sync>,
}

/// A connection, and whether an answer has come by it.
struct Kept {
    channel: Channel,
    has_answered: bool,
}

/// Connections that are kept.
const MAX_CHANNELS: usize = 2_000;

impl GrpcRefresher {
    /// A refresher that presents this credential.
    pub(crate) fn new(credential: Credential) -> Self {
        Self::with_transport(credential, Endpoint::connect_lazy)
    }

    /// The same over another transport, for tests.
    fn with_transport(
        credential: Credential,
        connect: impl Fn(&Endpoint) -> Channel + Send + Sync + 'static,
    ) -> Self {
        Self {
            credential,
            channels: Mutex::default(),
            connect: Box::new(connect),
        }
    }

    fn channel(&self, target: SocketAddr) -> Result<Channel, Status> {
        let mut channels = self.kept();
        if let Some(kept) = channels.get(&target) {
            return Ok(kept.channel.clone());
        }
        if channels.len() >= MAX_CHANNELS {
            channels.clear();
        }
        let endpoint = Endpoint::from_shared(format!("http://{target}"))
            .map_err(|e| Status::internal(e.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = (self.connect)(&endpoint);
        let kept = Kept {
            channel: channel.clone(),
            has_answered: false,
        };
        channels.insert(target, kept);
        Ok(channel)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<SocketAddr, Kept>> {
        self.channels
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Refresher for GrpcRefresher {
    async fn send(&self, target: SocketAddr, message: Message) -> Result<(), Status> {
        let no_credential =
            |error: anyhow::Error| Status::failed_precondition(format!("{error:#}"));
        let first = self.credential.get().await.map_err(no_credential)?;
        let mut client = RefreshServiceClient::new(self.channel(target)?);
        let mut call = async |credential| match message.clone() {
            Message::Refresh(request) => {
                let call = client.refresh(with_credential(request, credential));
                call.await.map(drop)
            }
            Message::Flush(request) => {
                let call = client.flush(with_credential(request, credential));
                call.await.map(drop)
            }
        };
        let mut answer = call(first.clone()).await;
        // A refusal has come by the connection, too.
        let has_come = answer.is_ok() || was_refused(&answer);
        if let (true, Some(kept)) = (has_come, self.kept().get_mut(&target)) {
            kept.has_answered = true;
        }
        if !was_refused(&answer) {
            return answer;
        }
        let known = self.credential.fetch().await.map_err(no_credential)?;
        for other in [Some(known.current), known.previous].into_iter().flatten() {
            if was_refused(&answer) && other != first {
                answer = call(other).await;
            }
        }
        answer
    }

    fn disconnect(&self, target: SocketAddr) -> bool {
        self.kept()
            .remove(&target)
            .is_some_and(|kept| kept.has_answered)
    }
}

fn with_credential<T>(message: T, credential: MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(REFRESH_CREDENTIAL_HEADER, credential);
    request
}

fn was_refused<T>(answer: &Result<T, Status>) -> bool {
    answer
        .as_ref()
        .is_err_and(|status| status.code() == Code::Unauthenticated)
}

#[cfg(test)]
mod grpc_tests;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tagged_config_discovery::DiscoveryError;
    use tagged_config_domain::{Backend, LocationId, Record, Revision};
    use tagged_config_stores::Entry;

    use super::*;
    use crate::change::NewState;

    struct Tasks {
        /// What each discovery finds; the last one for ever.
        found: Vec<anyhow::Result<Vec<u16>, ()>>,
        asked: AtomicUsize,
    }

    impl Discover for Tasks {
        async fn discover(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
            let turn = self
                .asked
                .fetch_add(1, Ordering::SeqCst)
                .min(self.found.len() - 1);
            let ports = self.found[turn]
                .as_ref()
                .map_err(|()| DiscoveryError::new("throttled"))?;
            Ok(ports.iter().map(|port| address(*port)).collect())
        }
    }

    /// Ports below 10 answer, 10 to 19 refuse, 20 to 29 never answer, 30 to 39 answer at the second call, 40 to 49 do so on
    /// a new connection only.
    #[derive(Default)]
    struct Calls(Mutex<HashMap<u16, usize>>);

    impl Refresher for Calls {
        async fn send(&self, target: SocketAddr, _: Message) -> Result<(), Status> {
            let calls = {
                let mut calls = self.0.lock().unwrap();
                let count = calls.entry(target.port()).or_default();
                *count += 1;
                *count
            };
            match target.port() {
                20..30 => std::future::pending().await,
                40..50 if calls == 1 => std::future::pending().await,
                0..10 | 40..50 => Ok(()),
                30..40 if calls > 1 => Ok(()),
                _ => Err(Status::unavailable("refused")),
            }
        }

        fn disconnect(&self, target: SocketAddr) -> bool {
            (40..50).contains(&target.port())
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn change(bytes: usize) -> Change {
        let revision = Revision {
            incarnation: 0,
            version: 1,
        };
        let id = LocationId::new(Backend("dynamodb"), "TENANT#A", format!("CONFIG#{bytes}"));
        Change {
            entry: Entry::written(&id, revision, 0),
            id,
            revision,
            state: NewState::Value(Record::new("x".repeat(bytes), "text/plain", revision, None)),
            written_at_ms: 0,
            whole_seconds: false,
            noted: None,
        }
    }

    async fn fan_out(
        found: Vec<Result<Vec<u16>, ()>>,
    ) -> (anyhow::Result<Fanout>, HashMap<u16, usize>) {
        let (tasks, calls) = (
            Tasks {
                found,
                asked: AtomicUsize::new(0),
            },
            Calls::default(),
        );
        let messages = messages(&[change(1)]);
        let result = run(&messages, OnTimeout::Retry, &tasks, &calls).await;
        (result, calls.0.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn all_targets_acknowledge() {
        let (fanout, calls) = fan_out(vec![Ok(vec![1, 2, 3])]).await;
        let fanout = fanout.unwrap();
        assert_eq!(
            (fanout.targets, fanout.acknowledged, fanout.laggards),
            (3, 3, vec![])
        );
        assert!(calls.values().all(|count| *count == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hangs_or_is_dead_is_a_laggard_and_delays_no_other() {
        let (fanout, calls) = fan_out(vec![Ok(vec![1, 10, 20])]).await;
        let fanout = fanout.unwrap();
        assert_eq!((fanout.targets, fanout.acknowledged), (3, 1));
        assert_eq!(fanout.laggards, [address(10), address(20)]);
        assert_eq!(calls[&1], 1, "a task that acknowledged gets no second call");
        assert_eq!(
            calls[&10], 6,
            "three times, and after the second discovery again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_stopped_is_no_laggard_and_one_that_started_gets_the_changes() {
        let (fanout, calls) = fan_out(vec![Ok(vec![1, 10]), Ok(vec![1, 2])]).await;
        let fanout = fanout.unwrap();
        assert_eq!(
            (fanout.targets, fanout.acknowledged, fanout.laggards),
            (2, 2, vec![])
        );
        assert_eq!(calls[&2], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_gets_several_chances() {
        let (fanout, _) = fan_out(vec![Ok(vec![30])]).await;
        assert_eq!(fanout.unwrap().acknowledged, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_task_there_is_nothing_to_do_and_without_discovery_it_fails() {
        assert_eq!(fan_out(vec![Ok(vec![])]).await.0.unwrap().targets, 0);
        assert!(fan_out(vec![Err(())]).await.0.is_err());
        let second_discovery_fails = fan_out(vec![Ok(vec![1, 10]), Err(())]).await.0.unwrap();
        assert_eq!(second_discovery_fails.laggards, [address(10)]);
    }

    #[test]
    fn large_changes_go_in_several_calls() {
        let changes: Vec<_> = [900_000, 900_000, 900_001, 10].map(change).into();
        assert_eq!(
            requests(&changes)
                .iter()
                .map(|r| r.changes.len())
                .collect::<Vec<_>>(),
            [2, 2]
        );
        assert!(
            requests(&changes)
                .iter()
                .all(|r| r.encoded_len() < 4 * 1024 * 1024)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_is_deferred_to_the_journal_and_the_next_batch_does_not_wait() {
        let tasks = Tasks {
            found: vec![Ok(vec![1, 20])],
            asked: AtomicUsize::new(0),
        };
        let calls = Calls::default();
        let began = tokio::time::Instant::now();
        let messages = messages(&[change(1)]);
        let fanout = run(&messages, OnTimeout::DeferToJournal, &tasks, &calls)
            .await
            .unwrap();
        assert_eq!(fanout.laggards, [address(20)]);
        assert_eq!(began.elapsed(), DEADLINE);
        assert_eq!(calls.0.into_inner().unwrap()[&20], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_died_while_the_function_was_frozen_is_made_anew() {
        let tasks = Tasks {
            found: vec![Ok(vec![40])],
            asked: AtomicUsize::new(0),
        };
        let calls = Calls::default();
        let messages = messages(&[change(1)]);
        let fanout = run(&messages, OnTimeout::DeferToJournal, &tasks, &calls)
            .await
            .unwrap();
        assert_eq!((fanout.acknowledged, fanout.laggards), (1, vec![]));
    }
}
