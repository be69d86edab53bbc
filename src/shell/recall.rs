use super::{Frame, Stage};
use std::pin::Pin;
use tower::Service;

/// A stage that can undo the start of a call. A [live](crate::stack::live) stack needs this: if a change of the
/// configuration overtakes a call at the gates, the stack undoes the call's start and starts the call again.
///
/// Your own [`Stage`] must implement it to be part of a live stack; gates and admissions have it. The stage asks the
/// next stage first. If the next stage returns the request, the stage gives back its own permit. See the example of [a
/// stage of your own](super#a-stage-of-your-own).
///
/// In a live stack, a stage polls a call in the same poll in which it starts it, before it starts another call. In that
/// first poll the call learns whether a change overtook it.
pub trait Recall<S, Request>: Stage<S, Request>
where
    S: Service<Request>,
{
    /// Undoes [`start`](Stage::start) for a call that was not polled: returns its permits and its request. Afterwards
    /// the call is only dropped.
    ///
    /// Returns `None` and changes nothing if the call was refused.
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request>;
}
