//! invalidator: one Lambda function for all sources of change. It sends each change to every task of config-service, in
//! parallel, and succeeds even if some do not answer: a batch that fails stalls every tenant behind it.

mod blob;
mod change;
mod config;
mod credential;
mod dynamodb;
mod fanout;
mod handler;
mod history;
mod journal;
mod parameter;
mod receipt;
mod secret;
mod source;

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
    let handler = handler::Handler::connect(config).await;
    let handler = &handler;
    let serve = service_fn(async |event: LambdaEvent<Value>| handler.handle(&event.payload).await);
    match lambda_runtime::run(serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "ended with an error");
            ExitCode::FAILURE
        }
    }
}
