//! The REST facade and the operators' endpoints. The contract is `openapi.yaml` beside this file's crate.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http_body::Body as _;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tagged_config_auth::{Authenticator, JwksSource};
use tagged_config_domain::{Origin, Principal, StoreError, Value};
use tagged_config_runtime::{env::PathPrefix, shutdown::Readiness, telemetry};
use tagged_config_web::{
    authorization,
    cors::{AllowedOrigins, cors},
    discard_body, health, layered, read_body,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::{
    api::{ConfigApi, Fallback, Served, admit_json},
    cache::Awaited,
    errors::ApiError,
    telemetry::metrics::{Metrics, ReadResult},
    transport::{
        answer::{HeldMemory, hold},
        etag::EntityTag,
        grpc::millis,
        http::{
            conditions::{Conditions, Outcome},
            problem::Problem,
        },
        writes::Writes,
    },
};

mod conditions;
pub(crate) mod history;
mod problem;
mod raw;
#[cfg(test)]
mod tests;

/// The contract, as it is served.
const OPENAPI: &str = include_str!("../../openapi.yaml");
/// Largest batch request, in bytes: 100 keys of the longest kind, with room.
const MAX_BATCH_BYTES: usize = 64 * 1024;

/// After a key in a path: the value alone, to the byte and with its own content type. No key has a colon.
const RAW: &str = ":raw";

const CACHE: HeaderName = HeaderName::from_static("x-config-cache");
const AGE_MS: HeaderName = HeaderName::from_static("x-config-age-ms");
const VERSION: HeaderName = HeaderName::from_static("x-config-version");
const SOURCE: HeaderName = HeaderName::from_static("x-config-source");
const ORIGIN: HeaderName = HeaderName::from_static("x-config-origin");
const SERVED_BY: HeaderName = HeaderName::from_static("x-config-served-by");
const STALENESS_BOUND_MS: HeaderName = HeaderName::from_static("x-config-staleness-bound-ms");
const JOURNAL_BOUND_MS: HeaderName = HeaderName::from_static("x-config-journal-bound-ms");
/// Only where the value is the last good one, and what lies in the store breaks its schema.
const INVALID_NEW_VERSION: HeaderName = HeaderName::from_static("x-config-invalid-new-version");
/// What a page of another origin may read, beside what every answer has.
const EXPOSED: [HeaderName; 13] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::CONTENT_RANGE,
    header::ETAG,
    CACHE,
    AGE_MS,
    VERSION,
    SOURCE,
    ORIGIN,
    SERVED_BY,
    STALENESS_BOUND_MS,
    JOURNAL_BOUND_MS,
    INVALID_NEW_VERSION,
];

/// Values and errors are the caller's alone, and only a value has a tag by which it can be used again.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Kept by the caller alone, and revalidated each time.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// What the handlers share.
pub(crate) struct HttpState<S> {
    /// The operations.
    pub api: Arc<ConfigApi>,
    /// Who calls.
    pub authenticator: Arc<Authenticator<S>>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// The writes under way.
    pub writes: Writes,
}

type Shared<S> = State<Arc<HttpState<S>>>;

/// A configuration in JSON. Its entity tag covers all but the freshness.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    key: &'a str,
    /// Left out where it is large; `bytes` says how large.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    /// "base64" where the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    content_type: &'a str,
    version: i64,
    source: &'static str,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    #[serde(flatten)]
    freshness: Option<Freshness<'a>>,
}

/// How fresh an entry is: differs from answer to answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Freshness<'a> {
    cached: bool,
    stale: bool,
    age_ms: i64,
    served_by: &'a str,
    staleness_bound_ms: i64,
    journal_bound_ms: i64,
    /// The value is the last good one: what lies in the store was written past this service and breaks its schema.
    #[serde(skip_serializing_if = "is_false")]
    invalid_new_version: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    key: String,
    version: i64,
    /// The tag that GET gives of what was written. No header: a PUT's answer may carry the tag of the representation
    /// that was sent only if that is stored as it is (RFC 9110, section 9.3.4), and GET wraps it in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// With `wait_for_tasks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<history::TasksAnswer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    entries: Vec<Entry<'a>>,
    errors: Vec<KeyProblem>,
    next_page_token: String,
}

#[derive(Serialize)]
struct Batch<'a> {
    entries: Vec<Entry<'a>>,
    missing: Vec<String>,
    errors: Vec<KeyProblem>,
}

#[derive(Serialize)]
struct KeyProblem {
    key: String,
    #[serde(flatten)]
    problem: Problem,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct GetQuery {
    #[serde(default, alias = "minVersion", alias = "min-version")]
    min_version: i64,
    #[serde(default = "yes")]
    freshness: bool,
    /// What the key held at this version.
    version: Option<i64>,
    /// What it held at this time (RFC 3339).
    #[serde(alias = "asOf", alias = "as-of")]
    as_of: Option<String>,
}

#[derive(Deserialize)]
struct WriteQuery {
    /// Also as in bodies: a dry run that is misspelt would write.
    #[serde(default, alias = "dryRun", alias = "dry-run", alias = "dryrun")]
    dry_run: bool,
    #[serde(default, alias = "waitForTasks", alias = "wait-for-tasks")]
    wait_for_tasks: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    page_size: i32,
    #[serde(default)]
    page_token: String,
    /// What the keys held at this time (RFC 3339).
    #[serde(alias = "asOf", alias = "as-of")]
    as_of: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

fn yes() -> bool {
    true
}

/// All routes, with and without what an edge puts before them.
pub(crate) fn router<S: JwksSource>(
    state: Arc<HttpState<S>>,
    prefix: Option<&PathPrefix>,
    origins: &AllowedOrigins,
) -> Router {
    let routes = routes(state);
    let routes = match prefix {
        Some(prefix) => routes.clone().nest(prefix.as_str(), routes),
        None => routes,
    };
    cors(routes, origins, EXPOSED)
}

fn routes<S: JwksSource>(state: Arc<HttpState<S>>) -> Router {
    let config = get(get_config::<S>)
        .put(put_config::<S>)
        .delete(delete_config::<S>)
        .post(post_config::<S>);
    let routes = Router::new()
        .route("/v1/config/{*key}", config)
        .route("/v1/config/", get(no_key).put(no_key).delete(no_key))
        .route("/v1/config", get(list_config::<S>))
        .route("/v1/config:batchGet", post(batch_get::<S>))
        .route("/v1/history", get(history::list::<S>))
        .route("/v1/history:undo", post(history::undo::<S>))
        .route(
            "/openapi.yaml",
            get(async || ([(header::CONTENT_TYPE, "application/yaml")], OPENAPI)),
        )
        .merge(health::routes(state.readiness.clone()))
        // The one path that the edge lets through without a token: whether a call gets here at all.
        .route("/v1/health", get(health::alive))
        .route("/metrics", get(metrics::<S>))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no-such-path", "No such path"))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            NO_STORE,
        ))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::VARY,
            HeaderValue::from_static("authorization"),
        ))
        .with_state(state);
    layered(routes)
}

async fn get_config<S: JwksSource>(
    State(state): Shared<S>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<GetQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let key = key_of(uri.path())?;
    if key.ends_with(history::HISTORY) {
        return history::list(State(state), uri, headers).await;
    }
    if key.ends_with(history::DIFF) {
        return history::diff(State(state), uri, headers).await;
    }
    if key.ends_with(history::ROLLBACK) {
        return Ok(method_not_allowed(method, uri).await);
    }
    let caller = caller(&state, &headers).await?;
    let (key, is_raw) = match key.strip_suffix(RAW) {
        Some(key) => (key, true),
        None => (&*key, false),
    };
    let conditions = Conditions::of(&headers)?;
    let Query(query) = query.map_err(|e| ApiError::Invalid(e.body_text()))?;
    let read = state
        .api
        .get(&caller, key, query.min_version, Fallback::Within(None));
    let served = match (query.version, &query.as_of) {
        (None, None) => read.await?,
        (Some(version), None) if query.min_version == 0 => {
            Box::pin(state.api.at_version(&caller, key, version)).await?
        }
        (None, Some(time)) if query.min_version == 0 => {
            Box::pin(state.api.as_of(&caller, key, time_of(time)?)).await?
        }
        _ => {
            let problem = "give one of version, as_of and min_version";
            return Err(ApiError::Invalid(problem.to_owned()));
        }
    };
    let tag = EntityTag::of(served.origin, &served.record).to_string();
    let memory;
    let mut response = match conditions.of_read(&tag) {
        Outcome::Content if is_raw => {
            let wanted = if method == Method::HEAD {
                raw::Wanted::Head
            } else {
                raw::Wanted::of(&headers, &tag)
            };
            raw::answer(&state.api, &caller, &served, wanted).await?
        }
        // Without the length of a body that is not made.
        Outcome::Content if method == Method::HEAD => {
            let json = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, json)], Body::empty()).into_response()
        }
        Outcome::Content => {
            let mut whole = state.api.whole(&caller, served).await?;
            memory = HeldMemory::of(admit_json(&state.api, &caller, &mut whole)?);
            let freshness = query.freshness.then(|| freshness(&state.api, &whole));
            let mut response = Json(entry(&whole, freshness)).into_response();
            describe(response.headers_mut(), &state.api, &whole, tag);
            return Ok(hold(response, memory, Body::new));
        }
        Outcome::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Outcome::Failed => {
            let current = Some(served.record.revision.version);
            return Err(StoreError::Conflict { current }.into());
        }
    };
    describe(response.headers_mut(), &state.api, &served, tag);
    Ok(response)
}

async fn put_config<S: JwksSource>(
    State(state): Shared<S>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<WriteQuery>, axum::extract::rejection::QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let key = key_of(uri.path())?;
    if is_no_key(&key) {
        return Ok(method_not_allowed(method, uri).await);
    }
    let Query(query) = query.map_err(|e| ApiError::Invalid(e.body_text()))?;
    let context = history::context(&headers)?;
    let precondition = Conditions::of(&headers)?.of_write();
    let content_type = match headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) {
        // The second is what `curl -d` says of whatever it sends: nobody keeps a form as configuration.
        None | Some(Ok("application/x-www-form-urlencoded")) => "",
        Some(Ok(given)) => given,
        Some(Err(_)) => return Err(ApiError::Invalid("Content-Type is not text".to_owned())),
    };
    let limit = state.api.max_value_bytes(&key)?;
    let announced = body.size_hint().exact().unwrap_or(limit as u64);
    let memory = match state
        .api
        .admit_body(caller.tenant(), announced.min(limit as u64))
    {
        Ok(memory) => memory,
        Err(refused) => {
            discard_body(body, limit).await;
            return Err(refused.into());
        }
    };
    let value = read_body(body, limit).await?;
    if query.dry_run {
        let dry = state
            .api
            .dry_put(&caller, &key, value, content_type, &precondition)
            .await?;
        return Ok(history::dry(&key, dry));
    }
    let written = {
        let api = Arc::clone(&state.api);
        let (key, content_type) = (key.clone().into_owned(), content_type.to_owned());
        let caller = Arc::clone(&caller);
        let put = async move {
            let _until_written = memory;
            api.put(&caller, &key, value, &content_type, precondition, &context)
                .await
        };
        state.writes.run_to_end(put).await?
    };
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let version = written.record.revision.version;
    let done = Awaited::Written(version);
    let tasks = history::tasks(&state.api, &caller, &key, done, query.wait_for_tasks).await?;
    let written = Written {
        key: key.into_owned(),
        version,
        etag: Some(EntityTag::of(Origin::Tenant, &written.record).to_string()),
        tasks,
    };
    Ok((status, Json(written)).into_response())
}

async fn delete_config<S: JwksSource>(
    State(state): Shared<S>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<WriteQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let key = key_of(uri.path())?;
    if is_no_key(&key) {
        return Ok(method_not_allowed(method, uri).await);
    }
    let Query(query) = query.map_err(|e| ApiError::Invalid(e.body_text()))?;
    let context = history::context(&headers)?;
    let precondition = Conditions::of(&headers)?.of_write();
    if query.dry_run {
        let dry = state.api.dry_delete(&caller, &key, &precondition).await?;
        return Ok(history::dry(&key, dry));
    }
    let version = {
        let (api, key) = (Arc::clone(&state.api), key.clone().into_owned());
        let caller = Arc::clone(&caller);
        let delete = async move { api.delete(&caller, &key, precondition, &context).await };
        state.writes.run_to_end(delete).await?
    };
    let done = Awaited::Deleted(version);
    let tasks = history::tasks(&state.api, &caller, &key, done, query.wait_for_tasks).await?;
    Ok(Json(Written {
        key: key.into_owned(),
        version,
        etag: None,
        tasks,
    })
    .into_response())
}

async fn post_config<S: JwksSource>(
    State(state): Shared<S>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    if key_of(uri.path())?.ends_with(history::ROLLBACK) {
        return history::rollback(State(state), uri, headers, body).await;
    }
    Ok(method_not_allowed(method, uri).await)
}

async fn list_config<S: JwksSource>(
    State(state): Shared<S>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let Query(query) = query.map_err(|e| ApiError::Invalid(e.body_text()))?;
    let (prefix, size, token) = (&query.prefix, query.page_size, &query.page_token);
    let mut listed = match &query.as_of {
        None => state.api.list(&caller, prefix, size, token).await?,
        Some(time) => {
            let at_ms = time_of(time)?;
            state
                .api
                .list_as_of(&caller, prefix, size, token, at_ms)
                .await?
        }
    };
    let memory = HeldMemory::of(std::mem::take(&mut listed.permit));
    let page = Page {
        entries: entries(&state.api, &listed.entries),
        errors: listed.errors.into_iter().map(KeyProblem::new).collect(),
        next_page_token: listed.next_page_token,
    };
    Ok(hold(Json(page).into_response(), memory, Body::new))
}

async fn batch_get<S: JwksSource>(
    State(state): Shared<S>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = caller(&state, &headers).await?;
    let body = read_body(body, MAX_BATCH_BYTES).await?;
    let request: BatchRequest = serde_json::from_slice(&body)
        .map_err(|e| ApiError::Invalid(format!("the body must be {{\"keys\": [...]}}: {e}")))?;
    let mut found = state
        .api
        .batch(&caller, request.keys, Fallback::Within(None))
        .await?;
    let memory = HeldMemory::of(std::mem::take(&mut found.permit));
    let batch = Batch {
        entries: entries(&state.api, &found.entries),
        missing: found.missing,
        errors: found.errors.into_iter().map(KeyProblem::new).collect(),
    };
    Ok(hold(Json(batch).into_response(), memory, Body::new))
}

async fn metrics<S: JwksSource>(State(state): Shared<S>) -> Response {
    state.metrics.set_keys_age(state.authenticator.keys_age());
    let text = state.metrics.exposition(state.api.gauges());
    (
        [(
            header::CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

async fn no_key() -> ApiError {
    ApiError::Invalid(
        "the path has no key: /v1/config/<key>, or /v1/config?prefix= to list".to_owned(),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let title = format!("{method} is not offered here");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title);
    let allowed = key_of(uri.path()).map(|key| {
        // A value is written without its wrapping, under its key.
        if [RAW, history::HISTORY, history::DIFF]
            .iter()
            .any(|end| key.ends_with(end))
        {
            "GET,HEAD"
        } else if key.ends_with(history::ROLLBACK) {
            "POST"
        } else {
            "GET,HEAD,PUT,DELETE"
        }
    });
    match allowed {
        Ok(allowed) => {
            let allow = [(header::ALLOW, HeaderValue::from_static(allowed))];
            (allow, problem).into_response()
        }
        Err(_) => problem.into_response(),
    }
}

/// Whether a path names something of a key, and not the key.
fn is_no_key(key: &str) -> bool {
    [RAW, history::HISTORY, history::DIFF, history::ROLLBACK]
        .iter()
        .any(|end| key.ends_with(end))
}

fn time_of(text: &str) -> Result<i64, ApiError> {
    history::millis_of(text).ok_or_else(|| {
        ApiError::Invalid("as_of has the form 2026-01-02T03:04:05Z (RFC 3339)".to_owned())
    })
}

async fn caller<S: JwksSource>(
    state: &HttpState<S>,
    headers: &HeaderMap,
) -> Result<Arc<Principal>, ApiError> {
    state
        .authenticator
        .authenticate(authorization(headers))
        .await
        .map_err(|error| {
            tracing::debug!(reason = telemetry::chain(&error), "unauthenticated");
            error.into()
        })
}

/// The key in the path, percent-decoded once (RFC 3986, section 2.4), so that `%2F` is `/`. The grammar refuses what is
/// encoded twice, and segments that are dots.
fn key_of(path: &str) -> Result<Cow<'_, str>, ApiError> {
    let invalid = |problem: &str| ApiError::Invalid(problem.to_owned());
    let key = path
        .strip_prefix("/v1/config/")
        .ok_or_else(|| invalid("the path has no key"))?;
    percent_decode_str(key)
        .decode_utf8()
        .map_err(|_| invalid("the key in the path is not UTF-8"))
}

fn entries<'a>(api: &'a ConfigApi, served: &'a [Served]) -> Vec<Entry<'a>> {
    served
        .iter()
        .map(|served| entry(served, Some(freshness(api, served))))
        .collect()
}

fn entry<'a>(served: &'a Served, freshness: Option<Freshness<'a>>) -> Entry<'a> {
    let (value, encoding, bytes) = match &served.record.value {
        Value::Text(text) => (Some(Cow::Borrowed(&**text)), None, None),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (Some(Cow::Borrowed(text)), None, None),
            Err(_) => (Some(BASE64.encode(bytes).into()), Some("base64"), None),
        },
        Value::Remote(remote) => (None, None, Some(remote.bytes)),
    };
    Entry {
        key: &served.key,
        value,
        encoding,
        bytes,
        content_type: &served.record.content_type,
        version: served.record.revision.version,
        source: served.source.0,
        origin: served.origin.as_str(),
        last_modified: served.record.modified_ms.and_then(rfc3339),
        freshness,
    }
}

fn freshness<'a>(api: &'a ConfigApi, served: &Served) -> Freshness<'a> {
    Freshness {
        cached: served.result == ReadResult::hit,
        stale: served.result == ReadResult::stale,
        age_ms: millis(served.age),
        served_by: api.instance(),
        staleness_bound_ms: millis(api.staleness_bound()),
        journal_bound_ms: api.journal_bound().map_or(0, millis),
        invalid_new_version: served.record.is_instead(),
    }
}

/// How fresh an answer is, and which it is: for a value and for "not modified" alike.
fn describe(headers: &mut HeaderMap, api: &ConfigApi, served: &Served, tag: String) {
    let text = HeaderValue::from_static;
    headers.reserve(16);
    // A secret is kept nowhere.
    let kept = if served.record.secret {
        NO_STORE
    } else {
        REVALIDATE
    };
    headers.insert(header::CACHE_CONTROL, kept);
    headers.insert(header::AGE, served.age.as_secs().into());
    headers.insert(CACHE, text(served.result.as_str()));
    headers.insert(AGE_MS, millis(served.age).into());
    headers.insert(VERSION, served.record.revision.version.into());
    headers.insert(SOURCE, text(served.source.0));
    headers.insert(ORIGIN, text(served.origin.as_str()));
    insert(headers, SERVED_BY, api.instance().to_owned());
    headers.insert(STALENESS_BOUND_MS, millis(api.staleness_bound()).into());
    let journal_bound = api.journal_bound().map_or(0, millis);
    headers.insert(JOURNAL_BOUND_MS, journal_bound.into());
    if served.record.is_instead() {
        headers.insert(INVALID_NEW_VERSION, text("true"));
    }
    insert(headers, header::ETAG, tag);
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn rfc3339(ms: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()?
        .format(&Rfc3339)
        .ok()
}

impl KeyProblem {
    fn new((key, error): (String, ApiError)) -> Self {
        Self {
            key,
            problem: Problem::from(&error),
        }
    }
}
