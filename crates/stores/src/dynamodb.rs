//! `tenant_config_*`: one table, `PK = TENANT#<tenantId>`, `SK = CONFIG#<name>`.
//!
//! Every read is consistent (ADR 0004), so a fill that begins after a change sees it. Writes are
//! conditional on what they replace: two writers, or a writer and a hand edit, cannot both win.
//!
//! Versions that the service gives are unique and rise, also across hand edits and deletes (ADR 6). Over an
//! item that carries the version it was given, the next one is simply higher. Where that trace was wiped
//! out, a write first claims the item, waits for the clock's next millisecond, and takes its version then:
//! whatever was given before was given before the claim.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, error::BuildError, types::AttributeValue};
use futures::future::try_join_all;
use tagged_config_domain::{
    Admitted, Backend, ConfigName, Current, DEFAULT_MAX_VALUE_BYTES, Layers, ListPage, ListRequest,
    Location, LocationId, NewValue, Order, Precondition, Record, Revision, Store, StoreError,
    TenantId, VersionClock, Written,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    bulkhead::{Bulkhead, Permit},
    dynamodb::{
        condition::Condition,
        item::Item,
        writes::{NewText, Update},
    },
    journal::Journal,
    versions::{back_off, deletion_above, reach_version_above},
};

mod condition;
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
/// How often a write starts over because another one came first.
const MAX_ATTEMPTS: u32 = 12;

/// Settings of [`DynamoDbStore`].
#[derive(Clone, Debug)]
pub struct DynamoDbConfig {
    /// The table's name.
    pub table: String,
    /// The journal's table, where writes leave an entry in the same transaction; `None` for no journal.
    pub journal: Option<String>,
}

/// The table.
pub struct DynamoDbStore {
    client: Client,
    table: String,
    journal: Option<Journal>,
    reads: Bulkhead,
    pages: Bulkhead,
    writes: Bulkhead,
    versions: VersionClock,
}

// === impl DynamoDbStore ===

impl DynamoDbStore {
    /// A store over this table.
    pub fn new(sdk: &SdkConfig, config: DynamoDbConfig) -> Self {
        Self {
            client: Client::new(sdk),
            table: config.table,
            journal: config.journal.map(|table| Journal::new(sdk, table)),
            reads: Bulkhead::new(MAX_READS, MAX_READS_OF_A_TENANT),
            pages: Bulkhead::new(MAX_PAGES, MAX_PAGES_OF_A_TENANT),
            writes: Bulkhead::new(MAX_WRITES, MAX_WRITES_OF_A_TENANT),
            versions: VersionClock::system(),
        }
    }

    /// What lies there. The read of a write holds the write's permit, and needs none of its own.
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

    /// Replaces what was read; the version that was given, or `None` if somebody else was faster.
    async fn replace(
        &self,
        id: &LocationId,
        old: Option<&Item>,
        new: NewText<'_>,
        now: OffsetDateTime,
    ) -> Result<Option<i64>, StoreError> {
        let unchanged = Condition::unchanged(old);
        if let Some(assigned) = old.and_then(item::assigned_version) {
            let version = reach_version_above(&self.versions, assigned).await?;
            let written = self
                .update(
                    id,
                    Update {
                        new,
                        version,
                        now,
                        claim: None,
                    },
                    unchanged,
                )
                .await?;
            return Ok(written.then_some(version));
        }
        let claim = Uuid::new_v4().simple().to_string();
        let first = self
            .versions
            .next(old.map_or(0, item::version))
            .ok_or(StoreError::VersionExhausted)?;
        if !self
            .update(
                id,
                Update {
                    new,
                    version: first,
                    now,
                    claim: Some(&claim),
                },
                unchanged,
            )
            .await?
        {
            return Ok(None);
        }
        let version =
            reach_version_above(&self.versions, first.max(self.versions.now_ms())).await?;
        let condition = Condition::claimed(claim.clone(), first, new.text);
        let written = self
            .update(
                id,
                Update {
                    new,
                    version,
                    now,
                    claim: None,
                },
                condition,
            )
            .await?;
        Ok(written.then_some(version))
    }

    /// Deletes what was read; the deletion's version, or `None` if somebody else was faster.
    async fn delete_read(&self, id: &LocationId, old: &Item) -> Result<Option<i64>, StoreError> {
        let unchanged = Condition::unchanged(Some(old));
        if let Some(assigned) = item::assigned_version(old) {
            let version = deletion_above(&self.versions, assigned).await;
            return Ok(self
                .remove(id, old, version, unchanged)
                .await?
                .then_some(version));
        }
        let claim = Uuid::new_v4().simple().to_string();
        if !self.claim(id, &claim, unchanged).await? {
            return Ok(None);
        }
        let above = item::version(old).max(self.versions.now_ms());
        let version = deletion_above(&self.versions, above).await;
        let mut claimed = old.clone();
        claimed.insert(item::CLAIM.to_owned(), AttributeValue::S(claim));
        Ok(self
            .remove(id, old, version, Condition::unchanged(Some(&claimed)))
            .await?
            .then_some(version))
    }
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

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        Layers::own(Location::owned_by(tenant, BACKEND, |tenant| {
            (partition_key(tenant), sort_key(name.as_str()))
        }))
    }

    async fn read(
        &self,
        admitted: &Admitted,
        locations: &[Location],
    ) -> Result<Vec<Option<Record>>, StoreError> {
        let reads = locations.iter().map(|location| async {
            let _permit = Self::permit(&self.reads, admitted.tenant()).await?;
            self.get(location)
                .await?
                .as_ref()
                .map(item::decode)
                .transpose()
        });
        try_join_all(reads).await
    }

    async fn list(
        &self,
        admitted: &Admitted,
        request: &ListRequest<'_>,
    ) -> Result<ListPage, StoreError> {
        let _permit = Self::permit(&self.pages, admitted.tenant()).await?;
        let partition = partition_key(admitted.tenant());
        let start = request.after.map(|after| {
            HashMap::from([
                ("PK".to_owned(), AttributeValue::S(partition.clone())),
                ("SK".to_owned(), AttributeValue::S(sort_key(after))),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(partition))
            .expression_attribute_values(":prefix", AttributeValue::S(sort_key(request.prefix)))
            .consistent_read(true)
            .limit(i32::try_from(request.limit).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        let name_of = |item: &Item| match item.get("SK") {
            Some(AttributeValue::S(sort)) => sort.strip_prefix(SORT_PREFIX).map(ToOwned::to_owned),
            _ => None,
        };
        let entries = answer
            .items()
            .iter()
            .filter_map(|item| Some((name_of(item)?, item::decode(item))))
            .collect();
        Ok(ListPage {
            entries,
            next_after: answer.last_evaluated_key().and_then(name_of),
        })
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
        let layers = self.locate(admitted.tenant(), name);
        let id = layers.first().id();
        for attempt in 0..MAX_ATTEMPTS {
            let now = OffsetDateTime::now_utc();
            let (version, created) = if attempt == 0 && precondition == Precondition::None {
                // Over an item that carries its version, one call is enough: the table refuses a version
                // that is not higher.
                let version = self.versions.next(0).ok_or(StoreError::VersionExhausted)?;
                let update = Update {
                    new: text,
                    version,
                    now,
                    claim: None,
                };
                let updated = self
                    .update(id, update, Condition::assigned_and_older())
                    .await?;
                (updated.then_some(version), false)
            } else {
                let old = self.get(layers.first()).await?;
                admitted.charge(extra_units(old.as_ref()));
                precondition.check(old.as_ref().map(current))?;
                let version = self.replace(id, old.as_ref(), text, now).await?;
                (version, old.is_none())
            };
            if let Some(version) = version {
                let modified_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).ok();
                let revision = Revision {
                    incarnation: 0,
                    version,
                };
                let record = Record::new(text.text, new.content_type, revision, modified_ms);
                return Ok(Written { record, created });
            }
            if attempt > 0 {
                back_off(attempt).await;
            }
        }
        Err(StoreError::Contended)
    }

    async fn delete(
        &self,
        admitted: &Admitted,
        name: ConfigName<'_>,
        precondition: Precondition,
    ) -> Result<i64, StoreError> {
        let _permit = Self::permit(&self.writes, admitted.tenant()).await?;
        let layers = self.locate(admitted.tenant(), name);
        let id = layers.first().id();
        for attempt in 0..MAX_ATTEMPTS {
            let Some(old) = self.get(layers.first()).await? else {
                return Err(StoreError::NotFound);
            };
            admitted.charge(extra_units(Some(&old)));
            precondition.check(Some(current(&old)))?;
            if let Some(version) = self.delete_read(id, &old).await? {
                return Ok(version);
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
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

const SORT_PREFIX: &str = "CONFIG#";

fn partition_key(tenant: &TenantId) -> String {
    format!("TENANT#{tenant}")
}

fn sort_key(name: &str) -> String {
    format!("{SORT_PREFIX}{name}")
}
