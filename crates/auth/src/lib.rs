//! From a bearer token to a [`Principal`]: fetches and rotates the issuer's keys, and remembers tokens that
//! were verified. What a token must say is the domain crate's to decide.

mod jwks;
mod verified;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tagged_config_domain::{Principal, SigningKeys, TokenError, TokenRules};
use thiserror::Error;
use tokio::sync::Mutex;

pub use crate::jwks::{Jwks, JwksError, JwksSource};
use crate::verified::VerifiedTokens;

/// How often the keys are fetched anew: within this time the tokens of a key that left are refused.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(5);
/// How often the keys are tried while there are none yet.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Fetches that unknown `kid`s may cause at once, and how long until one more is allowed.
const REFETCH_BURST: NonZeroU32 = NonZeroU32::new(5).unwrap(); // evaluated by the compiler
const REFETCH_PERIOD: Duration = Duration::from_secs(5);

/// Verifies bearer tokens. One per process.
pub struct Authenticator<S = Jwks> {
    rules: TokenRules,
    source: S,
    keys: ArcSwapOption<KeyRing>,
    /// Counts fetches that ended, so that those who waited for one do not start another.
    fetches: AtomicU64,
    fetching: Mutex<()>,
    refetch_limit: DefaultDirectRateLimiter,
    verified: VerifiedTokens,
}

struct KeyRing {
    keys: SigningKeys,
    generation: u64,
}

/// Why a caller is not known. The reason is for logs; callers learn only which of the two it is.
#[derive(Debug, Error)]
pub enum AuthError {
    /// No `Bearer` token was sent.
    #[error("no bearer token")]
    Missing,
    /// The token was refused.
    #[error("the token was refused")]
    Refused(#[from] TokenError),
    /// There are no keys to verify with.
    #[error("the issuer's keys could not be fetched yet")]
    KeysUnavailable,
}

// === impl Authenticator ===

impl<S: JwksSource> Authenticator<S> {
    /// An authenticator without keys: they come with [`Self::keep_fresh`] or the first token.
    pub fn new(rules: TokenRules, source: S) -> Self {
        let quota = Quota::with_period(REFETCH_PERIOD).unwrap_or(Quota::per_minute(REFETCH_BURST));
        Self {
            rules,
            source,
            keys: ArcSwapOption::empty(),
            fetches: AtomicU64::new(0),
            fetching: Mutex::new(()),
            refetch_limit: RateLimiter::direct(quota.allow_burst(REFETCH_BURST)),
            verified: VerifiedTokens::new(),
        }
    }

    /// The caller that an `Authorization` header's value proves (RFC 6750).
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
    ) -> Result<Arc<Principal>, AuthError> {
        let token = bearer(authorization.ok_or(AuthError::Missing)?).ok_or(AuthError::Missing)?;
        let now = unix_seconds();
        let keys = self.keys.load();
        if let Some(ring) = keys.as_deref()
            && let Some(principal) = self.verified.get(token, ring.generation, now)
        {
            return Ok(principal);
        }
        let seen = self.fetches.load(Ordering::Acquire);
        match self.verify(token) {
            Err(AuthError::Refused(TokenError::UnknownKey) | AuthError::KeysUnavailable) => {
                self.refetch_since(seen).await;
                self.verify(token)
            }
            verdict => verdict,
        }
    }

    /// Fetches the keys now and every [`REFRESH_INTERVAL`] for as long as it is polled.
    pub async fn keep_fresh(&self) {
        loop {
            self.fetch().await;
            let loaded = self.keys.load().is_some();
            tokio::time::sleep(if loaded {
                REFRESH_INTERVAL
            } else {
                RETRY_INTERVAL
            })
            .await;
        }
    }

    fn verify(&self, token: &str) -> Result<Arc<Principal>, AuthError> {
        let keys = self.keys.load();
        let ring = keys.as_deref().ok_or(AuthError::KeysUnavailable)?;
        let principal = Arc::new(self.rules.verify(token, &ring.keys)?);
        self.verified.insert(token, ring.generation, &principal);
        Ok(principal)
    }

    /// Fetches unless somebody has since `seen`, within the limit that strangers' `kid`s may use up.
    async fn refetch_since(&self, seen: u64) {
        let fetching = self.fetching.lock().await;
        if self.fetches.load(Ordering::Acquire) == seen && self.refetch_limit.check().is_ok() {
            self.fetch_locked().await;
        }
        drop(fetching);
    }

    async fn fetch(&self) {
        let fetching = self.fetching.lock().await;
        self.fetch_locked().await;
        drop(fetching);
    }

    /// Replaces the keys if they changed. A failed fetch keeps those there are.
    async fn fetch_locked(&self) {
        match self.source.fetch().await {
            Ok(keys) => {
                let old = self.keys.load();
                if !old.as_deref().is_some_and(|ring| ring.keys.same_as(&keys)) {
                    let generation = old.as_deref().map_or(1, |ring| ring.generation + 1);
                    self.keys
                        .store(Some(Arc::new(KeyRing { keys, generation })));
                    self.verified.clear();
                    tracing::info!(generation, "the issuer's signing keys changed");
                }
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, ?source, "fetching the issuer's signing keys failed");
            }
        }
        self.fetches.fetch_add(1, Ordering::AcqRel);
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
