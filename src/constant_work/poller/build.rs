use crate::error::ConfigError;

/// Makes a value of the rules: an index, a set of limiters, a routing table.
///
/// Closures over `&[T]` are targets without a check. `rules` are those of all slots, inert ones included, so that the
/// work does not depend on how many are used.
///
/// Both methods run on the poller's task and should not block. A panic in either is caught: the value in force stays,
/// the tick counts as refused with kind `panicked`, and the next tick calls them again. State of their own that a panic
/// leaves half changed is theirs to mend. (With `panic = "abort"` there is nothing to catch.)
pub trait Build<T> {
    /// The value.
    type Value;

    /// Whether the rules make sense together: each has been validated by itself. In a tick without a usable snapshot it
    /// is called with the last good rules, and in one that is refused for another reason all the same (with an inert
    /// rule in place of an invalid one); its answer is then not used.
    ///
    /// # Errors
    ///
    /// Why the rules are refused.
    fn check(&mut self, rules: &[T]) -> Result<(), ConfigError> {
        let _ = rules;
        Ok(())
    }

    /// Builds the value of one tick. Called in every tick, with new rules or those already in force, and its value
    /// replaces the one before: what must outlive a tick (a limiter's tokens) is kept in the target and shared.
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
