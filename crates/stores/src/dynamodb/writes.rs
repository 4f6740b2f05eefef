//! Conditional writes, each in one transaction with its entries in the change journal and in the history.
//!
//! A write replaces exactly what was read. Where what was read does not carry the version that the service gave it (there is
//! nothing, or somebody wrote past the service), the item is claimed first: a mark is set on it, and nothing else (ADR 6).
//! The value, the version and both entries follow in the one transaction, so that whatever stops the service, none of them is
//! ever without the others.

use aws_sdk_dynamodb::types::AttributeValue;
use tagged_config_domain::{
    Author, ChangeOperation, LocationId, NewValue, Record, Revision, StoreError, history::sha256_of,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{BACKEND, DynamoDbStore, MAX_VALUE_BYTES, item, item::Item, number};
use crate::{
    history::{self, NewEntry},
    journal::Entry,
    partiql::{self, Outcome, Statement, Where},
    versions::{deletion_above, reach_version_above},
};

/// In the sort key of an entry that is there anew.
const KEPT: &str = "kept-";

/// A new value, which is text.
#[derive(Clone, Copy)]
pub(super) struct NewText<'a> {
    pub(super) text: &'a str,
    pub(super) content_type: &'a str,
    pub(super) is_rollback: bool,
}

/// One change of one item that was read, and claimed if it had to be.
pub(super) struct Write<'a> {
    id: &'a LocationId,
    /// What it replaces, with its claim.
    old: Item,
    /// What is written; `None` to delete it.
    new: Option<NewText<'a>>,
    /// The version that it gives.
    pub(super) version: i64,
    pub(super) now: OffsetDateTime,
}

impl<'a> NewText<'a> {
    pub(super) fn of(new: NewValue<'a>) -> Result<Self, StoreError> {
        Ok(Self {
            text: new
                .value
                .as_text()
                .ok_or(StoreError::NotText { backend: BACKEND })?,
            content_type: new.content_type,
            is_rollback: new.is_rollback,
        })
    }
}

impl DynamoDbStore {
    /// A write over what was read, ready to be committed; `None` if somebody else was faster. `anew` claims also what carries
    /// the service's version: an item that was deleted and put back to the letter, which was deleted before.
    pub(super) async fn prepare<'a>(
        &self,
        id: &'a LocationId,
        read: Option<Item>,
        new: Option<NewText<'a>>,
        anew: bool,
    ) -> Result<Option<Write<'a>>, StoreError> {
        let (old, above) = match read {
            Some(old) if item::assigned_version(&old).is_some() && !anew => {
                let above = item::version(&old);
                (old, above)
            }
            read => {
                let Some(old) = self.claim(id, read).await? else {
                    return Ok(None);
                };
                // Whatever was given before was given before the claim.
                let above = item::version(&old).max(self.versions.now_ms());
                (old, above)
            }
        };
        let version = if new.is_some() {
            reach_version_above(&self.versions, above).await?
        } else {
            deletion_above(&self.versions, above).await
        };
        Ok(Some(Write {
            id,
            old,
            new,
            version,
            now: OffsetDateTime::now_utc(),
        }))
    }

    /// Makes all these changes, or none: `false` if one of the items is not what was read.
    pub(super) async fn commit(
        &self,
        writes: &[Write<'_>],
        author: Author<'_>,
    ) -> Result<bool, StoreError> {
        let mut statements = Vec::new();
        let mut entries = Vec::new();
        for write in writes {
            statements.push(self.statement(write, author.subject));
            let entry = write.journal_entry();
            if let Some(history) = &self.history {
                let entry = self.history_entry(write, &entry, author);
                entries.push(history.insert(write.id.partition(), &entry));
                entries.extend(self.kept_entry(write));
            }
            if let Some(journal) = &self.journal {
                let now_ms = self.versions.now_ms();
                statements.push(journal.insert(&entry, now_ms));
                if write.new.is_none() {
                    let claim = item::claim(&write.old);
                    statements.push(journal.deletion_mark(&entry, claim, now_ms));
                }
            }
        }
        let may_go_without = self.history.as_ref().is_some_and(|h| !h.is_required());
        let without = (may_go_without && !entries.is_empty()).then(|| statements.clone());
        statements.extend(entries);
        let outcome = partiql::transact(&self.client, statements).await;
        let outcome = match (outcome, without) {
            // Only where nothing was written, for sure.
            (
                Err(error @ (StoreError::Refused { .. } | StoreError::Throttled { .. })),
                Some(statements),
            ) => {
                history::count_failure(&error);
                partiql::transact(&self.client, statements).await?
            }
            (outcome, _) => outcome?,
        };
        Ok(outcome == Outcome::Done)
    }

    fn statement(&self, write: &Write<'_>, modified_by: &str) -> Statement {
        let condition = unchanged(write.id, &write.old);
        let Some(new) = write.new else {
            return Statement::delete(&self.table, condition);
        };
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let place = (write.id.partition(), write.id.sort());
        let written = Record::new(new.text, new.content_type, Revision::default(), None);
        let set = [
            (item::VALUE, text(new.text)),
            (item::VERSION, number(write.version)),
            (item::ASSIGNED_VERSION, number(write.version)),
            (
                item::LAST_MODIFIED,
                text(&write.now.format(&Rfc3339).unwrap_or_default()),
            ),
            (item::CONTENT_TYPE, text(new.content_type)),
            (item::MODIFIED_BY, text(modified_by)),
            (item::DIGEST, text(&item::digest_of(place, &written))),
        ];
        Statement::update(&self.table, set, condition)
    }

    fn history_entry<'a>(
        &self,
        write: &Write<'a>,
        entry: &Entry,
        author: Author<'a>,
    ) -> NewEntry<'a> {
        let now_ms = self.versions.now_ms();
        NewEntry {
            key: self.key_of(write.id).unwrap_or_default(),
            change: entry.id,
            order: String::new(),
            at_ms: history::time_of(write.version, now_ms),
            version: write.version,
            previous: (!item::is_stub(&write.old)).then(|| item::version(&write.old)),
            operation: match write.new {
                None => ChangeOperation::Delete,
                Some(new) if new.is_rollback => ChangeOperation::Rollback,
                Some(_) => ChangeOperation::Put,
            },
            author: Some(author),
            kept_from_ms: None,
            by: None,
            sha256: write
                .new
                .map(|new| sha256_of(&new.text.into()))
                .unwrap_or_default(),
            bytes: write.new.map_or(0, |new| new.text.len() as u64),
            content_type: write.new.map_or("", |new| new.content_type),
            value: write.new.map(|new| new.text),
        }
    }

    /// What is replaced, anew, if its own entry has come to the end of its retention: it was in force until now, and can be
    /// restored as long as what replaces it.
    fn kept_entry(&self, write: &Write<'_>) -> Option<Statement> {
        let (history, now_ms) = (self.history.as_ref()?, self.versions.now_ms());
        let old = item::decode(&write.old).ok()?;
        let version = old.revision.version;
        let at_ms = old
            .modified_ms
            .filter(|at_ms| history.is_ending(*at_ms, now_ms))?;
        let entry = NewEntry {
            key: self.key_of(write.id)?,
            change: Entry::written(write.id, old.revision, at_ms).id,
            order: KEPT.to_owned(),
            at_ms,
            kept_from_ms: Some(now_ms),
            version,
            previous: None,
            operation: ChangeOperation::Put,
            author: None,
            by: None,
            sha256: sha256_of(&old.value),
            bytes: old.value.len(),
            content_type: &old.content_type,
            value: old
                .value
                .as_text()
                .filter(|value| value.len() <= MAX_VALUE_BYTES),
        };
        Some(history.insert(write.id.partition(), &entry))
    }

    /// Marks an item, or an empty place, and touches nothing else. Returns what is there now; `None` if somebody else was
    /// faster.
    async fn claim(&self, id: &LocationId, read: Option<Item>) -> Result<Option<Item>, StoreError> {
        let claim = AttributeValue::S(Uuid::new_v4().simple().to_string());
        let (claimed, statement) = if let Some(mut old) = read {
            let condition = unchanged(id, &old);
            old.insert(item::CLAIM.to_owned(), claim.clone());
            let set = [(item::CLAIM, claim)];
            (old, Statement::update(&self.table, set, condition))
        } else {
            let mut stub = super::key(id);
            stub.insert(item::CLAIM.to_owned(), claim);
            (stub.clone(), Statement::insert(&self.table, stub))
        };
        let outcome = partiql::execute(&self.client, statement).await?;
        Ok((outcome == Outcome::Done).then_some(claimed))
    }
}

impl Write<'_> {
    fn journal_entry(&self) -> Entry {
        let revision = |version| Revision {
            incarnation: 0,
            version,
        };
        if self.new.is_some() {
            return Entry::written(self.id, revision(self.version), self.version);
        }
        let removed = revision(item::version(&self.old));
        Entry::removed(self.id, removed, self.version, item::removal_id(&self.old))
    }
}

/// What is there is what was read, to the letter: a hand edit that kept the version counts as a change.
fn unchanged(id: &LocationId, old: &Item) -> Where {
    [
        item::VERSION,
        item::VALUE,
        item::ASSIGNED_VERSION,
        item::CLAIM,
    ]
    .into_iter()
    .fold(
        Where::key(id.partition(), id.sort()),
        |condition, attribute| condition.and(attribute, old.get(attribute)),
    )
}
