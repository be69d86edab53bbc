use crate::{
    classify::Outcome,
    error::Rejection,
    shell::{Admission, Decision, Describe, DescribeAdmission, Ending, Explanation, Frame, RefusesNow},
};
use http::Response;
use std::{
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::time::Instant;

/// An admission whose permits last until the end of the response body.
///
/// Clones share the admission. A clone of the admission itself would clone the closures of the user. If that panicked,
/// a permit would be lost.
#[derive(Debug)]
pub struct Lasting<A>(Arc<A>);

impl<A> Lasting<A> {
    pub(super) fn new(admission: A) -> Self {
        Self(Arc::new(admission))
    }
}

impl<A> Clone for Lasting<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyEnd {
    /// The head of the response decides the outcome. The body is complete, or was dropped while its reader did not wait
    /// for it.
    Complete,
    /// The trailers decided the outcome.
    Judged(Outcome),
    /// The body failed. Also a gRPC body that is empty or is dropped at its end, without the trailers that carry the
    /// status.
    Failed,
    /// The body was dropped before its outcome was known.
    Cancelled,
    /// The deadline passed, the reader waited, and the attempt had had half of its [full time](Ending::CutShort).
    TimedOut,
    /// The body ended at the deadline or later, in a way that says nothing about the service.
    CutShort,
    /// The body panicked.
    Panicked,
}

impl BodyEnd {
    /// Returns the ending of a call whose head had the ending `head`. A panic of the body overrides every head. Any
    /// other end of the body changes only a successful head.
    fn ending(self, head: Ending) -> Ending {
        let reached_service = true;
        match (head, self) {
            (_, Self::Panicked) => Ending::Panicked,
            (Ending::Answered(Outcome::Success), Self::Judged(outcome)) => Ending::Answered(outcome),
            (Ending::Answered(Outcome::Success), Self::Failed) => Ending::Answered(Outcome::Failure),
            (Ending::Answered(Outcome::Success), Self::Cancelled) => Ending::Cancelled { reached_service },
            (Ending::Answered(Outcome::Success), Self::TimedOut) => Ending::TimedOut,
            (Ending::Answered(Outcome::Success), Self::CutShort) => Ending::CutShort,
            (head, _) => head,
        }
    }
}

/// A permit of any admission.
trait AnyHeldPermit: Send {
    fn under_way(&mut self, frame: &mut Frame);

    fn settle(&mut self, end: BodyEnd, frame: &mut Frame);
}

/// A permit and its admission.
struct HeldPermit<A, Request, Response, E>
where
    A: Admission<Request, Response, E>,
{
    admission: Arc<A>,
    /// `None` once it is settled.
    permit: Option<A::Permit>,
    /// The ending of the call by the head of its response.
    head: Ending,
    call: PhantomData<fn(Request, Response, E)>,
}

impl<A, Request, Response, E> AnyHeldPermit for HeldPermit<A, Request, Response, E>
where
    A: Admission<Request, Response, E> + Send + Sync,
    A::Permit: Send,
{
    fn under_way(&mut self, frame: &mut Frame) {
        if let Some(permit) = &mut self.permit {
            self.admission.under_way(permit, frame);
        }
    }

    fn settle(&mut self, end: BodyEnd, frame: &mut Frame) {
        if let Some(permit) = self.permit.take() {
            self.admission.settle(permit, end.ending(self.head), frame);
        }
    }
}

/// Settles the permit by the head if settling another permit has panicked.
impl<A, Request, Response, E> Drop for HeldPermit<A, Request, Response, E>
where
    A: Admission<Request, Response, E>,
{
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.admission.settle(permit, self.head, &mut Frame::new());
        }
    }
}

/// The permits of a response, the innermost first. Dropping them settles each by the head of the response, for example
/// when a retry drops the response.
#[derive(Default)]
pub(super) struct HeldPermits(Vec<Box<dyn AnyHeldPermit>>);

impl HeldPermits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reports to each admission that the call is still under way.
    pub(super) fn under_way(&mut self, frame: &mut Frame) {
        for permit in &mut self.0 {
            permit.under_way(frame);
        }
    }

    /// Settles all permits.
    pub(super) fn settle(&mut self, end: BodyEnd) {
        if self.0.is_empty() {
            return;
        }
        let mut frame = Frame::new();
        frame.service_was_reached();
        for mut permit in mem::take(&mut self.0) {
            permit.settle(end, &mut frame);
        }
    }
}

impl Drop for HeldPermits {
    fn drop(&mut self) {
        self.settle(BodyEnd::Complete);
    }
}

/// Permits in the extensions of a response, on their way from their stage to the border. A value in extensions has to
/// be `Clone`, so clones share the permits. If the border does not take the permits, they are settled when the last
/// clone is dropped, for example with the response.
#[derive(Clone, Default)]
struct ParkedPermits(Arc<Mutex<HeldPermits>>);

/// Adds a permit to the extensions of the response.
fn park(response: &mut http::Extensions, permit: Box<dyn AnyHeldPermit>) {
    let ParkedPermits(permits) = response.get_or_insert_default();
    permits.lock().unwrap_or_else(PoisonError::into_inner).0.push(permit);
}

/// Takes the parked permits.
pub(super) fn take_parked(response: &mut http::Extensions) -> HeldPermits {
    match response.remove() {
        Some(ParkedPermits(permits)) => mem::take(&mut *permits.lock().unwrap_or_else(PoisonError::into_inner)),
        None => HeldPermits::default(),
    }
}

impl<A, Request, B, E> Admission<Request, Response<B>, E> for Lasting<A>
where
    A: Admission<Request, Response<B>, E> + Send + Sync + 'static,
    A::Permit: Send + 'static,
    Request: 'static,
    B: 'static,
    E: 'static,
{
    const READS_DEADLINE: bool = A::READS_DEADLINE;
    const HOLDS_ROOM: bool = A::HOLDS_ROOM;

    type Permit = A::Permit;
    type Place = A::Place;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<A::Permit, A::Place> {
        self.0.admit(request, frame)
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.0.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        place: &mut A::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<A::Permit, Rejection>> {
        self.0.poll(place, cx, frame)
    }

    fn leave(&self, place: &mut A::Place, frame: &mut Frame) {
        self.0.leave(place, frame);
    }

    #[inline]
    fn under_way(&self, permit: &mut A::Permit, frame: &mut Frame) {
        self.0.under_way(permit, frame);
    }

    fn counts(&self, answer: Result<&Response<B>, &E>, frame: &mut Frame) -> bool {
        self.0.counts(answer, frame)
    }

    fn keep(&self, permit: A::Permit, response: &mut Response<B>, head: Ending) -> Option<A::Permit> {
        let permit = self.0.keep(permit, response, head)?;
        if !A::HOLDS_ROOM && head != Ending::Answered(Outcome::Success) {
            // A permit that takes up no room, such as that of a breaker, only waits for the outcome. Except by a panic,
            // the end of the body cannot change a failed head, so the permit is settled at once.
            return Some(permit);
        }
        let held: HeldPermit<A, Request, Response<B>, E> =
            HeldPermit { admission: self.0.clone(), permit: Some(permit), head, call: PhantomData };
        park(response.extensions_mut(), Box::new(held));
        None
    }

    fn refund(&self, permit: A::Permit, frame: &mut Frame) {
        self.0.refund(permit, frame);
    }

    #[inline]
    fn settle(&self, permit: A::Permit, ending: Ending, frame: &mut Frame) {
        self.0.settle(permit, ending, frame);
    }
}

impl<A: RefusesNow> RefusesNow for Lasting<A> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.refuses_now(frame)
    }
}

impl<A: DescribeAdmission> DescribeAdmission for Lasting<A> {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        self.0.describe(explanation, next);
    }
}
