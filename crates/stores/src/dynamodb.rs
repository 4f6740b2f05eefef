//! `tenant_config_*`: one table, `PK = TENANT#<tenantId>`, `SK = CONFIG#<name>`. In the same table lie the JSON Schemas that
//! guard keys: `schema_config_*`, `SK = SCHEMA#<name>`, a tenant's own over those with `PK = GLOBAL`.
//!
//! Every read is consistent (ADR 0004), so a fill that begins after a change sees it. Writes are
//! conditional on what they replace: two writers, or a writer and a hand edit, cannot both win.
//!
//! Versions that the service gives are unique and rise, also across hand edits and deletes (ADR 6). Over an
//! item that carries the version it was given, the next one is simply higher. Where that trace was wiped
//! out, a write first claims the item, waits for the clock's next millisecond, and takes its version then:
//! whatever was given before was given before the claim. What there is to be read is unchanged by a claim.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, error::BuildError, types::AttributeValue};
use futures::future::try_join_all;
use tagged_config_domain::{
    Admitted, Author, Backend, BulkChange, ChangeOperation, ConfigKey, ConfigName, CountOfOthers,
    Current, DEFAULT_MAX_VALUE_BYTES, HistoryEntry, HistoryPage, HistoryRequest, Layers, ListPage,
    ListRequest, Location, LocationId, NewValue, Operation, Order, Precondition, Record, Revision,
    Role, Store, StoreError, TenantId, Value, VersionClock, Written,
    store::{IsCounted, IsMatching, MAX_BULK_CHANGES},
};

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    bulkhead::{Bulkhead, Permit},
    dynamodb::{item::Item, writes::NewText},
    history::{GLOBAL, History, HistoryConfig},
    journal::Journal,
    versions::back_off,
};

pub mod item;
mod writes;

/// The backend's name.
pub const BACKEND: Backend = Backend("dynamodb");
/// Largest value that is written, in bytes. An item may have 400 KB in all.
const MAX_VALUE_BYTES: usize = DEFAULT_MAX_VALUE_BYTES;
/// Reads in flight, and of these, those of one tenant: what its quota of 1,000 a second needs at 4 ms a read.
const MAX_READS: usize = 64;
const MAX_READS_OF_A_TENANT: usize = 4;
/// Pages in flight, and of these, those of one tenant. A page is up to 1 MB, as much as hundreds of reads.
const MAX_PAGES: usize = 16;
const MAX_PAGES_OF_A_TENANT: usize = 1;
/// Writes in flight, and of these, those of one tenant: what its quota of 100 a second needs at 20 ms a write.
const MAX_WRITES: usize = 32;
const MAX_WRITES_OF_A_TENANT: usize = 2;
/// What a consistent read of so many bytes costs: one read unit.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>
const READ_UNIT_BYTES: usize = 4 * 1024;
/// Pages of a scan, of 1 MB each: what counting over all tenants costs at most.
const MAX_SCANNED_PAGES: usize = 200;
/// How often a write starts over because another one came first.
const MAX_ATTEMPTS: u32 = 12;

/// Settings of [`DynamoDbStore`].
#[derive(Clone, Debug)]
pub struct DynamoDbConfig {
    /// The table's name.
    pub table: String,
    /// The journal's table, where writes leave an entry in the same transaction; `None` for no journal.
    pub journal: Option<String>,
    /// Where writes leave an entry in the same transaction, with who wrote what; `None` for no history.
    pub history: Option<HistoryConfig>,
    /// Which of the table's items.
    pub kind: Kind,
    /// The tenant whose schemas are those of all tenants; `None` if nobody keeps these through the service.
    pub operator: Option<String>,
}

/// The items of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Configuration of a tenant.
    Tenant,
    /// JSON Schemas that guard keys: a tenant's own over those of all.
    Schema,
}

/// The table.
pub struct DynamoDbStore {
    client: Client,
    table: String,
    kind: Kind,
    operator: Option<String>,
    journal: Option<Journal>,
    history: Option<History>,
    reads: Bulkhead,
    pages: Bulkhead,
    writes: Bulkhead,
    versions: VersionClock,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 2] = [Self::Tenant, Self::Schema];

    /// The tag of its keys.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Schema => "schema",
        }
    }

    /// The sort key of a name.
    pub fn sort_key(self, name: &str) -> String {
        format!("{}{name}", self.sort_prefix())
    }

    fn sort_prefix(self) -> &'static str {
        match self {
            Self::Tenant => "CONFIG#",
            Self::Schema => "SCHEMA#",
        }
    }
}

/// The key of what lies there, or `None` for an item that is none of this service's.
pub fn key_of(id: &LocationId) -> Option<ConfigKey> {
    let is_shared = id.partition() == GLOBAL;
    if !is_shared && !id.partition().starts_with(TENANT_PREFIX) {
        return None;
    }
    Kind::ALL.into_iter().find_map(|kind| {
        let name = id.sort().strip_prefix(kind.sort_prefix())?;
        let is_at_home = kind == Kind::Schema || !is_shared;
        let key = format!("{}_config_{name}", kind.tag());
        ConfigKey::parse(&key).ok().filter(|_| is_at_home)
    })
}

// === impl DynamoDbStore ===

impl DynamoDbStore {
    /// A store over this table.
    pub fn new(sdk: &SdkConfig, config: DynamoDbConfig) -> Self {
        Self {
            client: Client::new(sdk),
            table: config.table,
            kind: config.kind,
            operator: config.operator,
            journal: config.journal.map(|table| Journal::new(sdk, table)),
            history: config.history.map(|config| History::new(sdk, config)),
            reads: Bulkhead::new(MAX_READS, MAX_READS_OF_A_TENANT),
            pages: Bulkhead::new(MAX_PAGES, MAX_PAGES_OF_A_TENANT),
            writes: Bulkhead::new(MAX_WRITES, MAX_WRITES_OF_A_TENANT),
            versions: VersionClock::system(),
        }
    }

    /// The item that lies there, also if it is a claim alone. The read of a write holds the write's permit, and needs none of
    /// its own.
    async fn get(&self, location: &Location) -> Result<Option<Item>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(location.id())))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        Ok(answer.item)
    }

    async fn permit(bulkhead: &Bulkhead, tenant: &TenantId) -> Result<Permit, StoreError> {
        bulkhead
            .acquire(Some(tenant), OPERATION_TIMEOUT)
            .await
            .ok_or(StoreError::Throttled { backend: BACKEND })
    }

    fn key_of(&self, id: &LocationId) -> Option<String> {
        let name = id.sort().strip_prefix(self.kind.sort_prefix())?;
        Some(format!("{}_config_{name}", self.kind.tag()))
    }

    fn own(&self, tenant: &TenantId, name: ConfigName<'_>) -> Location {
        Location::owned_by(tenant, BACKEND, |tenant| {
            (self.partition(tenant), self.sort_key(name.as_str()))
        })
    }

    /// Of the operators, what all tenants share is their own.
    fn partition(&self, tenant: &TenantId) -> String {
        if self.kind == Kind::Schema && self.is_operator(tenant) {
            GLOBAL.to_owned()
        } else {
            partition_key(tenant)
        }
    }

    fn is_operator(&self, tenant: &TenantId) -> bool {
        self.operator.as_deref() == Some(tenant.as_str())
    }

    fn name_of(&self, item: &Item) -> Option<String> {
        let Some(AttributeValue::S(sort)) = item.get("SK") else {
            return None;
        };
        let name = sort.strip_prefix(self.kind.sort_prefix());
        name.map(ToOwned::to_owned)
    }

    fn sort_key(&self, name: &str) -> String {
        self.kind.sort_key(name)
    }
}

/// What there is of an item that may be a claim alone.
fn present(item: Option<&Item>) -> Option<&Item> {
    item.filter(|item| !item::is_stub(item))
}

fn key(id: &LocationId) -> HashMap<String, AttributeValue> {
    [("PK", id.partition()), ("SK", id.sort())]
        .map(|(name, value)| (name.to_owned(), AttributeValue::S(value.to_owned())))
        .into()
}

/// A request that the SDK would not build.
pub(crate) fn incomplete(error: BuildError) -> StoreError {
    StoreError::Unavailable {
        backend: BACKEND,
        source: Box::new(error),
    }
}

pub(crate) fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

#[async_trait]
impl Store for DynamoDbStore {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn order(&self) -> Order {
        Order::ConsistentReads
    }

    fn read_units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(READ_UNIT_BYTES as u64).max(1)).unwrap_or(u32::MAX)
    }

    fn written_by(&self) -> Role {
        match self.kind {
            Kind::Tenant => Role::Writer,
            Kind::Schema => Role::Admin,
        }
    }

    fn key_at(&self, id: &LocationId) -> Option<(String, ConfigKey)> {
        Some((id.partition().to_owned(), key_of(id)?))
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        let own = self.own(tenant, name);
        match self.kind {
            Kind::Tenant => Layers::own(own),
            Kind::Schema if self.is_operator(tenant) => Layers::own(own),
            Kind::Schema => {
                let shared = (GLOBAL.to_owned(), self.sort_key(name.as_str()));
                Layers::over(own, Location::shared_with(tenant, BACKEND, shared))
            }
        }
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let reads = locations.iter().map(|location| async {
            let _permit = Self::permit(&self.reads, admitted.tenant()).await?;
            let item = self.get(location).await?;
            present(item.as_ref()).map(item::decode).transpose()
        });
        try_join_all(reads).await
    }

    async fn list(
        &self,
        admitted: &Admitted,
        request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let partition = self.partition(admitted.tenant());
        let start = request.after.map(|after| {
            HashMap::from([
                ("PK".to_owned(), AttributeValue::S(partition.clone())),
                ("SK".to_owned(), AttributeValue::S(self.sort_key(after))),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(partition))
            .expression_attribute_values(
                ":prefix",
                AttributeValue::S(self.sort_key(request.prefix)),
            )
            .consistent_read(true)
            .limit(i32::try_from(request.limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let name_of = |item: &Item| self.name_of(item);
        let entries = answer
            .items()
            .iter()
            .filter(|item| !item::is_stub(item))
            .filter_map(|item| Some((name_of(item)?, item::decode(item))))
            .collect();
        Ok(ListPage {
            entries,
            next_after: answer.last_evaluated_key().and_then(name_of),
        })
    }

    async fn count_others(
        &self,
        admitted: &Admitted,
        prefix: &str,
        is_counted: IsCounted,
        is_matching: IsMatching,
    ) -> Result<CountOfOthers, StoreError> {
        if !self.is_operator(admitted.tenant()) {
            return Err(StoreError::Unsupported {
                backend: BACKEND,
                operation: Operation::List,
                instead: "",
            });
        }
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression(
                "begins_with(PK, :tenants) AND PK <> :own AND begins_with(SK, :prefix)",
            )
            .expression_attribute_values(":tenants", AttributeValue::S(TENANT_PREFIX.to_owned()))
            .expression_attribute_values(
                ":own",
                AttributeValue::S(partition_key(admitted.tenant())),
            )
            .expression_attribute_values(":prefix", AttributeValue::S(self.sort_key(prefix)))
            .into_paginator()
            .send();
        let mut counted = CountOfOthers::default();
        for _ in 0..MAX_SCANNED_PAGES {
            let Some(page) = pages.next().await else {
                counted.is_complete = true;
                break;
            };
            let page = page.map_err(|e| store_error(BACKEND, e))?;
            let values: Vec<Value> = page
                .items()
                .iter()
                .filter(|item| {
                    !item::is_stub(item) && self.name_of(item).is_some_and(|name| is_counted(&name))
                })
                .filter_map(|item| Some(item::decode(item).ok()?.value))
                .collect();
            counted.checked += values.len() as u64;
            let is_matching = Arc::clone(&is_matching);
            let matching = tokio::task::spawn_blocking(move || {
                values.iter().filter(|value| is_matching(value)).count() as u64
            });
            counted.matching += matching.await.unwrap_or_default();
        }
        Ok(counted)
    }

    async fn put(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        new: NewValue<'_>,
        precondition: Precondition,
    ) -> Result<Written, StoreError> {
        let text = NewText::of(new)?;
        if text.text.len() > MAX_VALUE_BYTES {
            let actual = text.text.len();
            return Err(StoreError::TooLarge {
                backend: BACKEND,
                limit: MAX_VALUE_BYTES,
                actual,
            });
        }
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        admitted.charge(units_beyond_the_first(text.text.len()));
        let own = self.own(admitted.tenant(), name);
        for attempt in 0..MAX_ATTEMPTS {
            let old = self.get(&own).await?;
            admitted.charge(extra_units(old.as_ref()));
            precondition.check(present(old.as_ref()).map(current))?;
            let created = present(old.as_ref()).is_none();
            if let Some(write) = self.prepare(own.id(), old, Some(text), false).await? {
                let (version, now) = (write.version, write.now);
                if self.commit(&[write], new.author).await? {
                    let modified_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).ok();
                    let revision = Revision {
                        incarnation: 0,
                        version,
                    };
                    let record = Record::new(text.text, new.content_type, revision, modified_ms);
                    return Ok(Written {
                        record: record.written(),
                        created,
                    });
                }
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }

    async fn delete(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        precondition: Precondition,
        author: Author<'_>,
    ) -> Result<i64, StoreError> {
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        let own = self.own(admitted.tenant(), name);
        for attempt in 0..MAX_ATTEMPTS {
            let Some(old) = self.get(&own).await?.filter(|old| !item::is_stub(old)) else {
                return Err(StoreError::NotFound);
            };
            admitted.charge(extra_units(Some(&old)));
            precondition.check(Some(current(&old)))?;
            if let Some(write) = self.prepare(own.id(), Some(old), None, attempt > 0).await? {
                let version = write.version;
                if self.commit(&[write], author).await? {
                    return Ok(version);
                }
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }

    async fn change_all(
        &self,
        admitted: &Admitted,
        changes: &[BulkChange<'_>],
        author: Author<'_>,
    ) -> Result<Vec<i64>, StoreError> {
        if changes.len() > MAX_BULK_CHANGES {
            return Err(StoreError::TooLarge {
                backend: BACKEND,
                limit: MAX_BULK_CHANGES,
                actual: changes.len(),
            });
        }
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        let places: Vec<_> = changes
            .iter()
            .map(|change| self.own(admitted.tenant(), change.name))
            .collect();
        for attempt in 0..MAX_ATTEMPTS {
            let mut writes = Vec::with_capacity(changes.len());
            for (change, own) in changes.iter().zip(&places) {
                let old = self.get(own).await?;
                admitted.charge(extra_units(old.as_ref()));
                change
                    .precondition
                    .check(present(old.as_ref()).map(current))?;
                let new = change
                    .value
                    .as_ref()
                    .map(|(value, content_type)| {
                        NewText::of(NewValue {
                            value,
                            content_type,
                            author,
                            is_rollback: true,
                        })
                    })
                    .transpose()?;
                if let Some(new) = new {
                    admitted.charge(units_beyond_the_first(new.text.len()));
                }
                let anew = attempt > 0 && new.is_none();
                match self.prepare(own.id(), old, new, anew).await? {
                    Some(write) => writes.push(write),
                    None => break,
                }
            }
            if writes.len() == changes.len() && self.commit(&writes, author).await? {
                return Ok(writes.iter().map(|write| write.version).collect());
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }

    async fn history(
        &self,
        admitted: &Admitted,
        location: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let history = self.history.as_ref().ok_or(NO_HISTORY)?;
        let key = key_of(location.id()).ok_or(StoreError::NotFound)?;
        history.of_key(admitted, location, &key, request).await
    }

    async fn list_as_of(
        &self,
        admitted: &Admitted,
        request: &ListRequest<'_>,
        at_ms: i64,
    ) -> Result<ListPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let history = self.history.as_ref().ok_or(NO_HISTORY)?;
        let partition = self.partition(admitted.tenant());
        let key = |name: &str| format!("{}_config_{name}", self.kind.tag());
        let mut start = request.after.map(|after| {
            let text = |text: &str| AttributeValue::S(text.to_owned());
            // Behind all entries of that key.
            Item::from([
                ("PK".to_owned(), text(&partition)),
                ("SK".to_owned(), text(&format!("{}#~", key(after)))),
            ])
        });
        let mut page = ListPage::default();
        let mut newest: Option<HistoryEntry> = None;
        loop {
            let (entries, next) = history
                .of_prefix(&partition, &key(request.prefix), start.take())
                .await?;
            let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
            admitted.charge(self.read_units(bytes));
            let is_last = next.is_none();
            let ends = entries.into_iter().map(Some).chain(is_last.then_some(None));
            for entry in ends {
                let goes_on = match (&newest, &entry) {
                    (Some(newest), Some(entry)) => newest.key == entry.key,
                    (None, _) => true,
                    (Some(_), None) => false,
                };
                if !goes_on {
                    let ended = newest.take();
                    let name = ended.as_ref().and_then(|entry| {
                        Some(
                            ConfigKey::parse(&entry.key)
                                .ok()?
                                .name()
                                .as_str()
                                .to_owned(),
                        )
                    });
                    if let (Some(entry), Some(name)) = (ended, name)
                        && let Some(record) = record_of(entry)
                    {
                        page.entries.push((name.clone(), record));
                        if page.entries.len() == request.limit {
                            page.next_after = Some(name);
                            return Ok(page);
                        }
                    }
                }
                if let Some(entry) = entry
                    && entry.at_ms <= at_ms
                {
                    newest = Some(entry);
                }
            }
            if is_last {
                return Ok(page);
            }
            start = next;
        }
    }
}

/// What a write of so many bytes, or a write's own read of them, costs beyond the unit that it was admitted for: one for each
/// further 4 KiB.
fn units_beyond_the_first(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(READ_UNIT_BYTES).saturating_sub(1)).unwrap_or(u32::MAX)
}

fn extra_units(read: Option<&Item>) -> u32 {
    let value = read.and_then(|item| item.get(item::VALUE)?.as_s().ok());
    units_beyond_the_first(value.map_or(0, String::len))
}

/// What a precondition is checked against.
fn current(item: &Item) -> Current {
    Current {
        version: item::version(item),
        content: item::decode(item).ok().map(|record| record.content()),
    }
}

const TENANT_PREFIX: &str = "TENANT#";

fn partition_key(tenant: &TenantId) -> String {
    format!("{TENANT_PREFIX}{tenant}")
}

const NO_HISTORY: StoreError = StoreError::Unsupported {
    backend: BACKEND,
    operation: Operation::History,
    instead: "",
};

/// What an entry of the history left in place; `None` for a deletion.
pub fn record_of(entry: HistoryEntry) -> Option<Result<Record, StoreError>> {
    if entry.operation == ChangeOperation::Delete {
        return None;
    }
    let Some(value) = entry.value else {
        return Some(Err(StoreError::Malformed {
            reason: "the history has no value of this version",
        }));
    };
    let revision = Revision {
        incarnation: 0,
        version: entry.version,
    };
    Some(Ok(Record::new(
        value,
        entry.content_type,
        revision,
        Some(entry.at_ms),
    )))
}
