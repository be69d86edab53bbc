//! Tokens, and the fractions of a token in which token buckets count.

use crate::amount::amount;

amount! {
    /// Whole tokens: the cost of a call, or the burst of a quota.
    struct Tokens;
}

amount! {
    /// Fractions of a token. The quota's [`FixedPointRate`](super::fixed_point_rate::FixedPointRate) says how many make
    /// a token.
    struct Subtokens;
}
