//! How this project calls AWS: time limits, retries, and what an SDK error means.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use tagged_config_domain::{Backend, StoreError};

/// A whole call with its retries; what a caller of ours waits at most.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(3);

/// Credentials, region and endpoint as the SDK finds them, with limits for calls that somebody waits for.
pub async fn sdk_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(500))
        .operation_attempt_timeout(Duration::from_millis(1_200))
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(3)
                .with_initial_backoff(Duration::from_millis(50)),
        )
        .load()
        .await
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
    match error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
    {
        Some(code)
            if code.contains("Throttl")
                || code.contains("LimitExceeded")
                || code.contains("ThroughputExceeded") =>
        {
            StoreError::Throttled { backend }
        }
        Some(code)
            if code.starts_with("AccessDenied")
                || code.starts_with("Validation")
                || code.starts_with("ResourceNotFound")
                || code.starts_with("UnrecognizedClient")
                || code.starts_with("ExpiredToken")
                || code.starts_with("InvalidKeyId")
                || code.starts_with("KMS") =>
        {
            StoreError::Refused {
                backend,
                code: code.to_owned(),
            }
        }
        _ => StoreError::Unavailable {
            backend,
            source: Box::new(error),
        },
    }
}
