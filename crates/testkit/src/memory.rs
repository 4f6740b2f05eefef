//! A store in memory with the semantics of the DynamoDB store, faults on demand, and a count of reads.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering as Atomic},
    },
};

use async_trait::async_trait;
use tagged_config_domain::{
    Backend, ConfigName, Current, Layers, ListPage, ListRequest, Location, NewValue, Order,
    Precondition, Record, Revision, Store, StoreError, TenantId, VersionClock, Written,
};
use tokio::sync::Semaphore;

const BACKEND: Backend = Backend("memory");
const LAYERED_BACKEND: Backend = Backend("memory-layered");
const MAX_VALUE_BYTES: usize = 256 * 1024;

/// Values by partition and name. With [`MemoryStore::layered`], a shared default lies under each.
pub struct MemoryStore {
    values: Mutex<BTreeMap<(String, String), Record>>,
    versions: VersionClock,
    last_version: AtomicI64,
    order: Order,
    layered: bool,
    down: AtomicBool,
    reads: AtomicUsize,
    /// While closed, reads that took their value wait here before they return it.
    gate: Semaphore,
    gated: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            values: Mutex::default(),
            versions: VersionClock::system(),
            last_version: AtomicI64::new(0),
            order: Order::ConsistentReads,
            layered: false,
            down: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
        }
    }
}

impl MemoryStore {
    /// A store whose values lie over shared defaults and are ordered by revision, like Parameter Store's.
    pub fn layered() -> Self {
        Self {
            order: Order::Revisions,
            layered: true,
            ..Self::default()
        }
    }

    /// Writes past the store's own rules, as somebody with database access does.
    pub fn set(&self, partition: &str, name: &str, record: Record) {
        self.lock()
            .insert((partition.to_owned(), name.to_owned()), record);
    }

    /// Deletes past the store's own rules.
    pub fn unset(&self, partition: &str, name: &str) {
        self.lock().remove(&(partition.to_owned(), name.to_owned()));
    }

    /// Fails every call, or no longer.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Atomic::SeqCst);
    }

    /// Calls of [`Store::read`] so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Atomic::SeqCst)
    }

    /// From now on reads take their value and then wait for [`Self::release`].
    pub fn hold_reads(&self) {
        self.gated.store(true, Atomic::SeqCst);
    }

    /// Lets this many held reads return.
    pub fn release(&self, reads: usize) {
        self.gate.add_permits(reads);
    }

    /// Later reads are not held.
    pub fn stop_holding(&self) {
        self.gated.store(false, Atomic::SeqCst);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Record>> {
        self.values.lock().expect("not poisoned")
    }

    /// Above all that it gave: one process, so remembering is enough.
    fn next_version(&self, old: i64) -> Result<i64, StoreError> {
        let last = self.last_version.load(Atomic::SeqCst);
        let version = self
            .versions
            .next(old.max(last))
            .ok_or(StoreError::VersionExhausted)?;
        self.last_version.store(version, Atomic::SeqCst);
        Ok(version)
    }

    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Atomic::SeqCst) {
            return Err(StoreError::Unavailable {
                backend: BACKEND,
                source: "down".into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn backend(&self) -> Backend {
        if self.layered {
            LAYERED_BACKEND
        } else {
            BACKEND
        }
    }

    fn order(&self) -> Order {
        self.order
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        let parts = |tenant: &TenantId| (tenant.as_str().to_owned(), name.as_str().to_owned());
        let own = Location::owned_by(tenant, self.backend(), parts);
        if !self.layered {
            return Layers::own(own);
        }
        Layers::over(
            own,
            Location::shared_with(tenant, self.backend(), format!("global/{}", name.as_str())),
        )
    }

    async fn read(&self, locations: &[Location]) -> Result<Vec<Option<Record>>, StoreError> {
        self.reads.fetch_add(1, Atomic::SeqCst);
        let found = {
            let values = self.lock();
            let key = |l: &Location| (l.id().partition().to_owned(), l.id().sort().to_owned());
            locations
                .iter()
                .map(|location| values.get(&key(location)).cloned())
                .collect()
        };
        if self.gated.load(Atomic::SeqCst) {
            self.gate.acquire().await.expect("never closed").forget();
        } else {
            tokio::task::yield_now().await;
        }
        self.up()?;
        Ok(found)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        self.up()?;
        let values = self.lock();
        let own = values.iter().filter(|((partition, name), _)| {
            partition == tenant.as_str()
                && name.starts_with(request.prefix)
                && request.after.is_none_or(|after| name.as_str() > after)
        });
        let mut entries: Vec<_> = own
            .map(|((_, name), record)| (name.clone(), Ok(record.clone())))
            .collect();
        let next_after =
            (entries.len() > request.limit).then(|| entries[request.limit - 1].0.clone());
        entries.truncate(request.limit);
        Ok(ListPage {
            entries,
            next_after,
        })
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: ConfigName<'_>,
        new: NewValue<'_>,
        precondition: Precondition,
    ) -> Result<Written, StoreError> {
        self.up()?;
        if new.value.len() > MAX_VALUE_BYTES {
            let actual = new.value.len();
            return Err(StoreError::TooLarge {
                backend: BACKEND,
                limit: MAX_VALUE_BYTES,
                actual,
            });
        }
        let mut values = self.lock();
        let key = (tenant.as_str().to_owned(), name.as_str().to_owned());
        let old = values.get(&key);
        precondition.check(old.map(Current::from))?;
        let created = old.is_none();
        let old_version = old.map_or(0, |record| record.revision.version);
        let version = self.next_version(old_version)?;
        let record = Record::new(
            new.value,
            new.content_type,
            Revision {
                incarnation: 0,
                version,
            },
            Some(version),
        );
        values.insert(key, record.clone());
        Ok(Written { record, created })
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        name: ConfigName<'_>,
        precondition: Precondition,
    ) -> Result<i64, StoreError> {
        self.up()?;
        let mut values = self.lock();
        let key = (tenant.as_str().to_owned(), name.as_str().to_owned());
        let Some(old) = values.get(&key) else {
            return Err(StoreError::NotFound);
        };
        precondition.check(Some(Current::from(old)))?;
        let version = self.next_version(old.revision.version)?;
        values.remove(&key);
        Ok(version)
    }
}
