//! The replicas' processes, as the launcher keeps them: signals by process id, a new one by the launcher.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use aws_sdk_servicediscovery::Client;
use serde::Deserialize;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::process::Command;

/// config-service's name in Cloud Map, and of its replicas.
const SERVICE: &str = "config-service";

/// One replica.
pub(super) struct Replica {
    name: String,
    stack: PathBuf,
    python: String,
}

#[derive(Deserialize)]
struct Record {
    pid: u32,
}

// === impl Replica ===

impl Replica {
    /// So many replicas of the stack that `make local` started, or the tests.
    pub(super) fn all(count: usize) -> Vec<Self> {
        let get = |name: &str, default: &str| ProcessEnv.get(name).unwrap_or(default.to_owned());
        let stack = get("TAGGED_CONFIG_STACK_DIR", ".local");
        let python = get("TAGGED_CONFIG_PYTHON", "python3");
        (1..=count)
            .map(|number| Self {
                name: format!("config-{number}"),
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
        self.restart().await
    }

    /// Has the launcher replace it, as a deployment does.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        let output = Command::new(&self.python)
            .args(["localstack/stack.py", "restart", &self.name, "--state-dir"])
            .arg(&self.stack)
            .output()
            .await?;
        ensure!(
            output.status.success(),
            "{} did not start again: {}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
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
        let instance = client
            .get_instance()
            .service_id(service)
            .instance_id(&self.name)
            .send()
            .await?;
        let attributes = instance
            .instance()
            .and_then(|instance| instance.attributes())
            .cloned();
        client
            .deregister_instance()
            .service_id(service)
            .instance_id(&self.name)
            .send()
            .await?;
        tokio::time::sleep(time).await;
        client
            .register_instance()
            .service_id(service)
            .instance_id(&self.name)
            .set_attributes(attributes)
            .send()
            .await?;
        Ok(())
    }

    async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let file = self.stack.join("pids").join(format!("{}.json", self.name));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let record: Record = serde_json::from_str(&text)?;
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(record.pid.to_string())
            .status()
            .await?;
        ensure!(
            status.success(),
            "{} could not be sent SIG{signal}",
            self.name
        );
        Ok(())
    }
}
