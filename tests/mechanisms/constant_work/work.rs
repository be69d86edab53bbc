//! The work of a tick, which never varies.

use super::support::{Answer, NOW, SECOND, Scripted};
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;
use steadfast::{
    ConfigError,
    constant_work::{Build, Poller, Rule, Shape, Snapshot, SourceFailure, Staleness, Version, WallClock},
};

thread_local! {
    static WORK: Cell<Work> = const { Cell::new(Work { decoded: 0, validated: 0, checked: 0, built: 0 }) };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    decoded: u32,
    validated: u32,
    checked: u32,
    built: u32,
}

fn did(change: impl FnOnce(&mut Work)) {
    let mut work = WORK.get();
    change(&mut work);
    WORK.set(work);
}

/// A rule that counts how often rules are decoded and validated.
#[derive(Clone, Serialize)]
struct Telling(u32);

impl<'de> Deserialize<'de> for Telling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        did(|work| work.decoded += 1);
        u32::deserialize(deserializer).map(Self)
    }
}

impl Rule for Telling {
    const SCHEMA: u32 = 1;

    fn inert(_slot: u32) -> Self {
        Self(u32::MAX)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        did(|work| work.validated += 1);
        if self.0 == 0 {
            return Err(ConfigError::new("rule", 0, "must be at least 1"));
        }
        Ok(())
    }
}

/// Refuses rules with a 13 in the first slot.
struct Target;

impl Build<Telling> for Target {
    type Value = usize;

    fn check(&mut self, rules: &[Telling]) -> Result<(), ConfigError> {
        did(|work| work.checked += 1);
        match rules[0].0 {
            13 => Err(ConfigError::new("rule", 13, "brings bad luck")),
            _ => Ok(()),
        }
    }

    fn build(&mut self, rules: &[Telling]) -> usize {
        did(|work| work.built += 1);
        rules.len()
    }
}

#[tokio::test(start_paused = true)]
async fn every_tick_decodes_and_validates_each_slot_once_and_checks_and_builds_once() {
    let shape = Shape::for_rules::<Telling>(50).unwrap();
    let publish = |version: u64, rules: &[u32]| {
        let mut bytes = Vec::new();
        let rules = rules.iter().copied().map(Telling).collect();
        let published_at_nanos = NOW.as_nanos() as u64;
        Snapshot { version: Version { epoch: 1, version }, published_at_nanos, rules }
            .encode(shape, &mut bytes)
            .unwrap();
        Answer::Bytes(bytes)
    };
    let broken = |change: fn(&mut Vec<u8>), right_checksum: bool| {
        let Answer::Bytes(mut bytes) = publish(5, &[1, 2]) else { unreachable!() };
        change(&mut bytes);
        match right_checksum {
            true => Answer::Bytes(super::support::forged(bytes, 0, &[])),
            false => Answer::Bytes(bytes),
        }
    };
    let source = Scripted::down();
    let mut poller = Poller::builder(source.clone(), shape)
        .wall_clock(WallClock::from_fn(|| NOW))
        .staleness(Staleness::DefaultsAfter(10 * SECOND))
        .build(Target)
        .unwrap();
    let down = || Answer::Fails(SourceFailure::Unreachable);
    for (answer, kind) in [
        (down(), Some("source")),
        (publish(1, &[]), None),
        (publish(2, &[1; 25]), None),
        (publish(3, &[2; 50]), None),
        (publish(3, &[2; 50]), None),
        (down(), Some("source")),
        (Answer::Hangs, Some("source")),
        (Answer::Panics, Some("source")),
        (Answer::Bytes(Vec::new()), Some("empty")),
        (broken(|bytes| bytes.truncate(99), false), Some("truncated")),
        (broken(|bytes| bytes.push(0), false), Some("oversized")),
        (broken(|bytes| bytes[0] = 0, false), Some("not_a_snapshot")),
        (broken(|bytes| bytes[70] ^= 1, false), Some("corrupt")),
        (broken(|bytes| bytes[12] ^= 1, true), Some("schema")),
        (broken(|bytes| bytes[66] = 0, true), Some("rule")),
        (publish(2, &[1]), Some("backwards")),
        (publish(3, &[1]), Some("conflict")),
        (publish(9, &[13]), Some("check")),
        (publish(9, &[14]), None),
    ] {
        source.answers(answer);
        WORK.set(Work::default());
        assert_eq!(poller.tick().await.err().map(|refusal| refusal.kind()), kind);
        assert_eq!(WORK.get(), Work { decoded: 50, validated: 50, checked: 1, built: 1 }, "{kind:?}");
    }
    // The tick that falls back to the defaults does the same work, and so does the next tick.
    source.answers(down());
    for _ in 0..2 {
        tokio::time::advance(11 * SECOND).await;
        WORK.set(Work::default());
        poller.tick().await.unwrap_err();
        assert_eq!(WORK.get(), Work { decoded: 50, validated: 50, checked: 1, built: 1 });
    }
}
