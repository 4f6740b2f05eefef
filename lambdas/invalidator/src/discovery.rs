//! Discovers config-service's tasks in Cloud Map.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context;
use aws_sdk_servicediscovery::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
    types::HealthStatusFilter,
};

use crate::config::Config;

/// All that Cloud Map gives in one answer; there is no next page.
const MAX_RESULTS: i32 = 1_000;
const ATTEMPTS: u32 = 3;
const BACK_OFF: Duration = Duration::from_millis(100);

/// Finds the tasks to refresh.
pub(crate) trait Discover: Send + Sync {
    /// The refresh addresses of all tasks, healthy or not: one that is starting may hold values already.
    fn discover(&self) -> impl Future<Output = anyhow::Result<Vec<SocketAddr>>> + Send;
}

/// Cloud Map's API. DNS would give eight tasks at most.
#[derive(Debug)]
pub(crate) struct CloudMap {
    client: Client,
    namespace: String,
    service: String,
    refresh_port: u16,
}

impl CloudMap {
    /// Discovery with these settings.
    pub(crate) fn new(sdk: &aws_config::SdkConfig, config: &Config) -> Self {
        let settings = aws_sdk_servicediscovery::config::Builder::from(sdk)
            .interceptor(NoDataPrefix)
            .build();
        Self {
            client: Client::from_conf(settings),
            namespace: config.namespace.clone(),
            service: config.service.clone(),
            refresh_port: config.refresh_port,
        }
    }

    async fn query(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let answer = self
            .client
            .discover_instances()
            .namespace_name(&self.namespace)
            .service_name(&self.service)
            .health_status(HealthStatusFilter::All)
            .max_results(MAX_RESULTS)
            .send()
            .await
            .context("DiscoverInstances")?;
        let instances = answer
            .instances()
            .iter()
            .filter_map(|instance| instance.attributes());
        let addresses =
            instances.filter_map(|attributes| attributes.get("AWS_INSTANCE_IPV4")?.parse().ok());
        Ok(addresses
            .map(|ip: std::net::IpAddr| SocketAddr::new(ip, self.refresh_port))
            .collect())
    }
}

impl Discover for CloudMap {
    async fn discover(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let mut attempt = 1;
        loop {
            match self.query().await {
                Ok(mut found) => {
                    found.sort_unstable();
                    found.dedup();
                    return Ok(found);
                }
                Err(error) if attempt >= ATTEMPTS => return Err(error),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), attempt, "discovery failed");
                    tokio::time::sleep(BACK_OFF * attempt).await;
                    attempt += 1;
                }
            }
        }
    }
}

/// The SDK puts `data-` before the host also where the endpoint is an emulator's, which has no such host.
#[derive(Debug)]
struct NoDataPrefix;

impl Intercept for NoDataPrefix {
    fn name(&self) -> &'static str {
        "NoDataPrefix"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if let Some(uri) = without_data_prefix(request.uri()) {
            request.set_uri(uri)?;
        }
        Ok(())
    }
}

/// The URI without the prefix, or `None` if it may stay: AWS's own hosts have it.
fn without_data_prefix(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once("://data-")?;
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let of_aws = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"]
        .iter()
        .any(|suffix| host.ends_with(suffix));
    (!of_aws).then(|| format!("{scheme}://{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aws_has_data_hosts() {
        assert_eq!(
            without_data_prefix("http://data-127.0.0.1:4566/").as_deref(),
            Some("http://127.0.0.1:4566/")
        );
        assert_eq!(
            without_data_prefix("http://data-localhost:4566/x").as_deref(),
            Some("http://localhost:4566/x")
        );
        assert_eq!(
            without_data_prefix("https://data-servicediscovery.us-east-1.amazonaws.com/"),
            None
        );
        assert_eq!(without_data_prefix("http://127.0.0.1:4566/"), None);
    }
}
