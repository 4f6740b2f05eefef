//! Results of `loadtest soak`: what happened over a long time.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, Ratio, table::Table};

/// Windows of one long open loop, and the trends over them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Soak {
    /// How long each window is, in seconds.
    pub(crate) window_seconds: f64,
    /// The requests, by the window in which they were due.
    pub(crate) windows: Vec<Window>,
    /// What was sampled, and how it grows.
    pub(crate) trends: Vec<Trend>,
}

/// Requests that were due in one window.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Window {
    /// When it began, in seconds since the loop did.
    pub(crate) at_seconds: f64,
    /// Requests.
    pub(crate) count: u64,
    /// Those that failed.
    pub(crate) errors: u64,
    /// Median, in microseconds; a failure counts as at least the time-out.
    pub(crate) p50_us: u64,
    /// 99th percentile, in microseconds, likewise; absent with fewer than 100 requests.
    pub(crate) p99_us: Option<u64>,
}

/// One quantity over time.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Trend {
    /// `p99`, `memory`, `descriptors`.
    pub(crate) what: String,
    /// The path, or the replica.
    pub(crate) of: String,
    /// `us`, `MiB`, or empty for a number.
    pub(crate) unit: String,
    /// Seconds since the loop began, and values.
    pub(crate) samples: Vec<(f64, f64)>,
    /// Median of the values.
    pub(crate) median: f64,
    /// How much it grows over the run, as a part of the median, with a 95 % interval (Theil and Sen; samples taken as
    /// independent); absent with too few samples.
    pub(crate) growth: Option<Ratio>,
    /// The growth that is allowed.
    pub(crate) limit: f64,
    /// True if the whole interval is within the limit, false if all of it is above, absent if neither.
    pub(crate) within_limit: Option<bool>,
}

impl Soak {
    /// Whether something grows more than is allowed.
    pub(super) fn grows(&self) -> bool {
        let mut trends = self.trends.iter();
        trends.any(|trend| trend.within_limit == Some(false))
    }

    /// A row for each trend.
    pub(super) fn render(&self, text: &mut String) {
        let mut table = Table::with_left(
            &[
                "trend",
                "of",
                "samples",
                "median",
                "growth over the run (95 %)",
                "allowed",
                "",
            ],
            2,
        );
        for trend in &self.trends {
            table.row([
                trend.what.clone(),
                trend.of.clone(),
                trend.samples.len().to_string(),
                format!("{:.1} {}", trend.median, trend.unit)
                    .trim_end()
                    .to_owned(),
                trend.growth.map_or("-".to_owned(), |growth| {
                    let [value, low, high] =
                        [growth.value, growth.low, growth.high].map(|part| part * 100.0);
                    format!("{value:+.1}% ({low:+.1} to {high:+.1})")
                }),
                format!("{:.0}%", trend.limit * 100.0),
                trend.verdict().to_owned(),
            ]);
        }
        let _ = write!(
            text,
            "\nsoak: {} windows of {} s\n{table}",
            self.windows.len(),
            self.window_seconds
        );
    }
}

impl Trend {
    /// Adds what a reader must know.
    pub(super) fn warn(&self, found: &mut Findings) {
        let Self { what, of, .. } = self;
        match (self.within_limit, self.growth) {
            (Some(true), Some(growth)) if growth.low > 0.0 => found.warn(format!(
                "{what} of {of} grows, within what is allowed for this duration: a longer run would show whether it goes on"
            )),
            (Some(true), _) => {}
            (Some(false), _) => found.warn(format!("{what} of {of} grows more than is allowed")),
            (None, _) => found.distrust(format!(
                "{what} of {of}: too few samples, or too much noise, for a verdict: a longer --duration"
            )),
        }
    }

    /// In words.
    pub(super) fn verdict(&self) -> &'static str {
        match (self.within_limit, self.growth) {
            (Some(true), Some(growth)) if growth.low > 0.0 => "within the limit",
            (Some(true), _) => "steady",
            (Some(false), _) => "GROWS",
            (None, _) => "no verdict",
        }
    }
}
