//! The failures of an order, as problem documents (RFC 9457).

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tagged_config_auth::AuthError;
use tagged_config_web::{BodyError, Problem};
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
    #[error(transparent)]
    Unread(#[from] BodyError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
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
            Self::Body(_) | Self::Unread(BodyError::Broken) => (
                StatusCode::BAD_REQUEST,
                "invalid-request",
                "Invalid request",
            ),
            Self::Unread(BodyError::TooLarge { .. }) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "Order too large",
            ),
            Self::Unread(BodyError::TimedOut) => (
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The body came too slowly",
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
        Problem::new(status, kind, title)
            .with_detail(detail)
            .into_response()
    }
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
            (ApiError::Unread(BodyError::TooLarge { limit: 1 }), 413),
            (ApiError::Unread(BodyError::TimedOut), 408),
            (ApiError::Unread(BodyError::Broken), 400),
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
