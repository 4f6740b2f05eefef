//! Errors as `application/problem+json` (RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A problem document. As a response it has its status, `WWW-Authenticate` with 401, and `Retry-After` with 429 and 503.
#[derive(Debug, Serialize)]
pub struct Problem {
    r#type: String,
    title: Cow<'static, str>,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    #[serde(skip)]
    retry_after: Duration,
}

/// One way in which a body is invalid.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// RFC 6901 pointer to the invalid part; empty for the whole body.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What it breaks.
    pub schema: String,
}

impl Problem {
    /// A problem without detail. `kind` is its type below `urn:tagged-config:problem:`.
    pub fn new(status: StatusCode, kind: &str, title: impl Into<Cow<'static, str>>) -> Self {
        Self {
            r#type: format!("urn:tagged-config:problem:{kind}"),
            title: title.into(),
            status,
            detail: None,
            violations: Vec::new(),
            retry_after: Duration::ZERO,
        }
    }

    /// Adds what is particular to this occurrence.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Option<String>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Adds each way in which the body is invalid.
    #[must_use]
    pub fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }

    /// Sets when another attempt may succeed. Whole seconds are sent, rounded up, at least 1 (the default).
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, (self.retry_after.as_secs() + 1).into());
            }
            _ => {}
        }
        response
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_headers_that_it_requires() {
        let answer = |status| Problem::new(status, "x", "X").into_response();
        let unauthenticated = answer(StatusCode::UNAUTHORIZED);
        assert_eq!(unauthenticated.headers()["www-authenticate"], "Bearer");
        assert_eq!(
            unauthenticated.headers()["content-type"],
            "application/problem+json"
        );
        for status in [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ] {
            assert_eq!(answer(status).headers()["retry-after"], "1", "{status}");
        }
        let later = Problem::new(StatusCode::TOO_MANY_REQUESTS, "x", "X")
            .with_retry_after(Duration::from_millis(4_500));
        assert_eq!(later.into_response().headers()["retry-after"], "5");
    }

    #[test]
    fn the_document_has_type_title_status_and_detail() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "x", "X");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({"type": "urn:tagged-config:problem:x", "title": "X", "status": 404})
        );
        let problem = problem.with_detail("here".to_owned());
        assert_eq!(serde_json::to_value(&problem).unwrap()["detail"], "here");
    }
}
