use super::{Frame, Leaf, ScopeStage};

/// Says whether a call that came now would be refused at once, without taking anything.
///
/// Stages, gates and limits implement it; a stage also asks those further in. It is a forecast for callers that can
/// choose between several stacks, such as a balancer (feature `load`). Between the answer and the call things change.
///
/// It has no request to look at. Where the answer depends on the request, as for a limit by key, it is the default: no.
/// So a gate or a limit of your own needs no more than an empty implementation:
///
/// ```
/// use steadfast::shell::RefusesNow;
///
/// struct OnlyPaidRequests;
///
/// impl RefusesNow for OnlyPaidRequests {}
/// ```
pub trait RefusesNow {
    /// Whether a call that came now would be refused at once.
    ///
    /// It changes nothing, and reads the clock only by [`Frame::now`], where the answer depends on it.
    ///
    /// What only a call can change is no reason to say yes. An open circuit whose time is up lets the next call through
    /// as a probe, and without one it would stay open for ever.
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
