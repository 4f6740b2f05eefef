//! Tokens whose signature was checked before. Bounded in bytes; an entry ends with its token, and with the
//! set of keys that it was verified against.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use tagged_config_domain::Principal;

/// What the remembered tokens may take, in bytes: some 16,000 of Cognito's.
const CAPACITY_BYTES: u64 = 16 * 1024 * 1024;
const ESTIMATED_TOKENS: usize = 16_384;

pub(crate) struct VerifiedTokens(Cache<Box<str>, Verified, ByBytes>);

#[derive(Clone)]
struct Verified {
    generation: u64,
    principal: Arc<Principal>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<str>, Verified> for ByBytes {
    fn weight(&self, token: &Box<str>, _: &Verified) -> u64 {
        token.len() as u64 + 256
    }
}

impl VerifiedTokens {
    pub(crate) fn new() -> Self {
        Self(Cache::with_weighter(
            ESTIMATED_TOKENS,
            CAPACITY_BYTES,
            ByBytes,
        ))
    }

    /// The caller of a token that these keys verified and that has not expired (`exp` is exclusive).
    pub(crate) fn get(&self, token: &str, generation: u64, now: u64) -> Option<Arc<Principal>> {
        let verified = self.0.get(token)?;
        (verified.generation == generation && now < verified.principal.expires_at())
            .then_some(verified.principal)
    }

    pub(crate) fn insert(&self, token: &str, generation: u64, principal: &Arc<Principal>) {
        self.0.insert(
            token.into(),
            Verified {
                generation,
                principal: Arc::clone(principal),
            },
        );
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}
