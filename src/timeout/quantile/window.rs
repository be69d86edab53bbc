//! The last calls, and the limit that they ask for.

use super::{
    SLICE,
    scale::{End, Era, Sample, Scale},
};
use crate::clock::Nanos;
use std::collections::VecDeque;

/// The limit rises by at most this at a time.
const LARGEST_STEP: f64 = 1.25;
/// The tail of a lognormal latency falls with about the fourth power of the limit.
const TAIL_POWER: f64 = 0.25;

/// A limit was learned from one window. Trouble of ten times as many calls is how the service is.
const FROZEN_WINDOWS: usize = 10;

#[derive(Clone, Copy, Default)]
struct Bucket {
    answered: u32,
    /// Those that were given up, and those that another deadline ended.
    censored: u32,
}

pub(super) struct Window {
    scale: Scale,
    rate: f64,
    size: usize,
    samples: VecDeque<Sample>,
    buckets: Box<[Bucket]>,
    given_up: usize,
    limit: Nanos,
    /// The bucket of the fastest answer in the last slice, whether it is learned or not.
    fastest_of_slice: Option<u16>,
    era: Era,
    /// The last slice, if it was calm and so was the one before: learned once the next one is calm, too.
    pending: Vec<Sample>,
    frozen: bool,
    /// The calls that were not learned. A call that is learned makes up for ten, so that the limit is either learned
    /// from one call in eleven, or begins again.
    passed_over: usize,
    /// The samples to wait for before the limit rises again.
    hold: usize,
}

impl Window {
    pub(super) fn new(rate: f64, scale: Scale, era: Era) -> Self {
        let size = (10.0 / rate).ceil() as usize;
        Self {
            scale,
            rate,
            size,
            samples: VecDeque::with_capacity(size),
            buckets: vec![Bucket::default(); scale.count()].into(),
            given_up: 0,
            limit: scale.ceiling(),
            fastest_of_slice: None,
            era,
            pending: Vec::with_capacity(SLICE),
            frozen: false,
            passed_over: 0,
            hold: 0,
        }
    }

    pub(super) fn limit(&self) -> Nanos {
        self.limit
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    pub(super) fn achieved_rate(&self) -> f64 {
        if self.samples.is_empty() { 0.0 } else { self.given_up as f64 / self.samples.len() as f64 }
    }

    pub(super) fn era(&self) -> Era {
        self.era
    }

    /// Begins again at the ceiling. Calls that began before count no more.
    pub(super) fn begin_again(&mut self) {
        *self = Self::new(self.rate, self.scale, self.era.next());
    }

    /// Whether enough calls are known.
    fn is_known(&self) -> bool {
        self.samples.len() * 2 >= self.size
    }

    /// The shortest time in which a call was answered, rounded down, among those of the window and the last two slices.
    /// Zero until enough calls are known.
    pub(super) fn fastest(&self) -> Nanos {
        if !self.is_known() {
            return Nanos::ZERO;
        }
        let learned = self.buckets.iter().position(|bucket| bucket.answered > 0).map(|bucket| bucket as u16);
        let fastest = [learned, fastest(&self.pending), self.fastest_of_slice].into_iter().flatten().min();
        fastest.map_or(Nanos::ZERO, |bucket| self.scale.lower(bucket))
    }

    /// Learns the slice before this one, and keeps this one until the next.
    pub(super) fn learn(&mut self, slice: impl Iterator<Item = Sample>) {
        let slice: Vec<Sample> = slice.collect();
        let given_up = slice.iter().filter(|sample| sample.end == End::GivenUp).count();
        // A call that another deadline ended does not show whether it would have been given up.
        let shown = slice.iter().filter(|sample| sample.end != End::Cut).count();
        let was_frozen = self.frozen;
        self.frozen = given_up as f64 > (10.0 * self.rate).clamp(0.1, 0.9) * shown as f64;
        self.fastest_of_slice = fastest(&slice);
        let count = slice.len();
        let mut calm = std::mem::take(&mut self.pending);
        if self.frozen {
            calm.clear();
        } else if !was_frozen {
            self.pending = slice;
        }
        if calm.is_empty() {
            self.pass_over(count);
            return;
        }
        self.passed_over = self.passed_over.saturating_sub(FROZEN_WINDOWS * calm.len());
        self.hold = self.hold.saturating_sub(calm.len());
        calm.into_iter().for_each(|sample| self.add(sample));
        if self.is_known() {
            self.adjust();
        }
    }

    /// Begins again at the ceiling where trouble does not end. The limit is too short for what the service has become,
    /// and the calls that it gives up do not show how much longer they take.
    fn pass_over(&mut self, calls: usize) {
        self.passed_over += calls;
        if self.passed_over >= FROZEN_WINDOWS * self.size {
            self.begin_again();
        }
    }

    fn add(&mut self, sample: Sample) {
        if self.samples.len() == self.size {
            if let Some(oldest) = self.samples.pop_front() {
                self.count(oldest, |count| *count = count.saturating_sub(1));
                self.given_up -= usize::from(oldest.end == End::GivenUp);
            }
        }
        self.samples.push_back(sample);
        self.count(sample, |count| *count += 1);
        self.given_up += usize::from(sample.end == End::GivenUp);
    }

    fn count(&mut self, sample: Sample, change: impl FnOnce(&mut u32)) {
        if let Some(bucket) = self.buckets.get_mut(usize::from(sample.bucket)) {
            change(if sample.end == End::Answered { &mut bucket.answered } else { &mut bucket.censored });
        }
    }

    fn adjust(&mut self) {
        match self.quantile() {
            Ok(quantile) => self.limit = quantile,
            // Most calls that were given up were so at lower limits: the calls since the last step have to show it.
            Err(_) if self.hold > 0 => {}
            // Other deadlines end the calls that would show more. A longer limit would not let them be seen.
            Err(_) if self.given_up == 0 => {}
            Err(longer) => {
                let step = (longer / self.rate).powf(TAIL_POWER).min(LARGEST_STEP);
                self.limit = self.scale.clamp(Nanos((self.limit.0 as f64 * step) as u64 + 1));
                self.hold = self.size / 4;
            }
        }
    }

    /// The quantile, or the share of calls that are longer than all that is known, where that is more than the rate.
    ///
    /// Kaplan and Meier: the share of calls that are longer than a bucket is that of the one before, less the share
    /// that was answered in it among those that came so far.
    fn quantile(&self) -> Result<Nanos, f64> {
        let mut longer = 1.0;
        let mut left = self.samples.len();
        for (place, bucket) in self.buckets.iter().enumerate() {
            if bucket.answered > 0 {
                longer *= 1.0 - f64::from(bucket.answered) / left as f64;
                if longer <= self.rate * (1.0 + 1e-9) {
                    return Ok(self.scale.upper(place));
                }
            }
            left = left.saturating_sub((bucket.answered + bucket.censored) as usize);
        }
        Err(longer)
    }
}

fn fastest(samples: &[Sample]) -> Option<u16> {
    samples.iter().filter(|sample| sample.end == End::Answered).map(|sample| sample.bucket).min()
}
