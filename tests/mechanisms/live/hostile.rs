//! Hostile use: reads during changes, changes by code that runs within a call, and configurations that are refused.

use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};
use steadfast::{
    ConfigError, Rejection,
    circuit_breaker::Breaker,
    load_level::{Discipline, LoadLevel, Queue},
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget},
    stack::live::{
        BreakerConfig, BudgetConfig, Control, FailureRate, LoadLevelConfig, LoadShedConfig, Pace, RateLimitConfig,
        RetryConfig, SlowCallRate, StackConfig,
    },
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{ms, secs};

async fn answer((): ()) -> Result<(), Infallible> {
    Ok(())
}

/// A configuration is judged by its own numbers, not by the numbers in force.
#[test]
fn refusals_do_not_depend_on_the_configuration_in_force() {
    let limiter = Limiter::fixed(4).unwrap();
    let server = || {
        let queue = Queue::builder(4, 4).build().unwrap();
        steadfast::server().load_shed(limiter.clone()).load_level(queue)
    };
    assert!(server().live().is_err(), "no call could wait");
    limiter.set_shadow(true);
    let (_layer, control) = server().live().unwrap();
    let limit = |limit| StackConfig { load_shed: Some(LoadShedConfig::new(limit)), ..StackConfig::default() };
    assert!(control.apply(&limit(4)).is_err(), "the limit is in force");
    control.apply(&limit(5)).unwrap();
    control.apply(&control.config()).expect("the configuration in force can be applied again");
    assert!(control.apply(&limit(4)).is_err());
    // The built configuration is always accepted.
    control.apply(&StackConfig::default()).expect("the built configuration is always accepted");

    let (_layer, control) = steadfast::client().timeout(secs(2)).attempt_timeout(secs(1)).live().unwrap();
    let attempt = |attempt| StackConfig { attempt_timeout: Some(attempt), ..StackConfig::default() };
    assert!(control.apply(&attempt(secs(3))).is_err(), "longer than the built timeout");
    control.apply(&StackConfig { timeout: Some(secs(9)), ..attempt(secs(3)) }).unwrap();
    assert!(control.apply(&attempt(secs(3))).is_err(), "the timeout in force does not count");
    control.apply(&StackConfig::default()).unwrap();
}

/// After a wait, a call passes the later gates in a pass of its own. A function that runs in this pass, such as the one
/// for the weight, cannot apply a configuration.
#[tokio::test(start_paused = true)]
async fn a_call_that_has_waited_sees_one_configuration() {
    static CONTROL: OnceLock<Control> = OnceLock::new();
    static APPLIED: Mutex<Vec<Result<(), ConfigError>>> = Mutex::new(Vec::new());
    let bucket = TokenBucket::with_quota(Quota::new(1, secs(1)).with_burst(1)).max_wait(secs(5)).build().unwrap();
    let weight = |(): &()| {
        if let Some(control) = CONTROL.get() {
            let full = StackConfig { load_shed: Some(LoadShedConfig::new(11)), ..StackConfig::default() };
            APPLIED.lock().unwrap().push(control.apply(&full));
        }
        1
    };
    // A queue with a pace asks for the weight of each call, even if the call does not wait.
    let queue = Queue::builder(10, 10).pace(1_000_000, secs(1)).build().unwrap();
    let (layer, control) = steadfast::server()
        .rate_limit(RateLimit::new(bucket).wait())
        .load_shed(Limiter::fixed(20).unwrap())
        .load_level(LoadLevel::new(queue).weight(weight))
        .live()
        .unwrap();
    CONTROL.set(control.clone()).unwrap();
    let stack = layer.layer(service_fn(answer));
    for _ in 0..2 {
        stack.clone().oneshot(()).await.unwrap();
    }
    let applied = std::mem::take(&mut *APPLIED.lock().unwrap());
    assert_eq!(applied.len(), 2);
    assert!(applied.iter().all(Result::is_err), "in a pass, also after a wait: {applied:?}");
    assert_eq!(control.config(), *control.built());
}

/// A reader sees a configuration that was applied, never a mix of two.
#[test]
fn a_configuration_is_read_as_a_whole() {
    let (_layer, control) = steadfast::server()
        .rate_limit(TokenBucket::with_quota(Quota::new(1, secs(1))).build().unwrap())
        .load_shed(Limiter::fixed(2).unwrap())
        .load_level(Queue::builder(1, 1).build().unwrap())
        .timeout(secs(1))
        .live()
        .unwrap();
    let of = |n: u64| StackConfig {
        timeout: Some(secs(n)),
        rate_limit: vec![RateLimitConfig::new([Quota::new(n, secs(1))])],
        load_shed: Some(LoadShedConfig::new(n as usize + 1)),
        load_level: Some(LoadLevelConfig::new(n as usize, 1)),
        ..StackConfig::default()
    };
    let done = AtomicBool::new(false);
    control.apply(&of(1)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (1..=2).cycle().take(20_000) {
                control.apply(&of(n)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut torn = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let config = control.config();
            if config != of(1) && config != of(2) {
                torn.push(config);
            }
            let explained = control.explain().to_string();
            let limits = ["at most 2 in", "at most 3 in"].iter().position(|text| explained.contains(text));
            let timeouts = ["timeout: 1s", "timeout: 2s"].iter().position(|text| explained.contains(text));
            if limits != timeouts {
                torn.push(of(0));
            }
        }
        assert!(torn.is_empty(), "{} torn, such as {:?}", torn.len(), torn.first());
    });
}

/// A waker that runs a function at once, as an executor that polls the task on the spot would. It counts its wake-ups.
struct OnTheSpot<F>(F, AtomicUsize);

impl<F: Fn() + Send + Sync> Wake for OnTheSpot<F> {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        (self.0)();
    }
}

#[test]
fn a_waker_woken_by_a_change_may_call_read_and_change() {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _runtime = runtime.enter();
        let (layer, control) = steadfast::server().load_level(Queue::builder(1, 10).build().unwrap()).live().unwrap();
        let stack = layer.layer(service_fn(|held: bool| async move {
            if held {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(())
        }));
        let mut first = pin!(stack.clone().oneshot(true));
        assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());

        let on_the_spot = {
            let (stack, control) = (stack.clone(), control.clone());
            move || {
                let call = pin!(stack.clone().oneshot(false));
                assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_ready());
                assert_eq!(control.config().load_level, Some(LoadLevelConfig::new(5, 10)));
                // Another thread can apply a configuration meanwhile: the queue wakes its waiters without a lock.
                let control = control.clone();
                thread::spawn(move || control.apply(&StackConfig::default()).unwrap()).join().unwrap();
            }
        };
        let woken = Arc::new(OnTheSpot(on_the_spot, AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let mut second = pin!(stack.clone().oneshot(false));
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let wide = StackConfig { load_level: Some(LoadLevelConfig::new(5, 10)), ..StackConfig::default() };
        control.apply(&wide).unwrap();
        sender.send(woken.1.load(Ordering::Relaxed)).unwrap();
    });
    let woken = receiver.recv_timeout(secs(10)).expect("a change does not wait for itself");
    assert_eq!(woken, 1);
}

/// A panic in a user's function ends its pass: later changes and calls succeed.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_pass_blocks_no_later_call_or_change() {
    let keyed = Keyed::<u32>::builder(100, Quota::new(100, secs(1))).build().unwrap();
    let key = |n: &u32| if *n == 0 { panic!("no key") } else { *n };
    let (layer, control) = steadfast::server()
        .rate_limit(RateLimit::by_key(keyed, key))
        .load_shed(Limiter::fixed(1).unwrap())
        .live()
        .unwrap();
    let stack = layer.layer(service_fn(|_: u32| ready(Ok::<_, Infallible>(()))));
    for _ in 0..100 {
        let call = tokio::spawn(stack.clone().oneshot(0));
        assert!(call.await.unwrap_err().is_panic());
        control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
        let refused = stack.clone().oneshot(1).await.unwrap_err();
        assert!(matches!(refused.rejection(), Some(Rejection::SwitchedOff(_))));
        control.apply(&StackConfig::default()).unwrap();
        tokio::time::advance(ms(100)).await;
        stack.clone().oneshot(1).await.unwrap();
    }
}

/// Applies values inside and outside the bounds of most fields, to one or several fields at a time.
#[tokio::test(start_paused = true)]
async fn a_refused_configuration_changes_nothing_and_an_accepted_one_is_in_force() {
    let (bucket, limiter) = (TokenBucket::with_quota(Quota::new(10, secs(1))), Limiter::fixed(10).unwrap());
    let budget = RetryBudget::builder().build().unwrap();
    let breaker = Breaker::builder().build().unwrap();
    let bucket = bucket.build().unwrap();
    let (client, client_control) = steadfast::client()
        .timeout(secs(60))
        .retry(Retry::new(2).budget(budget.clone()))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .attempt_timeout(secs(1))
        .live()
        .unwrap();
    let (queue, server_limiter) = (Queue::builder(2, 2).build().unwrap(), Limiter::fixed(10).unwrap());
    let keyed = Keyed::<u32>::builder(100, Quota::new(10, secs(1)));
    let keyed = keyed.build().unwrap();
    let (server, server_control) = steadfast::server()
        .rate_limit(RateLimit::by_key(keyed, |(): &()| 1).and(RateLimit::new(bucket.clone())))
        .load_shed(server_limiter.clone())
        .load_level(queue.clone())
        .timeout(secs(60))
        .live()
        .unwrap();
    let client = client.layer(service_fn(answer));
    let server = server.layer(service_fn(answer));

    let year = Duration::from_secs(366 * 24 * 60 * 60);
    let durations = [Duration::ZERO, Duration::from_nanos(1), year, year + Duration::from_nanos(1), Duration::MAX];
    let counts = [0, 1, 1_000_000, 1_000_001, 1 << 31, 1 << 55, u64::MAX];
    let numbers = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e-300, 1e-6, 0.5, 1.0, 100.0, 101.0];
    let mut configs: Vec<StackConfig> = Vec::new();
    let none = StackConfig::default;
    for duration in durations {
        configs.push(StackConfig { timeout: Some(duration), ..none() });
        configs.push(StackConfig { attempt_timeout: Some(duration), ..none() });
        configs.push(StackConfig { retry: Some(RetryConfig { max_hint: duration, ..RetryConfig::new(2) }), ..none() });
        for other in durations {
            let jitters = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::PlusMinus(0.5), Jitter::None];
            configs.extend(jitters.map(|jitter| {
                let backoff = Backoff::exponential(duration, other).jitter(jitter);
                let retry = RetryConfig { backoff, ..RetryConfig::new(1000) };
                StackConfig { timeout: Some(year), retry: Some(retry), ..none() }
            }));
            let discipline = Discipline::adaptive_with(duration, other);
            let level = LoadLevelConfig { discipline, max_wait: other, ..LoadLevelConfig::new(1, 1) };
            configs.push(StackConfig { load_level: Some(level), ..none() });
            for change in 0..6 {
                let mut config = BreakerConfig::default();
                match change {
                    0 => (config.open_for, config.probe_timeout) = (duration, other),
                    1 => config.cancelled_is_failure_after = Some(duration),
                    2 => config.failure_rate = Some(FailureRate { rate: 0.5, window: duration }),
                    3 => config.slow_call_rate = Some(SlowCallRate { rate: 0.5, threshold: duration }),
                    4 => (config.open_for, config.max_open_for) = (duration, Some(other)),
                    _ => config.probe_timeout = duration,
                }
                configs.push(StackConfig { circuit_breaker: Some(config), ..none() });
            }
        }
        for count in counts {
            let pace = Pace { count, period: duration };
            let level = LoadLevelConfig { pace: Some(pace), ..LoadLevelConfig::new(2, 2) };
            configs.push(StackConfig { load_level: Some(level), ..none() });
            let budget = BudgetConfig { floor: Some(pace), ..BudgetConfig::default() };
            configs.push(StackConfig {
                retry: Some(RetryConfig { budget: Some(budget), ..RetryConfig::new(2) }),
                ..none()
            });
            for burst in counts {
                let quota = Quota::new(count, duration).with_burst(burst);
                configs.push(StackConfig { rate_limit: vec![RateLimitConfig::new([quota])], ..none() });
                configs.push(StackConfig {
                    rate_limit: vec![RateLimitConfig::new([quota]), RateLimitConfig::new([Quota::new(7, secs(3))])],
                    load_shed: Some(LoadShedConfig::new(3)),
                    ..none()
                });
            }
        }
    }
    for number in numbers {
        let budget = BudgetConfig { ratio: number, ..BudgetConfig::default() };
        configs
            .push(StackConfig { retry: Some(RetryConfig { budget: Some(budget), ..RetryConfig::new(2) }), ..none() });
        let rate = FailureRate { rate: number, window: secs(1) };
        let config = BreakerConfig { failure_rate: Some(rate), ..BreakerConfig::default() };
        configs.push(StackConfig { circuit_breaker: Some(config), ..none() });
        let rate = SlowCallRate { rate: number, threshold: secs(1) };
        let config = BreakerConfig { slow_call_rate: Some(rate), ..BreakerConfig::default() };
        configs.push(StackConfig { circuit_breaker: Some(config), ..none() });
        let level = LoadLevelConfig { discipline: Discipline::by_deadline(number), ..LoadLevelConfig::new(2, 2) };
        configs.push(StackConfig { load_level: Some(level), ..none() });
    }
    for count in counts {
        let small = u32::try_from(count).unwrap_or(u32::MAX);
        configs.push(StackConfig { load_shed: Some(LoadShedConfig::new(count as usize)), ..none() });
        configs.push(StackConfig { load_level: Some(LoadLevelConfig::new(count as usize, 1)), ..none() });
        configs.push(StackConfig { load_level: Some(LoadLevelConfig::new(1, count as usize)), ..none() });
        let level = LoadLevelConfig { max_weight: Some(count), ..LoadLevelConfig::new(1, 1) };
        configs.push(StackConfig { load_level: Some(level), ..none() });
        configs.push(StackConfig { retry: Some(RetryConfig::new(small)), ..none() });
        let budget = BudgetConfig { cap: small, ..BudgetConfig::default() };
        configs
            .push(StackConfig { retry: Some(RetryConfig { budget: Some(budget), ..RetryConfig::new(2) }), ..none() });
        for change in 0..3 {
            let mut config = BreakerConfig::default();
            match change {
                0 => config.consecutive_failures = Some(small),
                1 => config.minimum_calls = small,
                _ => config.probes = small,
            }
            configs.push(StackConfig { circuit_breaker: Some(config), ..none() });
        }
    }
    configs.push(StackConfig { rate_limit: vec![RateLimitConfig::new([]); 2], ..none() });
    configs.push(StackConfig { rate_limit: vec![RateLimitConfig::new([]); 1], ..none() });
    configs.push(StackConfig { rate_limit: vec![RateLimitConfig::new([Quota::new(1, secs(1)); 2]); 2], ..none() });

    let mut taken = 0;
    for config in &configs {
        for control in [&client_control, &server_control] {
            let levels = || {
                let now = tokio::time::Instant::now();
                let limits = [limiter.configuration(), server_limiter.configuration()];
                let queue = (queue.in_service(), queue.concurrency(), format!("{:?}", queue.readings()));
                (bucket.available_at(now), budget.balance(), breaker.state(), limits, queue)
            };
            let before = (control.config(), levels());
            assert!(control.check(&before.0).is_ok(), "the configuration in force can be applied: {:?}", before.0);
            let checked = control.check(config);
            match control.apply(config) {
                Ok(()) => {
                    taken += 1;
                    assert!(checked.is_ok());
                    let after = control.config();
                    let (levels_after, built) = (levels(), control.built());
                    // Each part is the given one, or as built.
                    assert_eq!(after.timeout, config.timeout.or(built.timeout));
                    assert_eq!(after.attempt_timeout, config.attempt_timeout.or(built.attempt_timeout));
                    let rate_limit = if config.rate_limit.is_empty() { &built.rate_limit } else { &config.rate_limit };
                    assert_eq!(&after.rate_limit, rate_limit);
                    assert_eq!(after.load_shed, config.load_shed.or(built.load_shed));
                    assert_eq!(after.load_level, config.load_level.clone().or(built.load_level.clone()));
                    assert_eq!(after.circuit_breaker, config.circuit_breaker.clone().or(built.circuit_breaker.clone()));
                    let mut retry = config.retry.clone().or(built.retry.clone());
                    if let Some(retry) = &mut retry {
                        retry.budget.get_or_insert_default();
                    }
                    assert_eq!(after.retry, retry);
                    // Applying it again changes nothing.
                    for _ in 0..3 {
                        control.apply(config).unwrap();
                        control.apply(&after).unwrap();
                    }
                    assert_eq!((control.config(), levels()), (after.clone(), levels_after));
                    #[cfg(feature = "constant-work")]
                    {
                        // A format that is not human-readable, without field names.
                        let mut buffer = [0; 1_000];
                        let bytes = postcard::to_slice(&after, &mut buffer).unwrap();
                        assert_eq!(postcard::from_bytes::<StackConfig>(bytes).unwrap(), after);
                    }
                    #[cfg(feature = "serde")]
                    {
                        let json = serde_json::to_string(&after).unwrap();
                        assert_eq!(serde_json::from_str::<StackConfig>(&json).unwrap(), after, "{json}");
                        let value = serde_json::to_value(&after).unwrap();
                        assert_eq!(serde_json::from_value::<StackConfig>(value).unwrap(), after);
                    }
                }
                Err(error) => {
                    assert_eq!(checked.unwrap_err().to_string(), error.to_string());
                    assert_eq!((control.config(), levels()), before, "{error}");
                }
            }
            let _ = control.explain().to_string();
            // Calls do not panic.
            for _ in 0..3 {
                let _ = tokio::time::timeout(secs(100), client.clone().oneshot(())).await.map(drop);
                let _ = tokio::time::timeout(secs(100), server.clone().oneshot(())).await.map(drop);
            }
        }
    }
    assert!(taken > 100, "{taken} of {}", configs.len());
}

/// Applying the same configuration every millisecond has no effect.
#[tokio::test(start_paused = true)]
async fn applying_the_same_configuration_repeatedly_has_no_effect() {
    async fn run(tell: bool) -> (Vec<(u64, String)>, Vec<String>) {
        let bucket = TokenBucket::with_quota(Quota::new(7, ms(333)).with_burst(5)).build().unwrap();
        let budget =
            RetryBudget::builder().ratio(0.013).floor(3, ms(700)).random(steadfast::Random::seeded(7)).build().unwrap();
        let breaker = Breaker::builder()
            .failure_rate(0.5, ms(500))
            .minimum_calls(5)
            .open_for(ms(50))
            .max_open_for(ms(50))
            .build()
            .unwrap();
        let queue = Queue::builder(2, 5).pace(31, secs(1)).build().unwrap();
        let (client, client_control) = steadfast::client()
            .timeout(secs(60))
            .retry(Retry::new(2).backoff(Backoff::none()).budget(budget.clone()))
            .circuit_breaker(breaker.clone())
            .rate_limit(bucket.clone())
            .live()
            .unwrap();
        let (server, server_control) = steadfast::server().load_level(queue.clone()).live().unwrap();
        let failing = Arc::new(AtomicUsize::new(0));
        let stack = server.layer(client.layer(service_fn(move |()| {
            let n = failing.fetch_add(1, Ordering::Relaxed);
            ready(if n % 50 > 30 { Err(std::io::Error::other("failed")) } else { Ok(()) })
        })));
        let (answered, mut seen) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
        for n in 0..3_000_u64 {
            if tell {
                client_control.apply(&client_control.config()).unwrap();
                client_control.apply(&StackConfig::default()).unwrap();
                server_control.apply(&StackConfig::default()).unwrap();
            }
            if n % 7 == 0 {
                let (call, answered) = (stack.clone().oneshot(()), answered.clone());
                tokio::spawn(async move {
                    let result = call.await.map_err(|error| error.to_string());
                    answered.lock().unwrap().push((n, format!("{result:?}")));
                });
            }
            tokio::task::yield_now().await;
            let now = tokio::time::Instant::now();
            seen.push(format!(
                "{} {} {:?} {:?} {:?}",
                bucket.available_at(now),
                budget.balance(),
                breaker.state(),
                breaker.counts_at(now),
                queue.readings(),
            ));
            tokio::time::advance(ms(1)).await;
        }
        let answered = answered.lock().unwrap().clone();
        (answered, seen)
    }
    let (untold, told) = (run(false).await, run(true).await);
    let succeeded = untold.0.iter().filter(|(_, result)| result == "Ok(())").count();
    assert!(succeeded > 20 && untold.0.len() > 2 * succeeded, "{succeeded} of {}", untold.0.len());
    if let Some(n) = (0..3_000).find(|n| untold.1[*n] != told.1[*n]) {
        panic!("after {n} ms: {} and not {}", told.1[n], untold.1[n]);
    }
    assert_eq!(untold.0, told.0);
}

/// The shadow mode of several combined limits is reported for each, and can be changed.
#[tokio::test(start_paused = true)]
async fn combined_limits_in_shadow_report_it_and_can_be_enforced() {
    let bucket = || RateLimit::new(TokenBucket::with_quota(Quota::new(1, secs(60))).build().unwrap());
    let (layer, control) = steadfast::server().rate_limit(bucket().and(bucket()).shadow()).live().unwrap();
    let stack = layer.layer(service_fn(answer));
    for _ in 0..3 {
        stack.clone().oneshot(()).await.unwrap();
    }
    assert!(control.config().rate_limit.iter().any(|limit| limit.shadow), "no call is refused: {:?}", control.config());
    let in_force = vec![RateLimitConfig::new([Quota::new(1, secs(60))]); 2];
    control.apply(&StackConfig { rate_limit: in_force, ..StackConfig::default() }).unwrap();
    let refused = stack.clone().oneshot(()).await;
    assert!(refused.is_err(), "{:?}", control.config());
    // The built configuration puts both limits in shadow again.
    control.apply(&StackConfig::default()).unwrap();
    stack.clone().oneshot(()).await.unwrap();
}

#[cfg(feature = "serde")]
#[test]
fn malformed_configurations_are_refused() {
    for (json, problem) in [
        (r#"{"time_out":"1s"}"#, "unknown field"),
        (r#"{"rate_limit":[{"quotas":[{"count":1,"period":"1s","bursts":2}]}]}"#, "unknown field"),
        (r#"{"rate_limit":[{"shadow":true}]}"#, "missing field"),
        (r#"{"rate_limit":{"quotas":[]}}"#, "expected a sequence"),
        (r#"{"retry":{}}"#, "missing field"),
        (r#"{"retry":{"attempts":2,"backoff":{"bass":"1s"}}}"#, "unknown field"),
        (r#"{"retry":{"attempts":2,"budget":{"floor":{"count":1}}}}"#, "missing field"),
        (r#"{"retry":{"attempts":-1}}"#, "invalid value"),
        (r#"{"timeout":5}"#, "invalid type"),
        (r#"{"timeout":"5"}"#, "must be numbers with a unit each"),
        (r#"{"timeout":"-5s"}"#, "must be numbers with a unit each"),
        (r#"{"timeout":"99999999999999999999s"}"#, "must be at most 366d"),
        (r#"{"circuit_breaker":{"forced":"half"}}"#, "unknown variant"),
        (r#"{"circuit_breaker":{"failure_rate":{"rate":0.5}}}"#, "missing field"),
        (r#"{"load_shed":{"limit":1.5}}"#, "invalid type"),
        (r#"{"load_level":{"concurrency":1}}"#, "missing field"),
        (r#"{"load_level":{"concurrency":1,"depth":1,"discipline":{"by_deadline":{"part":1}}}}"#, "unknown field"),
        (r#"{"load_level":{"concurrency":1,"depth":1,"pace":{"count":1,"period":"1s","burst":1}}}"#, "unknown field"),
        (r#"{"switched_off":null}"#, "invalid type"),
    ] {
        let error = serde_json::from_str::<StackConfig>(json).expect_err(json).to_string();
        assert!(error.contains(problem), "{json}: {error}");
    }
    assert_eq!(serde_json::from_str::<StackConfig>("{}").unwrap(), StackConfig::default());
    // A null counts as a missing part.
    let json = serde_json::to_string(&StackConfig::default()).unwrap();
    assert_eq!(serde_json::from_str::<StackConfig>(&json).unwrap(), StackConfig::default());
}

/// `live` refuses exactly the builders that `layer` refuses, with an equal error. `check` accepts exactly the
/// configurations with which a builder can be built.
#[test]
fn a_live_stack_and_a_builder_refuse_the_same() {
    let limits = [0, 49, 50, 51, 99, 100, 101, 150].map(ms);
    let jitters = [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::PlusMinus(0.5), Jitter::None];
    let bases = [0, 49, 50, 100, 101].map(ms);
    let (_, loose) = steadfast::client().timeout(secs(9)).retry(Retry::new(2)).attempt_timeout(secs(1)).live().unwrap();
    let mut refused = 0;
    for timeout in limits {
        for attempt_timeout in limits {
            for (attempts, jitter) in (0..=3).flat_map(|attempts| jitters.map(|jitter| (attempts, jitter))) {
                for base in bases {
                    let backoff = Backoff::exponential(base, base).jitter(jitter);
                    let client = || {
                        let retry = Retry::new(attempts).backoff(backoff);
                        steadfast::client().timeout(timeout).retry(retry).attempt_timeout(attempt_timeout)
                    };
                    let built = client().layer().map(drop);
                    assert_eq!(client().live().map(drop), built);
                    let config = StackConfig {
                        timeout: Some(timeout),
                        attempt_timeout: Some(attempt_timeout),
                        retry: Some(RetryConfig { backoff, ..RetryConfig::new(attempts) }),
                        ..StackConfig::default()
                    };
                    // If there are several errors, `check` may report another one than the builder. The test only
                    // compares whether there is an error.
                    assert_eq!(loose.check(&config).is_ok(), built.is_ok(), "{config:?}");
                    refused += usize::from(built.is_err());
                }
            }
        }
    }
    assert!(refused > 500);

    let server = |limit: usize, shadow: bool, concurrency: usize| {
        let limiter = Limiter::fixed(limit).unwrap();
        limiter.set_shadow(shadow);
        steadfast::server().load_shed(limiter).load_level(Queue::builder(concurrency, 9).build().unwrap())
    };
    let (_, loose) = server(99, false, 1).live().unwrap();
    for (limit, concurrency) in [(1, 1), (2, 1), (3, 4), (4, 4), (5, 4)] {
        for shadow in [false, true] {
            let built = server(limit, shadow, concurrency).layer().map(drop);
            assert_eq!(built.is_err(), !shadow && limit <= concurrency);
            assert_eq!(server(limit, shadow, concurrency).live().map(drop), built);
            let config = StackConfig {
                load_shed: Some(LoadShedConfig { limit, shadow }),
                load_level: Some(LoadLevelConfig::new(concurrency, 9)),
                ..StackConfig::default()
            };
            assert_eq!(loose.check(&config), built);
        }
    }
}
