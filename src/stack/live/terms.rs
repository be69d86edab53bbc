use super::StackConfig;
use crate::{
    backoff::Backoff,
    shell::Terms,
    sync::{AtomicU64, Ordering},
};
use std::{array, time::Duration};

impl StackConfig {
    /// The terms of calls, where the configuration is complete.
    pub(super) fn terms(&self) -> Terms {
        let Self { timeout, attempt_timeout, ref retry, .. } = *self;
        match retry {
            Some(retry) => Terms::new(timeout, attempt_timeout, retry.attempts, retry.backoff, retry.max_hint),
            None => Terms::new(timeout, attempt_timeout, 1, Backoff::none(), Duration::ZERO),
        }
    }

    pub(super) fn set_terms(&mut self, terms: Terms) {
        (self.timeout, self.attempt_timeout) = (terms.timeout(), terms.attempt_timeout());
        if let Some(retry) = &mut self.retry {
            (retry.attempts, retry.backoff, retry.max_hint) = (terms.attempts(), terms.backoff(), terms.max_hint());
        }
    }
}

/// The terms of new calls. A reader sees by the version whether they were overwritten meanwhile: all relaxed.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SharedTerms([AtomicU64; Terms::WORDS]);

impl Default for SharedTerms {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SharedTerms {
    #[inline]
    pub(super) fn load(&self) -> Terms {
        Terms::of_words(array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }

    pub(super) fn store(&self, terms: Terms) {
        for (place, word) in self.0.iter().zip(terms.words()) {
            place.store(word, Ordering::Relaxed);
        }
    }
}
