//! A subscriber that panics affects the current call and nothing else.

use super::collector::Collector;
use crate::{
    probes::{every, poll},
    support::{Act, Backend, by_status, ms},
};
use std::{
    future::Ready,
    panic::{AssertUnwindSafe, catch_unwind},
};
use steadfast::{load_shed::Limiter, telemetry::Spans};
use tower::{Service, ServiceExt, service_fn};
use tracing::Level;

const METHODS: [&str; 8] =
    ["new_span", "record", "event", "enter", "exit", "try_close", "record, try_close", "event, exit, try_close"];

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_subscriber_propagates_out_of_the_poll_and_the_stack_keeps_working() {
    for method in METHODS {
        for act in [Act::answer(500), Act::answer(200), Act::panic_at_once()] {
            let (collector, _guard) = Collector::begin(Level::DEBUG);
            let limiter = Limiter::fixed(1).unwrap();
            let backend = Backend::always(act);
            let client = steadfast::client()
                .observe("payments", (Spans::new(), Spans::new()))
                .retry(every(2, ms(0)))
                .load_shed(limiter.clone())
                .classify(by_status)
                .service(backend.clone())
                .unwrap();
            collector.panic_in(Some(method));
            let mut call = Box::pin(client.clone().call(()));
            // Only the call that is answered 500 logs events, because it is retried.
            let panics = catch_unwind(AssertUnwindSafe(|| poll(&mut call))).is_err();
            assert!(panics || method == "event", "{method}");
            drop(call);
            collector.panic_in(None);
            assert_eq!((limiter.in_flight(), collector.entered(), collector.open()), (0, 0, 0), "{method}");
            backend.becomes(Act::answer(200));
            assert_eq!(client.oneshot(()).await.unwrap(), 200);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_returns_its_permit_although_the_subscriber_panics() {
    for method in ["record", "enter", "exit", "try_close", "record, exit, try_close"] {
        let (collector, _guard) = Collector::begin(Level::DEBUG);
        let limiter = Limiter::fixed(1).unwrap();
        let client = steadfast::client().observe("payments", Spans::new()).load_shed(limiter.clone());
        let client = client.service(Backend::always(Act::hang())).unwrap();
        let mut call = Box::pin(client.clone().call(()));
        assert!(poll(&mut call).is_pending());
        collector.panic_in(Some(method));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err(), "{method}");
        assert_eq!((limiter.in_flight(), collector.entered()), (0, 0), "{method}");
        // The permit is also returned if the call is dropped while another panic unwinds.
        collector.panic_in(None);
        let mut call = Box::pin(client.clone().call(()));
        assert!(poll(&mut call).is_pending());
        collector.panic_in(Some(method));
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _call = call;
            panic!("the caller fails");
        }));
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the caller fails"));
        assert_eq!((limiter.in_flight(), collector.entered()), (0, 0), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_panic_of_the_service_propagates_if_the_subscriber_panics_too() {
    let (collector, _guard) = Collector::begin(Level::DEBUG);
    let within = collector.clone();
    let service = service_fn(move |()| -> Ready<Result<(), ()>> {
        within.panic_in(Some("exit"));
        panic!("the service fails")
    });
    let mut client = steadfast::client().observe("payments", Spans::new()).service(service).unwrap();
    let mut call = Box::pin(client.call(()));
    let panic = catch_unwind(AssertUnwindSafe(|| poll(&mut call))).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"the service fails"));
    collector.panic_in(None);
    drop(call);
    assert_eq!((collector.open(), collector.entered()), (0, 0));
}
