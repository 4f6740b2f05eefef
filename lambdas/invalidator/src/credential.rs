//! The refresh credential: fetched at cold start, and anew when a task no longer accepts it.

use anyhow::Context;
use aws_sdk_ssm::Client;
use tokio::sync::RwLock;
use tonic::metadata::{Ascii, MetadataValue};

/// The credential as metadata; marked sensitive, so that it is never printed.
pub(crate) struct Credential {
    client: Client,
    parameter: String,
    value: RwLock<Option<MetadataValue<Ascii>>>,
}

impl Credential {
    /// Not fetched yet.
    pub(crate) fn new(client: Client, parameter: String) -> Self {
        Self {
            client,
            parameter,
            value: RwLock::new(None),
        }
    }

    /// The credential, fetched once.
    pub(crate) async fn get(&self) -> anyhow::Result<MetadataValue<Ascii>> {
        if let Some(value) = &*self.value.read().await {
            return Ok(value.clone());
        }
        self.fetch().await
    }

    /// Fetches it anew.
    pub(crate) async fn fetch(&self) -> anyhow::Result<MetadataValue<Ascii>> {
        let mut slot = self.value.write().await;
        let answer = self
            .client
            .get_parameter()
            .name(&self.parameter)
            .with_decryption(true)
            .send()
            .await;
        let answer =
            answer.with_context(|| format!("reading the refresh credential {}", self.parameter))?;
        let text = answer
            .parameter()
            .and_then(|parameter| parameter.value())
            .unwrap_or_default();
        let mut value: MetadataValue<Ascii> = text
            .parse()
            .context("the refresh credential is not printable ASCII")?;
        value.set_sensitive(true);
        *slot = Some(value.clone());
        Ok(value)
    }
}
