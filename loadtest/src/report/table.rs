//! The table that a terminal shows.

use std::fmt::{self, Write as _};

use crate::report::{Neighbour, Phase, Quantiles, Report, Staleness};

/// Columns, the first ones to the left and the others to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    /// A table with this head.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()],
            left: 1,
        }
    }

    pub(super) fn with_left(head: &[&str], left: usize) -> Self {
        Self {
            left,
            ..Self::new(head)
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                if column > 0 {
                    line.push_str("  ");
                }
                if column < self.left {
                    let _ = write!(line, "{cell:<width$}");
                } else {
                    let _ = write!(line, "{cell:>width$}");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A time in microseconds, in the unit that suits it.
pub(crate) fn time(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.0} µs")
    } else if us < 10_000.0 {
        format!("{:.2} ms", us / 1e3)
    } else if us < 1_000_000.0 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// All of a result.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let environment = &report.environment;
    let _ = writeln!(
        text,
        "{} of commit {}, {} x {}, {:.0} s{}",
        report.kind,
        environment.commit,
        environment.cores,
        environment.processor,
        report.seconds,
        if report.interrupted {
            ", INTERRUPTED"
        } else {
            ""
        }
    );
    if report.phases.iter().any(|phase| phase.null_of.is_some()) {
        text.push_str(
            "baseline: the same load at a target on this machine that answers at once (loopback, no TLS)\n",
        );
    }
    for loop_kind in ["closed", "open"] {
        let phases = report
            .phases
            .iter()
            .filter(|phase| phase.loop_kind == loop_kind);
        let mut table = latency_table();
        phases.for_each(|phase| latency_rows(phase, &mut table));
        if !table.is_empty() {
            let explained = if loop_kind == "closed" {
                "closed loop (users ask again when they have their answer)"
            } else {
                "open loop (fixed rate, timed from when each question was due)"
            };
            let _ = write!(text, "\n{explained}\n{table}");
            for phase in report.phases.iter().filter(|p| p.loop_kind == loop_kind) {
                if let (Some(lag), None) = (&phase.lag, &phase.null_of) {
                    let _ = writeln!(
                        text,
                        "{}: requests were sent {} (p50), {} (p99) after they were due{}",
                        phase.path,
                        cell(lag.p50_us),
                        cell(lag.p99_us),
                        if phase.harness_limited_because.is_some() {
                            ": * HARNESS-LIMITED"
                        } else {
                            ""
                        }
                    );
                }
            }
        }
    }
    for part in &report.staleness {
        staleness(part, &mut text);
    }
    if !report.neighbours.is_empty() {
        neighbours(&report.neighbours, &mut text);
    }
    for one in &report.capacity {
        one.render(&mut text);
    }
    if let Some(soak) = &report.soak {
        soak.render(&mut text);
    }
    for warning in &report.warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    if !report.warnings.is_empty() {
        text.push('\n');
    }
    for verdict in &report.slos {
        let met = if verdict.met { "met     " } else { "BREACHED" };
        let _ = write!(text, "\nSLO {met}  {}  ({})", verdict.slo, verdict.measured);
    }
    if !report.slos.is_empty() {
        text.push('\n');
    }
    text
}

fn neighbours(rows: &[Neighbour], text: &mut String) {
    let mut table = Table::with_left(
        &[
            "noisy neighbour",
            "quiet cold reads",
            "reads",
            "p50 alone",
            "p50 beside",
            "p99 alone",
            "p99 beside",
            "ratio of p99 (95 %)",
            "quiet failed",
            "noisy accepted",
            "refused",
            "failed",
            "machine busy",
            "",
        ],
        2,
    );
    for one in rows {
        table.row([
            one.noise.clone(),
            one.backend.clone(),
            one.beside.count.to_string(),
            cell(one.alone.p50_us),
            cell(one.beside.p50_us),
            cell(one.alone.p99_us),
            cell(one.beside.p99_us),
            one.ratio_of_p99.map_or("-".to_owned(), |ratio| {
                format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
            }),
            one.beside_failed.to_string(),
            one.accepted.to_string(),
            one.refused.to_string(),
            one.failed.to_string(),
            one.machine_busy
                .map_or("-".to_owned(), |busy| format!("{:.0}%", busy * 100.0)),
            match one.within_limit {
                Some(true) => "ok".to_owned(),
                Some(false) => format!("ABOVE {}", one.limit),
                None => "no verdict".to_owned(),
            },
        ]);
    }
    let _ = write!(
        text,
        "\na quiet tenant's cold reads (open loop), alone and beside a noisy neighbour; a failed read counts as 5 s\n{table}"
    );
}

fn latency_table() -> Table {
    Table::with_left(
        &[
            "path",
            "scenario",
            "operation",
            "result",
            "count",
            "per s",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "errors",
        ],
        4,
    )
}

fn latency_rows(phase: &Phase, table: &mut Table) {
    for series in &phase.series {
        let errors: Vec<_> = series
            .errors
            .iter()
            .map(|(code, count)| format!("{code} x {count}"))
            .collect();
        let mut row = vec![
            match &phase.null_of {
                Some(of) => format!("baseline ({of})"),
                None if phase.harness_limited_because.is_some() => format!("{} *", phase.path),
                None => phase.path.clone(),
            },
            series.scenario.clone(),
            series.operation.clone(),
            series.result.clone(),
            series.count.to_string(),
            format!("{:.0}", series.per_second),
        ];
        row.extend(quantile_cells(series.latency.as_ref()));
        row.push(errors.join(", "));
        table.row(row);
    }
}

fn quantile_cells(times: Option<&Quantiles>) -> [String; 5] {
    let Some(times) = times else {
        return ["withheld", "", "", "", ""].map(ToOwned::to_owned);
    };
    [
        times.p50_us,
        times.p90_us,
        times.p99_us,
        times.p999_us,
        Some(times.max_us),
    ]
    .map(cell)
}

/// A time, or that there is none.
pub(super) fn cell(us: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of some minutes")]
    us.map_or("-".to_owned(), |us| time(us as f64))
}

fn staleness(part: &Staleness, text: &mut String) {
    let _ = writeln!(
        text,
        "\nstaleness beside {} reads/s: from an update's acknowledgement until it is visible",
        part.background_per_second
    );
    let mut table = Table::with_left(
        &[
            "source", "until", "updates", "p50", "p90", "p99", "p99.9", "max", "lost",
        ],
        2,
    );
    for source in &part.sources {
        for stage in crate::slo::STAGES {
            let Some(times) = source.stages.get(stage) else {
                continue;
            };
            let mut row = vec![
                source.source.clone(),
                match stage {
                    "first_replica" | "last_replica" | "edge" | "order" => stage.replace('_', " "),
                    part => format!("  ({})", part.replace('_', " ")),
                },
                times.count.to_string(),
            ];
            row.extend(quantile_cells(Some(times)));
            if stage == "last_replica" {
                row.push(source.lost.to_string());
            }
            table.row(row);
        }
    }
    text.push_str(&table.to_string());
    for source in part.sources.iter().filter(|source| source.passed_over > 0) {
        let _ = writeln!(
            text,
            "{}: {} updates were due and not made",
            source.source, source.passed_over
        );
    }
    if let Some(resolution) = &part.resolution {
        let _ = writeln!(
            text,
            "a replica's times are known to {} (median distance of two probes; p99 {})",
            cell(resolution.p50_us),
            cell(resolution.p99_us)
        );
    }
    let _ = writeln!(
        text,
        "history: {} reads checked, {} violations",
        part.history.reads,
        part.history.violations.len()
    );
    for violation in part.history.violations.iter().take(20) {
        let _ = writeln!(text, "  VIOLATION {violation}");
    }
    if let Some(services) = &part.services {
        let repaired: Vec<_> = services
            .repaired
            .iter()
            .map(|(by, count)| format!("{count} by {by}"))
            .collect();
        let _ = writeln!(
            text,
            "the {} replicas say: {} changes applied, repaired without a push: {}",
            services.replicas,
            services.applied.values().sum::<u64>(),
            if repaired.is_empty() {
                "none".to_owned()
            } else {
                repaired.join(", ")
            }
        );
    }
    if let Some(phase) = &part.background {
        let mut table = latency_table();
        latency_rows(phase, &mut table);
        let _ = write!(text, "the background load (open loop)\n{table}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_table() {
        let report = crate::report::tests::sample();
        let text = render(&report);
        for wanted in [
            "closed loop",
            "open loop",
            "baseline (grpc)",
            "UNAVAILABLE x 2",
            "last replica",
            "warning: ",
            "100 µs",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
    }

    #[test]
    fn what_was_not_sustained_has_no_times() {
        let mut report = crate::report::tests::sample();
        for series in &mut report.phases[2].series {
            series.latency = None;
        }
        assert!(render(&report).contains("withheld"));
    }
}
