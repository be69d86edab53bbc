/// Returns the tier of a key, by its index. Tier 0 is that of the builder's quota.
pub trait TierOf<K: ?Sized> {
    /// Returns the index of the key's tier. An index without a tier counts as 0.
    fn tier_of(&self, key: &K) -> usize;
}

/// All keys have the same quota. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneTier;

/// A function returns the tier of a key: [`KeyedBuilder::tiers`](crate::rate_limit::KeyedBuilder::tiers).
#[derive(Clone, Copy, Debug)]
pub struct TierBy<F>(pub(super) F);

impl<K: ?Sized> TierOf<K> for OneTier {
    #[inline]
    fn tier_of(&self, _key: &K) -> usize {
        0
    }
}

impl<K: ?Sized, F: Fn(&K) -> usize> TierOf<K> for TierBy<F> {
    #[inline]
    fn tier_of(&self, key: &K) -> usize {
        (self.0)(key)
    }
}
