//! The edges: in process where time is the test's, over real sockets where the connection matters.

use std::{future::poll_fn, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::body::Body as HttpBody;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::StreamBody;
use tagged_config_auth::{Authenticator, REVOCATION_BOUND};
use tagged_config_domain::{Record, Revision, TokenRules};
use tagged_config_proto::v1::{
    GetConfigRequest, PutConfigRequest, WatchConfigRequest,
    config_service_client::ConfigServiceClient, watch_config_response::Event,
};
use tagged_config_runtime::shutdown::{Readiness, Shutdown, ShutdownTrigger, shutdown_pair};
use tagged_config_testkit::{AUDIENCE, ISSUER, Issuer, MemoryStore, SharedJwks};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, body::Body, codec::CompressionEncoding, codegen::Service};
use tower::ServiceExt;

use crate::transport::{
    connection::{CONNECTION_GRACE, PREFACE_TIMEOUT, incoming, server},
    grpc::{
        Shared,
        calls::{CALL_TIMEOUT, GrpcCalls},
    },
    http::{HttpState, router},
    writes::Writes,
};

const KEY: &str = "tenant_config_x";
const TENANT: &str = "A1";

struct Fixture {
    calls: GrpcCalls<SharedJwks>,
    routes: axum::Router,
    store: Arc<MemoryStore>,
    issuer: Issuer,
    jwks: SharedJwks,
    authenticator: Arc<Authenticator<SharedJwks>>,
    writes: Writes,
    stop: Shutdown,
    trigger: ShutdownTrigger,
}

fn fixture() -> Fixture {
    let service = crate::fixture::service(Duration::from_hours(1));
    let issuer = Issuer::new();
    let jwks = SharedJwks::of(issuer.jwks());
    let rules = TokenRules::new(ISSUER, AUDIENCE);
    let authenticator = Arc::new(Authenticator::new(rules, jwks.clone()));
    let writes = Writes::default();
    let (trigger, stop) = shutdown_pair();
    let state = HttpState {
        api: Arc::clone(&service.api),
        authenticator: Arc::clone(&authenticator),
        metrics: service.metrics,
        readiness: Readiness::default(),
        writes: writes.clone(),
    };
    let calls = GrpcCalls::new(Shared {
        api: service.api,
        authenticator: Arc::clone(&authenticator),
        writes: writes.clone(),
        connection_age: Duration::from_hours(9),
        stop: stop.clone(),
    });
    Fixture {
        calls,
        routes: router(
            Arc::new(state),
            None,
            &tagged_config_web::cors::AllowedOrigins::default(),
        ),
        store: service.tenant_store,
        issuer,
        jwks,
        authenticator,
        writes,
        stop,
        trigger,
    }
}

impl Fixture {
    /// In this process, without a connection.
    fn client(&self) -> ConfigServiceClient<GrpcCalls<SharedJwks>> {
        ConfigServiceClient::new(self.calls.clone())
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.issuer.token(TENANT, "writer"))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let token = self.authorization().parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        request
    }

    async fn value(&self) -> String {
        let request = self.request(GetConfigRequest {
            key: KEY.to_owned(),
            ..Default::default()
        });
        let answer = self.client().get_config(request).await.unwrap();
        answer.into_inner().value
    }

    fn put(&self, value: &str) -> tonic::Request<PutConfigRequest> {
        self.request(PutConfigRequest {
            key: KEY.to_owned(),
            value: value.to_owned(),
            content_type: "text/plain".to_owned(),
            ..Default::default()
        })
    }

    /// The source has "old", and so has the cache. Writes take effect there and do not return.
    async fn cached_old_value(&self) {
        let revision = Revision {
            incarnation: 0,
            version: 1,
        };
        let old = Record::new("old", "text/plain", revision, None);
        self.store.set(TENANT, "x", old);
        assert_eq!(self.value().await, "old");
        self.store.hold_writes();
    }

    async fn write_ends(&self) {
        let written = self.store.value(TENANT, "x").unwrap();
        assert_eq!(written.value, "new", "the write was sent");
        self.store.release_writes(1);
        self.writes.finished().await;
        assert_eq!(self.value().await, "new", "the cache follows the write");
    }

    /// On a real socket.
    async fn serve(&self, max_connections: usize) -> (SocketAddr, JoinHandle<()>) {
        self.serve_for(max_connections, Duration::from_hours(1))
            .await
    }

    async fn serve_for(
        &self,
        max_connections: usize,
        age: Duration,
    ) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server(age)
            .add_service(self.calls.clone())
            .serve_with_incoming_shutdown(
                incoming(listener, max_connections, age, self.stop.clone()),
                self.stop.wait(),
            );
        let serving = async move { serving.await.unwrap() };
        (address, tokio::spawn(serving))
    }
}

/// A request whose body never comes.
fn without_body(authorization: Option<&str>) -> Request<Body> {
    let pending = stream::pending::<Result<http_body::Frame<Bytes>, tonic::Status>>();
    let mut request = Request::post("/tagged.config.v1.ConfigService/GetConfig")
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(Body::new(StreamBody::new(pending)))
        .unwrap();
    if let Some(value) = authorization {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

fn code(answer: &Response<Body>) -> Code {
    let code = answer.headers()["grpc-status"].as_bytes();
    Code::from_bytes(code)
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_valid_token_is_refused_before_its_body_is_read() {
    let f = fixture();
    let stranger = format!("Bearer {}", Issuer::new().token(TENANT, "admin"));
    let started = Instant::now();
    for authorization in [None, Some("Bearer x"), Some(&*stranger)] {
        let answer = f.calls.clone().call(without_body(authorization)).await;
        assert_eq!(code(&answer.unwrap()), Code::Unauthenticated);
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_body_does_not_come_ends() {
    let f = fixture();
    for given in [None, Some("99999999H")] {
        let started = Instant::now();
        let mut request = without_body(Some(&f.authorization()));
        if let Some(given) = given {
            let given = HeaderValue::from_static(given);
            request.headers_mut().insert("grpc-timeout", given);
        }
        let answer = f.calls.clone().call(request).await.unwrap();
        assert_eq!(code(&answer), Code::DeadlineExceeded);
        assert!(started.elapsed() <= CALL_TIMEOUT + Duration::from_millis(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_outlives_its_deadline_and_the_cache_follows_it() {
    let f = fixture();
    f.cached_old_value().await;
    let mut request = f.put("new");
    request.set_timeout(Duration::from_secs(1));
    let refused = f.client().put_config(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    f.write_ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_write_outlives_its_dropped_connection_and_the_cache_follows_it() {
    let f = fixture();
    f.cached_old_value().await;
    let request = Request::put(format!("/v1/config/{KEY}"))
        .header(header::AUTHORIZATION, f.authorization())
        .header(header::CONTENT_TYPE, "text/plain")
        .body(HttpBody::from("new"))
        .unwrap();
    // hyper drops the handler when its connection closes.
    let answer = timeout(Duration::from_secs(1), f.routes.clone().oneshot(request));
    assert!(answer.await.is_err(), "the write is under way");
    f.write_ends().await;
}

#[tokio::test]
async fn compressed_requests_are_taken_and_answers_are_not_compressed() {
    let f = fixture();
    let mut client = f
        .client()
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let answer = client.put_config(f.put(&"x".repeat(100_000))).await;
    assert!(answer.unwrap().metadata().get("grpc-encoding").is_none());
    assert_eq!(f.value().await.len(), 100_000);
    // What decompresses to more than a request may have is refused.
    let bomb = f.put(&"x".repeat(10_000_000));
    let refused = client.put_config(bomb).await.unwrap_err();
    assert!(
        matches!(
            refused.code(),
            Code::ResourceExhausted | Code::OutOfRange | Code::Internal
        ),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_within_the_bound_after_its_key_has_left() {
    let f = fixture();
    let fresh = Arc::clone(&f.authenticator);
    let keys = tokio::spawn(async move { fresh.keep_fresh().await });
    let request = f.request(WatchConfigRequest {
        keys: vec![KEY.to_owned()],
    });
    let mut events = f.client().watch_config(request).await.unwrap().into_inner();
    // Another key that joins ends nothing.
    let other = Issuer::new();
    let both = serde_json::json!({"keys": [f.issuer.jwk(), other.jwk()]});
    f.jwks.publish(both.to_string());
    let lives = Instant::now() + REVOCATION_BOUND;
    while Instant::now() < lives {
        assert!(events.message().await.unwrap().is_some(), "heartbeats");
    }
    f.jwks.publish(other.jwks());
    let left = Instant::now();
    let ended = loop {
        match events.message().await {
            Ok(Some(message)) => assert!(matches!(message.event, Some(Event::Heartbeat(_)))),
            Ok(None) => panic!("a watch that is refused says so"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(left.elapsed() <= REVOCATION_BOUND, "{:?}", left.elapsed());
    keys.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_preface_is_closed() {
    let f = fixture();
    let (address, _serving) = f.serve(10).await;
    for begin in ["", "PRI * HTTP/2.0\r\n"] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert!(started.elapsed() <= 2 * PREFACE_TIMEOUT, "{begin:?}");
    }
}

#[tokio::test]
async fn a_half_sent_preface_does_not_hold_up_the_drain() {
    let f = fixture();
    let (address, serving) = f.serve(10).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    // A second connection's answer shows that the first one was accepted.
    let (client, connection) = h2_client(address).await;
    drop(client);
    connection.abort();
    f.trigger.fire();
    let drained = timeout(PREFACE_TIMEOUT / 2, serving).await;
    drained.expect("at once").unwrap();
}

#[tokio::test]
async fn a_grpc_connection_over_the_limit_waits_for_one_that_ends() {
    let f = fixture();
    let (address, _serving) = f.serve(1).await;
    let (client, connection) = h2_client(address).await;
    let mut second = pin!(h2_client(address));
    let early = timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "the first one is open");
    drop(client);
    connection.abort();
    second.await;
}

type H2Client = h2::client::SendRequest<Bytes>;

/// A connection on which the server's settings have arrived.
async fn h2_client(address: SocketAddr) -> (H2Client, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    pings.ping(h2::Ping::opaque()).await.unwrap();
    (client, connection)
}

/// Calls that begin later go to another connection, and those that run may end.
#[tokio::test]
async fn a_connection_at_its_age_gets_goaway() {
    let f = fixture();
    let (address, _serving) = f.serve_for(10, Duration::from_millis(200)).await;
    let (client, connection) = h2_client(address).await;
    let ended = timeout(CONNECTION_GRACE / 2, connection).await;
    ended.expect("GOAWAY").unwrap().unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_call_cannot_outlive_its_connections_age_and_grace() {
    let f = fixture();
    let (address, _serving) = f.serve_for(10, Duration::from_secs(1)).await;
    let started = Instant::now();
    let (mut client, connection) = h2_client(address).await;
    // Its body never ends.
    let request = Request::post(format!("http://{address}/x"))
        .body(())
        .unwrap();
    let (_answer, _body) = client.send_request(request, false).unwrap();
    let _ = connection.await.unwrap();
    assert!(started.elapsed() <= CONNECTION_GRACE + Duration::from_secs(5));
}

#[tokio::test]
async fn a_connection_that_sends_malformed_calls_gets_goaway() {
    let f = fixture();
    let (address, _serving) = f.serve(10).await;
    let (mut client, connection) = h2_client(address).await;
    for _ in 0..3_000 {
        // It says that a body comes, and ends.
        let request = Request::post(format!("http://{address}/x"))
            .header(header::CONTENT_LENGTH, 5)
            .body(())
            .unwrap();
        let ready = poll_fn(|context| client.poll_ready(context)).await;
        if ready.is_err() || client.send_request(request, true).is_err() {
            break;
        }
    }
    let ended = timeout(Duration::from_secs(10), connection).await;
    let error = ended.expect("GOAWAY").unwrap().unwrap_err();
    assert_eq!(
        error.reason(),
        Some(h2::Reason::ENHANCE_YOUR_CALM),
        "{error}"
    );
}
