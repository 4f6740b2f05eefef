//! Tasks are fakes whose ports say how they behave; the last test asks a task over a socket.

use std::{
    collections::HashMap,
    slice,
    sync::{
        Arc, Mutex as PlainMutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tagged_config_discovery::Discover;
use tagged_config_domain::{Backend, ConfigName, Record, Revision, Store};
use tagged_config_stores::Stores;
use tagged_config_testkit::{Issuer, admitted};
use tokio::{
    net::TcpListener,
    time::{advance, sleep},
};
use tonic::transport::{Server, server::TcpIncoming};

use super::*;
use crate::{cache::Wait, change::Changes, transport::refresh};

/// Ports below 10 have the change after 60 ms; 10 to 19 refuse connections; 20 to 29 never answer; 30 to 39 do not get the
/// change; 40 to 49 refuse the credential; 50 to 59 take the second call.
struct Fake {
    /// What each discovery finds, `None` for a failure; the last one for ever.
    found: Vec<Option<Vec<u16>>>,
    finds: AtomicUsize,
    calls: PlainMutex<HashMap<u16, usize>>,
    disconnected: PlainMutex<Vec<u16>>,
}

impl Fake {
    fn of(found: Vec<Option<Vec<u16>>>) -> Arc<Self> {
        Arc::new(Self {
            found,
            finds: AtomicUsize::new(0),
            calls: PlainMutex::default(),
            disconnected: PlainMutex::default(),
        })
    }
}

#[tonic::async_trait]
impl Peers for Arc<Fake> {
    async fn find(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let turn = self.finds.fetch_add(1, Ordering::SeqCst);
        let ports = self.found[turn.min(self.found.len() - 1)].as_ref();
        let ports = ports.ok_or_else(|| DiscoveryError::new("throttled"))?;
        Ok(ports.iter().map(|port| address(*port)).collect())
    }

    async fn ask(
        &self,
        task: SocketAddr,
        change: pb::AwaitChangeRequest,
    ) -> Result<pb::AwaitChangeResponse, Status> {
        let port = task.port();
        let calls = {
            let mut calls = self.calls.lock().unwrap();
            let count = calls.entry(port).or_default();
            *count += 1;
            *count
        };
        let answer = |is_live: bool| pb::AwaitChangeResponse {
            served_by: format!("task {port}"),
            is_live,
            after_ms: 0,
        };
        match port {
            0..10 => {
                sleep(Duration::from_millis(60)).await;
                Ok(answer(true))
            }
            20..30 => std::future::pending().await,
            30..40 => {
                sleep(Duration::from_millis(
                    u64::try_from(change.wait_ms).unwrap(),
                ))
                .await;
                Ok(answer(false))
            }
            40..50 => Err(Status::unauthenticated("wrong")),
            50..60 if calls > 1 => Ok(answer(true)),
            _ => Err(Status::unavailable("refused")),
        }
    }

    fn disconnect(&self, task: SocketAddr) {
        self.disconnected.lock().unwrap().push(task.port());
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 7], port))
}

fn id() -> LocationId {
    LocationId::new(Backend("memory"), "A", "x")
}

async fn wait(found: Vec<Option<Vec<u16>>>) -> Report {
    let tasks = Tasks::of(Fake::of(found));
    tasks.wait(&id(), Awaited::Written(18), None).await
}

#[tokio::test(start_paused = true)]
async fn a_change_that_every_task_has_is_live() {
    let report = wait(vec![Some(vec![1, 2])]).await;
    assert!(report.is_live());
    let message = pb::TasksReport::from(report);
    assert_eq!(
        message.summary,
        "version 18 is live on 2/2 tasks after 60 ms"
    );
    assert_eq!(message.milliseconds, 60);
    let first = pb::TaskReport {
        task: "task 1".to_owned(),
        live: true,
        milliseconds: 60,
        problem: String::new(),
    };
    assert_eq!(message.tasks.first(), Some(&first));
    let tasks = Tasks::of(Fake::of(vec![Some(vec![1])]));
    let report = tasks.wait(&id(), Awaited::Deleted(19), None).await;
    assert_eq!(
        report.summary(),
        "the deletion is live on 1/1 tasks after 60 ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_hangs_is_named_and_its_connection_is_dropped() {
    let fake = Fake::of(vec![Some(vec![1, 20])]);
    let tasks = Tasks::of(Arc::clone(&fake));
    let report = tasks.wait(&id(), Awaited::Written(18), None).await;
    assert_eq!(
        report.summary(),
        "version 18 is live on 1/2 tasks after 5000 ms; not on 10.0.1.7:20 (no answer)"
    );
    assert_eq!(*fake.disconnected.lock().unwrap(), [20]);
    assert_eq!(pb::TasksReport::from(report).milliseconds, 0);
    let limit = Some(Duration::from_mins(1));
    let report = tasks.wait(&id(), Awaited::Written(18), limit).await;
    assert_eq!(report.after, MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_answers_without_the_change_says_why() {
    for (port, expected) in [
        (
            30,
            "after 4900 ms; not on task 30 (still has what was before)",
        ),
        (10, "after 5000 ms; not on 10.0.1.7:10 (no answer)"),
        (
            40,
            "after 0 ms; not on 10.0.1.7:40 (it refuses the credential)",
        ),
    ] {
        let summary = wait(vec![Some(vec![port])]).await.summary();
        let expected = format!("version 18 is live on 0/1 tasks {expected}");
        assert_eq!(summary, expected);
    }
    let all_refuse = wait(vec![Some((40..48).collect())]).await.summary();
    assert!(all_refuse.ends_with(", 3 more"), "{all_refuse}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_made_again_until_its_task_is_gone() {
    let report = wait(vec![Some(vec![50])]).await;
    assert!(report.is_live(), "{}", report.summary());
    assert_eq!(report.after, RETRY_AFTER);
    let report = wait(vec![Some(vec![1, 10]), Some(vec![1])]).await;
    assert!(report.is_live(), "{}", report.summary());
    assert_eq!(report.tasks.len(), 1);
    assert!(report.after <= DISCOVERY_TTL + RETRY_AFTER);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_cannot_be_asked_fail_no_write() {
    let unknown = "it is not known where version 18 is live";
    let report = wait(vec![None]).await;
    assert!(!report.is_live());
    let message = pb::TasksReport::from(report);
    let expected = format!("{unknown}: the tasks cannot be found");
    assert_eq!((message.summary, message.milliseconds), (expected, 0));
    let summary = wait(vec![Some(vec![])]).await.summary();
    assert_eq!(summary, format!("{unknown}: no task is registered"));
    let tasks = Tasks::of(Fake::of(vec![Some(vec![1])]));
    let permits = u32::try_from(MAX_WAITING).unwrap();
    let _all = tasks.waiting.try_acquire_many(permits).unwrap();
    let report = tasks.wait(&id(), Awaited::Written(18), None).await;
    let expected = format!("{unknown}: too many writes are waiting");
    assert_eq!(report.summary(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_cloud_map_is_used_for_a_second() {
    let fake = Fake::of(vec![Some(vec![1])]);
    let tasks = Tasks::of(Arc::clone(&fake));
    for finds in [1, 1, 2] {
        if finds == 2 {
            advance(DISCOVERY_TTL).await;
        }
        tasks.wait(&id(), Awaited::Written(18), None).await;
        assert_eq!(fake.finds.load(Ordering::SeqCst), finds);
    }
}

/// A task at this address.
struct Here(SocketAddr);

impl Discover for Here {
    async fn discover(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        Ok(vec![self.0])
    }
}

fn credentials(current: &str, previous: Option<&str>) -> RefreshCredentials {
    RefreshCredentials {
        current: current.into(),
        previous: previous.map(Into::into),
    }
}

#[tokio::test]
async fn a_task_is_asked_by_its_internal_port() {
    let service = crate::fixture::service(Duration::from_hours(1));
    let store: Arc<dyn Store> = service.tenant_store.clone();
    let stores = Stores::from_parts(vec![("tenant", Arc::clone(&store))]);
    let cache = Arc::clone(&service.cache);
    let changes = Changes::new(
        stores,
        Arc::clone(&cache),
        Arc::clone(&service.metrics),
        None,
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    // It was not replaced yet after a rotation.
    let refresh = refresh::service(Arc::new(changes), credentials("old", None), "task".into());
    let server = Server::builder().add_service(refresh);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let tenant = Issuer::new().tenant("A");
    let layers = store.locate(&tenant, ConfigName::parse("x").unwrap());
    let location = layers.first();
    let revision = Revision {
        incarnation: 0,
        version: 17,
    };
    let record = Record::new("17", "text/plain", revision, None);
    service.tenant_store.set("A", "x", record);
    let admitted = admitted(&tenant);
    cache
        .fill(
            &store,
            &admitted,
            slice::from_ref(location),
            Wait::UntilDone,
        )
        .await;

    let tasks = Tasks::of(GrpcPeers::new(Here(here), &credentials("new", Some("old"))));
    let change = Awaited::Written(18);
    let limit = Some(Duration::from_millis(300));
    let report = tasks.wait(location.id(), change, limit).await;
    assert!(!report.is_live(), "{}", report.summary());
    let arrival = async {
        sleep(Duration::from_millis(20)).await;
        cache.invalidate(location.id());
    };
    let (report, ()) = tokio::join!(tasks.wait(location.id(), change, None), arrival);
    assert!(report.is_live(), "{}", report.summary());
    assert_eq!(report.tasks[0].task, "task");

    let elsewhere = LocationId::new(Backend("elsewhere"), "A", "x");
    let summary = tasks.wait(&elsewhere, change, None).await.summary();
    assert!(summary.ends_with("(it cannot tell)"), "{summary}");
    let stranger = Tasks::of(GrpcPeers::new(Here(here), &credentials("wrong", None)));
    let report = stranger.wait(location.id(), change, None).await;
    let summary = report.summary();
    assert!(
        summary.ends_with("(it refuses the credential)"),
        "{summary}"
    );
}
