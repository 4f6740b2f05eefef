//! jwks-mirror: copies the user pool's signing keys to an S3 object, on a schedule.
//!
//! The services' network has no way to the pool's address, but one to S3. This function runs outside that network.
//! It writes only what parses as a key set, and only when it differs, so that a failed fetch never empties the mirror.

mod config;
mod mirror;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;
use tagged_config_runtime::{EXIT_USAGE, env::ProcessEnv, telemetry};

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
    let mirror = match mirror::Mirror::connect(config).await {
        Ok(mirror) => mirror,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "cannot start");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let mirror = &mirror;
    let serve = service_fn(async |_: LambdaEvent<Value>| {
        mirror.copy().await.map_err(|error| {
            let error = format!("{error:#}");
            tracing::error!(error, "the keys were not copied");
            error
        })
    });
    match lambda_runtime::run(serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended with an error");
            ExitCode::FAILURE
        }
    }
}
