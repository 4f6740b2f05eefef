//! From everything that was observed to figures: when each update was seen where, and what must not have been.

use std::collections::BTreeMap;

use super::{
    Bench,
    cells::{Update, Updates, Version},
    history::{self, Findings, ObserverName, Rules, check},
    observers::{Notes, Observer},
    receipts::Receipts,
};
use crate::{
    cli::Source,
    recorder::{buckets, histogram, micros, quantiles},
    report::{History, Phase, Quantiles, SourceStaleness, Spread, Staleness},
};

/// Violations that are told in full.
const TOLD: usize = 100;

/// What a part observed, to be judged.
pub(super) struct Observed {
    pub(super) rate: f64,
    pub(super) seconds: f64,
    pub(super) begun_us: u64,
    /// By cell: the newest version that was begun before.
    pub(super) before_versions: Vec<Version>,
    pub(super) updates: BTreeMap<Source, Updates>,
    pub(super) services: Option<crate::report::ServiceCounts>,
    pub(super) receipts: Receipts,
    pub(super) background: Option<Phase>,
}

impl Bench<'_> {
    /// Judges a part: what was seen when, and what must not have been.
    pub(super) fn judge(&self, observed: &Observed, notes: &Notes) -> Staleness {
        let names: Vec<ObserverName> = self
            .observers
            .iter()
            .map(|observer| observer.name.clone())
            .collect();
        let cells: Vec<String> = self.cells.iter().map(|cell| cell.name()).collect();
        let reads = std::mem::take(&mut *notes.reads.lock());
        let all: Vec<(Source, &Update)> = observed
            .updates
            .iter()
            .flat_map(|(source, updates)| updates.made.iter().map(|update| (*source, update)))
            .collect();
        // What was there before counts as written before the beginning.
        let before = observed.before_versions.iter().enumerate();
        let before = before.map(|(cell, version)| history::Write {
            cell,
            version: *version,
            issued_us: 0,
            acked_us: None,
        });
        let writes: Vec<_> = all
            .iter()
            .map(|(_, update)| update.write)
            .chain(before)
            .collect();
        let rules = Rules {
            lost_after_us: micros(self.options.lost_after),
        };
        let findings = check(&names, &writes, &reads, rules);
        let mut blind = histogram(3);
        for sighting in findings.sightings.iter().take(all.len()) {
            let of_replicas = self.observers.iter().zip(&sighting.blind_us);
            for (_, us) in of_replicas.filter(|(observer, _)| observer.is_replica()) {
                if let Some(us) = us {
                    blind.saturating_record(*us);
                }
            }
        }
        let told = findings.violations.iter().take(TOLD);
        let mut violations: Vec<_> = told.map(|one| one.describe(&names, &cells)).collect();
        if findings.violations.len() > TOLD {
            violations.push(format!("and {} more", findings.violations.len() - TOLD));
        }
        let sources = self
            .options
            .sources
            .iter()
            .map(|source| self.of_source(*source, &all, &findings, observed));
        Staleness {
            background_per_second: observed.rate,
            seconds: observed.seconds,
            resolution: (!blind.is_empty()).then(|| quantiles(&blind)),
            sources: sources.collect(),
            history: History {
                reads: reads.len() as u64,
                failed_reads: notes.failures.lock().clone(),
                violations,
            },
            services: observed.services.clone(),
            background: observed.background.clone(),
        }
    }

    fn of_source(
        &self,
        source: Source,
        all: &[(Source, &Update)],
        findings: &Findings,
        observed: &Observed,
    ) -> SourceStaleness {
        let mut stages = Stages::default();
        let mut result = SourceStaleness {
            source: source.name().to_owned(),
            wanted_per_second: self.wanted(source),
            updates: 0,
            failed_writes: BTreeMap::new(),
            passed_over: observed
                .updates
                .get(&source)
                .map_or(0, |updates| updates.passed_over),
            lost: 0,
            undecided: 0,
            stages: BTreeMap::new(),
            histograms: BTreeMap::new(),
            timeline: Vec::new(),
            receipts: 0,
        };
        for ((_, update), sighting) in all
            .iter()
            .zip(&findings.sightings)
            .filter(|((made_by, _), _)| *made_by == source)
        {
            if let Some(reason) = &update.failure {
                *result.failed_writes.entry(reason.clone()).or_default() += 1;
            }
            let Some(acked_us) = update.write.acked_us else {
                continue;
            };
            result.updates += 1;
            result.lost += u64::from(sighting.lost);
            result.undecided += u64::from(sighting.undecided && !sighting.lost);
            stages.add("acknowledge", acked_us - update.write.issued_us);
            let after = |seen: u64| seen.saturating_sub(acked_us);
            let seen_by = |wanted: fn(&Observer) -> bool| -> Vec<Option<u64>> {
                let all = self.observers.iter().zip(&sighting.seen_us);
                all.filter(|(observer, _)| wanted(observer))
                    .map(|(_, seen)| seen.map(after))
                    .collect()
            };
            let replicas = seen_by(Observer::is_replica);
            if let Some(all) = replicas.iter().copied().collect::<Option<Vec<_>>>() {
                let (first, last) = (all.iter().min(), all.iter().max());
                if let (Some(first), Some(last)) = (first, last) {
                    stages.add("first_replica", *first);
                    stages.add("last_replica", *last);
                    result.timeline.push(Spread {
                        at_ms: acked_us.saturating_sub(observed.begun_us) / 1_000,
                        first_us: *first,
                        last_us: *last,
                    });
                }
            }
            if let [Some(seen)] = seen_by(Observer::is_edge)[..] {
                stages.add("edge", seen);
            }
            if let [Some(seen)] = seen_by(|o| !o.is_replica() && !o.is_edge())[..] {
                stages.add("order", seen);
            }
            let place = self.cells[update.write.cell].location(&self.targets.parameter_root);
            if let Some(receipt) = observed.receipts.get(&(place, update.store_version)) {
                result.receipts += 1;
                if let Some(took) = receipt.write_to_start {
                    stages.add("write_to_start", micros(took));
                }
                stages.add("read", micros(receipt.read));
                stages.add("discover", micros(receipt.discover));
                stages.add("fanout", micros(receipt.fanout));
            }
        }
        (result.stages, result.histograms) = stages.done();
        result
    }
}

/// Times by stage.
#[derive(Default)]
struct Stages(BTreeMap<&'static str, hdrhistogram::Histogram<u64>>);

type Done = (
    BTreeMap<String, Quantiles>,
    BTreeMap<String, Vec<(u64, u64)>>,
);

impl Stages {
    fn add(&mut self, stage: &'static str, us: u64) {
        self.0
            .entry(stage)
            .or_insert_with(|| histogram(3))
            .saturating_record(us);
    }

    fn done(self) -> Done {
        let named = self.0.into_iter();
        named
            .map(|(stage, times)| {
                let stage = stage.to_owned();
                ((stage.clone(), quantiles(&times)), (stage, buckets(&times)))
            })
            .unzip()
    }
}
