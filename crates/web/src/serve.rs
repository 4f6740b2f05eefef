//! Serves HTTP/1 within limits, and drains.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tagged_config_runtime::shutdown::Shutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::{Acceptor, Chunks, Slot};

/// Most connections of one listener.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Time for a request's head, from the connection's begin or the last answer on: hyper has one timer for a half-sent head
/// and for an idle connection. It is longer than the load balancer's idle time-out (60 s), so that the load balancer, not
/// this side, closes an idle connection; otherwise it would meet a closed one now and then, and answer 502.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// In a drain, a connection without a request in progress is closed after this time, which answers need to be flushed.
const FLUSH_TIME: Duration = Duration::from_millis(250);
/// A client that takes no byte of an answer for so long is gone: nothing else ends a connection whose client never reads.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head: a token of 8 KiB, with room; API Gateway sends up to 10 KiB of its own.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What a connection keeps of requests and answers in its buffers, each way.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves `router` until `stop`, then until every request that has arrived whole is answered. What has not arrived whole
/// by then is not waited for.
pub async fn serve(listener: TcpListener, router: Router, max_connections: usize, stop: Shutdown) {
    let connections = TaskTracker::new();
    {
        let acceptor = Acceptor::new(listener, max_connections);
        let mut stopped = pin!(stop.wait());
        loop {
            let (stream, slot) = tokio::select! {
                biased;
                () = &mut stopped => break,
                accepted = acceptor.accept() => accepted,
            };
            connections.spawn(connection(stream, slot, router.clone(), stop.clone()));
        }
        // The listener closes here, before the drain: new connections are refused, not left waiting.
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, slot: Slot, router: Router, stop: Shutdown) {
    // Each request in progress holds a reference, and so does its answer's body.
    let requests = Arc::new(());
    let in_progress = Arc::downgrade(&requests);
    let service = service_fn(move |request| answer(router.clone(), request, requests.clone()));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let mut http = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    tokio::select! {
        ended = &mut http => return logged(ended),
        () = stop.wait() => http.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = &mut http => logged(ended),
        () = without_requests(&in_progress) => {}
    }
    drop(slot);
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    in_progress: Arc<()>,
) -> Result<Response, Infallible> {
    let response = router.oneshot(request.map(Body::new)).await?;
    Ok(response.map(|body| {
        // The reference lives as long as the body.
        Body::new(Chunks::of(body.map_frame(move |frame| {
            let _ = Arc::strong_count(&in_progress);
            frame
        })))
    }))
}

/// Waits until no request has been in progress for [`FLUSH_TIME`]. The service itself holds one reference.
async fn without_requests(in_progress: &Weak<()>) {
    let mut was_idle = false;
    loop {
        let is_idle = in_progress.strong_count() <= 1;
        if was_idle && is_idle {
            return;
        }
        was_idle = is_idle;
        sleep(FLUSH_TIME).await;
    }
}

fn logged(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(
            error = tagged_config_runtime::telemetry::chain(&error),
            "a connection failed"
        );
    }
}

#[cfg(test)]
mod tests;
