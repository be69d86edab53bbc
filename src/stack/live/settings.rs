use super::StackConfig;
use crate::{
    backoff::Backoff,
    shell::CallSettings,
    sync::{AtomicU64, Ordering},
};
use std::{array, time::Duration};

impl StackConfig {
    /// Returns the settings of calls. The configuration must be complete.
    pub(super) fn settings(&self) -> CallSettings {
        let Self { timeout, attempt_timeout, ref retry, .. } = *self;
        match retry {
            Some(retry) => CallSettings::new(timeout, attempt_timeout, retry.attempts, retry.backoff, retry.max_hint),
            None => CallSettings::new(timeout, attempt_timeout, 1, Backoff::none(), Duration::ZERO),
        }
    }

    /// Writes the settings of calls into the timeouts and, if there is one, the retry of this configuration.
    pub(super) fn set_settings(&mut self, settings: CallSettings) {
        (self.timeout, self.attempt_timeout) = (settings.timeout(), settings.attempt_timeout());
        if let Some(retry) = &mut self.retry {
            (retry.attempts, retry.backoff, retry.max_hint) =
                (settings.attempts(), settings.backoff(), settings.max_hint());
        }
    }
}

/// The settings of new calls, in one cache line. All accesses are relaxed: a reader learns from the version whether a
/// change overwrote them during the read.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SharedSettings([AtomicU64; CallSettings::WORDS]);

impl Default for SharedSettings {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SharedSettings {
    #[inline]
    pub(super) fn load(&self) -> CallSettings {
        CallSettings::of_words(array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }

    pub(super) fn store(&self, settings: CallSettings) {
        for (place, word) in self.0.iter().zip(settings.words()) {
            place.store(word, Ordering::Relaxed);
        }
    }
}
