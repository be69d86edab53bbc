//! Changes of a user's own limits, while calls pass.

use std::{
    convert::Infallible,
    future::ready,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
};
use steadfast::{
    Error,
    circuit_breaker::Breaker,
    error::RateLimited,
    load_shed::Limiter,
    rate_limit::{Limit, LiveLimit, Quota, RateLimit},
    shell::{Decision, Frame},
    stack::live::{LoadShedConfig, RateLimitConfig, StackConfig},
};
use tower::{Layer, Service, service_fn};

use super::torn::{circuit_open, open};
use crate::support::{secs, size};

fn poll_once<F: Future>(call: F) -> Poll<F::Output> {
    pin!(call).poll(&mut Context::from_waker(Waker::noop()))
}

/// A user's own limit. It admits all calls while the count of its quota is 2, and no call otherwise. It calls a
/// function when it is changed.
#[derive(Clone)]
struct Own(Arc<AtomicBool>, Arc<dyn Fn() + Send + Sync>);

impl Own {
    fn new(changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(AtomicBool::new(true)), Arc::new(changed))
    }

    fn config(opens: bool) -> RateLimitConfig {
        RateLimitConfig::new([Quota::new(if opens { 2 } else { 1 }, secs(1))])
    }
}

impl Limit<()> for Own {
    type Permit = ();
    type Place = Infallible;

    fn admit(&self, _: &(), _: u64, _: &mut Frame) -> Decision<(), Infallible, RateLimited> {
        if self.0.load(Ordering::Relaxed) { Decision::Admitted(()) } else { Decision::Refused(RateLimited::new(None)) }
    }

    fn refund(&self, (): (), _: &mut Frame) {}
}

impl steadfast::rate_limit::DescribeLimit for Own {
    fn describe(&self) -> String {
        "own".to_owned()
    }
}

impl LiveLimit for Own {
    fn handle(&self) -> Box<dyn LiveLimit + Send + Sync> {
        Box::new(self.clone())
    }

    fn quotas(&self) -> Vec<Quota> {
        Own::config(self.0.load(Ordering::Relaxed)).quotas
    }

    fn check_quotas(&self, _: &[Quota]) -> Result<(), steadfast::ConfigError> {
        Ok(())
    }

    fn set_quotas(&self, quotas: &[Quota]) {
        self.0.store(quotas[0].count() == 2, Ordering::Relaxed);
        (self.1)();
    }
}

/// A user's limit changes in one step, because neither of two configurations is stricter. If no other part
/// changes in one step, and the settings of calls stay, calls pass during the change.
#[test]
fn a_call_does_not_wait_for_a_user_limit_that_is_slow_to_change() {
    type Called = dyn Fn() -> bool + Send + Sync;
    let call: Arc<Mutex<Option<Arc<Called>>>> = Arc::default();
    let passed = Arc::new(AtomicUsize::new(0));
    let own = Own::new({
        let (call, passed) = (call.clone(), passed.clone());
        move || {
            let call = call.lock().unwrap().clone();
            if let Some(call) = call {
                passed.fetch_add(usize::from(thread::spawn(move || call()).join().unwrap()), Ordering::Relaxed);
            }
        }
    });
    let limiter = Limiter::fixed(5).unwrap();
    let (layer, control) = steadfast::server().rate_limit(RateLimit::new(own)).load_shed(limiter).live().unwrap();
    let stack = Mutex::new(layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(())))));
    let called = move || matches!(poll_once(stack.lock().unwrap().call(())), Poll::Ready(Ok(())));
    *call.lock().unwrap() = Some(Arc::new(called));
    let config = |opens, limit| StackConfig {
        rate_limit: vec![Own::config(opens)],
        load_shed: Some(LoadShedConfig::new(limit)),
        ..open()
    };
    control.apply(&config(false, 4)).unwrap();
    assert_eq!(passed.load(Ordering::Relaxed), 0);
    control.apply(&config(true, 6)).unwrap();
    assert_eq!(passed.load(Ordering::Relaxed), 1);
}

/// The first configuration refuses at the circuit, the second at the limit on the calls in flight. The user's limit
/// stands between these gates. If the gates changed one after the other, a call could pass in the middle of the change.
#[test]
fn in_the_middle_of_a_change_each_gate_is_as_strict_as_both_configurations() {
    type Called = dyn Fn() -> bool + Send + Sync;
    let call: Arc<Mutex<Option<Arc<Called>>>> = Arc::default();
    let answers: Arc<Mutex<Vec<bool>>> = Arc::default();
    let own = Own::new({
        let (call, answers) = (call.clone(), answers.clone());
        move || {
            let call = call.lock().unwrap().clone();
            if let Some(call) = call {
                answers.lock().unwrap().push(thread::spawn(move || call()).join().unwrap());
            }
        }
    });
    let limiter = Limiter::fixed(9).unwrap();
    let (layer, control) = steadfast::client()
        .circuit_breaker(Breaker::builder().build().unwrap())
        .rate_limit(RateLimit::new(own))
        .load_shed(limiter.clone())
        .live()
        .unwrap();
    let stack = Mutex::new(layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(())))));
    let called = move || matches!(poll_once(stack.lock().unwrap().call(())), Poll::Ready(Ok(())));
    let _held = limiter.try_acquire().unwrap();
    // The user's limit admits all calls, but still changes.
    let quotas = |n| vec![RateLimitConfig::new([Quota::new(2, secs(n))])];
    let first = StackConfig { rate_limit: quotas(3), ..circuit_open() };
    let second = StackConfig { rate_limit: quotas(2), load_shed: Some(LoadShedConfig::new(1)), ..open() };
    control.apply(&first).unwrap();
    *call.lock().unwrap() = Some(Arc::new(called));
    for config in [&second, &first, &second] {
        control.apply(config).unwrap();
    }
    control.apply(&StackConfig { rate_limit: quotas(3), ..open() }).unwrap();
    // In the last change only the limit on the calls in flight becomes less strict. It does so after the user's limit
    // has changed, so the call during the change is refused.
    assert_eq!(*answers.lock().unwrap(), [false; 4]);
    assert!(call.lock().unwrap().clone().is_some_and(|call| call()));
}

/// If one change has two user limits, no call passes between their changes.
#[test]
fn no_call_passes_between_the_changes_of_two_user_limits() {
    let slow = || (0..20).for_each(|_| thread::yield_now());
    let (first, second) = (Own::new(slow), Own::new(slow));
    let both = RateLimit::new(first).and(RateLimit::new(second));
    let (layer, control) = steadfast::server().rate_limit(both).live().unwrap();
    let stack = layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(()))));
    let config = |n| StackConfig {
        rate_limit: vec![Own::config(n % 2 == 0), Own::config(n % 2 == 1)],
        switched_off: n % 3 == 0,
        ..open()
    };
    control.apply(&config(1)).unwrap();
    let (done, passed) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for mut stack in vec![stack; 2] {
            let (done, passed) = (&done, &passed);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let Poll::Ready(Err(Error::Rejected(_))) = poll_once(stack.call(())) else {
                        passed.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                }
            });
        }
        for n in 0..size(300, 1_000) {
            control.apply(&config(n)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(passed.load(Ordering::Relaxed), 0);
}

/// A panic in a user's limit leaves at most that limit half changed.
#[test]
fn a_limit_that_panics_when_it_is_changed_leaves_the_gates_open() {
    let fails = Arc::new(AtomicBool::new(false));
    let own = Own::new({
        let fails = fails.clone();
        move || assert!(!fails.load(Ordering::Relaxed), "it cannot")
    });
    let limiter = Limiter::fixed(5).unwrap();
    let (layer, control) =
        steadfast::server().rate_limit(RateLimit::new(own)).load_shed(limiter.clone()).timeout(secs(1)).live().unwrap();
    let mut stack = layer.layer(service_fn(|()| ready(Ok::<_, Infallible>(()))));
    let config = |opens, limit, timeout| StackConfig {
        rate_limit: vec![Own::config(opens)],
        load_shed: Some(LoadShedConfig::new(limit)),
        timeout: Some(timeout),
        ..open()
    };
    control.apply(&config(false, 4, secs(2))).unwrap();
    fails.store(true, Ordering::Relaxed);
    let apply = || control.apply(&config(true, 9, secs(3)));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply)).is_err());
    fails.store(false, Ordering::Relaxed);
    assert_eq!(limiter.limit(), 9, "the stricter of the two does not stay in force");
    assert!(matches!(poll_once(stack.call(())), Poll::Ready(Ok(()))));
    control.apply(&open()).unwrap();
    assert_eq!(control.config(), *control.built());
}
