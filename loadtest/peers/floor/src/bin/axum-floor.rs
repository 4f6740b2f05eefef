//! A minimal axum server for one order and for one configuration: no token, no cache, the body is not read,
//! constant answers. `make bench-peers` compares the REST interfaces with it:
//! `axum-floor ADDRESS ORDER_BYTES ENTRY_BYTES`.

use std::net::SocketAddr;

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    http::header,
    response::IntoResponse,
    routing::{get, post},
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("usage: axum-floor ADDRESS ORDER_BYTES ENTRY_BYTES")
    };
    let address: SocketAddr = next()?.parse()?;
    let order = Bytes::from("x".repeat(next()?.parse()?));
    let entry = Bytes::from("x".repeat(next()?.parse()?));
    let routes = Router::new()
        .route("/v1/orders", post(async move |_: Bytes| json(order)))
        .route("/v1/config/{*key}", get(async move || json(entry)));
    axum::serve(TcpListener::bind(address).await?, routes).await?;
    Ok(())
}

fn json(body: Bytes) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], body)
}
