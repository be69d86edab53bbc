//! Snapshots that are refused, through the whole poller.

use super::support::{Answer, Limit, NOW, Scripted, builder, copy, forged, in_force, limit, published, shape};
use std::time::Duration;
use steadfast::{
    ConfigError,
    constant_work::{Build, Poller, Refusal, Rule, Shape, Snapshot, SourceFailure, Version},
    error::chain,
};
use tokio::time::advance;

type Copying = Poller<Limit, Scripted, fn(&[Limit]) -> Vec<Limit>>;

fn rules() -> Vec<Limit> {
    vec![limit(1, 10), limit(2, 20)]
}

/// A poller whose last good snapshot is version 5 of epoch 2.
async fn after_a_good_one() -> (Scripted, Copying, Vec<u8>) {
    let good = published(shape(3), 2, 5, &rules());
    let source = Scripted::new(Answer::Bytes(good.clone()));
    let mut poller = builder(&source, shape(3)).build(copy as fn(&[Limit]) -> _).unwrap();
    poller.tick().await.unwrap();
    (source, poller, good)
}

#[tokio::test(start_paused = true)]
async fn no_flipped_bit_is_taken_and_the_next_good_read_heals() {
    let (source, mut poller, good) = after_a_good_one().await;
    let current = poller.current();
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        source.gives(&flipped);
        poller.tick().await.unwrap_err();
        assert_eq!(in_force(&current), rules(), "bit {bit}");

        let mut fresh = builder(&source, shape(3)).defaults(vec![limit(9, 9)]).build(copy).unwrap();
        fresh.tick().await.unwrap_err();
        assert_eq!(in_force(&fresh.current()), [limit(9, 9)], "bit {bit}");
        source.gives(&good);
        fresh.tick().await.unwrap();
        assert_eq!(in_force(&fresh.current()), rules());
    }
    assert_eq!(poller.readings().now().ticks.refused("corrupt"), 8 * (good.len() as u64 - 8 - 2));
    source.gives(&published(shape(3), 2, 6, &[limit(3, 3)]));
    poller.tick().await.unwrap();
    assert_eq!(in_force(&current), [limit(3, 3)]);
}

#[tokio::test(start_paused = true)]
async fn only_snapshots_of_the_exact_length_are_accepted() {
    let (source, mut poller, good) = after_a_good_one().await;
    for length in 0..good.len() {
        source.gives(&good[..length]);
        let refusal = poller.tick().await.unwrap_err();
        match length {
            0 => assert!(matches!(refusal, Refusal::Empty)),
            _ => assert!(
                matches!(refusal, Refusal::Truncated { length: of, expected } if of == length && expected == good.len())
            ),
        }
        assert_eq!(in_force(&poller.current()), rules());
    }
    source.gives(&[&good[..], &[0; 9]].concat());
    let refusal = poller.tick().await.unwrap_err();
    assert!(matches!(refusal, Refusal::Oversized { expected } if expected == good.len()));
}

#[tokio::test(start_paused = true)]
async fn each_fault_has_its_refusal() {
    let (source, mut poller, good) = after_a_good_one().await;
    let newer = published(shape(3), 2, 6, &rules());
    let rule = |field: usize, content: &[u8]| forged(newer.clone(), 64 + 2 + field, content);
    let shorter = Snapshot { version: Version::default(), published_at_nanos: 0, rules: rules() };
    let mut other_shape = Vec::new();
    shorter.encode(Shape::new(2, 30).unwrap(), &mut other_shape).unwrap();
    for (bytes, kind, text) in [
        (b"<html>404</html>".repeat(20), "not_a_snapshot", "not a snapshot: it does not begin with \"STDFSTCW\""),
        (
            forged(newer.clone(), 8, &[2]),
            "format",
            "the snapshot has format 2: this version of the crate reads format 1",
        ),
        (forged(newer.clone(), 10, &[1]), "reserved", "the reserved bytes of the header are not zero"),
        (forged(newer.clone(), 63, &[1]), "reserved", "the reserved bytes of the header are not zero"),
        (forged(newer.clone(), 12, &[8]), "schema", "the rules have schema 8: this program reads schema 7"),
        (other_shape, "shape", "the snapshot has 2 slots of 30 bytes: this program expects 3 of 19 bytes"),
        (
            forged(newer.clone(), 40, &[2]),
            "shape",
            "the snapshot has 2 slots of 19 bytes: this program expects 3 of 19 bytes",
        ),
        (forged(newer.clone(), 48, &[4]), "fill", "the header says that 4 of 3 slots are used"),
        (
            // The rule has 13 of the 17 bytes of its slot. The last byte of the padding is not zero.
            rule(16, &[1]),
            "encoding",
            "slot 0 does not contain one encoded rule followed by zeros",
        ),
        // The length of the rule includes two zeros of the padding.
        (forged(newer.clone(), 64, &[15]), "encoding", "slot 0 does not contain one encoded rule followed by zeros"),
        (
            forged(newer.clone(), 64, &[255, 255]),
            "encoding",
            "slot 0 does not contain one encoded rule followed by zeros",
        ),
        (forged(newer.clone(), 64, &[12]), "encoding", "slot 0 does not contain one encoded rule followed by zeros"),
        (rule(8, &[0]), "rule", "the rule in slot 0 is invalid: limit.per_second = 0: must be at least 1"),
        (
            rule(9, &f32::NAN.to_le_bytes()),
            "rule",
            "the rule in slot 0 is invalid: limit.weight = NaN: must be a number above zero",
        ),
        (
            published(shape(3), 2, 4, &rules()),
            "backwards",
            "the snapshot is version 4 of epoch 2, older than the last good one, version 5 of epoch 2",
        ),
        (
            published(shape(3), 1, 9, &rules()),
            "backwards",
            "the snapshot is version 9 of epoch 1, older than the last good one, version 5 of epoch 2",
        ),
        (
            published(shape(3), 2, 5, &[limit(1, 10), limit(2, 21)]),
            "conflict",
            "the snapshot is version 5 of epoch 2, as the last good one is, but has other rules: are there two publishers?",
        ),
        (
            published(shape(3), 2, 5, &[limit(1, 10), limit(2, 20), Limit::inert(2)]),
            "conflict",
            "the snapshot is version 5 of epoch 2, as the last good one is, but has other rules: are there two publishers?",
        ),
        (
            forged(newer.clone(), 32, &(NOW + Duration::from_secs(86_401)).as_nanos().to_le_bytes()[..8]),
            "from_the_future",
            "the snapshot was published 86401s ahead of the local clock: one of the two clocks is wrong",
        ),
    ] {
        source.gives(&bytes);
        let refusal = poller.tick().await.unwrap_err();
        assert_eq!((refusal.kind(), &*chain(&refusal)), (kind, text));
        let readings = poller.readings().now();
        assert_eq!(chain(&readings.last_refusal.unwrap()), text);
        assert!(readings.ticks.refused(kind) > 0);
        assert_eq!(in_force(&poller.current()), rules());
        assert_eq!(readings.version, Some(Version { epoch: 2, version: 5 }));
    }
    source.gives(&good);
    poller.tick().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_lost_its_state_comes_back_with_a_greater_epoch() {
    let (source, mut poller, _) = after_a_good_one().await;
    source.gives(&published(shape(3), 3, 0, &[limit(4, 4)]));
    assert_eq!(poller.tick().await.unwrap(), Version { epoch: 3, version: 0 });
    assert_eq!(in_force(&poller.current()), [limit(4, 4)]);
}

#[tokio::test(start_paused = true)]
async fn the_same_version_may_be_published_again_later() {
    let (source, mut poller, good) = after_a_good_one().await;
    let later = (NOW + Duration::from_secs(60)).as_nanos() as u64;
    source.gives(&forged(good, 32, &later.to_le_bytes()));
    poller.tick().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_failure_of_the_source_has_its_text() {
    let (source, mut poller, _) = after_a_good_one().await;
    for (answer, text) in [
        (Answer::Fails(SourceFailure::Unreachable), "the source failed: it cannot be reached or used"),
        (
            Answer::Fails(SourceFailure::BadAnswer { status: Some(503) }),
            "the source failed: it answered with status 503",
        ),
        (Answer::Hangs, "the source failed: no answer after 1s"),
        (Answer::Panics, "the source failed: its code panicked"),
    ] {
        source.answers(answer);
        assert_eq!(chain(&poller.tick().await.unwrap_err()), text);
        assert_eq!(in_force(&poller.current()), rules());
    }
    assert_eq!(poller.readings().now().ticks.refused("source"), 4);
}

#[tokio::test(start_paused = true)]
async fn readings_report_the_age_of_the_last_refusal() {
    let (source, mut poller, good) = after_a_good_one().await;
    let readings = poller.readings();
    assert_eq!(readings.now().since_last_refusal, None);
    source.gives(b"nonsense");
    poller.tick().await.unwrap_err();
    assert_eq!(readings.now().since_last_refusal, Some(Duration::ZERO));
    advance(Duration::from_secs(7)).await;
    source.gives(&good);
    poller.tick().await.unwrap();
    let now = readings.now();
    assert!(matches!(now.last_refusal, Some(Refusal::Truncated { .. })), "{now:?}");
    assert_eq!(now.since_last_refusal, Some(Duration::from_secs(7)));
}

/// Refuses the rate 13. Panics on the rate 14 in `check`, and on the rate 15 in `build`.
struct Choosy;

impl Build<Limit> for Choosy {
    type Value = u32;

    fn check(&mut self, rules: &[Limit]) -> Result<(), ConfigError> {
        match rules[0].per_second {
            13 => Err(ConfigError::new("limit.per_second", 13, "brings bad luck")),
            14 => panic!("as a test asked for"),
            _ => Ok(()),
        }
    }

    fn build(&mut self, rules: &[Limit]) -> u32 {
        assert_ne!(rules[0].per_second, 15, "as a test asked for");
        rules[0].per_second
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_target_leaves_the_last_value_and_the_next_tick_works() {
    let source = Scripted::down();
    let mut poller = builder(&source, shape(1)).build(Choosy).unwrap();
    for (version, per_second, expected, in_force) in [
        (1, 12, None, 12),
        (2, 13, Some("the check refused the rules: limit.per_second = 13: brings bad luck"), 12),
        (2, 14, Some("user code panicked in check"), 12),
        (2, 15, Some("user code panicked in build"), 12),
        (2, 16, None, 16),
    ] {
        source.gives(&published(shape(1), 1, version, &[limit(1, per_second)]));
        let refusal = poller.tick().await.err().map(|refusal| chain(&refusal));
        assert_eq!(refusal.as_deref(), expected);
        assert_eq!(*poller.current().load(), in_force);
    }
    assert_eq!(poller.readings().now().ticks.refused("panicked"), 2);
}
