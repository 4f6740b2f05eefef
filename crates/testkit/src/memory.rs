//! A store in memory with the semantics of the DynamoDB store, faults on demand, and a count of reads.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering as Atomic},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tagged_config_domain::{
    Admitted, Author, Backend, BulkChange, ChangeOperation, ConfigName, Current,
    DEFAULT_MAX_VALUE_BYTES, HistoryEntry, HistoryPage, HistoryRequest, Layers, ListPage,
    ListRequest, Location, NewValue, Order, Precondition, Record, Remote, Revision, Store,
    StoreError, TenantId, Value, ValueStream, VersionClock, Written, history::sha256_of,
};
use tokio::sync::Semaphore;

const BACKEND: Backend = Backend("memory");
const LAYERED_BACKEND: Backend = Backend("memory-layered");
const BYTES_BACKEND: Backend = Backend("memory-bytes");
/// A store that keeps bytes leaves larger values where they are.
const HELD_BYTES: usize = 64 * 1024;

/// Values by partition and name. With [`MemoryStore::layered`], a shared default lies under each.
pub struct MemoryStore {
    values: Mutex<BTreeMap<(String, String), Record>>,
    versions: VersionClock,
    last_version: AtomicI64,
    order: Order,
    layered: bool,
    keeps_bytes: bool,
    /// Large values by their names, also those that were replaced.
    large: Mutex<BTreeMap<Arc<str>, Bytes>>,
    /// Changes by place, oldest first.
    history: Mutex<Vec<((String, String), HistoryEntry)>>,
    down: AtomicBool,
    reads: AtomicUsize,
    /// While closed, reads that took their value wait here before they return it.
    gate: Semaphore,
    gated: AtomicBool,
    /// While closed, writes that took effect wait here before they return.
    write_gate: Semaphore,
    writes_gated: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            values: Mutex::default(),
            versions: VersionClock::system(),
            last_version: AtomicI64::new(0),
            order: Order::ConsistentReads,
            layered: false,
            keeps_bytes: false,
            large: Mutex::default(),
            history: Mutex::default(),
            down: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            gated: AtomicBool::new(false),
            write_gate: Semaphore::new(0),
            writes_gated: AtomicBool::new(false),
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

    /// A store that keeps any bytes, over shared defaults, and streams large values.
    pub fn of_bytes() -> Self {
        Self {
            layered: true,
            keeps_bytes: true,
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

    /// From now on writes take effect and then wait for [`Self::release_writes`].
    pub fn hold_writes(&self) {
        self.writes_gated.store(true, Atomic::SeqCst);
    }

    /// Lets this many held writes return.
    pub fn release_writes(&self, writes: usize) {
        self.write_gate.add_permits(writes);
    }

    /// What a partition holds under a name.
    pub fn value(&self, partition: &str, name: &str) -> Option<Record> {
        let key = (partition.to_owned(), name.to_owned());
        self.lock().get(&key).cloned()
    }

    async fn written(&self) {
        if self.writes_gated.load(Atomic::SeqCst) {
            self.write_gate
                .acquire()
                .await
                .expect("never closed")
                .forget();
        }
    }

    /// Later reads are not held.
    pub fn stop_holding(&self) {
        self.gated.store(false, Atomic::SeqCst);
    }

    /// What is kept in place of a new value.
    fn kept(&self, value: &Value) -> Value {
        let bytes = value.to_bytes().filter(|_| self.keeps_bytes);
        match bytes {
            None => value.as_text().map_or_else(|| value.clone(), Value::from),
            Some(bytes) if bytes.len() <= HELD_BYTES => bytes.into(),
            Some(bytes) => {
                let name: Arc<str> = uuid::Uuid::new_v4().to_string().into();
                let mut large = self.large.lock().expect("not poisoned");
                large.insert(Arc::clone(&name), bytes);
                let bytes = value.len();
                Remote { bytes, name }.into()
            }
        }
    }

    fn remember(
        &self,
        place: (String, String),
        author: Author<'_>,
        written: Option<(&Record, bool)>,
        version: i64,
        previous: Option<i64>,
    ) {
        let record = written.map(|(record, _)| record);
        let entry = HistoryEntry {
            key: String::new(),
            version,
            at_ms: version,
            operation: match written {
                None => ChangeOperation::Delete,
                Some((_, true)) => ChangeOperation::Rollback,
                Some((_, false)) => ChangeOperation::Put,
            },
            by: author.subject.to_owned(),
            role: author.role.as_str().to_owned(),
            request_id: author.request_id.to_owned(),
            note: author.note.to_owned(),
            bytes: record.map_or(0, |record| record.value.len()),
            sha256: record
                .map(|record| sha256_of(&record.value))
                .unwrap_or_default(),
            content_type: record
                .map(|record| record.content_type.as_ref().to_owned())
                .unwrap_or_default(),
            previous,
            value: record.map(|record| record.value.clone()),
        };
        let mut history = self.history.lock().expect("not poisoned");
        history.push((place, entry));
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
        if self.keeps_bytes {
            BYTES_BACKEND
        } else if self.layered {
            LAYERED_BACKEND
        } else {
            BACKEND
        }
    }

    fn order(&self) -> Order {
        self.order
    }

    fn keeps_bytes(&self) -> bool {
        self.keeps_bytes
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        let parts = |tenant: &TenantId| (tenant.as_str().to_owned(), name.as_str().to_owned());
        let own = Location::owned_by(tenant, self.backend(), parts);
        if !self.layered {
            return Layers::own(own);
        }
        Layers::over(
            own,
            Location::shared_with(
                tenant,
                self.backend(),
                (format!("global/{}", name.as_str()), String::new()),
            ),
        )
    }

    async fn read(
        &self,
        _: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
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

    async fn open(
        &self,
        _: &Admitted,
        _: &Location,
        remote: &Remote,
        range: Range<u64>,
    ) -> Result<ValueStream, StoreError> {
        self.up()?;
        let at = |at| usize::try_from(at).expect("it is in memory");
        let large = self.large.lock().expect("not poisoned");
        let part = large[&remote.name].slice(at(range.start)..at(range.end));
        drop(large);
        let pieces: Vec<_> = part
            .chunks(HELD_BYTES)
            .map(|piece| Ok(part.slice_ref(piece)))
            .collect();
        Ok(stream::iter(pieces).boxed())
    }

    async fn list(
        &self,
        admitted: &Admitted,
        request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        self.up()?;
        let values = self.lock();
        let own = values.iter().filter(|((partition, name), _)| {
            partition == admitted.tenant().as_str()
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
        admitted: &Admitted,
        name: ConfigName<'_>,
        new: NewValue<'_>,
        precondition: Precondition,
    ) -> Result<Written, StoreError> {
        self.up()?;
        if !self.keeps_bytes && new.value.as_text().is_none() {
            return Err(StoreError::NotText { backend: BACKEND });
        }
        let actual = new.value.held_bytes();
        if actual > DEFAULT_MAX_VALUE_BYTES {
            return Err(StoreError::TooLarge {
                backend: BACKEND,
                limit: DEFAULT_MAX_VALUE_BYTES,
                actual,
            });
        }
        let written = {
            let mut values = self.lock();
            let key = (
                admitted.tenant().as_str().to_owned(),
                name.as_str().to_owned(),
            );
            let old = values.get(&key);
            precondition.check(old.map(Current::from))?;
            let created = old.is_none();
            let previous = old.map(|record| record.revision.version);
            let old_version = old.map_or(0, |record| record.revision.version);
            let version = self.next_version(old_version)?;
            let record = Record::new(
                self.kept(new.value),
                new.content_type,
                Revision {
                    incarnation: 0,
                    version,
                },
                Some(version),
            );
            values.insert(key.clone(), record.clone());
            self.remember(
                key,
                new.author,
                Some((&record, new.is_rollback)),
                version,
                previous,
            );
            Written { record, created }
        };
        self.written().await;
        Ok(written)
    }

    async fn delete(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        precondition: Precondition,
        author: Author<'_>,
    ) -> Result<i64, StoreError> {
        self.up()?;
        let version = {
            let mut values = self.lock();
            let key = (
                admitted.tenant().as_str().to_owned(),
                name.as_str().to_owned(),
            );
            let Some(old) = values.get(&key) else {
                return Err(StoreError::NotFound);
            };
            precondition.check(Some(Current::from(old)))?;
            let previous = Some(old.revision.version);
            let version = self.next_version(old.revision.version)?;
            values.remove(&key);
            self.remember(key, author, None, version, previous);
            version
        };
        self.written().await;
        Ok(version)
    }

    async fn change_all(
        &self,
        admitted: &Admitted,
        changes: &[BulkChange<'_>],
        author: Author<'_>,
    ) -> Result<Vec<i64>, StoreError> {
        for change in changes {
            let own = self.value(admitted.tenant().as_str(), change.name.as_str());
            change.precondition.check(own.as_ref().map(Current::from))?;
        }
        let mut versions = Vec::new();
        for change in changes {
            let precondition = change.precondition.clone();
            versions.push(match &change.value {
                None => {
                    self.delete(admitted, change.name, precondition, author)
                        .await?
                }
                Some((value, content_type)) => {
                    let new = NewValue {
                        value,
                        content_type,
                        author,
                        is_rollback: true,
                    };
                    let written = self.put(admitted, change.name, new, precondition).await?;
                    written.record.revision.version
                }
            });
        }
        Ok(versions)
    }

    async fn history(
        &self,
        _: &Admitted,
        location: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        self.up()?;
        let place = (location.id().partition(), location.id().sort());
        let history = self.history.lock().expect("not poisoned");
        let before: i64 = request.after.map_or(i64::MAX, |after| {
            after.parse().expect("a cursor of this store")
        });
        let mut entries: Vec<_> = history
            .iter()
            .rev()
            .filter(|((partition, name), entry)| {
                (partition.as_str(), name.as_str()) == place
                    && (request.since_ms..request.until_ms).contains(&entry.at_ms)
                    && entry.version < before
            })
            .map(|(_, entry)| entry.clone())
            .collect();
        let next_after =
            (entries.len() > request.limit).then(|| entries[request.limit - 1].version.to_string());
        entries.truncate(request.limit);
        Ok(HistoryPage {
            entries,
            next_after,
        })
    }
}
