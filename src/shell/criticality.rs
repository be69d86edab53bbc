use super::Frame;
use crate::context::Criticality;

/// How much a call matters, to a queue or a limit.
#[doc(hidden)]
pub trait Classes<Request> {
    /// The class of this request.
    fn criticality(&self, request: &Request, frame: &mut Frame) -> Criticality;
}

/// Each call matters as much as its [context](crate::CallContext) says. The default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalityOfContext;

/// Each call matters as much as a function says of its request.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct CriticalityBy<F>(pub(crate) F);

impl<Request> Classes<Request> for CriticalityOfContext {
    #[inline]
    fn criticality(&self, _request: &Request, frame: &mut Frame) -> Criticality {
        frame.inherited().context().criticality()
    }
}

impl<Request, F: Fn(&Request) -> Criticality> Classes<Request> for CriticalityBy<F> {
    #[inline]
    fn criticality(&self, request: &Request, frame: &mut Frame) -> Criticality {
        frame.user_code_runs();
        (self.0)(request)
    }
}
