//! What observers cost: a client of five layers around a service that is ready at once, alone and observed.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::{
    convert::Infallible,
    future::ready,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    circuit_breaker::Breaker,
    load_shed::Limiter,
    rate_limit::TokenBucket,
    retry::Retry,
    shell::{Begin, End, Observer},
    telemetry::{Metrics, Spans},
};
use support::bench;
use tower::{Service, service_fn};
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

const SECOND: Duration = Duration::from_secs(1);

/// Observes and does nothing, which leaves the cost of the stage.
#[derive(Clone)]
struct Nothing;

impl Observer for Nothing {
    const IS_QUICK: bool = true;

    type Watch = ();

    fn begin(&self, _: &Begin) {}

    fn end(&self, (): (), _: &End<'_>) {}
}

/// Enables everything, and discards it.
struct Discard;

impl Subscriber for Discard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn call<S: Service<u64> + Clone>(service: &S) {
    let mut context = Context::from_waker(Waker::noop());
    let mut service = service.clone();
    let Poll::Ready(_) = black_box(service.poll_ready(&mut context)) else { panic!("a stack is always ready") };
    let future = pin!(service.call(black_box(7)));
    assert!(black_box(future.poll(&mut context)).is_ready());
}

fn observers(criterion: &mut Criterion) {
    let builder = || {
        steadfast::client()
            .timeout(10 * SECOND)
            .retry(Retry::new(3))
            .circuit_breaker(Breaker::builder().failure_rate(0.5, 10 * SECOND).build().unwrap())
            .rate_limit(TokenBucket::builder(1_000_000_000, SECOND).build().unwrap())
            .load_shed(Limiter::fixed(1024).unwrap())
            .attempt_timeout(SECOND)
    };
    let service = || service_fn(|n: u64| ready(Ok::<_, Infallible>(n)));
    let alone = builder().service(service()).unwrap();
    let nothing = builder().observe("five", Nothing).service(service()).unwrap();
    let metrics = builder().observe("five", Metrics::new()).service(service()).unwrap();
    let spans = builder().observe("five", Spans::new()).service(service()).unwrap();
    let both = builder().observe("five", (Metrics::new(), Spans::new())).service(service()).unwrap();
    bench(criterion, "client stack of five", || call(&alone));
    bench(criterion, "observed by one that does nothing", || call(&nothing));
    bench(criterion, "metrics", || call(&metrics));
    bench(criterion, "spans, no subscriber", || call(&spans));
    bench(criterion, "metrics and spans, no subscriber", || call(&both));
    // From here on the subscriber is set for the whole process.
    tracing::subscriber::set_global_default(Discard).unwrap();
    bench(criterion, "client stack of five, beside a subscriber", || call(&alone));
    bench(criterion, "metrics, beside a subscriber", || call(&metrics));
    bench(criterion, "spans, a subscriber that discards", || call(&spans));
    bench(criterion, "metrics and spans, a subscriber that discards", || call(&both));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(SECOND).sample_size(20);
    targets = observers
}
criterion_main!(benches);
