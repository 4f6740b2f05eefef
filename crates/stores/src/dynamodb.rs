//! `tenant_config_*`: one table, `PK = TENANT#<tenantId>`, `SK = CONFIG#<name>`.
//!
//! Every read is consistent (ADR 0004), so a fill that begins after a change sees it. Writes are
//! conditional on what they replace: two writers, or a writer and a hand edit, cannot both win.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::{
    Client,
    operation::{delete_item::DeleteItemError, update_item::UpdateItemError},
    types::AttributeValue,
};
use futures::future::try_join_all;
use tagged_config_domain::{
    Backend, ConfigName, Layers, ListPage, ListRequest, Location, LocationId, NewValue, Order, Precondition, Record,
    Revision, Store, StoreError, TenantId, VersionClock,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::Semaphore;

use crate::aws::store_error;

pub mod item;

/// The backend's name.
pub const BACKEND: Backend = Backend("dynamodb");
/// Largest value that is written, in bytes. An item may have 400 KB in all.
pub const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Reads under way at once; more wait their turn.
const MAX_READS: usize = 64;
/// How often a write starts over because another one came first.
const MAX_ATTEMPTS: u32 = 12;

/// Settings of [`DynamoDbStore`].
#[derive(Clone, Debug)]
pub struct DynamoDbConfig {
    /// The table's name.
    pub table: String,
}

/// The table.
pub struct DynamoDbStore {
    client: Client,
    table: String,
    reads: Semaphore,
    versions: VersionClock,
}

/// A write's condition on the item that it replaces.
struct Condition {
    expression: String,
    names: Vec<(&'static str, &'static str)>,
    values: Vec<(&'static str, AttributeValue)>,
}

type Item = HashMap<String, AttributeValue>;

// === impl DynamoDbStore ===

impl DynamoDbStore {
    /// A store over this table.
    pub fn new(sdk: &SdkConfig, config: DynamoDbConfig) -> Self {
        Self {
            client: Client::new(sdk),
            table: config.table,
            reads: Semaphore::new(MAX_READS),
            versions: VersionClock::system(),
        }
    }

    async fn get(&self, id: &LocationId) -> Result<Option<Item>, StoreError> {
        let _turn = self.reads.acquire().await.map_err(|_| StoreError::Throttled { backend: BACKEND })?;
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("PK", AttributeValue::S(id.partition().to_owned()))
            .key("SK", AttributeValue::S(id.sort().to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| store_error(BACKEND, e))?;
        Ok(answer.item)
    }

    /// Writes if the condition holds; `false` if it does not.
    async fn update(
        &self,
        id: &LocationId,
        new: NewValue<'_>,
        version: i64,
        now: OffsetDateTime,
        condition: Condition,
    ) -> Result<bool, StoreError> {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("PK", AttributeValue::S(id.partition().to_owned()))
            .key("SK", AttributeValue::S(id.sort().to_owned()))
            .update_expression(
                "SET #value = :value, #version = :version, #modified = :modified, #type = :type, #by = :by",
            )
            .condition_expression(condition.expression)
            .expression_attribute_names("#value", item::VALUE)
            .expression_attribute_names("#version", item::VERSION)
            .expression_attribute_names("#modified", item::LAST_MODIFIED)
            .expression_attribute_names("#type", item::CONTENT_TYPE)
            .expression_attribute_names("#by", item::MODIFIED_BY)
            .expression_attribute_values(":value", AttributeValue::S(new.value.to_owned()))
            .expression_attribute_values(":version", AttributeValue::N(version.to_string()))
            .expression_attribute_values(":modified", AttributeValue::S(now.format(&Rfc3339).unwrap_or_default()))
            .expression_attribute_values(":type", AttributeValue::S(new.content_type.to_owned()))
            .expression_attribute_values(":by", AttributeValue::S(new.modified_by.to_owned()));
        for (name, attribute) in condition.names {
            call = call.expression_attribute_names(name, attribute);
        }
        for (name, value) in condition.values {
            call = call.expression_attribute_values(name, value);
        }
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception) => {
                Ok(false)
            }
            Err(e) => Err(store_error(BACKEND, e)),
        }
    }

    async fn remove(&self, id: &LocationId, condition: Condition) -> Result<bool, StoreError> {
        let mut call = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("PK", AttributeValue::S(id.partition().to_owned()))
            .key("SK", AttributeValue::S(id.sort().to_owned()))
            .condition_expression(condition.expression);
        for (name, attribute) in condition.names {
            call = call.expression_attribute_names(name, attribute);
        }
        for (name, value) in condition.values {
            call = call.expression_attribute_values(name, value);
        }
        match call.send().await {
            Ok(_) => Ok(true),
            Err(e) if e.as_service_error().is_some_and(DeleteItemError::is_conditional_check_failed_exception) => {
                Ok(false)
            }
            Err(e) => Err(store_error(BACKEND, e)),
        }
    }
}

#[async_trait]
impl Store for DynamoDbStore {
    fn backend(&self) -> Backend {
        BACKEND
    }

    fn order(&self) -> Order {
        Order::ConsistentReads
    }

    fn locate(&self, tenant: &TenantId, name: ConfigName<'_>) -> Layers {
        Layers::own(Location::owned_by(tenant, BACKEND, |tenant| (partition_key(tenant), sort_key(name.as_str()))))
    }

    async fn read(&self, locations: &[Location]) -> Result<Vec<Option<Record>>, StoreError> {
        let reads = locations
            .iter()
            .map(|location| async { self.get(location.id()).await?.as_ref().map(item::decode).transpose() });
        try_join_all(reads).await
    }

    async fn list(&self, tenant: &TenantId, request: &ListRequest<'_>) -> Result<ListPage, StoreError> {
        let partition = partition_key(tenant);
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
        let entries = answer.items().iter().filter_map(|item| Some((name_of(item)?, item::decode(item)))).collect();
        Ok(ListPage { entries, next_after: answer.last_evaluated_key().and_then(name_of) })
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: ConfigName<'_>,
        new: NewValue<'_>,
        precondition: Precondition,
    ) -> Result<Record, StoreError> {
        if new.value.len() > MAX_VALUE_BYTES {
            let actual = new.value.len();
            return Err(StoreError::TooLarge { backend: BACKEND, limit: MAX_VALUE_BYTES, actual });
        }
        let layers = self.locate(tenant, name);
        let id = layers.first().id();
        for attempt in 0..MAX_ATTEMPTS {
            // The first attempt of an unconditional write needs no read: the table refuses a version that
            // is not higher. After that, read what is there and replace exactly that.
            let (old_version, condition) = if attempt == 0 && precondition == Precondition::None {
                (0, Condition::older_than_new())
            } else {
                let old = self.get(id).await?;
                let current = old.as_ref().map(item::version);
                check(precondition, old.as_ref())?;
                (current.unwrap_or(0), Condition::unchanged(old.as_ref()))
            };
            let version = self.versions.next(old_version).ok_or(StoreError::VersionExhausted)?;
            let now = OffsetDateTime::now_utc();
            if self.update(id, new, version, now, condition).await? {
                let modified_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).ok();
                let revision = Revision { incarnation: 0, version };
                return Ok(Record::new(new.value, new.content_type, revision, modified_ms));
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        name: ConfigName<'_>,
        precondition: Precondition,
    ) -> Result<i64, StoreError> {
        let layers = self.locate(tenant, name);
        let id = layers.first().id();
        for attempt in 0..MAX_ATTEMPTS {
            let Some(old) = self.get(id).await? else {
                return match precondition {
                    Precondition::None => Err(StoreError::NotFound),
                    _ => check(precondition, None).and(Err(StoreError::NotFound)),
                };
            };
            check(precondition, Some(&old))?;
            let version = self.versions.next(item::version(&old)).ok_or(StoreError::VersionExhausted)?;
            // Whatever is created after the item is gone takes its version from the clock: let it pass ours.
            if let Some(wait) = self.versions.until_passed(version) {
                tokio::time::sleep(wait).await;
            }
            if self.remove(id, Condition::unchanged(Some(&old))).await? {
                return Ok(version);
            }
            back_off(attempt).await;
        }
        Err(StoreError::Contended)
    }
}

/// Whether what is there satisfies the precondition.
fn check(precondition: Precondition, old: Option<&Item>) -> Result<(), StoreError> {
    let current = old.map(item::version);
    let holds = match precondition {
        Precondition::None => true,
        Precondition::Absent => old.is_none(),
        Precondition::Exists => old.is_some(),
        Precondition::Version(version) => current == Some(version),
        Precondition::Content(version, digest) => {
            current == Some(version)
                && old.is_some_and(|item| item::decode(item).is_ok_and(|record| *record.digest() == digest))
        }
    };
    if holds { Ok(()) } else { Err(StoreError::Conflict { current }) }
}

async fn back_off(attempt: u32) {
    // Spread by the clock's nanoseconds: enough to part two writers.
    let jitter = u64::from(OffsetDateTime::now_utc().nanosecond() % 1_000);
    let base = 1_000_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_micros(base + base * jitter / 1_000)).await;
}

const SORT_PREFIX: &str = "CONFIG#";

fn partition_key(tenant: &TenantId) -> String {
    format!("TENANT#{tenant}")
}

fn sort_key(name: &str) -> String {
    format!("{SORT_PREFIX}{name}")
}

// === impl Condition ===

impl Condition {
    /// Nothing is there, or its version is absent or lower than the one being written.
    fn older_than_new() -> Self {
        let expression = "attribute_not_exists(#version) OR #version < :version".to_owned();
        Self { expression, names: Vec::new(), values: Vec::new() }
    }

    /// What is there is what was read, to the letter: a hand edit that kept the version counts as a change.
    fn unchanged(old: Option<&Item>) -> Self {
        let Some(old) = old else {
            return Self {
                expression: "attribute_not_exists(#pk)".to_owned(),
                names: vec![("#pk", "PK")],
                values: Vec::new(),
            };
        };
        let mut terms = vec!["attribute_exists(#pk)".to_owned()];
        let mut names = vec![("#pk", "PK")];
        let mut values = Vec::new();
        for (attribute, name, placeholder) in
            [(item::VERSION, "#version", ":old_version"), (item::VALUE, "#value", ":old_value")]
        {
            names.push((name, attribute));
            if let Some(value) = old.get(attribute) {
                terms.push(format!("{name} = {placeholder}"));
                values.push((placeholder, value.clone()));
            } else {
                terms.push(format!("attribute_not_exists({name})"));
            }
        }
        Self { expression: terms.join(" AND "), names, values }
    }
}
