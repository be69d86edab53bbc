//! The text form of durations in configurations.

use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;
use steadfast::stack::live::StackConfig;

/// Reads the text as a timeout.
fn read(text: &str) -> Result<Duration, String> {
    let config = serde_json::from_value::<StackConfig>(json!({ "timeout": text }));
    config.map(|config| config.timeout.unwrap()).map_err(|error| error.to_string())
}

/// Writes a timeout.
fn written(timeout: Duration) -> String {
    let config = serde_json::to_value(StackConfig { timeout: Some(timeout), ..StackConfig::default() }).unwrap();
    config["timeout"].as_str().unwrap().to_owned()
}

#[test]
fn a_duration_is_read_in_each_unit_and_in_combinations() {
    for (text, nanos) in [
        ("7ns", 7),
        ("7us", 7_000),
        ("7\u{b5}s", 7_000),
        ("7\u{3bc}s", 7_000),
        ("7ms", 7_000_000),
        ("7s", 7_000_000_000),
        ("7m", 420_000_000_000),
        ("7min", 420_000_000_000),
        ("7h", 25_200_000_000_000),
        ("7d", 604_800_000_000_000),
        ("0s", 0),
        ("1m 30s", 90_000_000_000),
        ("1m30s", 90_000_000_000),
        ("1s 1ms 1us 1ns", 1_001_001_001),
        ("007s", 7_000_000_000),
        ("90s", 90_000_000_000),
        // These are whole numbers of nanoseconds.
        ("1.5s", 1_500_000_000),
        ("0.001us", 1),
        ("1.50m 1s", 91_000_000_000),
    ] {
        assert_eq!(read(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
}

#[test]
fn anything_else_is_refused_with_the_field_the_value_and_what_would_satisfy_it() {
    assert_eq!(
        read("5M").unwrap_err(),
        "timeout = \"5M\": must be numbers with a unit each, of d, h, m, s, ms, us and ns, the largest first: \"1m 30s\", \
         \"250ms\""
    );
    let texts = [
        "",
        " ",
        "5",
        "0",
        "s",
        "5M",
        "5S",
        "5Ms",
        "5MS",
        "5H",
        "5D",
        "1 month",
        "1month",
        "1y",
        "1w",
        "1 day",
        "1day",
        "2days",
        "5sec",
        "5mins",
        "5minutes",
        "5hr",
        "-1s",
        "+1s",
        "1e3s",
        "1,5s",
        ".5s",
        "1.s",
        "1.5.5s",
        "0.5ns",
        "1.0000000001s",
        "30s 1m",
        "1s 1s",
        "1m 1min",
        "1s ",
        " 1s",
        "1 s",
        "1s\t1ms",
        "1s,1ms",
        "1s 1",
        "1s s",
        "1_000s",
        "\u{661}s",
        "0x10s",
        "inf",
        "NaN",
        "1s\0",
        "0.00000000000000000000000000000000000000000000000001d",
    ];
    for text in texts {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(&format!("timeout = {text:?}: must be numbers with a unit each")), "{text}: {error}");
    }
    let long = "9".repeat(100_000);
    assert!(read(&long).unwrap_err().len() < 400);
}

#[test]
fn a_duration_that_no_limit_may_have_is_refused_where_it_overflows() {
    let texts =
        ["99999999999999999999s", "18446744073709551616s", "18446744073709551615d", "18446744073709551615s 1000ms"];
    for text in texts {
        assert_eq!(read(text), Err(format!("timeout = {text:?}: must be at most 366d")), "{text}");
    }
    assert_eq!(read("18446744073709551615s 999999999ns"), Ok(Duration::MAX));
}

#[test]
fn an_error_names_the_field_that_is_wrong() {
    let retry = |backoff| json!({ "retry": { "attempts": 2, "backoff": backoff } });
    let breaker = |breaker| json!({ "circuit_breaker": breaker });
    let level = |field: &str, value| {
        let mut level = json!({ "concurrency": 1, "depth": 1 });
        level[field] = value;
        json!({ "load_level": level })
    };
    for (config, field) in [
        (json!({ "timeout": "5M" }), "timeout"),
        (json!({ "attempt_timeout": "5M" }), "attempt_timeout"),
        (retry(json!({ "base": "5M" })), "retry.backoff.base"),
        (retry(json!({ "cap": "5M" })), "retry.backoff.cap"),
        (breaker(json!({ "open_for": "5M" })), "circuit_breaker.open_for"),
        (breaker(json!({ "probe_timeout": "5M" })), "circuit_breaker.probe_timeout"),
        (breaker(json!({ "cancelled_is_failure_after": "5M" })), "circuit_breaker.cancelled_is_failure_after"),
        (breaker(json!({ "failure_rate": { "rate": 0.5, "window": "5M" } })), "circuit_breaker.failure_rate.window"),
        (json!({ "rate_limit": [{ "quotas": [{ "count": 1, "period": "5M" }] }] }), "rate_limit.quotas.period"),
        (level("max_wait", json!("5M")), "load_level.max_wait"),
        (level("pace", json!({ "count": 1, "period": "5M" })), "period"),
        (
            level("discipline", json!({ "adaptive": { "target": "5M", "interval": "1s" } })),
            "load_level.discipline.adaptive.target",
        ),
        (
            level("discipline", json!({ "adaptive": { "target": "1s", "interval": "5M" } })),
            "load_level.discipline.adaptive.interval",
        ),
    ] {
        let error = serde_json::from_value::<StackConfig>(config).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field} = \"5M\": must be numbers")), "{field}: {error}");
    }
    let error = serde_json::from_value::<StackConfig>(json!({ "timeout": 5 })).unwrap_err().to_string();
    assert_eq!(error, "invalid type: integer `5`, expected a duration for timeout, such as \"1m 30s\" or \"250ms\"");
}

#[test]
fn durations_are_written_in_a_short_form() {
    for (nanos, text) in [
        (0, "0s"),
        (90_000_000_000, "1m 30s"),
        (250_000_000, "250ms"),
        (1_000_000_001, "1s 1ns"),
        (31_622_400_000_000_000, "366d"),
    ] {
        assert_eq!(written(Duration::from_nanos(nanos)), text);
    }
}

#[test]
fn the_longest_and_the_shortest_read_back() {
    for duration in [Duration::MAX, Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX)] {
        assert_eq!(read(&written(duration)), Ok(duration));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_durations_read_back(secs: u64, shift in 0..64u32, nanos in 0..1_000_000_000u32, zeros in 0..9u32) {
        let nanos = nanos / 10_u32.pow(zeros) * 10_u32.pow(zeros);
        let duration = Duration::new(secs >> shift, nanos);
        prop_assert_eq!(read(&written(duration)), Ok(duration));
    }

    #[test]
    fn no_text_causes_a_panic(any in "\\PC{0,20}", likely in "[0-9. dhmsnu\u{b5}]{0,12}") {
        for text in [any, likely] {
            if let Ok(duration) = read(&text) {
                prop_assert_eq!(read(&written(duration)), Ok(duration), "{}", text);
            }
        }
    }
}
