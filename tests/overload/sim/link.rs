//! A network between two services.

use super::{assert_near, class, latency, ms, secs, seen};
use std::{cell::RefCell, rc::Rc};
use steadfast::{
    CallContext, Error,
    sim::{Backend, Call, Failure, Latency, Link, Load, Reply, Scenario},
};
use tokio::time::Instant;
use tower::{ServiceExt, service_fn};

#[test]
fn a_link_takes_its_latency_in_each_direction() {
    let report = Scenario::new(Load::poisson(100.0)).length(secs(10)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(10))));
        Ok(Link::new(sim, Latency::fixed(ms(20)), backend))
    });
    let report = report.unwrap();
    assert_near("the median", latency(&report).p50, 0.05, 0.001);
    assert_near("the longest", latency(&report).max, 0.05, 0.001);
}

#[test]
fn each_hop_is_drawn_independently() {
    let report = Scenario::new(Load::poisson(1_000.0)).length(secs(8)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(0))));
        Ok(Link::new(sim, Latency::exponential(ms(20)), backend))
    });
    let took = latency(&report.unwrap());
    // Of 8,000 calls: the standard error of the mean is 0.8%, that of the median 1.1%.
    assert_near("the mean", took.mean, 0.04, 0.03);
    // The median of the sum of two is 1.678 means of one; if both were equal, it would be 2 ln 2 = 1.386.
    assert_near("the median", took.p50, 1.678 * 0.02, 0.03);
}

#[test]
fn a_request_that_was_sent_arrives_even_if_its_caller_has_gone() {
    let load = Load::constant(10.0).step(ms(1_050), 0.0);
    let report = Scenario::new(load).length(secs(10)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(10))));
        let far = Link::new(sim, Latency::fixed(secs(1)), backend);
        steadfast::client().timeout(ms(100)).service(far)
    });
    let report = report.unwrap();
    assert_eq!(class(&report).rejected.get("timeout"), Some(&10));
    // For the backend, the link is the caller, and it waits.
    assert_eq!((seen(&report).received, seen(&report).answered), (10, 10));
}

#[test]
fn the_context_of_a_call_arrives_with_it() {
    let [sent, seen] = [(); 2].map(|()| Rc::new(RefCell::new(Vec::new())));
    let (sends, arrivals) = (sent.clone(), seen.clone());
    let report = Scenario::new(Load::constant(1.0)).length(ms(1_500)).run(|sim| {
        let server = service_fn(move |_: Call| {
            arrivals.borrow_mut().push(CallContext::current().deadline());
            async { Ok::<Reply, Failure>(Reply) }
        });
        let far = Link::new(sim, Latency::fixed(ms(20)), server);
        // The caller has half a second.
        Ok(service_fn(move |call: Call| {
            let deadline = Instant::now() + ms(500);
            sends.borrow_mut().push(Some(deadline));
            let context = CallContext::new().with_deadline(deadline);
            context.scope(far.clone().oneshot(call))
        }))
    });
    assert_eq!(report.unwrap().goodput(), 1.0);
    assert_eq!((sent.borrow().len(), &*sent.borrow()), (1, &*seen.borrow()));
}

#[test]
fn timers_behind_a_link_fire_after_the_caller_has_gone() {
    // The caller gives up after 10 ms, the server after 200 ms; nothing else happens in between.
    let ended = Rc::new(RefCell::new(Vec::new()));
    let log = ended.clone();
    let load = Load::constant(1.0).step(ms(1_500), 0.0);
    let report = Scenario::new(load).length(secs(60)).run(|sim| {
        let clock = sim.clone();
        let backend = sim.backend(Backend::new(Latency::fixed(secs(30))));
        let server = steadfast::server().timeout(ms(200)).service(backend)?.map_result(move |result| {
            log.borrow_mut().push(clock.elapsed());
            result
        });
        let far = Link::new(sim, Latency::fixed(ms(1)), server);
        // The server does not know the deadline of its caller: a task of its own has no context.
        let tasks = sim.clone();
        let far = service_fn(move |call: Call| {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let far = far.clone();
            tasks.spawn(async move {
                let _ = answer.send(far.oneshot(call).await);
            });
            async move { answered.await.unwrap() }
        });
        steadfast::client().timeout(ms(10)).keep_error().service(far)
    });
    assert_eq!(class(&report.unwrap()).rejected.get("timeout"), Some(&1));
    let [at] = ended.borrow()[..] else { panic!("{ended:?}") };
    assert!(at >= ms(1_201) && at <= ms(1_202), "the server gave up at {at:?}");
}

#[test]
fn a_failure_returns_unchanged_over_a_link() {
    let report = Scenario::new(Load::constant(10.0)).length(secs(1)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(10))).failing(1.0));
        Ok(Link::new(sim, Latency::fixed(ms(20)), backend).map_err(Error::Service))
    });
    assert_eq!(class(&report.unwrap()).failed, 9);
}
