//! How a read is answered: from the cache, through it, or past it.

use std::{sync::Arc, time::Duration};

use tagged_config_domain::{Layers, Origin, Record, Revision, Store, StoreError, TenantId};
use tokio::time::{Instant, timeout};

use super::ConfigApi;
use crate::{
    cache::{Cache, Entry, Lookup},
    errors::ApiError,
    telemetry::metrics::ReadResult,
};

/// How long a reader waits for the source before it takes the last known value.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The state of one layer after reading.
pub(super) struct LayerState {
    pub(super) record: Option<Record>,
    pub(super) since: Instant,
    pub(super) result: ReadResult,
}

impl ConfigApi {
    /// The answer that needs no call: the first layer that holds a value, all before it being known absent.
    pub(super) fn cached(
        &self,
        store: &Arc<dyn Store>,
        layers: &Layers,
    ) -> Option<(Origin, Option<LayerState>)> {
        let now = Instant::now();
        let mut worst = ReadResult::hit;
        let mut last = None;
        let mut renewed = Vec::new();
        for layer in layers.iter() {
            let entry = match self.cache.lookup(layer.id(), now) {
                Lookup::Fresh(entry) => {
                    if Cache::is_to_renew(&entry, now) {
                        renewed.push(layer.clone());
                    }
                    entry
                }
                Lookup::Stale(entry) => {
                    worst = ReadResult::stale;
                    entry
                }
                Lookup::Miss(_) => return None,
            };
            let found = entry.record.is_some();
            last = Some((layer.origin(), Some(LayerState::of(&entry, worst))));
            if found {
                break;
            }
        }
        if let Some((_, Some(state))) = &last {
            self.count(store.backend(), state.result);
        }
        if !renewed.is_empty() {
            let (cache, store) = (Arc::clone(&self.cache), Arc::clone(store));
            tokio::spawn(async move { cache.fill(&store, &renewed).await });
        }
        last
    }

    /// Reads what is not known, and falls back on what was known if the source does not answer in time.
    pub(super) async fn read_through(
        &self,
        tenant: &TenantId,
        store: &Arc<dyn Store>,
        layers: &Layers,
    ) -> Result<(Origin, Option<LayerState>), ApiError> {
        let now = Instant::now();
        let known: Vec<Lookup> = layers
            .iter()
            .map(|layer| self.cache.lookup(layer.id(), now))
            .collect();
        let wanted: Vec<_> = layers
            .iter()
            .zip(&known)
            .filter(|(_, lookup)| matches!(lookup, Lookup::Miss(_)))
            .map(|(layer, _)| layer.clone())
            .collect();
        let has_fallback = known
            .iter()
            .all(|lookup| !matches!(lookup, Lookup::Miss(None)));
        let limit = self.misses.iter();
        let mut limit = limit.filter(|(backend, _)| *backend == store.backend());
        let allowed = limit
            .next()
            .map_or(Ok(()), |(_, limit)| limit.check(tenant));
        let allowed = match allowed {
            Err(refused) if !has_fallback => return Err(refused),
            allowed => allowed.is_ok(),
        };
        let fill = self.cache.fill(store, &wanted);
        let outcomes = if !allowed {
            let refused = Arc::new(StoreError::Throttled {
                backend: store.backend(),
            });
            wanted.iter().map(|_| Err(Arc::clone(&refused))).collect()
        } else if has_fallback {
            // The read goes on without us.
            timeout(PATIENCE, fill).await.unwrap_or_else(|_| {
                let late = Arc::new(StoreError::TimedOut {
                    backend: store.backend(),
                });
                wanted.iter().map(|_| Err(Arc::clone(&late))).collect()
            })
        } else {
            fill.await
        };
        let mut outcomes = outcomes.into_iter();
        let mut worst = ReadResult::miss;
        let mut last = None;
        for (layer, lookup) in layers.iter().zip(known) {
            let state = match lookup {
                Lookup::Fresh(entry) => LayerState::of(&entry, worst),
                Lookup::Stale(entry) => {
                    worst = ReadResult::stale;
                    LayerState::of(&entry, worst)
                }
                Lookup::Miss(fallback) => match (outcomes.next(), fallback) {
                    (Some(Ok(record)), _) => LayerState {
                        record,
                        since: Instant::now(),
                        result: worst,
                    },
                    (Some(Err(error)), _) if error.is_an_answer() => {
                        return Err(ApiError::Store(error));
                    }
                    (_, Some(entry)) => {
                        worst = ReadResult::stale;
                        // Others may have learnt more while this reader waited.
                        let newest = self.cache.last_known(layer.id());
                        LayerState::of(&newest.unwrap_or(entry), worst)
                    }
                    (Some(Err(error)), None) => return Err(ApiError::Store(error)),
                    (None, None) => {
                        return Err(StoreError::TimedOut {
                            backend: store.backend(),
                        }
                        .into());
                    }
                },
            };
            let found = state.record.is_some();
            last = Some((layer.origin(), Some(state)));
            if found {
                break;
            }
        }
        let last = last.unwrap_or((Origin::Tenant, None));
        if let Some(state) = &last.1 {
            self.count(store.backend(), state.result);
        }
        Ok(last)
    }

    /// The caller's own value in this version or a newer one: from the cache, or with one consistent read.
    pub(super) async fn at_least(
        &self,
        tenant: &TenantId,
        store: &Arc<dyn Store>,
        layers: &Layers,
        min_version: i64,
    ) -> Result<(Origin, Option<LayerState>), ApiError> {
        let version_of = |found: &(Origin, Option<LayerState>)| {
            found
                .1
                .as_ref()
                .and_then(|state| state.record.as_ref())
                .map(|record| record.revision.version)
        };
        if let Lookup::Fresh(entry) = self.cache.lookup(layers.first().id(), Instant::now())
            && entry
                .record
                .as_ref()
                .is_some_and(|record| record.revision.version >= min_version)
        {
            self.count(store.backend(), ReadResult::hit);
            return Ok((
                layers.first().origin(),
                Some(LayerState::of(&entry, ReadResult::hit)),
            ));
        }
        self.forced.check(tenant)?;
        self.cache
            .invalidate(layers.first().id(), Revision::default());
        let outcome = self
            .cache
            .fill(store, std::slice::from_ref(layers.first()))
            .await
            .pop();
        let record = match outcome {
            Some(Ok(record)) => record,
            Some(Err(error)) => return Err(ApiError::Store(error)),
            None => None,
        };
        let found = (
            layers.first().origin(),
            Some(LayerState {
                record,
                since: Instant::now(),
                result: ReadResult::miss,
            }),
        );
        match version_of(&found) {
            Some(have) if have < min_version => Err(ApiError::TooOld { have }),
            _ => {
                self.count(store.backend(), ReadResult::miss);
                Ok(found)
            }
        }
    }
}

impl LayerState {
    fn of(entry: &Entry, result: ReadResult) -> Self {
        Self {
            record: entry.record.clone(),
            since: entry.since,
            result,
        }
    }
}
