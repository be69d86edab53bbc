//! Rules for whole stacks, applied by a poller.

use super::configs::config;
use proptest::prelude::*;
use std::time::Duration;
use steadfast::{
    ConfigError,
    constant_work::{FixedSource, Poller, Refusal, Rule, Shape, Snapshot, StackRule, Stacks, Version},
    load_shed::Limiter,
    rate_limit::{Quota, TokenBucket},
    stack::live::{
        BreakerConfig, Control, FailureRate, LoadLevelConfig, LoadShedConfig, RateLimitConfig, RetryConfig, StackConfig,
    },
};

fn length_of_inert() -> usize {
    postcard::to_extend(&StackRule::inert(0), Vec::new()).unwrap().len()
}

proptest! {
    #[test]
    fn a_rule_round_trips_and_has_a_fixed_length(name in "[a-z]{1,32}", config in config()) {
        let rule = StackRule::new(&name, config).unwrap();
        let bytes = postcard::to_extend(&rule, Vec::new()).unwrap();
        prop_assert_eq!(bytes.len(), length_of_inert());
        let read: StackRule = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &rule);
        // Validating never panics, for any values.
        let _ = read.validate();
    }

    #[test]
    fn a_configuration_round_trips_through_json(config in config()) {
        let Ok(text) = serde_json::to_string(&config) else { return Ok(()) };
        // JSON has no infinity: `serde_json` writes `null` instead, so the number is lost.
        let lost = ["\"plus_minus\":null", "null,\"window\"", "\"share\":null", "\"ratio\":null", "\"rate\":null"];
        prop_assume!(!lost.iter().any(|lost| text.contains(lost)));
        let read: StackConfig = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read, config);
    }

    #[test]
    fn no_bytes_make_a_rule_panic(bytes in prop::collection::vec(any::<u8>(), length_of_inert())) {
        if let Ok(rule) = postcard::from_bytes::<StackRule>(&bytes) {
            let _ = rule.validate();
        }
    }
}

fn shape() -> Shape {
    Shape::for_rules::<StackRule>(4).unwrap()
}

fn published(version: u64, rules: Vec<StackRule>) -> FixedSource {
    let mut bytes = Vec::new();
    let version = Version { epoch: 1, version };
    Snapshot { version, published_at_nanos: 0, rules }.encode(shape(), &mut bytes).unwrap();
    FixedSource::new(bytes)
}

fn shed(limit: usize) -> StackConfig {
    StackConfig { load_shed: Some(LoadShedConfig::new(limit)), ..StackConfig::default() }
}

fn stack(limiter: &Limiter) -> Control {
    steadfast::server().load_shed(limiter.clone()).live().unwrap().1
}

#[track_caller]
fn refused(result: Result<Version, Refusal>) -> ConfigError {
    match result {
        Err(Refusal::Check(error)) => error,
        Err(Refusal::Rule { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_a_rule_has_the_configuration_it_was_built_with() {
    let (first, second) = (Limiter::fixed(10).unwrap(), Limiter::fixed(10).unwrap());
    let stacks = || Stacks::new().with("first", stack(&first)).unwrap().with("second", stack(&second)).unwrap();
    let rules = vec![StackRule::new("second", shed(3)).unwrap()];
    let mut poller = Poller::builder(published(1, rules), shape()).build(stacks()).unwrap();
    poller.tick().await.unwrap();
    assert_eq!((first.limit(), second.limit()), (10, 3));

    // A tick also reverts a change by hand.
    first.set_limit(99).unwrap();
    second.set_limit(99).unwrap();
    poller.tick().await.unwrap();
    assert_eq!((first.limit(), second.limit()), (10, 3));
}

#[tokio::test(start_paused = true)]
async fn one_invalid_rule_refuses_the_snapshot() {
    let limiter = Limiter::fixed(10).unwrap();
    let good = || StackRule::new("api", shed(3)).unwrap();
    let cases = [
        ("stacks.name", vec![good(), StackRule::new("apy", shed(3)).unwrap()]),
        ("stacks.name", vec![good(), good()]),
        (
            "timeout",
            vec![StackRule::new("api", StackConfig { timeout: Some(Duration::from_secs(1)), ..shed(1) }).unwrap()],
        ),
    ];
    for (field, rules) in cases {
        let stacks = Stacks::new().with("api", stack(&limiter)).unwrap();
        let mut poller = Poller::builder(published(1, rules), shape()).build(stacks).unwrap();
        let error = refused(poller.tick().await);
        assert_eq!(error.field(), field);
        assert!(field == "stacks.name" || error.value().ends_with(", for the stack \"api\""), "{error}");
        assert_eq!(limiter.limit(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn rules_for_unknown_stacks_are_accepted_if_configured() {
    let limiter = Limiter::fixed(10).unwrap();
    let rules = vec![StackRule::new("other", shed(1)).unwrap(), StackRule::new("api", shed(3)).unwrap()];
    let stacks = Stacks::new().with("api", stack(&limiter)).unwrap().ignore_unknown();
    Poller::builder(published(1, rules), shape()).build(stacks).unwrap().tick().await.unwrap();
    assert_eq!(limiter.limit(), 3);
}

#[test]
fn names_of_stacks_are_short_and_unique() {
    let control = stack(&Limiter::fixed(1).unwrap());
    for name in ["", "a\0b", "a name that is longer than 32 byte"] {
        assert_eq!(StackRule::new(name, shed(1)).unwrap_err().field(), "stacks.name");
        assert_eq!(Stacks::new().with(name, control.clone()).unwrap_err().field(), "stacks.name");
    }
    let twice = Stacks::new().with("api", control.clone()).unwrap().with("api", control);
    assert_eq!(twice.unwrap_err().rule(), "must differ from the names of the other stacks");
}

#[test]
fn there_is_room_for_four_limits_of_eight_tiers() {
    let quota = Quota::new(1, Duration::from_secs(1));
    let limits = |limits, tiers| StackConfig {
        rate_limit: vec![RateLimitConfig::new(vec![quota; tiers]); limits],
        ..StackConfig::default()
    };
    assert!(StackRule::new("api", limits(4, 8)).is_ok());
    assert_eq!(StackRule::new("api", limits(5, 1)).unwrap_err().field(), "rate_limit");
    assert_eq!(StackRule::new("api", limits(1, 9)).unwrap_err().field(), "rate_limit.quotas");
}

/// Applying the configuration that is already in force does not refill a bucket.
#[tokio::test(start_paused = true)]
async fn a_thousand_ticks_of_unchanged_rules_keep_the_levels() {
    let bucket = TokenBucket::builder(1, Duration::from_secs(3600)).burst(50).build().unwrap();
    let (_, control) = steadfast::server().rate_limit(bucket.clone()).live().unwrap();
    bucket.try_acquire(20).unwrap();
    let limit = RateLimitConfig::new([Quota::new(1, Duration::from_secs(3600)).with_burst(50)]);
    let config = StackConfig { rate_limit: vec![limit], ..StackConfig::default() };
    let stacks = Stacks::new().with("api", control).unwrap();
    let rules = vec![StackRule::new("api", config).unwrap()];
    let mut poller = Poller::builder(published(1, rules), shape()).build(stacks).unwrap();
    for _ in 0..1000 {
        poller.tick().await.unwrap();
    }
    assert_eq!(bucket.available_at(tokio::time::Instant::now()), 30);
}

#[test]
fn a_value_that_no_stack_accepts_is_not_published() {
    let bucket = RateLimitConfig::new([Quota::new(1, Duration::ZERO)]);
    let breaker = BreakerConfig {
        failure_rate: Some(FailureRate { rate: f64::NAN, window: Duration::from_secs(1) }),
        ..BreakerConfig::default()
    };
    let cases = [
        ("load_shed.limit", shed(0)),
        ("rate_limit.period", StackConfig { rate_limit: vec![bucket], ..shed(1) }),
        ("circuit_breaker.failure_rate.rate", StackConfig { circuit_breaker: Some(breaker), ..shed(1) }),
        ("retry.attempts", StackConfig { retry: Some(RetryConfig::new(0)), ..shed(1) }),
        ("load_level.depth", StackConfig { load_level: Some(LoadLevelConfig::new(1, 0)), ..shed(1) }),
        ("attempt_timeout", StackConfig { attempt_timeout: Some(Duration::ZERO), ..shed(1) }),
    ];
    for (field, config) in cases {
        let error = StackRule::new("api", config).unwrap().validate().unwrap_err();
        assert_eq!(error.field(), field);
    }
}
