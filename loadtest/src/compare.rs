//! `loadtest compare`: what changed from some results to others. All figures of both sides are joined; one is worse if it
//! is worse by more than the tolerance and the intervals of the sides do not overlap.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::{
    Ended, Usage,
    cli::CompareOptions,
    figures::{Figure, Figures, Kind, figures},
    recorder::micros,
    report::{Draft, Report, page, table::Table},
};

/// The share of failures may rise by so much.
const ERRORS_TOLERANCE: f64 = 0.001;
/// The share of hits may fall by so much, whatever the ratio of the misses.
const SHARE_TOLERANCE: f64 = 0.005;
/// Results whose times may be gone: it is better to have none.
const MAY_VANISH: [&str; 2] = [".miss.", ".stale."];

/// A figure over the runs of a side.
#[derive(Clone, Copy, Debug)]
struct Side {
    kind: Kind,
    /// The median of the runs.
    value: f64,
    /// Of one run its own interval; of several the least and the greatest.
    low: f64,
    high: f64,
    /// The fewest samples of a run.
    n: u64,
    /// Runs that have it.
    runs: u32,
    /// Whether it is of one run, with a confidence interval.
    is_confidence: bool,
}

/// A figure of both sides.
pub(crate) struct Row {
    name: String,
    base: Option<Side>,
    new: Option<Side>,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Better,
    /// Worse by more than the tolerance, and the intervals overlap.
    Unclear,
    Worse,
    /// Missing in the new results.
    Gone,
}

/// How much worse is a regression.
struct Tolerance {
    threshold: f64,
    noise_us: f64,
}

/// `loadtest compare`.
pub(crate) fn command(options: &CompareOptions) -> anyhow::Result<Ended> {
    let (base, new) = match (options.results.as_slice(), options.new.as_slice()) {
        ([base, new], []) => (std::slice::from_ref(base), std::slice::from_ref(new)),
        (base, new @ [_, ..]) => (base, new),
        _ => {
            return Err(Usage(
                "name two results, or several on both sides of --: BASE... -- NEW...".to_owned(),
            )
            .into());
        }
    };
    let (base, new) = (read(base)?, read(new)?);
    let (fatal, notes) = differences(&base, &new);
    if !fatal.is_empty() && !options.force {
        let fatal = fatal.join("; ");
        return Err(Usage(format!(
            "these results are not comparable (--force compares them): {fatal}"
        ))
        .into());
    }
    let tolerance = Tolerance {
        threshold: options.threshold,
        noise_us: micros(options.noise) as f64,
    };
    let rows = rows(&all_figures(&base), &all_figures(&new), &tolerance);
    ensure!(!rows.is_empty(), "the results have no figure");
    let notes: Vec<_> = fatal.into_iter().chain(notes).collect();
    for note in &notes {
        println!("note: {note}");
    }
    let mut table = Table::new(&["figure", "base", "new", "ratio", ""]);
    for row in &rows {
        table.row(row.cells());
    }
    println!("{table}");
    if let Some(file) = &options.html {
        let cells: Vec<_> = rows.iter().map(Row::cells).collect();
        Draft::write(file, &page::compare(&base, &new, &cells, &notes)?)?.publish()?;
        println!("page: {}", file.display());
    }
    let is_worse = |row: &&Row| matches!(row.change, Change::Worse | Change::Gone);
    let worse: Vec<_> = rows
        .iter()
        .filter(is_worse)
        .map(|row| row.name.as_str())
        .collect();
    let unclear = rows
        .iter()
        .filter(|row| row.change == Change::Unclear)
        .count();
    if unclear > 0 {
        println!(
            "{unclear} figures may be worse: their intervals overlap, or one run has none; more or longer runs would show it"
        );
    }
    let percent = options.threshold * 100.0;
    if worse.is_empty() {
        println!("no figure is worse by more than {percent}%");
        return Ok(Ended::Well);
    }
    let (count, of) = (worse.len(), rows.len());
    println!(
        "{count} of {of} figures are worse by more than {percent}%: {}",
        worse.join(", ")
    );
    Ok(Ended::Breached)
}

/// The table of several runs: the median of each figure, and its range.
pub(crate) fn summary(runs: &[Report]) -> Table {
    let all = all_figures(runs);
    let last = format!("range of {} runs", runs.len());
    let mut table = Table::new(&["figure", "median", &last]);
    for name in names(&all) {
        if let Some(side) = Side::of(&all, name) {
            let show = |value| side.kind.show(value);
            let range = format!("{} to {}", show(side.low), show(side.high));
            table.row([name.clone(), show(side.value), range]);
        }
    }
    table
}

/// The results of files, and of the folders that `--repeat` made.
fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for path in paths {
        if !path.is_dir() {
            reports.push(Report::read(path)?);
            continue;
        }
        let file = |folder: &Path| Some(folder.join("result.json")).filter(|file| file.exists());
        let runs = (1..).map_while(|number: u32| file(&path.join(number.to_string())));
        let files: Vec<_> = file(path).map_or_else(|| runs.collect(), |file| vec![file]);
        ensure!(
            !files.is_empty(),
            "there is no result in {}",
            path.display()
        );
        for file in files {
            reports.push(Report::read(&file)?);
        }
    }
    Ok(reports)
}

/// Differences that make a comparison meaningless, and notes for the reader.
fn differences(base: &[Report], new: &[Report]) -> (Vec<String>, Vec<String>) {
    let (mut fatal, mut notes) = (Vec::new(), Vec::new());
    let Some(first) = base.first() else {
        return (fatal, notes);
    };
    for other in base.iter().skip(1).chain(new) {
        let (a, b) = (&first.environment, &other.environment);
        if first.kind != other.kind {
            fatal.push(format!(
                "one is of kind {}, one of kind {}",
                first.kind, other.kind
            ));
        }
        if (&a.processor, a.cores) != (&b.processor, b.cores) {
            let (p, q) = (&a.processor, &b.processor);
            fatal.push(format!(
                "the machines differ: {} x {p}, {} x {q}",
                a.cores, b.cores
            ));
        }
        if a.optimised != b.optimised {
            fatal.push("one was measured by a harness without optimisation".to_owned());
        }
        for (what, a, b) in [
            ("harness", &a.profile, &b.profile),
            ("services", &a.services_profile, &b.services_profile),
        ] {
            let of = |one: &Option<String>| one.clone().unwrap_or_else(|| "unknown".to_owned());
            if a != b {
                let (a, b) = (of(a), of(b));
                fatal.push(format!("the profiles of the {what} differ: {a}, {b}"));
            }
        }
        let names: std::collections::BTreeSet<_> =
            first.settings.keys().chain(other.settings.keys()).collect();
        for name in names {
            match (first.settings.get(name), other.settings.get(name)) {
                (Some(value), Some(own)) if own == value => {}
                // Which choices are random does not matter.
                (Some(_), Some(_)) if name == "seed" => {}
                (Some(value), Some(own)) => fatal.push(format!(
                    "{name} is {value} in one result and {own} in another"
                )),
                (value, own) => notes.push(format!(
                    "{name} is {} in one result and unknown in another",
                    value.or(own).unwrap_or_default()
                )),
            }
        }
        let replicas = |one: &Report| {
            one.environment
                .targets
                .get("grpc")
                .map(|all| all.split(", ").count())
        };
        if let (Some(a), Some(b)) = (replicas(first), replicas(other))
            && a != b
        {
            fatal.push(format!("the numbers of replicas differ: {a}, {b}"));
        }
        if first.interrupted || other.interrupted {
            notes.push("a run was interrupted".to_owned());
        }
        for untrusted in [first, other] {
            let reasons = untrusted.untrusted_because.iter();
            notes.extend(reasons.map(|reason| format!("a run is not trusted: {reason}")));
        }
        let mut phases = first.phases.iter().chain(&other.phases);
        if phases.any(|one| one.path != "null" && one.harness_limited_because.is_some()) {
            notes.push("an open loop was harness-limited: its times are upper bounds".to_owned());
        }
    }
    for list in [&mut fatal, &mut notes] {
        list.sort_unstable();
        list.dedup();
    }
    (fatal, notes)
}

fn all_figures(runs: &[Report]) -> Vec<Figures> {
    runs.iter().map(figures).collect()
}

/// The names of all compared figures of some runs.
fn names(runs: &[Figures]) -> std::collections::BTreeSet<&String> {
    let all = runs.iter().flatten();
    all.filter(|(_, figure)| figure.compared)
        .map(|(name, _)| name)
        .collect()
}

fn rows(base: &[Figures], new: &[Figures], tolerance: &Tolerance) -> Vec<Row> {
    let row = |name: &&String| {
        let (before, after) = (Side::of(base, name), Side::of(new, name));
        let change = match (before, after) {
            (Some(before), Some(after)) => before.change(after, tolerance),
            (Some(before), None) => {
                let vanished = MAY_VANISH.iter().any(|part| name.contains(part));
                // Half of the samples may be too few for the same percentile: that is no loss.
                let fewer = new
                    .iter()
                    .filter_map(|run| run.get(*name))
                    .any(|one| 2 * one.n >= before.n && before.n > 0);
                if vanished || fewer || before.kind == Kind::Neutral {
                    Change::None
                } else {
                    Change::Gone
                }
            }
            (None, _) => Change::None,
        };
        Row {
            name: (*name).clone(),
            base: before,
            new: after,
            change,
        }
    };
    let union = &names(base) | &names(new);
    let rows = union.iter().map(row);
    rows.filter(|row| row.base.is_some() || row.new.is_some())
        .collect()
}

// === impl Side ===

impl Side {
    /// Of those runs that have the figure.
    fn of(runs: &[Figures], name: &str) -> Option<Self> {
        let found: Vec<&Figure> = runs.iter().filter_map(|run| run.get(name)).collect();
        let mut values: Vec<f64> = found
            .iter()
            .filter_map(|one| one.value.as_ref().ok().copied())
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let value = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        let (low, high) = match found.as_slice() {
            [only] => only.interval.map_or((value, value), |(low, high)| {
                (low, high.unwrap_or(f64::INFINITY))
            }),
            // A knee lies between its bounds, of which the upper one may be unknown.
            _ => found
                .iter()
                .filter(|one| !one.is_confidence)
                .filter_map(|one| one.interval)
                .fold((least, greatest), |(low, high), (from, to)| {
                    (low.min(from), high.max(to.unwrap_or(f64::INFINITY)))
                }),
        };
        Some(Self {
            kind: found.first()?.kind,
            value,
            low,
            high,
            n: found.iter().map(|one| one.n).min()?,
            runs: u32::try_from(found.len()).unwrap_or(u32::MAX),
            is_confidence: matches!(found.as_slice(), [only] if only.is_confidence),
        })
    }

    fn change(self, new: Self, tolerance: &Tolerance) -> Change {
        let (is_worse, is_better) = if self.kind == Kind::Count {
            // The worst run counts: any occurrence is a defect.
            (new.high > self.high, new.high < self.high)
        } else {
            (self.exceeds(new, tolerance), new.exceeds(self, tolerance))
        };
        let overlap = self.kind != Kind::Count && self.low <= new.high && new.low <= self.high;
        match (is_worse, is_better) {
            (true, _) if overlap || !self.can_differ(new) => Change::Unclear,
            (true, _) => Change::Worse,
            (false, true) if !overlap && self.can_differ(new) => Change::Better,
            _ => Change::None,
        }
    }

    /// Whether two sides that do not overlap differ: by chance that is seen in fewer than one of 20 comparisons. The ranges of
    /// several runs are disjoint in this order with the probability 1 / C(runs of both, runs of one).
    fn can_differ(self, new: Self) -> bool {
        let orders = |a: u32, b: u32| {
            (1..=u64::from(b.min(64))).fold(1_u64, |orders, one| {
                orders.saturating_mul(u64::from(a.min(64)) + one) / one
            })
        };
        self.kind == Kind::Count
            || orders(self.runs, new.runs) >= 20
            || (self.is_confidence || self.runs >= 3) && (new.is_confidence || new.runs >= 3)
    }

    /// Whether `worse` is worse by more than the tolerance.
    fn exceeds(self, worse: Self, tolerance: &Tolerance) -> bool {
        let (a, b) = (self.value, worse.value);
        let more = 1.0 + tolerance.threshold;
        match self.kind {
            Kind::Time => b > a * more && b - a > tolerance.noise_us,
            Kind::Ratio => b > a * more,
            Kind::Rate | Kind::Amount => b < a * (1.0 - tolerance.threshold),
            Kind::Share => 1.0 - b > (1.0 - a) * more && a - b > SHARE_TOLERANCE,
            Kind::Errors => b - a > ERRORS_TOLERANCE,
            Kind::Growth => b - a > tolerance.threshold,
            Kind::Count => b > a,
            Kind::Neutral => false,
        }
    }

    fn show(self) -> String {
        #[expect(
            clippy::float_cmp,
            reason = "a value that has no interval is both its ends"
        )]
        let exact = self.low == self.high;
        if exact {
            return self.kind.show(self.value);
        }
        let high = Some(self.high).filter(|high| high.is_finite());
        self.kind.show_with_interval(self.value, (self.low, high))
    }
}

// === impl Row ===

impl Row {
    fn cells(&self) -> [String; 5] {
        let show = |side: Option<Side>| side.map_or("-".to_owned(), Side::show);
        let ratio = match (self.base, self.new) {
            (Some(base), Some(new)) if base.value > 0.0 => format!("{:.2}", new.value / base.value),
            _ => "-".to_owned(),
        };
        let change = match self.change {
            Change::None => "",
            Change::Better => "better",
            Change::Unclear => "unclear",
            Change::Worse => "WORSE",
            Change::Gone => "GONE",
        };
        [
            self.name.clone(),
            show(self.base),
            show(self.new),
            ratio,
            change.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        Ratio, Tick,
        capacity::Capacity,
        soak::{Soak, Trend},
        tests::sample,
    };

    const TOLERANCE: Tolerance = Tolerance {
        threshold: 0.2,
        noise_us: 10.0,
    };

    fn changed(base: &[Report], new: &[Report]) -> Vec<(String, Change)> {
        rows(&all_figures(base), &all_figures(new), &TOLERANCE)
            .into_iter()
            .filter(|row| row.change != Change::None)
            .map(|row| (row.name, row.change))
            .collect()
    }

    fn worse(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut new = sample();
        change(&mut new);
        let changed = changed(&[sample()], &[new]).into_iter();
        changed
            .filter(|(_, change)| matches!(change, Change::Worse | Change::Gone))
            .map(|(name, _)| name)
            .collect()
    }

    /// The sample with its hits of the closed loop at this time.
    fn hits_of(us: u64) -> Report {
        let mut report = sample();
        report.phases[1].series[0].histogram = vec![(us, 200)];
        report
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
                "closed.grpc.p50",
                "closed.grpc.p90"
            ],
            "200 samples do not bound a p99 from above"
        );
        assert_eq!(
            worse(|new| {
                new.phases[1].series[1].errors.insert("X".to_owned(), 40);
            }),
            ["closed.grpc.errors", "errors"]
        );
        assert_eq!(
            worse(|new| new.staleness[0].sources[0].failed_writes = [("X".to_owned(), 1)].into())
                [0],
            "beside-0.staleness.dynamodb.failed_writes"
        );
        assert_eq!(
            worse(|new| new.staleness[0]
                .history
                .violations
                .push("went back".to_owned())),
            ["beside-0.staleness.violations"]
        );
        assert!(
            worse(|new| new.staleness[0].sources[0].lost = 1)
                .contains(&"beside-0.staleness.dynamodb.lost".to_owned())
        );
        assert!(
            worse(|new| new.phases[2].sustained = false)
                .contains(&"open.grpc.unsustained".to_owned())
        );
        let gone = worse(|new| {
            new.phases.remove(2);
        });
        assert!(
            gone.iter().all(|name| name.starts_with("open.grpc.")) && gone.len() > 8,
            "{gone:?}"
        );
    }

    /// The sample, its closed loop with these answers in each second, of which the last is no whole one.
    fn at_rates(counts: [u64; 6]) -> Report {
        let mut report = sample();
        let phase = &mut report.phases[1];
        let tick = phase.timeline.first().cloned().unwrap();
        let ticks = (0..).zip(counts).map(|(second, count)| Tick {
            second,
            seconds: 1,
            count,
            errors: 0,
            ..tick.clone()
        });
        phase.timeline = ticks.collect();
        let whole: u64 = counts[..5].iter().sum();
        phase.series.truncate(1);
        phase.series[0].per_second = crate::recorder::per_second(whole, 5.0);
        report
    }

    #[test]
    fn a_rate_is_compared_by_the_spread_of_its_seconds() {
        let of = |base, new| {
            let found = changed(&[at_rates(base)], &[at_rates(new)]).into_iter();
            found
                .filter(|(name, _)| name == "closed.grpc.rate")
                .map(|(_, change)| change)
                .next()
        };
        let base = [100, 102, 98, 101, 99, 3];
        assert_eq!(of(base, [50, 52, 48, 51, 49, 3]), Some(Change::Worse));
        assert_eq!(of(base, [10, 120, 20, 90, 10, 3]), Some(Change::Unclear));
        assert_eq!(
            of(base, [95, 97, 93, 96, 94, 3]),
            None,
            "within the threshold"
        );
    }

    #[test]
    fn a_difference_takes_intervals_or_enough_runs() {
        let side = |runs, is_confidence| Side {
            kind: Kind::Time,
            value: 1.0,
            low: 1.0,
            high: 1.0,
            n: 1,
            runs,
            is_confidence,
        };
        for (base, new, can) in [
            ((1, true), (1, true), true),
            ((1, false), (1, true), false),
            ((2, false), (2, false), false),
            ((3, false), (3, false), true),
            ((1, true), (2, false), false),
            ((1, true), (3, false), true),
            ((1, false), (19, false), true),
        ] {
            let (base, new) = (side(base.0, base.1), side(new.0, new.1));
            assert_eq!(base.can_differ(new), can, "{base:?} {new:?}");
        }
    }

    #[test]
    fn knees_and_trends_are_compared_by_their_intervals() {
        let knee = |held, broken, harness_limited| {
            let mut report = sample();
            report.capacity = vec![Capacity {
                path: "grpc".to_owned(),
                held_per_second: held,
                broken_per_second: broken,
                harness_limited,
                ..Capacity::default()
            }];
            report
        };
        // What a search found once may be chance: several runs show it.
        let base = || [(); 3].map(|()| knee(Some(2_000.0), Some(2_200.0), false));
        let of = |new: Report| {
            let once = changed(&base()[..1], std::slice::from_ref(&new)).pop();
            let unproven = [None, Some(Change::Unclear), Some(Change::Gone)];
            assert!(unproven.contains(&once.map(|(_, change)| change)));
            let new = [new.clone(), new.clone(), new];
            changed(&base(), &new).pop().map(|(_, change)| change)
        };
        assert_eq!(of(knee(Some(1_800.0), Some(1_900.0), false)), None);
        let half = (Some(1_000.0), Some(1_100.0));
        assert_eq!(of(knee(half.0, half.1, false)), Some(Change::Worse));
        let limited = of(knee(half.0, half.1, true));
        assert_eq!(
            limited,
            Some(Change::Unclear),
            "the target's knee is higher"
        );
        assert_eq!(of(knee(None, Some(1.5), false)), Some(Change::Gone));
        assert_eq!(
            of(knee(Some(3_000.0), Some(3_200.0), false)),
            Some(Change::Better)
        );
        let grows = |value: f64, width: f64| {
            let mut report = sample();
            report.soak = Some(Soak {
                trends: vec![Trend {
                    what: "memory".to_owned(),
                    of: "config-1".to_owned(),
                    growth: Some(Ratio {
                        value,
                        low: value - width,
                        high: value + width,
                    }),
                    ..Trend::default()
                }],
                ..Soak::default()
            });
            report
        };
        let of = |new| changed(&[grows(0.01, 0.02)], &[new]).pop();
        assert_eq!(of(grows(0.15, 0.02)), None, "within the threshold");
        let name = || "config-1.soak.memory.growth".to_owned();
        assert_eq!(of(grows(0.3, 0.02)), Some((name(), Change::Worse)));
        assert_eq!(of(grows(0.3, 0.4)), Some((name(), Change::Unclear)));
    }

    /// The cache stopped working: every hit is a miss now.
    #[test]
    fn a_dead_cache_is_found() {
        let worse = worse(|new| {
            for series in new.phases.iter_mut().flat_map(|phase| &mut phase.series) {
                if series.result == "hit" {
                    series.result = "miss".to_owned();
                }
            }
        });
        for name in [
            "open.grpc.hit.share",
            "open.grpc.hit.p50",
            "closed.grpc.hit.p99",
        ] {
            assert!(
                worse.contains(&name.to_owned()),
                "{name} is not in {worse:?}"
            );
        }
    }

    #[test]
    fn noise_is_no_regression() {
        assert_eq!(changed(&[hits_of(100)], &[hits_of(108)]), []);
        assert_eq!(
            worse(|new| new.phases[2].series[0].histogram = vec![(300, 98)]),
            [""; 0],
            "too few for a p99"
        );
    }

    #[test]
    fn of_several_runs_the_ranges_decide() {
        let runs = |times: [u64; 3]| times.map(hits_of);
        let p50 = |base, new| {
            let found = changed(&runs(base), &runs(new)).into_iter();
            found
                .filter(|(name, _)| name == "closed.grpc.hit.p50")
                .map(|(_, change)| change)
                .next()
        };
        assert_eq!(p50([100, 110, 200], [150, 210, 220]), Some(Change::Unclear));
        assert_eq!(p50([100, 110, 120], [150, 210, 220]), Some(Change::Worse));
        assert_eq!(p50([150, 210, 220], [100, 110, 120]), Some(Change::Better));
        assert_eq!(p50([100, 110, 900], [100, 120, 900]), None);
        let text = summary(&runs([100, 300, 200])).to_string();
        assert!(text.contains("range of 3 runs"), "{text}");
        let line = text
            .lines()
            .find(|line| line.starts_with("closed.grpc.hit.p50 "))
            .unwrap();
        assert_eq!(
            line.split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" "),
            "200 µs 100 µs to 300 µs"
        );
    }

    #[test]
    fn unlike_runs_are_refused() -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(uuid::Uuid::new_v4().to_string());
        let write = |name: &str, change: fn(&mut Report)| {
            let mut report = sample();
            change(&mut report);
            report.write(&folder.join(name)).map(|(json, _)| json)
        };
        let base = write("base", |_| ())?;
        let options = |results: Vec<PathBuf>, new: Vec<PathBuf>| CompareOptions {
            results,
            new,
            force: false,
            html: Some(folder.join("compare.html")),
            threshold: 0.2,
            noise: std::time::Duration::from_millis(1),
        };
        for unlike in [
            write("kind", |report| report.kind = "staleness".to_owned())?,
            write("settings", |report| {
                report.settings.insert("tenants".to_owned(), 7.into());
            })?,
            write("machine", |report| report.environment.cores = 64)?,
        ] {
            let mut options = options(vec![base.clone(), unlike], Vec::new());
            let error = command(&options).unwrap_err();
            assert!(
                error.is::<Usage>() && error.to_string().contains("--force"),
                "{error}"
            );
            options.force = true;
            assert_eq!(command(&options)?, Ended::Well);
        }
        for number in 1..=3 {
            write(&format!("many/{number}"), |_| ())?;
        }
        let many = folder.join("many");
        assert_eq!(read(std::slice::from_ref(&many))?.len(), 3);
        assert_eq!(
            command(&options(vec![base.clone()], vec![many]))?,
            Ended::Well
        );
        assert!(std::fs::read_to_string(folder.join("compare.html"))?.contains("grpc.hit.p50"));
        let one = command(&options(vec![base], Vec::new())).unwrap_err();
        assert!(one.is::<Usage>(), "{one}");
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }
}
