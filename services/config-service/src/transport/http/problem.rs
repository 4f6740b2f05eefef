//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::errors::ApiError;

/// A problem document.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    r#type: String,
    title: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Problem {
    /// As the table says.
    pub(super) fn of(error: &ApiError) -> Self {
        let answer = error.answer();
        Self {
            r#type: kind(answer.kind),
            title: answer.title.to_owned(),
            status: answer.status.as_u16(),
            detail: answer.show_detail.then(|| error.message()),
        }
    }

    /// One that comes from the routing.
    pub(super) fn plain(status: StatusCode, name: &str, title: &str) -> Response {
        let problem = Self {
            r#type: kind(name),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: None,
        };
        problem.into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Problem::of(&self).into_response();
        // Whole seconds, and never none.
        let retry_after = match &self {
            Self::RateLimited { retry_after, .. } => retry_after.as_secs() + 1,
            _ => 1,
        };
        let status = response.status();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
        }
        response
    }
}

fn kind(name: &str) -> String {
    format!("urn:tagged-config:problem:{name}")
}
