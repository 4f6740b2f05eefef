//! Default tonic, for `make bench-peers`: a server that answers one GetConfig with a constant. It verifies no token and
//! has no cache. `tonic-plain ADDRESS VALUE_BYTES`.

use std::net::SocketAddr;

use anyhow::Context;
use tonic::{Request, Response, Status, transport::Server};

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
    include!(concat!(env!("OUT_DIR"), "/copied/tagged.config.v1.rs"));
}

struct Floor {
    value: Vec<u8>,
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
            source: "dynamodb".into(),
            cached: true,
            content_type: "text/plain".into(),
            origin: "tenant".into(),
        }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let usage = "usage: tonic-plain ADDRESS VALUE_BYTES";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context(usage);
    let address: SocketAddr = next()?.parse().context(usage)?;
    let floor = Floor {
        value: vec![b'x'; next()?.parse().context(usage)?],
    };
    Server::builder()
        .add_service(ConfigServiceServer::new(floor))
        .serve(address)
        .await?;
    Ok(())
}
