//! What every binary needs around its logic: settings from the environment, telemetry, readiness, and the
//! signal to stop. Knows nothing of configuration keys, AWS or gRPC.

pub mod clock;
pub mod env;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

/// Exit code of a process whose settings are wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
