//! Where the issuer's keys come from.

use std::{future::Future, time::Duration};

use aws_sdk_s3::primitives::ByteStream;
use tagged_config_domain::SigningKeys;
use tagged_config_runtime::proxy::{direct_to_emulator, is_local};
use thiserror::Error;

/// Largest JWKS document that is read, in bytes.
const MAX_JWKS_BYTES: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(3);

/// Somewhere to fetch a JWKS from.
pub trait JwksSource: Send + Sync + 'static {
    /// The keys that are valid now; at least one.
    fn fetch(&self) -> impl Future<Output = Result<SigningKeys, JwksError>> + Send;
}

/// A JWKS behind a URL: `https://` (`http://` for an emulator), or `s3://bucket/key` where the network has no way to
/// the issuer.
#[derive(Debug)]
pub struct Jwks(Location);

#[derive(Debug)]
enum Location {
    Http {
        client: reqwest::Client,
        url: reqwest::Url,
    },
    S3 {
        client: aws_sdk_s3::Client,
        bucket: String,
        key: String,
    },
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum JwksError {
    /// The setting is no usable URL.
    #[error("the JWKS URL must be https://..., http://... or s3://bucket/key, not {0:?}")]
    Url(String),
    /// No answer, or not a good one.
    #[error("the JWKS could not be fetched")]
    Fetch(#[from] reqwest::Error),
    /// The object could not be read.
    #[error("the JWKS object could not be read")]
    Object(#[source] Box<dyn std::error::Error + Send + Sync>),
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

// === impl Jwks ===

impl Jwks {
    /// Checks the URL; fetches nothing yet. `s3://` takes credentials and region as the AWS SDK finds them.
    pub async fn new(url: &str) -> Result<Self, JwksError> {
        let bad = || JwksError::Url(url.to_owned());
        let parsed = reqwest::Url::parse(url).map_err(|_| bad())?;
        match parsed.scheme() {
            "https" | "http" => {
                let mut client = reqwest::Client::builder()
                    .timeout(TIMEOUT)
                    .connect_timeout(TIMEOUT);
                if parsed.host_str().is_some_and(is_local) {
                    client = client.no_proxy();
                }
                let client = client.build()?;
                Ok(Self(Location::Http {
                    client,
                    url: parsed,
                }))
            }
            "s3" => {
                let (bucket, key) = (parsed.host_str(), parsed.path().trim_start_matches('/'));
                let (Some(bucket), false) = (bucket, key.is_empty()) else {
                    return Err(bad());
                };
                Ok(Self(Location::S3 {
                    client: s3_client().await,
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                }))
            }
            _ => Err(bad()),
        }
    }

    /// The document as it was served, after a check that it holds keys.
    pub async fn document(&self) -> Result<Vec<u8>, JwksError> {
        let body = match &self.0 {
            Location::Http { client, url } => get(client, url).await?,
            Location::S3 {
                client,
                bucket,
                key,
            } => read(client, bucket, key).await?,
        };
        parse(&body)?;
        Ok(body)
    }
}

impl JwksSource for Jwks {
    async fn fetch(&self) -> Result<SigningKeys, JwksError> {
        parse(&self.document().await?)
    }
}

fn parse(document: &[u8]) -> Result<SigningKeys, JwksError> {
    let keys = SigningKeys::from_jwks(document)?;
    if keys.is_empty() {
        Err(JwksError::Empty)
    } else {
        Ok(keys)
    }
}

async fn get(client: &reqwest::Client, url: &reqwest::Url) -> Result<Vec<u8>, JwksError> {
    let mut response = client.get(url.clone()).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        append(&mut body, &chunk)?;
    }
    Ok(body)
}

async fn s3_client() -> aws_sdk_s3::Client {
    let timeouts = aws_config::timeout::TimeoutConfig::builder()
        .operation_timeout(TIMEOUT)
        .build();
    let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .timeout_config(timeouts)
        .load()
        .await;
    let sdk = direct_to_emulator(sdk);
    // An emulator has no host name for each bucket.
    let config = aws_sdk_s3::config::Builder::from(&sdk)
        .force_path_style(sdk.endpoint_url().is_some())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

async fn read(client: &aws_sdk_s3::Client, bucket: &str, key: &str) -> Result<Vec<u8>, JwksError> {
    let answer = client.get_object().bucket(bucket).key(key).send().await;
    let mut stream: ByteStream = answer
        .map_err(|error| JwksError::Object(Box::new(error)))?
        .body;
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| JwksError::Object(Box::new(error)))?;
        append(&mut body, &chunk)?;
    }
    Ok(body)
}

fn append(body: &mut Vec<u8>, chunk: &[u8]) -> Result<(), JwksError> {
    if body.len() + chunk.len() > MAX_JWKS_BYTES {
        return Err(JwksError::TooLarge);
    }
    body.extend_from_slice(chunk);
    Ok(())
}
