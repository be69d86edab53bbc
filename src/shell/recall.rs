use super::{Frame, Stage};
use std::pin::Pin;
use tower::Service;

/// A stage of a [live](crate::stack::live) stack: it takes back a call that was begun while a change was made. The call
/// then begins again.
///
/// A [`Stage`] of your own needs it to stand in a live stack, since a call that saw a half of a change has to be
/// undone. Gates and admissions have it. A stage hands the question on to the next one, and gives back what it keeps
/// for the call if that returns the request. See the example of [a stage of your own](super#a-stage-of-your-own).
///
/// In a live stack a stage polls a call in the poll in which it starts it, before it starts another one. In that first
/// poll the call finds out whether a change has overtaken it.
pub trait Recall<S, Request>: Stage<S, Request>
where
    S: Service<Request>,
{
    /// Takes back a call that [`start`](Stage::start) has begun and that was not polled: gives back all that was taken
    /// for it, and returns its request. The call is then only dropped.
    ///
    /// `None`, and nothing has changed, where the call was refused.
    fn recall(&self, call: Pin<&mut Self::Call>, frame: &mut Frame) -> Option<Request>;
}
