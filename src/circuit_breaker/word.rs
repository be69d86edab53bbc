/// The state of a [`Breaker`](super::Breaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// All calls pass.
    Closed,
    /// No calls pass. The first call after the open time finds it half-open.
    Open,
    /// A limited number of calls pass, as probes.
    HalfOpen,
    /// Opened by hand.
    ForcedOpen,
    /// Closed by hand.
    ForcedClosed,
}

/// What the machine says, in one word, for those who only look.
#[derive(Clone, Copy)]
pub(super) struct Word(pub(super) u64);

impl Word {
    const STATE_SHIFT: u32 = 29;
    const PLACES_MASK: u64 = (1 << Self::STATE_SHIFT) - 1;

    /// The era, the state, and the free places for probes.
    pub(super) fn pack(era: u32, state: BreakerState, places: u32) -> Self {
        Self(u64::from(era) << 32 | (state as u64) << Self::STATE_SHIFT | u64::from(places) & Self::PLACES_MASK)
    }

    #[inline]
    pub(super) fn era(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(super) fn state(self) -> BreakerState {
        match self.0 >> Self::STATE_SHIFT & 0b111 {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::ForcedOpen,
            _ => BreakerState::ForcedClosed,
        }
    }

    pub(super) fn has_place(self) -> bool {
        self.0 & Self::PLACES_MASK > 0
    }
}
