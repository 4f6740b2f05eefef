//! How a service asks config-service: several endpoints balanced, a deadline for the whole question,
//! retries where they are safe, and the caller's own token ([`ConfigClient`]); and a cache of some keys of each active
//! tenant, kept current by a watch and read without a call ([`ConfigCache`]).

mod cache;
mod endpoints;
mod snapshot;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tagged_config_domain::TenantId;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, GetConfigRequest, GetConfigResponse,
    config_service_client::ConfigServiceClient,
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::endpoints::Pool;
pub use crate::{
    cache::{
        BadKeys, CacheConfig, ConfigCache, Freshness, MAX_KEYS, Observer, TenantConfig, Unobserved,
    },
    endpoints::{BadEndpoint, Endpoints},
    snapshot::{Entry, ReadError, Snapshot},
};

/// Attempts at one question, the first included.
const MAX_ATTEMPTS: u32 = 4;
/// The wait before the second attempt; doubled each time, halved by jitter.
const BACK_OFF: Duration = Duration::from_millis(20);

/// Settings of [`ConfigClient`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where config-service is.
    pub endpoints: Endpoints,
    /// How long one question may take, retries included.
    pub deadline: Duration,
}

/// A client of config-service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConfigClient {
    pool: Arc<Pool>,
    deadline: Duration,
}

/// A caller's bearer token, to be passed on.
#[derive(Clone, PartialEq, Eq)]
pub struct CallerToken(MetadataValue<Ascii>);

/// The header's value cannot be passed on.
#[derive(Debug, Error)]
#[error("the authorization header is not printable ASCII")]
pub struct BadToken;

// === impl CallerToken ===

impl CallerToken {
    /// From the `Authorization` header that the caller sent.
    pub fn from_authorization(value: &str) -> Result<Self, BadToken> {
        let mut value: MetadataValue<Ascii> = value.parse().map_err(|_| BadToken)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Whether the token says that it is of this tenant. Proves nothing: config-service verifies it. But what it answers is
    /// of the token's tenant, and must not be kept as another one's.
    fn claims(&self, tenant: &TenantId) -> bool {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(rename = "custom:tenantId")]
            tenant: String,
        }
        let Ok(text) = self.0.to_str() else {
            return false;
        };
        let payload = text.split('.').nth(1);
        let bytes = payload.and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims = bytes.and_then(|bytes| serde_json::from_slice::<Claims>(&bytes).ok());
        claims.is_some_and(|claims| claims.tenant == tenant.as_str())
    }
}

// === impl ConfigClient ===

impl ConfigClient {
    /// A client of these endpoints. Connects when it is first used. Must be called within a Tokio runtime:
    /// names are resolved anew by a task for as long as the client lives.
    pub fn new(config: &ClientConfig) -> Self {
        Self {
            pool: Arc::new(config.endpoints.connect()),
            deadline: config.deadline,
        }
    }

    /// One key.
    pub async fn get(
        &self,
        token: &CallerToken,
        request: GetConfigRequest,
    ) -> Result<GetConfigResponse, Status> {
        self.ask(token, request, async |mut client, request| {
            client.get_config(request).await
        })
        .await
    }

    /// Many keys in one call.
    pub async fn batch_get(
        &self,
        token: &CallerToken,
        keys: Vec<String>,
    ) -> Result<BatchGetConfigResponse, Status> {
        let request = BatchGetConfigRequest {
            keys,
            freshness: false,
        };
        self.ask(token, request, async |mut client, request| {
            client.batch_get_config(request).await
        })
        .await
    }

    /// Asks until there is an answer, another error than UNAVAILABLE, or no time left.
    async fn ask<Q: Clone, A>(
        &self,
        token: &CallerToken,
        question: Q,
        call: impl AsyncFn(ConfigServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Status> {
        let deadline = Instant::now() + self.deadline;
        let late = || Status::deadline_exceeded("config-service did not answer in time");
        let mut asked = Vec::new();
        for attempt in 0_u32.. {
            let member = timeout_at(deadline, self.pool.pick(&asked))
                .await
                .map_err(|_| late())?;
            let member = member
                .ok_or_else(|| Status::unavailable("no address of config-service is known"))?;
            asked.push(member.address());
            let mut request = Request::new(question.clone());
            request
                .metadata_mut()
                .insert("authorization", token.0.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let client = ConfigServiceClient::new(member.channel());
            let status = match timeout_at(deadline, call(client, request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(late()),
            };
            let wait = BACK_OFF
                .mul_f64(f64::from(1_u32 << attempt.min(8)) * (0.5 + 0.5 * fastrand::f64()));
            if !worth_retrying(&status) {
                return Err(status);
            }
            member.failed();
            if attempt + 1 == MAX_ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(status);
            }
            drop(member);
            tokio::time::sleep(wait).await;
        }
        Err(late())
    }
}

/// UNAVAILABLE, and a connection that broke under the call, which tonic reports as UNKNOWN or CANCELLED with
/// the transport's error as source.
fn worth_retrying(status: &Status) -> bool {
    let broken = matches!(
        status.code(),
        Code::Unknown | Code::Cancelled | Code::Internal
    ) && std::error::Error::source(status).is_some_and(|source| {
        source.is::<tonic::transport::Error>() || source.is::<tonic::ConnectError>()
    });
    status.code() == Code::Unavailable || broken
}
