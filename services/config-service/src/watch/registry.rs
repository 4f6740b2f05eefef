//! Which watches have which locations. A change marks the keys of a watch; the watch reads them when its caller is ready for
//! more. So a slow caller costs a mark for each key, and delays no other (backpressure without a queue).

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tagged_config_domain::{Layers, LocationId, TenantId};
use tokio::{sync::Notify, time::Instant};

const STRIPES: usize = 64;
/// Watches at once: in total, and of one tenant.
const MAX_WATCHES: usize = 20_000;
const MAX_TENANT_WATCHES: usize = MAX_WATCHES / 4;
/// Keys of all watches at once: in total, and of one tenant.
const MAX_KEYS: usize = 500_000;
const MAX_TENANT_KEYS: usize = 100_000;
/// A mark that waits longer than this when the next change comes is that of a slow reader.
const SLOW: Duration = Duration::from_millis(250);

/// All watches of the process.
pub(crate) struct WatchRegistry {
    stripes: Vec<Mutex<HashMap<LocationId, Vec<Watched>>>>,
    hasher: RandomState,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    total: Used,
    by_tenant: HashMap<TenantId, Used>,
}

#[derive(Clone, Copy, Default)]
struct Used {
    watches: usize,
    keys: usize,
}

/// A watch's registration; it ends when this is dropped.
pub(crate) struct Registration {
    registry: Arc<WatchRegistry>,
    tenant: TenantId,
    keys: Vec<Layers>,
    marks: Arc<Marks>,
}

/// Keys to be read again.
pub(crate) struct Marks {
    state: Mutex<State>,
    changed: Notify,
}

/// The marks that were taken together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    /// Indexes of keys, rising.
    pub keys: Vec<usize>,
    /// Some of them changed again while the reader was not ready.
    pub slow: bool,
}

struct State {
    /// When each key was marked.
    marked: Vec<Option<Instant>>,
    slow: bool,
}

#[derive(Clone)]
struct Watched {
    marks: Arc<Marks>,
    key: usize,
}

/// There are too many watches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

// === impl WatchRegistry ===

impl WatchRegistry {
    /// An empty registry.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            usage: Mutex::default(),
        })
    }

    /// Watches these keys of a tenant, all of them marked.
    pub(crate) fn register(
        self: &Arc<Self>,
        tenant: &TenantId,
        keys: Vec<Layers>,
    ) -> Result<Registration, TooMany> {
        self.usage.lock().add(tenant, keys.len())?;
        let marks = Arc::new(Marks {
            state: Mutex::new(State {
                marked: vec![Some(Instant::now()); keys.len()],
                slow: false,
            }),
            changed: Notify::new(),
        });
        for (key, layers) in keys.iter().enumerate() {
            for layer in layers.iter() {
                let watched = Watched {
                    marks: Arc::clone(&marks),
                    key,
                };
                let mut stripe = self.stripe(layer.id());
                stripe.entry(layer.id().clone()).or_default().push(watched);
            }
        }
        marks.changed.notify_one();
        Ok(Registration {
            registry: Arc::clone(self),
            tenant: tenant.clone(),
            keys,
            marks,
        })
    }

    /// A location may hold something else now.
    pub(crate) fn changed(&self, id: &LocationId) {
        let stripe = self.stripe(id);
        for watched in stripe.get(id).into_iter().flatten() {
            watched.marks.mark([watched.key]);
        }
    }

    /// Any location may.
    pub(crate) fn all_changed(&self) {
        for stripe in &self.stripes {
            for watched in stripe.lock().values().flatten() {
                watched.marks.mark([watched.key]);
            }
        }
    }

    /// Watches at present.
    pub(crate) fn watches(&self) -> usize {
        self.usage.lock().total.watches
    }

    fn stripe(
        &self,
        id: &LocationId,
    ) -> parking_lot::MutexGuard<'_, HashMap<LocationId, Vec<Watched>>> {
        let index = usize::try_from(self.hasher.hash_one(id) % STRIPES as u64).unwrap_or(0);
        self.stripes[index].lock()
    }
}

// === impl Registration ===

impl Registration {
    /// Whose watch it is.
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The marks.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The places of a key.
    pub(crate) fn layers(&self, key: usize) -> Option<&Layers> {
        self.keys.get(key)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for layer in self.keys.iter().flat_map(Layers::iter) {
            let mut stripe = self.registry.stripe(layer.id());
            if let Some(watched) = stripe.get_mut(layer.id()) {
                watched.retain(|watched| !Arc::ptr_eq(&watched.marks, &self.marks));
                if watched.is_empty() {
                    stripe.remove(layer.id());
                }
            }
        }
        self.registry
            .usage
            .lock()
            .remove(&self.tenant, self.keys.len());
    }
}

// === impl Usage ===

impl Usage {
    fn add(&mut self, tenant: &TenantId, keys: usize) -> Result<(), TooMany> {
        let of_tenant = self.by_tenant.get(tenant).copied().unwrap_or_default();
        let is_too_much = |used: Used, watches: usize, most_keys: usize| {
            used.watches >= watches || used.keys + keys > most_keys
        };
        if is_too_much(of_tenant, MAX_TENANT_WATCHES, MAX_TENANT_KEYS)
            || is_too_much(self.total, MAX_WATCHES, MAX_KEYS)
        {
            return Err(TooMany);
        }
        let of_tenant = self.by_tenant.entry(tenant.clone()).or_default();
        for used in [of_tenant, &mut self.total] {
            used.watches += 1;
            used.keys += keys;
        }
        Ok(())
    }

    fn remove(&mut self, tenant: &TenantId, keys: usize) {
        self.total.watches -= 1;
        self.total.keys -= keys;
        if let Some(used) = self.by_tenant.get_mut(tenant) {
            used.watches -= 1;
            used.keys -= keys;
            if used.watches == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

// === impl Marks ===

impl Marks {
    /// Marks keys.
    pub(crate) fn mark(&self, keys: impl IntoIterator<Item = usize>) {
        {
            let now = Instant::now();
            let mut state = self.state.lock();
            let State { marked, slow } = &mut *state;
            for key in keys {
                if let Some(mark) = marked.get_mut(key) {
                    *slow |= mark.is_some_and(|since| now.duration_since(since) > SLOW);
                    mark.get_or_insert(now);
                }
            }
        }
        self.changed.notify_one();
    }

    /// Marks keys to be read again, though nothing changed.
    pub(crate) fn mark_again(&self, keys: impl IntoIterator<Item = usize>) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for key in keys {
            if let Some(mark) = state.marked.get_mut(key) {
                mark.get_or_insert(now);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for a mark.
    pub(crate) async fn wait(&self) {
        self.changed.notified().await;
    }

    /// Takes the marks.
    pub(crate) fn take(&self) -> Marked {
        let mut state = self.state.lock();
        let slow = std::mem::take(&mut state.slow);
        let taken = state.marked.iter_mut().enumerate();
        let keys = taken
            .filter_map(|(key, mark)| mark.take().map(|_| key))
            .collect();
        Marked { keys, slow }
    }
}
