//! Structured logs on standard output. Never a token, credential or configuration value.

use tracing_subscriber::EnvFilter;

/// Log field: the tenant that a verified token named.
pub const TENANT_ID: &str = "tenant.id";
/// Log field: the configuration key.
pub const CONFIG_KEY: &str = "config.key";
/// Log field: the backend.
pub const STORE_BACKEND: &str = "store.backend";
/// Log field: hit, miss or stale.
pub const CACHE_RESULT: &str = "cache.result";
/// Log field: the request's id.
pub const REQUEST_ID: &str = "request.id";

/// Logs JSON lines at `info`, or at what `RUST_LOG` says. Call once, first.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let json = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter);
    // A second call (tests) keeps the first subscriber.
    let _ = json.try_init();
}

/// An error and all its sources on one line, for the one place that logs it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
