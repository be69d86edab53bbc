//! A change during a call's pass through the gates. The change ends before the pass, and the call restarts its pass.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::{pending, ready},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
};
use steadfast::{
    CallContext, Outcome, Rejection,
    circuit_breaker::Breaker,
    load_shed::Limiter,
    rate_limit::{Quota, RateLimit, TokenBucket},
    retry::{Backoff, Jitter, Retry},
    shell::{
        Admission, Begin, Decision, Describe, DescribeAdmission, End, Ending, Explanation, Frame, Observed, Observer,
        Stamp,
    },
    stack::live::{BreakerConfig, Control, Forced, LoadShedConfig, RetryConfig, StackConfig},
    stack::{admission, gate},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Stopwatch, ms, secs};

/// A cost function that applies configurations while a call is at the gates. Each time the stack asks for a cost is one
/// question. Holds the control, and the configuration to apply at a question, by the number of the question.
#[derive(Clone, Default)]
struct Meanwhile(Arc<Mutex<(Option<Control>, HashMap<usize, StackConfig>)>>, Arc<AtomicUsize>);

impl Meanwhile {
    fn lock(&self) -> MutexGuard<'_, (Option<Control>, HashMap<usize, StackConfig>)> {
        self.0.lock().unwrap()
    }

    fn by(&self, control: &Control) {
        self.lock().0 = Some(control.clone());
    }

    fn at(&self, question: usize, config: StackConfig) {
        self.lock().1.insert(question, config);
    }

    /// Returns the cost of a call. The stack asks for it within the call's pass. If there is a configuration for this
    /// question, another thread applies it first, and this thread waits for the other.
    fn cost(&self) -> u64 {
        let question = 1 + self.1.fetch_add(1, Ordering::Relaxed);
        let (control, next) = {
            let mut inside = self.lock();
            (inside.0.clone(), inside.1.remove(&question))
        };
        if let (Some(control), Some(config)) = (control, next) {
            thread::spawn(move || control.apply(&config).unwrap()).join().unwrap();
        }
        1
    }

    /// Returns the number of questions, and starts to count again at zero.
    fn asked(&self) -> usize {
        self.1.swap(0, Ordering::Relaxed)
    }
}

pub fn open() -> StackConfig {
    StackConfig::default()
}

pub fn circuit_open() -> StackConfig {
    let forced = BreakerConfig { forced: Some(Forced::Open), ..BreakerConfig::default() };
    StackConfig { circuit_breaker: Some(forced), ..open() }
}

#[tokio::test(start_paused = true)]
async fn a_call_at_the_gates_restarts_and_is_judged_by_one_configuration() {
    let (breaker, limiter) = (Breaker::builder().build().unwrap(), Limiter::fixed(2).unwrap());
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(10)).build().unwrap();
    let (meanwhile, reached) = (Meanwhile::default(), Arc::new(AtomicU32::new(0)));
    let cost = meanwhile.clone();
    let (layer, control) = steadfast::client()
        .timeout(secs(60))
        .retry(Retry::new(1))
        .circuit_breaker(breaker.clone())
        .rate_limit(RateLimit::new(bucket.clone()).cost(move |_: &u32| cost.cost()))
        .load_shed(limiter.clone())
        .attempt_timeout(secs(6))
        .live()
        .unwrap();
    meanwhile.by(&control);
    let counted = reached.clone();
    let stack = layer.layer(service_fn(move |n: u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<_, Infallible>(n))
    }));
    let full = |limit| StackConfig { load_shed: Some(LoadShedConfig::new(limit)), ..open() };
    let held = limiter.try_acquire().unwrap();

    // By the first configuration the limit is reached; by the second the circuit is open. A call would pass if it saw
    // the circuit of the first and the limit of the second.
    control.apply(&full(1)).unwrap();
    meanwhile.at(1, circuit_open());
    let error = stack.clone().oneshot(7).await.unwrap_err();
    assert!(matches!(error.rejection(), Some(Rejection::CircuitOpen(_))), "{error:?}");
    // Before it restarted, the call had a token and a place. It returned both.
    assert_eq!((meanwhile.asked(), limiter.in_flight(), bucket.available_at(Instant::now())), (1, 1, 10));
    assert_eq!(reached.load(Ordering::Relaxed), 0);

    // All three configurations admit the call. It restarts twice, and takes only one token.
    control.apply(&open()).unwrap();
    meanwhile.at(1, full(5));
    meanwhile.at(2, full(4));
    assert_eq!(stack.clone().oneshot(8).await.unwrap(), 8);
    assert_eq!((meanwhile.asked(), limiter.in_flight(), bucket.available_at(Instant::now())), (3, 1, 9));
    assert_eq!((control.config().load_shed, reached.load(Ordering::Relaxed)), (Some(LoadShedConfig::new(4)), 1));

    // One gate refuses the call, and therefore one configuration. The call does not restart.
    control.apply(&open()).unwrap();
    meanwhile.at(1, full(1));
    let error = stack.clone().oneshot(9).await.unwrap_err();
    assert!(matches!(error.rejection(), Some(Rejection::Overloaded(_))), "{error:?}");
    assert_eq!((meanwhile.asked(), bucket.available_at(Instant::now())), (1, 9));
    drop(held);
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_restarts_has_the_settings_of_the_configuration_that_admits_it() {
    let meanwhile = Meanwhile::default();
    let cost = meanwhile.clone();
    let bucket = TokenBucket::with_quota(Quota::new(100, secs(1))).build().unwrap();
    let (layer, control) = steadfast::server()
        .rate_limit(RateLimit::new(bucket).cost(move |(): &()| cost.cost()))
        .timeout(secs(2))
        .live()
        .unwrap();
    meanwhile.by(&control);
    meanwhile.at(1, StackConfig { timeout: Some(secs(7)), ..open() });
    let watch = Stopwatch::start();
    let hangs = layer.layer(service_fn(async |()| pending::<Result<(), Infallible>>().await));
    hangs.clone().oneshot(()).await.unwrap_err();
    assert_eq!((watch.read(), meanwhile.asked()), (secs(7), 2));

    // A call that restarts also keeps the deadline of its caller.
    meanwhile.at(1, StackConfig { timeout: Some(secs(9)), ..open() });
    let watch = Stopwatch::start();
    let soon = CallContext::default().with_deadline(Instant::now() + secs(3));
    soon.scope(hangs.oneshot(())).await.unwrap_err();
    assert_eq!((watch.read(), meanwhile.asked()), (secs(3), 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_restarts_keeps_its_settings_to_its_end() {
    let (meanwhile, tries) = (Meanwhile::default(), Arc::new(AtomicU32::new(0)));
    let (cost, counted) = (meanwhile.clone(), tries.clone());
    let bucket = TokenBucket::with_quota(Quota::new(100, secs(1))).build().unwrap();
    let waits = Backoff::fixed(secs(1)).jitter(Jitter::None);
    let (layer, control) = steadfast::client()
        .retry(Retry::new(2).backoff(waits).without_budget())
        .rate_limit(RateLimit::new(bucket).cost(move |(): &()| cost.cost()))
        .live()
        .unwrap();
    meanwhile.by(&control);
    meanwhile.at(1, StackConfig { retry: Some(RetryConfig { backoff: waits, ..RetryConfig::new(4) }), ..open() });
    let failing = service_fn(move |()| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Err::<(), _>(std::io::Error::other("failed")))
    });
    let watch = Stopwatch::start();
    layer.layer(failing).oneshot(()).await.unwrap_err();
    assert_eq!((tries.load(Ordering::Relaxed), watch.read()), (4, secs(3)));
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_at_the_gates_restarts() {
    let (meanwhile, tries) = (Meanwhile::default(), Arc::new(AtomicU32::new(0)));
    let (limiter, cost, counted) = (Limiter::fixed(3).unwrap(), meanwhile.clone(), tries.clone());
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1_000)).with_burst(10)).build().unwrap();
    let waits = Backoff::fixed(ms(10)).jitter(Jitter::None);
    let (layer, control) = steadfast::client()
        .timeout(secs(60))
        .retry(Retry::new(3).backoff(waits).without_budget())
        .circuit_breaker(Breaker::builder().consecutive_failures(9).build().unwrap())
        .rate_limit(RateLimit::new(bucket.clone()).cost(move |(): &()| cost.cost()))
        .load_shed(limiter.clone())
        .live()
        .unwrap();
    meanwhile.by(&control);
    let failing = service_fn(move |()| {
        let number = counted.fetch_add(1, Ordering::Relaxed);
        let deadline = steadfast::CallContext::current().deadline();
        assert!(deadline.is_some(), "the attempt inherits the deadline of its call");
        ready(if number == 0 { Err(std::io::Error::other("failed")) } else { Ok(()) })
    });
    // The stack asks five times: once for the first attempt, twice for the prediction whether the second attempt would
    // be refused, and twice for the second attempt. The changes at questions 2 and 4 cause the repetitions.
    meanwhile.at(2, StackConfig { load_shed: Some(LoadShedConfig::new(4)), ..open() });
    meanwhile.at(4, StackConfig { load_shed: Some(LoadShedConfig::new(2)), ..open() });
    layer.layer(failing).oneshot(()).await.unwrap();
    assert_eq!((tries.load(Ordering::Relaxed), limiter.in_flight()), (2, 0));
    assert_eq!((bucket.available_at(Instant::now()), meanwhile.asked()), (8, 5));
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_gives_up_its_place_to_restart() {
    let meanwhile = Meanwhile::default();
    let cost = meanwhile.clone();
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(1)).max_wait(secs(50)).build().unwrap();
    let limit = RateLimit::new(bucket.clone()).wait().cost(move |(): &()| cost.cost());
    let (layer, control) = steadfast::server().rate_limit(limit).live().unwrap();
    meanwhile.by(&control);
    bucket.try_acquire(1).unwrap();
    meanwhile.at(1, StackConfig { switched_off: true, ..open() });
    let error = layer.layer(service_fn(async |()| Ok::<_, Infallible>(()))).oneshot(()).await.unwrap_err();
    assert!(matches!(error.rejection(), Some(Rejection::SwitchedOff(_))), "{error:?}");
    assert_eq!((meanwhile.asked(), bucket.waiting()), (1, 0));
}

/// Records the ends of calls and attempts.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<(Observed, Ending)>>>);

impl Observer for Ends {
    type Watch = Observed;

    fn begin(&self, begin: &Begin) -> Observed {
        begin.observed()
    }

    fn end(&self, observed: Observed, end: &End<'_>) {
        self.0.lock().unwrap().push((observed, end.ending()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_restarts_is_observed_and_stamped_once() {
    struct Count(Arc<AtomicUsize>);

    impl Stamp<u32> for Count {
        fn stamp(&self, _: &mut u32, _: &mut Frame) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let (meanwhile, ends, stamped) = (Meanwhile::default(), Ends::default(), Arc::new(AtomicUsize::new(0)));
    let cost = meanwhile.clone();
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(10)).build().unwrap();
    let own = Limiter::fixed(1).unwrap();
    let (layer, control) = steadfast::client()
        .observe("prices", ends.clone())
        .retry(Retry::new(2))
        .rate_limit(RateLimit::new(bucket.clone()).cost(move |_: &u32| cost.cost()))
        .own_load_shed(gate(own.clone()))
        .stamp(Count(stamped.clone()))
        .live()
        .unwrap();
    meanwhile.by(&control);
    meanwhile.at(1, StackConfig { retry: Some(RetryConfig::new(3)), ..open() });
    assert_eq!(layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n))).oneshot(7).await, Ok(7));
    let success = Ending::Answered(Outcome::Success);
    assert_eq!(*ends.0.lock().unwrap(), [(Observed::Attempt, success), (Observed::Call, success)]);
    assert_eq!((meanwhile.asked(), stamped.load(Ordering::Relaxed)), (2, 1));
    assert_eq!((bucket.available_at(Instant::now()), own.in_flight()), (9, 0));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_in_force_restarts_no_call() {
    let meanwhile = Meanwhile::default();
    let cost = meanwhile.clone();
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(100)).build().unwrap();
    let (layer, control) = steadfast::client()
        .retry(Retry::new(3))
        .rate_limit(RateLimit::new(bucket).cost(move |_: &u32| cost.cost()))
        .live()
        .unwrap();
    meanwhile.by(&control);
    let five = StackConfig { retry: Some(RetryConfig::new(5)), ..open() };
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    for (passes, config) in [(2, &five), (1, &five), (2, &open()), (1, &open())] {
        meanwhile.at(1, config.clone());
        assert_eq!(service.clone().oneshot(7).await, Ok(7));
        assert_eq!(meanwhile.asked(), passes, "{config:?}");
    }
}

/// An admission that lets each call wait, and panics when a call gives up its place. It counts the places given up.
#[derive(Clone, Default)]
struct PanicsWhenLeft(Meanwhile, Arc<AtomicUsize>);

impl<Request, Response, E> Admission<Request, Response, E> for PanicsWhenLeft {
    const READS_DEADLINE: bool = false;

    type Permit = ();
    type Place = ();

    fn admit(&self, _: &Request, _: &mut Frame) -> Decision<(), ()> {
        self.0.cost();
        Decision::Waits(())
    }

    fn poll(&self, (): &mut (), _: &mut Context<'_>, _: &mut Frame) -> Poll<Result<(), Rejection>> {
        Poll::Pending
    }

    fn leave(&self, (): &mut (), _: &mut Frame) {
        self.1.fetch_add(1, Ordering::Relaxed);
        panic!("on demand");
    }

    fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
}

impl DescribeAdmission for PanicsWhenLeft {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        next.describe(explanation);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_whose_owner_panics_is_given_up_once_to_restart() {
    let line = PanicsWhenLeft::default();
    let (layer, control) = steadfast::client().timeout(secs(9)).own_rate_limit(admission(line.clone())).live().unwrap();
    line.0.by(&control);
    line.0.at(1, StackConfig { timeout: Some(secs(7)), ..open() });
    let call = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n))).oneshot(7);
    assert!(tokio::spawn(call).await.unwrap_err().is_panic());
    assert_eq!(line.1.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_the_changes_that_overtake_it_ends_with_the_last_of_them() {
    let meanwhile = Meanwhile::default();
    let cost = meanwhile.clone();
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(100)).build().unwrap();
    let (layer, control) = steadfast::server()
        .rate_limit(RateLimit::new(bucket.clone()).cost(move |_: &u32| cost.cost()))
        .load_shed(Limiter::fixed(8).unwrap())
        .live()
        .unwrap();
    meanwhile.by(&control);
    // In its cost function, the call waits for each change. From the eighth restart on, each change first yields to the
    // call for about a millisecond.
    for question in 1..=40 {
        let limit = LoadShedConfig::new(10 + question % 2);
        meanwhile.at(question, StackConfig { load_shed: Some(limit), ..open() });
    }
    assert_eq!(layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n))).oneshot(7).await, Ok(7));
    assert_eq!((meanwhile.asked(), bucket.available_at(Instant::now())), (41, 99));
}
