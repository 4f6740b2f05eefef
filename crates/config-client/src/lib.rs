//! A client of config-service: [`ConfigClient`] balances over several endpoints, with a deadline for each request, safe
//! retries within a budget, and the caller's own token. [`ConfigCache`] keeps some keys of each active tenant in the process;
//! a watch keeps them current, and reads make no call. [`values`] has the shapes that a value may have.
//!
//! `cache.rs` is what readers use, `session.rs` decides what is known (pure), `watcher.rs` makes the calls, `snapshot.rs` is
//! what is read.

mod cache;
mod endpoints;
mod session;
mod snapshot;
pub mod values;
mod watcher;

use std::{error::Error as _, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tagged_config_domain::TenantId;
use tagged_config_proto::v1::{
    BatchGetConfigRequest, BatchGetConfigResponse, GetConfigRequest, GetConfigResponse, KeyError,
    config_service_client::ConfigServiceClient,
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use tower::retry::budget::{Budget, TpsBudget};

use crate::endpoints::{Load, Pool};
pub use crate::{
    cache::{
        BadKeys, CacheConfig, ConfigCache, Freshness, MAX_KEYS, Observer, TenantConfig, Unobserved,
    },
    endpoints::{BadEndpoint, Endpoints},
    snapshot::{Entry, Failure, ReadError, Snapshot},
};

/// Attempts at one request, the first included.
const MAX_ATTEMPTS: u32 = 4;
/// The wait before the second attempt; doubled each time, halved by jitter.
const BACK_OFF: Duration = Duration::from_millis(20);
/// Retries that are allowed, beside `MAX_ATTEMPTS`: a fifth of the requests of the last seconds, and so many a second in any
/// case. A store that is down for all must not bring four times the load.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);
const RETRIES_PER_SECOND: u32 = 10;
const RETRY_SHARE: f32 = 0.2;
/// Watches that may be opened again after a failure: as many as there were, and so many a second in any case.
const WATCHES_PER_SECOND: u32 = 50;
const WATCH_SHARE: f32 = 1.0;
/// Keys of one BatchGetConfig call.
const BATCH: usize = 100;
/// Largest message that is taken. An answer has at most 3 MiB of values.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// An answer with fewer bytes of values is not one that config-service cut short for its size: that has more than 3 MiB less
/// one value (256 KiB), and the keys left out have the code RESOURCE_EXHAUSTED. A rate limit has the same code.
const CUT_SHORT_BYTES: usize = 2 * 1024 * 1024;

/// Settings of [`ConfigClient`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where config-service is.
    pub endpoints: Endpoints,
    /// How long one request may take, retries included.
    pub deadline: Duration,
}

/// A client of config-service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ConfigClient {
    pool: Arc<Pool>,
    deadline: Duration,
    retry_budget: Arc<TpsBudget>,
    watch_budget: Arc<TpsBudget>,
}

/// A caller's bearer token, to be passed on. `Debug` does not show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// a task resolves the names again for as long as the client lives.
    pub fn new(config: &ClientConfig) -> Self {
        let budget = |per_second, share| Arc::new(TpsBudget::new(BUDGET_WINDOW, per_second, share));
        Self {
            pool: Arc::new(config.endpoints.connect()),
            deadline: config.deadline,
            retry_budget: budget(RETRIES_PER_SECOND, RETRY_SHARE),
            watch_budget: budget(WATCHES_PER_SECOND, WATCH_SHARE),
        }
    }

    /// One key.
    pub async fn get(
        &self,
        token: &CallerToken,
        request: GetConfigRequest,
    ) -> Result<GetConfigResponse, Status> {
        let deadline = Instant::now() + self.deadline;
        self.call(token, deadline, request, async |mut client, request| {
            client.get_config(request).await
        })
        .await
    }

    /// Many keys, in as many calls as it takes: one takes 100 keys, and answers with at most 3 MiB of values. If a later call
    /// fails, or the deadline comes, the keys that are left have its code as their errors.
    pub async fn batch_get(
        &self,
        token: &CallerToken,
        keys: Vec<String>,
    ) -> Result<BatchGetConfigResponse, Status> {
        let deadline = Instant::now() + self.deadline;
        let mut left = keys;
        let mut whole = BatchGetConfigResponse::default();
        loop {
            let rest = left.split_off(left.len().min(BATCH));
            let keys = std::mem::replace(&mut left, rest);
            let request = BatchGetConfigRequest {
                keys: keys.clone(),
                freshness: false,
            };
            let answer = self
                .call(token, deadline, request, async |mut client, request| {
                    client.batch_get_config(request).await
                })
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(status) if whole == BatchGetConfigResponse::default() => return Err(status),
                Err(status) => {
                    let keys = keys.into_iter().chain(left);
                    whole.errors.extend(keys.map(|key| KeyError {
                        key,
                        code: status.code().into(),
                        message: status.message().to_owned(),
                    }));
                    return Ok(whole);
                }
            };
            let bytes: usize = answer
                .entries
                .iter()
                .map(|entry| entry.value.len() + entry.data.len())
                .sum();
            let (cut, errors): (Vec<_>, Vec<_>) = answer.errors.into_iter().partition(|error| {
                bytes >= CUT_SHORT_BYTES && error.code == i32::from(Code::ResourceExhausted)
            });
            left.extend(cut.into_iter().map(|error| error.key));
            whole.entries.extend(answer.entries);
            whole.missing.extend(answer.missing);
            whole.errors.extend(errors);
            if left.is_empty() {
                return Ok(whole);
            }
        }
    }

    /// Sends a request until there is an answer, an error that a repetition does not mend, or no time left.
    async fn call<Q: Clone, A>(
        &self,
        token: &CallerToken,
        deadline: Instant,
        message: Q,
        call: impl AsyncFn(ConfigServiceClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Status> {
        let late = || Status::deadline_exceeded("config-service did not answer in time");
        let mut tried = Vec::new();
        self.retry_budget.deposit();
        for attempt in 0_u32.. {
            let member = timeout_at(deadline, self.pool.pick(Load::Call, &tried))
                .await
                .map_err(|_| late())?;
            let member = member
                .ok_or_else(|| Status::unavailable("no address of config-service is known"))?;
            tried.push(member.address());
            let mut request = Request::new(message.clone());
            request
                .metadata_mut()
                .insert("authorization", token.0.clone());
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            let client = grpc_client(member.channel());
            let status = match timeout_at(deadline, call(client, request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(late()),
            };
            let is_unreachable = connection_failed(&status);
            if is_unreachable {
                member.failed();
            }
            let wait = BACK_OFF
                .mul_f64(f64::from(1_u32 << attempt.min(8)) * (0.5 + 0.5 * fastrand::f64()));
            let is_retryable = is_unreachable || status.code() == Code::Unavailable;
            if !is_retryable
                || attempt + 1 == MAX_ATTEMPTS
                || Instant::now() + wait >= deadline
                || !self.retry_budget.withdraw()
            {
                return Err(status);
            }
            drop(member);
            tokio::time::sleep(wait).await;
        }
        Err(late())
    }
}

/// A client that takes what config-service sends.
fn grpc_client(channel: Channel) -> ConfigServiceClient<Channel> {
    ConfigServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// Whether the connection failed, rather than config-service or a store behind it. A status from the wire has no source;
/// tonic gives the transport's error as the source of those that it makes here.
fn connection_failed(status: &Status) -> bool {
    let mut next = status.source();
    let is_local = next.is_some();
    while let Some(error) = next {
        if error.is::<tonic::TimeoutExpired>() {
            return false;
        }
        next = error.source();
    }
    is_local
        && matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        )
}
