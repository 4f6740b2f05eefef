//! What every binary needs around its logic: settings from the environment, telemetry, readiness, the signal to stop, and
//! which addresses bypass a proxy. Knows nothing of configuration keys or gRPC; of AWS (feature `aws`) only how its SDK
//! connects.

pub mod clock;
pub mod env;
pub mod proxy;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

/// Exit code of a process whose settings are wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
