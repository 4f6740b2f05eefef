//! Counts and microseconds of what was asked, by scenario, operation and cache result. Nothing is dropped: a failed or
//! wrong answer is counted, with the time that it took, under its code.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::report::{Quantiles, Series, Tick};

/// Longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 600_000_000;

/// How the service came to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CacheResult {
    /// All of it from the cache.
    Hit,
    /// At least a part from the source.
    Miss,
    /// At least a part is the last known value, since the source did not answer.
    Stale,
    /// There is nothing by that name; the answer does not say how that is known.
    Absent,
    /// The operation has no cache result (a write, a price).
    None,
    /// There was no answer, or a wrong one.
    Failed,
}

/// What came of one question.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// How it was answered.
    pub(crate) result: CacheResult,
    /// Why it counts as failed.
    pub(crate) error: Option<String>,
}

/// One question and its answer, timed.
pub(crate) struct Observation {
    /// The scenario that asked.
    pub(crate) scenario: &'static str,
    /// What was asked.
    pub(crate) operation: &'static str,
    /// What came of it.
    pub(crate) answer: Answer,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Collects observations of one phase.
pub(crate) struct Recorder {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    series: BTreeMap<(&'static str, &'static str, CacheResult), Kept>,
    seconds: BTreeMap<u64, Second>,
}

struct Kept {
    times: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

struct Second {
    times: Histogram<u64>,
    errors: u64,
}

// === impl CacheResult ===

impl CacheResult {
    /// As reports and SLOs spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::None => "none",
            Self::Failed => "failed",
        }
    }

    /// Of what the service says of an answer.
    pub(crate) fn of(cached: bool, stale: bool) -> Self {
        match (cached, stale) {
            (_, true) => Self::Stale,
            (true, false) => Self::Hit,
            (false, false) => Self::Miss,
        }
    }

    /// Of an answer with parts: stale before missed before hit.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |result: Self| match result {
            Self::Hit => 0,
            Self::Miss => 1,
            Self::Stale => 2,
            _ => 3,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

// === impl Answer ===

impl Answer {
    /// A right one.
    pub(crate) fn good(result: CacheResult) -> Self {
        Self {
            result,
            error: None,
        }
    }

    /// None, or a wrong one.
    pub(crate) fn failed(code: impl Into<String>) -> Self {
        Self {
            result: CacheResult::Failed,
            error: Some(code.into()),
        }
    }
}

// === impl Recorder ===

impl Recorder {
    /// An empty one; the timeline begins at `begun`.
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            begun,
            inner: Mutex::default(),
        }
    }

    /// Takes one in.
    pub(crate) fn record(&self, observation: Observation) {
        let second = self.begun.elapsed().as_secs();
        let micros = micros(observation.took);
        let failed = observation.answer.error.is_some();
        let key = (
            observation.scenario,
            observation.operation,
            observation.answer.result,
        );
        let mut inner = self.inner.lock();
        let kept = inner.series.entry(key).or_insert_with(|| Kept {
            times: histogram(3),
            errors: BTreeMap::new(),
        });
        kept.times.saturating_record(micros);
        if let Some(code) = observation.answer.error {
            *kept.errors.entry(code).or_default() += 1;
        }
        let tick = inner.seconds.entry(second).or_insert_with(|| Second {
            times: histogram(2),
            errors: 0,
        });
        tick.times.saturating_record(micros);
        tick.errors += u64::from(failed);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.inner
            .lock()
            .series
            .values()
            .map(|kept| kept.times.len())
            .sum()
    }

    /// What was recorded, over so many seconds. `trusted` false withholds the times.
    pub(crate) fn series(&self, seconds: f64, trusted: bool) -> Vec<Series> {
        let inner = self.inner.lock();
        let series = inner
            .series
            .iter()
            .map(|((scenario, operation, result), kept)| Series {
                scenario: (*scenario).to_owned(),
                operation: (*operation).to_owned(),
                result: result.name().to_owned(),
                count: kept.times.len(),
                per_second: per_second(kept.times.len(), seconds),
                latency: trusted.then(|| quantiles(&kept.times)),
                histogram: if trusted {
                    buckets(&kept.times)
                } else {
                    Vec::new()
                },
                errors: kept.errors.clone(),
            });
        series.collect()
    }

    /// A point for each second.
    pub(crate) fn timeline(&self, trusted: bool) -> Vec<Tick> {
        let inner = self.inner.lock();
        let tick = |(second, kept): (&u64, &Second)| Tick {
            second: *second,
            count: kept.times.len(),
            errors: kept.errors,
            p50_us: trusted.then(|| kept.times.value_at_quantile(0.5)),
            p99_us: trusted.then(|| kept.times.value_at_quantile(0.99)),
            max_us: trusted.then(|| kept.times.max()),
        };
        inner.seconds.iter().map(tick).collect()
    }
}

/// An empty histogram of microseconds.
pub(crate) fn histogram(digits: u8) -> Histogram<u64> {
    #[expect(
        clippy::expect_used,
        reason = "the bounds are constants, and digits is 2 or 3"
    )]
    Histogram::new_with_bounds(1, LONGEST_US, digits).expect("the bounds are good")
}

/// Whole microseconds, at least one.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// A rate; zero where there was no time.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts are far below 2 to the 52nd"
)]
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// The percentiles, those alone that the number of samples can carry: one of a hundred, to speak of p99.
pub(crate) fn quantiles(times: &Histogram<u64>) -> Quantiles {
    let at = |quantile: f64, least: u64| {
        (times.len() >= least).then(|| times.value_at_quantile(quantile))
    };
    Quantiles {
        count: times.len(),
        min_us: times.min(),
        mean_us: times.mean(),
        p50_us: at(0.5, 1),
        p90_us: at(0.9, 10),
        p99_us: at(0.99, 100),
        p999_us: at(0.999, 1_000),
        max_us: times.max(),
    }
}

/// The whole distribution, as reports hold it.
pub(crate) fn buckets(times: &Histogram<u64>) -> Vec<(u64, u64)> {
    times
        .iter_recorded()
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

/// What [`buckets`] was given, to three digits.
pub(crate) fn restored<'b>(buckets: impl IntoIterator<Item = &'b (u64, u64)>) -> Histogram<u64> {
    let mut times = histogram(3);
    for (value, count) in buckets {
        times.saturating_record_n(*value, *count);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Quantiles {
        let mut histogram = histogram(3);
        times
            .into_iter()
            .for_each(|time| histogram.saturating_record(time));
        quantiles(&histogram)
    }

    fn near(found: Option<u64>, wanted: u64) {
        let (found, wanted) = (i64::try_from(found.unwrap()), i64::try_from(wanted));
        let (found, wanted) = (found.unwrap(), wanted.unwrap());
        assert!(
            (found - wanted).abs() <= 1 + wanted / 1_000,
            "{found} is not {wanted} within a thousandth"
        );
    }

    #[test]
    fn percentiles_of_a_uniform_distribution() {
        let found = of((1..=100_000).rev());
        near(found.p50_us, 50_000);
        near(found.p90_us, 90_000);
        near(found.p99_us, 99_000);
        near(found.p999_us, 99_900);
        near(Some(found.max_us), 100_000);
        assert_eq!((found.count, found.min_us), (100_000, 1));
    }

    #[test]
    fn percentiles_of_an_exponential_distribution() {
        let count = 200_000_u32;
        let mean_us = 1_000.0;
        // The inverse of the distribution at evenly spaced quantiles.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and small"
        )]
        let sample = |i: u32| {
            (-mean_us * (1.0 - (f64::from(i) + 0.5) / f64::from(count)).ln()).round() as u64
        };
        let found = of((0..count).map(sample));
        near(found.p50_us, 693);
        near(found.p90_us, 2_303);
        near(found.p99_us, 4_605);
        near(found.p999_us, 6_908);
        assert!((found.mean_us - mean_us).abs() < 5.0, "{}", found.mean_us);
    }

    #[test]
    fn few_samples_carry_no_high_percentiles() {
        let found = of(1..=99);
        assert_eq!(
            (found.p99_us, found.p999_us, found.p90_us.is_some()),
            (None, None, true)
        );
        assert!(of(1..=100).p99_us.is_some());
        assert_eq!((of([]).count, of([]).p50_us), (0, None));
    }

    #[test]
    fn every_answer_is_counted_once() {
        let recorder = Recorder::new(Instant::now());
        let observe = |answer: Answer| {
            recorder.record(Observation {
                scenario: "hot",
                operation: "get",
                answer,
                took: Duration::from_micros(150),
            });
        };
        (0..7).for_each(|_| observe(Answer::good(CacheResult::Hit)));
        observe(Answer::failed("UNAVAILABLE"));
        observe(Answer::failed("wrong value"));
        observe(Answer::failed("UNAVAILABLE"));
        assert_eq!(recorder.count(), 10);
        let series = recorder.series(2.0, true);
        let counts: Vec<_> = series
            .iter()
            .map(|one| (one.result.as_str(), one.count))
            .collect();
        assert_eq!(counts, [("hit", 7), ("failed", 3)]);
        assert_eq!(series[1].errors["UNAVAILABLE"], 2);
        assert_eq!(series[0].per_second, 3.5);
        assert_eq!(
            recorder
                .timeline(true)
                .iter()
                .map(|tick| (tick.count, tick.errors))
                .collect::<Vec<_>>(),
            [(10, 3)]
        );
        assert!(
            recorder.series(2.0, false)[0].latency.is_none(),
            "withheld, and still counted"
        );
    }

    #[test]
    fn a_distribution_survives_its_report() {
        let mut times = histogram(3);
        (1..=10_000).for_each(|time| times.saturating_record(time * 7));
        let kept = buckets(&times);
        assert!(kept.windows(2).all(|two| two[0].0 < two[1].0), "ascending");
        let (before, after) = (quantiles(&times), quantiles(&restored(&kept)));
        assert_eq!(
            (before.count, before.p50_us, before.p999_us),
            (after.count, after.p50_us, after.p999_us)
        );
    }
}
