//! Finds config-service's tasks in Cloud Map: for the invalidator, which sends them changes, and for the tasks themselves, which
//! ask each other whether a change has arrived.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aws_sdk_servicediscovery::{
    Client,
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut,
    },
    error::BoxError,
    types::HealthStatusFilter,
};
use tagged_config_runtime::telemetry;
use thiserror::Error;

/// All that Cloud Map gives in one answer; there is no next page.
const MAX_RESULTS: i32 = 1_000;
const ATTEMPTS: u32 = 3;
const BACK_OFF: Duration = Duration::from_millis(100);

/// Finds the tasks.
pub trait Discover: Send + Sync {
    /// The refresh addresses of all tasks, healthy or not: one that is starting may hold values already.
    fn discover(&self) -> impl Future<Output = Result<Vec<SocketAddr>, DiscoveryError>> + Send;
}

/// Which tasks to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudMapConfig {
    /// The namespace's name.
    pub namespace: String,
    /// config-service's name in it.
    pub service: String,
    /// The port of every task's refresh listener.
    pub refresh_port: u16,
}

/// Cloud Map's API. DNS would give eight tasks at most.
#[derive(Debug)]
pub struct CloudMap {
    client: Client,
    config: CloudMapConfig,
}

/// The tasks cannot be found now.
#[derive(Debug, Error)]
#[error("the tasks cannot be found")]
pub struct DiscoveryError(#[source] BoxError);

// === impl DiscoveryError ===

impl DiscoveryError {
    /// The tasks cannot be found, for this reason.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}

// === impl CloudMap ===

impl CloudMap {
    /// Discovery with these settings.
    pub fn new(sdk: &aws_config::SdkConfig, config: CloudMapConfig) -> Self {
        let settings = aws_sdk_servicediscovery::config::Builder::from(sdk)
            .interceptor(NoDataPrefix)
            .build();
        Self {
            client: Client::from_conf(settings),
            config,
        }
    }

    async fn query(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
        let answer = self
            .client
            .discover_instances()
            .namespace_name(&self.config.namespace)
            .service_name(&self.config.service)
            .health_status(HealthStatusFilter::All)
            .max_results(MAX_RESULTS)
            .send()
            .await
            .map_err(DiscoveryError::new)?;
        let instances = answer
            .instances()
            .iter()
            .filter_map(|instance| instance.attributes());
        let addresses =
            instances.filter_map(|attributes| attributes.get("AWS_INSTANCE_IPV4")?.parse().ok());
        Ok(addresses
            .map(|ip: IpAddr| SocketAddr::new(ip, self.config.refresh_port))
            .collect())
    }
}

impl Discover for CloudMap {
    async fn discover(&self) -> Result<Vec<SocketAddr>, DiscoveryError> {
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
                    let chain = telemetry::chain(&error);
                    tracing::warn!(error = chain, attempt, "discovery failed");
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
