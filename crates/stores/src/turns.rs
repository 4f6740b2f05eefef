//! Turns at a backend, so that a tenant that asks for much waits behind itself and not in front of the others.

use std::{convert::Infallible, sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use tagged_config_domain::TenantId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};

/// Tenants whose turns are remembered; a forgotten one starts anew.
const TENANTS: usize = 10_000;

/// So many turns at once in all, and so many of them for one tenant. Whoever waits is served in order.
pub(crate) struct Turns {
    all: Semaphore,
    of_each: usize,
    of_tenant: Cache<TenantId, Arc<Semaphore>>,
}

/// A turn, for as long as it is kept.
pub(crate) struct Turn<'a> {
    _all: SemaphorePermit<'a>,
    _tenant: Option<OwnedSemaphorePermit>,
}

// === impl Turns ===

impl Turns {
    pub(crate) fn new(in_all: usize, of_each: usize) -> Self {
        Self {
            all: Semaphore::new(in_all),
            of_each,
            of_tenant: Cache::new(TENANTS),
        }
    }

    /// Waits for a turn, first among the tenant's own; `None` if that takes longer than `patience`. What belongs to no
    /// tenant waits with all.
    pub(crate) async fn take(
        &self,
        tenant: Option<&TenantId>,
        patience: Duration,
    ) -> Option<Turn<'_>> {
        let turn = async {
            let of_tenant = match tenant {
                Some(tenant) => Some(self.turns_of(tenant).acquire_owned().await.ok()?),
                None => None,
            };
            Some(Turn {
                _all: self.all.acquire().await.ok()?,
                _tenant: of_tenant,
            })
        };
        timeout(patience, turn).await.ok().flatten()
    }

    fn turns_of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let turns = self.of_tenant.get_or_insert_with(tenant, || {
            Ok::<_, Infallible>(Arc::new(Semaphore::new(self.of_each)))
        });
        let Ok(turns) = turns;
        turns
    }
}

#[cfg(test)]
mod tests {
    use tagged_config_testkit::Issuer;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_tenant_waits_behind_itself_only() {
        let issuer = Issuer::new();
        let (a, b) = (issuer.tenant("A"), issuer.tenant("B"));
        let turns = Turns::new(4, 2);
        let first = turns.take(Some(&a), PATIENCE).await.unwrap();
        let _second = turns.take(Some(&a), PATIENCE).await.unwrap();
        assert!(turns.take(Some(&a), PATIENCE).await.is_none());
        let _other = turns.take(Some(&b), PATIENCE).await.unwrap();
        let _nobodys = turns.take(None, PATIENCE).await.unwrap();
        drop(first);
        assert!(turns.take(Some(&a), PATIENCE).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_so_many_at_once() {
        let issuer = Issuer::new();
        let turns = Turns::new(2, 2);
        let _one = turns
            .take(Some(&issuer.tenant("A")), PATIENCE)
            .await
            .unwrap();
        let two = turns
            .take(Some(&issuer.tenant("B")), PATIENCE)
            .await
            .unwrap();
        let third = issuer.tenant("C");
        let started = tokio::time::Instant::now();
        assert!(turns.take(Some(&third), PATIENCE).await.is_none());
        assert_eq!(started.elapsed(), PATIENCE);
        drop(two);
        // Who gave up holds nothing.
        let _first = turns.take(Some(&third), PATIENCE).await.unwrap();
        assert!(turns.take(Some(&third), PATIENCE).await.is_none());
    }
}
