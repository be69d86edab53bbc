/// The state of a [`Breaker`](super::Breaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// No calls pass until the open time has passed. The next call then makes the circuit half-open, as a probe.
    Open,
    /// A limited number of calls pass, as probes.
    HalfOpen,
    /// Opened by hand or by [`forced`](super::BreakerConfig::forced): no calls pass until a
    /// [`reset`](super::Breaker::reset), or another change by hand or by `forced`.
    ForcedOpen,
    /// Closed by hand or by [`forced`](super::BreakerConfig::forced): all calls pass until a
    /// [`reset`](super::Breaker::reset), or another change by hand or by `forced`.
    ForcedClosed,
}

impl BreakerState {
    pub(crate) const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::HalfOpen, Self::ForcedOpen, Self::ForcedClosed];

    /// Returns its index in [`ALL`](Self::ALL).
    pub(crate) fn place(self) -> usize {
        self as usize
    }

    /// Returns its name in labels of metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

/// A copy of the machine's state in one word, for threads without the lock.
///
/// From the lowest bit: the free places for probes, whether calls are timed, the state, the era.
#[derive(Clone, Copy)]
pub(super) struct Word(pub(super) u64);

const STATE_SHIFT: u32 = 29;
const TIMED: u64 = 1 << 28;
const PLACES_MASK: u64 = TIMED - 1;

impl Word {
    pub(super) fn pack(era: u32, state: BreakerState, places: u32, calls_are_timed: bool) -> Self {
        let timed = if calls_are_timed { TIMED } else { 0 };
        Self(u64::from(era) << 32 | (state as u64) << STATE_SHIFT | timed | u64::from(places) & PLACES_MASK)
    }

    #[inline]
    pub(super) fn era(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn state(self) -> BreakerState {
        match self.0 >> STATE_SHIFT & 0b111 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::ForcedOpen,
            _ => BreakerState::ForcedClosed,
        }
    }

    /// Returns whether the configuration times calls. A closed circuit then reads the clock to admit a call, and the
    /// call's ticket carries times.
    #[inline]
    pub(super) fn calls_are_timed(self) -> bool {
        self.0 & TIMED != 0
    }

    /// Returns the free places for probes of a half-open circuit.
    pub(super) fn places(self) -> u32 {
        (self.0 & PLACES_MASK) as u32
    }
}
