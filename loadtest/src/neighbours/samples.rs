//! Times of a quiet tenant's reads, and how much longer they take beside a neighbour.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    recorder::{histogram, quantiles},
    report::{Quantiles, Ratio},
};

/// Fewer reads say nothing of the 99th percentile.
const LEAST: usize = 100;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 1_000;

/// Times in microseconds, in blocks of the reads that were due in the same second: neighbours in time are not independent.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    blocks: Vec<Vec<u64>>,
    failed: u64,
}

// === impl Samples ===

impl Samples {
    /// Adds a read that was due in this second of the slot.
    pub(super) fn push(&mut self, second: u64, us: u64, answered: bool) {
        let index = usize::try_from(second).unwrap_or_default();
        if self.blocks.len() <= index {
            self.blocks.resize_with(index + 1, Vec::new);
        }
        self.blocks[index].push(us);
        self.failed += u64::from(!answered);
    }

    /// Adds another slot.
    pub(super) fn append(&mut self, mut other: Self) {
        self.blocks.append(&mut other.blocks);
        self.failed += other.failed;
    }

    /// Reads that failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The distribution.
    pub(super) fn quantiles(&self) -> Quantiles {
        let mut times = histogram(3);
        for us in self.blocks.iter().flatten() {
            times.saturating_record(*us);
        }
        quantiles(&times)
    }

    fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    fn resampled(&self, rng: &mut SmallRng) -> Vec<u64> {
        (0..self.blocks.len())
            .flat_map(|_| &self.blocks[rng.random_range(0..self.blocks.len())])
            .copied()
            .collect()
    }
}

/// The ratio of the 99th percentiles, with a 95 % interval (bootstrap over seconds). `None` with fewer than 100 reads.
pub(super) fn ratio_of_p99(alone: &Samples, beside: &Samples) -> Option<Ratio> {
    if alone.len() < LEAST || beside.len() < LEAST {
        return None;
    }
    let flat = |samples: &Samples| samples.blocks.iter().flatten().copied().collect();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| ratio(alone.resampled(&mut rng), beside.resampled(&mut rng)))
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    Some(Ratio {
        value: ratio(flat(alone), flat(beside)),
        low: ratios[RESAMPLES * 25 / 1_000],
        high: ratios[RESAMPLES * 975 / 1_000],
    })
}

fn ratio(alone: Vec<u64>, beside: Vec<u64>) -> f64 {
    p99(beside) as f64 / p99(alone).max(1) as f64
}

/// By nearest rank; 0 of nothing.
fn p99(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    let rank = (times.len() * 99).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 reads in each of some seconds, a tenth of them slow in the first of these seconds.
    fn samples(seconds: u64, us: u64, slow_seconds: u64) -> Samples {
        let mut samples = Samples::default();
        for second in 0..seconds {
            for number in 0..20 {
                let slow = second < slow_seconds && number < 2;
                samples.push(second, if slow { us * 10 } else { us + number }, true);
            }
        }
        samples
    }

    #[test]
    fn the_ratio_has_an_interval_that_holds_it() {
        let ratio = ratio_of_p99(&samples(10, 1_000, 0), &samples(10, 3_000, 0)).unwrap();
        assert!((2.9..3.1).contains(&ratio.value), "{ratio:?}");
        assert!(ratio.low <= ratio.value && ratio.value <= ratio.high);
        assert!(ratio.high - ratio.low < 0.1, "nothing varies: {ratio:?}");
    }

    #[test]
    fn one_bad_second_makes_the_interval_wide() {
        let ratio = ratio_of_p99(&samples(15, 1_000, 0), &samples(15, 1_000, 1)).unwrap();
        assert!(ratio.low < 1.1 && ratio.high > 5.0, "{ratio:?}");
    }

    #[test]
    fn a_percentile_needs_samples() {
        assert!(ratio_of_p99(&samples(4, 1_000, 0), &samples(10, 1_000, 0)).is_none());
        assert_eq!(p99((1..=100).collect()), 99);
        assert_eq!(p99(Vec::new()), 0);
    }

    #[test]
    fn rounds_and_failures_add_up() {
        let mut both = samples(5, 1_000, 0);
        let mut other = Samples::default();
        other.push(0, 5_000_000, false);
        both.append(other);
        assert_eq!((both.len(), both.failed()), (101, 1));
        assert_eq!(both.quantiles().count, 101);
    }
}
