use crate::error::ConfigError;

/// Builds a value from the rules: an index, a set of limiters, a routing table.
///
/// A closure over `&[T]` is a target without a check. The argument `rules` contains the rules of all slots, with inert
/// rules in unused slots. The work therefore does not depend on the number of used slots.
///
/// Both methods run on the poller's task and should not block. The poller catches a panic in either. The tick counts as
/// refused. Its kind is `panicked`, or the kind of another reason for which the snapshot was refused. The rules in
/// force stay, unless they are stale and the defaults replace them. The next tick calls both methods again. An
/// implementation must itself repair state that a panic left half changed. With `panic = "abort"`, a panic ends the
/// process.
pub trait Build<T> {
    /// The type of the value.
    type Value;

    /// Checks whether the rules are consistent with each other. Each rule has already been validated alone.
    ///
    /// Every tick calls `check`. If the fetch failed, or the header or the checksum was refused, `check` gets the last
    /// good rules, or the defaults before there are any. If only a rule, the version or the publication time was
    /// refused, `check` gets the rules of the snapshot. An inert rule then stands in place of each invalid one. In both
    /// cases the poller ignores the result. The builder also calls `check` for the defaults, and the first tick also
    /// calls it for the rules of the last-good file. Both use the result.
    ///
    /// # Errors
    ///
    /// The reason to refuse the rules.
    fn check(&mut self, rules: &[T]) -> Result<(), ConfigError> {
        let _ = rules;
        Ok(())
    }

    /// Builds a value, which replaces the value before. The builder calls `build` with the defaults. Every tick calls
    /// it with the new rules, the last good ones or the defaults. State that must outlive a tick, such as a limiter's
    /// tokens, belongs in the target, shared with the value.
    fn build(&mut self, rules: &[T]) -> Self::Value;
}

impl<T, V, F> Build<T> for F
where
    F: FnMut(&[T]) -> V,
{
    type Value = V;

    fn build(&mut self, rules: &[T]) -> V {
        self(rules)
    }
}
