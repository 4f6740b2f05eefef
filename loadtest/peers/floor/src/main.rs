//! The strong floor of `make bench-peers`: a tonic server that answers one GetConfig with a constant, and has what
//! config-service has: write coalescing, mimalloc, values that are shared and not copied. It verifies no token and has no
//! cache. `tonic-floor ADDRESS VALUE_BYTES`.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use futures::TryStreamExt;
use tagged_config_web::WriteCoalescer;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::pb::{
    GetConfigRequest, GetConfigResponse,
    config_service_server::{ConfigService, ConfigServiceServer},
};

#[expect(
    unreachable_pub,
    clippy::default_trait_access,
    reason = "generated code"
)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/shared/tagged.config.v1.rs"));
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Floor {
    value: Bytes,
}

#[tonic::async_trait]
impl ConfigService for Floor {
    async fn get_config(
        &self,
        request: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        Ok(Response::new(GetConfigResponse {
            key: request.into_inner().key,
            value: self.value.clone(),
            version: 1,
            source: Bytes::from_static(b"dynamodb"),
            cached: true,
            content_type: Bytes::from_static(b"text/plain"),
            origin: Bytes::from_static(b"tenant"),
        }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let usage = "usage: tonic-floor ADDRESS VALUE_BYTES";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context(usage);
    let address: SocketAddr = next()?.parse().context(usage)?;
    let floor = Floor {
        value: "x".repeat(next()?.parse().context(usage)?).into(),
    };
    let connections = TcpIncoming::bind(address)?.with_nodelay(Some(true));
    Server::builder()
        .add_service(ConfigServiceServer::new(floor))
        .serve_with_incoming(connections.map_ok(WriteCoalescer::new))
        .await?;
    Ok(())
}
