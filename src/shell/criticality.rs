use super::Frame;
use crate::context::Criticality;

/// Derives the criticality of a call, for a queue or a limit.
#[doc(hidden)]
pub trait Classes<Request> {
    /// Returns the criticality of this request.
    fn criticality(&self, request: &Request, frame: &mut Frame) -> Criticality;
}

/// Takes the criticality of each call from its [context](crate::CallContext). The default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalityOfContext;

/// Derives the criticality of each call from its request, with a function.
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
