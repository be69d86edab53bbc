//! A stamp on the request of each attempt: its timing, its view of the attempt, and its panics.

use crate::{
    probes::{Events, Holds, every, poll, poll_panics, take},
    support::{Act, Backend, Failed, ms, secs},
};
use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
};
use steadfast::{
    CallContext, Error, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    classify::AnyError,
    load_shed::Limiter,
    rate_limit::TokenBucket,
    shell::{Frame, Leaf, StackLayer, Stamp, TypedError},
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Appends the number and the deadline of the attempt, in milliseconds from the start.
#[derive(Clone)]
struct Numbers {
    start: Instant,
    events: Events,
}

impl Numbers {
    fn new() -> Self {
        Self { start: Instant::now(), events: Events::default() }
    }
}

type Stamped = Vec<(u32, Option<u128>)>;

impl Stamp<Stamped> for Numbers {
    fn stamp(&self, request: &mut Stamped, frame: &mut Frame) {
        assert_eq!(frame.now(), Instant::now());
        self.events.add("stamp");
        let context = CallContext::current();
        request.push((context.attempt(), context.deadline().map(|deadline| (deadline - self.start).as_millis())));
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_stamped_with_its_own_number_and_deadline_and_the_kept_copy_is_not() {
    let sent = Arc::new(Mutex::new(vec![]));
    let noted = sent.clone();
    let service = service_fn(move |request: Stamped| {
        noted.lock().unwrap().push(request);
        async {
            tokio::time::sleep(ms(5)).await;
            Err::<(), _>(Failed)
        }
    });
    let stamp = Numbers::new();
    let client = steadfast::client()
        .timeout(ms(640))
        .retry(every(4, ms(95)))
        .attempt_timeout(ms(500))
        .stamp(stamp.clone())
        .service(service)
        .unwrap();
    client.oneshot(vec![]).await.unwrap_err();
    // The last two attempts have the rest of the whole call's time.
    let expected = [vec![(0, Some(500))], vec![(1, Some(600))], vec![(2, Some(640))], vec![(3, Some(640))]];
    assert_eq!(*sent.lock().unwrap(), expected);
    assert_eq!(stamp.events.take().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_stamped_once_when_the_service_is_ready_for_it() {
    let (stamp, backend) = (Numbers::new(), Backend::always(Act::hang()).ready_for(0));
    let mut client = steadfast::client().stamp(stamp.clone()).service(backend.clone()).unwrap();
    let mut call = Box::pin(client.call(vec![]));
    for _ in 0..3 {
        assert!(poll(&mut call).is_pending());
        assert_eq!(stamp.events.take(), [""; 0]);
    }
    backend.set_ready_for(1);
    for _ in 0..3 {
        assert!(poll(&mut call).is_pending());
    }
    assert_eq!((stamp.events.take().len(), backend.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_code_runs_between_the_stamp_and_the_call() {
    let stamp = Numbers::new();
    let (ready_to, called) = (stamp.events.clone(), stamp.events.clone());
    let service = service_fn(move |_: Stamped| {
        called.add("call");
        ready(Ok::<_, Infallible>(()))
    });
    let service = tower::ServiceBuilder::new()
        .layer_fn(|service| NotesReady { service, events: ready_to.clone() })
        .service(service);
    StackLayer::from_stages(Leaf::new(AnyError).stamp(stamp.clone()), TypedError)
        .layer(service)
        .oneshot(vec![])
        .await
        .unwrap();
    assert_eq!(stamp.events.take(), ["ready", "stamp", "call"]);
}

#[derive(Clone)]
struct NotesReady<S> {
    service: S,
    events: Events,
}

impl<S: Service<Stamped>> Service<Stamped> for NotesReady<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.events.add("ready");
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Stamped) -> S::Future {
        self.service.call(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_and_a_call_of_an_unready_service_are_not_stamped() {
    let (stamp, limiter) = (Numbers::new(), Limiter::fixed(1).unwrap());
    let client =
        || steadfast::client().timeout(ms(50)).load_shed(limiter.clone()).attempt_timeout(ms(20)).stamp(stamp.clone());
    let taken = limiter.try_acquire().unwrap();
    let backend = Backend::always(Act::answer(200));
    client().service(backend.clone()).unwrap().oneshot(vec![]).await.unwrap_err();
    drop(taken);
    client().service(backend.clone().ready_for(0)).unwrap().oneshot(vec![]).await.unwrap_err();
    client().service(backend.broken()).unwrap().oneshot(vec![]).await.unwrap_err();
    assert_eq!(stamp.events.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_stamp_ends_the_attempt_before_the_service_is_called() {
    struct Panics;
    impl Stamp<u32> for Panics {
        fn stamp(&self, _: &mut u32, _: &mut Frame) {
            panic!("a stamp, as the test wants it");
        }
    }
    let holds = Holds::new(Backend::always(Act::answer(200)));
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let bucket = TokenBucket::builder(2, secs(36_000)).build().unwrap();
    let mut client = steadfast::client()
        .retry(every(3, ms(1)))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(holds.limiter.clone())
        .stamp(Panics)
        .service(holds.backend.clone())
        .unwrap();
    let mut call = Box::pin(client.call(1));
    poll_panics(&mut call);
    // The call has returned its permits at once, although its future is kept.
    assert!(holds.nothing());
    assert_eq!((breaker.state(), bucket.available_at(Instant::now())), (BreakerState::Open, 1));
    drop(call);
    assert_eq!((holds.backend.calls(), bucket.available_at(Instant::now())), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_read_again_after_a_slow_stamp() {
    struct Slow;
    impl Stamp<u32> for Slow {
        fn stamp(&self, _: &mut u32, frame: &mut Frame) {
            assert_eq!(frame.now(), Instant::now());
            take(ms(60));
        }
    }
    let mut client =
        steadfast::client().attempt_timeout(ms(50)).stamp(Slow).service(Backend::always(Act::hang())).unwrap();
    // The stamp took all of the attempt's time, so the first poll ends it.
    let mut call = Box::pin(client.call(1));
    let std::task::Poll::Ready(Err(Error::Rejected(Rejection::TimedOut(_)))) = poll(&mut call) else {
        panic!("the attempt goes on")
    };
    // Here the service becomes ready after 1 s. The stamp sees the time at which the service is ready.
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let mut client = steadfast::client().attempt_timeout(secs(5)).stamp(Slow).service(backend.clone()).unwrap();
    let mut call = Box::pin(client.call(1));
    assert!(poll(&mut call).is_pending());
    advance(secs(1)).await;
    backend.set_ready_for(1);
    assert!(poll(&mut call).is_ready());
}
