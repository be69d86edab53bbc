//! The metrics of a poller.

use super::support::{NOW, SECOND, Scripted, builder, copy, limit, published, shape};
use crate::instruments::{number, read};
use std::time::Duration;
use steadfast::constant_work::{Refusal, Staleness, WallClock};
use tokio::time::advance;

#[tokio::test(start_paused = true)]
async fn version_age_and_refusals_by_kind_are_reported_from_the_start() {
    let source = Scripted::down();
    let later = WallClock::from_fn(|| NOW + Duration::from_secs(90));
    let builder = builder(&source, shape(2)).staleness(Staleness::DefaultsAfter(5 * SECOND)).wall_clock(later);
    let mut poller = builder.build(copy).unwrap();
    let readings = poller.readings();
    let of = |name: &str| number(&readings, name);
    let refused = |kind: &str| of(&format!("config_refused_total{{reason={kind:?}}}"));
    let first = read(&readings);
    assert_eq!(first.len(), Refusal::KINDS.len() + 2);
    assert!(first.values().all(|number| *number == 0.0), "{first:?}");

    poller.tick().await.unwrap_err();
    assert_eq!((refused("source"), refused("empty"), of("config_version")), (1.0, 0.0, 0.0));
    source.gives(&published(shape(2), 3, 17, &[limit(1, 1)]));
    poller.tick().await.unwrap();
    assert_eq!((of("config_version"), of("config_age_seconds")), (17.0, 90.0));
    source.gives(&[]);
    poller.tick().await.unwrap_err();
    assert_eq!((refused("source"), refused("empty"), of("config_version")), (1.0, 1.0, 17.0));
    // The rules are stale: the defaults are in force, and the age of the last good snapshot is still reported.
    advance(6 * SECOND).await;
    poller.tick().await.unwrap_err();
    assert_eq!((of("config_version"), of("config_age_seconds")), (0.0, 90.0));
    assert_eq!(read(&readings), read(&readings));
    // A new epoch starts at version 1 again.
    source.gives(&published(shape(2), 4, 1, &[]));
    poller.tick().await.unwrap();
    assert_eq!(of("config_version"), 1.0);
    assert!(read(&readings).keys().eq(first.keys()));
}
