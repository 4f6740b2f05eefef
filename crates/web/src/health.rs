//! Liveness and readiness over HTTP, and the probe that a container without a shell runs.

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use tagged_config_runtime::shutdown::Readiness;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// `/healthz` (the process answers) and `/readyz` (it wants requests; 503 otherwise).
pub fn routes<S: Clone + Send + Sync + 'static>(readiness: Readiness) -> Router<S> {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(async move || ready(&readiness)))
}

/// The handler of `/healthz`, for further paths that only say that the process answers.
pub async fn alive() -> &'static str {
    "ok\n"
}

fn ready(readiness: &Readiness) -> Response {
    if readiness.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

/// Requests `/readyz` of this address, or of loopback if it is unspecified. Succeeds if the answer is 200 within 2 s.
pub async fn probe(mut address: SocketAddr) -> ExitCode {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    if let Ok(Ok(true)) = timeout(PROBE_TIMEOUT, is_ready(address)).await {
        ExitCode::SUCCESS
    } else {
        tracing::error!(%address, "not ready");
        ExitCode::FAILURE
    }
}

async fn is_ready(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"HTTP/1.1 200")
}
