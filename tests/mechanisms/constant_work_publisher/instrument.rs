//! The metrics of a publisher.

use super::fixture::{Memory, Way, publisher, rules};
use crate::instruments::{number, read};
use std::time::Duration;
use steadfast::constant_work::PublishError;
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn version_age_and_failures_by_kind_are_reported_from_the_start() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    let readings = publisher.readings();
    let of = |name: &str| number(&readings, name);
    let first = read(&readings);
    assert_eq!(first.len(), PublishError::KINDS.len() + 2);
    assert!(first.values().all(|number| *number == 0.0), "{first:?}");

    publisher.publish(&rules(1, 1)).await.unwrap();
    publisher.publish(&rules(2, 1)).await.unwrap();
    advance(Duration::from_secs(7)).await;
    assert_eq!((of("config_version"), of("config_age_seconds")), (2.0, 7.0));
    sink.go(Way::NotWritable);
    let error = publisher.publish(&rules(3, 1)).await.unwrap_err();
    assert_eq!(error.kind(), "sink");
    assert_eq!(of(r#"config_refused_total{reason="sink"}"#), 1.0);
    let error = publisher.publish(&rules(10_000, 1)).await.unwrap_err();
    assert_eq!(error.kind(), "fill");
    assert_eq!(of(r#"config_refused_total{reason="fill"}"#), 1.0);
    assert_eq!((of("config_version"), of("config_age_seconds")), (2.0, 7.0));
    assert!(read(&readings).keys().eq(first.keys()));
}
