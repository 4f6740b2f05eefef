//! What `benches/` reaches of the hot path. No part of the service's interface.

use std::{sync::Arc, time::Duration};

use tagged_config_auth::{Authenticator, JwksSource};
use tagged_config_domain::{LocationId, Principal};
use tagged_config_proto::v1::{Change, receipt};
use tagged_config_runtime::shutdown::shutdown_pair;
use tagged_config_stores::Stores;
use tokio::time::Instant;
use tonic::service::Routes;

use crate::{
    api::page_token::PageTokens,
    api::{ConfigApi, Fallback},
    cache::{Cache, CacheConfig, Lookup, Surroundings},
    change::pause::{Clock, PauseDetector},
    change::sweep::SweepHealth,
    change::{Changes, unix_ms},
    telemetry::metrics::Metrics,
    transport::grpc::{Shared, calls::GrpcCalls},
    transport::writes::Writes,
    watch::registry::WatchRegistry,
};

/// A service over some stores, without listeners.
pub struct Service {
    api: Arc<ConfigApi>,
    cache: Arc<Cache>,
    changes: Arc<Changes>,
}

impl Service {
    /// A service with an empty cache of so many bytes.
    pub fn new(stores: Stores, cache_bytes: u64) -> Self {
        let metrics = Metrics::new();
        let config = CacheConfig {
            ttl: Duration::from_hours(1),
            max_stale: Duration::from_hours(1),
            bytes: cache_bytes,
        };
        // Not the system's, which callgrind cannot run.
        let started = Instant::now();
        let clock: Clock =
            Arc::new(move || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let sweeps = SweepHealth::new(Arc::clone(&clock), Duration::from_secs(2));
        let pauses = Arc::new(PauseDetector::new(clock, sweeps.promise()));
        let cache = Arc::new(Cache::new(
            config,
            Surroundings {
                jitter: || 0.0,
                unix_ms,
            },
            pauses,
            WatchRegistry::new(),
            Arc::clone(&metrics),
        ));
        let changes = Arc::new(Changes::new(
            stores.clone(),
            Arc::clone(&cache),
            Arc::clone(&metrics),
            None,
        ));
        let api = ConfigApi::new(
            stores,
            Arc::clone(&cache),
            Arc::clone(&changes),
            Arc::new(sweeps),
            metrics,
            PageTokens::new(["a-secret-of-the-benchmark"]),
            "bench".into(),
        );
        Self {
            changes,
            api: Arc::new(api),
            cache,
        }
    }

    /// One key, as both transports request it; whether it exists.
    pub async fn get(&self, caller: &Principal, key: &str) -> bool {
        self.api
            .get(caller, key, 0, Fallback::Within(None))
            .await
            .is_ok()
    }

    /// Looks a location up; whether it is a hit.
    pub fn is_hit(&self, id: &LocationId) -> bool {
        matches!(self.cache.lookup(id, Instant::now()), Lookup::Fresh(_))
    }

    /// Applies a change; whether the cache took its value.
    pub fn refresh(&self, change: Change) -> bool {
        self.changes.pushed(change).outcome() == receipt::Outcome::Applied
    }

    /// Entries in the cache.
    pub fn entries(&self) -> usize {
        self.cache.entries()
    }

    /// The gRPC service.
    pub fn routes<S: JwksSource>(&self, authenticator: Arc<Authenticator<S>>) -> Routes {
        let (_, stop) = shutdown_pair();
        Routes::new(GrpcCalls::new(Shared {
            api: Arc::clone(&self.api),
            authenticator,
            writes: Writes::default(),
            connection_age: Duration::from_hours(1),
            stop,
        }))
    }
}
