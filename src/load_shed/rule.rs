/// The limit, and in the lowest bit the shadow mode. They are one word, so that no thread reads the limit of one
/// configuration and the mode of another.
#[derive(Clone, Copy)]
pub(super) struct Rule(pub(super) u64);

impl Rule {
    pub(super) const SHADOW: u64 = 1;
    /// The largest limit that fits into the word. It stands for `usize::MAX`.
    const NO_LIMIT: u64 = u64::MAX >> 1;

    pub(super) fn new(limit: usize, shadow: bool) -> Self {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(Self::NO_LIMIT);
        Self(limit << 1 | u64::from(shadow))
    }

    #[inline]
    pub(super) fn has_room_beside(self, in_flight: u64) -> bool {
        in_flight < self.word_limit()
    }

    /// Returns the limit as the word has it: at most [`NO_LIMIT`](Self::NO_LIMIT).
    #[inline]
    pub(super) fn word_limit(self) -> u64 {
        self.0 >> 1
    }

    /// Returns the limit as it was configured. If it was [`NO_LIMIT`](Self::NO_LIMIT) or more, returns `usize::MAX`.
    pub(super) fn limit(self) -> usize {
        match self.word_limit() {
            Self::NO_LIMIT => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        }
    }

    #[inline]
    pub(super) fn is_shadow(self) -> bool {
        self.0 & Self::SHADOW != 0
    }
}
