//! Which requests are retried after which endings, and when kept requests are dropped.

use crate::{
    probes::{Census, Counted, Events, every, poll, poll_panics},
    support::{Act, Backend, Failed, Stopwatch, ms, secs},
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, Error, Outcome,
    circuit_breaker::{Breaker, BreakerState},
    classify::Layered,
    load_shed::Limiter,
    retry::{Repeat, Replay, Retry, RetryBudget},
    shell::Frame,
};
use tokio::time::{Instant, advance};
use tower::{Service, ServiceExt};

/// A service that answers with verdicts and counts its calls.
#[derive(Clone)]
pub struct Verdicts(Arc<Mutex<(VecDeque<Outcome>, Outcome, usize)>>);

impl Verdicts {
    pub fn new(next: impl IntoIterator<Item = Outcome>, then: Outcome) -> Self {
        Self(Arc::new(Mutex::new((next.into_iter().collect(), then, 0))))
    }

    pub fn calls(&self) -> usize {
        self.0.lock().unwrap().2
    }
}

impl<Request> Service<Request> for Verdicts {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Ready<Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        let (next, then, calls) = &mut *self.0.lock().unwrap();
        *calls += 1;
        ready(Ok(next.pop_front().unwrap_or(*then)))
    }
}

/// A classifier for [`Verdicts`]: each answer is its own verdict.
pub fn as_it_says(answer: Result<&Outcome, &Infallible>) -> Outcome {
    answer.copied().unwrap_or(Outcome::Ignored)
}

const OVERLOADED: Outcome = Outcome::Overloaded { retry_after: None };
const OVERLOADED_2_S: Outcome = Outcome::Overloaded { retry_after: Some(Duration::from_secs(2)) };
const UNPROCESSED: Outcome = Outcome::Unprocessed { retry_after: None };
const UNPROCESSED_2_S: Outcome = Outcome::Unprocessed { retry_after: Some(Duration::from_secs(2)) };

/// Returns the number of attempts, and their total time, if each gets this answer.
async fn attempts(outcome: Outcome, repeat: Option<Repeat>, max_hint: Duration) -> (usize, Duration) {
    let service = Verdicts::new([], outcome);
    let client = steadfast::client()
        .retry(every(3, ms(10)).max_hint(max_hint).replay_if(move |_: &u32| repeat))
        .classify(as_it_says)
        .service(service.clone())
        .unwrap();
    let stopwatch = Stopwatch::start();
    assert_eq!(client.oneshot(1).await.unwrap(), outcome);
    (service.calls(), stopwatch.read())
}

#[tokio::test(start_paused = true)]
async fn a_request_is_retried_after_the_endings_that_its_repeat_allows() {
    use Repeat::{Always, IfUnprocessed};
    let once = (1, ms(0));
    let (thrice, hinted) = ((3, ms(20)), (3, ms(4020)));
    for (outcome, always, if_unprocessed) in [
        (Outcome::Success, once, once),
        (Outcome::Permanent, once, once),
        (Outcome::Ignored, once, once),
        (Outcome::Failure, thrice, once),
        (OVERLOADED, once, once),
        (OVERLOADED_2_S, hinted, once),
        (UNPROCESSED, thrice, thrice),
        (UNPROCESSED_2_S, hinted, hinted),
    ] {
        assert_eq!(attempts(outcome, Some(Always), secs(2)).await, always, "{outcome:?}");
        assert_eq!(attempts(outcome, Some(IfUnprocessed), secs(2)).await, if_unprocessed, "{outcome:?}");
        assert_eq!(attempts(outcome, None, secs(2)).await, once, "{outcome:?}");
    }
    // A hint that is too long ends the call.
    for outcome in [OVERLOADED_2_S, UNPROCESSED_2_S] {
        for repeat in [Always, IfUnprocessed] {
            assert_eq!(attempts(outcome, Some(repeat), ms(1999)).await, once, "{outcome:?}");
        }
    }
    // A missing hint is not too long.
    assert_eq!(attempts(UNPROCESSED, Some(IfUnprocessed), Duration::ZERO).await, thrice);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_retried_only_if_the_request_may_be_processed_twice() {
    for (repeat, calls) in [(Some(Repeat::Always), 2), (Some(Repeat::IfUnprocessed), 1), (None, 1)] {
        let backend = Backend::always(Act::hang());
        let client = steadfast::client()
            .retry(every(2, ms(10)).replay_if(move |_: &u32| repeat))
            .attempt_timeout(ms(20))
            .service(backend.clone())
            .unwrap();
        client.oneshot(1).await.unwrap_err();
        assert_eq!(backend.calls(), calls, "{repeat:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_must_not_be_processed_twice_is_not_retried_after_a_possible_processing() {
    let service = Verdicts::new([UNPROCESSED, UNPROCESSED, Outcome::Failure], Outcome::Success);
    let client = steadfast::client()
        .retry(every(9, ms(10)).replay_if(|_: &u32| Repeat::IfUnprocessed))
        .classify(as_it_says)
        .service(service.clone())
        .unwrap();
    assert_eq!(client.oneshot(1).await.unwrap(), Outcome::Failure);
    assert_eq!(service.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn replay_if_accepts_a_bool_a_repeat_or_an_option() {
    async fn calls<P: Replay<u32>>(retry: Retry<P>, outcome: Outcome) -> usize {
        let service = Verdicts::new([], outcome);
        let client = steadfast::client().retry(retry).classify(as_it_says).service(service.clone());
        let _ = client.unwrap().call(4).await;
        service.calls()
    }
    let retry = || every(2, ms(1));
    for (outcome, by_bool, by_repeat) in [(Outcome::Failure, 2, 1), (UNPROCESSED, 2, 2)] {
        assert_eq!(calls(retry(), outcome).await, 2);
        assert_eq!(calls(retry().replay_if(|number: &u32| *number == 4), outcome).await, by_bool);
        assert_eq!(calls(retry().replay_if(|number: &u32| *number == 5), outcome).await, 1);
        assert_eq!(calls(retry().replay_if(|_: &u32| Repeat::IfUnprocessed), outcome).await, by_repeat);
        assert_eq!(calls(retry().replay_if(|_: &u32| Repeat::Always), outcome).await, 2);
        let by_option = |number: &u32| (*number == 4).then_some(Repeat::IfUnprocessed);
        assert_eq!(calls(retry().replay_if(by_option), outcome).await, by_repeat);
        assert_eq!(calls(retry().replay_with(|number: &u32| Some(*number)), outcome).await, 2);
        assert_eq!(calls(retry().replay_with(|_: &u32| None), outcome).await, 1);
    }
}

/// A request that is not `Clone`, and that counts its drops.
struct Order(Counted);

/// Keeps a counted value of each request, records each method call, and fails as scripted.
#[derive(Clone)]
struct Keeps {
    census: Census,
    events: Events,
    looks: bool,
    copies: bool,
    panics: Option<&'static str>,
}

impl Keeps {
    fn new() -> Self {
        Self { census: Census::default(), events: Events::default(), looks: true, copies: true, panics: None }
    }

    fn notes(&self, what: &str) {
        self.events.add(what);
        assert_ne!(self.panics, Some(what), "as the test wants it");
    }
}

impl Replay<Order> for Keeps {
    type Kept = Order;

    fn keep(&self, order: Order, _: &mut Frame) -> (Order, Option<(Repeat, Order)>) {
        let kept = Order(order.0.clone());
        self.notes("keep");
        (order, Some((Repeat::Always, kept)))
    }

    fn look<'kept>(&self, kept: &'kept Order) -> Option<&'kept Order> {
        self.notes("look");
        self.looks.then_some(kept)
    }

    fn copy(&self, kept: &Order, _: &mut Frame) -> Option<Order> {
        let copy = Order(kept.0.clone());
        self.notes("copy");
        self.copies.then_some(copy)
    }

    fn last(&self, kept: Order, _: &mut Frame) -> Order {
        self.notes("last");
        kept
    }
}

fn a_full_budget() -> RetryBudget {
    RetryBudget::builder().ratio(0.001).no_floor().initial(4).cap(4).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_once_and_copies_for_all_attempts_except_the_last() {
    let replay = Keeps::new();
    let client = steadfast::client().retry(every(4, ms(1)).replay_by(replay.clone()));
    let client = client.service(Backend::always(Act::fail())).unwrap();
    client.oneshot(Order(replay.census.one())).await.unwrap_err();
    assert_eq!(replay.events.take(), ["keep", "look", "copy", "look", "copy", "look", "last"]);
    assert_eq!((replay.census.made(), replay.census.alive()), (4, 0));

    // A call with one attempt keeps nothing.
    let client = steadfast::client().retry(every(1, ms(1)).replay_by(replay.clone()));
    let client = client.service(Backend::always(Act::fail())).unwrap();
    client.oneshot(Order(replay.census.one())).await.unwrap_err();
    assert_eq!(replay.events.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_a_request_to_send_the_caller_gets_the_last_answer_and_no_retry_is_spent() {
    let (replay, budget) = (Keeps { looks: false, ..Keeps::new() }, a_full_budget());
    let backend = Backend::always(Act::answer(500));
    let client = steadfast::client()
        .retry(every(4, ms(10)).replay_by(replay.clone()).budget(budget.clone()))
        .classify(|_: Result<&u16, &Failed>| Outcome::Failure)
        .service(backend.clone())
        .unwrap();
    let stopwatch = Stopwatch::start();
    assert_eq!(client.oneshot(Order(replay.census.one())).await.unwrap(), 500);
    assert_eq!((stopwatch.read(), backend.calls(), budget.balance()), (ms(0), 1, 4.0));
    assert_eq!((replay.events.take(), replay.census.alive()), (vec!["keep".to_owned(), "look".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_for_which_no_copy_can_be_made_is_the_last() {
    let replay = Keeps { copies: false, ..Keeps::new() };
    let backend = Backend::always(Act::fail());
    let client = steadfast::client().retry(every(4, ms(10)).replay_by(replay.clone()));
    client.service(backend.clone()).unwrap().oneshot(Order(replay.census.one())).await.unwrap_err();
    assert_eq!((backend.calls(), replay.census.alive()), (2, 0));
    assert_eq!(replay.events.take(), ["keep", "look", "copy", "last"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_at_any_point_drops_its_kept_requests() {
    for polls in 0..16_usize {
        let (replay, budget) = (Keeps::new(), a_full_budget());
        let backend = Backend::script([Act::fail().after(ms(10)), Act::fail()], Act::answer(200).after(ms(20)));
        let mut client = steadfast::client()
            .timeout(secs(1))
            .retry(every(3, ms(10)).replay_by(replay.clone()).budget(budget.clone()))
            .attempt_timeout(ms(50))
            .service(backend.clone().ready_for(polls % 2))
            .unwrap();
        let mut call = Box::pin(client.call(Order(replay.census.one())));
        let mut ended = false;
        for _ in 0..polls {
            ended = poll(&mut call).is_ready();
            if ended {
                break;
            }
            advance(ms(5)).await;
            backend.set_ready_for(9);
        }
        // A completed future keeps nothing.
        assert!(!ended || replay.census.alive() == 0);
        drop(call);
        assert_eq!(replay.census.alive(), 0, "{polls} polls");
        // The budget has paid one retry for each attempt after the first that reached the service, and no other.
        let spent = backend.calls().saturating_sub(1) as f64;
        assert!((budget.balance() - (4.0 - spent)).abs() < 0.01, "{polls} polls: {}", budget.balance());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_replay_drops_the_kept_request_and_returns_all_places() {
    for (place, calls, waits) in [("keep", 0, 0), ("look", 1, 0), ("copy", 1, 1), ("last", 2, 2)] {
        let (replay, budget) = (Keeps { panics: Some(place), ..Keeps::new() }, a_full_budget());
        let (limiter, backend) = (Limiter::fixed(1).unwrap(), Backend::always(Act::fail()));
        let mut client = steadfast::client()
            .retry(every(3, ms(10)).replay_by(replay.clone()).budget(budget.clone()))
            .load_shed(limiter.clone())
            .service(backend.clone())
            .unwrap();
        let mut call = Box::pin(client.call(Order(replay.census.one())));
        for _ in 0..waits {
            assert!(poll(&mut call).is_pending());
            advance(ms(10)).await;
        }
        poll_panics(&mut call);
        assert_eq!((backend.calls(), limiter.in_flight()), (calls, 0), "{place}");
        drop(call);
        assert_eq!(replay.census.alive(), 0, "{place}");
        // The budget has paid one retry for each attempt after the first that reached the service.
        let spent = calls.saturating_sub(1) as f64;
        assert!((budget.balance() - (4.0 - spent)).abs() < 0.01, "{place}: {}", budget.balance());
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_was_not_processed_is_spent() {
    let budget = a_full_budget();
    let service = Verdicts::new([UNPROCESSED, UNPROCESSED], Outcome::Success);
    let client = steadfast::client()
        .retry(every(4, ms(10)).budget(budget.clone()))
        .classify(as_it_says)
        .service(service.clone())
        .unwrap();
    client.oneshot(1).await.unwrap();
    assert_eq!(service.calls(), 3);
    assert!((budget.balance() - 2.0).abs() < 0.01, "{}", budget.balance());
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_waits_for_refusals_repeats_requests_that_must_not_be_processed_twice() {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(5)).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    let backend = Backend::always(Act::answer(200));
    let client = |retry: Retry| {
        let retry = retry.replay_if(|_: &u32| Repeat::IfUnprocessed);
        steadfast::client().retry(retry).circuit_breaker(breaker.clone()).service(backend.clone()).unwrap()
    };
    let stopwatch = Stopwatch::start();
    client(every(2, ms(10))).oneshot(1).await.unwrap_err();
    assert_eq!(stopwatch.read(), ms(0));
    assert_eq!(client(every(2, ms(10)).wait_for_refusals()).oneshot(1).await.unwrap(), 200);
    assert_eq!((stopwatch.read(), backend.calls()), (ms(5010), 1));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_unprocessed_as_a_failure_without_a_hint_and_an_overload_with_one() {
    use BreakerState::{Closed, Open};
    for (outcome, overload_is_failure, closed_becomes, half_open_becomes) in [
        (UNPROCESSED, false, Open, Open),
        (UNPROCESSED, true, Open, Open),
        (UNPROCESSED_2_S, false, Closed, Closed),
        (UNPROCESSED_2_S, true, Open, Open),
    ] {
        let builder = Breaker::builder().consecutive_failures(1).probes(1).open_for(secs(1));
        let breaker = builder.overload_is_failure(overload_is_failure).build().unwrap();
        breaker.try_acquire().unwrap().outcome(outcome);
        assert_eq!(breaker.state(), closed_becomes, "{outcome:?}, closed");
        breaker.reset();
        breaker.try_acquire().unwrap().failure();
        advance(secs(1)).await;
        breaker.try_acquire().unwrap().outcome(outcome);
        assert_eq!(breaker.state(), half_open_becomes, "{outcome:?}, half-open");

        // Through a stack, too.
        breaker.reset();
        let client = steadfast::client().circuit_breaker(breaker.clone()).classify(as_it_says);
        client.service(Verdicts::new([], outcome)).unwrap().oneshot(1).await.unwrap();
        assert_eq!(breaker.state(), closed_becomes, "{outcome:?}, in a stack");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_stack_repeats_unprocessed_calls_and_no_refusals() {
    let (limiter, backend) = (Limiter::fixed(1).unwrap(), Backend::script([Act::fail()], Act::answer(200)));
    let inner = steadfast::client().load_shed(limiter.clone()).service(backend.clone()).unwrap();
    let unprocessed = |answer: Result<&u16, &Failed>| if answer.is_ok() { Outcome::Success } else { UNPROCESSED };
    let outer = steadfast::client()
        .retry(every(3, ms(1)).replay_if(|_: &u32| Repeat::IfUnprocessed))
        .classify_with(Layered(unprocessed))
        .keep_error()
        .service(inner)
        .unwrap();
    assert_eq!(outer.clone().oneshot(1).await.unwrap(), 200);
    assert_eq!(backend.calls(), 2);
    let _taken = limiter.try_acquire().unwrap();
    let error = outer.oneshot(1).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)));
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unprocessed_attempt_at_the_callers_deadline_counts_only_from_half_of_its_full_time() {
    for (patience, state) in [(ms(80), BreakerState::Closed), (ms(20), BreakerState::Open)] {
        let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
        let client = steadfast::client()
            .circuit_breaker(breaker.clone())
            .attempt_timeout(patience)
            .classify(|_: Result<&u16, &Failed>| UNPROCESSED)
            .service(Backend::always(Act::fail().after(ms(20))))
            .unwrap();
        let context = CallContext::new().with_deadline(Instant::now() + ms(20));
        context.scope(client.oneshot(1)).await.unwrap_err();
        assert_eq!(breaker.state(), state, "{patience:?}");
    }
}
