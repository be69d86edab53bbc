//! A histogram of durations.

use crate::clock::Nanos;
use std::time::Duration;

/// The inclusive upper bounds of the buckets of all histograms, in seconds. One more bucket holds longer durations.
///
/// The bounds range from 0.1 ms, for calls within a data center, to a minute, for queues. Up to 10 s, each decade has
/// the bounds 1, 2.5 and 5. Those from 5 ms to 10 s are among the bounds that OpenTelemetry recommends for requests.
pub const BUCKETS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The bounds in nanoseconds.
const BOUNDS: [u64; BUCKETS.len()] = {
    let mut bounds = [0; BUCKETS.len()];
    let mut place = 0;
    while place < bounds.len() {
        // Exact: each bound is a whole number of microseconds.
        bounds[place] = (BUCKETS[place] * 1e6 + 0.5) as u64 * 1000;
        place += 1;
    }
    bounds
};

/// The number of buckets.
pub(crate) const COUNT: usize = BUCKETS.len() + 1;

/// Returns the bucket of a duration.
#[inline]
pub(crate) fn bucket(duration: Nanos) -> usize {
    BOUNDS.partition_point(|bound| *bound < duration.0)
}

/// Durations, counted by [`BUCKETS`]. Each bucket has a count and a sum, so the total sum is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; COUNT],
    /// Nanoseconds. A sum wraps around after 584 years.
    sums: [u64; COUNT],
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = Nanos::of(duration);
        let bucket = bucket(nanos);
        self.add(bucket, 1, nanos.0);
    }

    /// Adds `count` durations with a sum of `nanos` nanoseconds to a bucket.
    pub(crate) fn add(&mut self, bucket: usize, count: u64, nanos: u64) {
        self.counts[bucket] = self.counts[bucket].wrapping_add(count);
        self.sums[bucket] = self.sums[bucket].wrapping_add(nanos);
    }

    /// Returns the count of each bucket. The last bucket holds durations above all bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns the number of all durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Returns the sum of all durations, in seconds.
    pub fn sum(&self) -> f64 {
        self.sums.iter().map(|nanos| *nanos as f64 / 1e9).sum()
    }

    /// Returns the mean of the durations in a bucket, in seconds, or `None` if the bucket is empty. The mean lies
    /// within the bounds of the bucket.
    pub fn mean(&self, bucket: usize) -> Option<f64> {
        let (count, sum) = (*self.counts.get(bucket)?, *self.sums.get(bucket)?);
        (count > 0).then(|| within(bucket, sum as f64 / 1e9 / count as f64))
    }
}

/// Operations for metrics.
#[cfg(any(feature = "metrics", test))]
impl Histogram {
    /// Updates one bucket to its state in `all`. Returns the number of new durations and their mean in seconds, or
    /// `None` if there are none.
    ///
    /// The count and the sum of a bucket are not read at one instant. The sum may be ahead or behind by a few
    /// durations. The returned mean is kept within the bounds of the bucket, and the next update corrects the
    /// difference.
    pub(crate) fn follow(&mut self, all: &Self, bucket: usize) -> Option<(u64, f64)> {
        let (count, sum) = (self.counts.get_mut(bucket)?, self.sums.get_mut(bucket)?);
        let more = all.counts[bucket].checked_sub(*count).filter(|more| *more > 0)?;
        // Sums wrap around and may lag behind.
        let nanos = all.sums[bucket].wrapping_sub(*sum) as i64;
        let mean = nanos as f64 / 1e9 / more as f64;
        let inside = within(bucket, mean);
        let reported = if inside == mean { nanos } else { (inside * 1e9 * more as f64) as i64 };
        (*count, *sum) = (all.counts[bucket], sum.wrapping_add_signed(reported));
        Some((more, inside))
    }

    /// Adds the durations of another histogram.
    pub(crate) fn merge(&mut self, other: &Self) {
        for bucket in 0..COUNT {
            self.add(bucket, other.counts[bucket], other.sums[bucket]);
        }
    }

    /// Returns the durations added since an `earlier` state. A bucket whose count went down is empty in the result.
    #[must_use]
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut since = Self::default();
        for bucket in 0..COUNT {
            if let Some(more) = self.counts[bucket].checked_sub(earlier.counts[bucket]) {
                since.add(bucket, more, self.sums[bucket].wrapping_sub(earlier.sums[bucket]));
            }
        }
        since
    }

    /// Takes over each bucket of `other` that is a later state of the bucket.
    pub(crate) fn raise(&mut self, other: &Self) {
        for bucket in 0..COUNT {
            let (count, sum) = (other.counts[bucket], other.sums[bucket]);
            // Sums wrap around.
            let is_later = sum.wrapping_sub(self.sums[bucket]) as i64 > 0;
            if count > self.counts[bucket] || count == self.counts[bucket] && is_later {
                (self.counts[bucket], self.sums[bucket]) = (count, sum);
            }
        }
    }
}

/// Clamps a mean, in seconds, to the bounds of its bucket. Rounding, or a sum that is ahead or behind, can move it out.
fn within(bucket: usize, seconds: f64) -> f64 {
    // A bound belongs to the bucket below it.
    let above = bucket.checked_sub(1).and_then(|below| BOUNDS.get(below)).map_or(0.0, |bound| (bound + 1) as f64 / 1e9);
    BUCKETS.get(bucket).map_or(seconds, |bound| seconds.min(*bound)).max(above)
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sum_read_early_or_late_stays_in_its_bucket_and_is_corrected_later() {
        let (millis, bucket) = (1_000_000, bucket(Nanos(20_000_000)));
        let mut all = Histogram::default();
        let mut reported = Histogram::default();
        let mut sum = 0.0;
        // 20 ms each. The sum of the second comes late, with the third. The sum of the fifth comes early, with the
        // fourth.
        for (count, nanos) in [(1, 20 * millis), (1, 0), (1, 40 * millis), (1, 40 * millis), (1, 0), (5, 100 * millis)]
        {
            all.add(bucket, count, nanos);
            let (more, mean) = reported.follow(&all, bucket).unwrap();
            assert!(more == count && mean > BUCKETS[bucket - 1] && mean <= BUCKETS[bucket], "{mean}");
            sum += more as f64 * mean;
        }
        assert!((sum - all.sum()).abs() < 1e-9, "{sum}");
        assert_eq!(reported.follow(&all, bucket), None);

        // A state with lower counts than before adds no durations, and no difference wraps around.
        assert_eq!(reported.follow(&Histogram::default(), bucket), None);
        assert_eq!(Histogram::default().since(&all), Histogram::default());
        let most = all;
        all.raise(&Histogram::default());
        assert_eq!(all, most);
        let mut late = Histogram::default();
        late.add(bucket, 1, 0);
        assert!(late.mean(bucket).unwrap() > BUCKETS[bucket - 1]);
    }

    #[test]
    fn each_bound_belongs_to_its_bucket() {
        for (place, bound) in BUCKETS.iter().enumerate() {
            let bound = Duration::from_secs_f64(*bound);
            assert_eq!(bucket(Nanos::of(bound)), place);
            assert_eq!(bucket(Nanos::of(bound + Duration::from_nanos(1))), place + 1);
        }
        assert_eq!(bucket(Nanos::ZERO), 0);
        assert_eq!(bucket(Nanos::MAX), BUCKETS.len());
    }

    #[test]
    fn the_mean_of_a_bucket_lies_in_it_and_the_sum_is_exact() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.count(), histogram.sum(), histogram.mean(0)), (0, 0.0, None));
        for millis in [10, 10, 10, 7, 3000] {
            histogram.record(Duration::from_millis(millis));
        }
        let tenth = bucket(Nanos::of(Duration::from_millis(10)));
        assert_eq!((histogram.count(), histogram.counts()[tenth]), (5, 4));
        assert!((histogram.sum() - 3.037).abs() < 1e-9);
        assert_eq!(histogram.mean(tenth), Some(0.00925));
        assert_eq!(histogram.mean(COUNT), None);
        let earlier = histogram;
        histogram.record(Duration::from_secs(100));
        let since = histogram.since(&earlier);
        assert_eq!((since.count(), since.mean(COUNT - 1)), (1, Some(100.0)));
    }
}
