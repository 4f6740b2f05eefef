//! An [`ApiError`] as a problem document.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
pub(super) use tagged_config_web::Problem;
use tagged_config_web::Violation;

use crate::{api::guard::Broken, errors::ApiError};

impl From<&ApiError> for Problem {
    fn from(error: &ApiError) -> Self {
        let answer = error.answer();
        let detail = answer.show_detail.then(|| error.message());
        let retry_after = match error {
            ApiError::RateLimited { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        };
        let violations = match error {
            ApiError::BreaksSchema(broken) => broken.iter().map(violation).collect(),
            _ => Vec::new(),
        };
        Self::new(answer.status, answer.kind, answer.title)
            .with_detail(detail)
            .with_violations(violations)
            .with_retry_after(retry_after)
    }
}

/// As answers give it.
pub(super) fn violation(broken: &Broken) -> Violation {
    Violation {
        pointer: broken.violation.pointer.clone(),
        message: broken.violation.message.clone(),
        schema: broken.schema.as_ref().to_owned(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Problem::from(&self).into_response()
    }
}
