//! The program; see the library.

use std::process::ExitCode;

/// A request makes some dozens of short-lived allocations, on both workers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    config_service::run().await
}
