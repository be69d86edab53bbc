//! Each link of an error chain states only its own part, so a report of all links repeats nothing.

use std::{error::Error as _, fmt, io, sync::Arc, time::Duration};
use steadfast::{
    ConfigError, Error, Rejection,
    constant_work::{EncodeError, PublishError, Refusal, Shape, SourceError, SourceFailure, Version},
    error::{CircuitOpen, Closed, Overloaded, QueueFull, QueueFullCause, RateLimited, SwitchedOff, TimedOut, chain},
    load_level::durable::{AppendError, RedisError},
    rate_limit::distributed::{StoreError, StoreErrorKind},
};

type Boxed = Box<dyn std::error::Error + Send + Sync>;

fn config_error() -> ConfigError {
    ConfigError::new("limit.rate", 0, "must be above zero")
}

/// An error with a cause, whose message states only its own part.
#[derive(Debug)]
struct Outer(io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database failed")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn outer() -> Outer {
    Outer(io::Error::new(io::ErrorKind::StorageFull, "no space is left"))
}

fn source_error() -> SourceError {
    SourceError::new(SourceFailure::Unreachable).because(outer())
}

fn version() -> Version {
    Version { epoch: 1, version: 2 }
}

fn rejections() -> Vec<Rejection> {
    let second = Some(Duration::from_secs(1));
    vec![
        TimedOut::new(second, true).into(),
        CircuitOpen::new(second).into(),
        Overloaded::new(3, None).into(),
        RateLimited::new(second).into(),
        QueueFull::new(QueueFullCause::Depth, 1, None).into(),
        Closed::queue().into(),
        SwitchedOff::default().into(),
    ]
}

fn refusals() -> Vec<Refusal> {
    let shape = Shape::new(4, 16).expect("a shape");
    vec![
        Refusal::Source(source_error()),
        Refusal::Empty,
        Refusal::Truncated { length: 1, expected: 2 },
        Refusal::Oversized { expected: 2 },
        Refusal::NotASnapshot,
        Refusal::Format { found: 1, expected: 2 },
        Refusal::Corrupt { found: 1, computed: 2 },
        Refusal::Schema { found: 1, expected: 2 },
        Refusal::Shape { found_slots: 1, found_slot_length: 2, expected: shape },
        Refusal::Reserved,
        Refusal::Fill { used: 2, slots: 1 },
        Refusal::Encoding { slot: 1 },
        Refusal::Rule { slot: 1, error: config_error() },
        Refusal::Backwards { found: version(), current: version() },
        Refusal::Conflict { version: version() },
        Refusal::FromTheFuture { ahead: Duration::from_secs(1) },
        Refusal::Check(config_error()),
        Refusal::Panicked { during: "check" },
    ]
}

fn encode_errors() -> Vec<EncodeError> {
    vec![
        EncodeError::Fill { rules: 2, slots: 1 },
        EncodeError::SlotTooLong { slot: 1, length: 2, slot_length: 1 },
        EncodeError::Rule { slot: 1, error: config_error() },
        EncodeError::Encoding { slot: 1 },
    ]
}

/// Returns one error of each kind.
fn errors() -> Vec<Boxed> {
    let mut errors: Vec<Boxed> = vec![config_error().into(), source_error().into()];
    errors.extend(rejections().into_iter().map(Boxed::from));
    errors.extend(refusals().into_iter().map(Boxed::from));
    errors.extend(encode_errors().into_iter().map(Boxed::from));
    errors.extend(encode_errors().into_iter().map(|error| PublishError::Encode(error).into()));
    for refusal in refusals() {
        errors.push(PublishError::Unreadable(refusal.clone()).into());
        errors.push(PublishError::Unknown(refusal).into());
    }
    errors.extend([
        PublishError::Overtaken { found: version(), own: version() }.into(),
        PublishError::Conflict { version: version() }.into(),
        PublishError::OutOfVersions.into(),
        PublishError::Sink(source_error()).into(),
        PublishError::Rules(Arc::new(outer())).into(),
        PublishError::RulesTimedOut.into(),
    ] as [Boxed; 6]);
    errors.extend(rejections().into_iter().map(|rejection| AppendError::Rejected(rejection).into()));
    let (address, reason, id) = (String::from("host:1"), String::from("no server listens"), String::from("hello"));
    errors.extend([
        AppendError::Encode(Arc::new(outer())).into(),
        AppendError::Refused { reason: reason.clone() }.into(),
        AppendError::Unknown { reason: reason.clone() }.into(),
        AppendError::NoIdentity { id }.into(),
        RedisError::Config(config_error()).into(),
        RedisError::Unreachable { address, reason: reason.clone() }.into(),
        StoreError::new(StoreErrorKind::Refused, reason).into(),
    ] as [Boxed; 7]);
    errors
}

/// Returns the texts of the links, from the outermost inwards.
fn links(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

#[test]
fn each_link_of_a_chain_states_only_its_own_part() {
    let mut longest = 0;
    for error in errors() {
        let texts = links(&*error);
        longest = longest.max(texts.len());
        for (place, text) in texts.iter().enumerate() {
            assert!(!text.is_empty() && !text.ends_with([':', ' ']), "{texts:?}");
            for inner in &texts[place + 1..] {
                assert!(!text.contains(inner), "{text:?} has {inner:?} in it: {texts:?}");
            }
        }
        assert_eq!(chain(&*error), texts.join(": "));
    }
    assert_eq!(
        longest, 5,
        "a publisher could not read back a snapshot, whose source failed, and so on down to the system"
    );
}

/// The message of a stack's error contains the message of the service's error. Otherwise a report might lack it: an
/// error that does not implement `std::error::Error`, such as a [`Boxed`] error, is no link of the chain.
#[test]
fn the_error_of_a_stack_repeats_its_service_but_a_report_of_the_chain_does_not() {
    let error = Error::Service(outer());
    assert_eq!(links(&error), ["the service failed: the database failed", "the database failed", "no space is left"]);
    assert_eq!(chain(&error), "the service failed: the database failed: no space is left");
    let error = Error::<Boxed>::Service("the database failed".into());
    assert_eq!(error.to_string(), "the service failed: the database failed");
    for rejection in rejections() {
        let error = Error::<Outer>::Rejected(rejection.clone());
        assert_eq!(chain(&error), format!("the call was rejected: {rejection}"));
        assert!(error.source().is_some_and(|source| source.is::<Rejection>()));
    }
}
