//! An adaptive limit refuses hardly any call to a healthy service, and lets a service recover after a standstill.
//! Further tests take single permits: for unusual deadlines and instants, for an algorithm that panics, for exempt
//! calls.

use crate::support::{ms, secs};
use std::time::Duration;
use steadfast::{
    ConfigError,
    load_shed::{Hysteresis, LimitReason, Limiter},
    sim::{Backend, Latency, Link, Load, Report, Scenario},
};

const DEADLINE: Duration = Duration::from_millis(300);
const SEEDS: std::ops::Range<u64> = 0..3;

/// Simulates callers on another machine that give up at the deadline.
fn run(scenario: Scenario, service: Backend) -> Report {
    let client = |sim: &steadfast::sim::Sim| -> Result<_, ConfigError> {
        let limiter = Limiter::adaptive().deadline(DEADLINE).build()?;
        let server = steadfast::server().load_shed(limiter).service(sim.backend(service))?;
        let server = Link::new(sim, Latency::fixed(Duration::ZERO), server);
        steadfast::client().attempt_timeout(DEADLINE).keep_error().service(server)
    };
    scenario.run(client).unwrap()
}

fn of(load: Load, length: Duration, seed: u64) -> Scenario {
    Scenario::new(load.in_time(DEADLINE)).length(length).seed(seed)
}

#[test]
fn a_cold_start_of_a_healthy_service_refuses_no_call() {
    for seed in SEEDS {
        let parallel = run(of(Load::poisson(2000.0), secs(5), seed), Backend::new(Latency::exponential(ms(20))));
        parallel.assert_rejected_at_most("load_shed", 0.0);
        let workers = Backend::new(Latency::exponential(ms(10))).servers(10);
        run(of(Load::poisson(800.0), secs(5), seed), workers).assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn a_few_calls_that_take_half_of_their_deadline_are_not_refused() {
    for seed in SEEDS {
        let scenario = of(Load::poisson(20.0), secs(300), seed).warm_up(secs(5));
        run(scenario, Backend::new(Latency::fixed(DEADLINE / 2))).assert_rejected_at_most("load_shed", 0.001);
    }
}

#[test]
fn after_an_idle_minute_no_call_is_refused() {
    for seed in SEEDS {
        let load = Load::poisson(200.0).spike(secs(20), secs(80), 0.0).step(secs(80), 800.0);
        let service = Backend::new(Latency::exponential(ms(20)));
        run(of(load, secs(90), seed), service).assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn bursts_to_an_idle_service_are_not_refused() {
    for latency in [ms(10), ms(100), DEADLINE / 2] {
        let bursts = (1..=12).map(|burst| secs(5 * burst));
        let load = bursts.fold(Load::constant(0.0), |load, at| load.spike(at, at + ms(1), 50_000.0));
        let report = run(of(load, secs(65), 0), Backend::new(Latency::fixed(latency)));
        assert!(report.offered() >= 12 * 49, "{report}");
        report.assert_rejected_at_most("load_shed", 0.0);
    }
}

#[test]
fn after_a_standstill_of_ten_deadlines_calls_succeed_again_within_two_seconds() {
    for seed in SEEDS {
        let workers = Backend::new(Latency::exponential(ms(10))).servers(10).hang(secs(10)..secs(13));
        let report = run(of(Load::poisson(800.0), secs(25), seed), workers);
        assert!(report.goodput_between(secs(10), secs(12)).unwrap() < 0.1, "it did not stand still\n{report}");
        let after = report.goodput_between(secs(15), secs(25)).unwrap();
        assert!(after >= 0.95, "{after} was answered in time after the standstill\n{report}");
    }
}

/// Takes permits from a limiter without tower, at instants of its own. They begin at the time of tokio's clock.
struct Hand {
    limiter: Limiter,
    now: tokio::time::Instant,
}

impl Hand {
    fn new(limiter: Limiter) -> Self {
        Self { limiter, now: tokio::time::Instant::now() }
    }

    /// Makes `count` calls, and returns how many of them the limiter admits. The calls begin `length` apart. Each has a
    /// deadline that is `left` after its beginning.
    fn calls(&mut self, count: u32, length: Duration, left: Duration) -> u32 {
        let mut admitted = 0;
        for _ in 0..count {
            let context = steadfast::CallContext::new().with_deadline(self.now + left);
            let permit = self.limiter.try_acquire_at(&context, self.now);
            admitted += u32::from(permit.is_ok());
            self.now += length;
        }
        admitted
    }
}

#[tokio::test(start_paused = true)]
async fn callers_with_unusual_deadlines_do_not_stop_the_learning_and_lock_no_caller_out() {
    for unusual in [Duration::ZERO, Duration::from_nanos(1), secs(3600), secs(366 * 86_400)] {
        let mut hand = Hand::new(Limiter::adaptive().deadline(DEADLINE).build().unwrap());
        hand.calls(200, ms(10), unusual);
        assert_eq!(hand.calls(200, ms(10), DEADLINE), 200, "after {unusual:?}");
        assert!(hand.limiter.limit() >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instant_far_ahead_does_not_end_the_learning() {
    let limiter = Limiter::adaptive().deadline(DEADLINE).build().unwrap();
    let mut hand = Hand::new(limiter.clone());
    let context = steadfast::CallContext::new();
    drop(limiter.try_acquire_at(&context, hand.now + secs(10 * 366 * 86_400)));
    assert_eq!(hand.calls(2_000, ms(10), DEADLINE), 2_000);
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_panics_leaves_the_limit_as_it_is() {
    use steadfast::load_shed::{Algorithm, Limit, Window};

    #[derive(Debug)]
    struct Panics;

    impl Algorithm for Panics {
        fn first(&mut self) -> Limit {
            Limit::Calls(3)
        }

        fn learn(&mut self, _window: &Window) -> Limit {
            panic!("of an algorithm")
        }
    }

    let limiter = Limiter::adaptive().deadline(ms(10)).algorithm(Panics).build().unwrap();
    let context = steadfast::CallContext::new();
    let start = tokio::time::Instant::now();
    for at in 0..100 {
        let now = start + ms(10) * at;
        let permits: Vec<_> = (0..5).filter_map(|_| limiter.try_acquire_at(&context, now).ok()).collect();
        assert_eq!(permits.len(), 3);
    }
    assert_eq!((limiter.in_flight(), limiter.limit()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn an_exempt_call_passes_a_full_plain_limit_too() {
    use steadfast::load_shed::LoadShed;
    use tower::{ServiceExt, service_fn};

    let limiter = Limiter::fixed(1).unwrap();
    let shed = LoadShed::new(limiter.clone()).exempt(|health: &bool| *health);
    let service = service_fn(async |_: bool| Ok::<_, std::convert::Infallible>(()));
    let server = steadfast::server().load_shed(shed).service(service).unwrap();
    let held = limiter.try_acquire().unwrap();
    assert!(server.clone().oneshot(false).await.is_err());
    assert!(server.clone().oneshot(true).await.is_ok());
    drop(held);
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_holds_the_limit_at_the_floor_is_the_reason_for_it() {
    let limiter = Limiter::adaptive().ceiling(100).floor(20).signal("always", || 1.0, Hysteresis::default());
    let limiter = limiter.build().unwrap();
    // The limit falls to the calls in flight, one, but not below the floor.
    for _ in 0..200 {
        let permit = limiter.try_acquire().unwrap();
        tokio::time::advance(ms(10)).await;
        drop(permit);
    }
    let readings = limiter.readings();
    assert_eq!((readings.limit, readings.reason, readings.signal), (20, LimitReason::Signal, Some("always")));
}
