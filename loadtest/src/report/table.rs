//! The table that a terminal shows.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use crate::{
    figures::{RECEIPT_STAGES, VISIBLE_STAGES},
    recorder::{BARE, PERCENTILES, quantiles},
    report::{Neighbour, Phase, Quantiles, Ratio, Report, Staleness},
};

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

/// The unit that suits a time in microseconds: its length in microseconds, its decimals and its name.
fn unit(us: f64) -> (f64, usize, &'static str) {
    if us < 1_000.0 {
        (1.0, 0, "µs")
    } else if us < 10_000.0 {
        (1e3, 2, "ms")
    } else if us < 1_000_000.0 {
        (1e3, 1, "ms")
    } else {
        (1e6, 2, "s")
    }
}

/// A time in microseconds, in the unit that suits it.
pub(crate) fn time(us: f64) -> String {
    let (length, decimals, name) = unit(us);
    format!("{:.decimals$} {name}", us / length)
}

/// A time and its interval, all in the unit of the time: `98.8 ms [64.9, -]`, where the upper end is unbounded.
pub(crate) fn time_with_interval(us: f64, low: f64, high: Option<f64>) -> String {
    let (length, decimals, _) = unit(us);
    let end = |us: f64| format!("{:.decimals$}", us / length);
    let high = high.map_or("-".to_owned(), end);
    format!("{} [{}, {high}]", time(us), end(low))
}

/// All of a result.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let environment = &report.environment;
    let _ = writeln!(
        text,
        "{} of commit {}{}, {} x {}, {:.0} s{}",
        report.kind,
        environment.commit,
        environment
            .services_profile
            .as_ref()
            .or(environment.profile.as_ref())
            .map_or(String::new(), |profile| format!(", profile {profile}")),
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
                "closed loop (users send the next request when they have their answer)"
            } else {
                "open loop (fixed rate, each request timed from when it was due)"
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
    crate::report::propagation::render(report, &mut text);
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
    let ratio = |ratio: Option<Ratio>| {
        ratio.map_or("-".to_owned(), |ratio| {
            format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
        })
    };
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
            "DynamoDB itself",
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
            percentile(&one.alone, "p50"),
            percentile(&one.beside, "p50"),
            percentile(&one.alone, "p99"),
            percentile(&one.beside, "p99"),
            ratio(one.ratio_of_p99),
            ratio(one.control),
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
        "\na quiet tenant's cold reads (open loop), alone and beside a noisy neighbour; a failed read counts as 5 s; \
         DynamoDB itself: the ratio of reads that do not go through the service\n{table}"
    );
}

/// One phase in one line, as soon as it is measured.
pub(crate) fn line(phase: &Phase) -> String {
    let what = format!("{}, {} loop", path(phase), phase.loop_kind);
    if let Some(reason) = &phase.not_sustained_because {
        return format!("{what}: not sustained: {reason}");
    }
    let all = quantiles(&phase.times(|_| true, true));
    let shown = |name| percentile(&all, name);
    let (rate, p50, p99) = (phase.answered_per_second, shown("p50"), shown("p99"));
    format!("{what}: {rate:.0} requests/s, p50 {p50}, p99 {p99}")
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
    if phase.series.len() > 1 {
        let all = quantiles(&phase.times(|_| true, true));
        let good = phase.series.iter().filter(|one| one.result != "failed");
        let errors = phase.series.iter().flat_map(|one| one.errors.values());
        let mut row = vec![
            path(phase),
            "all".to_owned(),
            String::new(),
            String::new(),
            phase
                .series
                .iter()
                .map(|one| one.count)
                .sum::<u64>()
                .to_string(),
            format!("{:.0}", good.map(|one| one.per_second).sum::<f64>()),
        ];
        row.extend(quantile_cells(phase.sustained.then_some(&all)));
        row.push(match errors.sum::<u64>() {
            0 => String::new(),
            failed => failed.to_string(),
        });
        table.row(row);
    }
    for series in &phase.series {
        let errors: Vec<_> = series
            .errors
            .iter()
            .map(|(code, count)| format!("{code} x {count}"))
            .collect();
        let mut row = vec![
            path(phase),
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

fn path(phase: &Phase) -> String {
    match &phase.null_of {
        Some(of) => format!("baseline ({of})"),
        None if phase.harness_limited_because.is_some() => format!("{} *", phase.path),
        None => phase.path.clone(),
    }
}

fn quantile_cells(times: Option<&Quantiles>) -> [String; 5] {
    let Some(times) = times else {
        return ["withheld", "", "", "", ""].map(ToOwned::to_owned);
    };
    let [p50, p90, p99, p999] = PERCENTILES.map(|(name, _, _)| percentile(times, name));
    [p50, p90, p99, p999, cell(Some(times.max_us))]
}

/// A time, or that there is none.
pub(super) fn cell(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), |us| time(us as f64))
}

/// A percentile, with its interval unless it has ten times the samples that it needs.
pub(super) fn percentile(times: &Quantiles, name: &str) -> String {
    let of_name = |(known, _, _): &&(&str, f64, u64)| *known == name;
    let least = PERCENTILES
        .iter()
        .find(of_name)
        .map_or(0, |(_, _, least)| *least);
    match (times.at(name), times.intervals.get(name)) {
        (Some(us), Some(interval)) if times.count < least * BARE => {
            let high = interval.high_us.map(|us| us as f64);
            time_with_interval(us as f64, interval.low_us as f64, high)
        }
        (us, _) => cell(us),
    }
}

/// The stages of updates, those that readers see first.
fn stages(all: &BTreeMap<String, Quantiles>) -> Vec<(&str, &Quantiles)> {
    let mut stages: Vec<_> = all
        .iter()
        .map(|(name, times)| (name.as_str(), times))
        .collect();
    let rank = |stage: &str| {
        let order = VISIBLE_STAGES
            .iter()
            .chain(&["edge", "order", "acknowledge"]);
        order
            .chain(&RECEIPT_STAGES)
            .position(|known| *known == stage)
    };
    stages.sort_by_key(|(stage, _)| rank(stage).unwrap_or(usize::MAX));
    stages
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
        for (stage, times) in stages(&source.stages) {
            let is_receipt = RECEIPT_STAGES.contains(&stage);
            let is_part = is_receipt || stage == "acknowledge";
            let name = stage.replace('_', " ");
            let mut row = vec![
                source.source.clone(),
                if is_part { format!("  ({name})") } else { name },
                times.count.to_string(),
            ];
            let mut cells = quantile_cells(Some(times));
            for (cell, (name, _, _)) in cells.iter_mut().zip(PERCENTILES) {
                let floor = source.floors.get(stage).and_then(|floor| floor.at(name));
                // The update may have been visible at once: the first read that could show it did.
                if floor == Some(0) && times.at(name).is_some() {
                    cell.insert_str(0, "<= ");
                }
            }
            // Receipts have whole milliseconds: a time below one was none.
            for cell in cells
                .iter_mut()
                .filter(|cell| is_receipt && cell.contains("µs"))
            {
                "< 1 ms".clone_into(cell);
            }
            row.extend(cells);
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
            "a replica's times are known to {} (median time from the last read without an update to the first with it; p99 {})",
            cell(resolution.p50_us),
            cell(resolution.p99_us)
        );
    }
    let own: f64 = part.observers.iter().map(|one| one.reads_per_second).sum();
    if own > 0.0 {
        let _ = writeln!(
            text,
            "the observers themselves made {own:.0} reads a second"
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
    fn percentiles_of_few_samples_have_intervals() {
        assert_eq!(
            time_with_interval(98_800.0, 64_900.0, None),
            "98.8 ms [64.9, -]"
        );
        assert_eq!(
            time_with_interval(950.0, 80.0, Some(2_000.0)),
            "950 µs [80, 2000]"
        );
        let text = render(&crate::report::tests::sample());
        assert!(
            text.contains("300 µs [300, -]"),
            "p99 of 100 samples:\n{text}"
        );
        assert!(
            !text.contains("] [") && text.contains(" 300 µs  300 µs  300 µs [300, -]"),
            "p50 and p90 stand alone:\n{text}"
        );
    }

    #[test]
    fn all_answers_include_failures_as_the_time_out() {
        let text = render(&crate::report::tests::sample());
        let row = text
            .lines()
            .find(|line| line.starts_with("grpc") && line.contains(" all "))
            .unwrap();
        assert!(row.contains(" 202 ") && row.contains("10.00 s"), "{row}");
        assert!(row.ends_with("  2"), "failures: {row}");
    }

    #[test]
    fn times_below_the_resolution_are_upper_bounds() {
        let mut report = crate::report::tests::sample();
        let source = &mut report.staleness[0].sources[0];
        let zero = Quantiles {
            p50_us: Some(0),
            p90_us: Some(2_000),
            ..Quantiles::default()
        };
        source.floors.insert("last_replica".to_owned(), zero);
        let text = render(&report);
        let row = text
            .lines()
            .find(|line| line.contains("last replica"))
            .unwrap();
        assert!(
            row.contains("  <= 45.0 ms [45.0, 45.0]  45.0 ms [45.0, -]"),
            "{row}"
        );
    }

    #[test]
    fn receipts_of_no_millisecond_are_no_microsecond() {
        let mut report = crate::report::tests::sample();
        let mut times = crate::recorder::histogram(3);
        times.saturating_record_n(1, 30);
        let stages = &mut report.staleness[0].sources[0].stages;
        stages.insert("read".to_owned(), quantiles(&times));
        let text = render(&report);
        let row = text.lines().find(|line| line.contains("(read)")).unwrap();
        assert!(row.contains("< 1 ms") && !row.contains("µs"), "{row}");
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
