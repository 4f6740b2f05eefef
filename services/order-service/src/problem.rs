//! What can go wrong with an order, and how it is told (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tagged_config_auth::AuthError;
use thiserror::Error;
use tonic::Code;

use crate::{pricing::OrderError, settings::SettingsError};

/// A request's failure.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("a valid token is needed")]
    Unauthenticated,
    #[error("tokens cannot be verified at the moment")]
    KeysUnavailable,
    #[error("{0}")]
    Body(String),
    #[error("the body has more than {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

#[derive(Serialize)]
struct Problem {
    r#type: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl ApiError {
    /// Status, problem type and title. The table.
    fn answer(&self) -> (StatusCode, &'static str, &'static str) {
        let unavailable = (
            StatusCode::SERVICE_UNAVAILABLE,
            "configuration-unavailable",
            "Configuration unavailable",
        );
        let invalid = (
            StatusCode::BAD_GATEWAY,
            "configuration-invalid",
            "The tenant's configuration cannot be used",
        );
        let unauthenticated = (
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "A valid token is needed",
        );
        match self {
            Self::Unauthenticated => unauthenticated,
            Self::KeysUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Service unavailable",
            ),
            Self::Body(_) => (
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "Invalid request",
            ),
            Self::BodyTooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "Order too large",
            ),
            Self::Order(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-order",
                "The order cannot be priced",
            ),
            Self::Settings(SettingsError::Missing(_) | SettingsError::Invalid { .. }) => invalid,
            Self::Settings(SettingsError::Key { code, .. }) => match code {
                Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => unavailable,
                _ => invalid,
            },
            Self::Settings(SettingsError::Call(status)) => match status.code() {
                // It expired between our check and theirs.
                Code::Unauthenticated => unauthenticated,
                Code::DeadlineExceeded => (
                    StatusCode::GATEWAY_TIMEOUT,
                    "deadline-exceeded",
                    "Configuration did not come in time",
                ),
                _ => unavailable,
            },
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing | AuthError::Refused(_) => Self::Unauthenticated,
            AuthError::KeysUnavailable => Self::KeysUnavailable,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.answer();
        if let Self::Settings(error) = &self {
            tracing::warn!(
                error = tagged_config_runtime::telemetry::chain(error),
                "no configuration for an order"
            );
        }
        let detail = (status != StatusCode::UNAUTHORIZED).then(|| self.to_string());
        problem(status, kind, title, detail)
    }
}

/// A problem document.
pub(crate) fn problem(
    status: StatusCode,
    kind: &str,
    title: &'static str,
    detail: Option<String>,
) -> Response {
    let problem = Problem {
        r#type: format!("urn:tagged-config:problem:{kind}"),
        title,
        status: status.as_u16(),
        detail,
    };
    let mut response = (status, serde_json::to_vec(&problem).unwrap_or_default()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    #[test]
    fn every_failure_has_its_status() {
        let call = |code| ApiError::from(SettingsError::Call(Status::new(code, "")));
        let key = |code| {
            ApiError::from(SettingsError::Key {
                key: String::new(),
                code,
            })
        };
        for (error, status) in [
            (ApiError::Unauthenticated, 401),
            (ApiError::KeysUnavailable, 503),
            (ApiError::Body(String::new()), 400),
            (ApiError::BodyTooLarge { limit: 1 }, 413),
            (ApiError::from(OrderError::Empty), 422),
            (ApiError::from(SettingsError::Missing("x")), 502),
            (
                ApiError::from(SettingsError::Invalid {
                    key: "x",
                    reason: String::new(),
                }),
                502,
            ),
            (key(Code::Unavailable), 503),
            (key(Code::DataLoss), 502),
            (call(Code::Unauthenticated), 401),
            (call(Code::Unavailable), 503),
            (call(Code::DeadlineExceeded), 504),
            (call(Code::Internal), 503),
        ] {
            assert_eq!(error.answer().0.as_u16(), status, "{error:?}");
        }
    }
}
