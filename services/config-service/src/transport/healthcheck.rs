//! `config-service --healthcheck`: what ECS runs in the container, which has no shell and no curl.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Calls the gRPC health service of this task; 0 if it serves.
pub(crate) async fn run(mut address: SocketAddr) -> ExitCode {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match check(address).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            tracing::error!(%address, "not serving");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(%address, error = format!("{error:#}"), "no answer");
            ExitCode::FAILURE
        }
    }
}

async fn check(address: SocketAddr) -> anyhow::Result<bool> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT);
    let mut client = HealthClient::new(channel.connect().await?);
    let answer = client
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}
