//! The reason for no further attempt, as an observer receives it.

use crate::{
    probes::{Recorder, every},
    support::{Failed, by_status, ms},
};
use std::{
    future::ready,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use steadfast::{
    circuit_breaker::Breaker,
    retry::{Repeat, Replay, Retry, RetryBudget},
};
use tower::{Service, service_fn};

/// Makes a call through this retry to a service that answers with this status. Returns the last event that the observer
/// recorded. The first attempt passes the breaker to `change`.
async fn denial<P>(retry: Retry<P>, status: u16, change: impl FnOnce(Breaker)) -> String
where
    P: Replay<u32>,
{
    let (recorder, breaker): (Recorder, _) = (Recorder::default(), Breaker::builder().build().unwrap());
    let breaker_of_service = breaker.clone();
    let mut change = Some(change);
    let service = service_fn(move |_: u32| {
        if let Some(change) = change.take() {
            change(breaker_of_service.clone());
        }
        ready(Ok::<_, Failed>(status))
    });
    let mut client = steadfast::client()
        .observe("payments", recorder.clone())
        .timeout(ms(1500))
        .retry(retry)
        .circuit_breaker(breaker)
        .classify(by_status)
        .service(Cloned(Arc::new(Mutex::new(service))))
        .unwrap();
    let _ = client.call(1).await;
    assert_eq!(recorder.open.alive(), 0);
    recorder.events.take().pop().unwrap()
}

/// One service, with any number of clones.
struct Cloned<S>(Arc<Mutex<S>>);

impl<S> Clone for Cloned<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Service<u32>> Service<u32> for Cloned<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.lock().unwrap().poll_ready(cx)
    }

    fn call(&mut self, request: u32) -> S::Future {
        self.0.lock().unwrap().call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_names_the_reason_for_no_further_attempt() {
    let denied = |reason: &str| format!("1 attempts, waited 0 ms, denied: Some({reason})");
    let nothing = |_: Breaker| {};
    assert_eq!(denial(every(1, ms(1)), 500, nothing).await, denied("Exhausted"));
    let empty = RetryBudget::builder().ratio(0.001).no_floor().initial(0).build().unwrap();
    assert_eq!(denial(every(3, ms(1)).budget(empty), 500, nothing).await, denied("Budget"));
    assert_eq!(denial(every(3, ms(600)), 503, nothing).await, denied("Deadline"));
    assert_eq!(denial(every(3, ms(1)), 429, nothing).await, denied("NoHint"));
    assert_eq!(denial(every(3, ms(1)).max_hint(ms(999)), 503, nothing).await, denied("HintTooLong"));
    assert_eq!(denial(every(3, ms(1)), 500, |breaker| breaker.force_open()).await, denied("RefusedFurtherIn"));
    assert_eq!(denial(every(3, ms(1)).replay_if(|_: &u32| false), 500, nothing).await, denied("NotRepeatable"));
    let unprocessed_only = every(3, ms(1)).replay_if(|_: &u32| Repeat::IfUnprocessed);
    assert_eq!(denial(unprocessed_only, 500, nothing).await, denied("NotRepeatable"));
    // The retry waits for the `retry_after` of 1 s plus the backoff of 1 ms. A second such wait would end after the
    // timeout.
    let waited = "2 attempts, waited 1001 ms, denied: Some(Deadline)";
    assert_eq!(denial(every(3, ms(1)), 503, nothing).await, waited);
    // An ignored answer ends the call without a reason: the retry did not consider another attempt.
    assert_eq!(denial(every(3, ms(1)), 404, nothing).await, "call ends in 0 ms: Answered(Ignored)");
}
