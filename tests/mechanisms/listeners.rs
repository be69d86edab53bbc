//! Listeners of a breaker in a stack: their timing, their actions, and the clock after them.

use crate::{
    probes::{Events, OnTime, take},
    support::{Act, Backend, ms, secs},
};
use std::sync::atomic::Ordering::SeqCst;
use steadfast::{
    circuit_breaker::{
        Breaker,
        BreakerState::{Closed, ForcedClosed, ForcedOpen, Open},
    },
    classify::AnyError,
    shell::{GateStage, Leaf, StackLayer, TypedError},
    stack::live::{BreakerConfig, Forced, StackConfig},
};
use tokio::time::advance;
use tower::{Layer, ServiceExt};

#[tokio::test(start_paused = true)]
async fn a_live_stack_reports_a_forced_circuit_after_the_change() {
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let (layer, control) = steadfast::client().circuit_breaker(breaker.clone()).live().unwrap();
    let forced = |forced| {
        let circuit_breaker = Some(BreakerConfig { forced, ..control.built().circuit_breaker.clone().unwrap() });
        StackConfig { circuit_breaker, ..StackConfig::default() }
    };
    let (open, closed) = (forced(Some(Forced::Open)), forced(Some(Forced::Closed)));
    let (events, within, again) = (Events::default(), control.clone(), closed.clone());
    let notes = events.clone();
    breaker.on_transition(move |transition| {
        let is_forced = within.config().circuit_breaker.unwrap().forced.is_some();
        notes.add(format!("{:?} {is_forced}", transition.to()));
        if transition.to() == ForcedOpen {
            within.apply(&again).unwrap();
            notes.add("applied");
        }
    });
    control.apply(&open).unwrap();
    assert_eq!(events.take(), ["ForcedOpen true", "applied", "ForcedClosed true"]);
    assert_eq!(breaker.state(), ForcedClosed);
    // Forcing it again is no transition.
    control.apply(&closed).unwrap();
    assert_eq!(events.take(), [""; 0]);
    control.apply(&forced(None)).unwrap();
    assert_eq!(events.take(), ["Closed false"]);

    // A listener that runs at the end of a call may apply a configuration too.
    let (within, off) = (control.clone(), closed);
    breaker.on_transition(move |transition| {
        if transition.to() == Open {
            within.apply(&off).unwrap();
        }
    });
    let client = layer.layer(Backend::always(Act::fail().after(ms(1))));
    client.oneshot(()).await.unwrap_err();
    assert_eq!(events.take(), ["Open false", "ForcedClosed true"]);
    assert_eq!(breaker.state(), ForcedClosed);
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_listener_the_stages_read_the_clock_again() {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(1)).probes(2).build().unwrap();
    breaker.on_transition(|_| take(ms(60)));
    let (outside, inside) = (OnTime::default(), OnTime::default());
    let stages = GateStage::new(breaker.clone(), GateStage::new(inside.clone(), Leaf::new(AnyError)));
    let stages = GateStage::new(outside.clone(), stages);
    let service = StackLayer::from_stages(stages, TypedError)
        .layer(Backend::script([Act::fail().after(ms(1))], Act::answer(200).after(ms(1))));
    service.clone().oneshot(()).await.unwrap_err();
    assert_eq!(breaker.state(), Open);
    advance(secs(1)).await;
    for _ in 0..2 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!(breaker.state(), Closed);
    // Each of the three calls passes a gate when it comes, when it is pending, and when it ends.
    assert_eq!((outside.0.load(SeqCst), inside.0.load(SeqCst)), (9, 9));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_applied_by_a_listener_inside_the_gates_is_refused() {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(1)).probes(1).build().unwrap();
    let (layer, control) = steadfast::client().circuit_breaker(breaker.clone()).live().unwrap();
    let (events, within) = (Events::default(), control.clone());
    let notes = events.clone();
    breaker.on_transition(move |transition| {
        let applied = within.apply(&StackConfig::default()).map_err(|error| error.field());
        notes.add(format!("{:?} {applied:?}", transition.to()));
    });
    let client = layer.layer(Backend::script([Act::fail()], Act::answer(200)));
    client.clone().oneshot(()).await.unwrap_err();
    advance(secs(1)).await;
    client.oneshot(()).await.unwrap();
    assert_eq!(events.take(), ["Open Ok(())", "HalfOpen Err(\"apply\")", "Closed Ok(())"]);
}
