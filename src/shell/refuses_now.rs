use super::{Frame, Leaf, ScopeStage};

/// Predicts whether a new call would be refused at once, without taking a permit.
///
/// Stages, gates and limits implement it; a stage also asks its inner stages. It serves callers that choose between
/// several stacks, such as a balancer (feature `load`). The state can change between the answer and the call.
///
/// There is no request to look at. A mechanism that can only answer for a request, such as a keyed limit, returns the
/// default, `false`. If your own gate or limit is such a mechanism, it needs only an empty implementation:
///
/// ```
/// use steadfast::shell::RefusesNow;
///
/// struct OnlyPaidRequests;
///
/// impl RefusesNow for OnlyPaidRequests {}
/// ```
pub trait RefusesNow {
    /// Returns whether a new call would be refused at once.
    ///
    /// Changes no state. Reads the clock only by [`Frame::now`], and only if the answer depends on the time.
    ///
    /// It must return `false` in a state that only another call can end. An open circuit whose open time has ended
    /// needs the next call as a probe, and would otherwise stay open permanently.
    fn refuses_now(&self, _frame: &mut Frame) -> bool {
        false
    }
}

impl<C, W> RefusesNow for Leaf<C, W> {}

impl<Next: RefusesNow> RefusesNow for ScopeStage<Next> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.next.refuses_now(frame)
    }
}
