//! Compares a limit that distinguishes classes of calls with a plain model of its documentation. Further tests cover
//! the shares of tenants, and wrong configurations.

use crate::support::{Act, Backend};
use proptest::prelude::*;
use steadfast::{
    CallContext, Criticality,
    error::OverloadedCause,
    load_shed::{Limiter, LimiterBuilder, LoadShed, LoadShedLayer},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt};

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(usize),
    Release(prop::sample::Index),
    SetLimit(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..4usize).prop_map(Step::Acquire),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => (1..40usize).prop_map(Step::SetLimit),
    ]
}

/// The share that each class sees, and the share that it is guaranteed, in hundredths.
fn any_shares() -> impl Strategy<Value = ([u64; 4], [u64; 4])> {
    let seen = prop::array::uniform4(1..=100_u64).prop_map(|mut shares| {
        shares.sort_unstable();
        shares
    });
    (seen, prop::array::uniform4(0..=25_u64))
}

fn with_shares(limit: usize, seen: [u64; 4], guaranteed: [u64; 4]) -> LimiterBuilder {
    let builder = Limiter::at_most(limit).class_shares(seen.map(|share| share as f64 / 100.0));
    let guaranteed = Criticality::ALL.into_iter().zip(guaranteed);
    guaranteed.fold(builder, |builder, (class, share)| builder.guarantee(class, share as f64 / 100.0))
}

fn of(class: Criticality) -> CallContext {
    CallContext::new().with_criticality(class)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_class_gets_what_it_sees_and_what_it_is_guaranteed_and_never_more_than_the_limit(
        first_limit in 1..40usize,
        (seen, guaranteed) in any_shares(),
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let limiter = with_shares(first_limit, seen, guaranteed).build().unwrap();
        let now = Instant::now();
        let (mut limit, mut held, mut permits) = (first_limit as u64, [0_u64; 4], Vec::new());
        let mut refused = 0;
        for step in steps {
            match step {
                Step::Acquire(class) => {
                    let total: u64 = held.iter().sum();
                    let reserved = |class: usize| limit * guaranteed[class] / 100;
                    let unused = |class: usize| reserved(class).saturating_sub(held[class]);
                    let others: u64 = (0..4).filter(|other| *other != class).map(unused).sum();
                    let visible = (limit * seen[class] / 100).max(1);
                    let wanted = if total >= limit {
                        Some(OverloadedCause::Limit)
                    } else if unused(class) > 0 || total < visible && total + others < limit {
                        None
                    } else {
                        Some(OverloadedCause::Class)
                    };
                    let context = CallContext::new().with_criticality(Criticality::ALL[class]);
                    match limiter.try_acquire_at(&context, now) {
                        Ok(permit) => {
                            prop_assert_eq!(wanted, None);
                            held[class] += 1;
                            permits.push((class, permit));
                        }
                        Err(error) => {
                            prop_assert_eq!(wanted, Some(error.cause()));
                            refused += 1;
                        }
                    }
                }
                Step::Release(index) if !permits.is_empty() => {
                    let (class, permit) = permits.swap_remove(index.index(permits.len()));
                    drop(permit);
                    held[class] -= 1;
                }
                Step::Release(_) => {}
                Step::SetLimit(new) => {
                    limiter.set_limit(new).unwrap();
                    limit = new as u64;
                }
            }
            prop_assert_eq!(limiter.in_flight() as u64, held.iter().sum::<u64>());
        }
        prop_assert_eq!(limiter.refused(), refused);
        prop_assert_eq!(limiter.readings().refused_by.iter().map(|(_, _, count)| count).sum::<u64>(), refused);
        drop(permits);
        prop_assert_eq!(limiter.in_flight(), 0);
    }

    #[test]
    fn shadow_counts_exactly_the_calls_that_would_have_been_refused_without_it(
        first_limit in 1..40usize,
        (seen, guaranteed) in any_shares(),
        fair_share in prop::option::of(0.1..=1.0_f64),
        steps in prop::collection::vec((any_step(), 0..3_u64), 1..200),
    ) {
        let builder = with_shares(first_limit, seen, guaranteed).tenant_seed(1).shadow();
        let builder = fair_share.into_iter().fold(builder, LimiterBuilder::fair_share);
        let limiter = builder.build().unwrap();
        let now = Instant::now();
        let (mut permits, mut beyond) = (Vec::new(), 0);
        for (step, tenant) in steps {
            match step {
                Step::Acquire(class) => {
                    let acquire = || limiter.try_acquire_for(&tenant, &of(Criticality::ALL[class]), now);
                    // Without shadow mode the limiter shows whether it would have refused the call.
                    limiter.set_shadow(false);
                    beyond += u64::from(acquire().is_err());
                    limiter.set_shadow(true);
                    permits.push(acquire().unwrap());
                }
                Step::Release(index) if !permits.is_empty() => drop(permits.swap_remove(index.index(permits.len()))),
                Step::Release(_) => {}
                Step::SetLimit(new) => limiter.set_limit(new).unwrap(),
            }
            prop_assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (permits.len(), beyond));
        }
    }
}

#[test]
fn shadow_counts_a_call_that_would_take_what_another_class_is_guaranteed() {
    let limiter = Limiter::at_most(4).guarantee(Criticality::Critical, 0.5).shadow().build().unwrap();
    let acquire = |class| limiter.try_acquire_at(&of(class), Instant::now()).unwrap();
    let _low = [(); 3].map(|()| acquire(Criticality::Sheddable));
    assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (3, 1));
    let _high = [(); 2].map(|()| acquire(Criticality::Critical));
    assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (5, 2));
}

#[test]
fn a_tenant_does_not_take_all_places_that_guarantees_leave_to_its_class() {
    for (guaranteed, most) in [(0.0, 50), (0.2, 40), (0.5, 25), (0.9, 5)] {
        let builder = Limiter::at_most(100).guarantee(Criticality::CriticalPlus, guaranteed);
        let limiter = builder.fair_share(1.0).tenant_seed(1).build().unwrap();
        let now = Instant::now();
        let acquire = |tenant: u32| limiter.try_acquire_for(&tenant, &of(Criticality::Critical), now);
        let held: Vec<_> = std::iter::from_fn(|| acquire(1).ok()).collect();
        assert_eq!((held.len(), acquire(1).unwrap_err().cause()), (most, OverloadedCause::Tenant));
        assert!(acquire(2).is_ok(), "{guaranteed}");
    }
}

#[tokio::test(start_paused = true)]
async fn exempt_and_shadow_calls_pass_and_lose_no_place_where_more_than_65_535_of_a_class_are_in_flight() {
    const LIMIT: usize = 65_535;
    let limiter = Limiter::at_most(LIMIT).guarantee(Criticality::Critical, 0.5).shadow().build().unwrap();
    let now = Instant::now();
    let acquire = || limiter.try_acquire_at(&CallContext::new(), now);
    let mut permits: Vec<_> = (0..LIMIT + 10).map(|_| acquire().unwrap()).collect();
    assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (LIMIT + 10, 10));

    limiter.set_shadow(false);
    assert_eq!(acquire().unwrap_err().cause(), OverloadedCause::Limit);
    let shed = LoadShed::new(limiter.clone()).exempt(|exempt: &bool| *exempt);
    let service = LoadShedLayer::new(shed).typed_error().layer(Backend::always(Act::answer(200)));
    assert!(service.clone().oneshot(false).await.is_err());
    assert_eq!(service.oneshot(true).await, Ok(200));
    assert_eq!((limiter.in_flight(), limiter.exempted()), (LIMIT + 10, 1));

    // The count of a class ends at 65,535. Ten calls are beyond it, and count toward the limit until they end.
    permits.drain(..10);
    assert!(acquire().is_err());
    permits.drain(..1);
    assert!(acquire().is_ok());
    permits.clear();
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn an_invalid_configuration_is_an_error_that_names_the_field() {
    use std::time::Duration;
    use steadfast::load_shed::{Aimd, Gradient};
    let error = |builder: steadfast::load_shed::LimiterBuilder| builder.build().unwrap_err().to_string();
    let cases = [
        (error(Limiter::adaptive().floor(0)), "load_shed.floor"),
        (error(Limiter::adaptive().floor(11).ceiling(10)), "floor of 11"),
        (error(Limiter::adaptive().ceiling(0)), "load_shed.limit"),
        (error(Limiter::adaptive().initial(0)), "load_shed.initial"),
        (error(Limiter::adaptive().share(0.0)), "load_shed.share"),
        (error(Limiter::adaptive().share(f64::NAN)), "load_shed.share"),
        (error(Limiter::adaptive().share(1.01)), "load_shed.share"),
        (error(Limiter::adaptive().deadline(Duration::ZERO)), "load_shed.deadline"),
        (error(Limiter::at_most(9).class_shares([0.5, 0.4, 1.0, 1.0])), "not smaller for a more critical class"),
        (error(Limiter::at_most(9).class_shares([0.0, 0.4, 1.0, 1.0])), "load_shed.class_shares"),
        (error(Limiter::at_most(9).guarantee(Criticality::Critical, -0.1)), "load_shed.guarantee"),
        (
            error(Limiter::at_most(9).guarantee(Criticality::Critical, 0.6).guarantee(Criticality::Sheddable, 0.5)),
            "together must be at most 1",
        ),
        (error(Limiter::at_most(70_000).guarantee(Criticality::Critical, 0.6)), "65,535"),
        (error(Limiter::at_most(9).fair_share(0.0)), "load_shed.fair_share"),
        (Aimd::new(0, 0.9).unwrap_err().to_string(), "aimd.limit"),
        (Aimd::new(1, 1.0).unwrap_err().to_string(), "aimd.factor"),
        (Aimd::new(1, 0.0).unwrap_err().to_string(), "aimd.factor"),
        (Gradient::new(1, 0.9).unwrap_err().to_string(), "gradient.tolerance"),
        (Gradient::new(0, 1.5).unwrap_err().to_string(), "gradient.limit"),
    ];
    for (error, wanted) in cases {
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
    }
}
