//! [`GrpcRefresher`] itself, with tonic's client, over transports that fail as networks do.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hyper_util::rt::TokioIo;
use tagged_config_discovery::DiscoveryError;
use tagged_config_proto::v1::{
    AwaitChangeResponse, FlushResponse, RefreshResponse,
    refresh_service_server::{RefreshService, RefreshServiceServer},
};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tonic::{Response, transport::Server};
use tower::service_fn;

use super::*;

/// All tasks, at one address.
struct One;

impl Discover for One {
    async fn discover(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        Ok(vec![target()])
    }
}

fn target() -> SocketAddr {
    SocketAddr::from(([10, 255, 255, 1], 50_052))
}

struct Task;

#[tonic::async_trait]
impl RefreshService for Task {
    async fn refresh(
        &self,
        _: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::RefreshResponse>, Status> {
        Ok(Response::new(RefreshResponse::default()))
    }

    async fn flush(
        &self,
        _: Request<pb::FlushRequest>,
    ) -> Result<Response<pb::FlushResponse>, Status> {
        Ok(Response::new(FlushResponse::default()))
    }

    async fn await_change(
        &self,
        _: Request<pb::AwaitChangeRequest>,
    ) -> Result<Response<pb::AwaitChangeResponse>, Status> {
        Ok(Response::new(AwaitChangeResponse::default()))
    }
}

/// A network in front of one task. After [`Network::partition`], connections that are open carry nothing and stay open.
#[derive(Clone, Default)]
struct Network {
    connections: Arc<AtomicUsize>,
    changed: Arc<tokio::sync::Notify>,
}

impl Network {
    fn dial(&self) -> DuplexStream {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let (client, near) = duplex(64 * 1024);
        let (far, server) = duplex(64 * 1024);
        let changed = Arc::clone(&self.changed);
        tokio::spawn(async move {
            let (mut near, mut far) = (near, far);
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                () = changed.notified() => std::future::pending().await,
            }
        });
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
        tokio::spawn(
            Server::builder()
                .add_service(RefreshServiceServer::new(Task))
                .serve_with_incoming(incoming),
        );
        client
    }

    fn partition(&self) {
        self.changed.notify_waiters();
    }

    fn refresher(&self) -> GrpcRefresher {
        let network = self.clone();
        GrpcRefresher::with_transport(Credential::known("secret"), move |endpoint| {
            let network = network.clone();
            endpoint.connect_with_connector_lazy(service_fn(move |_| {
                let client = network.dial();
                async move { Ok::<_, std::io::Error>(TokioIo::new(client)) }
            }))
        })
    }
}

fn black_hole() -> GrpcRefresher {
    GrpcRefresher::with_transport(Credential::known("secret"), |endpoint| {
        endpoint.connect_with_connector_lazy(service_fn(|_| {
            std::future::pending::<std::io::Result<TokioIo<DuplexStream>>>()
        }))
    })
}

async fn send_to(refresher: &GrpcRefresher, on_timeout: OnTimeout) -> (Fanout, Duration) {
    let began = tokio::time::Instant::now();
    let messages = [Message::Refresh(pb::RefreshRequest::default())];
    let fanout = run(&messages, on_timeout, &One, refresher).await.unwrap();
    (fanout, began.elapsed())
}

/// A host that vanished: nothing answers, not even to say that nobody listens.
#[tokio::test(start_paused = true)]
async fn an_address_that_drops_packets_costs_one_deadline_and_no_channel_is_kept() {
    let refresher = black_hole();
    for _ in 0..2 {
        let (fanout, elapsed) = send_to(&refresher, OnTimeout::DeferToJournal).await;
        assert_eq!(fanout.laggards, [target()]);
        assert_eq!(elapsed, DEADLINE);
        assert!(refresher.kept().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_journal_an_address_that_drops_packets_is_retried() {
    let (fanout, elapsed) = send_to(&black_hole(), OnTimeout::Retry).await;
    assert_eq!(fanout.laggards, [target()]);
    assert_eq!(elapsed, (DEADLINE * 3 + Duration::from_millis(250)) * 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answered_and_then_hangs_is_replaced_within_the_call() {
    let network = Network::default();
    let refresher = network.refresher();
    let (first, _) = send_to(&refresher, OnTimeout::DeferToJournal).await;
    assert_eq!(first.acknowledged, 1);
    network.partition();
    let (second, elapsed) = send_to(&refresher, OnTimeout::DeferToJournal).await;
    assert_eq!((second.acknowledged, second.laggards), (1, vec![]));
    assert_eq!(elapsed, DEADLINE + Duration::from_millis(WAITS_MS[1]));
    assert_eq!(network.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn keepalive_finds_an_idle_connection_whose_other_end_vanished() {
    let network = Network::default();
    let refresher = network.refresher();
    send_to(&refresher, OnTimeout::DeferToJournal).await;
    network.partition();
    tokio::time::sleep(KEEPALIVE * 2 + Duration::from_secs(1)).await;
    let (fanout, elapsed) = send_to(&refresher, OnTimeout::DeferToJournal).await;
    assert_eq!(fanout.acknowledged, 1);
    assert_eq!(
        elapsed,
        Duration::ZERO,
        "a new connection, without a time-out"
    );
    assert_eq!(network.connections.load(Ordering::SeqCst), 2);
}
