use crate::rate_limit::{
    distributed::level::{Level, Subtokens},
    tokens::Tokens,
};

/// A part of the whole, in 1024ths: at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessShare(u64);

impl ProcessShare {
    pub(crate) const ALL: Self = Self(1024);

    /// What `own` is of `all`, rounded down.
    pub(crate) fn of(own: u64, all: u64) -> Self {
        let part = u128::from(own) * 1024 / u128::from(all.max(1));
        Self(u64::try_from(part).unwrap_or(1024).clamp(1, 1024))
    }

    /// This part of `tokens`, rounded down.
    pub(crate) fn part_of(self, tokens: Tokens) -> Tokens {
        Tokens((u128::from(tokens.0) * u128::from(self.0) / 1024) as u64)
    }

    /// What `tokens` cost of this level where there is only this part of the whole. In parts of a token: a whole token
    /// more would be half of the share of a process that has two thirds.
    pub(crate) fn cost(self, tokens: Tokens, level: &Level) -> Subtokens {
        Subtokens(level.in_parts(tokens).0.saturating_mul(1024).div_ceil(u128::from(self.0)))
    }

    /// The tokens, rounded up, that cost this level where there is only this part of the whole.
    pub(crate) fn tokens(self, level: &Level) -> Tokens {
        let own = level.parts().0.saturating_mul(u128::from(self.0)).div_ceil(level.in_parts(Tokens(1024)).0.max(1));
        Tokens(u64::try_from(own).unwrap_or(u64::MAX))
    }

    /// The part as a fraction.
    pub(crate) fn fraction(self) -> f64 {
        self.0 as f64 / 1024.0
    }
}

impl Default for ProcessShare {
    fn default() -> Self {
        Self::ALL
    }
}
