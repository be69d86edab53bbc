//! The last calls, and the limit that they ask for.

use super::{
    SLICE,
    scale::{Sample, Scale},
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
    censored: u32,
}

pub(super) struct Window {
    scale: Scale,
    rate: f64,
    size: usize,
    samples: VecDeque<Sample>,
    buckets: Box<[Bucket]>,
    censored: usize,
    limit: Nanos,
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
    pub(super) fn new(rate: f64, scale: Scale) -> Self {
        let size = (10.0 / rate).ceil() as usize;
        Self {
            scale,
            rate,
            size,
            samples: VecDeque::with_capacity(size),
            buckets: vec![Bucket::default(); scale.count()].into(),
            censored: 0,
            limit: scale.ceiling(),
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
        if self.samples.is_empty() { 0.0 } else { self.censored as f64 / self.samples.len() as f64 }
    }

    /// Learns the slice before this one, and keeps this one until the next.
    pub(super) fn learn(&mut self, slice: impl Iterator<Item = Sample>) {
        let slice: Vec<Sample> = slice.collect();
        let censored = slice.iter().filter(|sample| sample.censored).count();
        let was_frozen = self.frozen;
        self.frozen = censored as f64 > (10.0 * self.rate).clamp(0.1, 0.9) * slice.len() as f64;
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
        if self.samples.len() * 2 >= self.size {
            self.adjust();
        }
    }

    /// Begins again at the ceiling where trouble does not end. The limit is too short for what the service has become,
    /// and the calls that it gives up do not show how much longer they take.
    fn pass_over(&mut self, calls: usize) {
        self.passed_over += calls;
        if self.passed_over >= FROZEN_WINDOWS * self.size {
            *self = Self::new(self.rate, self.scale);
        }
    }

    fn add(&mut self, sample: Sample) {
        if self.samples.len() == self.size {
            if let Some(oldest) = self.samples.pop_front() {
                self.count(oldest, |count| *count = count.saturating_sub(1));
                self.censored -= usize::from(oldest.censored);
            }
        }
        self.samples.push_back(sample);
        self.count(sample, |count| *count += 1);
        self.censored += usize::from(sample.censored);
    }

    fn count(&mut self, sample: Sample, change: impl FnOnce(&mut u32)) {
        if let Some(bucket) = self.buckets.get_mut(usize::from(sample.bucket)) {
            change(if sample.censored { &mut bucket.censored } else { &mut bucket.answered });
        }
    }

    fn adjust(&mut self) {
        match self.quantile() {
            Ok(quantile) => self.limit = quantile,
            // Most calls that were given up were so at lower limits: the calls since the last step have to show it.
            Err(_) if self.hold > 0 => {}
            Err(longer) => {
                let step = (longer / self.rate).powf(TAIL_POWER).min(LARGEST_STEP);
                self.limit = self.scale.clamp(Nanos((self.limit.0 as f64 * step) as u64 + 1));
                self.hold = self.size / 4;
            }
        }
    }

    /// The quantile, or the share of calls that are longer than all that is known, where that is more than the rate.
    ///
    /// Kaplan and Meier: the share of calls that are longer than a bucket is that of the one before, less the share that
    /// was answered in it among those that came so far.
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
