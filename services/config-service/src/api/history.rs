//! What happened to keys, and how it is undone: histories, earlier values, differences, dry runs, rollbacks.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tagged_config_domain::{
    Admitted, AnswerPermit, Author, ChangeOperation, ConfigKey, Current, HistoryEntry, HistoryPage,
    HistoryRequest, KeyPrefix, ListRequest, Location, NewValue, Order, Origin, Precondition,
    Principal, Record, Resource, Revision, Role, Store, StoreError, Value, history::MAX_NOTE_BYTES,
};
use tagged_config_runtime::clock::unix_ms;

use super::{
    ConfigApi, MAX_PAGE, Page, Served, Write, breaks::Breaks, content, diff, logged, require,
    schema,
};
use crate::{
    api::diff::{Diff, Side},
    cache::Awaited,
    errors::ApiError,
    telemetry::metrics::ReadResult,
};

/// Pages that a search for one version, or for all changes of a caller, reads at most.
pub(super) const MAX_SEARCHED_PAGES: usize = 20;
/// Pages of 1 MB near the time of a version, in which a busy writer can have written much.
const MAX_NEAR_PAGES: usize = 100;
/// How far the time of an entry and its version, where that is a time, may be apart.
pub(super) const NEAR_MS: i64 = 10_000;
/// The largest values that are compared where they were left in their store.
const MAX_COMPARED_BYTES: u64 = 1024 * 1024;
/// Who changes what all tenants share, as tenants see it.
const OPERATOR: &str = "operator";
/// In a cursor: the store has no more.
const ENDED: &str = "end";
const MAX_REQUEST_ID_BYTES: usize = 128;

/// What a caller says of a write beside the write itself.
#[derive(Clone, Debug)]
pub(crate) struct WriteContext {
    request_id: String,
    note: String,
}

/// Which changes to list.
#[derive(Clone, Debug)]
pub(crate) struct HistoryQuery {
    /// From here on, in unix milliseconds.
    pub since_ms: i64,
    /// Until before this, in unix milliseconds.
    pub until_ms: i64,
    /// Only those by this caller; empty for all.
    pub by: String,
    /// 0 means 50.
    pub page_size: i32,
    /// Continues here.
    pub page_token: String,
    /// With values; of one key only.
    pub values: bool,
}

/// Some changes, and where the older ones begin.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Each with the origin of the value that it changed.
    pub entries: Vec<(Origin, HistoryEntry)>,
    /// Empty at the end.
    pub next_page_token: String,
    /// The memory of the whole answer.
    pub permit: AnswerPermit,
}

/// What a write would do.
#[derive(Debug)]
pub(crate) struct DryRun {
    /// What becomes of the key.
    pub effect: Effect,
    /// The version that is there now, 0 if none.
    pub version: i64,
    /// What differs.
    pub diff: Diff,
    /// Of a schema: what it would break.
    pub breaks: Option<Breaks>,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Create,
    Replace,
    Delete,
    /// It holds this already.
    None,
}

/// What a write did, or would do.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It wrote or deleted.
    Done(Awaited),
    /// It was a dry run.
    Dry(DryRun),
}

/// Which earlier state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// That of this version.
    Version(i64),
    /// That of this time, in unix milliseconds.
    Time(i64),
}

// === impl WriteContext ===

impl WriteContext {
    /// Checks what the caller says.
    pub(crate) fn new(request_id: String, note: String) -> Result<Self, ApiError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(ApiError::Invalid(format!(
                "the note has {} bytes; at most {MAX_NOTE_BYTES} are allowed",
                note.len()
            )));
        }
        if note.chars().any(char::is_control) {
            return Err(ApiError::Invalid(
                "the note has control characters".to_owned(),
            ));
        }
        let request_id = if request_id.is_empty() || request_id.len() > MAX_REQUEST_ID_BYTES {
            uuid::Uuid::new_v4().to_string()
        } else {
            request_id
        };
        Ok(Self { request_id, note })
    }

    /// Who changes something, and why.
    pub(crate) fn author<'a>(&'a self, caller: &'a Principal) -> Author<'a> {
        Author {
            subject: caller.subject(),
            role: caller.role(),
            request_id: &self.request_id,
            note: &self.note,
        }
    }
}

// === impl Effect ===

impl Effect {
    /// As answers spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::None => "none",
        }
    }
}

impl ConfigApi {
    /// The changes of one key, or of all the tenant's keys without their values, newest first.
    pub(crate) async fn history(
        &self,
        caller: &Principal,
        key: &str,
        query: &HistoryQuery,
    ) -> Result<Changes, ApiError> {
        require(caller, Role::Writer)?;
        let listing = format!("history:{key}");
        let (limit, after) = self.page(caller, &listing, query.page_size, &query.page_token)?;
        let request = HistoryRequest {
            since_ms: query.since_ms,
            until_ms: query.until_ms,
            after: after.as_deref(),
            limit,
            values: query.values && !key.is_empty(),
        };
        let (mut entries, next) = if key.is_empty() {
            self.history_of_tenant(caller, &request).await?
        } else {
            self.history_of_key(caller, key, &request).await?
        };
        entries.retain(|(_, entry)| query.by.is_empty() || entry.by == query.by);
        let bytes: usize = entries
            .iter()
            .filter_map(|(_, entry)| Some(entry.value.as_ref()?.held_bytes()))
            .sum();
        Ok(Changes {
            entries,
            next_page_token: next
                .map(|after| self.page_tokens.seal(caller.tenant(), &listing, &after))
                .unwrap_or_default(),
            permit: self.gate.admit_answer(caller.tenant(), bytes as u64)?,
        })
    }

    /// What a key held at a version. Values of one version are the tenant's own, or shared.
    pub(crate) async fn at_version(
        &self,
        caller: &Principal,
        key: &str,
        version: i64,
    ) -> Result<Served, ApiError> {
        let (key, store) = self.route(key)?;
        if version < 1 {
            return Err(ApiError::Invalid("version must be positive".to_owned()));
        }
        let layers = store.locate(caller.tenant(), key.name());
        let admitted = self.admit_read(caller, store)?;
        for layer in layers.iter() {
            if let Some(entry) = find_version(&admitted, store, layer, version).await? {
                return served(&key, store, layer, entry);
            }
        }
        Err(ApiError::NotFound)
    }

    /// What a key held at a time, in unix milliseconds.
    pub(crate) async fn as_of(
        &self,
        caller: &Principal,
        key: &str,
        at_ms: i64,
    ) -> Result<Served, ApiError> {
        let (key, store) = self.route(key)?;
        check_time(at_ms)?;
        let layers = store.locate(caller.tenant(), key.name());
        let admitted = self.admit_read(caller, store)?;
        for layer in layers.iter() {
            let request = HistoryRequest::newest_before(at_ms.saturating_add(1), 1);
            let page = self
                .entries(&admitted, &key, store, layer, &request)
                .await?;
            match page.entries.into_iter().next() {
                Some(entry) if entry.operation == ChangeOperation::Delete => {}
                Some(entry)
                    if entry.operation == ChangeOperation::Reject && entry.value.is_none() =>
                {
                    // Its store has the value that was served instead.
                    let served_then = find_version(&admitted, store, layer, entry.version).await?;
                    let entry = served_then.ok_or(ApiError::NoValue)?;
                    return served(&key, store, layer, entry);
                }
                Some(entry) => return served(&key, store, layer, entry),
                None => {
                    // It may have held what the history does not know.
                    let later = HistoryRequest {
                        since_ms: at_ms,
                        until_ms: i64::MAX,
                        after: None,
                        limit: MAX_PAGE,
                        values: false,
                    };
                    let later = self.entries(&admitted, &key, store, layer, &later).await?;
                    let first = later.entries.last();
                    if first.is_some_and(|first| {
                        first.previous.is_some() || first.operation == ChangeOperation::Delete
                    }) {
                        return Err(ApiError::BeforeHistory);
                    }
                }
            }
        }
        Err(ApiError::NotFound)
    }

    /// A page of what the caller's own keys held at a time.
    pub(crate) async fn list_as_of(
        &self,
        caller: &Principal,
        prefix: &str,
        page_size: i32,
        page_token: &str,
        at_ms: i64,
    ) -> Result<Page, ApiError> {
        check_time(at_ms)?;
        let unknown = self.stores.unknown_tag();
        let prefix =
            KeyPrefix::parse(prefix).map_err(|problem| ApiError::bad_key(problem, &unknown))?;
        let store = self
            .stores
            .route(prefix.tag())
            .map_err(|known| ApiError::unknown_tag(&known))?;
        let listing = format!("as-of:{at_ms}:{}", prefix.as_str());
        let (limit, after) = self.page(caller, &listing, page_size, page_token)?;
        let request = ListRequest {
            prefix: prefix.name(),
            after: after.as_deref(),
            limit,
        };
        let admitted = self.admit_read(caller, store)?;
        let listed = store
            .list_as_of(&admitted, &request, at_ms)
            .await
            .map_err(|error| logged(error, "list as of"))?;
        self.to_page(caller, &prefix, &listing, store, listed)
    }

    /// What differs between two versions of a key; version 0 is what it holds now.
    pub(crate) async fn diff(
        &self,
        caller: &Principal,
        key: &str,
        from: i64,
        to: i64,
    ) -> Result<Diff, ApiError> {
        if from < 1 || to < 0 {
            return Err(ApiError::Invalid(
                "from must be a version, and to a version, or 0 for what is there now".to_owned(),
            ));
        }
        let old = self.side(caller, key, from).await?;
        let new = self.side(caller, key, to).await?;
        compare(old, new).await
    }

    /// Writes what a key held earlier, as a new version; deletes it, if it was deleted then.
    pub(crate) async fn rollback(
        &self,
        caller: &Principal,
        key: &str,
        to: Earlier,
        precondition: Precondition,
        context: &WriteContext,
        dry_run: bool,
    ) -> Result<Outcome, ApiError> {
        let (parsed, store) = self.route(key)?;
        require(caller, store.written_by())?;
        let admitted = self.admit_read(caller, store)?;
        let own = store.locate(caller.tenant(), parsed.name());
        let own = own.first();
        let entry = match to {
            Earlier::Version(version) => find_version(&admitted, store, own, version).await?,
            Earlier::Time(at_ms) => {
                check_time(at_ms)?;
                let request = HistoryRequest::newest_before(at_ms.saturating_add(1), 1);
                let page = self
                    .entries(&admitted, &parsed, store, own, &request)
                    .await?;
                page.entries.into_iter().next()
            }
        };
        let entry = entry.ok_or(ApiError::NotFound)?;
        if entry.operation == ChangeOperation::Delete {
            if dry_run {
                let dry = self.dry_delete(caller, key, &precondition).await?;
                return Ok(Outcome::Dry(dry));
            }
            let version = self.delete(caller, key, precondition, context).await?;
            return Ok(Outcome::Done(Awaited::Deleted(version)));
        }
        let value = entry.value.ok_or(ApiError::NoValue)?;
        let (value, _memory) = self.bytes_of(caller, &admitted, store, own, &value).await?;
        if dry_run {
            let dry = self
                .dry_put(caller, key, value, &entry.content_type, &precondition)
                .await?;
            return Ok(Outcome::Dry(dry));
        }
        let new = Write {
            value,
            content_type: &entry.content_type,
            is_rollback: true,
        };
        let written = self.write(caller, key, new, precondition, context).await?;
        Ok(Outcome::Done(Awaited::Written(
            written.record.revision.version,
        )))
    }

    /// What a PUT would do.
    pub(crate) async fn dry_put(
        &self,
        caller: &Principal,
        key: &str,
        value: Bytes,
        content_type: &str,
        precondition: &Precondition,
    ) -> Result<DryRun, ApiError> {
        let (key, store) = self.route(key)?;
        require(caller, store.written_by())?;
        let admitted = self.admit_read(caller, store)?;
        let limit = store.max_value_bytes();
        if value.len() > limit {
            return Err(StoreError::TooLarge {
                backend: store.backend(),
                limit,
                actual: value.len(),
            }
            .into());
        }
        let value = super::value_of(store, value)?;
        let content_type = content::check(&value, content_type)?;
        self.check_writable(caller, &admitted, &key, store).await?;
        self.check(&admitted, &key, store, &value).await?;
        let layers = store.locate(caller.tenant(), key.name());
        let current = self.own_record(&admitted, store, layers.first()).await?;
        precondition.check(current.as_ref().map(Current::from))?;
        let effect = match &current {
            None => Effect::Create,
            Some(record) if record.value == value && *record.content_type == content_type => {
                Effect::None
            }
            Some(_) => Effect::Replace,
        };
        let breaks = match &self.guard {
            Some(guard) if key.tag() == schema::TAG => {
                Some(self.breaks(caller, guard, &key, &value).await?)
            }
            _ => None,
        };
        let new = Record::new(value, content_type, Revision::default(), None);
        let version = version_of(current.as_ref());
        Ok(DryRun {
            effect,
            version,
            diff: compare(current, Some(new)).await?,
            breaks,
        })
    }

    /// What a DELETE would do.
    pub(crate) async fn dry_delete(
        &self,
        caller: &Principal,
        key: &str,
        precondition: &Precondition,
    ) -> Result<DryRun, ApiError> {
        let (key, store) = self.route(key)?;
        require(caller, store.written_by())?;
        let admitted = self.admit_read(caller, store)?;
        self.check_writable(caller, &admitted, &key, store).await?;
        let layers = store.locate(caller.tenant(), key.name());
        let current = self.own_record(&admitted, store, layers.first()).await?;
        let current = current.ok_or(ApiError::NotFound)?;
        precondition.check(Some(Current::from(&current)))?;
        Ok(DryRun {
            effect: Effect::Delete,
            version: current.revision.version,
            diff: compare(Some(current), None).await?,
            breaks: None,
        })
    }

    /// The error of a store that takes no writes.
    async fn check_writable(
        &self,
        caller: &Principal,
        admitted: &Admitted,
        key: &ConfigKey,
        store: &Arc<dyn Store>,
    ) -> Result<(), ApiError> {
        if store.is_writable() {
            return Ok(());
        }
        let context = WriteContext::new(String::new(), String::new())?;
        let new = NewValue {
            value: &Value::from(""),
            content_type: content::DEFAULT_CONTENT_TYPE,
            author: context.author(caller),
            is_rollback: false,
        };
        let refused = store
            .put(admitted, key.name(), new, Precondition::None)
            .await;
        refused.map(drop).map_err(ApiError::from)
    }

    pub(super) async fn own_record(
        &self,
        admitted: &Admitted,
        store: &Arc<dyn Store>,
        own: &Location,
    ) -> Result<Option<Record>, ApiError> {
        let read = store.read(admitted, std::slice::from_ref(own)).await;
        let mut read = read.map_err(|error| logged(error, "read"))?;
        Ok(read.pop().flatten())
    }

    /// What a key holds at a version, or now; `None` if nothing.
    async fn side(
        &self,
        caller: &Principal,
        key: &str,
        version: i64,
    ) -> Result<Option<Record>, ApiError> {
        if version == 0 {
            let found = self
                .get(caller, key, 0, super::Fallback::Within(None))
                .await;
            return match found {
                Ok(served) if served.record.secret => Err(ApiError::NoValue),
                Ok(served) => Ok(Some(served.record)),
                Err(ApiError::NotFound) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let (key, store) = self.route(key)?;
        let admitted = self.admit_read(caller, store)?;
        let layers = store.locate(caller.tenant(), key.name());
        for layer in layers.iter() {
            if let Some(entry) = find_version(&admitted, store, layer, version).await? {
                if entry.operation == ChangeOperation::Delete {
                    return Ok(None);
                }
                let mut record = record_of(entry)?;
                if matches!(&record.value, Value::Remote(remote) if remote.bytes <= MAX_COMPARED_BYTES)
                {
                    let value = &record.value;
                    let (bytes, _memory) = self
                        .bytes_of(caller, &admitted, store, layer, value)
                        .await?;
                    record.value = bytes.into();
                }
                return Ok(Some(record));
            }
        }
        Err(ApiError::NotFound)
    }

    pub(super) fn admit_read(
        &self,
        caller: &Principal,
        store: &Arc<dyn Store>,
    ) -> Result<Admitted, ApiError> {
        let reads = Resource::Reads(store.backend());
        Ok(self.gate.admit(caller.tenant(), reads, 1)?)
    }

    pub(super) async fn history_of_tenant(
        &self,
        caller: &Principal,
        request: &HistoryRequest<'_>,
    ) -> Result<(Vec<(Origin, HistoryEntry)>, Option<String>), ApiError> {
        let history = self.history.as_ref().ok_or(ApiError::NoHistory)?;
        // An entry without its value has some hundred bytes.
        let admitted = self.gate.admit(caller.tenant(), Resource::ForcedReads, 1)?;
        let page = history
            .of_tenant(&admitted, request)
            .await
            .map_err(|error| logged(error, "history"))?;
        let own = page
            .entries
            .into_iter()
            .map(|entry| (Origin::Tenant, entry));
        Ok((own.collect(), page.next_after))
    }

    /// The changes of all places of a key, each page by time.
    async fn history_of_key(
        &self,
        caller: &Principal,
        key: &str,
        request: &HistoryRequest<'_>,
    ) -> Result<(Vec<(Origin, HistoryEntry)>, Option<String>), ApiError> {
        let (key, store) = self.route(key)?;
        let layers = store.locate(caller.tenant(), key.name());
        let admitted = self.admit_read(caller, store)?;
        // A cursor is of one place: the tenant's own come first, then those that all share.
        let (index, after) = match request.after.and_then(|after| after.split_once('|')) {
            Some(("1", after)) => (1, Some(after)),
            Some((_, after)) => (0, Some(after)),
            None => (0, None),
        };
        let places: Vec<&Location> = layers.iter().collect();
        let mut found = Vec::new();
        for (place, layer) in places.iter().enumerate().skip(index) {
            let request = HistoryRequest {
                after: after.filter(|after| place == index && !after.is_empty()),
                limit: request.limit - found.len(),
                ..*request
            };
            let page = self
                .entries(&admitted, &key, store, layer, &request)
                .await?;
            let bytes: u64 = page.entries.iter().map(|entry| entry.bytes).sum();
            admitted.charge(store.read_units(bytes) - 1);
            for mut entry in page.entries {
                key.as_str().clone_into(&mut entry.key);
                if layer.origin() == Origin::Global {
                    // Whoever keeps what all tenants share is none of theirs.
                    OPERATOR.clone_into(&mut entry.by);
                    entry.request_id.clear();
                    entry.note.clear();
                }
                found.push((layer.origin(), entry));
            }
            if let Some(next) = page.next_after {
                return Ok((found, Some(format!("{place}|{next}"))));
            }
            if found.len() >= request.limit && place + 1 < places.len() {
                return Ok((found, Some(format!("{}|", place + 1))));
            }
        }
        Ok((found, None))
    }

    /// The changes of one place: what the backend keeps, and the deletions that it does not, or not with who made them.
    async fn entries(
        &self,
        admitted: &Admitted,
        key: &ConfigKey,
        store: &Arc<dyn Store>,
        layer: &Location,
        request: &HistoryRequest<'_>,
    ) -> Result<HistoryPage, ApiError> {
        let of_store = async |request: &HistoryRequest<'_>| {
            let page = store.history(admitted, layer, request).await;
            page.map_err(|error| logged(error, "history"))
        };
        let Some(history) = self.history.as_ref().filter(|_| !store.keeps_history()) else {
            return of_store(request).await;
        };
        // A cursor is the time of what was shown last, and the store's own.
        let (until_ms, after) = match request.after.and_then(|after| after.split_once('~')) {
            Some((until, after)) => (until.parse().unwrap_or(request.until_ms), Some(after)),
            None => (request.until_ms, None),
        };
        let after = after.filter(|after| !after.is_empty());
        let request = HistoryRequest { after, ..*request };
        let page = if after == Some(ENDED) {
            HistoryPage::default()
        } else {
            of_store(&request).await?
        };
        let since_ms = match (&page.next_after, page.entries.last()) {
            (Some(_), Some(last)) => last.at_ms,
            _ => request.since_ms,
        };
        // The store's time of a deletion can be a little after the service's.
        let noted = HistoryRequest {
            since_ms: since_ms.saturating_sub(NEAR_MS),
            until_ms,
            after: None,
            limit: MAX_PAGE,
            values: false,
        };
        let noted = history
            .of_key(admitted, layer, key, &noted)
            .await
            .map_err(|error| logged(error, "history"))?;
        let mut merged: Vec<(bool, HistoryEntry)> = page
            .entries
            .into_iter()
            .map(|entry| (true, entry))
            .collect();
        let mut is_named = vec![false; merged.len()];
        for noted in noted.entries {
            match noted.operation {
                ChangeOperation::Delete => {}
                ChangeOperation::Reject => {
                    if noted.at_ms >= since_ms {
                        insert(&mut merged, &mut is_named, noted);
                    }
                    continue;
                }
                ChangeOperation::Put | ChangeOperation::Rollback => continue,
            }
            let apart = |entry: &HistoryEntry| entry.at_ms.abs_diff(noted.at_ms);
            let kept = (0..merged.len())
                .filter(|index| {
                    let (_, entry) = &merged[*index];
                    !is_named[*index]
                        && entry.operation == ChangeOperation::Delete
                        && apart(entry) <= NEAR_MS.unsigned_abs()
                })
                .min_by_key(|index| apart(&merged[*index].1));
            match kept {
                Some(index) => {
                    merged[index].1 = noted;
                    is_named[index] = true;
                }
                None if noted.at_ms >= since_ms => insert(&mut merged, &mut is_named, noted),
                None => {}
            }
        }
        let mut next = page.next_after;
        if merged.len() > request.limit {
            merged.truncate(request.limit);
            let kept = merged
                .iter()
                .filter(|(is_of_store, _)| *is_of_store)
                .count();
            next = if kept == 0 {
                Some(after.unwrap_or_default().to_owned())
            } else if after == Some(ENDED) {
                None
            } else {
                let limit = kept;
                of_store(&HistoryRequest { limit, ..request })
                    .await?
                    .next_after
            };
            // Only what the store does not have is left.
            next = next.or(Some(ENDED.to_owned()));
        }
        let shown_until_ms = merged.last().map_or(until_ms, |(_, last)| last.at_ms);
        Ok(HistoryPage {
            entries: merged.into_iter().map(|(_, entry)| entry).collect(),
            next_after: next.map(|next| format!("{shown_until_ms}~{next}")),
        })
    }

    /// The bytes of a value that the history gave, and the memory that they take.
    async fn bytes_of(
        &self,
        caller: &Principal,
        admitted: &Admitted,
        store: &Arc<dyn Store>,
        own: &Location,
        value: &Value,
    ) -> Result<(Bytes, AnswerPermit), ApiError> {
        let memory = self.gate.admit_body(caller.tenant(), value.len())?;
        if let Some(bytes) = value.to_bytes() {
            return Ok((bytes, memory));
        }
        let Value::Remote(remote) = value else {
            return Err(ApiError::NoValue);
        };
        admitted.charge(store.read_units(remote.bytes) - 1);
        let mut stream = store
            .open(admitted, own, remote, 0..remote.bytes)
            .await
            .map_err(|error| logged(error, "open"))?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| logged(error, "open"))?);
        }
        Ok((bytes.freeze(), memory))
    }
}

impl Earlier {
    /// One of the two.
    pub(crate) fn of(version: Option<i64>, at_ms: Option<i64>) -> Result<Self, ApiError> {
        match (version, at_ms) {
            (Some(version @ 1..), None) => Ok(Self::Version(version)),
            (None, Some(at_ms)) => Ok(Self::Time(at_ms)),
            _ => Err(ApiError::Invalid(
                "give one of version and time: what to go back to".to_owned(),
            )),
        }
    }
}

/// Among those of a store, which are in its order, by time.
fn insert(merged: &mut Vec<(bool, HistoryEntry)>, is_named: &mut Vec<bool>, noted: HistoryEntry) {
    let place = merged
        .iter()
        .position(|(_, entry)| entry.at_ms <= noted.at_ms);
    let place = place.unwrap_or(merged.len());
    merged.insert(place, (false, noted));
    is_named.insert(place, true);
}

/// The entry of a version at one place.
async fn find_version(
    admitted: &Admitted,
    store: &Arc<dyn Store>,
    layer: &Location,
    version: i64,
) -> Result<Option<HistoryEntry>, ApiError> {
    let near = HistoryRequest {
        since_ms: version.saturating_sub(NEAR_MS),
        until_ms: version.saturating_add(NEAR_MS),
        after: None,
        limit: MAX_PAGE,
        values: true,
    };
    let history = |error| logged(error, "history");
    let is_it = |entry: &HistoryEntry| entry.version == version;
    // An edit past the service often keeps the version of what it replaced: the version names what the service wrote.
    let of = |page: HistoryPage| {
        let mut found: Vec<_> = page.entries.into_iter().filter(is_it).collect();
        let written = found.iter().position(|entry| !entry.role.is_empty());
        (!found.is_empty()).then(|| found.swap_remove(written.unwrap_or_default()))
    };
    // Versions of the service are times.
    if store.order() == Order::ConsistentReads {
        let mut after: Option<String> = None;
        for _ in 0..MAX_NEAR_PAGES {
            let request = HistoryRequest {
                after: after.as_deref(),
                ..near
            };
            let mut page = store
                .history(admitted, layer, &request)
                .await
                .map_err(history)?;
            charge(admitted, store, &page);
            after = page.next_after.take();
            if let Some(entry) = of(page) {
                return Ok(Some(entry));
            }
            if after.is_none() {
                break;
            }
        }
    }
    let mut after: Option<String> = None;
    for _ in 0..MAX_SEARCHED_PAGES {
        let request = HistoryRequest {
            since_ms: 0,
            until_ms: i64::MAX,
            after: after.as_deref(),
            limit: MAX_PAGE,
            values: false,
        };
        let page = store
            .history(admitted, layer, &request)
            .await
            .map_err(history)?;
        if let Some(found) = page.entries.iter().find(|entry| is_it(entry)) {
            let exactly = HistoryRequest {
                since_ms: found.at_ms,
                until_ms: found.at_ms.saturating_add(1),
                ..near
            };
            let page = store
                .history(admitted, layer, &exactly)
                .await
                .map_err(history)?;
            charge(admitted, store, &page);
            return Ok(of(page));
        }
        after = page.next_after;
        if after.is_none() {
            return Ok(None);
        }
    }
    Ok(None)
}

fn charge(admitted: &Admitted, store: &Arc<dyn Store>, page: &HistoryPage) {
    let bytes: usize = page
        .entries
        .iter()
        .filter_map(|entry| Some(entry.value.as_ref()?.held_bytes()))
        .sum();
    admitted.charge(store.read_units(bytes as u64) - 1);
}

fn record_of(entry: HistoryEntry) -> Result<Record, ApiError> {
    let value = entry.value.ok_or(ApiError::NoValue)?;
    let revision = Revision {
        incarnation: 0,
        version: entry.version,
    };
    let content_type = if entry.content_type.is_empty() {
        "application/octet-stream".to_owned()
    } else {
        entry.content_type
    };
    Ok(Record::new(
        value,
        content_type,
        revision,
        Some(entry.at_ms),
    ))
}

fn served(
    key: &ConfigKey,
    store: &Arc<dyn Store>,
    layer: &Location,
    entry: HistoryEntry,
) -> Result<Served, ApiError> {
    if entry.operation == ChangeOperation::Delete {
        return Err(ApiError::NotFound);
    }
    Ok(Served {
        key: key.as_str().to_owned(),
        record: record_of(entry)?,
        origin: layer.origin(),
        source: store.backend(),
        result: ReadResult::miss,
        age: Duration::ZERO,
        permit: AnswerPermit::default(),
    })
}

fn version_of(record: Option<&Record>) -> i64 {
    record.map_or(0, |record| record.revision.version)
}

/// Off the request threads: it may take a quarter of a second.
pub(super) async fn compare(old: Option<Record>, new: Option<Record>) -> Result<Diff, ApiError> {
    let compared = tokio::task::spawn_blocking(move || {
        diff::between(old.as_ref().map(side_of), new.as_ref().map(side_of))
    });
    compared.await.map_err(|_| ApiError::DeadlineExceeded)
}

fn side_of(record: &Record) -> Side<'_> {
    Side {
        value: &record.value,
        content_type: &record.content_type,
        version: record.revision.version,
    }
}

fn check_time(at_ms: i64) -> Result<(), ApiError> {
    if at_ms > unix_ms() {
        return Err(ApiError::Invalid("as_of lies in the future".to_owned()));
    }
    if at_ms <= 0 {
        return Err(ApiError::Invalid("as_of lies before 1970".to_owned()));
    }
    Ok(())
}
