//! The change journal: a table that says which locations changed, and never what they hold. Writers put the
//! change and its entry in one transaction, the invalidator appends what others wrote, and every task sweeps
//! it for what no push brought.
//!
//! `PK = <minute>#<shard>`, `SK = <unix ms, 13 digits>#<id>`, and `expiresAt` for DynamoDB's own removal after
//! [`RETENTION`]. An entry's time is the change's own if that is near the clock, so that every writer of a change
//! writes the same item; commit order is not time order, so readers begin [`OVERLAP`] earlier. Beside the entries lies a mark
//! of each deletion, with a partition of its own: `PK = deletions#<shard>`, `SK = <id>`.
//!
//! Ceiling: [`ENTRIES_PER_SECOND`].

use std::{collections::HashMap, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError, types::AttributeValue};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tagged_config_domain::{LocationId, Revision, StoreError};

use crate::{
    aws::{OPERATION_TIMEOUT, store_error},
    dynamodb::{BACKEND, number},
    partiql::Statement,
};

/// Partitions of one minute. Readers must read every partition that a writer writes: raise it as docs/operations.md says,
/// and lower it only a [`RETENTION`] after the last writer of the higher number stopped.
pub const SHARDS: u64 = 16;
/// Write units that DynamoDB gives one partition, a second.
const PARTITION_UNITS: u64 = 1_000;
/// Write units of one entry: two in the writer's transaction, and one for the invalidator, which finds it there.
const ENTRY_UNITS: u64 = 3;
/// Entries a second that the journal takes, with entries spread evenly over its shards and a table that has grown to that
/// load (one that is new takes 4,000 units a second at once, which is a quarter).
pub const ENTRIES_PER_SECOND: u64 = SHARDS * PARTITION_UNITS / ENTRY_UNITS;
/// How long an entry is kept.
pub const RETENTION: Duration = Duration::from_hours(1);
/// How far an entry's own time may be from the clock of who writes it.
const LATE: Duration = Duration::from_secs(4);
/// How far clocks may be apart.
const SKEW: Duration = Duration::from_secs(3);
/// How far before the last successful sweep the next one begins: an entry may carry a time this much before
/// the moment at which it can be read.
pub const OVERLAP: Duration =
    Duration::from_secs(LATE.as_secs() + OPERATION_TIMEOUT.as_secs() + SKEW.as_secs());
/// How far ahead of its clock a sweep reads.
const AHEAD: Duration = Duration::from_secs(LATE.as_secs() + SKEW.as_secs());
/// Waits before an entry is written again that met a transaction.
const CONFLICT_WAITS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(160),
];
/// Queries under way at once in one sweep.
const CONCURRENCY: usize = 16;

/// Names a change: every writer of the same change computes the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangeId([u8; 16]);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The location holds a value of this revision, which is higher than any before it.
    Written,
    /// A value of this revision was removed; for Parameter Store, at this incarnation or before.
    Removed,
    /// Something changed, and the revision need not have risen: somebody edited it by hand.
    Edited,
    /// Everything is to be read anew.
    Flush,
}

/// An entry: where something changed, and nothing of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the change.
    pub id: ChangeId,
    /// What happened.
    pub kind: ChangeKind,
    /// Where: the backend's name, and its two keys.
    pub backend: String,
    /// Partition key or path.
    pub partition: String,
    /// Sort key, or empty.
    pub sort: String,
    /// The revision that `kind` speaks of.
    pub revision: Revision,
    /// When it happened, in unix milliseconds; 0 if unknown.
    pub at_ms: i64,
}

/// The table.
#[derive(Clone, Debug)]
pub struct Journal {
    client: Client,
    table: String,
}

// === impl ChangeId ===

impl ChangeId {
    fn of(id: &LocationId, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        let place = [id.backend().0, id.partition(), id.sort()];
        for part in place
            .iter()
            .map(|text| text.as_bytes())
            .chain(parts.iter().copied())
        {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize()[..16]);
        Self(short)
    }

    /// As messages carry it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// From a message; `None` if it has not 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// In hexadecimal.
    pub(crate) fn text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    fn parse(text: &str) -> Option<Self> {
        (text.len() == 32)
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(|number| Self(number.to_be_bytes()))
    }

    fn shard(self) -> u64 {
        u64::from(self.0[0]) % SHARDS
    }
}

// === impl ChangeKind ===

impl ChangeKind {
    const ALL: [Self; 4] = [Self::Written, Self::Removed, Self::Edited, Self::Flush];

    fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Removed => "removed",
            Self::Edited => "edited",
            Self::Flush => "flush",
        }
    }
}

// === impl Entry ===

impl Entry {
    /// A value of a revision that the service, or Parameter Store, gave: no other change has it.
    pub fn written(id: &LocationId, revision: Revision, at_ms: i64) -> Self {
        let change = ChangeId::of(id, &[b"written", &bytes(revision)]);
        Self::new(change, ChangeKind::Written, id, revision, at_ms)
    }

    /// The removal of a value; `source_event_id` as for [`Entry::edited`], or empty for a value that the service wrote.
    pub fn removed(id: &LocationId, removed: Revision, at_ms: i64, source_event_id: &str) -> Self {
        let change = ChangeId::of(
            id,
            &[b"removed", &bytes(removed), source_event_id.as_bytes()],
        );
        Self::new(change, ChangeKind::Removed, id, removed, at_ms)
    }

    /// A change past the service. `source_event_id` distinguishes it from others with the same revision (the stream's
    /// sequence number, an event's id).
    pub fn edited(id: &LocationId, revision: Revision, at_ms: i64, source_event_id: &str) -> Self {
        let change = ChangeId::of(
            id,
            &[b"edited", &bytes(revision), source_event_id.as_bytes()],
        );
        Self::new(change, ChangeKind::Edited, id, revision, at_ms)
    }

    /// Everything is to be read anew.
    pub fn flush(at_ms: i64) -> Self {
        let nowhere = LocationId::new(BACKEND, "", "");
        let change = ChangeId::of(&nowhere, &[b"flush", &at_ms.to_be_bytes()]);
        Self::new(
            change,
            ChangeKind::Flush,
            &nowhere,
            Revision::default(),
            at_ms,
        )
    }

    fn new(
        change: ChangeId,
        kind: ChangeKind,
        id: &LocationId,
        revision: Revision,
        at_ms: i64,
    ) -> Self {
        Self {
            id: change,
            kind,
            backend: id.backend().0.to_owned(),
            partition: id.partition().to_owned(),
            sort: id.sort().to_owned(),
            revision,
            at_ms,
        }
    }

    /// The item, written when the clock says `now_ms`.
    fn item(&self, now_ms: i64) -> HashMap<String, AttributeValue> {
        let near = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
        let time = if self.at_ms.abs_diff(now_ms) <= near.unsigned_abs() {
            self.at_ms
        } else {
            now_ms
        };
        let retention = i64::try_from(RETENTION.as_secs()).unwrap_or(i64::MAX);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        [
            ("PK", AttributeValue::S(partition(time, self.id.shard()))),
            (
                "SK",
                AttributeValue::S(format!("{time:013}#{}", self.id.text())),
            ),
            ("expiresAt", number(time / 1_000 + retention)),
            ("kind", text(self.kind.as_str())),
            ("backend", text(&self.backend)),
            ("partition", text(&self.partition)),
            ("sort", text(&self.sort)),
            ("incarnation", number(self.revision.incarnation)),
            ("version", number(self.revision.version)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn from_item(item: &HashMap<String, AttributeValue>) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok().map(String::as_str);
        let whole = |name: &str| item.get(name)?.as_n().ok()?.parse().ok();
        let (time, id) = text("SK")?.split_once('#')?;
        Some(Self {
            id: ChangeId::parse(id)?,
            kind: *ChangeKind::ALL
                .iter()
                .find(|kind| Some(kind.as_str()) == text("kind"))?,
            backend: text("backend")?.to_owned(),
            partition: text("partition")?.to_owned(),
            sort: text("sort")?.to_owned(),
            revision: Revision {
                incarnation: whole("incarnation")?,
                version: whole("version")?,
            },
            at_ms: time.parse().ok()?,
        })
    }
}

fn bytes(revision: Revision) -> [u8; 16] {
    let both = (u128::from(revision.incarnation.cast_unsigned()) << 64)
        | u128::from(revision.version.cast_unsigned());
    both.to_be_bytes()
}

fn partition(time_ms: i64, shard: u64) -> String {
    format!("{}#{shard}", time_ms.div_euclid(60_000))
}

// === impl Journal ===

impl Journal {
    /// The journal in this table.
    pub fn new(sdk: &SdkConfig, table: String) -> Self {
        Self {
            client: Client::new(sdk),
            table,
        }
    }

    /// Writes an entry. Returns `false` if it was there.
    pub async fn append(&self, entry: &Entry, now_ms: i64) -> Result<bool, StoreError> {
        let mut waits = CONFLICT_WAITS.iter();
        loop {
            let written = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(entry.item(now_ms)))
                .condition_expression("attribute_not_exists(PK)")
                .send()
                .await;
            let Err(error) = written else {
                return Ok(true);
            };
            match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => return Ok(false),
                // The writer's transaction is at the same entry, and may yet fail.
                Some(PutItemError::TransactionConflictException(_)) => match waits.next() {
                    Some(wait) => tokio::time::sleep(*wait).await,
                    None => return Err(store_error(BACKEND, error)),
                },
                _ => return Err(store_error(BACKEND, error)),
            }
        }
    }

    /// The same as part of a transaction.
    pub(crate) fn insert(&self, entry: &Entry, now_ms: i64) -> Statement {
        Statement::insert(&self.table, entry.item(now_ms))
    }

    /// Takes a deletion for itself, as part of its transaction: of two deletions of one item with one claim, one takes effect.
    /// PartiQL's `DELETE` of an item that is gone succeeds, whatever its condition says.
    pub(crate) fn deletion_mark(&self, entry: &Entry, claim: &str, now_ms: i64) -> Statement {
        let text = |text: String| AttributeValue::S(text);
        let retention = i64::try_from(RETENTION.as_secs()).unwrap_or(i64::MAX);
        let mark = [
            ("PK", text(format!("deletions#{}", entry.id.shard()))),
            ("SK", text(format!("{}#{claim}", entry.id.text()))),
            ("expiresAt", number(now_ms / 1_000 + retention)),
        ];
        let mark = mark.map(|(name, value)| (name.to_owned(), value));
        Statement::insert(&self.table, mark.into())
    }

    /// The entries that became readable since `since_ms`, and some from before it, when the clock says `now_ms`: a
    /// consistent query for each shard of each minute. In no order.
    pub async fn read(&self, since_ms: i64, now_ms: i64) -> Result<Vec<Entry>, StoreError> {
        let from = since_ms.saturating_sub(millis(OVERLAP)).max(0);
        let to = now_ms.saturating_add(millis(AHEAD));
        let minutes = from.div_euclid(60_000)..=to.div_euclid(60_000);
        let partitions: Vec<String> = minutes
            .flat_map(|minute| (0..SHARDS).map(move |shard| partition(minute * 60_000, shard)))
            .collect();
        let queries = partitions
            .into_iter()
            .map(|partition| self.query(partition, from, to));
        let found: Vec<Vec<Entry>> = stream::iter(queries)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn query(&self, partition: String, from: i64, to: i64) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("PK = :pk AND SK BETWEEN :from AND :to")
            .expression_attribute_values(":pk", AttributeValue::S(partition))
            .expression_attribute_values(":from", AttributeValue::S(format!("{from:013}")))
            .expression_attribute_values(":to", AttributeValue::S(format!("{to:013}#~")))
            .consistent_read(true)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| store_error(BACKEND, error))?;
            for item in page.items() {
                if let Some(entry) = Entry::from_item(item) {
                    entries.push(entry);
                } else {
                    tracing::warn!("an entry of the journal cannot be read");
                }
            }
        }
        Ok(entries)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045_123;

    fn id() -> LocationId {
        LocationId::new(BACKEND, "TENANT#A", "CONFIG#x")
    }

    fn revision(version: i64) -> Revision {
        Revision {
            incarnation: 0,
            version,
        }
    }

    #[test]
    fn all_writers_of_a_change_write_the_same_entry() {
        let by_the_service = Entry::written(&id(), revision(NOW), NOW).item(NOW);
        let by_the_invalidator = Entry::written(&id(), revision(NOW), NOW).item(NOW + 3_000);
        assert_eq!(by_the_service, by_the_invalidator);
        let by_another_clock = Entry::written(&id(), revision(NOW), NOW + 1);
        assert_eq!(
            by_another_clock.id,
            Entry::written(&id(), revision(NOW), NOW).id
        );
        assert_ne!(
            by_the_service["SK"],
            Entry::written(&id(), revision(NOW + 1), NOW).item(NOW)["SK"]
        );
        assert_ne!(
            Entry::removed(&id(), revision(1), NOW, "").id,
            Entry::written(&id(), revision(1), NOW).id
        );
        assert_ne!(
            Entry::edited(&id(), revision(1), NOW, "1").id,
            Entry::edited(&id(), revision(1), NOW, "2").id
        );
        let elsewhere = LocationId::new(BACKEND, "TENANT#AC", "ONFIG#x");
        assert_ne!(
            Entry::written(&elsewhere, revision(1), NOW).id,
            Entry::written(&id(), revision(1), NOW).id
        );
    }

    #[test]
    fn an_entry_that_comes_late_is_where_the_next_sweep_reads() {
        let late = Entry::written(&id(), revision(1), NOW - 60_000).item(NOW);
        assert!(late["SK"].as_s().unwrap().starts_with(&NOW.to_string()));
        let expires: i64 = late["expiresAt"].as_n().unwrap().parse().unwrap();
        assert_eq!(expires, NOW / 1_000 + 3_600);
    }

    /// Readers of 16 shards read what a release with 4 wrote.
    #[test]
    fn raising_the_shards_hides_no_entry_from_new_readers() {
        let was: Vec<u64> = (0..4).collect();
        assert!(was.iter().all(|shard| (0..SHARDS).contains(shard)));
        let spread: std::collections::HashSet<_> =
            (0..=255).map(|byte| ChangeId([byte; 16]).shard()).collect();
        assert_eq!(spread.len() as u64, SHARDS);
    }

    #[test]
    fn the_overlap_covers_an_entrys_own_time_a_slow_transaction_and_clocks_apart() {
        assert!(OVERLAP >= LATE + OPERATION_TIMEOUT + SKEW);
        assert!(AHEAD >= LATE + SKEW);
    }

    #[test]
    fn entries_survive_the_table_and_others_are_refused() {
        for entry in [
            Entry::written(&id(), revision(7), NOW),
            Entry::removed(&id(), revision(7), NOW, ""),
            Entry::edited(&id(), revision(7), NOW, "11"),
            Entry::flush(NOW),
        ] {
            assert_eq!(Entry::from_item(&entry.item(NOW)), Some(entry));
        }
        let mut broken = Entry::flush(NOW).item(NOW);
        broken.insert("SK".to_owned(), AttributeValue::S("x".to_owned()));
        assert_eq!(Entry::from_item(&broken), None);
        assert_eq!(ChangeId::from_bytes(&[1, 2]), None);
        let id = Entry::flush(NOW).id;
        assert_eq!(ChangeId::from_bytes(id.as_bytes()), Some(id));
    }
}
