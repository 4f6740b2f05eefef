//! Where the system under test is: options, Terraform's outputs, the environment, in this order.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail};
use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use hyper_util::client::proxy::matcher::Matcher;
use serde_json::Value;
use tagged_config_runtime::{
    env::{Env, ProcessEnv},
    proxy::{direct_to_emulator, is_local},
};

use crate::{Usage, cli::Where};

/// The port of gRPC where Cloud Map names none.
const DEFAULT_GRPC_PORT: &str = "50051";
/// The path that HTTP is served at, where only the gRPC address is known.
const HTTP_PORT: &str = "8080";

/// What was found. Empty strings and lists are what was not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    pub(crate) api_url: String,
    pub(crate) alb_url: String,
    pub(crate) order_url: String,
    pub(crate) grpc: Vec<String>,
    pub(crate) http: Vec<String>,
    pub(crate) user_pool_id: String,
    pub(crate) client_id: String,
    pub(crate) table: String,
    pub(crate) parameter_root: String,
    /// Empty where the tag `blob_config_*` is left out.
    pub(crate) blob_bucket: String,
    /// Empty where the tag `secret_config_*` is left out.
    pub(crate) secret_root: String,
    pub(crate) log_group: String,
}

/// Finds a setting in what there is.
struct Finder {
    outputs: HashMap<String, Value>,
}

impl Targets {
    /// Finds everything that can be found without a call, and the replicas by Cloud Map if they are not given.
    pub(crate) async fn find(place: &Where) -> anyhow::Result<Self> {
        let finder = Finder {
            outputs: outputs(place)?,
        };
        let mut found = Self {
            api_url: finder.url(place.api_url.as_deref(), "api_url", "API_URL")?,
            alb_url: finder.alb(place.alb_url.as_deref())?,
            order_url: finder.url(place.order_url.as_deref(), "order_url", "ORDER_URL")?,
            grpc: finder.list(&place.grpc, "CONFIG_GRPC"),
            http: finder.list(&place.http, "CONFIG_HTTP"),
            user_pool_id: finder.text(
                place.user_pool_id.as_deref(),
                "user_pool_id",
                "USER_POOL_ID",
            ),
            client_id: finder.text(place.client_id.as_deref(), "client_id", "CLIENT_ID"),
            table: finder.text(place.table.as_deref(), "table_name", "TABLE_NAME"),
            parameter_root: finder.text(
                place.parameter_root.as_deref(),
                "parameter_root",
                "PARAMETER_ROOT",
            ),
            blob_bucket: finder.text(place.blob_bucket.as_deref(), "blob_bucket", "BLOB_BUCKET"),
            secret_root: finder.text(place.secret_root.as_deref(), "secret_root", "SECRET_ROOT"),
            log_group: finder.log_group(place.log_group.as_deref()),
        };
        let namespace = finder.text(None, "", "CLOUD_MAP_NAMESPACE");
        if found.grpc.is_empty() && !namespace.is_empty() {
            found.grpc = discover(&namespace).await?;
        }
        if found.http.is_empty() {
            let host = |address: &String| {
                address
                    .rsplit_once(':')
                    .map(|(host, _)| format!("{host}:{HTTP_PORT}"))
            };
            found.http = found.grpc.iter().filter_map(host).collect();
        }
        if found.order_url.is_empty() {
            found.order_url.clone_from(&found.alb_url);
        }
        for address in found.grpc.iter().chain(&found.http) {
            let well_formed = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !well_formed {
                return Err(
                    Usage(format!("{address:?} is no address: it must be host:port")).into(),
                );
            }
        }
        Ok(found)
    }

    /// The replicas, which this command cannot do without.
    pub(crate) fn need_grpc(&self) -> anyhow::Result<&[String]> {
        if self.grpc.is_empty() {
            return Err(missing("grpc"));
        }
        Ok(&self.grpc)
    }

    /// Whether a replica is called on this machine.
    pub(crate) fn has_local_replicas(&self) -> bool {
        let mut hosts = self
            .grpc
            .iter()
            .filter_map(|address| address.rsplit_once(':'));
        hosts.any(|(host, _)| is_local(host))
    }
}

/// A builder of HTTP clients for this URL, without a proxy if it [is local](is_local).
pub(crate) fn http_client(url: &str) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    let host = reqwest::Url::parse(url).ok();
    if host
        .as_ref()
        .and_then(reqwest::Url::host_str)
        .is_some_and(is_local)
    {
        builder.no_proxy()
    } else {
        builder
    }
}

/// Whether calls of this URL go through a proxy of the environment.
pub(crate) fn is_proxied(url: &str, proxies: &Matcher) -> bool {
    let host = reqwest::Url::parse(url).ok();
    let is_direct = host
        .as_ref()
        .and_then(reqwest::Url::host_str)
        .is_none_or(is_local);
    !is_direct
        && url
            .parse()
            .is_ok_and(|uri| proxies.intercept(&uri).is_some())
}

/// A setting that this command cannot do without.
pub(crate) fn need<'a>(value: &'a str, option: &str) -> anyhow::Result<&'a str> {
    if value.is_empty() {
        return Err(missing(option));
    }
    Ok(value)
}

fn missing(option: &str) -> anyhow::Error {
    Usage(format!(
        "--{option} is not known: give it, or --terraform DIR, or start a stack with `make local` and evaluate \
         `make -s local-env`"
    ))
    .into()
}

impl Finder {
    fn text(&self, given: Option<&str>, output: &str, variable: &str) -> String {
        let from_terraform = || {
            self.outputs
                .get(output)
                .and_then(|value| value["value"].as_str())
                .map(ToOwned::to_owned)
        };
        given
            .map(ToOwned::to_owned)
            .or_else(from_terraform)
            .or_else(|| ProcessEnv.get(variable))
            .unwrap_or_default()
    }

    fn list(&self, given: &[String], variable: &str) -> Vec<String> {
        if !given.is_empty() {
            return given.to_vec();
        }
        let text = self.text(None, "", variable);
        text.split(',')
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.is_empty())
            .collect()
    }

    fn url(&self, given: Option<&str>, output: &str, variable: &str) -> anyhow::Result<String> {
        let url = self
            .text(given, output, variable)
            .trim_end_matches('/')
            .to_owned();
        let well_formed = reqwest::Url::parse(&url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !url.is_empty() && !well_formed {
            return Err(Usage(format!(
                "{url:?} is no URL: it must be http://host or https://host, with a path if need be"
            ))
            .into());
        }
        Ok(url)
    }

    /// The root for AWS knows the load balancer's name only: it is reached from inside the VPC.
    fn alb(&self, given: Option<&str>) -> anyhow::Result<String> {
        let url = self.url(given, "alb_url", "ALB_URL")?;
        let name = self.text(None, "alb_dns_name", "");
        if url.is_empty() && !name.is_empty() {
            return Ok(format!("http://{name}"));
        }
        Ok(url)
    }

    fn log_group(&self, given: Option<&str>) -> String {
        let by_program = self.outputs.get("log_group_names");
        let named = by_program.and_then(|names| names["value"]["invalidator"].as_str());
        if given.is_none()
            && let Some(name) = named
        {
            return name.to_owned();
        }
        self.text(given, "invalidator_log_group", "INVALIDATOR_LOG_GROUP")
    }
}

fn outputs(place: &Where) -> anyhow::Result<HashMap<String, Value>> {
    let text = if let Some(file) = &place.outputs {
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
    } else if let Some(folder) = &place.terraform {
        terraform(folder)?
    } else {
        return Ok(HashMap::new());
    };
    let outputs: HashMap<String, Value> = serde_json::from_slice(&text)
        .context("Terraform's outputs are not what `terraform output -json` prints")?;
    if outputs.is_empty() {
        bail!("there are no Terraform outputs: nothing is deployed from that folder");
    }
    Ok(outputs)
}

fn terraform(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let answer = std::process::Command::new("terraform")
        .arg(format!("-chdir={}", folder.display()))
        .args(["output", "-json"])
        .output()
        .context("cannot run terraform")?;
    if !answer.status.success() {
        bail!(
            "terraform output failed in {}: {}",
            folder.display(),
            String::from_utf8_lossy(&answer.stderr).trim()
        );
    }
    Ok(answer.stdout)
}

/// The tasks of config-service that Cloud Map knows, as the invalidator finds them.
async fn discover(namespace: &str) -> anyhow::Result<Vec<String>> {
    let answer = aws_sdk_servicediscovery::Client::new(&sdk_config().await)
        .discover_instances()
        .namespace_name(namespace)
        .service_name("config-service")
        .health_status(aws_sdk_servicediscovery::types::HealthStatusFilter::All)
        .max_results(1_000)
        .send()
        .await
        .with_context(|| format!("Cloud Map does not say which tasks there are in {namespace}"))?;
    let address = |instance: &aws_sdk_servicediscovery::types::HttpInstanceSummary| {
        let attributes = instance.attributes()?;
        let port = attributes
            .get("AWS_INSTANCE_PORT")
            .map_or(DEFAULT_GRPC_PORT, String::as_str);
        attributes
            .get("AWS_INSTANCE_IPV4")
            .map(|host| format!("{host}:{port}"))
    };
    let mut found: Vec<_> = answer.instances().iter().filter_map(address).collect();
    found.sort();
    if found.is_empty() {
        bail!("Cloud Map knows no task of config-service in {namespace}");
    }
    Ok(found)
}

/// Credentials, region and endpoint as the SDK finds them.
pub(crate) async fn sdk_config() -> SdkConfig {
    let second = std::time::Duration::from_secs(1);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(2 * second)
        .operation_timeout(30 * second)
        .build();
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::adaptive().with_max_attempts(6))
        .load()
        .await;
    direct_to_emulator(sdk)
}

#[cfg(test)]
mod tests {
    #[test]
    fn local_targets_are_never_proxied_and_a_proxied_one_is_known() {
        let proxies = Matcher::builder()
            .all("http://127.0.0.1:9")
            .no("direct.example.com")
            .build();
        for direct in [
            "http://127.80.39.3:8080",
            "http://localhost:4566/_aws/execute-api/x",
            "http://10.213.0.1:4566",
            "https://direct.example.com/v1",
            "",
        ] {
            assert!(!is_proxied(direct, &proxies), "{direct}");
        }
        assert!(is_proxied("https://api.example.com/v1", &proxies));
        assert!(!is_proxied(
            "https://api.example.com/v1",
            &Matcher::builder().build()
        ));
    }

    use super::*;

    async fn find(outputs: &str, place: Where) -> anyhow::Result<Targets> {
        let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&file, outputs)?;
        let place = Where {
            outputs: Some(file.clone()),
            ..place
        };
        let found = Targets::find(&place).await;
        std::fs::remove_file(file)?;
        found
    }

    #[tokio::test]
    async fn options_come_before_outputs() -> anyhow::Result<()> {
        let outputs = r#"{"api_url": {"value": "https://x.example/live/"}, "alb_dns_name": {"value": "alb.internal"},
            "log_group_names": {"value": {"invalidator": "/aws/lambda/i"}}, "user_pool_id": {"value": "pool"},
            "blob_bucket": {"value": "b"}}"#;
        let place = Where {
            user_pool_id: Some("mine".to_owned()),
            grpc: vec!["10.0.0.1:50051".to_owned()],
            ..Where::default()
        };
        let found = find(outputs, place).await?;
        assert_eq!(found.api_url, "https://x.example/live");
        assert_eq!(found.alb_url, "http://alb.internal");
        assert_eq!(found.order_url, "http://alb.internal");
        assert_eq!(found.log_group, "/aws/lambda/i");
        assert_eq!(found.user_pool_id, "mine");
        assert_eq!(found.blob_bucket, "b");
        assert_eq!(found.http, ["10.0.0.1:8080"]);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_no_address_is_refused() {
        let bad_url = Where {
            api_url: Some("localhost".to_owned()),
            ..Where::default()
        };
        let bad_address = Where {
            grpc: vec!["localhost".to_owned()],
            ..Where::default()
        };
        for place in [bad_url, bad_address] {
            let error = find(r#"{"x": {"value": 1}}"#, place).await.unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
        }
        assert!(
            find("{}", Where::default()).await.is_err(),
            "nothing deployed"
        );
        assert!(
            find("{half", Where::default()).await.is_err(),
            "half-written"
        );
    }
}
