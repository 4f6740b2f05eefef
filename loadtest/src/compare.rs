//! `loadtest compare A B`: what changed from one result to another, with ratios.

use std::collections::BTreeMap;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::{
    Ended,
    cli::CompareOptions,
    recorder::{micros, quantiles, restored},
    report::{
        Phase, Quantiles, Report,
        table::{Table, time},
    },
};

/// The share of failures may rise by so much.
const ERRORS_TOLERANCE: f64 = 0.001;

/// A figure in both results.
struct Row {
    name: String,
    base: Option<f64>,
    new: Option<f64>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Microseconds: less is better.
    Time,
    /// A second: more is better.
    Rate,
    /// A fraction: less is better.
    Share,
    /// Any more is worse.
    Count,
}

/// How much worse is a regression.
struct Tolerance {
    threshold: f64,
    noise_us: f64,
}

/// `loadtest compare`.
pub(crate) fn command(options: &CompareOptions) -> anyhow::Result<Ended> {
    let (base, new) = (Report::read(&options.base)?, Report::read(&options.new)?);
    if base.kind != new.kind {
        bail!(
            "{} is of kind {} and {} of kind {}: they have nothing in common",
            options.base.display(),
            base.kind,
            options.new.display(),
            new.kind
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a short time")]
    let tolerance = Tolerance {
        threshold: options.threshold,
        noise_us: micros(options.noise) as f64,
    };
    let rows = rows(&base, &new);
    if rows.is_empty() {
        bail!("the two results have no figure in common");
    }
    for warning in differences(&base, &new) {
        println!("note: {warning}");
    }
    let mut table = Table::new(&["figure", "base", "new", "ratio", ""]);
    let mut worse = Vec::new();
    for row in &rows {
        let regression = row.is_worse(&tolerance);
        if regression {
            worse.push(row.name.as_str());
        }
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| row.kind.show(value));
        let ratio = match (row.base, row.new) {
            (Some(base), Some(new)) if base > 0.0 => format!("{:.2}", new / base),
            _ => "-".to_owned(),
        };
        let mark = if regression { "WORSE" } else { "" };
        table.row([
            row.name.clone(),
            show(row.base),
            show(row.new),
            ratio,
            mark.to_owned(),
        ]);
    }
    println!("{table}");
    let percent = options.threshold * 100.0;
    if worse.is_empty() {
        println!("no figure is worse by more than {percent}%");
        return Ok(Ended::Well);
    }
    println!(
        "{} of {} figures are worse by more than {percent}%: {}",
        worse.len(),
        rows.len(),
        worse.join(", ")
    );
    Ok(Ended::Breached)
}

/// What makes ratios doubtful.
fn differences(base: &Report, new: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let (a, b) = (&base.environment, &new.environment);
    if (&a.processor, a.cores) != (&b.processor, b.cores) {
        found.push(format!(
            "the machines differ: {} x {}, {} x {}",
            a.cores, a.processor, b.cores, b.processor
        ));
    }
    if a.optimised != b.optimised {
        found.push("one of them was measured by a harness without optimisation".to_owned());
    }
    for (name, value) in &base.settings {
        match new.settings.get(name) {
            Some(other) if other != value => {
                found.push(format!("{name} was {value}, and {other}"));
            }
            _ => {}
        }
    }
    if base.interrupted || new.interrupted {
        found.push("a run was interrupted".to_owned());
    }
    found
}

fn rows(base: &Report, new: &Report) -> Vec<Row> {
    let (base, new) = (figures(base), figures(new));
    base.iter()
        .map(|(name, (kind, value))| Row {
            name: name.clone(),
            base: *value,
            new: new.get(name).and_then(|(_, value)| *value),
            kind: *kind,
        })
        .collect()
}

/// All figures of a result, by name.
fn figures(report: &Report) -> BTreeMap<String, (Kind, Option<f64>)> {
    let mut found = BTreeMap::new();
    for phase in report.phases.iter().filter(|phase| phase.path != "null") {
        let name = format!("{}.{}", phase.loop_kind, phase.path);
        of_phase(&name, phase, &mut found);
    }
    for part in &report.staleness {
        let load = format!("beside {}/s", part.background_per_second);
        for source in &part.sources {
            let name = format!("staleness.{}", source.source);
            #[expect(clippy::cast_precision_loss, reason = "a small count")]
            let lost = source.lost as f64;
            found.insert(format!("{name}.lost {load}"), (Kind::Count, Some(lost)));
            for stage in ["first_replica", "last_replica", "edge", "order"] {
                if let Some(times) = source.stages.get(stage) {
                    percentiles(
                        &format!("{name}.{stage}"),
                        &format!(" {load}"),
                        times,
                        &mut found,
                    );
                }
            }
        }
        if let Some(phase) = &part.background {
            of_phase(&format!("background {load}"), phase, &mut found);
        }
    }
    found
}

fn of_phase(name: &str, phase: &Phase, found: &mut BTreeMap<String, (Kind, Option<f64>)>) {
    let mut by_result: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    let (mut count, mut errors) = (0, 0);
    for series in &phase.series {
        count += series.count;
        errors += series.errors.values().sum::<u64>();
        let times = restored(&series.histogram);
        match by_result.get_mut(series.result.as_str()) {
            Some(sum) => {
                let _ = sum.add(&times);
            }
            None => {
                by_result.insert(&series.result, times);
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    let share = (count > 0).then(|| errors as f64 / count as f64);
    found.insert(format!("{name}.errors"), (Kind::Share, share));
    let unsustained = f64::from(u8::from(!phase.sustained));
    found.insert(
        format!("{name}.unsustained"),
        (Kind::Count, Some(unsustained)),
    );
    if phase.loop_kind == "closed" {
        found.insert(
            format!("{name}.rate"),
            (Kind::Rate, Some(phase.answered_per_second)),
        );
    }
    for (result, times) in by_result {
        if result != "failed" && phase.sustained {
            percentiles(&format!("{name}.{result}"), "", &quantiles(&times), found);
        }
    }
}

fn percentiles(
    name: &str,
    suffix: &str,
    times: &Quantiles,
    found: &mut BTreeMap<String, (Kind, Option<f64>)>,
) {
    let all = [
        ("p50", times.p50_us),
        ("p90", times.p90_us),
        ("p99", times.p99_us),
        ("p99.9", times.p999_us),
    ];
    for (statistic, value) in all {
        if let Some(us) = value {
            #[expect(clippy::cast_precision_loss, reason = "microseconds of some minutes")]
            let us = us as f64;
            found.insert(
                format!("{name}.{statistic}{suffix}"),
                (Kind::Time, Some(us)),
            );
        }
    }
}

impl Row {
    fn is_worse(&self, tolerance: &Tolerance) -> bool {
        let (Some(base), new) = (self.base, self.new) else {
            return false;
        };
        // A percentile may be gone for want of samples; a whole phase may not.
        let Some(new) = new else {
            return self.kind != Kind::Time;
        };
        match self.kind {
            Kind::Time => {
                new > base * (1.0 + tolerance.threshold) && new - base > tolerance.noise_us
            }
            Kind::Rate => new < base * (1.0 - tolerance.threshold),
            Kind::Share => new - base > ERRORS_TOLERANCE,
            Kind::Count => new > base,
        }
    }
}

impl Kind {
    fn show(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Rate => format!("{value:.0}/s"),
            Self::Share => format!("{:.3}%", value * 100.0),
            Self::Count => format!("{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    const TOLERANCE: Tolerance = Tolerance {
        threshold: 0.2,
        noise_us: 10.0,
    };

    fn worse(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut new = sample();
        change(&mut new);
        rows(&sample(), &new)
            .into_iter()
            .filter(|row| row.is_worse(&TOLERANCE))
            .map(|row| row.name)
            .collect()
    }

    #[test]
    fn a_result_is_no_worse_than_itself() {
        assert_eq!(worse(|_| ()), [""; 0]);
    }

    #[test]
    fn each_kind_of_regression_is_found() {
        assert_eq!(
            worse(|new| new.phases[1].series[0].histogram = vec![(200, 200)]),
            [
                "closed.grpc.hit.p50",
                "closed.grpc.hit.p90",
                "closed.grpc.hit.p99"
            ]
        );
        assert_eq!(
            worse(|new| new.phases[1].answered_per_second /= 2.0),
            ["closed.grpc.rate"]
        );
        assert_eq!(
            worse(|new| {
                new.phases[1].series[1].errors.insert("X".to_owned(), 5);
            }),
            ["closed.grpc.errors"]
        );
        assert_eq!(
            worse(|new| new.staleness[0].sources[0].lost = 1),
            ["staleness.dynamodb.lost beside 0/s"]
        );
        assert_eq!(
            worse(|new| new.phases[2].sustained = false),
            ["open.grpc.unsustained"]
        );
        assert_eq!(
            worse(|new| {
                new.phases.remove(2);
            }),
            ["open.grpc.errors", "open.grpc.unsustained"]
        );
    }

    #[test]
    fn noise_is_no_regression() {
        assert_eq!(
            worse(|new| new.phases[1].series[0].histogram = vec![(108, 200)]),
            [""; 0]
        );
        assert_eq!(
            worse(|new| new.phases[1].series[0].histogram = vec![(100, 98)]),
            [""; 0],
            "too few for a p99"
        );
    }
}
