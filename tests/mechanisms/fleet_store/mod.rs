//! The conformance suite, stores that fail it, and a model of the buckets.

mod model;
mod wrong;

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::rate_limit::distributed::{
    Answering, Charge, Charged, Demand, Embedded, Settled, Store, StoreError, StoreErrorKind,
    conformance::{self, Report},
};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn the_embedded_store_passes_by_a_paused_clock() {
    conformance::check(&Embedded::new()).await.into_result().unwrap();
}

#[tokio::test]
async fn the_embedded_store_passes_by_a_real_clock() {
    conformance::check(&Embedded::new()).await.into_result().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_passes_again_with_the_data_of_the_last_run() {
    let store = Embedded::new();
    for _ in 0..3 {
        conformance::check(&store).await.into_result().unwrap();
    }
}

/// A store behind a network. A call has two journeys, there and back. Of all journeys, every second one takes half of
/// the given milliseconds, and the others take no time. The last field counts the journeys.
struct Far(Embedded, u64, AtomicU64);

impl Far {
    async fn travel(&self) {
        let millis = self.1 / 2 * (self.2.fetch_add(1, Ordering::Relaxed) % 2);
        sleep(Duration::from_millis(millis)).await;
    }
}

impl Store for Far {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(async move {
            self.travel().await;
            let answer = self.0.charge(charges).await;
            self.travel().await;
            answer
        })
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(async move {
            self.travel().await;
            let answer = self.0.settle(demands).await;
            self.travel().await;
            answer
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_far_away_passes() {
    for millis in [2, 10, 20, 40] {
        conformance::check(&Far(Embedded::new(), millis, AtomicU64::new(0))).await.into_result().unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_far_away_passes_by_a_real_clock() {
    conformance::check(&Far(Embedded::new(), 10, AtomicU64::new(0))).await.into_result().unwrap();
}

/// A store that gives an error, or never answers.
struct Mute(Option<StoreError>);

impl Store for Mute {
    fn charge<'a>(&'a self, _: &'a [Charge]) -> Answering<'a, Charged> {
        match self.0.clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => Box::pin(pending()),
        }
    }

    fn settle<'a>(&'a self, _: &'a [Demand]) -> Answering<'a, Settled> {
        match self.0.clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => Box::pin(pending()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_fails_every_check() {
    let error = StoreError::new(StoreErrorKind::Refused, "out of memory");
    for (store, said) in [(Mute(None), "nothing for 5s"), (Mute(Some(error.clone())), &*error.to_string())] {
        let report = conformance::check(&store).await;
        assert_eq!(report.failures().count(), report.checks().count());
        for check in report.failures() {
            assert_eq!(check.failure().unwrap().answered(), said, "{}", check.name());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_says_what_was_expected_and_what_was_answered() {
    let report = conformance::check(&Embedded::new()).await;
    assert!(report.is_ok() && report.failures().count() == 0);
    assert!(report.to_string().contains("ok      a_fresh_key_grants_up_to_the_burst\n"), "{report}");
    let all: usize = report.checks().count();
    assert!(report.to_string().starts_with(&format!("0 of {all} checks of the store failed\n")), "{report}");
    assert_eq!(report.into_result(), Ok(()));

    let report = wrong::one_too_many().check().await.into_result().unwrap_err();
    assert!(!report.is_ok());
    let line = "FAILED  concurrent_charges_share_the_burst: granted in all: expected 100, answered ";
    assert!(report.to_string().contains(line), "{report}");
    let check = report.failures().find(|check| check.name() == "concurrent_charges_share_the_burst").unwrap();
    let failure = check.failure().unwrap();
    assert_eq!((failure.what(), failure.expected()), ("granted in all", "100"));
    assert_eq!(format!("{report:?}"), format!("{report}"));
}

#[tokio::test(start_paused = true)]
async fn the_embedded_store_does_not_panic_at_a_window_of_any_length() {
    let store = Embedded::new();
    sleep(Duration::from_secs(1)).await;
    for window in [0, 1, 400, u64::MAX / 2, u64::MAX - 1, u64::MAX].map(Duration::from_nanos) {
        for sequence in 1..4 {
            let (key, spends) = (Arc::from(&b"key"[..]), vec![(Duration::ZERO, 1)]);
            let (client, spent, limit) = (window.as_nanos() as u64, sequence, 1000);
            let demand = Demand { key, limit, window, client, sequence, spent, spends, held: 1, want: 1, total: 0 };
            assert_eq!(store.settle(&[demand]).await.unwrap()[0].granted, 1, "{window:?}");
        }
    }
}
