use super::{
    Admission, AdmissionStage, Decision, Describe, DescribeAdmission, DescribeGate, Ending, Explanation, Frame,
    RefusesNow,
};
use crate::error::Rejection;
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// Admits or refuses a call at once: a circuit breaker, a limit on calls in flight.
///
/// A mechanism whose calls may wait for their turn is an [`Admission`].
///
/// [`GateStage`] turns a gate into a stage. The stage settles every permit exactly once, however the call ends.
pub trait Gate<Request> {
    /// Whether the permit of an admitted call takes up room in the gate, such as one of the calls in flight that a
    /// [`Limiter`](crate::load_shed::Limiter) allows. `false` if the permit only waits for the verdict on the call, as
    /// the permit of a circuit breaker does. Default: `true`.
    ///
    /// The difference matters in a stack that holds permits until the end of the response body (`whole_body`, feature
    /// `http`). If the head of the response is not a success, a permit that takes up no room is settled at the head
    /// already. A retry that then asks [`would_refuse`](Self::would_refuse) sees this verdict counted.
    const HOLDS_ROOM: bool = true;

    /// Whether the gate reads the deadline from the frame's context; see
    /// [`Stage::READS_DEADLINE`](super::Stage::READS_DEADLINE). Default: `false`.
    const READS_DEADLINE: bool = false;

    /// The permit of an admitted call. The stage settles it exactly once, so it needs no destructor.
    type Permit;

    /// Admits or refuses the call at once.
    fn admit(&self, request: &Request, frame: &mut Frame) -> Result<Self::Permit, Rejection>;

    /// Predicts whether the gate would refuse an attempt with this request at `due`. Changes no state. See
    /// [`Stage::would_refuse`](super::Stage::would_refuse).
    ///
    /// Default: `false`.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        false
    }

    /// Runs after each pending poll of the call. [`Frame::reached_service`] says whether the call has reached the
    /// service. The gate may read the time and [ask for a poll](Frame::wake_at). Default: does nothing.
    #[inline]
    fn under_way(&self, _permit: &mut Self::Permit, _frame: &mut Frame) {}

    /// Takes the permit back and learns how the call ended. The service's future has been dropped before, with one
    /// exception: after a panic in a poll it is dropped together with the response future.
    fn settle(&self, permit: Self::Permit, ending: Ending, frame: &mut Frame);
}

/// Adapts a [`Gate`] to an [`Admission`] at which no call waits. The stage of a gate is `AdmissionStage<AtOnce<G>, _>`.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce<G>(pub(crate) G);

/// The stage of a [`Gate`].
pub type GateStage<G, Next> = AdmissionStage<AtOnce<G>, Next>;

impl<G, Next> GateStage<G, Next> {
    /// Puts a gate in front of the next stage. For an [`Admission`] see [`with`](Self::with).
    pub fn new(gate: G, next: Next) -> Self {
        Self::with(AtOnce(gate), next)
    }
}

impl<G, Request, Response, ServiceError> Admission<Request, Response, ServiceError> for AtOnce<G>
where
    G: Gate<Request>,
{
    const READS_DEADLINE: bool = G::READS_DEADLINE;
    const HOLDS_ROOM: bool = G::HOLDS_ROOM;

    type Permit = G::Permit;
    type Place = Infallible;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<G::Permit, Infallible> {
        self.0.admit(request, frame).into()
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.0.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        place: &mut Infallible,
        _cx: &mut Context<'_>,
        _frame: &mut Frame,
    ) -> Poll<Result<G::Permit, Rejection>> {
        match *place {}
    }

    #[inline]
    fn leave(&self, place: &mut Infallible, _frame: &mut Frame) {
        match *place {}
    }

    #[inline]
    fn under_way(&self, permit: &mut G::Permit, frame: &mut Frame) {
        self.0.under_way(permit, frame);
    }

    #[inline]
    fn settle(&self, permit: G::Permit, ending: Ending, frame: &mut Frame) {
        self.0.settle(permit, ending, frame);
    }
}

impl<G: RefusesNow> RefusesNow for AtOnce<G> {
    #[inline]
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.refuses_now(frame)
    }
}

impl<G: DescribeGate> DescribeAdmission for AtOnce<G> {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        self.0.describe(explanation);
        next.describe(explanation);
    }
}
