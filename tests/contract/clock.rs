//! Every layer reads the runtime's clock, which these tests pause. A call takes time only while it waits.

use crate::{
    below::{Below, Kind},
    controls::{Act, Controls, Readiness},
    subject::{LIMIT, Make, PLACES, Subject, WHOLE_LIMIT},
    task::{Task, advance_within, pass, waker_that},
};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    Error, Rejection,
    shell::{Ending, Frame, Gate},
};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

pub async fn time_before_the_first_poll_does_not_count(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).call(7));
    pass(2 * WHOLE_LIMIT).await;
    assert!(call.poll().is_pending());
    pass(LIMIT / 2).await;
    assert!(call.poll().is_pending());
    below.controls.answer();
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
}

pub async fn a_call_that_is_answered_takes_no_time(make: Make) {
    for kind in [Kind::Plain, Kind::Limited(1), Kind::Buffered(1)] {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().readiness(Readiness::After(3)).act(Act::AnswerAfter(3)));
        let begin = Instant::now();
        assert_eq!(subject.around(&below).oneshot(7).await, Ok(7));
        assert_eq!(Instant::now(), begin);
    }
}

pub async fn a_call_of_a_hanging_service_ends_at_the_configured_instant(make: Make) {
    for controls in [Controls::new().act(Act::Wait), Controls::new().readiness(Readiness::Blocked)] {
        let subject = Subject::roomy(make).await;
        let below = Below::plain(controls);
        let begin = Instant::now();
        let ended = timeout(1000 * WHOLE_LIMIT, subject.around(&below).oneshot(7)).await;
        match subject.gives_up_after {
            None => assert!(ended.is_err(), "{ended:?}"),
            Some(limit) => {
                let error = ended.unwrap().unwrap_err();
                let Error::Rejected(Rejection::TimedOut(details)) = &error else { panic!("{error:?}") };
                assert_eq!(details.limit(), Some(LIMIT));
                let reached = below.reached() > 0;
                assert_eq!(error.rejection().unwrap().reached_service(), reached);
                // An attempt whose timeout ended it before it reached the service is not retried.
                let limit = if reached { limit } else { LIMIT };
                assert_eq!(Instant::now() - begin, limit);
            }
        }
    }
}

pub async fn an_answer_that_is_ready_at_the_deadline_is_returned(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert!(call.poll().is_pending());
    pass(LIMIT).await;
    below.controls.answer();
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
}

/// A gate that asserts that its frame has the time of the clock.
#[derive(Clone, Copy)]
pub struct OnTime;

impl OnTime {
    #[track_caller]
    fn check(frame: &mut Frame) {
        assert_eq!(frame.now(), Instant::now(), "the frame's time is older than the user code");
    }
}

impl<Request> Gate<Request> for OnTime {
    type Permit = ();

    fn admit(&self, _request: &Request, frame: &mut Frame) -> Result<(), Rejection> {
        Self::check(frame);
        Ok(())
    }

    fn under_way(&self, (): &mut (), frame: &mut Frame) {
        Self::check(frame);
    }

    fn settle(&self, (): (), _ending: Ending, frame: &mut Frame) {
        Self::check(frame);
    }
}

/// The time that each step of user code takes.
const STEP: Duration = Duration::from_millis(1);
static TAKE_A_STEP: fn() = || advance_within(STEP);

pub async fn after_user_code_the_clock_is_read_again(make: Make) {
    for act in [Act::Answer, Act::AnswerAfter(2), Act::FailAfter(0), Act::FailAfter(2), Act::Wait] {
        for readiness in [Readiness::Ready, Readiness::After(1), Readiness::Fails] {
            let subject = Subject::tight(make).await;
            let below = Below::plain(Controls::new().act(act).readiness(readiness).takes(STEP));
            let mut handle = subject.around_behind(OnTime, &below);
            // More calls than a tight subject admits: the last ones wait, or are refused.
            let mut calls: Vec<_> = (0..PLACES + 3).map(|_| Box::pin(handle.call(7))).collect();
            let waker = waker_that(&TAKE_A_STEP);
            let cx = &mut Context::from_waker(&waker);
            for _ in 0..4 {
                calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
                pass(STEP).await;
            }
            // Drops the last call, which may be a waiting one, and the first call, which may be in the service.
            calls.truncate(calls.len().saturating_sub(1));
            drop((!calls.is_empty()).then(|| calls.remove(0)));
            // If there is a timeout, it ends the attempts that wait for an answer.
            pass(LIMIT).await;
            calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
            below.controls.answer();
            for _ in 0..4 {
                pass(WHOLE_LIMIT).await;
                calls.retain_mut(|call| call.as_mut().poll(cx).is_pending());
            }
        }
    }
}
