//! Structured logs on standard output. Never a token, credential or configuration value.
//!
//! At `debug` and `trace` HTTP clients, HTTP/2 and the AWS SDKs log what they carry: values, secrets and tokens. So dependencies
//! are capped at `info`, whatever `RUST_LOG` says; it chooses the level of this project's own crates only.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, fmt::MakeWriter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

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

/// Crates of this project begin so, but for the programs.
const OWN_PREFIX: &str = "tagged_config_";
const OWN_PROGRAMS: [&str; 4] = [
    "config_service",
    "order_service",
    "invalidator",
    "jwks_mirror",
];
/// The most that a dependency may log.
const DEPENDENCIES: Level = Level::INFO;

/// Logs JSON lines at `info`, or at what `RUST_LOG` says for this project's crates. Call once, first.
pub fn init() {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call (tests) keeps the first subscriber.
    let _ = json_lines(chosen, std::io::stdout).try_init();
}

fn json_lines(
    chosen: EnvFilter,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> impl Subscriber + Send + Sync {
    let json = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(filter_fn(may_log))
        .with(chosen)
        .with(json)
}

/// Whether a span or event may be logged at all, before `RUST_LOG` is considered.
fn may_log(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= DEPENDENCIES || is_own(metadata.target())
}

fn is_own(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    name.starts_with(OWN_PREFIX) || OWN_PROGRAMS.contains(&name)
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

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of events of every level by a dependency, and by this project.
    fn logged(rust_log: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json_lines(EnvFilter::new(rust_log), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "aws_smithy_runtime::client", body = "MARK", "sdk");
            tracing::debug!(target: "h2::codec", "MARK");
            tracing::trace!(target: "hyper_util::client", "MARK");
            tracing::debug!(target: "reqwest::connect", "MARK");
            tracing::debug!(target: "log", "MARK");
            tracing::debug!(target: "tagged_config", "MARK: no crate of ours");
            tracing::info!(target: "h2::codec", "a dependency's notice");
            tracing::trace!(target: "config_service::api", "own detail");
            tracing::debug!(target: "tagged_config_stores::journal", "own detail");
        });
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn dependencies_never_log_below_info_whatever_rust_log_says() {
        for rust_log in [
            "trace",
            "debug",
            "h2=trace",
            "aws_smithy_runtime=trace,hyper_util=trace,reqwest=trace,log=trace",
            "trace,h2=trace",
        ] {
            let logged = logged(rust_log);
            assert!(!logged.contains("MARK"), "{rust_log}: {logged}");
        }
    }

    #[test]
    fn rust_log_chooses_the_level_of_own_crates() {
        assert_eq!(logged("trace").matches("own detail").count(), 2);
        assert_eq!(logged("info").matches("own detail").count(), 0);
        assert_eq!(
            logged("config_service=trace").matches("own detail").count(),
            1
        );
        assert!(logged("trace").contains("a dependency's notice"));
        assert!(!logged("warn").contains("a dependency's notice"));
    }
}
