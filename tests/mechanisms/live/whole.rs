//! No call sees parts of two configurations, and a change loses no permit.

use std::{
    convert::Infallible,
    future::{Pending, Ready, pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};
use steadfast::{
    Error, Rejection,
    circuit_breaker::Breaker,
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{Quota, RateLimit, TokenBucket},
    retry::{Backoff, Retry, RetryBudget},
    stack::live::{
        BreakerConfig, Control, Forced, LoadLevelConfig, LoadShedConfig, RateLimitConfig, RetryConfig, StackConfig,
    },
};
use tower::{Layer, Service, service_fn};

use crate::support::{ms, secs, size};

/// The number of changes in a thorough run. If a pass could see parts of two configurations, a hundred would be enough
/// for a failure.
const CHANGES: usize = 1_000;
const CALLERS: usize = 3;

const PLENTY: Quota = Quota::new(1_000_000_000, Duration::from_secs(1));
/// A call costs two tokens, and the bucket never holds more than one, so no call passes.
const NONE: Quota = Quota::new(1, Duration::from_secs(1)).with_burst(1);

/// The service counts the calls, and holds the first.
type Call = futures::future::Either<Pending<Result<(), Infallible>>, Ready<Result<(), Infallible>>>;

fn service(
    reached: Arc<AtomicUsize>,
) -> impl Service<(), Response = (), Error = Infallible, Future = Call> + Clone + Send {
    service_fn(move |()| match reached.fetch_add(1, Ordering::Relaxed) {
        0 => futures::future::Either::Left(pending()),
        _ => futures::future::Either::Right(ready(Ok(()))),
    })
}

/// Each configuration refuses all calls at one gate, and opens all other gates. A call that sees parts of two
/// configurations reaches the service.
fn no_call_passes_while_changing<S>(stack: S, reached: &AtomicUsize, control: &Control, configs: &[StackConfig])
where
    S: Service<(), Response = (), Error = Error<Infallible>> + Clone + Send,
{
    // The call's timeout needs a timer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _runtime = runtime.enter();
    // The first call holds its places, so that the gates that count calls are full with one place.
    let mut first = stack.clone();
    let mut first = pin!(first.call(()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());

    control.apply(&configs[0]).unwrap();
    let refusals: Vec<AtomicUsize> = configs.iter().map(|_| AtomicUsize::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut stack in vec![stack; CALLERS] {
            let (done, refusals) = (&done, &refusals);
            scope.spawn(move || {
                let mut cx = Context::from_waker(Waker::noop());
                while !done.load(Ordering::Relaxed) {
                    let call = pin!(stack.call(()));
                    let Poll::Ready(Err(Error::Rejected(rejection))) = call.poll(&mut cx) else {
                        done.store(true, Ordering::Relaxed);
                        panic!("a call passed the gates")
                    };
                    let gate = match rejection {
                        Rejection::SwitchedOff(_) => 0,
                        Rejection::RateLimited(_) => 1,
                        Rejection::Overloaded(_) => 2,
                        Rejection::QueueFull(_) | Rejection::CircuitOpen(_) => 3,
                        other => panic!("{other}"),
                    };
                    refusals[gate].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let refused = || refusals.iter().map(|count| count.load(Ordering::Relaxed)).sum::<usize>();
        let mut random: u32 = 1;
        for change in 0..size(200, CHANGES) {
            // In an order that does not repeat soon (the constants are from "Numerical Recipes").
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            control.apply(&configs[(random >> 16) as usize % configs.len()]).unwrap();
            // After every second change, waits until the stack has refused at least one more call.
            let before = refused();
            while change % 2 == 0 && refused() == before && !done.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            if done.load(Ordering::Relaxed) {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(reached.load(Ordering::Relaxed), 1, "a call reached the service");
    let refusals: Vec<usize> = refusals.into_iter().map(AtomicUsize::into_inner).collect();
    assert!(refusals.iter().all(|refused| *refused > 0), "each gate refused some calls: {refusals:?}");
}

fn open() -> StackConfig {
    StackConfig {
        rate_limit: vec![RateLimitConfig::new([PLENTY])],
        load_shed: Some(LoadShedConfig::new(1_000)),
        ..StackConfig::default()
    }
}

fn bucket() -> RateLimit<TokenBucket, impl steadfast::rate_limit::Cost<()> + Clone> {
    RateLimit::new(TokenBucket::with_quota(PLENTY).build().unwrap()).cost(|(): &()| 2)
}

#[test]
fn a_server_call_sees_one_configuration() {
    let (limiter, queue) = (Limiter::fixed(2_000).unwrap(), Queue::builder(1_000, 1_000).build().unwrap());
    let reached = Arc::new(AtomicUsize::new(0));
    let (layer, control) = steadfast::server()
        .rate_limit(bucket())
        .load_shed(limiter.clone())
        .load_level(steadfast::load_level::LoadLevel::new(queue.clone()).weight(|(): &()| 2))
        .timeout(secs(60))
        .live()
        .unwrap();

    let open = StackConfig {
        load_shed: Some(LoadShedConfig::new(2_000)),
        load_level: Some(LoadLevelConfig::new(1_000, 1_000)),
        ..open()
    };
    // The first call and `held` are two calls in flight: the limit is reached, and the queue behind it is not full.
    let held = limiter.try_acquire().unwrap();
    let shed = StackConfig {
        load_shed: Some(LoadShedConfig::new(2)),
        load_level: Some(LoadLevelConfig::new(1, 1_000)),
        ..open.clone()
    };
    // The only place is taken, and no call with a weight above 1 may wait.
    let full = LoadLevelConfig { max_weight: Some(1), ..LoadLevelConfig::new(1, 1) };
    let configs = [
        StackConfig { switched_off: true, ..open.clone() },
        StackConfig { rate_limit: vec![RateLimitConfig::new([NONE])], ..open.clone() },
        shed,
        StackConfig { load_level: Some(full), ..open },
    ];
    no_call_passes_while_changing(layer.layer(service(reached.clone())), &reached, &control, &configs);
    drop(held);
    assert_eq!((limiter.in_flight(), queue.in_service(), queue.readings().waiting), (0, 0, 0));
}

#[test]
fn a_client_call_sees_one_configuration() {
    let (limiter, breaker) = (Limiter::fixed(1_000).unwrap(), Breaker::builder().build().unwrap());
    let reached = Arc::new(AtomicUsize::new(0));
    let (layer, control) = steadfast::client()
        .timeout(secs(600))
        .retry(Retry::new(3))
        .circuit_breaker(breaker)
        .rate_limit(bucket())
        .load_shed(limiter.clone())
        .attempt_timeout(secs(60))
        .live()
        .unwrap();

    let forced = BreakerConfig { forced: Some(Forced::Open), ..BreakerConfig::default() };
    let configs = [
        StackConfig { switched_off: true, ..open() },
        // No wait helps against this refusal, so it has no `retry_after`, and no retry waits for it.
        StackConfig { rate_limit: vec![RateLimitConfig::new([NONE])], ..open() },
        StackConfig { load_shed: Some(LoadShedConfig::new(1)), ..open() },
        StackConfig { circuit_breaker: Some(forced), ..open() },
    ];
    no_call_passes_while_changing(layer.layer(service(reached.clone())), &reached, &control, &configs);
    assert_eq!(limiter.in_flight(), 0);
}

/// Calls that succeed, fail, are refused, time out and are dropped, on many threads, while every limit changes.
#[test]
fn a_thousand_changes_of_every_limit_lose_no_permit() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let budget = RetryBudget::builder().build().unwrap();
    let (limiter, breaker) = (Limiter::fixed(8).unwrap(), Breaker::builder().open_for(ms(1)).build().unwrap());
    let bucket = TokenBucket::with_quota(PLENTY).build().unwrap();
    let queue = Queue::builder(4, 8).build().unwrap();
    let inside = Arc::new(AtomicUsize::new(0));

    let (server, upstream) = steadfast::server()
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .load_level(queue.clone())
        .timeout(ms(20))
        .live()
        .unwrap();
    let client_limiter = Limiter::fixed(8).unwrap();
    let (client, downstream) = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).budget(budget.clone()))
        .circuit_breaker(breaker.clone())
        .rate_limit(TokenBucket::with_quota(PLENTY).build().unwrap())
        .load_shed(client_limiter.clone())
        .attempt_timeout(ms(10))
        .live()
        .unwrap();
    let backend = service_fn({
        let inside = inside.clone();
        move |n: u64| {
            let inside = Inside::enter(&inside);
            async move {
                let _inside = inside;
                for _ in 0..n % 4 {
                    tokio::task::yield_now().await;
                }
                match n % 97 {
                    0 => tokio::time::sleep(ms(50)).await,
                    1..4 => return Err(std::io::Error::other("failed")),
                    _ => {}
                }
                Ok(n)
            }
        }
    });
    let stack = server.layer(client.layer(backend));

    runtime.block_on(async {
        let done = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..24_u64)
            .map(|caller| {
                let (mut stack, done) = (stack.clone(), done.clone());
                tokio::spawn(async move {
                    let mut answers = [0_u64; 2];
                    for n in (caller..).step_by(24) {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let call = stack.call(n);
                        if n % 13 == 0 {
                            // Dropped after its first poll.
                            futures::future::poll_immediate(call).await;
                        } else {
                            answers[usize::from(call.await.is_ok())] += 1;
                        }
                        tokio::task::yield_now().await;
                    }
                    answers
                })
            })
            .collect();
        let changes = tokio::task::spawn_blocking(move || {
            for n in 0..1_000_u64 {
                let quota = Quota::new(1_000 + 977 * (n % 11), secs(1)).with_burst(1 + n % 50);
                let rate_limit = vec![RateLimitConfig { quotas: vec![quota], shadow: n % 5 == 0 }];
                let load_shed = Some(LoadShedConfig { limit: 2 + (n % 16) as usize, shadow: n % 7 == 0 });
                let shared = StackConfig { rate_limit, load_shed, ..StackConfig::default() };
                upstream
                    .apply(&StackConfig {
                        switched_off: n % 19 == 0,
                        timeout: Some(ms(5 + n % 20)),
                        load_level: Some(LoadLevelConfig {
                            max_weight: (n % 3 == 0).then_some(1 + n % 9),
                            max_wait: ms(1 + n % 30),
                            ..LoadLevelConfig::new(1 + (n % 16).min(n % 6) as usize, 1 + (n % 12) as usize)
                        }),
                        ..shared.clone()
                    })
                    .unwrap();
                downstream
                    .apply(&StackConfig {
                        switched_off: n % 23 == 0,
                        timeout: Some(secs(10 + n % 3)),
                        attempt_timeout: Some(ms(1 + n % 15)),
                        retry: Some(RetryConfig {
                            attempts: 1 + (n % 4) as u32,
                            backoff: Backoff::exponential(ms(1), ms(1 + n % 3)),
                            max_hint: ms(n % 5),
                            budget: None,
                        }),
                        circuit_breaker: Some(BreakerConfig {
                            consecutive_failures: (n % 2 == 0).then_some(1 + (n % 5) as u32),
                            minimum_calls: 1 + (n % 20) as u32,
                            probes: 1 + (n % 4) as u32,
                            open_for: ms(1 + n % 4),
                            forced: [None, None, None, Some(Forced::Open), Some(Forced::Closed)][(n % 5) as usize],
                            ..BreakerConfig::default()
                        }),
                        ..shared
                    })
                    .unwrap();
                if n % 10 == 0 {
                    thread::yield_now();
                }
            }
            (upstream, downstream)
        });
        let (upstream, downstream) = changes.await.unwrap();
        done.store(true, Ordering::Relaxed);
        let mut answers = [0, 0];
        for caller in callers {
            let [refused, answered] = caller.await.unwrap();
            answers = [answers[0] + refused, answers[1] + answered];
        }
        assert!(answers.iter().all(|count| *count > 100), "{answers:?}");

        assert_eq!(inside.load(Ordering::Relaxed), 0);
        assert_eq!((limiter.in_flight(), client_limiter.in_flight()), (0, 0));
        assert_eq!((queue.in_service(), queue.readings().waiting, bucket.waiting()), (0, 0, 0));

        // The built configuration is in force again, and calls pass: no probe and no place is missing.
        upstream.apply(&StackConfig::default()).unwrap();
        downstream.apply(&StackConfig::default()).unwrap();
        assert_eq!((&upstream.config(), &downstream.config()), (upstream.built(), downstream.built()));
        breaker.reset();
        tokio::time::sleep(ms(20)).await;
        assert_eq!(bucket.available_at(tokio::time::Instant::now() + secs(2)), PLENTY.burst());
        let held: Vec<_> = (0..8).map(|_| limiter.try_acquire().unwrap()).collect();
        assert!(limiter.try_acquire().is_err());
        drop(held);
        let places: Vec<_> = (0..4).map(|_| queue.try_acquire().unwrap()).collect();
        assert!(queue.try_acquire().is_none());
        drop(places);
        let mut stack = stack.clone();
        assert_eq!(stack.call(4).await.unwrap(), 4);
        assert!(budget.balance() <= 10.0);
    });
}

/// A call in the service.
struct Inside(Arc<AtomicUsize>);

impl Inside {
    fn enter(inside: &Arc<AtomicUsize>) -> Self {
        inside.fetch_add(1, Ordering::Relaxed);
        Self(inside.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
