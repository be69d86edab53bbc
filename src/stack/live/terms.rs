use super::StackConfig;
use crate::{
    backoff::{Backoff, Growth, Jitter},
    clock::Nanos,
    shell::Terms,
};
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

impl StackConfig {
    /// The terms of calls, where the configuration is complete.
    pub(super) fn terms(&self) -> Terms {
        let Self { timeout, attempt_timeout, ref retry, .. } = *self;
        let (attempts, backoff, max_hint) = match retry {
            Some(retry) => (retry.attempts, retry.backoff, retry.max_hint),
            None => (1, Backoff::none(), Duration::ZERO),
        };
        Terms { timeout, attempt_timeout, attempts, backoff, max_hint }
    }

    pub(super) fn set_terms(&mut self, terms: Terms) {
        (self.timeout, self.attempt_timeout) = (terms.timeout, terms.attempt_timeout);
        if let Some(retry) = &mut self.retry {
            (retry.attempts, retry.backoff, retry.max_hint) = (terms.attempts, terms.backoff, terms.max_hint);
        }
    }
}

/// The terms of new calls. Written in a change and read in a pass, and so never both at once: all relaxed.
#[derive(Debug, Default)]
pub(super) struct SharedTerms {
    /// Nanoseconds; zero where there is none.
    timeout: AtomicU64,
    attempt_timeout: AtomicU64,
    attempts: AtomicU32,
    /// The number of the growth, and of the jitter.
    growth: AtomicU32,
    jitter: AtomicU32,
    /// The bits of the factor of [`Jitter::PlusMinus`].
    factor: AtomicU64,
    base: AtomicU64,
    cap: AtomicU64,
    max_hint: AtomicU64,
}

impl SharedTerms {
    #[inline]
    pub(super) fn load(&self) -> Terms {
        let duration = |atomic: &AtomicU64| Duration::from_nanos(atomic.load(Ordering::Relaxed));
        let optional = |atomic| Some(duration(atomic)).filter(|duration| !duration.is_zero());
        let number = |atomic: &AtomicU32| atomic.load(Ordering::Relaxed);
        let factor = f64::from_bits(self.factor.load(Ordering::Relaxed));
        let jitter = Jitter::of_numbers(number(&self.jitter), factor).unwrap_or_default();
        let growth = if number(&self.growth) == 0 { Growth::Exponential } else { Growth::Linear };
        Terms {
            timeout: optional(&self.timeout),
            attempt_timeout: optional(&self.attempt_timeout),
            attempts: number(&self.attempts),
            backoff: Backoff::of_parts((duration(&self.base), duration(&self.cap), growth, jitter)),
            max_hint: duration(&self.max_hint),
        }
    }

    pub(super) fn store(&self, terms: Terms) {
        let Terms { timeout, attempt_timeout, attempts, backoff, max_hint } = terms;
        let (base, cap, growth, jitter) = backoff.parts();
        self.timeout.store(timeout.map_or(0, |limit| Nanos::of(limit).0), Ordering::Relaxed);
        self.attempt_timeout.store(attempt_timeout.map_or(0, |limit| Nanos::of(limit).0), Ordering::Relaxed);
        self.attempts.store(attempts, Ordering::Relaxed);
        let (number, factor) = jitter.numbers();
        self.growth.store(u32::from(growth == Growth::Linear), Ordering::Relaxed);
        self.jitter.store(number, Ordering::Relaxed);
        self.factor.store(factor.to_bits(), Ordering::Relaxed);
        self.base.store(Nanos::of(base).0, Ordering::Relaxed);
        self.cap.store(Nanos::of(cap).0, Ordering::Relaxed);
        self.max_hint.store(Nanos::of(max_hint).0, Ordering::Relaxed);
    }
}
