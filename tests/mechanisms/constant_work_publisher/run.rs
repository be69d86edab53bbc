//! Publishing on a schedule.

use super::fixture::{Limit, Memory, Way, builder, rules};
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::ConfigError;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[derive(Clone, Copy)]
enum Given {
    Rules(u64),
    Error,
    Nothing,
}

/// Runs a publisher with a period of 10 s and a timeout of 4 s, on rules that a test may change.
fn run(
    sink: &Memory,
    given: &Arc<Mutex<Given>>,
) -> (JoinHandle<Infallible>, steadfast::constant_work::PublisherReadings) {
    let publisher = builder(sink).period(secs(10)).timeout(secs(4)).build().expect("settings that work");
    let (readings, given) = (publisher.readings(), given.clone());
    let rules = move || {
        let given = *given.lock().expect("no caller panics with the lock");
        async move {
            match given {
                Given::Rules(count) => Ok(rules(count, 1)),
                Given::Error => Err("the database is away"),
                Given::Nothing => pending().await,
            }
        }
    };
    (tokio::spawn(publisher.run(rules)), readings)
}

#[tokio::test(start_paused = true)]
async fn rules_are_published_in_every_period_changed_or_not() {
    let (sink, given) = (Memory::default(), Arc::new(Mutex::new(Given::Rules(2))));
    let (running, readings) = run(&sink, &given);
    let began = Instant::now();
    for period in 1..=5 {
        sleep(secs(1)).await;
        assert_eq!((readings.publications(), sink.published().1), (period, 1));
        assert_eq!(readings.last_success(), Some(began + secs(10) * (period as u32 - 1)));
        sleep(secs(9)).await;
    }
    *given.lock().expect("no caller panics with the lock") = Given::Rules(3);
    sleep(secs(10)).await;
    assert_eq!(sink.published().1, 2);
    running.abort();
    assert!(running.await.expect_err("it never ends").is_cancelled());
    sleep(secs(100)).await;
    assert_eq!(sink.calls().1 as u64, readings.publications());
}

#[tokio::test(start_paused = true)]
async fn no_failure_ends_it() {
    let (sink, given) = (Memory::default(), Arc::new(Mutex::new(Given::Rules(2))));
    let set = |to| *given.lock().expect("no caller panics with the lock") = to;
    let (running, readings) = run(&sink, &given);
    sleep(secs(1)).await;
    set(Given::Error);
    sleep(secs(10)).await;
    assert_eq!(
        readings.last_error().as_deref(),
        Some("the rules to publish could not be obtained: the database is away")
    );
    set(Given::Nothing);
    sleep(secs(10)).await;
    set(Given::Rules(9));
    sleep(secs(10)).await;
    set(Given::Rules(2));
    for way in [Way::ReadHangs, Way::WriteHangs, Way::NotReadable, Way::NotWritable] {
        sink.go(way);
        sleep(secs(10)).await;
    }
    let failures = [("fill", 1), ("rules", 1), ("rules_timed_out", 1), ("sink", 4)];
    assert_eq!((readings.failures(), readings.publications()), (failures.into(), 1));
    sink.go(Way::Well);
    sleep(secs(10)).await;
    assert_eq!((readings.publications(), readings.last_error(), sink.published().1), (2, None, 1));
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn missed_periods_are_skipped() {
    let sink = Memory::default();
    let publisher = builder(&sink).period(secs(10)).timeout(secs(100)).build().expect("settings that work");
    let readings = publisher.readings();
    let began = Instant::now();
    let running = tokio::spawn(publisher.run(|| async {
        sleep(secs(25)).await;
        Ok::<_, Infallible>(Vec::<Limit>::new())
    }));
    sleep(secs(26)).await;
    assert_eq!(readings.last_success(), Some(began + secs(25)));
    sleep(secs(30)).await;
    assert_eq!((readings.publications(), readings.last_success()), (2, Some(began + secs(30 + 25))));
    running.abort();
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let sink = Memory::default();
    let refused = |result: Result<_, ConfigError>, field| {
        assert_eq!(result.err().expect("it cannot work").field(), field);
    };
    refused(builder(&sink).period(Duration::ZERO).build(), "constant_work.publisher.period");
    refused(builder(&sink).period(Duration::MAX).build(), "constant_work.publisher.period");
    refused(builder(&sink).timeout(Duration::ZERO).build(), "constant_work.publisher.timeout");
    for fill in [0.0, -1.0, 1.01, f64::NAN, f64::INFINITY] {
        refused(builder(&sink).nearly_full(fill).build(), "constant_work.publisher.nearly_full");
    }
    let mut publisher = builder(&sink).nearly_full(0.25).build().expect("settings that work");
    let readings = publisher.readings();
    assert_eq!((readings.fill(), readings.is_nearly_full(), readings.last()), (0.0, false, None));
    publisher.publish(&rules(2, 1)).await.expect("a sink that is right");
    assert!(readings.is_nearly_full());
    drop(publisher);
    assert_eq!(readings.publications(), 1);
}
