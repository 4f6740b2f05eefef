//! Results for other programs: every figure as CSV, every verdict as JUnit.

use std::{fmt::Write as _, path::Path, time::Duration};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use crate::{
    cli::Export,
    figures::figures,
    report::{Draft, Report},
};

/// Writes the requested exports of these runs.
pub(crate) fn write(runs: &[Report], export: &Export) -> anyhow::Result<()> {
    let write = |file: &Path, text: &str| Draft::write(file, text)?.publish();
    if let Some(file) = &export.csv {
        write(file, &csv(runs))?;
    }
    if let Some(file) = &export.junit {
        write(file, &junit(runs)?)?;
    }
    Ok(())
}

/// A line for each figure of each run; RFC 4180.
fn csv(runs: &[Report]) -> String {
    let mut text = "run,figure,unit,value,samples,low,high,reason\n".to_owned();
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for (run, report) in (1..).zip(runs) {
        for (name, figure) in figures(report) {
            let (value, reason) = match figure.value {
                Ok(value) => (Some(value), String::new()),
                Err(reason) => (None, reason),
            };
            let (low, high) = figure.interval.unzip();
            let _ = writeln!(
                text,
                "{run},{name},{},{},{},{},{},\"{}\"",
                figure.kind.unit(),
                number(value),
                figure.n,
                number(low),
                number(high.flatten()),
                reason.replace('"', "\"\"")
            );
        }
    }
    text
}

/// A test suite for each run.
fn junit(runs: &[Report]) -> anyhow::Result<String> {
    let mut all = quick_junit::Report::new("loadtest");
    for (run, report) in (1..).zip(runs) {
        let mut suite = TestSuite::new(format!("{} run {run}", report.kind));
        suite.set_time(Duration::try_from_secs_f64(report.seconds).unwrap_or_default());
        for (class, name, verdict) in verdicts(report) {
            let status = match &verdict {
                Ok(()) => TestCaseStatus::success(),
                Err(reason) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(reason.as_str());
                    status
                }
            };
            let mut case = TestCase::new(name, status);
            case.set_classname(class);
            suite.add_test_case(case);
        }
        all.add_test_suite(suite);
    }
    Ok(all.to_string()?)
}

/// Every verdict of a result: class, name, and what was wrong.
fn verdicts(report: &Report) -> Vec<(&'static str, String, Result<(), String>)> {
    let judged = |good: bool, reason: &str| if good { Ok(()) } else { Err(reason.to_owned()) };
    let mut all = Vec::new();
    let reasons = report.untrusted_because.join("; ");
    let trusted = judged(reasons.is_empty(), &reasons);
    all.push(("trusted", report.kind.clone(), trusted));
    for one in &report.slos {
        all.push(("slo", one.slo.clone(), judged(one.met, &one.measured)));
    }
    for phase in report.phases.iter().filter(|phase| phase.path != "null") {
        let name = format!("{} loop, {}", phase.loop_kind, phase.path);
        let reason = phase.not_sustained_because.as_deref().unwrap_or_default();
        all.push(("rate is sustained", name, judged(phase.sustained, reason)));
    }
    for one in &report.capacity {
        let held = judged(one.held_per_second.is_some(), "no rate held");
        all.push(("a rate holds", one.path.clone(), held));
    }
    for one in report.soak.iter().flat_map(|soak| &soak.trends) {
        let name = format!("{} of {}", one.what, one.of);
        let steady = judged(one.within_limit == Some(true), one.verdict());
        all.push(("steady", name, steady));
    }
    for part in &report.staleness {
        let name = format!("beside {} reads/s", part.background_per_second);
        let violations = &part.history.violations;
        all.push((
            "history",
            name,
            judged(violations.is_empty(), &violations.join("\n")),
        ));
    }
    for one in &report.chaos {
        let name = format!("{} (seed {}): {}", one.name, one.seed, one.title);
        all.push(("promise", name, judged(one.kept, &one.problems.join("\n"))));
    }
    for one in &report.neighbours {
        let name = format!("{}, {}", one.noise, one.backend);
        let reason = one.ratio_of_p99.map_or("no verdict".to_owned(), |ratio| {
            format!("{:.2} is above {}", ratio.value, one.limit)
        });
        all.push((
            "neighbour",
            name,
            judged(one.within_limit == Some(true), &reason),
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        report::{
            capacity::Capacity,
            soak::{Soak, Trend},
            tests::sample,
        },
        slo::Verdict,
    };

    #[test]
    fn every_figure_has_a_line() {
        let text = csv(&[sample(), sample()]);
        assert_eq!(text.lines().count(), 1 + 2 * figures(&sample()).len());
        assert!(
            text.contains("\n2,open.grpc.hit.p99,us,300,100,300,,\"\"\n"),
            "{text}"
        );
        assert!(text.contains(
            "\n1,open.grpc.hit.p99.9,us,,100,,,\"p99.9 needs 1000 samples, there are 100\"\n"
        ));
        assert!(
            text.lines().all(|line| line.split(',').count() >= 8),
            "{text}"
        );
    }

    #[test]
    fn every_verdict_is_a_test_case() {
        let mut report = sample();
        report.slos = vec![Verdict {
            slo: "grpc.p99<1ms".to_owned(),
            met: false,
            measured: "2 ms & more".to_owned(),
        }];
        report.staleness[0].history.violations = vec!["went <back>".to_owned()];
        report.chaos = vec![crate::report::FaultRun {
            name: "dropped".to_owned(),
            problems: vec!["lost".to_owned()],
            ..Default::default()
        }];
        report.untrusted_because = vec!["late".to_owned()];
        report.capacity = vec![Capacity::default()];
        let trend = |within_limit| Trend {
            what: "memory".to_owned(),
            within_limit,
            ..Trend::default()
        };
        report.soak = Some(Soak {
            trends: vec![trend(Some(true)), trend(Some(false)), trend(None)],
            ..Soak::default()
        });
        let text = junit(&[report]).unwrap();
        for wanted in [
            "tests=\"10\" failures=\"7\"",
            "message=\"late\"",
            "message=\"no rate held\"",
            "message=\"GROWS\"",
            "classname=\"promise\"",
            "name=\"grpc.p99&lt;1ms\"",
            "2 ms &amp; more",
            "went &lt;back&gt;",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in {text}");
        }
        assert!(junit(&[sample()]).unwrap().contains("failures=\"0\""));
    }
}
