//! The value in force and the readings after each tick, with a good source and with a source that is down.

use super::support::{Answer, Limit, NOW, SECOND, Scripted, builder, copy, in_force, limit, published, shape};
use std::{sync::Arc, time::Duration};
use steadfast::constant_work::{InForce, Poller, Rule, Staleness, Version, WallClock};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn the_defaults_are_in_force_until_the_first_good_read() {
    let source = Scripted::down();
    let mut poller = builder(&source, shape(3)).defaults(vec![limit(9, 9)]).build(copy).unwrap();
    let current = poller.current();
    assert_eq!(*current.get(), [limit(9, 9), Limit::inert(1), Limit::inert(2)]);
    poller.tick().await.unwrap_err();
    assert_eq!(in_force(&current), [limit(9, 9)]);
    source.gives(&published(shape(3), 0, 0, &[]));
    assert_eq!(poller.tick().await.unwrap(), Version::default());
    assert_eq!(*current.get(), [Limit::inert(0), Limit::inert(1), Limit::inert(2)]);
}

#[tokio::test(start_paused = true)]
async fn every_tick_builds_again_and_the_old_value_is_kept_for_one_tick() {
    let source = Scripted::new(Answer::Bytes(published(shape(1), 1, 1, &[limit(1, 1)])));
    let mut builds = 0_u32;
    let counting = move |_: &[Limit]| {
        builds += 1;
        builds
    };
    let mut poller = builder(&source, shape(1)).build(counting).unwrap();
    let current = poller.current();
    let first = Arc::downgrade(&current.get());
    assert_eq!(*current.load(), 1);
    poller.tick().await.unwrap();
    assert_eq!((*current.load(), first.upgrade().as_deref()), (2, Some(&1)));
    source.answers(Answer::Hangs);
    poller.tick().await.unwrap_err();
    assert_eq!((*current.load(), first.upgrade()), (3, None));
}

#[tokio::test(start_paused = true)]
async fn by_default_the_last_good_rules_stay_forever() {
    let source = Scripted::new(Answer::Bytes(published(shape(1), 1, 1, &[limit(1, 1)])));
    let mut poller = builder(&source, shape(1)).build(copy).unwrap();
    poller.tick().await.unwrap();
    source.answers(Answer::Hangs);
    advance(365 * 86_400 * SECOND).await;
    poller.tick().await.unwrap_err();
    assert_eq!(in_force(&poller.current()), [limit(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn stale_rules_are_replaced_by_the_defaults_until_the_next_good_read() {
    let good = published(shape(1), 1, 1, &[limit(1, 1)]);
    let source = Scripted::new(Answer::Bytes(good.clone()));
    let mut poller = builder(&source, shape(1))
        .defaults(vec![limit(9, 9)])
        .staleness(Staleness::DefaultsAfter(10 * SECOND))
        .build(copy)
        .unwrap();
    let current = poller.current();
    poller.tick().await.unwrap();
    source.gives(&[]);
    advance(10 * SECOND).await;
    poller.tick().await.unwrap_err();
    assert_eq!((in_force(&current), poller.readings().now().in_force), (vec![limit(1, 1)], InForce::LastGood));
    advance(Duration::from_millis(1)).await;
    poller.tick().await.unwrap_err();
    assert_eq!((in_force(&current), poller.readings().now().in_force), (vec![limit(9, 9)], InForce::Defaults));
    // An older version is still refused.
    source.gives(&published(shape(1), 1, 0, &[limit(2, 2)]));
    assert_eq!(poller.tick().await.unwrap_err().kind(), "backwards");
    source.gives(&good);
    poller.tick().await.unwrap();
    assert_eq!((in_force(&current), poller.readings().now().in_force), (vec![limit(1, 1)], InForce::LastGood));
}

#[tokio::test(start_paused = true)]
async fn rules_that_make_the_build_panic_do_not_keep_stale_ones_in_force() {
    let source = Scripted::new(Answer::Bytes(published(shape(1), 1, 1, &[limit(1, 1)])));
    let panicking = |rules: &[Limit]| {
        assert_ne!(rules[0].per_second, 15, "as a test asked for");
        rules[0].per_second
    };
    let mut poller = builder(&source, shape(1))
        .defaults(vec![limit(9, 9)])
        .staleness(Staleness::DefaultsAfter(10 * SECOND))
        .build(panicking)
        .unwrap();
    poller.tick().await.unwrap();
    source.gives(&published(shape(1), 1, 2, &[limit(1, 15)]));
    advance(10 * SECOND).await;
    poller.tick().await.unwrap_err();
    assert_eq!(*poller.current().load(), 1);
    advance(SECOND).await;
    assert_eq!(poller.tick().await.unwrap_err().kind(), "panicked");
    assert_eq!(*poller.current().load(), 9);
}

#[tokio::test(start_paused = true)]
async fn readings_report_both_ages_the_fill_and_the_ticks_by_result() {
    let source = Scripted::down();
    let begun = tokio::time::Instant::now();
    let wall_clock = WallClock::from_fn(move || NOW + tokio::time::Instant::now().saturating_duration_since(begun));
    let mut poller = Poller::builder(source.clone(), shape(4)).wall_clock(wall_clock).build(copy).unwrap();
    let readings = poller.readings();
    let fresh = readings.now();
    assert_eq!((fresh.version, fresh.since_publication, fresh.since_good_read), (None, None, None));
    assert_eq!((fresh.used, fresh.slots, fresh.bytes, fresh.last_tick), (0, 4, 0, None));

    advance(30 * SECOND).await;
    let good = published(shape(4), 1, 1, &[limit(1, 1), limit(2, 2), limit(3, 3)]);
    source.gives(&good);
    source.takes(Duration::from_millis(250));
    poller.tick().await.unwrap();
    advance(5 * SECOND).await;
    let after = readings.now();
    assert_eq!(after.version, Some(Version { epoch: 1, version: 1 }));
    assert_eq!(after.since_publication, Some(Duration::from_millis(35_250)));
    assert_eq!(after.since_good_read, Some(5 * SECOND));
    assert_eq!((after.used, after.slots, after.bytes), (3, 4, good.len()));
    assert_eq!(after.last_tick, Some(Duration::from_millis(250)));
    assert_eq!((after.ticks.good(), after.ticks.by_kind().map(|(_, count)| count).sum::<u64>()), (1, 0));

    source.gives(b"x");
    poller.tick().await.unwrap_err();
    let refused = readings.now();
    assert_eq!((refused.ticks.good(), refused.ticks.refused("truncated"), refused.bytes), (1, 1, 1));
    assert_eq!(refused.since_good_read, Some(Duration::from_millis(5_250)));
    drop(poller);
    assert_eq!(readings.now().ticks, refused.ticks);
}

#[tokio::test(start_paused = true)]
async fn a_publication_ahead_of_the_clock_is_accepted_within_the_allowance_with_age_zero() {
    let source = Scripted::new(Answer::Bytes(published(shape(1), 1, 1, &[])));
    let behind = WallClock::from_fn(|| NOW - 86_400 * SECOND);
    let mut poller = builder(&source, shape(1)).wall_clock(behind.clone()).build(copy).unwrap();
    poller.tick().await.unwrap();
    assert_eq!(poller.readings().now().since_publication, Some(Duration::ZERO));
    let strict = builder(&source, shape(1)).wall_clock(behind).clock_allowance(3_600 * SECOND);
    assert_eq!(strict.build(copy).unwrap().tick().await.unwrap_err().kind(), "from_the_future");
    let unset = WallClock::from_fn(|| Duration::ZERO);
    let lenient = builder(&source, shape(1)).wall_clock(unset).clock_allowance(Duration::MAX);
    lenient.build(copy).unwrap().tick().await.unwrap();
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let field = |change: fn(Builder) -> Builder| {
        change(builder(&Scripted::down(), shape(2))).build(copy).map(drop).unwrap_err().field()
    };
    assert_eq!(field(|builder| builder.period(Duration::ZERO)), "poller.period");
    assert_eq!(field(|builder| builder.period(367 * 86_400 * SECOND)), "poller.period");
    assert_eq!(field(|builder| builder.timeout(Duration::ZERO)), "poller.timeout");
    assert_eq!(field(|builder| builder.timeout(2 * SECOND)), "poller.timeout");
    assert_eq!(field(|builder| builder.staleness(Staleness::DefaultsAfter(SECOND / 2))), "poller.staleness");
    assert_eq!(field(|builder| builder.last_good("/")), "poller.last_good");
    assert_eq!(field(|builder| builder.defaults(vec![limit(1, 1); 3])), "poller.defaults");
    assert_eq!(field(|builder| builder.defaults(vec![limit(1, 0)])), "poller.defaults");
}

type Builder = steadfast::constant_work::PollerBuilder<Limit, Scripted>;
