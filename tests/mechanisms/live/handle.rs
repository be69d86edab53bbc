//! A configuration is applied as a whole or not at all, and a missing part is as built.

use crate::support::{ms, secs};
use futures::FutureExt;
use std::{cell::RefCell, rc::Rc};
use steadfast::{
    ConfigError,
    circuit_breaker::{Breaker, BreakerState},
    load_level::{Discipline, Queue},
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, SlidingWindow, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget},
    stack::live::{
        BreakerConfig, BudgetConfig, Control, FailureRate, Forced, LoadLevelConfig, LoadShedConfig, Pace,
        RateLimitConfig, RetryConfig, SlowCallRate, StackConfig,
    },
};
use tokio::time::Instant;

fn quota(count: u64) -> Quota {
    Quota::new(count, secs(1))
}

/// A client with every mechanism, and with two rate limits.
fn client() -> (Control, Breaker, Limiter, RetryBudget, TokenBucket) {
    let (breaker, limiter) = (Breaker::builder().build().unwrap(), Limiter::fixed(10).unwrap());
    let (budget, bucket) =
        (RetryBudget::builder().build().unwrap(), TokenBucket::with_quota(quota(10)).build().unwrap());
    let window = RateLimit::new(SlidingWindow::builder(100, secs(60)).build().unwrap());
    let (_, control) = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(2).budget(budget.clone()))
        .circuit_breaker(breaker.clone())
        .rate_limit(window.and(RateLimit::new(bucket.clone())))
        .load_shed(limiter.clone())
        .attempt_timeout(secs(1))
        .classify(|_: Result<&(), &()>| steadfast::Outcome::Success)
        .live()
        .unwrap();
    (control, breaker, limiter, budget, bucket)
}

#[test]
fn each_given_part_is_in_force_and_a_missing_part_is_as_built() {
    let (control, breaker, limiter, budget, bucket) = client();
    let built = control.config();
    assert_eq!(&built, control.built());

    let told = StackConfig {
        switched_off: true,
        timeout: Some(secs(20)),
        retry: Some(RetryConfig {
            attempts: 3,
            backoff: Backoff::exponential(ms(10), ms(20)),
            max_hint: secs(11),
            budget: Some(BudgetConfig { ratio: 0.2, cap: 5, floor: None }),
        }),
        circuit_breaker: Some(BreakerConfig {
            consecutive_failures: Some(7),
            failure_rate: Some(FailureRate { rate: 0.25, window: secs(3) }),
            slow_call_rate: Some(SlowCallRate { rate: 0.75, threshold: secs(2) }),
            minimum_calls: 4,
            open_for: secs(8),
            max_open_for: Some(secs(80)),
            probes: 2,
            probe_timeout: secs(9),
            cancelled_is_failure_after: Some(secs(4)),
            overload_is_failure: true,
            forced: Some(Forced::Open),
        }),
        rate_limit: vec![
            RateLimitConfig { quotas: vec![Quota::new(50, secs(60))], shadow: true },
            RateLimitConfig::new([quota(20).with_burst(5)]),
        ],
        load_shed: Some(LoadShedConfig { limit: 4, shadow: true }),
        load_level: None,
        attempt_timeout: Some(secs(2)),
    };
    control.apply(&told).unwrap();
    assert_eq!(control.config(), told);
    assert_eq!((limiter.limit(), breaker.state()), (4, BreakerState::ForcedOpen));
    assert_eq!(bucket.quota(), quota(20).with_burst(5));
    assert!(budget.balance() <= 5.0);
    let explained = control.explain().to_string();
    for text in ["kill switch", "timeout: 20s", "up to 3 attempts", "(shadow)", "attempt timeout: 2s"] {
        assert!(explained.contains(text), "{text} in {explained}");
    }

    control.apply(&StackConfig::default()).unwrap();
    assert_eq!(control.config(), built);
    assert_eq!((limiter.limit(), breaker.state()), (10, BreakerState::Closed));
}

#[test]
fn a_server_takes_a_configuration_of_its_tiers_and_its_queue() {
    let keyed = Keyed::<str>::builder(100, quota(1)).tiers([quota(2)], |key| key.len() % 2).build().unwrap();
    let queue = Queue::builder(4, 8).build().unwrap();
    let (_, control) = steadfast::server()
        .rate_limit(RateLimit::by_key_ref(keyed.clone(), |key: &String| key.as_str()))
        .load_level(queue.clone())
        .live()
        .unwrap();
    let level = LoadLevelConfig {
        concurrency: 2,
        depth: 3,
        max_weight: Some(5),
        max_wait: secs(2),
        discipline: Discipline::adaptive(),
        pace: Some(Pace { count: 3, period: secs(1) }),
    };
    let told = StackConfig {
        rate_limit: vec![RateLimitConfig::new([quota(7), quota(8)])],
        load_level: Some(level.clone()),
        ..StackConfig::default()
    };
    control.apply(&told).unwrap();
    assert_eq!(control.config(), told);
    assert_eq!((keyed.quota(0), keyed.quota(1), queue.configuration()), (quota(7), quota(8), level));
}

#[test]
fn an_invalid_configuration_is_refused_as_a_whole() {
    let (control, _, limiter, _, bucket) = client();
    bucket.try_acquire(4).unwrap();
    let before = control.config();
    let base = StackConfig { load_shed: Some(LoadShedConfig::new(3)), switched_off: true, ..StackConfig::default() };
    let with = |change: &dyn Fn(&mut StackConfig)| {
        let mut config = base.clone();
        change(&mut config);
        config
    };
    let breaker =
        |rate| BreakerConfig { failure_rate: Some(FailureRate { rate, window: secs(1) }), ..BreakerConfig::default() };
    let window = RateLimitConfig::new([Quota::new(100, secs(60))]);
    let limits = |second: RateLimitConfig| vec![window.clone(), second];
    let late = Backoff::exponential(secs(200), secs(200)).jitter(Jitter::None);
    let greedy = Some(BudgetConfig { ratio: 1.5, ..BudgetConfig::default() });
    let cases: Vec<(&str, StackConfig)> = vec![
        ("timeout", with(&|config| config.timeout = Some(ms(0)))),
        ("timeout", with(&|config| config.timeout = Some(ms(1)))),
        ("attempt_timeout", with(&|config| config.attempt_timeout = Some(std::time::Duration::MAX))),
        ("timeout", with(&|config| config.attempt_timeout = Some(secs(100)))),
        ("timeout", with(&|config| config.retry = Some(RetryConfig { backoff: late, ..RetryConfig::new(2) }))),
        (
            "retry.budget.ratio",
            with(&|config| config.retry = Some(RetryConfig { budget: greedy.clone(), ..RetryConfig::new(2) })),
        ),
        ("retry.attempts", with(&|config| config.retry = Some(RetryConfig::new(0)))),
        ("circuit_breaker.failure_rate.rate", with(&|config| config.circuit_breaker = Some(breaker(f64::NAN)))),
        ("load_level", with(&|config| config.load_level = Some(LoadLevelConfig::new(1, 1)))),
        ("load_shed.limit", with(&|config| config.load_shed = Some(LoadShedConfig::new(0)))),
        ("rate_limit", with(&|config| config.rate_limit = vec![window.clone()])),
        ("rate_limit.quotas", with(&|config| config.rate_limit = limits(RateLimitConfig::new([quota(1), quota(2)])))),
        ("rate_limit.count", with(&|config| config.rate_limit = limits(RateLimitConfig::new([quota(0)])))),
        (
            "rate_limit.period",
            with(&|config| {
                config.rate_limit = vec![RateLimitConfig::new([quota(9)]), RateLimitConfig::new([quota(9)])];
            }),
        ),
    ];
    for (field, config) in cases {
        let checked: ConfigError = control.check(&config).unwrap_err();
        assert_eq!(checked.field(), field, "{checked}");
        assert_eq!(control.apply(&config).unwrap_err(), checked);
    }
    assert_eq!(control.config(), before);
    assert_eq!((limiter.limit(), bucket.available_at(Instant::now())), (10, 6));
}

#[test]
fn a_stack_without_a_budget_refuses_a_configuration_of_one() {
    let (_, control) = steadfast::client()
        .retry(Retry::new(2).without_budget())
        .classify(|_: Result<&(), &()>| steadfast::Outcome::Success)
        .live()
        .unwrap();
    let retry = RetryConfig { budget: Some(BudgetConfig::default()), ..RetryConfig::new(2) };
    let error = control.apply(&StackConfig { retry: Some(retry), ..StackConfig::default() }).unwrap_err();
    assert_eq!((error.field(), error.rule()), ("retry.budget", "must be left out: the stack was built without it"));
}

/// A user's function that applies a configuration within the pass of a call would overtake that call. The call would
/// restart, and run the function again.
#[test]
fn nothing_is_applied_from_within_a_pass() {
    thread_local! {
        static CONTROL: Rc<RefCell<Option<Control>>> = Rc::default();
    }
    let bucket = TokenBucket::with_quota(quota(100)).build().unwrap();
    let within = RateLimit::new(bucket).cost(|(): &()| {
        let control = CONTROL.with(|control| control.borrow().clone()).unwrap();
        let error = control.apply(&StackConfig::default()).unwrap_err();
        assert_eq!(
            error.rule(),
            "must not be called by code that runs while a call is admitted, or within another change or read"
        );
        1
    });
    let (layer, control) = steadfast::server().rate_limit(within).live().unwrap();
    CONTROL.with(|place| *place.borrow_mut() = Some(control.clone()));
    let service = tower::Layer::layer(&layer, tower::service_fn(async |()| Ok::<_, std::io::Error>(())));
    tower::ServiceExt::oneshot(service, ()).now_or_never().unwrap().unwrap();
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
}

/// A panic in a pass ends the pass: later changes and calls succeed.
#[test]
fn a_panic_in_a_pass_ends_it() {
    let bucket = TokenBucket::with_quota(quota(100)).build().unwrap();
    let panics = RateLimit::new(bucket).cost(|fails: &bool| if *fails { panic!("in a pass") } else { 1 });
    let (layer, control) = steadfast::server().rate_limit(panics).live().unwrap();
    let service = tower::Layer::layer(&layer, tower::service_fn(async |_: bool| Ok::<_, std::io::Error>(())));
    let call = |fails| tower::ServiceExt::oneshot(service.clone(), fails).now_or_never();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(true)));
    assert!(panicked.is_err());
    control.apply(&StackConfig::default()).unwrap();
    call(false).unwrap().unwrap();
}

#[test]
fn a_limit_that_lets_no_call_wait_is_judged_by_the_proposed_limit_and_queue() {
    let (limiter, queue) = (Limiter::fixed(10).unwrap(), Queue::builder(4, 8).build().unwrap());
    let (_, control) = steadfast::server().load_shed(limiter.clone()).load_level(queue.clone()).live().unwrap();
    let propose = |limit, shadow, concurrency| {
        control.check(&StackConfig {
            load_shed: Some(LoadShedConfig { limit, shadow }),
            load_level: Some(LoadLevelConfig::new(concurrency, 8)),
            ..StackConfig::default()
        })
    };
    let error = propose(10, false, 10).unwrap_err();
    assert_eq!(
        error.to_string(),
        "load_shed.limit = 10: must be above 10, the concurrency of the queue behind it, or no call can wait"
    );
    assert!(propose(11, false, 10).is_ok() && propose(10, true, 10).is_ok() && propose(2, false, 1).is_ok());
    // A missing part is as built, whatever a handle has set since then.
    limiter.set_limit(100).unwrap();
    queue.set_concurrency(1).unwrap();
    let level =
        |concurrency| StackConfig { load_level: Some(LoadLevelConfig::new(concurrency, 8)), ..StackConfig::default() };
    assert!(control.check(&level(10)).is_err() && control.check(&level(9)).is_ok());
    let shed = |limit| StackConfig { load_shed: Some(LoadShedConfig::new(limit)), ..StackConfig::default() };
    assert!(control.check(&shed(4)).is_err() && control.check(&shed(5)).is_ok());
}

#[test]
fn a_timeout_below_all_attempts_can_be_applied_and_is_explained() {
    let (_, control) = steadfast::client()
        .timeout(secs(9))
        .retry(Retry::new(3).backoff(Backoff::none()))
        .attempt_timeout(secs(1))
        .live()
        .unwrap();
    control.apply(&StackConfig { timeout: Some(secs(2)), ..StackConfig::default() }).unwrap();
    assert_eq!(control.explain().full_attempts(), Some(2));
    control.apply(&StackConfig::default()).unwrap();
    assert_eq!(control.explain().full_attempts(), None);
}
