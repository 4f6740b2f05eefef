//! Results of `loadtest capacity`: the knee of each path.

use std::{collections::BTreeMap, fmt::Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Findings,
    findings::is_wrong,
    table::{Table, cell, time},
};

/// The rates between which the limit of one path lies.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Capacity {
    /// `grpc`, `alb`, `edge`.
    pub(crate) path: String,
    /// A step holds if 99 of 100 requests have a good answer within this, in microseconds, and its rate is sustained.
    pub(crate) p99_limit_us: u64,
    /// The highest rate that held, in requests a second; absent if none did.
    pub(crate) held_per_second: Option<f64>,
    /// The lowest rate above it that broke; absent if none did: the search reached its highest rate, or was interrupted.
    pub(crate) broken_per_second: Option<f64>,
    /// Whether each of its attempts broke while the harness sent requests late, or could not send them: the target's limit
    /// may then be above `held_per_second`.
    pub(crate) harness_limited: bool,
    /// The steps, in the order in which they were measured. One that broke was measured again, up to three times in all.
    pub(crate) steps: Vec<Step>,
}

/// One rate, measured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Step {
    /// Requests a second that were to be sent.
    pub(crate) offered_per_second: f64,
    /// Answers a second.
    pub(crate) answered_per_second: f64,
    /// Requests that were answered, or failed.
    pub(crate) requests: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Failures by code.
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, u64>,
    /// Median of all, in microseconds, a failure counted as at least the time-out; absent where the rate was not sustained.
    pub(crate) p50_us: Option<u64>,
    /// 99th percentile of all, in microseconds, likewise; absent where the rate was not sustained.
    pub(crate) p99_us: Option<u64>,
    /// 99th percentile of how long after they were due requests were sent, in microseconds.
    pub(crate) lag_p99_us: Option<u64>,
    /// The part of the machine's processors that was busy, 0 to 1; absent if unknown.
    pub(crate) machine_busy: Option<f64>,
    /// Whether it broke because the harness sent requests late.
    pub(crate) harness_limited: bool,
    /// Why the step did not hold; absent if it did.
    pub(crate) broken_because: Option<String>,
}

impl Step {
    /// Whether it is of this rate.
    pub(crate) fn is_at(&self, rate: f64) -> bool {
        self.offered_per_second.to_bits() == rate.to_bits()
    }

    /// Whether it is of this rate, and held.
    pub(crate) fn holds_at(&self, rate: Option<f64>) -> bool {
        self.broken_because.is_none() && rate.is_some_and(|rate| self.is_at(rate))
    }
}

impl Capacity {
    /// Adds what a reader must know before believing the knee.
    pub(super) fn warn(&self, found: &mut Findings) {
        let path = &self.path;
        if self.held_per_second.is_none() {
            found.distrust(format!("{path}: no rate held"));
        } else if self.harness_limited {
            found.warn(format!(
                "{path}: the harness sent requests late at the rate that broke: the target's capacity may be above the knee"
            ));
        } else if self.broken_per_second.is_none() {
            found.warn(format!(
                "{path}: no rate broke: its capacity is above the knee"
            ));
        }
        let errors = self.steps.iter().flat_map(|step| &step.errors);
        for (code, count) in errors.filter(|(code, _)| is_wrong(code)) {
            found.distrust(format!("{path}: {code} x {count}"));
        }
    }

    /// The knee in words.
    fn knee(&self) -> String {
        match (self.held_per_second, self.broken_per_second) {
            (Some(held), Some(broken)) => format!("{held:.0} to {broken:.0} requests/s"),
            (Some(held), None) => format!("{held:.0} requests/s or more"),
            (None, _) => "no rate held".to_owned(),
        }
    }

    /// The knee, and a row for each step.
    pub(super) fn render(&self, text: &mut String) {
        let limit = time(self.p99_limit_us as f64);
        let _ = writeln!(
            text,
            "\n{}: the knee is at {} (99 of 100 requests answered correctly within {limit}; open loop)",
            self.path,
            self.knee()
        );
        let mut table = Table::new(&[
            "step",
            "offered/s",
            "answered/s",
            "requests",
            "failed",
            "p50",
            "p99",
            "lag p99",
            "machine busy",
        ]);
        for step in &self.steps {
            let verdict = match (&step.broken_because, step.harness_limited) {
                (None, _) => "held",
                (Some(_), false) => "BROKE",
                (Some(_), true) => "BROKE (harness-limited)",
            };
            table.row([
                verdict.to_owned(),
                format!("{:.0}", step.offered_per_second),
                format!("{:.0}", step.answered_per_second),
                step.requests.to_string(),
                step.failed.to_string(),
                cell(step.p50_us),
                cell(step.p99_us),
                cell(step.lag_p99_us),
                step.machine_busy
                    .map_or("-".to_owned(), |busy| format!("{:.0}%", busy * 100.0)),
            ]);
        }
        let _ = write!(text, "{table}");
        let knee = |step: &&Step| Some(step.offered_per_second) == self.broken_per_second;
        let reason = self.steps.iter().rfind(knee);
        if let Some(reason) = reason.and_then(|step| step.broken_because.as_ref()) {
            let _ = writeln!(text, "it broke: {reason}");
        }
    }
}
