//! Against the stack that `make test` started. Tests use tenants of their own, so that they can run at once;
//! `rolling` restarts the replicas and runs alone (`.config/nextest.toml`).

#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a failed expectation is a failed test; a journey is one test"
)]

mod blobs;
mod conformance;
mod contract;
mod freshness;
mod history;
mod isolation;
mod journey;
mod liar;
mod loadtest;
mod logs;
mod mirror;
mod resilience;
mod rolling;
mod schemas;
mod secrets;
mod tokens;
mod watch;
mod writers;
