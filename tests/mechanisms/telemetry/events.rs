//! Which events a stack delivers to functions, and when.

use super::instrument::{Switch, answers};
use crate::{
    counting::so_far,
    probes::{Events as Notes, every},
    support::{Act, Backend, by_status, ms, secs},
};
use std::{
    panic::panic_any,
    pin::pin,
    task::{Context, Poll, Waker},
};
use steadfast::{
    CallContext,
    load_level::Queue,
    load_shed::Limiter,
    shell::{Denied, StateChange},
    telemetry::{Events, EventsBuilder},
};
use tokio::time::{advance, sleep};
use tower::{Service, ServiceExt};

/// Records all delivered events.
pub fn noting(notes: &Notes) -> EventsBuilder {
    let [changes, retries, refusals, queue] = [(); 4].map(|()| notes.clone());
    Events::builder()
        .on_transition(move |stack, change| {
            let trouble = if change.is_trouble() { "!" } else { "" };
            let missed = if change.missed() > 0 { format!(" after {}", change.missed()) } else { String::new() };
            let (mechanism, from, to, evidence) = (change.mechanism(), change.from(), change.to(), change.evidence());
            changes.add(format!("{stack}: {mechanism} {from} > {to}{trouble}, {evidence}{missed}"));
        })
        .on_retries(move |stack, counts| {
            let denied = [Denied::Exhausted, Denied::Marked].map(|reason| counts.denied(reason));
            let (calls, attempts, all) = (counts.calls(), counts.attempts(), counts.all_denied());
            retries.add(format!("{stack}: {calls} retried, {attempts} more, denied {all}: {denied:?}"));
        })
        .on_refusals(move |stack, counts| {
            let all: Vec<_> = counts.iter().map(|(why, reason, count)| format!("{why} {reason} {count}")).collect();
            refusals.add(format!("{stack}: {} of {}", all.join(", "), counts.total()));
        })
        .on_queue(move |stack, state| queue.add(format!("{stack}: {state:?}")))
}

#[tokio::test(start_paused = true)]
async fn state_changes_come_at_once_and_in_order_and_counts_after_each_interval() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let (events, delivery) = noting(&notes).build(secs(10)).unwrap();
    let delivery = tokio::spawn(delivery.run());
    let client = steadfast::client()
        .observe("payments", events)
        .retry(every(3, ms(1)))
        .own_circuit_breaker(switch.clone())
        .classify(by_status)
        .service(Backend::script([Act::fail()], Act::answer(500)))
        .unwrap();
    switch.trouble("closed", "open");
    switch.change("open", "half_open");
    sleep(ms(1)).await;
    assert_eq!(
        notes.take(),
        [
            "payments: circuit_breaker closed > open!, 5 of 8 failed",
            "payments: circuit_breaker open > half_open, as the test says",
        ]
    );
    client.clone().oneshot(()).await.unwrap();
    client.clone().oneshot(()).await.unwrap();
    assert!(CallContext::new().scope(client.clone().oneshot(())).await.is_ok());
    assert_eq!(notes.take(), [""; 0]);
    sleep(secs(10)).await;
    assert_eq!(notes.take(), ["payments: 3 retried, 6 more, denied 3: [3, 0]"]);
    // Nothing happens, and no function is called.
    sleep(secs(30)).await;
    assert_eq!(notes.take(), [""; 0]);
    client.oneshot(()).await.unwrap();
    // The stack is dropped: the rest is delivered at once.
    delivery.await.unwrap();
    assert_eq!(notes.take(), ["payments: 1 retried, 2 more, denied 1: [1, 0]"]);
    assert_eq!((switch.listeners(), switch.handles()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_queue_state_goes_from_empty_to_waiting_to_refusing() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let (events, delivery) = noting(&notes).build(secs(1)).unwrap();
    tokio::spawn(delivery.run());
    let queue = Queue::builder(1, 1).build().unwrap();
    let server = steadfast::server().observe("shop", events).own_load_shed(switch.clone()).load_level(queue.clone());
    let server = server.service(answers()).unwrap();
    sleep(secs(3)).await;
    assert_eq!(notes.take(), [""; 0]);
    switch.set_waiting(1);
    sleep(secs(3)).await;
    assert_eq!(notes.take(), ["shop: Waiting"]);
    {
        let _place = queue.try_acquire().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, second) = (server.clone(), server.clone());
        let mut waiting = pin!(first.call(()));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        assert!(second.oneshot(()).await.is_err());
        sleep(secs(1)).await;
    }
    assert_eq!(notes.take(), ["shop: load_level depth 1 of 1", "shop: Refusing"]);
    sleep(secs(1)).await;
    assert_eq!(notes.take(), ["shop: Waiting"]);
    switch.set_waiting(0);
    sleep(secs(2)).await;
    assert_eq!(notes.take(), ["shop: Empty"]);
}

#[tokio::test(start_paused = true)]
async fn stacks_of_one_name_are_counted_together_and_other_names_apart() {
    let notes = Notes::default();
    let (events, delivery) = noting(&notes).build(secs(1)).unwrap();
    tokio::spawn(delivery.run());
    let limiter = Limiter::fixed(1).unwrap();
    let _place = limiter.try_acquire_owned().unwrap();
    for name in ["a", "b", "a"] {
        let server = steadfast::server().observe(name, events.clone()).load_shed(limiter.clone()).timeout(ms(10));
        assert!(server.service(answers()).unwrap().oneshot(()).await.is_err());
    }
    let server = steadfast::server().observe("b", events.clone()).timeout(ms(10));
    assert!(server.service(Backend::always(Act::hang())).unwrap().oneshot(()).await.is_err());
    sleep(secs(1)).await;
    assert_eq!(notes.take(), ["a: load_shed limit 2 of 2", "b: timeout limit 1, load_shed limit 1 of 2"]);
}

/// A payload that panics when it is dropped.
struct Hot;

impl Drop for Hot {
    fn drop(&mut self) {
        panic!("the payload fails");
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_does_not_affect_the_others() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let changes = notes.clone();
    let (events, delivery) = noting(&notes)
        .on_transition(move |_, change| {
            changes.add(change.to());
            if change.is_trouble() {
                panic_any(Hot);
            }
        })
        .on_retries(|_, _| panic_any(Hot))
        .build(secs(1))
        .unwrap();
    let delivery = tokio::spawn(delivery.run());
    let limiter = Limiter::fixed(1).unwrap();
    let client = steadfast::client()
        .observe("payments", events)
        .retry(every(2, ms(1)))
        .own_circuit_breaker(switch.clone())
        .load_shed(limiter.clone())
        .service(Backend::always(Act::fail()))
        .unwrap();
    switch.trouble("closed", "open");
    switch.change("open", "closed");
    let _ = client.clone().oneshot(()).await;
    let place = limiter.try_acquire();
    assert!(client.oneshot(()).await.is_err());
    drop(place);
    delivery.await.unwrap();
    assert_eq!(notes.take(), ["open", "closed", "payments: load_shed limit 1 of 1"]);
}

#[test]
fn no_counted_call_allocates() {
    let (events, _delivery) = noting(&Notes::default()).build(secs(1)).unwrap();
    let limiter = Limiter::fixed(1).unwrap();
    let server = steadfast::server().observe("shop", events).load_shed(limiter.clone());
    let server = server.service(tower::service_fn(|()| std::future::ready(Ok::<_, ()>(())))).unwrap();
    let call = || {
        let poll = pin!(server.clone().call(())).poll(&mut Context::from_waker(Waker::noop()));
        matches!(poll, Poll::Ready(Ok(())))
    };
    assert!(call());
    let before = so_far().times;
    assert!((0..500).all(|_| call()));
    let place = limiter.try_acquire().unwrap();
    assert!((0..500).all(|_| !call()));
    drop(place);
    assert_eq!(so_far().times, before);
}

#[test]
fn an_interval_of_zero_is_refused() {
    let error = Events::builder().build(ms(0)).unwrap_err();
    assert_eq!(error.to_string(), "events.interval = 0ns: must be longer than zero and at most 366 days");
}

#[tokio::test(start_paused = true)]
async fn changes_that_a_mechanism_missed_are_reported() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let (events, delivery) = noting(&notes).build(secs(1)).unwrap();
    let stack = steadfast::client().observe("payments", events).own_circuit_breaker(switch.clone());
    let stack = stack.service(answers()).unwrap();
    switch.tell(StateChange::new("circuit_breaker", "open", "closed", &"in time").after_missing(3));
    drop(stack);
    advance(secs(5)).await;
    delivery.run().await;
    assert_eq!(notes.take(), ["payments: circuit_breaker open > closed, in time after 3"]);
}
