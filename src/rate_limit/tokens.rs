//! Tokens, and the fractions of a token in which buckets count.

/// Whole tokens: the cost of a call, or the burst of a quota. The arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tokens(pub(crate) u64);

impl Tokens {
    pub(crate) const ZERO: Self = Self(0);

    #[inline]
    #[must_use]
    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[inline]
    #[must_use]
    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Fractions of a token. Its quota's [`Scale`](super::scale::Scale) says how many make a token. The arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subtokens(pub(crate) u64);

impl Subtokens {
    pub(crate) const ZERO: Self = Self(0);

    #[inline]
    #[must_use]
    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[inline]
    #[must_use]
    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
