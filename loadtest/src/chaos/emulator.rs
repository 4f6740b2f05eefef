//! The emulator's faults, over its control endpoint (`localstack/README.md`).

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tagged_config_runtime::env::{Env, ProcessEnv};

use crate::targets::http_client;

/// The endpoint.
pub(crate) struct Emulator {
    url: String,
    client: reqwest::Client,
}

// === impl Emulator ===

impl Emulator {
    /// The emulator that `make local` started.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let url = ProcessEnv
            .get("TAGGED_CONFIG_FAULTS_URL")
            .context("TAGGED_CONFIG_FAULTS_URL is not set: run `make chaos`, or eval \"$(make -s local-env)\"; a stack with LocalStack has no faults")?;
        let client = http_client(&url).timeout(Duration::from_secs(5)).build()?;
        let emulator = Self { url, client };
        emulator.send(reqwest::Method::GET, None).await?;
        Ok(emulator)
    }

    /// Replaces all faults.
    pub(crate) async fn put(&self, document: Value) -> anyhow::Result<()> {
        self.send(reqwest::Method::PUT, Some(document)).await?;
        Ok(())
    }

    /// Ends all faults, and waits until what was held back is delivered.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        let mut answer = self.send(reqwest::Method::DELETE, None).await?;
        for _ in 0..100 {
            let held = answer["held"].as_object().into_iter().flatten();
            if held
                .map(|(_, count)| count.as_u64().unwrap_or_default())
                .sum::<u64>()
                == 0
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = self.send(reqwest::Method::GET, None).await?;
        }
        anyhow::bail!("the emulator still holds events back")
    }

    async fn send(&self, method: reqwest::Method, body: Option<Value>) -> anyhow::Result<Value> {
        let mut request = self.client.request(method, &self.url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request
            .send()
            .await
            .context("the emulator's faults cannot be reached")?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "the emulator refuses a fault: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}
