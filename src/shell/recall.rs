use super::{Frame, Stage};
use std::pin::Pin;
use tower::Service;

/// A stage that can undo the start of a call, as a [live](crate::stack::live) stack needs it. If the configuration
/// changes while a call passes the gates, the stack undoes the call's start and starts the call again.
///
/// Your own [`Stage`] must implement this trait to be part of a live stack. The stages of gates and admissions
/// implement it. Your `recall` first calls that of the next stage. If the next stage returns the request, your stage
/// gives back its own permit. See the example of [a stage of your own](super#a-stage-of-your-own).
///
/// In a live stack, a stage that starts a call in the next stage must poll that call at once. It polls before its own
/// poll returns, and before it starts another call. In that first poll the stack finds out whether the configuration
/// has changed.
pub trait Recall<S, Request>: Stage<S, Request>
where
    S: Service<Request>,
{
    /// Undoes [`start`](Stage::start) for a call that was not polled: gives back its permits and returns its request.
    /// Afterwards the call is only dropped.
    ///
    /// Returns `None` and changes nothing if the call was refused.
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request>;
}
