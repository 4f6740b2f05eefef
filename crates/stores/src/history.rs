//! The history: a table with every change of every key, who made it, when, why, and what the key held then. Entries are
//! inserted, in the transaction of the change itself, and never changed: no role of the deployment may. DynamoDB removes
//! them when their retention ends.
//!
//! `PK = TENANT#<tenantId>`, or `GLOBAL` for what all tenants share; `SK = <key>#<unix ms, 13 digits>#<id>`. The index
//! [`BY_TIME`] has the same partitions ordered by `at = <unix ms, 13 digits>#<id>`, without the values. An entry's time is
//! the version that the service gave, which rises with each change of a key.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use tagged_config_domain::{
    Admitted, Author, ChangeOperation, ConfigKey, HistoryEntry, HistoryPage, HistoryRequest,
    Location, StoreError, history::UNKNOWN,
};

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    dynamodb::{BACKEND, item::Item, number},
    journal::ChangeId,
    partiql::{self, Outcome, Statement},
};

/// The index by time. It is eventually consistent.
pub const BY_TIME: &str = "ByTime";
/// The partition of what all tenants share.
pub const GLOBAL: &str = "GLOBAL";
/// How long an entry is kept where nobody says otherwise, in days.
pub const DEFAULT_RETENTION_DAYS: u64 = 90;
/// Versions are times, within this of the clock; others were given over a hand edit far ahead.
const PLAUSIBLE_MS: i64 = 10_000;
/// How far the time of a deletion and that of its event may be apart: clocks, and whole seconds.
const NEAR_MS: i64 = 3_000;
/// From a version to the end of its write.
const SLOWEST_MS: i64 = 3_000;
const _: () = assert!(SLOWEST_MS as u128 >= OPERATION_TIMEOUT.as_millis());
/// The resolution of the stream's times.
const SECOND_MS: i64 = 1_000;
/// Digits of a [`ChangeId`].
const CHANGE_DIGITS: usize = 32;
/// Where an entry of the service's own comes from.
const SERVICE: &str = "service";
/// The last time that has 13 digits.
const LAST_MS: i64 = 9_999_999_999_999;

/// Entries that could not be written, of writes that went on without.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Settings of [`History`].
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The table's name.
    pub table: String,
    /// How long an entry is kept.
    pub retention: Duration,
    /// Whether a write fails whose entry cannot be written.
    pub required: bool,
}

/// The table.
#[derive(Clone, Debug)]
pub struct History {
    client: Client,
    config: HistoryConfig,
}

/// An entry to be inserted.
#[derive(Clone, Debug)]
pub struct NewEntry<'a> {
    /// The whole key.
    pub key: String,
    /// Names the change: every writer of the same change computes the same id.
    pub change: ChangeId,
    /// Orders changes of one millisecond, before their ids; may be empty.
    pub order: String,
    /// When, in unix milliseconds.
    pub at_ms: i64,
    /// The version that it gave the key.
    pub version: i64,
    /// The version that it replaced; `None` where nothing was there.
    pub previous: Option<i64>,
    /// What it did.
    pub operation: ChangeOperation,
    /// Who; `None` for a change past the service.
    pub author: Option<Author<'a>>,
    /// Its retention counts from this time, not from the change (unix milliseconds).
    pub kept_from_ms: Option<i64>,
    /// Who and why, where no caller changed anything.
    pub by: Option<(&'a str, &'a str)>,
    /// SHA-256 of the value, hexadecimal.
    pub sha256: String,
    /// The value's size.
    pub bytes: u64,
    /// Its media type.
    pub content_type: &'a str,
    /// The value; `None` for a deletion, a secret, and what its backend keeps itself.
    pub value: Option<&'a str>,
}

/// An entry's time: the version that the service gave is one, unless it was given over a hand edit far ahead.
pub(crate) fn time_of(version: i64, now_ms: i64) -> i64 {
    if version.abs_diff(now_ms) <= PLAUSIBLE_MS.unsigned_abs() {
        version
    } else {
        now_ms
    }
}

/// The time of an entry, from its sort key.
fn at_of(item: &Item) -> Option<i64> {
    text(item, "SK")?.rsplit('#').nth(1)?.parse().ok()
}

/// [`NewEntry::order`] of an entry, from its sort key.
fn order_of(item: &Item) -> Option<&str> {
    let id = text(item, "SK")?.rsplit('#').next()?;
    id.len().checked_sub(CHANGE_DIGITS).map(|end| &id[..end])
}

/// So many days.
pub fn days(days: u64) -> Duration {
    Duration::from_secs(days.saturating_mul(86_400))
}

/// Counts and logs an entry that could not be written, of a write that goes on without.
pub(crate) fn count_failure(error: &StoreError) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    tracing::error!(
        error = tagged_config_runtime::telemetry::chain(error),
        "an entry of the history cannot be written; the write goes on without, as TAGGED_CONFIG_HISTORY_REQUIRED=false says"
    );
}

/// How many entries could not be written, of writes that went on without.
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

// === impl NewEntry ===

impl NewEntry<'_> {
    fn id(&self) -> String {
        format!("{}{}", self.order, self.change.text())
    }

    fn item(&self, partition: &str, retention: Duration) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let at = format!("{:013}#{}", self.at_ms.clamp(0, LAST_MS), self.id());
        let retention = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let kept_from_ms = self.kept_from_ms.unwrap_or(self.at_ms);
        let (by, note) = match (self.author, self.by) {
            (Some(author), _) => (author.subject, author.note),
            (None, Some(by)) => by,
            (None, None) => (UNKNOWN, ""),
        };
        let mut item: Item = [
            ("PK", text(partition)),
            ("SK", text(&format!("{}#{at}", self.key))),
            ("at", text(&at)),
            ("key", text(&self.key)),
            ("change", text(&self.change.text())),
            ("version", number(self.version)),
            ("operation", text(self.operation.as_str())),
            (
                "expiresAt",
                number((kept_from_ms / 1_000).saturating_add(retention)),
            ),
            (
                "source",
                text(if self.author.is_some() || self.by.is_some() {
                    SERVICE
                } else {
                    "past-service"
                }),
            ),
            ("by", text(by)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut add = |name: &str, value: AttributeValue| item.insert(name.to_owned(), value);
        if let Some(previous) = self.previous {
            add("previous", number(previous));
        }
        if let Some(author) = self.author {
            add("role", text(author.role.as_str()));
            add("requestId", text(author.request_id));
        }
        if !note.is_empty() {
            add("note", text(note));
        }
        if self.operation != ChangeOperation::Delete {
            add(
                "size",
                number(i64::try_from(self.bytes).unwrap_or(i64::MAX)),
            );
            add("hash", text(&self.sha256));
            add("contentType", text(self.content_type));
        }
        if let Some(value) = self.value {
            add("value", text(value));
        }
        item
    }
}

// === impl History ===

impl History {
    /// The history in this table.
    pub fn new(sdk: &SdkConfig, config: HistoryConfig) -> Self {
        Self {
            client: Client::new(sdk),
            config,
        }
    }

    pub(crate) fn is_required(&self) -> bool {
        self.config.required
    }

    /// Whether an entry of this time (unix milliseconds) is gone, or will be within a day.
    pub(crate) fn is_ending(&self, at_ms: i64, now_ms: i64) -> bool {
        let kept = self.config.retention.saturating_sub(days(1));
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        now_ms.saturating_sub(at_ms) > kept_ms
    }

    /// Inserts an entry, as a part of its change's transaction.
    pub(crate) fn insert(&self, partition: &str, entry: &NewEntry<'_>) -> Statement {
        Statement::insert(
            &self.config.table,
            entry.item(partition, self.config.retention),
        )
    }

    /// Inserts an entry of a change past the service, unless it is there. Returns whether it was not.
    pub async fn append(&self, partition: &str, entry: &NewEntry<'_>) -> Result<bool, StoreError> {
        let statement = self.insert(partition, entry);
        let outcome = partiql::execute(&self.client, statement).await?;
        Ok(outcome == Outcome::Done)
    }

    /// Whether the service made this change, which the stream brought at this place in its order, and which took effect in
    /// this second (unix milliseconds). Somebody may have put back what the service wrote, to the letter: then the entry is
    /// there, and one of a later change past the service lies between it and this one.
    pub async fn is_of_the_service(
        &self,
        partition: &str,
        key: &str,
        (change, order): (ChangeId, &str),
        seen_ms: i64,
    ) -> Result<bool, StoreError> {
        let (from, to) = (
            seen_ms - SLOWEST_MS - NEAR_MS,
            seen_ms + SECOND_MS + NEAR_MS,
        );
        let change = change.text();
        let mut is_there = false;
        for item in self.around(partition, key, from, to).await? {
            let is_of_the_service = text(&item, "source") == Some(SERVICE);
            if is_of_the_service && text(&item, "change") == Some(&change) {
                is_there = true;
            } else if is_there && !is_of_the_service && order_of(&item).is_some_and(|of| of < order)
            {
                return Ok(false);
            }
        }
        Ok(is_there)
    }

    /// The time after which a change past the service comes that the stream brought at this place in its order: after those
    /// before it, and one that is new after the newest deletion. `None` if none of them was in this second (unix
    /// milliseconds) or shortly before.
    pub async fn comes_after(
        &self,
        partition: &str,
        key: &str,
        (order, is_new): (&str, bool),
        seen_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let (from, to) = (seen_ms - NEAR_MS, seen_ms + SECOND_MS);
        let operation = ChangeOperation::Delete.as_str();
        let found = self.around(partition, key, from, to).await?;
        let before = found.iter().filter_map(|item| {
            let at_ms = at_of(item)?;
            if text(item, "source") != Some(SERVICE) {
                return (order_of(item)? < order).then_some(at_ms);
            }
            (is_new && text(item, "operation") == Some(operation)).then_some(at_ms + 1)
        });
        Ok(before.max())
    }

    /// Whether there is a deletion at about this time (unix milliseconds).
    pub async fn has_deletion(
        &self,
        partition: &str,
        key: &str,
        at_ms: i64,
    ) -> Result<bool, StoreError> {
        let (from, to) = (at_ms - NEAR_MS, at_ms + NEAR_MS);
        let found = self.around(partition, key, from, to).await?;
        let operation = ChangeOperation::Delete.as_str();
        Ok(found
            .iter()
            .any(|item| text(item, "operation") == Some(operation)))
    }

    /// What names the entries of a key between these times, oldest first.
    async fn around(
        &self,
        partition: &str,
        key: &str,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        let mut pages = self
            .query(partition, &sort_range(key, from_ms, to_ms))
            .projection_expression("SK, #source, #change, #operation")
            .expression_attribute_names("#source", "source")
            .expression_attribute_names("#change", "change")
            .expression_attribute_names("#operation", "operation")
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| store_error(BACKEND, error))?;
            found.extend(page.items.unwrap_or_default());
        }
        Ok(found)
    }

    /// The changes of a key at this place.
    pub async fn of_key(
        &self,
        _admitted: &Admitted,
        location: &Location,
        key: &ConfigKey,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let (from, to) = sort_range(
            key.as_str(),
            request.since_ms,
            request.until_ms.saturating_sub(1),
        );
        let to = request
            .after
            .filter(|after| (from.as_str()..to.as_str()).contains(after))
            .map_or(to, before);
        if from > to {
            return Ok(HistoryPage::default());
        }
        let mut query = self
            .query(&partition_of(location), &(from, to))
            .scan_index_forward(false)
            .limit(i32::try_from(request.limit).unwrap_or(i32::MAX));
        if !request.values {
            query = without_value(query);
        }
        let answer = query
            .send()
            .await
            .map_err(|error| store_error(BACKEND, error))?;
        let next_after = answer
            .last_evaluated_key()
            .and_then(|last| text(last, "SK"))
            .map(ToOwned::to_owned);
        Ok(HistoryPage {
            entries: answer.items().iter().filter_map(entry_of).collect(),
            next_after,
        })
    }

    /// The changes of all of the tenant's keys, without their values. Eventually consistent.
    pub async fn of_tenant(
        &self,
        admitted: &Admitted,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, StoreError> {
        let from = format!("{:013}", request.since_ms.clamp(0, LAST_MS));
        let to = format!(
            "{:013}#~",
            request.until_ms.saturating_sub(1).clamp(0, LAST_MS)
        );
        let to = request
            .after
            .filter(|after| (from.as_str()..to.as_str()).contains(after))
            .map_or(to, before);
        if from > to {
            return Ok(HistoryPage::default());
        }
        let answer = self
            .client
            .query()
            .table_name(&self.config.table)
            .index_name(BY_TIME)
            .key_condition_expression("PK = :pk AND #at BETWEEN :from AND :to")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(
                ":pk",
                AttributeValue::S(format!("TENANT#{}", admitted.tenant())),
            )
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
            .scan_index_forward(false)
            .limit(i32::try_from(request.limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| store_error(BACKEND, error))?;
        let next_after = answer
            .last_evaluated_key()
            .and_then(|last| text(last, "at"))
            .map(ToOwned::to_owned);
        Ok(HistoryPage {
            entries: answer.items().iter().filter_map(entry_of).collect(),
            next_after,
        })
    }

    /// A page of entries of one tenant's keys that begin so, oldest first within each key.
    pub(crate) async fn of_prefix(
        &self,
        partition: &str,
        prefix: &str,
        start: Option<Item>,
    ) -> Result<(Vec<HistoryEntry>, Option<Item>), StoreError> {
        let answer = self
            .client
            .query()
            .table_name(&self.config.table)
            .key_condition_expression("PK = :pk AND begins_with(SK, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(partition.to_owned()))
            .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| store_error(BACKEND, error))?;
        let entries = answer.items().iter().filter_map(entry_of).collect();
        Ok((entries, answer.last_evaluated_key().cloned()))
    }

    fn query(
        &self,
        partition: &str,
        (from, to): &(String, String),
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.config.table)
            .key_condition_expression("PK = :pk AND SK BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(partition.to_owned()))
            .expression_attribute_values(":from", AttributeValue::S(from.clone()))
            .expression_attribute_values(":to", AttributeValue::S(to.clone()))
            .consistent_read(true)
    }
}

/// The partition of a place's changes.
pub fn partition_of(location: &Location) -> String {
    match location.owner() {
        // It has the same partitions; what all tenants share has an owner there, who keeps it.
        _ if location.id().backend() == BACKEND => location.id().partition().to_owned(),
        Some(tenant) => format!("TENANT#{tenant}"),
        None => GLOBAL.to_owned(),
    }
}

/// All but the value.
fn without_value(
    query: aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder,
) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
    const ATTRIBUTES: [&str; 13] = [
        "SK",
        "key",
        "at",
        "version",
        "previous",
        "operation",
        "by",
        "role",
        "requestId",
        "note",
        "size",
        "hash",
        "contentType",
    ];
    let names = (0..ATTRIBUTES.len()).map(|index| format!("#a{index}"));
    let names: HashMap<String, String> = names.zip(ATTRIBUTES.map(ToOwned::to_owned)).collect();
    let projection: Vec<_> = names.keys().cloned().collect();
    query
        .projection_expression(projection.join(", "))
        .set_expression_attribute_names(Some(names))
}

fn sort_range(key: &str, from_ms: i64, to_ms: i64) -> (String, String) {
    (
        format!("{key}#{:013}", from_ms.clamp(0, LAST_MS)),
        format!("{key}#{:013}#~", to_ms.clamp(0, LAST_MS)),
    )
}

/// The last text before this one, of those that sort keys can be: all before it end with a hexadecimal digit.
fn before(sort: &str) -> String {
    let mut text = sort.to_owned();
    if let Some(last) = text.pop() {
        let lower = u32::from(last).checked_sub(1).and_then(char::from_u32);
        text.extend(lower);
        text.push('~');
    }
    text
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn entry_of(item: &Item) -> Option<HistoryEntry> {
    let whole = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
    let owned = |name: &str| text(item, name).unwrap_or_default().to_owned();
    let (time, _) = text(item, "at")?.split_once('#')?;
    Some(HistoryEntry {
        key: owned("key"),
        version: whole("version")?,
        at_ms: time.parse().ok()?,
        operation: ChangeOperation::parse(text(item, "operation")?)?,
        by: owned("by"),
        role: owned("role"),
        request_id: owned("requestId"),
        note: owned("note"),
        bytes: whole("size").unwrap_or_default().unsigned_abs(),
        sha256: owned("hash"),
        content_type: owned("contentType"),
        previous: whole("previous"),
        value: text(item, "value").map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use tagged_config_domain::{LocationId, Revision, Role};

    use super::*;
    use crate::journal::Entry;

    const NOW: i64 = 1_767_323_045_123;

    fn entry<'a>(author: Option<Author<'a>>, value: Option<&'a str>) -> NewEntry<'a> {
        let id = LocationId::new(BACKEND, "TENANT#A", "CONFIG#x");
        let revision = Revision {
            incarnation: 0,
            version: NOW,
        };
        NewEntry {
            key: "tenant_config_x".to_owned(),
            change: Entry::written(&id, revision, NOW).id,
            order: String::new(),
            at_ms: NOW,
            version: NOW,
            previous: Some(7),
            operation: ChangeOperation::Put,
            author,
            kept_from_ms: None,
            by: None,
            sha256: "ab".to_owned(),
            bytes: 1,
            content_type: "application/json",
            value,
        }
    }

    #[test]
    fn entries_survive_the_table() {
        let author = Author {
            subject: "alice",
            role: Role::Writer,
            request_id: "r1",
            note: "why",
        };
        let item = entry(Some(author), Some("1")).item("TENANT#A", days(90));
        let read = entry_of(&item).unwrap();
        assert_eq!((read.by.as_str(), read.role.as_str()), ("alice", "writer"));
        assert_eq!(
            (read.request_id.as_str(), read.note.as_str()),
            ("r1", "why")
        );
        assert_eq!((read.version, read.at_ms, read.bytes), (NOW, NOW, 1));
        assert_eq!(read.value, Some("1".into()));
        assert_eq!(read.previous, Some(7));
        let by_hand = entry(None, None).item("TENANT#A", days(90));
        let read = entry_of(&by_hand).unwrap();
        assert_eq!((read.by.as_str(), read.role.as_str()), (UNKNOWN, ""));
        assert_eq!(read.value, None);
        let expires: i64 = item["expiresAt"].as_n().unwrap().parse().unwrap();
        assert_eq!(expires, NOW / 1_000 + 90 * 86_400);
    }

    #[test]
    fn a_page_goes_on_before_its_cursor() {
        let item = entry(None, None).item("TENANT#A", days(90));
        let sort = text(&item, "SK").unwrap();
        assert!(before(sort).as_str() < sort);
        let earlier = sort.replace(&NOW.to_string(), &(NOW - 1).to_string());
        assert!(earlier < before(sort));
        let (from, to) = sort_range("tenant_config_x", NOW, NOW);
        assert!(from.as_str() < sort && sort < to.as_str());
    }

    #[test]
    fn a_version_far_ahead_is_no_time() {
        assert_eq!(time_of(NOW + 5, NOW), NOW + 5);
        assert_eq!(time_of(NOW * 2, NOW), NOW);
        assert_eq!(time_of(3, NOW), NOW);
    }
}
