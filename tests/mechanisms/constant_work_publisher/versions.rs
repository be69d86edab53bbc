//! Which version a publication gets, and when the publisher refuses.

use super::fixture::{Clock, Limit, Memory, SLOTS, builder, publisher, rules, shape};
use serde::{Deserialize, Serialize};
use steadfast::{
    ConfigError,
    constant_work::{EncodeError, PublishError, Publisher, Refusal, Rule, Shape, Snapshot, Version},
    error::chain,
};

fn version(epoch: u64, version: u64) -> Version {
    Version { epoch, version }
}

#[tokio::test]
async fn the_version_changes_only_with_the_rules() {
    let (sink, clock) = (Memory::default(), Clock::default());
    let mut publisher = builder(&sink).wall_clock(clock.wall_clock()).epoch(3).build().expect("settings that work");
    let steps = [(2, 5, 1), (2, 5, 1), (2, 6, 2), (3, 6, 3), (0, 0, 4), (0, 0, 4), (u64::from(SLOTS), 5, 5), (2, 5, 6)];
    for (time, (count, rate, expected)) in (1..).zip(steps) {
        clock.set(time);
        let rules = rules(count, rate);
        let published = publisher.publish(&rules).await.expect("a sink that is right");
        assert_eq!((published.version, published.published_at_nanos), (version(3, expected), time));
        assert_eq!((u64::from(published.used), published.slots, published.bytes), (count, SLOTS, shape().length()));
        assert_eq!(sink.snapshot(), Snapshot { version: version(3, expected), published_at_nanos: time, rules });
    }
    // Every publication reads and writes the whole snapshot.
    assert_eq!(sink.calls(), (vec![shape().length() + 1; 8], 8));
}

#[tokio::test]
async fn a_rule_equal_to_the_inert_one_counts_as_a_rule() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    for (count, expected) in [(0, 1), (1, 2), (1, 2), (2, 3), (0, 4)] {
        let rules = (0..count).map(Limit::inert).collect::<Vec<_>>();
        publisher.publish(&rules).await.expect("a sink that is right");
        assert_eq!(sink.published(), (1, expected, rules));
    }
}

#[tokio::test]
async fn the_time_of_publication_never_goes_back() {
    let (sink, clock) = (Memory::default(), Clock::default());
    let mut publisher = builder(&sink).wall_clock(clock.wall_clock()).build().expect("settings that work");
    for (now, time) in [(100, 100), (50, 100), (0, 100), (99, 100), (101, 101), (u64::MAX, u64::MAX), (7, u64::MAX)] {
        clock.set(now);
        let published = publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
        assert_eq!((published.published_at_nanos, sink.snapshot().published_at_nanos), (time, time));
    }
}

#[tokio::test]
async fn rules_that_cannot_be_encoded_are_refused_and_the_snapshot_stays() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    let readings = publisher.readings();
    publisher.publish(&rules(2, 5)).await.expect("a sink that is right");
    let before = sink.bytes();
    let error = publisher.publish(&rules(9, 5)).await.expect_err("too many");
    assert!(matches!(error, PublishError::Encode(EncodeError::Fill { rules: 9, slots: SLOTS })), "{error:?}");
    assert_eq!((error.kind(), readings.fill(), readings.is_nearly_full()), ("fill", 9.0 / 8.0, true));
    let mut invalid = rules(3, 5);
    invalid[1].rate = 0;
    let error = publisher.publish(&invalid).await.expect_err("a rule without a rate");
    let PublishError::Encode(EncodeError::Rule { slot: 1, error: cause }) = &error else { panic!("{error:?}") };
    assert_eq!((cause.field(), error.kind()), ("limit.rate", "rule"));
    let text = "the rules cannot be encoded: the rule in slot 1 is invalid: limit.rate = 0: must be above 0";
    assert_eq!((&*chain(&error), readings.last_error().as_deref()), (text, Some(text)));
    assert_eq!(sink.bytes(), before);
    assert_eq!(sink.calls().1, 1, "nothing was written");
    assert_eq!(readings.failures(), [("fill", 1), ("rule", 1)].into());
    publisher.publish(&rules(6, 5)).await.expect("rules that are right");
    assert_eq!((readings.fill(), readings.is_nearly_full(), readings.last_error()), (0.75, false, None));
    publisher.publish(&rules(7, 5)).await.expect("rules that are right");
    assert_eq!((readings.fill(), readings.is_nearly_full(), readings.publications()), (0.875, true, 3));
    assert_eq!(readings.last().map(|last| last.version), Some(version(1, 3)));
}

#[tokio::test]
async fn a_rule_that_is_too_long_is_refused() {
    let sink = Memory::default();
    let shape = Shape::new(4, 5).expect("a shape");
    let mut publisher = Publisher::<Limit, _>::builder(sink.clone(), shape).build().expect("settings that work");
    let error = publisher.publish(&[]).await.expect_err("inert rules are as long as any");
    let PublishError::Encode(EncodeError::SlotTooLong { slot: 0, length: 17, slot_length: 5 }) = error else {
        panic!("{error:?}")
    };
}

/// Serializes its number as text and deserializes it as a number, so that no reader can decode it.
#[derive(Serialize, Deserialize)]
struct Uneven(#[serde(serialize_with = "as_text")] u8);

fn as_text<S: serde::Serializer>(number: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&number.to_string())
}

impl Rule for Uneven {
    const SCHEMA: u32 = 1;

    fn inert(_: u32) -> Self {
        Self(0)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_snapshot_that_readers_would_refuse_is_not_written() {
    let sink = Memory::default();
    let shape = Shape::new(2, 10).expect("a shape");
    let mut publisher = Publisher::builder(sink.clone(), shape).build().expect("settings that work");
    let error = publisher.publish(&[Uneven(1)]).await.expect_err("it cannot be read");
    assert!(matches!(error, PublishError::Unreadable(Refusal::Encoding { slot: 0 })), "{error:?}");
    assert_eq!(sink.calls().1, 0);
}

#[tokio::test]
async fn a_restarted_publisher_continues_from_the_published_version() {
    let sink = Memory::default();
    publisher(&sink).publish(&rules(2, 5)).await.expect("a sink that is right");
    publisher(&sink).publish(&rules(2, 5)).await.expect("a sink that is right");
    assert_eq!(sink.published(), (1, 1, rules(2, 5)));
    publisher(&sink).publish(&rules(2, 6)).await.expect("a sink that is right");
    assert_eq!(sink.published(), (1, 2, rules(2, 6)));
    // A higher epoch begins at version 1.
    let mut later = builder(&sink).epoch(9).build().expect("settings that work");
    for (rate, version) in [(6, 1), (6, 1), (7, 2)] {
        later.publish(&rules(2, rate)).await.expect("a sink that is right");
        assert_eq!(sink.published(), (9, version, rules(2, rate)));
    }
    let error = publisher(&sink).publish(&rules(2, 6)).await.expect_err("of an epoch that is over");
    let expected = (version(9, 2), version(1, 0));
    assert!(matches!(error, PublishError::Overtaken { found, own } if (found, own) == expected), "{error:?}");
}

#[tokio::test]
async fn a_publisher_continues_from_a_snapshot_of_another_schema_or_shape() {
    /// A rule with the fields of `Limit` and another schema.
    #[derive(Serialize, Deserialize)]
    struct Next(Limit);

    impl Rule for Next {
        const SCHEMA: u32 = Limit::SCHEMA + 1;

        fn inert(slot: u32) -> Self {
            Self(Limit::inert(slot))
        }

        fn validate(&self) -> Result<(), ConfigError> {
            self.0.validate()
        }
    }

    let sink = Memory::default();
    publisher(&sink).publish(&rules(2, 5)).await.expect("a sink that is right");
    let next = rules(2, 5).into_iter().map(Next).collect::<Vec<_>>();
    let mut other = Publisher::builder(sink.clone(), shape()).build().expect("settings that work");
    assert_eq!(other.publish(&next).await.expect("a sink that is right").version, version(1, 2));
    for (slots, expected) in [(20, 3), (2, 4), (8, 5)] {
        let shape = Shape::for_rules::<Next>(slots).expect("a rule like any");
        let mut other = Publisher::builder(sink.clone(), shape).build().expect("settings that work");
        assert_eq!(other.publish(&next).await.expect("a sink that is right").version, version(1, expected));
        assert_eq!(sink.bytes().len(), shape.length());
    }
}

#[tokio::test]
async fn the_publisher_that_started_later_overtakes_the_earlier() {
    let sink = Memory::default();
    let (mut one, mut two) = (publisher(&sink), publisher(&sink));
    one.publish(&rules(1, 1)).await.expect("a sink that is right");
    // Equal rules are no conflict.
    two.publish(&rules(1, 1)).await.expect("a sink that is right");
    one.publish(&rules(1, 1)).await.expect("a sink that is right");
    two.publish(&rules(2, 2)).await.expect("a sink that is right");
    for _ in 0..3 {
        let error = one.publish(&rules(1, 1)).await.expect_err("it is overtaken");
        let expected = (version(1, 2), version(1, 1));
        assert!(matches!(error, PublishError::Overtaken { found, own } if (found, own) == expected), "{error:?}");
        assert_eq!(sink.published(), (1, 2, rules(2, 2)));
    }
    // A publisher with a larger shape also overtakes.
    let shape = Shape::for_rules::<Limit>(100).expect("a rule like any");
    let mut larger = Publisher::builder(sink.clone(), shape).build().expect("settings that work");
    larger.publish(&rules(2, 2)).await.expect("a sink that is right");
    let error = two.publish(&rules(2, 2)).await.expect_err("it is overtaken");
    assert!(matches!(error, PublishError::Overtaken { found, .. } if found == version(1, 3)), "{error:?}");
}

#[tokio::test]
async fn other_rules_under_the_same_version_are_a_conflict() {
    let (sink, elsewhere) = (Memory::default(), Memory::default());
    let mut one = publisher(&sink);
    one.publish(&rules(1, 1)).await.expect("a sink that is right");
    publisher(&elsewhere).publish(&rules(1, 2)).await.expect("a sink that is right");
    sink.put(elsewhere.bytes());
    for next in [1, 2, 3] {
        let error = one.publish(&rules(1, next)).await.expect_err("a conflict");
        assert!(matches!(error, PublishError::Conflict { version: found } if found == version(1, 1)), "{error:?}");
        assert_eq!((error.kind(), sink.bytes()), ("conflict", elsewhere.bytes()));
    }
    // A restarted publisher continues from the published version.
    publisher(&sink).publish(&rules(1, 1)).await.expect("a sink that is right");
    assert_eq!(sink.published(), (1, 2, rules(1, 1)));
}

#[tokio::test]
async fn the_last_version_of_an_epoch_can_be_used_up() {
    let sink = Memory::default();
    let last = Snapshot { version: version(1, u64::MAX), published_at_nanos: 0, rules: rules(1, 1) };
    let mut bytes = Vec::new();
    last.encode(shape(), &mut bytes).expect("rules that are right");
    sink.put(bytes);
    let mut publisher = publisher(&sink);
    publisher.publish(&rules(1, 1)).await.expect("the same rules");
    let error = publisher.publish(&rules(1, 2)).await.expect_err("there is none");
    assert!(matches!(error, PublishError::OutOfVersions), "{error:?}");
    assert_eq!(sink.published(), (1, u64::MAX, rules(1, 1)));
}
