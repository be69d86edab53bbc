//! The isolation of runs: their streams of random numbers, and the tasks that they leave behind.

use super::{into, ms, secs};
use std::{
    cell::Cell,
    future::{Future, pending, poll_fn},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use steadfast::{
    ConfigError,
    retry::{Backoff, Retry},
    sim::{Backend, Call, Failure, Latency, Link, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt};

/// Returns how often each of two classes was called in each span.
fn offered<S>(build: impl FnOnce(&Sim) -> Result<S, ConfigError>) -> Vec<Vec<u64>>
where
    S: Service<Call, Response = Reply, Error: Into<steadfast::Error<Failure>>> + Clone + 'static,
{
    let loads = Scenario::new(Load::poisson(300.0).keys(9)).and(Load::poisson(50.0).named("other"));
    let report = loads.length(secs(5)).seed(5).run(build).unwrap();
    let spans = |class: &steadfast::sim::ClassReport| class.spans.iter().map(|span| span.offered).collect();
    report.classes.iter().map(spans).collect()
}

fn flaky() -> Backend {
    Backend::new(Latency::exponential(ms(20))).failing(0.3)
}

#[test]
fn another_stack_gets_the_same_load() {
    let bare = offered(into(flaky()));
    let retrying = offered(|sim| {
        let far = Link::new(sim, Latency::normal(ms(5), ms(1)), sim.backend(flaky().servers(3)));
        let retry = Retry::new(3).backoff(Backoff::exponential(ms(10), ms(50))).without_budget();
        steadfast::client().retry(retry.random(sim.random())).service(far)
    });
    assert_eq!(bare, retrying);
    assert_ne!(bare[0], bare[1]);
}

#[test]
fn another_stack_gets_the_same_keys() {
    let calls_for_some_keys = |clients: usize| {
        let dead = Backend::new(Latency::exponential(ms(1))).dead_keys(0..2);
        let scenario = Scenario::new(Load::poisson(300.0).keys(9)).length(secs(5));
        let report = scenario.run_clients(|sim| Ok(vec![sim.backend(dead); clients])).unwrap();
        report.classes[0].failed
    };
    assert_eq!(calls_for_some_keys(1), calls_for_some_keys(7));
}

#[test]
fn another_backend_changes_nothing_for_the_first() {
    let run = |others: usize| -> Report {
        let scenario = Scenario::new(Load::poisson(100.0)).length(secs(20));
        scenario
            .run(|sim| {
                let first = sim.backend(flaky());
                let others: Vec<_> = (0..others).map(|_| sim.backend(flaky())).collect();
                Ok(tower::service_fn(move |call: Call| {
                    for other in others.clone() {
                        drop(other.oneshot(call));
                    }
                    first.clone().oneshot(call)
                }))
            })
            .unwrap()
    };
    assert_eq!(run(0).classes, run(2).classes);
}

/// Leaves a task behind that ends only with its run.
fn leave(sim: &Sim, token: Rc<()>) {
    let world = sim.clone();
    sim.spawn(async move {
        let _held = (token, world);
        pending::<()>().await;
    });
}

#[test]
fn a_run_leaves_nothing_behind_whether_it_was_refused_or_not() {
    let token = Rc::new(());
    let run = |backend: Backend| {
        Scenario::new(Load::poisson(10.0)).length(secs(1)).settle_within(secs(1)).run(|sim| {
            leave(sim, token.clone());
            let service = sim.backend(backend);
            steadfast::client().timeout(secs(1)).service(service)
        })
    };
    assert!(run(flaky()).is_ok());
    assert_eq!(Rc::strong_count(&token), 1);
    assert!(run(flaky().servers(0)).is_err());
    assert_eq!(Rc::strong_count(&token), 1);
    let failed = Scenario::new(Load::poisson(10.0)).run(|sim| {
        leave(sim, token.clone());
        let service = sim.backend(flaky());
        steadfast::client().timeout(secs(0)).service(service)
    });
    assert!(failed.is_err());
    assert_eq!(Rc::strong_count(&token), 1);
    let without_clients = Scenario::new(Load::poisson(10.0)).run_clients(|sim| {
        leave(sim, token.clone());
        let _ = sim.backend(flaky());
        Ok(Vec::<steadfast::sim::BackendService>::new())
    });
    assert!(without_clients.is_err());
    assert_eq!(Rc::strong_count(&token), 1);
}

/// Counts its wake-ups.
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_task_that_polls_a_sleep_repeatedly_is_woken_once() {
    let (bell, other) = (Arc::new(Bell(AtomicU32::new(0))), Arc::new(Bell(AtomicU32::new(0))));
    let heard = Rc::new(Cell::new((0, 0)));
    let (waker, another) = (Waker::from(bell.clone()), Waker::from(other.clone()));
    let log = heard.clone();
    let report = Scenario::new(Load::constant(1.0)).length(secs(2)).run(move |sim| {
        let clock = sim.clone();
        sim.spawn(async move {
            let mut sleep = pin!(clock.sleep(ms(500)));
            for _ in 0..1_000 {
                let again = sleep.as_mut().poll(&mut Context::from_waker(&waker));
                assert!(again.is_pending());
            }
            // The last task to poll is woken, too.
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&another)).is_pending());
            clock.sleep(secs(1)).await;
            let ended = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_ready())).await;
            assert!(ended);
            log.set((bell.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed)));
        });
        Ok(sim.backend(flaky()))
    });
    assert!(report.is_ok());
    assert_eq!(heard.get(), (1, 1));
}
