//! From the issuer to the object.

use std::{future::Future, time::Duration};

use anyhow::Context;
use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client, config::http::HttpResponse, error::SdkError, operation::get_object::GetObjectError,
    primitives::ByteStream,
};
use serde_json::{Value, json};
use tagged_config_auth::Jwks;
use tagged_config_runtime::proxy::direct_to_emulator;

use crate::config::Config;

/// Waits after a denied write. IAM is eventually consistent, and the first invocation follows the role by seconds.
const WAITS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

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
        let sdk = direct_to_emulator(aws_config::load_defaults(BehaviorVersion::latest()).await);
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
            let write = || {
                self.client
                    .put_object()
                    .bucket(&self.bucket)
                    .key(&self.key)
                    .content_type("application/json")
                    .body(ByteStream::from(keys.clone()))
                    .send()
            };
            while_denied(write, is_forbidden)
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
            // For a role that may not list the bucket, S3 answers that a missing object is forbidden.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetObjectError::is_no_such_key)
                    || is_forbidden(&error) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).context("reading the object"),
        }
    }
}

fn is_forbidden<E>(error: &SdkError<E, HttpResponse>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 403)
}

/// Repeats a call that is denied, within [`WAITS`].
async fn while_denied<T, E, F: Future<Output = Result<T, E>>>(
    mut call: impl FnMut() -> F,
    is_denied: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for wait in WAITS {
        match call().await {
            Err(error) if is_denied(&error) => tokio::time::sleep(wait).await,
            outcome => return outcome,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn calls(denials: u32) -> (Result<(), &'static str>, u32) {
        let made = Cell::new(0);
        let call = || {
            made.set(made.get() + 1);
            let denied = made.get() <= denials;
            async move { if denied { Err("denied") } else { Ok(()) } }
        };
        let outcome = while_denied(call, |error| *error == "denied").await;
        (outcome, made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_is_not_known_everywhere_yet_is_given_half_a_minute() {
        let began = tokio::time::Instant::now();
        assert_eq!(calls(0).await, (Ok(()), 1));
        assert_eq!(calls(3).await, (Ok(()), 4));
        assert_eq!(began.elapsed(), Duration::from_secs(7));
        assert_eq!(calls(9).await, (Err("denied"), 6));
        assert_eq!(began.elapsed(), Duration::from_secs(37));
    }

    #[tokio::test(start_paused = true)]
    async fn another_failure_is_not_repeated() {
        let made = Cell::new(0);
        let call = || {
            made.set(made.get() + 1);
            async { Err::<(), _>("gone") }
        };
        assert_eq!(
            while_denied(call, |error| *error == "denied").await,
            Err("gone")
        );
        assert_eq!(made.get(), 1);
    }
}
