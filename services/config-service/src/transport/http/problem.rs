//! An [`ApiError`] as a problem document.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
pub(super) use tagged_config_web::Problem;

use crate::errors::ApiError;

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        let answer = error.answer();
        let detail = answer.show_detail.then(|| error.message());
        let retry_after = match error {
            ApiError::RateLimited { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        };
        Self::new(answer.status, answer.kind, answer.title)
            .with_detail(detail)
            .with_retry_after(retry_after)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Problem::from(&self).into_response()
    }
}
