//! How this project calls AWS: time limits, retries, and what an SDK error means.

use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use tagged_config_domain::{Backend, StoreError};
use tagged_config_runtime::proxy::direct_to_emulator;

/// A whole call with its retries; what a caller of ours waits at most.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Credentials, region and endpoint as the SDK finds them, with limits for calls that somebody waits for.
pub async fn sdk_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(500))
        .operation_attempt_timeout(Duration::from_millis(1_200))
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(3)
                .with_initial_backoff(Duration::from_millis(50)),
        )
        .load()
        .await;
    direct_to_emulator(sdk)
}

/// What an SDK error means for the caller.
pub fn store_error<E>(backend: Backend, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let timed_out = match &error {
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_timeout(),
        _ => false,
    };
    if timed_out {
        return StoreError::TimedOut { backend };
    }
    // The answer to a HEAD says no more.
    match error.raw_response().map(|raw| raw.status().as_u16()) {
        Some(403) if error.as_service_error().is_some_and(|e| e.code().is_none()) => {
            let reason = "403".to_owned();
            return StoreError::Refused { backend, reason };
        }
        Some(503) if error.as_service_error().is_some_and(|e| e.code().is_none()) => {
            return StoreError::Throttled { backend };
        }
        _ => {}
    }
    let service_error = error.as_service_error();
    match service_error.and_then(ProvideErrorMetadata::code) {
        Some(code)
            if code.contains("Throttl")
                || code.contains("LimitExceeded")
                || code.contains("ThroughputExceeded")
                || code == "SlowDown" =>
        {
            StoreError::Throttled { backend }
        }
        Some(code)
            if code.starts_with("AccessDenied")
                || code.starts_with("Validation")
                || code.starts_with("ResourceNotFound")
                || code == "NoSuchBucket"
                || code == "SignatureDoesNotMatch"
                || code.starts_with("UnrecognizedClient")
                || code.starts_with("ExpiredToken")
                || code.starts_with("InvalidKeyId")
                || code.starts_with("KMS") =>
        {
            // Other messages may repeat what was sent.
            let message = service_error
                .and_then(ProvideErrorMetadata::message)
                .filter(|_| code.starts_with("AccessDenied"));
            StoreError::Refused {
                backend,
                reason: message
                    .map_or_else(|| code.to_owned(), |message| format!("{code}: {message}")),
            }
        }
        _ => StoreError::Unavailable {
            backend,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::{error::ErrorMetadata, operation::get_item::GetItemError};

    use super::*;

    fn refused(code: &str, message: &str) -> String {
        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let status = 400.try_into().expect("a status");
        let response = HttpResponse::new(status, "".into());
        let error = SdkError::service_error(GetItemError::generic(metadata), response);
        store_error(Backend("dynamodb"), error).to_string()
    }

    #[test]
    fn a_denied_call_names_its_action_and_other_messages_are_kept_back() {
        let denied = "User: x is not authorized to perform: dynamodb:GetItem on resource: y";
        let shown = refused("AccessDeniedException", denied);
        assert!(
            shown.contains("AccessDeniedException") && shown.ends_with(denied),
            "{shown}"
        );
        let shown = refused("ValidationException", "Value 'a secret' at 'item'");
        assert!(shown.ends_with("ValidationException"), "{shown}");
    }
}
