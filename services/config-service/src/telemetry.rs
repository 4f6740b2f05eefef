//! Metrics: their names, and how they leave the process.

pub(crate) mod emf;
pub(crate) mod metrics;
