//! Every number of a result, by name. This is the only way from a result to numbers: SLOs, comparisons, summaries, CSV,
//! JUnit and the page read these figures.
//!
//! A name is `[PLACE.]SUBJECT[.PART].STATISTIC`. The place is the loop (`open`), the load beside updates (`beside-500`), or
//! both, or what a trend is of (`config-1`); an SLO that leaves it out must hold in each place.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;

use crate::{
    cli,
    recorder::{BARE, PERCENTILES, quantiles, restored},
    report::{
        FaultRun, Neighbour, Phase, Quantiles, Report, Series, SourceStaleness, Staleness,
        Watchers,
        capacity::Capacity,
        soak::Trend,
        table::{time, time_with_interval},
    },
};

/// Figures by full name.
pub(crate) type Figures = BTreeMap<String, Figure>;

/// One number of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// What it counts.
    pub(crate) kind: Kind,
    /// The number, or why there is none.
    pub(crate) value: Result<f64, String>,
    /// Samples that it is made of.
    pub(crate) n: u64,
    /// Its 95 % interval, where it has one, or what is only known to lie between two values (a knee, the worst update of a
    /// fault); an upper end that is absent is unbounded.
    pub(crate) interval: Option<(f64, Option<f64>)>,
    /// Whether the interval is one of confidence: two results whose intervals do not overlap then differ.
    pub(crate) is_confidence: bool,
    /// Whether there are samples enough to show the number without its interval.
    pub(crate) is_bare: bool,
    /// Its name without the places.
    pub(crate) name: String,
    /// Whether comparisons include it; the others are for SLOs and CSV.
    pub(crate) compared: bool,
}

/// What a figure counts, and which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Microseconds: less is better.
    Time,
    /// A second: more is better.
    Rate,
    /// A fraction of answers: more is better.
    Share,
    /// A fraction of failures: less is better.
    Errors,
    /// A number of defects: any increase is worse.
    Count,
    /// A number of samples: more is better.
    Amount,
    /// A ratio: less is better.
    Ratio,
    /// A growth as a fraction of the median: less is better.
    Growth,
    /// Neither is better.
    Neutral,
}

/// Stages of an update that the invalidator's receipts time, in whole milliseconds.
pub(crate) const RECEIPT_STAGES: [&str; 4] = ["write_to_start", "read", "discover", "fanout"];
/// The stages of an update that are observed, in the order of a reader's interest.
pub(crate) const VISIBLE_STAGES: [&str; 7] = [
    LAST_REPLICA,
    "first_replica",
    "edge_first",
    "edge_all",
    "order_first",
    "order_all",
    "start_to_last",
];
/// The default stage.
const LAST_REPLICA: &str = "last_replica";
/// Earlier names, which SLOs and results may still have, and what they name now.
const EARLIER_STAGES: [(&str, &str); 2] = [("edge", "edge_all"), ("order", "order_all")];
/// Cache results of which each has a share.
const CACHE_RESULTS: [&str; 3] = ["hit", "miss", "stale"];
/// Results of good answers: no error can have one.
const GOOD_RESULTS: [&str; 5] = ["hit", "miss", "stale", "absent", "none"];
const FAILED: &str = "failed";
/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;

/// All figures of a result.
pub(crate) fn figures(report: &Report) -> Figures {
    let mut all = Collector::default();
    let (count, errors) = report.totals();
    all.share("errors", Kind::Errors, errors, count);
    for phase in report.phases.iter().filter(|phase| phase.path != "null") {
        all.phase(phase);
    }
    for part in &report.staleness {
        all.staleness(part);
    }
    for one in &report.neighbours {
        all.neighbour(one);
    }
    for one in &report.capacity {
        all.knee(one);
    }
    for one in report.soak.iter().flat_map(|soak| &soak.trends) {
        all.within(one.of.as_str(), |all| all.trend(one));
    }
    for one in &report.chaos {
        all.fault(one);
    }
    if let Some(one) = &report.watchers {
        all.watchers(one);
    }
    all.figures
}

/// Gathers figures.
#[derive(Default)]
pub(crate) struct Collector {
    figures: Figures,
    places: Vec<String>,
    not_compared: bool,
    /// What is added has bounds, and no interval of confidence.
    only_bounds: bool,
}

// === impl Figure ===

impl Figure {
    /// Formats the figure, with its interval if the samples are few.
    pub(crate) fn show(&self) -> String {
        match (&self.value, self.interval) {
            (Err(_), _) => "-".to_owned(),
            (Ok(value), Some(interval)) if !self.is_bare => {
                self.kind.show_with_interval(*value, interval)
            }
            (Ok(value), _) => self.kind.show(*value),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// The unit of its values in CSV.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Time => "us",
            Self::Rate => "per second",
            Self::Share | Self::Errors | Self::Growth => "fraction",
            Self::Count | Self::Amount => "count",
            Self::Ratio => "ratio",
            Self::Neutral => "",
        }
    }

    /// Formats a value.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Rate => format!("{value:.1}/s"),
            Self::Share | Self::Errors => format!("{:.3}%", value * 100.0),
            Self::Count | Self::Amount => format!("{value}"),
            Self::Ratio | Self::Neutral => format!("{value:.2}"),
            Self::Growth => format!("{:+.1}%", value * 100.0),
        }
    }

    /// Formats a value with its interval.
    pub(crate) fn show_with_interval(self, value: f64, (low, high): (f64, Option<f64>)) -> String {
        if self == Self::Time {
            return time_with_interval(value, low, high);
        }
        let high = high.map_or("-".to_owned(), |high| self.show(high));
        format!("{} [{}, {high}]", self.show(value), self.show(low))
    }

    /// A bound that an SLO sets, in the unit of the values.
    pub(crate) fn parse(self, bound: &str) -> Result<f64, String> {
        match self {
            Self::Time => cli::duration(bound).map(|duration| duration.as_secs_f64() * 1e6),
            Self::Share | Self::Errors | Self::Growth => cli::percent(bound),
            _ => bound
                .trim_end_matches("/s")
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite() && *number >= 0.0)
                .ok_or_else(|| "must be a number".to_owned()),
        }
    }
}

// === impl Collector ===

impl Collector {
    /// What was collected.
    pub(crate) fn done(self) -> Figures {
        self.figures
    }

    /// Collects in a place within the present ones.
    pub(crate) fn within(&mut self, place: impl Into<String>, collect: impl FnOnce(&mut Self)) {
        self.places.push(place.into());
        collect(self);
        self.places.pop();
    }

    /// Collects what comparisons leave out.
    fn uncompared(&mut self, when: bool, collect: impl FnOnce(&mut Self)) {
        let before = self.not_compared;
        self.not_compared |= when;
        collect(self);
        self.not_compared = before;
    }

    /// Adds a figure.
    pub(crate) fn put(
        &mut self,
        name: &str,
        kind: Kind,
        value: Result<f64, String>,
        n: u64,
        interval: Option<(f64, Option<f64>)>,
    ) {
        self.add(Figure {
            kind,
            value,
            n,
            interval,
            is_confidence: interval.is_some() && !self.only_bounds,
            is_bare: interval.is_none(),
            name: name.to_owned(),
            compared: !self.not_compared,
        });
    }

    /// Adds a part of some things, with its 95 % interval.
    fn share(&mut self, name: &str, kind: Kind, part: u64, of: u64) {
        let value = share(part, of);
        let interval = value.as_ref().ok().map(|&value| {
            let (low, high) = wilson(value, of);
            (low, Some(high))
        });
        self.put(name, kind, value, of, interval);
    }

    /// Adds what is only known to lie between two values.
    fn between(
        &mut self,
        name: &str,
        kind: Kind,
        value: Result<f64, String>,
        n: u64,
        bounds: Option<(f64, Option<f64>)>,
    ) {
        let was = std::mem::replace(&mut self.only_bounds, true);
        self.put(name, kind, value, n, bounds);
        self.only_bounds = was;
    }

    fn add(&mut self, figure: Figure) {
        let places = self.places.iter().map(String::as_str);
        let full = places
            .chain([figure.name.as_str()])
            .collect::<Vec<_>>()
            .join(".");
        self.figures.insert(full, figure);
    }

    /// Adds a number of things.
    pub(crate) fn count(&mut self, name: &str, kind: Kind, count: u64) {
        self.put(name, kind, Ok(count as f64), count, None);
    }

    /// Adds the statistics of times; `Err` says why they are withheld.
    pub(crate) fn times(&mut self, name: &str, times: Result<&Quantiles, &str>) {
        let n = times.map_or(0, |times| times.count);
        for (statistic, _, least) in PERCENTILES {
            let value = times.map_err(ToOwned::to_owned).and_then(|times| {
                let missing = if times.count == 0 {
                    "there is no sample".to_owned()
                } else {
                    format!("{statistic} needs {least} samples, there are {n}")
                };
                times.at(statistic).map(|us| us as f64).ok_or(missing)
            });
            let interval = times.ok().and_then(|times| times.intervals.get(statistic));
            let interval = interval.map(|one| (one.low_us as f64, one.high_us.map(|us| us as f64)));
            self.add(Figure {
                kind: Kind::Time,
                value,
                n,
                interval,
                is_confidence: interval.is_some(),
                is_bare: interval.is_none() || n >= least * BARE,
                name: format!("{name}.{statistic}"),
                compared: !self.not_compared,
            });
        }
        self.uncompared(true, |all| {
            let some = || match times {
                Ok(times) if times.count > 0 => Ok(times),
                Ok(_) => Err("there is no sample".to_owned()),
                Err(reason) => Err(reason.to_owned()),
            };
            let max = some().map(|times| times.max_us as f64);
            all.put(&format!("{name}.max"), Kind::Time, max, n, None);
            let mean = some().map(|times| times.mean_us);
            all.put(&format!("{name}.mean"), Kind::Time, mean, n, None);
        });
    }

    /// A load's, as a whole, and by cache result, scenario and operation.
    pub(crate) fn phase(&mut self, phase: &Phase) {
        let path = phase.path.as_str();
        self.within(phase.loop_kind.as_str(), |all| {
            all.phase_part(path, "", phase);
            let parts: BTreeSet<&str> = phase
                .series
                .iter()
                .flat_map(|one| [&one.scenario, &one.operation, &one.result])
                .map(String::as_str)
                .collect();
            for part in parts {
                let is_result = GOOD_RESULTS.contains(&part);
                all.uncompared(!is_result, |all| all.phase_part(path, part, phase));
            }
            let counts = CACHE_RESULTS.map(|result| {
                let with_it = phase.series.iter().filter(|one| one.result == result);
                with_it.map(|one| one.count).sum::<u64>()
            });
            let total = counts.iter().sum();
            for (result, count) in CACHE_RESULTS.iter().zip(counts) {
                let kind = if *result == "hit" {
                    Kind::Share
                } else {
                    Kind::Neutral
                };
                all.share(&format!("{path}.{result}.share"), kind, count, total);
            }
            let unsustained = u64::from(!phase.sustained);
            all.count(&format!("{path}.unsustained"), Kind::Count, unsustained);
            if phase.loop_kind == "open" {
                let lag = phase.lag.as_ref().ok_or("it is unknown");
                all.times(&format!("{path}.lag"), lag);
            }
            let unknown = || "it is unknown".to_owned();
            let (harness, machine) = (phase.cpu.harness_cores, phase.cpu.machine_busy);
            all.put(
                &format!("{path}.cpu.harness"),
                Kind::Neutral,
                harness.ok_or_else(unknown),
                0,
                None,
            );
            all.put(
                &format!("{path}.cpu.machine"),
                Kind::Neutral,
                machine.ok_or_else(unknown),
                0,
                None,
            );
        });
    }

    fn phase_part(&mut self, path: &str, part: &str, phase: &Phase) {
        let is_in = |one: &Series| {
            part.is_empty()
                || [&one.scenario, &one.operation, &one.result]
                    .iter()
                    .any(|name| *name == part)
        };
        let name = if part.is_empty() {
            path.to_owned()
        } else {
            format!("{path}.{part}")
        };
        let times = quantiles(&phase.times(is_in, part != FAILED));
        let withheld = Err("the rate was not sustained");
        self.times(
            &name,
            if phase.sustained {
                Ok(&times)
            } else {
                withheld
            },
        );
        let selected = || phase.series.iter().filter(|one| is_in(one));
        let count = selected().map(|one| one.count).sum();
        let good = selected().filter(|one| one.result != FAILED);
        let rate = good.map(|one| one.per_second).sum();
        // In an open loop the schedule sets the rate.
        let is_set = phase.loop_kind == "open" || !part.is_empty();
        let interval = part
            .is_empty()
            .then(|| rate_interval(phase, rate))
            .flatten();
        self.uncompared(is_set, |all| {
            all.put(
                &format!("{name}.rate"),
                Kind::Rate,
                Ok(rate),
                count,
                interval,
            );
        });
        if !GOOD_RESULTS.contains(&part) {
            let errors = selected().flat_map(|one| one.errors.values()).sum();
            self.share(&format!("{name}.errors"), Kind::Errors, errors, count);
        }
    }

    fn staleness(&mut self, part: &Staleness) {
        self.within(format!("beside-{}", part.background_per_second), |all| {
            let history = &part.history;
            all.count(
                "staleness.violations",
                Kind::Count,
                history.violations.len() as u64,
            );
            all.count(
                "staleness.failed_reads",
                Kind::Count,
                history.failed_reads.values().sum(),
            );
            let repaired = part
                .services
                .as_ref()
                .map(|services| services.repaired.values().sum());
            if let Some(repaired) = repaired {
                all.count("staleness.repaired", Kind::Neutral, repaired);
            }
            all.updates("staleness", &part.sources.iter().collect::<Vec<_>>());
            for source in &part.sources {
                all.updates(&format!("staleness.{}", source.source), &[source]);
            }
            if let Some(phase) = &part.background {
                all.phase(phase);
            }
        });
    }

    /// Updates by some sources together.
    fn updates(&mut self, name: &str, sources: &[&SourceStaleness]) {
        let sum = |of: fn(&SourceStaleness) -> u64| sources.iter().map(|one| of(one)).sum::<u64>();
        let (lost, undecided) = (sum(|one| one.lost), sum(|one| one.undecided));
        self.count(&format!("{name}.lost"), Kind::Count, lost);
        self.count(&format!("{name}.undecided"), Kind::Count, undecided);
        self.count(
            &format!("{name}.updates"),
            Kind::Amount,
            sum(|one| one.updates),
        );
        let failed = sum(|one| one.failed_writes.values().sum());
        self.count(&format!("{name}.failed_writes"), Kind::Count, failed);
        // The times of the updates that arrived say nothing of those that did not.
        let withheld = if lost > 0 {
            Some(format!("{lost} updates were lost"))
        } else if undecided > 0 {
            Some(format!(
                "{undecided} updates were undecided when the run ended"
            ))
        } else {
            None
        };
        let mut stages: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
        for (stage, histogram) in sources.iter().flat_map(|one| &one.histograms) {
            let more = restored(histogram);
            match stages.get_mut(stage.as_str()) {
                Some(sum) => sum.add(&more).unwrap_or_default(),
                None => drop(stages.insert(stage, more)),
            }
        }
        for (earlier, now) in EARLIER_STAGES {
            if let (Some(times), false) = (stages.get(now), stages.contains_key(earlier)) {
                let times = times.clone();
                stages.insert(earlier, times);
            }
        }
        for (stage, times) in stages {
            self.stage(
                name,
                stage,
                withheld.as_deref().map_or(Ok(&quantiles(&times)), Err),
            );
        }
    }

    fn stage(&mut self, name: &str, stage: &str, times: Result<&Quantiles, &str>) {
        let compared = VISIBLE_STAGES.contains(&stage);
        self.uncompared(!compared, |all| match stage {
            LAST_REPLICA => all.times(name, times),
            _ => all.times(&format!("{name}.{stage}"), times),
        });
    }

    fn fault(&mut self, one: &FaultRun) {
        self.within(format!("seed-{}", one.seed), |all| {
            let name = format!("chaos.{}", one.name);
            let us = |us: Option<u64>| us.map(|us| us as f64);
            let worst = us(one.worst_us).ok_or_else(|| "no update was made".to_owned());
            let between = us(one.worst_at_least_us).map(|low| (low, us(one.worst_us)));
            all.between(
                &format!("{name}.worst"),
                Kind::Time,
                worst,
                one.updates,
                between,
            );
            let problems = one.problems.len() as u64;
            all.count(&format!("{name}.broken"), Kind::Count, problems);
            all.count(&format!("{name}.undecided"), Kind::Count, one.undecided);
            all.count(&format!("{name}.updates"), Kind::Amount, one.updates);
            all.count(&format!("{name}.repairs"), Kind::Neutral, one.repairs);
            if let Some(audit) = &one.audit {
                let violations = audit.violations.len() as u64;
                all.count(
                    &format!("{name}.history_violations"),
                    Kind::Count,
                    violations,
                );
            }
            if let Some(quiet) = &one.quiet {
                let times = one.quiet_times();
                let times = times.as_ref().ok_or("the rate was not sustained");
                all.times(&format!("{name}.quiet"), times);
                let count = quiet.series.iter().map(|series| series.count).sum();
                let errors = quiet
                    .series
                    .iter()
                    .flat_map(|series| series.errors.values());
                all.share(
                    &format!("{name}.quiet.errors"),
                    Kind::Errors,
                    errors.sum(),
                    count,
                );
            }
        });
    }

    fn watchers(&mut self, one: &Watchers) {
        let missing = u64::from(one.calls).saturating_sub(one.heard);
        self.count("watchers.missing", Kind::Count, missing);
        let unknown = "there is no sample";
        self.times("watchers.last", one.last_watcher.as_ref().ok_or(unknown));
        // Watchers of one change are no independent samples: their interval would be too narrow.
        self.uncompared(true, |all| {
            all.times("watchers.each", one.each_watcher.as_ref().ok_or(unknown));
            all.times(
                "watchers.acknowledge",
                one.acknowledge.as_ref().ok_or(unknown),
            );
        });
    }

    /// The highest rate that held, and the lowest that broke. A rate that the harness could not send is no upper end.
    fn knee(&mut self, one: &Capacity) {
        let held = one.held_per_second;
        let broken = one.broken_per_second.filter(|_| !one.harness_limited);
        let at_it = one.steps.iter().filter(|step| step.holds_at(held));
        self.between(
            &format!("capacity.{}.knee", one.path),
            Kind::Rate,
            held.ok_or_else(|| "no rate held".to_owned()),
            at_it.map(|step| step.requests).sum(),
            held.map(|held| (held, broken)),
        );
    }

    /// How much a quantity of a soak grows over the run.
    fn trend(&mut self, one: &Trend) {
        let growth = one.growth.map(|growth| growth.value);
        self.put(
            &format!("soak.{}.growth", one.what),
            Kind::Growth,
            growth.ok_or_else(|| "there are too few samples".to_owned()),
            one.samples.len() as u64,
            one.growth.map(|growth| (growth.low, Some(growth.high))),
        );
    }

    fn neighbour(&mut self, one: &Neighbour) {
        let name = format!("neighbours.{}.{}", one.noise, one.backend);
        self.times(&format!("{name}.alone"), Ok(&one.alone));
        self.times(&format!("{name}.beside"), Ok(&one.beside));
        self.count(&format!("{name}.failed"), Kind::Count, one.beside_failed);
        let ratio = one.ratio_of_p99;
        let value = ratio
            .map(|ratio| ratio.value)
            .ok_or_else(|| "there are too few reads".to_owned());
        let interval = ratio.map(|ratio| (ratio.low, Some(ratio.high)));
        self.put(
            &format!("{name}.ratio"),
            Kind::Ratio,
            value,
            one.beside.count,
            interval,
        );
    }
}

/// What a run will measure: the names that an SLO may have.
pub(crate) mod expected {
    use super::{Collector, EARLIER_STAGES, Figures, Quantiles, RECEIPT_STAGES, VISIBLE_STAGES};
    use crate::{
        cli::{
            CapacityOptions, ChaosOptions, LatencyOptions, NeighboursOptions, SoakOptions,
            StalenessOptions,
        },
        latency::mix_of,
        report::{
            Audit, FaultRun, Neighbour, Phase, Series, Watchers, capacity::Capacity, soak::Trend,
        },
        scenarios::{HOT, Mix},
    };

    /// Of `loadtest latency`.
    pub(crate) fn latency(options: &LatencyOptions) -> Figures {
        let mut all = total();
        for target in &options.targets {
            let mix = mix_of(&options.load, *target);
            for one in &options.loops {
                all.phase(&phase(target.name(), one.name(), &mix));
            }
        }
        all.done()
    }

    /// Of `loadtest capacity`.
    pub(crate) fn capacity(options: &CapacityOptions) -> Figures {
        let mut all = total();
        for target in &options.targets {
            all.knee(&Capacity {
                path: target.name().to_owned(),
                ..Capacity::default()
            });
        }
        all.done()
    }

    /// Of `loadtest soak`. Which replicas there are is not known before.
    pub(crate) fn soak(options: &SoakOptions) -> Figures {
        let mut all = total();
        let mix = mix_of(&options.load, options.target);
        all.phase(&phase(options.target.name(), "open", &mix));
        for what in ["p99", "memory", "descriptors"] {
            all.trend(&Trend {
                what: what.to_owned(),
                ..Trend::default()
            });
        }
        all.done()
    }

    /// Of `loadtest staleness`.
    pub(crate) fn staleness(options: &StalenessOptions) -> Figures {
        let mut all = total();
        let left_out = |stage: &str| {
            options.no_edge && stage.starts_with("edge")
                || options.no_orders && stage.starts_with("order")
        };
        let earlier = EARLIER_STAGES.map(|(name, _)| name);
        let stages = VISIBLE_STAGES
            .iter()
            .chain(&RECEIPT_STAGES)
            .chain(&earlier)
            .chain(&["acknowledge"]);
        let stages: Vec<_> = stages.filter(|stage| !left_out(stage)).collect();
        for rate in &options.background {
            all.within(format!("beside-{rate}"), |all| {
                for count in ["violations", "failed_reads", "repaired"] {
                    all.count(&format!("staleness.{count}"), super::Kind::Count, 0);
                }
                let sources = options
                    .sources
                    .iter()
                    .map(|source| format!("staleness.{}", source.name()));
                for name in sources.chain(["staleness".to_owned()]) {
                    for count in ["lost", "undecided", "updates", "failed_writes"] {
                        all.count(&format!("{name}.{count}"), super::Kind::Count, 0);
                    }
                    for stage in &stages {
                        all.stage(&name, stage, Ok(&Quantiles::default()));
                    }
                }
                if *rate > 0.0
                    && let Ok(mix) = HOT.name.parse()
                {
                    all.phase(&phase("grpc", "open", &mix));
                }
            });
        }
        all.done()
    }

    /// Of `loadtest neighbours`.
    pub(crate) fn neighbours(options: &NeighboursOptions) -> Figures {
        let mut all = total();
        for noise in &options.noise {
            for backend in ["dynamodb", "parameter-store"] {
                all.neighbour(&Neighbour {
                    noise: noise.name().to_owned(),
                    backend: backend.to_owned(),
                    ..Neighbour::default()
                });
            }
        }
        all.done()
    }

    /// Of `loadtest chaos` with these faults.
    pub(crate) fn chaos<'f>(
        options: &ChaosOptions,
        faults: impl Iterator<Item = &'f str>,
    ) -> Figures {
        let mut all = total();
        for name in faults {
            for seed in &options.seeds {
                all.fault(&FaultRun {
                    name: name.to_owned(),
                    seed: *seed,
                    quiet: Some(Phase::default()),
                    audit: Some(Audit::default()),
                    ..FaultRun::default()
                });
            }
        }
        all.done()
    }

    /// Of `loadtest watchers`.
    pub(crate) fn watchers() -> Figures {
        let mut all = total();
        all.watchers(&Watchers::default());
        all.done()
    }

    fn total() -> Collector {
        let mut all = Collector::default();
        all.put("errors", super::Kind::Errors, Ok(0.0), 0, None);
        all
    }

    /// A phase that has everything that the mix may bring.
    fn phase(path: &str, loop_kind: &str, mix: &Mix) -> Phase {
        let series = mix.weighted().flat_map(|(scenario, _)| {
            scenario.operations.iter().flat_map(move |operation| {
                let results: &[&str] = match *operation {
                    "put" | "order" => &["none", "failed"],
                    "get-absent" => &["absent", "failed"],
                    _ => &["hit", "miss", "stale", "failed"],
                };
                results.iter().map(move |result| Series {
                    scenario: scenario.name.to_owned(),
                    operation: (*operation).to_owned(),
                    result: (*result).to_owned(),
                    ..Series::default()
                })
            })
        });
        Phase {
            path: path.to_owned(),
            loop_kind: loop_kind.to_owned(),
            sustained: true,
            series: series.collect(),
            ..Phase::default()
        }
    }
}

/// The 95 % interval of a rate, from the rates of its seconds (batch means; the quantile of Student's t by Cornish and
/// Fisher's expansion). None with fewer than five seconds.
fn rate_interval(phase: &Phase, rate: f64) -> Option<(f64, Option<f64>)> {
    // The last second is not a whole one.
    let ticks = phase.timeline.split_last()?.1;
    let seconds = ticks.iter().filter(|tick| tick.seconds == 1);
    let rates: Vec<f64> = seconds
        .map(|tick| tick.count.saturating_sub(tick.errors) as f64)
        .collect();
    if rates.len() < 5 {
        return None;
    }
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let freedom = n - 1.0;
    let t = Z
        + (Z.powi(3) + Z) / (4.0 * freedom)
        + (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / (96.0 * freedom * freedom);
    let half = t * (variance / n).sqrt();
    Some((rate - half, Some(rate + half)))
}

/// The 95 % interval of a share that was measured on so many things (E. B. Wilson, "Probable Inference", 1927).
pub(crate) fn wilson(share: f64, of: u64) -> (f64, f64) {
    let of = of as f64;
    let width = Z * (share * (1.0 - share) / of + Z * Z / (4.0 * of * of)).sqrt();
    let (middle, scale) = (share + Z * Z / (2.0 * of), 1.0 + Z * Z / of);
    let end = |end: f64| (end / scale).clamp(0.0, 1.0);
    (end(middle - width), end(middle + width))
}

fn share(part: u64, of: u64) -> Result<f64, String> {
    if of == 0 {
        return Err("there is no sample".to_owned());
    }
    Ok(part as f64 / of as f64)
}
