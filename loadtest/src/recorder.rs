//! Counts and microseconds of requests, by scenario, operation and cache result. Nothing is dropped: a failed or
//! wrong answer is counted, with the time that it took, under its code. Memory is bounded, however long a phase is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::report::{Interval, Quantiles, Series, Tick};

/// Longest time that a histogram distinguishes, in microseconds.
const LONGEST_US: u64 = 600_000_000;
/// The percentiles that are reported: name, quantile, and the samples that each needs, 1 / (1 - quantile). With fewer, no
/// sample is expected above it.
pub(crate) const PERCENTILES: [(&str, f64, u64); 4] = [
    ("p50", 0.5, 2),
    ("p90", 0.9, 10),
    ("p99", 0.99, 100),
    ("p99.9", 0.999, 1_000),
];
/// From this many times those samples a percentile is shown without its interval.
pub(crate) const BARE: u64 = 10;
/// A point of the timeline is a second wide until this second of a phase, and [`WIDE`] seconds after it.
const WIDEN_AT: u64 = 600;
const WIDE: u64 = 10;
/// A point keeps its histogram for this long; then it keeps its numbers only.
const OPEN_SECONDS: u64 = 30;

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

/// The outcome of one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// How it was answered.
    pub(crate) result: CacheResult,
    /// Why it counts as failed.
    pub(crate) error: Option<String>,
}

/// One request and its answer, timed.
pub(crate) struct Observation {
    /// The scenario that sent it.
    pub(crate) scenario: &'static str,
    /// The operation.
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
    /// Points of the timeline by their first second.
    points: BTreeMap<u64, Point>,
    /// All points before this second are closed.
    closed_until: u64,
}

struct Kept {
    times: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

/// The requests that were due in one second, or in [`WIDE`] of them.
#[derive(Default)]
struct Point {
    /// Absent before the first answer, and once the point is closed.
    times: Option<Histogram<u64>>,
    closed: bool,
    count: u64,
    errors: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    max_us: u64,
    lag_max_us: Option<u64>,
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

    /// Adds an observation that has just ended. Its point of the timeline is that of the instant at which it was due, which
    /// is its duration ago.
    pub(crate) fn record(&self, observation: Observation) {
        self.record_at(self.begun.elapsed(), observation);
    }

    fn record_at(&self, now: Duration, observation: Observation) {
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
        inner.close_before(now.as_secs().saturating_sub(OPEN_SECONDS));
        let point = inner.point(now.saturating_sub(observation.took));
        point.count += 1;
        point.errors += u64::from(failed);
        point.max_us = point.max_us.max(micros);
        if !point.closed {
            let times = point.times.get_or_insert_with(|| histogram(2));
            times.saturating_record(micros);
        }
    }

    /// Records the lag of a request that was due at this instant.
    pub(crate) fn left(&self, due: Instant) {
        let lag = micros(due.elapsed());
        let due = due.saturating_duration_since(self.begun);
        let mut inner = self.inner.lock();
        let longest = &mut inner.point(due).lag_max_us;
        *longest = (*longest).max(Some(lag));
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

    /// A point for each second, or for each [`WIDE`] seconds in the later part of a long phase.
    pub(crate) fn timeline(&self, trusted: bool) -> Vec<Tick> {
        let inner = self.inner.lock();
        let tick = |(second, point): (&u64, &Point)| Tick {
            second: *second,
            seconds: width(*second),
            count: point.count,
            errors: point.errors,
            p50_us: point.numbers().0.filter(|_| trusted),
            p99_us: point.numbers().1.filter(|_| trusted),
            max_us: (trusted && point.count > 0).then_some(point.max_us),
            lag_max_us: point.lag_max_us,
        };
        inner.points.iter().map(tick).collect()
    }
}

// === impl Point ===

impl Point {
    /// The median and the 99th percentile.
    fn numbers(&self) -> (Option<u64>, Option<u64>) {
        match &self.times {
            Some(times) => (
                Some(times.value_at_quantile(0.5)),
                Some(times.value_at_quantile(0.99)),
            ),
            None => (self.p50_us, self.p99_us),
        }
    }
}

// === impl Inner ===

impl Inner {
    fn point(&mut self, since_begin: Duration) -> &mut Point {
        let second = since_begin.as_secs();
        let first = second - second % width(second);
        // An answer that comes later than this is in no percentile of its second.
        let closed = first + width(first) <= self.closed_until;
        self.points.entry(first).or_insert_with(|| Point {
            closed,
            ..Point::default()
        })
    }

    /// Reduces the histograms of older points to their numbers.
    fn close_before(&mut self, second: u64) {
        if second <= self.closed_until {
            return;
        }
        let ended = self.points.range_mut(..second);
        for (_, point) in ended.filter(|(first, _)| first.saturating_add(width(**first)) <= second)
        {
            (point.p50_us, point.p99_us) = point.numbers();
            (point.times, point.closed) = (None, true);
        }
        self.closed_until = second;
    }
}

/// Seconds of the point of the timeline that begins, or would begin, at this second.
fn width(second: u64) -> u64 {
    if second < WIDEN_AT { 1 } else { WIDE }
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
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// The percentiles that the number of samples can carry ([`PERCENTILES`]), each with its 95 % interval.
pub(crate) fn quantiles(times: &Histogram<u64>) -> Quantiles {
    let count = times.len();
    let given = PERCENTILES.iter().filter(|(_, _, least)| count >= *least);
    let intervals = given.map(|(name, quantile, _)| {
        let (low, high) = ranks(count, *quantile);
        let interval = Interval {
            low_us: low.map_or(0, |rank| value_at_rank(times, rank)),
            high_us: high.map(|rank| value_at_rank(times, rank)),
        };
        ((*name).to_owned(), interval)
    });
    let at = |number: usize| {
        let (_, quantile, least) = PERCENTILES[number];
        (count >= least).then(|| times.value_at_quantile(quantile))
    };
    Quantiles {
        count,
        min_us: times.min(),
        mean_us: times.mean(),
        p50_us: at(0),
        p90_us: at(1),
        p99_us: at(2),
        p999_us: at(3),
        max_us: times.max(),
        intervals: intervals.collect(),
    }
}

/// The value of the sample with this rank; 1 is the shortest.
fn value_at_rank(times: &Histogram<u64>, rank: u64) -> u64 {
    // The histogram rounds the rank of a quantile up: half a rank less is safe from rounding errors.
    times.value_at_quantile((rank as f64 - 0.5) / times.len() as f64)
}

/// Ranks of the samples between which a quantile of the distribution lies with a probability of 95 %, whatever the
/// distribution is: the number of samples below a quantile has a binomial distribution. Absent: no sample is low, or high,
/// enough; that end is unbounded. (Conover, "Practical Nonparametric Statistics", section 3.2.)
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are far below 2 to the 52nd"
)]
fn ranks(samples: u64, quantile: f64) -> (Option<u64>, Option<u64>) {
    /// Of both sides, 5 % lie outside.
    const OUTSIDE: f64 = 0.025;
    /// Smaller weights do not change a sum.
    const NEGLIGIBLE: f64 = 1e-20;
    let odds = quantile / (1.0 - quantile);
    // Weights from the mode outwards, as parts of that of the mode, by the ratio of neighbours.
    let mode = (((samples + 1) as f64 * quantile) as u64).min(samples);
    let mut weights = std::collections::VecDeque::from([1.0]);
    let (mut first, mut weight) = (mode, 1.0);
    while first > 0 && weight > NEGLIGIBLE {
        weight *= first as f64 / ((samples - first + 1) as f64 * odds);
        weights.push_front(weight);
        first -= 1;
    }
    let (mut last, mut weight) = (mode, 1.0);
    while last < samples && weight > NEGLIGIBLE {
        weight *= (samples - last) as f64 * odds / (last + 1) as f64;
        weights.push_back(weight);
        last += 1;
    }
    let total: f64 = weights.iter().sum();
    let (mut sum, mut low, mut high) = (0.0, None, None);
    for (below, weight) in (first..).zip(weights) {
        sum += weight / total;
        if sum <= OUTSIDE {
            low = Some(below + 1);
        }
        if sum >= 1.0 - OUTSIDE && high.is_none() {
            high = Some(below + 1);
        }
    }
    (
        low.filter(|rank| *rank <= samples),
        high.filter(|rank| *rank <= samples),
    )
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

    /// The ends are those of the exact binomial distribution (R: qbinom(c(.025, .975), n, q) and its neighbours).
    #[test]
    fn intervals_are_those_of_the_binomial_distribution() {
        assert_eq!(ranks(10, 0.5), (Some(2), Some(9)));
        assert_eq!(ranks(100, 0.5), (Some(40), Some(61)));
        assert_eq!(ranks(5, 0.5), (None, None), "six samples are needed");
        assert_eq!(ranks(6, 0.5), (Some(1), Some(6)));
        // A finite upper end of p99 needs 368 samples, and one of p99.9 needs 3,688.
        assert_eq!(ranks(367, 0.99).1, None);
        assert_eq!(ranks(368, 0.99).1, Some(368));
        assert_eq!(ranks(3_687, 0.999).1, None);
        assert_eq!(ranks(3_688, 0.999).1, Some(3_688));
        let (low, high) = ranks(10_000_000, 0.99);
        assert_eq!((low, high), (Some(9_899_383), Some(9_900_617)));
    }

    proptest::proptest! {
        /// The probability that the interval misses the quantile is at most 5 %, from the distribution's own sum.
        #[test]
        fn intervals_cover(samples in 1_u32..400, quantile in 0.05_f64..0.999) {
            let (low, high) = ranks(u64::from(samples), quantile);
            let mut outside = 0.0;
            // As logarithms: the smallest are below what a float holds.
            let mut weight = f64::from(samples) * (1.0 - quantile).ln();
            for below in 0..=samples {
                if low.is_some_and(|rank| u64::from(below) < rank)
                    || high.is_some_and(|rank| u64::from(below) >= rank)
                {
                    outside += weight.exp();
                }
                let ratio = f64::from(samples - below) / f64::from(below + 1);
                weight += ratio.ln() + (quantile / (1.0 - quantile)).ln();
            }
            proptest::prop_assert!(outside <= 0.05 + 1e-9, "{outside}");
            proptest::prop_assert!(low.zip(high).is_none_or(|(low, high)| low < high));
        }
    }

    #[test]
    fn an_interval_holds_its_percentile() {
        let found = of(1..=300);
        let interval = &found.intervals["p99"];
        assert!(
            interval.low_us < 297 && interval.high_us.is_none(),
            "{interval:?}"
        );
        assert_eq!(found.intervals.len(), 3, "none of p99.9");
        let found = of(1..=100_000);
        let interval = &found.intervals["p99"];
        assert!(interval.low_us < 99_000 && interval.high_us.is_some_and(|us| us > 99_000));
        assert!(interval.low_us > 98_800 && interval.high_us.is_some_and(|us| us < 99_200));
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

    fn answer(took: Duration) -> Observation {
        Observation {
            scenario: "hot",
            operation: "get",
            answer: Answer::good(CacheResult::Hit),
            took,
        }
    }

    #[test]
    fn the_timeline_has_the_second_in_which_a_request_was_due() {
        let Some(begun) = Instant::now().checked_sub(Duration::from_millis(5_500)) else {
            return;
        };
        let recorder = Recorder::new(begun);
        recorder.left(begun + Duration::from_millis(2_400));
        recorder.record(answer(Duration::from_secs(3)));
        recorder.record(answer(Duration::from_micros(10)));
        recorder.record(answer(Duration::from_mins(1)));
        let timeline = recorder.timeline(true);
        let points: Vec<_> = timeline
            .iter()
            .map(|tick| (tick.second, tick.count))
            .collect();
        assert_eq!(
            points,
            [(0, 1), (2, 1), (5, 1)],
            "one was due in the warm-up"
        );
        assert!(timeline[1].lag_max_us > Some(3_000_000) && timeline[2].lag_max_us.is_none());
    }

    #[test]
    fn a_long_phase_has_few_open_points_and_wide_ones() {
        let recorder = Recorder::new(Instant::now());
        for second in 0..1_000 {
            recorder.record_at(
                Duration::from_millis(second * 1_000 + 500),
                answer(Duration::from_millis(7)),
            );
        }
        // One that was due long before: its point has no histogram any more.
        recorder.record_at(Duration::from_secs(1_000), answer(Duration::from_mins(15)));
        let inner = recorder.inner.lock();
        let open = inner.points.values().filter(|point| point.times.is_some());
        assert!(open.count() <= 31, "the last half of a minute");
        drop(inner);
        let timeline = recorder.timeline(true);
        assert_eq!(timeline.iter().map(|tick| tick.count).sum::<u64>(), 1_001);
        assert!(
            timeline
                .iter()
                .all(|tick| tick.p50_us.is_some_and(|us| us < 7_100))
        );
        assert_eq!(timeline[100].max_us, Some(900_000_000));
        assert!(timeline.len() < 650, "{}", timeline.len());
        assert_eq!(timeline.last().map(|tick| tick.seconds), Some(WIDE));
        assert_eq!(timeline[0].seconds, 1);
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
