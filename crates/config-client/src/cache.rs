//! A cache in the process: one WatchConfig call for each active tenant keeps its configuration current, and reads make no call.
//!
//! A tenant's watch is opened with a caller's own token. When that has expired, the last known values are served until the
//! next caller of the tenant brings a new one. `session.rs` decides what is known; `watcher.rs` makes the calls.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache as QuickCache;
use tagged_config_domain::{ConfigKey, KeyError, TenantId};
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status};

use crate::{
    CallerToken, ConfigClient, Snapshot, session::View, snapshot::is_passing, watcher::Watcher,
};

/// Most keys that a cache keeps of each tenant: as many as one watch of config-service takes.
pub const MAX_KEYS: usize = 500;

/// Settings of [`ConfigCache`].
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The keys of every tenant that are kept, 1 to [`MAX_KEYS`]. No secrets: a watch does not send them.
    pub keys: Vec<String>,
    /// Tenants that are kept at once; the least recently used one is evicted first.
    pub tenants: usize,
    /// How old the last known values may get while config-service or a key's store cannot be reached.
    pub max_stale: Duration,
}

/// Receives what happens, for metrics. All methods do nothing by default, and must not block.
pub trait Observer: Send + Sync + 'static {
    /// A watch has sent its snapshot.
    fn connected(&self) {}
    /// A watch ended; `Ok` when its connection is to be made anew.
    fn ended(&self, _code: Code) {}
    /// A key has changed.
    fn updated(&self, _key: &str) {}
    /// No watch was live, and a caller waited for a BatchGetConfig call: its own, or one in flight with the same token.
    fn fell_back(&self) {}
}

/// The keys cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadKeys {
    /// There are none, or too many.
    #[error("a cache keeps 1 to {MAX_KEYS} keys of each tenant, not {0}")]
    Count(usize),
    /// One is no key. config-service would refuse every watch of it.
    #[error("{key:?} is no key: {problem}")]
    Malformed {
        /// Which.
        key: String,
        /// What is wrong with it.
        problem: KeyError,
    },
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

/// Tenants' configuration, kept in the process. Cheap to clone.
#[derive(Clone)]
pub struct ConfigCache {
    client: ConfigClient,
    config: Arc<CacheConfig>,
    tenants: Arc<QuickCache<TenantId, Arc<Watcher>>>,
    observer: Arc<dyn Observer>,
}

/// One tenant's configuration, for one caller. Reads are synchronous. Keeps its watch alive.
#[derive(Clone)]
pub struct TenantConfig {
    watcher: Arc<Watcher>,
    /// What a call answered this caller, since no watch was live. No other caller sees it.
    own: Option<(CallerToken, Arc<View>)>,
}

/// How current a tenant's configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Whether a watch brings changes, or ended with OK within the last two seconds and is being opened again.
    pub live: bool,
    /// Since the configuration was last known to be current.
    pub age: Duration,
    /// At most this long a change may stay unseen by the task that is watched, as it said last.
    pub staleness_bound: Duration,
}

impl Observer for Unobserved {}

// === impl ConfigCache ===

impl ConfigCache {
    /// A cache that watches through this client. Must be used within a Tokio runtime.
    pub fn new(
        client: ConfigClient,
        config: CacheConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BadKeys> {
        if config.keys.is_empty() || config.keys.len() > MAX_KEYS {
            return Err(BadKeys::Count(config.keys.len()));
        }
        for key in &config.keys {
            ConfigKey::parse(key).map_err(|problem| BadKeys::Malformed {
                key: key.clone(),
                problem,
            })?;
        }
        Ok(Self {
            client,
            tenants: Arc::new(QuickCache::new(config.tenants)),
            config: Arc::new(config),
            observer,
        })
    }

    /// The configuration of a tenant, for the caller with this token. Call it in each request: the next watch uses the
    /// newest token. Waits only for the tenant's first watch; while no watch is live, makes a BatchGetConfig call, which
    /// concurrent requests with the same token share (single-flight).
    ///
    /// Fails with PERMISSION_DENIED if the token is not one of the tenant, and with the call's status if the call fails and
    /// no last known values can stand in.
    pub async fn tenant(
        &self,
        tenant: &TenantId,
        token: &CallerToken,
    ) -> Result<TenantConfig, Status> {
        let deadline = Instant::now() + self.client.deadline;
        let watcher = self.watcher(tenant, token)?;
        let shared = &watcher.shared;
        let mut attempted = shared.attempted();
        if !*attempted.borrow() {
            let first = attempted.wait_for(|attempted| *attempted);
            let _ = timeout(self.client.deadline / 2, first).await;
        }
        if shared.needs_call(token) {
            self.observer.fell_back();
            let late = || Status::deadline_exceeded("config-service did not answer in time");
            let call = timeout_at(deadline, watcher.batch(&self.client, token)).await;
            if let Err(status) = call.unwrap_or_else(|_| Err(late()))
                && !(is_passing(status.code()) && shared.is_known(token))
            {
                return Err(status);
            }
        }
        let own = shared.own_view(token);
        let own = own.map(|view| (token.clone(), Arc::new(view)));
        Ok(TenantConfig { watcher, own })
    }

    /// The tenant's watcher, with this token for the next watch.
    fn watcher(&self, tenant: &TenantId, token: &CallerToken) -> Result<Arc<Watcher>, Status> {
        // The held token was checked when it was offered.
        if let Some(watcher) = self.tenants.get(tenant)
            && watcher.shared.holds(token)
        {
            return Ok(watcher);
        }
        if !token.claims(tenant) {
            return Err(Status::permission_denied("the token is not of this tenant"));
        }
        let made = self.tenants.get_or_insert_with(tenant, || {
            let watcher = Watcher::start(&self.client, &self.config, &self.observer, token);
            Ok::<_, std::convert::Infallible>(Arc::new(watcher))
        });
        let Ok(watcher) = made;
        watcher.shared.offer(token);
        Ok(watcher)
    }
}

// === impl TenantConfig ===

impl TenantConfig {
    /// What is known now. Fails with UNAVAILABLE if that is older than the maximum age.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        let (snapshot, is_known) = self.read(|view| (Arc::clone(&view.snapshot), view.is_known));
        if is_known {
            return Ok(snapshot);
        }
        Err(Status::unavailable(
            "config-service did not answer for longer than the maximum age",
        ))
    }

    /// How current it is.
    pub fn freshness(&self) -> Freshness {
        self.read(|view| Freshness {
            live: view.is_live,
            age: view
                .confirmed_at
                .map_or(Duration::MAX, |confirmed_at| confirmed_at.elapsed()),
            staleness_bound: view.staleness_bound,
        })
    }

    fn read<T>(&self, read: impl Fn(&View) -> T) -> T {
        let shared = &self.watcher.shared;
        match &self.own {
            None => shared.read(read),
            Some((token, own)) => read(&shared.view_of(token, own)),
        }
    }
}

#[cfg(test)]
mod tests;
