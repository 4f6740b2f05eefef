//! `GET /v1/config/<key>:raw`: the value alone, to the byte, with its own content type, whole or a part of it. What is not in memory is
//! passed through as it arrives.

use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use http_range_header::{EndPosition, StartPosition, parse_range_header};
use tagged_config_domain::{Principal, Value};

use super::problem::Problem;
use crate::{
    api::{ConfigApi, Served},
    errors::ApiError,
    transport::answer::{HeldMemory, hold},
};

/// What API Gateway passes in one answer, in bytes.
const EDGE_BYTES: u64 = 10_000_000;
/// A page that opens a value runs none of it.
const HARMLESS: [(HeaderName, HeaderValue); 3] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    ),
];

/// Which part of the value the caller asks for.
pub(super) enum Wanted<'a> {
    /// None of it.
    Head,
    /// All of it.
    Whole,
    /// What this `Range` header says.
    Part(&'a str),
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    /// What a GET asks for. A part of another value than the one that it knows (`If-Range`) is of no use to a caller.
    pub(super) fn of(headers: &'a HeaderMap, tag: &str) -> Self {
        let text = |name| headers.get(name).map(|value| value.to_str().ok());
        let Some(Some(range)) = text(header::RANGE) else {
            return Self::Whole;
        };
        match text(header::IF_RANGE) {
            Some(known) if known != Some(tag) => Self::Whole,
            _ => Self::Part(range),
        }
    }

    /// The bytes to send and whether they are a part; `None` if the value has no such part. Several ranges, and what is no
    /// range, are answered with the whole value (RFC 9110, section 14.2).
    fn range(&self, bytes: u64) -> Option<(Range<u64>, bool)> {
        let whole = Some((0..bytes, false));
        let Self::Part(text) = self else {
            return whole;
        };
        let parsed = parse_range_header(text).ok();
        let Some([one]) = parsed.as_ref().map(|parsed| parsed.ranges.as_slice()) else {
            return whole;
        };
        let range = match (one.start, one.end) {
            (StartPosition::Index(first), EndPosition::Index(last)) if last < first => {
                return whole;
            }
            (StartPosition::Index(first), EndPosition::Index(last)) => {
                first..last.saturating_add(1).min(bytes)
            }
            (StartPosition::Index(first), EndPosition::LastByte) => first..bytes,
            (StartPosition::FromLast(length), _) => bytes.saturating_sub(length)..bytes,
        };
        (!range.is_empty()).then_some((range, true))
    }
}

/// The answer, but for what it says of the entry.
pub(super) async fn answer(
    api: &ConfigApi,
    caller: &Principal,
    served: &Served,
    wanted: Wanted<'_>,
) -> Result<Response, ApiError> {
    let bytes = served.record.value.len();
    let Some((range, is_part)) = wanted.range(bytes) else {
        let mut response = Problem::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "no-such-range",
            "The value has no such range",
        )
        .into_response();
        insert(response.headers_mut(), format!("bytes */{bytes}"));
        return Ok(response);
    };
    let length = range.end - range.start;
    let is_head = matches!(wanted, Wanted::Head);
    if length > EDGE_BYTES && !is_head {
        let limit = EDGE_BYTES;
        return Err(ApiError::NeedsRange { bytes, limit });
    }
    let content_range = is_part.then(|| format!("bytes {}-{}/{bytes}", range.start, range.end - 1));
    let mut memory = None;
    let body = if is_head {
        Body::empty()
    } else {
        match &served.record.value {
            Value::Remote(_) => {
                let (stream, permit) = api.open(caller, served, range).await?;
                memory = HeldMemory::of(permit);
                Body::from_stream(stream.inspect(|piece| {
                    if let Err(error) = piece {
                        tracing::warn!(%error, "a value's stream broke off");
                    }
                }))
            }
            held @ (Value::Text(_) | Value::Bytes(_)) => {
                memory = HeldMemory::of(api.admit_answer(caller.tenant(), length)?);
                let at = |at| usize::try_from(at).unwrap_or_default();
                let all = held.to_bytes().unwrap_or_default();
                Body::from(all.slice(at(range.start)..at(range.end)))
            }
        }
    };
    let status = if is_part {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let mut response = (status, HARMLESS, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    let content_type = HeaderValue::from_str(&served.record.content_type);
    let opaque = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(opaque));
    if let Some(content_range) = content_range {
        insert(headers, content_range);
    }
    Ok(hold(response, memory, Body::new))
}

fn insert(headers: &mut HeaderMap, content_range: String) {
    if let Ok(value) = HeaderValue::try_from(content_range) {
        headers.insert(header::CONTENT_RANGE, value);
    }
}
