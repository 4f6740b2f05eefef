//! The least that a tonic server can do for one GetConfig: no token, no cache, a constant value. What `make bench-peers`
//! holds the service's hits against: `tonic-floor ADDRESS VALUE_BYTES`.

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
    tonic::include_proto!("tagged.config.v1");
}

struct Floor {
    value: String,
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
        }))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: tonic-floor ADDRESS VALUE_BYTES";
    let address = arguments.next().context(usage)?.parse().context(usage)?;
    let bytes = arguments.next().context(usage)?.parse().context(usage)?;
    let floor = Floor {
        value: "x".repeat(bytes),
    };
    Server::builder()
        .add_service(ConfigServiceServer::new(floor))
        .serve(address)
        .await?;
    Ok(())
}
