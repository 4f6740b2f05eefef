//! The replicas, processes or containers, as the launcher keeps them: it sends them signals, and starts new ones.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use aws_sdk_servicediscovery::Client;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::process::Command;

/// config-service's name in Cloud Map, and of its replicas.
const SERVICE: &str = "config-service";

/// One replica.
pub(super) struct Replica {
    name: String,
    /// Its address, by which Cloud Map's instances are told apart.
    host: String,
    stack: PathBuf,
    python: String,
}

// === impl Replica ===

impl Replica {
    /// The replicas at these gRPC addresses, of the stack that `make local` started, or the tests.
    pub(super) fn all(addresses: &[String]) -> Vec<Self> {
        let get = |name: &str, default: &str| ProcessEnv.get(name).unwrap_or(default.to_owned());
        let stack = get("TAGGED_CONFIG_STACK_DIR", ".local");
        let python = get("TAGGED_CONFIG_PYTHON", "python3");
        (1..)
            .zip(addresses)
            .map(|(number, address)| Self {
                name: format!("config-{number}"),
                host: address
                    .rsplit_once(':')
                    .map_or("", |(host, _)| host)
                    .to_owned(),
                stack: PathBuf::from(&stack),
                python: python.clone(),
            })
            .collect()
    }

    /// Stops it for a time.
    pub(super) async fn pause(&self, time: Duration) -> anyhow::Result<()> {
        self.signal("STOP").await?;
        tokio::time::sleep(time).await;
        self.signal("CONT").await
    }

    /// Ends it at once, and has the launcher start another one.
    pub(super) async fn kill_and_restart(&self) -> anyhow::Result<()> {
        self.signal("KILL").await?;
        self.launcher(&["restart", &self.name, "--if-down"]).await
    }

    /// Has the launcher replace it, as a deployment does.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        self.launcher(&["restart", &self.name]).await
    }

    /// Takes it out of Cloud Map for a time: the invalidator does not call it.
    pub(super) async fn hide(&self, time: Duration) -> anyhow::Result<()> {
        let client = Client::new(&aws_config::load_from_env().await);
        let services = client.list_services().send().await?;
        let found = services.services();
        let service = found
            .iter()
            .find(|service| service.name() == Some(SERVICE))
            .and_then(|service| service.id())
            .context("Cloud Map does not know config-service")?;
        let found = client.list_instances().service_id(service).send().await?;
        let is_mine = |attributes: &HashMap<String, String>| {
            attributes.get("AWS_INSTANCE_IPV4") == Some(&self.host)
        };
        let instance = found
            .instances()
            .iter()
            .find(|instance| instance.attributes().is_some_and(is_mine))
            .with_context(|| format!("Cloud Map does not know {}", self.host))?;
        let id = instance.id().unwrap_or_default();
        client
            .deregister_instance()
            .service_id(service)
            .instance_id(id)
            .send()
            .await?;
        tokio::time::sleep(time).await;
        client
            .register_instance()
            .service_id(service)
            .instance_id(id)
            .set_attributes(instance.attributes().cloned())
            .send()
            .await?;
        Ok(())
    }

    async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        self.launcher(&["signal", &self.name, signal]).await
    }

    async fn launcher(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.python)
            .arg("localstack/stack.py")
            .args(words)
            .arg("--state-dir")
            .arg(&self.stack)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{} {}: {}",
            self.name,
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
