//! Against real sockets.

use std::net::SocketAddr;

use axum::routing::{get, put};
use http::StatusCode;
use tagged_config_runtime::shutdown::{ShutdownTrigger, shutdown_pair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::*;
use crate::{BODY_TIMEOUT, BodyError, layered, read_body};

/// More than the system's buffers of a connection hold.
const LARGE: usize = 32 * 1024 * 1024;

struct Server {
    address: SocketAddr,
    trigger: ShutdownTrigger,
    ended: JoinHandle<()>,
    release: Arc<Notify>,
}

async fn put_body(body: Body) -> StatusCode {
    match read_body(body, 1_000).await {
        Ok(_) => StatusCode::OK,
        Err(BodyError::TimedOut) => StatusCode::REQUEST_TIMEOUT,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}

async fn server(max_connections: usize) -> Server {
    let release = Arc::new(Notify::new());
    let waits = Arc::clone(&release);
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/put", put(put_body))
        .route("/large", get(async || "x".repeat(LARGE)))
        .route(
            "/waits",
            get(async move || {
                waits.notified().await;
                "x".repeat(1_000_000)
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, stop) = shutdown_pair();
    let ended = tokio::spawn(serve(listener, layered(router), max_connections, stop));
    Server {
        address,
        trigger,
        ended,
        release,
    }
}

impl Server {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

/// Everything up to the connection's end.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

/// Waits until an answer has begun.
async fn status_line(stream: &mut TcpStream) -> String {
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8(line.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_half_sent_head_is_closed_after_the_head_timeout() {
    let server = server(10).await;
    for text in [
        "",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nx-a: ",
    ] {
        let (stream, started) = (server.send(text).await, Instant::now());
        rest(stream).await;
        let open = started.elapsed();
        assert!(
            open >= HEAD_TIMEOUT.saturating_sub(Duration::from_millis(100))
                && open <= 2 * HEAD_TIMEOUT,
            "{text:?} was open for {open:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let server = server(10).await;
    let started = Instant::now();
    let stream = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let text = rest(stream).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(started.elapsed() <= 2 * HEAD_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_answered_with_408() {
    let server = server(10).await;
    let started = Instant::now();
    let head = "PUT /put HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345";
    let mut stream = server.send(head).await;
    assert_eq!(status_line(&mut stream).await, "HTTP/1.1 408");
    assert!(started.elapsed() <= BODY_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_one_that_ends() {
    let server = server(1).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = server.send(request).await;
    assert_eq!(status_line(&mut first).await, "HTTP/1.1 200");
    let mut second = server.send(request).await;
    let early = timeout(Duration::from_millis(50), second.readable()).await;
    assert!(early.is_err(), "the first one is still open");
    drop(first);
    assert_eq!(status_line(&mut second).await, "HTTP/1.1 200");
}

#[tokio::test]
async fn a_half_sent_head_does_not_hold_up_the_drain() {
    let server = server(10).await;
    let half = server.send("GET / HTTP/1.1\r\n").await;
    let mut used = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    status_line(&mut used).await;
    used.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    server.trigger.fire();
    timeout(Duration::from_secs(5), server.ended)
        .await
        .expect("well before the head's time-out")
        .unwrap();
    assert_eq!(rest(half).await, "");
}

#[tokio::test]
async fn the_drain_waits_for_a_request_in_progress_and_for_all_of_its_answer() {
    let mut server = server(10).await;
    let mut waiting = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    status_line(&mut waiting).await;
    waiting
        .write_all(b"GET /waits HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // A second connection's answer shows that the first one's request has been read.
    let mut other = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    status_line(&mut other).await;
    server.trigger.fire();
    let early = timeout(4 * FLUSH_TIME, &mut server.ended).await;
    assert!(early.is_err(), "a request is in progress");
    server.release.notify_one();
    let text = rest(waiting).await;
    assert!(text.ends_with(&"x".repeat(1_000_000)));
    server.ended.await.unwrap();
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "the listener is closed");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_closed_after_the_write_timeout() {
    let server = server(1).await;
    let request = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    let _deaf = server.send(&request.repeat(20)).await;
    let started = Instant::now();
    // The listener takes one connection: the next one is served when the first has ended.
    let mut next = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(status_line(&mut next).await, "HTTP/1.1 200");
    let open = started.elapsed();
    assert!(open <= 2 * WRITE_TIMEOUT, "it was open for {open:?}");
}

#[tokio::test]
async fn a_head_has_a_limit() {
    let server = server(10).await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx-a: {}",
        "a".repeat(2 * MAX_HEAD_BYTES)
    );
    let mut stream = server.send(&long).await;
    assert_eq!(status_line(&mut stream).await, "HTTP/1.1 431");
}

/// What is not sent yet is held by the body, so that its memory is counted and the drain waits for it.
#[tokio::test]
async fn an_answer_that_is_not_read_is_still_in_progress() {
    let mut server = server(10).await;
    let unread = server.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut other = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    status_line(&mut other).await;
    server.trigger.fire();
    let early = timeout(8 * FLUSH_TIME, &mut server.ended).await;
    assert!(early.is_err(), "most of the answer is not sent");
    assert!(rest(unread).await.len() > LARGE);
    server.ended.await.unwrap();
}
