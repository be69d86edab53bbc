//! Before a retry waits, it asks each inner limit for a forecast: whether the limit would refuse the next attempt when
//! it is due. The forecast matches what the limit then does, if no other call comes.

use crate::support::{Act, Backend, Failed, ms, secs};
use futures::FutureExt;
use proptest::prelude::*;
use std::time::Duration;
use steadfast::{
    CallContext, Error,
    rate_limit::{Cost, DescribeLimit, Keyed, Limit, Overflow, Quota, RateLimit, SlidingWindow, TokenBucket},
    retry::{Backoff, Jitter, Retry},
};
use tokio::{
    runtime,
    time::{Instant, sleep, sleep_until},
};
use tower::ServiceExt;

const HOUR: Duration = Duration::from_secs(3600);

fn twice(wait: Duration) -> Retry {
    Retry::new(2).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

fn failed() -> Result<u16, Error<Failed>> {
    Err(Error::Service(Failed))
}

fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// The calls at a limit before the tested call, and the tested call. Times are in milliseconds.
#[derive(Clone, Debug)]
struct Case {
    /// The time before each earlier call.
    idle: Vec<u64>,
    /// The backoff before the second attempt of the tested call.
    wait: u64,
    /// The tokens that each call and each attempt costs.
    cost: u64,
}

/// Checks that a failed call is retried exactly if the limit admits the second attempt when it is due.
async fn holds<L, C>(limit: RateLimit<L, C>, case: &Case) -> Result<(), TestCaseError>
where
    L: Limit<u64> + DescribeLimit + Clone,
    C: Cost<u64> + Clone,
{
    let others = steadfast::client().rate_limit(limit.clone()).service(Backend::always(Act::answer(200))).unwrap();
    for idle in &case.idle {
        sleep(ms(*idle)).await;
        let _ = others.clone().oneshot(case.cost).await;
    }
    let (backend, wait) = (Backend::always(Act::fail()), ms(case.wait));
    let stack = steadfast::client().retry(twice(wait)).rate_limit(limit).service(backend.clone()).unwrap();
    let result = stack.oneshot(case.cost).await;
    let first_ended = Instant::now();
    match (result, backend.calls()) {
        (Err(Error::Rejected(_)), 0) => {}
        (Err(Error::Service(Failed)), 2) => {}
        (Err(Error::Service(Failed)), 1) => {
            sleep_until(first_ended + wait).await;
            prop_assert!(others.oneshot(case.cost).await.is_err(), "the attempt would have been admitted");
        }
        (result, calls) => prop_assert!(false, "{result:?} after {calls} calls"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_retry_waits_exactly_if_the_limit_admits_the_attempt_when_it_is_due(
        count in 1..5_u64,
        period in 1..3_000_u64,
        burst in 1..5_u64,
        warm_up in prop_oneof![Just(0_u64), 1..5_000_u64],
        max_wait in 0..3_000_u64,
        idle in prop::collection::vec(prop_oneof![Just(0_u64), 0..4_000_u64], 0..8),
        wait in 1..4_000_u64,
        cost in 0..4_u64,
    ) {
        let case = Case { idle, wait, cost };
        in_virtual_time(async {
            let bucket = || {
                let bucket = TokenBucket::builder(count, ms(period)).burst(burst).warm_up(ms(warm_up));
                RateLimit::new(bucket.max_wait(ms(max_wait)).build().unwrap())
            };
            let keyed = || Keyed::<u64>::builder(10, Quota::new(count, ms(period)).with_burst(burst)).build().unwrap();
            let window = || SlidingWindow::builder(burst, ms(period));
            let cost = |cost: &u64| *cost;
            holds(bucket().cost(cost), &case).await?;
            holds(bucket().count_refused().cost(cost), &case).await?;
            holds(bucket().wait().cost(cost), &case).await?;
            holds(RateLimit::by_key(keyed(), |_: &u64| 7).cost(cost), &case).await?;
            holds(RateLimit::new(window().build().unwrap()).cost(cost), &case).await?;
            holds(RateLimit::new(window().estimate().build().unwrap()).cost(cost), &case).await?;
            holds(bucket().cost(cost).and(RateLimit::new(window().build().unwrap()).cost(cost)), &case).await
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_if_the_wait_queue_is_too_long_for_the_limit_or_for_the_caller() {
    // The first attempt takes the only token. The next token is minted in ten seconds.
    let cases = [
        // The longest wait in the queue, the timeout of the call, and whether the second attempt is made.
        (ms(9998), HOUR, false),
        (ms(9999), HOUR, true),
        (secs(60), secs(10), false),
        (secs(60), ms(10_001), true),
    ];
    for (max_wait, limit, is_made) in cases {
        let bucket = TokenBucket::builder(1, secs(10)).max_wait(max_wait).build().unwrap();
        let backend = Backend::always(Act::fail());
        let waits = || RateLimit::new(bucket.clone()).wait();
        let stack = steadfast::client().timeout(limit).retry(twice(ms(1))).rate_limit(waits());
        let call = stack.service(backend.clone()).unwrap().oneshot(());
        if is_made {
            assert_eq!(call.await, failed());
            assert_eq!(backend.arrivals(), [secs(0), secs(10)], "{max_wait:?}, {limit:?}");
        } else {
            assert_eq!(call.now_or_never().expect("no wait"), failed());
        }

        // With the caller's deadline instead of a timeout.
        sleep(secs(60)).await;
        let backend = Backend::always(Act::fail());
        let stack = steadfast::client().retry(twice(ms(1))).rate_limit(waits()).service(backend.clone()).unwrap();
        let context = CallContext::new().with_deadline(Instant::now() + limit);
        assert_eq!(context.scope(stack.oneshot(())).await, failed());
        assert_eq!(backend.calls(), 1 + usize::from(is_made), "{max_wait:?}, {limit:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_for_a_keyed_limit_without_a_slot_for_its_key() {
    for overflow in [Overflow::Shared, Overflow::Refuse] {
        let quota = Quota::new(1, HOUR).with_burst(2);
        let keyed = Keyed::<u64>::builder(1, quota).overflow(overflow).build().unwrap();
        // Keys that come long after the table was built are as live as early ones.
        sleep(24 * HOUR).await;
        // All slots belong to live keys, and the overflow bucket is empty.
        for key in 0..10_000 {
            let _ = keyed.try_acquire(&key, 2);
        }
        sleep(HOUR).await;
        let backend = Backend::always(Act::fail());
        let by_key = RateLimit::by_key(keyed.clone(), |key: &u64| *key);
        let stack = steadfast::client().retry(twice(ms(1))).rate_limit(by_key).service(backend.clone()).unwrap();
        let result = stack.oneshot(20_000).now_or_never().expect("no wait");
        match overflow {
            // The overflow bucket had one token.
            Overflow::Shared => assert_eq!((result, backend.calls()), (failed(), 1)),
            _ => assert!(matches!(result, Err(Error::Rejected(_)))),
        }
    }
}
