//! config-service: serves the configuration of the caller's tenant over gRPC and REST. The library exists for the program
//! and for its benchmarks; nothing else is public.

mod admission;
mod api;
mod app;
#[doc(hidden)]
pub mod bench;
mod cache;
mod change;
mod config;
mod errors;
#[cfg(test)]
mod fixture;
mod tasks;
mod telemetry;
mod transport;
mod watch;

use std::process::ExitCode;

use tagged_config_runtime::{EXIT_USAGE, env::ProcessEnv, telemetry as tracing_setup};

/// The program: serves until a stop signal, or checks its own health with `--healthcheck`.
pub async fn run() -> ExitCode {
    tracing_setup::init();
    let config = match config::Config::from_env(&ProcessEnv) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if std::env::args().nth(1).as_deref() == Some("--healthcheck") {
        return transport::healthcheck::run(config.listen.grpc).await;
    }
    let served = match app::App::bind(config).await {
        Ok(app) => app.run(app::until_signalled()).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "ended with an error");
            ExitCode::FAILURE
        }
    }
}
