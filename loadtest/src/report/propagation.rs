//! How updates spread: what `staleness`, `chaos` and `watchers` report.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Phase, Quantiles};

/// How updates spread under one background load.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Staleness {
    /// gRPC reads a second beside it.
    pub(crate) background_per_second: f64,
    /// Seconds in which updates were made.
    pub(crate) seconds: f64,
    /// How far apart two probes at a lagging replica were: how finely the times of replicas are known.
    pub(crate) resolution: Option<Quantiles>,
    /// What was observed, by how updates were made.
    pub(crate) sources: Vec<SourceStaleness>,
    /// What all reads together must not show.
    pub(crate) history: History,
    /// What the replicas count themselves, if their metrics could be read.
    pub(crate) services: Option<ServiceCounts>,
    /// The background load; absent without one.
    pub(crate) background: Option<Phase>,
}

/// Updates by one source.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SourceStaleness {
    /// `dynamodb`, `put-config`, `parameter-store`.
    pub(crate) source: String,
    /// Updates a second that were wanted.
    pub(crate) wanted_per_second: f64,
    /// Updates that were acknowledged.
    pub(crate) updates: u64,
    /// Writes that failed, by reason.
    pub(crate) failed_writes: BTreeMap<String, u64>,
    /// Updates that were due while their location was still being written, or rested after a failure: not made.
    #[serde(default)]
    pub(crate) passed_over: u64,
    /// Updates that an observer did not see in time.
    pub(crate) lost: u64,
    /// Updates that it was too early to judge when the run ended.
    pub(crate) undecided: u64,
    /// From the write's acknowledgement, in microseconds: `first_replica`, `last_replica`, `edge`, `order`; and by part,
    /// as the invalidator's receipts say: `write_to_start`, `read`, `discover`, `fanout`; `acknowledge` is the write itself.
    pub(crate) stages: BTreeMap<String, Quantiles>,
    /// The distribution of each stage, as in `Series`.
    pub(crate) histograms: BTreeMap<String, Vec<(u64, u64)>>,
    /// Each update that all replicas saw.
    pub(crate) timeline: Vec<Spread>,
    /// Receipts that were found for these updates.
    pub(crate) receipts: u64,
}

/// One update.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread {
    /// When it was acknowledged, in milliseconds since updates began.
    pub(crate) at_ms: u64,
    /// From then until the first replica showed it, in microseconds; 0 if it did before.
    pub(crate) first_us: u64,
    /// And the last.
    pub(crate) last_us: u64,
}

/// What the checker of the history says.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct History {
    /// Reads that were checked.
    pub(crate) reads: u64,
    /// Reads that failed, by observer and reason.
    pub(crate) failed_reads: BTreeMap<String, u64>,
    /// Everything that must not be, in words.
    pub(crate) violations: Vec<String>,
}

/// Differences of the replicas' counters over the run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServiceCounts {
    /// Replicas that were asked.
    pub(crate) replicas: u32,
    /// Changes that push did not bring and something else repaired, by what (`config_repairs_total`).
    pub(crate) repaired: BTreeMap<String, u64>,
    /// Changes that were applied, by source (`config_propagation_seconds_count`).
    pub(crate) applied: BTreeMap<String, u64>,
    /// Mean of their own `config_propagation_seconds`, by source, in microseconds.
    pub(crate) mean_propagation_us: BTreeMap<String, f64>,
}
