use crate::{
    backoff::{Backoff, Growth, Jitter},
    clock::Nanos,
};
use std::{num::NonZeroU64, time::Duration};

/// The settings that a call keeps from its start to its end, in a live stack. They are its timeout, its attempts, their
/// backoff and timeout, and the longest hint that a retry follows.
///
/// The call carries them as seven words of 64 bits. When a stage asks for a setting, a method converts the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallSettings {
    /// Zero for no timeout.
    timeout: Nanos,
    /// Zero for no timeout.
    attempt_timeout: Nanos,
    shape: Shape,
    /// The base of the backoff.
    base: Nanos,
    /// The cap of the backoff.
    cap: Nanos,
    max_hint: Nanos,
    /// The bits of the factor of [`Jitter::PlusMinus`]; those of 0.0 for another jitter.
    factor: u64,
}

/// Several settings in one word. From the lowest bit: the attempts, the growth of the backoff, the number that stands
/// for its jitter, and a bit that is always set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape(NonZeroU64);

const LINEAR: u64 = 1 << 32;
const JITTER_SHIFT: u32 = 33;
/// The bit that is always set: a shape is never zero, so `Option<CallSettings>` needs no extra word.
const GIVEN: NonZeroU64 = NonZeroU64::new(1 << 63).unwrap();

impl Shape {
    fn new(attempts: u32, growth: Growth, jitter: u32) -> Self {
        let growth = if growth == Growth::Linear { LINEAR } else { 0 };
        Self(GIVEN | (u64::from(attempts) | growth | (u64::from(jitter) << JITTER_SHIFT)))
    }

    #[inline]
    fn attempts(self) -> u32 {
        self.0.get() as u32
    }

    fn growth(self) -> Growth {
        if self.0.get() & LINEAR == 0 { Growth::Exponential } else { Growth::Linear }
    }

    fn jitter(self) -> u32 {
        ((self.0.get() & !GIVEN.get()) >> JITTER_SHIFT) as u32
    }
}

impl CallSettings {
    pub(crate) const WORDS: usize = 7;

    pub(crate) fn new(
        timeout: Option<Duration>,
        attempt_timeout: Option<Duration>,
        attempts: u32,
        backoff: Backoff,
        max_hint: Duration,
    ) -> Self {
        let limit = |limit: Option<Duration>| limit.map_or(Nanos::ZERO, Nanos::of);
        let (base, cap, growth, jitter) = backoff.parts();
        let (jitter, factor) = jitter.numbers();
        Self {
            timeout: limit(timeout),
            attempt_timeout: limit(attempt_timeout),
            shape: Shape::new(attempts, growth, jitter),
            base: Nanos::of(base),
            cap: Nanos::of(cap),
            max_hint: Nanos::of(max_hint),
            factor: factor.to_bits(),
        }
    }

    pub(crate) fn words(self) -> [u64; Self::WORDS] {
        let Self { timeout, attempt_timeout, shape, base, cap, max_hint, factor } = self;
        [timeout.0, attempt_timeout.0, shape.0.get(), base.0, cap.0, max_hint.0, factor]
    }

    /// Reads settings from their [words](Self::words).
    #[inline]
    pub(crate) fn of_words([timeout, attempt_timeout, shape, base, cap, max_hint, factor]: [u64; Self::WORDS]) -> Self {
        Self {
            timeout: Nanos(timeout),
            attempt_timeout: Nanos(attempt_timeout),
            shape: Shape(GIVEN | shape),
            base: Nanos(base),
            cap: Nanos(cap),
            max_hint: Nanos(max_hint),
            factor,
        }
    }

    #[inline]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        limit(self.timeout)
    }

    #[inline]
    pub(crate) fn attempt_timeout(&self) -> Option<Duration> {
        limit(self.attempt_timeout)
    }

    #[inline]
    pub(crate) fn attempts(&self) -> u32 {
        self.shape.attempts()
    }

    pub(crate) fn backoff(&self) -> Backoff {
        let jitter = Jitter::of_numbers(self.shape.jitter(), f64::from_bits(self.factor)).unwrap_or_default();
        Backoff::of_parts((self.base.duration(), self.cap.duration(), self.shape.growth(), jitter))
    }

    pub(crate) fn max_hint(&self) -> Duration {
        self.max_hint.duration()
    }
}

#[inline]
fn limit(limit: Nanos) -> Option<Duration> {
    if limit == Nanos::ZERO { None } else { Some(limit.duration()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_conversion_to_words_and_back() {
        let ms = Duration::from_millis;
        let backoffs = [
            Backoff::none(),
            Backoff::linear(ms(1), ms(9)),
            Backoff::linear(ms(1), ms(9)).jitter(Jitter::None),
            Backoff::exponential(Duration::from_nanos(1), ms(7)).jitter(Jitter::PlusMinus(0.3)),
            Backoff::exponential(ms(1), ms(7)).jitter(Jitter::Decorrelated),
            Backoff::exponential(ms(1), ms(7)).jitter(Jitter::Equal),
        ];
        for backoff in backoffs {
            for (timeout, attempt_timeout) in [(None, Some(ms(3))), (Some(ms(5)), None)] {
                for attempts in [1, 2, u32::MAX] {
                    let settings = CallSettings::new(timeout, attempt_timeout, attempts, backoff, ms(11));
                    for settings in [settings, CallSettings::of_words(settings.words())] {
                        assert_eq!((settings.timeout(), settings.attempt_timeout()), (timeout, attempt_timeout));
                        assert_eq!((settings.attempts(), settings.backoff()), (attempts, backoff));
                        assert_eq!(settings.max_hint(), ms(11));
                    }
                }
            }
        }
        assert_eq!(size_of::<Option<CallSettings>>(), 7 * size_of::<u64>());
    }
}
