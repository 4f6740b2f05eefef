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
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

pub use crate::jwks::{Jwks, JwksError, JwksSource};
use crate::verified::VerifiedTokens;

/// Within this time after a key has left the issuer's set its tokens are refused, and watches that they opened end.
pub const REVOCATION_BOUND: Duration = Duration::from_mins(5);
/// How often the keys are fetched. Where a mirror stands between (every minute on AWS), a key that left is refused after
/// two minutes, and within [`REVOCATION_BOUND`] even if two runs of the mirror or several fetches fail.
pub const REFRESH_INTERVAL: Duration = Duration::from_mins(1);
/// How soon a failed fetch is repeated: a random time within this range, so that tasks do not retry together.
pub const RETRY_INTERVALS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];
/// How soon the first fetch is repeated: without keys no token can be verified.
const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Keys that could not be fetched again for this long are dropped, and every token is refused as not verifiable (503, not
/// 401), until a fetch succeeds.
///
/// A day is the longest lifetime of an ID token of Cognito. An issuer that is down issues no tokens, so a day later no
/// valid token is left, and dropping the keys takes nothing down that still worked. A shorter age would turn an outage of
/// the issuer or of the mirror into an outage of every service; without an age, a task that has been cut off from the
/// issuer would accept a stolen key for ever. The age is a metric, so that operators see the outage long before.
pub const MAX_KEYS_AGE: Duration = Duration::from_hours(24);
/// Fetches that unknown `kid`s may cause at once, and how long until one more is allowed.
const REFETCH_BURST: NonZeroU32 = NonZeroU32::new(5).unwrap(); // evaluated by the compiler
const REFETCH_PERIOD: Duration = Duration::from_secs(5);

/// Verifies bearer tokens. One per process.
pub struct Authenticator<S = Jwks> {
    rules: TokenRules,
    source: S,
    keys: ArcSwapOption<KeyRing>,
    /// The generation of [`Self::keys`]: how often they changed; 0 before the first fetch.
    generation: watch::Sender<u64>,
    /// When the source last answered with keys; `None` while there are none.
    fetched_at: parking_lot::Mutex<Option<Instant>>,
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
            generation: watch::Sender::new(0),
            fetched_at: parking_lot::Mutex::default(),
            fetches: AtomicU64::new(0),
            fetching: Mutex::new(()),
            refetch_limit: RateLimiter::direct(quota.allow_burst(REFETCH_BURST)),
            verified: VerifiedTokens::new(),
        }
    }

    /// The caller, if this value was verified before with the present keys. No waiting, no cryptography: for the hot path.
    pub fn verified(&self, authorization: Option<&str>) -> Option<Arc<Principal>> {
        let token = bearer(authorization?)?;
        let keys = self.keys.load();
        let ring = keys.as_deref()?;
        self.verified.get(token, ring.generation, unix_seconds())
    }

    /// The caller that an `Authorization` header's value proves (RFC 6750).
    pub async fn authenticate(
        &self,
        authorization: Option<&str>,
    ) -> Result<Arc<Principal>, AuthError> {
        if let Some(principal) = self.verified(authorization) {
            return Ok(principal);
        }
        let token = bearer(authorization.ok_or(AuthError::Missing)?).ok_or(AuthError::Missing)?;
        let seen = self.fetches.load(Ordering::Acquire);
        match self.verify(token) {
            Err(AuthError::Refused(TokenError::UnknownKey) | AuthError::KeysUnavailable) => {
                self.refetch_since(seen).await;
                self.verify(token)
            }
            verdict => verdict,
        }
    }

    /// Changes whenever the set of keys changes: tokens that were verified before may no longer be valid.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Waits for the first keys.
    pub async fn has_keys(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .generations()
            .wait_for(|generation| *generation > 0)
            .await;
    }

    /// How long ago the keys were fetched; `None` while there are none.
    pub fn keys_age(&self) -> Option<Duration> {
        self.fetched_at.lock().map(|at| at.elapsed())
    }

    /// Fetches the keys now and every [`REFRESH_INTERVAL`], and drops them at [`MAX_KEYS_AGE`], for as long as it is polled.
    pub async fn keep_fresh(&self) {
        loop {
            let fetched = self.fetch().await;
            let wait = match self.keys_age() {
                Some(age) if age >= MAX_KEYS_AGE => {
                    self.drop_old_keys().await;
                    FIRST_RETRY_INTERVAL
                }
                Some(_) if fetched => REFRESH_INTERVAL,
                Some(age) => retry_interval().min(MAX_KEYS_AGE.saturating_sub(age)),
                None => FIRST_RETRY_INTERVAL,
            };
            tokio::time::sleep(wait).await;
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

    async fn fetch(&self) -> bool {
        let fetching = self.fetching.lock().await;
        let fetched = self.fetch_locked().await;
        drop(fetching);
        fetched
    }

    /// Replaces the keys if they changed. A failed fetch keeps those there are. Returns whether it succeeded.
    async fn fetch_locked(&self) -> bool {
        let fetched = self.source.fetch().await;
        let succeeded = fetched.is_ok();
        match fetched {
            Ok(keys) => {
                *self.fetched_at.lock() = Some(Instant::now());
                let old = self.keys.load();
                if !old.as_deref().is_some_and(|ring| ring.keys.same_as(&keys)) {
                    let generation = *self.generation.borrow() + 1;
                    tracing::info!(generation, "the issuer's signing keys changed");
                    self.replace(Some(Arc::new(KeyRing { keys, generation })));
                }
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, ?source, "fetching the issuer's signing keys failed");
            }
        }
        self.fetches.fetch_add(1, Ordering::AcqRel);
        succeeded
    }

    async fn drop_old_keys(&self) {
        let fetching = self.fetching.lock().await;
        // A token with an unknown `kid` may have fetched them in the meantime.
        if self.keys_age().is_some_and(|age| age >= MAX_KEYS_AGE) {
            tracing::error!(
                "the issuer's signing keys could not be fetched for {} h and are no longer used",
                MAX_KEYS_AGE.as_secs() / 3_600
            );
            *self.fetched_at.lock() = None;
            self.replace(None);
        }
        drop(fetching);
    }

    fn replace(&self, ring: Option<Arc<KeyRing>>) {
        self.keys.store(ring);
        self.verified.clear();
        self.generation.send_modify(|generation| *generation += 1);
    }
}

fn retry_interval() -> Duration {
    let [shortest, longest] = RETRY_INTERVALS;
    shortest + longest.saturating_sub(shortest).mul_f64(fastrand::f64())
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
