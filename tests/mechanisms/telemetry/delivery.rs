//! Deliveries of events. No event is delivered twice, and a delivery that is dropped loses none. While no delivery
//! runs, up to 1024 state changes wait. Older ones are dropped and counted.

use super::{
    events::noting,
    instrument::{Switch, answers},
};
use crate::{
    probes::{Events as Notes, every},
    support::{Act, Backend, ms, secs, size},
};
use std::{
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Waker},
    thread,
};
use steadfast::{load_shed::Limiter, shell::Denied, telemetry::Events};
use tokio::{
    runtime::{Builder, Runtime},
    time::{advance, sleep},
};
use tower::ServiceExt;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn the_events_of_several_threads_are_delivered_exactly_once() {
    let calls = size(200, 2_000);
    let sums: [Arc<AtomicU64>; 4] = Default::default();
    let add = |index: usize| {
        let sum = sums[index].clone();
        move |count| {
            sum.fetch_add(count, Relaxed);
        }
    };
    let (retried, attempts, denied, refused) = (add(0), add(1), add(2), add(3));
    let (events, delivery) = Events::builder()
        .on_retries(move |_, counts| {
            retried(counts.calls());
            attempts(counts.attempts());
            denied(counts.denied(Denied::Exhausted));
        })
        .on_refusals(move |_, counts| refused(counts.of("load_shed")))
        .build(ms(1))
        .unwrap();
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..3 {
            let events = events.clone();
            scope.spawn(|| {
                let limiter = Limiter::fixed(1).unwrap();
                let client = steadfast::client()
                    .observe("payments", events)
                    .retry(every(3, ms(1)))
                    .load_shed(limiter.clone())
                    .service(Backend::always(Act::fail()))
                    .unwrap();
                barrier.wait();
                runtime().block_on(async {
                    for _ in 0..calls {
                        client.clone().oneshot(()).await.unwrap_err();
                        let _place = limiter.try_acquire();
                        client.clone().oneshot(()).await.unwrap_err();
                    }
                });
            });
        }
        drop(events);
        barrier.wait();
        // The clock advances while the calls run, so that the counts are delivered in many intervals.
        runtime().block_on(async {
            let delivery = tokio::spawn(delivery.run());
            while !delivery.is_finished() {
                sleep(ms(1)).await;
            }
        });
    });
    let all = 3 * calls;
    assert_eq!(sums.map(|sum| sum.load(Relaxed)), [all, 2 * all, all, all]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_dropped_at_any_await_leaves_the_rest_to_the_next() {
    const CHANGES: usize = 300;
    // Each change has its own state name.
    let names: [&'static str; CHANGES] = std::array::from_fn(|index| &*index.to_string().leak());
    for polls in 1..12 {
        let (notes, switch) = (Notes::default(), Switch::default());
        let (events, first) = noting(&notes).build(secs(1)).unwrap();
        let limiter = Limiter::fixed(1).unwrap();
        let _place = limiter.try_acquire_owned().unwrap();
        let client = steadfast::client().observe("payments", events.clone()).own_circuit_breaker(switch.clone());
        let client = client.load_shed(limiter.clone()).service(answers()).unwrap();
        let mut next = Some(first);
        let (mut changes, mut refusals) = (Vec::new(), 0);
        let mut sort = |told: Vec<String>| {
            for line in told {
                match line.strip_prefix("payments: load_shed limit ") {
                    Some(counts) => refusals += counts.split(' ').next().unwrap().parse::<usize>().unwrap(),
                    None => changes.push(line.rsplit("> ").next().unwrap().split(',').next().unwrap().to_owned()),
                }
            }
        };
        for piece in names.chunks(100) {
            for name in piece {
                switch.change("", name);
                client.clone().oneshot(()).await.unwrap_err();
            }
            let delivery = next.take().unwrap_or_else(|| events.delivery());
            let mut run = Box::pin(delivery.run());
            for _ in 0..polls {
                let _ = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                advance(ms(400)).await;
            }
            drop(run);
            sort(notes.take());
        }
        let last = events.delivery();
        drop((client, events));
        last.run().await;
        sort(notes.take());
        assert_eq!((changes, refusals), (names.map(str::to_owned).to_vec(), CHANGES), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_delivery_the_oldest_changes_are_dropped_and_counted() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let (events, delivery) = noting(&notes).build(secs(1)).unwrap();
    let client = steadfast::client().observe("payments", events).own_circuit_breaker(switch.clone());
    let client = client.service(answers()).unwrap();
    for _ in 0..1500 {
        switch.change("a", "b");
        switch.change("b", "a");
    }
    switch.change("a", "last");
    drop(client);
    delivery.run().await;
    let told = notes.take();
    assert_eq!(told.len(), 1024);
    assert_eq!(told[0], "payments: circuit_breaker b > a, as the test says after 1977");
    assert_eq!(told[1], "payments: circuit_breaker a > b, as the test says");
    assert_eq!(told[1023], "payments: circuit_breaker a > last, as the test says");
}

#[test]
fn a_delivery_in_another_runtime_continues_when_the_first_runtime_ends() {
    let (notes, switch) = (Notes::default(), Switch::default());
    let (events, delivery) = noting(&notes).build(secs(1)).unwrap();
    let stack = steadfast::client().observe("payments", events.clone()).own_circuit_breaker(switch.clone());
    let stack = stack.service(answers()).unwrap();
    let (first, second) = (runtime(), runtime());
    first.spawn(delivery.run());
    switch.change("a", "b");
    first.block_on(async { sleep(ms(1)).await });
    assert_eq!(notes.take().len(), 1);
    // The second delivery waits until the first one ends.
    let waiting = second.spawn(events.delivery().run());
    drop(events);
    switch.change("b", "c");
    second.block_on(async { sleep(secs(5)).await });
    assert_eq!(notes.take(), [""; 0]);
    drop(first);
    second.block_on(async { sleep(ms(1)).await });
    assert_eq!(notes.take(), ["payments: circuit_breaker b > c, as the test says"]);
    drop(stack);
    second.block_on(waiting).unwrap();
}

#[test]
fn a_function_that_blocks_delays_only_the_delivery() {
    let (switch, (begun, has_begun), (go, may_go)) = (Switch::default(), mpsc::channel(), mpsc::channel::<()>());
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    let (events, delivery) = Events::builder()
        .on_transition(move |_, _| {
            if count.fetch_add(1, Relaxed) == 0 {
                begun.send(()).unwrap();
                may_go.recv().unwrap();
            }
        })
        .build(secs(1))
        .unwrap();
    let client = steadfast::client().observe("payments", events).own_circuit_breaker(switch.clone());
    let client = client.service(answers()).unwrap();
    let delivery = thread::spawn(|| runtime().block_on(delivery.run()));
    switch.change("a", "b");
    has_begun.recv().unwrap();
    for _ in 0..100 {
        switch.change("b", "a");
        let mut call = pin!(client.clone().oneshot(()));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    assert_eq!(told.load(Relaxed), 1);
    drop(client);
    go.send(()).unwrap();
    delivery.join().unwrap();
    assert_eq!(told.load(Relaxed), 101);
}
