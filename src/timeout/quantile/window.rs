//! The window of the last calls, and the limit computed from it.

use super::{
    SLICE,
    scale::{End, Era, Sample, Scale},
};
use crate::clock::Nanos;
use std::collections::VecDeque;

/// The factor by which the limit rises at most in one step.
const LARGEST_STEP: f64 = 1.25;
/// The share of calls that take longer than the limit falls with about the fourth power of the limit, if latencies are
/// lognormal. To divide the share by 16, the limit must double.
const TAIL_POWER: f64 = 0.25;

/// The limit begins again once this many windows' worth of calls were not learned: the service is taken to have
/// changed. One call that is learned makes up for this many that were not.
const FROZEN_WINDOWS: usize = 10;

#[derive(Clone, Copy, Default)]
struct Bucket {
    answered: u32,
    /// The calls that were given up, or that another deadline ended.
    censored: u32,
}

pub(super) struct Window {
    scale: Scale,
    /// The false-timeout rate.
    rate: f64,
    /// The most samples in the window: `10 / rate`.
    size: usize,
    /// The learned calls, the oldest first.
    samples: VecDeque<Sample>,
    /// How many of the samples are in each bucket of the scale.
    buckets: Box<[Bucket]>,
    /// The samples in the window that were given up at the limit.
    given_up: usize,
    limit: Nanos,
    /// The bucket of the fastest answer in the last slice, even if that slice is not learned.
    fastest_of_slice: Option<u16>,
    era: Era,
    /// The last slice, if neither it nor the slice before was frozen. Learned if the next slice is not frozen either.
    pending: Vec<Sample>,
    /// Whether the last slice was frozen: too many of its calls were given up, so it is not learned.
    frozen: bool,
    /// The calls of each slice at whose end no slice was learned, less ten for each call that was learned, but never
    /// below zero. This number grows while fewer than one call in eleven is learned. At ten windows of calls the limit
    /// begins again.
    passed_over: usize,
    /// The number of samples that must be learned before the next step raises the limit.
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

    /// Begins again at the ceiling, in a new era. Calls that began earlier are not learned.
    pub(super) fn begin_again(&mut self) {
        *self = Self::new(self.rate, self.scale, self.era.next());
    }

    /// Returns whether half of the window is full.
    fn is_known(&self) -> bool {
        self.samples.len() * 2 >= self.size
    }

    /// Returns the fastest answer of the window and the last slice, rounded down. Zero until enough calls are known.
    pub(super) fn fastest(&self) -> Nanos {
        if !self.is_known() {
            return Nanos::ZERO;
        }
        let learned = self.buckets.iter().position(|bucket| bucket.answered > 0).map(|bucket| bucket as u16);
        let fastest = [learned, self.fastest_of_slice].into_iter().flatten().min();
        fastest.map_or(Nanos::ZERO, |bucket| self.scale.lower(bucket))
    }

    /// Decides whether this slice is frozen. If it is not, learns the pending slice. Keeps this slice as the pending
    /// one unless it or the slice before was frozen.
    pub(super) fn learn(&mut self, slice: impl Iterator<Item = Sample>) {
        let slice: Vec<Sample> = slice.collect();
        let given_up = slice.iter().filter(|sample| sample.end == End::GivenUp).count();
        // A call that another deadline ended does not show whether the limit would have ended it.
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

    /// Counts calls that are not learned, and begins again at the ceiling if there are too many. Ten windows of them
    /// show that the service has changed. No limit below the ceiling would do: the calls that the old limit ended do
    /// not show how much longer they would have taken.
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
            // Most calls of the window that were given up began before the last step. Wait for calls that had the
            // present limit.
            Err(_) if self.hold > 0 => {}
            // Other deadlines end the calls that would show the quantile. A longer limit would not show it either.
            Err(_) if self.given_up == 0 => {}
            Err(longer) => {
                let step = (longer / self.rate).powf(TAIL_POWER).min(LARGEST_STEP);
                self.limit = self.scale.clamp(Nanos((self.limit.0 as f64 * step) as u64 + 1));
                self.hold = self.size / 4;
            }
        }
    }

    /// Returns the quantile. If the known answers do not reach it, returns the share of calls that take longer than all
    /// known answers. This share is then above the rate.
    ///
    /// This is the Kaplan-Meier estimator. It computes `longer *= 1 - answered / left` bucket by bucket. `longer` is
    /// the share of calls that take longer than this bucket. `left` is the number of calls that did not end in an
    /// earlier bucket.
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

/// Returns the bucket of the fastest answer.
fn fastest(samples: &[Sample]) -> Option<u16> {
    samples.iter().filter(|sample| sample.end == End::Answered).map(|sample| sample.bucket).min()
}
