//! The history over gRPC: conversions.

use prost_types::Timestamp;
use tagged_config_domain::{HistoryEntry, Origin, Value};
use tagged_config_proto::v1::{
    self as pb, ListHistoryRequest, ListHistoryResponse, UndoChangesResponse, UndoneKey,
};
use tonic::metadata::MetadataMap;

use super::key_error;
use crate::{
    api::{
        breaks::Breaks,
        diff::Diff,
        history::{Changes, DryRun, HistoryQuery, WriteContext},
        undo::Undone,
    },
    errors::ApiError,
};

/// What a caller says of a write beside the write itself.
pub(super) fn context(metadata: &MetadataMap, note: String) -> Result<WriteContext, ApiError> {
    let id = metadata.get("x-request-id").and_then(|id| id.to_str().ok());
    WriteContext::new(id.unwrap_or_default().to_owned(), note)
}

/// Unix milliseconds.
pub(super) fn millis_of(time: &Timestamp) -> Result<i64, ApiError> {
    let invalid = || ApiError::Invalid("a time lies outside of what can be told".to_owned());
    let seconds = time.seconds.checked_mul(1_000).ok_or_else(invalid)?;
    seconds
        .checked_add(i64::from(time.nanos / 1_000_000))
        .ok_or_else(invalid)
}

/// The same of a time that may be absent.
pub(super) fn optional_millis(time: Option<&Timestamp>) -> Result<Option<i64>, ApiError> {
    time.map(millis_of).transpose()
}

pub(super) fn query(request: ListHistoryRequest) -> Result<(String, HistoryQuery), ApiError> {
    let query = HistoryQuery {
        since_ms: optional_millis(request.since.as_ref())?.unwrap_or(0),
        until_ms: optional_millis(request.until.as_ref())?.unwrap_or(i64::MAX),
        by: request.by,
        page_size: request.page_size,
        page_token: request.page_token,
        values: request.values,
    };
    Ok((request.key, query))
}

pub(super) fn listed(found: Changes) -> ListHistoryResponse {
    ListHistoryResponse {
        entries: found.entries.into_iter().map(entry).collect(),
        next_page_token: found.next_page_token,
    }
}

fn entry((origin, entry): (Origin, HistoryEntry)) -> pb::HistoryEntry {
    let mut message = pb::HistoryEntry {
        key: entry.key,
        version: entry.version,
        previous_version: entry.previous,
        at: Some(timestamp(entry.at_ms)),
        operation: entry.operation.as_str().to_owned(),
        by: entry.by,
        role: entry.role,
        request_id: entry.request_id,
        note: entry.note,
        bytes: i64::try_from(entry.bytes).unwrap_or(i64::MAX),
        sha256: entry.sha256,
        content_type: entry.content_type,
        origin: origin.as_str().to_owned(),
        ..Default::default()
    };
    match entry.value {
        Some(Value::Text(text)) => text.as_ref().clone_into(&mut message.value),
        Some(Value::Bytes(bytes)) => message.data = bytes,
        Some(Value::Remote(_)) | None => {}
    }
    message
}

pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1_000),
        nanos: i32::try_from(ms.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
    }
}

pub(super) fn diff(diff: Diff) -> pb::Diff {
    let format = diff.format().to_owned();
    let text = match diff {
        Diff::Json(patch) => serde_json::Value::Array(patch).to_string(),
        Diff::Text(text) => text,
        Diff::Same | Diff::Bytes { .. } | Diff::TooLarge { .. } => String::new(),
    };
    pb::Diff { format, text }
}

pub(super) fn dry(dry: DryRun) -> pb::DryRun {
    pb::DryRun {
        effect: dry.effect.as_str().to_owned(),
        diff: Some(diff(dry.diff)),
        schema: dry.breaks.map(schema_effect),
    }
}

fn schema_effect(breaks: Breaks) -> pb::SchemaEffect {
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    let (others_checked, others_breaking) = breaks.others.unwrap_or_default();
    let own = breaks
        .own
        .into_iter()
        .map(|(key, broken)| (key, ApiError::BreaksSchema(broken)));
    pb::SchemaEffect {
        breaks: own.map(key_error).collect(),
        checked: count(breaks.checked),
        others_checked: count(others_checked),
        others_breaking: count(others_breaking),
        complete: breaks.is_complete,
    }
}

pub(super) fn undone((keys, executed): (Vec<Undone>, bool)) -> UndoChangesResponse {
    let keys = keys.into_iter().map(|key| UndoneKey {
        key: key.key,
        current_version: key.current,
        restored_version: key.restored,
        version: key.version,
        diff: Some(diff(key.diff)),
        problem: key.problem.unwrap_or_default(),
    });
    UndoChangesResponse {
        keys: keys.collect(),
        executed,
    }
}
