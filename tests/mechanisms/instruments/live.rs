//! The readings and the listeners of the configuration of a live stack.

use super::{Collector, Notes, number, read};
use crate::support::{ms, secs};
use futures::FutureExt;
use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};
use steadfast::{
    circuit_breaker::Breaker,
    load_shed::Limiter,
    rate_limit::{DescribeLimit, Limit, LiveLimit, Quota, RateLimit, TokenBucket},
    retry::{Backoff, Retry},
    shell::Instrument,
    stack::live::{BreakerConfig, Control, FailureRate, LoadShedConfig, RateLimitConfig, RetryConfig, StackConfig},
};
use tower::{Layer, ServiceExt, service_fn};

/// Returns the control of a live client with several mechanisms, and the instrument of its configuration.
fn client() -> (Control, Arc<dyn Instrument>) {
    let collector = Collector::default();
    let (_, control) = steadfast::client()
        .observe("payments", collector.clone())
        .timeout(secs(10))
        .retry(Retry::new(2).without_budget())
        .circuit_breaker(Breaker::builder().build().unwrap())
        .rate_limit(TokenBucket::builder(10, secs(1)).build().unwrap())
        .load_shed(Limiter::fixed(64).unwrap())
        .classify(|_: Result<&(), &()>| steadfast::Outcome::Success)
        .live()
        .unwrap();
    (control, live_one(&collector))
}

/// Returns the instrument of the configuration among those of a stack.
fn live_one(collector: &Collector) -> Arc<dyn Instrument> {
    let is_live = |instrument: &Arc<dyn Instrument>| read(&**instrument).contains_key("switched_off");
    collector.instruments().into_iter().find(is_live).unwrap()
}

fn limit(limit: usize) -> StackConfig {
    StackConfig { load_shed: Some(LoadShedConfig::new(limit)), ..StackConfig::default() }
}

fn counts(live: &Arc<dyn Instrument>) -> (f64, f64, f64) {
    let of = |name| number(&**live, name);
    let changes = |result| of(result);
    let applied = changes(r#"config_changes_total{result="applied"}"#);
    (of("switched_off"), applied, changes(r#"config_changes_total{result="refused"}"#))
}

#[test]
fn changes_are_counted_if_they_change_something_and_refusals_always() {
    let (control, live) = client();
    assert_eq!(read(&*live).len(), 3);
    assert_eq!(counts(&live), (0.0, 0.0, 0.0));
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    assert_eq!(counts(&live), (1.0, 1.0, 0.0));
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    assert_eq!(counts(&live), (1.0, 1.0, 0.0));
    control.apply(&limit(0)).unwrap_err();
    control.check(&limit(0)).unwrap_err();
    assert_eq!(counts(&live), (1.0, 1.0, 1.0));
    control.apply(&StackConfig::default()).unwrap();
    assert_eq!(counts(&live), (0.0, 2.0, 1.0));
    let rate = |rate| StackConfig {
        circuit_breaker: Some(BreakerConfig {
            failure_rate: Some(FailureRate { rate, window: secs(3) }),
            ..BreakerConfig::default()
        }),
        ..StackConfig::default()
    };
    // One third has no exact decimal form. Applied twice, it still counts as one change.
    for _ in 0..2 {
        control.apply(&rate(1.0 / 3.0)).unwrap();
        assert_eq!(counts(&live), (0.0, 3.0, 1.0));
    }
    assert_eq!(control.explain().layers().filter(|(name, _)| *name == "kill switch").count(), 0);
}

#[test]
fn a_listener_learns_each_field_with_its_old_and_its_new_value_or_the_error() {
    let (control, live) = client();
    let notes = Notes::of(&*live);
    control.apply(&StackConfig::default()).unwrap();
    assert!(notes.take().is_empty());
    let retry = RetryConfig { budget: None, backoff: Backoff::exponential(ms(20), secs(1)), ..RetryConfig::new(3) };
    let told = StackConfig {
        switched_off: true,
        timeout: Some(secs(2)),
        retry: Some(retry),
        circuit_breaker: Some(BreakerConfig {
            consecutive_failures: Some(7),
            failure_rate: None,
            ..BreakerConfig::default()
        }),
        rate_limit: vec![RateLimitConfig { quotas: vec![Quota::new(50, secs(1))], shadow: true }],
        load_shed: Some(LoadShedConfig::new(32)),
        ..StackConfig::default()
    };
    control.apply(&told).unwrap();
    let expected = "configuration: offered => applied: kill switch: off => on, timeout: 10s => 2s, \
        retry.attempts: 2 => 3, \
        retry.backoff: waits of at most 50ms, doubling up to 2s, full jitter \
        => waits of at most 20ms, doubling up to 1s, full jitter, \
        circuit_breaker.consecutive_failures: none => 7, \
        rate_limit[0].quotas: 10 per 1s, bursts of 10 => 50 per 1s, bursts of 50, rate_limit[0].shadow: false => true, \
        load_shed.limit: 64 => 32";
    assert_eq!(notes.take(), [expected]);
    control.apply(&told).unwrap();
    assert!(notes.take().is_empty());
    control.apply(&limit(0)).unwrap_err();
    let refused = "configuration: offered => refused: load_shed.limit = 0: must be at least 1 (trouble)";
    assert_eq!(notes.take(), [refused]);
    // A listener that is added later does not receive earlier outcomes.
    let second = Notes::of(&*live);
    drop(notes);
    control.apply(&StackConfig { load_shed: Some(LoadShedConfig::new(31)), ..told }).unwrap();
    assert_eq!(second.take(), ["configuration: offered => applied: load_shed.limit: 32 => 31"]);
}

#[test]
fn a_listener_that_panics_harms_no_change_and_one_that_changes_something_learns_of_that_afterwards() {
    let (control, live) = client();
    let panicking = Notes::also(&*live, || panic!("of a listener"));
    let (own, once) = (control.clone(), AtomicBool::new(false));
    let changing = Notes::also(&*live, move || {
        if !once.swap(true, Ordering::Relaxed) {
            own.apply(&limit(9)).unwrap();
        }
    });
    control.apply(&limit(8)).unwrap();
    assert_eq!(control.config().load_shed, Some(LoadShedConfig::new(9)));
    let both =
        ["64 => 8", "8 => 9"].map(|change| format!("configuration: offered => applied: load_shed.limit: {change}"));
    assert_eq!((panicking.take(), changing.take()), (both.clone().into(), both.into()));
}

#[test]
fn a_slow_listener_delays_no_change_and_misses_the_oldest_changes() {
    let (control, live) = client();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let notes = Arc::new(Mutex::new(Vec::new()));
    let to = notes.clone();
    let listener: Arc<steadfast::shell::StateListener> = Arc::new(move |change| {
        to.lock().unwrap().push((change.missed(), change.evidence().to_string()));
        let _ = begun.send(());
        // Blocks until the test drops the sender.
        let _ = may_go_on.lock().unwrap().recv();
    });
    live.listen(&Arc::downgrade(&listener));
    let slow = control.clone();
    let slow = thread::spawn(move || slow.apply(&limit(1)).unwrap());
    has_begun.recv().unwrap();
    // These changes return although the listener is blocked.
    for number in 2..=1100 {
        control.apply(&limit(number)).unwrap();
    }
    drop(go_on);
    slow.join().unwrap();
    let notes = notes.lock().unwrap();
    assert_eq!(notes.len(), 1 + 1024);
    assert_eq!(notes[1], (75, "load_shed.limit: 76 => 77".to_owned()));
    assert!(notes[2..].iter().all(|(missed, _)| *missed == 0));
    assert_eq!(notes.last().unwrap().1, "load_shed.limit: 1099 => 1100");
}

#[test]
fn listeners_learn_each_change_of_many_threads_once_and_in_order() {
    let (control, live) = client();
    let notes = Notes::of(&*live);
    let (threads, barrier) = (4, Barrier::new(4));
    thread::scope(|scope| {
        for thread in 0..threads {
            let (control, barrier) = (&control, &barrier);
            scope.spawn(move || {
                barrier.wait();
                (0..100).for_each(|number| control.apply(&limit(1000 * (thread + 1) + number)).unwrap());
            });
        }
    });
    let notes = notes.take();
    assert_eq!(notes.len(), 400);
    let mut last = "64".to_owned();
    for note in notes {
        let change = note.strip_prefix("configuration: offered => applied: load_shed.limit: ").unwrap();
        let (from, to) = change.split_once(" => ").unwrap();
        assert_eq!(from, last);
        last = to.to_owned();
    }
}

/// A limit that tries to apply a configuration while it is described or changed. On demand it panics when it is
/// changed.
#[derive(Clone, Default)]
struct Meddling {
    control: Arc<Mutex<Option<Control>>>,
    count: Arc<Mutex<u64>>,
    panics: Arc<AtomicBool>,
}

impl<Request> Limit<Request> for Meddling {
    type Permit = ();
    type Place = Infallible;

    fn admit(
        &self,
        _: &Request,
        _: u64,
        _: &mut steadfast::shell::Frame,
    ) -> steadfast::shell::Decision<(), Infallible, steadfast::error::RateLimited> {
        steadfast::shell::Decision::Admitted(())
    }

    fn refund(&self, (): (), _: &mut steadfast::shell::Frame) {}
}

impl DescribeLimit for Meddling {
    fn describe(&self) -> String {
        if let Some(control) = &*self.control.lock().unwrap() {
            assert!(control.apply(&StackConfig::default()).is_err());
        }
        assert!(!self.panics.load(Ordering::Relaxed), "panics on demand");
        "any".to_owned()
    }
}

impl LiveLimit for Meddling {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    fn quotas(&self) -> Vec<Quota> {
        vec![Quota::new(1 + *self.count.lock().unwrap(), secs(1))]
    }

    fn check_quotas(&self, _: &[Quota]) -> Result<(), steadfast::ConfigError> {
        Ok(())
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        *self.count.lock().unwrap() = quotas[0].count() - 1;
        if let Some(control) = &*self.control.lock().unwrap() {
            assert!(control.apply(&StackConfig::default()).is_err());
        }
        assert!(!self.panics.load(Ordering::Relaxed), "panics on demand");
    }
}

/// Returns the note of a configuration that was refused, because code within a change or a read tried to apply it.
fn refused_within() -> String {
    let rule = "must not be called by code that runs while a call is admitted, or within another change or read";
    format!("configuration: offered => refused: apply = \"within a call, a change or a read\": {rule} (trouble)")
}

#[test]
fn listeners_run_after_a_read_in_which_a_change_was_refused() {
    let (collector, limit) = (Collector::default(), Meddling::default());
    let server = steadfast::server().observe("api", collector.clone()).rate_limit(RateLimit::new(limit.clone()));
    let (_, control) = server.live().unwrap();
    let live = live_one(&collector);
    let own = control.clone();
    // If the listener ran within the read, the stack would refuse this change, too.
    let notes = Notes::also(&*live, move || drop(own.apply(&own.config())));
    *limit.control.lock().unwrap() = Some(control.clone());
    let explanation = control.explain();
    assert!(explanation.to_string().contains("any"), "{explanation}");
    assert_eq!(notes.take(), [refused_within()]);
    limit.panics.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| control.explain())).is_err());
    assert_eq!(notes.take(), [refused_within()]);
}

#[test]
fn listeners_run_after_a_change_even_if_a_limit_panicked_in_it() {
    let (collector, limit) = (Collector::default(), Meddling::default());
    let server = steadfast::server().observe("api", collector.clone()).rate_limit(RateLimit::new(limit.clone()));
    let (layer, control) = server.live().unwrap();
    let live = live_one(&collector);
    *limit.control.lock().unwrap() = Some(control.clone());
    let own = control.clone();
    // To read the configuration, the listener takes the lock that a change holds. The change must release it before.
    let notes = Notes::also(&*live, move || drop(own.config()));
    let quota = |count| StackConfig {
        rate_limit: vec![RateLimitConfig::new([Quota::new(count, secs(1))])],
        ..StackConfig::default()
    };
    control.apply(&quota(7)).unwrap();
    let refused = refused_within();
    let applied = |from: u64, to: u64| {
        format!(
            "configuration: offered => applied: rate_limit[0].quotas: {from} per 1s, bursts of {from} => {to} per 1s, bursts of {to}"
        )
    };
    assert_eq!(notes.take(), [refused.clone(), applied(1, 7)]);
    limit.panics.store(true, Ordering::Relaxed);
    assert!(catch_unwind(AssertUnwindSafe(|| control.apply(&quota(8)))).is_err());
    assert_eq!(notes.take(), [refused, applied(7, 8)]);
    let service = layer.layer(service_fn(async |()| Ok::<_, Infallible>(())));
    service.oneshot(()).now_or_never().unwrap().unwrap();
}
