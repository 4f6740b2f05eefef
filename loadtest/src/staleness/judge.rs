//! Computes the figures of what was observed: when each observer saw each update.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    Part,
    cells::Update,
    experiment::Observed,
    history::{Seen, Sighting, Window},
    observers::Observer,
    receipts::Receipts,
};
use crate::{
    cli::Source,
    recorder::{buckets, histogram, micros, per_second, quantiles},
    report::{ObserverReads, Phase, ServiceCounts, SourceStaleness, Spread, Staleness},
};

/// What was observed besides the updates.
pub(super) struct Beside {
    pub(super) rate: f64,
    pub(super) load: Option<Phase>,
    pub(super) services: Option<ServiceCounts>,
    pub(super) receipts: Receipts,
}

impl Part<'_> {
    /// The figures of a part.
    pub(super) fn judge(&self, observed: &Observed, beside: Beside) -> Staleness {
        let sources = self.options.sources.iter();
        let sources = sources.map(|source| self.of_source(*source, observed, &beside.receipts));
        let mut replicas = histogram(3);
        let mut observers = Vec::new();
        for (number, observer) in self.experiment.observers.iter().enumerate() {
            let resolution = resolution(number, observed);
            if observer.is_replica() {
                // Both have the same bounds.
                let _ = replicas.add(&resolution);
            }
            let reads = observed.reads.iter().filter(|one| one.observer == number);
            let failed = observed
                .failures
                .iter()
                .filter(|one| one.observer == number);
            let (reads, failed) = (reads.count() as u64, failed.count() as u64);
            let seconds = (observed.ended_us - observed.begun_us) as f64 / 1e6;
            observers.push(ObserverReads {
                name: observer.name.clone(),
                reads,
                reads_per_second: per_second(reads, seconds),
                failed,
                resolution: (!resolution.is_empty()).then(|| quantiles(&resolution)),
            });
        }
        Staleness {
            background_per_second: beside.rate,
            seconds: observed.seconds,
            resolution: (!replicas.is_empty()).then(|| quantiles(&replicas)),
            observers,
            sources: sources.collect(),
            history: self.experiment.history(observed, |_| false),
            services: beside.services,
            background: beside.load,
        }
    }

    fn of_source(
        &self,
        source: Source,
        observed: &Observed,
        receipts: &Receipts,
    ) -> SourceStaleness {
        let mut stages = Stages {
            end_us: observed.ended_us,
            ..Stages::default()
        };
        let mut result = SourceStaleness {
            source: source.name().to_owned(),
            wanted_per_second: self.rate(source),
            updates: 0,
            failed_writes: BTreeMap::new(),
            passed_over: observed.passed_over.get(&source).copied().unwrap_or(0),
            lost: 0,
            undecided: 0,
            stages: BTreeMap::new(),
            floors: BTreeMap::new(),
            unseen: BTreeMap::new(),
            histograms: BTreeMap::new(),
            timeline: Vec::new(),
            receipts: 0,
        };
        let updates = observed.updates.iter().zip(&observed.findings.sightings);
        for ((_, update), sighting) in updates.filter(|((by, _), _)| *by == source) {
            if let Some(reason) = &update.failure {
                *result.failed_writes.entry(reason.clone()).or_default() += 1;
            }
            let Some(acked_us) = update.write.acked_us else {
                continue;
            };
            result.updates += 1;
            result.lost += u64::from(sighting.lost);
            result.undecided += u64::from(sighting.undecided);
            let issued_us = update.write.issued_us;
            stages.add("acknowledge", acked_us - issued_us);
            let replicas = self.seen_by(sighting, Observer::is_replica);
            if let Some(replicas) = replicas {
                let first_us = stages.until("first_replica", acked_us, replicas.first);
                let last_us = stages.until("last_replica", acked_us, replicas.all);
                result.timeline.push(Spread {
                    at_ms: acked_us.saturating_sub(observed.begun_us) / 1_000,
                    first_us,
                    last_us,
                });
            }
            for (first, all, observer) in [
                (
                    "edge_first",
                    "edge_all",
                    Observer::is_edge as fn(&Observer) -> bool,
                ),
                ("order_first", "order_all", Observer::is_orders),
            ] {
                if let Some(seen) = self.seen_by(sighting, observer) {
                    stages.until(first, acked_us, seen.first);
                    stages.until(all, acked_us, seen.all);
                }
            }
            let Some(receipt) = receipts.get(&(self.location(update), update.store_version)) else {
                continue;
            };
            result.receipts += 1;
            if let Some(took) = receipt.write_to_start {
                stages.add("write_to_start", micros(took));
                if let Some(replicas) = replicas {
                    let started_us = issued_us.saturating_add(micros(took));
                    stages.until("start_to_last", started_us, replicas.all);
                }
            }
            stages.add("read", micros(receipt.read));
            stages.add("discover", micros(receipt.discover));
            stages.add("fanout", micros(receipt.fanout));
        }
        stages.finish(&mut result);
        result
    }

    /// When these observers saw an update; `None` if there is no such observer.
    fn seen_by(&self, sighting: &Sighting, wanted: impl Fn(&Observer) -> bool) -> Option<Seen> {
        let all = self.experiment.observers.iter().zip(&sighting.seen);
        let mut seen = all.filter(|(observer, _)| wanted(observer)).peekable();
        seen.peek()?;
        Some(Seen::of_all(seen.map(|(_, seen)| *seen)))
    }

    fn location(&self, update: &Update) -> String {
        let cell = &self.experiment.cells[update.write.cell];
        cell.location(&self.targets.parameter_root)
    }
}

/// How finely an observer's times are known, over the updates that it saw.
fn resolution(number: usize, observed: &Observed) -> Histogram<u64> {
    let mut times = histogram(3);
    let sightings = observed
        .findings
        .sightings
        .iter()
        .take(observed.updates.len());
    for window in sightings.filter_map(|sighting| sighting.seen.get(number)?.first) {
        times.saturating_record(window.by_us - window.after_us);
    }
    times
}

/// Times by stage.
#[derive(Default)]
struct Stages {
    /// The end of the observation.
    end_us: u64,
    times: BTreeMap<&'static str, Histogram<u64>>,
    floors: BTreeMap<&'static str, Histogram<u64>>,
    unseen: BTreeMap<&'static str, u64>,
}

impl Stages {
    fn add(&mut self, stage: &'static str, us: u64) {
        let times = self.times.entry(stage).or_insert_with(|| histogram(3));
        times.saturating_record(us);
    }

    /// Adds the time from `since_us` until something was seen, with its lower bound, and returns it. What was not seen is not
    /// left out, which would bias the percentiles: it counts with the time until the end of the observation.
    fn until(&mut self, stage: &'static str, since_us: u64, seen: Option<Window>) -> u64 {
        let window = seen.unwrap_or_else(|| {
            *self.unseen.entry(stage).or_default() += 1;
            Window {
                after_us: self.end_us,
                by_us: self.end_us,
            }
        });
        let floors = self.floors.entry(stage).or_insert_with(|| histogram(3));
        floors.saturating_record(window.after_us.saturating_sub(since_us));
        let us = window.by_us.saturating_sub(since_us);
        self.add(stage, us);
        us
    }

    fn finish(self, result: &mut SourceStaleness) {
        for (stage, times) in self.times {
            result.histograms.insert(stage.to_owned(), buckets(&times));
            result.stages.insert(stage.to_owned(), quantiles(&times));
        }
        let floors = self.floors.into_iter();
        result.floors = floors
            .map(|(stage, us)| (stage.to_owned(), quantiles(&us)))
            .collect();
        let unseen = self.unseen.into_iter();
        result.unseen = unseen
            .map(|(stage, count)| (stage.to_owned(), count))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_nobody_saw_is_in_the_percentiles() {
        let mut stages = Stages {
            end_us: 9_000_000,
            ..Stages::default()
        };
        let seen = |after_us, by_us| Some(Window { after_us, by_us });
        assert_eq!(stages.until("last_replica", 1_000, seen(500, 3_000)), 2_000);
        assert_eq!(
            stages.until("last_replica", 1_000, seen(4_000, 6_000)),
            5_000
        );
        assert_eq!(stages.until("last_replica", 1_000_000, None), 8_000_000);
        assert_eq!(stages.unseen["last_replica"], 1);
        assert_eq!(stages.times["last_replica"].len(), 3);
        let floors = &stages.floors["last_replica"];
        assert_eq!(
            (floors.min(), floors.len()),
            (0, 3),
            "not above the resolution"
        );
        assert!(floors.max() >= 7_990_000);
    }
}
