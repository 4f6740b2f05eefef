//! What one tenant may use of what all share, so that a noisy one is refused and the others notice nothing.

use std::{num::NonZeroU32, sync::Arc};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use quick_cache::sync::Cache as QuickCache;
use tagged_config_domain::TenantId;

use crate::errors::ApiError;

/// Tenants whose use is remembered; a forgotten one starts anew.
const TENANTS: usize = 10_000;

/// An allowance that each tenant has.
pub(crate) struct TenantLimit {
    what: &'static str,
    quota: Quota,
    used: QuickCache<TenantId, Arc<DefaultDirectRateLimiter>>,
    clock: DefaultClock,
}

// === impl TenantLimit ===

impl TenantLimit {
    /// So many a second, and `burst` at once. `what` completes "too many ...".
    pub(crate) fn new(what: &'static str, per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            what,
            quota: Quota::per_second(per_second).allow_burst(burst),
            used: QuickCache::new(TENANTS),
            clock: DefaultClock::default(),
        }
    }

    /// Uses one, or says when there will be one.
    pub(crate) fn check(&self, tenant: &TenantId) -> Result<(), ApiError> {
        let limiter = self.used.get_or_insert_with(tenant, || {
            Ok::<_, std::convert::Infallible>(Arc::new(RateLimiter::direct(self.quota)))
        });
        let Ok(limiter) = limiter;
        limiter.check().map_err(|not_until| ApiError::RateLimited {
            what: self.what,
            retry_after: not_until.wait_time_from(self.clock.now()),
        })
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_testkit::Issuer;

    use super::*;

    #[test]
    fn a_tenant_uses_up_its_own_allowance_only() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A"), issuer.tenant("B"));
        let one = NonZeroU32::MIN;
        let limit = TenantLimit::new("reads", one, one);
        assert!(limit.check(&a).is_ok());
        let Err(ApiError::RateLimited { retry_after, .. }) = limit.check(&a) else {
            panic!("the second is one too many")
        };
        assert!(retry_after.as_millis() > 500 && retry_after.as_millis() <= 1_000);
        assert!(limit.check(&b).is_ok());
    }
}
