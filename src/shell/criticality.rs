use super::Frame;
use crate::context::Criticality;

/// Tells a queue or a limit how critical a call is.
#[doc(hidden)]
pub trait Classes<Request> {
    /// Returns the class of this request.
    fn criticality(&self, request: &Request, frame: &mut Frame) -> Criticality;
}

/// Takes the criticality from the call's [context](crate::CallContext). The default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CriticalityOfContext;

/// Takes the criticality from a function of the request.
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
