//! The metrics of a queue, while Redis is reachable and while it is not.

use crate::durable_fixture::{append, queue, until};
use crate::trial::trials;
use std::{collections::BTreeMap, time::Duration};
use steadfast::shell::{Instrument, Number, Readings};
use tokio::time::Instant;

trials![the_instrument_keeps_the_last_readings_when_redis_is_gone, a_refresh_period_of_zero_is_refused];

fn read(instrument: &impl Instrument) -> BTreeMap<&'static str, f64> {
    let mut all = BTreeMap::new();
    let mut take = |reading: steadfast::shell::Reading| {
        let number = match reading.number() {
            Number::Count(count) => *count as f64,
            Number::Sum(value) | Number::Largest(value) => *value,
            other => panic!("{other:?}"),
        };
        all.insert(reading.name(), number);
    };
    instrument.read(Instant::now(), &mut Readings::to(&mut take));
    all
}

async fn the_instrument_keeps_the_last_readings_when_redis_is_gone() {
    let (mut server, queue) = queue().await;
    let instrument = queue.instrument();
    assert_eq!((read(&instrument)["store_up"], read(&instrument).len()), (0.0, 6));
    append(&queue, "one").await;
    append(&queue, "two").await;
    assert_eq!(instrument.refresh().await.expect("Redis is there").backlog(), 2);
    assert_eq!((read(&instrument)["store_up"], read(&instrument)["durable_pending"]), (1.0, 2.0));
    append(&queue, "three").await;
    let refreshing = instrument.clone().refresh_every(Duration::from_millis(20)).expect("a period");
    let refreshing = tokio::spawn(refreshing);
    until("a refresh", async || read(&instrument)["durable_pending"] == 3.0).await;
    server.kill();
    until("the instrument notices", async || read(&instrument)["store_up"] == 0.0).await;
    assert_eq!(read(&instrument)["durable_pending"], 3.0);
    refreshing.abort();
}

async fn a_refresh_period_of_zero_is_refused() {
    let (_server, queue) = queue().await;
    let error = queue.instrument().refresh_every(Duration::ZERO).map(|_| ()).expect_err("no period");
    assert_eq!(error.field(), "durable.refresh_every");
}
