//! All metrics in one scenario, as the Prometheus exporter prints them.

use crate::{
    durable_fixture::{append, queue},
    trial::trials,
};
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::{collections::BTreeSet, io, time::Duration};
use steadfast::{
    circuit_breaker::Breaker,
    constant_work::{FixedSource, Poller, Shape, Snapshot, StackRule, Stacks, Version},
    http::Peer,
    load_level::Queue,
    load_shed::Limiter,
    per_key::PerKey,
    rate_limit::{
        Keyed, Quota, RateLimit, TokenBucket,
        distributed::{Embedded, WriteBehind},
    },
    retry::RetryBudget,
    stack::live::StackConfig,
    telemetry::{BUCKETS, METRICS, MetricInfo, MetricKind, Metrics},
    timeout::Quantile,
};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

trials![each_metric_of_the_table_is_printed_with_its_type_and_labels, a_million_keys_add_no_series];

const SECOND: Duration = Duration::from_secs(1);

/// An exporter that prints the collected metrics.
struct Exporter {
    metrics: Metrics,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Exporter {
    fn new(metrics: Metrics) -> Self {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("buckets").build_recorder();
        Self { metrics, handle: recorder.handle(), recorder }
    }

    fn scrape(&self) -> String {
        with_local_recorder(&self.recorder, || self.metrics.collect());
        self.handle.render()
    }
}

/// One line of an exposition: the name, and the names of the labels.
fn series(line: &str) -> (&str, BTreeSet<&str>) {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("{line}"));
    let (labels, _) = rest.rsplit_once('}').unwrap_or_else(|| panic!("{line}"));
    let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0));
    (name, names.filter(|label| *label != "le").collect())
}

/// Checks that the metric is printed with its type, and each of its lines with its labels.
fn check(info: &MetricInfo, text: &str) {
    let kind = match info.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        other => panic!("{other:?}"),
    };
    assert!(text.contains(&format!("# TYPE {} {kind}\n", info.name)), "{} is no {kind} in {text}", info.name);
    assert!(text.contains(&format!("# HELP {} {}\n", info.name, info.help)), "{}", info.name);
    let expected: BTreeSet<_> = info.labels.iter().copied().collect();
    let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    for part in parts {
        let name = format!("{}{part}", info.name);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
        assert!(!lines.is_empty(), "no line of {name} in {text}");
        for line in lines {
            assert_eq!(series(line).1, expected, "{line}");
        }
    }
}

async fn each_metric_of_the_table_is_printed_with_its_type_and_labels() {
    let metrics = Metrics::new();
    let exporter = Exporter::new(metrics.clone());

    // A client whose service fails, sends a malformed `Retry-After`, and is retried.
    let down = service_fn(async |_: Request<String>| {
        let mut answer = Response::new(String::new());
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("soon"));
        Ok::<_, io::Error>(answer)
    });
    let (client, control) = steadfast::client()
        .observe("payments", metrics.clone())
        .timeout(SECOND)
        .retry(steadfast::http::retry(2).budget(RetryBudget::builder().initial(3).build().expect("a budget")))
        .circuit_breaker(Breaker::builder().consecutive_failures(2).build().expect("a breaker"))
        .rate_limit(RateLimit::new(TokenBucket::builder(10, SECOND).build().expect("a bucket")).named("per second"))
        .load_shed(Limiter::fixed(4).expect("a limiter"))
        .attempt_timeout(SECOND)
        .http(Peer::External)
        .live()
        .expect("a client");
    let client = client.layer(down);
    for _ in 0..3 {
        let _ = client.clone().oneshot(Request::get("/").body(String::new()).expect("a request")).await;
    }
    let wrong = StackConfig { timeout: Some(Duration::ZERO), ..StackConfig::default() };
    control.apply(&wrong).expect_err("a timeout of nothing");

    // A server whose calls wait, and a server with a breaker per key.
    let keyed = Keyed::<u32>::builder(16, Quota::new(100, SECOND)).build().expect("a limit");
    let server = steadfast::server()
        .observe("orders", metrics.clone())
        .timeout(Quantile::builder(0.01).build().expect("a timeout"))
        .rate_limit(RateLimit::by_key(keyed, |number: &u32| *number))
        .load_shed(Limiter::adaptive().build().expect("a limiter"))
        .load_level(Queue::builder(1, 4).max_wait(SECOND).build().expect("a queue"))
        .service(service_fn(async |n: u32| {
            sleep(Duration::from_millis(5)).await;
            Ok::<_, io::Error>(n)
        }))
        .expect("a server");
    let (one, other) = tokio::join!(server.clone().oneshot(1), server.clone().oneshot(2));
    one.and(other).expect("both are served");

    // Mechanisms that are in no stack.
    let (shared, _flusher) =
        WriteBehind::builder(Embedded::new(), Quota::new(100, SECOND), 2).build().expect("a limit");
    shared.try_acquire(b"key", 1).expect("a token");
    let (_redis, mails) = queue().await;
    append(&mails, "one").await;
    let durable = mails.instrument();
    durable.refresh().await.expect("readings");
    let shape = Shape::for_rules::<StackRule>(4).expect("a shape");
    let mut bytes = Vec::new();
    let snapshot =
        Snapshot { version: Version { epoch: 1, version: 7 }, published_at_nanos: 0, rules: Vec::<StackRule>::new() };
    snapshot.encode(shape, &mut bytes).expect("a snapshot");
    let stacks = Stacks::new().with("payments", control).expect("a stack");
    let mut poller = Poller::builder(FixedSource::new(bytes), shape).build(stacks).expect("a poller");
    poller.tick().await.expect("a good snapshot");
    let _watching =
        [metrics.watch("quota", shared), metrics.watch("mails", durable), metrics.watch("rules", poller.readings())];

    let text = exporter.scrape();
    METRICS.iter().for_each(|info| check(info, &text));
    // No other metric has the prefix, and a second scrape prints the same series.
    for line in text.lines().filter(|line| line.starts_with("steadfast_")) {
        let (name, _) = series(line);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(METRICS.iter().any(|info| info.name == name || info.name == base), "{name} is not in the table");
    }
    let lines = |text: &str| text.lines().filter(|line| line.starts_with("steadfast_")).count();
    assert_eq!(lines(&text), lines(&exporter.scrape()));
}

async fn a_million_keys_add_no_series() {
    let metrics = Metrics::new();
    let exporter = Exporter::new(metrics.clone());
    let keyed = Keyed::<str>::builder(1 << 10, Quota::new(100, SECOND)).build().expect("a limit");
    let breakers = PerKey::new(|key: &String| key.clone(), Breaker::builder()).expect("breakers").max_keys(1 << 10);
    let client = steadfast::client()
        .observe("orders", metrics.clone())
        .circuit_breaker(breakers.clone())
        .rate_limit(RateLimit::by_key_ref(keyed.clone(), |key: &String| key.as_str()))
        .service(service_fn(async |key: String| Ok::<_, io::Error>(key)))
        .expect("a client");
    let lines = || exporter.scrape().lines().filter(|line| line.starts_with("steadfast_")).count();
    client.clone().oneshot("key 0".to_owned()).await.expect("a token");
    let before = lines();
    assert!((80..200).contains(&before), "{before} lines");
    for number in 1..1_000_000 {
        let key = format!("key {number}");
        keyed.try_acquire(&key, 1).ok();
        breakers.handle(key).try_acquire().ok();
    }
    client.oneshot("key 1000000".to_owned()).await.expect("a token");
    assert_eq!(lines(), before);
    let names_a_key = |line: &str| line.starts_with("steadfast_") && line.contains("key ");
    assert!(!exporter.scrape().lines().any(names_a_key));
}
