//! Where the issuer's keys come from.

use std::{future::Future, time::Duration};

use tagged_config_domain::SigningKeys;
use thiserror::Error;

/// Largest JWKS document that is read, in bytes.
const MAX_JWKS_BYTES: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(3);

/// Somewhere to fetch a JWKS from.
pub trait JwksSource: Send + Sync + 'static {
    /// The keys that are valid now; at least one.
    fn fetch(&self) -> impl Future<Output = Result<SigningKeys, JwksError>> + Send;
}

/// A JWKS behind `https://` (or `http://` for an emulator).
#[derive(Debug)]
pub struct HttpJwks {
    client: reqwest::Client,
    url: reqwest::Url,
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The setting is no usable URL.
    #[error("the JWKS URL must begin with https:// or http://, not {0:?}")]
    Url(String),
    /// No answer, or not a good one.
    #[error("the JWKS could not be fetched")]
    Fetch(#[from] reqwest::Error),
    /// The document is too large.
    #[error("the JWKS is larger than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// The document is not a JWKS.
    #[error("the JWKS cannot be read")]
    Parse(#[from] serde_json::Error),
    /// Nothing in it is of use.
    #[error("the JWKS has no RS256 signing key")]
    Empty,
}

impl HttpJwks {
    /// Checks the URL; fetches nothing yet.
    pub fn new(url: &str) -> Result<Self, JwksError> {
        let parsed = reqwest::Url::parse(url)
            .ok()
            .filter(|u| matches!(u.scheme(), "https" | "http"));
        let url = parsed.ok_or_else(|| JwksError::Url(url.to_owned()))?;
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .build()?;
        Ok(Self { client, url })
    }
}

impl JwksSource for HttpJwks {
    async fn fetch(&self) -> Result<SigningKeys, JwksError> {
        let mut response = self
            .client
            .get(self.url.clone())
            .send()
            .await?
            .error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_JWKS_BYTES {
                return Err(JwksError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let keys = SigningKeys::from_jwks(&body)?;
        if keys.is_empty() {
            Err(JwksError::Empty)
        } else {
            Ok(keys)
        }
    }
}
