use crate::rate_limit::{
    distributed::level::{Level, Subtokens},
    tokens::Tokens,
};

/// The part of a limit that is due to one process, in 1024ths: at least one 1024th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessShare(u64);

impl ProcessShare {
    pub(crate) const ALL: Self = Self(1024);

    /// Returns the part that `own` is of `all`, rounded down.
    pub(crate) fn of(own: u64, all: u64) -> Self {
        let part = u128::from(own) * 1024 / u128::from(all.max(1));
        Self(u64::try_from(part).unwrap_or(1024).clamp(1, 1024))
    }

    /// Returns this part of `tokens`, rounded down.
    pub(crate) fn part_of(self, tokens: Tokens) -> Tokens {
        Tokens((u128::from(tokens.0) * u128::from(self.0) / 1024) as u64)
    }

    /// Returns the cost of `tokens` in a bucket of which only this part is available. The unit is the parts of a token
    /// that `level` counts. A process with a share of two thirds pays 1.5 tokens for one. In whole tokens it would pay
    /// 2, and so get only three quarters of its share.
    pub(crate) fn cost(self, tokens: Tokens, level: &Level) -> Subtokens {
        Subtokens(level.in_parts(tokens).0.saturating_mul(1024).div_ceil(u128::from(self.0)))
    }

    /// Returns the tokens, rounded up, whose [`cost`](Self::cost) is this level.
    pub(crate) fn tokens(self, level: &Level) -> Tokens {
        let own = level.parts().0.saturating_mul(u128::from(self.0)).div_ceil(level.in_parts(Tokens(1024)).0.max(1));
        Tokens(u64::try_from(own).unwrap_or(u64::MAX))
    }

    /// Returns the part as a fraction.
    pub(crate) fn fraction(self) -> f64 {
        self.0 as f64 / 1024.0
    }
}

impl Default for ProcessShare {
    fn default() -> Self {
        Self::ALL
    }
}
