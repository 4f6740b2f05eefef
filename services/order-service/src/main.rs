//! order-service: a sample consumer. Prices an order from the caller's tenant configuration.

mod app;
mod config;
mod http;
mod pricing;
mod problem;
mod settings;

use std::process::ExitCode;

use tagged_config_runtime::{EXIT_USAGE, env::ProcessEnv, telemetry};

/// As in config-service: a request makes dozens of short-lived allocations, on both workers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    telemetry::init();
    let config = match config::Config::from_env(&ProcessEnv) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if std::env::args().nth(1).as_deref() == Some("--healthcheck") {
        // What ECS runs in the container, which has no shell and no curl.
        return tagged_config_web::health::probe(config.http).await;
    }
    match app::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended with an error");
            ExitCode::FAILURE
        }
    }
}
