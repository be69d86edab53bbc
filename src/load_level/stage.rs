//! How a call passes a queue.

use super::{
    layer::{LoadLevel, Weigh},
    pace::PaceSlot,
    state::CallPhase,
};
use crate::{
    error::Rejection,
    shell::{
        Admission, AdmissionStage, Classes, Decision, Describe, DescribeAdmission, Ending, Explanation, Frame,
        RefusesNow,
    },
    waiters::WaiterId,
};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The stage of a [`LoadLevel`].
pub type LoadLevelStage<W, C, Next> = AdmissionStage<LoadLevel<W, C>, Next>;

impl<W, C, Request, Response, ServiceError> Admission<Request, Response, ServiceError> for LoadLevel<W, C>
where
    W: Weigh<Request>,
    C: Classes<Request>,
{
    const READS_DEADLINE: bool = true;

    /// The call's place in the service, with the slot that the call took from the pace.
    type Permit = PaceSlot;
    type Place = WaiterId;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<PaceSlot, WaiterId> {
        if self.queue.enter() {
            return Decision::Admitted(PaceSlot::NONE);
        }
        let call = self.arriving_call(request, frame);
        let (arrival, woke) = self.queue.arrive(call, frame.now());
        if woke {
            frame.user_code_runs();
        }
        match arrival {
            CallPhase::Admitted(slot) => Decision::Admitted(slot),
            CallPhase::Waiting(id) => Decision::Waits(id),
            CallPhase::Refused(refusal) => Decision::Refused(refusal.into()),
        }
    }

    // Only a closed queue is certain to refuse a later call. A queue that is full now may have room at `due`.
    fn would_refuse(&self, _request: &Request, _due: Instant, _frame: &mut Frame) -> bool {
        self.queue.is_closed()
    }

    #[inline]
    fn poll(&self, id: &mut WaiterId, cx: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<PaceSlot, Rejection>> {
        let phase = self.queue.poll(*id, cx.waker(), frame.now());
        // The queue cloned the waker and may have woken other calls: wakers are user code.
        frame.user_code_runs();
        match phase {
            CallPhase::Waiting(instant) => {
                frame.wake_at(instant);
                Poll::Pending
            }
            CallPhase::Admitted(slot) => Poll::Ready(Ok(slot)),
            CallPhase::Refused(refusal) => Poll::Ready(Err(refusal.into())),
        }
    }

    fn leave(&self, id: &mut WaiterId, frame: &mut Frame) {
        self.queue.leave(*id, frame.now());
        frame.user_code_runs();
    }

    #[inline]
    fn settle(&self, start: PaceSlot, ending: Ending, frame: &mut Frame) {
        let unused = if ending.spared_the_service() { start } else { PaceSlot::NONE };
        if self.queue.end(unused, || frame.now()) {
            frame.user_code_runs();
        }
    }
}

impl<W, C> RefusesNow for LoadLevel<W, C> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.queue.is_full(|| frame.now())
    }
}

impl<W, C> DescribeAdmission for LoadLevel<W, C> {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        explanation.layer("load level", self.queue.describe());
        explanation.instrument(self.queue.clone());
        explanation.wait_for_place(self.queue.concurrency(), self.queue.longest_wait(), next);
    }
}
