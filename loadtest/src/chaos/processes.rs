//! The replicas, processes or containers, as the launcher keeps them: it sends them signals, and starts new ones.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use tagged_config_runtime::env::{Env, ProcessEnv};
use tokio::process::Command;

/// One replica.
pub(super) struct Replica {
    name: String,
    stack: PathBuf,
    python: String,
}

// === impl Replica ===

impl Replica {
    /// The replicas of the stack that `make local` started, or the tests.
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
        let seconds = time.as_secs_f64().to_string();
        self.launcher(&["hide", &self.name, &seconds]).await
    }

    /// Sends it STOP, CONT or KILL.
    pub(super) async fn signal(&self, signal: &str) -> anyhow::Result<()> {
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
