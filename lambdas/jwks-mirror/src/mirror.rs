//! From the issuer to the object.

use anyhow::Context;
use aws_config::BehaviorVersion;
use aws_sdk_s3::{Client, operation::get_object::GetObjectError, primitives::ByteStream};
use serde_json::{Value, json};
use tagged_config_auth::Jwks;

use crate::config::Config;

/// Copies the keys.
pub(crate) struct Mirror {
    source: Jwks,
    client: Client,
    bucket: String,
    key: String,
}

impl Mirror {
    /// Calls nothing yet.
    pub(crate) async fn connect(config: Config) -> anyhow::Result<Self> {
        let url = format!(
            "{}/.well-known/jwks.json",
            config.issuer.trim_end_matches('/')
        );
        let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
        // An emulator has no host name for each bucket.
        let settings = aws_sdk_s3::config::Builder::from(&sdk)
            .force_path_style(sdk.endpoint_url().is_some())
            .build();
        Ok(Self {
            source: Jwks::new(&url).await.context("TAGGED_CONFIG_ISSUER")?,
            client: Client::from_conf(settings),
            bucket: config.bucket,
            key: config.key,
        })
    }

    /// Writes the issuer's keys if they are not what the object holds.
    pub(crate) async fn copy(&self) -> anyhow::Result<Value> {
        let keys = self
            .source
            .document()
            .await
            .context("reading the issuer's keys")?;
        let changed = self.present().await?.as_deref() != Some(&*keys);
        if changed {
            self.client
                .put_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .content_type("application/json")
                .body(ByteStream::from(keys))
                .send()
                .await
                .context("writing the object")?;
        }
        tracing::info!(changed, "the issuer's keys are mirrored");
        Ok(json!({ "changed": changed }))
    }

    /// What the object holds; nothing if it is not there.
    async fn present(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let request = self.client.get_object().bucket(&self.bucket).key(&self.key);
        match request.send().await {
            Ok(object) => {
                let body = object.body.collect().await.context("reading the object")?;
                Ok(Some(body.to_vec()))
            }
            // A role that may not list the bucket is told that a missing object is forbidden.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetObjectError::is_no_such_key)
                    || error
                        .raw_response()
                        .is_some_and(|r| r.status().as_u16() == 403) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("reading the object"),
        }
    }
}
