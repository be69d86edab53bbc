//! The log events of state changes, and of rejections: each mechanism of a stack logs one warning per ten seconds.

use super::{
    collector::Collector,
    instrument::{Switch, answers},
};
use crate::support::{ms, secs};
use steadfast::{circuit_breaker::Breaker, load_shed::Limiter, shell::StateChange, telemetry::Spans};
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tracing::Level;

#[tokio::test(start_paused = true)]
async fn a_state_change_is_logged_once_for_each_live_stack() {
    let (collector, _guard) = Collector::begin(Level::INFO);
    let (switch, spans) = (Switch::default(), Spans::new());
    let stack = |name| {
        let stack = steadfast::client().observe(name, spans.clone()).own_circuit_breaker(switch.clone());
        stack.layer().unwrap().layer(answers())
    };
    let (payments, orders) = (stack("payments"), stack("orders"));
    assert_eq!(switch.listeners(), 2);
    switch.trouble("closed", "open");
    assert_eq!(
        collector.take(),
        ["payments", "orders"].map(|stack| format!(
            "WARN the state has changed stack={stack} mechanism=circuit_breaker from=closed to=open \
             evidence=5 of 8 failed"
        ))
    );
    let clone = payments.clone();
    drop(payments);
    drop(orders);
    switch.tell(StateChange::new("circuit_breaker", "open", "half_open", &"in time").after_missing(2));
    assert_eq!(
        collector.take(),
        ["INFO the state has changed stack=payments mechanism=circuit_breaker from=open to=half_open \
          evidence=in time missed=2"]
    );
    drop(clone);
    assert_eq!((switch.listeners(), switch.handles()), (0, 1));
    switch.change("half_open", "closed");
    assert!(collector.take().is_empty());
    drop(spans);
}

#[tokio::test(start_paused = true)]
async fn each_mechanism_logs_one_warning_per_ten_seconds_with_its_number_of_rejections() {
    let (collector, _guard) = Collector::begin(Level::INFO);
    let limiter = Limiter::fixed(1).unwrap();
    let _place = limiter.try_acquire_owned().unwrap();
    let stack = |name| {
        let stack = steadfast::server().observe(name, Spans::new()).load_shed(limiter.clone());
        stack.service(answers()).unwrap()
    };
    let (shop, other) = (stack("shop"), stack("other"));
    let warning = |stack, count| format!("WARN calls were rejected stack={stack} mechanism=load_shed count={count}");
    for _ in 0..5 {
        let _ = shop.clone().oneshot(()).await;
    }
    assert_eq!(collector.take(), [warning("shop", 1)]);
    // Another stack has its own counts.
    let _ = other.clone().oneshot(()).await;
    assert_eq!(collector.take(), [warning("other", 1)]);
    advance(secs(10) - ms(1)).await;
    let _ = shop.clone().oneshot(()).await;
    assert!(collector.take().is_empty());
    advance(ms(1)).await;
    let _ = shop.clone().oneshot(()).await;
    assert_eq!(collector.take(), [warning("shop", 6)]);
    advance(secs(3600)).await;
    let _ = shop.clone().oneshot(()).await;
    assert_eq!(collector.take(), [warning("shop", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_state_change_of_a_circuit_has_its_evidence() {
    let (collector, _guard) = Collector::begin(Level::INFO);
    let breaker = Breaker::builder().failure_rate(0.5, secs(10)).minimum_calls(4).open_for(secs(1)).probes(1);
    let breaker = breaker.consecutive_failures(3).build().unwrap();
    let stack = steadfast::client().observe("payments", Spans::new()).circuit_breaker(breaker.clone());
    let _stack = stack.layer().unwrap();
    breaker.try_acquire().unwrap().success();
    for _ in 0..3 {
        breaker.try_acquire().unwrap().failure();
    }
    advance(secs(1)).await;
    breaker.try_acquire().unwrap().failure();
    advance(secs(60)).await;
    breaker.try_acquire().unwrap().success();
    breaker.force_open();
    let told = [
        ("WARN", "closed", "open", "3 of 4 calls failed, 3 in a row"),
        ("INFO", "open", "half_open", "the open time has passed"),
        ("WARN", "half_open", "open", "the probes failed or did not answer"),
        ("INFO", "open", "half_open", "the open time has passed"),
        ("INFO", "half_open", "closed", "enough probes succeeded, or the circuit was reset"),
        ("INFO", "closed", "forced_open", "by hand"),
    ];
    let told = told.map(|(level, from, to, evidence)| {
        format!(
            "{level} the state has changed stack=payments mechanism=circuit_breaker from={from} to={to} \
             evidence={evidence}"
        )
    });
    assert_eq!(collector.take(), told);
}
