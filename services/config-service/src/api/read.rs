//! How a read is answered: from the cache, through it, or past it.

use std::{sync::Arc, time::Duration};

use tagged_config_domain::{
    Layers, Location, Origin, Record, Resource, Store, StoreError, TenantId,
};
use tokio::time::Instant;

use super::ConfigApi;
use crate::{
    cache::{Cached, Found, Lookup, Wait},
    errors::ApiError,
    telemetry::metrics::ReadResult,
};

/// How long a reader waits for a read, from when the read began, before it takes the last known value.
pub(super) const FALLBACK_AFTER: Duration = Duration::from_secs(1);

/// The state of one layer after reading.
pub(super) struct LayerState {
    pub(super) record: Option<Record>,
    pub(super) since: Instant,
    pub(super) result: ReadResult,
}

impl ConfigApi {
    /// The answer that needs no read: the first layer that holds a value, all before it being known to hold none.
    pub(super) fn cached(
        &self,
        tenant: &TenantId,
        store: &Arc<dyn Store>,
        layers: &Layers,
    ) -> Option<(Origin, Option<LayerState>)> {
        let now = Instant::now();
        let mut worst = ReadResult::hit;
        let mut last = None;
        let mut due = Vec::new();
        for layer in layers.iter() {
            let entry = match self.cache.lookup(layer.id(), now) {
                Lookup::Fresh(entry) => entry,
                Lookup::Stale(entry) => {
                    worst = ReadResult::stale;
                    entry
                }
                Lookup::Miss(_) => return None,
            };
            let found = entry.record.is_some();
            last = Some((layer.origin(), Some(LayerState::of(&entry, worst))));
            if entry.is_refresh_due(now) {
                due.push((layer, entry));
            }
            if found {
                break;
            }
        }
        // Not before every layer is known: a miss of a later one reads it without these.
        let due: Vec<_> = due
            .into_iter()
            .filter(|(_, entry)| entry.starts_refresh(now))
            .map(|(layer, _)| layer.clone())
            .collect();
        if let Some((_, Some(state))) = &last {
            self.count(store.backend(), state.result);
        }
        if !due.is_empty() {
            self.refresh_in_background(tenant, store, due);
        }
        last
    }

    /// Reads what is due without waiting: refresh-ahead, or stale-while-revalidate.
    fn refresh_in_background(&self, tenant: &TenantId, store: &Arc<dyn Store>, due: Vec<Location>) {
        // A tenant that is over its quota keeps what is cached until its TTL ends.
        if let Ok(admitted) = self.gate.admit(tenant, Resource::Reads(store.backend()), 1) {
            let (cache, store) = (Arc::clone(&self.cache), self.guarded(store));
            tokio::spawn(async move { cache.fill(&store, &admitted, &due, Wait::UntilDone).await });
        }
    }

    /// Reads what is not known, and falls back on the last known value at `fallback_at`.
    pub(super) async fn read_through(
        &self,
        tenant: &TenantId,
        store: &Arc<dyn Store>,
        layers: &Layers,
        fallback_at: Instant,
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
        let wait = if has_fallback {
            Wait::AtMost(FALLBACK_AFTER, fallback_at)
        } else {
            Wait::UntilDone
        };
        let reads = Resource::Reads(store.backend());
        let outcomes = match self.gate.admit(tenant, reads, 1) {
            Ok(admitted) => {
                self.cache
                    .fill(&self.guarded(store), &admitted, &wanted, wait)
                    .await
            }
            // The caller's own write invalidates what it wrote: that must not be answered with the value before.
            Err(refused) if !has_fallback || is_any_invalidated(&known) => {
                return Err(refused.into());
            }
            Err(_) => {
                let refused = Arc::new(StoreError::Throttled {
                    backend: store.backend(),
                });
                wanted.iter().map(|_| Err(Arc::clone(&refused))).collect()
            }
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
                    (Some(Ok(found)), _) => LayerState::read(found, worst),
                    (Some(Err(error)), _) if error.is_an_answer() => {
                        return Err(ApiError::Store(error));
                    }
                    (_, Some(entry)) => {
                        worst = ReadResult::stale;
                        // Other readers may have learnt more while this one waited.
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
        let own = layers.first();
        if let Lookup::Fresh(entry) = self.cache.lookup(own.id(), Instant::now())
            && entry
                .record
                .as_ref()
                .is_some_and(|record| record.revision.version >= min_version)
        {
            self.count(store.backend(), ReadResult::hit);
            return Ok((own.origin(), Some(LayerState::of(&entry, ReadResult::hit))));
        }
        self.gate.admit(tenant, Resource::ForcedReads, 1)?;
        let reads = Resource::Reads(store.backend());
        let admitted = self.gate.admit(tenant, reads, 1)?;
        self.cache.invalidate(own.id());
        let outcome = self
            .cache
            .fill(
                &self.guarded(store),
                &admitted,
                std::slice::from_ref(own),
                Wait::UntilDone,
            )
            .await
            .pop();
        let found = match outcome {
            Some(Ok(found)) => found,
            Some(Err(error)) => return Err(ApiError::Store(error)),
            None => return Err(ApiError::NotFound),
        };
        match &found.record {
            Some(record) if record.revision.version < min_version => Err(ApiError::TooOld {
                have: record.revision.version,
            }),
            _ => {
                self.count(store.backend(), ReadResult::miss);
                let state = LayerState::read(found, ReadResult::miss);
                Ok((own.origin(), Some(state)))
            }
        }
    }
}

fn is_any_invalidated(known: &[Lookup]) -> bool {
    known
        .iter()
        .any(|lookup| matches!(lookup, Lookup::Miss(Some(entry)) if entry.is_invalidated()))
}

impl LayerState {
    fn of(entry: &Cached, result: ReadResult) -> Self {
        Self {
            record: entry.record.clone(),
            since: entry.since,
            result,
        }
    }

    fn read(found: Found, result: ReadResult) -> Self {
        Self {
            record: found.record,
            since: found.since,
            result,
        }
    }
}
