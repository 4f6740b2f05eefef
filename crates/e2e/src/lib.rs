//! The end-to-end suite: `make test` starts one local stack and runs `tests/` against it. What is here finds
//! the stack, signs in through Cognito, and starts a config-service of its own where a test needs one.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a failed expectation is a failed test"
)]

mod role;
mod stack;
mod standalone;

pub use role::role_credentials;
pub use stack::{Stack, User, call, grpc_client, poll_until};
pub use standalone::{JwksServer, Standalone, program};
