//! Who watches which location. A change marks the watch's keys; the watch reads them when its caller is ready for more,
//! so that a slow one holds nothing but marks, and holds up nobody.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tagged_config_domain::{Layers, LocationId, TenantId};
use tokio::{sync::Notify, time::Instant};

const STRIPES: usize = 64;
/// Watches at once: in all, and of one tenant.
const MAX_WATCHES: usize = 20_000;
const MAX_TENANT_WATCHES: usize = 10_000;
/// A mark that waits longer than this when the next change comes is that of a slow reader.
const SLOW: Duration = Duration::from_millis(250);

/// All watches of the process.
pub(crate) struct Hub {
    stripes: Vec<Mutex<HashMap<LocationId, Vec<Watched>>>>,
    hasher: RandomState,
    watches: AtomicUsize,
    by_tenant: Mutex<HashMap<TenantId, usize>>,
}

/// A watch's place in the hub; leaves it when dropped.
pub(crate) struct Registration {
    hub: Arc<Hub>,
    tenant: TenantId,
    keys: Vec<Layers>,
    marks: Arc<Marks>,
}

/// What is to be looked at anew.
pub(crate) struct Marks {
    state: Mutex<State>,
    changed: Notify,
}

/// The marks of one turn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
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

// === impl Hub ===

impl Hub {
    /// Nobody watches.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            watches: AtomicUsize::new(0),
            by_tenant: Mutex::default(),
        })
    }

    /// Watches these keys of a tenant, all of them marked.
    pub(crate) fn register(
        self: &Arc<Self>,
        tenant: &TenantId,
        keys: Vec<Layers>,
    ) -> Result<Registration, TooMany> {
        {
            let mut by_tenant = self.by_tenant.lock();
            let of_tenant = by_tenant.get(tenant).copied().unwrap_or_default();
            if of_tenant >= MAX_TENANT_WATCHES
                || self.watches.load(Ordering::Relaxed) >= MAX_WATCHES
            {
                return Err(TooMany);
            }
            by_tenant.insert(tenant.clone(), of_tenant + 1);
            self.watches.fetch_add(1, Ordering::Relaxed);
        }
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
            hub: Arc::clone(self),
            tenant: tenant.clone(),
            keys,
            marks,
        })
    }

    /// A location may hold something else now.
    pub(crate) fn changed(&self, id: &LocationId) {
        if self.watches() == 0 {
            return;
        }
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
        self.watches.load(Ordering::Relaxed)
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
            let mut stripe = self.hub.stripe(layer.id());
            if let Some(watched) = stripe.get_mut(layer.id()) {
                watched.retain(|watched| !Arc::ptr_eq(&watched.marks, &self.marks));
                if watched.is_empty() {
                    stripe.remove(layer.id());
                }
            }
        }
        let mut by_tenant = self.hub.by_tenant.lock();
        if let Some(count) = by_tenant.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                by_tenant.remove(&self.tenant);
            }
        }
        self.hub.watches.fetch_sub(1, Ordering::Relaxed);
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

    /// Has keys looked at, though nothing changed.
    pub(crate) fn look_at(&self, keys: impl IntoIterator<Item = usize>) {
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
    pub(crate) fn take(&self) -> Turn {
        let mut state = self.state.lock();
        let slow = std::mem::take(&mut state.slow);
        let taken = state.marked.iter_mut().enumerate();
        let keys = taken
            .filter_map(|(key, mark)| mark.take().map(|_| key))
            .collect();
        Turn { keys, slow }
    }
}
