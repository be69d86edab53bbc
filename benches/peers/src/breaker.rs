//! Circuit breakers: a call that is admitted and recorded as a success, or refused.

use crate::{
    harness::{Contestant, Role, Row},
    services::{AtOnce, Fault, answered, refused},
};
use failsafe::{
    Config, StateMachine,
    backoff::{self, Constant, EqualJittered},
    failure_policy::{self, ConsecutiveFailures, OrElse, SuccessRateOverTimeWindow},
};
use recloser::Recloser;
use std::{
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};
use steadfast::circuit_breaker::{self, Breaker};
use tokio::time::Instant;
use tower::Layer;
use tower_resilience_circuitbreaker::CircuitBreakerLayer;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub fn rows() -> Vec<Row> {
    vec![record(), record_at(), record_in_a_row(), refuse(), layer(), layer_refuses()]
}

/// Opens at half of the calls of the last ten seconds.
fn sliding() -> Breaker {
    Breaker::builder().failure_rate(0.5, 10 * SECOND).build().expect("a valid breaker")
}

/// Opens after five consecutive failures.
fn in_a_row() -> Breaker {
    Breaker::builder().consecutive_failures(5).build().expect("a valid breaker")
}

pub fn open() -> Breaker {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(HOUR).build().expect("a valid breaker");
    breaker.try_acquire().expect("a closed breaker").failure();
    breaker
}

type Failsafe<Policy> = StateMachine<Policy, ()>;

/// The defaults of `Config::new()`: a moving average over thirty seconds, or five consecutive failures.
fn failsafe() -> Failsafe<OrElse<SuccessRateOverTimeWindow<EqualJittered>, ConsecutiveFailures<EqualJittered>>> {
    Config::new().build()
}

fn failsafe_in_a_row(failures: u32, pause: Duration) -> Failsafe<ConsecutiveFailures<Constant>> {
    Config::new().failure_policy(failure_policy::consecutive_failures(failures, backoff::constant(pause))).build()
}

fn open_failsafe() -> Failsafe<ConsecutiveFailures<Constant>> {
    let breaker = failsafe_in_a_row(1, HOUR);
    breaker.on_error();
    breaker
}

/// The defaults of `Recloser::default()`: half of the last hundred calls.
fn recloser() -> Arc<Recloser> {
    Arc::new(Recloser::default())
}

fn open_recloser() -> Arc<Recloser> {
    let breaker = Recloser::custom().closed_len(1).open_wait(HOUR).build();
    for _ in 0..2 {
        assert!(breaker.call(|| Err::<(), Fault>(Fault)).is_err());
    }
    Arc::new(breaker)
}

/// Half of the last hundred calls: its cheapest window.
pub fn tower_resilience() -> CircuitBreakerLayer {
    CircuitBreakerLayer::builder().name("").build().expect("a valid breaker")
}

fn record() -> Row {
    Row::new(
        "breaker: admit and record in a time window",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", sliding, |breaker| {
                let admitted = breaker.try_acquire();
                black_box(&admitted);
                admitted.map(|permit| permit.success()).is_ok()
            }),
            Contestant::on_threads(Role::Peer, "failsafe", failsafe, |breaker| {
                let admitted = black_box(breaker.is_call_permitted());
                breaker.on_success();
                admitted
            }),
            Contestant::on_threads(
                Role::Peer,
                "failsafe (in a row)",
                || failsafe_in_a_row(5, SECOND),
                |breaker| {
                    let admitted = black_box(breaker.is_call_permitted());
                    breaker.on_success();
                    admitted
                },
            )
            .other_work("keeps no window, reads no clock"),
            Contestant::on_threads(Role::Peer, "recloser", recloser, |breaker| {
                black_box(&breaker.call(|| Ok::<(), Fault>(()))).is_ok()
            })
            .other_work("a window of calls: reads no clock"),
        ],
    )
}

/// Without the clock, which recloser does not read, because its window counts calls. Failsafe's consecutive failures
/// have no window.
fn record_at() -> Row {
    Row::new(
        "breaker: admit and record in a time window, clock already read",
        vec![
            Contestant::on_threads(
                Role::Ours,
                "steadfast",
                || (sliding(), Instant::now()),
                |(breaker, now)| {
                    let now = black_box(*now);
                    let admitted = breaker.try_acquire_at(now);
                    black_box(&admitted);
                    admitted.map(|permit| permit.success_at(now)).is_ok()
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "failsafe (in a row)",
                || failsafe_in_a_row(5, SECOND),
                |breaker| {
                    let admitted = black_box(breaker.is_call_permitted());
                    breaker.on_success();
                    admitted
                },
            )
            .other_work("keeps no window"),
            Contestant::on_threads(Role::Peer, "recloser", recloser, |breaker| {
                black_box(&breaker.call(|| Ok::<(), Fault>(()))).is_ok()
            }),
        ],
    )
}

fn record_in_a_row() -> Row {
    Row::new(
        "breaker of failures in a row: admit and record a success",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", in_a_row, |breaker| {
                let admitted = breaker.try_acquire();
                black_box(&admitted);
                admitted.map(|permit| permit.success()).is_ok()
            }),
            Contestant::on_threads(
                Role::Peer,
                "failsafe",
                || failsafe_in_a_row(5, SECOND),
                |breaker| {
                    let admitted = black_box(breaker.is_call_permitted());
                    breaker.on_success();
                    admitted
                },
            ),
        ],
    )
}

fn refuse() -> Row {
    Row::new(
        "breaker: refuse",
        vec![
            Contestant::on_threads(Role::Ours, "steadfast", open, |breaker| black_box(&breaker.try_acquire()).is_err()),
            Contestant::on_threads(Role::Peer, "failsafe", open_failsafe, |breaker| {
                !black_box(breaker.is_call_permitted())
            }),
            Contestant::on_threads(Role::Peer, "recloser", open_recloser, |breaker| {
                black_box(&breaker.call(|| Ok::<(), Fault>(()))).is_err()
            }),
        ],
    )
}

fn layer() -> Row {
    Row::new(
        "breaker: layer, call passes",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || circuit_breaker::CircuitBreakerLayer::new(sliding()).typed_error().layer(AtOnce),
                answered,
            ),
            Contestant::in_runtime(Role::Bare, "bare", || AtOnce, answered),
            Contestant::in_runtime(Role::Peer, "tower-resilience", || tower_resilience().layer(AtOnce), answered),
        ],
    )
}

fn layer_refuses() -> Row {
    Row::new(
        "breaker: layer, call refused",
        vec![
            Contestant::in_runtime(
                Role::Ours,
                "steadfast",
                || circuit_breaker::CircuitBreakerLayer::new(open()).typed_error().layer(AtOnce),
                refused,
            ),
            Contestant::in_runtime(Role::Peer, "tower-resilience", || open_tower_resilience().layer(AtOnce), refused)
                .alone(),
        ],
    )
}

/// Forced open, because no call can fail yet. For one thread only: with two threads, a thread that finds its lock taken
/// can wait forever for a timer that has already fired.
pub fn open_tower_resilience() -> CircuitBreakerLayer {
    let builder = CircuitBreakerLayer::builder().name("").wait_duration_in_open(HOUR);
    let (layer, handle) = builder.build_with_handle().expect("a valid breaker");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(handle.force_open()).poll(&mut cx).is_ready());
    layer
}
