//! A `ConfigApi` over stores in memory, for unit tests. Its clocks stand still.

use std::{sync::Arc, time::Duration};

use tagged_config_stores::Stores;
use tagged_config_testkit::MemoryStore;

use crate::{
    api::{ConfigApi, page_token::PageTokens},
    cache::{Cache, CacheConfig, Surroundings},
    change::{
        Changes,
        pause::{Clock, PauseDetector},
        sweep::SweepHealth,
    },
    telemetry::metrics::Metrics,
    watch::registry::WatchRegistry,
};

pub(crate) struct Service {
    pub(crate) api: Arc<ConfigApi>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    /// Of `tenant_config_`.
    pub(crate) tenant_store: Arc<MemoryStore>,
    /// Of `param_config_`, with defaults.
    pub(crate) shared_store: Arc<MemoryStore>,
}

pub(crate) fn service(ttl: Duration) -> Service {
    let metrics = Metrics::new();
    let clock: Clock = Arc::new(|| 0);
    let config = CacheConfig {
        ttl,
        max_stale: Duration::from_hours(1),
        bytes: 1 << 20,
    };
    let cache = Arc::new(Cache::new(
        config,
        Surroundings {
            jitter: || 0.0,
            unix_ms: || 0,
        },
        Arc::new(PauseDetector::new(Arc::clone(&clock), Duration::MAX)),
        WatchRegistry::new(),
        Arc::clone(&metrics),
    ));
    let tenant_store = Arc::new(MemoryStore::default());
    let shared_store = Arc::new(MemoryStore::layered());
    let stores = Stores::from_parts(vec![
        ("tenant", tenant_store.clone()),
        ("param", shared_store.clone()),
        // With defaults and large values.
        ("bytes", Arc::new(MemoryStore::of_bytes())),
    ]);
    let changes = Changes::new(
        stores.clone(),
        Arc::clone(&cache),
        Arc::clone(&metrics),
        None,
    );
    let api = ConfigApi::new(
        stores,
        Arc::clone(&cache),
        Arc::new(changes),
        Arc::new(SweepHealth::new(clock, Duration::from_secs(2))),
        Arc::clone(&metrics),
        PageTokens::new(["secret"]),
        "task".into(),
    );
    Service {
        api: Arc::new(api),
        cache,
        metrics,
        tenant_store,
        shared_store,
    }
}
