//! Limits at instants in the far future. A limit counts in numbers of fixed size, so it has to rebase or renew them
//! after certain times: its horizons. The tests call and read limits beyond each horizon.

use crate::support::secs;
use std::{sync::mpsc, thread, time::Duration};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    error::RateLimited,
    load_level::Queue,
    rate_limit::{Keyed, Quota, RateLimit, SlidingWindow, TokenBucket},
    retry::RetryBudget,
    stack::live::{RateLimitConfig, StackConfig},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Distances into the future, in groups:
///
/// - A second is before every horizon.
/// - 20 minutes, an hour and a day are beyond the 18 minutes after which a bucket moves its anchor. The anchor is the
///   instant from which the bucket counts minted tokens.
/// - 418 days and twice that are beyond one and two renewals of a keyed table. A renewal visits all buckets, every 417
///   days.
/// - After 5, 20 and 500 years, the state of a key may have wrapped if no renewal has visited its bucket.
const HORIZONS: [Duration; 9] = [
    Duration::from_secs(1),
    Duration::from_secs(20 * 60),
    Duration::from_secs(60 * 60),
    DAY,
    DAY.saturating_mul(418),
    DAY.saturating_mul(2 * 418),
    DAY.saturating_mul(5 * 366),
    DAY.saturating_mul(20 * 366),
    DAY.saturating_mul(500 * 366),
];

/// The functions of a limit that the tests call.
trait Limit {
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited>;
    /// Calls all functions that read the limit at an instant.
    fn available(&self, now: Instant) -> u64;
}

impl Limit for TokenBucket {
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, now)
    }

    fn available(&self, now: Instant) -> u64 {
        self.available_at(now)
    }
}

impl Limit for Keyed<u32> {
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.try_acquire_at(&7, tokens, now)
    }

    fn available(&self, now: Instant) -> u64 {
        let available = self.available_at(&7, now);
        assert_eq!(self.live_keys_at(now) > 0, available < 10);
        available
    }
}

impl Limit for SlidingWindow {
    fn take(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, now)
    }

    fn available(&self, now: Instant) -> u64 {
        self.available_at(now)
    }
}

fn quota() -> Quota {
    Quota::new(10, secs(10)).with_burst(10)
}

/// Returns a limit of each kind: ten tokens in ten seconds, and a burst of ten.
fn limits() -> Vec<(&'static str, Box<dyn Limit>)> {
    vec![
        ("token bucket", Box::new(TokenBucket::with_quota(quota()).build().unwrap())),
        ("keyed", Box::new(Keyed::<u32>::builder(100, quota()).build().unwrap())),
        ("strict window", Box::new(SlidingWindow::builder(10, secs(10)).build().unwrap())),
        ("estimated window", Box::new(SlidingWindow::builder(10, secs(10)).estimate().build().unwrap())),
    ]
}

/// Returns a clock that stands still unless a test advances it.
fn standing() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_read_or_a_refusal_at_any_instant_changes_nothing() {
    let clock = standing();
    let _guard = clock.enter();
    for (name, limit) in limits() {
        let now = Instant::now();
        limit.take(10, now).unwrap();
        limit.take(9, now + secs(1)).unwrap_err();
        for horizon in HORIZONS {
            limit.available(now + horizon);
            assert_eq!(limit.available(now), 0, "{name}, read {horizon:?} ahead");
            limit.take(1, now).unwrap_err();
            limit.take(11, now + horizon).unwrap_err();
            assert_eq!(limit.available(now), 0, "{name}, refused {horizon:?} ahead");
            limit.take(1, now).unwrap_err();
        }
    }
}

#[test]
fn a_refusal_beyond_a_horizon_does_not_move_the_anchor() {
    let clock = standing();
    let _guard = clock.enter();
    // The bucket mints a token every 1000 s. Each call in the loop asks for one token too many.
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1000)).with_burst(10)).build().unwrap();
    let now = Instant::now();
    bucket.take(10, now).unwrap();
    for later in [secs(1200), secs(3600), secs(8000)] {
        let there = bucket.available_at(now + later);
        bucket.take(there + 1, now + later).unwrap_err();
        assert_eq!(bucket.available_at(now), 0, "{later:?}");
        bucket.take(1, now + secs(999)).unwrap_err();
    }
    bucket.take(1, now + secs(1000)).unwrap();
}

#[test]
fn a_refusal_does_not_make_a_warming_bucket_cold() {
    let clock = standing();
    let _guard = clock.enter();
    let bucket = TokenBucket::with_quota(quota()).warm_up(secs(10)).build().unwrap();
    let now = Instant::now();
    bucket.take(1, now).unwrap();
    // At 60 s the bucket is cold again and holds one token. The refusal of two tokens must not start another warm-up.
    let (later, there) = (now + secs(60), bucket.available_at(now + secs(12)));
    bucket.take(2, later).unwrap_err();
    assert_eq!(bucket.available_at(now + secs(12)), there);
    assert!(there > 1, "{there}");
}

#[test]
fn a_refused_withdrawal_changes_nothing() {
    let clock = standing();
    let _guard = clock.enter();
    // The budget's floor is a bucket that mints a retry every 5000 s, longer than its horizon of 18 minutes.
    let budget = RetryBudget::builder().ratio(0.0).floor(1, secs(5000)).build().unwrap();
    let now = Instant::now() + secs(10_000);
    assert!(budget.withdraw_at(now).is_some());
    for later in [secs(1200), secs(3600), secs(4999)] {
        assert!(budget.withdraw_at(now + later).is_none());
        assert!(budget.withdraw_at(now).is_none(), "{later:?}");
    }
    assert!(budget.withdraw_at(now + secs(5000)).is_some());
}

#[test]
fn reading_a_breaker_or_a_queue_at_any_instant_changes_nothing() {
    let clock = standing();
    let _guard = clock.enter();
    let breaker = Breaker::builder().failure_rate(0.5, secs(10)).slow_call_rate(0.5, secs(1)).minimum_calls(2);
    let breaker = breaker.build().unwrap();
    let queue = Queue::builder(1, 1).build().unwrap();
    let now = Instant::now();
    breaker.try_acquire_at(now).unwrap().failure_at(now);
    let _place = queue.try_acquire().unwrap();
    let before = queue.readings_at(now);
    for horizon in HORIZONS {
        let later = now + horizon;
        let _ =
            (breaker.counts_at(later), breaker.slow_counts_at(later), breaker.half_open_at(), breaker.free_probes());
        let _ = queue.readings_at(later);
        assert_eq!((breaker.counts_at(now), breaker.slow_counts_at(now)), ((1, 1), (1, 0)), "{horizon:?}");
        assert_eq!(format!("{:?}", queue.readings_at(now)), format!("{before:?}"), "{horizon:?}");
    }
    breaker.try_acquire_at(now).unwrap().failure_at(now);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn beyond_every_horizon_a_limit_is_full_and_works_as_before() {
    for horizon in HORIZONS.into_iter().skip(1) {
        let clock = standing();
        let _guard = clock.enter();
        for (name, limit) in limits() {
            let now = Instant::now();
            limit.take(10, now).unwrap();
            let later = now + horizon;
            assert_eq!(limit.available(later), 10, "{name}, {horizon:?}");
            limit.take(10, later).unwrap();
            limit.take(1, later).unwrap_err();
            // By then a bucket has minted half a burst. A window still counts all ten tokens.
            assert_eq!(limit.available(later + secs(5)) >= 5, name.contains("bucket") || name == "keyed", "{name}");
            limit.take(10, later + secs(20)).unwrap();
        }
    }
}

/// Runs on its own thread, because a deadlock would block the thread forever.
#[test]
fn beyond_every_horizon_a_live_stack_can_be_reconfigured_called_and_read() {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let clock = standing();
        clock.block_on(async {
            for horizon in HORIZONS.into_iter().take(7) {
                reconfigured_behind(horizon).await;
            }
        });
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(secs(20)).expect("it failed or deadlocked");
}

async fn reconfigured_behind(horizon: Duration) {
    let keyed = Keyed::<u32>::builder(100, quota()).build().unwrap();
    let limit = RateLimit::by_key(keyed.clone(), |key: &u32| *key);
    let (_layer, control) = steadfast::server().rate_limit(limit).live().unwrap();
    keyed.try_acquire(&7, 10).unwrap();
    advance(horizon).await;
    let quota = Quota::new(20, secs(10)).with_burst(20);
    let config = StackConfig { rate_limit: vec![RateLimitConfig::new([quota])], ..StackConfig::default() };
    control.apply(&config).unwrap();
    assert_eq!(keyed.quota(0), quota);
    keyed.try_acquire(&7, 1).unwrap();
    assert_eq!(keyed.live_keys_at(Instant::now()), 1);
    assert!(keyed.available_at(&7, Instant::now()) < 20);
}
