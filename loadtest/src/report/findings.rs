//! What a reader must know of a result, and why its figures must not be trusted.

use std::collections::BTreeMap;

use hyper_util::client::proxy::matcher::Matcher;

use super::{Neighbour, Phase, Report};
use crate::targets::is_proxied;

/// Failures that no good run has: answers that are wrong, and callers that are refused.
const NEVER: [&str; 9] = [
    "wrong value",
    "wrong price",
    "missing in batch",
    "no version",
    "no ETag",
    "not the agreed JSON",
    "UNAUTHENTICATED",
    "HTTP 401",
    "HTTP 403",
];
/// If a larger part of an operation's requests fails, its times are worthless: failures are fast.
const MANY_FAILURES: f64 = 0.05;
/// A larger part of answers that did not come in time makes the exit code 1.
const MANY_LATE: f64 = 0.001;
/// As clients name them.
const LATE: [&str; 2] = ["DEADLINE_EXCEEDED", "no answer in time"];
/// Less steal than this is not worth a word.
const STEAL: f64 = 0.005;

/// Warnings; those that make the figures untrusted stand in both lists.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// All of them.
    pub(crate) warnings: Vec<String>,
    /// Those for which the run exits with 1.
    pub(crate) untrusted: Vec<String>,
}

// === impl Findings ===

impl Findings {
    /// Adds a warning.
    pub(crate) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Adds a reason why the figures must not be trusted.
    pub(crate) fn distrust(&mut self, text: String) {
        self.untrusted.push(text.clone());
        self.warnings.push(text);
    }

    /// Adds a warning, which is such a reason if `untrusted`.
    pub(crate) fn add(&mut self, untrusted: bool, text: String) {
        if untrusted {
            self.distrust(text);
        } else {
            self.warn(text);
        }
    }

    fn phase(&mut self, name: &str, phase: &Phase) {
        if let Some(reason) = &phase.not_sustained_because {
            self.distrust(format!(
                "{name}: not sustained, times are withheld: {reason}"
            ));
        }
        self.processors(name, phase);
        for (operation, (requests, failed)) in phase.failures() {
            if share(failed, requests) > MANY_FAILURES {
                let percent = share(failed, requests) * 100.0;
                self.distrust(format!("{name}: {percent:.0}% of {operation} failed"));
            }
        }
        let requests: u64 = phase.series.iter().map(|series| series.count).sum();
        for (code, count) in phase.errors() {
            let is_late = LATE.contains(&code) && share(count, requests) > MANY_LATE;
            let hint = match code {
                "UNAUTHENTICATED" | "HTTP 401" => " (the token was refused: expired?)",
                "HTTP 403" => " (the web ACL's rate limit? see unlimited_cidr_blocks)",
                _ => "",
            };
            let untrusted = is_wrong(code) || is_late;
            self.add(untrusted, format!("{name}: {code} x {count}{hint}"));
        }
    }

    fn processors(&mut self, name: &str, phase: &Phase) {
        match phase.cpu.limited_by.as_deref() {
            Some("harness") => self.warn(format!(
                "{name}: the harness kept {:.1} of {} processors busy, and its busiest thread {:.0}% of one: it was \
                 the limit, not the target",
                phase.cpu.harness_cores.unwrap_or_default(),
                phase.cpu.machine_cores,
                phase.cpu.busiest_thread.unwrap_or_default() * 100.0
            )),
            Some(_) => self.warn(format!(
                "{name}: the machine was {:.0}% busy{}: all processes on it together were the limit, not the target alone",
                phase.cpu.machine_busy.unwrap_or_default() * 100.0,
                match phase.cpu.machine_steal {
                    Some(steal) if steal >= STEAL => format!(", with {:.0}% steal", steal * 100.0),
                    _ => String::new(),
                }
            )),
            None => {}
        }
    }
}

/// Whether no good run has an answer with this code.
pub(crate) fn is_wrong(code: &str) -> bool {
    NEVER.contains(&code)
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

impl Phase {
    /// By operation: requests and failures.
    fn failures(&self) -> BTreeMap<&str, (u64, u64)> {
        let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for series in &self.series {
            let (requests, failed) = found.entry(&series.operation).or_default();
            *requests += series.count;
            *failed += series.errors.values().sum::<u64>();
        }
        found
    }

    /// Failures by code.
    pub(crate) fn errors(&self) -> BTreeMap<&str, u64> {
        let mut found: BTreeMap<&str, u64> = BTreeMap::new();
        for (code, count) in self.series.iter().flat_map(|series| &series.errors) {
            *found.entry(code).or_default() += count;
        }
        found
    }
}

impl Report {
    /// Adds what a reader must know; true if the figures must not be trusted.
    pub(crate) fn warn(&mut self) -> bool {
        let mut found = Findings::default();
        if !self.environment.optimised {
            found.warn(
                "the harness was built without optimisation: its client overhead is large"
                    .to_owned(),
            );
        }
        let proxies = Matcher::from_env();
        for (name, url) in &self.environment.targets {
            if is_proxied(url, &proxies) {
                found.warn(format!(
                    "{name} is called through a proxy of the environment: its times are the proxy's, too"
                ));
            }
        }
        for phase in &self.phases {
            let name = format!("{}, {} loop", phase.path, phase.loop_kind);
            found.phase(&name, phase);
            // A baseline measures the harness on purpose.
            if let Some(reason) = phase
                .harness_limited_because
                .as_ref()
                .filter(|_| phase.path != "null")
            {
                // Its times are upper bounds: what they keep is kept.
                found.warn(format!(
                    "{name}: harness-limited, times are upper bounds: {reason}"
                ));
            }
        }
        for part in &self.staleness {
            if let Some(background) = &part.background {
                let name = format!("{}, {} loop", background.path, background.loop_kind);
                found.phase(&name, background);
                // It is not what staleness measures.
                if let Some(reason) = &background.harness_limited_because {
                    found.warn(format!("{name}: harness-limited: {reason}"));
                }
            }
            part.warn(self.interrupted, &mut found);
        }
        for fault in &self.chaos {
            fault.warn(&mut found);
        }
        if let Some(it) = self
            .watchers
            .as_ref()
            .filter(|it| it.heard < it.calls.into())
        {
            found.distrust(format!(
                "{} of {} watchers received their change",
                it.heard, it.calls
            ));
        }
        self.neighbours.iter().for_each(|one| one.warn(&mut found));
        self.capacity.iter().for_each(|one| one.warn(&mut found));
        for trend in self.soak.iter().flat_map(|soak| &soak.trends) {
            trend.warn(&mut found);
        }
        self.warnings.append(&mut found.warnings);
        self.untrusted_because.append(&mut found.untrusted);
        !self.untrusted_because.is_empty()
    }
}

impl Neighbour {
    fn warn(&self, found: &mut Findings) {
        if let Some(reason) = &self.no_verdict_because {
            found.distrust(format!("{}, {}: {reason}", self.noise, self.backend));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{Report, table, tests::sample};

    #[test]
    fn answers_that_did_not_come_in_time_make_a_run_untrusted() {
        let with = |code: &str, count| {
            let mut report = sample();
            let series = &mut report.phases[1].series;
            series[0].count = 3_000;
            series[1].errors = [(code.to_owned(), count)].into();
            report.warn()
        };
        assert!(!with("UNAVAILABLE", 4));
        assert!(with("DEADLINE_EXCEEDED", 4) && with("no answer in time", 4));
        assert!(!with("DEADLINE_EXCEEDED", 3), "0.1 %");
    }

    #[test]
    fn an_operation_that_always_fails_is_no_success() {
        let mut report = sample();
        assert!(!report.warn());
        let series = &mut report.phases[1].series;
        series.remove(0);
        assert!(report.warn());
        assert!(
            report
                .warnings
                .contains(&"grpc, closed loop: 100% of get failed".to_owned())
        );
    }

    #[test]
    fn a_harness_limited_loop_is_shown_and_marked() {
        let mut report = sample();
        let limit = |report: &mut Report, is_null: bool| {
            let mut phases = report.phases.iter_mut();
            let open =
                phases.find(|phase| phase.lag.is_some() && (phase.path == "null") == is_null);
            let found = open.map(|phase| phase.harness_limited_because = Some("late".to_owned()));
            found.is_some()
        };
        limit(&mut report, true);
        assert!(!report.warn());
        let baseline = table::render(&report);
        assert!(
            !baseline.contains("HARNESS-LIMITED"),
            "the baseline is the harness itself"
        );
        assert!(limit(&mut report, false));
        assert!(!report.warn(), "upper bounds are no lie");
        let text = table::render(&report);
        for wanted in [
            "HARNESS-LIMITED",
            "grpc *",
            "harness-limited, times are upper bounds: late",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
    }
}
