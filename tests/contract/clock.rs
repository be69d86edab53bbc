//! The runtime's clock, paused in these tests, drives every layer, and no time passes but what a layer waits for.

use crate::{
    below::{Below, Kind},
    controls::{Act, Controls, Readiness},
    subject::{LIMIT, Make, Subject, WHOLE_LIMIT},
    task::{Task, pass},
};
use std::task::Poll;
use steadfast::{Error, Rejection};
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

pub async fn a_hanging_service_is_given_up_at_the_instant_that_was_configured(make: Make) {
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
                // An attempt that did not reach the service, by its timeout, is not retried.
                let limit = if reached { limit } else { LIMIT };
                assert_eq!(Instant::now() - begin, limit);
            }
        }
    }
}

pub async fn an_answer_that_is_there_at_the_deadline_is_returned(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert!(call.poll().is_pending());
    pass(LIMIT).await;
    below.controls.answer();
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
}
