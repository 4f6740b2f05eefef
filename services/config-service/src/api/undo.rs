//! Undoing all that one caller, or one request, changed: what it means for each key, and all of it in one transaction.

use std::{collections::BTreeMap, ops::Range};

use tagged_config_domain::{
    BulkChange, ChangeOperation, ConfigKey, HistoryEntry, HistoryRequest, Precondition, Principal,
    Record, Resource, Revision, Role, Value, store::MAX_BULK_CHANGES,
};
use tagged_config_runtime::clock::unix_ms;

use super::{
    ConfigApi, MAX_PAGE,
    diff::Diff,
    history::{MAX_SEARCHED_PAGES, NEAR_MS, WriteContext, compare},
    logged, require,
};
use crate::{errors::ApiError, telemetry::metrics::Changed};

/// The tag whose keys are undone together: those of one table, where a transaction has them all.
const UNDONE_TAG: &str = "tenant";
/// The longest window of changes that are undone at once.
const MAX_UNDO_WINDOW_MS: i64 = 31 * 24 * 3_600_000;
/// The values of one undoing: a transaction of DynamoDB takes 4 MB in all.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.multiplestatements.transactions.html>
const MAX_UNDONE_BYTES: u64 = 3_500_000;

/// Whose changes to undo.
#[derive(Clone, Debug)]
pub(crate) enum Culprit {
    /// A caller's, by the token's `sub`.
    By(String),
    /// Those of one request.
    Request(String),
}

/// A key whose changes are undone.
#[derive(Debug)]
pub(crate) struct Undone {
    pub key: String,
    /// What it holds, 0 for nothing.
    pub current: i64,
    /// The version whose value comes back, 0 if the key is deleted.
    pub restored: i64,
    /// The version that the undoing gave, 0 in a dry run.
    pub version: i64,
    pub diff: Diff,
    /// Why it cannot be undone.
    pub problem: Option<String>,
    change: Option<(Precondition, Option<(Value, String)>)>,
    /// What its part of the transaction takes: the value that is replaced, and twice the new one.
    bytes: u64,
}

// === impl Culprit ===

impl Culprit {
    /// Whose changes to undo, and in which window (unix milliseconds).
    pub(crate) fn of(
        by: String,
        request_id: String,
        since_ms: Option<i64>,
        until_ms: Option<i64>,
    ) -> Result<(Self, Range<i64>), ApiError> {
        let until_ms = until_ms.unwrap_or(unix_ms() + NEAR_MS);
        match (by.is_empty(), request_id.is_empty(), since_ms) {
            (false, true, Some(since)) => Ok((Self::By(by), since..until_ms)),
            (false, true, None) => Err(ApiError::Invalid(
                "since is needed: from when on to undo the changes of this caller".to_owned(),
            )),
            (true, false, since) => {
                let since = since.unwrap_or(until_ms.saturating_sub(MAX_UNDO_WINDOW_MS));
                Ok((Self::Request(request_id), since..until_ms))
            }
            _ => Err(ApiError::Invalid(
                "give one of by and request id: whose changes to undo".to_owned(),
            )),
        }
    }

    fn made(&self, entry: &HistoryEntry) -> bool {
        match self {
            Self::By(by) => entry.by == *by,
            Self::Request(id) => entry.request_id == *id,
        }
    }
}

// === impl ConfigApi ===

impl ConfigApi {
    /// Undoes all that one caller, or one request, changed within a window, of keys that begin with `prefix`, all or nothing.
    /// `execute` false: a dry run.
    /// Returns each key, and whether they were undone.
    pub(crate) async fn undo(
        &self,
        caller: &Principal,
        culprit: &Culprit,
        window_ms: Range<i64>,
        prefix: &str,
        context: &WriteContext,
        execute: bool,
    ) -> Result<(Vec<Undone>, bool), ApiError> {
        require(caller, Role::Writer)?;
        if window_ms.end.saturating_sub(window_ms.start) > MAX_UNDO_WINDOW_MS {
            return Err(ApiError::Invalid(
                "the window from since to until is longer than 31 days".to_owned(),
            ));
        }
        let is_meant = |entry: &HistoryEntry| {
            culprit.made(entry)
                && entry.operation != ChangeOperation::Reject
                && entry.key.starts_with(prefix)
        };
        let mut keys: BTreeMap<String, Vec<HistoryEntry>> = BTreeMap::new();
        let mut after: Option<String> = None;
        for page in 0.. {
            if page == MAX_SEARCHED_PAGES {
                return Err(ApiError::Invalid(
                    "too many changes lie within the window; give a shorter one".to_owned(),
                ));
            }
            let request = HistoryRequest {
                since_ms: window_ms.start,
                until_ms: window_ms.end,
                after: after.as_deref(),
                limit: MAX_PAGE,
                values: false,
            };
            let (entries, next) = self.history_of_tenant(caller, &request).await?;
            for (_, entry) in entries {
                if is_meant(&entry) {
                    keys.entry(entry.key.clone()).or_default().push(entry);
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        if keys.len() > MAX_BULK_CHANGES {
            return Err(ApiError::Invalid(format!(
                "{} keys were changed; at most {MAX_BULK_CHANGES} can be undone at once: give a shorter window",
                keys.len()
            )));
        }
        let mut undone = Vec::new();
        for (key, matching) in keys {
            undone.push(
                self.undone(caller, key, matching, culprit, &window_ms)
                    .await?,
            );
        }
        let bytes: u64 = undone.iter().map(|key| key.bytes).sum();
        if bytes > MAX_UNDONE_BYTES {
            return Err(ApiError::Invalid(format!(
                "the changes take {bytes} bytes, and a transaction at most {MAX_UNDONE_BYTES}: give a shorter window"
            )));
        }
        let is_possible = undone.iter().all(|key| key.problem.is_none());
        if !execute || !is_possible || undone.is_empty() {
            return Ok((undone, false));
        }
        self.execute(caller, &mut undone, context).await?;
        Ok((undone, true))
    }

    async fn execute(
        &self,
        caller: &Principal,
        undone: &mut [Undone],
        context: &WriteContext,
    ) -> Result<(), ApiError> {
        // Of one tag: only one backend takes several changes at once.
        let undoing: Vec<&mut Undone> = undone
            .iter_mut()
            .filter(|key| key.change.is_some())
            .collect();
        let keys: Vec<ConfigKey> = undoing
            .iter()
            .map(|key| self.route(&key.key).map(|(key, _)| key))
            .collect::<Result<_, _>>()?;
        let Some(first) = keys.first() else {
            return Ok(());
        };
        let (_, store) = self.route(first.as_str())?;
        let changes: Vec<BulkChange<'_>> = keys
            .iter()
            .zip(&undoing)
            .filter_map(|(key, undone)| {
                let (precondition, value) = undone.change.clone()?;
                Some(BulkChange {
                    name: key.name(),
                    value,
                    precondition,
                })
            })
            .collect();
        let units = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        let admitted = self.gate.admit(caller.tenant(), Resource::Writes, units)?;
        let versions = store
            .change_all(&admitted, &changes, context.author(caller))
            .await;
        for (index, key) in keys.iter().enumerate() {
            let outcome = versions.as_ref().map(|versions| versions[index]);
            self.after_write(caller, Changed::undo, key, store, outcome);
        }
        let versions = versions.map_err(|error| logged(error, "undo"))?;
        for (key, version) in undoing.into_iter().zip(versions) {
            key.version = version;
        }
        Ok(())
    }

    /// What undoing these changes of a key means.
    async fn undone(
        &self,
        caller: &Principal,
        key: String,
        matching: Vec<HistoryEntry>,
        culprit: &Culprit,
        window_ms: &Range<i64>,
    ) -> Result<Undone, ApiError> {
        let (parsed, store) = self.route(&key)?;
        let mut undone = Undone {
            key,
            current: 0,
            restored: 0,
            version: 0,
            diff: Diff::Same,
            problem: None,
            change: None,
            bytes: 0,
        };
        if parsed.tag() != UNDONE_TAG {
            undone.problem = Some(format!(
                "keys in {} are undone one by one, with a rollback or in the store itself",
                store.backend()
            ));
            return Ok(undone);
        }
        let admitted = self.admit_read(caller, store)?;
        let layers = store.locate(caller.tenant(), parsed.name());
        let own = layers.first();
        let oldest_ms = matching.iter().map(|entry| entry.at_ms).min().unwrap_or(0);
        let request = HistoryRequest {
            since_ms: oldest_ms,
            until_ms: i64::MAX,
            after: None,
            limit: MAX_PAGE,
            values: false,
        };
        let mut since = store
            .history(&admitted, own, &request)
            .await
            .map_err(|error| logged(error, "history"))?;
        // What was served instead is no change of the key.
        since
            .entries
            .retain(|entry| entry.operation != ChangeOperation::Reject);
        let is_undone =
            |entry: &&HistoryEntry| culprit.made(entry) && window_ms.contains(&entry.at_ms);
        let other = since.entries.iter().find(|entry| !is_undone(entry));
        if let Some(other) = other {
            undone.problem = Some(format!("{} has changed it since", other.by));
            return Ok(undone);
        }
        let (Some(newest), Some(oldest)) = (since.entries.first(), since.entries.last()) else {
            undone.problem = Some("its history has ended".to_owned());
            return Ok(undone);
        };
        if since.next_after.is_some() {
            undone.problem = Some(format!("it was changed more than {MAX_PAGE} times since"));
            return Ok(undone);
        }
        let before = store
            .history(&admitted, own, &HistoryRequest::newest_before(oldest_ms, 1))
            .await
            .map_err(|error| logged(error, "history"))?;
        let before = before.entries.into_iter().next();
        let restored = before.filter(|entry| entry.operation != ChangeOperation::Delete);
        if restored.is_none() && oldest.previous.is_some() {
            undone.problem = Some("what it held before is not in the history".to_owned());
            return Ok(undone);
        }
        let is_there = newest.operation != ChangeOperation::Delete;
        undone.current = if is_there { newest.version } else { 0 };
        undone.restored = restored.as_ref().map_or(0, |entry| entry.version);
        let precondition = if is_there {
            Precondition::Version(newest.version)
        } else {
            Precondition::Absent
        };
        let current = self.own_record(&admitted, store, own).await?;
        let value = match restored {
            None => None,
            Some(entry) => Some((entry.value.ok_or(ApiError::NoValue)?, entry.content_type)),
        };
        if let Some((value, _)) = &value
            && let Err(error) = self.check(&admitted, &parsed, store, value).await
        {
            undone.problem = Some(error.message());
            return Ok(undone);
        }
        let new = value.as_ref().map(|(value, content_type)| {
            let revision = Revision {
                incarnation: 0,
                version: undone.restored,
            };
            Record::new(value.clone(), content_type.as_str(), revision, None)
        });
        // Made and deleted again: nothing is left to undo.
        if new.is_none() && !is_there {
            return Ok(undone);
        }
        let bytes = |record: &Option<Record>| record.as_ref().map_or(0, |r| r.value.len());
        undone.bytes = bytes(&current) + 2 * bytes(&new);
        undone.diff = compare(current, new).await?;
        undone.change = Some((precondition, value));
        Ok(undone)
    }
}
