//! The history over REST: `GET /v1/config/<key>:history`, `GET /v1/config/<key>:diff`, `POST /v1/config/<key>:rollback`,
//! `GET /v1/history`, `POST /v1/history:undo`.

use std::borrow::Cow;

use axum::{
    Json,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, de};
use tagged_config_auth::JwksSource;
use tagged_config_domain::{HistoryEntry, Origin, Precondition, Principal, Value};
use tagged_config_web::{Violation, read_body};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Shared, WriteQuery, caller, conditions::Conditions, key_of, problem::violation, rfc3339,
};
use crate::{
    api::{
        ConfigApi,
        breaks::Breaks,
        diff::Diff,
        history::{DryRun, Earlier, HistoryQuery, Outcome, WriteContext},
        undo::{Culprit, Undone},
    },
    cache::Awaited,
    errors::ApiError,
    tasks::TaskReport,
    transport::answer::{HeldMemory, hold},
    transport::grpc::millis,
};

/// After a key in a path: its changes.
pub(super) const HISTORY: &str = ":history";
/// After a key in a path: what differs between two versions.
pub(super) const DIFF: &str = ":diff";
/// After a key in a path: writes an earlier version again.
pub(super) const ROLLBACK: &str = ":rollback";

/// Why, for the history.
const NOTE: HeaderName = HeaderName::from_static("x-change-note");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Largest request of a rollback or an undo, in bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default, deserialize_with = "time")]
    since: Option<i64>,
    #[serde(default, deserialize_with = "time")]
    until: Option<i64>,
    #[serde(default)]
    by: String,
    #[serde(default)]
    page_size: i32,
    #[serde(default)]
    page_token: String,
    #[serde(default)]
    values: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    from: i64,
    #[serde(default)]
    to: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RollbackRequest {
    version: Option<i64>,
    #[serde(default, deserialize_with = "time")]
    as_of: Option<i64>,
    expected_version: Option<i64>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    wait_for_tasks: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UndoRequest {
    #[serde(default)]
    by: String,
    #[serde(default)]
    request_id: String,
    #[serde(default, deserialize_with = "time")]
    since: Option<i64>,
    #[serde(default, deserialize_with = "time")]
    until: Option<i64>,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    execute: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryPage<'a> {
    entries: Vec<Entry<'a>>,
    next_page_token: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    key: &'a str,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_version: Option<i64>,
    at: Option<String>,
    operation: &'static str,
    by: &'a str,
    role: &'a str,
    request_id: &'a str,
    note: &'a str,
    bytes: u64,
    sha256: &'a str,
    content_type: &'a str,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    /// "base64" where the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

/// What a dry run answers.
#[derive(Serialize)]
struct DryAnswer<'a> {
    key: &'a str,
    version: i64,
    #[serde(rename = "dryRun")]
    effect: DryEffect,
}

#[derive(Serialize)]
struct DryEffect {
    effect: &'static str,
    diff: WireDiff,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<SchemaEffect>,
}

/// What a new schema would break.
#[derive(Serialize)]
struct SchemaEffect {
    breaks: Vec<BrokenKey>,
    checked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    others: Option<OtherTenants>,
    complete: bool,
}

#[derive(Serialize)]
struct BrokenKey {
    key: String,
    violations: Vec<Violation>,
}

#[derive(Serialize)]
struct OtherTenants {
    breaks: u64,
    checked: u64,
}

#[derive(Serialize)]
struct WireDiff {
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Vec<serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Serialize)]
struct DiffAnswer<'a> {
    key: &'a str,
    from: i64,
    to: i64,
    diff: WireDiff,
}

#[derive(Serialize)]
struct Done<'a> {
    key: &'a str,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<TasksAnswer>,
}

/// Where a change has arrived.
#[derive(Serialize)]
pub(super) struct TasksAnswer {
    summary: String,
    live: bool,
    /// Until all had it, or the wait ended.
    milliseconds: i64,
    tasks: Vec<TaskAnswer>,
}

#[derive(Serialize)]
struct TaskAnswer {
    task: String,
    live: bool,
    milliseconds: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct UndoAnswer {
    executed: bool,
    keys: Vec<UndoneKey>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UndoneKey {
    key: String,
    current_version: i64,
    restored_version: i64,
    version: i64,
    diff: WireDiff,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What a caller says of a write beside the write itself: the request's id, and why.
pub(super) fn context(headers: &HeaderMap) -> Result<WriteContext, ApiError> {
    // UTF-8, or ISO 8859-1, as HTTP had it once, and as an edge may make of it.
    let text = |name: &HeaderName| {
        let bytes = headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().copied().map(char::from).collect(),
        }
    };
    WriteContext::new(text(&REQUEST_ID), text(&NOTE))
}

/// A dry run's answer.
pub(super) fn dry(key: &str, dry: DryRun) -> Response {
    let answer = DryAnswer {
        key,
        version: dry.version,
        effect: DryEffect {
            effect: dry.effect.as_str(),
            diff: WireDiff::of(dry.diff),
            schema: dry.breaks.map(SchemaEffect::of),
        },
    };
    Json(answer).into_response()
}

/// Waits for the tasks, if that is wanted.
pub(super) async fn tasks(
    api: &ConfigApi,
    caller: &Principal,
    key: &str,
    done: Awaited,
    wait: bool,
) -> Result<Option<TasksAnswer>, ApiError> {
    if !wait {
        return Ok(None);
    }
    let report = api.wait_for_tasks(caller, key, done).await?;
    Ok(Some(TasksAnswer {
        summary: report.summary(),
        live: report.is_live(),
        milliseconds: millis(report.after),
        tasks: report.tasks.into_iter().map(TaskAnswer::of).collect(),
    }))
}

/// A time of RFC 3339, as unix milliseconds.
pub(super) fn millis_of(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| {
        millis_of(&text)
            .ok_or_else(|| de::Error::custom("a time has the form 2026-01-02T03:04:05Z (RFC 3339)"))
    })
    .transpose()
}

/// `key` empty: of the tenant.
pub(super) async fn list<S: JwksSource>(
    State(state): Shared<S>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let key = key_before(&uri, HISTORY)?;
    let query: ListQuery = query_of(&uri)?;
    let query = HistoryQuery {
        since_ms: query.since.unwrap_or(0),
        until_ms: query.until.unwrap_or(i64::MAX),
        by: query.by,
        page_size: query.page_size,
        page_token: query.page_token,
        values: query.values,
    };
    let mut found = state.api.history(&caller, &key, &query).await?;
    let memory = HeldMemory::of(std::mem::take(&mut found.permit));
    let page = HistoryPage {
        entries: found.entries.iter().map(Entry::of).collect(),
        next_page_token: &found.next_page_token,
    };
    Ok(hold(Json(page).into_response(), memory, Body::new))
}

pub(super) async fn diff<S: JwksSource>(
    State(state): Shared<S>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let key = key_before(&uri, DIFF)?;
    let DiffQuery { from, to } = query_of(&uri)?;
    let diff = state.api.diff(&caller, &key, from, to).await?;
    let diff = WireDiff::of(diff);
    let key = &key;
    Ok(Json(DiffAnswer {
        key,
        from,
        to,
        diff,
    })
    .into_response())
}

pub(super) async fn rollback<S: JwksSource>(
    State(state): Shared<S>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let key = key_before(&uri, ROLLBACK)?;
    let context = context(&headers)?;
    let request: RollbackRequest = json_of(
        body,
        "{\"version\": ...} or {\"asOf\": ...}, with \"expectedVersion\" and \"dryRun\" if wanted",
    )
    .await?;
    let query: WriteQuery = query_of(&uri)?;
    let (dry_run, wait) = (
        request.dry_run || query.dry_run,
        request.wait_for_tasks || query.wait_for_tasks,
    );
    let to = Earlier::of(request.version, request.as_of)?;
    let conditions = Conditions::of(&headers)?.of_write();
    let precondition = match request.expected_version {
        None => Precondition::None,
        Some(0) => Precondition::Absent,
        Some(version @ 1..) => Precondition::Version(version),
        Some(_) => {
            let problem = "expectedVersion must not be negative";
            return Err(ApiError::Invalid(problem.to_owned()));
        }
    };
    let precondition = precondition.and(conditions);
    let api = std::sync::Arc::clone(&state.api);
    let rolled_back = {
        let (caller, key) = (std::sync::Arc::clone(&caller), key.clone());
        async move {
            api.rollback(&caller, &key, to, precondition, &context, dry_run)
                .await
        }
    };
    Ok(match state.writes.run_to_end(rolled_back).await? {
        Outcome::Done(done) => {
            let tasks = tasks(&state.api, &caller, &key, done, wait).await?;
            let (key, version) = (&key, done.version());
            Json(Done {
                key,
                version,
                tasks,
            })
            .into_response()
        }
        Outcome::Dry(result) => dry(&key, result),
    })
}

pub(super) async fn undo<S: JwksSource>(
    State(state): Shared<S>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let context = context(&headers)?;
    let query: WriteQuery = query_of(&uri)?;
    let request: UndoRequest = json_of(
        body,
        "{\"by\": ..., \"since\": ..., \"until\": ..., \"execute\": ...} or {\"requestId\": ..., \"execute\": ...}",
    )
    .await?;
    let (culprit, window) =
        Culprit::of(request.by, request.request_id, request.since, request.until)?;
    let api = std::sync::Arc::clone(&state.api);
    let undo = async move {
        let execute = request.execute && !query.dry_run;
        api.undo(
            &caller,
            &culprit,
            window,
            &request.prefix,
            &context,
            execute,
        )
        .await
    };
    let (keys, executed) = state.writes.run_to_end(undo).await?;
    let keys = keys.into_iter().map(UndoneKey::of).collect();
    Ok(Json(UndoAnswer { executed, keys }).into_response())
}

/// The key before what a path ends with; empty if there is none in it.
fn key_before(uri: &Uri, end: &str) -> Result<String, ApiError> {
    if !uri.path().contains("/v1/config/") {
        return Ok(String::new());
    }
    let key = key_of(uri.path())?;
    match key.strip_suffix(end).unwrap_or(&key) {
        "" => Err(ApiError::Invalid("the path has no key".to_owned())),
        key => Ok(key.to_owned()),
    }
}

fn query_of<T: de::DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let Query(query) =
        Query::try_from_uri(uri).map_err(|problem| ApiError::Invalid(problem.body_text()))?;
    Ok(query)
}

async fn json_of<T: de::DeserializeOwned>(body: Body, form: &str) -> Result<T, ApiError> {
    let body = read_body(body, MAX_REQUEST_BYTES).await?;
    serde_json::from_slice(&body)
        .map_err(|problem| ApiError::Invalid(format!("the body must be {form}: {problem}")))
}

impl<'a> Entry<'a> {
    fn of((origin, entry): &'a (Origin, HistoryEntry)) -> Self {
        let (value, encoding) = match &entry.value {
            None | Some(Value::Remote(_)) => (None, None),
            Some(Value::Text(text)) => (Some(Cow::Borrowed(&**text)), None),
            Some(Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => (Some(Cow::Borrowed(text)), None),
                Err(_) => (Some(BASE64.encode(bytes).into()), Some("base64")),
            },
        };
        Self {
            key: &entry.key,
            version: entry.version,
            previous_version: entry.previous,
            at: rfc3339(entry.at_ms),
            operation: entry.operation.as_str(),
            by: &entry.by,
            role: &entry.role,
            request_id: &entry.request_id,
            note: &entry.note,
            bytes: entry.bytes,
            sha256: &entry.sha256,
            content_type: &entry.content_type,
            origin: origin.as_str(),
            value,
            encoding,
        }
    }
}

impl TaskAnswer {
    fn of(report: TaskReport) -> Self {
        Self {
            task: report.task,
            live: report.is_live,
            milliseconds: millis(report.after),
            problem: report.problem,
        }
    }
}

impl SchemaEffect {
    fn of(breaks: Breaks) -> Self {
        let own = breaks.own.into_iter().map(|(key, broken)| BrokenKey {
            key,
            violations: broken.iter().map(violation).collect(),
        });
        Self {
            breaks: own.collect(),
            checked: breaks.checked,
            others: breaks
                .others
                .map(|(checked, breaks)| OtherTenants { breaks, checked }),
            complete: breaks.is_complete,
        }
    }
}

impl WireDiff {
    fn of(diff: Diff) -> Self {
        let format = diff.format();
        let (patch, text) = match diff {
            Diff::Json(patch) => (Some(patch), None),
            Diff::Text(text) => (None, Some(text)),
            Diff::Same | Diff::Bytes { .. } | Diff::TooLarge { .. } => (None, None),
        };
        Self {
            format,
            patch,
            text,
        }
    }
}

impl UndoneKey {
    fn of(undone: Undone) -> Self {
        Self {
            key: undone.key,
            current_version: undone.current,
            restored_version: undone.restored,
            version: undone.version,
            diff: WireDiff::of(undone.diff),
            problem: undone.problem,
        }
    }
}
